//! Nothing acknowledged is lost: every entry of an honest member's journal is final exactly once, in the order of its lane, and every access that it
//! commits to is opened under it.

use super::{Broken, Evidence, ensure};
use crate::submitter::LANE;
use std::collections::BTreeMap;

const PROPERTY: &str = "nothing acknowledged is lost";

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), Broken> {
    let chain = evidence.chains.first();
    for member in evidence.scenario.honest() {
        let journal = evidence.submitters[member].journal();
        let receipts = chain.values().flat_map(|block| &block.receipts).filter(|receipt| receipt.org == journal.org);
        let mut last = 0;
        let mut found = BTreeMap::new();
        for receipt in receipts {
            let at = || format!("`{}` lane {} entry {}", receipt.org, receipt.lane, receipt.seq);
            ensure(receipt.lane == LANE && receipt.seq == last + 1, PROPERTY, || format!("{} after {last}", at()))?;
            last = receipt.seq;
            found.insert(receipt.seq, (receipt.digest, receipt.verdict));
        }
        let written = journal.written.iter().flat_map(|written| {
            let submission = &written.signed.submission;
            (submission.first_seq..).zip(submission.entries.iter().zip(written.sure.iter().zip(&written.opened)))
        });
        for (seq, (entry, (sure, opened))) in written {
            let at = || format!("`{}` entry {seq}", journal.org);
            let (digest, verdict) = found
                .remove(&seq)
                .ok_or_else(|| Broken { property: PROPERTY, what: format!("{} is missing", at()) })?;
            ensure(digest == entry.digest(), PROPERTY, || format!("{} became another one", at()))?;
            ensure(!sure || verdict == 0, PROPERTY, || format!("{} was refused with {verdict}", at()))?;
            for gathered in opened {
                let shown = gathered.open(entry).map(|_| ());
                shown.map_err(|why| Broken {
                    property: PROPERTY,
                    what: format!("{}: the access at its place {}: {why}", at(), gathered.place),
                })?;
            }
        }
        ensure(found.is_empty(), PROPERTY, || format!("`{}` never wrote {:?}", journal.org, found.keys()))?;
    }
    Ok(())
}
