//! What goes out: reads, searches, histories and the patient summary, each verified, decided and traced before it is shown.

use crate::{
    between::{Links, types_between},
    boxed,
    caller::Caller,
    consent::{reading_beside, reading_once},
    facts::{Decided, Target},
    failure::Failure,
    find::{ALL_TYPES, Asked, Handling, Reached, Show, Total, Within, on_page},
    include::EXAMINED_MAX,
    ingest::{Shown, check_type},
    measured::{Wanted, page_of_both},
    node::Node,
    row::Worth,
    set::{AUDIT_EVENT, Set},
    write::Trail,
};
use contract::{AccessAction, may_hold};
use policy::Action;
use record::{
    Commitment, Digest, RecordTag, commit,
    fhir::{
        Completeness, Found, Interaction, Issue, IssueType, Limits, Listed, Outcome, Party, Resource, SearchMode,
        SearchSet, Section, Standing, Summary,
    },
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use store::{Criterion, Cursor, PAGE_MAX, Row, Search, VersionKey};

/// A row that may be shown to the caller.
pub(crate) struct Cleared {
    pub(crate) row: Row,
    pub(crate) pending: bool,
    pub(crate) decided: Decided,
    /// The frame that it was made of, where a sensor said it.
    pub(crate) frame: Option<Digest>,
}

impl Cleared {
    /// As an entry of an answer.
    pub(crate) fn found(self, caller: &Caller, mode: SearchMode) -> Found {
        let full_url = Some(format!("{}/{}/{}", caller.base, self.row.rtype, self.row.id));
        Found { full_url, resource: self.row.bytes, mode, grade: None }
    }
}

/// What was disclosed of one patient.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) versions: Vec<Commitment>,
    pub(crate) names: Vec<String>,
    pub(crate) under: Option<record::Id16>,
}

/// How many records match, and of whom.
#[derive(Default)]
struct Counted {
    /// None when rows do not agree with the ledger.
    total: Option<u64>,
    by_patient: BTreeMap<Option<String>, Shared>,
    withheld: u64,
    lost: u64,
}

