//! Whom a write is about: the key that commits, and the log that it is filed in.

use crate::{failure::Failure, members::News, node::Node};
use contract::{About, AttachmentKind, Body, Filed, LastMonth, from_cbor, may_hold, state};
use record::{Month, PatientKey, Pseudonym, RecordTag, record_tag};
use store::{Row, VersionKey};

/// The most months that a patient's log is followed back: a hundred years.
const MONTHS_MAX: u32 = 1_200;

/// A key, and a log. What `contract::derive` calls [`About`], with the key owned.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) key: PatientKey,
    pub(crate) filed: Filed,
    /// The Patient's id, if it is about one.
    pub(crate) patient: Option<String>,
}

impl Subject {
    pub(crate) fn about(&self) -> About<'_> {
        About { key: &self.key, filed: self.filed }
    }
}

impl Node {
    /// What concerns no patient: under the organisation's own key, in no log.
    pub(crate) fn nobody(&self) -> Subject {
        Subject { key: self.own.clone(), filed: Filed::Nowhere, patient: None }
    }

    /// A patient that is being enrolled with this key.
    pub(crate) fn newcomer(&self, patient: &str, key: PatientKey) -> Subject {
        let last = LastMonth::none(&key, self.now().month());
        Subject { key, filed: Filed::ByKey(Some(last)), patient: Some(patient.to_owned()) }
    }

    /// The patient with this id. An organisation that may not hold patient keys files under a pseudonym that it learnt from a row.
    pub(crate) async fn subject(&self, patient: &str) -> Result<Subject, Failure> {
        if let Some(key) = self.patient_key(patient).await? {
            let filed = Filed::ByKey(self.last_month(&key).await?);
            return Ok(Subject { key, filed, patient: Some(patient.to_owned()) });
        }
        let filed = match self.learnt_pseudonym(patient).await? {
            Some(pseudonym) => Filed::Under(pseudonym),
            None if may_hold(self.role) => return Err(Failure::NotFound(format!("Patient/{patient}"))),
            None => Filed::Nowhere,
        };
        Ok(Subject { key: self.own.clone(), filed, patient: Some(patient.to_owned()) })
    }

    /// The key of a patient, if this organisation may hold it. A patient whose enrolment is not final yet is found by the member's
    /// signed entry in the database, which names the wrapped key; such a key is not kept.
    pub(crate) async fn patient_key(&self, patient: &str) -> Result<Option<PatientKey>, Failure> {
        if let Some(key) = self.keyring.key(patient).await? {
            return Ok(Some(key));
        }
        let name = format!("Patient/{patient}");
        if !may_hold(self.role) {
            return Ok(None);
        }
        // Once the enrolment is final, only what the ledger names is believed; it may have become so since the keyring looked.
        if let Some(tag) = self.mirror.tag(name.clone()).await?
            && self.mirror.version(tag, 1).await?.is_some()
        {
            return self.keyring.key(patient).await;
        }
        let key = VersionKey { rtype: "Patient".to_owned(), id: patient.to_owned(), version: 1 };
        let first = self.store.vread(key).await.map_err(crate::find::search_failure)?;
        let Some(first) = first else { return Ok(None) };
        let Some(entry) = self.signed_entry(&first, &mut News::default()).await? else { return Ok(None) };
        let Body::Record { attachments, .. } = entry.body else { return Ok(None) };
        let wrapped = self.store.wrapped_keys(patient).await.map_err(crate::find::search_failure)?;
        let named = wrapped.iter().find(|wrapped| {
            let digest = record::sha256(&[&wrapped.bytes]);
            attachments.iter().any(|a| a.kind == AttachmentKind::WrappedKey && a.digest == digest)
        });
        let key = named.and_then(|wrapped| self.keyring.open(&wrapped.bytes));
        Ok(key.filter(|key| tags(key, &name, first.tag)))
    }

