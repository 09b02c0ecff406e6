"""The labelled sets: how their rows become events in time order, and which of them are the past that may be learnt from.

A set's function takes the folder of its data and leaves in the folder `out`:

    events/      CSV files with all rows in time order, as the set's pipeline in docs/examples reads them
    past/        the same files with their first rows alone: what may be learnt from
    truth.npz    a row each, file by file in the order of names: label (0 or 1), type (text), future (whether it is judged), unit (rows that
                 are judged as one, by their highest score), group (rows that other software learns from by itself: a machine, a channel),
                 raw (float32 columns for software without features of its own); and raw_names, category_names (those of raw that are
                 codes)

Labels stay in the events under the name that the pipeline gives as its label: only `alcedo evaluate` and `alcedo train` read that. Nothing
of a set is kept in the project. Raises if a set is not as it is expected to be.
"""

import json

import numpy as np
import pandas as pd

DAY_S = 86400
ATTACK_SHARE = 0.01  # of all rows, where a set is mostly attack
PAST_SHARE = 0.6
SEED = 0

CONNECTION_CATEGORIES = ["protocol_type", "service", "flag"]


def codes(column, past_rows):
    """A category as its rank by frequency in the past, which a tree can split; those unseen there share one code."""
    counts = column.iloc[:past_rows].value_counts(sort=False)
    ranked = {value: rank for rank, value in enumerate(sorted(counts.index, key=lambda value: (-counts[value], str(value))))}
    return column.map(lambda value: ranked.get(value, len(ranked))).astype(np.float32)


def write(out, frame, split, label, kind=None, unit=None, numbers=(), categories=(), extra=None):
    """A set of one file, whose first `split` rows are the past. `extra`: further raw columns that are not in the events, by name."""
    write_events(out, "rows", frame, split)
    raw = {name: frame[name].to_numpy(np.float32) for name in numbers}
    raw.update({name: np.asarray(column, np.float32) for name, column in (extra or {}).items()})
    raw.update({name: codes(frame[name], split).to_numpy() for name in categories})
    write_truth(out, label, np.arange(len(frame)) >= split, raw, kind, unit, categories=categories)


def write_events(out, name, frame, split):
    for folder, rows in (("events", frame), ("past", frame.iloc[:split])):
        (out / folder).mkdir(parents=True, exist_ok=True)
        rows.to_csv(out / folder / f"{name}.csv", index=False)


def write_truth(out, label, future, raw, kind=None, unit=None, group=None, categories=()):
    label = np.asarray(label, dtype=np.int8)
    values = np.stack(list(raw.values()), axis=1) if raw else np.zeros((len(label), 0), np.float32)
    np.savez(out / "truth.npz", label=label, future=np.asarray(future, dtype=bool), raw=values, raw_names=np.asarray(list(raw), dtype=str),
             type=np.asarray(np.where(label, "anomaly", "") if kind is None else kind, dtype=str),
             unit=np.arange(len(label)) if unit is None else np.asarray(unit),
             group=np.zeros(len(label), np.int64) if group is None else np.asarray(group),
             category_names=np.asarray(list(categories), dtype=str))


