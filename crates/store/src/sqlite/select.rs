//! From a typed search to SQL.
//!
//! The most selective criterion *drives*: its index yields candidate versions, and every other criterion is probed per candidate by
//! primary key. The order is chosen here and not by the planner, so that it does not depend on statistics. A code alone selects badly,
//! patient and code together select well; therefore tokens carry the patient that the record is `about`, and a search that names a
//! patient narrows its driving code by it. That loses nothing: a record whose patient references do not all name one patient is
//! filed as `*`, which every such search includes, and the patient criterion is probed all the same.

use super::schema::VALUE_TABLES;
use crate::{
    extract::{DateRange, cut, normalise},
    search::{
        ALTERNATIVES_MAX, BadSearch, CRITERIA_MAX, Criterion, Cursor, Match, PAGE_MAX, Prefix, Search, Sort, TextMatch,
    },
};
use rusqlite::types::Value;

/// Parameters that name the patient a record is about.
pub(super) const PATIENT_PARAMS: [&str; 2] = ["patient", "subject"];
/// What tokens of a record with several patients, or another subject, are filed under.
pub(super) const ABOUT_MANY: &str = "*";

/// SQL text with its parameters, which are bound by position.
#[derive(Debug, Default)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Sql {
    fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }
    fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push('?');
        self.text.push_str(&self.values.len().to_string());
        self
    }
}

/// The page's rows: key, then `columns`.
pub(super) fn page(search: &Search, columns: &str) -> Result<Sql, BadSearch> {
    check(search)?;
    let mut sql = Sql::default();
    let descending = match &search.sort {
        Sort::Written { newest_first } => {
            sql.push("SELECT v.written_at AS sort_key, ");
            *newest_first
        }
        Sort::Date { param, newest_first } => {
            let (bound, none) = if *newest_first { ("max", i64::MIN) } else { ("min", i64::MAX) };
            sql.push(&format!("SELECT coalesce((SELECT {bound}(lo) FROM date x WHERE x.vid = v.vid AND x.param = "));
            sql.bind(param.clone()).push("), ").bind(none).push(") AS sort_key, ");
            *newest_first
        }
    };
    sql.push(columns);
    matching(&mut sql, &search.rtype, &search.criteria);
    if let Some(Cursor { key, vid }) = search.after {
        let beyond = if descending { "<" } else { ">" };
        sql.push(&format!(" AND (sort_key, v.vid) {beyond} (")).bind(key).push(", ").bind(vid).push(")");
    }
    let direction = if descending { "DESC" } else { "ASC" };
    sql.push(&format!(" ORDER BY sort_key {direction}, v.vid {direction} LIMIT "));
    let count = i64::try_from(search.count).unwrap_or(i64::MAX);
    sql.bind(count.saturating_add(1));
    Ok(sql)
}

/// How many match.
pub(super) fn total(search: &Search) -> Result<Sql, BadSearch> {
    check(search)?;
    let mut sql = Sql::default();
    sql.push("SELECT count(*)");
    matching(&mut sql, &search.rtype, &search.criteria);
    Ok(sql)
}

/// Logical ids of what matches, at most `limit`.
pub(super) fn ids(rtype: &str, criteria: &[Criterion], limit: i64) -> Sql {
    let mut sql = Sql::default();
    sql.push("SELECT v.id");
    matching(&mut sql, rtype, criteria);
    sql.push(" LIMIT ").bind(limit);
    sql
}

fn check(search: &Search) -> Result<(), BadSearch> {
    let alternatives = search.criteria.iter().map(|criterion| criterion.any.len()).max().unwrap_or_default();
    if search.count > PAGE_MAX || search.criteria.len() > CRITERIA_MAX || alternatives > ALTERNATIVES_MAX {
        return Err(BadSearch::TooMuch);
    }
    Ok(())
}

fn matching(sql: &mut Sql, rtype: &str, criteria: &[Criterion]) {
    let about = about(criteria);
    let driver = (0..criteria.len()).filter_map(|i| Some((rank(&criteria[i], about.is_some())?, i))).min();
    let driver = driver.map(|(_, index)| index);
    match driver {
        Some(index) => {
            sql.push(" FROM (");
            drive(sql, rtype, &criteria[index], about);
            // CROSS JOIN keeps the order of the tables.
            sql.push(") d CROSS JOIN version v ON v.vid = d.vid WHERE v.current = 1 AND v.deleted = 0 AND v.rtype = ");
            sql.bind(rtype.to_owned());
        }
        None => {
            sql.push(" FROM version v INDEXED BY version_written WHERE v.current = 1 AND v.deleted = 0 AND v.rtype = ");
            sql.bind(rtype.to_owned());
        }
    }
    for (index, criterion) in criteria.iter().enumerate() {
        if Some(index) != driver {
            sql.push(if criterion.negate { " AND NOT (" } else { " AND (" });
            any(sql, criterion, probe);
            sql.push(")");
        }
    }
}

