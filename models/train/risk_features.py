"""Features of the deterioration risk. `crates/analytics/src/predict/risk_features.rs` computes the same, operation by operation."""

import math

from observations import NAMES

NAN = math.nan
# Of these: everything. Of the others: what a value measured a few times a day can say.
FULL = 12
SUMMARY_FULL = ["first", "last", "min", "max", "mean", "sd", "slope_per_h", "per_day", "since_h", "late_mean", "late_min", "late_max", "late_change"]
SUMMARY_SOME = ["first", "last", "min", "max", "mean", "per_day", "since_h", "change"]
LATE_MIN = 12 * 60
DERIVED = [
    "age", "male", "height", "body_mass_index", "observed_h",
    "shock_index_last", "shock_index_mean", "shock_index_late", "pulse_pressure_last", "oxygenation_last", "oxygenation_min", "saturation_over_oxygen",
    "urea_over_creatinine", "anion_gap_like", "base_like", "urine_per_h", "urine_late_per_h", "urine_per_kg_h",
    "coma_worst_change", "coma_by_age", "urea_by_age", "low_pressure_share", "fast_heart_share", "low_saturation_share", "fever_share",
    "ventilated_share", "fast_breath_share", "measured_variables",
]


def names():
    out = [f"{name}.{what}" for place, name in enumerate(NAMES) for what in (SUMMARY_FULL if place < FULL else SUMMARY_SOME)]
    return out + DERIVED


def mean(values):
    if not values:
        return NAN
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def over(a, b):
    return a / b if b != 0.0 else NAN


def summary(series, at, observed_h, full):
    """The numbers of one variable; hours from minutes by division, sums in the order of time."""
    some = SUMMARY_FULL if full else SUMMARY_SOME
    if not series:
        out = [NAN] * len(some)
        out[some.index("per_day")] = 0.0
        return out
    values = [value for _, value in series]
    first, last, middle = values[0], values[-1], mean(values)
    low, high = min(values), max(values)
    per_day = len(values) / observed_h * 24.0
    since = (at - series[-1][0]) / 60.0
    if not full:
        return [first, last, low, high, middle, per_day, since, last - first]
    hours = [(minute - at) / 60.0 for minute, _ in series]
    centre = mean(hours)
    squares = along = across = 0.0
    for hour, value in zip(hours, values):
        squares += (value - middle) * (value - middle)
        along += (hour - centre) * (hour - centre)
        across += (hour - centre) * (value - middle)
    sd = math.sqrt(squares / len(values))
    slope = across / along if along > 0.0 else NAN
    late = [value for minute, value in series if minute >= at - LATE_MIN]
    early = [value for minute, value in series if minute < at - LATE_MIN]
    late_mean = mean(late)
    return [first, last, low, high, middle, sd, slope, per_day, since, late_mean,
            min(late) if late else NAN, max(late) if late else NAN, late_mean - mean(early)]


def share(values, test):
    if not values:
        return NAN
    return sum(1 for value in values if test(value)) / len(values)


def features(patient, at, hours):
    """All features at minute `at`, from what was measured in so many hours before it."""
    window = [[(m, v) for m, v in one if at - 60 * hours <= m < at] for one in patient.series]
    begun = min((one[0][0] for one in window if one), default=at)
    observed_h = max((at - begun) / 60.0, 1.0)
    parts = [summary(one, at, observed_h, place < FULL) for place, one in enumerate(window)]
    out = [value for part in parts for value in part]

    def of(name, what):
        place = NAMES.index(name)
        return parts[place][(SUMMARY_FULL if place < FULL else SUMMARY_SOME).index(what)]

    def values(name):
        return [value for _, value in window[NAMES.index(name)]]

    age = patient.age
    metres = patient.height / 100.0
    oxygen = of("inspired-oxygen", "last")
    urine = window[NAMES.index("urine")]
    urine_sum = mean([v for _, v in urine]) * len(urine) if urine else NAN
    late = [v for m, v in urine if m >= at - LATE_MIN]
    urine_late = mean(late) * len(late) if late else NAN
    weight = of("weight", "mean")
    out += [
        age, patient.male, patient.height, over(weight, metres * metres), observed_h,
        over(of("heart-rate", "last"), of("systolic", "last")), over(of("heart-rate", "mean"), of("systolic", "mean")),
        over(of("heart-rate", "late_mean"), of("systolic", "late_mean")),
        of("systolic", "last") - of("diastolic", "last"), over(of("pao2", "last"), oxygen),
        over(of("pao2", "min"), of("inspired-oxygen", "max")), over(of("oxygen-saturation", "last"), oxygen),
        over(of("urea-nitrogen", "last"), of("creatinine", "last")), of("sodium", "last") - of("bicarbonate", "last"),
        of("bicarbonate", "last") - of("paco2", "last"), urine_sum / observed_h, urine_late / 12.0, over(urine_sum / observed_h, weight),
        of("glasgow-coma-scale", "last") - of("glasgow-coma-scale", "min"), (15.0 - of("glasgow-coma-scale", "last")) * age,
        of("urea-nitrogen", "last") * age, share(values("mean-pressure"), lambda v: v < 65.0),
        share(values("heart-rate"), lambda v: v > 110.0), share(values("oxygen-saturation"), lambda v: v < 92.0),
        share(values("temperature"), lambda v: v > 38.3), over(float(sum(1 for v in values("ventilated") if v > 0.5)), observed_h),
        share(values("resp-rate"), lambda v: v > 24.0), float(sum(1 for one in window if one)),
    ]
    return out
