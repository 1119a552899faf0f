//! Logs that a colluding quorum could sign: proven and certified as they are, with faults before the tree is built or after.

use crate::{
    GatheredAccess, Log, LogPart, LoggedEntry, MonthLog, Opened, OpenedLink, Parts, Policies, StateProof, assemble,
    bodies::{self, integer, one},
    mutate::{mutate_accesses, unsorted},
    part, resource,
    world::{Proven, World, accesses},
};
use contract::{
    AccessAction, Body, Entry, Gathered, Header, LastMonth, MonthLink, MonthOpening, PolicyKind,
    merkle::{self, Frontier},
    state::{LogHead, log_key, log_leaf, policy_key},
    to_cbor,
};
use rand::{RngExt as _, rngs::StdRng};
use record::{Digest, Id16, Month, Pseudonym, Purpose, RecordTag, RecordType, TimeMs, commit, sha256};

const ENTRY_DOMAIN: &[u8] = b"vitaltrace/entry/1\0";

/// Months of a made-up patient before they are proven.
struct Case {
    months: Vec<Draft>,
    opened: Vec<Opened>,
    /// Accesses that one entry commits to together, by its digest.
    gathered: Vec<(Digest, Gathered)>,
}

struct Draft {
    month: Month,
    pseudonym: Pseudonym,
    /// None where there is no log.
    log: Option<DraftLog>,
}

struct DraftLog {
    entries: Vec<LoggedEntry>,
    links: Vec<OpenedLink>,
    leaves: Vec<Digest>,
    /// The value of the state.
    head: Vec<u8>,
}

/// Bundles of random logs, all proven under one header of `world`.
pub(crate) fn proven(world: &World, count: usize, rng: &mut StdRng) -> Vec<(&'static str, Vec<u8>)> {
    let mut sealed = world.sealed();
    let at = Header::from_bytes(&world.prove_months(&[]).finality.header).unwrap();
    let cases: Vec<Case> = (0..count).map(|_| case(&at, rng)).collect();
    let drafts = || cases.iter().flat_map(|case| &case.months);
    let heads = drafts().filter_map(|draft| Some((log_key(&draft.pseudonym), Some(draft.log.as_ref()?.head.clone()))));
    sealed.writes.push(heads.collect());
    let mut keys = vec![policy_key(PolicyKind::Access), policy_key(PolicyKind::Derivation)];
    keys.extend(drafts().map(|draft| log_key(&draft.pseudonym)));
    let (finality, proofs) = sealed.prove_keys(&keys);
    let mut proofs = proofs.into_iter();
    let policies = Policies { access: value(proofs.next()), derivation: value(proofs.next()) };
    cases
        .into_iter()
        .map(|case| {
            let months = case.months.into_iter().map(|draft| {
                let log = match (draft.log, proofs.next()) {
                    (Some(log), proof) if rng.random_bool(0.2) => Log::Part(partial(value(proof), &log.entries, rng)),
                    (Some(log), proof) => Log::Present { head: value(proof), entries: log.entries, links: log.links },
                    (None, Some(Proven::Absent(proof))) => Log::Absent { proof },
                    (None, _) => panic!("nothing was written there"),
                };
                MonthLog { month: draft.month, pseudonym: draft.pseudonym, log }
            });
            let months: Vec<MonthLog> = months.collect();
            let accesses = accesses(&months, &case.gathered);
            let mut parts =
                Parts { months, accesses, opened: case.opened, ..Parts::of_nobody(finality.clone(), policies.clone()) };
            if parts.opened.len().max(parts.accesses.len()) > 1 && rng.random_bool(0.1) {
                let (opened, accesses) = disordered(&parts, rng);
                return ("disordered", unsorted(&parts, &opened, &accesses));
            }
            let kind = if rng.random_bool(0.35) { spoil(&mut parts, rng) } else { "log" };
            (kind, assemble(parts).to_bytes())
        })
        .collect()
}

