//! Notifications to hooks: posted to the addresses that subscribers gave, again and again until they are taken.
//!
//! Where they may go is bounded, so that nobody has the gateway knock at doors inside the operator's network: by https to public addresses, or to
//! this machine, unless the configuration names an origin. No redirect is followed and no proxy is used.

use crate::{
    http::caller_by,
    identity::{
        Identity,
        issuer::{Claims, TokenError},
    },
};
use anyhow::Context as _;
use exchange::{Caller, Channels, Node, Say, Served, Subscriber, clock::now};
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::CONTENT_TYPE,
};
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{AbortHandle, JoinSet},
};

/// Notifications that are on their way at the same time.
const POSTS_MAX: usize = 64;
/// Those of them that are for one account: hooks that hang take no more than this.
const POSTS_OF_ONE_MAX: usize = 4;
/// How long a hook may take to be connected with.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before a notification is posted again, at first and at most: twice as long each time.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(300)];
/// How long to wait after a failure of ours, or where there was nothing to post after all.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked for tasks that have ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where hooks may be, beside what is open to all.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    origins: HashSet<String>,
    hosts: HashSet<String>,
}

impl Allowed {
    /// The origins that the operator names.
    pub(crate) fn new(origins: &[String]) -> anyhow::Result<Self> {
        let mut allowed = Self::default();
        for said in origins {
            let url = Url::parse(said).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
            let url = url.filter(|url| url.path() == "/" && url.query().is_none() && url.username().is_empty());
            let url = url.with_context(|| {
                format!("`allow` has `{said}`: write an origin such as http://ward.mercy.local:8080")
            })?;
            allowed.hosts.extend(url.host_str().map(str::to_owned));
            allowed.origins.insert(url.origin().ascii_serialization());
        }
        Ok(allowed)
    }

    /// The address of a hook, if notifications may go there; or what to write instead.
    fn check(&self, address: &str) -> Result<Url, String> {
        let plain = |url: &Url| {
            url.has_host() && url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
        };
        let url = Url::parse(address).ok().filter(|url| ["http", "https"].contains(&url.scheme())).filter(plain);
        let url =
            url.ok_or("`endpoint` is an address such as https://hook.example/in, without a name or a password in it")?;
        if self.origins.contains(&url.origin().ascii_serialization()) {
            return Ok(url);
        }
        let host = url.host_str().unwrap_or_default();
        // The name of a host that was let in may lead into the network: what else listens there was not let in.
        let is_named = self.hosts.contains(host);
        let is_open = url.scheme() == "https" && address_in(host).is_none_or(is_public);
        if !is_named && (is_here(host) || is_open) {
            return Ok(url);
        }
        Err("notifications go by https to public addresses, or to this machine: others are named in `[subscriptions] allow` by whoever runs the \
             gateway"
            .to_owned())
    }

    /// Whether a name may lead to an address.
    fn may_lead_to(&self, name: &str, address: IpAddr) -> bool {
        match name {
            name if self.hosts.contains(name) => true,
            "localhost" => address.is_loopback(),
            _ => is_public(address),
        }
    }
}

/// The address that stands in a URL for a host's name.
fn address_in(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    host == "localhost" || address_in(host).is_some_and(|address| address.is_loopback())
}

/// Whether an address is one of the public internet. Source: IANA special-purpose address registries.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_public_v4(mapped),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 240..=255, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [203, 0, 113, _] | [198, 18..=19, ..] => true,
        [100, second, ..] => (64..128).contains(&second),
        _ => false,
    };
    !(special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

/// Only what is given out as unicast (2000::/3), without what leads to IPv4 addresses, tunnels and documentation.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x2001, second, ..] => second != 0xdb8 && second >= 0x200,
        [0x2002 | 0x3fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Looks names up, and gives public addresses alone but for those hosts that the operator named.
struct Public(Arc<Allowed>);

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let (name, allowed) = (name.as_str().to_owned(), self.0.clone());
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let fitting: Vec<SocketAddr> = found.filter(|found| allowed.may_lead_to(&name, found.ip())).collect();
            if fitting.is_empty() {
                return Err("the name leads to no public address".into());
            }
            let addresses: Addrs = Box::new(fitting.into_iter());
            Ok::<Addrs, Box<dyn std::error::Error + Send + Sync>>(addresses)
        })
    }
}

