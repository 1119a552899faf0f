//! Random requests by random people and apps at four members' gateways, against a decision that is written once more in words: what is
//! shown, what is counted, what is denied and what the trail says of it must be the same.
//!
//! `VITALTRACE_REQUESTS` says how many requests, `VITALTRACE_SEED` under which seed; both are printed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests; seeds are said")]

mod draw;
mod reference;
mod site;

use draw::{Draw, Request, TYPES, Want};
use exchange::{Caller, Failure, Handling};
use futures::StreamExt as _;
use record::Id16;
use reference::{Act, Asked, Consent, INSPECTORATE, Rec, Version, Who, World};
use serde_json::{Value, json};
use site::{Event, Site};
use std::{collections::BTreeSet, time::Instant};

/// The seed, unless it is said otherwise: a run that fails is run again.
const SEED: u64 = 350_037;
/// Requests of a run, unless it is said otherwise: some seconds of a release build.
const REQUESTS: usize = 4_000;
/// Requests while nothing changes, all of them side by side.
const ROUND: usize = 200;
/// So many of a round are carried out at the same time.
const AT_ONCE: usize = 16;
/// Changes between two rounds.
const CHANGES: usize = 6;
/// Records in the world at most; when there are more, nothing new is created.
const RECORDS_MAX: usize = 140;

fn said(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("`{name}` is a number")))
}

struct Run {
    site: Site,
    world: World,
    draw: Draw,
    /// Logical ids of the Patients, by place.
    ids: Vec<String>,
    /// Overrides, in the order of the world's.
    open: Vec<Id16>,
    number: usize,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    requests: usize,
    denied: usize,
    shown: usize,
    totals: usize,
}

/// What a request came to, as it is compared.
#[derive(Debug, PartialEq)]
enum Came {
    /// `Type/id/_history/version` of what was shown, and the total where there is one.
    Shown(BTreeSet<String>, Option<u64>),
    Denied,
    Gone,
    /// Of a batch: each entry.
    Each(Vec<Came>),
    Other(String),
}

fn name(record: &Rec, version: usize) -> String {
    format!("{}/{}/_history/{version}", record.rtype, record.id)
}

fn shown(resource: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&resource["meta"]["versionId"]);
    format!("{}/{}/_history/{version}", text(&resource["resourceType"]), text(&resource["id"]))
}

fn failed(failure: Failure) -> Came {
    match failure {
        Failure::Denied { .. } => Came::Denied,
        Failure::Gone(_) => Came::Gone,
        other => Came::Other(format!("{other:?}")),
    }
}

impl Run {
    async fn new(seed: u64) -> Self {
        let mut run = Self {
            site: Site::start().await,
            world: World::default(),
            draw: Draw::new(seed),
            ids: Vec::new(),
            open: Vec::new(),
            number: 0,
            counts: Counts::default(),
        };
        run.people_and_records().await;
        run
    }

    fn request_id(&mut self) -> String {
        self.number += 1;
        format!("r{}", self.number)
    }

    fn caller(&self, who: &Who, purpose: &str, request: &str) -> Caller {
        self.site.caller(who, purpose, request, &self.ids)
    }

    /// Creates what somebody may create, and takes it into the world.
    async fn make(
        &mut self,
        who: &Who,
        purpose: &str,
        rtype: &'static str,
        patient: Option<usize>,
        version: Version,
    ) -> usize {
        let request = self.request_id();
        let body = self.draw.body(&self.world, &self.ids, rtype, patient, &version, None);
        let caller = self.caller(who, purpose, &request);
        let written = self.site.nodes[who.org].create(&caller, rtype, body.to_string().as_bytes(), None).await;
        let id = written.unwrap().record.split_once('/').unwrap().1.to_owned();
        self.take(rtype, patient, id, version)
    }

    fn take(&mut self, rtype: &'static str, patient: Option<usize>, id: String, version: Version) -> usize {
        self.world.records.push(Rec { rtype, id, patient, versions: vec![version] });
        self.world.records.len() - 1
    }

