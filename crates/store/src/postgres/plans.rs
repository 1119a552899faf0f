//! How PostgreSQL walks through the tables for a search, before it has statistics and on tables that are all but empty.

use super::{
    read::{FRAME_DIGESTS, FRAME_PLACES, filed_frames_of, of_device, of_kinds},
    server::{Server as Connected, Trust},
    session::{Purpose, Session},
};
use crate::{
    address::Address,
    extract::DateRange,
    search::{Criterion, Match, Prefix, Search, TextMatch},
    select::{Dialect, page},
    server::{Disk, Server},
};
use tokio_postgres::types::ToSql;

/// The indexes that are looked into, from the outermost step to the innermost.
fn check(connected: &Connected, search: &Search, expected: &[&str]) {
    let sql = page(Dialect::Postgres, search).unwrap();
    let plan = connected.wait(async {
        let session = Session::open(connected, Purpose::Write).await.unwrap();
        super::schema::bring_up(&session).await.unwrap();
        let values: Vec<&(dyn ToSql + Sync)> = sql.values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let rows = session.query(&format!("EXPLAIN {}", sql.text), &values).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    });
    let plan = plan.join("\n");
    assert!(!plan.contains("Seq Scan"), "{plan}");
    let words: Vec<&str> = plan.split_whitespace().collect();
    let used: Vec<&str> =
        words.windows(2).filter(|pair| ["using", "on"].contains(&pair[0])).map(|pair| pair[1]).collect();
    // The others are tables, under names of the planner's.
    let known = |name: &&&str| name.contains('_') && !name.ends_with(char::is_numeric);
    assert_eq!(used.iter().filter(known).copied().collect::<Vec<_>>(), expected, "{plan}");
}

/// How the server walks through frames, with the first values of a page.
fn of_frames(connected: &Connected, sql: &str, values: &[&(dyn ToSql + Sync)]) -> String {
    let plan = connected.wait(async {
        let session = Session::open(connected, Purpose::Write).await.unwrap();
        super::schema::bring_up(&session).await.unwrap();
        let rows = session.query(&format!("EXPLAIN {sql}"), values).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    });
    plan.join("\n")
}

#[test]
fn frames_on_a_server_are_looked_for_in_one_index_from_where_a_page_begins() {
    let Some(server) = Server::start(Disk::Careless) else { return };
    let Ok(Address::Server(address)) = server.address("postgres").parse() else { panic!() };
    let connected = Connected::new(&address, Trust::Operator).unwrap();
    let whose = super::columns::filed("p");
    let (many, at) = (vec![1i64, 2], 1i64);
    for newest_first in [false, true] {
        let plan = of_frames(&connected, &of_device(newest_first), &[&whose, &at, &at, &at, &at, &at]);
        assert!(plan.contains("frame_device") && !plan.contains("Seq Scan"), "{plan}");
        let values: [&(dyn ToSql + Sync); 7] = [&whose, &many, &many, &many, &at, &at, &at];
        let plan = of_frames(&connected, &of_kinds(newest_first), &values);
        assert!(plan.contains("frame_patient") && plan.contains("frame_pkey"), "{plan}");
        assert!(!plan.contains("Seq Scan"), "{plan}");
    }
    let plan = of_frames(&connected, FRAME_PLACES, &[&whose, &at, &at, &at]);
    assert!(plan.contains("frame_counter") && !plan.contains("Seq Scan"), "{plan}");
    let plan = of_frames(&connected, &filed_frames_of(), &[&whose, &at, &at, &at, &at]);
    assert!(plan.contains("frame_counter") && !plan.contains("Seq Scan"), "{plan}");
    let plan = of_frames(&connected, FRAME_DIGESTS, &[&whose, &at, &at, &at]);
    assert!(plan.contains("frame_counter") && !plan.contains("Seq Scan"), "{plan}");
}

#[test]
fn a_search_on_a_server_begins_where_its_most_selective_value_is() {
    let Some(server) = Server::start(Disk::Careless) else { return };
    let Ok(Address::Server(address)) = server.address("postgres").parse() else { panic!() };
    let connected = Connected::new(&address, Trust::Operator).unwrap();
    let check = |search: &Search, expected: &[&str]| check(&connected, search, expected);
    let search = Search::of("Observation")
        .with(Criterion::reference("patient", "Patient", "1"))
        .with(Criterion::token("code", "http://loinc.org", "8867-4"));
    check(&search, &["token_code", "token_code", "version_pkey", "reference_vid"]);
    check(&Search::of("Patient").with(Criterion::token("identifier", "s", "1")), &["token_code", "version_pkey"]);
    let family = Match::Text { text: "M".into(), how: TextMatch::Prefix };
    check(&Search::of("Patient").with(Criterion::one("family", family)), &["text_norm", "version_pkey"]);
    let day = Match::Date { prefix: Prefix::Eq, span: DateRange { lo_ms: 0, hi_ms: 1 } };
    check(&Search::of("Observation").with(Criterion::one("date", day)), &["date_lo", "version_pkey"]);
    check(&Search::of("Observation"), &["version_written"]);
    check(&Search::of("Observation").with(Criterion::code("_id", "1")), &["version_key", "version_pkey"]);
    let parsed =
        |rtype: &str, name: &str, value: &str| Search::of(rtype).with(Criterion::parse(rtype, name, value).unwrap());
    check(
        &parsed("Observation", "component-code-value-quantity", "8480-6$gt100"),
        &["token_code", "quantity_vid", "version_pkey"],
    );
    check(
        &parsed("Observation", "patient.identifier", "s|1"),
        &["token_code", "version_pkey", "reference_target", "version_pkey"],
    );
    check(
        &parsed("Patient", "_has:Observation:patient:code", "8867-4"),
        &["token_code", "version_pkey", "reference_vid", "version_key", "version_pkey"],
    );
    check(
        &Search::of("AuditEvent").with(Criterion::reference("agent", "Practitioner", "1")),
        &["reference_target", "version_template", "version_pkey"],
    );
    let of_patient = Search::of("AuditEvent").with(Criterion::reference("patient", "Patient", "1"));
    check(
        &of_patient.with(Criterion::token("outcome", "", "8")),
        &["reference_target", "version_template", "version_pkey", "token_vid"],
    );
    check(
        &parsed("Practitioner", "_has:AuditEvent:agent:policy", "x"),
        &["token_code", "version_template", "version_pkey", "reference_vid", "version_key", "version_pkey"],
    );
}