impl Node {
    /// One version of a record; the current one when none is named.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn read(&self, caller: &Caller, rtype: &str, id: &str, version: Option<u64>) -> Result<Shown, Failure> {
        check_type(rtype)?;
        self.accesses_before(rtype).await?;
        if rtype == "Observation"
            && let Ok(named) = id.parse()
        {
            return self.read_frame(caller, named).await;
        }
        let name = format!("{rtype}/{id}");
        let sound = async {
            let (row, pending, repaired) = self.sound_row(rtype, id, version).await?;
            let decided = self.allow(caller, Action::Read, &Target::of(&row)).await?;
            Ok::<_, Failure>((row, pending, repaired, decided))
        };
        let (row, pending, repaired, decided) = reading_beside(sound).await?;
        let interaction = if version.is_some() { Interaction::Vread } else { Interaction::Read };
        let trail = Trail { under: decided.under, ..Trail::of(interaction, AccessAction::Read) };
        let commitment = commit(&row.salt, &row.bytes);
        let shown_name = format!("{name}/_history/{}", row.version);
        self.accesses.give_room(caller.purpose).await;
        self.leave_trail(caller, row.patient.as_deref(), &[commitment], &[shown_name], &trail).await?;
        if row.deleted {
            return Err(Failure::Gone(name));
        }
        Ok(Shown { bytes: row.bytes, version: row.version, written_at: row.written_at, pending, repaired })
    }

    /// A row that agrees with the ledger; from a vault, when the database's does not.
    pub(crate) async fn sound_row(
        &self,
        rtype: &str,
        id: &str,
        version: Option<u64>,
    ) -> Result<(Row, bool, bool), Failure> {
        let name = format!("{rtype}/{id}");
        let found = match version {
            Some(version) => {
                let key = VersionKey { rtype: rtype.to_owned(), id: id.to_owned(), version };
                let row = self.store.vread(key).await.map_err(crate::find::search_failure)?;
                match row {
                    Some(row) => {
                        let mut worths = self.weigh(std::slice::from_ref(&row)).await?;
                        self.meters.weighed(&worths);
                        worths.pop().map(|worth| (row, worth))
                    }
                    None => None,
                }
            }
            None => self.current_row(rtype, id).await?,
        };
        let row_tag = match found {
            Some((row, Worth::Good(_))) => return Ok((row, false, false)),
            Some((row, Worth::Pending)) => return Ok((row, true, false)),
            Some((row, _)) => Some(row.tag),
            None => None,
        };
        // What the database shows is not what was agreed: only the vaults can help, and only for the name that was asked for.
        let tag = match self.mirror.tag(name.clone()).await? {
            Some(tag) => tag,
            None => row_tag.ok_or_else(|| Failure::NotFound(name.clone()))?,
        };
        let known = match version {
            Some(version) => self.mirror.version(tag, version).await?,
            None => self.mirror.heads(vec![tag]).await?.into_iter().next().flatten(),
        };
        let Some(known) = known else {
            // An audit event has one version. One that was seen here and is gone is of an entry that commits to several.
            let is_missing =
                tag.is_audit() && version.is_none_or(|version| version == 1) && !self.was_erased(tag).await?;
            return Err(if row_tag.is_some() || is_missing {
                Failure::Tampered(name)
            } else {
                Failure::NotFound(name)
            });
        };
        if self.mirror.erased().await?.has(&known) {
            return Err(Failure::Gone(name));
        }
        let key = self.key_behind(&known).await?;
        let row = match key {
            Some(key) => self.repair(&key, &known).await?,
            None => None,
        };
        match row {
            Some(row) if format!("{}/{}", row.rtype, row.id) == name => {
                tracing::warn!(version = row.version, "a row was repaired from a vault for a read");
                Ok((row, false, true))
            }
            _ => Err(Failure::Tampered(name)),
        }
    }

    /// Whether the patient whom a record was about was erased: this organisation may hold the key, and has it no more.
    async fn was_erased(&self, tag: RecordTag) -> Result<bool, Failure> {
        match self.mirror.named(tag).await?.and_then(|named| named.patient) {
            Some(patient) if may_hold(self.role) => Ok(self.patient_key(&patient).await?.is_none()),
            _ => Ok(false),
        }
    }

    /// What is said of a record that was seen here and of which neither rows nor the ledger tell any more, after a decision over it.
    pub(crate) async fn vanished(&self, caller: &Caller, name: String, tag: RecordTag) -> Result<Failure, Failure> {
        let Some((rtype, id)) = name.split_once('/') else { return Ok(Failure::NotFound(name)) };
        let patient = self.mirror.named(tag).await?.and_then(|named| named.patient);
        let (id, patient, author) = (Some(id), patient.as_deref(), &self.org);
        self.allow(caller, Action::Read, &Target { rtype, id, patient, label: "N", author, value: None }).await?;
        Ok(if self.was_erased(tag).await? { Failure::Gone(name.clone()) } else { Failure::Tampered(name.clone()) })
    }

    /// The records that match a query and that the caller may see, and what goes along with them.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn search(
        &self,
        caller: &Caller,
        rtype: &str,
        query: &str,
        handling: Handling,
    ) -> Result<Vec<u8>, Failure> {
        check_type(rtype)?;
        self.answer(caller, self.asked(rtype, query, handling)?).await
    }

    /// The same of the records of a type in one compartment, or, where the type is `*`, of all that are in it.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn search_of(
        &self,
        caller: &Caller,
        within: &Within,
        rtype: &str,
        query: &str,
        handling: Handling,
    ) -> Result<Vec<u8>, Failure> {
        let asked = match rtype {
            ALL_TYPES => self.asked_of_all_within(within, query, handling, searchable(caller))?,
            _ => {
                check_type(rtype)?;
                self.asked_of(within, rtype, query, handling)?
            }
        };
        self.answer(caller, asked).await
    }

    /// The same of the records of several types, or of all.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn search_all(&self, caller: &Caller, query: &str, handling: Handling) -> Result<Vec<u8>, Failure> {
        self.answer(caller, self.asked_of_all(query, handling, searchable(caller))?).await
    }

    async fn answer(&self, caller: &Caller, asked: Asked) -> Result<Vec<u8>, Failure> {
        reading_once(self.answered(caller, asked.at_home(&caller.base))).await
    }

    async fn answered(&self, caller: &Caller, asked: Asked) -> Result<Vec<u8>, Failure> {
        for rtype in asked.search.types() {
            self.allow_type(caller, Action::Search, rtype).await?;
        }
        let query = asked.query.as_str();
        if query.contains(AUDIT_EVENT) || asked.search.types().any(|rtype| rtype == AUDIT_EVENT) {
            self.accesses_before(AUDIT_EVENT).await?;
        }
        if asked.show == Show::Count {
            return self.count(caller, asked).await;
        }
        let (mut withheld, mut lost, mut between) = (0, 0, Links::default());
        let mut repaired = Vec::new();
        if asked.after.is_none() {
            lost = self.hidden_matches(&asked, &mut repaired).await?;
        }
        let wanted = self.wanted(&asked).await?;
        let mut at_once = (asked.reached().records == Reached::All).then(|| (Vec::new(), None));
        // An app sees a part of what there is as a rule: most of its pages would be read twice.
        if at_once.is_none() && caller.app.is_none() && !asked.search.criteria.iter().any(Criterion::is_chained) {
            let (page, worths) = self.current_page(asked.search.clone()).await?;
            let mut unsound = page.found.malformed.len() as u64;
            let ends =
                page.ends.iter().zip(&worths).filter(|(_, worth)| worth.may_be_shown()).map(|(end, _)| end.clone());
            let ends: Vec<Cursor> = ends.collect();
            let rows = sound_of(page.found.rows, worths, &mut unsound);
            let (cleared, denied) = self.clear(caller, Action::Search, rows).await?;
            // Where a page ends, and that there is another, must not tell of what the caller may not see.
            if denied.is_empty() && (unsound == 0 || asked.is_by_time()) {
                withheld += unsound;
                at_once = Some((cleared.into_iter().zip(ends).collect(), page.next));
            }
        }
        let (records, next) = match at_once {
            Some(page) => page,
            None => {
                // What was hidden of a search with chains is counted only: nothing says whether it would stand.
                let page = self.chained_page(caller, &asked, &mut between).await?;
                withheld += page.withheld + between.withheld();
                (page.matches, page.next)
            }
        };
        let (mut cleared, next) = match &wanted {
            // What stands behind the records is not looked for before they are all shown.
            Some(wanted) if wanted.is_among() || next.is_none() => {
                let room = if wanted.is_among() {
                    asked.search.count
                } else {
                    asked.search.count.saturating_sub(records.len())
                };
                let measured = self.measured(caller, wanted, asked.reached().frames, room).await?;
                withheld += measured.withheld;
                lost += measured.gone;
                let (page, next) = page_of_both(wanted, &asked, (records, next), measured);
                (page, next.map(|next| next.to_string()))
            }
            _ => (records.into_iter().map(|(one, _)| one).collect(), next.map(|next| next.to_string())),
        };
        // Once said, it need not be said on every page.
        let left_out = Wanted::left_out_of(&asked).filter(|_| asked.after.is_none());
        let measured_besides = self.is_measured(caller, left_out).await?;
        cleared.extend(self.clear(caller, Action::Search, repaired).await?.0);
        let whole = asked.after.is_none() && next.is_none();
        let mut counted = Counted::default();
        if asked.total == Total::Accurate && !whole {
            counted = self.counted(caller, &asked).await?;
        } else if asked.total != Total::Omitted && whole && withheld + lost == 0 {
            // What the caller may not see is not counted either.
            counted.total = Some(cleared.len() as u64);
        }
        let included = self.included(caller, &asked.includes, &cleared, asked.patient.as_deref()).await?;
        withheld += included.withheld;
        lost += included.lost;
        let built_along = self.provenance_along(caller, &asked.includes, &cleared, included.cleared.len()).await?;
        // Whoever asks for the provenance of a record gets the ledger's as well as what was written down.
        let built = match asked.after {
            None if asked.search.types().eq(["Provenance"]) => self.provenance_asked_for(caller, query).await?,
            _ => None,
        };
        counted.total = counted.total.map(|total| total + u64::from(built.is_some()));
        let mut links = vec![("self".to_owned(), link(caller, &asked.place, &asked.understood))];
        if let Some(next) = next {
            let query = on_page(&without_cursor(&asked.understood), Some(next));
            links.push(("next".to_owned(), link(caller, &asked.place, &query)));
        }
        let matches = cleared.into_iter().map(|one| (one, SearchMode::Match));
        let shown: Vec<(Cleared, SearchMode)> =
            matches.chain(included.cleared.into_iter().map(|one| (one, SearchMode::Include))).collect();
        let supports = between.supports();
        let mut told = shared(shown.iter().map(|(one, _)| one).chain(&supports));
        for (patient, shared) in counted.by_patient {
            told.entry(patient).or_insert(shared);
        }
        self.trail_of_search(caller, &asked, told).await?;
        let mut entries = Vec::with_capacity(shown.len() + 2);
        entries.extend(built.map(|resource| Found { full_url: None, resource, mode: SearchMode::Match, grade: None }));
        for (one, mode) in shown {
            let part = match (&asked.show, mode) {
                (Show::Part(subset), SearchMode::Match) => Some(subset.of(&readable(&one.row)?)),
                _ => None,
            };
            let mut found = one.found(caller, mode);
            if let Some(part) = part {
                found.resource = part;
            }
            entries.push(found);
        }
        entries.extend(built_along.into_iter().map(|resource| Found {
            full_url: None,
            resource,
            mode: SearchMode::Include,
            grade: None,
        }));
        entries.extend(Remarks { measured_besides, ..Remarks::on(&asked, withheld, lost) }.found());
        Ok(SearchSet { total: counted.total, links, entries }.to_json())
    }

    /// The answer to a search that asks for a count alone.
    async fn count(&self, caller: &Caller, asked: Asked) -> Result<Vec<u8>, Failure> {
        let Counted { total, by_patient, withheld, lost } = self.counted(caller, &asked).await?;
        let measured_besides = self.is_measured(caller, Wanted::left_out_of(&asked)).await?;
        self.trail_of_search(caller, &asked, by_patient).await?;
        let links = vec![("self".to_owned(), link(caller, &asked.place, &asked.understood))];
        let remarks = Remarks { measured_besides, ..Remarks::on(&asked, withheld, lost) };
        let entries = remarks.found().into_iter().collect();
        Ok(SearchSet { total, links, entries }.to_json())
    }

    /// How many records match a query, of those that the caller may see: each is weighed and decided over, as if it were shown.
    async fn counted(&self, caller: &Caller, asked: &Asked) -> Result<Counted, Failure> {
        let mut search = Search { count: PAGE_MAX, total: false, after: None, ..asked.search.clone() };
        let (mut total, mut withheld, mut examined) = (0, 0, 0);
        let mut by_patient: BTreeMap<Option<String>, Shared> = BTreeMap::new();
        let (mut rows, mut links) = (Vec::new(), Links::default());
        let mut lost = self.hidden_matches(asked, &mut rows).await?;
        loop {
            let (page, worths) = self.current_page(search.clone()).await?;
            examined += page.found.rows.len();
            withheld += page.found.malformed.len() as u64;
            rows.extend(sound_of(page.found.rows, worths, &mut withheld));
            for one in self.clear(caller, Action::Search, std::mem::take(&mut rows)).await?.0 {
                if !self.stands_by_chains(caller, &asked.search.criteria, &one, &mut links).await? {
                    continue;
                }
                total += 1;
                let counted = by_patient.entry(one.row.patient).or_default();
                counted.under = one.decided.under.or(counted.under);
            }
            if examined > EXAMINED_MAX || by_patient.len() > PAGE_MAX {
                let text = format!(
                    "more than {EXAMINED_MAX} records, or records of more than {PAGE_MAX} patients, would have to be looked at to \
                     count them: narrow the search"
                );
                return Err(Failure::invalid(IssueType::TooCostly, "", text));
            }
            match page.next {
                Some(next) => search.after = Some(next),
                None => break,
            }
        }
        if let Some(wanted) = self.wanted(asked).await? {
            let count = |one: Cleared| {
                total += 1;
                let counted = by_patient.entry(one.row.patient).or_default();
                counted.under = one.decided.under.or(counted.under);
            };
            let (unsound, gone) = self.all_measured(caller, &wanted, count).await?;
            (withheld, lost) = (withheld + unsound, lost + gone);
        }
        withheld += links.withheld();
        for one in links.supports() {
            let counted = by_patient.entry(one.row.patient).or_default();
            counted.under = one.decided.under.or(counted.under);
        }
        // A count would say that it is complete.
        let total = (withheld + lost == 0).then_some(total);
        Ok(Counted { total, by_patient, withheld, lost })
    }

    /// What no query can say: that a matching row of the patient may have been hidden. Adds those that the vaults give, and says how
    /// many may be missing.
    pub(crate) async fn hidden_matches(&self, asked: &Asked, rows: &mut Vec<(Row, bool)>) -> Result<u64, Failure> {
        let Some(patient) = &asked.patient else { return Ok(0) };
        let by_patient_alone = asked.search.criteria.len() == 1;
        let mut types: BTreeSet<&str> = asked.search.criteria.iter().flat_map(types_between).collect();
        types.extend(asked.search.types());
        let set = self.patient_set(patient, &types.into_iter().collect::<Vec<_>>()).await?;
        let lost: u64 = set.lost.values().sum();
        let repaired = set.sound.into_iter().filter(|sound| sound.repaired).map(|sound| (sound.row, false));
        if by_patient_alone {
            rows.extend(repaired);
            return Ok(lost);
        }
        Ok(lost + repaired.count() as u64)
    }

    /// The rows that the caller may see, and how many it may not.
    pub(crate) async fn clear(
        &self,
        caller: &Caller,
        action: Action,
        rows: Vec<(Row, bool)>,
    ) -> Result<(Vec<Cleared>, Vec<Row>), Failure> {
        let mut cleared = Vec::with_capacity(rows.len());
        let mut denied = Vec::new();
        for (row, pending) in rows {
            let decided = self.decide(caller, action, &Target::of(&row)).await?;
            if decided.decision.allow {
                cleared.push(Cleared { row, pending, decided, frame: None });
            } else {
                denied.push(row);
            }
        }
        Ok((cleared, denied))
    }

    /// One access entry for each patient whose records were found, or one for the patient asked for when nothing was.
    pub(crate) async fn trail_of_search(
        &self,
        caller: &Caller,
        asked: &Asked,
        mut by_patient: BTreeMap<Option<String>, Shared>,
    ) -> Result<(), Failure> {
        if by_patient.is_empty() {
            by_patient.insert(asked.patient.clone(), Shared::default());
        }
        let trail = Trail {
            query: Some(format!("{}?{}", asked.place, asked.query)),
            ..Trail::of(Interaction::Search, AccessAction::Search)
        };
        self.accesses.give_room(caller.purpose).await;
        self.leave_trails(caller, by_patient, &trail).await
    }

    /// The patient summary (IPS): allergies, medications, problems and more, verified as a set.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn summary(&self, caller: &Caller, patient: &str) -> Result<Vec<u8>, Failure> {
        reading_once(self.summed_up(caller, patient)).await
    }

    async fn summed_up(&self, caller: &Caller, patient: &str) -> Result<Vec<u8>, Failure> {
        const TYPES: [&str; 11] = [
            "Patient",
            "AllergyIntolerance",
            "MedicationRequest",
            "MedicationStatement",
            "Condition",
            "Immunization",
            "Flag",
            "Procedure",
            "Observation",
            "DiagnosticReport",
            "Medication",
        ];
        let whole = self.allow_about(caller, Action::Summary, patient).await?;
        let set = self.patient_set(patient, &TYPES).await?;
        let degraded = set.is_degraded();
        let completeness = completeness_of(&set);
        let rows = set.sound.into_iter().map(|sound| (sound.row, sound.pending)).collect();
        let (cleared, denied) = self.clear(caller, Action::Summary, rows).await?;
        let withheld: Vec<Section> = denied.iter().filter_map(section_of).collect();
        let completeness: Vec<(Section, Completeness)> = completeness
            .into_iter()
            .map(|(section, known)| match known {
                Completeness::Complete if withheld.contains(&section) => (section, Completeness::Withheld),
                _ => (section, known),
            })
            .collect();
        let mut resources = Vec::with_capacity(cleared.len());
        for one in &cleared {
            let resource = readable(&one.row)?;
            let standing = if one.pending { Standing::Pending } else { Standing::Verified };
            resources.push((resource, standing));
        }
        let listed: Vec<Listed<'_>> =
            resources.iter().map(|(resource, standing)| Listed { resource, standing: *standing }).collect();
        let is_patient = |one: &&Listed<'_>| one.resource.rtype() == "Patient";
        let Some(person) = listed.iter().find(is_patient).copied() else {
            return Err(Failure::NotFound(format!("Patient/{patient}")));
        };
        let records: Vec<Listed<'_>> = listed.iter().filter(|one| !is_patient(one)).copied().collect();
        let warning =
            "Some records in the database did not agree with the ledger: what is essential was taken from the vaults.";
        let warnings: &[&str] = if degraded { &[warning] } else { &[] };
        let id = uuid::Uuid::new_v4().to_string();
        let document = Summary {
            id: &id,
            made_at: self.now(),
            base_url: &caller.base,
            patient: person,
            author: Party { display: Some(self.org.as_str()), ..Party::default() },
            custodian: None,
            records: &records,
            completeness: &completeness,
            warnings,
        };
        let bytes = document.to_json().map_err(|e| Failure::ours("no summary could be made", e))?;
        let commitments: Vec<Commitment> = cleared.iter().map(|one| commit(&one.row.salt, &one.row.bytes)).collect();
        let trail = Trail { under: whole.under, ..Trail::of(Interaction::Operation, AccessAction::Summary) };
        self.leave_trail(caller, Some(patient), &commitments, &[format!("Patient/{patient}")], &trail).await?;
        Ok(bytes)
    }

    /// What the ledger says of a record's current version, and of what it began.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn provenance(&self, caller: &Caller, rtype: &str, id: &str) -> Result<Value, Failure> {
        check_type(rtype)?;
        self.accesses_before(rtype).await?;
        let (row, _, _) = self.sound_row(rtype, id, None).await?;
        let decided = self.allow(caller, Action::Read, &Target::of(&row)).await?;
        let trail = Trail { under: decided.under, ..Trail::of(Interaction::Operation, AccessAction::Read) };
        let names = [format!("{rtype}/{id}/_history/{}", row.version)];
        self.leave_trail(caller, row.patient.as_deref(), &[commit(&row.salt, &row.bytes)], &names, &trail).await?;
        let mut receipt = json!({"record": format!("{rtype}/{id}"), "version": row.version, "author": row.author});
        merge(&mut receipt, &self.receipt_of(self.mirror.entry(row.entry, &row.author).await?));
        let key = VersionKey { rtype: rtype.to_owned(), id: id.to_owned(), version: 1 };
        let first = self.store.vread(key).await.map_err(crate::find::search_failure)?;
        let good = match &first {
            Some(first) => self.weigh(std::slice::from_ref(first)).await?.iter().all(Worth::may_be_shown),
            None => false,
        };
        // A handoff or claim is known by its first version, each grant by its own.
        let mut about: Vec<record::Id16> = first.filter(|_| good).iter().map(|first| first.entry).collect();
        about.extend((row.version > 1).then_some(row.entry));
        for id in about {
            for (kind, entry) in self.mirror.entries_about(id).await? {
                receipt[kind] = self.receipt_of(Some(entry));
            }
        }
        Ok(receipt)
    }

    fn receipt_of(&self, entry: Option<crate::mirror::FinalEntry>) -> Value {
        match entry {
            None => json!({"state": "pending"}),
            Some(entry) => json!({
                "state": if entry.refused == 0 { "final" } else { "refused" },
                "reason": (entry.refused != 0).then(|| contract::Reject::from_code(entry.refused).map(|r| r.to_string())),
                "height": entry.height, "time": entry.time.to_instant(), "index": entry.index, "entry": entry.digest
            }),
        }
    }
}