/// What a node asks about its subscribers and their hooks.
struct Outside {
    identity: Arc<Identity>,
    allowed: Arc<Allowed>,
}

impl Channels for Outside {
    fn caller(&self, subscriber: &Subscriber) -> Result<Caller, String> {
        let claims: Claims =
            serde_json::from_str(&subscriber.login).map_err(|_| "the login is not known any more".to_owned())?;
        let claims = self.identity.still(claims, now()).map_err(|error| {
            let why = match error {
                TokenError::Expired => "the login or the app's session that wrote it is over",
                _ => "whoever wrote it may not come in any more, or as somebody else",
            };
            format!("nothing is sent any more: {why}; who may come in writes the subscription again to go on")
        })?;
        Ok(Caller {
            request: "subscription".to_owned(),
            address: subscriber.address.clone(),
            base: subscriber.base.clone(),
            ..caller_by(&self.identity, claims.bearer, subscriber.purpose)
        })
    }

    fn endpoint(&self, address: &str) -> Result<(), String> {
        self.allowed.check(address).map(drop)
    }
}

/// Serves the subscriptions of a node for ever.
pub(crate) async fn deliver(node: Node, identity: Arc<Identity>, allowed: Allowed) {
    let allowed = Arc::new(allowed);
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .dns_resolver(Arc::new(Public(allowed.clone())))
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "no client could be made: subscriptions are not served"),
    };
    node.serve_subscriptions(Arc::new(Outside { identity, allowed: allowed.clone() })).await;
    let hooks = Hooks { node: node.clone(), client, allowed, places: Arc::default() };
    let mut changes = node.subscription_changes();
    // Tasks that end are forgotten, and all end with this one.
    let (mut tasks, mut running) = (JoinSet::new(), HashMap::<String, AbortHandle>::new());
    loop {
        changes.borrow_and_update();
        while tasks.try_join_next().is_some() {}
        running.retain(|_, task| !task.is_finished());
        for id in node.hooks() {
            running.entry(id.clone()).or_insert_with(|| tasks.spawn(hooks.clone().serve(id)));
        }
        if let Ok(Err(_)) = tokio::time::timeout(LOOK_EVERY, changes.changed()).await {
            return;
        }
    }
}

/// Places of notifications that are on their way.
struct Places {
    all: Arc<Semaphore>,
    of_account: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(POSTS_MAX)), of_account: Mutex::default() }
    }
}

impl Places {
    /// Waits for a place, first among those of the account; none when the gateway stops.
    async fn take(&self, account: &str) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = {
            let mut of_account = self.of_account.lock().unwrap_or_else(PoisonError::into_inner);
            match of_account.get(account).and_then(Weak::upgrade) {
                Some(own) => own,
                None => {
                    // Whoever has nothing on its way any more is forgotten.
                    of_account.retain(|_, own| own.strong_count() > 0);
                    let own = Arc::new(Semaphore::new(POSTS_OF_ONE_MAX));
                    of_account.insert(account.to_owned(), Arc::downgrade(&own));
                    own
                }
            }
        };
        let own = own.acquire_owned().await.ok()?;
        Some([own, self.all.clone().acquire_owned().await.ok()?])
    }
}

/// What it takes to post.
#[derive(Clone)]
struct Hooks {
    node: Node,
    client: reqwest::Client,
    allowed: Arc<Allowed>,
    places: Arc<Places>,
}

