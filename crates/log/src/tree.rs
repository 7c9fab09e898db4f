//! The Merkle tree over the log: hashes, roots, and proofs that an entry is in it or that it only grew.
//!
//! It is the tree of RFC 6962 §2.1 (the same as RFC 9162 §2.1) over SHA-256. Proofs are computed from [`Nodes`], wherever
//! those are kept, and verified from nothing but their arguments.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// A SHA-256 hash of the tree; printed in base64, as checkpoints and receipts write it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The size of a hash in bytes.
    pub const SIZE: usize = 32;

    /// The hash with these bytes.
    pub const fn new(bytes: [u8; Self::SIZE]) -> Self {
        Self(bytes)
    }

    /// The hash of the tree without entries (RFC 6962 §2.1).
    pub fn of_nothing() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// The hash of an entry as a leaf (RFC 6962 §2.1).
    pub fn of_entry(entry: &[u8]) -> Self {
        Self(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
    }

    /// The hash of the node over two others (RFC 6962 §2.1).
    pub fn of_pair(left: &Self, right: &Self) -> Self {
        let mut input = [1; 1 + 2 * Self::SIZE];
        let (_, pair) = input.split_at_mut(1);
        let (first, second) = pair.split_at_mut(Self::SIZE);
        first.copy_from_slice(&left.0);
        second.copy_from_slice(&right.0);
        Self(Sha256::digest(input).into())
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::SIZE] {
        &self.0
    }

    /// Reads what [`fmt::Display`] writes: canonical base64 with padding.
    pub fn from_base64(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the hashes of whole subtrees are read from.
pub trait Nodes {
    /// Why a hash could not be read.
    type Error: From<OutsideTree>;

    /// The hash of the subtree over the 2^`level` entries from `index` × 2^`level` on. Asked only for subtrees that are full.
    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// A proof was asked for something that the tree does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tree holds {size} entries, and the proof is about number {asked}")]
pub struct OutsideTree {
    /// What was asked for: a position, or the size of an older tree.
    pub asked: u64,
    /// The size of the tree.
    pub size: u64,
}

/// A proof does not show what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProof {
    /// The position or the older size is not in the tree.
    #[error("the proof is about something that is not in the tree")]
    Outside,
    /// The proof is longer or shorter than one of this tree is.
    #[error("the proof has the wrong length")]
    Length,
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root")]
    Root,
}

/// The root of the tree whose leaves have these hashes (RFC 6962 §2.1, `MTH`).
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of_nothing(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
            Hash::of_pair(&root(left), &root(right))
        }
    }
}

/// The root of the tree's first `size` entries.
pub fn root_of<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(Hash::of_nothing()) } else { range(nodes, 0, size) }
}

