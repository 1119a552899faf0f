//! What identity leaves in the trail: logins, apps that were let in, tokens that were given, refused and ended.

use super::usual_purpose;
use crate::{
    http::{Doors, REQUEST_ID},
    identity::{
        attempts::line,
        issuer::Bearer,
        pending::LoggedIn,
        refusals::{First, SaidToBe, Sum},
    },
};
use axum::http::HeaderMap;
use exchange::{Came, Failure, SignIn, clock::now};
use record::{Purpose, Role};
use std::{borrow::Cow, net::IpAddr, time::Duration};
use tokio::sync::oneshot;

/// How often it is looked whether sums of refusals are due.
const SUMS_EVERY: Duration = Duration::from_secs(10);
/// How long the last of them may take when the gateway stops.
pub(crate) const LAST_SUMS: Duration = Duration::from_secs(5);

/// Somebody whom the gateway knows.
#[derive(Debug, Clone)]
pub(crate) struct Person<'a> {
    /// By the name that the trail knows it by.
    pub(crate) user: Cow<'a, str>,
    pub(crate) role: Role,
    /// For a patient's login: the id of the Patient.
    pub(crate) patient: Option<&'a str>,
}

impl<'a> Person<'a> {
    /// Whom a token is of.
    pub(crate) fn of(bearer: &'a Bearer) -> Self {
        Self { user: bearer.name(), role: bearer.role, patient: bearer.patient.as_deref() }
    }
}

impl LoggedIn {
    /// The same, for the trail.
    pub(super) fn who(&self) -> Person<'_> {
        Person { user: Cow::Borrowed(&self.user), role: self.role, patient: self.patient.as_deref() }
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) ip: IpAddr,
}

impl Origin<'_> {
    fn request(&self) -> &str {
        self.headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Writes down that somebody came in, or that something ended. Nobody comes in without.
pub(crate) async fn note(
    doors: &Doors,
    from: Origin<'_>,
    came: Came,
    person: impl Into<Option<Person<'_>>>,
    app: Option<&str>,
    says: &str,
) -> Result<(), Failure> {
    let person = person.into();
    let (address, request) = (from.ip.to_string(), from.request());
    let user = person.as_ref().map(|person| (&*person.user, person.role));
    let patient = person.as_ref().and_then(|person| person.patient);
    let purpose = user.map_or(Purpose::Operations, |(_, role)| usual_purpose(role));
    doors.node.note_sign_in(SignIn { came, says, user, patient, app, address: &address, request, purpose }).await
}

/// Has it written down that somebody was refused, by itself or in a sum, beside the request: an answer that waited for the disk would say by
/// its time whether a name is known. It stays a refusal, whether that can be written down or not.
pub(crate) fn refused(doors: &Doors, from: Origin<'_>, who: SaidToBe, why: &str) {
    let (request, why) = (from.request().to_owned(), why.to_owned());
    doors.identity.refusals.count(First { who, address: from.ip, request, why }, now().0);
}

/// Writes refusals down, those that are told by themselves at once and sums as they become due, until `stopped`; then all that is left.
pub(crate) async fn sum_up(doors: Doors, mut stopped: oneshot::Receiver<()>) {
    loop {
        let stops = tokio::select! {
            _ = &mut stopped => true,
            () = doors.identity.refusals.news() => false,
            () = tokio::time::sleep(SUMS_EVERY) => false,
        };
        tell_all(&doors, stops).await;
        if stops {
            return;
        }
    }
}

/// Writes down what is to be told by itself, and the sums that are due, or all. What cannot be written is counted further.
async fn tell_all(doors: &Doors, everything: bool) {
    let refusals = &doors.identity.refusals;
    let mut untold = Vec::new();
    for First { who, address, request, why } in refusals.firsts() {
        if let Err(error) = tell(doors, &who, &address.to_string(), &request, &why).await {
            tracing::error!(%error, "a refusal could not be written into the trail");
            untold.push(Sum { who, address: Some(line(address)), times: 1, within_ms: 0 });
        }
    }
    // They wait for the next sums: what just failed is not tried again at once.
    for sum in refusals.due(now().0, everything) {
        let what = match &sum.who {
            SaidToBe::App(_) => "requests for tokens",
            SaidToBe::User(_) => "logins",
            SaidToBe::Somebody => "attempts",
        };
        let from = if sum.address.is_some() { "the same address" } else { "many addresses" };
        let (times, seconds) = (sum.times, sum.within_ms.div_ceil(1000));
        let says = format!("{times} more {what} from {from} were refused within {seconds} seconds");
        let address = sum.address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        if let Err(error) = tell(doors, &sum.who, &address, "", &says).await {
            tracing::error!(%error, times, "refusals could not be written into the trail yet");
            untold.push(sum);
        }
    }
    untold.into_iter().for_each(|sum| refusals.give_back(sum, now().0));
}

async fn tell(doors: &Doors, who: &SaidToBe, address: &str, request: &str, says: &str) -> Result<(), Failure> {
    let users = doors.identity.users();
    let named = match who {
        SaidToBe::User(name) => users.get(name).map(|user| (name.as_str(), user)),
        _ => None,
    };
    let app = match who {
        SaidToBe::App(id) => Some(id.as_str()),
        _ => None,
    };
    let sign_in = SignIn {
        came: Came::Refused,
        says,
        user: named.map(|(name, user)| (name, user.role)),
        patient: named.and_then(|(_, user)| user.patient.as_deref()),
        app,
        address,
        request,
        purpose: named.map_or(Purpose::Operations, |(_, user)| usual_purpose(user.role)),
    };
    doors.node.note_sign_in(sign_in).await
}
