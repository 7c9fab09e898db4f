//! The offline verifier against honest logs and against those who tamper.

use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::note::{Ed25519Signer, Signer as _};
use bailiwick_log::receipt::{ProveError, Receipt};
use bailiwick_log::tile::{decode_entries, encode_entry};
use bailiwick_log::tree::Hash;
use bailiwick_log::verify::{Audit, Fault, Report, verify};

use crate::common::{Memory, ORIGIN, entries, signer};

fn audit(log: &Memory, kept: &[Checkpoint]) -> Report {
    verify(log, &Audit { key: signer().verifier(), kept, growing: false }).unwrap()
}

fn faults(log: &Memory, kept: &[Checkpoint]) -> Vec<Fault> {
    audit(log, kept).faults
}

#[test]
fn an_honest_log_is_sound_at_every_small_size_and_was_at_every_earlier_one() {
    let all = entries(260);
    let mut log = Memory::default();
    log.publish();
    let mut kept = vec![log.checkpoint()];
    assert!(audit(&log, &kept).is_sound());
    for entry in &all {
        log.grow([entry]);
        if log.edge.size() % 37 < 2 {
            kept.push(log.checkpoint());
        }
        let report = audit(&log, &kept);
        assert_eq!((report.faults, report.entries, report.checkpoint), (vec![], log.edge.size(), Some(log.checkpoint())));
    }
}

#[test]
fn a_log_with_three_levels_of_tiles_is_sound_and_proves_its_entries() {
    let all = entries(66_000);
    let mut log = Memory::of(&all[..65_000]);
    let kept = log.checkpoint();
    log.grow(&all[65_000..]);
    assert_eq!(faults(&log, &[kept]), []);
    for position in [0, 255, 256, 65_535, 65_536, 65_999] {
        let receipt = Receipt::prove(&log, position, signer().verifier()).unwrap();
        assert_eq!(receipt.verify(&all[position as usize], signer().verifier()), Ok(log.checkpoint()));
    }
    // No older partial tile reaches as far as this hash, so it is the only fault.
    log.files.get_mut("tile/1/000").unwrap()[254 * 32] ^= 1;
    let [Fault::Hash { path, at: 254, below }] = &faults(&log, &[])[..] else { panic!("{:?}", faults(&log, &[])) };
    assert_eq!((path.to_string(), below.to_string()), ("tile/1/000".to_owned(), "tile/0/254".to_owned()));
}

#[test]
fn a_changed_bit_anywhere_in_any_file_is_found() {
    let all = entries(259);
    let mut log = Memory::of(&all[..3]);
    log.grow(&all[3..257]);
    log.grow(&all[257..]);
    assert_eq!(faults(&log, &[]), []);
    // Partial tiles of earlier checkpoints are among the files.
    assert!(log.files.contains_key("tile/entries/000.p/3") && log.files.contains_key("tile/1/000.p/1"));
    for (path, bytes) in &log.files {
        for at in (0..bytes.len()).filter(|at| bytes.len() < 200 || at % 29 == 0) {
            let mut tampered = log.clone();
            tampered.files.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
            assert!(!audit(&tampered, &[]).is_sound(), "byte {at} of {path}");
        }
        for cut in [0, bytes.len() - 1] {
            let mut tampered = log.clone();
            tampered.files.get_mut(path).unwrap().truncate(cut);
            assert!(!audit(&tampered, &[]).is_sound(), "{path} cut to {cut}");
        }
        let mut tampered = log.clone();
        tampered.files.get_mut(path).unwrap().push(b'\n');
        assert!(!audit(&tampered, &[]).is_sound(), "{path} extended");
    }
}

/// Changes the entries of one bundle and leaves everything else as it is.
fn rewrite_bundle(log: &mut Memory, path: &str, width: u16, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut entries: Vec<_> = decode_entries(&log.files[path], width).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    change(&mut entries);
    let mut bundle = Vec::new();
    assert!(entries.iter().all(|entry| encode_entry(entry, &mut bundle)));
    log.files.insert(path.to_owned(), bundle);
}

