"""Other software on the same rows: each learns from the past, then scores what is judged.

A peer is `peer(rows) -> scores of rows.future`, higher is stranger. Everything is seeded and uses one thread.
"""

import dataclasses
import subprocess

import numpy as np

SEED = 0


@dataclasses.dataclass
class Rows:
    past: np.ndarray  # rows x columns, float32; may hold NaN
    past_labels: np.ndarray  # 0 or 1
    future: np.ndarray
    categories: list  # indices of the columns that are codes


def filled(rows):
    """Where software takes no NaN: the column's median in the past, and whatever is out of any range cut to it."""
    with np.errstate(all="ignore"):
        medians = np.nan_to_num(np.nanmedian(np.where(np.isfinite(rows.past), rows.past, np.nan), axis=0))
    fill = lambda part: np.clip(np.where(np.isnan(part), medians, part), -1e12, 1e12).astype(np.float64)
    return fill(rows.past), fill(rows.future)


def isolation_forest(rows):
    """Liu, Ting, Zhou 2008, as in scikit-learn: 100 trees of 256 rows."""
    from sklearn.ensemble import IsolationForest

    past, future = filled(rows)
    model = IsolationForest(n_estimators=100, max_samples=256, random_state=SEED, n_jobs=1).fit(past)
    return -model.score_samples(future)


def ecod(rows):
    """Li et al. 2022, as in PyOD, which ranks the judged rows among those of both parts: a look ahead that a stream does not have."""
    from pyod.models.ecod import ECOD

    past, future = filled(rows)
    return ECOD(n_jobs=1).fit(past).decision_function(future)


def half_space_trees(rows, learn_max=20_000):
    """Tan, Ting, Liu 2011, as in river, behind its running scaler to [0, 1]: it learns from the last `learn_max` rows of the past and goes on
    learning while it scores."""
    from river import anomaly, preprocessing

    past, future = filled(rows)
    model = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=25, height=8, window_size=250, seed=SEED)
    names = [str(column) for column in range(past.shape[1])]
    for row in past[-learn_max:]:
        model.learn_one(dict(zip(names, row)))
    scores = np.empty(len(future))
    for index, row in enumerate(future):
        sample = dict(zip(names, row))
        scores[index] = model.score_one(sample)
        model.learn_one(sample)
    return scores


def lightgbm(rows):
    """Boosted trees with labels of the past; log-odds, where there are few labels the mean of three seeds."""
    import lightgbm as library

    few = rows.past_labels.sum() < 2000  # smaller leaves where there is little to learn from
    scores = np.zeros(len(rows.future))
    for seed in range(3 if few else 1):
        model = library.LGBMClassifier(
            n_estimators=150, learning_rate=0.05, num_leaves=31, min_child_samples=20 if few else 50, subsample=0.8, subsample_freq=1,
            colsample_bytree=0.5, reg_lambda=3.0, n_jobs=1, random_state=seed, deterministic=True, force_row_wise=True, verbose=-1)
        model.fit(rows.past, rows.past_labels)
        scores += model.predict(rows.future, raw_score=True) / (3 if few else 1)
    return scores


def random_cut_forest(jars, series, folder):
    """Guha et al. 2016, as AWS's library has it (50 trees of 256 points, its own normalisation, shingles of 8 values or, of many columns, of
    1): each series, past and future, in one pass. `series` are matrices of rows x columns; scores of all rows, series by series. Its
    shingles are the lags: of raw columns that are lags give only the newest."""
    shingle = 8 if series[0].shape[1] == 1 else 1
    with open(folder / "series.bin", "wb") as file:
        for one in series:
            file.write(np.array(one.shape[::-1], dtype=">i4").tobytes() + np.nan_to_num(one).astype(">f4").tobytes())
    command = ["java", "-Xmx1g", "-XX:ActiveProcessorCount=1", "-cp", str(jars / "*") + ":" + str(jars / "libraries" / "*"),
               "alcedo.detection.RandomCutForestScores", folder / "series.bin", folder / "scores.bin", str(shingle)]
    subprocess.run(command, check=True)
    scores = np.fromfile(folder / "scores.bin", dtype=">f8").astype(np.float64)
    for name in ("series.bin", "scores.bin"):
        (folder / name).unlink()
    return scores
