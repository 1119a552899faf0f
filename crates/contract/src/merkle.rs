//! The append-only Merkle tree of RFC 9162 with SHA-256: roots, inclusion and consistency.
//!
//! Source: RFC 9162 section 2.1. A tree over nothing has the root SHA-256("").
//! A path is at most [`PATH_LEN_MAX`] digests; whoever reads one from outside bounds it before reading.

use minicbor::{Decode, Encode};
use record::{Digest, sha256};

/// The longest inclusion or consistency path: a tree of 2^64 - 1 leaves is 64 levels high, and a consistency path names one node more.
pub const PATH_LEN_MAX: usize = 65;

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

    /// The roots of the perfect subtrees, largest first.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root() }
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

/// What names one state of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// The path that proves leaf `index` of the tree over `leaves`: siblings from the leaf up. `None` when there is no such leaf.
///
/// Source: RFC 9162 section 2.1.3.1. Costs one hash for each leaf.
pub fn inclusion_path(leaves: &[Digest], index: u64) -> Option<Vec<Digest>> {
    let index = usize::try_from(index).ok().filter(|index| *index < leaves.len())?;
    let mut path = Vec::new();
    let (mut tree, mut at) = (leaves, index);
    while tree.len() > 1 {
        let (left, right) = tree.split_at(split(tree.len()));
        let sibling;
        (tree, at, sibling) = if at < left.len() { (left, at, right) } else { (right, at - left.len(), left) };
        path.push(root(sibling.iter().copied()));
    }
    path.reverse();
    Some(path)
}

/// The paths of several leaves of one tree, each as [`inclusion_path`] gives it. `None` when there is no such leaf.
///
/// Costs one hash for each leaf, however many paths are asked for.
pub fn inclusion_paths(leaves: &[Digest], indices: &[u64]) -> Option<Vec<Vec<Digest>>> {
    let places = indices.iter().map(|index| usize::try_from(*index).ok().filter(|index| *index < leaves.len()));
    let mut places = places.collect::<Option<Vec<usize>>>()?;
    let mut paths = vec![Vec::new(); places.len()];
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        for (place, path) in places.iter_mut().zip(&mut paths) {
            // The last node of an odd level has no sibling: it is a node of the next level as it is.
            path.extend(level.get(*place ^ 1));
            *place /= 2;
        }
        level = level.chunks(2).map(|pair| pair.get(1).map_or(pair[0], |right| node(&pair[0], right))).collect();
    }
    Some(paths)
}

/// The path of leaf `index` in a tree of `size` leaves, from whoever knows the roots of its perfect subtrees: `subtree(level, position)` is the
/// root over the 2^level leaves from `position` × 2^level on. `None` when there is no such leaf.
///
/// The path is that of [`inclusion_path`]: it costs what `subtree` costs, some times the logarithm of `size`.
pub fn inclusion_path_by<E>(
    index: u64,
    size: u64,
    mut subtree: impl FnMut(u32, u64) -> Result<Digest, E>,
) -> Result<Option<Vec<Digest>>, E> {
    if index >= size {
        return Ok(None);
    }
    let mut path = Vec::new();
    let (mut begin, mut end) = (0, size);
    while end - begin > 1 {
        let level = highest_bit(end - begin - 1);
        let middle = begin + (1 << level);
        if index < middle {
            path.push(root_by(middle, end, &mut subtree)?);
            end = middle;
        } else {
            path.push(subtree(level, begin >> level)?);
            begin = middle;
        }
    }
    path.reverse();
    Ok(Some(path))
}

/// The root over the leaves from `begin` up to `end`, of which there is at least one; `begin` is a multiple of a power of two that is no less
/// than their number.
fn root_by<E>(begin: u64, end: u64, subtree: &mut impl FnMut(u32, u64) -> Result<Digest, E>) -> Result<Digest, E> {
    let level = highest_bit(end - begin);
    let largest = subtree(level, begin >> level)?;
    match begin + (1 << level) {
        next if next < end => Ok(node(&largest, &root_by(next, end, subtree)?)),
        _ => Ok(largest),
    }
}

/// The place of the highest bit of a number that is not 0.
fn highest_bit(number: u64) -> u32 {
    (u64::BITS - 1).saturating_sub(number.leading_zeros())
}

