"""What a user of fhirpy does with a gateway, step by step, by fhirpy's own means alone."""

import os
import uuid

from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import (
    AuthorizationError,
    ForbiddenError,
    MultipleResourcesFound,
    OperationOutcome,
    ResourceNotFound,
)

BASE, TOKEN = os.environ["VITALTRACE_FHIR"], os.environ["VITALTRACE_TOKEN"]
# Doctors delete nothing; who keeps the records may.
CUSTODIAN = os.environ["VITALTRACE_CUSTODIAN"]
SYSTEM = "https://vitaltrace.org/clients/fhirpy"
RUN = str(uuid.uuid4())


def client(token=TOKEN, **headers):
    return SyncFHIRClient(BASE, authorization=f"Bearer {token}", extra_headers=headers or None)


def refused(kind, act):
    """What the client raises when the gateway says no."""
    try:
        act()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def step(what):
    print(f"fhirpy: {what}", flush=True)


fhir = client()

step("metadata")
statement = fhir.execute("metadata", method="get")
assert statement.fhirVersion == "4.0.1" and statement.kind == "instance"

step("create, read")
patient = fhir.resource("Patient", identifier=[{"system": SYSTEM, "value": RUN}], name=[{"family": "Nobody"}])
patient.save()
assert patient.id and patient.meta.versionId == "1"
read = fhir.reference("Patient", patient.id).to_resource()
assert read.serialize() == patient.serialize()

step("update, and the earlier version")
patient["gender"] = "unknown"
patient.save()
assert patient.meta.versionId == "2"
first = fhir.execute(f"Patient/{patient.id}/_history/1", method="get")
assert "gender" not in first and first.meta.versionId == "1"
patient.refresh()
assert patient.meta.versionId == "2"

step("update with If-Match")
held = client(**{"If-Match": 'W/"2"'}).resource("Patient", **patient.serialize())
held["active"] = True
held.save()
assert held.meta.versionId == "3"
# fhirpy has one class for every 412.
refused(MultipleResourcesFound, held.save)

step("search, page by page")
for minute in range(7):
    fhir.resource(
        "Observation",
        status="final",
        code={"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        subject={"reference": f"Patient/{patient.id}"},
        effectiveDateTime=f"2026-01-12T10:{minute:02}:00Z",
        valueQuantity={"value": 70 + minute, "unit": "/min"},
    ).save()
pulses = fhir.resources("Observation").search(patient=patient.id, code="http://loinc.org|8867-4").sort("date")
found = pulses.limit(3).fetch_all()
assert [pulse.valueQuantity.value for pulse in found] == list(range(70, 77)), found
assert len(pulses.limit(2).fetch()) == 2
assert pulses.first().valueQuantity.value == 70
assert pulses.count() == 7

step("search with what the matches refer to")
bundle = pulses.include("Observation", "subject").limit(2).fetch_raw()
modes = [(entry.search.mode, entry.resource.resourceType) for entry in bundle.entry]
assert modes == [("match", "Observation")] * 2 + [("include", "Patient")], modes
assert all(entry.fullUrl == f"{BASE}/{entry.resource.resourceType}/{entry.resource.id}" for entry in bundle.entry)
assert len(pulses.include("Observation", "subject").limit(3).fetch_all()) == 7

step("history")
history = fhir.execute(f"Patient/{patient.id}/_history", method="get")
assert [entry.resource.meta.versionId for entry in history.entry] == ["3", "2", "1"]

step("conditional create, by fhirpy's query and by If-None-Exist")
same = fhir.resource("Patient", identifier=[{"system": SYSTEM, "value": RUN}], name=[{"family": "Nobody"}])
known, created = fhir.resources("Patient").search(identifier=f"{SYSTEM}|{RUN}").get_or_create(same)
assert (known.id, created) == (patient.id, False)
other = fhir.resource("Patient", identifier=[{"system": SYSTEM, "value": f"{RUN}-other"}])
new, created = fhir.resources("Patient").search(identifier=f"{SYSTEM}|{RUN}-other").get_or_create(other)
assert created and new.id != patient.id
again = client(**{"If-None-Exist": f"identifier={SYSTEM}|{RUN}"}).resource("Patient", **same.serialize()).save()
assert again.id == patient.id

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
answer = fhir.execute("", data=transaction)
assert [entry.response.status[:3] for entry in answer.entry] == ["201", "201"]
places = [entry.response.location.split("/")[:2] for entry in answer.entry]
condition = fhir.reference(*places[1]).to_resource()
assert condition.subject.reference == "/".join(places[0])
assert condition.subject.to_resource().id == places[0][1]

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
answer = fhir.execute("", data=batch)
assert [entry.response.status[:3] for entry in answer.entry] == ["200", "200", "404"]
assert answer.entry[1].resource.total == 7
assert answer.entry[2].response.outcome.issue[0].code == "not-found"

step("summary, by GET and by POST")
for method in ("get", "post"):
    summary = fhir.reference("Patient", patient.id).execute("$summary", method=method)
    assert (summary.type, summary.entry[0].resource.resourceType) == ("document", "Composition")

step("JSON Patch, conditional update and delete")
# fhirpy's own `patch` sends a part of the resource as plain JSON, which is none of R4's forms of a patch: it is refused, and nothing changes.
refused(OperationOutcome, lambda: fhir.reference("Patient", patient.id).patch(active=False))
assert fhir.reference("Patient", patient.id).to_resource().active is True
patching = client(**{"Content-Type": "application/json-patch+json"})
steps = [{"op": "replace", "path": "/active", "value": False}]
assert patching.execute(f"Patient/{patient.id}", method="patch", data=steps).active is False
by_identifier = fhir.resources("Patient").search(identifier=f"{SYSTEM}|{RUN}-third")
third = fhir.resource("Patient", identifier=[{"system": SYSTEM, "value": f"{RUN}-third"}])
third, created = by_identifier.update(third)
assert created
third["gender"] = "other"
changed, created = by_identifier.update(third)
assert (changed.id, changed.meta.versionId, created) == (third.id, "2", False)
refused(ForbiddenError, by_identifier.delete)
client(CUSTODIAN).resources("Patient").search(identifier=f"{SYSTEM}|{RUN}-third").delete()
refused(ResourceNotFound, lambda: fhir.reference("Patient", third.id).to_resource())

step("validation, and everything of a patient")
assert fhir.resource("Patient", name=[{"family": "Nobody"}]).is_valid()
assert not fhir.resource("Patient", gender="nonsense").is_valid()
everything = fhir.reference("Patient", patient.id).execute("$everything")
types = {entry.resource.resourceType for entry in everything.entry}
assert types >= {"Patient", "Observation"}, types

step("delete")
refused(ForbiddenError, found[0].delete)
client(CUSTODIAN).delete(found[0])
refused(ResourceNotFound, lambda: fhir.reference("Observation", found[0].id).to_resource())
assert pulses.count() == 6

step("what is wrong")
wrong = refused(OperationOutcome, fhir.resource("Observation", status="nonsense").save)
assert {issue["severity"] for issue in wrong.resource["issue"]} == {"error"}
wrong = refused(OperationOutcome, lambda: fhir.resources("Patient").search(colour="red").fetch())
assert wrong.resource["issue"][0]["code"] == "not-supported"
refused(ResourceNotFound, lambda: fhir.reference("Patient", "nobody").to_resource())
refused(AuthorizationError, lambda: SyncFHIRClient(BASE).resources("Patient").fetch())

print("fhirpy: done", flush=True)