    async fn people_and_records(&mut self) {
        let keepers = draw::keepers();
        for patient in 0..draw::PATIENTS {
            let keeper = &keepers[patient % 2];
            let place = self.make(keeper, "HSYSADMIN", "Patient", None, Version::plain(keeper.org)).await;
            self.ids.push(self.world.records[place].id.clone());
            self.world.records[place].patient = Some(patient);
            self.world.patients.push(place);
        }
        self.site.settle().await;
        // The directory names who a consent may be about.
        self.make(&keepers[0], "HSYSADMIN", "Practitioner", None, Version::plain(keepers[0].org)).await;
        for _ in 0..draw::RECORDS {
            let keeper = keepers[self.draw.below(2)].clone();
            let (rtype, patient) = (*self.draw.of(&TYPES[..TYPES.len() - 1]), self.draw.below(draw::PATIENTS));
            // A rescue service keeps no claims.
            let keeper = if rtype == "Claim" { keepers[0].clone() } else { keeper };
            let version = self.draw.version(&self.world, rtype, keeper.org);
            self.make(&keeper, "HSYSADMIN", rtype, Some(patient), version).await;
        }
        self.site.settle().await;
        self.site.new_events();
    }

    /// One round: requests side by side while nothing changes, then what they came to and what they left.
    async fn round(&mut self, requests: usize) {
        let mut asked = Vec::new();
        for _ in 0..requests {
            let request = self.draw.request(&self.world);
            let id = self.request_id();
            asked.push((id, request));
        }
        let came: Vec<Came> = futures::stream::iter(&asked)
            .map(|(id, request)| self.carry_out(id, request))
            .buffered(AT_ONCE)
            .collect()
            .await;
        self.site.settle().await;
        let events = self.site.new_events();
        for ((id, request), came) in asked.iter().zip(&came) {
            let expected = self.expected(request);
            assert_eq!(came, &expected, "{id}: {request:?}");
            let left = events.get(id).map(Vec::as_slice).unwrap_or_default();
            let vain = self.is_in_vain(request, &expected);
            check_trail(request, &expected, left, vain)
                .unwrap_or_else(|why| panic!("{id}: {why}\n{request:?}\n{left:?}"));
            self.count(&expected);
        }
    }

    /// Whether a search for a patient's records found nothing and rests on no override and no case, where it must: that is told as a denial.
    fn is_in_vain(&self, request: &Request, expected: &Came) -> bool {
        let Request { who, purpose, want: Want::Search(search) } = request else { return false };
        let (Some(patient), Came::Shown(_, Some(0))) = (search.patient, expected) else { return false };
        let rests = match *purpose {
            "BTG" => self.world.glass.contains(&(who.org, who.user, patient)),
            _ => who.role == "compliance" && self.world.cases.contains(&patient),
        };
        (*purpose == "BTG" || who.org == INSPECTORATE) && !rests
    }

    fn count(&mut self, came: &Came) {
        match came {
            Came::Each(each) => each.iter().for_each(|one| self.count(one)),
            Came::Denied => self.counts.denied += 1,
            Came::Shown(names, total) => {
                self.counts.shown += names.len();
                self.counts.totals += usize::from(total.is_some());
            }
            Came::Gone | Came::Other(_) => {}
        }
        self.counts.requests += usize::from(!matches!(came, Came::Each(_)));
    }

    async fn carry_out(&self, id: &str, request: &Request) -> Came {
        let Request { who, purpose, want } = request;
        let (caller, node) = (self.caller(who, purpose, id), &self.site.nodes[who.org]);
        let record = |place: &usize| &self.world.records[*place];
        match want {
            Want::Read(place, version) => {
                match node.read(&caller, record(place).rtype, &record(place).id, version.map(|n| n as u64)).await {
                    Ok(read) => Came::Shown([shown(&serde_json::from_slice(&read.bytes).unwrap())].into(), None),
                    Err(failure) => failed(failure),
                }
            }
            Want::History(place) => match node.history(&caller, record(place).rtype, &record(place).id, "").await {
                Ok(history) => {
                    let history: Value = serde_json::from_slice(&history).unwrap();
                    let entries = history["entry"].as_array().unwrap();
                    let number = entries.len();
                    // Versions without a body are deletions; they are counted.
                    let names = entries.iter().filter(|entry| entry["resource"].is_object());
                    assert_eq!(history["total"], number);
                    Came::Shown(names.map(|entry| shown(&entry["resource"])).collect(), Some(number as u64))
                }
                Err(failure) => failed(failure),
            },
            Want::Search(search) => {
                let query = search.query(&self.world, &self.ids);
                let found = match search.also {
                    Some(_) => node.search_all(&caller, &query, Handling::Strict).await,
                    None => node.search(&caller, search.rtype, &query, Handling::Strict).await,
                };
                match found {
                    Ok(found) => found_in(&found),
                    Err(failure) => failed(failure),
                }
            }
            Want::Batch(places) => {
                let get = |place| json!({"request": {"method": "GET", "url": format!("{}/{}", record(place).rtype, record(place).id)}});
                let entries: Vec<Value> = places.iter().map(get).collect();
                let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": entries});
                let answer = node.bundle(&caller, batch.to_string().as_bytes()).await.unwrap();
                let answer: Value = serde_json::from_slice(&answer).unwrap();
                let each = answer["entry"].as_array().unwrap().iter().map(|entry| {
                    match entry["response"]["status"].as_str().unwrap().get(..3) {
                        Some("200") => Came::Shown([shown(&entry["resource"])].into(), None),
                        Some("403") => Came::Denied,
                        Some("410") => Came::Gone,
                        other => Came::Other(format!("{other:?}")),
                    }
                });
                Came::Each(each.collect())
            }
        }
    }

