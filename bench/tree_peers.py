#!/usr/bin/env python3
"""Trees by Alcedo and by the libraries that trained them: the same models, the same rows, one thread, run after run in turn.

usage: tree_peers.py [--build DIR] [--runs N]     needs numpy 1.26, scikit-learn, xgboost 1.7 and lightgbm 4 (PyPI)
       ./dev bench models [THE SAME] builds what it needs before, and installs these in build/bench/python

100 isolation trees of 256 rows, and 300 boosted trees of 31 leaves, over 40 columns. Before anything is timed, Alcedo's scores are
compared with the library's to 1e-5. The peers are called from Python: of a row alone, most of their time is the call. Where
tl2cgen is installed too, the trees that it compiles to C are measured as well. Prints a table, rows a second, medians; writes
DIR/bench/models.json: all benchmarks of models_bench, and "peers". Exit codes: 0 measured, 1 failed, 2 usage.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy  # noqa: E402  after the number of threads is said

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import models_golden  # noqa: E402  the form of golden models

COLUMNS, ROWS, ALONE = 40, 4096, 300
SECONDS = 1.0  # of each timing


def training_rows():
    random = numpy.random.default_rng(1)
    x = random.normal(size=(20_000, COLUMNS)).astype(numpy.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] + numpy.sin(x[:, 3] * 2) + random.normal(size=len(x)) > 1).astype(int)
    return x, y


def make_models(folder):
    """By name, what scores rows: a function from rows to scores."""
    import lightgbm
    import xgboost
    x, y = training_rows()
    rows = numpy.random.default_rng(2).normal(size=(ROWS, COLUMNS)).astype(numpy.float32)
    peers = {}

    from sklearn.ensemble import IsolationForest
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=1).fit(x)
    tensors = models_golden.forest_tensors(forest, x.shape[1])
    models_golden.write_tensors(folder / "forest.safetensors", tensors)
    scores = -forest.score_samples(rows)
    models_golden.expected(folder / "forest.expected.safetensors", rows, scores, scores)
    peers["forest"] = {"scikit-learn": lambda part: forest.score_samples(part)}

    missing = rows.copy()
    missing[numpy.random.default_rng(3).random(rows.shape) < 0.05] = numpy.nan
    booster = xgboost.train({"objective": "binary:logistic", "tree_method": "hist", "grow_policy": "lossguide", "max_leaves": 31,
                             "max_depth": 0, "eta": 0.1, "nthread": 1, "seed": 1}, xgboost.DMatrix(x, y), 300)
    booster.save_model(folder / "xgboost.json")
    scores = booster.inplace_predict(missing)
    models_golden.expected(folder / "xgboost.expected.safetensors", missing, scores, scores)
    peers["xgboost"] = {"XGBoost": lambda part: booster.inplace_predict(part)}
    if importlib.util.find_spec("tl2cgen") and importlib.util.find_spec("treelite"):
        try:
            peers["xgboost"]["tl2cgen"] = compiled_trees(booster, folder)
        except Exception as fault:  # noqa: BLE001  a peer that cannot be built is one less
            print(f"tl2cgen: {fault}", file=sys.stderr)

    light = lightgbm.train({"objective": "binary", "num_leaves": 31, "num_threads": 1, "seed": 1, "verbose": -1},
                           lightgbm.Dataset(x, y), 300)
    light.save_model(folder / "lightgbm.txt")
    scores = light.predict(missing, num_threads=1)
    models_golden.expected(folder / "lightgbm.expected.safetensors", missing, scores, scores)
    peers["lightgbm"] = {"LightGBM": lambda part: light.predict(part, num_threads=1)}
    return {"forest": rows, "xgboost": missing, "lightgbm": missing}, peers


def compiled_trees(booster, folder):
    import tl2cgen
    import treelite
    model = treelite.frontend.from_xgboost(booster)
    library = folder.parent / "tl2cgen.so"
    tl2cgen.export_lib(model, toolchain="gcc", libpath=str(library), params={"parallel_comp": 8}, verbose=False)
    predictor = tl2cgen.Predictor(str(library), nthread=1)
    return lambda part: predictor.predict(tl2cgen.DMatrix(part, dtype="float32"))


def rows_per_second(score, rows, together):
    parts = [rows] if together else [rows[i:i + 1] for i in range(ALONE)]
    for part in parts[:3]:
        score(part)
    done, start = 0, time.process_time()
    while time.process_time() - start < SECONDS:
        for part in parts:
            score(part)
            done += len(part)
    return done / (time.process_time() - start)


def own_rates(program, folder):
    out = folder.parent / "own.json"
    subprocess.run([program, "--benchmark_filter=imported/", f"--benchmark_out={out}", "--benchmark_out_format=json"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                   env={**os.environ, "ALCEDO_BENCH_MODELS": str(folder)})
    runs = json.loads(out.read_text())["benchmarks"]
    return {tuple(run["name"].split("/")[1:3]): run["items_per_second"] for run in runs}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    program = options.build / "release" / "models_bench"
    folder = options.build / "bench" / "models" / "trained"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows, peers = make_models(folder)
    rates = {}
    for _ in range(options.runs):
        for (model, mode), rate in own_rates(program, folder).items():
            rates.setdefault((model, mode, "Alcedo"), []).append(rate)
        for model, libraries in peers.items():
            for library, score in libraries.items():
                for mode in ("alone", "batch"):
                    rate = rows_per_second(score, rows[model], mode == "batch")
                    rates.setdefault((model, mode, library), []).append(rate)
    results = [{"model": model, "mode": mode, "by": by, "rows_per_second": statistics.median(values), "runs": values}
               for (model, mode, by), values in sorted(rates.items())]
    for result in results:
        print(f"{result['model']:10} {result['mode']:6} {result['by']:14} {result['rows_per_second']:14,.0f} rows/s")
    out = options.build / "bench" / "models.json"
    subprocess.run([program, f"--benchmark_out={out}", "--benchmark_out_format=json"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)
    document = json.loads(out.read_text())
    document["peers"] = {"columns": COLUMNS, "rows": ROWS, "threads": 1, "results": results}
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"results in {out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as fault:
        print(f"{fault}\n{(fault.stderr or b'').decode()[-2000:]}", file=sys.stderr)
        sys.exit(1)