    /// The latest pseudonym that a good row of the patient carries, in a log that has begun.
    async fn learnt_pseudonym(&self, patient: &str) -> Result<Option<Pseudonym>, Failure> {
        const BILLING: [&str; 5] = ["Claim", "CoverageEligibilityRequest", "Coverage", "Encounter", "Patient"];
        let found = self.store.patient_records(patient, &BILLING).await.map_err(crate::find::search_failure)?;
        let mut rows: Vec<Row> = found.rows.into_iter().filter(|row| row.pseudonym.is_some()).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.written_at));
        let mut news = News::default();
        for row in &rows {
            let Some(pseudonym) = row.pseudonym else { continue };
            let begun = self.mirror.begun(vec![pseudonym]).await?.first() == Some(&true);
            if begun
                && self
                    .weigh_with(std::slice::from_ref(row), &mut news)
                    .await?
                    .iter()
                    .all(crate::row::Worth::may_be_shown)
            {
                return Ok(Some(pseudonym));
            }
        }
        Ok(None)
    }

    /// What the first entry of this month must commit to; none when the month's log has begun in final state.
    async fn last_month(&self, key: &PatientKey) -> Result<Option<LastMonth>, Failure> {
        let month = self.now().month();
        let begun = self.mirror.begun(vec![key.pseudonym(month)]).await?.first() == Some(&true);
        if begun {
            return Ok(None);
        }
        let earlier: Vec<Month> = self.months().into_iter().rev().filter(|m| *m < month).collect();
        let begun = self.mirror.begun(earlier.iter().map(|m| key.pseudonym(*m)).collect()).await?;
        let Some((last, _)) = earlier.iter().zip(begun).find(|(_, begun)| *begun) else {
            return Ok(Some(LastMonth::none(key, month)));
        };
        let pseudonym = key.pseudonym(*last);
        let values = self
            .ledger
            .get(vec![state::log_key(&pseudonym)])
            .await
            .map_err(|e| Failure::ours("the ledger did not answer", e))?;
        let value = values.into_iter().next().flatten();
        let Some(value) = value else { return Ok(Some(LastMonth::none(key, month))) };
        let head: state::LogHead = from_cbor("log head", &value, state::VALUE_BYTES_MAX)
            .map_err(|e| Failure::ours("the ledger's state cannot be read", e))?;
        Ok(Some(LastMonth { pseudonym, count: head.frontier.size(), root: head.frontier.root() }))
    }

    /// Every month since the consortium began.
    pub(crate) fn months(&self) -> Vec<Month> {
        let (first, last) = (self.genesis.time.month().0, self.now().month().0);
        (first.max(last.saturating_sub(MONTHS_MAX))..=last).map(Month).collect()
    }

    /// Every name that the ledger has known a patient by.
    pub(crate) fn pseudonyms(&self, key: &PatientKey) -> Vec<Pseudonym> {
        self.months().into_iter().map(|month| key.pseudonym(month)).collect()
    }

    /// The subject of a record's next version. A record keeps its tag, so when it moves to another patient (a person who was unknown
    /// is identified) its old key goes on committing and the new patient's log takes the entry.
    pub(crate) async fn subject_of_update(
        &self,
        record: &str,
        before: &Row,
        patient: Option<&str>,
    ) -> Result<Subject, Failure> {
        let now = match patient {
            Some(patient) => self.subject(patient).await?,
            None => self.nobody(),
        };
        if tags(&now.key, record, before.tag) {
            return Ok(now);
        }
        let mut keys = vec![self.own.clone()];
        if let Some(old) = &before.patient {
            keys.extend(self.patient_key(old).await?);
        }
        let key = keys.into_iter().find(|key| tags(key, record, before.tag));
        let Some(key) = key else {
            let text = format!(
                "`{record}` is kept under a key that this organisation does not hold: only its author can change it"
            );
            return Err(Failure::Conflict(text));
        };
        let filed = match (now.filed, patient) {
            (Filed::ByKey(None), Some(_)) => Filed::Under(now.key.pseudonym(self.now().month())),
            (Filed::Under(pseudonym), _) => Filed::Under(pseudonym),
            (_, None) => Filed::Nowhere,
            (_, Some(_)) => {
                return Err(Failure::Conflict(
                    "nothing about this patient is final yet: try again in a moment".to_owned(),
                ));
            }
        };
        Ok(Subject { key, filed, patient: patient.map(str::to_owned) })
    }
}

fn tags(key: &PatientKey, record: &str, tag: RecordTag) -> bool {
    record_tag(key, record) == tag
}
