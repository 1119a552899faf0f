//! What changes between two sets: who gains and who loses which access, decided over every kind of request that they tell apart.
//!
//! A policy looks at a handful of attributes and compares each with a handful of words. Requests that differ in nothing that any policy
//! of either set looks at are one request, so the kinds of requests are finite and can be gone through. A policy that names a person, a
//! patient or an organisation looks at more than that: [`Difference::names_individuals`] says so, and a solver knows more.

mod sentence;
mod table;

#[cfg(test)]
mod tests;

use crate::{Consented, Policy};
use record::{OrgRole, Purpose, RecordType, Role};
use std::collections::BTreeMap;
use table::Table;

/// What requests differ in, in the order in which it is gone through.
pub(crate) const DIMENSIONS: usize = 13;
pub(crate) const ROLE: usize = 0;
pub(crate) const AT: usize = 1;
pub(crate) const ACTION: usize = 2;
pub(crate) const PURPOSE: usize = 3;
pub(crate) const KIND: usize = 4;
pub(crate) const LABEL: usize = 5;
pub(crate) const PATIENT: usize = 6;
pub(crate) const AUTHOR: usize = 7;
pub(crate) const GLASS: usize = 8;
pub(crate) const CONSENT: usize = 9;
pub(crate) const CLAIM: usize = 10;
pub(crate) const CASE: usize = 11;
pub(crate) const DEVICE: usize = 12;

pub(crate) const LABELS: [&str; 6] = ["U", "L", "M", "N", "R", "V"];
pub(crate) const CONSENTS: [Consented; 5] =
    [Consented::Permit, Consented::Named, Consented::Delegate, Consented::Deny, Consented::None];

/// The most kinds of records: a set of values is a mask of 64 bits.
pub const KINDS_MAX: usize = 64;

/// A kind of record: a FHIR type that policies name, or `None` for all others, with its record type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordKind {
    /// The FHIR type, where it matters which.
    pub fhir_type: Option<String>,
    /// One of the seven.
    pub record_type: RecordType,
}

/// Who gains and who loses, a sentence each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// What was denied and is allowed now.
    pub gains: Vec<String>,
    /// What was allowed and is denied now.
    pub losses: Vec<String>,
    /// Whether a policy of either set names a person, patient or organisation: what it says of them is not in the sentences.
    pub names_individuals: bool,
}

impl Difference {
    /// Whether nobody gains or loses anything.
    pub fn is_empty(&self) -> bool {
        self.gains.is_empty() && self.losses.is_empty()
    }
}

/// Why two sets cannot be compared this way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooWide {
    /// The sets name too many FHIR types.
    #[error("the sets tell more than {KINDS_MAX} kinds of records apart")]
    Kinds,
    /// One policy looks at so much at once that it cannot be gone through.
    #[error("a policy looks at too many attributes at once to be gone through")]
    Policy,
}

/// Compares two sets. `record_type` says which record types resources of a FHIR type can be of, as the derivation policy has it.
pub fn difference(
    old: &Policy,
    new: &Policy,
    record_types: impl Fn(&str) -> Vec<RecordType>,
) -> Result<Difference, TooWide> {
    let (space, cubes) = cubes(old, new, record_types)?;
    let words = |gain: bool| {
        let of: Vec<Cube> = cubes.iter().filter(|(is_gain, _)| *is_gain == gain).map(|(_, cube)| *cube).collect();
        merge(of).iter().map(|cube| sentence::of(cube, &space)).collect()
    };
    let texts = old.set.policies().chain(new.set.policies()).map(ToString::to_string);
    let names_individuals = texts.into_iter().any(|text| table::names_individuals(&text));
    Ok(Difference { gains: words(true), losses: words(false), names_individuals })
}

