//! Searching, compared with a plain filter over the same values.

use crate::{
    Backend,
    suite::{create, row},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use record::TimeMs;
use std::collections::BTreeSet;
use store::{
    Criterion, DateRange, IndexRow, IndexValue, Match, Page, Prefix, Put, Row, Search, Sort, Store, TextMatch,
    normalise,
};
use tempfile::tempdir;

struct Stored {
    row: Row,
    index: Vec<IndexRow>,
}

const WORDS: [&str; 6] = ["Müller", "muller", "Mull", "Ana María", "ana", "Z"];
const PREFIXES: [Prefix; 9] =
    [Prefix::Eq, Prefix::Ne, Prefix::Gt, Prefix::Lt, Prefix::Ge, Prefix::Le, Prefix::Sa, Prefix::Eb, Prefix::Ap];

fn span(random: &mut StdRng) -> DateRange {
    let lo_ms = random.random_range(-20..20);
    match random.random_range(0..8) {
        0 => DateRange { lo_ms, hi_ms: i64::MAX },
        1 => DateRange { lo_ms: i64::MIN, hi_ms: lo_ms },
        _ => DateRange { lo_ms, hi_ms: lo_ms + random.random_range(1..10) },
    }
}

fn pick<'a>(random: &mut StdRng, all: &[&'a str]) -> &'a str {
    all.choose(random).unwrap()
}

fn value(random: &mut StdRng, param: &'static str) -> IndexRow {
    let value = match param {
        "code" | "identifier" | "status" => IndexValue::Token {
            system: pick(random, &["", "s", "t"]).into(),
            code: pick(random, &["a", "b", "c", "A"]).into(),
        },
        "name" => IndexValue::Text(pick(random, &WORDS).into()),
        "date" => IndexValue::Date(span(random)),
        _ => IndexValue::Reference {
            rtype: pick(random, &["Patient", "Patient", "Patient", "Group", ""]).into(),
            id: pick(random, &["1", "2", "3"]).into(),
        },
    };
    IndexRow { param: param.into(), value }
}

const PARAMS: [&str; 7] = ["code", "identifier", "status", "name", "date", "patient", "subject"];

fn stored(random: &mut StdRng, number: usize) -> Stored {
    let mut index = Vec::new();
    for param in PARAMS {
        let many = *[0, 1, 1, 1, 2].choose(random).unwrap();
        index.extend((0..many).map(|_| value(random, param)));
    }
    let mut row = row(pick(random, &["Observation", "Observation", "Condition"]), &format!("r{number}"), 1, b"x");
    row.written_at = TimeMs(random.random_range(0..50));
    Stored { row, index }
}

fn alternative(random: &mut StdRng, param: &'static str) -> Match {
    if random.random_range(0..12) == 0 {
        return Match::Missing(random.random());
    }
    match (param, value(random, param).value) {
        (_, IndexValue::Token { system, code }) => {
            let code = random.random_bool(0.9).then_some(code);
            let system = (code.is_none() || random.random()).then_some(system);
            Match::Token { system, code }
        }
        (_, IndexValue::Text(text)) => {
            let how = *[TextMatch::Prefix, TextMatch::Exact, TextMatch::Contains].choose(random).unwrap();
            Match::Text { text, how }
        }
        (_, IndexValue::Date(span)) => Match::Date { prefix: *PREFIXES.choose(random).unwrap(), span },
        (_, IndexValue::Reference { rtype, id }) => {
            Match::Reference { rtype: (random.random() && !rtype.is_empty()).then_some(rtype), id }
        }
    }
}

fn criterion(random: &mut StdRng) -> Criterion {
    match random.random_range(0..12) {
        0 => Criterion::code("_id", format!("r{}", random.random_range(0..60))),
        1 => {
            let prefix = *PREFIXES.choose(random).unwrap();
            let lo_ms = random.random_range(0..50);
            Criterion::one("_lastUpdated", Match::Date { prefix, span: DateRange { lo_ms, hi_ms: lo_ms + 5 } })
        }
        _ => {
            let param = *PARAMS.choose(random).unwrap();
            let many = *[1, 1, 1, 2, 3].choose(random).unwrap();
            let any = (0..many).map(|_| alternative(random, param)).collect();
            Criterion { param: param.into(), negate: random.random_bool(0.2), any }
        }
    }
}

