#!/usr/bin/env python3
"""How well Alcedo detects on labelled sets, beside other software on the same rows; writes docs/detection.md's tables.

usage: detection.py [--data DIR] [--program FILE] [--out DIR] [--quick] [--write] [SET ...]
       ./dev bench detection [THE SAME] builds and installs what it needs before

One pass in time order: models learn from the past part of a set, thresholds and places among rows are judged on the future part. A set
that is not in DIR (default ../shared/data) is skipped, and said so. Results are kept by the content of what they follow from (data, code,
pipeline, program), so a second run only does what changed. --quick: the small sets, without the slow peers. --write: put the tables into
docs/detection.md between its markers. Prints the tables; writes OUT/detection.json. Exit codes: 0 measured, 1 something failed, 2 usage.
"""

import argparse
import functools
import hashlib
import inspect
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np

import curves
import ours
import peers
import sets

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "detection.md"
QUICK_SETS = ("ucsd_fico2009", "nsl_kdd", "hdfs_lines")
# They take seconds for ten thousand rows: never with --quick, nor where more rows than this are judged.
SLOW_PEERS = ("half-space trees",)
SLOW_ROWS_MAX = 100_000
# Name in the tables: (function, whether it needs labels, on what columns).
PEERS = {
    "isolation forest (scikit-learn), raw columns": (peers.isolation_forest, False, "raw"),
    "ECOD (PyOD), raw columns": (peers.ecod, False, "raw"),
    "half-space trees (river), raw columns": (peers.half_space_trees, False, "raw"),
    "isolation forest (scikit-learn), our deviations": (peers.isolation_forest, False, "deviations"),
    "LightGBM with labels, raw columns": (peers.lightgbm, True, "raw"),
    "LightGBM with labels, our features": (peers.lightgbm, True, "ours"),
}