#[test]
fn each_kind_of_tampering_is_named_and_placed() {
    let all = entries(700);
    let honest = Memory::of(&all);
    let kept = Memory::of(&all[..500]).checkpoint();
    let said = |log: &Memory| faults(log, std::slice::from_ref(&kept)).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(said(&honest), [""; 0]);

    // An entry is changed.
    let mut log = honest.clone();
    rewrite_bundle(&mut log, "tile/entries/001", 256, |entries| entries[44] = b"entry 3OO".to_vec());
    assert_eq!(
        said(&log),
        [
            "entry 300: what is stored in `tile/entries/001` is not what `tile/0/001` has the hash of",
            "the tiles have the signed root and the entries do not: entries were changed",
        ]
    );

    // Two entries change places.
    let mut log = honest.clone();
    rewrite_bundle(&mut log, "tile/entries/000", 256, |entries| entries.swap(7, 9));
    let [first, second, root] = &said(&log)[..] else { panic!("{:?}", said(&log)) };
    assert!(first.starts_with("entry 7:") && second.starts_with("entry 9:") && root.ends_with("entries were changed"));

    // An entry is removed.
    let mut log = honest.clone();
    rewrite_bundle(&mut log, "tile/entries/002.p/188", 188, |entries| drop(entries.remove(10)));
    assert_eq!(said(&log), ["`tile/entries/002.p/188`: it holds 187 entries and must hold 188"]);

    // The end is removed, and with it what would show it.
    let mut log = honest.clone();
    log.files.remove("tile/entries/002.p/188");
    log.files.remove("tile/0/002.p/188");
    assert_eq!(said(&log), ["`tile/entries/002.p/188` is missing", "`tile/0/002.p/188` is missing"]);

    // A tile is changed.
    let mut log = honest.clone();
    log.files.get_mut("tile/0/002.p/188").unwrap()[32] ^= 0x80;
    assert_eq!(
        said(&log),
        [
            "entry 513: what is stored in `tile/entries/002.p/188` is not what `tile/0/002.p/188` has the hash of",
            "the entries have the signed root and the tiles do not: tiles were changed",
        ]
    );

    // The checkpoint is signed by somebody else under the log's name.
    let mut log = honest.clone();
    let forger = Ed25519Signer::from_seed(ORIGIN, &[1; 32]).unwrap();
    log.files.insert("checkpoint".to_owned(), log.checkpoint().sign(&forger).unwrap().to_string().into_bytes());
    assert!(matches!(&faults(&log, &[])[..], [Fault::Checkpoint(_)]));

    // An older checkpoint is put back: what came after it is uncovered, and a kept checkpoint is past it.
    let mut log = honest.clone();
    let old = Memory::of(&all[..400]);
    log.files.insert("checkpoint".to_owned(), old.files["checkpoint"].clone());
    let stale = said(&log);
    assert_eq!(stale[0], "the log had 500 entries when a checkpoint was kept and has 400 now: its end was removed");
    assert!(stale.iter().any(|fault| fault.starts_with("`tile/entries/002.p/188` holds what the checkpoint does not cover")), "{stale:?}");

    // The whole log is put back to an earlier, honest state: only a kept checkpoint shows that.
    assert_eq!(faults(&old, &[]), []);
    assert_eq!(said(&old), ["the log had 500 entries when a checkpoint was kept and has 400 now: its end was removed"]);

    // History is rewritten by somebody who has the key, so that all of it fits: only a kept checkpoint shows that.
    let mut rewritten = all.clone();
    rewritten[123] = b"nothing happened here".to_vec();
    let log = Memory::of(&rewritten);
    assert_eq!(faults(&log, &[]), []);
    assert_eq!(said(&log), ["the first 500 entries are not those that a kept checkpoint was signed for: history was rewritten"]);

    // Growth is faked: a larger size over the same entries, signed with the key.
    let mut log = honest.clone();
    let faked = Checkpoint { size: 1000, ..log.checkpoint() };
    log.files.insert("checkpoint".to_owned(), faked.sign(&signer()).unwrap().to_string().into_bytes());
    assert!(said(&log).contains(&"`tile/entries/002` is missing".to_owned()), "{:?}", said(&log));

    // Entries are added to the files but not signed.
    let mut log = honest.clone();
    log.grow(&entries(30));
    log.files.insert("checkpoint".to_owned(), honest.files["checkpoint"].clone());
    assert!(said(&log).iter().all(|fault| fault.contains("holds what the checkpoint does not cover")));
    assert_eq!(said(&log).len(), 2);
    assert!(verify(&log, &Audit { key: signer().verifier(), kept: &[], growing: true }).unwrap().is_sound());

    // Something else lies among the tiles.
    let mut log = honest.clone();
    log.files.insert("tile/entries/notes.txt".to_owned(), vec![1]);
    assert_eq!(said(&log), ["`tile/entries/notes.txt` is not a file of a log"]);

    // A kept checkpoint of another log is no evidence.
    let other = Checkpoint { origin: "other.example".to_owned(), ..kept.clone() };
    assert_eq!(faults(&honest, &[other]), [Fault::OtherLog("other.example".to_owned())]);
}

