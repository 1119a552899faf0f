"""Trains both models and writes them, their figures and the vectors for the tests of the other program.

    python train.py SIGNALS OUT

SIGNALS is the folder with `vitals/`; OUT is the folder `models/`. The same versions of the packages on the same kind of machine write the same bytes.
"""

import hashlib
import json
import sys
from pathlib import Path

import observations
import predictor
import risk
import trend
import vectors


def main(signals, out):
    patients, died, _ = observations.read(Path(signals) / "vitals")
    lines = []

    def say(line):
        print(line, flush=True)
        lines.append(line)

    say(f"{len(patients)} patients, {sum(died)} died in hospital; 5 folds, seeds {risk.SEEDS}")
    models = {"icu-mortality-1": risk.train(patients, died, say), "next-hour-1": trend.train(patients, say)}
    for name, outputs in models.items():
        body = predictor.model(name, outputs)
        (out / f"{name}.cbor").write_bytes(body)
        say(f"{name}.cbor: {len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()}")
    (out / "figures.txt").write_text("\n".join(lines) + "\n")
    (out / "vectors.json").write_text(json.dumps(vectors.made(models, patients), indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
