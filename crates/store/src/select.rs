//! From a typed search to SQL, put together once for every database.
//!
//! The most selective criterion *drives*: its index yields candidate versions, and every other criterion is probed per candidate by
//! primary key. The order is chosen here and not by the planner, so that it does not depend on statistics. A code alone selects badly,
//! patient and code together select well; therefore tokens carry the patient that the record is `about`, and a search that names a
//! patient narrows its driving code by it. That loses nothing: a record whose patient references do not all name one patient is filed as
//! `*`, which every such search includes, and the patient criterion is probed all the same.
//!
//! Versions that have a template have its values beside their own: those stand under `version.template` as these under `version.vid`.
//! Where values lead to versions, those with the template are looked up by it. Tokens of such types are filed about nobody, since a
//! template is about nobody: a search for a patient and one of them goes through the patient's records.

mod order;
mod value;

use crate::{
    extract::{IndexRow, IndexValue, WHOLE, cut, is_common, parts, stands_whole},
    search::{BadSearch, Criterion, Match, Prefix, Search, TextMatch, UriMatch},
    template::has_templates,
};
use std::borrow::Cow;
use value::{named, nothing, one_is, relation, table};

pub(crate) use value::above;

/// The tables that hold search values, all with a column `vid`.
pub(crate) const VALUE_TABLES: [&str; 5] = ["token", "text", "date", "reference", "quantity"];

/// Parameters that name the patient a record is about.
const PATIENT_PARAMS: [&str; 2] = ["patient", "subject"];
/// What tokens of a record with several patients, or another subject, are filed under.
const ABOUT_MANY: &str = "*";

/// Where the databases differ. Tables and columns have the same names in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Names the index, and joins in the order that is written.
    Sqlite,
    /// Looks a table that is joined up for each row before it, and what must exist for each row alone. Nothing else keeps the order:
    /// the planner takes joins and `EXISTS` apart and puts them together anew, unless there is an `OFFSET`.
    Postgres,
}

impl Dialect {
    fn parameter(self) -> char {
        match self {
            Self::Sqlite => '?',
            Self::Postgres => '$',
        }
    }

    /// Which index the rows of the table before are looked up in, where the database can be told.
    fn by_index(self, index: &str) -> String {
        match self {
            Self::Sqlite => format!(" INDEXED BY {index}"),
            Self::Postgres => String::new(),
        }
    }

    /// A join with `table`, called `alias`, that keeps the order of the tables; `index` finds the rows that are meant by `on`.
    fn join(self, table: &str, alias: &str, index: Option<&str>, on: &str) -> String {
        match self {
            Self::Sqlite => {
                let index = index.map(|index| self.by_index(index)).unwrap_or_default();
                format!(" CROSS JOIN {table} {alias}{index} ON {on}")
            }
            Self::Postgres => {
                format!(" CROSS JOIN LATERAL (SELECT * FROM {table} {alias} WHERE {on} OFFSET 0) {alias}")
            }
        }
    }

    /// A join of versions, called `alias`, that have a template where `value` is one of a template; otherwise of none.
    fn with_template(self, alias: &str, value: &str) -> String {
        let on = format!("{alias}.template = {value}.vid");
        match self {
            Self::Sqlite => format!(" LEFT JOIN version {alias} INDEXED BY version_template ON {on}"),
            Self::Postgres => {
                format!(" LEFT JOIN LATERAL (SELECT * FROM version {alias} WHERE {on} OFFSET 0) {alias} ON TRUE")
            }
        }
    }

    /// A join of the versions of a type, called `version`, that have `value`.
    fn leads_to(self, value: &str, rtype: &str, version: &str) -> String {
        if !has_templates(rtype) {
            return self.join("version", version, None, &format!("{version}.vid = {value}.vid"));
        }
        let (template, on) = (format!("{version}t"), format!("{version}.vid = coalesce({version}t.vid, {value}.vid)"));
        self.with_template(&template, value) + &self.join("version", version, None, &on)
    }

    /// The rows of `table`, called `alias`, that are `found`, and what is `joined` with them; conditions follow. Nothing else finds them:
    /// by what else is asked of them too many might be found.
    fn values(self, table: &str, alias: &str, found: &str, joined: &str) -> String {
        match self {
            Self::Sqlite => format!("FROM {table} {alias}{joined} WHERE {found} AND "),
            Self::Postgres => {
                format!("FROM (SELECT * FROM {table} {alias} WHERE {found} OFFSET 0) {alias}{joined} WHERE ")
            }
        }
    }

