//! Every door of the gateway, once: the router is made of this list, and so is `/openapi.json`.

mod identity;

use super::{
    Doors, desk, export, fhir, frames, ledger, live, member, openapi, policy, recording, replay, subscription, watch,
};
use axum::{
    extract::DefaultBodyLimit,
    routing::{MethodRouter, delete, get, patch, post, put},
};

/// One method of one address.
pub(crate) struct Door {
    /// In lower case.
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) route: MethodRouter<Doors>,
    /// What it does, in one sentence.
    pub(crate) about: &'static str,
    /// Whether it takes callers with a token only.
    pub(crate) token: bool,
    /// The FHIR interaction that it is. Source: R4 value sets `type-restful-interaction` and `system-restful-interaction`.
    pub(crate) interaction: Option<&'static str>,
    /// What stands after the question mark.
    pub(crate) query: Vec<Asked>,
    pub(crate) headers: &'static [Header],
    pub(crate) body: Body,
    pub(crate) answers: Vec<(u16, Media)>,
    /// The statuses of its OperationOutcomes.
    pub(crate) failures: &'static [u16],
}

/// A parameter, or a member of a JSON document.
pub(crate) struct Asked {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
}

/// What a value is, with an example where not every value will do.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text(&'static str),
    Number,
    Flag,
    OneOf(&'static [&'static str]),
    /// 64 hexadecimal digits.
    Key,
    /// Every search parameter of the type, as the CapabilityStatement names them.
    Searches,
}

/// A header of requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    IfMatch,
    IfNoneMatch,
    IfNoneExist,
    /// What becomes of search parameters that are not known.
    PreferHandling,
    /// What the answer to a write shows.
    PreferReturn,
    /// That the caller comes back for the answer.
    PreferAsync,
}

