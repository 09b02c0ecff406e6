#!/usr/bin/env python3
"""Trains a sequence model on a small stream whose order matters, and asks what the runtime then says of events out of order.

usage: train_transformer_test.py TRAINER [--events N] [--entities N]     TRAINER: alcedo-train-transformer
"""

import argparse
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time
import unittest

TYPES = {"F32": ("f", 4), "I64": ("q", 8), "I8": ("b", 1)}
TRAINER = None
SIZE = argparse.Namespace(events=24_000, entities=150)


def write_tensors(path, tensors, texts):
    """tensors: name -> (type, shape, values)."""
    header, data = {"__metadata__": texts}, b""
    for name, (kind, shape, values) in tensors.items():
        packed = struct.pack(f"<{len(values)}{TYPES[kind][0]}", *values)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


def read_tensors(path):
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        code, width = TYPES[entry["dtype"]]
        begin, end = entry["data_offsets"]
        tensors[name] = struct.unpack(f"<{(end - begin) // width}{code}", raw[8 + size + begin : 8 + size + end])
    return tensors


def area(scores, positive):
    """The chance that a positive scores higher than a negative (ROC AUC)."""
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    ranks, i = [0.0] * len(scores), 0
    while i < len(order):
        j = i
        while j < len(order) and scores[order[j]] == scores[order[i]]:
            j += 1
        for k in range(i, j):
            ranks[order[k]] = (i + j + 1) / 2
        i = j
    n = sum(positive)
    return (sum(r for r, p in zip(ranks, positive) if p) - n * (n + 1) / 2) / (n * (len(scores) - n))


class Stream:
    """Entities that each repeat a pattern of five of eight kinds of event; some of the last events come out of order.

    No event is rare by itself: each kind is as frequent out of order as in order, so only the order tells.
    """

    def __init__(self, seed, labelled=False):
        rng = random.Random(seed)
        patterns = [rng.sample(range(8), 5) for _ in range(12)]
        state = [[rng.choice(patterns), rng.randrange(5), 1_700_000_000_000 + rng.randrange(60_000)] for _ in range(SIZE.entities)]
        self.entity, self.time, self.columns, self.wrong, self.label = [], [], [], [], []
        for i in range(SIZE.events):
            e = rng.randrange(SIZE.entities)
            pattern, at, now = state[e]
            wrong = i > SIZE.events * 0.9 and rng.random() < 0.05
            kind = pattern[(at + rng.choice((1, 2, 3))) % 5] if wrong else pattern[at]
            state[e][1] = (at + 1) % 5
            state[e][2] = now + int(60_000 * rng.lognormvariate(0, 0.5))
            amount = 10.0 * kind + rng.gauss(0, 2) if rng.random() > 0.05 else float("nan")
            self.entity.append(e * 7919 - 300)
            self.time.append(now)
            self.columns += [float(kind), amount, rng.gauss(0, 1)]
            self.wrong.append(wrong)
            # Known of half: whether the kind is one of two and the one before was 3 or less.
            self.label.append(-1 if rng.random() < 0.5 else int(kind in (1, 6) and at % 2 == 0))
        self.labelled = labelled

    def write(self, path):
        n = len(self.entity)
        tensors = {
            "entity": ("I64", [n], self.entity),
            "time_ms": ("I64", [n], self.time),
            "columns": ("F32", [n, 3], self.columns),
        }
        if self.labelled:
            tensors["label"] = ("I8", [n], self.label)
        write_tensors(path, tensors, {"columns": "kind\namount\nnoise\n"})


def run(*arguments, code=0):
    done = subprocess.run([TRAINER, *map(str, arguments)], capture_output=True, text=True, timeout=900)
    if done.returncode != code:
        raise AssertionError(f"exit code {done.returncode}, expected {code}: {done.stderr}")
    return done


class TrainTransformerTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_what_is_out_of_order_surprises_and_the_runtime_says_what_libtorch_says(self):
        stream = Stream(1)
        events, model, scores = (self.folder / name for name in ("events.st", "model.st", "scores.st"))
        stream.write(events)
        begun = time.monotonic()
        trained = json.loads(run("train", events, model, "--seed", 3).stdout)
        seconds = time.monotonic() - begun
        scored = json.loads(run("score", events, model, scores).stdout)
        self.assertEqual(scored["events"], SIZE.events)
        self.assertEqual(scored["compared"], SIZE.events)
        self.assertLess(scored["difference_max"], 1e-4)
        self.assertGreaterEqual(trained["compared"], 1000)
        tensors = read_tensors(scores)
        last = range(int(SIZE.events * 0.9), SIZE.events)
        auc = area([tensors["surprise"][i] for i in last], [stream.wrong[i] for i in last])
        print(f"AUC {auc:.4f}, held out {trained['holdout_loss']:.4f} nats, difference {scored['difference_max']:.2g}, "
              f"{seconds:.1f} s to train", file=sys.stderr)
        self.assertGreater(auc, 0.9)

    def test_a_seed_gives_one_model_on_any_number_of_threads(self):
        stream = Stream(2, labelled=True)
        events = self.folder / "events.st"
        stream.write(events)
        models = []
        for name, seed in (("a", 5), ("b", 5), ("c", 6)):
            threads = 1 if name == "a" else 3  # no number of threads may tell
            run("train", events, self.folder / name, "--seed", seed, "--threads", threads, "--steps", 25, "--events-max", 6000)
            models.append((self.folder / name).read_bytes())
        self.assertEqual(models[0], models[1])
        self.assertNotEqual(models[0], models[2])

    def test_a_label_head_learns_what_labels_say(self):
        stream = Stream(4, labelled=True)
        events, model, scores = (self.folder / name for name in ("events.st", "model.st", "scores.st"))
        stream.write(events)
        run("train", events, model, "--passes", 14)
        run("score", events, model, scores)
        tensors = read_tensors(scores)
        known = [i for i in range(int(SIZE.events * 0.9), SIZE.events) if stream.label[i] >= 0]
        auc = area([tensors["label_logit"][i] for i in known], [stream.label[i] == 1 for i in known])
        print(f"label AUC {auc:.4f}", file=sys.stderr)
        self.assertGreater(auc, 0.9)

    def test_files_that_are_wrong_are_refused_with_a_reason(self):
        events, model = self.folder / "events.st", self.folder / "model.st"
        names = {"columns": "x\n"}
        good = {"entity": ("I64", [2], [1, 2]), "time_ms": ("I64", [2], [5, 6]), "columns": ("F32", [2, 1], [1.0, 2.0])}
        for change, texts, reason in (
            ({"entity": ("F32", [2], [1.0, 2.0])}, names, "entity"),
            ({"time_ms": ("I64", [1], [5])}, names, "time_ms"),
            ({"time_ms": ("I64", [2], [5, 2**63 - 1])}, names, "time"),
            ({}, {"columns": "x\ny\n"}, "columns"),
            ({}, {}, "columns"),
            ({"label": ("I8", [2], [0, 5])}, names, "label 5"),
        ):
            write_tensors(events, {**good, **change}, texts)
            self.assertIn(reason, run("train", events, model, code=1).stderr)
        events.write_bytes(b"\xff" * 100)
        self.assertIn("events.st", run("train", events, model, code=1).stderr)
        self.assertFalse(model.exists())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer")
    parser.add_argument("--events", type=int, default=SIZE.events)
    parser.add_argument("--entities", type=int, default=SIZE.entities)
    parser.add_argument("rest", nargs="*")
    given = parser.parse_args()
    TRAINER, SIZE.events, SIZE.entities = str(pathlib.Path(given.trainer).resolve()), given.events, given.entities
    unittest.main(argv=[sys.argv[0], *given.rest])