impl Hooks {
    /// Serves one subscription until it is off.
    async fn serve(self, id: String) {
        let Some(mut changes) = self.node.changes_of_subscription(&id) else { return };
        let hook = || self.node.served_one(&id).filter(|served| served.endpoint.is_some());
        let (mut failures, mut edition, mut said) = (0, 0, Instant::now());
        loop {
            changes.borrow_and_update();
            let Some(served) = hook() else { return };
            if served.edition != edition {
                (edition, failures) = (served.edition, 0);
            }
            if let Due::In(wait) = due(&served, said.elapsed()) {
                // The bell rings when there is something; a heartbeat has none.
                let rung = match wait {
                    Some(wait) => tokio::time::timeout(wait, changes.changed()).await.unwrap_or(Ok(())),
                    None => changes.changed().await,
                };
                if rung.is_err() {
                    return;
                }
                continue;
            }
            // What is decided and written here is sent at once: nothing waits between the decision and the sending.
            let Some(place) = self.places.take(&served.account).await else { return };
            let Some(served) = hook().filter(|served| served.edition == edition) else { continue };
            let Due::Now(say) = due(&served, said.elapsed()) else { continue };
            let notice = match self.node.notice(&id, edition, say).await {
                Ok(Some(notice)) => notice,
                Ok(None) => {
                    drop(place);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, subscription = id, "a notification could not be made; trying again");
                    drop(place);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let posted = self.post(&served, notice.bytes).await;
            drop(place);
            let told = match posted {
                Ok(()) => {
                    (failures, said) = (0, Instant::now());
                    self.node.delivered(&id, edition, notice.through).await
                }
                Err(why) => {
                    failures += 1;
                    self.node.missed(&id, edition, failures, &why).await
                }
            };
            if let Err(error) = told {
                tracing::warn!(%error, subscription = id, "how far a subscription is could not be written down");
                tokio::time::sleep(PAUSE).await;
            }
            if failures > 0 {
                self.wait_after(failures, &id, edition, &mut changes).await;
            }
        }
    }

    /// Waits before the next attempt, unless the subscription is another one by then.
    async fn wait_after(&self, failures: u32, id: &str, edition: u64, changes: &mut watch::Receiver<u64>) {
        let [first, most] = RETRY;
        let wait = first.saturating_mul(2u32.saturating_pow(failures - 1)).min(most);
        let until = tokio::time::Instant::now() + wait;
        while let Ok(Ok(())) = tokio::time::timeout_at(until, changes.changed()).await {
            changes.borrow_and_update();
            if self.node.served_one(id).is_none_or(|served| served.edition != edition) {
                return;
            }
        }
    }

    /// Posts a notification; says in words why it was not taken, without the address, which may hold a secret.
    async fn post(&self, served: &Served, bytes: Vec<u8>) -> Result<(), String> {
        // What the operator allows may have changed since it was written.
        let url = self.allowed.check(served.endpoint.as_deref().unwrap_or_default())?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut request = self.client.post(url).timeout(Duration::from_secs(served.timeout_s));
        request = request.header(CONTENT_TYPE, "application/fhir+json").body(bytes);
        for (name, value) in served.headers.iter().filter_map(|header| header.split_once(':')) {
            request = request.header(name.trim(), value.trim());
        }
        // What stands on this machine is the operator's: nobody learns by a subscription which doors it has.
        let here = is_here(&host).then(|| "the hook on the gateway's own machine does not take it".to_owned());
        let answer = request.send().await.map_err(|error| {
            if let Some(here) = &here {
                return here.clone();
            }
            let what = match &error {
                error if error.is_timeout() => "did not answer in time",
                error if error.is_connect() => "cannot be reached",
                error if error.is_builder() => "cannot be sent the headers that were given",
                _ => "broke off",
            };
            format!("the hook at `{host}` {what}")
        })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(here.unwrap_or_else(|| format!("the hook at `{host}` answered {}", status.as_u16()))),
        }
    }
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Now(Say),
    /// Nothing before something changes, or before that time has gone.
    In(Option<Duration>),
}

