//! The report in plain sentences. Whoever reads only these must not come to believe more than was checked.

use super::{DeviceReport, LetGoReport, Link, LogReport, MonthReport, PartReport, Report, words::AUDIT_EVENT};

/// The kind of entries that commit to several accesses.
const ACCESSES: &str = "accesses";

/// What is proven.
pub(super) fn proven(report: &Report) -> Vec<String> {
    let Report { height, time, signers, validators, consortium, .. } = report;
    let mut said = vec![format!(
        "Block {height} of «{consortium}» is final: {signers} of its {validators} validators, a quorum, signed it. Its time is {time}."
    )];
    for month in &report.months {
        match (month.last_height, month.part) {
            (Some(last), None) => said.push(format!(
                "{}: {} filed under this pseudonym up to height {height}, the last at height {last} and none after it; these are all, in this order: none is missing, none was added.",
                month.month,
                entries(month.entries)
            )),
            (Some(last), Some(PartReport { from, to, of })) => said.push(format!(
                "{}: {} of the {of} entries under this pseudonym are filed at heights {from} to {to}; these are all in that range, in this order: none is missing, none was added. The last of the log is at height {last}, and none after it up to height {height}.",
                month.month,
                month.entries
            )),
            (None, _) => {}
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
            "A quorum of the validators accepted each entry of the ledger under its rules as said by the organisation that it names, in the block of the height and time given."
                .to_owned(),
        );
    }
    gathered(report, &mut said);
    if report.opened > 0 {
        said.push(format!(
            "{} opened: the bytes in the file are exactly those committed to on the ledger when they were written.",
            versions(report.opened)
        ));
    }
    shown(report, &mut said);
    let policies = &report.policies;
    said.push(format!(
        "At height {height} the access policy `{}` and the derivation policy `{}` are in force, since heights {} and {}.",
        policies.access, policies.derivation, policies.access_height, policies.derivation_height
    ));
    said
}

/// What is proven of the accesses that entries commit to together.
fn gathered(report: &Report, said: &mut Vec<String>) {
    let Report { gathered, gathered_shown: shown, .. } = report;
    let by = report.by_kind.get(ACCESSES).copied().unwrap_or_default();
    if by > 0 {
        said.push(format!(
            "{} to several accesses together, {gathered} in all by the word of those who filed them; {} in the file, exactly as committed to, each at its place.",
            entries_commit(by),
            these(*shown)
        ));
    }
}

/// What is proven of the state at the header, and of the log over all entries.
fn shown(report: &Report, said: &mut Vec<String>) {
    let height = report.height;
    let has = report.current.iter().filter(|current| current.version.is_some()).count() as u64;
    if has > 0 {
        said.push(format!(
            "{} shown with the version that is current at height {height}: the ledger has no later one.",
            records(has)
        ));
    }
    let none = report.current.len() as u64 - has;
    if none > 0 {
        said.push(format!("{} shown to have no version on the ledger up to height {height}.", records(none)));
    }
    for device in &report.devices {
        let DeviceReport { binding, key, revoked, good, .. } = device;
        let state = match revoked {
            None => format!("which is not revoked at height {height}"),
            Some(time) => format!("before it was revoked at {time}"),
        };
        if *good > 0 {
            said.push(format!(
                "Binding {binding}: {} made by the device key `{}`, {state}.",
                batches_were(*good),
                key.0
            ));
        }
    }
    for LetGoReport { binding, last, frames, roll_ups, policy, height, .. } in &report.let_go {
        said.push(format!(
            "Binding {binding}: its frames up to counter {last} were let go at height {height} by the derivation policy `{policy}`, as old as it asks, under no hold and no open investigation filed under the pseudonyms that the entry gives; what is left of {} stood there in {}.",
            frames_only(*frames),
            records_only(*roll_ups)
        ));
    }
    let LogReport { size, root, placed } = &report.ledger_log;
    if *placed > 0 {
        said.push(format!(
            "{} given with the place in the ledger's log of all {size} entries, whose root at height {height} is `{root}`.",
            entries(*placed)
        ));
    }
    let signed = names(report, true);
    if !signed.is_empty() {
        said.push(format!(
            "That log was signed, for receipts and as a checkpoint, by {}: {} of the {} members that the file shows.",
            signed.join(", "),
            signed.len(),
            report.witnesses.len()
        ));
    }
}

