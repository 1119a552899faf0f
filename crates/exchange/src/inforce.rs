//! The policies in force: read from the ledger's state, replaced without a restart, and one of each kind for the whole of a request.
//!
//! The ledger names the documents in force by digest and holds their bytes; those of the genesis document come with the program or lie
//! beside the genesis file. When members activate another policy, every node reads it from its own final state and decides by it from
//! then on. A node that cannot read it, as its program is too old for it, says so as an error and as a metric, and goes on under the
//! policy before for as long as the ledger accepts that: [`POLICY_GRACE_MS`]. After that it denies everything.

use crate::{failure::Failure, node::Node, question::Remembering};
use contract::{
    DerivationPolicy, Genesis, POLICY_GRACE_MS, PolicyKind, document, from_cbor,
    state::{self, ActivePolicy, PolicyBytes, PolicyTerm, PolicyText},
};
use minicbor::{Decode, Encode};
use policy::{Bundle, Decision, Policy, Reason};
use record::{Digest, TimeMs};
use std::{future::Future, sync::Arc};
use tokio::sync::watch;

/// Both kinds of policy documents.
pub(crate) const KINDS: [PolicyKind; 2] = [PolicyKind::Access, PolicyKind::Derivation];

/// The policies that a request is decided, derived and entered under.
#[derive(Clone)]
pub(crate) struct InForce {
    pub(crate) access: Arc<Policy>,
    pub(crate) derivation: Arc<DerivationPolicy>,
    /// When the access policy here ended, if the one in its place cannot be read.
    pub(crate) ended: Option<TimeMs>,
    /// What the access policy here answered.
    answers: Arc<Remembering>,
}

/// A policy document that was read and checked.
pub(crate) enum Readable {
    Access(Arc<Policy>),
    Derivation(Arc<DerivationPolicy>),
}

/// What a node knows of policies.
pub(crate) struct Policies {
    /// Documents that this node was started with.
    founding: Vec<(PolicyKind, Vec<u8>)>,
    now: watch::Sender<Arc<InForce>>,
}

tokio::task_local! {
    /// What the request under way began under.
    static UNDER: Arc<InForce>;
}

/// Reads and checks a document, as every node must before it lets one decide.
pub(crate) fn read(kind: PolicyKind, bytes: &[u8]) -> Result<Readable, String> {
    match kind {
        PolicyKind::Access => {
            let bundle = Bundle::from_bytes(bytes).map_err(|e| e.to_string())?;
            Ok(Readable::Access(Arc::new(bundle.load().map_err(|e| e.to_string())?)))
        }
        PolicyKind::Derivation => {
            let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
            Ok(Readable::Derivation(Arc::new(DerivationPolicy::parse(text).map_err(|e| e.to_string())?)))
        }
    }
}

impl Policies {
    /// What is in force by the state of a node's own ledger, or by the genesis document when there is no block yet.
    ///
    /// `founding` are documents to take besides those on the ledger and those that come with the program.
    pub(crate) async fn start(
        ledger: &ledger::Handle,
        genesis: &Genesis,
        mut founding: Vec<(PolicyKind, Vec<u8>)>,
    ) -> Result<Self, String> {
        founding.push((PolicyKind::Access, Bundle::builtin().to_bytes()));
        founding.push((PolicyKind::Derivation, DerivationPolicy::builtin_text().as_bytes().to_vec()));
        let (mut access, mut derivation) = (None, None);
        for kind in KINDS {
            let active: Option<ActivePolicy> = value(ledger, state::policy_key(kind)).await?;
            let founded = match kind {
                PolicyKind::Access => genesis.access_policy,
                PolicyKind::Derivation => genesis.derivation_policy,
            };
            let named = active.map_or(founded, |active| active.document);
            let Some(bytes) = fetch(ledger, &founding, kind, &named).await? else {
                let text = "is neither on this node's ledger nor among the documents that it was started with";
                return Err(format!("the {} policy in force, {named}, {text}", word(kind)));
            };
            match read(kind, &bytes).map_err(|why| format!("the {} policy in force is wrong: {why}", word(kind)))? {
                Readable::Access(policy) => access = Some(policy),
                Readable::Derivation(policy) => derivation = Some(policy),
            }
        }
        match (access, derivation) {
            (Some(access), Some(derivation)) => {
                let now = Arc::new(InForce::new(access, derivation));
                Ok(Self { founding, now: watch::Sender::new(now) })
            }
            _ => Err("a policy of one kind was read as one of the other".to_owned()),
        }
    }