/// The path that proves that the tree over `leaves` continues the tree over its first `old_size` leaves, from the bottom up.
/// `None` when there are fewer leaves. Empty when nothing is to be shown: no leaves before, or none since.
///
/// Source: RFC 9162 section 2.1.4.1. Costs one hash for each leaf.
pub fn consistency_path(leaves: &[Digest], old_size: u64) -> Option<Vec<Digest>> {
    let old_size = usize::try_from(old_size).ok().filter(|old_size| *old_size <= leaves.len())?;
    let mut path = Vec::new();
    let (mut tree, mut old) = (leaves, old_size);
    // The verifier knows the old root; a subtree of it must be named once the descent has left the left edge.
    let mut known = true;
    while old != 0 && old != tree.len() {
        let (left, right) = tree.split_at(split(tree.len()));
        if old <= left.len() {
            path.push(root(right.iter().copied()));
            tree = left;
        } else {
            path.push(root(left.iter().copied()));
            (tree, old, known) = (right, old - left.len(), false);
        }
    }
    if !known {
        path.push(root(tree.iter().copied()));
    }
    path.reverse();
    Some(path)
}

/// The largest power of two below `len`, which is at least 2: how many leaves are left of a tree's root.
fn split(len: usize) -> usize {
    1 << (usize::BITS - 1 - (len - 1).leading_zeros())
}

/// Whether `path` proves that `leaf` is leaf number `index` of the tree `head`.
pub fn verify(leaf: &Digest, index: u64, path: &[Digest], head: &TreeHead) -> bool {
    root_of(leaf, index, path, head.size) == Some(head.root)
}