    /// The rows that belong to version `of` of a type.
    fn of_version(self, table: &str, alias: &str, (rtype, of): (&str, &str), joined: &str) -> String {
        self.values(table, alias, &belongs(alias, rtype, of), joined)
    }

    /// The end of what stands in `EXISTS (`.
    fn exists_end(self) -> &'static str {
        match self {
            Self::Sqlite => ")",
            Self::Postgres => " OFFSET 0)",
        }
    }

    /// Whether a list of values is looked up in an index, each by itself.
    fn looks_up_lists(self) -> bool {
        match self {
            Self::Sqlite => true,
            // Its planner may read through all that the columns before find instead, for the sake of their order.
            Self::Postgres => false,
        }
    }

    /// The function that tells where in a text another one begins, from 1; 0 if nowhere.
    fn position(self) -> &'static str {
        match self {
            Self::Sqlite => "instr",
            Self::Postgres => "strpos",
        }
    }
}

/// A parameter of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A number.
    Int(i64),
    /// A number with a fraction.
    Real(f64),
    /// A text.
    Text(String),
}
impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// SQL text with its parameters, which are bound by position.
#[derive(Debug)]
pub(crate) struct Sql {
    dialect: Dialect,
    pub(crate) text: String,
    pub(crate) values: Vec<Value>,
}

impl Sql {
    fn new(dialect: Dialect) -> Self {
        Self { dialect, text: String::new(), values: Vec::new() }
    }
    fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }
    fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push(self.dialect.parameter());
        self.text.push_str(&self.values.len().to_string());
        self
    }
}

/// That value `alias` belongs to version `of` of a type.
fn belongs(alias: &str, rtype: &str, of: &str) -> String {
    if has_templates(rtype) {
        format!("{alias}.vid IN ({of}.vid, {of}.template)")
    } else {
        format!("{alias}.vid = {of}.vid")
    }
}

/// The page's rows: what each is sorted by, then its place.
pub(crate) fn page(dialect: Dialect, search: &Search) -> Result<Sql, BadSearch> {
    search.check()?;
    let mut sql = Sql::new(dialect);
    if search.also.is_empty() {
        page_of(&mut sql, search, &search.rtype);
        return Ok(sql);
    }
    // The first rows of all types are among the first rows of each.
    sql.push("SELECT * FROM (");
    for (number, rtype) in search.types().enumerate() {
        sql.push(if number > 0 { " UNION ALL " } else { "" }).push("SELECT * FROM (");
        page_of(&mut sql, search, rtype);
        sql.push(&format!(") t{number}"));
    }
    sql.push(") u");
    order::by(&mut sql, search, "u.vid");
    Ok(sql)
}

/// The page's rows of one type.
fn page_of(sql: &mut Sql, search: &Search, rtype: &str) {
    sql.push("SELECT ");
    order::keys(sql, search, rtype);
    sql.push("v.vid AS vid");
    matching(sql, rtype, &search.criteria);
    if let Some(cursor) = &search.after {
        sql.push(" AND ");
        order::beyond(sql, search, rtype, cursor);
    }
    order::by(sql, search, "v.vid");
}

/// How many match.
pub(crate) fn total(dialect: Dialect, search: &Search) -> Result<Sql, BadSearch> {
    search.check()?;
    let mut sql = Sql::new(dialect);
    if search.also.is_empty() {
        sql.push("SELECT count(*)");
        matching(&mut sql, &search.rtype, &search.criteria);
        return Ok(sql);
    }
    sql.push("SELECT count(*) FROM (");
    for (number, rtype) in search.types().enumerate() {
        sql.push(if number > 0 { " UNION ALL SELECT v.vid" } else { "SELECT v.vid" });
        matching(&mut sql, rtype, &search.criteria);
    }
    sql.push(") u");
    Ok(sql)
}

/// Logical ids of what matches, at most `limit`.
pub(crate) fn ids(dialect: Dialect, rtype: &str, criteria: &[Criterion], limit: i64) -> Sql {
    let mut sql = Sql::new(dialect);
    sql.push("SELECT v.id");
    matching(&mut sql, rtype, criteria);
    sql.push(" LIMIT ").bind(limit);
    sql
}

