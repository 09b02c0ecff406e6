#!/usr/bin/env python3
"""The feature service of a running pipeline says what `replay --scores` wrote for each entity's newest event.

usage: serving_test.py ALCEDO
"""

import csv
import json
import pathlib
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

PIPELINE = """\
pipeline: shop
events: {id: id, time: time, money: [amount, currency], private: [card]}
entities: {card: card, shop: shop}
features:
  spend: {rolling: amount, by: card, windows: [1m, 1h]}
  habit: {baseline: amount, by: card, min_history: 5}
  crowd: {velocity: events, by: shop, windows: [1m, 1h]}
detectors: {habit_z: {zscore: [habit]}, crowd_z: {zscore: [crowd.events_1m]}}
anomalies: {odd: {votes: {habit_z: 1, crowd_z: 1}, fire: {threshold: 5}}}
score: {by: card}
alerts: [{to: file, default: true}]
calibrate_events: 500
"""
KEY = "000102030405060708090a0b0c0d0e0f"


def float32(text):
    return struct.unpack("f", struct.pack("f", float(text)))[0]


class ServingTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.work = pathlib.Path(folder.name)
        (self.work / "p.yaml").write_text(PIPELINE, encoding="utf-8")
        # In order of time, so that the newest event of an entity is its last one.
        rows = []
        state = 12345
        for i in range(3000):
            state = (state * 1103515245 + 12345) % 2**31
            row = {"id": f"e{i}", "time": 1700000000 + 3 * i, "card": f"c{state // 7 % 40}", "shop": f"s|{state // 11 % 9}",
                   "currency": ("EUR", "USD")[state // 13 % 2]}
            row["amount"] = state // 17 % 10000 / 100
            rows.append(row)
        (self.work / "e.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.rows = rows
        # Private keys hash alike in both commands.
        data = self.work / "data" / "shop"
        data.mkdir(parents=True)
        (data / "private.key").write_text(KEY + "\n", encoding="utf-8")
        replay = subprocess.run([ALCEDO, "replay", "p.yaml", "--events", "e.ndjson", "--scores", "s.csv"], cwd=self.work,
                                capture_output=True, text=True, timeout=60, check=False,
                                env={"ALCEDO_PRIVATE_KEY": KEY, "PATH": "/usr/bin:/bin"})
        self.assertEqual(0, replay.returncode, replay.stderr)
        with open(self.work / "s.csv", encoding="utf-8") as file:
            self.scores = {row["id"]: row for row in csv.DictReader(file)}

    def start(self, *more):
        run = subprocess.Popen([ALCEDO, "run", "p.yaml", "--events", "e.ndjson", "--follow", "--data", "data",
                                "--listen", "127.0.0.1:0", "--json", *more], cwd=self.work, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (run.poll() is None and run.kill(), run.communicate()))
        while True:
            line = run.stderr.readline()
            self.assertTrue(line, "the service ended before it said where it listens")
            if found := re.search(r"serving features on (http://127\.0\.0\.1:\d+)", line):
                return run, found.group(1)

    def ask(self, url, body):
        request = urllib.request.Request(url + "/get-online-features", json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def wait_for(self, url, entities, time_ms):
        """Until the vector of the file's last event is there."""
        expected = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ms)) + ".000Z"
        until = time.monotonic() + 30
        while time.monotonic() < until:
            answer = self.ask(url, {"features": ["crowd:gap_s"], "entities": entities})
            if answer["results"][-1]["event_timestamps"] == [expected]:
                return
            time.sleep(0.02)
        self.fail(f"no vector of {expected} within 30 s: {answer}")

    def check(self, answer, keys, last, columns):
        """Every value of `answer` against the scores of the newest event of each entity."""
        names = answer["metadata"]["feature_names"][keys:]
        self.assertEqual([c.replace(".", "__", 1) for c in columns], names)
        checked = nulls = 0
        for column, result in zip(columns, answer["results"][keys:]):
            for value, status, row in zip(result["values"], result["statuses"], last, strict=True):
                cell = self.scores[row["id"]][column]
                if cell == "":
                    self.assertEqual((None, "NULL_VALUE"), (value, status), (column, row))
                    nulls += 1
                else:
                    self.assertEqual((float32(cell), "PRESENT"), (float32(value), status), (column, row))
                checked += 1
            stamps = [time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(row["time"])) for row in last]
            self.assertEqual(stamps, result["event_timestamps"])
        return checked, nulls

    def test_vectors_are_those_of_the_newest_events(self):
        run, url = self.start()
        newest = {}
        shops = {}
        for row in self.rows:
            newest[row["card"], row["currency"]] = row
            shops[row["shop"]] = row
        self.wait_for(url, {"shop": [self.rows[-1]["shop"]]}, self.rows[-1]["time"])
        columns = list(self.scores["e0"])
        by_card = [c for c in columns if c.startswith(("spend.", "habit.")) and c in columns[4:]]
        by_card = [c for c in by_card if not c.endswith((".score", ".surprise", ".fired"))]
        by_shop = [c for c in columns if c.startswith("crowd.")]

        entities = {"card": [card for card, _ in newest], "currency": [currency for _, currency in newest]}
        answer = self.ask(url, {"feature_service": "shop", "entities": entities, "full_feature_names": True})
        self.assertEqual(["card", "currency"], answer["metadata"]["feature_names"][:2])
        checked, _ = self.check(answer, 2, list(newest.values()), by_card)
        self.assertGreater(checked, 1000)
        answer = self.ask(url, {"feature_service": "shop", "entities": {"shop": list(shops)}, "full_feature_names": True})
        self.check(answer, 1, list(shops.values()), by_shop)

        # By the hash that alerts show, too; the old times are outside any age, and nobody is not found.
        hashed = self.scores[self.rows[-1]["id"]]["card"]
        self.assertRegex(hashed, "^h:")
        currency = self.rows[-1]["currency"]
        answer = self.ask(url, {"features": ["spend:sum_1h"], "max_age": "1h",
                                "entities": {"card": [hashed, "nobody"], "currency": [currency, currency]}})
        self.assertEqual(["OUTSIDE_MAX_AGE", "NOT_FOUND"], answer["results"][2]["statuses"])

        with self.assertRaises(urllib.error.HTTPError) as refused:
            self.ask(url, {"features": ["spent:sum_1h"], "entities": entities})
        self.assertEqual(404, refused.exception.code)
        self.assertRegex(json.load(refused.exception)["error"], "did you mean 'spend'")

        self.check_command(url, shops)
        run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=20)
        self.assertEqual(0, run.returncode, err)
        self.assertEqual(3000, json.loads(out)["events"])

    def check_command(self, url, shops):
        def get(*arguments, code=0):
            run = subprocess.run([ALCEDO, "features", "get", *arguments], cwd=self.work, capture_output=True, text=True,
                                 timeout=30, check=False)
            self.assertEqual(code, run.returncode, run.stderr)
            return run
        shop, row = next(iter(shops.items()))
        answer = json.loads(get("p.yaml", "shop", shop, "--from", url, "--json").stdout)
        self.check(answer, 1, [row], [c for c in self.scores["e0"] if c.startswith("crowd.")])
        table = get("shop", "card", row["card"], "currency", row["currency"], "--from", url).stdout
        self.assertRegex(table, r"(?m)^spend__sum_1h +[\d.]+  2023-")
        self.assertRegex(get("shop", "shop", "--from", url, code=2).stderr, "ENTITY KEY")
        self.assertRegex(get("shop", "card", "c1", "currency", "--from", url, code=2).stderr, "'currency' has no key")
        self.assertRegex(get("shap", "shop", shop, "--from", url, code=2).stderr, "did you mean 'shop'")
        self.assertRegex(get("shop", "shop", shop, "--from", "http://127.0.0.1:1", code=1).stderr, r"--listen.*running")

    def test_only_loopback_is_served(self):
        run = subprocess.run([ALCEDO, "run", "p.yaml", "--events", "e.ndjson", "--data", "d", "--listen", "0.0.0.0:0"],
                             cwd=self.work, capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(2, run.returncode)
        self.assertRegex(run.stderr, "only loopback is served.*no authentication")

    def test_beyond_the_bound_the_oldest_are_not_found(self):
        _, url = self.start("--served-entities", "1")  # one a key group
        self.wait_for(url, {"shop": [self.rows[-1]["shop"]]}, self.rows[-1]["time"])
        answer = self.ask(url, {"features": ["spend:sum_1h"], "entities": {
            "card": [f"c{i}" for i in range(40) for _ in range(2)], "currency": ["EUR", "USD"] * 40}})
        statuses = answer["results"][2]["statuses"]
        self.assertIn("NOT_FOUND", statuses)
        self.assertIn("PRESENT", statuses)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    ALCEDO = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