/// The root that a tree of `size` leaves has when `leaf` is its leaf number `index` with this path. `None` when no such path is so long.
///
/// Source: RFC 9162 section 2.1.3.2.
pub fn root_of(leaf: &Digest, index: u64, path: &[Digest], size: u64) -> Option<Digest> {
    let (mut at, mut last, mut hash) = (index, size.checked_sub(1).filter(|last| index <= *last)?, *leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

/// Whether `path` proves that the tree `new` begins with the leaves of the tree `old`.
///
/// Source: RFC 9162 section 2.1.4.2, which leaves out that every tree continues the empty one.
pub fn consistency(old: &TreeHead, new: &TreeHead, path: &[Digest]) -> bool {
    if old.size == 0 {
        return path.is_empty() && old.root == sha256(&[]) && (new.size != 0 || new.root == old.root);
    }
    if old.size >= new.size {
        return old == new && path.is_empty();
    }
    let (mut at, mut last) = (old.size - 1, new.size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    // Where the old tree is perfect, its root is the lowest node and is not sent.
    let (first, rest) = if old.size.is_power_of_two() {
        (old.root, path)
    } else {
        let Some((first, rest)) = path.split_first() else { return false };
        (*first, rest)
    };
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (old_hash, new_hash) = (node(sibling, &old_hash), node(sibling, &new_hash));
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new_hash = node(&new_hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old_hash == old.root && new_hash == new.root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves of the known-answer tests of Certificate Transparency, in hexadecimal.
    ///
    /// Source: github.com/google/certificate-transparency, `cpp/merkletree/merkle_tree_test.cc`; also in
    /// github.com/transparency-dev/merkle, `testonly/constants.go`.
    const CT_LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const CT_ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    const N0: &str = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    const N1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
    const N01: &str = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";
    const N23: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
    const N0123: &str = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7";
    const N4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
    const N45: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
    const N67: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
    const N4567: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";

    fn ct_leaves() -> Vec<Digest> {
        CT_LEAVES.iter().map(|text| leaf(&bytes_of(text))).collect()
    }

    fn bytes_of(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    fn digests(hex: &[&str]) -> Vec<Digest> {
        hex.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn some_leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|i| leaf(&i.to_be_bytes())).collect()
    }

    fn head(leaves: &[Digest]) -> TreeHead {
        TreeHead { size: leaves.len() as u64, root: naive_root(leaves) }
    }

    /// RFC 9162 section 2.1.1, word for word.
    fn naive_root(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => sha256(&[]),
            [leaf] => *leaf,
            _ => {
                let k = naive_split(leaves.len());
                node(&naive_root(&leaves[..k]), &naive_root(&leaves[k..]))
            }
        }
    }

    fn naive_split(n: usize) -> usize {
        (0..).map(|bit| 1 << bit).take_while(|k| *k < n).last().unwrap()
    }

    /// RFC 9162 section 2.1.3.1: PATH(m, D_n).
    fn naive_inclusion(m: usize, leaves: &[Digest]) -> Vec<Digest> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(naive_split(leaves.len()));
        let (mut path, sibling) = if m < left.len() {
            (naive_inclusion(m, left), right)
        } else {
            (naive_inclusion(m - left.len(), right), left)
        };
        path.push(naive_root(sibling));
        path
    }

    /// RFC 9162 section 2.1.4.1: SUBPROOF(m, D_n, b).
    fn naive_subproof(m: usize, leaves: &[Digest], known: bool) -> Vec<Digest> {
        if m == leaves.len() {
            return if known { Vec::new() } else { vec![naive_root(leaves)] };
        }
        let (left, right) = leaves.split_at(naive_split(leaves.len()));
        let (mut path, other) = if m <= left.len() {
            (naive_subproof(m, left, known), right)
        } else {
            (naive_subproof(m - left.len(), right, false), left)
        };
        path.push(naive_root(other));
        path
    }

    #[test]
    fn the_known_roots_of_certificate_transparency_hold() {
        let leaves = ct_leaves();
        for (size, expected) in CT_ROOTS.iter().enumerate() {
            assert_eq!(root(leaves[..size].iter().copied()).to_hex(), *expected, "{size} leaves");
        }
    }

    #[test]
    fn the_known_inclusion_paths_of_certificate_transparency_hold() {
        let leaves = ct_leaves();
        let cases: [(u64, usize, &[&str]); 6] = [
            (0, 1, &[]),
            (0, 8, &[N1, N23, N4567]),
            (5, 8, &[N4, N67, N0123]),
            (2, 3, &[N01]),
            (1, 5, &[N0, N23, N4]),
            (4, 5, &[N0123]),
        ];
        for (index, size, expected) in cases {
            let leaves = &leaves[..size];
            assert_eq!(inclusion_path(leaves, index), Some(digests(expected)), "leaf {index} of {size}");
            assert!(verify(&leaves[index as usize], index, &digests(expected), &head(leaves)));
        }
    }

    #[test]
    fn the_known_consistency_paths_of_certificate_transparency_hold() {
        let leaves = ct_leaves();
        let cases: [(u64, usize, &[&str]); 5] =
            [(1, 1, &[]), (1, 8, &[N1, N23, N4567]), (6, 8, &[N45, N67, N0123]), (2, 5, &[N23, N4]), (0, 8, &[])];
        for (old, new, expected) in cases {
            assert_eq!(consistency_path(&leaves[..new], old), Some(digests(expected)), "{old} to {new}");
            assert!(consistency(&head(&leaves[..old as usize]), &head(&leaves[..new]), &digests(expected)));
        }
    }

    #[test]
    fn a_frontier_has_the_root_of_the_definition_at_every_size() {
        let leaves = some_leaves(130);
        let mut frontier = Frontier::default();
        for size in 0..=leaves.len() {
            assert_eq!(frontier.head(), head(&leaves[..size]), "{size} leaves");
            assert!(frontier.is_consistent());
            assert_eq!(frontier.peaks().len(), size.count_ones() as usize);
            if size < leaves.len() {
                frontier.push(leaves[size]);
            }
        }
    }

    #[test]
    fn every_leaf_of_every_tree_up_to_64_is_proven_by_the_path_of_the_definition_and_by_no_other_index() {
        let leaves = some_leaves(64);
        for size in 0..=64u64 {
            let tree = &leaves[..size as usize];
            let head = head(tree);
            assert_eq!(inclusion_path(tree, size), None);
            assert_eq!(inclusion_paths(tree, &[size]), None);
            assert_eq!(inclusion_path_by(size, size, |_, _| Err(())), Ok(None));
            let all: Vec<u64> = (0..size).rev().collect();
            let each = all.iter().map(|index| inclusion_path(tree, *index)).collect();
            assert_eq!(inclusion_paths(tree, &all), each);
            for index in 0..size {
                let path = inclusion_path(tree, index).unwrap();
                assert_eq!(path, naive_inclusion(index as usize, tree));
                let subtree = |level: u32, position: u64| -> Result<Digest, ()> {
                    let begin = (position << level) as usize;
                    Ok(root(tree.get(begin..begin + (1 << level)).ok_or(())?.iter().copied()))
                };
                assert_eq!(inclusion_path_by(index, size, subtree), Ok(Some(path.clone())), "{index} of {size}");
                assert!(path.len() <= PATH_LEN_MAX);
                for claimed in 0..=size {
                    let holds = verify(&tree[index as usize], claimed, &path, &head);
                    assert_eq!(holds, claimed == index, "leaf {index} as {claimed} of {size}");
                }
            }
        }
    }

    #[test]
    fn every_tree_up_to_64_continues_all_smaller_ones_and_no_other_sizes() {
        let leaves = some_leaves(64);
        let heads: Vec<TreeHead> = (0..=64).map(|size| head(&leaves[..size])).collect();
        for new in 0..=64usize {
            for old in 0..=new {
                let path = consistency_path(&leaves[..new], old as u64).unwrap();
                let defined = old != 0 && old != new;
                assert_eq!(path, if defined { naive_subproof(old, &leaves[..new], true) } else { Vec::new() });
                assert!(path.len() <= PATH_LEN_MAX);
                assert!(consistency(&heads[old], &heads[new], &path), "{old} to {new}");
                for claimed in 1..=64usize {
                    let lied = TreeHead { size: claimed as u64, root: heads[old].root };
                    assert_eq!(
                        consistency(&lied, &heads[new], &path),
                        old != 0 && claimed == old,
                        "{old} as {claimed} to {new}"
                    );
                }
            }
            assert_eq!(consistency_path(&leaves[..new], new as u64 + 1), None);
        }
    }

    #[test]
    fn a_path_with_any_bit_changed_or_any_digest_more_or_less_proves_nothing() {
        let leaves = some_leaves(21);
        for size in 1..=21u64 {
            let tree = &leaves[..size as usize];
            let head = head(tree);
            for index in 0..size {
                let path = inclusion_path(tree, index).unwrap();
                let leaf = tree[index as usize];
                for changed in mutations(&path) {
                    assert!(!verify(&leaf, index, &changed, &head), "leaf {index} of {size}");
                }
                assert!(!verify(&flipped(leaf), index, &path, &head));
                assert!(!verify(&leaf, index, &path, &TreeHead { root: flipped(head.root), ..head }));
            }
            for old in 1..size {
                let path = consistency_path(tree, old).unwrap();
                let before = self::head(&tree[..old as usize]);
                for changed in mutations(&path) {
                    assert!(!consistency(&before, &head, &changed), "{old} to {size}");
                }
                assert!(!consistency(&TreeHead { root: flipped(before.root), ..before }, &head, &path));
                assert!(!consistency(&before, &TreeHead { root: flipped(head.root), ..head }, &path));
            }
        }
    }

    /// Only the root of nothing is continued by every tree, and a path of the greatest length ends.
    #[test]
    fn extreme_sizes_are_answered_without_overflow() {
        let empty = TreeHead { size: 0, root: sha256(&[]) };
        let other = TreeHead { size: 0, root: leaf(b"") };
        let huge = TreeHead { size: u64::MAX, root: leaf(b"") };
        assert!(consistency(&empty, &huge, &[]));
        assert!(consistency(&empty, &empty, &[]));
        assert!(!consistency(&other, &huge, &[]));
        assert!(!consistency(&empty, &other, &[]));
        assert!(!consistency(&huge, &empty, &[]));
        let long = vec![leaf(b""); 70];
        assert!(!verify(&leaf(b""), u64::MAX - 1, &long, &huge));
        assert!(!verify(&leaf(b""), 0, &[], &empty));
        assert!(!consistency(&TreeHead { size: u64::MAX - 1, ..huge }, &huge, &long));
    }

    fn flipped(mut digest: Digest) -> Digest {
        digest.0[17] ^= 1;
        digest
    }

    fn mutations(path: &[Digest]) -> Vec<Vec<Digest>> {
        let mut all = Vec::new();
        for i in 0..path.len() {
            let mut changed = path.to_vec();
            changed[i] = flipped(changed[i]);
            all.push(changed);
            let mut shorter = path.to_vec();
            shorter.remove(i);
            all.push(shorter);
            let mut longer = path.to_vec();
            longer.insert(i, path[i]);
            all.push(longer);
        }
        let mut longer = path.to_vec();
        longer.push(leaf(b"more"));
        all.push(longer);
        all
    }
}
