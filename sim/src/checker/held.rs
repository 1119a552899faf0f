//! Held: a final block shows two custodians for all that a submission in it names, and the honest ones of them had it on disk by then.

use super::{Broken, Evidence, ensure};
use contract::Custodians;

const PROPERTY: &str = "what is final is held";

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), Broken> {
    let genesis = &evidence.consortium.genesis;
    // Nobody joins or leaves in these runs.
    let custodians = Custodians::founding(genesis);
    for (height, block) in evidence.chains.first() {
        let shown = custodians.check(&genesis.id(), &block.block, |_, _, _| false);
        shown.map_err(|why| Broken { property: PROPERTY, what: format!("height {height}: {why}") })?;
        let seen = evidence.chains.seen.get(&height).copied().unwrap_or(0);
        let naming = block.submissions().iter().filter(|signed| signed.has_attachments());
        for (signed, holdings) in naming.zip(&block.block.holdings) {
            for holding in holdings {
                let member = genesis.members.iter().position(|member| member.org == holding.custodian);
                let Some(member) = member.filter(|member| evidence.scenario.is_honest(*member)) else { continue };
                for attachment in signed.attachments() {
                    let since = evidence.vaults[member].since(&attachment.digest);
                    ensure(since.is_some_and(|since| since <= seen), PROPERTY, || {
                        format!(
                            "height {height}, seen at {seen}: `{}` signed for {} and has held it since {since:?}",
                            holding.custodian, attachment.digest
                        )
                    })?;
                }
            }
        }
    }
    Ok(())
}
