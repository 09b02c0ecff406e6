#!/usr/bin/env python3
"""The same features by Alcedo and by two Apache Flink jobs, over the same events, each on one core, run after run in turn.

usage: peers.py [--build DIR] [--runs N] [--events N] [--window-events N] [--core N] [--check-only]
       ./dev bench peers [THE SAME] builds what it needs before

First it compares: 20,000 vectors of the ring job with Alcedo's, and every window of the sliding-windows job with one computed
naively here. Only then does it time, and after each run of the ring job it compares the sums of all columns. Prints a table;
writes DIR/bench/peers.json. Exit codes: 0 measured, 1 a run failed or the features differ, 2 usage.
"""

import argparse
import collections
import csv
import itertools
import json
import math
import os
import pathlib
import platform
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CARDS = 1_000_000
WARM_UP = 2_000_000  # events after the first one of each card: the JVM's compiler is done, rings have filled
WINDOW_WARM_UP = 40_000
CHECK_CARDS = 5_000
CHECK_EVENTS = 400_000  # of which every 20th vector is compared: two and a half hours, so that buckets leave every window
CHECK_EVERY = 20
CHECK_WINDOW_EVENTS = 3_000
TOLERANCE = 1e-5
# Numbers that no order of additions may change: what a window counts, and values as they came.
EXACT = ("spend.count", "spend.min", "spend.max", "habit.seen", "habit.history", "travel.places")
RECORD = struct.Struct("<qQddd")  # time_ms, card, amount, latitude, longitude
WINDOWS_S = (60, 300, 3600)
# One core has no use for a parallel collector, the kernel gives the heap its pages before anything is timed, and the young
# generation holds most of what a timed stretch allocates.
JVM = ["-Xms4g", "-Xmx4g", "-Xmn1g", "-XX:+UseSerialGC", "-XX:+UseTransparentHugePages", "-XX:+AlwaysPreTouch"]
# What Flink's own start scripts open to it.
OPENED = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.lang", "java.util", "java.util.concurrent")]


class Failure(Exception):
    """What happened, where, what was expected."""


def run_to_end(command, **options):
    """The command's stdout; its stderr goes into the failure."""
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Failure(f"{command[0]} ended with status {done.returncode}; its last words:\n{done.stderr[-3000:]}")
    return done.stdout


def difference(expected, found, exact):
    """How far apart two numbers are, relative to the larger; 0 for two missing ones, infinite where only one is missing."""
    if math.isnan(expected) or math.isnan(found):
        return 0.0 if math.isnan(expected) and math.isnan(found) else math.inf
    if expected == found:
        return 0.0
    # Below 1 a deviation of 1e-5 is one of 1e-5, not of a share of it: a distance may be nothing but rounding.
    return math.inf if exact else abs(expected - found) / max(1.0, abs(expected), abs(found))


def is_exact(column):
    return column.startswith(EXACT)


def compare_rows(expected_path, found_path):
    """Two CSVs of vectors. Returns (rows, largest difference); raises Failure at the first that is too large."""
    largest = 0.0
    rows = 0
    with open(expected_path, encoding="utf-8") as expected_file, open(found_path, encoding="utf-8") as found_file:
        expected_rows = csv.reader(expected_file)
        found_rows = csv.reader(found_file)
        columns = next(expected_rows, None)
        if columns is None or columns != next(found_rows, None):
            raise Failure(f"{found_path}: other columns than {expected_path}")
        for expected, found in itertools.zip_longest(expected_rows, found_rows):
            if expected is None or found is None:
                raise Failure(f"{found_path}: {'more' if expected is None else 'fewer'} vectors than {expected_path}, {rows}")
            rows += 1
            for column, one, other in zip(columns, expected, found, strict=True):
                apart = difference(float(one), float(other), is_exact(column))
                largest = max(largest, apart)
                if apart > TOLERANCE:
                    raise Failure(f"{found_path}: vector {rows}: {column} is {other}; Alcedo says {one}")
    if rows == 0:
        raise Failure(f"{expected_path}: no vectors; nothing was compared")
    return rows, largest


def compare_sums(expected, found):
    """Presence and sum of each column over all events of a run. Returns the largest difference, or raises Failure."""
    if not expected or expected.keys() != found.keys():
        raise Failure("the runs' columns are not the same")
    largest = 0.0
    for column, one in expected.items():
        other = found[column]
        if one["present"] != other["present"]:
            raise Failure(f"{column}: present in {other['present']} vectors of the ring job, in {one['present']} of Alcedo's")
        apart = difference(one["sum"], other["sum"], is_exact(column))
        largest = max(largest, apart)
        if apart > TOLERANCE:
            raise Failure(f"{column}: sums to {other['sum']} in the ring job, to {one['sum']} in Alcedo")
    return largest


