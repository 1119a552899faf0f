//! The difference proven: for each action, a solver shows that no request is decided otherwise, or finds one that is.
//!
//! Cedar's symbolic compiler turns both sets into formulas over all requests that the schema allows, also those that name a person or an
//! organisation; cvc5 decides them. It is a program of its own, which need not be there.

use cedar_policy::{Entities, EntityUid, EvalResult, PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicySet, Env, solver::LocalSolver};
use policy::Policy;
use serde_json::{Value, json};

/// How long the solver may think about one question, in milliseconds.
const QUESTION_MS: u32 = 60_000;

/// What the solver says.
pub(crate) enum Proof {
    /// It was asked about every action.
    Done(Vec<Proven>),
    /// It could not be asked, or did not answer.
    NotProven(String),
}

/// What holds for one action.
pub(crate) struct Proven {
    action: String,
    /// A request that was denied and is allowed now; none exists when there is none here.
    gain: Option<String>,
    /// A request that was allowed and is denied now; none exists when there is none here.
    loss: Option<String>,
}

/// Asks the solver, if there is one.
pub(crate) async fn prove(old: &Policy, new: &Policy) -> Proof {
    let solver = match solver() {
        Ok(solver) => solver,
        Err(why) => return Proof::NotProven(why),
    };
    match ask(solver, old, new).await {
        Ok(proven) => Proof::Done(proven),
        Err(why) => Proof::NotProven(format!("the solver did not decide it: {why}")),
    }
}

/// The solver, or how to get one.
pub(crate) fn solver() -> Result<LocalSolver, String> {
    LocalSolver::cvc5_with_args([format!("--tlimit-per={QUESTION_MS}")])
        .map_err(|_| "no cvc5 found: install the package `cvc5`, or name the program in the variable CVC5".to_owned())
}

async fn ask(solver: LocalSolver, old: &Policy, new: &Policy) -> Result<Vec<Proven>, Box<dyn std::error::Error>> {
    let ((before, _), (after, schema)) = (old.cedar(), new.cedar());
    let mut compiler = CedarSymCompiler::new(solver)?;
    let mut proven = Vec::new();
    let mut environments: Vec<RequestEnv> = schema.request_envs().collect();
    environments.sort_by_key(|environment| environment.action().id().unescaped().to_owned());
    for environment in environments {
        let compiled =
            |set: &PolicySet, schema: &Schema| CompiledPolicySet::compile(set, &environment, schema).map_err(Box::new);
        // Both by the new schema: words that it lacks are a difference that the old set cannot be asked about.
        let (before, after) = (compiled(before, schema)?, compiled(after, schema)?);
        let gain = compiler.check_implies_with_counterexample_opt(&after, &before).await?;
        let loss = compiler.check_implies_with_counterexample_opt(&before, &after).await?;
        proven.push(Proven {
            action: environment.action().id().unescaped().to_owned(),
            gain: gain.map(|found| in_words(&found)),
            loss: loss.map(|found| in_words(&found)),
        });
    }
    Ok(proven)
}

impl Proof {
    pub(crate) fn lines(&self) -> Vec<String> {
        let proven = match self {
            Self::NotProven(why) => return vec![format!("not proven: {why}")],
            Self::Done(proven) => proven,
        };
        let (same, other): (Vec<&Proven>, Vec<&Proven>) = proven.iter().partition(|one| one.verdict() == "equal");
        let same: Vec<&str> = same.iter().map(|one| one.action.as_str()).collect();
        let mut lines = Vec::new();
        if other.is_empty() {
            return vec!["proven: every request is decided as before".to_owned()];
        }
        if !same.is_empty() {
            lines.push(format!("proven: every request for {} is decided as before", same.join(", ")));
        }
        for one in other {
            lines.push(format!("proven: {} is {}", one.action, one.verdict()));
            lines.extend(one.gain.iter().map(|request| format!("  allowed now, denied before: {request}")));
            lines.extend(one.loss.iter().map(|request| format!("  denied now, allowed before: {request}")));
        }
        lines
    }

    pub(crate) fn json(&self) -> Value {
        match self {
            Self::NotProven(why) => json!({"proven": false, "why": why}),
            Self::Done(proven) => {
                let actions = proven.iter().map(
                    |one| json!({"action": one.action, "verdict": one.verdict(), "gain": one.gain, "loss": one.loss}),
                );
                json!({"proven": true, "actions": actions.collect::<Vec<_>>()})
            }
        }
    }
}

impl Proven {
    fn verdict(&self) -> &'static str {
        match (&self.gain, &self.loss) {
            (None, None) => "equal",
            (Some(_), None) => "more permissive",
            (None, Some(_)) => "less permissive",
            (Some(_), Some(_)) => "different",
        }
    }
}

/// A request that the solver found, with what both sets may look at.
pub(crate) fn in_words(found: &Env) -> String {
    let Env { request, entities } = found;
    let of = |uid: Option<&EntityUid>, names: &[&str]| -> String {
        let words = names.iter().filter_map(|name| Some(format!("{name} {}", attribute(entities, uid?, name)?)));
        words.collect::<Vec<_>>().join(", ")
    };
    let person = of(request.principal(), &["role", "org", "org_role", "patient"]);
    let record = of(request.resource(), &["fhir_type", "record_type", "patient", "label", "author"]);
    let facts = ["purpose", "break_glass", "consent", "claim_linked", "case_open", "device_bound"].iter();
    let facts = facts.filter_map(|name| Some(format!("{name} {}", word(&request.context()?.get(name)?))));
    format!("a person ({person}), a record ({record}), {}", facts.collect::<Vec<_>>().join(", "))
}

fn attribute(entities: &Entities, uid: &EntityUid, name: &str) -> Option<String> {
    Some(word(&entities.get(uid)?.attr(name)?.ok()?))
}

/// A value in a word: of an entity its name alone.
fn word(value: &EvalResult) -> String {
    match value {
        EvalResult::EntityUid(uid) if uid.id().unescaped().is_empty() => "without a name".to_owned(),
        EvalResult::EntityUid(uid) => uid.id().unescaped().to_owned(),
        EvalResult::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        other => other.to_string(),
    }
}
