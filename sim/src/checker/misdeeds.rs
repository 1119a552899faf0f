//! Misdeeds: nobody votes to finalise a block that breaks the rules, and none becomes final.

use super::{Broken, Evidence, ensure};

const PROPERTY: &str = "misdeeds";

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), Broken> {
    for (height, block) in evidence.chains.first() {
        ensure(!evidence.wrong.blocks.contains(&block.digest), PROPERTY, || {
            format!("the block at height {height} breaks the rules and is final")
        })?;
    }
    ensure(evidence.wrong.votes == 0, PROPERTY, || {
        format!("{} votes to finalise blocks that break the rules", evidence.wrong.votes)
    })
}