@functools.cache
def digest_of_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(*parts):
    """Of texts, functions (by their source), files and folders."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, pathlib.Path):
            files = sorted(file for file in part.rglob("*") if file.is_file()) if part.is_dir() else [part]
            text = "".join(f"{file.name} {digest_of_file(file)} " for file in files)
        else:
            text = inspect.getsource(part) if callable(part) else str(part)
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:24]


class Kept:
    """Files by what they follow from. A folder or file without its mark was not finished, and is made anew."""

    def __init__(self, folder):
        self.folder = folder

    def made(self, kind, key, make):
        """The path of what make(path) left, or had left before."""
        path = self.folder / kind / key
        mark = path.with_suffix(".done")
        if not mark.exists():
            if path.is_dir():
                shutil.rmtree(path)
            path.mkdir(parents=True)
            make(path)
            mark.touch()
        return path


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.kept = Kept(arguments.out / "detection")
        self.jars = arguments.out / "rcf"  # what Maven made of bench/detection/rcf, if there is a Java

    def prepared(self, name):
        folder, _, function = sets.SETS[name]
        key = digest_of(self.arguments.data / folder, pathlib.Path(sets.__file__), name)
        return key, self.kept.made("sets", f"{name}-{key}", lambda path: function(self.arguments.data / folder, path))

    def replayed(self, name, key, path):
        pipeline = ROOT / "docs" / "examples" / sets.SETS[name][1]
        key = digest_of(key, pipeline, self.arguments.program, ours.columns, ours.train)
        learns = re.search(r"^  \w+:\s*\{(forest|boosted):", (pipeline / "pipeline.yaml").read_text(), re.MULTILINE)

        def make(out):
            files = sorted((path / "events").iterdir())
            options = ()
            if learns:
                past = sorted((path / "past").iterdir())
                ours.train(self.arguments.program, pipeline, past, out / "bundle")
                options = ("--bundle", str(out / "bundle"))
            names, values, seconds = ours.columns(self.arguments.program, pipeline, files, out / "scores.csv", options)
            np.savez(out / "columns.npz", names=np.asarray(names, dtype=str), values=values, seconds=seconds)
            (out / "scores.csv").unlink()

        return self.kept.made("replays", f"{name}-{key}", make)

    def scores(self, name, key, function, rows):
        """What the peer says about the future, group by group, and how long it took. `rows` gives the peers.Rows of each group."""
        key = digest_of(key, function, peers.filled, peers.Rows, Bench.scores)

        def make(out):
            start = time.monotonic()
            scores = np.concatenate([np.asarray(function(group), dtype=np.float64) for group in rows()])
            np.savez(out / "scores.npz", scores=scores, seconds=time.monotonic() - start)

        with np.load(self.kept.made("peers", f"{name}-{function.__name__}-{key}", make) / "scores.npz") as file:
            return file["scores"], float(file["seconds"])

    def cut(self, name, key, series):
        """Random cut forest's scores of all rows of all series."""
        key = digest_of(key, self.jars / "random-cut-forest-peer-1.jar", peers.random_cut_forest)

        def make(out):
            np.save(out / "scores.npy", peers.random_cut_forest(self.jars, series, out))

        return np.load(self.kept.made("peers", f"{name}-random_cut_forest-{key}", make) / "scores.npy")

    def measure(self, name):
        """One set's results: {"rows", "past_rows", "judged", "anomalies", "detectors": {NAME: curves.judge()}}."""
        key, path = self.prepared(name)
        with np.load(path / "truth.npz") as file:
            truth = {field: file[field] for field in file.files}
        future, label, group = truth["future"], truth["label"], truth["group"]
        replay = self.replayed(name, key, path)
        with np.load(replay / "columns.npz") as file:
            names, values, seconds = list(file["names"]), file["values"], float(file["seconds"])
        unit, labels = truth["unit"][future], label[future]
        episodes = episodes_of(labels, group[future]) if group.any() else None
        detectors = {}

        def judge(title, scores, **more):
            by_unit, unit_labels = by_highest(scores, labels, unit)
            detectors[title] = curves.judge(unit_labels, by_unit, episodes=episodes) | more
            say(f"  {title}: PR-AUC {detectors[title]['pr_auc']:.3f}, TPR at 0.3 % {detectors[title]['tpr_at_fpr']['0.003']:.3f}")

        def judged(column):
            """The highest of a row's events."""
            return np.max(np.nan_to_num(values[future, :, names.index(column)], nan=-1e9, posinf=1e9, neginf=-1e9), axis=1)

        pipeline = run_check(self.arguments.program, ROOT / "docs" / "examples" / sets.SETS[name][1])
        for kind in sorted(set(pipeline["kinds"].values())):
            found = {instance: rate_found(judged(f"{instance}.score"), labels, unit)
                     for instance, its in pipeline["kinds"].items() if its == kind}
            best = max(found, key=found.get)
            judge(kind, judged(f"{best}.score"), instance=best)
        judge("ensemble", np.max([judged(f"{type}.score") for type in pipeline["anomalies"]], axis=0),
              events_per_second=round(values.shape[0] * values.shape[1] / max(seconds, 1e-9)))

        coded = set(truth["category_names"])
        # Of many series beside each other only how far each is from its own past: more columns than rows teach nothing.
        wide = values.shape[1] > 1
        columns = {
            "ours": [index for index, column in enumerate(names) if ours.is_feature(column) and (not wide or column.endswith(".z"))],
            "deviations": [index for index, column in enumerate(names) if ours.is_deviation(column) and (not wide or column.endswith(".z"))],
        }
        matrices = {"raw": (truth["raw"], digest_of(key, "raw"), [i for i, column in enumerate(truth["raw_names"]) if column in coded])}
        for what, chosen in columns.items():
            matrix = values[:, :, chosen].reshape(len(values), -1)
            # By what it holds: a threshold that moved makes no model anew.
            matrices[what] = (matrix, digest_of(key, hashlib.sha256(np.ascontiguousarray(matrix)).hexdigest()), [])
        for title, (function, needs_labels, what) in PEERS.items():
            matrix, matrix_key, categories = matrices[what]
            if any(slow in title for slow in SLOW_PEERS) and (self.arguments.quick or len(labels) > SLOW_ROWS_MAX):
                continue
            if matrix.shape[1] == 0 or (needs_labels and label[~future].sum() < 10):
                continue

            def rows():
                for one in np.unique(group):
                    past, then = (group == one) & ~future, (group == one) & future
                    yield peers.Rows(matrix[past], label[past], matrix[then], categories)

            scores, took = self.scores(name, matrix_key, function, rows)
            judge(title, scores, seconds=round(took, 1))
        if episodes is not None and self.jars.is_dir() and shutil.which("java") and not self.arguments.quick:
            lagged = all(re.fullmatch(r"value_\d+", column) for column in truth["raw_names"])
            newest = truth["raw"][:, :1] if lagged else truth["raw"]
            judge("random cut forest (AWS), raw columns", self.cut(name, key, [newest[group == one] for one in np.unique(group)])[future])
        baselines = [detectors[kind]["tpr_at_fpr"]["0.003"] for kind in ("zscore", "iqr") if kind in detectors]
        result = {"rows": int(label.size), "past_rows": int((~future).sum()), "judged": detectors["ensemble"]["rows"],
                  "anomalies": detectors["ensemble"]["anomalies"], "detectors": detectors}
        if baselines and max(baselines) > 0:
            result["uplift_over_best_baseline"] = detectors["ensemble"]["tpr_at_fpr"]["0.003"] / max(baselines) - 1
        return result


    def measure_nab(self):
        """The report of `alcedo evaluate --scoring nab` over all series: its definition of a score is NAB's own, in C++ and tested there."""
        data, pipeline = self.arguments.data / "nab", ROOT / "docs" / "examples" / "nab"
        key = digest_of(data, pipeline, self.arguments.program, Bench.measure_nab)

        def make(out):
            command = [self.arguments.program, "evaluate", pipeline, "--labels", data / "labels" / "combined_windows.json", "--scoring", "nab",
                       "--workers", "1", "--report", out, "--json", "--events", *sorted((data / "data").glob("*/*.csv.gz"))]
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode != 0:
                raise RuntimeError(f"alcedo evaluate: exit code {ran.returncode}: {ran.stderr[-2000:]}")

        report = json.loads((self.kept.made("replays", f"nab-{key}", make) / "report.json").read_text())
        return {"nab": report["nab"], "nab_published": report["nab_published"], "rows": report["rows"]}