/// A part of a log, now and then with something wrong about its edges.
fn partial(head: StateProof, entries: &[LoggedEntry], rng: &mut StdRng) -> LogPart {
    let from = rng.random_range(0..8);
    let to = from + rng.random_range(0..6);
    let Some(mut part) = part(head, entries, (from, to)) else { panic!("a log has entries") };
    match rng.random_range(0..16) {
        0 | 1 if part.left.is_some() => part.left.iter_mut().for_each(|left| left.height = integer(rng)),
        1 => part.right.iter_mut().for_each(|right| right.height = integer(rng)),
        2 => part.left = None,
        3 => part.right = None,
        4 => part.left = part.right,
        5 => part.right = part.left,
        6 => part.before.push(Digest(rng.random())),
        7 => part.before = Frontier::default(),
        8 => part.rest.push(Digest(rng.random())),
        9 => drop(part.rest.pop()),
        10 if !part.entries.is_empty() => drop(part.entries.remove(rng.random_range(0..part.entries.len()))),
        _ => {}
    }
    part
}

fn value(proof: Option<Proven>) -> StateProof {
    match proof {
        Some(Proven::Value(proof)) => proof,
        _ => panic!("it was written"),
    }
}

fn case(at: &Header, rng: &mut StdRng) -> Case {
    let mut case = Case { months: Vec::new(), opened: Vec::new(), gathered: Vec::new() };
    let mut month = TimeMs(at.time.0).month();
    for _ in 0..rng.random_range(1..4) {
        let pseudonym = Pseudonym(Digest(rng.random()));
        let log = rng.random_bool(0.85).then(|| log(at, month, pseudonym, &mut case, rng));
        case.months.push(Draft { month, pseudonym, log });
        month = Month(month.0 + rng.random_range(1..3));
    }
    case.opened.retain(|_| rng.random_bool(0.8));
    case
}

fn log(at: &Header, month: Month, pseudonym: Pseudonym, case: &mut Case, rng: &mut StdRng) -> DraftLog {
    let mut entries = Vec::new();
    let mut links = Vec::new();
    let mut leaves: Vec<Digest> = Vec::new();
    let mut frontier = Frontier::default();
    // Block times are tied to heights; now and then one is not.
    let block_time = |height: u64| TimeMs(at.time.0 - (at.height - height) * 1000);
    let mut height = rng.random_range(1..4);
    for index in 0..rng.random_range(1..7) {
        let id = Id16(rng.random());
        let body = if rng.random_bool(0.4) { opened_body(&id, &mut case.opened, rng) } else { bodies::any(rng) };
        let mut entry = Entry {
            id,
            org: one(&["ambulance", "insurance", "mercy", "regulator"], rng).parse().unwrap(),
            time: if rng.random_bool(0.9) { within(month, rng) } else { TimeMs(integer(rng)) },
            purpose: one(Purpose::ALL, rng),
            policy: sha256(&[b"policy", &[rng.random_range(0..3u8)]]),
            actor: Digest(rng.random()),
            patient: Some(pseudonym),
            month: None,
            body,
        };
        if index == 0 || rng.random_bool(0.1) {
            let opening = opening(&case.months, rng);
            entry.month = Some(opening.link());
            if rng.random_bool(0.9) {
                links.push(OpenedLink { entry: index, opening });
            }
        }
        if rng.random_bool(0.03) {
            entry.patient = None;
        }
        if rng.random_bool(0.02) {
            entry.org = "stranger".parse().unwrap();
        }
        let several = if rng.random_bool(0.25) { gathered(&mut entry, &mut case.opened, rng) } else { Vec::new() };
        let mut bytes = entry.to_bytes();
        if rng.random_bool(0.08) {
            bytes = bent(&bytes, rng);
        }
        let digest = sha256(&[ENTRY_DOMAIN, &bytes]);
        case.gathered.extend(several.into_iter().map(|opening| (digest, opening)));
        let mut time = block_time(height);
        if rng.random_bool(0.02) {
            (height, time) =
                (one(&[0, height, at.height + 1], rng), TimeMs(one(&[0, time.0, time.0 + 1, at.time.0 + 1000], rng)));
        }
        let leaf = log_leaf(height, time, &digest);
        frontier.push(leaf);
        leaves.push(leaf);
        entries.push(LoggedEntry { height, time, entry: bytes });
        height = (height + rng.random_range(0..3)).min(at.height);
    }
    let last = entries.last().map_or(0, |last| last.height);
    let mut head = to_cbor(&LogHead { frontier, height: last });
    if rng.random_bool(0.05) {
        head = bent(&head, rng);
    }
    DraftLog { entries, links, leaves, head }
}