    fn expected(&self, request: &Request) -> Came {
        let Request { who, purpose, want } = request;
        let world = &self.world;
        match want {
            Want::Read(place, version) => {
                let record = &world.records[*place];
                let number = version.unwrap_or(record.versions.len());
                let version = &record.versions[number - 1];
                match world.may_with(who, purpose, Act::Read, *place, version) {
                    false => Came::Denied,
                    true if version.deleted => Came::Gone,
                    true => Came::Shown([name(record, number)].into(), None),
                }
            }
            Want::History(place) => {
                let record = &world.records[*place];
                if !record.versions.iter().all(|version| world.may_with(who, purpose, Act::Read, *place, version)) {
                    return Came::Denied;
                }
                let versions = (1..).zip(&record.versions).filter(|(_, version)| !version.deleted);
                Came::Shown(versions.map(|(n, _)| name(record, n)).collect(), Some(record.versions.len() as u64))
            }
            Want::Search(search) if !search.types().all(|rtype| world.may_touch(who, Act::Search, rtype)) => {
                Came::Denied
            }
            Want::Search(search) => {
                let (matches, along) = search.finds(world, who, purpose);
                let total = Some(matches.len() as u64);
                let called = |place: usize| name(&world.records[place], world.records[place].versions.len());
                match search.only_counts {
                    true => Came::Shown(BTreeSet::new(), total),
                    false => Came::Shown(matches.union(&along).map(|place| called(*place)).collect(), total),
                }
            }
            Want::Batch(places) => {
                let one = |place: &usize| self.expected(&Request { want: Want::Read(*place, None), ..request.clone() });
                Came::Each(places.iter().map(one).collect())
            }
        }
    }

    /// Changes the world: somebody writes, perhaps somebody who may not; a consent, broken glass, a case.
    async fn change(&mut self) {
        match self.draw.below(10) {
            0..=4 => self.write().await,
            5 | 6 => self.consent().await,
            7 => self.glass().await,
            8 => self.case().await,
            _ => self.withdraw().await,
        }
    }

