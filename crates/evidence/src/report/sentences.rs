//! The report in plain sentences. Whoever reads only these must not come to believe more than was checked.

use super::{Link, MonthReport, Report};

/// What is proven.
pub(super) fn proven(report: &Report) -> Vec<String> {
    let Report { height, time, signers, validators, consortium, .. } = report;
    let mut said = vec![format!(
        "Block {height} of «{consortium}» is final: {signers} of its {validators} validators, a quorum, signed it. Its time is {time}."
    )];
    for month in &report.months {
        if let Some(last) = month.last_height {
            said.push(format!(
                "{}: {} filed under this pseudonym up to height {height}, the last at height {last}; these are all, in this order: none is missing, none was added.",
                month.month,
                entries(month.entries)
            ));
        }
        if let Link::Continues { month: before, entries: count } = month.link {
            said.push(format!(
                "{} continues {before}: its first entry commits to that log with the {} that it had then.",
                month.month,
                entries(count)
            ));
        }
    }
    if report.entry_count > 0 {
        said.push(
            "A quorum of the validators accepted each entry under the ledger's rules as said by the organisation that it names, in the block of the height and time given."
                .to_owned(),
        );
    }
    if report.opened > 0 {
        said.push(format!(
            "{} opened: the bytes in the file are exactly those committed to on the ledger when they were written.",
            versions(report.opened)
        ));
    }
    let policies = &report.policies;
    said.push(format!(
        "At height {height} the access policy `{}` and the derivation policy `{}` are in force, since heights {} and {}.",
        policies.access, policies.derivation, policies.access_height, policies.derivation_height
    ));
    said
}

/// What is not.
pub(super) fn not_proven(report: &Report) -> Vec<String> {
    let mut said = Vec::new();
    scope(report, &mut said);
    for month in &report.months {
        doubts(report, month, &mut said);
    }
    if report.unopened > 0 {
        said.push(format!(
            "The content of {} is not opened: only that they were written, by whom and when.",
            versions(report.unopened)
        ));
    }
    let broken = report.records.iter().filter(|record| !record.contiguous).count();
    if broken > 0 {
        said.push(format!("{broken} records have versions missing from their history in this file."));
    }
    said.extend(
        [
            "Misfiling under another patient is not excluded: complete means all that was filed under these pseudonyms.",
            "That these pseudonyms belong to a certain person is not proven: that takes the patient key, or the word of who opened the records.",
            "What never passed a gateway of a member is not on the ledger, and what the ledger refused is not in a patient's log.",
            "The organisations' own signatures on their entries are not in this file: that they signed rests on the quorum that checked them.",
            "An entry's own time is what its organisation says; only the block times are agreed.",
            "That the records are true is not proven, only that they are what was written.",
            "A second history signed by a quorum of the same validators would not be noticed from this file alone.",
        ]
        .map(str::to_owned),
    );
    said
}

/// Which months the file says nothing about.
fn scope(report: &Report, said: &mut Vec<String>) {
    let (Some(first), Some(last)) = (report.months.first(), report.months.last()) else {
        said.push("The file gives no month of a patient: nothing is said about any log.".to_owned());
        return;
    };
    let first = report.months.iter().find(|month| month.last_height.is_some()).unwrap_or(first);
    match first.link {
        Link::Earlier { entries: 0, .. } => said.push(format!(
            "Before {}: the first entry says that nothing was filed about this patient before; only its author vouches for that.",
            first.month
        )),
        Link::Earlier { entries: count, .. } => said.push(format!(
            "Before {}: an earlier month is named, with {}, but it is not in the file.",
            first.month,
            entries(count)
        )),
        Link::Continues { .. } | Link::Unseen { .. } | Link::Unproven => {
            said.push(format!("Before {}: the file says nothing about earlier months.", first.month));
        }
    }
    if last.month < report.time.month() {
        said.push(format!("After {}: the file says nothing about later months.", last.month));
    }
    said.push(format!("After height {}: whatever was filed later is not covered.", report.height));
}

/// What is doubtful about one month.
fn doubts(report: &Report, month: &MonthReport, said: &mut Vec<String>) {
    let name = month.month;
    if month.last_height.is_none() {
        said.push(format!(
            "{name}: there is no log under the pseudonym that the file names, but nothing proves that this pseudonym is the patient's; evidence never rests on such a proof of absence alone."
        ));
    } else if month.link == Link::Unproven && !is_first(report, month) {
        said.push(format!("{name}: that this is the same patient as in the months before is not proven."));
    }
    if let Link::Unseen { month: before } = month.link {
        said.push(format!(
            "{name}: its first entry names the log of {before} with 0 entries, so that it continues none of those shown there: that this is the same patient as in the months before is not proven."
        ));
    }
    if let Link::Continues { month: before, .. } = month.link
        && before != name.previous()
    {
        said.push(format!("Between {before} and {name}: nothing but the first entry of {name} says that the months between have no entries."));
    }
    if month.misdated > 0 {
        said.push(format!("{name}: {} by their own time made in another month.", entries_were(month.misdated)));
    }
}

/// Whether no month before has a log that this one could continue.
fn is_first(report: &Report, month: &MonthReport) -> bool {
    report.months.iter().find(|earlier| earlier.last_height.is_some()) == Some(month)
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

fn entries_were(count: u64) -> String {
    if count == 1 { "1 entry was".to_owned() } else { format!("{count} entries were") }
}

fn versions(count: u64) -> String {
    if count == 1 { "1 version".to_owned() } else { format!("{count} versions") }
}
