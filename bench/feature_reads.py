#!/usr/bin/env python3
"""How long a read of 40 features takes while payments flow, beside Redis's HGETALL of 40 fields in the same run.

usage: feature_reads.py [--build DIR] [--events-rate N] [--rate N] [--seconds N]

Starts `alcedo run pipelines/payments --listen` on simulated payments, and redis-server (Debian's package), both on free
loopback ports; ends both by their pids. Prints one JSON object. Needs the targets alcedo and feature_reads
of `cmake --preset release`.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
CURRENCIES = ["EUR", "USD", "GBP", "CHF", "JPY", "SEK", "NOK", "DKK", "PLN", "CAD", "AUD"]
FIELDS = 40


def ask(url, body):
    request = urllib.request.Request(url + "/get-online-features", json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def entities_of(url, cards):
    """(card, currency) of those that the service knows, by asking for each currency."""
    found = []
    for currency in CURRENCIES:
        for first in range(0, len(cards), 1000):
            part = cards[first:first + 1000]
            answer = ask(url, {"features": ["pace:gap_s"], "entities": {"card": part, "currency": [currency] * len(part)}})
            found += [(card, currency) for card, status in zip(part, answer["results"][2]["statuses"]) if status != "NOT_FOUND"]
    return found


def forty_features(url, entity):
    answer = ask(url, {"feature_service": "payments", "full_feature_names": True,
                       "entities": {"card": [entity[0]], "currency": [entity[1]]}})
    names = [name.replace("__", ":", 1) for name in answer["metadata"]["feature_names"][2:]]
    if len(names) < FIELDS:
        sys.exit(f"pipelines/payments has {len(names)} features by card and currency, {FIELDS} are needed")
    return names[:FIELDS]


def fill_redis(port, entities, fields):
    """The same fields for as many entities, values as a feature store writes them: text of floats."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        replies = connection.makefile("rb")
        for first in range(0, entities, 500):
            count = min(500, entities - first)
            commands = b""
            for i in range(first, first + count):
                words = ["HSET", f"entity:{i}"]
                for n, field in enumerate(fields):
                    words += [field, f"{(i * 31 + n * 17) % 100000 / 7:.9g}"]
                commands += f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words)
            connection.sendall(commands)
            for _ in range(count):
                assert replies.readline().startswith(b":")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(ROOT / "build/release"))
    parser.add_argument("--events-rate", type=int, default=50_000)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()
    for program, where in (("redis-server", "apt-get install redis-server"),):
        if shutil.which(program) is None:
            sys.exit(f"no {program}: {where}")
    alcedo = given.build + "/alcedo"
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        key = "000102030405060708090a0b0c0d0e0f"
        (work / "data/payments").mkdir(parents=True)
        (work / "data/payments/private.key").write_text(key + "\n", encoding="utf-8")
        subprocess.run([alcedo, "replay", ROOT / "pipelines/payments", "--source", "simulate:payments?events=30000", "--scores",
                        work / "scores.csv", "--out", work / "alerts"], check=True, stderr=subprocess.DEVNULL,
                       env={**os.environ, "ALCEDO_PRIVATE_KEY": key})
        with open(work / "scores.csv", encoding="utf-8") as file:
            cards = list(dict.fromkeys(row["card"] for row in csv.DictReader(file)))[:10_000]
        processes = []
        try:
            redis_port = free_port()
            with open(work / "redis.log", "wb") as log:
                processes.append(subprocess.Popen(["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "",
                                                   "--appendonly", "no", "--dir", folder], stdout=log, stderr=log))
            err = open(work / "alcedo.log", "w+", encoding="utf-8")
            run = subprocess.Popen([alcedo, "run", ROOT / "pipelines/payments", "--source",
                                    f"simulate:payments?rate={given.events_rate}", "--pages-to-file", "--data", work / "data",
                                    "--listen", "127.0.0.1:0", "--json"], stdout=subprocess.PIPE, stderr=err, text=True)
            processes.append(run)
            began = time.monotonic()
            url = None
            while url is None and time.monotonic() < began + 30 and run.poll() is None:
                found = re.search(r"http://127\.0\.0\.1:(\d+)", (work / "alcedo.log").read_text(encoding="utf-8"))
                url = found and found.group(0)
                time.sleep(0.05)
            if url is None:
                sys.exit("alcedo did not start: " + (work / "alcedo.log").read_text(encoding="utf-8"))
            time.sleep(2)
            entities = entities_of(url, cards)
            fields = forty_features(url, entities[0])
            fill_redis(redis_port, len(entities), [field.replace(":", "__") for field in fields])
            with open(work / "bodies", "w", encoding="utf-8") as bodies:
                for card, currency in entities:
                    bodies.write(json.dumps({"features": fields, "full_feature_names": True,
                                             "entities": {"card": [card], "currency": [currency]}}) + "\n")
            load = subprocess.run([given.build + "/feature_reads", "--http", url.rsplit(":", 1)[1], "--redis", str(redis_port),
                                   "--bodies", work / "bodies", "--rate", str(given.rate), "--seconds", str(given.seconds)],
                                  check=False, capture_output=True, text=True)
            if load.returncode != 0:
                sys.exit(load.stderr)
            run.terminate()
            summary, _ = run.communicate(timeout=30)
            elapsed = time.monotonic() - began
        finally:
            for process in processes:
                if process.poll() is None:
                    process.terminate()
                process.wait()
        report = json.loads(load.stdout)
        report["entities"] = len(entities)
        report["events_per_second"] = round(json.loads(summary)["events"] / elapsed)
        report["load_average_1m"] = os.getloadavg()[0]
        print(json.dumps(report))


if __name__ == "__main__":
    main()
