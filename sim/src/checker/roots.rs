//! Identical roots: honest nodes give the same roots and receipts, and their states hold what the contract alone would have written.

use super::{Broken, Evidence, Replay, ensure};

const PROPERTY: &str = "identical roots";

pub(super) fn check(evidence: &Evidence<'_>, replay: &Replay) -> Result<(), Broken> {
    let first = evidence.chains.first();
    for member in evidence.scenario.honest() {
        for block in
            evidence.chains.of.get(&member).into_iter().flat_map(|lives| lives.values()).flat_map(|b| b.values())
        {
            let height = block.header().height;
            let same = first.get(&height).is_some_and(|first| {
                let (ours, theirs) = (block.header(), first.header());
                (ours.log_root, ours.state_root, ours.ops_root) == (theirs.log_root, theirs.state_root, theirs.ops_root)
                    && block.receipts == first.receipts
            });
            ensure(same, PROPERTY, || format!("member {member} at height {height}"))?;
        }
        let values = evidence.values.get(&member).map(Vec::as_slice).unwrap_or_default();
        ensure(values.len() == replay.keys.len(), PROPERTY, || format!("the state of member {member} was not read"))?;
        for (key, value) in values {
            ensure(replay.state.get(key) == value.as_ref(), PROPERTY, || {
                format!("member {member} has another value of {key} than the contract gives")
            })?;
        }
    }
    Ok(())
}
