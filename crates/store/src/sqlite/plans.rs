//! How SQLite walks through the tables for a search.

use super::{
    read::{FRAME_DIGESTS, FRAME_PLACES, OF_DEVICE, OF_KIND, filed_frames_of, places_of},
    schema::open_writer,
};
use crate::{
    extract::DateRange,
    search::{Criterion, Match, Prefix, Search, TextMatch},
    select::{Dialect, Value, page},
};
use expect_test::{Expect, expect};
use rusqlite::params_from_iter;

/// How SQLite walks through the tables, before it has statistics.
fn check(search: &Search, expected: Expect) {
    let folder = tempfile::tempdir().unwrap();
    let db = open_writer(&folder.path().join("db")).unwrap();
    let sql = page(Dialect::Sqlite, search).unwrap();
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
fn what_audit_events_say_is_looked_for_among_those_of_the_patient() {
    let of_patient = Search::of("AuditEvent").with(Criterion::reference("patient", "Patient", "1"));
    let by_agent = Search::of("AuditEvent").with(Criterion::reference("agent", "Device", "1"));
    let by_agent = by_agent.with(Criterion::reference("patient", "Patient", "1"));
    let driving = page(Dialect::Sqlite, &by_agent).unwrap().values;
    assert_eq!(driving.get(1), Some(&Value::Text("patient".into())), "{driving:?}");
    check(
        &of_patient.with(Criterion::token("outcome", "", "8")),
        expect![[r#"
        CO-ROUTINE d
        CO-ROUTINE c
        SEARCH x USING COVERING INDEX reference_target (target=? AND rtype=? AND param=? AND target_type=?)
        SCAN c
        SEARCH k USING COVERING INDEX version_template (template=?) LEFT-JOIN
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
        SEARCH x EXISTS USING PRIMARY KEY (vid=? AND param=? AND code=? AND system=?)
        USE TEMP B-TREE FOR ORDER BY
    "#]],
    );
}

#[test]
fn what_a_template_says_leads_to_the_events_that_have_it() {
    check(
        &Search::of("AuditEvent").with(Criterion::reference("agent", "Practitioner", "1")),
        expect![[r#"
        CO-ROUTINE d
        CO-ROUTINE c
        SEARCH x USING COVERING INDEX reference_target (target=? AND rtype=? AND param=? AND target_type=?)
        SCAN c
        SEARCH k USING COVERING INDEX version_template (template=?) LEFT-JOIN
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
        USE TEMP B-TREE FOR ORDER BY
    "#]],
    );
    let parsed = |rtype: &str, name: &str| Search::of(rtype).with(Criterion::parse(rtype, name, "x").unwrap());
    check(
        &parsed("AuditEvent", "agent:Practitioner.identifier"),
        expect![[r#"
        CO-ROUTINE d
        CO-ROUTINE c
        CO-ROUTINE d
        SEARCH x USING COVERING INDEX token_code (rtype=? AND param=? AND code=?)
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH t USING INTEGER PRIMARY KEY (rowid=?)
        SEARCH r USING COVERING INDEX reference_target (target=? AND rtype=? AND param=? AND target_type=?)
        USE TEMP B-TREE FOR DISTINCT
        SCAN c
        SEARCH k USING COVERING INDEX version_template (template=?) LEFT-JOIN
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
        USE TEMP B-TREE FOR ORDER BY
    "#]],
    );
    check(
        &parsed("Practitioner", "_has:AuditEvent:agent:policy"),
        expect![[r#"
        CO-ROUTINE d
        CO-ROUTINE d
        CO-ROUTINE c
        SEARCH x USING COVERING INDEX token_code (rtype=? AND param=? AND code=?)
        USE TEMP B-TREE FOR DISTINCT
        SCAN c
        SEARCH k USING COVERING INDEX version_template (template=?) LEFT-JOIN
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH f USING INTEGER PRIMARY KEY (rowid=?)
        SEARCH r USING PRIMARY KEY (vid=? AND param=?)
        SEARCH t USING COVERING INDEX version_key (rtype=? AND id=?)
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
        USE TEMP B-TREE FOR ORDER BY
    "#]],
    );
    let family = Match::Text { text: "M".into(), how: TextMatch::Prefix };
    let linked = parsed("Practitioner", "_has:AuditEvent:agent:policy");
    check(
        &linked.with(Criterion::one("family", family)),
        expect![[r#"
        CO-ROUTINE d
        SEARCH x USING COVERING INDEX text_norm (rtype=? AND param=? AND norm>? AND norm<?)
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
        CORRELATED SCALAR SUBQUERY 3
        SEARCH r1 USING COVERING INDEX reference_target (target=? AND rtype=? AND param=? AND target_type=?)
        SEARCH v1t USING COVERING INDEX version_template (template=?) LEFT-JOIN
        SEARCH v1 USING INTEGER PRIMARY KEY (rowid=?)
        SEARCH x EXISTS USING PRIMARY KEY (vid=? AND param=? AND code=?)
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

#[test]
fn composites_and_chains_begin_where_their_most_selective_value_is() {
    let search =
        |rtype: &str, name: &str, value: &str| Search::of(rtype).with(Criterion::parse(rtype, name, value).unwrap());
    check(
        &search("Observation", "component-code-value-quantity", "8480-6$gt100"),
        expect![[r#"
        CO-ROUTINE d
        SEARCH x USING COVERING INDEX token_code (rtype=? AND param=? AND code=?)
        SEARCH x0 EXISTS USING PRIMARY KEY (vid=? AND param=?)
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
        USE TEMP B-TREE FOR ORDER BY
    "#]],
    );
    check(
        &search("Observation", "patient.identifier", "s|1"),
        expect![[r#"
        CO-ROUTINE d
        CO-ROUTINE d
        SEARCH x USING COVERING INDEX token_code (rtype=? AND param=? AND code=?)
        SCAN d
        SEARCH t USING INTEGER PRIMARY KEY (rowid=?)
        SEARCH r USING COVERING INDEX reference_target (target=? AND rtype=? AND param=? AND target_type=?)
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
        USE TEMP B-TREE FOR ORDER BY
    "#]],
    );
    check(
        &search("Patient", "_has:Observation:patient:code", "8867-4"),
        expect![[r#"
        CO-ROUTINE d
        CO-ROUTINE d
        SEARCH x USING COVERING INDEX token_code (rtype=? AND param=? AND code=?)
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH f USING INTEGER PRIMARY KEY (rowid=?)
        SEARCH r USING PRIMARY KEY (vid=? AND param=?)
        SEARCH t USING COVERING INDEX version_key (rtype=? AND id=?)
        USE TEMP B-TREE FOR DISTINCT
        SCAN d
        SEARCH v USING INTEGER PRIMARY KEY (rowid=?)
        USE TEMP B-TREE FOR ORDER BY
    "#]],
    );
}

#[test]
fn frames_are_looked_for_in_one_index_from_where_a_page_begins() {
    let folder = tempfile::tempdir().unwrap();
    let db = open_writer(&folder.path().join("db")).unwrap();
    let plan = |sql: &str, values: usize| {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = params_from_iter(std::iter::repeat_n(1, values));
        let steps = statement.query_map(values, |row| row.get::<_, String>(3)).unwrap();
        steps.map(|step| step.unwrap()).collect::<Vec<_>>().join("\n")
    };
    for newest_first in [false, true] {
        let device = plan(&places_of(OF_DEVICE, newest_first), 7);
        let kind = plan(&places_of(OF_KIND, newest_first), 7);
        assert!(device.contains("INDEX frame_device (device=? AND measured_at>? AND measured_at<?)"), "{device}");
        assert!(
            kind.contains("INDEX frame_patient (patient=? AND kind=? AND measured_at>? AND measured_at<?)"),
            "{kind}"
        );
        assert!(!device.contains("TEMP B-TREE") && !kind.contains("TEMP B-TREE"), "{device}\n{kind}");
    }
    let (places, filed) = (plan(FRAME_PLACES, 4), plan(&filed_frames_of(), 5));
    assert!(places.contains("COVERING INDEX frame_counter") && !places.contains("TEMP B-TREE"), "{places}");
    assert!(filed.contains("INDEX frame_counter (device=? AND") && !filed.contains("TEMP B-TREE"), "{filed}");
    let digests = plan(FRAME_DIGESTS, 4);
    assert!(digests.contains("INDEX frame_counter (device=? AND counter>? AND counter<?)"), "{digests}");
}