/// What is sent.
pub(crate) enum Body {
    None,
    /// A resource of any type, or of the one named.
    Resource(Option<&'static str>),
    /// A JSON Patch, RFC 6902.
    Patch,
    /// The query of a search.
    Form,
    /// A form with these members.
    Fields(Vec<Asked>),
    /// A JSON document with these members and no others, and whether bytes are one.
    Json(
        Vec<Asked>,
        #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the members with what the door reads"))]
        fn(&[u8]) -> bool,
    ),
    /// Bytes of this content type.
    Bytes(&'static str),
}

/// The content of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Nothing,
    /// A resource of the type.
    Fhir(&'static str),
    /// A resource of any type, with its version as the ETag.
    Version,
    /// Nothing but its version: the caller has it already.
    Known,
    /// A resource, nothing or an OperationOutcome, as the caller prefers; version and address are in headers.
    Written,
    Json,
    Text,
    Html,
    OpenMetrics,
    Evidence,
    /// Resources, one on each line.
    Ndjson,
    Bytes,
}

/// Who is at the door was not found out, or may not pass; the gateway is busy, or something of ours failed.
const ASKED: &[u16] = &[400, 401, 403, 404, 410, 422, 500, 503];
const SEARCHED: &[u16] = &[400, 401, 403, 404, 413, 422, 500, 503];
/// The same; of a result whose run is torn, 409.
const REPLAYED: &[u16] = &[400, 401, 403, 404, 409, 410, 413, 422, 500, 503];
const FORM: &[u16] = &[400, 401, 403, 404, 413, 415, 422, 500, 503];
const SENT: &[u16] = &[400, 401, 403, 404, 409, 410, 412, 413, 415, 422, 500, 503];
/// Doors that everybody may open.
const OPEN: &[u16] = &[400, 404, 500, 503];
const FRAME: &[u16] = &[400, 403, 404, 409, 413, 422, 429, 500, 503];
/// The same, behind a token.
const STREAM: &[u16] = &[400, 401, 403, 404, 405, 422, 426, 500, 503];
/// What does not become a WebSocket.
const SOCKET: &[u16] = &[400, 405, 426, 503];
const NEVER: &[u16] = &[503];

fn door(method: &'static str, path: &'static str, route: MethodRouter<Doors>, about: &'static str) -> Door {
    Door {
        method,
        path,
        route,
        about,
        token: true,
        interaction: None,
        query: Vec::new(),
        headers: &[],
        body: Body::None,
        answers: Vec::new(),
        failures: if method == "get" { ASKED } else { SENT },
    }
}

impl Door {
    fn public(self, failures: &'static [u16]) -> Self {
        Self { token: false, failures, ..self }
    }
    fn is(self, interaction: &'static str) -> Self {
        Self { interaction: Some(interaction), ..self }
    }
    fn fails(self, failures: &'static [u16]) -> Self {
        Self { failures, ..self }
    }
    fn asks<const N: usize>(self, query: [Asked; N]) -> Self {
        Self { query: query.into(), ..self }
    }
    fn reads(self, headers: &'static [Header]) -> Self {
        Self { headers, ..self }
    }
    fn takes(self, body: Body) -> Self {
        Self { body, ..self }
    }
    fn gives(mut self, status: u16, media: Media) -> Self {
        self.answers.push((status, media));
        self
    }
    /// Says to apps what is wrong as OAuth does, in a JSON document of its own form.
    fn refuses_apps(mut self) -> Self {
        self.answers.extend([400, 401, 500, 503].map(|status| (status, Media::Json)));
        self
    }
}

fn must(name: &'static str, kind: Kind) -> Asked {
    Asked { name, kind, required: true }
}
fn may(name: &'static str, kind: Kind) -> Asked {
    Asked { name, kind, required: false }
}
fn json<const N: usize>(members: [Asked; N], reads: fn(&[u8]) -> bool) -> Body {
    Body::Json(members.into(), reads)
}
fn about_a_patient() -> Body {
    json([must("patient", Kind::Text("ilse")), must("reason", Kind::Text("asked for"))], desk::reads::<desk::About>)
}

/// All of them.
pub(crate) fn all() -> Vec<Door> {
    [
        of_fhir(),
        of_subscriptions(),
        of_sensing(),
        of_the_desk(),
        of_members(),
        of_the_ledger(),
        identity::all(),
        of_operators(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What may be asked of a history.
fn history() -> [Asked; 3] {
    [may("_count", Kind::Number), may("_since", Kind::Text("2026-11-21T10:00:00.000Z")), may("_cursor", Kind::Number)]
}

/// What may be asked of recordings.
fn range() -> [Asked; 4] {
    [
        must("start", Kind::Text("2026-11-21T10:00:00.000Z")),
        must("end", Kind::Text("2026-11-21T11:00:00.000Z")),
        may("signal", Kind::Text("ecg-ii")),
        may("device", Kind::Text("monitor")),
    ]
}

fn of_fhir() -> Vec<Door> {
    let bundle = |path| {
        door("post", path, post(fhir::bundle), "Carries out a batch or a transaction.")
            .takes(Body::Resource(Some("Bundle")))
            .gives(200, Media::Fhir("Bundle"))
    };
    let search_all = |path| {
        door("get", path, get(fhir::search_all), "Searches records of several types, or of all but the audit trail.")
            .is("search-system")
            .asks([may("_type", Kind::Text("Condition,Observation")), may("parameters", Kind::Searches)])
            .reads(&[Header::PreferHandling])
            .fails(SEARCHED)
            .gives(200, Media::Fhir("Bundle"))
    };
    let export_of = |path, route| {
        door("get", path, route, "Begins an export; its address is in `Content-Location`.")
            .asks([
                may("_type", Kind::Text("Observation,Condition")),
                may("_since", Kind::Text("2026-11-21T10:00:00.000Z")),
                may("patient", Kind::Text("Patient/ilse")),
                may("_outputFormat", Kind::OneOf(&["application/fhir+ndjson", "application/ndjson", "ndjson"])),
            ])
            .reads(&[Header::PreferAsync])
            .fails(SENT)
            .gives(202, Media::Nothing)
    };
    let summary = |method, route| {
        door(method, "/fhir/Patient/{id}/$summary", route, "The International Patient Summary, a document.")
            .gives(200, Media::Fhir("Bundle"))
    };
    vec![
        bundle("/fhir").is("transaction"),
        bundle("/fhir/").is("batch"),
        door("get", "/fhir/metadata", get(fhir::metadata), "What the FHIR doors offer: the CapabilityStatement.")
            .public(NEVER)
            .gives(200, Media::Fhir("CapabilityStatement")),
        door("get", "/fhir/{kind}", get(fhir::search), "Searches records of a type.")
            .is("search-type")
            .asks([may("parameters", Kind::Searches)])
            .reads(&[Header::PreferHandling])
            .fails(SEARCHED)
            .gives(200, Media::Fhir("Bundle")),
        door(
            "get",
            "/fhir/{kind}/{id}/{within}",
            get(fhir::search_of),
            "Searches records of a type, or of all (`*`), in the compartment of a patient, or of something else that has one.",
        )
        .is("search-type")
        .asks([may("parameters", Kind::Searches)])
        .reads(&[Header::PreferHandling])
        .fails(SEARCHED)
        .gives(200, Media::Fhir("Bundle")),
        door(
            "post",
            "/fhir/{kind}/{id}/{within}/_search",
            post(fhir::search_of_by_form),
            "Searches records of a type, or of all (`*`), in a compartment, asked for by a form.",
        )
        .is("search-type")
        .reads(&[Header::PreferHandling])
        .fails(FORM)
        .takes(Body::Form)
        .gives(200, Media::Fhir("Bundle")),
        search_all("/fhir"),
        search_all("/fhir/"),
        door(
            "post",
            "/fhir/_search",
            post(fhir::search_all_by_form),
            "Searches records of several types or of all, asked for by a form.",
        )
        .is("search-system")
        .reads(&[Header::PreferHandling])
        .fails(FORM)
        .takes(Body::Form)
        .gives(200, Media::Fhir("Bundle")),
        door("post", "/fhir/{kind}", post(fhir::create), "Creates a record, unless one matches the condition.")
            .is("create")
            .asks([may("condition", Kind::Searches)])
            .reads(&[Header::IfNoneExist, Header::PreferReturn])
            .takes(Body::Resource(None))
            .gives(200, Media::Written)
            .gives(201, Media::Written),
        door(
            "post",
            "/fhir/{kind}/_search",
            post(fhir::search_by_form),
            "Searches records of a type, asked for by a form.",
        )
        .is("search-type")
        .reads(&[Header::PreferHandling])
        .fails(FORM)
        .takes(Body::Form)
        .gives(200, Media::Fhir("Bundle")),
        door("get", "/fhir/{kind}/{id}", get(fhir::read), "Reads a record.")
            .is("read")
            .reads(&[Header::IfNoneMatch])
            .gives(200, Media::Version)
            .gives(304, Media::Known),
        door("put", "/fhir/{kind}/{id}", put(fhir::update), "Writes the next version of a record, or its first.")
            .is("update")
            .reads(&[Header::IfMatch, Header::PreferReturn])
            .takes(Body::Resource(None))
            .gives(200, Media::Written)
            .gives(201, Media::Written),
        door(
            "put",
            "/fhir/{kind}",
            put(fhir::update_matching),
            "Writes the next version of the record that matches, or a new one.",
        )
        .is("update")
        .asks([must("condition", Kind::Searches)])
        .reads(&[Header::IfMatch, Header::PreferReturn])
        .takes(Body::Resource(None))
        .gives(200, Media::Written)
        .gives(201, Media::Written),
        door("patch", "/fhir/{kind}/{id}", patch(fhir::patch), "Changes parts of a record.")
            .is("patch")
            .reads(&[Header::IfMatch, Header::PreferReturn])
            .takes(Body::Patch)
            .gives(200, Media::Written),
        door("patch", "/fhir/{kind}", patch(fhir::patch_matching), "Changes parts of the record that matches.")
            .is("patch")
            .asks([must("condition", Kind::Searches)])
            .reads(&[Header::IfMatch, Header::PreferReturn])
            .takes(Body::Patch)
            .gives(200, Media::Written),
        door("delete", "/fhir/{kind}", delete(fhir::delete_matching), "Deletes the record that matches.")
            .is("delete")
            .asks([must("condition", Kind::Searches)])
            .reads(&[Header::IfMatch])
            .gives(204, Media::Nothing),
        door("delete", "/fhir/{kind}/{id}", delete(fhir::delete), "Deletes a record: its next version says so.")
            .is("delete")
            .reads(&[Header::IfMatch])
            .gives(204, Media::Nothing),
        door("get", "/fhir/{kind}/{id}/_history", get(fhir::history), "All versions of a record.")
            .is("history-instance")
            .asks(history())
            .fails(SEARCHED)
            .gives(200, Media::Fhir("Bundle")),
        door("get", "/fhir/{kind}/_history", get(fhir::history_of_type), "All versions of all records of a type.")
            .is("history-type")
            .asks(history())
            .fails(SEARCHED)
            .gives(200, Media::Fhir("Bundle")),
        door("get", "/fhir/_history", get(fhir::history_of_all), "All versions of all records but the audit trail.")
            .is("history-system")
            .asks(history())
            .fails(SEARCHED)
            .gives(200, Media::Fhir("Bundle")),
        door("get", "/fhir/Patient/{id}/$everything", get(fhir::everything), "All records of a patient.")
            .asks([
                may("_type", Kind::Text("Observation,Condition")),
                may("_since", Kind::Text("2026-11-21T10:00:00.000Z")),
                may("start", Kind::Text("2026-01-01")),
                may("end", Kind::Text("2026-12-31")),
                may("_count", Kind::Number),
                may("_cursor", Kind::Text("Observation/1")),
            ])
            .fails(SEARCHED)
            .gives(200, Media::Fhir("Bundle")),
        door("get", "/fhir/Observation/$lastn", get(fhir::lastn), "The latest observations of each code of a patient.")
            .asks([must("patient", Kind::Text("ilse")), may("max", Kind::Number), may("parameters", Kind::Searches)])
            .reads(&[Header::PreferHandling])
            .fails(SEARCHED)
            .gives(200, Media::Fhir("Bundle")),
        door("post", "/fhir/Patient/{id}/$everything", post(fhir::everything_by_post), "All records of a patient.")
            .takes(Body::Resource(Some("Parameters")))
            .gives(200, Media::Fhir("Bundle")),
        door("post", "/fhir/Observation/$lastn", post(fhir::lastn_by_post), "The latest observations of each code.")
            .reads(&[Header::PreferHandling])
            .takes(Body::Resource(Some("Parameters")))
            .gives(200, Media::Fhir("Bundle")),
        door("post", "/fhir/Patient/$match", post(fhir::same_person), "The patients that a description may be of.")
            .takes(Body::Resource(Some("Parameters")))
            .gives(200, Media::Fhir("Bundle")),
        door("post", "/fhir/{kind}/$validate", post(fhir::validate), "Whether a resource would be accepted.")
            .takes(Body::Resource(None))
            .gives(200, Media::Fhir("OperationOutcome")),
        door("get", "/fhir/{kind}/{id}/_history/{version}", get(fhir::vread), "Reads a version of a record.")
            .is("vread")
            .reads(&[Header::IfNoneMatch])
            .gives(200, Media::Version)
            .gives(304, Media::Known),
        door("get", "/fhir/{kind}/{id}/_provenance", get(fhir::provenance), "What the ledger says of a record.")
            .gives(200, Media::Json),
        door(
            "get",
            "/fhir/{kind}/{id}/$signed-provenance",
            get(fhir::fhir_provenance),
            "Who wrote a record, with the signature.",
        )
        .gives(200, Media::Fhir("Provenance")),
        door(
            "get",
            "/fhir/Patient/{id}/$accounting",
            get(fhir::accounting),
            "Who saw a patient's records in the last six years, and why.",
        )
        .asks([may("as", Kind::OneOf(&["text"]))])
        .gives(200, Media::Json),
        export_of("/fhir/$export", get(export::all)),
        export_of("/fhir/Patient/$export", get(export::patients)),
        export_of("/fhir/Group/{id}/$export", get(export::group)),
        door("get", "/fhir/$export/{id}", get(export::state), "How far an export is; when it is done, its files.")
            .fails(SENT)
            .gives(200, Media::Json)
            .gives(202, Media::Nothing),
        door("delete", "/fhir/$export/{id}", delete(export::take_away), "Takes an export away, also while it is made.")
            .fails(ASKED)
            .gives(202, Media::Nothing),
        door("get", "/fhir/$export/{id}/{file}", get(export::file), "A file of an export, one resource on each line.")
            .gives(200, Media::Ndjson),
        summary("get", get(fhir::summary)),
        summary("post", post(fhir::summary_by_post)).takes(Body::Resource(Some("Parameters"))),
    ]
}

fn of_subscriptions() -> Vec<Door> {
    let status = |method, path, route| {
        door(method, path, route, "How subscriptions of the caller stand.")
            .fails(SENT)
            .gives(200, Media::Fhir("Bundle"))
    };
    let events = |method, route| {
        door(method, "/fhir/Subscription/{id}/$events", route, "Events of a subscription, by their numbers.")
            .fails(SENT)
            .gives(200, Media::Fhir("Bundle"))
    };
    let token = |method, path, route| {
        door(method, path, route, "A token by which a WebSocket is bound to subscriptions.")
            .fails(SENT)
            .gives(200, Media::Fhir("Parameters"))
    };
    let posted = || Body::Resource(Some("Parameters"));
    let (of_all, of_one) = ("/fhir/Subscription/$status", "/fhir/Subscription/{id}/$status");
    let (for_some, for_one) =
        ("/fhir/Subscription/$get-ws-binding-token", "/fhir/Subscription/{id}/$get-ws-binding-token");
    let code = || may("status", Kind::OneOf(&["requested", "active", "error", "off"]));
    let range = || {
        [
            may("eventsSinceNumber", Kind::Number),
            may("eventsUntilNumber", Kind::Number),
            may("content", Kind::OneOf(&["empty", "id-only", "full-resource"])),
        ]
    };
    vec![
        status("get", of_all, get(subscription::statuses)).asks([may("id", Kind::Text("s1")), code()]),
        status("post", of_all, post(subscription::statuses_by_post)).takes(posted()),
        status("get", of_one, get(subscription::status)).asks([code()]),
        status("post", of_one, post(subscription::status_by_post)).takes(posted()),
        events("get", get(subscription::events)).asks(range()),
        events("post", post(subscription::events_by_post)).takes(posted()),
        token("get", for_some, get(subscription::token)).asks([must("id", Kind::Text("s1"))]),
        token("post", for_some, post(subscription::token_by_post)).takes(posted()),
        token("get", for_one, get(subscription::token_for_one)),
        token("post", for_one, post(subscription::token_for_one_by_post)).takes(posted()),
        door(
            "get",
            "/fhir/$subscriptions",
            get(subscription::socket),
            "A WebSocket for notifications: `bind-with-token` and a token say of which subscriptions.",
        )
        .public(SOCKET)
        .gives(101, Media::Nothing),
    ]
}

fn of_sensing() -> Vec<Door> {
    let bind = json(
        [
            must("patient", Kind::Text("ilse")),
            must("key", Kind::Key),
            may("since", Kind::Text("2026-11-21T10:00:00.000Z")),
        ],
        desk::reads::<frames::Bind>,
    );
    let frame = post(frames::frame).layer(DefaultBodyLimit::max(frames::FRAMES_BYTES_MAX));
    vec![
        door(
            "post",
            "/fhir/Device/{id}/$bind",
            post(frames::bind),
            "Says that a patient wears a device, with its key.",
        )
        .takes(bind)
        .gives(201, Media::Json),
        door("post", "/fhir/Device/{id}/$unbind", post(frames::unbind), "Says that nobody wears a device any more.")
            .gives(200, Media::Json),
        door(
            "post",
            "/fhir/Device/{id}/$revoke",
            post(frames::revoke),
            "Says that a device's key is not trusted any more.",
        )
        .gives(200, Media::Json),
        door("post", "/frames", frame, "Takes a signed frame of a bound device, or a CBOR sequence of them.")
            .public(FRAME)
            .takes(Body::Bytes("application/octet-stream"))
            .gives(200, Media::Json)
            .gives(201, Media::Json),
        door("get", "/frames", get(frames::socket), "A WebSocket for frames: each binary message has its answer.")
            .public(SOCKET)
            .gives(101, Media::Nothing),
        door(
            "get",
            "/fhir/Patient/{id}/$edf",
            get(recording::edf),
            "What sensors said over a time, as an EDF+ or BDF+ file.",
        )
        .asks(range())
        .fails(SEARCHED)
        .gives(200, Media::Bytes),
        door(
            "get",
            "/fhir/Patient/{id}/$wfdb",
            get(recording::wfdb),
            "What sensors said over a time, as a WFDB record: a ZIP archive of its header, signals and notes.",
        )
        .asks(range())
        .fails(SEARCHED)
        .gives(200, Media::Bytes),
        door("get", "/fhir/Patient/{id}/$signals", get(recording::signals), "What sensors said over a time, as JSON.")
            .asks(range())
            .fails(SEARCHED)
            .gives(200, Media::Json),
        door(
            "get",
            "/fhir/Patient/{id}/$stream",
            get(live::stream),
            "A WebSocket: what sensors say and which alarms sound, as it comes.",
        )
        .asks([may("signal", Kind::Text("ecg-ii")), may("after", Kind::Text("monitor:7"))])
        .fails(STREAM)
        .gives(101, Media::Nothing),
        door(
            "get",
            "/fhir/{kind}/{id}/$replay",
            get(replay::replay),
            "Whether a result of analytics comes out again, to the bit, from signed frames.",
        )
        .asks([may("run", Kind::Flag)])
        .fails(REPLAYED)
        .gives(200, Media::Json),
        door("get", "/alarm", get(frames::alarms), "The alarms about a patient.")
            .asks([must("patient", Kind::Text("ilse"))])
            .gives(200, Media::Json),
        door(
            "post",
            "/alarm/pause",
            post(frames::pause),
            "Keeps a patient's alarms silent for some minutes; with 0, no more.",
        )
        .takes(json(
            [must("patient", Kind::Text("ilse")), must("minutes", Kind::Number)],
            super::desk::reads::<frames::Pause>,
        ))
        .gives(200, Media::Json),
        door("post", "/alarm/{id}/acknowledge", post(frames::acknowledge), "Says that somebody looks after an alarm.")
            .gives(200, Media::Json),
    ]
}

fn of_the_desk() -> Vec<Door> {
    let glass = json(
        [
            must("patient", Kind::Text("ilse")),
            must("reason", Kind::Text("found unconscious")),
            must("minutes", Kind::Number),
            may(
                "code",
                Kind::OneOf(&["unconscious", "life-threatening", "incapacitated", "danger-to-others", "other"]),
            ),
        ],
        desk::reads::<desk::BreakGlass>,
    );
    let review = json(
        [
            must("comment", Kind::Text("seen")),
            may("outcome", Kind::OneOf(&["justified", "not-justified", "follow-up"])),
            may("justified", Kind::Flag),
        ],
        desk::reads::<desk::Review>,
    );
    let order =
        json([must("patient", Kind::Text("ilse")), must("order", Kind::Text("a court's"))], desk::reads::<desk::Order>);
    let conclusion = json([must("result", Kind::Text("nothing found"))], desk::reads::<desk::Conclusion>);
    let through = || may("through", Kind::Number);
    vec![
        door("post", "/override", post(desk::open_override), "Breaks the glass.").takes(glass).gives(201, Media::Json),
        door("get", "/override", get(desk::overrides), "Overrides of this organisation.")
            .asks([may("reviewed", Kind::Flag)])
            .gives(200, Media::Json),
        door("post", "/override/{id}/close", post(desk::close_override), "Ends an override.").gives(200, Media::Json),
        door("post", "/override/{id}/review", post(desk::review_override), "Says whether an override was justified.")
            .takes(review)
            .gives(200, Media::Json),
        door("post", "/case", post(desk::open_case), "Opens a case about a patient.")
            .takes(order)
            .gives(201, Media::Json),
        door("post", "/case/{id}/conclude", post(desk::conclude_case), "Concludes a case.")
            .takes(conclusion)
            .gives(200, Media::Json),
        door("get", "/evidence/{patient}", get(desk::evidence), "A file that proves a patient's log to anybody.")
            .asks([may("case", Kind::Text("")), through(), may("from", Kind::Number), may("to", Kind::Number)])
            .fails(SENT)
            .gives(200, Media::Evidence),
        door(
            "get",
            "/evidence/record/{type}/{id}",
            get(desk::record_proof),
            "A file that proves one record to anybody.",
        )
        .asks([may("case", Kind::Text("")), through()])
        .fails(SENT)
        .gives(200, Media::Evidence),
        door("post", "/custody/hold", post(desk::hold), "Keeps a patient's records from being erased.")
            .takes(about_a_patient())
            .gives(201, Media::Json),
        door("post", "/custody/{id}/release", post(desk::release), "Ends a hold.").gives(200, Media::Json),
        door("post", "/custody/erase", post(desk::erase), "Erases a patient's records.")
            .takes(about_a_patient())
            .gives(201, Media::Json),
        door("post", "/custody/recover", post(desk::propose_recovery), "Proposes to recover the database.")
            .takes(json([must("reason", Kind::Text("the disk failed"))], desk::reads::<desk::Reason>))
            .gives(201, Media::Json),
        door("post", "/custody/{id}/vote", post(desk::vote), "Votes for a recovery.").gives(200, Media::Json),
        door("post", "/custody/{id}/carry-out", post(desk::carry_out), "Carries out a recovery.")
            .takes(json([may("from", Kind::Text("backup/cloud.db"))], desk::reads::<desk::From>))
            .gives(200, Media::Json),
        door("post", "/audit", post(desk::audit), "Compares the database with the ledger.")
            .takes(json([may("full", Kind::Flag)], desk::reads::<desk::Audit>))
            .gives(200, Media::Json),
    ]
}

fn of_members() -> Vec<Door> {
    let joining = json(
        [
            must("org", Kind::Text("valley-hospital")),
            must("role", Kind::OneOf(&["ems", "hospital", "insurer", "compliance"])),
            must("entry_key", Kind::Key),
            must("consensus_key", Kind::Key),
            must("wrap_key", Kind::Text("age1")),
            must("address", Kind::Text("valley.example:8200")),
        ],
        desk::reads::<contract::Member>,
    );
    let moving = json(
        [must("wrap_key", Kind::Text("age1")), must("address", Kind::Text("valley.example:8200"))],
        desk::reads::<member::Move>,
    );
    vec![
        door("post", "/member/join", post(member::propose_joining), "Proposes that an organisation joins.")
            .takes(joining)
            .gives(201, Media::Json),
        door("post", "/member/removal", post(member::propose_removal), "Proposes that a member leaves.")
            .takes(json([must("org", Kind::Text("valley-hospital"))], desk::reads::<member::Removal>))
            .gives(201, Media::Json),
        door("post", "/member/{id}/vote", post(member::vote), "Votes on a member.")
            .takes(json([must("in_favour", Kind::Flag)], desk::reads::<member::Ballot>))
            .gives(200, Media::Json),
        door("post", "/member/seat", post(member::seat), "Takes a validator's seat, or changes its key.")
            .takes(json([must("consensus_key", Kind::Key)], desk::reads::<member::Seat>))
            .gives(200, Media::Json),
        door("post", "/member/entry-key", post(member::entry_key), "Goes over to another key for entries.")
            .takes(json([must("leaked", Kind::Flag)], desk::reads::<member::EntryKey>))
            .gives(200, Media::Json),
        door("post", "/member/move", post(member::moves), "Tells the members another address.")
            .takes(moving)
            .gives(200, Media::Json),
        door("post", "/member/leave", post(member::leave), "Ends one's own membership.").gives(200, Media::Json),
    ]
}

fn of_the_ledger() -> Vec<Door> {
    let proposal =
        [must("kind", Kind::OneOf(&["access", "derivation"])), may("at", Kind::Number), may("in", Kind::Number)];
    let page = [may("from", Kind::Number), may("kind", Kind::Text("")), may("limit", Kind::Number)];
    vec![
        door("get", "/policy", get(policy::list), "The policies in force and proposed.")
            .public(OPEN)
            .gives(200, Media::Json),
        door("post", "/policy/propose", post(policy::propose), "Proposes a policy document.")
            .asks(proposal)
            .takes(Body::Bytes("application/octet-stream"))
            .gives(201, Media::Json),
        door("get", "/policy/{digest}", get(policy::document), "A policy document.")
            .public(OPEN)
            .gives(200, Media::Bytes),
        door("post", "/policy/{digest}/vote", post(policy::vote), "Votes on a policy document.")
            .takes(json([must("yes", Kind::Flag)], desk::reads::<policy::Vote>))
            .gives(200, Media::Json),
        door("get", "/ledger/status", get(ledger::status), "What the ledger says of itself.")
            .public(OPEN)
            .gives(200, Media::Json),
        door("get", "/ledger/members", get(member::list), "Who the members are.").public(OPEN).gives(200, Media::Json),
        door("get", "/ledger/blame", get(ledger::blame), "Validators that broke the rules, with proofs.")
            .public(OPEN)
            .gives(200, Media::Json),
        door("get", "/ledger/checkpoint", get(ledger::note), "This node's cosigned checkpoint, a signed note.")
            .public(NEVER)
            .gives(200, Media::Text),
        door(
            "get",
            "/ledger/checkpoints",
            get(ledger::checkpoint),
            "A final block with its certificate and state proofs.",
        )
        .asks([may("height", Kind::Number)])
        .public(OPEN)
        .gives(200, Media::Evidence),
        door(
            "get",
            "/ledger/overrides",
            get(ledger::unreviewed),
            "How many overrides of each member nobody reviewed, as a file that proves it.",
        )
        .public(OPEN)
        .gives(200, Media::Evidence),
        door("get", "/ledger/entries", get(ledger::entries), "Final entries, in order.")
            .asks(page)
            .public(OPEN)
            .gives(200, Media::Json),
        door("get", "/ledger/blocks/{height}", get(ledger::block), "A final block.")
            .public(OPEN)
            .gives(200, Media::Json),
    ]
}

fn of_operators() -> Vec<Door> {
    vec![
        door("get", "/openapi.json", get(openapi::document), "This description.").public(NEVER).gives(200, Media::Json),
        door("get", "/health", get(watch::health), "Whether the process answers.")
            .public(NEVER)
            .gives(200, Media::Json),
        door("get", "/ready", get(watch::ready), "Whether requests may be sent here.")
            .public(&[])
            .gives(200, Media::Json)
            .gives(503, Media::Json),
        door("get", "/metrics", get(watch::metrics), "What is counted, as OpenMetrics text.")
            .public(OPEN)
            .gives(200, Media::OpenMetrics),
    ]
}