/// The one patient that all patient references of a record name, as its tokens are filed under it; empty for none, and of types that have
/// templates; [`ABOUT_MANY`] otherwise.
pub(crate) fn filed_about<'a>(rtype: &str, rows: &'a [IndexRow]) -> &'a str {
    let mut about = "";
    if has_templates(rtype) {
        return about;
    }
    for row in rows {
        if let IndexValue::Reference { rtype, id } = &row.value
            && PATIENT_PARAMS.contains(&row.param.as_ref())
        {
            let id = cut(id);
            if rtype != "Patient" || !(about.is_empty() || about == id) {
                return ABOUT_MANY;
            }
            about = id;
        }
    }
    about
}

fn matching(sql: &mut Sql, rtype: &str, criteria: &[Criterion]) {
    let criteria: Vec<Cow<'_, Criterion>> = criteria.iter().map(|criterion| criterion.of_type(rtype)).collect();
    let about = patient_of(&criteria);
    let driver = (0..criteria.len()).filter_map(|i| Some((rank(rtype, &criteria[i], about.is_some())?, i))).min();
    let driver = driver.map(|(_, index)| index);
    match driver {
        Some(index) => {
            sql.push(" FROM (");
            candidates(sql, rtype, &criteria[index], about);
            let version = sql.dialect.join("version", "v", None, "v.vid = d.vid");
            sql.push(&format!(") d{version}"));
        }
        None => {
            let index = sql.dialect.by_index("version_written");
            sql.push(&format!(" FROM version v{index}"));
        }
    }
    sql.push(" WHERE v.current = 1 AND v.deleted = 0 AND v.rtype = ").bind(rtype.to_owned());
    for (index, criterion) in criteria.iter().enumerate() {
        if Some(index) != driver {
            sql.push(if criterion.negate { " AND NOT (" } else { " AND (" });
            any(sql, "v", rtype, criterion);
            sql.push(")");
        }
    }
}