/// What was disclosed, by patient.
pub(crate) fn shared<'a>(cleared: impl Iterator<Item = &'a Cleared>) -> BTreeMap<Option<String>, Shared> {
    let mut by_patient: BTreeMap<Option<String>, Shared> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for one in cleared {
        let row = &one.row;
        let found = by_patient.entry(row.patient.clone()).or_default();
        found.under = one.decided.under.or(found.under);
        if !seen.insert((&row.rtype, &row.id, row.version)) {
            continue;
        }
        found.versions.push(one.frame.map_or_else(|| commit(&row.salt, &row.bytes), Commitment));
        found.names.push(format!("{}/{}/_history/{}", row.rtype, row.id, row.version));
    }
    by_patient
}

/// The rows that agree with the ledger, and whether they are pending; counts the others.
pub(crate) fn sound_of(rows: Vec<Row>, worths: Vec<Worth>, withheld: &mut u64) -> Vec<(Row, bool)> {
    let mut sound = Vec::with_capacity(rows.len());
    for (row, worth) in rows.into_iter().zip(worths) {
        match worth {
            Worth::Good(_) => sound.push((row, false)),
            Worth::Pending => sound.push((row, true)),
            _ => *withheld += 1,
        }
    }
    sound
}

/// What there is to say of an answer: what is missing from it, and what of the query was passed over.
#[derive(Default)]
pub(crate) struct Remarks<'a> {
    /// Rows that do not agree with the ledger.
    pub(crate) withheld: u64,
    /// Records on the ledger that were not found.
    pub(crate) lost: u64,
    /// Whether more may match than were looked at.
    pub(crate) cut: bool,
    /// Whether the caller would find what sensors said, had the search not left it out.
    pub(crate) measured_besides: bool,
    /// The type that was searched, nothing for several, and names that are no parameters of it.
    pub(crate) ignored: (&'a str, &'a [String]),
}

