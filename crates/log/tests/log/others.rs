//! What this crate writes is read by implementations that are not ours, and the other way round.

use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::files::Tiles;
use bailiwick_log::note::{self, Note, Signer as _};
use bailiwick_log::tree;
use signed_note::{Note as OtherNote, Signer as _, StandardSigner, StandardVerifier, Verifier as _, VerifierList};
use tlog_tiles::{HashReader as _, Tile, TileHashReader, TileReader};

use crate::common::{Memory, ORIGIN, entries, signer};

/// Our files as `tlog_tiles` asks for them: its paths carry the height of a tile, those of C2SP do not.
impl TileReader for Memory {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        Ok(tiles.iter().map(|tile| self.files[&tile.path().replacen("tile/8/", "tile/", 1)].clone()).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

#[test]
fn tiles_and_proofs_are_those_of_tlog_tiles() {
    let all = entries(700);
    for size in [1, 2, 3, 255, 256, 257, 511, 512, 513, 700_u64] {
        let log = Memory::of(&all[..size as usize]);
        let root = tlog_tiles::Hash(*log.checkpoint().root.as_bytes());
        let theirs = TileHashReader::new(size, root, &log);
        assert_eq!(tlog_tiles::tree_hash(size, &theirs).unwrap(), root);
        let ours = Tiles::new(&log, size);
        for position in (0..size).filter(|position| size < 4 || position % 29 == 0 || position + 2 > size) {
            let record = tlog_tiles::record_hash(&all[position as usize]);
            let proof = tlog_tiles::prove_record(size, position, &theirs).unwrap();
            tlog_tiles::check_record(&proof, size, root, position, record).unwrap();
            let our_proof: Vec<_> =
                tree::prove_inclusion(&ours, position, size).unwrap().into_iter().map(|hash| tlog_tiles::Hash(*hash.as_bytes())).collect();
            assert_eq!(our_proof, proof, "{position} of {size}");

            let old = position + 1;
            let old_log = Memory::of(&all[..old as usize]);
            let old_root = tlog_tiles::Hash(*old_log.checkpoint().root.as_bytes());
            let consistency: Vec<_> =
                tree::prove_consistency(&ours, old, size).unwrap().into_iter().map(|hash| tlog_tiles::Hash(*hash.as_bytes())).collect();
            // Theirs proves a tree against itself with its root; RFC 9162 with nothing.
            if old < size {
                tlog_tiles::check_tree(&consistency, size, root, old, old_root).unwrap();
                assert_eq!(consistency, tlog_tiles::prove_tree(size, old, &theirs).unwrap(), "{old} to {size}");
            }
        }
        assert!(theirs.read_hashes(&[0]).is_ok());
    }
}

#[test]
fn notes_and_checkpoints_are_those_of_signed_note_and_tlog_tiles() {
    let ours = signer();
    let theirs = StandardSigner::new(&note::private_text(ORIGIN, &[42; 32]).unwrap()).unwrap();
    let their_verifier = StandardVerifier::new(&ours.verifier().to_string()).unwrap();
    assert_eq!((their_verifier.name(), their_verifier.key_id()), (ours.verifier().name(), ours.verifier().id()));

    let log = Memory::of(&entries(300));
    let signed = log.checkpoint().sign(&ours).unwrap().to_string();
    let read = OtherNote::from_bytes(signed.as_bytes()).unwrap();
    let (verified, unknown) = read.verify(&VerifierList::new(vec![Box::new(their_verifier)])).unwrap();
    assert_eq!((verified.len(), unknown.len()), (1, 0));
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(read.text()).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size(), &checkpoint.hash().0), (ORIGIN, 300, log.checkpoint().root.as_bytes()));

    let mut other = OtherNote::new(read.text(), &[]).unwrap();
    other.add_sigs(&[&theirs]).unwrap();
    assert_eq!(String::from_utf8(other.to_bytes()).unwrap(), signed);
    assert_eq!(Checkpoint::open(&other.to_bytes(), ours.verifier()), Ok(log.checkpoint()));
    assert_eq!(Note::parse(&other.to_bytes()).unwrap().to_string(), signed);
    assert_eq!(theirs.sign(read.text()).unwrap(), note::Signer::sign(&ours, read.text()).unwrap());
}
