//! The tree over all entries: inclusion paths from the mirror's leaves, without hashing the whole log each time.
//!
//! The root of every 256 leaves is kept once it was needed, that of every 256 of these, and so on: the tiers. They only grow, as leaves
//! never change. A path then takes one run of 256 nodes in each tier.

use super::{Inner, Mirror, MirrorError, lock, signed, unsigned};
use contract::{merkle, state::entry_leaf};
use record::{Digest, TimeMs};
use rusqlite::{Connection, params};
use std::collections::HashMap;

/// Levels of the tree between two tiers.
const TIER_LEVELS: u32 = 8;
/// Nodes of a tier under one node of the next.
const WIDTH: u64 = 1 << TIER_LEVELS;
/// Tiers above the leaves: with so many every log of less than 2^64 entries is covered.
const TIERS: u32 = u64::BITS / TIER_LEVELS - 1;
/// Nodes that are computed in one transaction, so that the mirror goes on following the ledger meanwhile.
const NODES_AT_ONCE: u64 = 32;

/// How far the tiers are.
enum Grown {
    Whole,
    Further,
    /// The mirror lacks a leaf.
    Missing,
}

impl Mirror {
    /// The paths that prove leaves in the log of the first `size` entries, in the order of `indices`, which should rise. None when the
    /// mirror does not have all of that log.
    pub(crate) async fn paths(&self, indices: Vec<u64>, size: u64) -> Result<Option<Vec<Vec<Digest>>>, MirrorError> {
        loop {
            let inner = self.inner.clone();
            let grow = move || inner.grow(size);
            match tokio::task::spawn_blocking(grow).await.map_err(|_| MirrorError::Closed)?? {
                Grown::Whole => break,
                Grown::Further => {}
                Grown::Missing => return Ok(None),
            }
        }
        self.read(move |c| {
            let mut tree = Tree { connection: c, runs: HashMap::new(), edge: HashMap::new() };
            match tree.paths(&indices, size) {
                Ok(paths) => Ok(paths),
                Err(Lacking::Node) => Ok(None),
                Err(Lacking::Database(error)) => Err(error),
            }
        })
        .await
    }
}

impl Inner {
    /// Computes some of the tiers' nodes that the first `size` leaves have and that are not kept yet.
    fn grow(&self, size: u64) -> Result<Grown, MirrorError> {
        let mut writer = lock(&self.writer);
        let mut run = || -> rusqlite::Result<Grown> {
            let tx = writer.transaction()?;
            let (mut below, mut left) = (size, NODES_AT_ONCE);
            for tier in 1..=TIERS {
                let kept = kept(&tx, tier)?;
                let wanted = (below / WIDTH).min(kept.saturating_add(left));
                for position in kept..wanted {
                    let nodes = nodes(&tx, tier - 1, position, WIDTH)?;
                    if nodes.len() as u64 != WIDTH {
                        return Ok(Grown::Missing);
                    }
                    tx.prepare_cached("INSERT INTO subtree (tier, position, root) VALUES (?1, ?2, ?3)")?
                        .execute(params![tier, signed(position), merkle::root(nodes).as_ref()])?;
                    left -= 1;
                }
                below = wanted.max(kept);
            }
            tx.commit()?;
            Ok(if left == 0 { Grown::Further } else { Grown::Whole })
        };
        run().map_err(|source| MirrorError::Database { path: self.path.clone(), source })
    }
}

/// Nodes of a tier that are kept; they are the first ones.
fn kept(c: &Connection, tier: u32) -> rusqlite::Result<u64> {
    c.prepare_cached("SELECT coalesce(max(position) + 1, 0) FROM subtree WHERE tier = ?1")?
        .query_row([tier], |row| Ok(unsigned(row.get(0)?)))
}

/// The first `count` nodes of run number `run` of a tier, as far as they are there without a gap; leaves are tier 0.
fn nodes(c: &Connection, tier: u32, run: u64, count: u64) -> rusqlite::Result<Vec<Digest>> {
    let first = run.saturating_mul(WIDTH);
    let range = params![signed(first), signed(first.saturating_add(count))];
    let mut nodes = Vec::with_capacity(count as usize);
    let mut put = |at: u64, node: Digest| {
        if at == first + nodes.len() as u64 {
            nodes.push(node);
        }
    };
    if tier == 0 {
        let sql = "SELECT idx, height, time, refused, digest FROM entry WHERE idx >= ?1 AND idx < ?2 ORDER BY idx";
        let mut select = c.prepare_cached(sql)?;
        let mut rows = select.query(range)?;
        while let Some(row) = rows.next()? {
            let (height, time) = (unsigned(row.get(1)?), TimeMs(unsigned(row.get(2)?)));
            put(unsigned(row.get(0)?), entry_leaf(height, time, row.get(3)?, &Digest(row.get(4)?)));
        }
    } else {
        let sql =
            "SELECT position, root FROM subtree WHERE tier = ?3 AND position >= ?1 AND position < ?2 ORDER BY position";
        let mut select = c.prepare_cached(sql)?;
        let mut rows = select.query(params![range[0], range[1], tier])?;
        while let Some(row) = rows.next()? {
            put(unsigned(row.get(0)?), Digest(row.get(1)?));
        }
    }
    Ok(nodes)
}