def episodes_of(labels, group):
    """For each row the number of its anomaly, a run of labelled rows of one group, or -1."""
    begins = (labels == 1) & (np.concatenate([[True], (labels[1:] != labels[:-1]) | (group[1:] != group[:-1])]))
    return np.where(labels == 1, np.cumsum(begins) - 1, -1)


def by_highest(scores, label, unit):
    """One score and label a unit: its highest of each."""
    _, member = np.unique(unit, return_inverse=True)
    if member.max() + 1 == len(unit):
        return scores, label
    highest = np.full(member.max() + 1, -np.inf)
    np.maximum.at(highest, member, np.nan_to_num(scores, nan=-np.inf))
    labels = np.zeros(member.max() + 1, dtype=np.int8)
    np.maximum.at(labels, member, label)
    return np.where(np.isinf(highest), np.nan, highest), labels


def rate_found(scores, label, unit):
    scores, label = by_highest(scores, label, unit)
    return curves.judge(label, scores, draws=0)["tpr_at_fpr"]["0.003"]


def run_check(program, pipeline):
    """{"kinds": {DETECTOR: KIND}, "anomalies": [NAME]} of a pipeline."""
    told = json.loads(subprocess.run([program, "check", "--json", pipeline], capture_output=True, text=True, check=True).stdout)
    told = told[0] if isinstance(told, list) else told
    text = (pipeline / "pipeline.yaml").read_text()
    kinds = {}
    for detector in told["detectors"]:
        written = re.search(rf"^  {re.escape(detector)}:\s*\{{(\w+):", text, re.MULTILINE)
        if written is None:
            raise RuntimeError(f"{pipeline}: detector {detector} is not written on one line")
        kinds[detector] = written.group(1)
    return {"kinds": {detector: kind for detector, kind in kinds.items() if kind != "absent"}, "anomalies": told["anomalies"]}


