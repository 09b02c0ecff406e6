#!/usr/bin/env python3
"""Writes tests/golden/models: small models of other libraries, rows that are hard for them, and what they say of these rows.

usage: models_golden.py [FOLDER]    needs numpy 1.26, scikit-learn, xgboost 1.7 and lightgbm 4 (PyPI)

Each NAME.expected.safetensors has rows (float32), raw (float64, rows x outputs: before the transform) and scores (after it). The
model beside it is NAME.json of XGBoost, NAME.txt of LightGBM; an isolation forest of scikit-learn lies in the same file, in the
form of TreeEnsemble::save().
"""

import json
import pathlib
import struct
import sys

import numpy

TYPES = {"float32": "F32", "float64": "F64", "int32": "I32", "uint32": "U32", "uint64": "U64", "uint8": "U8"}
ROWS = 150


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        array = numpy.ascontiguousarray(array)
        header[name] = {"dtype": TYPES[str(array.dtype)], "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def training_rows(seed, columns=6, rows=600, categories=0):
    """Rows with missing values and zeros, and classes that depend on both."""
    random = numpy.random.default_rng(seed)
    x = random.normal(size=(rows, columns)).astype(numpy.float32)
    x[:, 1] = numpy.round(x[:, 1] * 2)
    x[random.random(x.shape) < 0.1] = numpy.nan
    x[random.random(x.shape) < 0.1] = 0
    if categories:
        x[:, 0] = random.integers(0, categories, rows)
        x[:, 2] = random.integers(0, 3, rows)
        x[random.random(rows) < 0.05, 0] = numpy.nan
    signal = numpy.nan_to_num(x[:, 1]) + 2 * numpy.isnan(x[:, 3]) + (x[:, 4] == 0) * 1.5 + random.normal(size=rows) * 0.3
    signal += numpy.sin(numpy.nan_to_num(x[:, 0]) * 3)
    return x, signal


def hard_rows(x, thresholds, seed, infinite):
    """Rows at, just below and just above each threshold, with zeros of all kinds and missing values."""
    random = numpy.random.default_rng(seed + 1000)
    rows = x[random.integers(0, len(x), ROWS)].copy()
    for column, values in thresholds.items():
        for row in range(0, ROWS, 2):
            near = numpy.float32(values[random.integers(0, len(values))])
            rows[row, column] = [near, numpy.nextafter(near, numpy.float32(9)), numpy.nextafter(near, numpy.float32(-9))][
                random.integers(0, 3)]
    special = [0.0, -0.0, 1e-36, -1e-36, 2e-35, numpy.nan] + ([numpy.inf, -numpy.inf, 1e38] if infinite else [1e30])
    for row in range(ROWS):
        rows[row, random.integers(1, x.shape[1])] = special[row % len(special)]
    return rows


def expected(path, rows, raw, scores):
    shape = (len(rows), -1)
    write_tensors(path, {"rows": rows.astype(numpy.float32), "raw": numpy.asarray(raw, numpy.float64).reshape(shape),
                         "scores": numpy.asarray(scores, numpy.float64).reshape(shape)})


def forest_tensors(forest, columns, thresholds=None):
    """A fitted IsolationForest in the form of TreeEnsemble::save(), under "forest"; its thresholds by column on the side."""
    def c(n):
        return 0.0 if n <= 1 else 1.0 if n == 2 else 2 * (numpy.log(n - 1) + numpy.euler_gamma) - 2 * (n - 1) / n

    nodes = {name: [] for name in ("threshold", "column", "left", "right", "value", "cover", "category_set", "flags")}
    first = []
    for estimator in forest.estimators_:
        tree = estimator.tree_
        first.append(len(nodes["left"]))
        depth = numpy.zeros(tree.node_count)
        for i in range(tree.node_count):
            leaf = tree.children_left[i] < 0
            if not leaf:
                depth[tree.children_left[i]] = depth[tree.children_right[i]] = depth[i] + 1
                if thresholds is not None:
                    thresholds.setdefault(int(tree.feature[i]), []).append(tree.threshold[i])
            # x <= T for floats is x < the next float above the largest that is <= T.
            below = numpy.float32(tree.threshold[i])
            if below > tree.threshold[i]:
                below = numpy.nextafter(below, numpy.float32(-numpy.inf))
            nodes["threshold"].append(numpy.float32(0) if leaf else numpy.nextafter(below, numpy.float32(numpy.inf)))
            nodes["column"].append(0 if leaf else tree.feature[i])
            nodes["left"].append(tree.children_left[i])
            nodes["right"].append(tree.children_right[i])
            nodes["value"].append(depth[i] + c(tree.n_node_samples[i]) if leaf else 0)
            nodes["cover"].append(tree.n_node_samples[i])
            nodes["category_set"].append(2**32 - 1)
            nodes["flags"].append(0)
    types = dict(threshold="f4", column="u4", left="i4", right="i4", value="f4", cover="f4", category_set="u4", flags="u1")
    tensors = {f"forest.node.{name}": numpy.array(values, types[name]) for name, values in nodes.items()}
    tensors.update({
        "forest.shape": numpy.array([1, columns, 1, 4], "u8"), "forest.base": numpy.zeros(1),
        "forest.factor": numpy.array([1 / (len(forest.estimators_) * c(forest.max_samples_))]),
        "forest.zero_is_missing": numpy.zeros(0, "u1"), "forest.tree.first_node": numpy.array(first, "u4"),
        "forest.tree.output": numpy.zeros(len(first), "u4"), "forest.category.first_word": numpy.zeros(0, "u4"),
        "forest.category.words": numpy.zeros(0, "u4"), "forest.category.bits": numpy.zeros(0, "u4")})
    return tensors


def scikit_learn(folder):
    from sklearn.ensemble import IsolationForest
    x, _ = training_rows(1)
    x = numpy.nan_to_num(x)
    forest = IsolationForest(n_estimators=12, max_samples=64, random_state=1).fit(x)
    thresholds = {}
    tensors = forest_tensors(forest, x.shape[1], thresholds)
    rows = numpy.nan_to_num(hard_rows(x, thresholds, 1, False))
    tensors.update({"rows": rows, "scores": -forest.score_samples(rows)})
    write_tensors(folder / "isolation_forest.safetensors", tensors)


def xgboost(folder):
    import xgboost as xgb

    def case(name, parameters, rounds, categories=0, classes=0):
        x, signal = training_rows(len(name), categories=categories)
        y = signal if parameters["objective"] == "reg:squarederror" else numpy.abs(signal)
        if classes:
            y = numpy.digitize(signal, numpy.quantile(signal, numpy.arange(1, classes) / classes))
        types = ["c" if categories and c in (0, 2) else "q" for c in range(x.shape[1])]
        make = lambda values, label=None: xgb.DMatrix(values, label, feature_types=types, enable_categorical=categories > 0)
        booster = xgb.train({"seed": 1, "nthread": 1, "tree_method": "hist", **parameters}, make(x, y), rounds)
        booster.save_model(folder / f"{name}.json")
        thresholds = {}
        for tree in json.loads((folder / f"{name}.json").read_text())["learner"]["gradient_booster"]["model"]["trees"]:
            for left, column, value in zip(tree["left_children"], tree["split_indices"], tree["split_conditions"]):
                if left >= 0 and types[column] == "q":
                    thresholds.setdefault(column, []).append(value)
        rows = hard_rows(x, thresholds, len(name), False)
        if categories:
            rows[::7, 0] = numpy.arange(len(rows[::7])) * 3
            rows[3::11, 2] = 5
        data = make(rows)
        expected(folder / f"{name}.expected.safetensors", rows, booster.predict(data, output_margin=True), booster.predict(data))

    case("xgboost_binary", {"objective": "binary:logistic", "max_depth": 4, "base_score": 0.3}, 10, classes=2)
    case("xgboost_multi", {"objective": "multi:softprob", "num_class": 3, "grow_policy": "lossguide", "max_leaves": 31,
                           "max_depth": 0}, 4, classes=3)
    case("xgboost_poisson", {"objective": "count:poisson", "max_depth": 3}, 6)
    case("xgboost_categorical", {"objective": "reg:squarederror", "max_depth": 5, "max_cat_to_onehot": 4}, 8, categories=50)


def lightgbm(folder):
    import lightgbm as lgb

    def case(name, parameters, rounds, categories=0, classes=0):
        x, signal = training_rows(len(name), categories=categories)
        y = signal
        if classes:
            y = numpy.digitize(signal, numpy.quantile(signal, numpy.arange(1, classes) / classes))
        elif parameters["objective"] == "poisson":
            y = numpy.abs(signal)
        parameters = {"seed": 1, "num_threads": 1, "deterministic": True, "verbose": -1, "min_data_in_leaf": 5, **parameters}
        data = lgb.Dataset(x.astype(numpy.float64), y, categorical_feature=[0, 2] if categories else [], params=parameters)
        booster = lgb.train(parameters, data, rounds)
        booster.save_model(folder / f"{name}.txt")
        thresholds = {}

        def collect(node):
            if "split_feature" not in node:
                return
            if node["decision_type"] == "<=":
                thresholds.setdefault(node["split_feature"], []).append(node["threshold"])
            collect(node["left_child"])
            collect(node["right_child"])

        for tree in booster.dump_model()["tree_info"]:
            collect(tree["tree_structure"])
        rows = hard_rows(x, thresholds, len(name), True)
        if categories:
            rows[::7, 0] = numpy.arange(len(rows[::7])) * 5
            rows[3::11, 2] = 5
            rows[5::13, 0] = -1
            rows[6::17, 0] = 1e9
        wide = rows.astype(numpy.float64)
        # Of a random forest predict() averages, but its raw score is the sum.
        raw = booster.predict(wide, raw_score=True) / (rounds if parameters.get("boosting") == "rf" else 1)
        expected(folder / f"{name}.expected.safetensors", rows, raw, booster.predict(wide))

    case("lightgbm_binary", {"objective": "binary", "num_leaves": 15, "sigmoid": 1.5}, 10, classes=2)
    case("lightgbm_multi", {"objective": "multiclass", "num_class": 3, "num_leaves": 8}, 4, classes=3, categories=60)
    case("lightgbm_zero", {"objective": "regression", "num_leaves": 12, "zero_as_missing": True}, 8)
    case("lightgbm_none", {"objective": "poisson", "num_leaves": 12, "use_missing": False}, 6)
    case("lightgbm_average", {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6,
                              "num_leaves": 10}, 5, classes=2)
    case("lightgbm_categorical", {"objective": "regression", "num_leaves": 20, "max_cat_to_onehot": 4, "cat_smooth": 1},
         6, categories=60)


def main(arguments):
    folder = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parent / "golden" / "models")
    folder.mkdir(parents=True, exist_ok=True)
    scikit_learn(folder)
    xgboost(folder)
    lightgbm(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
