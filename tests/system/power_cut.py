#!/usr/bin/env python3
"""Cuts the power of `alcedo run` at random moments and proves that nothing acknowledged is lost and nothing is paged twice.

A kill leaves the kernel's page cache; a power cut does not. A shim loaded into the process (power_cut_shim.c, compiled here) keeps
a shadow of what the disk would still hold: bytes count only once their file is synced, names only once their folder is. After
SIGKILL the data directory is replaced by that shadow, in which every file with unsynced bytes gets, by seed, none of them, all,
a prefix, or some of its pages; then the run starts again. Every second round names are kept as on ext4 (syncing a new file keeps
its name), the others as POSIX has it (only syncing the folder does). Four runs:
  file    a file is read, through --cuts power cuts. In the end: the oracle's incidents in the oracle's states, each opened once;
          and every alert of the file route stands in alerts.ndjson, each line whole but those that a cut tore
  stdin   the same through a pipe whose writer goes on, after a cut, behind the last record that the log kept. At every cut: no
          page is about events that the log lost. In the end: as for a file
  lossy   a pipe whose writer goes on behind what it had written: what the log had not synced is gone, some lines are no JSON. In
          the end: what the log kept is what was seen, what arrived whole was paged once, what is no JSON is among the dead letters
  liar    a disk whose syncs do nothing. This must be found out, or the other runs would prove nothing
Moments and the choice of what survives come from --seed; what a process is doing at such a moment is the machine's affair: a
failure is real, a repetition may pass.
"""

import argparse
import base64
import json
import os
import pathlib
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

from run_with_mock import (DELIVERY_DELAY_MS, ROOT, ROUND_SECONDS, RUN_SECONDS_MAX, STEP_MS, Bench, Failure, compare, expect,
                           feed, judge_oracle, logged_records, repeated, say, write_events)

HERE = pathlib.Path(__file__).resolve().parent
PAGE_BYTES = 4096
PASS_SECONDS = 1.5        # of one pass over the stream
USERS = 120
CALM = 0.35               # of the stream, before its first spike: calibration ends at event 20,000
CALM_LOSSY = 0.5          # where some of those events are lost
FILE_LANE = 3             # the lane whose alerts go to a file in the data directory
CHUNK_BYTES = 8_192       # of one write into a pipe
START_MS = 4_102_444_800_000  # ahead of any clock: a pipe that is idle for a moment must not let wall time close the windows


def build_shim(folder, compiler):
    library = folder / "power_cut_shim.so"
    subprocess.run([compiler, "-std=gnu17", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library,
                    HERE / "power_cut_shim.c", "-ldl", "-lpthread"], check=True)
    return library


def tear(durable, live, rng):
    """What a file may hold whose last sync left `durable` and whose writer saw `live`."""
    how = rng.choice(("none", "none", "all", "prefix", "pages", "pages"))
    if how == "none":
        return durable
    if how == "all":
        return live
    if how == "prefix":
        n = rng.randrange(len(live) + 1)
        return live[:n] + durable[n:]
    size = rng.choice((len(durable), len(live)))
    longest = max(len(durable), len(live))
    out = bytearray()
    for at in range(0, longest, PAGE_BYTES):
        page = rng.choice((durable, live))[at:at + PAGE_BYTES]
        out += page + bytes(min(PAGE_BYTES, longest - at) - len(page))
    return bytes(out[:size])


