#!/usr/bin/env python3
"""Shows that bench/peers refuses features that differ, and that its events and sums are what they should be. Without Java.

usage: peers_test.py CARD_FEATURES
"""

import csv
import importlib.util
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("peers", ROOT / "bench" / "peers" / "peers.py")
peers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(peers)
CARD_FEATURES = None


class Compares(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def rows(self, expected, found):
        columns = "spend.count_1m,spend.mean_1m\n"
        return peers.compare_rows(self.file("a.csv", columns + expected), self.file("b.csv", columns + found))

    def test_equal_vectors_and_nearly_equal_floats_pass(self):
        rows, largest = self.rows("1,nan\n2,1000\n", "1.0,nan\n2.0,1000.005\n")
        self.assertEqual(2, rows)
        self.assertAlmostEqual(5e-6, largest, delta=1e-8)

    def test_what_differs_is_named(self):
        for expected, found, word in (("1,5\n", "1,5.001\n", "spend.mean_1m is 5.001; Alcedo says 5"),
                                      ("1,nan\n", "1,5\n", "spend.mean_1m is 5; Alcedo says nan"),
                                      ("1000000,5\n", "1000001,5\n", "spend.count_1m is 1000001"),
                                      ("1,5\n2,5\n", "1,5\n", "fewer vectors"), ("1,5\n", "1,5\n2,5\n", "more vectors"),
                                      ("", "", "nothing was compared")):
            with self.assertRaisesRegex(peers.Failure, word):
                self.rows(expected, found)
        with self.assertRaisesRegex(peers.Failure, "other columns"):
            peers.compare_rows(self.file("a.csv", "x\n1\n"), self.file("b.csv", "y\n1\n"))

    def test_sums_of_columns_are_compared(self):
        one = {"spend.count_1m": {"present": 3, "sum": 6e9}, "habit.z": {"present": 2, "sum": 1e6}}
        near = {"spend.count_1m": {"present": 3, "sum": 6e9}, "habit.z": {"present": 2, "sum": 1e6 + 1}}
        self.assertAlmostEqual(1e-6, peers.compare_sums(one, near), delta=1e-8)
        for column, field, value in (("habit.z", "sum", 1e6 + 100), ("habit.z", "present", 1), ("spend.count_1m", "sum", 6e9 + 1)):
            other = json.loads(json.dumps(near))
            other[column][field] = value
            with self.assertRaisesRegex(peers.Failure, column):
                peers.compare_sums(one, other)

    def test_windows_are_those_that_cover_the_event(self):
        windows = peers.naive_windows([(61_500, 7, 4.0, 0, 0), (62_000, 7, 6.0, 0, 0)], 60)
        self.assertEqual(61, len(windows))
        self.assertEqual([4.0], windows[7, 62_000])  # it ends where the second event begins
        self.assertEqual([4.0, 6.0], windows[7, 121_000])
        self.assertEqual([6.0], windows[7, 122_000])

        header = "card,end_ms,count,sum,mean,std,min,max\n"
        lines = [f"{card},{end},{len(a)},{sum(a)},{sum(a) / len(a)},{len(a) - 1},{min(a)},{max(a)}\n"
                 for (card, end), a in windows.items()]
        self.assertEqual(61, peers.compare_windows(windows, self.file("w.csv", header + "".join(lines))))
        for wrong, word in ((lines[1:], "60 windows closed; expected 61"), (lines + lines[:1], "closed twice"),
                            (["7,62000,1,5.0,4.0,0,4.0,4.0\n"] + lines[1:], "sum is 5.0; expected 4.0"),
                            (["7,1000,1,4.0,4.0,0,4.0,4.0\n"] + lines[1:], "holds no event")):
            with self.assertRaisesRegex(peers.Failure, word):
                peers.compare_windows(windows, self.file("w.csv", header + "".join(wrong)))

    def test_the_table_has_medians_and_ratios(self):
        runs = {"Alcedo": [{"events": 100, "cpu_seconds": s, "seconds": s, "state_bytes": 3e6, "columns": {}} for s in (1, 4, 2)],
                "peer": [{"events": 10, "cpu_seconds": 1, "seconds": 2}]}
        sides = peers.summary(runs)
        self.assertEqual((50, 1.5, 1), tuple(sides["Alcedo"][k] for k in ("events_per_cpu_second", "spread", "alcedo_times")))
        self.assertEqual((10, 0, 5, 5), tuple(sides["peer"][k] for k in ("events_per_cpu_second", "spread", "alcedo_times",
                                                                         "events_per_second")))
        self.assertIn("| peer | 100,000,000 | 10 | 0% | 5 | 5.0 | - |", peers.table(sides))


class CardFeatures(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.events = pathlib.Path(folder.name) / "events"

    def call(self, *arguments):
        return subprocess.run([CARD_FEATURES, *map(str, arguments)], capture_output=True, text=True, check=False)

    def write(self, cards, events):
        self.assertEqual(0, self.call("write", self.events, "--cards", cards, "--events", events).returncode)
        return list(peers.RECORD.iter_unpack(self.events.read_bytes()))

    def test_the_same_events_each_time_every_card_first(self):
        records = self.write(200, 3000)
        self.assertEqual(3000, len(records))
        self.assertEqual(200, len({record[1] for record in records[:200]}))
        self.assertEqual(200, len({record[1] for record in records}))
        self.assertEqual(records[:1500], self.write(200, 1500))

    def test_columns_are_those_of_a_naive_recompute_of_the_windows(self):
        records = self.write(20, 2000)
        rows = list(csv.DictReader(self.call("rows", self.events, "--events", 2000).stdout.splitlines()))
        self.assertEqual(2000, len(rows))
        clock = {}
        compared = 0
        for i, (time_ms, card, _, _, _) in enumerate(records):
            clock[card] = max(clock.get(card, time_ms), time_ms)
            begin_ms = (clock[card] // 1000 - 59) * 1000
            past = [amount for t, c, amount, _, _ in records[:i] if c == card and t >= begin_ms]
            self.assertEqual(len(past), float(rows[i]["spend.count_1m"]), i)
            self.assertEqual(f"{max(past):g}" if past else "nan", f"{float(rows[i]['spend.max_1m']):g}", i)
            compared += len(past) > 0
        self.assertGreater(compared, 1000)

    def test_sums_are_those_of_the_rows(self):
        self.write(50, 2000)
        rows = list(csv.DictReader(self.call("rows", self.events, "--events", 2000).stdout.splitlines()))
        run = json.loads(self.call("run", self.events, "--warm-up", 1500, "--events", 500).stdout)
        self.assertEqual(500, run["events"])
        self.assertGreater(run["cpu_seconds"], 0)
        self.assertEqual(list(rows[0]), list(run["columns"]))
        for column, sums in run["columns"].items():
            values = [float(row[column]) for row in rows if row[column] != "nan"]
            self.assertEqual(len(values), sums["present"], column)
            self.assertTrue(math.isclose(math.fsum(values), sums["sum"], rel_tol=1e-6, abs_tol=1e-6), column)
        every = self.call("rows", self.events, "--events", 2000, "--every", 7).stdout.splitlines()
        self.assertEqual(1 + 286, len(every))

    def test_a_file_that_is_too_short_is_refused(self):
        self.write(50, 100)
        run = self.call("run", self.events, "--warm-up", 60, "--events", 41)
        self.assertEqual((1, ""), (run.returncode, run.stdout))
        self.assertIn("has 100 events; expected 101", run.stderr)
        run = self.call("rows", str(self.events) + "-none", "--events", 1)
        self.assertEqual(1, run.returncode)
        self.assertIn("cannot be read", run.stderr)
        self.assertEqual(2, self.call("rows", self.events).returncode)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    CARD_FEATURES = sys.argv[1]
    unittest.main(argv=["peers_test"])