def clock(seconds):
    """Hour of the day and day of the week: what any software can read from a time."""
    return {"hour_of_day": seconds % DAY_S / 3600, "day_of_week": seconds // DAY_S % 7}


def fewer_attacks(label, random):
    """Indices of all normal rows and of so many attacks, in their order, that these are ATTACK_SHARE of what is kept."""
    normal, attacks = np.flatnonzero(label == 0), np.flatnonzero(label == 1)
    wanted = min(attacks.size, round(normal.size * ATTACK_SHARE / (1 - ATTACK_SHARE)))
    return np.sort(np.concatenate([normal, random.choice(attacks, wanted, replace=False)]))


def fraud_handbook(data, out):
    """April and May are the past; June and July are judged."""
    months = [pd.read_csv(data / f"tx_2018-{month:02}.csv.gz") for month in (4, 5, 6, 7)]
    frame = pd.concat(months, ignore_index=True)
    seconds = frame.TX_TIME_SECONDS
    if (seconds.diff() < 0).any():
        raise ValueError("rows are not in time order")
    kind = np.where(frame.TX_FRAUD, "scenario_" + frame.TX_FRAUD_SCENARIO.astype(str), "")
    write(out, frame, len(months[0]) + len(months[1]), frame.TX_FRAUD, kind, numbers=["TX_AMOUNT"],
          categories=["CUSTOMER_ID", "TERMINAL_ID"], extra=clock(seconds))


def sparkov(data, out):
    frame = pd.read_csv(data / "transactions.csv.gz")
    if (frame.unix_time.diff() < 0).any():
        raise ValueError("rows are not in time order")
    write(out, frame, int(PAST_SHARE * len(frame)), frame.is_fraud, extra=clock(frame.unix_time),
          numbers=["amt", "home_lat", "home_long", "city_pop", "merch_lat", "merch_long"],
          categories=["category", "merchant_id", "card_id"])


def ucsd_fico2009(data, out):
    """Rows are in time order, to the hour; where the hour runs back by one, the later one counts for both."""
    frame = pd.read_csv(data / "transactions.csv.gz", dtype={"zip1": str, "state1": str})
    hours = np.maximum.accumulate((frame.day_derived * 24 + frame.hour1).to_numpy())
    times = pd.Timestamp("2009-01-01") + pd.to_timedelta(hours, "h")
    frame.insert(0, "occurred_at", times.strftime("%Y-%m-%dT%H:%M:%SZ"))
    numbers = ["amount", "hour1", "field1", "field2", "hour2", "flag1", "total", "field3", "field4", "indicator1", "indicator2", "flag2",
               "flag3", "flag4", "flag5"]
    write(out, frame, int(PAST_SHARE * len(frame)), frame.is_fraud, numbers=numbers,
          categories=["state1", "zip1", "email_domain", "email_id", "card_id"])


def _connections(path, columns, out):
    frame = pd.read_csv(path, header=None, names=columns)
    kind = frame.pop("label").str.rstrip(".")
    frame["is_attack"] = (kind != "normal").astype(int)
    kept = fewer_attacks(frame.is_attack.to_numpy(), np.random.default_rng(SEED))
    frame, kind = frame.iloc[kept].reset_index(drop=True), kind.iloc[kept]
    numbers = [name for name in frame.columns if name not in (*CONNECTION_CATEGORIES, "is_attack", "difficulty")]
    write(out, frame, int(PAST_SHARE * len(frame)), frame.is_attack, np.where(frame.is_attack, kind, ""), numbers=numbers,
          categories=CONNECTION_CATEGORIES)


def kdd99(data, out):
    columns = (data / "columns.txt").read_text().split()
    _connections(data / "kddcup.data_10_percent.gz", columns, out)


def nsl_kdd(data, out):
    columns = (data / "columns.txt").read_text().split()
    _connections(data / "KDDTrain+_20Percent.txt.gz", columns, out)


def _log_connections(path, out):
    frame = pd.read_csv(path)
    write(out, frame, int(PAST_SHARE * len(frame)), frame.label, numbers=["log_duration", "log_src_bytes", "log_dst_bytes"])


def adbench_kdd99_http(data, out):
    _log_connections(data / "kdd99_http.csv.gz", out)


def adbench_kdd99_smtp(data, out):
    _log_connections(data / "kdd99_smtp.csv.gz", out)


def hdfs_lines(data, out):
    """Raw lines in the order of time; a line is as anomalous as its block."""
    frame = pd.read_csv(data / "hdfs_20k_lines.csv.gz", dtype=str)
    # Seconds that ran back by one line are kept as they are: the pipeline's lateness is for that.
    label = frame.label.astype(int)
    write(out, frame, int(PAST_SHARE * len(frame)), label, categories=["component", "level", "pid"])


def _sequences(frame, key, out, subsample):
    """Sequences become rows (sequence, event), one sequence after the other in an order drawn by SEED: the sets have none. A sequence is
    judged once, by the highest score of its rows. Other software sees how often it had each event until then."""
    random = np.random.default_rng(SEED)
    kept = fewer_attacks(frame.label.to_numpy(), random) if subsample else np.arange(len(frame))
    frame = frame.iloc[random.permutation(kept)].reset_index(drop=True)
    lists = frame["events"].str.split()
    lengths = lists.str.len().to_numpy()
    rows = pd.DataFrame({"sequence": np.repeat(frame[key].to_numpy(), lengths), "event": np.concatenate(lists.to_numpy()),
                         "label": np.repeat(frame.label.to_numpy(), lengths)})
    unit = np.repeat(np.arange(len(frame)), lengths)
    kinds = sorted(rows.event.unique(), key=int)
    counts = {f"event_{kind}": (rows.event == kind).astype(np.float32).groupby(unit).cumsum() for kind in kinds}
    split = int(np.searchsorted(unit, int(PAST_SHARE * len(frame))))
    write(out, rows, split, rows.label, unit=unit, extra=counts)


def hdfs_sequences(data, out):
    _sequences(pd.read_csv(data / "hdfs_sequences.csv.gz"), "block_id", out, subsample=True)


def openstack_sequences(data, out):
    _sequences(pd.read_csv(data / "openstack_loghub.csv.gz"), "seq_id", out, subsample=False)


def smd(data, out):
    """Four machines, a row a minute, 38 metrics: each machine's train part, which has no labels, is its past."""
    labels, futures, groups, metrics = [], [], [], []
    for group, file in enumerate(sorted((data / "train").glob("*.csv.gz"))):
        past, future = pd.read_csv(file), pd.read_csv(data / "test" / file.name)
        past["label"] = 0
        frame = pd.concat([past, future[past.columns]], ignore_index=True)
        write_events(out, file.name.removesuffix(".csv.gz"), frame, len(past))
        labels.append(frame.pop("label"))
        futures.append(np.arange(len(frame)) >= len(past))
        groups.append(np.full(len(frame), group))
        metrics.append(frame)
    metrics = pd.concat(metrics, ignore_index=True)
    raw = {name: metrics[name].to_numpy(np.float32) for name in metrics.columns}
    write_truth(out, np.concatenate(labels), np.concatenate(futures), raw, group=np.concatenate(groups))


def smap_msl(data, out, lags=8):
    """82 channels of telemetry: each one's train part is its past. Other software sees the newest `lags` values of the channel."""
    windows = pd.read_csv(data / "labeled_anomalies.csv")
    labels, futures, groups, values = [], [], [], []
    for group, file in enumerate(sorted((data / "train").glob("*.csv.gz"))):
        name = file.name.removesuffix(".csv.gz")
        past, future = (pd.read_csv(part, usecols=["value"]) for part in (file, data / "test" / file.name))
        label = np.zeros(len(past) + len(future), dtype=int)
        for text in windows.loc[windows.chan_id == name, "anomaly_sequences"]:
            for first, last in json.loads(text):
                label[len(past) + first:len(past) + last + 1] = 1
        frame = pd.concat([past, future], ignore_index=True)
        frame["label"] = label
        write_events(out, name, frame, len(past))
        labels.append(label)
        futures.append(np.arange(len(frame)) >= len(past))
        groups.append(np.full(len(frame), group))
        value = frame.value.to_numpy(np.float32)
        values.append(np.stack([np.concatenate([np.full(lag, value[0]), value[:len(value) - lag]]) for lag in range(lags)], axis=1))
    values = np.concatenate(values)
    raw = {f"value_{lag}": values[:, lag] for lag in range(lags)}
    write_truth(out, np.concatenate(labels), np.concatenate(futures), raw, group=np.concatenate(groups))


# Name: (folder in the data, pipeline in docs/examples, its function).
SETS = {
    "fraud_handbook": ("fraud_handbook", "fraud_handbook", fraud_handbook),
    "sparkov": ("sparkov_simulated", "sparkov", sparkov),
    "ucsd_fico2009": ("ucsd_fico2009", "ucsd_fico2009", ucsd_fico2009),
    "kdd99": ("kdd99", "network", kdd99),
    "nsl_kdd": ("nsl_kdd", "network", nsl_kdd),
    "adbench_kdd99_http": ("adbench_kdd99_http", "transfers", adbench_kdd99_http),
    "adbench_kdd99_smtp": ("adbench_kdd99_smtp", "transfers", adbench_kdd99_smtp),
    "hdfs_lines": ("hdfs", "hdfs", hdfs_lines),
    "hdfs_sequences": ("hdfs", "sequences", hdfs_sequences),
    "openstack_sequences": ("openstack_log_sequences", "sequences", openstack_sequences),
    "smd": ("smd", "smd", smd),
    "smap_msl": ("smap_msl", "smap_msl", smap_msl),
}
