"""Alcedo on a set: its detectors' scores and its features, row by row, out of `alcedo replay --scores`.

`columns(program, pipeline, events)` returns (names, values): the columns of the scores' file with a dot in their name, float32, in the order of
the events (`id` is FILE:ROW). Raises if the program fails or a row is missing.
"""

import csv
import json
import subprocess

import numpy as np

# What `replay --scores` says beside features.
VERDICTS = (".score", ".surprise", ".fired")


def columns(program, pipeline, events, scores, options=()):
    command = [str(program), "replay", str(pipeline), "--events", str(events), "--scores", str(scores), "--workers", "1", "--json", *options]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {ran.returncode}: {ran.stderr[-2000:]}")
    told = json.loads(ran.stdout)
    if told["dead_letters"] or told["duplicates"]:
        raise RuntimeError(f"{pipeline}: {told['dead_letters']} dead letters ({told['dead_letters_by_reason']}), "
                           f"{told['duplicates']} duplicates; a set must be read whole")
    with open(scores, newline="") as file:
        header = next(csv.reader(file))
    numbers = [index for index, name in enumerate(header) if "." in name]
    import pandas  # beside the standard library only here

    parts, order = [], []
    for part in pandas.read_csv(scores, usecols=[0, *numbers], dtype={index: np.float32 for index in numbers}, chunksize=200_000):
        order.append(part.iloc[:, 0].str.rpartition(":")[2].to_numpy(np.int64))
        parts.append(part.iloc[:, 1:].to_numpy(np.float32))
    order, values = np.concatenate(order), np.concatenate(parts)
    if not np.array_equal(np.sort(order), np.arange(told["events"])):
        raise RuntimeError(f"{scores}: {len(order)} rows, expected each of 0 to {told['events'] - 1} once")
    in_order = np.empty_like(values)
    in_order[order] = values
    return [header[index] for index in numbers], in_order, told["seconds"]


def is_feature(name):
    return not name.endswith(VERDICTS)
