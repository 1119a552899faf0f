//! Two sources compared: what changes in words, and what a solver proves of it.

use super::{
    BadInput,
    prove::{Proof, prove},
    source::Source,
};
use contract::DerivationPolicy;
use policy::{Difference, difference};
use serde_json::{Value, json};

/// What was found.
pub(crate) struct Compared {
    access: Option<(Difference, Proof)>,
    derivation: Option<Vec<String>>,
}

/// Compares what both sides have.
pub(crate) async fn compare(old: &Source, new: &Source) -> anyhow::Result<Compared> {
    let derivation = |source: &Source| source.derivation.as_deref().map(DerivationPolicy::parse).transpose();
    let bad = |e: contract::BadDerivationPolicy| BadInput(e.to_string());
    let (old_derivation, new_derivation) = (derivation(old).map_err(bad)?, derivation(new).map_err(bad)?);
    let access = match (&old.access, &new.access) {
        (Some(old), Some(new)) => {
            let load = |bundle: &policy::Bundle| bundle.load().map_err(|e| BadInput(e.to_string()));
            let (old, new) = (load(old)?, load(new)?);
            let types = match new_derivation.as_ref().or(old_derivation.as_ref()) {
                Some(derivation) => derivation.clone(),
                None => DerivationPolicy::builtin().map_err(bad)?,
            };
            let difference = difference(&old, &new, |name| types.record_types(name));
            let difference = difference.map_err(|e| BadInput(e.to_string()))?;
            let proof = prove(&old, &new).await;
            Some((difference, proof))
        }
        _ => None,
    };
    let derivation = old_derivation.zip(new_derivation).map(|(old, new)| old.changes(&new));
    if access.is_none() && derivation.is_none() {
        return Err(BadInput("these are policies of two kinds: there is nothing to compare".to_owned()).into());
    }
    Ok(Compared { access, derivation })
}

impl Compared {
    /// For people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((difference, proof)) = &self.access {
            if difference.is_empty() {
                lines.push("nobody gains or loses access".to_owned());
            }
            lines.extend(difference.gains.iter().map(|gain| format!("gains: {gain}")));
            lines.extend(difference.losses.iter().map(|loss| format!("loses: {loss}")));
            if difference.names_individuals {
                lines.push(
                    "a policy names persons or organisations: what it says of them is not in these lines".to_owned(),
                );
            }
            lines.extend(proof.lines());
        }
        match &self.derivation {
            Some(changes) if changes.is_empty() => lines.push("nothing else goes on the ledger than before".to_owned()),
            Some(changes) => lines.extend(changes.iter().map(|change| format!("ledger: {change}"))),
            None => {}
        }
        lines
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let mut value = json!({});
        if let Some((difference, proof)) = &self.access {
            value["access"] = json!({
                "gains": difference.gains, "losses": difference.losses,
                "names_individuals": difference.names_individuals, "proof": proof.json()
            });
        }
        if let Some(changes) = &self.derivation {
            value["derivation"] = json!({"changes": changes});
        }
        value
    }
}