/// Why a path cannot be computed.
enum Lacking {
    /// A node is not there.
    Node,
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Lacking {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Roots of perfect subtrees, read a run at a time.
struct Tree<'a> {
    connection: &'a Connection,
    /// The run that was read last of each tier, with what is above it up to the next tier.
    runs: HashMap<u32, (u64, Vec<Vec<Digest>>)>,
    /// The perfect subtrees that the whole tree consists of: every path needs some of them.
    edge: HashMap<(u32, u64), Digest>,
}

impl Tree<'_> {
    fn paths(&mut self, indices: &[u64], size: u64) -> Result<Option<Vec<Vec<Digest>>>, Lacking> {
        let mut begin = 0;
        for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
            let node = self.subtree(level, begin >> level)?;
            self.edge.insert((level, begin >> level), node);
            begin += 1 << level;
        }
        let path = |index: &u64| merkle::inclusion_path_by(*index, size, |level, at| self.subtree(level, at));
        indices.iter().map(path).collect()
    }

    fn subtree(&mut self, level: u32, position: u64) -> Result<Digest, Lacking> {
        if let Some(node) = self.edge.get(&(level, position)) {
            return Ok(*node);
        }
        let (tier, above) = (level / TIER_LEVELS, level % TIER_LEVELS);
        // Nodes of this level over one run.
        let in_run = WIDTH >> above;
        let run = position / in_run;
        if self.runs.get(&tier).is_none_or(|(read, _)| *read != run) {
            let levels = pyramid(nodes(self.connection, tier, run, WIDTH)?);
            self.runs.insert(tier, (run, levels));
        }
        let levels = self.runs.get(&tier).map(|(_, levels)| levels);
        let node = levels.and_then(|levels| levels.get(above as usize)?.get((position % in_run) as usize));
        node.copied().ok_or(Lacking::Node)
    }
}

/// Nodes, and those of the levels above that are complete.
fn pyramid(nodes: Vec<Digest>) -> Vec<Vec<Digest>> {
    let mut levels = vec![nodes];
    while let Some(last) = levels.last()
        && last.len() > 1
    {
        let above = last.chunks_exact(2).map(|pair| merkle::node(&pair[0], &pair[1])).collect();
        levels.push(above);
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::sha256;

    /// A mirror with so many entries, of which some were refused, and their leaves.
    fn mirror(entries: u64) -> (tempfile::TempDir, Mirror, Vec<Digest>) {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirror::open(&folder.path().join("mirror.db")).unwrap();
        let mut leaves = Vec::new();
        {
            let mut writer = lock(&mirror.inner.writer);
            let tx = writer.transaction().unwrap();
            for index in 0..entries {
                let (digest, refused) = (sha256(&[&index.to_be_bytes()]), (index % 7 == 3) as u8);
                let (height, time) = (index / 3 + 1, TimeMs(1000 * (index / 3)));
                leaves.push(entry_leaf(height, time, refused, &digest));
                tx.execute(
                    "INSERT INTO entry (idx, height, time, digest, bytes, org, lane, seq, refused, kind, id) VALUES (?1, ?2, ?3, ?4, x'00', 'mercy', 0, ?1, ?5, 'access', x'00')",
                    params![signed(index), signed(height), signed(time.0), digest.as_ref(), refused],
                )
                .unwrap();
            }
            tx.commit().unwrap();
        }
        (folder, mirror, leaves)
    }

    async fn check(mirror: &Mirror, leaves: &[Digest], size: u64) {
        let indices: Vec<u64> = (0..size).step_by(61).chain(size.checked_sub(1)).collect();
        let expected = merkle::inclusion_paths(&leaves[..size as usize], &indices).unwrap();
        assert_eq!(mirror.paths(indices, size).await.unwrap(), Some(expected), "{size} leaves");
    }

    #[tokio::test]
    async fn paths_are_those_of_the_whole_tree_at_every_size_around_the_tiers() {
        const ENTRIES: u64 = 256 * 256 + 300;
        let (_folder, mirror, leaves) = mirror(ENTRIES);
        for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 1000, 16_000, 65_535, 65_536, 65_537, ENTRIES] {
            check(&mirror, &leaves, size).await;
        }
        // What is kept for a larger log serves a smaller one.
        check(&mirror, &leaves, 700).await;
        assert_eq!(kept(&lock(&mirror.inner.writer), 2).unwrap(), 1);
    }

    #[tokio::test]
    async fn a_log_that_the_mirror_lacks_a_leaf_of_has_no_paths() {
        let (_folder, mirror, leaves) = mirror(600);
        // Before the tiers have what it leads to.
        lock(&mirror.inner.writer).execute("DELETE FROM entry WHERE idx = 300", []).unwrap();
        assert_eq!(mirror.paths(vec![1], 600).await.unwrap(), None);
        check(&mirror, &leaves, 256).await;
        assert_eq!(mirror.paths(vec![1], 601).await.unwrap(), None, "a log that is longer than what the mirror has");
    }
}
