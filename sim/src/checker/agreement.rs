//! Agreement: at a height there is one final block, for every honest node in each of its lives, and no height is left out.

use super::{Broken, Evidence, ensure};

const PROPERTY: &str = "agreement";

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), Broken> {
    let first = evidence.chains.first();
    for member in evidence.scenario.honest() {
        for (life, blocks) in evidence.chains.of.get(&member).into_iter().flatten() {
            for (expected, (height, block)) in (1..).zip(blocks) {
                let at = || format!("member {member} in life {life} at height {height}");
                ensure(*height == expected, PROPERTY, || format!("{} left out height {expected}", at()))?;
                ensure(block.header().height == *height, PROPERTY, || format!("{} names another height", at()))?;
                let agreed = first.get(height).is_some_and(|agreed| agreed.digest == block.digest);
                ensure(agreed, PROPERTY, || format!("{} has another block", at()))?;
            }
        }
    }
    Ok(())
}
