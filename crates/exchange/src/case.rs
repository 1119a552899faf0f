//! Investigations: cases about one patient, opened under an order and concluded.

use crate::{
    boxed,
    caller::Caller,
    desk::{Case, Paper},
    failure::Failure,
    glass::check_text,
    node::Node,
    owed::{Owed, Owing, Step},
    subject::Subject,
    take::to_the_end,
    write::Draft,
};
use contract::Event;
use policy::Action;
use record::Id16;

impl Case {
    /// Whether it opens anything: written, and not concluded.
    pub(crate) fn is_open(&self) -> bool {
        self.result.is_none() && !self.owed.iter().any(|owed| owed.step == Step::CaseOpened)
    }
}

impl Owing for Case {
    fn owed(&mut self) -> &mut Vec<Owed> {
        &mut self.owed
    }

    fn event<'a>(&'a self, owed: &'a Owed) -> Event<'a> {
        match (&owed.step, &self.result) {
            (Step::CaseConcluded, Some(result)) => {
                Event::InvestigationConcluded { id: self.id, result: result.as_bytes() }
            }
            _ => Event::InvestigationOpened { id: self.id, order: self.order.as_bytes() },
        }
    }

    async fn drafts(&self, _: &Node, _: &Owed, _: &Subject) -> Result<Vec<Draft>, Failure> {
        Ok(Vec::new())
    }
}

impl Node {
    /// Opens a case about one patient, under an order.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn open_case(&self, caller: &Caller, patient: &str, order: &str) -> Result<Id16, Failure> {
        check_text("order", order)?;
        self.allow_about(caller, Action::Investigate, patient).await?;
        let (id, now) = (self.new_id()?, self.now());
        let case = Case {
            id,
            patient: patient.to_owned(),
            user: caller.user.clone(),
            order: order.to_owned(),
            opened: now,
            result: None,
            owed: vec![self.owe(caller, Step::CaseOpened, now)?],
        };
        let node = self.clone();
        to_the_end(async move {
            // The desk first: what is written afterwards can be concluded, whatever happens in between.
            let paper = Paper::id(&case);
            node.desk.put(case).await?;
            if let Err(failure) = node.pay::<Case>(&paper).await {
                // It may be written or not: it is written in the end, and opens nothing before that.
                node.pay_surely::<Case>(&paper).await;
                return Err(failure);
            }
            Ok(id)
        })
        .await
    }

    /// Concludes a case: from now it opens nothing.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn conclude_case(&self, caller: &Caller, id: Id16, result: &str) -> Result<(), Failure> {
        check_text("result", result)?;
        let found = self.desk.get::<Case>(&id.to_hex()).await?;
        let case = found.ok_or_else(|| Failure::NotFound(format!("case/{id}")))?;
        self.allow_about(caller, Action::Investigate, &case.patient).await?;
        let concluding = self.owe(caller, Step::CaseConcluded, self.now())?;
        self.change(&id.to_hex(), |case: &mut Case| {
            if case.result.is_some() {
                return Err(Failure::Conflict("this case is concluded already".to_owned()));
            }
            case.result = Some(result.to_owned());
            case.owed.push(concluding);
            Ok(())
        })
        .await?;
        let node = self.clone();
        to_the_end(async move {
            node.pay_surely::<Case>(&id.to_hex()).await;
            Ok(())
        })
        .await
    }
}