class Disk:
    """A folder that loses power together with the process that writes there."""

    def __init__(self, folder, shim, seed):
        self.root, self.shim, self.rng = folder / "disk", shim, random.Random(seed)
        self.shadow = folder / "shadow"
        self.root.mkdir()
        self.unsynced = self.torn = self.names_lost = self.cuts = 0

    def environment(self, lies=False):
        if self.shadow.exists():
            shutil.rmtree(self.shadow)
        self.shadow.mkdir()
        strict = self.rng.random() < 0.5
        return {**os.environ, "LD_PRELOAD": str(self.shim), "POWER_CUT_ROOT": str(self.root), "POWER_CUT_SHADOW": str(self.shadow),
                "POWER_CUT_SEED": str(self.rng.getrandbits(63)), "POWER_CUT_EARLY": str(self.rng.choice((2, 8, 64))),
                "POWER_CUT_ENTRIES": "strict" if strict else "ext4", **({"POWER_CUT_LIES": "1"} if lies else {})}

    def cut(self, tear_files=True):
        """Replaces the folder by what survives."""
        if not (self.shadow / "ready").exists():
            return
        names, newest = {}, {}
        for inode in (self.shadow / "inodes").iterdir():
            number, generation = map(int, inode.name.split("-"))
            names[inode.stat().st_ino] = (number, generation)
            newest[number] = max(newest.get(number, 0), generation)
        live = {path.stat().st_ino: path for path in sorted(self.root.rglob("*")) if path.is_file()}
        survived = self.root.with_name("survived")
        survived.mkdir()
        kept, torn, unsynced = set(), 0, 0
        for path in sorted((self.shadow / "tree").rglob("*")):
            target = survived / path.relative_to(self.shadow / "tree")
            if path.is_dir():
                target.mkdir(mode=0o700)
                continue
            number, generation = names[path.stat().st_ino]
            kept.add(target.relative_to(survived))
            data = path.read_bytes()
            if tear_files and newest[number] == generation and number in live:
                written = live[number].read_bytes()
                if written != data:
                    unsynced += 1
                    data, before = tear(data, written, self.rng), data
                    torn += data not in (before, written)
            target.write_bytes(data)
            target.chmod(0o600)
        self.names_lost += sum(path.relative_to(self.root) not in kept for path in live.values())
        self.unsynced += unsynced
        self.torn += torn
        self.cuts += unsynced > 0
        shutil.rmtree(self.root)
        survived.rename(self.root)

    def check_sight(self):
        """After a clean exit: the shim must have seen every write, or what it calls durable means nothing."""
        unseen = (self.shadow / "report").read_text(encoding="utf-8")
        expect(not unseen, f"void: the shim did not see all writes:\n{unseen}")

    def story(self):
        return f"{self.cuts} cuts found unsynced bytes, in {self.unsynced} files, {self.torn} of them torn; {self.names_lost} names lost"


def new_bench(arguments, name):
    return Bench(arguments, name, DELIVERY_DELAY_MS, data="disk/data", file_lanes=(FILE_LANE,), options=arguments.options)


def file_alerts(bench):
    """Alert lines by what they say, and how many lines are damaged."""
    path = bench.data / "kills/alerts.ndjson"
    alerts, damaged = {}, 0
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            alert = json.loads(line) if line else None
        except ValueError:
            damaged += 1
            continue
        # How many updates there are depends on how many found the one before them still waiting.
        if alert is not None and alert["step"] != "update":
            step = (alert["incident"], alert["step"])
            alerts[step] = alerts.get(step, 0) + 1
    return alerts, damaged


def check_ledger(name, bench):
    """What the receiver has taken must be in the ledger that survived."""
    copy = bench.folder / "ledger-copy"
    copy.mkdir()
    for part in (bench.data / "kills").glob("ledger.db*"):
        shutil.copy(part, copy)
    known = set()
    if (copy / "ledger.db").exists() and (copy / "ledger.db").stat().st_size > 0:
        database = sqlite3.connect(copy / "ledger.db")
        try:
            known = {row[0] for row in database.execute("SELECT incident FROM incidents")}
        except sqlite3.OperationalError:
            pass  # cut before its tables were there
        database.close()
    shutil.rmtree(copy)
    lost = sorted(bench.mock.incidents().keys() - known)
    expect(not lost, f"{name}: the ledger lost {len(lost)} incidents that the receiver has taken, the first {lost[0] if lost else ''}")


def judge(name, bench, disk, expected, expected_alerts):
    found = bench.mock.incidents()
    compare(name, expected, found)
    alerts, damaged = file_alerts(bench)
    lost = [step for step in expected_alerts if step not in alerts]
    invented = [step for step in alerts if step not in expected_alerts]
    expect(not lost, f"{name}: {len(lost)} alerts are not in alerts.ndjson, the first {lost[0] if lost else ''}")
    expect(not invented, f"{name}: alerts.ndjson has {len(invented)} alerts that the run without fault does not know")
    expect(damaged <= disk.cuts, f"{name}: {damaged} damaged lines in alerts.ndjson after {disk.cuts} cuts")
    say(f"{name}: {disk.story()}; at last {len(found)} of {len(expected)} incidents, {repeated(expected, found)} repeated triggers; "
        f"{len(alerts)} of {len(expected_alerts)} alerts in the file, {sum(alerts.values()) - len(alerts)} repeated, {damaged} damaged")


def deliver_rest(bench, source):
    for _ in range(20):
        process = bench.start(source, "max", stdin=subprocess.DEVNULL)
        if bench.finish(process)["deliveries_accepted"] == 0:
            return