def table(name, result):
    """A set's table as Markdown."""
    share = result["anomalies"] / result["judged"]
    by_episode = "episodes" in result["detectors"]["ensemble"]
    about = (f"{result['past_rows']:,} of {result['rows']:,} rows are the past; {result['judged']:,} are judged, {result['anomalies']:,} of "
             f"them anomalous ({share:.2%})")
    about += f", in {result['detectors']['ensemble']['episodes']} episodes." if by_episode else "."
    lines = [f"### {name}", "", about, "", "| detector | PR-AUC | TPR at 0.1 % | 0.3 % | 1 % |" + (" episodes at 0.3 % |" if by_episode else ""),
             "|---|---|---|---|---|" + ("---|" if by_episode else "")]
    for title, it in result["detectors"].items():
        shown = f"{title} (best: `{it['instance']}`)" if "instance" in it else title
        low, high = it["pr_auc_interval"]
        cells = [f"{it['pr_auc']:.3f} ({low:.3f}-{high:.3f})", f"{it['tpr_at_fpr']['0.001']:.3f}"]
        low, high = it["tpr_at_fpr_interval"]["0.003"]
        cells += [f"{it['tpr_at_fpr']['0.003']:.3f} ({low:.3f}-{high:.3f})", f"{it['tpr_at_fpr']['0.01']:.3f}"]
        if by_episode:
            cells.append(f"{it['episodes_at_fpr']['0.003']:.3f}")
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def nab_table(result):
    """NAB's scores, ours beside those that its scoreboard publishes."""
    profiles = ("standard", "reward_low_fp", "reward_low_fn")
    lines = ["### nab", "", f"58 series, {result['rows']:,} rows, 116 windows, scored as NAB does: 0 is what no detection gets, 100 the perfect one.", "",
             "| detector | standard | reward low FP | reward low FN |", "|---|---|---|---|"]
    shown = ("announced_discounted", "announced", "incidents", "ensemble", "sum", "zscore", "iqr")
    rows = [(f"ours, {name}", result["nab"][name]) for name in shown if name in result["nab"]]
    rows += [(f"{name}, published", scores) for name, scores in result["nab_published"].items() if name not in ("Perfect", "Random", "Null")]
    lines += [f"| {title} | " + " | ".join(f"{scores[profile]:.1f}" for profile in profiles) + " |" for title, scores in rows]
    return "\n".join(lines)


def written_into(document, tables):
    """The document with these tables instead of those between its markers; those of sets that were not measured stay."""
    for name, text in tables.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if begin not in document:
            raise RuntimeError(f"docs/detection.md has no '{begin}'")
        head, rest = document.split(begin, 1)
        document = f"{head}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}"
    return document


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help=", ".join([*sets.SETS, "nab"]))
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build" / "release" / "alcedo")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "bench")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    known = [*sets.SETS, "nab"]
    unknown = [name for name in arguments.sets if name not in known]
    if unknown:
        parser.error(f"no set {', '.join(unknown)}; there are: {', '.join(known)}")
    arguments.data = arguments.data.resolve()
    wanted = arguments.sets or (QUICK_SETS if arguments.quick else known)
    bench, results, tables, failed = Bench(arguments), {}, {}, 0
    for name in wanted:
        folder = arguments.data / (sets.SETS[name][0] if name in sets.SETS else name)
        if not folder.is_dir():
            say(f"{name}: skipped, there is no {folder}")
            continue
        say(name)
        try:
            results[name] = bench.measure_nab() if name == "nab" else bench.measure(name)
        except Exception as error:  # the other sets are still worth measuring
            say(f"{name}: {type(error).__name__}: {error}")
            failed += 1
            continue
        tables[name] = nab_table(results[name]) if name == "nab" else table(name, results[name])
        print(tables[name] + "\n", flush=True)
    written = arguments.out / "detection.json"
    earlier = json.loads(written.read_text()) if written.exists() else {}  # of sets that were not asked for this time
    written.write_text(json.dumps(earlier | results, indent=1) + "\n")
    if arguments.write:
        DOCUMENT.write_text(written_into(DOCUMENT.read_text(), tables))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