/// Proves that entry `index` is in the tree of `size` entries: hashes from the leaf's sibling to the root's child (RFC 9162 §2.1.3.1).
pub fn prove_inclusion<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    if index >= size {
        return Err(OutsideTree { asked: index, size }.into());
    }
    let (mut low, mut high) = (0, size);
    let mut proof = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(range(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(range(nodes, low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Proves that the tree of `new` entries begins with the tree of `old` entries (RFC 9162 §2.1.4.1).
pub fn prove_consistency<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    if old > new {
        return Err(OutsideTree { asked: old, size: new }.into());
    }
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    let (mut low, mut high) = (0, new);
    while high != old {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(range(nodes, low, middle)?);
            low = middle;
        }
    }
    // A subtree that starts at 0 and ends at `old` is the old tree itself, whose root the verifier has.
    if low > 0 {
        proof.push(range(nodes, low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `leaf` is entry `index` of the tree with `size` entries and this root (RFC 9162 §2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), InvalidProof> {
    if index >= size {
        return Err(InvalidProof::Outside);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(InvalidProof::Length);
        }
        if node & 1 == 1 || node == last {
            hash = Hash::of_pair(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::of_pair(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    match (last, hash == *root) {
        (0, true) => Ok(()),
        (0, false) => Err(InvalidProof::Root),
        _ => Err(InvalidProof::Length),
    }
}

/// Checks that the tree with `new_size` entries and root `new` begins with the one of `old_size` entries and root `old`
/// (RFC 9162 §2.1.4.2).
pub fn verify_consistency(old_size: u64, old: &Hash, new_size: u64, new: &Hash, proof: &[Hash]) -> Result<(), InvalidProof> {
    if old_size > new_size {
        return Err(InvalidProof::Outside);
    }
    if old_size == 0 || old_size == new_size {
        let roots_fit = if old_size == 0 { *old == Hash::of_nothing() } else { old == new };
        return match (proof.is_empty(), roots_fit) {
            (true, true) => Ok(()),
            (true, false) => Err(InvalidProof::Root),
            (false, _) => Err(InvalidProof::Length),
        };
    }
    // A whole subtree is not repeated in the proof: its root is the old root.
    let (first, rest) = match (old_size.is_power_of_two(), proof) {
        (true, rest) => (old, rest),
        (false, [first, rest @ ..]) => (first, rest),
        (false, []) => return Err(InvalidProof::Length),
    };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return Err(InvalidProof::Length);
        }
        if node & 1 == 1 || node == last {
            old_hash = Hash::of_pair(hash, &old_hash);
            new_hash = Hash::of_pair(hash, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = Hash::of_pair(&new_hash, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    match (last, old_hash == *old && new_hash == *new) {
        (0, true) => Ok(()),
        (0, false) => Err(InvalidProof::Root),
        _ => Err(InvalidProof::Length),
    }
}

/// The root over the entries `low..high`, a range that the tree of RFC 6962 has as one node.
fn range<N: Nodes>(nodes: &N, low: u64, high: u64) -> Result<Hash, N::Error> {
    let count = high - low;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return nodes.node(level, low >> level);
    }
    let middle = low + split(count);
    Ok(Hash::of_pair(&range(nodes, low, middle)?, &range(nodes, middle, high)?))
}

/// The largest power of two below `count`, which is at least 2: where the tree over `count` leaves splits (RFC 6962 §2.1).
const fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hashes of every level: 2^level leaves each.
    struct Naive(Vec<Vec<Hash>>);

    impl Nodes for Naive {
        type Error = OutsideTree;

        fn node(&self, level: u32, index: u64) -> Result<Hash, OutsideTree> {
            Ok(self.0[level as usize][index as usize])
        }
    }

    fn naive(size: u64) -> Naive {
        let mut levels = vec![(0..size).map(|n| Hash::of_entry(format!("entry {n}").as_bytes())).collect::<Vec<_>>()];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            levels.push(below.as_chunks().0.iter().map(|[left, right]| Hash::of_pair(left, right)).collect());
        }
        Naive(levels)
    }

    /// The proof as RFC 6962 §2.1.1 defines it, by recursion and without any of the code above.
    fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = (0..64).map(|p| 1usize << p).take_while(|k| *k < leaves.len()).last().unwrap();
        let (left, right) = leaves.split_at(k);
        let (mut proof, other) = if index < k { (path(index, left), root(right)) } else { (path(index - k, right), root(left)) };
        proof.push(other);
        proof
    }

    #[test]
    fn hashes_are_those_of_rfc_6962() {
        let hex = |hash: Hash| hash.as_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(Hash::of_nothing()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        // RFC 6962 reference implementation: the leaf hash of the empty string, and the root over its eight test leaves.
        assert_eq!(hex(Hash::of_entry(b"")), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"`abcdefghijklmno",
        ];
        let mut leaves: Vec<Hash> = leaves.iter().map(|leaf| Hash::of_entry(leaf)).collect();
        leaves[7] = Hash::of_entry(&(0x60..=0x6f).collect::<Vec<u8>>());
        assert_eq!(hex(root(&leaves)), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn every_inclusion_proof_of_every_small_tree_holds_and_no_altered_one_does() {
        let nodes = naive(260);
        let leaves = &nodes.0[0];
        for size in 1..=260 {
            let root = root(&leaves[..size as usize]);
            assert_eq!(root_of(&nodes, size), Ok(root));
            for index in 0..size {
                let leaf = leaves[index as usize];
                let proof = prove_inclusion(&nodes, index, size).unwrap();
                assert_eq!(verify_inclusion(&leaf, index, size, &proof, &root), Ok(()), "{index} of {size}");
                // The naive proof costs a hash per leaf and altering one a verification per hash, so larger trees are sampled.
                if size <= 33 || (index * 7 + size) % 61 == 0 {
                    assert_eq!(proof, path(index as usize, &leaves[..size as usize]), "{index} of {size}");
                    altered_proofs(&proof, |proof| verify_inclusion(&leaf, index, size, proof, &root));
                    let other = Hash::of_entry(b"another");
                    assert!(verify_inclusion(&other, index, size, &proof, &root).is_err());
                    for wrong in (0..size + 2).filter(|wrong| *wrong != index) {
                        assert!(verify_inclusion(&leaf, wrong, size, &proof, &root).is_err(), "{index} as {wrong} of {size}");
                    }
                }
            }
            assert!(prove_inclusion(&nodes, size, size).is_err());
        }
    }

    #[test]
    fn every_consistency_proof_of_every_small_tree_holds_and_no_altered_one_does() {
        let nodes = naive(260);
        let roots: Vec<Hash> = (0..=260).map(|size| root(&nodes.0[0][..size])).collect();
        for new in 0..=260_u64 {
            for old in 0..=new {
                let proof = prove_consistency(&nodes, old, new).unwrap();
                let (old_root, new_root) = (roots[old as usize], roots[new as usize]);
                let verify = |proof: &[Hash]| verify_consistency(old, &old_root, new, &new_root, proof);
                assert_eq!(verify(&proof), Ok(()), "{old} to {new}");
                if new <= 33 || (old * 7 + new) % 41 == 0 {
                    altered_proofs(&proof, verify);
                    let other = Hash::of_entry(b"another");
                    assert!(verify_consistency(old, &other, new, &new_root, &proof).is_err(), "{old} to {new}");
                    // Nothing at all is the beginning of any tree.
                    assert!(old == 0 || verify_consistency(old, &old_root, new, &other, &proof).is_err(), "{old} to {new}");
                }
            }
        }
        assert!(prove_consistency(&nodes, 8, 7).is_err());
    }

    fn altered_proofs(proof: &[Hash], verify: impl Fn(&[Hash]) -> Result<(), InvalidProof>) {
        for at in 0..proof.len() {
            let mut altered = proof.to_vec();
            altered[at].0[at % 32] ^= 1;
            assert!(verify(&altered).is_err());
            let mut shorter = proof.to_vec();
            shorter.remove(at);
            assert!(verify(&shorter).is_err());
            let mut longer = proof.to_vec();
            longer.insert(at, proof[at]);
            assert!(verify(&longer).is_err());
        }
    }
}
