"""What a program does that is made with fhirclient and acts for itself (SMART Backend Services): it signs, and gets a token."""

import json
import os
import subprocess
import tempfile
import time
import uuid

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fhirclient.client import FHIRClient
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRPermissionDeniedException, FHIRUnauthorizedException
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

BASE, URL = os.environ["VITALTRACE_FHIR"], os.environ["VITALTRACE_URL"]
PROGRAM, CONFIG = os.environ["VITALTRACE_PROGRAM"], os.environ["VITALTRACE_CONFIG"]
CUSTODIAN = os.environ["VITALTRACE_CUSTODIAN"]
SYSTEM = "https://vitaltrace.org/clients/backend"
RUN = str(uuid.uuid4())
# The two that SMART asks every server to take.
KEYS = {
    "RS384": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
}


def step(what):
    print(f"fhirclient backend: {what}", flush=True)


def public(algorithm):
    """The public half of a key as a JWK."""
    kind = RSAAlgorithm if algorithm.startswith("RS") else ECAlgorithm
    key = json.loads(kind.to_jwk(KEYS[algorithm].public_key()))
    return {**key, "kid": algorithm, "alg": algorithm, "use": "sig"}


def signed(algorithm, **changes):
    """What the program asserts of itself."""
    claims = {
        "iss": "nightly", "sub": "nightly", "aud": f"{URL}/auth/token",
        "exp": int(time.time()) + 200, "jti": str(uuid.uuid4()), **changes,
    }
    return jwt.encode(claims, KEYS[algorithm], algorithm=algorithm, headers={"kid": algorithm})


def program(assertion, scope="system/Patient.rs"):
    """A program that has shown who it is."""
    client = FHIRClient(settings={"app_id": "nightly", "api_base": BASE, "scope": scope, "jwt_token": assertion})
    client.prepare()
    client.authorize()
    return client


step("an administrator registers the program")
with tempfile.NamedTemporaryFile("w", suffix=".jwks") as jwks:
    json.dump({"keys": [public(algorithm) for algorithm in KEYS]}, jwks)
    jwks.flush()
    scope = "system/Patient.cruds system/Observation.rs"
    register = ["app", "add", "--config", CONFIG, "--id", "nightly", "--name", "Nightly", "--service", "custodian"]
    subprocess.run([PROGRAM, *register, "--scope", scope, "--jwks", jwks.name], check=True, capture_output=True)
# The gateway looks at the file several times a second.
time.sleep(0.5)

for algorithm in KEYS:
    step(f"a session by {algorithm}")
    client = program(signed(algorithm), "system/Patient.cruds")
    patient = Patient({"identifier": [{"system": SYSTEM, "value": f"{RUN}-{algorithm}"}], "name": [{"family": "Night"}]})
    patient.id = patient.create(client.server)["id"]
    assert Patient.read(patient.id, client.server).name[0].family == "Night"
    found = Patient.where({"identifier": f"{SYSTEM}|{RUN}-{algorithm}"}).perform_resources(client.server)
    assert [one.id for one in found] == [patient.id]

step("what was not asked for is refused")
client = program(signed("ES384"), "system/Observation.rs")
try:
    Patient.read(patient.id, client.server)
    raise AssertionError("a program read what it did not ask for")
except FHIRPermissionDeniedException:
    pass

step("assertions that do not hold")
used = signed("ES384")
program(used)
wrong = {
    "used before": used,
    "for another address": signed("ES384", aud="https://other.example/auth/token"),
    "of another program": signed("ES384", iss="other", sub="other"),
    "expired": signed("ES384", exp=int(time.time()) - 100),
    "good for an hour": signed("ES384", exp=int(time.time()) + 3600),
}
for why, assertion in wrong.items():
    try:
        program(assertion)
    except FHIRUnauthorizedException:
        pass
    else:
        raise AssertionError(f"an assertion was taken that is {why}")

step("done")
