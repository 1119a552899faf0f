"""Features of the forecasts. `crates/analytics/src/predict/trend_features.rs` computes the same, operation by operation.

All patients are taken through the hours together: sums run over arrays in the order in which the other program adds single numbers.
"""

import numpy as np

from observations import NAMES, QUARTER_MIN

TARGETS = ["heart-rate", "resp-rate", "systolic", "mean-pressure", "temperature"]
BESIDE = [*TARGETS, "diastolic"]
HOURS = 48
OWN = ["now", "ago_1", "ago_2", "ago_3", "mean_3", "mean_6", "mean_12", "mean_all", "sd_6", "sd_12", "low_12", "high_12", "smooth_3", "smooth_6",
       "since_h", "count_h", "mean_h", "first_h", "filled"]


def names(target):
    return OWN + [f"{other}.{what}" for other in BESIDE if other != target for what in ("now", "change")] + ["age", "hours"]


def quarters(patients, name):
    """Values and minutes by patient and quarter; nan where there is none."""
    values = np.full((len(patients), HOURS * 4), np.nan)
    minutes = values.copy()
    for row, patient in enumerate(patients):
        for minute, value in patient.series[NAMES.index(name)]:
            values[row, minute // QUARTER_MIN] = value
            minutes[row, minute // QUARTER_MIN] = minute
    return values, minutes


def hourly(values):
    """The last value of each hour."""
    by_hour = values.reshape(len(values), HOURS, 4)
    out = by_hour[:, :, 0].copy()
    for quarter in range(1, 4):
        out = np.where(np.isnan(by_hour[:, :, quarter]), out, by_hour[:, :, quarter])
    return out


def mean_of(filled, count):
    """Mean of the latest `count` filled hours, the latest added first."""
    total, found = np.zeros(len(filled)), np.zeros(len(filled))
    for place in range(count):
        there = ~np.isnan(filled[:, place])
        total = np.where(there, total + np.where(there, filled[:, place], 0.0), total)
        found += there
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(found > 0, total / found, np.nan)


def deviation_of(filled, count):
    """Standard deviation of the latest `count` filled hours; nan for fewer than three."""
    middle = mean_of(filled, count)
    total, found = np.zeros(len(filled)), np.zeros(len(filled))
    for place in range(count):
        there = ~np.isnan(filled[:, place])
        away = np.where(there, filled[:, place], 0.0) - middle
        total = np.where(there, total + away * away, total)
        found += there
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(found >= 3, np.sqrt(total / found), np.nan)


def features(patients, target):
    """Per hour that has a value: features, patient's row, hour, value, and the next hour's value (nan where there is none)."""
    hours = {name: hourly(quarters(patients, name)[0]) for name in BESIDE}
    values, minutes = quarters(patients, target)
    series = hours[target]
    age = np.array([patient.age for patient in patients])
    every = np.stack([quarters(patients, name)[1] for name in BESIDE])
    with np.errstate(invalid="ignore"):
        begun = np.nanmin(np.where(np.isnan(every), np.inf, every), axis=(0, 2))
    filled = np.full((len(patients), HOURS), np.nan)
    smooth = {0.3: np.full(len(patients), np.nan), 0.6: np.full(len(patients), np.nan)}
    out = []
    for hour in range(HOURS):
        now = series[:, hour]
        there = ~np.isnan(now)
        filled[there] = np.hstack([now[there, None], filled[there, :-1]])
        for part, level in smooth.items():
            level[there] = np.where(np.isnan(level[there]), now[there], part * now[there] + (1.0 - part) * level[there])
        at = (hour + 1) * 60.0
        ago = [series[:, hour - back] if hour >= back else np.full(len(now), np.nan) for back in (1, 2, 3)]
        quarter = values[:, hour * 4:hour * 4 + 4]
        clock = minutes[:, hour * 4:hour * 4 + 4]
        total, count, first, latest = np.zeros(len(now)), np.zeros(len(now)), np.full(len(now), np.nan), np.full(len(now), np.nan)
        for place in range(4):
            has = ~np.isnan(quarter[:, place])
            total = np.where(has, total + np.where(has, quarter[:, place], 0.0), total)
            first = np.where(has & np.isnan(first), quarter[:, place], first)
            latest = np.where(has, clock[:, place], latest)
            count += has
        with np.errstate(invalid="ignore", divide="ignore"):
            middle = total / count
        twelve = filled[:, :12]
        with np.errstate(invalid="ignore"):
            low, high = np.fmin.reduce(twelve, axis=1), np.fmax.reduce(twelve, axis=1)
        columns = [
            now, *[one - now for one in ago], *[mean_of(filled, n) - now for n in (3, 6, 12, HOURS)],
            deviation_of(filled, 6), deviation_of(filled, 12), low - now, high - now, smooth[0.3] - now, smooth[0.6] - now,
            (at - latest) / 60.0, count, middle - now, first - now, (~np.isnan(filled)).sum(axis=1).astype(float),
        ]
        for other in BESIDE:
            if other != target:
                value = hours[other][:, hour]
                before = hours[other][:, hour - 1] if hour else np.full(len(now), np.nan)
                columns += [value, value - before]
        columns += [age, (at - begun) / 60.0]
        rows = np.flatnonzero(there)
        following = series[rows, hour + 1] if hour + 1 < HOURS else np.full(len(rows), np.nan)
        out.append((np.stack(columns, axis=1)[rows], rows, np.full(len(rows), hour), now[rows], following))
    return tuple(np.concatenate(parts) for parts in zip(*out))
