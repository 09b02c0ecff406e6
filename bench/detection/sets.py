# The labelled sets: where each is, how its rows become events in time order, which of them are the past to learn from.
"""prepare(name, data, out) leaves in `out`:

    events.csv   all rows in time order, as the set's pipeline in docs/examples reads them
    past.csv     its first rows: what may be learnt from
    truth.npz    label (0, 1), type (text), block (rows that belong together), raw (float32 columns for software without features of its
                 own), raw_names, split (the first row that is judged)

Nothing of a set is kept in the project; what was prepared lies under build/. Labels stay in events.csv in the column that the pipeline names
as its label: only `alcedo evaluate` and `alcedo train` read that.
"""
import csv
import gzip
import json
import pathlib

import numpy as np
import pandas as pd

DAY_S = 86400
ATTACKS_SHARE = 0.01  # of the rows, where a set is mostly attack
SEED = 0


def _codes(column, past_rows):
    """A category as the number of its rank by frequency in the past: what a tree can split; unseen ones share one code."""
    counts = column.iloc[:past_rows].value_counts(sort=False)
    ranked = {value: rank for rank, value in enumerate(sorted(counts.index, key=lambda v: (-counts[v], str(v))))}
    return column.map(lambda value: ranked.get(value, len(ranked))).astype(np.float32)


def _write(out, frame, split, label, kind=None, block=None, numbers=(), categories=(), header=True):
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "events.csv", index=False, header=header)
    frame.iloc[:split].to_csv(out / "past.csv", index=False, header=header)
    raw = {name: frame[name].astype(np.float32) for name in numbers}
    raw.update({name: _codes(frame[name], split) for name in categories})
    np.savez(out / "truth.npz", label=np.asarray(label, dtype=np.int8), split=split,
             type=np.asarray(kind if kind is not None else np.where(label, "anomaly", ""), dtype=str),
             block=np.asarray(block if block is not None else np.arange(len(frame))),
             raw=np.stack([column.to_numpy() for column in raw.values()], axis=1), raw_names=np.asarray(list(raw), dtype=str),
             category_names=np.asarray(list(categories), dtype=str))


def fraud_handbook(data, out):
    """April and May are the past, June and July are judged."""
    months = [pd.read_csv(data / f"tx_2018-{month:02}.csv.gz") for month in (4, 5, 6, 7)]
    split = len(months[0]) + len(months[1])
    frame = pd.concat(months, ignore_index=True)
    assert (frame.TX_TIME_SECONDS.diff().fillna(0) >= 0).all(), "the months are not in time order"
    frame["hour"] = frame.TX_TIME_SECONDS % DAY_S / 3600
    frame["weekday"] = frame.TX_TIME_SECONDS // DAY_S % 7
    kind = np.where(frame.TX_FRAUD, "scenario_" + frame.TX_FRAUD_SCENARIO.astype(str), "")
    _write(out, frame, split, frame.TX_FRAUD, kind, numbers=["TX_AMOUNT", "hour", "weekday"], block=frame.CUSTOMER_ID,
           categories=["CUSTOMER_ID", "TERMINAL_ID"])


def sparkov(data, out):
    frame = pd.read_csv(data / "transactions.csv.gz")
    assert (frame.unix_time.diff().fillna(0) >= 0).all(), "not in time order"
    frame["hour"] = frame.unix_time % DAY_S / 3600
    frame["weekday"] = frame.unix_time // DAY_S % 7
    _write(out, frame, int(0.6 * len(frame)), frame.is_fraud, block=frame.card_id,
           numbers=["amt", "hour", "weekday", "home_lat", "home_long", "city_pop", "merch_lat", "merch_long"],
           categories=["category", "merchant_id", "card_id"])


def ucsd_fico2009(data, out):
    """Rows are in time order and carry day and hour; where an hour runs back by one, the later one counts for both."""
    frame = pd.read_csv(data / "transactions.csv.gz", dtype={"zip1": str, "state1": str})
    hours = np.maximum.accumulate((frame.day_derived * 24 + frame.hour1).to_numpy())
    frame.insert(0, "occurred_at", [f"2009-{stamp:%m-%dT%H:00:00Z}" for stamp in pd.Timestamp("2009-01-01") + pd.to_timedelta(hours, "h")])
    numbers = ["amount", "hour1", "field1", "field2", "hour2", "flag1", "total", "field3", "field4", "indicator1", "indicator2", "flag2",
               "flag3", "flag4", "flag5"]
    _write(out, frame, int(0.6 * len(frame)), frame.is_fraud, numbers=numbers, block=frame.card_id,
           categories=["state1", "zip1", "email_domain", "email_id", "card_id"])


FRAUD = {"fraud_handbook": fraud_handbook, "sparkov": sparkov, "ucsd_fico2009": ucsd_fico2009}