/// A time in the month.
fn within(month: Month, rng: &mut StdRng) -> TimeMs {
    let day = rng.random_range(1..=28);
    crate::world::at(&format!("{month}-{day:02}T{:02}:00:00Z", rng.random_range(0..24)))
}

/// What the first entry of a month says about the months before; mostly the truth.
fn opening(before: &[Draft], rng: &mut StdRng) -> MonthOpening {
    let logs: Vec<(&Draft, &DraftLog)> = before.iter().filter_map(|draft| Some((draft, draft.log.as_ref()?))).collect();
    let mut last =
        LastMonth { pseudonym: Pseudonym(Digest(rng.random())), count: integer(rng), root: merkle::root([]) };
    if !logs.is_empty() && rng.random_bool(0.9) {
        let (draft, log) = one(&logs, rng);
        let seen = rng.random_range(0..=log.leaves.len());
        last = LastMonth {
            pseudonym: draft.pseudonym,
            count: seen as u64,
            root: merkle::root(log.leaves[..seen].iter().copied()),
        };
        match rng.random_range(0..20) {
            0 => last.count += 1,
            1 => last.count = integer(rng),
            2 => last.root = sha256(&[b"other"]),
            _ => {}
        }
    }
    MonthOpening { previous: last.pseudonym, count: last.count, root: last.root, salt: Digest(rng.random()) }
}

/// An entry that commits to bytes, and the bytes.
fn opened_body(id: &Id16, opened: &mut Vec<Opened>, rng: &mut StdRng) -> Body {
    let name = format!("{}/o{}", one(&["Observation", "Patient"], rng), rng.random_range(0..3));
    let bytes = resource::bytes(&name, rng);
    let salt = Digest(rng.random());
    let commitment = commit(&salt, &bytes);
    // A tag stands for a name, and now and then for another.
    let tag = RecordTag(sha256(&[b"tag", if rng.random_bool(0.85) { name.as_bytes() } else { b"other" }]));
    let access = rng.random_bool(0.2);
    let version = if access { 1 } else { rng.random_range(1..4) };
    opened.push(Opened { record: name, version, salt, bytes: bytes.clone() });
    if access {
        let set = sha256(&[id.as_ref()]);
        return Body::Access {
            action: AccessAction::Read,
            set,
            count: 1,
            denied: false,
            under: None,
            audit: tag.of_audit(&"mercy".parse().unwrap()),
            commitment,
        };
    }
    Body::Record {
        tag: tag.of_record(),
        kind: one(&RecordType::ALL, rng),
        version,
        previous: None,
        commitment,
        deleted: if bytes.is_empty() { rng.random_bool(0.8) } else { rng.random_bool(0.1) },
        codes: Vec::new(),
        attachments: Vec::new(),
    }
}

