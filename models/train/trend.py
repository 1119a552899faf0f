"""Next-hour forecasts: the median by gradient boosting, a 90 % interval by split conformal prediction in bands of past variability."""

import lightgbm as lgb
import numpy as np
from sklearn.model_selection import KFold

import trend_features
from predictor import Output

TREES, FOLDS, SEED = 150, 5, 1
PARAMETERS = dict(objective="regression_l1", learning_rate=0.08, num_leaves=24, min_data_in_leaf=100, feature_fraction=0.5, bagging_fraction=0.5,
                  bagging_freq=1, max_bin=127, num_threads=1, deterministic=True, force_row_wise=True, seed=SEED, verbose=-1)
CALIBRATED, COVERAGE, BANDS = 0.2, 0.9, 8
SPREAD = trend_features.OWN.index("sd_6")


def conformal(errors, level):
    """The error that so large a share of n + 1 errors does not pass."""
    rank = int(np.ceil((len(errors) + 1) * level))
    return float(np.sort(errors)[min(max(rank, 1), len(errors)) - 1])


def bands(spread, errors):
    """Edges of bands of past variability, and the errors' 5 % and 95 % quantile in each; the last is for what is not known."""
    edges = np.unique(np.nanquantile(spread, np.arange(1, BANDS) / BANDS))
    band = np.where(np.isnan(spread), len(edges) + 1, np.searchsorted(edges, spread, side="left"))
    tail = (1.0 - COVERAGE) / 2.0
    low, high = [], []
    for one in range(len(edges) + 2):
        inside = errors[band == one]
        inside = inside if len(inside) >= 50 else errors
        low.append(-conformal(-inside, 1.0 - tail))
        high.append(conformal(inside, 1.0 - tail))
    return edges.tolist(), low, high


def fit(target, names, data, patients, seed):
    """A model from the hours of these patients; a fifth of them is kept for the interval."""
    x, row, _, now, following = data
    patients = np.random.default_rng(seed).permutation(patients)
    kept = int(len(patients) * CALIBRATED)
    known = ~np.isnan(following)
    learn, check = known & np.isin(row, patients[kept:]), known & np.isin(row, patients[:kept])
    booster = lgb.train(PARAMETERS, lgb.Dataset(x[learn], following[learn] - now[learn]), TREES)
    output = Output.of(target, 0, names, booster)
    errors = following[check] - now[check] - output.scores(x[check])
    output.edges, output.low, output.high = bands(x[check][:, SPREAD], errors)
    return output


def baselines(data, x):
    """The best baseline of each kind that needs no model: the value itself and the mean of the last three."""
    following, now = data[4], data[3]
    known = ~np.isnan(following)
    three = now + x[:, trend_features.OWN.index("mean_3")]
    return np.abs(following - now)[known].mean(), np.abs(following - three)[known].mean()


def train(patients, say):
    """The shipped models, and the figures of the same procedure on folds of patients."""
    outputs = []
    for target in trend_features.TARGETS:
        names = trend_features.names(target)
        data = trend_features.features(patients, target)
        x, row, hour, now, following = data
        known = ~np.isnan(following)
        error, inside, width = np.full(len(x), np.nan), np.zeros(len(x), bool), np.full(len(x), np.nan)
        shares = []
        for fold, (learn, test) in enumerate(KFold(FOLDS, shuffle=True, random_state=SEED).split(patients)):
            output = fit(target, names, data, learn, SEED + fold)
            part = known & np.isin(row, test)
            value = now[part] + output.scores(x[part])
            low, high = output.intervals(x[part][:, SPREAD])
            error[part] = np.abs(following[part] - value)
            inside[part] = (following[part] >= value + low) & (following[part] <= value + high)
            width[part] = high - low
            shares.append(inside[part].mean())
        still, three = baselines(data, x)
        say(f"{target}: n {known.sum()}, mean absolute error {np.nanmean(error):.4f} (no change {still:.4f}, mean of three {three:.4f}), "
            f"interval holds {inside[known].mean():.4f} (folds {min(shares):.4f} to {max(shares):.4f}), mean width {np.nanmean(width):.3f}")
        outputs.append(fit(target, names, data, np.arange(len(patients)), SEED))
    return outputs