/// The patient that all matches are about, if a criterion says so.
fn about(criteria: &[Criterion]) -> Option<&str> {
    criteria.iter().find_map(|criterion| match criterion.any.as_slice() {
        [Match::Reference { rtype, id }]
            if !criterion.negate
                && PATIENT_PARAMS.contains(&criterion.param.as_str())
                && rtype.as_deref().is_none_or(|rtype| rtype == "Patient") =>
        {
            Some(id.as_str())
        }
        _ => None,
    })
}

/// How well a criterion drives, 0 best; none if it cannot.
fn rank(criterion: &Criterion, about_known: bool) -> Option<u8> {
    if criterion.negate || criterion.any.is_empty() || criterion.param == "_lastUpdated" {
        return None;
    }
    let ranks = criterion.any.iter().map(|value| match value {
        Match::Token { code: Some(_), .. } if criterion.param == "_id" => Some(0),
        Match::Token { code: Some(_), .. } if criterion.param == "identifier" => Some(1),
        Match::Token { code: Some(_), .. } if about_known => Some(2),
        Match::Reference { .. } => Some(3),
        Match::Text { how: TextMatch::Prefix | TextMatch::Exact, .. } => Some(4),
        Match::Token { code: Some(_), .. } => Some(5),
        Match::Date { prefix: Prefix::Eq, .. } => Some(6),
        _ => None,
    });
    // The worst alternative decides.
    ranks.collect::<Option<Vec<u8>>>()?.into_iter().max()
}

/// Candidate versions, each once.
fn drive(sql: &mut Sql, rtype: &str, criterion: &Criterion, about: Option<&str>) {
    for (index, value) in criterion.any.iter().enumerate() {
        sql.push(if index == 0 { "SELECT DISTINCT" } else { " UNION SELECT" });
        if criterion.param == "_id" {
            sql.push(" vid FROM version v WHERE rtype = ").bind(rtype.to_owned()).push(" AND ");
            probe(sql, "_id", value);
            continue;
        }
        let (table, index) = match value {
            Match::Token { .. } => ("token", "token_code"),
            Match::Text { .. } => ("text", "text_norm"),
            Match::Date { .. } => ("date", "date_lo"),
            Match::Reference { .. } | Match::Missing(_) => ("reference", "reference_target"),
        };
        sql.push(&format!(" vid FROM {table} x INDEXED BY {index} WHERE x.rtype = ")).bind(rtype.to_owned());
        sql.push(" AND x.param = ").bind(criterion.param.clone()).push(" AND ");
        value_is(sql, value);
        if let (Some(about), Match::Token { .. }) = (about, value) {
            sql.push(" AND x.about IN (").bind(about.to_owned()).push(", '*')");
        }
    }
}

fn any(sql: &mut Sql, criterion: &Criterion, one: impl Fn(&mut Sql, &str, &Match)) {
    if criterion.any.is_empty() {
        sql.push("0");
    }
    for (index, value) in criterion.any.iter().enumerate() {
        if index > 0 {
            sql.push(" OR ");
        }
        one(sql, &criterion.param, value);
    }
}

/// Whether version `v` meets one alternative.
fn probe(sql: &mut Sql, param: &str, value: &Match) {
    match (param, value) {
        ("_id", Match::Token { code: Some(code), .. }) => {
            sql.push("v.id = ").bind(code.clone());
        }
        ("_lastUpdated", Match::Date { prefix, span }) => {
            relation(sql, "v.written_at", "v.written_at + 1", *prefix, *span);
        }
        ("_id" | "_lastUpdated", Match::Missing(missing)) => {
            sql.push(if *missing { "0" } else { "1" });
        }
        ("_id" | "_lastUpdated", _) => {
            sql.push("0");
        }
        (_, Match::Missing(missing)) => {
            sql.push(if *missing { "NOT (" } else { "(" });
            for (index, table) in VALUE_TABLES.iter().enumerate() {
                sql.push(if index > 0 { " OR " } else { "" });
                sql.push(&format!("EXISTS (SELECT 1 FROM {table} x WHERE x.vid = v.vid AND x.param = "));
                sql.bind(param.to_owned()).push(")");
            }
            sql.push(")");
        }
        (_, value) => {
            let table = match value {
                Match::Token { .. } => "token",
                Match::Text { .. } => "text",
                Match::Date { .. } => "date",
                Match::Reference { .. } | Match::Missing(_) => "reference",
            };
            sql.push(&format!("EXISTS (SELECT 1 FROM {table} x WHERE x.vid = v.vid AND x.param = "));
            sql.bind(param.to_owned()).push(" AND ");
            value_is(sql, value);
            sql.push(")");
        }
    }
}