/// Makes an entry one that commits to several accesses, mostly such as may be gathered, and opens some of these, with their audit events.
fn gathered(outer: &mut Entry, opened: &mut Vec<Opened>, rng: &mut StdRng) -> Vec<Gathered> {
    const APART_MS: u64 = 100;
    let number = rng.random_range(1..6);
    let mut shown = Vec::new();
    let mut encoded = Vec::new();
    for place in 0..number {
        let id = Id16(rng.random());
        let name = format!("AuditEvent/{id}");
        let (bytes, salt) = (resource::bytes(&name, rng), Digest(rng.random()));
        let audit = RecordTag(sha256(&[b"tag", name.as_bytes()])).of_audit(&outer.org);
        let (set, count) = if rng.random() { (sha256(&[b"set"]), 1) } else { (merkle::root([]), 0) };
        let action = one(&[AccessAction::Read, AccessAction::Search, AccessAction::Export], rng);
        let commitment = commit(&salt, &bytes);
        let body = Body::Access { action, set, count, denied: false, under: None, audit, commitment };
        let time = TimeMs(outer.time.0.saturating_add(u64::from(place) * APART_MS));
        let mut access = Entry { id, time, month: None, body, ..outer.clone() };
        if rng.random_bool(0.05) {
            misplace(&mut access, rng);
        }
        let access = access.to_bytes();
        encoded.push(if rng.random_bool(0.02) { bent(&access, rng) } else { access });
        shown.push(rng.random_bool(0.7));
        if shown.last() == Some(&true) && rng.random_bool(0.5) {
            opened.push(Opened { record: name, version: 1, salt, bytes });
        }
    }
    let leaves: Vec<Digest> =
        encoded.iter().map(|bytes| merkle::leaf(sha256(&[ENTRY_DOMAIN, bytes]).as_ref())).collect();
    let ms = (number - 1) * APART_MS as u32;
    let ms = if rng.random_bool(0.05) { one(&[0, 99, 1_001, u32::MAX], rng) } else { ms };
    let count = if rng.random_bool(0.05) { one(&[0, number + 1, u32::MAX], rng) } else { number };
    outer.body = Body::Accesses { root: merkle::root(leaves.iter().copied()), count, ms };
    let paths = merkle::inclusion_paths(&leaves, &(0..u64::from(number)).collect::<Vec<_>>()).unwrap();
    let all = (0..).zip(encoded).zip(paths).map(|((place, access), path)| Gathered { place, access, path });
    all.zip(shown).filter(|(_, shown)| *shown).map(|(opening, _)| opening).collect()
}

/// Makes an access one that may not be gathered, mostly by one thing alone.
pub(crate) fn misplace(access: &mut Entry, rng: &mut StdRng) {
    let choice = rng.random_range(0..14);
    match choice {
        0 => access.actor = Digest(rng.random()),
        1 => access.patient = one(&[None, Some(Pseudonym(Digest([1; 32])))], rng),
        2 => access.purpose = one(Purpose::ALL, rng),
        3 => access.policy = sha256(&[b"policy", &[rng.random_range(0..3u8)]]),
        4 => access.time = TimeMs(access.time.0.saturating_add(one(&[1, 99, 100, 500, 5_000], rng))),
        5 => access.time = TimeMs(access.time.0.saturating_sub(one(&[1, 99, 100, 500, 5_000], rng))),
        6 => access.time = TimeMs(one(&[0, u64::MAX], rng)),
        7 => access.month = Some(MonthLink(crate::any_commitment(rng))),
        8 => access.body = bodies::any(rng),
        _ => {}
    }
    let Body::Access { action, count, denied, under, audit, .. } = &mut access.body else { return };
    match choice {
        9 => *action = AccessAction::Write,
        10 => *count = u32::from(*count == 0),
        11 => *denied = true,
        12 => *under = Some(Id16(rng.random())),
        13 if rng.random() => *audit = one(&[audit.of_record(), audit.of_audit(&"county".parse().unwrap())], rng),
        13 => {
            // Another organisation's, with a tag of its own.
            access.org = "county".parse().unwrap();
            *audit = audit.of_audit(&access.org);
        }
        _ => {}
    }
}

/// Opened records and gathered accesses in an order that may be the right one.
fn disordered(parts: &Parts, rng: &mut StdRng) -> (Vec<Opened>, Vec<GatheredAccess>) {
    let bundle = assemble(parts.clone());
    let (mut opened, mut accesses) = (bundle.opened().to_vec(), bundle.accesses().to_vec());
    for _ in 0..rng.random_range(0..2) {
        exchange(&mut opened, rng);
        exchange(&mut accesses, rng);
    }
    (opened, accesses)
}

fn exchange<T>(items: &mut [T], rng: &mut StdRng) {
    if items.len() > 1 && rng.random() {
        items.swap(rng.random_range(0..items.len()), rng.random_range(0..items.len()));
    }
}