def oracle(arguments, source, name):
    with new_bench(arguments, name) as bench:
        (bench.folder / "disk").mkdir()
        how = {}
        if source == "stdin:":
            how["stdin"] = open(arguments.stream, "rb")
        began = time.monotonic()
        summary = bench.finish(bench.start(source, "max", **how))
        seconds = time.monotonic() - began
        deliver_rest(bench, source)
        incidents = bench.mock.incidents()
        alerts, damaged = file_alerts(bench)
    judge_oracle(name, summary, seconds, incidents, arguments.events)
    expect(alerts and not damaged, f"{name}: void: {len(alerts)} alerts in the file, {damaged} damaged")
    return incidents, alerts


def moments_of(arguments, rng):
    """When the rounds of a file are cut. Every part of the pass gets its share, starting up and the end included."""
    count = arguments.cuts
    if arguments.options:  # a round goes on from a checkpoint of the one before: all rounds together are one pass
        return [rng.uniform(0, 1.7 * arguments.pass_seconds / count) for _ in range(count)]
    moments = [arguments.pass_seconds * 1.1 * (n + rng.random()) / count for n in range(count)]
    rng.shuffle(moments)
    return moments


def cut_a_file(arguments, expected, expected_alerts, rng):
    source = f"file:{arguments.stream}"
    with new_bench(arguments, "file") as bench:
        disk = Disk(bench.folder, arguments.shim, rng.getrandbits(63))
        hits = 0
        for moment in moments_of(arguments, rng):
            process = bench.start(source, arguments.speed, env=disk.environment())
            try:
                process.wait(timeout=moment)
                expect(process.returncode == 0, f"file: exit code {process.returncode}\n{bench.last_words()}")
            except subprocess.TimeoutExpired:
                hits += 1
            process.kill()
            process.wait()
            process.stdout.close()
            disk.cut()
            check_ledger("file", bench)
        summary = bench.finish(bench.start(source, "max", env=disk.environment()))
        disk.check_sight()
        deliver_rest(bench, source)
        expect(hits >= arguments.cuts // 2, f"file: void: only {hits} of {arguments.cuts} cuts hit a running process")
        expect(disk.cuts > 0, "file: void: no cut found unsynced bytes")
        say(f"file: {hits} of {arguments.cuts} cuts hit a running process; {summary['events']:,} events in the last run")
        expect(summary["events"] == arguments.events, f"file: {summary['events']} events at last")
        judge("file", bench, disk, expected, expected_alerts)


def places_of(rng, count, first):
    """The same for a pipe, as shares of its bytes. One cut in four falls into starting up, wherever it is."""
    places = sorted(rng.uniform(first, 1) for _ in range(count))
    return [0 if n % 4 == 3 else place for n, place in enumerate(places)]


class Pipe:
    """A run that reads what a thread writes into its stdin."""

    def __init__(self, bench, data, environment):
        self.process = bench.start("stdin:", "max", stdin=subprocess.PIPE, env=environment)
        self.written = [0]
        self.pipe = self.process.stdin
        self.process.stdin = None  # the thread closes it
        self.feeder = threading.Thread(target=feed, args=(self.pipe, data, self.written, CHUNK_BYTES))
        self.feeder.start()

    def cut_at(self, position_bytes, rng):
        """A moment after that much was written. False if the run had ended before."""
        while self.written[0] < position_bytes and self.process.poll() is None:
            time.sleep(0.002)
        try:
            self.process.wait(timeout=rng.uniform(0, 0.1))
        except subprocess.TimeoutExpired:
            pass
        running = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        self.feeder.join()
        self.process.stdout.close()
        try:
            self.pipe.close()
        except OSError:
            pass
        return running

    def finish(self, bench):
        summary = bench.finish(self.process)
        self.feeder.join()
        return summary


def lines_from(data, line):
    """Where a line begins."""
    at = 0
    for _ in range(line):
        at = data.index(b"\n", at) + 1
    return at


def check_evidence(name, bench, spikes, kept_lines):
    """No page may be about events that are gone. `kept_lines(line)` tells whether the log still has a line."""
    lines_of = dict(spikes)
    for call in bench.mock.calls():
        if call.get("opened"):
            user = re.search(r"user (u\d+)", call["summary"]).group(1)
            expect(any(kept_lines(line) for line in lines_of[user]),
                   f"{name}: the log lost all events of {user}, for whom a page had left")


def cut_a_pipe(arguments, spikes, expected, expected_alerts, rng):
    data = arguments.stream.read_bytes()
    with new_bench(arguments, "stdin") as bench:
        disk = Disk(bench.folder, arguments.shim, rng.getrandbits(63))
        log = bench.data / "kills/log-stdin"
        kept, lost, hits = 0, 0, 0
        for place in places_of(rng, arguments.cuts, 0.2):
            begin = lines_from(data, kept)
            pipe = Pipe(bench, data[begin:], disk.environment())
            hits += pipe.cut_at(place * len(data) - begin, rng)
            seen = logged_records(log)
            disk.cut()
            expect(logged_records(log) >= kept, f"stdin: the log went back from {kept} records to {logged_records(log)}")
            kept = logged_records(log)
            lost += seen - kept
            check_ledger("stdin", bench)
            check_evidence("stdin", bench, spikes, lambda line, end=kept: line < end)
        paged = len(bench.mock.incidents())
        summary = Pipe(bench, data[lines_from(data, kept):], disk.environment()).finish(bench)
        disk.check_sight()
        deliver_rest(bench, "stdin:")
        expect(hits > 0 and paged > 0, f"stdin: void: {hits} cuts hit a running process, {paged} incidents paged before the end")
        say(f"stdin: {hits} of {arguments.cuts} cuts hit a running process; {lost:,} records lost with the page cache and sent again")
        expect(summary["events"] == arguments.events, f"stdin: {summary['events']} events at last")
        judge("stdin", bench, disk, expected, expected_alerts)


def cut_a_lossy_pipe(arguments, rng):
    stream = arguments.folder / "lossy.ndjson"
    spikes = write_events(stream, arguments.events, arguments.seed, USERS, CALM_LOSSY, START_MS, broken_every=50)
    data = stream.read_bytes()
    lines = data.split(b"\n")[:-1]
    broken = {n for n, line in enumerate(lines) if not line.endswith(b"}")}
    with new_bench(arguments, "lossy") as bench:
        disk = Disk(bench.folder, arguments.shim, rng.getrandbits(63))
        log = bench.data / "kills/log-stdin"
        given = []  # numbers of the lines that the log holds
        at, hits = 0, 0
        cuts = max(2, arguments.cuts // 2)
        # Before the first page nothing is synced, and a cut there would take most of what calibration needs.
        for place in places_of(rng, cuts, CALM_LOSSY + 0.05):
            rest = b"\n".join(lines[at:]) + b"\n"
            pipe = Pipe(bench, rest, disk.environment())
            hits += pipe.cut_at(place * len(data) - (len(data) - len(rest)), rng)
            disk.cut()
            check_ledger("lossy", bench)
            kept = logged_records(log)
            expect(kept >= len(given), f"lossy: the log went back from {len(given)} records to {kept}")
            given += range(at, at + kept - len(given))
            check_evidence("lossy", bench, spikes, set(given).__contains__)
            # What the pipe may have taken: the writer never sends it again.
            at += rest.count(b"\n", 0, pipe.written[0] + CHUNK_BYTES)
        summary = Pipe(bench, b"\n".join(lines[at:]) + b"\n", disk.environment()).finish(bench)
        disk.check_sight()
        given += range(at, len(lines))
        deliver_rest(bench, "stdin:")
        found = bench.mock.incidents()
        opened = {}
        for call in bench.mock.calls():
            if call.get("opened"):
                user = re.search(r"user (u\d+)", call["summary"]).group(1)
                opened[user] = opened.get(user, 0) + 1
        letters, stale = set(), 0
        for line in (bench.data / "kills/dead_letters.ndjson").read_bytes().split(b"\n"):
            try:
                letter = json.loads(line) if line else None
            except ValueError:
                continue  # torn by a cut, and written again
            if letter is None:
                continue
            # What the log lost may have left its letter, and another record stands at its offset by now.
            offset = letter["offset"]
            if offset < len(given) and base64.b64decode(letter["bytes_base64"]) == lines[given[offset]]:
                letters.add(offset)
            else:
                stale += 1
    kept_lines = set(given)
    whole = [user for user, at_lines in spikes if int(user[1:]) % 4 != FILE_LANE and kept_lines.issuperset(at_lines)]
    missed = [user for user in whole if user not in opened]
    twice = [user for user, n in opened.items() if n > 1]
    set_aside = {offset for offset, line in enumerate(given) if line in broken}
    say(f"lossy: {hits} of {cuts} cuts hit a running process; {disk.story()}; {arguments.events - len(given):,} lines lost; at last "
        f"{summary['events']:,} events, {len(found)} incidents for {len(whole)} spikes that arrived whole, {len(letters)} dead letters "
        f"and {stale} of lost lines")
    expect(hits > 0 and whole and set_aside, f"lossy: void: {hits} cuts, {len(whole)} whole spikes, {len(set_aside)} broken lines")
    expect(summary["records"] == len(given), f"lossy: {len(given)} records kept, {summary['records']} seen")
    expect(summary["events"] == len(given) - len(set_aside), f"lossy: {len(given) - len(set_aside)} events kept, {summary['events']} seen")
    expect(not missed, f"lossy: {len(missed)} spikes that arrived whole were not paged, the first of {missed[0] if missed else ''}")
    expect(not twice, f"lossy: paged twice: {twice[:3]}")
    expect(set_aside <= letters, f"lossy: {len(set_aside - letters)} broken lines are not among the dead letters")
    expect(letters <= set_aside, f"lossy: {len(letters - set_aside)} good lines are among the dead letters")


def find_out_a_liar(arguments, expected):
    source = f"file:{arguments.stream}"
    with new_bench(arguments, "liar") as bench:
        disk = Disk(bench.folder, arguments.shim, arguments.seed)
        process = bench.start(source, arguments.speed, env=disk.environment(lies=True))
        deadline = time.monotonic() + RUN_SECONDS_MAX
        while sum(i["state"] == "resolved" for i in bench.mock.incidents().values()) < 3:
            expect(process.poll() is None and time.monotonic() < deadline, f"liar: nothing was resolved\n{bench.last_words()}")
            time.sleep(0.02)
        process.kill()
        process.wait()
        process.stdout.close()
        disk.cut(tear_files=False)
        bench.run(source, "max")
        try:
            compare("liar", expected, bench.mock.incidents())
        except Failure as found_out:
            say(f"found out: {found_out}")
            return
    raise Failure("void: a disk that keeps nothing passes for a good one")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=8, help="of each run with cuts; the lossy one gets half of them")
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alcedo", type=pathlib.Path, default=ROOT / "build/release/alcedo")
    parser.add_argument("--mock", type=pathlib.Path, default=ROOT / "build/release/pagerduty_mock")
    parser.add_argument("--cc", default="cc", help="the C compiler that builds the shim")
    parser.add_argument("--only", choices=("file", "stdin", "lossy", "liar"), help="one run of the four")
    parser.add_argument("--keep", action="store_true", help="leave the folder with data and logs")
    arguments = parser.parse_args()
    for program in (arguments.alcedo, arguments.mock):
        if not os.access(program, os.X_OK):
            say(f"{program} is not there: build it first")
            return 2
    if shutil.which(arguments.cc) is None:
        say(f"no C compiler {arguments.cc}: the shim cannot be built")
        return 77
    arguments.alcedo, arguments.mock = arguments.alcedo.resolve(), arguments.mock.resolve()
    arguments.shim = build_shim(arguments.alcedo.parent, arguments.cc)
    known = subprocess.run([arguments.alcedo, "run", "--help"], capture_output=True, text=True, check=True).stdout
    arguments.options = ("--checkpoint-every", "100ms") if "--checkpoint-every" in known else ()
    arguments.folder = pathlib.Path(tempfile.mkdtemp(prefix="alcedo-power-cut-"))
    arguments.stream = arguments.folder / "events.ndjson"
    arguments.pass_seconds = max(PASS_SECONDS, ROUND_SECONDS * arguments.cuts) if arguments.options else PASS_SECONDS
    arguments.speed = f"{arguments.events * STEP_MS / 1000 / arguments.pass_seconds:.0f}x"
    rng = random.Random(arguments.seed)
    began = time.monotonic()
    failed = False
    wanted = lambda name: arguments.only in (None, name)
    try:
        spikes = write_events(arguments.stream, arguments.events, arguments.seed, USERS, CALM, START_MS)
        say(f"seed {arguments.seed}: {arguments.events:,} events, {len(spikes)} spikes"
            f"{'; with ' + ' '.join(arguments.options) if arguments.options else ''}")
        if wanted("file") or wanted("liar"):
            incidents, alerts = oracle(arguments, f"file:{arguments.stream}", "oracle-file")
        if wanted("liar"):
            find_out_a_liar(arguments, incidents)
        if wanted("file"):
            cut_a_file(arguments, incidents, alerts, rng)
        if wanted("stdin"):
            cut_a_pipe(arguments, spikes, *oracle(arguments, "stdin:", "oracle-stdin"), rng)
        if wanted("lossy"):
            cut_a_lossy_pipe(arguments, rng)
    except Failure as failure:
        failed = True
        say(f"FAILED (seed {arguments.seed}): {failure}")
    finally:
        if arguments.keep:
            say(f"kept {arguments.folder}")
        else:
            shutil.rmtree(arguments.folder)
    say(f"{'failed' if failed else 'passed'} in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
