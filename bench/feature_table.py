#!/usr/bin/env python3
"""What an update of features costs one core, as a table in docs/performance.md.

usage: feature_table.py [--build DIR] [--repetitions N]

Runs features_bench and pipeline_bench of `cmake --preset release` in turn, N times (5), writes DIR/bench/features.json and
replaces what stands between the markers of docs/performance.md. Exit codes: 0 measured, 1 a run failed, 2 usage.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- features: written by ./dev bench features -->"
END = "<!-- end of features -->"
# Name in the output, what it is, program, benchmark, goal in events a second, bound in bytes an entity.
ROWS = [
    ("card", "a card: windows, decayed mean, geography", "features_bench", "BM_Update/card/cards:1000000/", 3.5e6, 700),
    ("card_cached", "the same, 1,000 cards", "features_bench", "BM_Update/card/cards:1000/", None, None),
    ("rich_card", "and distinct, quartiles, season", "features_bench", "BM_Update/rich_card/cards:1000000/", 2.5e6, 2300),
    ("rich_card_cached", "the same, 1,000 cards", "features_bench", "BM_Update/rich_card/cards:1000/", None, None),
    ("everything", "all 16 kinds of features", "features_bench", "BM_Update/everything/cards:1000000/", None, 2300),
    ("payments", "pipelines/payments, JSON to vector, 100,000 cards", "pipeline_bench", "BM_Payments/vectors/cards:100000/", 0.8e6,
     None),
]
ONCE = {"everything"}  # for its memory, which is the same in every run


def run_once(build, row):
    name, _, program, benchmark, _, _ = row
    command = [str(build / "release" / program), f"--benchmark_filter=^{benchmark}", "--benchmark_format=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"feature_table: {name}: {program} failed: {done.stderr.strip()[-500:]}")
    results = json.loads(done.stdout)["benchmarks"]
    if len(results) != 1 or results[0].get("error_occurred"):
        sys.exit(f"feature_table: {name}: expected one result of {benchmark}, got {results}")
    return results[0]


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def summary(row, runs):
    name, what, program, benchmark, goal, bytes_max = row
    ns = [one["ns_per_event"] for one in runs]
    median = statistics.median(ns)
    entities = runs[0].get("entities")
    bytes_each = runs[0]["state_MB"] * 1e6 / entities if entities else runs[0]["bytes_per_card"]
    bare = [one["times_bare_memory"] for one in runs if "times_bare_memory" in one]
    return {
        "name": name, "what": what, "program": program, "benchmark": benchmark, "ns_per_event": ns, "median_ns": median,
        "events_per_second": 1e9 / median, "spread": (max(ns) - min(ns)) / median, "bytes_per_entity": bytes_each,
        "times_bare_memory": statistics.median(bare) if bare else None, "goal_events_per_second": goal,
        "bytes_max": bytes_max,
    }


def table(report):
    load = report["load_average"]
    lines = [
        f"{report['processor']}, {report['cores']} cores, load average {load[0]:.1f} to {load[1]:.1f}; one core, CPU time of the "
        f"thread, medians of {report['repetitions']} runs in turn (all 16 kinds: one run):", "",
        "| | ns an event | M events/s | goal | spread | bytes an entity | bound | times a bare loop |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in report["rows"]:
        goal = f"{one['goal_events_per_second'] / 1e6:.1f}" if one["goal_events_per_second"] else "-"
        bound = f"{one['bytes_max']:,}" if one["bytes_max"] else "-"
        bare = f"{one['times_bare_memory']:.1f}" if one["times_bare_memory"] else "-"
        lines.append(f"| {one['what']} | {one['median_ns']:,.0f} | {one['events_per_second'] / 1e6:.2f} | {goal} | "
                     f"{one['spread'] * 100:.0f} % | {one['bytes_per_entity']:,.0f} | {bound} | {bare} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    if options.repetitions < 1:
        parser.error("--repetitions must be at least 1")
    page = PAGE.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        sys.exit(f"feature_table: {PAGE} lacks the markers {BEGIN} and {END}")
    runs = {row[0]: [] for row in ROWS}
    loads = []
    for turn in range(options.repetitions):
        for row in ROWS:
            if turn > 0 and row[0] in ONCE:
                continue
            loads.append(os.getloadavg()[0])
            one = run_once(options.build, row)
            runs[row[0]].append(one)
            print(f"run {turn + 1}: {row[0]}: {one['ns_per_event']:,.0f} ns an event", file=sys.stderr, flush=True)
    report = {
        "processor": processor(), "cores": os.cpu_count(), "load_average": [min(loads), max(loads)],
        "repetitions": options.repetitions, "rows": [summary(row, runs[row[0]]) for row in ROWS],
    }
    path = options.build / "bench" / "features.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text = table(report)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN, 1)
    PAGE.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.split(END, 1)[1], encoding="utf-8")
    print(text)
    print(f"\nresults in {path}; the table is in {PAGE.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