/// Changes something that was proven already.
fn spoil(parts: &mut Parts, rng: &mut StdRng) -> &'static str {
    let month = rng.random_range(0..parts.months.len());
    match rng.random_range(0..8) {
        6 | 7 if !parts.accesses.is_empty() => {
            let donor = parts.accesses.clone();
            mutate_accesses(&mut parts.accesses, &donor, rng);
        }
        0 => parts.months[month].month = Month(one(&[0, parts.months[0].month.0, u32::MAX], rng)),
        1 => parts.months[month].pseudonym = parts.months[0].pseudonym,
        2 if !parts.opened.is_empty() => {
            let item = rng.random_range(0..parts.opened.len());
            let again = parts.opened[item].clone();
            match rng.random_range(0..5) {
                0 => parts.opened.push(again),
                1 => parts.opened[item].version = integer(rng),
                2 => parts.opened[item].record.push('x'),
                3 => parts.opened[item].salt = Digest(rng.random()),
                _ => parts.opened[item].bytes.push(b' '),
            }
        }
        _ => {
            if let Log::Present { head, entries, links } = &mut parts.months[month].log {
                spoil_log(head, entries, links, rng);
            }
        }
    }
    "spoiled"
}

fn spoil_log(head: &mut StateProof, entries: &mut Vec<LoggedEntry>, links: &mut Vec<OpenedLink>, rng: &mut StdRng) {
    let (i, j) = (rng.random_range(0..entries.len()), rng.random_range(0..entries.len()));
    match rng.random_range(0..10) {
        0 => entries.swap(i, j),
        1 => drop(entries.remove(i)),
        2 => entries.insert(i, entries[j].clone()),
        3 => entries[i].height = integer(rng),
        4 => entries[i].time = TimeMs(integer(rng)),
        5 => entries[i].entry = bent(&entries[i].entry, rng),
        6 => head.value = bent(&head.value, rng),
        7 => head.proof = bent(&head.proof, rng),
        _ if links.is_empty() => {}
        8 => {
            let again = links[0].clone();
            links.push(again);
        }
        _ => match rng.random_range(0..3) {
            0 => links[0].entry = one(&[1, 2, u64::MAX], rng),
            1 => links[0].opening.count = integer(rng),
            _ => links[0].opening.salt = Digest(rng.random()),
        },
    }
}

/// One change that a reader of encodings should notice: bits, lengths, longer forms, missing and doubled pieces.
pub(crate) fn bent(bytes: &[u8], rng: &mut StdRng) -> Vec<u8> {
    const ITEMS: [u8; 20] = [
        0x00, 0x01, 0x17, 0x18, 0x19, 0x1b, 0x20, 0x40, 0x50, 0x58, 0x60, 0x78, 0x80, 0x81, 0x82, 0x9f, 0xf4, 0xf5,
        0xf6, 0xff,
    ];
    let mut bytes = bytes.to_vec();
    if bytes.is_empty() {
        return vec![0];
    }
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..11) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = bytes[at].wrapping_add(one(&[1, 255], rng)),
        2 => bytes[at] = one(&ITEMS, rng),
        3 => bytes.insert(at, one(&ITEMS, rng)),
        4 => drop(bytes.remove(at)),
        // The same small integer or length in a longer form.
        5 if bytes[at] & 0x1f < 24 => {
            let argument = bytes[at] & 0x1f;
            bytes[at] = (bytes[at] & 0xe0) | 24;
            bytes.insert(at + 1, argument);
        }
        // The same varint in a longer form.
        6 if bytes[at] < 0x80 => {
            bytes[at] |= 0x80;
            bytes.insert(at + 1, 0);
        }
        // An absent field at the end of an array, which is left out in the one encoding.
        7 if bytes[at] & 0xe0 == 0x80 => {
            bytes[at] += 1;
            bytes.push(0xf6);
        }
        8 => bytes.truncate(at),
        9 => {
            let piece = bytes[at..(at + rng.random_range(1..40)).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => drop(bytes.drain(at..(at + rng.random_range(1..40)).min(bytes.len()))),
    }
    bytes
}