#[test]
fn growth_is_fine_also_from_nothing_and_to_the_same_size() {
    let all = entries(600);
    let log = Memory::of(&all);
    let kept: Vec<_> = [0, 1, 255, 256, 257, 512, 600, 600].map(|size| Memory::of(&all[..size]).checkpoint()).into();
    assert_eq!(faults(&log, &kept), []);
    for kept in &kept {
        let altered = Checkpoint { root: Hash::of_entry(b"x"), ..kept.clone() };
        assert_eq!(faults(&log, &[altered]), [Fault::Rewritten { kept: kept.size }]);
    }
}

#[test]
fn a_receipt_proves_its_entry_and_nothing_else() {
    let all = entries(300);
    let log = Memory::of(&all);
    let key = signer();
    for position in 0..300 {
        let receipt = Receipt::prove(&log, position, key.verifier()).unwrap();
        let text = receipt.to_string();
        let read: Receipt = text.parse().unwrap();
        assert_eq!((&read, read.to_string()), (&receipt, text));
        assert_eq!(read.verify(&all[position as usize], key.verifier()), Ok(log.checkpoint()));
        assert!(read.verify(&all[(position as usize + 1) % 300], key.verifier()).is_err());
    }
    assert_eq!(Receipt::prove(&log, 300, key.verifier()), Err(ProveError::NotCovered { position: 300, size: 300 }));

    let receipt = Receipt::prove(&log, 17, key.verifier()).unwrap().with_extra(b"beside".to_vec());
    let text = receipt.to_string();
    let other = Ed25519Signer::from_seed("other.example", &[42; 32]).unwrap();
    assert!(receipt.verify(&all[17], other.verifier()).is_err());
    assert_eq!(text.parse::<Receipt>().unwrap().extra(), Some(&b"beside"[..]));
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(altered) = String::from_utf8(bytes) else { continue };
        let verified = altered.parse::<Receipt>().is_ok_and(|receipt| receipt.verify(&all[17], key.verifier()).is_ok());
        // Nothing authenticates the extra line (C2SP tlog-proof).
        let extra = altered.lines().nth(1) != text.lines().nth(1);
        assert!(!verified || extra, "byte {at}: {altered}");
    }
    for (from, to) in
        [("index 17", "index 017"), ("index 17", "index +17"), ("index 17\n", ""), ("@v1", "@v2"), ("\n\n", "\n"), ("index", "Index")]
    {
        assert!(text.replacen(from, to, 1).parse::<Receipt>().is_err(), "{from} to {to}");
    }
}

#[test]
fn a_damaged_log_gives_no_receipt() {
    let mut log = Memory::of(&entries(300));
    rewrite_bundle(&mut log, "tile/entries/001.p/44", 44, |entries| entries[0] = b"other".to_vec());
    assert_eq!(Receipt::prove(&log, 256, signer().verifier()), Err(ProveError::Damaged));
    assert!(Receipt::prove(&log, 257, signer().verifier()).is_ok());
}
