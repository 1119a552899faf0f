"""Recordings of the PhysioNet/CinC Challenge 2012: what was measured, when, within which limits.

Source of the limits: what a monitor or a laboratory can report of a living person; they drop typing errors and disconnected sensors.
"""

import csv
import math
import tarfile
from pathlib import Path

# Variable: names in the recordings, lowest and highest value that counts, unit (UCUM), name in our frames where there is one.
# The order is the order of the features. A variable with two names takes both (arterial line and cuff).
VARIABLES = [
    ("heart-rate", ["HR"], 1.0, 300.0, "/min"),
    ("resp-rate", ["RespRate"], 4.0, 80.0, "/min"),
    ("systolic", ["SysABP", "NISysABP"], 30.0, 300.0, "mm[Hg]"),
    ("mean-pressure", ["MAP", "NIMAP"], 20.0, 250.0, "mm[Hg]"),
    ("diastolic", ["DiasABP", "NIDiasABP"], 10.0, 200.0, "mm[Hg]"),
    ("temperature", ["Temp"], 25.0, 45.0, "Cel"),
    ("oxygen-saturation", ["SaO2"], 30.0, 100.0, "%"),
    ("inspired-oxygen", ["FiO2"], 0.2, 1.0, "1"),
    ("glasgow-coma-scale", ["GCS"], 3.0, 15.0, "{score}"),
    ("urine", ["Urine"], 0.0, 5000.0, "mL"),
    ("weight", ["Weight"], 20.0, 300.0, "kg"),
    ("ventilated", ["MechVent"], 0.0, 1.0, "1"),
    ("ph", ["pH"], 6.5, 8.0, "[pH]"),
    ("paco2", ["PaCO2"], 8.0, 150.0, "mm[Hg]"),
    ("pao2", ["PaO2"], 15.0, 700.0, "mm[Hg]"),
    ("bicarbonate", ["HCO3"], 2.0, 60.0, "mmol/L"),
    ("lactate", ["Lactate"], 0.1, 35.0, "mmol/L"),
    ("sodium", ["Na"], 95.0, 185.0, "mmol/L"),
    ("potassium", ["K"], 1.0, 12.0, "mmol/L"),
    ("magnesium", ["Mg"], 0.3, 10.0, "mg/dL"),
    ("urea-nitrogen", ["BUN"], 1.0, 250.0, "mg/dL"),
    ("creatinine", ["Creatinine"], 0.1, 25.0, "mg/dL"),
    ("glucose", ["Glucose"], 10.0, 1500.0, "mg/dL"),
    ("haematocrit", ["HCT"], 8.0, 70.0, "%"),
    ("platelets", ["Platelets"], 1.0, 2000.0, "10*3/uL"),
    ("white-cells", ["WBC"], 0.05, 300.0, "10*3/uL"),
    ("albumin", ["Albumin"], 0.5, 7.0, "g/dL"),
    ("alkaline-phosphatase", ["ALP"], 5.0, 5000.0, "U/L"),
    ("alanine-transaminase", ["ALT"], 1.0, 20000.0, "U/L"),
    ("aspartate-transaminase", ["AST"], 1.0, 30000.0, "U/L"),
    ("bilirubin", ["Bilirubin"], 0.1, 80.0, "mg/dL"),
    ("cholesterol", ["Cholesterol"], 20.0, 600.0, "mg/dL"),
    ("troponin-i", ["TroponinI"], 0.0, 200.0, "ug/L"),
    ("troponin-t", ["TroponinT"], 0.0, 50.0, "ug/L"),
]
NAMES = [name for name, *_ in VARIABLES]
_SOURCE = {source: (place, low, high) for place, (_, sources, low, high, _) in enumerate(VARIABLES) for source in sources}
MINUTES = 48 * 60
# Of each quarter of an hour the last value counts, so that a monitor that speaks every second looks like the charts that the models
# learned from. Amounts are the exception: each counts.
QUARTER_MIN = 15
AMOUNTS = {"urine"}


class Patient:
    """One patient: age in years, height in cm, whether male (nan where unknown), and a series of (minute, value) per variable."""

    def __init__(self, age, male, height, series):
        self.age, self.male, self.height, self.series = age, male, height, series


def thinned(series, name):
    """What counts of a series; quarters begin at whole hours."""
    series = sorted(series)
    if name in AMOUNTS:
        return series
    last = {minute // QUARTER_MIN: (minute, value) for minute, value in series}
    return [last[quarter] for quarter in sorted(last)]


def parse(text):
    """One recording. A series is ordered by minute, then by value, so that the order of the lines decides nothing."""
    series = [[] for _ in VARIABLES]
    person = {"Age": math.nan, "Gender": math.nan, "Height": math.nan}
    for line in text.splitlines()[1:]:
        time, name, value = line.split(",")
        hours, minutes = time.split(":")
        minute = 60 * int(hours) + int(minutes)
        if name in person:
            value = float(value)
            person[name] = value if value >= 0.0 else math.nan
        elif name in _SOURCE and value and minute < MINUTES:
            place, low, high = _SOURCE[name]
            value = float(value)
            if low <= value <= high:
                series[place].append((minute, value))
    series = [thinned(one, name) for one, name in zip(series, NAMES)]
    height = person["Height"] if 120.0 <= person["Height"] <= 230.0 else math.nan
    return Patient(person["Age"], person["Gender"], height, series)


def read(folder):
    """All patients with their labels (1: died in hospital), by record number."""
    folder = Path(folder)
    with open(folder / "Outcomes-a_first2000.csv", newline="") as file:
        died = {int(row["RecordID"]): int(row["In-hospital_death"]) for row in csv.DictReader(file)}
    found = []
    with tarfile.open(folder / "cinc2012_set-a_first2000.tar.gz") as tar:
        for member in tar.getmembers():
            if member.name.endswith(".txt"):
                number = int(Path(member.name).stem)
                found.append((number, parse(tar.extractfile(member).read().decode())))
    found.sort(key=lambda one: one[0])
    return [patient for _, patient in found], [died[number] for number, _ in found], [number for number, _ in found]
