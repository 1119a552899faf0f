"""Made-up patients, and what the models say of them: the other program must say the same. Digests of the features of real ones."""

import hashlib
import math
import random
import struct

import risk
import risk_features
import trend_features
from observations import AMOUNTS, MINUTES, NAMES, VARIABLES, Patient, thinned

SEED, PATIENTS, TREND_PATIENTS = 12, 3, 200
USUAL = {"heart-rate": (85, 18), "resp-rate": (19, 5), "systolic": (120, 22), "mean-pressure": (80, 14), "diastolic": (60, 12), "temperature": (37, 0.8),
         "oxygen-saturation": (96, 3), "inspired-oxygen": (0.5, 0.15), "glasgow-coma-scale": (11, 4), "urine": (110, 90), "weight": (80, 15)}
REQUIRED = ["heart-rate", "systolic", "glasgow-coma-scale"]


def patient(draw, number):
    """The readings of one made-up patient, in a random order, and what a patient of them becomes."""
    readings = []
    for place, (name, _, low, high, _) in enumerate(VARIABLES):
        often = place < 12
        if not often and draw.random() < 0.4 or often and name not in REQUIRED and draw.random() < 0.1:
            continue
        middle, spread = USUAL.get(name, ((low + high) / 4, (high - low) / 12))
        for _ in range(draw.randint(25, 70) if often else draw.randint(1, 6)):
            value = round(min(max(draw.gauss(middle, spread), low), high), 1)
            if name == "ventilated":
                value = float(draw.random() < 0.8)
            readings.append((draw.randrange(MINUTES), name, value))
    for name in REQUIRED:
        readings.append((MINUTES - 60 + draw.randrange(60), name, round(draw.gauss(*USUAL[name]) / 2 + USUAL[name][0] / 2, 1)))
    readings = [(minute, name, min(max(value, low), high)) for minute, name, value in readings
                for other, _, low, high, _ in VARIABLES if other == name]
    draw.shuffle(readings)
    series = [thinned([(minute, value) for minute, other, value in distinct(readings, name) if other == name], name) for name in NAMES]
    age, male, height = float(draw.randint(18, 90)), [0.0, 1.0, float("nan")][number % 3], [172.5, float("nan")][number % 2]
    return readings, Patient(age, male, height, series)


def distinct(readings, name):
    """Of one minute the greatest value counts; amounts all do."""
    if name in AMOUNTS:
        return readings
    best = {}
    for minute, other, value in readings:
        if other == name:
            best[minute] = max(value, best.get(minute, value))
    return [(minute, name, value) for minute, value in best.items()]


def exact(value):
    """Nothing for what is not known; else the shortest text of the same bits, as readers of JSON may round numbers."""
    return None if math.isnan(value) else repr(float(value))


def digest(rows):
    """SHA-256 over features as numbers of 8 bytes, little-endian; what is not known is the quiet NaN of IEEE 754."""
    out = hashlib.sha256()
    for row in rows:
        for value in row:
            out.update(b"\0\0\0\0\0\0\xf8\x7f" if math.isnan(value) else struct.pack("<d", value))
    return out.hexdigest()


def digests(patients):
    """Of the risk's features of every patient, and of the forecasts' features of the first patients, hour by hour."""
    out = {f"risk-{hours}": digest(risk_features.features(one, hours * 60, hours) for one in patients) for hours in risk.HOURS}
    for target in trend_features.TARGETS:
        x, row, hour, _, _ = trend_features.features(patients[:TREND_PATIENTS], target)
        out[f"trend-{target}"] = digest(x[place].tolist() for place in sorted(range(len(x)), key=lambda place: (row[place], hour[place])))
    return out


def made(models, patients):
    draw = random.Random(SEED)
    out = []
    for number in range(PATIENTS):
        readings, one = patient(draw, number)
        risks, trends = [], []
        for output in models["icu-mortality-1"]:
            # The window ends with the recording, so that every patient is seen whole by the longest model.
            row = risk_features.features(one, MINUTES, output.hours)
            probability = risk.sigmoid(output.score(row))
            low, high = output.interval(probability)
            risks.append({"hours": output.hours, "features": [exact(value) for value in row], "probability": exact(probability), "low": exact(low), "high": exact(high)})
        for output in models["next-hour-1"]:
            x, _, hour, now, _ = trend_features.features([one], output.name)
            for row, hour, now in list(zip(x.tolist(), hour.tolist(), now.tolist()))[::9]:
                value = now + output.score(row)
                low, high = output.interval(row[trend_features.OWN.index("sd_6")])
                trends.append({"variable": output.name, "hour": hour, "features": [exact(one) for one in row], "value": exact(value), "low": exact(value + low), "high": exact(value + high)})
        out.append({"age": exact(one.age), "male": exact(one.male), "height": exact(one.height),
                    "readings": [(minute, name, exact(value)) for minute, name, value in readings], "risks": risks, "trends": trends})
    return {"seed": SEED, "patients": out, "trend_patients": TREND_PATIENTS, "digests": digests(patients)}