/// The requests that are decided otherwise, with whether they are allowed now.
fn cubes(
    old: &Policy,
    new: &Policy,
    record_types: impl Fn(&str) -> Vec<RecordType>,
) -> Result<(Space, Vec<(bool, Cube)>), TooWide> {
    let texts = |policy: &Policy| policy.set.policies().map(ToString::to_string).collect::<Vec<_>>();
    let (old_texts, new_texts) = (texts(old), texts(new));
    let kinds = kinds(old_texts.iter().chain(&new_texts), record_types)?;
    let space = Space::new(kinds);
    let mut tables = Vec::new();
    for (policy, text) in old.set.policies().zip(&old_texts) {
        let mut table = Table::of(old, policy, text, &space)?;
        table.in_new = new_texts.contains(text);
        table.in_old = true;
        tables.push(table);
    }
    for (policy, text) in new.set.policies().zip(&new_texts).filter(|(_, text)| !old_texts.contains(text)) {
        let mut table = Table::of(new, policy, text, &space)?;
        table.in_new = true;
        tables.push(table);
    }
    let cubes = Walk::new(&space, &tables).from(0, &[0; DIMENSIONS], Standing::default());
    Ok((space, cubes))
}

/// The kinds of records that the texts tell apart.
fn kinds<'a>(
    texts: impl Iterator<Item = &'a String>,
    record_types: impl Fn(&str) -> Vec<RecordType>,
) -> Result<Vec<RecordKind>, TooWide> {
    let named: std::collections::BTreeSet<&str> =
        texts.flat_map(|text| table::words_of(text, "FhirType::\"")).collect();
    let mut kinds: Vec<RecordKind> =
        RecordType::ALL.into_iter().map(|record_type| RecordKind { fhir_type: None, record_type }).collect();
    for name in named {
        let of = record_types(name).into_iter();
        kinds.extend(of.map(|record_type| RecordKind { fhir_type: Some(name.to_owned()), record_type }));
    }
    if kinds.len() > KINDS_MAX { Err(TooWide::Kinds) } else { Ok(kinds) }
}

/// Every value of every dimension.
pub(crate) struct Space {
    pub(crate) kinds: Vec<RecordKind>,
    /// A FHIR type that no policy names.
    pub(crate) unnamed: &'static str,
    pub(crate) sizes: [usize; DIMENSIONS],
}

impl Space {
    fn new(kinds: Vec<RecordKind>) -> Self {
        let unnamed = record::fhir::RESOURCE_TYPES
            .into_iter()
            .find(|name| kinds.iter().all(|kind| kind.fhir_type.as_deref() != Some(name)))
            .unwrap_or("Basic");
        let actions = crate::Action::ALL.len();
        let sizes = [
            Role::ALL.len(),
            OrgRole::ALL.len(),
            actions,
            Purpose::ALL.len(),
            kinds.len(),
            LABELS.len(),
            3,
            2,
            2,
            CONSENTS.len(),
            2,
            2,
            2,
        ];
        Self { kinds, unnamed, sizes }
    }

    /// All values of a dimension, as a mask.
    pub(crate) fn all(&self, dimension: usize) -> u64 {
        u64::MAX >> (64 - self.sizes[dimension])
    }
}

/// A set of requests: the values of each dimension, as masks.
pub(crate) type Cube = [u64; DIMENSIONS];

/// What is decided of the requests that are gone through.
#[derive(Clone, Copy, Default)]
struct Standing {
    old_permit: bool,
    new_permit: bool,
    old_forbid: bool,
    new_forbid: bool,
    /// Policies that stand in one set only and apply.
    changed: bool,
}

struct Walk<'a> {
    space: &'a Space,
    tables: &'a [Table],
    /// Tables that are decided once this dimension is.
    decided: Vec<Vec<usize>>,
    /// Whether a policy that stands in one set only is still undecided after this dimension.
    changes_after: Vec<bool>,
    /// The values of each dimension, those that no policy tells apart together: one of them, and all as a mask.
    classes: Vec<Vec<(usize, u64)>>,
}

