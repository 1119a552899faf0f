//! `vitaltrace bench decide`: what one decision of the access policies costs, asked anew each time.

use super::quantile;
use crate::command::{Exit, print};
use anyhow::Context as _;
use clap::{Args, builder::RangedU64ValueParser};
use policy::{Action, Consented, Facts, Person, Policy, Record, Request};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::{OrgId, OrgRole, Purpose, RecordType, Role};
use serde::Serialize;
use std::time::Instant;

/// Which FHIR type stands for which record type.
const TYPES: [(RecordType, &str); 7] = [
    (RecordType::Sensed, "Observation"),
    (RecordType::Analytics, "RiskAssessment"),
    (RecordType::MedicalRecord, "AllergyIntolerance"),
    (RecordType::MedicalService, "Procedure"),
    (RecordType::Insurance, "Coverage"),
    (RecordType::Claims, "Claim"),
    (RecordType::Permission, "Consent"),
];
const LABELS: [&str; 4] = ["N", "N", "R", "V"];
const CONSENTS: [Consented; 5] =
    [Consented::None, Consented::Permit, Consented::Named, Consented::Delegate, Consented::Deny];

/// Measures decisions.
#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// Decisions that are measured.
    #[arg(long, default_value_t = 100_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    decisions: usize,
    /// Everything random is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What the decisions showed.
#[derive(Debug, Serialize)]
struct Decided {
    decisions: usize,
    allowed: usize,
    mean_us: f64,
    p50_us: f64,
    p99_us: f64,
    longest_us: f64,
}

impl Decide {
    pub(crate) fn run(&self) -> anyhow::Result<Exit> {
        let policy = Policy::builtin()?;
        let (here, elsewhere): (OrgId, OrgId) = ("somewhere".parse()?, "elsewhere".parse()?);
        let mut rng = StdRng::seed_from_u64(self.seed);
        let (mut took_us, mut allowed) = (Vec::with_capacity(self.decisions), 0);
        for _ in 0..self.decisions {
            let request = request(&mut rng, &here, &elsewhere);
            let begin = Instant::now();
            allowed += usize::from(policy.decide(&request).allow);
            took_us.push(begin.elapsed().as_secs_f32() * 1e6);
        }
        let mean_us = took_us.iter().copied().map(f64::from).sum::<f64>() / took_us.len() as f64;
        took_us.sort_by(f32::total_cmp);
        let at = |share| quantile(&took_us, share).context("nothing was decided");
        let (p50_us, p99_us, longest_us) = (at(0.5)?, at(0.99)?, at(1.0)?);
        let decided = Decided { decisions: self.decisions, allowed, mean_us, p50_us, p99_us, longest_us };
        if self.json {
            print(&serde_json::to_string_pretty(&decided)?);
        } else {
            print(&format!(
                "{} decisions, {allowed} of them allowed: mean {mean_us:.1} us, p50 {p50_us:.1} us, p99 {p99_us:.1} us, longest {longest_us:.0} us",
                self.decisions
            ));
        }
        Ok(Exit::Good)
    }
}

fn request<'a>(rng: &mut StdRng, here: &'a OrgId, elsewhere: &'a OrgId) -> Request<'a> {
    let role = Role::ALL[rng.random_range(0..Role::ALL.len())];
    let patient = ["p1", "p2"][rng.random_range(0..2)];
    let (record_type, fhir_type) = TYPES[rng.random_range(0..TYPES.len())];
    Request {
        person: Person {
            user: "somebody",
            role,
            org: here,
            org_role: OrgRole::ALL[rng.random_range(0..OrgRole::ALL.len())],
            patient: (role == Role::Patient).then_some("p1"),
        },
        action: Action::ALL[rng.random_range(0..Action::ALL.len())],
        record: Record {
            fhir_type,
            record_type,
            patient: Some(patient),
            label: LABELS[rng.random_range(0..LABELS.len())],
            author: if rng.random_bool(0.5) { here } else { elsewhere },
        },
        purpose: Purpose::ALL[rng.random_range(0..Purpose::ALL.len())],
        facts: Facts {
            break_glass: rng.random_bool(0.5),
            consent: CONSENTS[rng.random_range(0..CONSENTS.len())],
            claim_linked: rng.random_bool(0.5),
            case_open: rng.random_bool(0.5),
            device_bound: rng.random_bool(0.5),
        },
    }
}
