//! Properties proven: for each, a solver shows that no request breaks it, or finds one that does.

use super::prove::{in_words, solver};
use cedar_policy::RequestEnv;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicySet, Env, solver::LocalSolver};
use policy::{Holds, Policy, Property};
use serde_json::{Value, json};

/// What became of the properties.
#[derive(Default)]
pub(crate) struct Kept {
    /// Each, with a request for each action by which it is broken.
    proven: Vec<(Property, Vec<String>)>,
    /// Why nothing was proven.
    not_proven: Option<String>,
}

/// Asks the solver about every property, if there is one.
pub(crate) async fn keeps(policy: &Policy, properties: Vec<Property>) -> Kept {
    if properties.is_empty() {
        return Kept::default();
    }
    let count = properties.len();
    let proven = match solver() {
        Ok(solver) => {
            ask(solver, policy, properties).await.map_err(|why| format!("the solver did not decide it: {why}"))
        }
        Err(why) => Err(why),
    };
    match proven {
        Ok(proven) => Kept { proven, not_proven: None },
        Err(why) => Kept { proven: Vec::new(), not_proven: Some(format!("{count} properties not proven: {why}")) },
    }
}

async fn ask(
    solver: LocalSolver,
    policy: &Policy,
    properties: Vec<Property>,
) -> Result<Vec<(Property, Vec<String>)>, Box<dyn std::error::Error>> {
    let (set, schema) = policy.cedar();
    let mut compiler = CedarSymCompiler::new(solver)?;
    let mut environments: Vec<RequestEnv> = schema.request_envs().collect();
    environments.sort_by_key(|environment| environment.action().id().unescaped().to_owned());
    let mut proven: Vec<(Property, Vec<String>)> =
        properties.into_iter().map(|property| (property, Vec::new())).collect();
    for environment in environments {
        let access = CompiledPolicySet::compile(set, &environment, schema).map_err(Box::new)?;
        for (property, broken) in &mut proven {
            let requests = CompiledPolicySet::compile(&property.requests, &environment, schema).map_err(Box::new)?;
            let found: Option<Env> = match property.holds {
                Holds::Never => compiler.check_disjoint_with_counterexample_opt(&access, &requests).await?,
                Holds::Always => compiler.check_implies_with_counterexample_opt(&requests, &access).await?,
            };
            let action = environment.action().id().unescaped();
            broken.extend(found.map(|found| format!("{action} by {}", in_words(&found))));
        }
    }
    Ok(proven)
}

impl Kept {
    /// Whether a request breaks one.
    pub(crate) fn is_broken(&self) -> bool {
        self.proven.iter().any(|(_, broken)| !broken.is_empty())
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.not_proven.iter().cloned().collect();
        for (property, broken) in &self.proven {
            if broken.is_empty() {
                lines.push(format!("proven: {}", property.says));
                continue;
            }
            lines.push(format!("broken: {}", property.says));
            let verdict = if property.holds == Holds::Never { "allowed" } else { "denied" };
            lines.extend(broken.iter().map(|request| format!("  {verdict}: {request}")));
        }
        lines
    }

    pub(crate) fn json(&self) -> Value {
        let properties = self.proven.iter().map(|(property, broken)| {
            json!({"id": property.id, "says": property.says, "proven": broken.is_empty(), "counterexamples": broken})
        });
        json!({"not_proven": self.not_proven, "properties": properties.collect::<Vec<_>>()})
    }
}