/// The members that signed the log over all entries, or those that did not.
fn names(report: &Report, signed: bool) -> Vec<&str> {
    let of = report.witnesses.iter().filter(|witness| witness.cosigned.is_some() == signed);
    of.map(|witness| witness.organisation.as_str()).collect()
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
    if report.by_kind.contains_key(ACCESSES) {
        said.push(
            "The validators saw one entry for accesses that it commits to together: what each of them says was not checked by the ledger's rules."
                .to_owned(),
        );
    }
    let hidden = report.gathered.saturating_sub(report.gathered_shown);
    if hidden > 0 {
        said.push(format!(
            "{} not in this file: what they were, and that there were so many, is not shown.",
            gathered_are(hidden)
        ));
    }
    let (audits, records): (Vec<_>, Vec<_>) =
        report.records.iter().filter(|record| !record.contiguous).partition(|record| record.kind == AUDIT_EVENT);
    match audits.len() {
        0 => {}
        1 => said.push("1 audit event is named by more than one access: to which it belongs is not shown.".to_owned()),
        more => said.push(format!(
            "{more} audit events are named by more than one access each: to which they belong is not shown."
        )),
    }
    let broken = records.len();
    if broken > 0 {
        said.push(format!("{broken} records have versions missing from their history in this file."));
    }
    unshown(report, &mut said);
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

/// What the file could show of the state at the header and does not.
fn unshown(report: &Report, said: &mut Vec<String>) {
    if report.current_unshown > 0 {
        said.push(format!(
            "Whether the last version given is the current one is not shown of {}.",
            records_only(report.current_unshown)
        ));
    }
    if report.current.iter().any(|current| current.version.is_none()) {
        said.push(
            "That the tag of a record without any version is that of a certain record takes the patient key."
                .to_owned(),
        );
    }
    for DeviceReport { binding, revoked, late, .. } in &report.devices {
        if let Some(time) = revoked.filter(|_| *late > 0) {
            said.push(format!(
                "Binding {binding}: {} made when the device key was revoked already, at {time}; they are not to be trusted.",
                batches_were(*late)
            ));
        }
    }
    if !report.devices.is_empty() {
        said.push(
            "When a batch was made is what its organisation says; that its frames were signed before is not proven."
                .to_owned(),
        );
    }
    if report.devices_unshown > 0 {
        said.push(format!("Whether the device key was revoked is not shown for {}.", batches(report.devices_unshown)));
    }
    for LetGoReport { binding, last, gone_before, .. } in report.let_go.iter().filter(|one| one.gone_before > 0) {
        said.push(format!(
            "Binding {binding}: of the frames up to counter {last}, {gone_before} that batches name were gone before they could be let go, and are in no roll-up."
        ));
    }
    if !report.let_go.is_empty() {
        said.extend(
            [
                "That a roll-up follows from the frames that were let go is the word of the organisation that wrote it.",
                "That nothing held these frames under the patient's pseudonyms of other months is not proven: whoever wrote the entry had to look for that.",
            ]
            .map(str::to_owned),
        );
    }
    let unplaced = report.entry_count.saturating_sub(report.ledger_log.placed);
    if unplaced > 0 {
        said.push(format!("The place in the ledger's log of all entries is not shown of {}.", entries(unplaced)));
    }
    if report.witnesses.is_empty() {
        said.push("The file has no signature of any member on the ledger's log.".to_owned());
    }
    let silent = names(report, false);
    if !silent.is_empty() {
        said.push(format!("The file has no signature on the ledger's log by {}.", silent.join(", ")));
    }
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
    if let Some(PartReport { of, .. }) = month.part {
        let others = of.saturating_sub(month.entries);
        if others > 0 {
            said.push(format!("{name}: {} not in this file.", entries_of_log(others)));
        }
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

fn entries_commit(count: u64) -> String {
    if count == 1 { "1 entry commits".to_owned() } else { format!("{count} entries commit") }
}

fn these(count: u64) -> String {
    if count == 1 { "1 of these is".to_owned() } else { format!("{count} of these are") }
}

fn gathered_are(count: u64) -> String {
    if count == 1 { "1 gathered access is".to_owned() } else { format!("{count} gathered accesses are") }
}

fn entries_were(count: u64) -> String {
    if count == 1 { "1 entry was".to_owned() } else { format!("{count} entries were") }
}

fn versions(count: u64) -> String {
    if count == 1 { "1 version".to_owned() } else { format!("{count} versions") }
}

fn entries_of_log(count: u64) -> String {
    if count == 1 { "1 entry of its log is".to_owned() } else { format!("{count} entries of its log are") }
}

fn records(count: u64) -> String {
    if count == 1 { "1 record is".to_owned() } else { format!("{count} records are") }
}

fn frames_only(count: u64) -> String {
    if count == 1 { "1 frame".to_owned() } else { format!("{count} frames") }
}

fn records_only(count: u64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

fn batches(count: u64) -> String {
    if count == 1 { "1 batch of frames".to_owned() } else { format!("{count} batches of frames") }
}

fn batches_were(count: u64) -> String {
    if count == 1 { "1 batch of frames was".to_owned() } else { format!("{count} batches of frames were") }
}
