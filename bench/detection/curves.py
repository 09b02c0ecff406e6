"""How good scores are: area under precision and recall, true positives at a share of false ones, each with an interval.

Labels are 0 or 1, higher scores are stranger, equal scores are one step; rows without a score (NaN) are the least suspicious. No state; seeded.
"""

import numpy as np

FALSE_POSITIVE_RATES = (0.001, 0.003, 0.01)


def _filled(scores):
    scores = np.asarray(scores, dtype=np.float64)
    finite = scores[np.isfinite(scores)]
    lowest = finite.min() - 1.0 if finite.size else 0.0
    highest = finite.max() + 1.0 if finite.size else 0.0
    return np.nan_to_num(scores, nan=lowest, posinf=highest, neginf=lowest)


def _average_precision(order_positive, order_weight, is_last):
    """Area under the step curve; equal scores are one step, so that their order cannot matter."""
    found = np.cumsum(order_positive * order_weight)
    seen = np.cumsum(order_weight)
    found, seen = found[is_last], seen[is_last]
    if found.size == 0 or found[-1] <= 0:
        return float("nan")
    gained = np.diff(found, prepend=0.0)
    return float(np.sum(gained * found / np.maximum(seen, 1e-12)) / found[-1])


def _found_at(order_positive, order_weight, is_last, rate):
    """The highest share found at any threshold that flags at most `rate` of the normal rows."""
    positive = np.cumsum(order_positive * order_weight)[is_last]
    negative = np.cumsum((1 - order_positive) * order_weight)[is_last]
    if positive[-1] <= 0 or negative[-1] <= 0:
        return float("nan")
    allowed = negative <= rate * negative[-1] * (1 + 1e-12)
    return float(positive[allowed].max(initial=0.0) / positive[-1])


def _episodes_found(labels, scores, episodes):
    """How many episodes there are, and the share that is found at each rate."""
    members = episodes >= 0
    _, member = np.unique(episodes[members], return_inverse=True)
    highest = np.full(member.max() + 1, -np.inf)
    np.maximum.at(highest, member, scores[members])
    normal = np.sort(scores[labels == 0])[::-1]
    found = {}
    for rate in FALSE_POSITIVE_RATES:
        # The row beyond those that may be flagged by mistake is not flagged, nor is what scores no higher.
        threshold = normal[min(int(rate * normal.size * (1 + 1e-12)), normal.size - 1)]
        found[str(rate)] = float((highest > threshold).mean())
    return int(highest.size), found


def judge(labels, scores, draws=100, seed=0, episodes=None):
    """{"pr_auc", "tpr_at_fpr": {"0.001", ...}, "..._interval": [low, high]}: 95 % of bootstrap draws of single rows. `episodes` names for
    each row the anomaly that it belongs to (-1: none); then "episodes_at_fpr" is the share of them with at least one row above the
    threshold."""
    labels = np.asarray(labels, dtype=np.float64)
    scores = _filled(scores)
    order = np.argsort(-scores, kind="stable")
    positive, ordered = labels[order], scores[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    ones = np.ones_like(positive)
    result = {
        "rows": int(labels.size),
        "anomalies": int(labels.sum()),
        "pr_auc": _average_precision(positive, ones, is_last),
        "tpr_at_fpr": {str(rate): _found_at(positive, ones, is_last, rate) for rate in FALSE_POSITIVE_RATES},
    }
    if episodes is not None:
        result["episodes"], result["episodes_at_fpr"] = _episodes_found(labels, scores, np.asarray(episodes))
    if draws == 0:
        return result
    random = np.random.default_rng(seed)
    drawn = {"pr_auc": [], **{rate: [] for rate in FALSE_POSITIVE_RATES}}
    for _ in range(draws):
        weight = random.poisson(1.0, positive.size).astype(np.float64)
        drawn["pr_auc"].append(_average_precision(positive, weight, is_last))
        for rate in FALSE_POSITIVE_RATES:
            drawn[rate].append(_found_at(positive, weight, is_last, rate))
    low_high = lambda values: [float(v) for v in np.nanquantile(values, (0.025, 0.975))]
    result["pr_auc_interval"] = low_high(drawn["pr_auc"])
    result["tpr_at_fpr_interval"] = {str(rate): low_high(drawn[rate]) for rate in FALSE_POSITIVE_RATES}
    return result
