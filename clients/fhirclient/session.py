"""What a user of fhirclient does with a gateway, step by step, by fhirclient's own means and models."""

import json
import os
import uuid

from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle
from fhirclient.models.condition import Condition
from fhirclient.models.observation import Observation
from fhirclient.models.operationoutcome import OperationOutcome
from fhirclient.models.patient import Patient
from fhirclient.server import (
    FHIRNotFoundException,
    FHIRPermissionDeniedException,
    FHIRUnauthorizedException,
)
from requests import HTTPError

BASE, TOKEN = os.environ["VITALTRACE_FHIR"], os.environ["VITALTRACE_TOKEN"]
# Doctors delete nothing; who keeps the records may.
CUSTODIAN = os.environ["VITALTRACE_CUSTODIAN"]
SYSTEM = "https://vitaltrace.org/clients/fhirclient"
RUN = str(uuid.uuid4())


def refused(kind, act):
    """The response that the client's exception carries when the gateway says no."""
    try:
        act()
    except kind as error:
        return error.response
    raise AssertionError(f"no {kind.__name__}")


def codes(response):
    """The issues of an OperationOutcome, as the client's model reads it."""
    return [issue.code for issue in OperationOutcome(response.json()).issue]


def step(what):
    print(f"fhirclient: {what}", flush=True)


step("metadata")
# A client that has no token yet asks what is offered, and is told where people give it one.
stranger = FHIRClient(settings={"app_id": "sessions", "api_base": BASE})
assert not stranger.prepare()
assert stranger.authorize_url.startswith(BASE.replace("/fhir", "/auth/authorize?"))
statement = stranger.server.capabilityStatement
assert (statement.fhirVersion, statement.rest[0].mode) == ("4.0.1", "server")


def known(token):
    """A client that has a token is made from a state that was kept."""
    auth = {"app_id": "sessions", "access_token": token}
    server = {"base_uri": f"{BASE}/", "auth_type": "oauth2", "auth": auth}
    return FHIRClient(state={"app_id": "sessions", "server": server})


client = known(TOKEN)
assert client.ready
custodian = known(CUSTODIAN).server
server = client.server

step("create, read")
person = {
    "identifier": [{"system": SYSTEM, "value": RUN}],
    "name": [{"family": "Nobody", "given": ["Ann"]}],
    "birthDate": "1980-02-29",
}
patient = Patient(Patient({"resourceType": "Patient", **person}).create(server))
assert patient.meta.versionId == "1"
read = Patient.read(patient.id, server)
assert read.as_json() == patient.as_json()
assert client.human_name(read.name[0]) == "Ann Nobody"

step("update, and the earlier version")
read.gender = "unknown"
assert Patient(read.update()).meta.versionId == "2"
first = Patient.read_from(f"Patient/{patient.id}/_history/1", server)
assert (first.gender, first.meta.versionId) == (None, "1")

step("update with If-Match")
# fhirclient sends headers of its user's with every request of a session.
server.session.headers["If-Match"] = 'W/"2"'
read.active = True
assert Patient(read.update()).meta.versionId == "3"
lost = refused(HTTPError, read.update)
assert (lost.status_code, codes(lost)) == (412, ["conflict"])
del server.session.headers["If-Match"]

step("search, page by page")
pulses = []
for minute in range(7):
    pulse = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient.id}"},
        "effectiveDateTime": f"2026-01-12T10:{minute:02}:00Z",
        "valueQuantity": {"value": 70 + minute, "unit": "/min"},
    }
    pulses.append(Observation(Observation(pulse).create(server)))
by_date = {"patient": patient.id, "code": "http://loinc.org|8867-4", "_sort": "date", "_count": "3", "_total": "accurate"}
pages = list(Observation.where(by_date).perform_iter(server))
assert [len(page.entry) for page in pages] == [3, 3, 1]
assert pages[0].total == 7
values = [pulse.valueQuantity.value for pulse in Observation.where(by_date).perform_resources_iter(server)]
assert values == list(range(70, 77))

step("search with what the matches refer to")
page = next(Observation.where(by_date).include("subject").perform_iter(server))
modes = [(entry.search.mode, entry.resource.resource_type) for entry in page.entry]
assert modes == [("match", "Observation")] * 3 + [("include", "Patient")], modes

