//! Conditions on one search value, or on several that stand together.

use super::Sql;
use crate::{
    extract::{DateRange, Written, cut, filed, normalise, parts},
    search::{Match, Prefix, TextMatch, UriMatch},
};

/// The last character: no text that is filed is above it.
const LAST: &str = "\u{10ffff}";

/// The table of values of a kind, and the index by which they are found.
pub(super) fn table(value: &Match) -> (&'static str, &'static str) {
    match value {
        Match::Token { .. } | Match::Words(_) | Match::Uri { .. } => ("token", "token_code"),
        Match::Text { .. } => ("text", "text_norm"),
        Match::Date { .. } => ("date", "date_lo"),
        Match::Quantity { .. } => ("quantity", ""),
        Match::Composite(values) => values.first().map_or(("token", "token_code"), table),
        Match::Under { of, .. } => table(of),
        Match::Reference { .. } | Match::To { .. } | Match::From { .. } | Match::Missing(_) | Match::Within { .. } => {
            ("reference", "reference_target")
        }
    }
}

/// What no row meets: places of versions begin above it, and those of templates below. A constant would do, but SQLite then drops the other
/// conditions, and with them the one that its index asks for.
pub(super) fn nothing(sql: &mut Sql, alias: &str) {
    sql.push(&format!("{alias}.vid = 0"));
}

/// Whether `alias` is a value of the parameter.
pub(super) fn named(sql: &mut Sql, alias: &str, rtype: &str, param: &str) {
    let (name, modifier) = param.split_once(':').map_or((param, None), |(name, modifier)| (name, Some(modifier)));
    let mut names: Vec<String> = filed(rtype, name).into_iter().map(str::to_owned).collect();
    if let Some(modifier) = modifier {
        names.iter_mut().for_each(|name| *name = format!("{name}:{modifier}"));
    }
    match names.as_slice() {
        [] => sql.push(&format!("{alias}.param = ")).bind(param.to_owned()),
        [name] => sql.push(&format!("{alias}.param = ")).bind(name.clone()),
        names => {
            sql.push(&format!("{alias}.param IN ("));
            for (index, name) in names.iter().enumerate() {
                sql.push(if index > 0 { ", " } else { "" }).bind(name.clone());
            }
            sql.push(")")
        }
    };
}

/// Whether `alias` is the value of the parameter that is looked for; of a composite, whether it is its first part and the others stand
/// together with it.
pub(super) fn one_is(sql: &mut Sql, alias: &str, rtype: &str, param: &str, value: &Match) {
    let Match::Composite(values) = value else {
        named(sql, alias, rtype, param);
        sql.push(" AND ");
        return value_is(sql, alias, value);
    };
    let mut parts = parts(rtype, param).iter().zip(values);
    let Some((first, value)) = parts.next() else {
        return nothing(sql, alias);
    };
    one_is(sql, alias, rtype, first, value);
    sql.push(&format!(" AND {alias}.part >= 0"));
    for (number, (part, value)) in parts.enumerate() {
        let (table, _) = table(value);
        let other = format!("{alias}{number}");
        let values = sql.dialect.values(table, &other, &format!("{other}.vid = {alias}.vid"), "");
        sql.push(&format!(" AND EXISTS (SELECT 1 {values}{other}.part = {alias}.part AND "));
        one_is(sql, &other, rtype, part, value);
        sql.push(sql.dialect.exists_end());
    }
}

/// Whether the search value `alias` is the one looked for.
fn value_is(sql: &mut Sql, alias: &str, value: &Match) {
    match value {
        Match::Token { system, code } => {
            sql.push("(TRUE");
            if let Some(code) = code {
                sql.push(&format!(" AND {alias}.code = ")).bind(cut(code).to_owned());
            }
            if let Some(system) = system {
                sql.push(&format!(" AND {alias}.system = ")).bind(cut(system).to_owned());
            }
            sql.push(")");
        }
        Match::Words(words) => {
            // Each of the lines begins after a line break.
            let position = sql.dialect.position();
            sql.push(&format!("{position}('\n' || {alias}.words, ")).bind(format!("\n{}", normalise(words)));
            sql.push(") > 0");
        }
        Match::Uri { uri, how: UriMatch::Exact } => {
            sql.push(&format!("{alias}.code = ")).bind(cut(uri).to_owned());
        }
        Match::Uri { uri, how: UriMatch::Below } => {
            let folder = format!("{}/", uri.trim_end_matches('/'));
            sql.push(&format!("({alias}.code = ")).bind(cut(uri).to_owned());
            sql.push(&format!(" OR ({alias}.code >= ")).bind(cut(&folder).to_owned());
            sql.push(&format!(" AND {alias}.code < ")).bind(format!("{}{LAST}", cut(&folder))).push("))");
        }
        Match::Uri { uri, how: UriMatch::Above } => {
            sql.push(&format!("{alias}.code IN ("));
            for (index, above) in above(uri).enumerate() {
                sql.push(if index > 0 { ", " } else { "" }).bind(cut(above).to_owned());
            }
            sql.push(")");
        }
        Match::Text { text, how: TextMatch::Exact } => {
            sql.push(&format!("{alias}.exact = ")).bind(cut(text).to_owned());
            sql.push(&format!(" AND {alias}.norm = ")).bind(normalise(text));
        }
        Match::Text { text, how: TextMatch::Prefix } => {
            let norm = normalise(text);
            sql.push(&format!("{alias}.norm >= ")).bind(norm.clone());
            sql.push(&format!(" AND {alias}.norm < ")).bind(norm + LAST);
        }
        Match::Text { text, how: TextMatch::Contains } => {
            let position = sql.dialect.position();
            sql.push(&format!("{position}({alias}.norm, ")).bind(normalise(text)).push(") > 0");
        }
        Match::Date { prefix, span } => relation(sql, &format!("{alias}.lo"), &format!("{alias}.hi"), *prefix, *span),
        Match::Quantity { prefix, number, system, code } => {
            amount(sql, alias, *prefix, *number);
            match (system, code) {
                (Some(system), code) => {
                    sql.push(&format!(" AND {alias}.system = ")).bind(cut(system).to_owned());
                    if let Some(code) = code {
                        sql.push(&format!(" AND {alias}.code = ")).bind(cut(code).to_owned());
                    }
                }
                // Without a system it is the code or the unit in words.
                (None, Some(code)) => {
                    sql.push(&format!(" AND ({alias}.code = ")).bind(cut(code).to_owned());
                    sql.push(&format!(" OR {alias}.unit = ")).bind(cut(code).to_owned()).push(")");
                }
                (None, None) => {}
            }
        }
        Match::Reference { rtype, id } => {
            sql.push(&format!("{alias}.target = ")).bind(cut(id).to_owned());
            if let Some(rtype) = rtype {
                sql.push(&format!(" AND {alias}.target_type = ")).bind(rtype.clone());
            }
        }
        // Composites have no composites as parts; what is missing, and what links lead to, is no value.
        // What stands under another parameter is asked for by that one, and a compartment by those of the record's type.
        Match::Composite(_)
        | Match::To { .. }
        | Match::From { .. }
        | Match::Missing(_)
        | Match::Under { .. }
        | Match::Within { .. } => {
            nothing(sql, alias);
        }
    }
}

