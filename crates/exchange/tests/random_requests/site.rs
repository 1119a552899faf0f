//! Four members' nodes in this process, on one database, and what the database and their trail say.

use super::reference::{ORGS, Who};
use contract::{DerivationPolicy, EPOCH_BLOCKS_DEFAULT, Genesis};
use exchange::{App, Caller, Node, Settings, keys::OrgKeys};
use policy::{Bundle, Scopes};
use record::{OrgRole, TimeMs};
use serde_json::Value;
use std::{collections::BTreeMap, net::TcpListener, sync::Arc, time::Duration};
use store::Reader;
use tempfile::TempDir;

/// Rows that are read at a time.
const ROWS_AT_ONCE: usize = 1_000;

/// How long the nodes may take for anything before the test gives up; no test asserts a time.
const PATIENCE: Duration = Duration::from_secs(120);
const ROLES: [OrgRole; 4] = [OrgRole::Hospital, OrgRole::Ems, OrgRole::Insurer, OrgRole::Compliance];

pub(crate) struct Site {
    folder: TempDir,
    pub(crate) nodes: Vec<Node>,
    /// The place of the last row that was looked at.
    seen: u64,
}

/// An audit event, as far as it is compared.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) outcome: String,
    pub(crate) names: Vec<String>,
    pub(crate) user: String,
    pub(crate) query: bool,
}

impl Site {
    /// Founds a consortium and starts its nodes.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut held = Vec::new();
        while held.len() < ORGS.len() {
            let mut bytes = [0; 2];
            getrandom::fill(&mut bytes).unwrap();
            // Below the range from which outgoing connections take theirs.
            held.extend(TcpListener::bind(("127.0.0.1", 15_000 + u16::from_be_bytes(bytes) % 17_000)).ok());
        }
        let addresses: Vec<_> = held.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let keys: Vec<OrgKeys> = ORGS.map(|org| OrgKeys::create(&folder.path().join(org).join("keys")).unwrap()).into();
        let members = ORGS.iter().zip(ROLES).zip(keys.iter().zip(&addresses));
        let members =
            members.map(|((org, role), (keys, address))| keys.member(org.parse().unwrap(), role, address.to_string()));
        let mut members: Vec<_> = members.collect();
        members.sort_by(|one, other| one.org.cmp(&other.org));
        let genesis = Genesis {
            version: 1,
            name: "random".to_owned(),
            time: exchange::clock::now(),
            members,
            access_policy: Bundle::builtin().digest(),
            derivation_policy: DerivationPolicy::builtin().unwrap().digest(),
            epoch_blocks: EPOCH_BLOCKS_DEFAULT,
        };
        drop(held);
        let starting =
            ORGS.iter().zip(ROLES).zip(keys.into_iter().zip(addresses)).map(|((org, role), (keys, ledger))| {
                Node::start(Settings {
                    org: org.parse().unwrap(),
                    role,
                    genesis: genesis.clone(),
                    keys,
                    data: folder.path().join(org).join("data"),
                    database: folder.path().join("cloud.db").into(),
                    ledger,
                    part: ledger::Part::Founder,
                    peers: Vec::new(),
                    peers_max: None,
                    cache_bytes: None,
                    escalation: Default::default(),
                    begin: ledger::Begin::Blocks,
                    policies: Vec::new(),
                    without: exchange::Without::default(),
                })
            });
        let nodes = futures::future::try_join_all(starting).await.unwrap();
        Self { folder, nodes, seen: 0 }
    }

    /// Waits until all that was written is final and every node has seen it.
    pub(crate) async fn settle(&self) {
        for node in &self.nodes {
            assert!(node.settle(PATIENCE).await, "what was written does not become final");
        }
        let height = self.nodes.iter().map(Node::ledger_height).max().unwrap();
        let waiting = async {
            while self.nodes.iter().any(|node| node.ledger_height() < height) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }

    /// Somebody at the door of their organisation.
    pub(crate) fn caller(&self, who: &Who, purpose: &str, request: &str, patients: &[String]) -> Caller {
        let app = who.app.as_ref().map(|given| {
            let scopes: Vec<String> =
                given.scopes.iter().map(|(reach, rtype, letters)| format!("{reach}/{rtype}.{letters}")).collect();
            let patient = given.launched.map(|patient| patients[patient].clone());
            Arc::new(App { id: "an-app".to_owned(), scopes: Scopes::among(&scopes.join(" ")), patient })
        });
        Caller {
            user: who.user.to_owned(),
            role: who.role.parse().unwrap(),
            org: ORGS[who.org].parse().unwrap(),
            org_role: ROLES[who.org],
            patient: who.patient.map(|patient| patients[patient].clone()),
            purpose: purpose.parse().unwrap(),
            request: request.to_owned(),
            address: "127.0.0.1".to_owned(),
            base: "http://gateway/fhir".to_owned(),
            app,
            login: None,
            // Nobody's name is given to somebody else here.
            person_since: Some(TimeMs(0)),
        }
    }

    /// The audit events that came into the database since they were looked at last, by request. Read past every gateway: nobody's rights
    /// are in between.
    pub(crate) fn new_events(&mut self) -> BTreeMap<String, Vec<Event>> {
        let reader = Reader::open(&self.folder.path().join("cloud.db").into(), 1).unwrap();
        let mut rows = Vec::new();
        loop {
            let sweep = futures::executor::block_on(reader.rows(self.seen, ROWS_AT_ONCE)).unwrap();
            self.seen = sweep.last;
            rows.extend(sweep.found.rows.into_iter().filter(|row| row.rtype == "AuditEvent"));
            if sweep.next.is_none() {
                break;
            }
        }
        let mut by_request: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for row in rows {
            let event: Value = serde_json::from_slice(&row.bytes).unwrap();
            let entities = event["entity"].as_array().unwrap();
            let request = entities.iter().find_map(|entity| {
                (entity["type"]["code"] == "XrequestId").then(|| entity["what"]["identifier"]["value"].as_str())?
            });
            let names = entities.iter().filter_map(|entity| entity["what"]["reference"].as_str());
            let user = event["agent"].as_array().unwrap().iter().find(|agent| agent["requestor"] == true).unwrap();
            by_request.entry(request.unwrap_or_default().to_owned()).or_default().push(Event {
                outcome: event["outcome"].as_str().unwrap().to_owned(),
                names: names.filter(|name| name.contains("/_history/")).map(str::to_owned).collect(),
                user: user["who"]["display"].as_str().unwrap().to_owned(),
                query: entities.iter().any(|entity| !entity["query"].is_null()),
            });
        }
        by_request
    }

    pub(crate) async fn stop(self) {
        for node in &self.nodes {
            node.stop().await;
        }
    }
}