    /// A create, update or delete by anybody.
    async fn write(&mut self) {
        let (who, purpose) = self.draw.asker();
        let act = *self.draw.of(&[Act::Create, Act::Update, Act::Update, Act::Delete]);
        let request = self.request_id();
        let caller = self.caller(&who, purpose, &request);
        let node = self.site.nodes[who.org].clone();
        let places: Vec<usize> = (0..self.world.records.len())
            .filter(|place| {
                let record = &self.world.records[*place];
                // Consents in force change by themselves; patients and the directory stay.
                let stays = ["Patient", "Practitioner", "Consent"].contains(&record.rtype);
                !stays && !record.current().deleted
            })
            .collect();
        let (allowed, came, made) = match act {
            Act::Create => {
                let (rtype, patient) = (*self.draw.of(&TYPES[1..TYPES.len() - 1]), self.draw.below(draw::PATIENTS));
                let version = Version { by: who.user, ..self.draw.version(&self.world, rtype, who.org) };
                let asked = Asked { rtype, place: None, patient: Some(patient), version: &version };
                let allowed = self.world.may(&who, purpose, act, &asked);
                if allowed && self.world.records.len() >= RECORDS_MAX {
                    return;
                }
                let body = self.draw.body(&self.world, &self.ids, rtype, Some(patient), &version, None);
                let came = node.create(&caller, rtype, body.to_string().as_bytes(), None).await;
                let id = came.as_ref().ok().map(|written| written.record.split_once('/').unwrap().1.to_owned());
                let made = id.map(|id| self.take(rtype, Some(patient), id, version));
                (allowed, came.map(|_| ()), made)
            }
            Act::Update => {
                let place = *self.draw.of(&places);
                let record = &self.world.records[place];
                let (rtype, id, patient, before) =
                    (record.rtype, record.id.clone(), record.patient, record.current().clone());
                let version = Version { by: who.user, ..self.draw.version(&self.world, rtype, who.org) };
                // What it was and what it becomes; whoever wrote it last is asked about both.
                let after = Version { author: before.author, ..version.clone() };
                let allowed = self.world.may_now(&who, purpose, act, place)
                    && self.world.may(
                        &who,
                        purpose,
                        act,
                        &Asked { rtype, place: Some(place), patient, version: &after },
                    );
                let body = self.draw.body(&self.world, &self.ids, rtype, patient, &version, Some(&id));
                let came = node.update(&caller, rtype, &id, body.to_string().as_bytes(), None).await.map(|_| ());
                if came.is_ok() {
                    self.world.records[place].versions.push(version);
                }
                (allowed, came, Some(place))
            }
            _ => {
                let place = *self.draw.of(&places);
                let record = &self.world.records[place];
                let (rtype, id, before) = (record.rtype, record.id.clone(), record.current().clone());
                let allowed = self.world.may_now(&who, purpose, act, place);
                let came = node.delete(&caller, rtype, &id, None).await;
                if came.is_ok() {
                    // Nothing but the label is left of it.
                    let gone = Version { deleted: true, label: before.label, ..Version::plain(who.org) };
                    self.world.records[place].versions.push(gone);
                }
                (allowed, came, Some(place))
            }
        };
        let says = format!("{request}: {who:?} {act:?} for {purpose}");
        match came {
            Ok(()) => {
                assert!(allowed, "{says}: it was carried out on {:?}", made.map(|place| &self.world.records[place]))
            }
            Err(Failure::Denied { sentence, .. }) => {
                assert!(
                    !allowed,
                    "{says}: it was denied: {sentence}: {:?}",
                    made.map(|place| &self.world.records[place])
                );
            }
            Err(other) => panic!("{says}: {other:?}"),
        }
        self.site.settle().await;
        let events = self.site.new_events();
        let left = events.get(&request).map(Vec::as_slice).unwrap_or_default();
        let outcomes: Vec<&str> = left.iter().map(|event| event.outcome.as_str()).collect();
        assert_eq!(outcomes, [if allowed { "0" } else { "8" }], "{says}");
        self.counts.requests += 1;
        self.counts.denied += usize::from(!allowed);
    }

    /// The patient, or the custodian by paper, puts a consent in force.
    async fn consent(&mut self) {
        if self.world.consents.len() >= draw::CONSENTS_MAX {
            return self.withdraw().await;
        }
        let keeper = draw::keepers()[0].clone();
        let patient = self.draw.below(draw::PATIENTS);
        let root = self.draw.provision(0);
        let body = self.draw.consent(&self.world, &self.ids, patient, &root);
        let request = self.request_id();
        let caller = self.caller(&keeper, "HSYSADMIN", &request);
        let written = self.site.nodes[keeper.org].create(&caller, "Consent", body.to_string().as_bytes(), None).await;
        let id = written.unwrap().record.split_once('/').unwrap().1.to_owned();
        let record = self.take("Consent", Some(patient), id, Version::plain(keeper.org));
        self.world.consents.push(Consent { patient, record, root });
    }

    /// A consent ends: it is deleted.
    async fn withdraw(&mut self) {
        if self.world.consents.is_empty() {
            return;
        }
        let which = self.draw.below(self.world.consents.len());
        let Consent { record, .. } = self.world.consents.remove(which);
        let keeper = draw::keepers()[0].clone();
        let request = self.request_id();
        let caller = self.caller(&keeper, "HSYSADMIN", &request);
        let id = self.world.records[record].id.clone();
        self.site.nodes[keeper.org].delete(&caller, "Consent", &id, None).await.unwrap();
        let gone = Version { deleted: true, ..Version::plain(keeper.org) };
        self.world.records[record].versions.push(gone);
    }

    async fn glass(&mut self) {
        let who = self.draw.carer();
        let patient = self.draw.below(draw::PATIENTS);
        let request = self.request_id();
        let caller = self.caller(&who, "BTG", &request);
        let node = &self.site.nodes[who.org];
        let of = (who.org, who.user, patient);
        if let Some(at) = self.world.glass.iter().position(|one| *one == of) {
            node.close_override(&caller, self.open.remove(at)).await.unwrap();
            self.world.glass.remove(at);
            return;
        }
        let reason = exchange::Reason { code: "unconscious", text: "random requests" };
        let opened = node.open_override(&caller, &self.ids[patient], reason, 240).await.unwrap();
        self.open.push(opened.id);
        self.world.glass.push(of);
    }

