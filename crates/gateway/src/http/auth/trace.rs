//! What identity leaves in the trail: logins, apps that were let in, tokens that were given, refused and ended.

use super::usual_purpose;
use crate::{
    http::{Doors, REQUEST_ID},
    identity::{
        issuer::Bearer,
        pending::LoggedIn,
        refusals::{SaidToBe, Sum},
    },
};
use axum::http::HeaderMap;
use exchange::{Came, Failure, SignIn, clock::now};
use record::{Purpose, Role};
use std::{borrow::Cow, net::IpAddr, time::Duration};

/// How often it is looked whether sums of refusals are due.
const SUMS_EVERY: Duration = Duration::from_secs(10);

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
    person: Person<'_>,
    app: Option<&str>,
    says: &str,
) -> Result<(), Failure> {
    let Person { user, role, patient } = person;
    let (address, request) = (from.ip.to_string(), from.request());
    let purpose = usual_purpose(role);
    let user = Some((&*user, role));
    doors.node.note_sign_in(SignIn { came, says, user, patient, app, address: &address, request, purpose }).await
}

/// Writes down that somebody was refused, now or in a sum. It stays a refusal, whether that can be written down or not.
pub(crate) async fn refused(doors: &Doors, from: Origin<'_>, who: SaidToBe, why: &str) {
    if doors.identity.refusals.is_first(who.clone(), from.ip, now().0) {
        tell(doors, &who, &from.ip.to_string(), from.request(), why).await;
    }
}

/// Writes sums of refusals down as they become due, for ever.
pub(crate) async fn sum_up(doors: Doors) {
    loop {
        tokio::time::sleep(SUMS_EVERY).await;
        tell_sums(&doors, false).await;
    }
}

/// Writes down the sums that are due, or all.
pub(crate) async fn tell_sums(doors: &Doors, everything: bool) {
    for sum in doors.identity.refusals.due(now().0, everything) {
        let Sum { who, address, times, within_ms } = sum;
        let (what, from) = match &who {
            SaidToBe::App(_) => ("requests for tokens", "the same address"),
            _ if address.is_none() => ("attempts", "many addresses"),
            _ => ("logins", "the same address"),
        };
        let says = format!("{times} more {what} from {from} were refused within {} seconds", within_ms.div_ceil(1000));
        let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        tell(doors, &who, &address, "", &says).await;
    }
}

async fn tell(doors: &Doors, who: &SaidToBe, address: &str, request: &str, says: &str) {
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
    if let Err(error) = doors.node.note_sign_in(sign_in).await {
        tracing::error!(%error, "a refusal could not be written into the trail");
    }
}