/// The patient that all matches are about, if a criterion says so.
fn patient_of<'a>(criteria: &'a [Cow<'_, Criterion>]) -> Option<&'a str> {
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

/// How well a criterion on records of a type drives, 0 best; none if it cannot.
fn rank(rtype: &str, criterion: &Criterion, about_known: bool) -> Option<u8> {
    if criterion.negate || criterion.any.is_empty() || criterion.param == "_lastUpdated" {
        return None;
    }
    let ranks = criterion.any.iter().map(|value| rank_of(rtype, &criterion.param, value, about_known));
    // The worst alternative decides.
    ranks.collect::<Option<Vec<u8>>>()?.into_iter().max()
}

fn rank_of(rtype: &str, param: &str, value: &Match, about_known: bool) -> Option<u8> {
    match value {
        Match::Token { code: Some(code), .. } if is_common(rtype, param, code) => None,
        Match::Token { code: Some(_), .. } if param == "_id" => Some(0),
        Match::Token { code: Some(_), .. } if param == "identifier" => Some(1),
        Match::Token { code: Some(_), .. } if about_known && !has_templates(rtype) => Some(2),
        // Whoever asks for a patient's records asks for fewer than any of their templates has.
        Match::Reference { .. } if has_templates(rtype) && PATIENT_PARAMS.contains(&param) => Some(2),
        Match::Reference { .. } => Some(3),
        Match::Text { how: TextMatch::Prefix | TextMatch::Exact, .. } => Some(4),
        Match::Token { code: Some(_), .. } | Match::Uri { how: UriMatch::Exact, .. } => Some(5),
        Match::Date { prefix: Prefix::Eq, .. } => Some(6),
        Match::Under { param, of } => rank_of(rtype, param, of, about_known),
        // Nothing meets what no such parameter has.
        Match::Composite(_) if parts(rtype, param).is_empty() => None,
        Match::Composite(values) => rank_of(rtype, "", values.first()?, about_known),
        Match::To { rtype, criterion } | Match::From { rtype, criterion, .. } => {
            rank(rtype, criterion, false).map(|rank| rank + 4)
        }
        _ => None,
    }
}

/// Candidate versions, each once.
fn candidates(sql: &mut Sql, rtype: &str, criterion: &Criterion, about: Option<&str>) {
    if !has_templates(rtype) {
        return drive(sql, rtype, criterion, about);
    }
    let versions = sql.dialect.with_template("k", "c");
    sql.push("SELECT DISTINCT coalesce(k.vid, c.vid) AS vid FROM (");
    drive(sql, rtype, criterion, about);
    sql.push(&format!(") c{versions}"));
}

/// What has a value that is looked for, versions and templates, each once.
fn drive(sql: &mut Sql, rtype: &str, criterion: &Criterion, about: Option<&str>) {
    for (index, value) in criterion.any.iter().enumerate() {
        sql.push(if index == 0 { "SELECT DISTINCT" } else { " UNION SELECT" });
        let (param, value) = match value {
            Match::Under { param, of } => (param.as_str(), &**of),
            value => (criterion.param.as_str(), value),
        };
        if param == "_id" {
            sql.push(" vid FROM version v WHERE rtype = ").bind(rtype.to_owned()).push(" AND ");
            probe(sql, "v", rtype, "_id", value);
            continue;
        }
        if matches!(value, Match::To { .. } | Match::From { .. }) {
            drive_link(sql, rtype, param, value);
            continue;
        }
        let token = match value {
            Match::Composite(parts) => parts.first(),
            value => Some(value),
        };
        let apart = |_: &&str| matches!(token, Some(Match::Token { .. })) && !has_templates(rtype);
        match about.filter(apart) {
            None => drive_value(sql, rtype, param, value),
            Some(about) if sql.dialect.looks_up_lists() => {
                drive_value(sql, rtype, param, value);
                sql.push(" AND x.about IN (").bind(about.to_owned()).push(&format!(", '{ABOUT_MANY}')"));
            }
            Some(about) => {
                drive_value(sql, rtype, param, value);
                sql.push(" AND x.about = ").bind(about.to_owned()).push(" UNION SELECT");
                drive_value(sql, rtype, param, value);
                sql.push(&format!(" AND x.about = '{ABOUT_MANY}'"));
            }
        }
    }
}

/// Versions that have a value.
fn drive_value(sql: &mut Sql, rtype: &str, param: &str, value: &Match) {
    let (table, index) = table(value);
    let index = sql.dialect.by_index(index);
    sql.push(&format!(" vid FROM {table} x{index} WHERE x.rtype = ")).bind(rtype.to_owned()).push(" AND ");
    one_is(sql, "x", rtype, param, value);
    if table == "token" {
        // Common values are not in the index and drive nothing.
        sql.push(" AND x.common = 0");
    }
    // Known to be so; said so that the database need not look for versions that it has given already.
    if stands_whole(rtype, param) {
        sql.push(&format!(" AND x.part = {WHOLE}"));
    }
}

/// Whether version `of` meets one of the alternatives.
fn any(sql: &mut Sql, of: &str, rtype: &str, criterion: &Criterion) {
    let criterion = criterion.of_type(rtype);
    if criterion.any.is_empty() {
        nothing(sql, of);
    }
    for (index, value) in criterion.any.iter().enumerate() {
        if index > 0 {
            sql.push(" OR ");
        }
        probe(sql, of, rtype, &criterion.param, value);
    }
}

/// Whether version `of` meets one alternative.
fn probe(sql: &mut Sql, of: &str, rtype: &str, param: &str, value: &Match) {
    match (param, value) {
        (_, Match::Under { param, of: value }) => probe(sql, of, rtype, param, value),
        ("_id", Match::Token { code: Some(code), .. }) => {
            sql.push(&format!("{of}.id = ")).bind(code.clone());
        }
        ("_lastUpdated", Match::Date { prefix, span }) => {
            relation(sql, &format!("{of}.written_at"), &format!("{of}.written_at + 1"), *prefix, *span);
        }
        ("_id" | "_lastUpdated", Match::Missing(missing)) => {
            if *missing {
                nothing(sql, of);
            } else {
                sql.push(&format!("{of}.vid >= 0"));
            }
        }
        ("_id" | "_lastUpdated", _) => nothing(sql, of),
        (_, Match::Missing(missing)) => {
            sql.push(if *missing { "NOT (" } else { "(" });
            for (index, table) in VALUE_TABLES.iter().enumerate() {
                sql.push(if index > 0 { " OR " } else { "" });
                let values = sql.dialect.of_version(table, "x", (rtype, of), "");
                sql.push(&format!("EXISTS (SELECT 1 {values}"));
                named(sql, "x", rtype, param);
                sql.push(sql.dialect.exists_end());
            }
            sql.push(")");
        }
        (param, Match::To { rtype: target, criterion }) => {
            let (link, other) = beyond(of);
            let on = format!("{other}.rtype = {link}.target_type AND {other}.id = {link}.target");
            let version = sql.dialect.join("version", &other, None, &on);
            let links = sql.dialect.of_version("reference", &link, (rtype, of), &version);
            sql.push(&format!("EXISTS (SELECT 1 {links}"));
            named(sql, &link, rtype, param);
            sql.push(&format!(" AND {link}.target_type = ")).bind(target.clone());
            meets(sql, &other, target, criterion);
            sql.push(sql.dialect.exists_end());
        }
        (_, Match::From { rtype: from, param, criterion }) => {
            let (link, other) = beyond(of);
            let index = sql.dialect.by_index("reference_target");
            let version = sql.dialect.leads_to(&link, from, &other);
            sql.push(&format!(
                "EXISTS (SELECT 1 FROM reference {link}{index}{version} \
                 WHERE {link}.target = {of}.id AND {link}.target_type = {of}.rtype AND {link}.rtype = "
            ));
            sql.bind(from.clone()).push(" AND ");
            named(sql, &link, from, param);
            meets(sql, &other, from, criterion);
            sql.push(sql.dialect.exists_end());
        }
        (_, value) => {
            let (table, _) = table(value);
            let values = sql.dialect.of_version(table, "x", (rtype, of), "");
            sql.push(&format!("EXISTS (SELECT 1 {values}"));
            one_is(sql, "x", rtype, param, value);
            sql.push(sql.dialect.exists_end());
        }
    }
}

/// Names for the reference and the version on the other side of a link from `of`: `r1` and `v1` from `v`, then `r11` and `v11`.
fn beyond(of: &str) -> (String, String) {
    let links = of.trim_start_matches('v');
    (format!("r{links}1"), format!("v{links}1"))
}

/// That version `of` is current and meets a criterion.
fn meets(sql: &mut Sql, of: &str, rtype: &str, criterion: &Criterion) {
    sql.push(&format!(" AND {of}.current = 1 AND {of}.deleted = 0 AND {of}.rtype = ")).bind(rtype.to_owned());
    sql.push(if criterion.negate { " AND NOT (" } else { " AND (" });
    any(sql, of, rtype, criterion);
    sql.push(")");
}

/// Versions that are on this side of a link to records which a criterion drives to.
fn drive_link(sql: &mut Sql, rtype: &str, param: &str, value: &Match) {
    match value {
        Match::To { rtype: target, criterion } => {
            sql.push(" r.vid FROM (");
            candidates(sql, target, criterion, None);
            let target_version = sql.dialect.join("version", "t", None, "t.vid = d.vid");
            let reference = sql.dialect.join("reference", "r", Some("reference_target"), "r.target = t.id");
            sql.push(&format!(") d{target_version}{reference} WHERE t.current = 1 AND t.deleted = 0 AND t.rtype = "));
            sql.bind(target.clone()).push(" AND r.rtype = ").bind(rtype.to_owned()).push(" AND ");
            named(sql, "r", rtype, param);
            sql.push(" AND r.target_type = ").bind(target.clone());
        }
        Match::From { rtype: from, param, criterion } => {
            sql.push(" t.vid FROM (");
            candidates(sql, from, criterion, None);
            let from_version = sql.dialect.join("version", "f", None, "f.vid = d.vid");
            let reference = sql.dialect.join("reference", "r", None, &belongs("r", from, "f"));
            // The type is asked for below as well, as a parameter: by the link's own the index is found from its first column on.
            let version =
                sql.dialect.join("version", "t", Some("version_key"), "t.id = r.target AND t.rtype = r.target_type");
            sql.push(&format!(
                ") d{from_version}{reference}{version} WHERE f.current = 1 AND f.deleted = 0 AND f.rtype = "
            ));
            sql.bind(from.clone()).push(" AND ");
            named(sql, "r", from, param);
            sql.push(" AND r.target_type = ").bind(rtype.to_owned()).push(" AND t.rtype = ").bind(rtype.to_owned());
        }
        _ => {}
    }
}