    async fn case(&mut self) {
        let patient = self.draw.below(draw::PATIENTS);
        if self.world.cases.contains(&patient) {
            return;
        }
        let inspector = draw::inspector();
        let request = self.request_id();
        let caller = self.caller(&inspector, "HCOMPL", &request);
        let node = &self.site.nodes[inspector.org];
        node.open_case(&caller, &self.ids[patient], "random requests").await.unwrap();
        self.world.cases.push(patient);
    }
}

fn found_in(bundle: &[u8]) -> Came {
    let bundle: Value = serde_json::from_slice(bundle).unwrap();
    let entries = bundle["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(remark) = entries.iter().find(|entry| entry["search"]["mode"] == "outcome") {
        return Came::Other(remark.to_string());
    }
    let next = bundle["link"].as_array().unwrap().iter().any(|link| link["relation"] == "next");
    if next {
        return Came::Other("a page is not the last".to_owned());
    }
    Came::Shown(entries.iter().map(|entry| shown(&entry["resource"])).collect(), bundle["total"].as_u64())
}

/// One denial for what was denied; for what was shown, events that name all of it.
fn check_trail(request: &Request, expected: &Came, left: &[Event], vain: bool) -> Result<(), String> {
    let outcomes = |outcome: &str| left.iter().filter(|event| event.outcome == outcome).count();
    if left.iter().any(|event| event.user != request.who.user) {
        return Err("an event names somebody else".to_owned());
    }
    let named: BTreeSet<String> = left.iter().flat_map(|event| event.names.iter().cloned()).collect();
    match expected {
        Came::Denied if left.len() == 1 && outcomes("8") == 1 && named.is_empty() => Ok(()),
        Came::Gone if left.len() == 1 && outcomes("0") == 1 => Ok(()),
        Came::Shown(names, _) => {
            let traced =
                outcomes("8") == if vain { left.len() } else { 0 } && !left.is_empty() && names.is_subset(&named);
            let is_search = matches!(request.want, Want::Search(_));
            // A search names what its chains rest on as well; only a search has a query.
            let no_more = is_search || matches!(request.want, Want::History(_)) || named == *names;
            let query = left.iter().all(|event| event.query == is_search || matches!(request.want, Want::History(_)));
            (traced && no_more && query)
                .then_some(())
                .ok_or_else(|| "what was shown is not what was written down".to_owned())
        }
        Came::Each(each) => {
            let denied = each.iter().filter(|came| **came == Came::Denied).count();
            let shown: BTreeSet<String> = each
                .iter()
                .filter_map(|came| match came {
                    Came::Shown(names, _) => Some(names.iter().cloned()),
                    _ => None,
                })
                .flatten()
                .collect();
            let whole = left.len() == each.len() && outcomes("8") == denied && shown.is_subset(&named);
            whole.then_some(()).ok_or_else(|| "not each entry of the batch left its event".to_owned())
        }
        other => Err(format!("{other:?} left another trail")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_requests_by_random_people_come_to_what_the_rules_in_words_come_to() {
    let seed = said("VITALTRACE_SEED").unwrap_or(SEED);
    let requests = said("VITALTRACE_REQUESTS").map_or(REQUESTS, |requests| requests as usize);
    println!("VITALTRACE_SEED={seed} VITALTRACE_REQUESTS={requests}");
    let begin = Instant::now();
    let mut run = Run::new(seed).await;
    while run.counts.requests < requests {
        for _ in 0..CHANGES {
            run.change().await;
        }
        run.round(ROUND.min(requests.saturating_sub(run.counts.requests)).max(1)).await;
    }
    // All of it is on the ledger as the database has it.
    let keeper = draw::keepers()[0].clone();
    let caller = run.caller(&keeper, "HSYSADMIN", "audit");
    let report = run.site.nodes[keeper.org].audit(&caller, true).await.unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let Counts { requests, denied, shown, totals } = run.counts;
    println!(
        "{requests} requests: {denied} denied, {shown} records shown, {totals} totals; {} rows audited; {:?}",
        report.rows,
        begin.elapsed()
    );
    assert!(denied > requests / 20 && shown > requests / 20 && totals > requests / 20, "the draw is of one kind");
    run.site.stop().await;
}
