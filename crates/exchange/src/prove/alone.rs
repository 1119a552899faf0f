//! The proof of one record: that these bytes are its current version, in a small file.

use super::sealed::Sealed;
use crate::{
    boxed, caller::Caller, facts::Target, failure::Failure, ingest::check_type, node::Node, prove::Scope, write::Trail,
};
use contract::{AccessAction, from_cbor, state};
use evidence::{Finality, Limits, RecordProof, StateProof};
use policy::Action;
use record::{Digest, commit, fhir::Interaction};
use store::Row;

/// How often the record is read anew because it changed while it was proven.
const TRIES_MAX: usize = 4;

impl Node {
    /// The current version of one record with the ledger's proof that it is: for whoever needs this record and not its patient's history.
    /// Of `scope`, what is about the whole history is refused.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn prove_record(&self, caller: &Caller, rtype: &str, id: &str, scope: Scope) -> Result<Vec<u8>, Failure> {
        check_type(rtype)?;
        let name = format!("{rtype}/{id}");
        if scope.from.is_some() || scope.to.is_some() {
            let text =
                "the proof of a record is of its current version: a range of heights belongs to its patient's evidence";
            return Err(Failure::Unsupported(text.to_owned()));
        }
        if rtype == "AuditEvent" {
            return Err(not_alone(
                &name,
                "an audit event never has another version, and the ledger keeps no current one of it",
            ));
        }
        if rtype == "Observation" && id.parse::<Digest>().is_ok() {
            return Err(not_alone(&name, "a sensor's frame is proven together with the others of its batch"));
        }
        for _ in 0..TRIES_MAX {
            let (row, pending, _) = self.sound_row(rtype, id, None).await?;
            let decided = self.allow(caller, Action::Prove, &Target::of(&row)).await?;
            if scope.case.is_some() && scope.case != decided.under {
                return Err(Failure::NotFound("this case, open and about this patient".to_owned()));
            }
            if pending {
                let text = format!("`{name}` is written and not final yet: try again in a moment");
                return Err(Failure::Conflict(text));
            }
            let key = state::record_key(&row.tag);
            let sealed = self.seal(&[key]).await?;
            let Some(head) = sealed.value(&key) else {
                return Err(not_alone(&name, "the ledger keeps no current version of it"));
            };
            if !is_current(&row, &head)? {
                continue;
            }
            let version = format!("{name}/_history/{}", row.version);
            let (patient, commitment) = (row.patient.clone(), commit(&row.salt, &row.bytes));
            let file = self.record_file(row, sealed, head, scope.through).await?;
            let trail = Trail { under: decided.under, ..Trail::of(Interaction::Operation, AccessAction::Export) };
            self.leave_trail(caller, patient.as_deref(), &[commitment], &[version], &trail).await?;
            return Ok(file);
        }
        Err(Failure::Conflict(format!("`{name}` changes faster than it is proven: try again in a moment")))
    }

    async fn record_file(
        &self,
        row: Row,
        sealed: Sealed,
        head: StateProof,
        through: Option<u64>,
    ) -> Result<Vec<u8>, Failure> {
        let handovers = match through {
            None => sealed.handovers,
            Some(_) => self.handovers(sealed.header.height, through).await?,
        };
        let finality = Finality {
            genesis: self.genesis.to_bytes(),
            header: sealed.header.to_bytes(),
            certificate: sealed.certificate,
            handovers,
        };
        let file = RecordProof::new(finality, row.tag, head, row.salt, row.bytes).to_bytes();
        // What is given away is checked first by the same rules that a stranger will apply.
        let checked = evidence::verify_record(&file, &self.genesis.id(), &Limits::default());
        checked.map_err(|e| Failure::ours("the proof of the record does not verify", e))?;
        Ok(file)
    }
}

/// Whether the row is the version that the ledger calls current.
fn is_current(row: &Row, head: &StateProof) -> Result<bool, Failure> {
    let head: state::RecordHead = from_cbor("record", &head.value, state::VALUE_BYTES_MAX)
        .map_err(|e| Failure::ours("the ledger's state cannot be read", e))?;
    Ok(head.version == row.version && head.commitment == commit(&row.salt, &row.bytes))
}

fn not_alone(name: &str, why: &str) -> Failure {
    Failure::Unsupported(format!(
        "`{name}` cannot be proven alone: {why}. Its patient's evidence shows it: `vitaltrace prove --patient ID`"
    ))
}
