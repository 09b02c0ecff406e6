#!/usr/bin/env python3
"""Shows that bench/detection judges scores as their definitions say, and looks only at the past. Needs the packages of `./dev bench detection`.

usage: detection_test.py
"""

import importlib.util
import os
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "build" / "bench" / "detection-venv" / "bin" / "python"
if importlib.util.find_spec("pandas") is None:
    if not VENV.exists() or pathlib.Path(sys.prefix).resolve() == VENV.parent.parent.resolve():
        print("skipped: no numpy and pandas here; ./dev bench detection installs them into build/")
        sys.exit(77)
    os.execv(VENV, [str(VENV), "-B", *sys.argv])

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

sys.path.insert(0, str(ROOT / "bench" / "detection"))
import curves  # noqa: E402
import detection  # noqa: E402
import sets  # noqa: E402


def naive_judgement(labels, scores):
    """Average precision and found shares by trying every threshold."""
    scores = [-1e9 if score != score else score for score in scores]
    positives, negatives = sum(labels), len(labels) - sum(labels)
    area, before, found_at = 0.0, 0, {rate: 0.0 for rate in curves.FALSE_POSITIVE_RATES}
    for threshold in sorted(set(scores), reverse=True):
        found = sum(label for label, score in zip(labels, scores) if score >= threshold)
        false = sum(1 - label for label, score in zip(labels, scores) if score >= threshold)
        area += (found - before) / positives * found / (found + false)
        before = found
        for rate in found_at:
            if false <= rate * negatives:
                found_at[rate] = max(found_at[rate], found / positives)
    return area, found_at


class Judges(unittest.TestCase):
    def test_as_by_every_threshold_with_ties_and_missing_scores(self):
        for seed in range(20):
            random = np.random.default_rng(seed)
            labels = (random.random(2000) < 0.05).astype(int)
            scores = np.round(random.normal(size=2000) + labels, 1 + seed % 3)
            scores[random.random(2000) < 0.1] = np.nan
            area, found_at = naive_judgement(labels.tolist(), scores.tolist())
            result = curves.judge(labels, scores, draws=0)
            self.assertAlmostEqual(area, result["pr_auc"], 12)
            for rate, found in found_at.items():
                self.assertAlmostEqual(found, result["tpr_at_fpr"][str(rate)], 12, f"seed {seed}")

    def test_order_of_equal_scores_does_not_matter(self):
        self.assertEqual(curves.judge([1, 0, 0, 1], [1, 1, 1, 1], draws=0), curves.judge([0, 1, 1, 0], [1, 1, 1, 1], draws=0))

    def test_interval_holds_the_value_and_shrinks_with_rows(self):
        widths = []
        for rows in (500, 50_000):
            random = np.random.default_rng(1)
            labels = (random.random(rows) < 0.1).astype(int)
            result = curves.judge(labels, random.normal(size=rows) + 2 * labels)
            low, high = result["pr_auc_interval"]
            self.assertTrue(low < result["pr_auc"] < high)
            widths.append(high - low)
        self.assertLess(widths[1], widths[0] / 3)

    def test_a_unit_counts_once_by_its_highest_row(self):
        scores, labels = detection.by_highest(np.array([0.1, 0.9, np.nan, 0.3, np.nan]), np.array([0, 0, 1, 1, 0]), np.array([7, 7, 8, 8, 9]))
        np.testing.assert_array_equal([0.9, 0.3, np.nan], scores)
        np.testing.assert_array_equal([0, 1, 0], labels)

    def test_an_episode_is_found_by_its_highest_row(self):
        labels = np.array([0, 1, 1, 0, 1, 0, 1, 1])
        group = np.array([0, 0, 0, 0, 0, 0, 0, 1])
        episodes = detection.episodes_of(labels, group)
        self.assertEqual([-1, 0, 0, -1, 1, -1, 2, 3], episodes.tolist())
        result = curves.judge(labels, [0.5, 0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6], draws=0, episodes=episodes)
        self.assertEqual((4, 0.5), (result["episodes"], result["episodes_at_fpr"]["0.001"]))  # above 0.5, not at it


class Prepares(unittest.TestCase):
    def test_categories_are_ranked_by_the_past_alone(self):
        column = pd.Series(["b", "a", "b", "c", "c", "c", "d"])
        np.testing.assert_array_equal([0, 1, 0, 2, 2, 2, 2], sets.codes(column, 3))

    def test_attacks_are_drawn_until_they_are_one_percent_and_normal_rows_stay(self):
        label = np.array([0] * 990 + [1] * 500 + [0] * 990)
        kept = sets.fewer_attacks(label, np.random.default_rng(sets.SEED))
        self.assertEqual((1980, 20), (int((label[kept] == 0).sum()), int(label[kept].sum())))
        np.testing.assert_array_equal(kept, np.sort(kept))

    def test_past_is_a_prefix_of_the_events_and_labels_follow_rows(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "set"
            frame = pd.DataFrame({"amount": [1.0, 2.0, 3.0], "shop": ["x", "y", "x"], "bad": [0, 1, 0]})
            sets.write(out, frame, 2, frame.bad, numbers=["amount"], categories=["shop"])
            events, past = ((out / part / "rows.csv").read_text() for part in ("events", "past"))
            self.assertTrue(events.startswith(past))
            self.assertEqual(3, past.count("\n"))
            with np.load(out / "truth.npz") as truth:
                self.assertEqual(([0, 1, 0], [False, False, True], ["amount", "shop"]),
                                 (truth["label"].tolist(), truth["future"].tolist(), truth["raw_names"].tolist()))


class Keeps(unittest.TestCase):
    def test_what_was_made_is_not_made_again_and_what_broke_is(self):
        with tempfile.TemporaryDirectory() as folder:
            kept, made = detection.Kept(pathlib.Path(folder)), []

            def make(path):
                made.append(path)
                if len(made) == 1:
                    raise OSError("disk")

            with self.assertRaises(OSError):
                kept.made("kind", "key", make)
            self.assertEqual(kept.made("kind", "key", make), kept.made("kind", "key", make))
            self.assertEqual(2, len(made))

    def test_a_key_follows_content(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "a"
            file.write_text("1")
            other = pathlib.Path(folder) / "b"
            other.write_text("2")
            keys = {detection.digest_of(file), detection.digest_of(other), detection.digest_of(file, "x"), detection.digest_of(naive_judgement)}
            self.assertEqual(4, len(keys))

    def test_only_measured_tables_are_replaced(self):
        document = "a\n<!-- one: begin -->\nold\n<!-- one: end -->\nb\n<!-- two: begin -->\nkept\n<!-- two: end -->\nc\n"
        self.assertEqual(document.replace("old", "new"), detection.written_into(document, {"one": "new"}))
        with self.assertRaises(RuntimeError):
            detection.written_into(document, {"three": "new"})


if __name__ == "__main__":
    unittest.main()
