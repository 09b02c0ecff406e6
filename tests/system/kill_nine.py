#!/usr/bin/env python3
"""Kills `alcedo run` at random moments and proves that no page is lost and none goes out twice.

A seeded stream with planted spikes goes through a small pipeline whose pages go to the PagerDuty mock. Four runs:
  oracle   without a fault: which incidents there are, and how each ends
  kill -9  the process is killed at random moments of the stream and restarted on the same data directory; then it may finish
  kill -9 with checkpoints   the same, where each process goes on from a checkpoint: all of them together are one pass
  SIGTERM  the same with SIGTERM: it must exit with 0 within ten seconds
  stdin    events come through a pipe, one kill -9 in the middle, then the rest of the bytes: what the local log had is not lost
In each the mock must end with every incident opened exactly once and in the oracle's state. Moments come from --seed, but what a
process is doing at such a moment is the machine's affair: a failure is real, a repetition may pass.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from run_with_mock import (DELIVERY_DELAY_MS, PASS_SECONDS, ROOT, ROUND_SECONDS, RUN_SECONDS_MAX, STEP_MS, Bench, Failure,
                           compare, expect, feed, judge_oracle, logged_records, repeated, say, write_events)

CHECKPOINT_EVERY = "100ms"
SIGTERM_SECONDS_MAX = 10  # the promise
STARTED_SECONDS = 0.3     # before a process has taken up signals, SIGTERM simply ends it


def oracle(arguments, source):
    with Bench(arguments, "oracle") as bench:
        # At full speed, so that how a paced replay commits is judged too.
        summary, seconds = bench.run(source, "max")
        incidents = bench.mock.incidents()
    judge_oracle("oracle", summary, seconds, incidents, arguments.events)
    return incidents


def interrupt_at_random(arguments, source, expected, rng, name, signal_number, times, checkpoints=False):
    """Ends the process `times` times within its pass over the stream, then lets it finish."""
    options = ("--checkpoint-every", CHECKPOINT_EVERY if checkpoints else "0s")
    with Bench(arguments, name, DELIVERY_DELAY_MS, options=options) as bench:
        hits, paged_before, slowest_s = 0, [], 0.0
        # Every part of the pass gets its share, starting up and the end included.
        moments = [PASS_SECONDS * 1.1 * (n + rng.random()) / times for n in range(times)]
        rng.shuffle(moments)
        speed = arguments.speed
        if checkpoints:
            speed = f"{arguments.event_seconds / (ROUND_SECONDS * times):.3g}x"
            moments = [rng.uniform(0, 1.7 * ROUND_SECONDS) for _ in range(times)]
        if signal_number == signal.SIGTERM:
            moments = [max(moment, STARTED_SECONDS) for moment in moments]
        for moment in moments:
            process = bench.start(source, speed)
            try:
                process.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                hits += 1
                asked = time.monotonic()
                process.send_signal(signal_number)
                if signal_number == signal.SIGTERM:
                    bench.finish(process, SIGTERM_SECONDS_MAX)
                    slowest_s = max(slowest_s, time.monotonic() - asked)
            process.stdout.close()
            process.wait()
            code_expected = -signal.SIGKILL if signal_number == signal.SIGKILL else 0
            expect(process.returncode in (0, code_expected), f"exit code {process.returncode}\n{bench.last_words()}")
            paged_before.append(len(bench.mock.incidents()))
        summary, _ = bench.run(source, "max")
        found = bench.mock.incidents()
    more = f", the slowest exit took {slowest_s:.1f} s" if signal_number == signal.SIGTERM else ""
    say(f"{name}: {hits} of {times} hit while running{more}; incidents known to the receiver after each: {paged_before}; at last "
        f"{len(found)} of {len(expected)}, {summary['events']:,} events, {repeated(expected, found)} repeated triggers")
    expect(hits >= times // 2, f"{name}: void: only {hits} of {times} hit a running process")
    compare(name, expected, found)


def through_a_pipe(arguments, spikes, rng):
    data = arguments.stream.read_bytes()
    with Bench(arguments, "stdin", DELIVERY_DELAY_MS) as bench:
        process = bench.start("stdin:", "max", stdin=subprocess.PIPE)
        written = [0]
        feeder = threading.Thread(target=feed, args=(process.stdin, data, written))
        feeder.start()
        kill_at = rng.uniform(0.4, 0.6) * len(data)
        deadline = time.monotonic() + RUN_SECONDS_MAX
        while written[0] < kill_at and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        process.wait()
        feeder.join()
        process.stdout.close()
        in_log = logged_records(bench.folder / "data/kills/log-stdin")
        before = bench.mock.incidents()
        # What a pipe held is gone with it; the feeder goes on with the first whole line that it had not written.
        rest_at = data.find(b"\n", written[0] + 65_536) + 1
        rest_line = data.count(b"\n", 0, rest_at)
        expect(0 < in_log <= rest_line and rest_at > 0, f"stdin: void: {in_log} records in the log, {rest_line} lines given")
        process = bench.start("stdin:", "max", stdin=subprocess.PIPE)
        feeder = threading.Thread(target=feed, args=(process.stdin, data[rest_at:], [0]))
        feeder.start()
        process.stdin = None  # the feeder closes it
        summary = bench.finish(process)
        feeder.join()
        found = bench.mock.incidents()
        opened = [call for call in bench.mock.calls() if call.get("opened")]
    lost_lines = range(in_log, rest_line)
    whole = [(user, lines) for user, lines in spikes if not any(line in lost_lines for line in lines)]
    by_user = {}
    for call in opened:
        key = re.search(r"user (u\d+)", call["summary"]).group(1)
        by_user[key] = by_user.get(key, 0) + 1
    missed = [user for user, _ in whole if user not in by_user]
    say(f"stdin: killed with {in_log:,} records in the log and {len(before)} incidents paged; {len(lost_lines):,} lines lost with "
        f"the pipe; at last {summary['events']:,} events, {len(found)} incidents for {len(whole)} spikes that arrived whole")
    expect(summary["events"] == in_log + arguments.events - rest_line,
           f"stdin: {in_log} records logged and {arguments.events - rest_line} given after the restart, {summary['events']} seen")
    expect(not missed, f"stdin: {len(missed)} spikes that arrived whole were not paged, the first of {missed[0] if missed else ''}")
    expect(before.keys() <= found.keys(), "stdin: an incident is unknown after the restart")
    twice = [key for key, incident in found.items() if incident["opened"] > 1] + [u for u, n in by_user.items() if n > 1]
    expect(not twice, f"stdin: paged twice: {twice[:3]}")
    expect(len(before) > 0, "stdin: void: nothing was paged before the kill")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--terms", type=int, default=3, help="how often SIGTERM is sent")
    parser.add_argument("--events", type=int, default=250_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alcedo", type=pathlib.Path, default=ROOT / "build/release/alcedo")
    parser.add_argument("--mock", type=pathlib.Path, default=ROOT / "build/release/pagerduty_mock")
    parser.add_argument("--keep", action="store_true", help="leave the folder with data and logs")
    arguments = parser.parse_args()
    for program in (arguments.alcedo, arguments.mock):
        if not os.access(program, os.X_OK):
            say(f"{program} is not there: build it first")
            return 2
    arguments.alcedo, arguments.mock = arguments.alcedo.resolve(), arguments.mock.resolve()
    arguments.folder = pathlib.Path(tempfile.mkdtemp(prefix="alcedo-kill-nine-"))
    arguments.stream = arguments.folder / "events.ndjson"
    arguments.event_seconds = arguments.events * STEP_MS / 1000
    arguments.speed = f"{arguments.event_seconds / PASS_SECONDS:.0f}x"
    rng = random.Random(arguments.seed)
    began = time.monotonic()
    failed = False
    try:
        spikes = write_events(arguments.stream, arguments.events, arguments.seed)
        source = f"file:{arguments.stream}"
        say(f"seed {arguments.seed}: {arguments.events:,} events, {len(spikes)} spikes, "
            f"{arguments.stream.stat().st_size / 1e6:.0f} MB, written in {time.monotonic() - began:.1f} s")
        incidents = oracle(arguments, source)
        interrupt_at_random(arguments, source, incidents, rng, "kill-9", signal.SIGKILL, arguments.kills)
        interrupt_at_random(arguments, source, incidents, rng, "kill-9 with checkpoints", signal.SIGKILL, arguments.kills,
                            checkpoints=True)
        interrupt_at_random(arguments, source, incidents, rng, "sigterm", signal.SIGTERM, arguments.terms, checkpoints=True)
        through_a_pipe(arguments, spikes, rng)
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
