//! What holds for any bytes and any growth.

use bailiwick_log::files::Tiles;
use bailiwick_log::note::{Note, Signer as _, VerifierKey};
use bailiwick_log::receipt::Receipt;
use bailiwick_log::tile::{TilePath, decode_entries, encode_entry};
use bailiwick_log::tree::{prove_consistency, prove_inclusion, verify_consistency, verify_inclusion};
use bailiwick_log::verify::{Audit, verify};
use proptest::prelude::*;

use crate::common::{Memory, signer};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_is_read_panics(bytes: Vec<u8>, text in "[ -~\n—]{0,200}", width in 1..=256_u16) {
        let _ = Note::parse(&bytes);
        let _ = Note::parse(text.as_bytes());
        let _ = decode_entries(&bytes, width);
        let _ = text.parse::<Receipt>();
        let _ = text.parse::<VerifierKey>();
        let _ = format!("tile/{text}").parse::<TilePath>();
        let _ = format!("c2sp.org/tlog-proof@v1\nindex 1\n{text}").parse::<Receipt>();
    }

    #[test]
    fn a_bundle_that_is_read_is_the_only_one_with_its_entries(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..256)) {
        let mut bundle = Vec::new();
        prop_assert!(entries.iter().all(|entry| encode_entry(entry, &mut bundle)));
        let read: Vec<_> = decode_entries(&bundle, entries.len() as u16).unwrap().into_iter().map(<[u8]>::to_vec).collect();
        prop_assert_eq!(read, entries);
    }

    #[test]
    fn a_log_grown_in_any_steps_is_the_same_log_and_consistent_with_each_step(
        steps in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 1..8), 1..120), 1..8),
        asked in any::<prop::sample::Index>(),
    ) {
        let all: Vec<Vec<u8>> = steps.iter().flatten().cloned().collect();
        let whole = Memory::of(&all);
        let mut grown = Memory::default();
        grown.publish();
        let mut kept = Vec::new();
        for step in &steps {
            grown.grow(step);
            kept.push(grown.checkpoint());
        }
        let now = whole.checkpoint();
        prop_assert_eq!(kept.last(), Some(&now));
        let report = verify(&grown, &Audit { key: signer().verifier(), kept: &kept, growing: false }).unwrap();
        prop_assert!(report.is_sound(), "{:?}", report.faults);

        let tiles = Tiles::new(&grown, now.size);
        for kept in &kept {
            let proof = prove_consistency(&tiles, kept.size, now.size).unwrap();
            prop_assert_eq!(verify_consistency(kept.size, &kept.root, now.size, &now.root, &proof), Ok(()));
        }
        let index = asked.index(all.len());
        let leaf = bailiwick_log::tree::Hash::of_entry(&all[index]);
        let proof = prove_inclusion(&tiles, index as u64, now.size).unwrap();
        prop_assert_eq!(verify_inclusion(&leaf, index as u64, now.size, &proof, &now.root), Ok(()));
    }
}
