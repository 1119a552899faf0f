//! Investigations: cases about one patient, opened under an order and concluded.

use crate::{
    caller::Caller,
    desk::Case,
    failure::Failure,
    glass::check_text,
    node::Node,
    write::{Also, Touched, Trail},
};
use contract::{AccessAction, Event};
use policy::Action;
use record::{Id16, fhir::Interaction};

impl Node {
    /// Opens a case about one patient, under an order.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn open_case(&self, caller: &Caller, patient: &str, order: &str) -> Result<Id16, Failure> {
        check_text("order", order)?;
        self.allow_about(caller, Action::Investigate, patient).await?;
        let id = self.new_id()?;
        let case = Case {
            id,
            patient: patient.to_owned(),
            user: caller.user.clone(),
            order: order.to_owned(),
            opened: self.now(),
            result: None,
        };
        self.record_case(caller, patient, Event::InvestigationOpened { id, order: order.as_bytes() }).await?;
        self.desk.put(case).await?;
        Ok(id)
    }

    /// Concludes a case: from now it opens nothing.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn conclude_case(&self, caller: &Caller, id: Id16, result: &str) -> Result<(), Failure> {
        check_text("result", result)?;
        let found = self.desk.get::<Case>(&id.to_hex()).await?;
        let mut case = found.ok_or_else(|| Failure::NotFound(format!("case/{id}")))?;
        self.allow_about(caller, Action::Investigate, &case.patient).await?;
        if case.result.is_some() {
            return Err(Failure::Conflict("this case is concluded already".to_owned()));
        }
        case.result = Some(result.to_owned());
        self.desk.put(case.clone()).await?;
        self.record_case(caller, &case.patient, Event::InvestigationConcluded { id, result: result.as_bytes() }).await
    }

    async fn record_case(&self, caller: &Caller, patient: &str, event: Event<'_>) -> Result<(), Failure> {
        let subject = self.subject(patient).await?;
        let time = self.now();
        let mut gathered = self.empty();
        self.also(&mut gathered, &self.author(caller, time), &Also { subject: subject.clone(), event })?;
        let trail = Trail::of(Interaction::Operation, AccessAction::Write);
        self.trail(&mut gathered, caller, time, &Touched::nothing(&subject), &trail)?;
        self.put(gathered).await
    }
}