impl<'a> Remarks<'a> {
    fn on(asked: &'a Asked, withheld: u64, lost: u64) -> Self {
        let rtype = if asked.search.also.is_empty() { asked.search.rtype.as_str() } else { "" };
        Self { withheld, lost, ignored: (rtype, &asked.ignored), ..Self::default() }
    }

    /// As an entry of the answer, if there is anything to say.
    pub(crate) fn found(self) -> Option<Found> {
        let Self { withheld, lost, cut, measured_besides, ignored: (rtype, ignored) } = self;
        let mut issues = Vec::new();
        if withheld + lost > 0 {
            tracing::warn!(withheld, lost, "a search met rows that do not agree with the ledger");
            let text = format!(
                "{withheld} rows do not agree with the ledger and are withheld; {lost} records on the ledger may be missing here"
            );
            issues.push(Issue::warning(IssueType::Incomplete, text));
        }
        if cut {
            let text = "more may match than were looked at: say more of what is looked for";
            issues.push(Issue::warning(IssueType::Incomplete, text));
        }
        if measured_besides {
            let text = "what sensors said is not among these: search by `patient`, `code` and `date`, sorted by `-date` or not at all";
            issues.push(Issue::warning(IssueType::Incomplete, text));
        }
        issues.extend(ignored.iter().map(|name| {
            let text = match rtype {
                "" => {
                    format!("the types that are searched have no common search parameter `{name}`: it was passed over")
                }
                _ => format!("`{rtype}` has no search parameter `{name}`: it was passed over"),
            };
            Issue::warning(IssueType::NotSupported, text)
        }));
        let outcome = Outcome::of(issues)?;
        Some(Found { full_url: None, resource: outcome.to_json().into_bytes(), mode: SearchMode::Outcome, grade: None })
    }
}