fn related(lo: i64, hi: i64, prefix: Prefix, span: DateRange) -> bool {
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

fn meets(stored: &Stored, criterion: &Criterion) -> bool {
    let values: Vec<&IndexValue> =
        stored.index.iter().filter(|row| row.param == criterion.param).map(|row| &row.value).collect();
    let any = criterion.any.iter().any(|wanted| match (criterion.param.as_str(), wanted) {
        ("_id", Match::Token { code, .. }) => code.as_ref() == Some(&stored.row.id),
        ("_lastUpdated", Match::Date { prefix, span }) => {
            let written = stored.row.written_at.0 as i64;
            related(written, written + 1, *prefix, *span)
        }
        (_, Match::Missing(missing)) => values.is_empty() == *missing,
        (_, wanted) => values.iter().any(|value| match (wanted, value) {
            (Match::Token { system, code }, IndexValue::Token { system: has_system, code: has_code }) => {
                system.as_ref().is_none_or(|system| system == has_system)
                    && code.as_ref().is_none_or(|code| code == has_code)
            }
            (Match::Text { text, how: TextMatch::Exact }, IndexValue::Text(has)) => has == text,
            (Match::Text { text, how: TextMatch::Prefix }, IndexValue::Text(has)) => {
                normalise(has).starts_with(&normalise(text))
            }
            (Match::Text { text, how: TextMatch::Contains }, IndexValue::Text(has)) => {
                normalise(has).contains(&normalise(text))
            }
            (Match::Date { prefix, span }, IndexValue::Date(has)) => related(has.lo_ms, has.hi_ms, *prefix, *span),
            (Match::Reference { rtype, id }, IndexValue::Reference { rtype: has_type, id: has_id }) => {
                id == has_id && rtype.as_ref().is_none_or(|rtype| rtype == has_type)
            }
            _ => false,
        }),
    });
    any != criterion.negate
}

fn key(stored: &Stored, sort: &Sort) -> i64 {
    let Sort::Date { param, newest_first } = sort else { return stored.row.written_at.0 as i64 };
    let starts = stored.index.iter().filter(|row| row.param == *param).filter_map(|row| match &row.value {
        IndexValue::Date(span) => Some(span.lo_ms),
        _ => None,
    });
    if *newest_first { starts.max().unwrap_or(i64::MIN) } else { starts.min().unwrap_or(i64::MAX) }
}

/// All pages of a search; each must carry the same total.
async fn all(store: &Store, mut search: Search) -> (Vec<String>, u64) {
    let mut ids = Vec::new();
    let mut totals = BTreeSet::new();
    loop {
        let Page { found, total, next } = store.search(search.clone()).await.unwrap();
        assert!(found.rows.len() <= search.count && found.malformed.is_empty());
        ids.extend(found.rows.into_iter().map(|row| row.id));
        totals.insert(total.unwrap());
        match next {
            // The text form is what outside callers hand back.
            Some(next) => search.after = Some(next.to_string().parse().unwrap()),
            None => break,
        }
    }
    assert_eq!(totals.len(), 1);
    (ids, totals.pop_first().unwrap())
}

pub(crate) async fn searches_agree_with_a_plain_filter(backend: &impl Backend) {
    let seed = std::env::var("STORE_SEARCH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| rand::rng().random());
    println!("STORE_SEARCH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let all_stored: Vec<Stored> = (0..60).map(|number| stored(&mut random, number)).collect();
    let puts = all_stored.iter().map(|stored| create(stored.row.clone(), stored.index.clone()));
    store.put(Put { records: puts.flat_map(|put| put.records).collect(), ..Put::default() }).await.unwrap();
    for round in 0..2_000 {
        if round == 1_000 {
            store.optimize().await.unwrap();
        }
        let newest_first = random.random();
        let sort = if random.random() {
            Sort::Written { newest_first }
        } else {
            Sort::Date { param: "date".into(), newest_first }
        };
        let criteria: Vec<Criterion> = (0..random.random_range(0..4)).map(|_| criterion(&mut random)).collect();
        let count = *[1, 5, 100].choose(&mut random).unwrap();
        let search = Search { criteria, sort, count, ..Search::of(pick(&mut random, &["Observation", "Condition"])) };

        let mut expected: Vec<(i64, usize)> = all_stored
            .iter()
            .enumerate()
            .filter(|(_, stored)| stored.row.rtype == search.rtype && search.criteria.iter().all(|c| meets(stored, c)))
            .map(|(number, stored)| (key(stored, &search.sort), number))
            .collect();
        expected.sort_unstable();
        if newest_first {
            expected.reverse();
        }
        let expected: Vec<String> = expected.into_iter().map(|(_, number)| format!("r{number}")).collect();
        let (ids, total) = all(&store, search.clone()).await;
        assert_eq!(ids, expected, "{search:?}");
        assert_eq!(total, expected.len() as u64, "{search:?}");
        let only_total = store.search(Search { count: 0, ..search }).await.unwrap();
        assert_eq!((only_total.total, only_total.found.rows.len()), (Some(total), 0));
    }
}

pub(crate) async fn pages_follow_each_other_while_records_arrive(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let new = |number: u64| {
        let mut row = row("Observation", &format!("r{number}"), 1, b"x");
        row.written_at = TimeMs(number);
        create(row, vec![])
    };
    for number in 0..20 {
        store.put(new(number)).await.unwrap();
    }
    let mut search = Search { sort: Sort::Written { newest_first: true }, count: 6, ..Search::of("Observation") };
    let mut ids = Vec::new();
    for number in 20.. {
        let page = store.search(search.clone()).await.unwrap();
        ids.extend(page.found.rows.into_iter().map(|row| row.id));
        store.put(new(number)).await.unwrap();
        search.after = page.next;
        if search.after.is_none() {
            break;
        }
    }
    assert_eq!(ids, (0..20).rev().map(|number| format!("r{number}")).collect::<Vec<_>>());
}
