"""Alcedo on a set: its detectors' scores and its features, row by row, out of `alcedo replay --scores`.

`columns(program, pipeline, files, scores)` returns (names, values, seconds): the columns of the scores' file with a dot in their name, as
float32 of shape (rows, events a row, columns), the rows file by file as `files` are given and within one as they stand; a row has several
events only in the shape `wide`. Raises if the program fails or a row is missing.
"""

import csv
import json
import pathlib
import subprocess

import numpy as np
import pandas as pd

# What `replay --scores` says beside features.
VERDICTS = (".score", ".surprise", ".fired")


def train(program, pipeline, files, bundle):
    """`alcedo train` on the past. Raises if it fails."""
    command = [str(program), "train", str(pipeline), "--out", str(bundle), "--json", "--workers", "2", "--events", *map(str, files)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])}: exit code {ran.returncode}: {ran.stderr[-2000:]}")


def columns(program, pipeline, files, scores, options=()):
    command = [str(program), "replay", str(pipeline), "--scores", str(scores), "--workers", "1", "--json", *options, "--events", *map(str, files)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])}: exit code {ran.returncode}: {ran.stderr[-2000:]}")
    told = json.loads(ran.stdout)
    if told["dead_letters"] or told["duplicates"]:
        raise RuntimeError(f"{pipeline}: {told['dead_letters']} dead letters ({told['dead_letters_by_reason']}), "
                           f"{told['duplicates']} duplicates; a set must be read whole")
    with open(scores, newline="") as file:
        header = next(csv.reader(file))
    numbers = [index for index, name in enumerate(header) if "." in name]
    kinds = {index: np.float32 for index in numbers} | {0: str}
    places, parts = [], []
    for part in pd.read_csv(scores, usecols=[0, *numbers], dtype=kinds, chunksize=200_000):
        place = part.iloc[:, 0].str.rpartition(":")
        places.append(pd.DataFrame({"file": place[0].astype("category"), "row": place[2].astype(np.int64)}))
        parts.append(part.iloc[:, 1:].to_numpy(np.float32))
    places, values = pd.concat(places, ignore_index=True), np.concatenate(parts)
    rank = {pathlib.Path(file).stem: index for index, file in enumerate(files)}
    order = np.lexsort((places.row.to_numpy(), places.file.astype(str).map(rank).to_numpy()))
    per_row = told["events"] // told["records"]
    first = places.iloc[order[::per_row]]
    expected = np.concatenate([np.arange(count) for count in first.groupby(first.file.astype(str).map(rank)).size()])
    if len(places) != told["records"] * per_row or not np.array_equal(first.row.to_numpy(), expected):
        raise RuntimeError(f"{scores}: {len(places)} rows of {told['records']} records, expected {per_row} of each")
    return [header[index] for index in numbers], values[order].reshape(told["records"], per_row, -1), told["seconds"]


def is_feature(name):
    return not name.endswith(VERDICTS)


def is_deviation(name):
    """Whether an event of the future may say the same as one of the past: not what grows with the stream (how many values stand behind a
    row), nor levels that drift with it. A forest that saw those would find every later row strange."""
    return is_feature(name) and not name.endswith((".history", ".of", ".expected", ".spread"))
