"""A recording goes in as signed frames and comes out of `$wfdb`: read by wfdb, every sample is the one that the record had."""

import datetime
import io
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import wfdb

URL = os.environ["VITALTRACE_URL"]
SECONDS = 20


def step(what):
    print(what, flush=True)


def ask(path, body=None):
    """The bytes of an answer, and its headers."""
    headers = {"Authorization": "Bearer " + os.environ["VITALTRACE_TOKEN"], "Content-Type": "application/fhir+json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(URL + path, data=data, headers=headers), timeout=60) as answer:
        return answer.read(), answer.headers


def instant(seconds):
    """So many seconds from now."""
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def sense(*arguments):
    command = [os.environ["VITALTRACE_PROGRAM"], "sense", "--config", os.environ["VITALTRACE_CONFIG"], *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def main():
    record = Path(os.environ["VITALTRACE_SHARED"]) / "signals/mitdb/100"
    if not record.with_suffix(".hea").exists():
        print(f"SKIPPED: recordings: {record} is not there")
        return
    sent = wfdb.rdrecord(str(record), physical=False)
    expected = sent.d_signal[: SECONDS * int(sent.fs)]
    patient = json.loads(ask("/fhir/Patient", {"resourceType": "Patient", "name": [{"family": "Nobody"}]})[0])["id"]
    device = json.loads(ask("/fhir/Device", {"resourceType": "Device", "status": "active"})[0])["id"]
    with tempfile.TemporaryDirectory() as folder:
        step("a device replays the record")
        file = str(Path(folder) / "monitor.json")
        key = sense("--device", file, "--new", device).splitlines()[0].removeprefix("public key ")
        ask(f"/fhir/Device/{device}/$bind", {"patient": patient, "key": key, "since": instant(-600)})
        sense("--device", file, "--signal", f"{record}.hea", "--seconds", str(SECONDS), "--speed", "20")
        step("what it sent comes back as a WFDB record")
        asked = urllib.parse.urlencode({"start": instant(-3600), "end": instant(3600)})
        archive, headers = ask(f"/fhir/Patient/{patient}/$wfdb?{asked}")
        assert headers["X-Frames"] == str(SECONDS), headers
        assert headers["X-Frames-Withheld"] == "0", headers
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            assert files.testzip() is None
            files.extractall(folder)
        got = wfdb.rdrecord(str(Path(folder) / "recording"), physical=False, smooth_frames=False)
        assert got.fs == sent.fs and got.n_sig == sent.n_sig, (got.fs, got.n_sig)
        for n in range(sent.n_sig):
            samples = np.asarray(got.e_d_signal[n])
            assert (samples == expected[:, n]).all(), f"samples of signal {n} differ"
            assert (got.adc_gain[n], got.baseline[n]) == (sent.adc_gain[n], sent.baseline[n]), n
    step(f"{expected.size} samples of {sent.n_sig} signals are the same")


if __name__ == "__main__":
    sys.exit(main())
