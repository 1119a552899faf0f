//! Whether a record meets a criterion by its own values: what the index says of it, whoever may write there has written.

use crate::{
    extract::{DateRange, IndexRow, IndexValue, Number, Written, filed, normalise, parts},
    row::Row,
    search::{Criterion, Match, Prefix, TextMatch, UriMatch},
};

impl Criterion {
    /// Whether `row`, whose search values are `values`, meets it. None for chains, which other records decide.
    pub fn holds(&self, row: &Row, values: &[IndexRow]) -> Option<bool> {
        let of_type = self.of_type(&row.rtype);
        let mut any = false;
        for wanted in &of_type.any {
            any |= meets(row, values, &of_type.param, wanted)?;
        }
        Some(any != self.negate)
    }
}

/// Whether a record meets one alternative of a criterion on a parameter.
fn meets(row: &Row, values: &[IndexRow], param: &str, wanted: &Match) -> Option<bool> {
    let names = filed(&row.rtype, param);
    let mut own = values.iter().filter(|of| of.param == param || names.contains(&of.param.as_ref()));
    Some(match (param, wanted) {
        (_, Match::To { .. } | Match::From { .. }) => return None,
        (_, Match::Under { param, of }) => return meets(row, values, param, of),
        ("_id", Match::Token { code, .. }) => code.as_ref() == Some(&row.id),
        ("_lastUpdated", Match::Date { prefix, span }) => {
            let written = i64::try_from(row.written_at.0).unwrap_or(i64::MAX);
            relates(written, written.saturating_add(1), *prefix, *span)
        }
        (_, Match::Missing(missing)) => own.next().is_none() == *missing,
        (param, Match::Composite(wanted)) => stands_together(row, values, param, wanted),
        (_, wanted) => own.any(|of| agrees(&of.value, wanted)),
    })
}

fn relates(lo: i64, hi: i64, prefix: Prefix, span: DateRange) -> bool {
    let within = lo >= span.lo_ms && hi <= span.hi_ms;
    match prefix {
        Prefix::Eq => within,
        Prefix::Ne => !within,
        Prefix::Gt => hi > span.hi_ms,
        Prefix::Lt => lo < span.lo_ms,
        Prefix::Ge => hi > span.hi_ms || within,
        Prefix::Le => lo < span.lo_ms || within,
        Prefix::Sa => lo >= span.hi_ms,
        Prefix::Eb => hi <= span.lo_ms,
        Prefix::Ap => lo < span.hi_ms && hi > span.lo_ms,
    }
}

fn amounts_to(lo: Number, hi: Number, prefix: Prefix, number: Written) -> bool {
    let within = lo >= number.from && hi < number.until;
    match prefix {
        Prefix::Eq => within,
        Prefix::Ne => !within,
        Prefix::Gt => hi > number.exact,
        Prefix::Lt => lo < number.exact,
        Prefix::Ge => hi >= number.exact,
        Prefix::Le => lo <= number.exact,
        Prefix::Sa => lo > number.exact,
        Prefix::Eb => hi < number.exact,
        Prefix::Ap => lo <= number.about_to && hi >= number.about_from,
    }
}

/// Whether the address `below` is `above` or in the folder that it names.
fn is_in(below: &str, above: &str) -> bool {
    below == above || below.strip_prefix(above.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

fn agrees(value: &IndexValue, wanted: &Match) -> bool {
    match (wanted, value) {
        (Match::Token { system, code }, IndexValue::Token { system: has_system, code: has_code, .. }) => {
            system.as_ref().is_none_or(|system| system == has_system)
                && code.as_ref().is_none_or(|code| code == has_code)
        }
        (Match::Words(words), IndexValue::Token { text, .. }) => {
            text.split('\n').any(|line| line.starts_with(&normalise(words)))
        }
        (Match::Text { text, how }, IndexValue::Text(has)) => match how {
            TextMatch::Exact => has == text,
            TextMatch::Prefix => normalise(has).starts_with(&normalise(text)),
            TextMatch::Contains => normalise(has).contains(&normalise(text)),
        },
        (Match::Date { prefix, span }, IndexValue::Date(has)) => relates(has.lo_ms, has.hi_ms, *prefix, *span),
        (Match::Reference { rtype, id }, IndexValue::Reference { rtype: has_type, id: has_id }) => {
            id == has_id && rtype.as_ref().is_none_or(|rtype| rtype == has_type)
        }
        (
            Match::Quantity { prefix, number, system, code },
            IndexValue::Quantity { lo, hi, system: has_system, code: has_code, unit },
        ) => {
            let of_unit = |code: &String| code == has_code || (system.is_none() && code == unit);
            amounts_to(*lo, *hi, *prefix, *number)
                && system.as_ref().is_none_or(|system| system == has_system)
                && code.as_ref().is_none_or(of_unit)
        }
        (Match::Uri { uri, how }, IndexValue::Uri(has)) => match how {
            UriMatch::Exact => has == uri,
            UriMatch::Below => is_in(has, uri),
            UriMatch::Above => is_in(uri, has),
        },
        _ => false,
    }
}

/// Whether values of a composite's parts stand in one and the same element.
fn stands_together(row: &Row, values: &[IndexRow], param: &str, wanted: &[Match]) -> bool {
    let parts = parts(&row.rtype, param);
    if parts.len() != wanted.len() {
        return false;
    }
    let of_part = |at: usize, element: Option<i32>| {
        let names = filed(&row.rtype, parts[at]);
        let named = move |of: &&IndexRow| of.param == parts[at] || names.contains(&of.param.as_ref());
        let here = move |of: &&IndexRow| of.part >= 0 && element.is_none_or(|element| of.part == element);
        values.iter().filter(named).filter(here).filter(move |of| agrees(&of.value, &wanted[at]))
    };
    !parts.is_empty()
        && of_part(0, None).any(|first| (1..parts.len()).all(|at| of_part(at, Some(first.part)).next().is_some()))
}
