#!/usr/bin/env python3
"""What a data scientist meets: training on the first part of a stream, alerts with reasons on the rest, bundles that are
refused when they are not what was trained.

usage: training_test.py ALCEDO
"""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

PIPELINE = """\
pipeline: shop
events: {format: csv, id: id, time: time, label: fraud}
labels: {complete: true}
entities: {card: card, shop: shop}
windows: [1h, 1d]
features:
  habit: {baseline: amount, by: card, min_history: 5}
  pace:  {velocity: events, by: card, min_history: 5}
  place: {rarity: shop, by: card, min_history: 5}
  raw:   {value: amount}
  when:  {calendar: time}
detectors:
  habit_z: {zscore: [habit], side: above}
  shape:   {forest: all}
  known:   {boosted: all}
anomalies:
  fraud: {votes: {habit_z: 1, shape: 1, known: 1}, fire: {rate: 0.3%}}
alerts: [{to: file, default: true}]
calibrate_events: 2000
"""


def events(count, seed):
    """Cards that buy at two shops of their own; frauds are at shop s99, at night, of a usual amount."""
    source = random.Random(seed)
    rows = []
    time = 1_700_000_000
    for i in range(count):
        time += source.randint(20, 100)
        card = source.randrange(40)
        hour = time % 86400 // 3600
        fraud = hour < 5 and source.random() < 0.06
        shop = 99 if fraud or source.random() < 0.005 else card % 7 + 10 * source.randrange(2)
        amount = round(source.lognormvariate(3 + card % 3, 0.4), 2)
        rows.append(f"p{seed}-{i},{time},c{card},s{shop},{amount},{int(fraud)}")
    return rows


class TrainingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        work = cls.work = pathlib.Path(cls.folder.name)
        (work / "shop").mkdir()
        (work / "shop/pipeline.yaml").write_text(PIPELINE)
        header = "id,time,card,shop,amount,fraud"
        rows = events(24_000, 1)
        (work / "past.csv").write_text("\n".join([header, *rows[:16_000]]) + "\n")
        (work / "future.csv").write_text("\n".join([header, *rows[16_000:]]) + "\n")
        cls.trained = cls.alcedo("train", "shop", "--events", "past.csv", "--out", "shop/bundle", "--json", "--workers", "2")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def alcedo(cls, *arguments, code=0):
        run = subprocess.run([ALCEDO, *arguments], cwd=cls.work, capture_output=True, text=True, timeout=300)
        assert run.returncode == code, (arguments, run.returncode, run.stdout, run.stderr)
        return run

    def test_training_says_what_it_learnt(self):
        result = json.loads(self.trained.stdout)
        self.assertEqual(result["models"], ["known", "shape"])
        self.assertEqual(result["events"], 16_000)
        self.assertGreater(result["metrics"]["ensemble.tpr_at_0.3%"], 0.8)
        self.assertIn("Trained on 16000 events", (self.work / "shop/bundle/card.md").read_text())

    def test_the_same_seed_gives_the_same_bundle(self):
        self.alcedo("train", "shop", "--events", "past.csv", "--out", "again", "--workers", "2")
        names = sorted(path.name for path in (self.work / "again").iterdir())
        self.assertEqual(names, sorted(path.name for path in (self.work / "shop/bundle").iterdir()))
        for name in names:
            self.assertEqual((self.work / "again" / name).read_bytes(), (self.work / "shop/bundle" / name).read_bytes(), name)

    def test_the_ensemble_finds_in_the_future_what_baselines_do_not(self):
        self.alcedo("evaluate", "shop", "--warm-up", "file:past.csv", "--events", "future.csv", "--report", "with")
        detectors = json.loads((self.work / "with/report.json").read_text())["detectors"]
        tpr = {name: detectors[name]["tpr_at_fpr"]["0.003"] for name in ("ensemble", "boosted", "zscore")}
        self.assertGreater(tpr["ensemble"], 0.8)
        self.assertGreater(tpr["ensemble"], 4 * tpr["zscore"] + 0.1)

    def test_alerts_say_what_moved_the_models(self):
        self.alcedo("replay", "shop", "--warm-up", "file:past.csv", "--events", "future.csv", "--out", "alerts.ndjson")
        alerts = [json.loads(line) for line in (self.work / "alerts.ndjson").read_text().splitlines()]
        opened = [alert for alert in alerts if alert["step"] == "open"]
        self.assertGreater(len(opened), 20)
        self.assertFalse(any(alert["provisional"] for alert in alerts), "the bundle's thresholds hold from the first event")
        reasons = [reason for alert in opened for reason in alert["reasons"] if reason["detector"] == "known"]
        features = {reason["feature"] for reason in reasons}
        self.assertIn("when.hour", features)
        self.assertTrue(any(feature.startswith("place.") for feature in features), features)
        self.assertTrue(all("usually" in reason["text"] for reason in reasons))

    def test_verdicts_do_not_depend_on_batches_or_workers(self):
        outputs = []
        for how in (["--batch", "1", "--workers", "1"], ["--batch", "4096", "--workers", "2"], ["--batch", "777", "--workers", "3"]):
            self.alcedo("replay", "shop", "--events", "future.csv", "--out", "a.ndjson", "--scores", "s.csv", *how)
            outputs.append(((self.work / "a.ndjson").read_bytes(), (self.work / "s.csv").read_bytes()))
        self.assertEqual(outputs[0], outputs[1])
        self.assertEqual(outputs[0], outputs[2])

    def test_without_a_bundle_learned_detectors_abstain_and_it_is_said(self):
        bare = self.work / "bare"
        shutil.copytree(self.work / "shop", bare, ignore=shutil.ignore_patterns("bundle"), dirs_exist_ok=True)
        run = self.alcedo("replay", "bare", "--events", "future.csv", "--scores", "bare.csv", "--out", "bare.ndjson")
        self.assertRegex(run.stderr, r"shop: no trained model of shape, known; until there is one they abstain.*alcedo train bare/pipeline\.yaml .*--out bare/bundle")
        rows = (self.work / "bare.csv").read_text().splitlines()
        at = rows[0].split(",").index("known.score")
        self.assertEqual({row.split(",")[at] for row in rows[1:]}, {""})

    def test_what_is_not_what_was_trained_is_refused(self):
        def refused(change, expected, code=2):
            shutil.rmtree(self.work / "other", ignore_errors=True)
            shutil.copytree(self.work / "shop", self.work / "other")
            change(self.work / "other")
            run = self.alcedo("replay", "other", "--events", "future.csv", code=code)
            self.assertRegex(run.stderr, expected)

        def edit(name, old, new):
            def change(folder):
                text = (folder / name).read_text()
                self.assertIn(old, text)
                (folder / name).write_text(text.replace(old, new))
            return change

        def cut(folder):
            path = folder / "bundle/known.safetensors"
            path.write_bytes(path.read_bytes()[:-8])

        refused(cut, r"known\.safetensors: is not the file that the manifest lists")
        refused(edit("bundle/manifest.json", '"pipeline":"shop"', '"pipeline":"bank"'), r"changed after training")
        refused(edit("pipeline.yaml", "pipeline: shop", "pipeline: bank"), r"was trained for the pipeline 'shop', not for 'bank'")
        refused(edit("pipeline.yaml", "pace:  {velocity: events, by: card", "pace:  {velocity: events, by: shop"),
                r"model '(known|shape)' reads pace\..*, whose feature has changed since")

    def test_check_says_which_bundle_a_pipeline_has(self):
        version = json.loads(self.trained.stdout)["version"]
        run = self.alcedo("check", "shop")
        self.assertRegex(run.stdout, rf"bundle +shop/bundle \(version {version}\), trained on 16,000 events until 20")

    def test_what_cannot_be_trained_is_said(self):
        short = (self.work / "past.csv").read_text().splitlines()[:50]
        (self.work / "short.csv").write_text("\n".join(short) + "\n")
        run = self.alcedo("train", "shop", "--events", "short.csv", "--out", "none", code=2)
        self.assertIn("49 rows to train on; expected at least 200", run.stderr)
        self.assertFalse((self.work / "none").exists())
        (self.work / "mine").mkdir(exist_ok=True)
        (self.work / "mine/notes.txt").write_text("mine")
        run = self.alcedo("train", "shop", "--events", "past.csv", "--out", "mine", "--rounds-max", "2", code=2)
        self.assertIn("mine: is there and is no bundle", run.stderr)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    ALCEDO = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