/// What there is to say to a hook that was told something so long ago.
fn due(served: &Served, silence: Duration) -> Due {
    if !served.is_shaken {
        return Due::Now(Say::Handshake);
    }
    if served.delivered < served.last {
        return Due::Now(Say::EventsAfter(served.delivered));
    }
    match served.heartbeat_s.map(|seconds| Duration::from_secs(seconds).saturating_sub(silence)) {
        Some(Duration::ZERO) => Due::Now(Say::Heartbeat),
        wait => Due::In(wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_public_by_https_or_here_or_named_by_the_operator() {
        let none = Allowed::default();
        for good in [
            "https://hook.example/in?x=1",
            "https://93.184.216.34/",
            "http://127.0.0.1:9000/hook",
            "http://[::1]:9/",
            "http://localhost/x",
        ] {
            assert!(none.check(good).is_ok(), "{good}");
        }
        let inside = [
            "http://hook.example/in",
            "https://10.0.0.7/",
            "https://192.168.1.1/",
            "https://169.254.169.254/latest",
            "https://100.64.0.1/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::a00:1]/",
            "https://[2002:a00:1::]/",
            "https://0.0.0.0/",
            "http://0x7f.1.example/",
            "https://255.255.255.255/",
            "https://2130706433.example:x/",
            "ftp://hook.example/",
            "https://you@hook.example/",
            "hook.example",
            "file:///etc/passwd",
        ];
        for wrong in inside {
            assert!(none.check(wrong).is_err(), "{wrong}");
        }
        // However this machine is written, it is this machine.
        assert!(none.check("http://2130706433/").is_ok() && none.check("https://3232235777/").is_err());

        let allowed = Allowed::new(&["http://ward.mercy.local:8080".to_owned()]).unwrap();
        assert!(allowed.check("http://ward.mercy.local:8080/in").is_ok());
        assert!(
            allowed.check("http://ward.mercy.local:8081/in").is_err()
                && allowed.check("http://ward.mercy.local/in").is_err()
        );
        // Another door of a host that was let in, by whatever scheme, was not let in.
        for other in ["https://ward.mercy.local/", "https://ward.mercy.local:8080/in", "https://ward.mercy.local:5432/"]
        {
            assert!(allowed.check(other).is_err(), "{other}");
        }
        for wrong in ["ward.mercy.local", "http://ward/in", "http://a@ward/", "ftp://ward"] {
            assert!(Allowed::new(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn hooks_of_one_account_that_hang_leave_room_for_others() {
        let places = Places::default();
        let mut held = Vec::new();
        for _ in 0..POSTS_OF_ONE_MAX {
            held.push(places.take("ana").await.unwrap());
        }
        let more = tokio::time::timeout(Duration::from_millis(50), places.take("ana")).await;
        assert!(more.is_err(), "one account has all places");
        held.push(places.take("ben").await.unwrap());
        drop(held.remove(0));
        held.push(places.take("ana").await.unwrap());
        held.clear();
        held.push(places.take("cem").await.unwrap());
        assert_eq!(places.of_account.lock().unwrap().len(), 1, "who has nothing on its way is forgotten");
    }

    #[test]
    fn a_hook_is_told_what_is_due_and_sleeps_until_its_heartbeat() {
        let served = |is_shaken, delivered, heartbeat_s| Served {
            id: "s1".to_owned(),
            account: "ana".to_owned(),
            status: exchange::SubscriptionStatus::Active,
            endpoint: Some("https://hook.example/in".to_owned()),
            headers: Vec::new(),
            is_shaken,
            edition: 1,
            last: 7,
            delivered,
            heartbeat_s,
            timeout_s: 10,
        };
        let silence = Duration::from_secs(4);
        assert_eq!(due(&served(false, 0, None), silence), Due::Now(Say::Handshake));
        assert_eq!(due(&served(true, 5, None), silence), Due::Now(Say::EventsAfter(5)));
        assert_eq!(due(&served(true, 7, None), silence), Due::In(None));
        assert_eq!(due(&served(true, 7, Some(10)), silence), Due::In(Some(Duration::from_secs(6))));
        assert_eq!(due(&served(true, 7, Some(10)), Duration::from_secs(10)), Due::Now(Say::Heartbeat));
    }

    #[tokio::test]
    async fn a_name_that_leads_into_the_network_is_not_followed() {
        let allowed = Allowed::new(&["http://ward.mercy.local:8080".to_owned()]).unwrap();
        let leads = |name: &str, address: &str| allowed.may_lead_to(name, address.parse().unwrap());
        assert!(leads("hook.example", "93.184.216.34") && leads("hook.example", "2606:4700::1111"));
        for inside in ["10.0.0.7", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:192.168.0.1", "0.0.0.0"] {
            assert!(!leads("hook.example", inside), "{inside}");
        }
        assert!(leads("ward.mercy.local", "10.0.0.7") && !leads("localhost", "10.0.0.7"));
        let resolver = Public(Arc::new(Allowed::default()));
        let here: Vec<SocketAddr> = resolver.resolve("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(!here.is_empty() && here.iter().all(|address| address.ip().is_loopback()));
    }
}
