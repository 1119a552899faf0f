"""Fills a running gateway with something of every kind that it gives: records, frames of a device, alarms, audit events.

Takes a patient of Synthea's from the folder that VITALTRACE_SHARED names, where there is one, and the one in `patient.json` in any case.
"""

import datetime
import json
import os
import pathlib
import subprocess
import tempfile
import urllib.request

BASE, TOKENS = os.environ["VITALTRACE_FHIR"], json.loads(os.environ["VITALTRACE_TOKENS"])
PROGRAM, CONFIG = os.environ["VITALTRACE_PROGRAM"], os.environ["VITALTRACE_CONFIG"]
HERE = pathlib.Path(__file__).parent

# Both are small and have many types; the second refers to hospitals and practitioners by identifier.
SYNTHEA = [
    "2019-smart/55bbe118-e08d-4408-86e5-6084457500d4.json.gz",
    "2021-blaze/0-hospitalInformation*.json.gz",
    "2021-blaze/0-practitionerInformation*.json.gz",
    "2021-blaze/c0697745-be05-4abc-07e0-f78ca6cb7230.json.gz",
]


def send(who, method, path, body):
    request = urllib.request.Request(f"{BASE}/{path}", data=json.dumps(body).encode(), method=method)
    request.add_header("Authorization", f"Bearer {TOKENS[who]}")
    request.add_header("Content-Type", "application/fhir+json")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def vitaltrace(*arguments):
    return subprocess.run([PROGRAM, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


shared = pathlib.Path(os.environ.get("VITALTRACE_SHARED", "none")) / "fhir/synthea"
files = [file for pattern in SYNTHEA for file in sorted(shared.glob(pattern))]
if files:
    vitaltrace("load", "--config", CONFIG, *map(str, files))
else:
    print(f"SKIPPED: patients of Synthea's: `{shared}` not found", flush=True)

# The patient of the examples in /openapi.json.
send("custodian", "PUT", "Patient/ilse", {"resourceType": "Patient", "id": "ilse", "name": [{"family": "Brandt"}]})
answer = send("custodian", "POST", "", json.loads((HERE / "patient.json").read_text()))
places = [entry["response"]["location"].split("/_history/")[0] for entry in answer["entry"]]
patient = next(place.split("/")[1] for place in places if place.startswith("Patient/"))
device = next(place.split("/")[1] for place in places if place.startswith("Device/"))

with tempfile.TemporaryDirectory() as folder:
    file = f"{folder}/device.json"
    key = vitaltrace("sense", "--device", file, "--new", device).removeprefix("public key ").split()[0]
    # Sent faster than life, the signals begin in the past.
    since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=60)
    bind = {"patient": patient, "key": key, "since": since.strftime("%Y-%m-%dT%H:%M:%SZ")}
    send("doctor", "POST", f"Device/{device}/$bind", bind)
    generated = ["--signal", "generated", "--seconds", "20", "--speed", "20"]
    vitaltrace("sense", "--config", CONFIG, "--device", file, *generated)
print(f"filled: {len(files)} files, {len(places)} records of our own, and a device's frames", flush=True)