/// Whether the search value `x` is the one looked for.
fn value_is(sql: &mut Sql, value: &Match) {
    match value {
        Match::Token { system, code } => {
            sql.push("(1");
            if let Some(code) = code {
                sql.push(" AND x.code = ").bind(cut(code).to_owned());
            }
            if let Some(system) = system {
                sql.push(" AND x.system = ").bind(cut(system).to_owned());
            }
            sql.push(")");
        }
        Match::Text { text, how: TextMatch::Exact } => {
            sql.push("x.exact = ").bind(cut(text).to_owned());
            sql.push(" AND x.norm = ").bind(normalise(text));
        }
        Match::Text { text, how: TextMatch::Prefix } => {
            let norm = normalise(text);
            sql.push("x.norm >= ").bind(norm.clone());
            sql.push(" AND x.norm < ").bind(norm + "\u{10ffff}");
        }
        Match::Text { text, how: TextMatch::Contains } => {
            sql.push("instr(x.norm, ").bind(normalise(text)).push(") > 0");
        }
        Match::Date { prefix, span } => relation(sql, "x.lo", "x.hi", *prefix, *span),
        Match::Reference { rtype, id } => {
            sql.push("x.target = ").bind(cut(id).to_owned());
            if let Some(rtype) = rtype {
                sql.push(" AND x.target_type = ").bind(rtype.clone());
            }
        }
        Match::Missing(_) => {
            sql.push("0");
        }
    }
}

/// How the span from `lo` until before `hi` relates to `span`.
fn relation(sql: &mut Sql, lo: &str, hi: &str, prefix: Prefix, span: DateRange) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema::open_writer;
    use expect_test::{Expect, expect};
    use rusqlite::params_from_iter;

    /// How SQLite walks through the tables, before it has statistics.
    fn check(search: &Search, expected: Expect) {
        let folder = tempfile::tempdir().unwrap();
        let db = open_writer(&folder.path().join("db")).unwrap();
        let sql = page(search, "v.vid").unwrap();
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.text)).unwrap();
        let steps = statement.query_map(params_from_iter(sql.values), |row| row.get::<_, String>(3)).unwrap();
        expected.assert_eq(&steps.map(|step| step.unwrap() + "\n").collect::<String>());
    }

    #[test]
    fn patient_and_code_are_one_look_into_one_index() {
        let search = Search::of("Observation")
            .with(Criterion::reference("patient", "Patient", "1"))
            .with(Criterion::token("code", "http://loinc.org", "8867-4"));
        check(
            &search,
            expect![[r#"
            CO-ROUTINE d
            SEARCH x USING COVERING INDEX token_code (rtype=? AND param=? AND code=? AND about=?)
            SCAN d
            SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
            SEARCH x EXISTS USING PRIMARY KEY (vid=? AND param=? AND target=? AND target_type=?)
            USE TEMP B-TREE FOR ORDER BY
        "#]],
        );
    }

    #[test]
    fn identifier_name_date_and_type_have_their_indexes() {
        check(
            &Search::of("Patient").with(Criterion::token("identifier", "s", "1")),
            expect![[r#"
            CO-ROUTINE d
            SEARCH x USING COVERING INDEX token_code (rtype=? AND param=? AND code=?)
            SCAN d
            SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
            USE TEMP B-TREE FOR ORDER BY
        "#]],
        );
        let family = Match::Text { text: "M".into(), how: TextMatch::Prefix };
        check(
            &Search::of("Patient").with(Criterion::one("family", family)),
            expect![[r#"
            CO-ROUTINE d
            SEARCH x USING COVERING INDEX text_norm (rtype=? AND param=? AND norm>? AND norm<?)
            USE TEMP B-TREE FOR DISTINCT
            SCAN d
            SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
            USE TEMP B-TREE FOR ORDER BY
        "#]],
        );
        let day = Match::Date { prefix: Prefix::Eq, span: DateRange { lo_ms: 0, hi_ms: 1 } };
        check(
            &Search::of("Observation").with(Criterion::one("date", day)),
            expect![[r#"
            CO-ROUTINE d
            SEARCH x USING COVERING INDEX date_lo (rtype=? AND param=? AND lo>? AND lo<?)
            USE TEMP B-TREE FOR DISTINCT
            SCAN d
            SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
            USE TEMP B-TREE FOR ORDER BY
        "#]],
        );
        check(
            &Search::of("Observation"),
            expect![[r#"
            SEARCH v USING COVERING INDEX version_written (rtype=? AND deleted=?)
        "#]],
        );
        check(
            &Search::of("Observation").with(Criterion::code("_id", "1")),
            expect![[r#"
            CO-ROUTINE d
            SEARCH v USING COVERING INDEX version_key (rtype=? AND id=?)
            SCAN d
            SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
            USE TEMP B-TREE FOR ORDER BY
        "#]],
        );
    }
}
