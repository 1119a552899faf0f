//! Searching, compared with a plain filter over the same values.

use crate::{
    Backend,
    suite::{create, row},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use record::{TimeMs, fhir::RESOURCE_TYPES};
use std::{cmp::Ordering, collections::BTreeSet};
use store::{
    APART, CHAIN_LINKS_MAX, Criterion, DateRange, IndexRow, IndexValue, Match, Number, Page, Prefix, Put, Row,
    SORT_KEYS_MAX, Search, Sort, Store, TextMatch, UriMatch, WHOLE, Written, filed, normalise,
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
        "code" | "component-code" | "identifier" | "status" => {
            let codes = [("a", ""), ("b", "ana maria"), ("c", "muller\nana"), ("A", "z\nmuller")];
            let (code, text) = *codes.choose(random).unwrap();
            IndexValue::Token { system: pick(random, &["", "s", "t"]).into(), code: code.into(), text: text.into() }
        }
        "value-string" => IndexValue::Text(pick(random, &WORDS).into()),
        "value-quantity" | "component-value-quantity" => quantity(random),
        "_profile" => IndexValue::Uri(pick(random, &ADDRESSES).into()),
        "focus" => IndexValue::Reference {
            rtype: pick(random, &["Observation", "Condition", ""]).into(),
            id: format!("r{}", random.random_range(0..STORED)),
        },
        "date" => IndexValue::Date(span(random)),
        _ => IndexValue::Reference {
            rtype: pick(random, &["Patient", "Patient", "Patient", "Group", ""]).into(),
            id: pick(random, &["1", "2", "3"]).into(),
        },
    };
    let part = match param {
        "component-code" | "component-value-quantity" => *[1, 2, 3, APART].choose(random).unwrap(),
        _ => WHOLE,
    };
    IndexRow { param: param.into(), part, value }
}

fn quantity(random: &mut StdRng) -> IndexValue {
    let number = |tenths: i32| Number::new(f64::from(tenths) / 10.0).unwrap();
    let lo = random.random_range(-20..20);
    let (lo, hi) = match random.random_range(0..6) {
        0 => (number(lo), number(lo + 4)),
        1 => (Number::LEAST, number(lo)),
        2 => (number(lo), Number::MOST),
        _ => (number(lo), number(lo)),
    };
    let [system, code, unit] = [&["", "s"], &["a", "b"], &["", "b"]].map(|all| pick(random, all).to_owned());
    IndexValue::Quantity { lo, hi, system, code, unit }
}

const ADDRESSES: [&str; 6] =
    ["http://a.org", "http://a.org/", "http://a.org/x", "http://a.org/x/y", "http://a.org/xy", "urn:x"];
/// How many records there are.
const STORED: usize = 60;
/// What values are filed under.
const PARAMS: [&str; 12] = [
    "code",
    "component-code",
    "component-value-quantity",
    "identifier",
    "status",
    "value-string",
    "date",
    "focus",
    "patient",
    "subject",
    "value-quantity",
    "_profile",
];
/// Parameters of Observation that have the values of others together.
const TOGETHER: [(&str, [&str; 2]); 2] = [
    ("combo-code", ["code", "component-code"]),
    ("combo-value-quantity", ["value-quantity", "component-value-quantity"]),
];
/// What Observations are sorted by here; some of it decides seldom, so that the next key does.
const SORTABLE: [&str; 14] = [
    "_id",
    "_lastUpdated",
    "_lastUpdated",
    "date",
    "date",
    "code",
    "combo-code",
    "status",
    "value-quantity",
    "value-string",
    "focus",
    "patient",
    "subject",
    "_profile",
];
/// Composites of Observation with their parts.
const COMPOSITES: [(&str, [&str; 2]); 3] = [
    ("code-value-quantity", ["code", "value-quantity"]),
    ("component-code-value-quantity", ["component-code", "component-value-quantity"]),
    ("combo-code-value-quantity", ["combo-code", "combo-value-quantity"]),
];

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
    if random.random_range(0..12) == 0 {
        let other = *PARAMS.choose(random).unwrap();
        return Match::Under { param: other.into(), of: Box::new(one(random, other)) };
    }
    one(random, param)
}