def naive_windows(records, window_s):
    """{(card, end_ms): amounts} of every sliding window that holds an event."""
    slide_ms = window_s * 1000 // 60
    windows = collections.defaultdict(list)
    for time_ms, card, amount, _, _ in records:
        first_end_ms = time_ms - time_ms % slide_ms + slide_ms
        for step in range(60):
            windows[card, first_end_ms + step * slide_ms].append(amount)
    return windows


def compare_windows(windows, path):
    """The naive windows with those that the job wrote. Returns how many; raises Failure at the first that differs."""
    seen = set()
    with open(path, encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (int(row["card"]), int(row["end_ms"]))
            amounts = windows.get(key)
            if amounts is None or key in seen:
                raise Failure(f"{path}: card {key[0]}, window that ends at {key[1]}: " +
                              ("holds no event" if amounts is None else "closed twice"))
            seen.add(key)
            mean = math.fsum(amounts) / len(amounts)
            std = math.sqrt(math.fsum((amount - mean) ** 2 for amount in amounts) / len(amounts))
            for name, expected in (("count", len(amounts)), ("sum", math.fsum(amounts)), ("min", min(amounts)),
                                   ("max", max(amounts)), ("mean", mean), ("std", std)):
                if difference(expected, float(row[name]), name in ("count", "min", "max")) > TOLERANCE:
                    raise Failure(f"{path}: card {key[0]}, window that ends at {key[1]}: {name} is {row[name]}; "
                                  f"expected {expected}")
    if len(seen) != len(windows):
        raise Failure(f"{path}: {len(seen)} windows closed; expected {len(windows)}")
    return len(seen)


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread(values):
    """Largest less smallest, as a share of the median."""
    return (max(values) - min(values)) / median(values)


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


class Bench:
    def __init__(self, given):
        self.build = pathlib.Path(given.build)
        self.given = given
        self.card_features = self.build / "release" / "card_features"
        self.events = self.build / "bench" / "peers.events"
        flink = self.build / "bench" / "flink"
        self.class_path = f"{flink / 'flink-peers-1.jar'}:{flink / 'lib'}/*"
        self.pinned = ["taskset", "-c", str(given.core)]

    def alcedo(self):
        return json.loads(run_to_end([*self.pinned, self.card_features, "run", self.events, "--warm-up", CARDS + WARM_UP,
                                      "--events", self.given.events]))

    def features_bench(self):
        """The micro-benchmark: the stage alone; making its events is not measured."""
        report = json.loads(run_to_end([*self.pinned, self.build / "release" / "features_bench",
                                        "--benchmark_filter=/card/cards:1000000/", "--benchmark_format=json"]))
        one = report["benchmarks"][0]
        return {"events": 1e9, "cpu_seconds": one["ns_per_event"], "seconds": one["clock_ns_per_event"]}

    def java(self, job, *arguments):
        return json.loads(run_to_end([*self.pinned, "java", *JVM, *OPENED, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
                                      "-cp", self.class_path, f"alcedo.peers.{job}", *arguments]))

    def rings(self, exchange):
        return self.java("RingArrayJob", "--file", self.events, "--warm-up", CARDS + WARM_UP, "--events", self.given.events,
                         "--exchange", exchange)

    def windows(self):
        return self.java("SlidingWindowsJob", "--file", self.events, "--first", CARDS, "--warm-up", WINDOW_WARM_UP, "--events",
                         self.given.window_events)

    def check(self):
        folder = self.build / "bench"
        events = folder / "peers-check.events"
        run_to_end([self.card_features, "write", events, "--cards", CHECK_CARDS, "--events", CHECK_EVENTS])
        expected = folder / "peers-alcedo.csv"
        expected.write_text(run_to_end([self.card_features, "rows", events, "--events", CHECK_EVENTS, "--every", CHECK_EVERY]),
                            encoding="utf-8")
        found = folder / "peers-rings.csv"
        self.java("RingArrayJob", "--file", events, "--events", CHECK_EVENTS, "--rows", found, "--every", CHECK_EVERY)
        rows, largest = compare_rows(expected, found)
        print(f"rings: {rows} vectors as Alcedo's; counts, minima and maxima equal, the rest within {largest:.1e}", flush=True)

        panes = folder / "peers-windows.csv"
        self.java("SlidingWindowsJob", "--file", events, "--first", CHECK_CARDS, "--events", CHECK_WINDOW_EVENTS, "--panes", panes)
        with open(events, "rb") as file:
            file.seek(CHECK_CARDS * RECORD.size)
            records = list(RECORD.iter_unpack(file.read(CHECK_WINDOW_EVENTS * RECORD.size)))
        closed = sum(compare_windows(naive_windows(records, window), f"{panes}.{window}") for window in WINDOWS_S)
        print(f"sliding windows: {closed} windows as a naive recompute has them", flush=True)

    def measure(self):
        run_to_end([self.card_features, "write", self.events, "--cards", CARDS, "--events", CARDS + WARM_UP + self.given.events])
        sides = {
            "Alcedo": self.alcedo,
            "Alcedo, features_bench card/": self.features_bench,
            "Flink, ring arrays, one chain": lambda: self.rings("no"),
            "Flink, ring arrays, keyBy exchange": lambda: self.rings("yes"),
            "Flink, sliding windows": self.windows,
        }
        runs = {name: [] for name in sides}
        for turn in range(self.given.runs):
            for name, side in sides.items():
                one = side()
                runs[name].append(one)
                print(f"run {turn + 1}: {name}: {one['cpu_seconds'] / one['events'] * 1e9:,.0f} ns of CPU an event", flush=True)
                if "ring" in name:
                    compare_sums(runs["Alcedo"][turn]["columns"], one["columns"])
        return runs


def summary(runs):
    """Of each side: medians over its runs, and how many times Alcedo's events a CPU second are its own."""
    cpu = {name: [one["events"] / one["cpu_seconds"] for one in all_runs] for name, all_runs in runs.items()}
    alcedo = median(cpu["Alcedo"])
    return {
        name: {
            "events_per_cpu_second": median(cpu[name]),
            "spread": spread(cpu[name]),
            "events_per_second": median([one["events"] / one["seconds"] for one in all_runs]),
            "ns_per_event": 1e9 / median(cpu[name]),
            "alcedo_times": alcedo / median(cpu[name]),
            "state_bytes": all_runs[-1].get("state_bytes"),
            "runs": [{key: value for key, value in one.items() if key != "columns"} for one in all_runs],
        }
        for name, all_runs in runs.items()
    }


def table(sides):
    lines = ["| on one core | ns of CPU an event | events a CPU second | spread | events/s by the clock | Alcedo is faster by | "
             "state, MB |", "|---|---|---|---|---|---|---|"]
    for name, side in sides.items():
        state = f"{side['state_bytes'] / 1e6:,.0f}" if side["state_bytes"] else "-"
        times = f"{side['alcedo_times']:,.1f}" if side["alcedo_times"] < 100 else f"{side['alcedo_times']:,.0f}"
        lines.append(f"| {name} | {side['ns_per_event']:,.0f} | {side['events_per_cpu_second']:,.0f} | {side['spread']:.0%} | "
                     f"{side['events_per_second']:,.0f} | {times} | {state} |")
    return "\n".join(lines)


def flink_version(lib):
    """From the name of a jar of the class path."""
    names = sorted(pathlib.Path(lib).glob("flink-streaming-java-*.jar"))
    return names[0].stem.rsplit("-", 1)[1] if names else "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(ROOT / "build"))
    parser.add_argument("--runs", type=int, default=3, help="how many times each side is timed, in turn")
    parser.add_argument("--events", type=int, default=6_000_000, help="timed events of Alcedo and the ring job")
    parser.add_argument("--window-events", type=int, default=20_000, help="timed events of the sliding-windows job")
    parser.add_argument("--core", type=int, default=0, help="the core that everything timed runs on")
    parser.add_argument("--check-only", action="store_true", help="compare the features, time nothing")
    given = parser.parse_args()
    if min(given.runs, given.events, given.window_events) < 1:
        parser.error("--runs, --events and --window-events are at least 1")
    bench = Bench(given)
    try:
        bench.check()
        if given.check_only:
            return 0
        runs = bench.measure()
    except Failure as failure:
        print(f"peers: {failure}", file=sys.stderr)
        return 1
    sides = summary(runs)
    java = run_to_end(["java", "--version"]).splitlines()[0]
    flink = flink_version(bench.build / "bench" / "flink" / "lib")
    report = {"cpu": cpu_name(), "cores": os.cpu_count(), "load_average_1m": os.getloadavg()[0], "flink": flink, "java": java,
              "jvm": JVM, "cards": CARDS, "sides": sides}
    path = bench.build / "bench" / "peers.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\n{cpu_name()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; Flink {flink}, {java}, "
          f"{' '.join(JVM)}\n")
    print(table(sides))
    print(f"\nresults in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