/// An address and those of the folders above it, with and without a slash at their end.
pub(crate) fn above(uri: &str) -> impl Iterator<Item = &str> {
    let path = uri.find("://").map_or(0, |at| at + 3);
    let ends = uri.match_indices('/').filter(move |(at, _)| *at >= path).flat_map(|(at, _)| [at, at + 1]);
    ends.map(|end| &uri[..end]).filter(move |above| *above != uri).chain([uri])
}

/// How the span from `lo` until before `hi` relates to `span`.
pub(super) fn relation(sql: &mut Sql, lo: &str, hi: &str, prefix: Prefix, span: DateRange) {
    let DateRange { lo_ms, hi_ms } = span;
    let mut compare = |column: &str, operator: &str, value: i64| {
        sql.push(&format!("{column} {operator} ")).bind(value);
    };
    match prefix {
        Prefix::Eq => {
            // The upper bound of `lo` follows from the others; it ends the scan of the index.
            compare(lo, ">=", lo_ms);
            compare(&format!(" AND {lo}"), "<", hi_ms);
            compare(&format!(" AND {hi}"), "<=", hi_ms);
        }
        Prefix::Ne => {
            compare(&format!("({lo}"), "<", lo_ms);
            compare(&format!(" OR {hi}"), ">", hi_ms);
            sql.push(")");
        }
        Prefix::Gt => compare(hi, ">", hi_ms),
        Prefix::Lt => compare(lo, "<", lo_ms),
        Prefix::Ge => {
            compare(&format!("({hi}"), ">", hi_ms);
            compare(&format!(" OR {lo}"), ">=", lo_ms);
            sql.push(")");
        }
        Prefix::Le => {
            compare(&format!("({lo}"), "<", lo_ms);
            compare(&format!(" OR {hi}"), "<=", hi_ms);
            sql.push(")");
        }
        Prefix::Sa => compare(lo, ">=", hi_ms),
        Prefix::Eb => compare(hi, "<=", lo_ms),
        Prefix::Ap => {
            compare(lo, "<", hi_ms);
            compare(&format!(" AND {hi}"), ">", lo_ms);
        }
    }
}

/// How the numbers from `lo` to `hi` relate to the one that is looked for. Only equality asks how precisely it is meant.
fn amount(sql: &mut Sql, alias: &str, prefix: Prefix, number: Written) {
    let mut compare = |before: &str, operator: &str, value: crate::extract::Number| {
        sql.push(&format!("{before} {operator} ")).bind(value.value());
    };
    let (lo, hi) = (format!("{alias}.lo"), format!("{alias}.hi"));
    match prefix {
        Prefix::Eq => {
            compare(&lo, ">=", number.from);
            compare(&format!(" AND {hi}"), "<", number.until);
        }
        Prefix::Ne => {
            compare(&format!("({lo}"), "<", number.from);
            compare(&format!(" OR {hi}"), ">=", number.until);
            sql.push(")");
        }
        Prefix::Gt => compare(&hi, ">", number.exact),
        Prefix::Lt => compare(&lo, "<", number.exact),
        Prefix::Ge => compare(&hi, ">=", number.exact),
        Prefix::Le => compare(&lo, "<=", number.exact),
        Prefix::Sa => compare(&lo, ">", number.exact),
        Prefix::Eb => compare(&hi, "<", number.exact),
        Prefix::Ap => {
            compare(&lo, "<=", number.about_to);
            compare(&format!(" AND {hi}"), ">=", number.about_from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_an_address_ends_with_it() {
        let found: Vec<&str> = above("http://a.org/fhir/x").collect();
        assert_eq!(
            found,
            ["http://a.org", "http://a.org/", "http://a.org/fhir", "http://a.org/fhir/", "http://a.org/fhir/x"]
        );
        assert_eq!(above("http://a.org/").collect::<Vec<_>>(), ["http://a.org", "http://a.org/"]);
        assert_eq!(above("urn:oid:1.2").collect::<Vec<_>>(), ["urn:oid:1.2"]);
    }
}
