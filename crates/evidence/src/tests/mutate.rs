//! Mutators of evidence: what forgers and faulty disks could do to a file, with no key in their hands.

use crate::{EVIDENCE_FORMAT, GatheredAccess, Log, Opened, Parts, assemble};
use contract::to_cbor;
use rand::{RngExt as _, rngs::StdRng};

/// Changes a file somewhere; some changes bring in pieces of another honest file.
pub(crate) fn mutate_bytes(good: &[u8], donor: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..7) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = bytes[at].wrapping_add(rng.random_range(1..=255)),
        2 => bytes.truncate(at),
        3 => drop(bytes.remove(at)),
        4 => bytes.insert(at, rng.random()),
        5 => {
            // A piece of another honest file in the place of a piece of the same length.
            let length = rng.random_range(1..=128.min(bytes.len() - at));
            let from =
                if rng.random() { at.min(donor.len() - length) } else { rng.random_range(0..=donor.len() - length) };
            bytes[at..at + length].copy_from_slice(&donor[from..from + length]);
            if bytes == good {
                bytes[at] ^= 1;
            }
        }
        _ => {
            let length = rng.random_range(1..=64.min(bytes.len() - at));
            let piece = bytes[at..at + length].to_vec();
            let to = rng.random_range(0..bytes.len() - length);
            bytes[to..to + length].copy_from_slice(&piece);
            if bytes == good {
                bytes[to] ^= 1;
            }
        }
    }
    bytes
}

/// The file with opened records and gathered accesses in the order given, which `assemble` would sort.
pub(crate) fn unsorted(parts: &Parts, opened: &[Opened], accesses: &[GatheredAccess]) -> Vec<u8> {
    let bundle = assemble(parts.clone());
    let shown = (bundle.current(), bundle.devices(), bundle.places(), bundle.witnesses());
    to_cbor(&(
        EVIDENCE_FORMAT,
        bundle.finality(),
        bundle.policies(),
        bundle.months(),
        opened,
        shown.0,
        shown.1,
        shown.2,
        shown.3,
        accesses,
    ))
}

/// Changes what a bundle shows beside its logs; some of it is left out, which is no forgery.
pub(crate) fn mutate_shown(good: &Parts, donor: &Parts, rng: &mut StdRng) -> Parts {
    let mut parts = good.clone();
    let witness = rng.random_range(0..parts.witnesses.len());
    let other = rng.random_range(0..donor.witnesses.len());
    let place = rng.random_range(0..parts.places.len());
    if !parts.accesses.is_empty() && rng.random_bool(0.3) {
        mutate_accesses(&mut parts.accesses, &donor.accesses, rng);
        return parts;
    }
    match rng.random_range(0..13) {
        0 => parts.witnesses[witness].word = donor.witnesses[other].word,
        1 => parts.witnesses[witness].word = parts.witnesses[other].word,
        2 => parts.witnesses[witness].word.iter_mut().for_each(|word| word.time_s ^= 1 << rng.random_range(0..8)),
        3 => parts.witnesses[witness].member = donor.witnesses[other].member.clone(),
        4 => drop(parts.witnesses.remove(witness)),
        5 => parts.places[place].index ^= 1 << rng.random_range(0..4),
        6 => parts.places[place].path = donor.places[rng.random_range(0..donor.places.len())].path.clone(),
        7 => parts.places[place].entry ^= 1 << rng.random_range(0..3),
        8 => drop(parts.places.remove(place)),
        9 => parts.current[0].value = donor.current[rng.random_range(0..donor.current.len())].value.clone(),
        10 => parts.current.push(donor.current[rng.random_range(0..donor.current.len())].clone()),
        11 => parts.devices[0].key = donor.devices[0].key.clone(),
        _ => parts.devices[0].binding.0[rng.random_range(0..16)] ^= 1 << rng.random_range(0..8),
    }
    parts
}

/// Changes one of the accesses that entries commit to together.
pub(crate) fn mutate_accesses(accesses: &mut Vec<GatheredAccess>, donor: &[GatheredAccess], rng: &mut StdRng) {
    let at = rng.random_range(0..accesses.len());
    let other = donor[rng.random_range(0..donor.len())].clone();
    let given = &mut accesses[at];
    match rng.random_range(0..9) {
        0 => given.month = other.month,
        1 => given.entry ^= 1 << rng.random_range(0..3),
        2 => given.place ^= 1 << rng.random_range(0..3),
        3 => given.access = other.access,
        4 => given.path = other.path,
        5 => _ = given.path.pop(),
        6 => {
            let byte = rng.random_range(0..given.access.len());
            given.access[byte] ^= 1 << rng.random_range(0..8);
        }
        7 => accesses.push(other),
        _ => drop(accesses.remove(at)),
    }
}

/// Every change here forges something: what a prover may leave out freely is left alone.
pub(crate) fn mutate_parts(good: &Parts, donor: &Parts, rng: &mut StdRng) -> Parts {
    let mut parts = good.clone();
    let month = rng.random_range(0..parts.months.len());
    let pick = rng.random_range(0..donor.months.len());
    match rng.random_range(0..12) {
        0 => parts.finality = donor.finality.clone(),
        1 => parts.finality.certificate = donor.finality.certificate.clone(),
        2 => parts.months[month] = donor.months[pick].clone(),
        3 => parts.months[month].pseudonym = donor.months[pick].pseudonym,
        4 => parts.months[month].month = donor.months[pick].month,
        5 => {
            let item = rng.random_range(0..parts.opened.len());
            let other = rng.random_range(0..donor.opened.len());
            match rng.random_range(0..4) {
                0 => parts.opened[item].bytes = donor.opened[other].bytes.clone(),
                1 => parts.opened[item].salt = donor.opened[other].salt,
                2 => parts.opened[item].record = donor.opened[other].record.clone(),
                _ => parts.opened[item].version = rng.random_range(0..4),
            }
        }
        6 => parts.policies.access = donor.policies.access.clone(),
        choice => {
            let (Log::Present { head, entries, links }, Log::Present { head: head2, entries: entries2, .. }) =
                (&mut parts.months[month].log, &donor.months[pick].log)
            else {
                unreachable!("all three months have entries")
            };
            let (i, j) = (rng.random_range(0..entries.len()), rng.random_range(0..entries.len()));
            match choice {
                7 => entries.swap(i, j),
                8 => drop(entries.remove(i)),
                9 => entries[i] = entries2[rng.random_range(0..entries2.len())].clone(),
                10 if rng.random() => head.value = head2.value.clone(),
                10 => head.proof = head2.proof.clone(),
                _ => match rng.random_range(0..4) {
                    0 => entries[i].height = entries[i].height.wrapping_add(rng.random_range(0..3)),
                    1 => entries[i].time.0 ^= 1 << rng.random_range(0..20),
                    2 => links[0].opening.count ^= 1 << rng.random_range(0..4),
                    _ => links[0].entry ^= rng.random_range(0..3),
                },
            }
        }
    }
    parts
}