fn one(random: &mut StdRng, param: &'static str) -> Match {
    let of = TOGETHER.iter().find(|(name, _)| *name == param).map_or(param, |(_, [first, _])| first);
    match (param, value(random, of).value) {
        (_, IndexValue::Token { text, .. }) if random.random_range(0..6) == 0 => {
            Match::Words(text.split('\n').next_back().unwrap().chars().take(3).collect())
        }
        (_, IndexValue::Token { system, code, .. }) => {
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
        (_, IndexValue::Quantity { system, code, .. }) => {
            let tenths = random.random_range(-20..20);
            let text = if random.random() {
                format!("{}.{}", tenths / 10, (tenths % 10_i32).abs())
            } else {
                format!("{}", tenths / 10)
            };
            let number = Written::parse(&text).unwrap();
            let system = (random.random() && !system.is_empty()).then_some(system);
            let code = random.random::<bool>().then_some(code);
            Match::Quantity { prefix: *PREFIXES.choose(random).unwrap(), number, system, code }
        }
        (_, IndexValue::Uri(uri)) => {
            Match::Uri { uri, how: *[UriMatch::Exact, UriMatch::Below, UriMatch::Above].choose(random).unwrap() }
        }
    }
}

/// A link by `focus`, in either direction.
fn link(random: &mut StdRng, links: usize) -> Criterion {
    let rtype = pick(random, &["Observation", "Condition"]).to_owned();
    let criterion = Box::new(criterion(random, links));
    if random.random() {
        return Criterion { param: "focus".into(), negate: false, any: vec![Match::To { rtype, criterion }] };
    }
    let from = Match::From { rtype, param: "focus".into(), criterion };
    Criterion { param: "_has".into(), negate: false, any: vec![from] }
}

fn criterion(random: &mut StdRng, links: usize) -> Criterion {
    if links > 0 && random.random_range(0..5) == 0 {
        return link(random, links - 1);
    }
    match random.random_range(0..15) {
        12 => {
            let (param, parts) = *COMPOSITES.choose(random).unwrap();
            let any = (0..*[1, 1, 2].choose(random).unwrap())
                .map(|_| Match::Composite(parts.map(|part| one(random, part)).into()));
            Criterion { param: param.into(), negate: false, any: any.collect() }
        }
        13 => {
            let (param, _) = *TOGETHER.choose(random).unwrap();
            Criterion { param: param.into(), negate: random.random_bool(0.2), any: vec![alternative(random, param)] }
        }
        14 => {
            let of = pick(random, &["Patient", "Patient", "Device", "Location"]);
            let within = Criterion::in_compartment(of, pick(random, &["1", "2", "3"]));
            Criterion { negate: random.random_bool(0.2), ..within }
        }
        0 => Criterion::code("_id", format!("r{}", random.random_range(0..STORED))),
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

/// Whether a record refers by `focus` to another one.
fn refers(from: &Stored, to: &Stored) -> bool {
    let name = IndexValue::Reference { rtype: to.row.rtype.clone(), id: to.row.id.clone() };
    from.index.iter().any(|row| row.param == "focus" && row.value == name)
}

/// A plain filter: what a record's values say, and of chains what the records at their ends say.
fn meets(all: &[Stored], stored: &Stored, criterion: &Criterion) -> bool {
    if let Some(holds) = criterion.holds(&stored.row, &stored.index) {
        return holds;
    }
    let any = criterion.any.iter().any(|wanted| match wanted {
        Match::To { rtype, criterion } => {
            all.iter().any(|to| to.row.rtype == *rtype && refers(stored, to) && meets(all, to, criterion))
        }
        Match::From { rtype, criterion, .. } => {
            all.iter().any(|from| from.row.rtype == *rtype && refers(from, stored) && meets(all, from, criterion))
        }
        wanted => Criterion::one(criterion.param.clone(), wanted.clone()).holds(&stored.row, &stored.index).unwrap(),
    });
    any != criterion.negate
}

/// What a record is sorted by: a number, or a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Int(i64),
    Real(Number),
    Text(String),
}

fn key(stored: &Stored, sort: &Sort) -> Option<Key> {
    let names = filed("Observation", &sort.param);
    let own = stored.index.iter().filter(|row| row.param == sort.param || names.contains(&row.param.as_ref()));
    let keys = own.filter_map(|row| match &row.value {
        IndexValue::Date(span) => Some(Key::Int(span.lo_ms)),
        IndexValue::Quantity { lo, .. } => Some(Key::Real(*lo)),
        IndexValue::Text(text) => Some(Key::Text(normalise(text))),
        IndexValue::Reference { rtype, id } => Some(Key::Text(format!("{rtype}/{id}"))),
        IndexValue::Token { code, .. } => Some(Key::Text(code.clone())).filter(|_| !code.is_empty()),
        IndexValue::Uri(uri) => Some(Key::Text(uri.clone())),
    });
    match sort.param.as_str() {
        "_lastUpdated" => Some(Key::Int(stored.row.written_at.0 as i64)),
        "_id" => Some(Key::Text(stored.row.id.clone())),
        _ if sort.descending => keys.max(),
        _ => keys.min(),
    }
}

/// How two records stand to each other; the place of each is where it stands in the list.
fn ordered(all: &[Stored], sort: &[Sort], one: usize, other: usize) -> Ordering {
    for sort in sort {
        let way = |ordering: Ordering| if sort.descending { ordering.reverse() } else { ordering };
        let ordering = match (key(&all[one], sort), key(&all[other], sort)) {
            (Some(one), Some(other)) => way(one.cmp(&other)),
            // Those without come last, whichever way it goes.
            (one, other) => one.is_none().cmp(&other.is_none()),
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    let backwards = sort.first().is_some_and(|sort| sort.descending);
    if backwards { other.cmp(&one) } else { one.cmp(&other) }
}

/// Keys of any kind, up to as many as there may be.
fn order(random: &mut StdRng, of_both: bool) -> Vec<Sort> {
    let params: &[&str] = if of_both {
        &["_id", "_lastUpdated", "_lastUpdated", "code", "identifier", "patient", "subject", "_profile"]
    } else {
        &SORTABLE
    };
    let many = *[1, 1, 2, SORT_KEYS_MAX].choose(random).unwrap();
    (0..many).map(|_| Sort { param: pick(random, params).into(), descending: random.random() }).collect()
}

/// All pages of a search; each must carry the same total.
async fn all(store: &Store, mut search: Search) -> (Vec<String>, u64) {
    let mut ids = Vec::new();
    let mut totals = BTreeSet::new();
    loop {
        let page = store.search(search.clone()).await;
        let Page { found, total, next, ends } = page.unwrap_or_else(|error| panic!("{error}: {search:?}"));
        assert!(found.rows.len() <= search.count && found.malformed.is_empty());
        assert_eq!(ends.len(), found.rows.len());
        assert!(next.is_none() || next.as_ref() == ends.last());
        // A page that ends at any row goes on with the next one.
        if let [.., before, _] = ends.as_slice() {
            let rest = Search { after: Some(before.clone()), count: 1, total: false, ..search.clone() };
            let rest = store.search(rest).await.unwrap().found.rows;
            assert_eq!(rest.first().map(|row| &row.id), found.rows.last().map(|row| &row.id));
        }
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
    let all_stored: Vec<Stored> = (0..STORED).map(|number| stored(&mut random, number)).collect();
    let puts = all_stored.iter().map(|stored| create(stored.row.clone(), stored.index.clone()));
    store.put(Put { records: puts.flat_map(|put| put.records).collect(), ..Put::default() }).await.unwrap();
    for round in 0..2_000 {
        if round == 1_000 {
            store.optimize().await.unwrap();
        }
        // Of both types at once, now and then.
        let (rtype, also) = match random.random_range(0..4) {
            0 => ("Condition", vec!["Observation".to_owned()]),
            1 => ("Condition", vec![]),
            _ => ("Observation", vec![]),
        };
        let of_both = rtype == "Condition";
        let sort = order(&mut random, of_both);
        let criteria: Vec<Criterion> =
            (0..random.random_range(0..4)).map(|_| criterion(&mut random, CHAIN_LINKS_MAX)).collect();
        let count = *[1, 5, 100].choose(&mut random).unwrap();
        let search = Search { also, criteria, sort, count, ..Search::of(rtype) };

        let is_meant = |stored: &Stored| {
            search.types().any(|rtype| rtype == stored.row.rtype)
                && search.criteria.iter().all(|c| meets(&all_stored, stored, c))
        };
        let mut expected: Vec<usize> = (0..STORED).filter(|number| is_meant(&all_stored[*number])).collect();
        expected.sort_by(|one, other| ordered(&all_stored, &search.sort, *one, *other));
        let expected: Vec<String> = expected.into_iter().map(|number| format!("r{number}")).collect();
        let (ids, total) = all(&store, search.clone()).await;
        assert_eq!(ids, expected, "{search:?}");
        assert_eq!(total, expected.len() as u64, "{search:?}");
        let only_total = store.search(Search { count: 0, ..search }).await.unwrap();
        assert_eq!((only_total.total, only_total.found.rows.len()), (Some(total), 0));
    }
}

pub(crate) async fn every_type_of_fhir_is_searched_at_once(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let tagged = |code: &str| {
        let value = IndexValue::Token { system: "s".into(), code: code.into(), text: String::new() };
        vec![IndexRow::whole("_tag", value)]
    };
    for (number, rtype) in RESOURCE_TYPES.into_iter().enumerate() {
        let code = if number % 2 == 0 { "even" } else { "odd" };
        store.put(create(row(rtype, &format!("r{number}"), 1, b"x"), tagged(code))).await.unwrap();
    }
    let (first, others) = RESOURCE_TYPES.split_first().unwrap();
    let also = others.iter().map(|rtype| (*rtype).to_owned()).collect();
    let sort = vec![Sort::descending("_tag"), Sort::ascending("_id")];
    let even = Criterion::token("_tag", "s", "even");
    let search = Search { also, sort, count: 20, ..Search::of(*first) };
    let mut expected: Vec<String> = (0..RESOURCE_TYPES.len()).map(|number| format!("r{number}")).collect();
    expected.sort_by_key(|id| (id[1..].parse::<usize>().unwrap().is_multiple_of(2), id.clone()));
    assert_eq!(all(&store, search.clone()).await, (expected.clone(), RESOURCE_TYPES.len() as u64));
    let (found, total) = all(&store, search.with(even)).await;
    assert_eq!(found, expected[RESOURCE_TYPES.len() / 2..]);
    assert_eq!(total, RESOURCE_TYPES.len().div_ceil(2) as u64);
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
    let mut search = Search { sort: vec![Sort::descending("_lastUpdated")], count: 6, ..Search::of("Observation") };
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
