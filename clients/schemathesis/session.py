"""Holds a gateway against its own description, `/openapi.json`, by schemathesis: as a clinician and as a stranger.

The seed and the number of examples are fixed, so that two runs send the same.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

URL, TOKEN = os.environ["VITALTRACE_URL"], os.environ["VITALTRACE_TOKEN"]
SEED = 20261128
# For each operation and phase.
EXAMPLES_MAX = 6
# What every answer must be: no fault of ours, and what the description says of it.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
]

schemathesis = pathlib.Path(sys.executable).with_name("schemathesis")
command = [
    str(schemathesis),
    "run",
    f"{URL}/openapi.json",
    f"--seed={SEED}",
    f"--max-examples={EXAMPLES_MAX}",
    f"--checks={','.join(CHECKS)}",
    "--generation-database=none",
    "--continue-on-failure",
    "--suppress-health-check=all",
    "--warnings=off",
    "--request-timeout=30",
    "--no-color",
    # More than one meets a fault of Python 3.11 in how it reads its own source from several threads.
    "--workers=1",
]
failed = []
# Whatever it writes goes into a folder that is thrown away.
with tempfile.TemporaryDirectory() as folder:
    clinician = ["--phases=examples,coverage,fuzzing", "--header", f"Authorization: Bearer {TOKEN}"]
    # A stranger gets one and the same answer almost everywhere: fewer requests tell as much.
    for who, options in (("a clinician", clinician), ("a stranger", ["--phases=examples,fuzzing"])):
        print(f"schemathesis: as {who}", flush=True)
        if subprocess.run([*command, *options], cwd=folder).returncode != 0:
            failed.append(who)
if failed:
    raise SystemExit(f"schemathesis: what is described and what is answered differ, as {' and as '.join(failed)}")
print("schemathesis: done", flush=True)
