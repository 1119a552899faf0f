"""Risk of death in hospital: gradient boosting and a piecewise linear logistic regression, averaged as log-odds."""

import math
import warnings

import lightgbm as lgb
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold

import risk_features
from predictor import Linear, Output

# One model for each length of observation: the longest that a patient has is asked.
HOURS = [12, 24, 48]
TREES, FOLDS, SEEDS = 200, 5, list(range(10))
PARAMETERS = dict(objective="binary", learning_rate=0.045, num_leaves=6, min_data_in_leaf=20, feature_fraction=0.1, bagging_fraction=0.7,
                  bagging_freq=1, lambda_l2=10.0, max_bin=63, num_threads=1, deterministic=True, force_row_wise=True, seed=1, verbose=-1)
# Inverse strength of the ridge penalty, and the share of the trees in the log-odds.
RIDGE_C, SHARE = 0.01, 0.5
# Upper edges of the bands of predicted risk in which the observed rate is counted, and z of a 90 % interval.
EDGES = [0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6]
Z90 = 1.6448536269514722


def sigmoid(score):
    return 1.0 / (1.0 + math.exp(-score))


def scale(x):
    with warnings.catch_warnings():
        # A feature that nobody has in this part: its middle and spread do not matter.
        warnings.simplefilter("ignore", RuntimeWarning)
        low, middle, high = np.nanpercentile(x, [2, 50, 98], axis=0)
    spread = (high - low) / 4.0
    return np.where(np.isnan(middle), 0.0, middle), np.where(spread > 0.0, spread, 1.0)


def fit(hours, x, died):
    """Both parts, from these rows alone."""
    booster = lgb.train(PARAMETERS, lgb.Dataset(x, died), TREES)
    output = Output.of("death-in-hospital", hours, risk_features.names(), booster)
    middle, spread = scale(x)
    z = np.clip((x - middle) / spread, -Linear.CLIP, Linear.CLIP)
    absent = np.isnan(z)
    z = np.where(absent, 0.0, z)
    regression = LogisticRegression(C=RIDGE_C, max_iter=5000, tol=1e-6)
    regression.fit(np.hstack([np.maximum(z, 0.0), np.maximum(-z, 0.0), absent.astype(float)]), died)
    above, below, missing = regression.coef_[0].reshape(3, -1)
    output.linear = Linear(regression.intercept_[0], middle, spread, above, below, missing)
    output.share = SHARE
    return output


def wilson(deaths, count):
    """Wilson's 90 % interval of a rate (Journal of the American Statistical Association 1927;22:209)."""
    if count == 0:
        return 0.0, 1.0
    rate, square = deaths / count, Z90 * Z90
    middle = (rate + square / (2 * count)) / (1 + square / count)
    half = Z90 * math.sqrt(rate * (1 - rate) / count + square / (4 * count * count)) / (1 + square / count)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def bands(risk, died):
    """Patients and deaths in each band of predicted risk."""
    band = np.searchsorted(EDGES, risk, side="left")
    return [(int((band == one).sum()), int(died[band == one].sum()), float(risk[band == one].mean()) if (band == one).any() else math.nan)
            for one in range(len(EDGES) + 1)]


def cross_validated(hours, x, died):
    """Scores of patients that the model did not see, once for each seed."""
    out = []
    for seed in SEEDS:
        score = np.zeros(len(died))
        for learn, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, died):
            score[test] = fit(hours, x[learn], died[learn]).scores(x[test])
        out.append(score)
    return out


def train(patients, died, say):
    died = np.array(died)
    outputs = []
    for hours in HOURS:
        x = np.array([risk_features.features(patient, hours * 60, hours) for patient in patients])
        scores = cross_validated(hours, x, died)
        risks = [1.0 / (1.0 + np.exp(-score)) for score in scores]
        auroc = [roc_auc_score(died, score) for score in scores]
        brier = [brier_score_loss(died, risk) for risk in risks]
        auprc = [average_precision_score(died, score) for score in scores]
        again = [LogisticRegression(C=1e9).fit(score[:, None], died) for score in scores]
        draw = np.random.default_rng(1)
        booted = [roc_auc_score(died[rows], scores[0][rows]) for rows in (draw.integers(0, len(died), len(died)) for _ in range(2000))]
        say(f"{hours} h: AUROC {np.mean(auroc):.4f} (repeats {min(auroc):.4f} to {max(auroc):.4f}; 95 % of resampled patients of the first "
            f"{np.quantile(booted, 0.025):.4f} to {np.quantile(booted, 0.975):.4f}), Brier {np.mean(brier):.4f} ({min(brier):.4f} to {max(brier):.4f}), "
            f"AUPRC {np.mean(auprc):.4f}, calibration slope {np.mean([one.coef_[0, 0] for one in again]):.3f}, "
            f"intercept {np.mean([one.intercept_[0] for one in again]):.3f}, mean risk {np.mean(risks):.4f}, died {died.mean():.4f}")
        # The first repeat: one risk for each patient, by one fit that had not seen the patient, as the shipped model has seen no patient to come.
        table = bands(risks[0], died)
        for edge, (count, deaths, mean) in zip([*EDGES, 1.0], table):
            low, high = wilson(deaths, count)
            say(f"  up to {edge}: {count} patients, predicted {mean:.3f}, died {deaths} ({deaths / max(count, 1):.3f}), 90 % interval {low:.3f} to {high:.3f}")
        output = fit(hours, x, died)
        output.edges = list(EDGES)
        ends = [wilson(deaths, count) for count, deaths, _ in table] + [(0.0, 1.0)]
        output.low, output.high = [low for low, _ in ends], [high for _, high in ends]
        outputs.append(output)
    return outputs