    fn now(&self) -> Arc<InForce> {
        self.now.borrow().clone()
    }

    /// The policies in force, and every later change of them.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<InForce>> {
        self.now.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut InForce)) {
        self.now.send_modify(|now| change(Arc::make_mut(now)));
    }
}

impl InForce {
    fn new(access: Arc<Policy>, derivation: Arc<DerivationPolicy>) -> Self {
        Self { access, derivation, ended: None, answers: Arc::new(Remembering::new()) }
    }

    /// Decides, or denies when what is here ended too long ago.
    pub(crate) fn decide(&self, request: &policy::Request<'_>, now: TimeMs) -> Decision {
        if self.ended.is_some_and(|ended| now >= ended.plus_ms(POLICY_GRACE_MS)) {
            let sentence = "the members put another access policy in force, which this gateway's program cannot read";
            let reason = Reason { policy: "unreadable".to_owned(), sentence: sentence.to_owned() };
            return Decision { allow: false, suppressed: false, reasons: vec![reason] };
        }
        self.answers.decide(&self.access, request)
    }
}

impl Node {
    /// The policies that the request under way began under, else those in force now.
    pub(crate) fn policies(&self) -> Arc<InForce> {
        UNDER.try_with(Arc::clone).unwrap_or_else(|_| self.inner.policies.now())
    }

    /// Carries out a request under the policies in force at its beginning, so that its entries name what it was decided under although
    /// others come into force meanwhile.
    pub async fn under_one_policy<T>(&self, request: impl Future<Output = T>) -> T {
        UNDER.scope(self.inner.policies.now(), request).await
    }

    /// Digest of the document of a kind that this node decides by now.
    pub(crate) fn digest_in_use(&self, kind: PolicyKind) -> Digest {
        let now = self.inner.policies.now();
        match kind {
            PolicyKind::Access => now.access.digest(),
            PolicyKind::Derivation => now.derivation.digest(),
        }
    }

    /// The bytes of a document that the ledger holds, or that this node was started with.
    pub(crate) async fn policy_bytes(&self, kind: PolicyKind, document: &Digest) -> Result<Option<Vec<u8>>, Failure> {
        let bytes = fetch(&self.ledger, &self.inner.policies.founding, kind, document).await;
        bytes.map_err(|why| Failure::ours("the ledger did not answer", why))
    }

    /// Takes over what the ledger's final state names as in force.
    pub(crate) async fn follow_policies(&self) -> Result<(), Failure> {
        let mut unreadable = 0;
        for kind in KINDS {
            let Some(active) = self.ledger_value::<ActivePolicy>(state::policy_key(kind)).await? else { continue };
            let (ActivePolicy { document, height }, used) = (active, self.digest_in_use(kind));
            if document == used {
                continue;
            }
            let readable = match self.policy_bytes(kind, &document).await? {
                Some(bytes) => read(kind, &bytes),
                None => Err("its bytes are not on the ledger".to_owned()),
            };
            let kind_word = word(kind);
            match readable {
                Ok(readable) => {
                    self.inner.policies.change(|now| match readable {
                        Readable::Access(access) => *now = InForce::new(access, now.derivation.clone()),
                        Readable::Derivation(derivation) => now.derivation = derivation,
                    });
                    tracing::info!(%document, height, "another {kind_word} policy is in force");
                }
                Err(why) => {
                    unreadable += 1;
                    tracing::error!(%document, height, why, "the {kind_word} policy in force cannot be read: update this program");
                    let term: Option<PolicyTerm> = self.ledger_value(state::policy_term_key(kind, &used)).await?;
                    if kind == PolicyKind::Access {
                        self.inner.policies.change(|now| now.ended = term.and_then(|term| term.until));
                    }
                }
            }
        }
        self.meters.policy_unreadable.set(unreadable);
        Ok(())
    }
}