step("search by POST")
form = {"patient": patient.id, "_count": "2", "_total": "accurate"}
answer = server.session.post(
    f"{server.base_uri}Observation/_search", data=form, headers={"Authorization": f"Bearer {TOKEN}"}
)
server.raise_for_status(answer)
assert Bundle(answer.json()).total == 7

step("history")
history = Bundle.read_from(f"Patient/{patient.id}/_history", server)
assert [entry.resource.meta.versionId for entry in history.entry] == ["3", "2", "1"]
assert history.entry[2].request.method == "POST"

step("conditional create")
server.session.headers["If-None-Exist"] = f"identifier={SYSTEM}|{RUN}"
same = Patient({"resourceType": "Patient", **person}).create(server)
assert same["id"] == patient.id
del server.session.headers["If-None-Exist"]

step("transaction")
urn = f"urn:uuid:{uuid.uuid4()}"
transaction = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {
            "fullUrl": urn,
            "resource": {"resourceType": "Patient", "name": [{"family": "Nobody"}]},
            "request": {"method": "POST", "url": "Patient"},
        },
        {
            "resource": {
                "resourceType": "Condition",
                "subject": {"reference": urn},
                "code": {"text": "a made-up condition"},
            },
            "request": {"method": "POST", "url": "Condition"},
        },
    ],
}
answer = Bundle(Bundle(transaction).create(server))
assert [entry.response.status[:3] for entry in answer.entry] == ["201", "201"]
places = [entry.response.location.split("/")[1] for entry in answer.entry]
assert Condition.read(places[1], server).subject.reference == f"Patient/{places[0]}"

step("batch")
batch = {
    "resourceType": "Bundle",
    "type": "batch",
    "entry": [
        {"request": {"method": "GET", "url": f"Patient/{patient.id}"}},
        {"request": {"method": "GET", "url": f"Observation?patient={patient.id}&_count=2&_total=accurate"}},
        {"request": {"method": "GET", "url": "Patient/nobody"}},
    ],
}
answer = Bundle(Bundle(batch).create(server))
assert [entry.response.status[:3] for entry in answer.entry] == ["200", "200", "404"]
assert answer.entry[1].resource.total == 7
assert answer.entry[2].response.outcome.issue[0].code == "not-found"

step("summary")
summary = Bundle.read_from(f"Patient/{patient.id}/$summary", server)
assert (summary.type, summary.entry[0].resource.resource_type) == ("document", "Composition")

step("JSON Patch, conditional update and delete")
# fhirclient has no words for them: its session does, which knows the token.
headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json-patch+json"}
steps = json.dumps([{"op": "replace", "path": "/active", "value": False}])
answer = server.session.patch(f"{server.base_uri}Patient/{patient.id}", data=steps, headers=headers)
server.raise_for_status(answer)
assert Patient(answer.json()).active is False
third = {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": f"{RUN}-third"}]}
by_identifier = f"Patient?identifier={SYSTEM}|{RUN}-third"
versions = [Patient(server.put_json(by_identifier, third).json()).meta.versionId for _ in range(2)]
assert versions == ["1", "2"]
refused(FHIRPermissionDeniedException, lambda: server.delete_json(by_identifier))
custodian.delete_json(by_identifier)
assert next(Patient.where({"identifier": f"{SYSTEM}|{RUN}-third"}).perform_iter(server)).entry is None

step("everything of a patient")
everything = Bundle.read_from(f"Patient/{patient.id}/$everything", server)
types = {entry.resource.resource_type for entry in everything.entry}
assert types >= {"Patient", "Observation"}, types

step("delete")
denied = refused(FHIRPermissionDeniedException, lambda: pulses[0].delete(server))
assert codes(denied) == ["forbidden"]
pulses[0].delete(custodian)
gone = refused(HTTPError, lambda: Observation.read(pulses[0].id, server))
assert (gone.status_code, codes(gone)) == (410, ["deleted"])

step("what is wrong")
wrong = json.loads(json.dumps(pulses[1].as_json()))
wrong["status"] = "nonsense"
answer = refused(HTTPError, lambda: Observation(wrong).update(server))
assert answer.status_code == 422 and codes(answer), answer.text
missing = refused(FHIRNotFoundException, lambda: Patient.read("nobody", server))
assert codes(missing) == ["not-found"]
nobody = refused(FHIRUnauthorizedException, lambda: Patient.read(patient.id, stranger.server))
assert codes(nobody) == ["login"]

print("fhirclient: done", flush=True)
