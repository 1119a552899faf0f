//! The order of a page: the keys of its rows, and what lies beyond the place where the page before ended.

use super::{Sql, Value, named};
use crate::{
    extract::{Kind, kind},
    order::{Cursor, Key, Sort},
    search::Search,
};

impl From<&Key> for Value {
    fn from(key: &Key) -> Self {
        match key {
            Key::Int(number) => Self::Int(*number),
            Key::Real(number) => Self::Real(number.value()),
            Key::Text(text) => Self::Text(text.clone()),
        }
    }
}

/// The keys of a row, as the columns that it is sorted by.
pub(super) fn keys(sql: &mut Sql, search: &Search, rtype: &str) {
    for (number, sort) in search.sort.iter().enumerate() {
        key(sql, rtype, sort);
        sql.push(&format!(" AS sort_key{number}, "));
    }
}

/// One key. Not every database knows the name of a column in the conditions of its own query, so that it stands there again.
fn key(sql: &mut Sql, rtype: &str, sort: &Sort) {
    let (table, column) = match (sort.param.as_str(), kind(rtype, &sort.param)) {
        ("_lastUpdated", _) => {
            sql.push("v.written_at");
            return;
        }
        ("_id", _) => {
            sql.push("v.id");
            return;
        }
        (_, Some(Kind::Text)) => ("text", "x.norm"),
        (_, Some(Kind::Date)) => ("date", "x.lo"),
        (_, Some(Kind::Number | Kind::Quantity)) => ("quantity", "x.lo"),
        (_, Some(Kind::Reference)) => ("reference", "x.target_type || '/' || x.target"),
        _ => ("token", "x.code"),
    };
    let bound = if sort.descending { "max" } else { "min" };
    let values = sql.dialect.of_version(table, "x", (rtype, "v"), "");
    sql.push(&format!("(SELECT {bound}({column}) {values}"));
    named(sql, "x", rtype, &sort.param);
    if table == "token" {
        // A concept that has a text alone has no code.
        sql.push(" AND x.code <> ''");
    }
    sql.push(")");
}

/// That a row stands beyond a place.
pub(super) fn beyond(sql: &mut Sql, search: &Search, rtype: &str, cursor: &Cursor) {
    match (search.sort.as_slice(), cursor.keys.as_slice()) {
        // One place in an index, where there is one for the order.
        ([only], [Some(at)]) if only.is_always_there() => {
            sql.push("(");
            key(sql, rtype, only);
            let operator = operator(only.descending);
            sql.push(&format!(", v.vid) {operator} (")).bind(at).push(", ").bind(cursor.vid).push(")");
        }
        (sort, keys) => after(sql, rtype, sort, keys, (is_backwards(search), cursor.vid)),
    }
}

/// That the keys of a row come after others or, where they are the same, its place.
fn after(sql: &mut Sql, rtype: &str, sort: &[Sort], keys: &[Option<Key>], (backwards, vid): (bool, i64)) {
    let (Some((first, sort)), Some((at, keys))) = (sort.split_first(), keys.split_first()) else {
        let operator = operator(backwards);
        sql.push(&format!("v.vid {operator} ")).bind(vid);
        return;
    };
    sql.push("(");
    key(sql, rtype, first);
    match at {
        // Those without come last.
        None => sql.push(" IS NULL AND "),
        Some(at) => {
            let operator = operator(first.descending);
            sql.push(&format!(" {operator} ")).bind(at);
            if !first.is_always_there() {
                sql.push(" OR ");
                key(sql, rtype, first);
                sql.push(" IS NULL");
            }
            sql.push(" OR (");
            key(sql, rtype, first);
            sql.push(" = ").bind(at).push(" AND ")
        }
    };
    after(sql, rtype, sort, keys, (backwards, vid));
    sql.push(if at.is_some() { "))" } else { ")" });
}

/// The order of the keys and, where they are the same, of arrival; and how many rows are wanted: one more than stand on the page.
pub(super) fn by(sql: &mut Sql, search: &Search, vid: &str) {
    sql.push(" ORDER BY ");
    for (number, sort) in search.sort.iter().enumerate() {
        let nulls = if sort.is_always_there() { "" } else { " NULLS LAST" };
        sql.push(&format!("sort_key{number} {}{nulls}, ", direction(sort.descending)));
    }
    sql.push(&format!("{vid} {} LIMIT ", direction(is_backwards(search))));
    sql.bind(i64::try_from(search.count).unwrap_or(i64::MAX).saturating_add(1));
}

/// Whether records with the same keys stand in the order of their arrival backwards.
fn is_backwards(search: &Search) -> bool {
    search.sort.first().is_some_and(|sort| sort.descending)
}

fn operator(descending: bool) -> &'static str {
    if descending { "<" } else { ">" }
}

fn direction(descending: bool) -> &'static str {
    if descending { "DESC" } else { "ASC" }
}
