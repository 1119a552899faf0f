//! The append-only Merkle tree of RFC 9162 with SHA-256: roots, inclusion and consistency.
//!
//! Source: RFC 9162 section 2.1. A tree over nothing has the root SHA-256("").

use minicbor::{Decode, Encode};
use record::{Digest, sha256};

/// Digest of a leaf: SHA-256(0x00 ‖ bytes).
pub fn leaf(bytes: &[u8]) -> Digest {
    sha256(&[&[0], bytes])
}

/// Digest of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node(left: &Digest, right: &Digest) -> Digest {
    sha256(&[&[1], left.as_ref(), right.as_ref()])
}

/// All that is needed of a tree to append to it: its size and the roots of its perfect subtrees, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(array)]
pub struct Frontier {
    /// Number of leaves.
    #[n(0)]
    size: u64,
    /// One root for each bit that is set in `size`.
    #[n(1)]
    peaks: Vec<Digest>,
}

impl Frontier {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether there is one peak for each bit of the size; a frontier from outside must be checked once.
    pub fn is_consistent(&self) -> bool {
        self.peaks.len() == self.size.count_ones() as usize
    }

    /// Appends a leaf's digest.
    pub fn push(&mut self, leaf: Digest) {
        let mut at = leaf;
        // A trailing one bit of the size is a perfect subtree as large as the one just completed.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                at = node(&left, &at);
            }
        }
        self.peaks.push(at);
        self.size += 1;
    }

    /// The root.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return sha256(&[]) };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// The root over leaf digests.
pub fn root(leaves: impl IntoIterator<Item = Digest>) -> Digest {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(leaf);
    }
    frontier.root()
}