pub(crate) fn readable(row: &Row) -> Result<Resource, Failure> {
    let limits = Limits { bytes_max: store::RECORD_BYTES_MAX, ..Limits::RESOURCE };
    Resource::parse(&row.bytes, limits).map_err(|e| Failure::ours("a stored record cannot be read", e))
}

fn merge(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from.clone());
    }
}

/// Which types whoever asks may look at, as far as an app that asks for them is limited.
fn searchable(caller: &Caller) -> impl Fn(&str) -> bool {
    let app = caller.app.as_ref();
    move |rtype| app.is_none_or(|app| app.refusal_of_type(Action::Search, rtype).is_none())
}

/// An address with a query, as the caller would ask for it again.
pub(crate) fn link(caller: &Caller, path: &str, query: &str) -> String {
    let slash = if path.is_empty() { "" } else { "/" };
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{slash}{path}{mark}{query}", caller.base)
}

/// The query without the place where the page before ended.
fn without_cursor(query: &str) -> String {
    query.split('&').filter(|part| !part.starts_with("_cursor=")).collect::<Vec<_>>().join("&")
}

/// How much is known of each section: all of it, when nothing that belongs in it is lost or withheld.
fn completeness_of(set: &Set) -> Vec<(Section, Completeness)> {
    let hidden = set.lost.get("").is_some_and(|n| *n > 0);
    Section::ALL
        .iter()
        .map(|section| {
            let types: &[&str] = match section {
                Section::Alerts => &["Flag"],
                Section::Allergies => &["AllergyIntolerance"],
                Section::Medications => &["MedicationRequest", "MedicationStatement"],
                Section::Problems | Section::PastProblems => &["Condition"],
                Section::Immunizations => &["Immunization"],
                Section::Procedures => &["Procedure"],
                Section::Results => &["Observation", "DiagnosticReport"],
                Section::VitalSigns => &["Observation"],
            };
            let lost = types.iter().any(|fhir_type| set.lost.get(*fhir_type).is_some_and(|n| *n > 0));
            let known =
                if set.complete && !lost && !hidden { Completeness::Complete } else { Completeness::Unavailable };
            (*section, known)
        })
        .collect()
}

/// The section of the summary that a row would stand in.
fn section_of(row: &Row) -> Option<Section> {
    readable(row).ok().and_then(|resource| Section::of(&resource))
}