/// The kind in a word.
pub(crate) fn word(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Access => "access",
        PolicyKind::Derivation => "derivation",
    }
}

/// A document's bytes: from those at hand, else put together from the ledger's parts, and named by its digest either way.
async fn fetch(
    ledger: &ledger::Handle,
    founding: &[(PolicyKind, Vec<u8>)],
    kind: PolicyKind,
    named: &Digest,
) -> Result<Option<Vec<u8>>, String> {
    let at_hand = founding.iter().find(|(of, bytes)| *of == kind && document::digest(kind, bytes) == *named);
    if let Some((_, bytes)) = at_hand {
        return Ok(Some(bytes.clone()));
    }
    let Some(text) = value::<PolicyText>(ledger, state::policy_text_key(kind, named)).await? else { return Ok(None) };
    let parts = text.parts.min(document::POLICY_PARTS_MAX);
    let mut bytes = Vec::new();
    for part in 0..parts {
        let key = state::policy_part_key(kind, named, &text.org, part);
        let part = value::<PolicyBytes>(ledger, key).await?.ok_or("a part of a policy is missing in the state")?;
        bytes.extend(part.bytes);
    }
    Ok((document::digest(kind, &bytes) == *named).then_some(bytes))
}

/// A value of the ledger's final state.
async fn value<T: for<'b> Decode<'b, ()> + Encode<()>>(
    ledger: &ledger::Handle,
    key: state::Key,
) -> Result<Option<T>, String> {
    let values = ledger.get(vec![key]).await.map_err(|e| e.to_string())?;
    let Some(value) = values.into_iter().next().flatten() else { return Ok(None) };
    from_cbor("state", &value, state::VALUE_BYTES_MAX).map(Some).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_of_the_longest_kind_is_a_document_of_the_ledger() {
        assert_eq!(policy::BUNDLE_BYTES_MAX, document::POLICY_DOCUMENT_BYTES_MAX);
        let bundle = Bundle::builtin();
        assert_eq!(document::digest(PolicyKind::Access, &bundle.to_bytes()), bundle.digest());
    }

    #[test]
    fn after_the_grace_of_a_policy_whose_successor_cannot_be_read_everything_is_denied() {
        use policy::{Action, Facts, Person, Record, Request};
        let Ok(Readable::Access(access)) = read(PolicyKind::Access, &Bundle::builtin().to_bytes()) else { panic!() };
        let derivation = Arc::new(DerivationPolicy::builtin().unwrap());
        let org = "mercy".parse().unwrap();
        let request = Request {
            person: Person {
                user: "dr",
                role: record::Role::Doctor,
                org: &org,
                org_role: record::OrgRole::Hospital,
                patient: None,
            },
            action: Action::Read,
            record: Record {
                fhir_type: "Condition",
                record_type: record::RecordType::MedicalRecord,
                patient: Some("p"),
                label: "N",
                author: &org,
            },
            purpose: record::Purpose::Treat,
            facts: Facts::default(),
        };
        let at = |ended| InForce { ended, ..InForce::new(access.clone(), derivation.clone()) };
        let ended = TimeMs(1_000);
        let check =
            |ended, now, allowed| assert_eq!(at(ended).decide(&request, now).allow, allowed, "{ended:?} {now:?}");
        check(None, TimeMs(u64::MAX), true);
        check(Some(ended), TimeMs(999 + POLICY_GRACE_MS), true);
        check(Some(ended), TimeMs(1_000 + POLICY_GRACE_MS), false);
    }

    #[test]
    fn what_is_no_policy_is_not_read() {
        for (kind, bytes) in [
            (PolicyKind::Access, &b"permit (principal, action, resource);"[..]),
            (PolicyKind::Derivation, b"version = 2"),
            (PolicyKind::Derivation, &[0xff]),
        ] {
            assert!(read(kind, bytes).is_err(), "{kind:?}");
        }
    }
}