impl<'a> Walk<'a> {
    fn new(space: &'a Space, tables: &'a [Table]) -> Self {
        let mut decided = vec![Vec::new(); DIMENSIONS];
        for (number, table) in tables.iter().enumerate() {
            decided[table.last].push(number);
        }
        let is_changed = |number: &usize| tables[*number].in_old != tables[*number].in_new;
        let changes_after = (0..DIMENSIONS).map(|d| decided[d + 1..].iter().flatten().any(is_changed)).collect();
        let classes = (0..DIMENSIONS)
            .map(|dimension| {
                let mut classes: BTreeMap<Vec<usize>, (usize, u64)> = BTreeMap::new();
                for value in 0..space.sizes[dimension] {
                    let mut told: Vec<usize> = tables.iter().map(|table| table.steps[dimension][value]).collect();
                    // Some values mean something to the walk itself.
                    told.push(own_class(dimension, value));
                    classes.entry(told).or_insert((value, 0)).1 |= 1 << value;
                }
                classes.into_values().collect()
            })
            .collect();
        Self { space, tables, decided, changes_after, classes }
    }

    /// The differences among all requests whose dimensions before `dimension` are those of `at`; masks of those before are empty.
    fn from(&self, dimension: usize, at: &[usize; DIMENSIONS], standing: Standing) -> Vec<(bool, Cube)> {
        if dimension == DIMENSIONS {
            let old = standing.old_permit && !standing.old_forbid;
            let new = standing.new_permit && !standing.new_forbid;
            return if old == new { Vec::new() } else { vec![(new, [0; DIMENSIONS])] };
        }
        let mut found: BTreeMap<(bool, Cube), u64> = BTreeMap::new();
        let never = [(0, self.space.all(dimension))];
        let classes: &[(usize, u64)] = if arises(dimension, at) { &self.classes[dimension] } else { &never };
        for &(value, mask) in classes {
            let mut here = *at;
            here[dimension] = value;
            let mut standing = standing;
            for &number in &self.decided[dimension] {
                let table = &self.tables[number];
                if table.applies(&here) {
                    let (old, new) = (table.in_old, table.in_new);
                    standing.changed |= old != new;
                    if table.forbids {
                        standing.old_forbid |= old;
                        standing.new_forbid |= new;
                    } else {
                        standing.old_permit |= old;
                        standing.new_permit |= new;
                    }
                }
            }
            let both_forbid = standing.old_forbid && standing.new_forbid;
            if both_forbid || (!standing.changed && !self.changes_after[dimension]) {
                continue;
            }
            for cube in self.from(dimension + 1, &here, standing) {
                *found.entry(cube).or_default() |= mask;
            }
        }
        let filled = found.into_iter().map(|((gain, mut cube), mask)| {
            cube[dimension] = mask;
            (gain, cube)
        });
        filled.collect()
    }
}

/// Values that never go together with others of their dimension.
fn own_class(dimension: usize, value: usize) -> usize {
    match dimension {
        ROLE => match Role::ALL.get(value) {
            Some(Role::Patient) => 1,
            Some(Role::Insurer) => 2,
            Some(Role::Compliance) => 3,
            Some(Role::Device) => 4,
            _ => 0,
        },
        PURPOSE => usize::from(Purpose::ALL.get(value) == Some(&Purpose::BreakGlass)),
        _ => 0,
    }
}

/// Whether a fact can be other than false: a gateway looks for it only where it can matter. See `Facts`.
fn arises(dimension: usize, at: &[usize; DIMENSIONS]) -> bool {
    let role = Role::ALL.get(at[ROLE]);
    match dimension {
        GLASS => Purpose::ALL.get(at[PURPOSE]) == Some(&Purpose::BreakGlass),
        CLAIM => role == Some(&Role::Insurer),
        CASE => role == Some(&Role::Compliance),
        DEVICE => role == Some(&Role::Device),
        _ => true,
    }
}

/// Puts sets together that differ in one dimension, until none do.
fn merge(mut cubes: Vec<Cube>) -> Vec<Cube> {
    loop {
        let before = cubes.len();
        for dimension in (0..DIMENSIONS).rev() {
            let mut together: BTreeMap<Cube, u64> = BTreeMap::new();
            for mut cube in cubes {
                let mask = std::mem::take(&mut cube[dimension]);
                *together.entry(cube).or_default() |= mask;
            }
            cubes = together
                .into_iter()
                .map(|(mut cube, mask)| {
                    cube[dimension] = mask;
                    cube
                })
                .collect();
        }
        if cubes.len() == before {
            return cubes;
        }
    }
}
