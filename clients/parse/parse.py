"""Parses everything that a gateway gives with the models of fhir.resources: R4B with its 7.1, R4 with its 6.1.

Which of the two is installed decides. What does not parse is said with its address, and fails the run.
"""

import collections
import importlib.metadata
import json
import os
import urllib.error
import urllib.request

VERSION = importlib.metadata.version("fhir.resources")
if VERSION.startswith("7."):
    from fhir.resources.R4B import construct_fhir_element

    RELEASE = "R4B"
else:
    from fhir.resources import construct_fhir_element

    RELEASE = "R4"

BASE = os.environ["VITALTRACE_FHIR"]
TOKENS = json.loads(os.environ["VITALTRACE_TOKENS"])
# Who may see what differs. A doctor asks for every type; these look only for what they may see more of, or less.
OTHERS = {
    "officer": ["AuditEvent", "Patient"],
    "custodian": ["Claim", "ExplanationOfBenefit", "Provenance", "Observation"],
    "desk": ["Patient", "Encounter"],
}
# A transaction for the answer's sake, and what must be refused, each in its own way.
PATIENT = json.dumps({"resourceType": "Patient", "name": [{"family": "Nobody"}]})
WRONG = [
    ("GET", "Patient/nobody", None),
    ("GET", "Wombat", None),
    ("GET", "Patient?colour=red", None),
    ("GET", "Patient?_count=many", None),
    ("GET", "Patient?family=%zz", None),
    ("GET", "Patient/nobody/$summary", None),
    ("POST", "Patient", "{"),
    ("POST", "Patient", '{"resourceType":"Patient","gender":"nonsense","birthDate":"yesterday"}'),
    ("POST", "Patient", '{"resourceType":"Patient","colour":"red"}'),
    ("PUT", "Patient/nobody", PATIENT),
    ("POST", "", '{"resourceType":"Bundle","type":"history"}'),
    ("POST", "Consent", '{"resourceType":"Consent"}'),
    ("TRACE", "Patient", None),
]

# Each page of audit events that is read makes one more: somewhere it must end.
PAGES_MAX = 3

parsed = collections.Counter()
failures = []


def ask(method, path, body=None, token=None, **headers):
    """The status and the JSON of an answer."""
    url = path if path.startswith("http") else f"{BASE}/{path}".rstrip("/")
    request = urllib.request.Request(url, data=body.encode() if body else None, method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if body:
        request.add_header("Content-Type", "application/fhir+json")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text else None


def parse(where, resource):
    """Parses a resource as its own type says."""
    rtype = resource.get("resourceType", "nothing")
    name = f"Bundle {resource['type']}" if rtype == "Bundle" else rtype
    try:
        construct_fhir_element(rtype, resource)
        parsed[name] += 1
    except Exception as error:  # whatever the models raise is what is to be told
        failures.append(f"{where}: {name}: {error}")


def pages(path, token):
    """The pages of a search that the caller may make, each parsed."""
    for _ in range(PAGES_MAX):
        if not path:
            return
        status, bundle = ask("GET", path, token=token)
        parse(path, bundle)
        if status != 200:
            return
        yield bundle
        path = next((link["url"] for link in bundle.get("link", []) if link["relation"] == "next"), None)


status, statement = ask("GET", "metadata")
parse("metadata", statement)
frames = 0
types = [resource["type"] for resource in statement["rest"][0]["resource"]]
for who, rtypes in {"doctor": types, **OTHERS}.items():
    token = TOKENS[who]
    for rtype in rtypes:
        seen = []
        for bundle in pages(f"{rtype}?_count=200", token):
            for entry in bundle.get("entry", []):
                if entry["search"]["mode"] == "match":
                    seen.append(entry["resource"])
        # Each resource alone, as well as in its Bundle: an error then says which.
        for resource in seen:
            parse(f"{who}: {rtype}/{resource['id']}", resource)
        for resource in seen[:2]:
            name = f"{rtype}/{resource['id']}"
            for path in (name, f"{name}/_history", f"{name}/_history/1"):
                parse(f"{who}: {path}", ask("GET", path, token=token)[1])
            if rtype == "Patient":
                lastn = f"Observation/$lastn?patient={resource['id']}"
                for path in (f"{name}/$summary", f"{name}/$everything", lastn):
                    parse(f"{who}: {path}", ask("GET", path, token=token)[1])
                everything = "&".join(f"_revinclude={of}" for of in ("Observation:patient", "Condition:patient"))
                for query in (everything, "_elements=id,name", "_summary=count", "_summary=text"):
                    path = f"Patient?_id={resource['id']}&{query}"
                    parse(f"{who}: {path}", ask("GET", path, token=token)[1])
        # What analytics found leads to the frames of devices, each read as an Observation.
        sources = {source["reference"] for resource in seen for source in resource.get("derivedFrom", [])}
        for name in sorted(sources)[:3]:
            parse(f"{who}: {name}", ask("GET", name, token=token)[1])
            frames += name.startswith("Observation/")
        if seen and rtype == "Observation":
            path = f"{rtype}?_count=1&colour=red"
            parse(f"{who}: {path}", ask("GET", path, token=token, Prefer="handling=lenient")[1])

token = TOKENS["doctor"]
for path in ("_history?_count=100", "Observation/_history?_count=100"):
    parse(path, ask("GET", path, token=token)[1])
for body in (PATIENT, '{"resourceType":"Patient","gender":"nonsense"}'):
    parse("Patient/$validate", ask("POST", "Patient/$validate", body, token=token)[1])
person = {"resource": json.loads(PATIENT), "name": "resource"}
match = json.dumps({"resourceType": "Parameters", "parameter": [person]})
parse("Patient/$match", ask("POST", "Patient/$match", match, token=token)[1])
entry = {"resource": json.loads(PATIENT), "request": {"method": "POST", "url": "Patient"}}
missing = {"request": {"method": "GET", "url": "Patient/nobody"}}
for kind, entries in (("transaction", [entry]), ("batch", [entry, missing])):
    bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
    parse(kind, ask("POST", "", json.dumps(bundle), token=token)[1])
status, gone = ask("POST", "Patient", PATIENT, token=token)
parse("a create", gone)
name = f"Patient/{gone['id']}"
ask("DELETE", name, token=TOKENS["custodian"])
for path in (name, f"{name}/_history", f"{name}/_history/2"):
    parse(f"deleted: {path}", ask("GET", path, token=token)[1])
for method, path, body in WRONG:
    status, outcome = ask(method, path, body, token=token)
    if status < 400:
        failures.append(f"{method} {path}: answered {status}")
    else:
        parse(f"{method} {path}", outcome)
parse("without a token", ask("GET", "Patient")[1])

if frames == 0:
    failures.append("no frame of a device was read")
print(f"{RELEASE}, fhir.resources {VERSION}: {sum(parsed.values())} parsed, {len(failures)} not")
print(", ".join(f"{name} {count}" for name, count in sorted(parsed.items())))
for failure in failures[:50]:
    print(failure)
raise SystemExit(1 if failures else 0)
