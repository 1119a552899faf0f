//! What an administrator of the cloud database could do, done with plain SQL; and what the audit says of it.

use super::{
    report::Attack,
    story::{Story, expect, matches},
};
use anyhow::{Context, bail};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

/// The exact bytes of every essential record's latest version, by `Type/id`.
pub(crate) type Essentials = BTreeMap<String, Vec<u8>>;

/// A row that an attack touched: what the audit must name.
struct Victim {
    kind: &'static str,
    record: String,
    /// Of an allergy: its clinical status as it was recorded.
    status: Option<String>,
}

fn clinical_status(allergy: &Value) -> Option<&str> {
    allergy["clinicalStatus"]["coding"][0]["code"].as_str()
}

impl Story {
    fn database(&self) -> anyhow::Result<Connection> {
        let connection = Connection::open(&self.consortium.database)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        Ok(connection)
    }

    /// The essential records as they are now.
    pub(crate) fn essentials(&self) -> anyhow::Result<Essentials> {
        let policy = contract::DerivationPolicy::builtin()?;
        let connection = self.database()?;
        let mut select =
            connection.prepare("SELECT rtype, id, bytes FROM version WHERE current = 1 AND deleted = 0")?;
        let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?)))?;
        let mut essentials = Essentials::new();
        for row in rows {
            let (kind, id, bytes) = row?;
            if policy.is_essential(&kind) {
                essentials.insert(format!("{kind}/{id}"), bytes);
            }
        }
        Ok(essentials)
    }

    async fn audit(&self) -> anyhow::Result<Vec<Value>> {
        let custodian = self.as_user("custodian", "HSYSADMIN")?;
        let report = custodian.post("/audit", &json!({"full": true})).await?.good()?.json()?;
        report["findings"].as_array().cloned().context("the audit's report has no findings")
    }

    /// Modifies, deletes, rolls back, duplicates and injects rows, and misfiles a frame; audits before and after.
    pub(crate) async fn attack_database(&mut self) -> anyhow::Result<()> {
        self.tell.heading("Attacks: the database is changed behind everybody's back, with plain SQL");
        let before = self.audit().await?;
        self.report.false_alarms = before.len() as u64;
        self.tell.detail(&format!("audit of the untouched database: {} findings", before.len()));

        let victims = self.strike()?;
        for victim in &victims {
            self.tell.detail(&format!("{}: {}", victim.kind, victim.record));
        }
        let findings = self.audit().await?;
        for kind in ["modified", "removed", "rolled-back", "duplicated", "injected", "misfiled"] {
            let struck: Vec<&Victim> = victims.iter().filter(|victim| victim.kind == kind).collect();
            let about =
                |victim: &Victim| findings.iter().find(|f| f["kind"] == kind && f["record"] == victim.record.as_str());
            let found = struck.iter().filter(|victim| about(victim).is_some()).count();
            let named = struck.iter().filter(|victim| about(victim).is_some_and(|f| is_named(kind, f))).count();
            let attack = Attack { kind, injected: struck.len() as u64, found: found as u64, named: named as u64 };
            self.tell.detail(&format!(
                "{kind}: {} made, {found} found, {named} named with version and author",
                struck.len()
            ));
            self.report.attacks.push(attack);
        }
        let struck: BTreeSet<&str> = victims.iter().map(|victim| victim.record.as_str()).collect();
        let others = findings.iter().filter(|f| !f["record"].as_str().is_some_and(|record| struck.contains(record)));
        self.report.false_alarms += others.count() as u64;
        self.read_past_the_attacks(&victims).await
    }

    /// One attack of each kind, on rows of the patient.
    fn strike(&self) -> anyhow::Result<Vec<Victim>> {
        let connection = self.database()?;
        let latest = |kind: &str, skip: usize| -> anyhow::Result<(String, Vec<u8>)> {
            connection
                .query_row(
                    "SELECT id, bytes FROM version WHERE rtype = ?1 AND patient = ?2 AND deleted = 0 AND version = 1 ORDER BY id LIMIT 1 OFFSET ?3",
                    params![kind, self.patient, skip as i64],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?
                .with_context(|| format!("the patient has no {kind} number {skip} to attack"))
        };
        let mut victims = Vec::new();

        let (id, bytes) = latest("AllergyIntolerance", 0)?;
        let mut changed: Value = serde_json::from_slice(&bytes)?;
        let status = clinical_status(&changed).map(str::to_owned);
        let other = if status.as_deref() == Some("active") { "inactive" } else { "active" };
        changed["clinicalStatus"] = json!({"coding": [{"code": other}]});
        connection.execute(
            "UPDATE version SET bytes = ?1 WHERE rtype = 'AllergyIntolerance' AND id = ?2",
            params![serde_json::to_vec(&changed)?, id],
        )?;
        victims.push(Victim { kind: "modified", record: format!("AllergyIntolerance/{id}"), status });

        let (id, bytes) = latest("AllergyIntolerance", 1)?;
        connection.execute("DELETE FROM version WHERE rtype = 'AllergyIntolerance' AND id = ?1", [&id])?;
        let status = clinical_status(&serde_json::from_slice(&bytes)?).map(str::to_owned);
        victims.push(Victim { kind: "removed", record: format!("AllergyIntolerance/{id}"), status });

        let id = self.id("hospital-encounter")?.to_owned();
        let top: i64 = connection.query_row(
            "SELECT max(version) FROM version WHERE rtype = 'Encounter' AND id = ?1",
            [&id],
            |row| row.get(0),
        )?;
        connection
            .execute("DELETE FROM version WHERE rtype = 'Encounter' AND id = ?1 AND version = ?2", params![id, top])?;
        connection.execute(
            "UPDATE version SET current = 1 WHERE rtype = 'Encounter' AND id = ?1 AND version = ?2",
            params![id, top - 1],
        )?;
        victims.push(Victim { kind: "rolled-back", record: format!("Encounter/{id}"), status: None });

        let (id, bytes) = latest("MedicationRequest", 0)?;
        let copy = "11111111-2222-4333-8444-555555555555";
        let columns = columns(&connection)?;
        let list = columns.join(", ");
        let select = list.replace(" id,", " ?2,");
        let sql = format!(
            "INSERT INTO version ({list}) SELECT {select} FROM version WHERE rtype = 'MedicationRequest' AND id = ?1 AND version = 1"
        );
        connection.execute(&sql, params![id, copy])?;
        victims.push(Victim { kind: "duplicated", record: format!("MedicationRequest/{copy}"), status: None });

        let forged = "99999999-8888-4777-8666-555555555555";
        let body = String::from_utf8(bytes)?.replace(&id, forged).replace("active", "stopped");
        let mut salt = [0u8; 32];
        getrandom::fill(&mut salt).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
        let replaced: Vec<String> = columns
            .iter()
            .map(|column| match column.as_str() {
                "id" => "?2".to_owned(),
                "bytes" => "?3".to_owned(),
                "salt" | "tag" => "?4".to_owned(),
                "entry" => "randomblob(16)".to_owned(),
                other => other.to_owned(),
            })
            .collect();
        let sql = format!(
            "INSERT INTO version ({list}) SELECT {} FROM version WHERE rtype = 'MedicationRequest' AND id = ?1 AND version = 1",
            replaced.join(", ")
        );
        connection.execute(&sql, params![id, forged, body.as_bytes(), salt])?;
        victims.push(Victim { kind: "injected", record: format!("MedicationRequest/{forged}"), status: None });

        // A frame is filed under a kind that it is not of: no search by code finds what it says.
        let (place, device): (i64, String) = connection.query_row(
            "SELECT fid, device FROM frame WHERE patient = ?1 ORDER BY fid LIMIT 1",
            [&self.patient],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        connection.execute("UPDATE frame SET kind = kind + 1 WHERE fid = ?1", [place])?;
        let id = device.strip_prefix("urn:dev:fhir:").context("a device that signs under another name")?;
        victims.push(Victim { kind: "misfiled", record: format!("Device/{id}"), status: None });
        Ok(victims)
    }

    /// A summary read over the attacked database is still complete, and says that something was repaired; nothing forged is shown.
    async fn read_past_the_attacks(&self, victims: &[Victim]) -> anyhow::Result<()> {
        let paramedic = self.as_user("paramedic", "ETREAT")?;
        let summary = paramedic.get(&format!("/fhir/Patient/{}/$summary", self.patient)).await?.good()?.json()?;
        let resources = matches(&summary);
        for victim in victims.iter().filter(|v| v.record.starts_with("AllergyIntolerance/")) {
            let id = victim.record.trim_start_matches("AllergyIntolerance/");
            let shown = resources.iter().find(|r| r["resourceType"] == "AllergyIntolerance" && r["id"] == id);
            let shown = shown.with_context(|| format!("the {} allergy is missing from the summary", victim.kind))?;
            expect(clinical_status(shown) == victim.status.as_deref(), "the allergy is shown as it was recorded")?;
        }
        for victim in victims.iter().filter(|v| v.record.starts_with("MedicationRequest/")) {
            if summary.to_string().contains(victim.record.trim_start_matches("MedicationRequest/")) {
                bail!("the {} medication is shown as if it were real", victim.kind);
            }
        }
        self.tell.detail("the summary still shows both allergies as recorded, and neither forged medication");
        Ok(())
    }

    /// The database is deleted; the essential records come back from ledger and vaults.
    pub(crate) async fn recover_database(&mut self, before: &Essentials) -> anyhow::Result<()> {
        self.tell.heading("The database is deleted");
        self.consortium.kill_all();
        for ending in ["", "-wal", "-shm"] {
            let mut path = self.consortium.database.clone().into_os_string();
            path.push(ending);
            let path = Path::new(&path);
            if path.exists() {
                std::fs::remove_file(path)?;
            }
        }
        self.consortium.start_all().await?;
        self.log_in().await?;
        let custodian = self.as_user("custodian", "HSYSADMIN")?;
        let proposal =
            custodian.post("/custody/recover", &json!({"reason": "the cloud database is lost"})).await?.good()?.id()?;
        self.settle().await?;
        let early = custodian.post(&format!("/custody/{proposal}/carry-out"), &json!({})).await?;
        expect(early.status.as_u16() == 409, "essential copies stay closed until a majority agrees")?;
        for (user, purpose) in [("ems-custodian", "HSYSADMIN"), ("inspector", "HCOMPL")] {
            self.as_user(user, purpose)?.post(&format!("/custody/{proposal}/vote"), &json!({})).await?.good()?;
        }
        self.settle().await?;
        let started = Instant::now();
        let report = custodian.post(&format!("/custody/{proposal}/carry-out"), &json!({})).await?.good()?.json()?;
        let after = self.essentials()?;
        let restored = before.keys().filter(|record| after.contains_key(*record)).count() as u64;
        let identical = before.iter().filter(|(record, bytes)| after.get(*record) == Some(bytes)).count() as u64;
        self.report.recover = super::report::Recover { essential: before.len() as u64, restored, identical };
        self.tell.detail(&format!(
            "{restored} of {} essential records rebuilt in {:.1} s, {identical} identical to the byte; {} other versions are listed as lost, with proof that they existed",
            before.len(),
            started.elapsed().as_secs_f64(),
            report["lost"]
        ));
        let paramedic = self.as_user("paramedic", "ETREAT")?;
        paramedic.get(&format!("/fhir/Patient/{}/$summary", self.patient)).await?.good()?;
        Ok(())
    }

    /// One validator is killed; the others go on; it returns and catches up.
    pub(crate) async fn lose_a_validator(&mut self) -> anyhow::Result<()> {
        self.tell.heading("One validator is killed");
        self.consortium.kill("acme-insurance")?;
        let start = self.ledger_status().await?["height"].as_u64().unwrap_or(0);
        let paramedic = self.as_user("paramedic", "ETREAT")?;
        for _ in 0..5 {
            paramedic.get(&format!("/fhir/Patient/{}/$summary", self.patient)).await?.good()?;
        }
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.ledger_status().await?;
            let moved = status["height"].as_u64().unwrap_or(0) > start && status["pending"] == 0;
            if moved {
                break;
            }
            if Instant::now() > until {
                bail!("the ledger stopped with one of four validators down");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.tell.detail("the other three go on");
        self.consortium.restart("acme-insurance").await?;
        self.settle().await?;
        let target = self.ledger_status().await?["height"].as_u64().unwrap_or(0);
        let base = self.consortium.node("acme-insurance")?.base.clone();
        let returned = crate::client::Client::with_token(&base, String::new())?;
        let until = Instant::now() + Duration::from_secs(60);
        while returned.get("/ledger/status").await?.good()?.json()?["height"].as_u64().unwrap_or(0) < target {
            if Instant::now() > until {
                bail!("the returned validator did not catch up");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.tell.detail("it returned and caught up");
        self.log_in().await
    }
}

/// Whether a finding says which version it is and who wrote the good one (an injected row has neither: it says so).
fn is_named(kind: &str, finding: &Value) -> bool {
    let version = finding["version"].is_u64();
    match kind {
        "injected" => version,
        _ => version && finding["author"].is_string() && finding["written_at"].is_string(),
    }
}

fn columns(connection: &Connection) -> anyhow::Result<Vec<String>> {
    let mut select =
        connection.prepare("SELECT name FROM pragma_table_info('version') WHERE name <> 'vid' ORDER BY cid")?;
    let names = select.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    Ok(names)
}
