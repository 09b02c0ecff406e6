#!/usr/bin/env python3
"""Kills `alcedo run` at random moments and proves that no page is lost and none goes out twice.

A seeded stream with planted spikes goes through a small pipeline whose pages go to the PagerDuty mock. Four runs:
  oracle   without a fault: which incidents there are, and how each ends
  kill -9  the process is killed at random moments of the stream and restarted on the same data directory; then it may finish
  SIGTERM  the same with SIGTERM: it must exit with 0 within ten seconds
  stdin    events come through a pipe, one kill -9 in the middle, then the rest of the bytes: what the local log had is not lost
In each the mock must end with every incident opened exactly once and in the oracle's state. Moments come from --seed, but what a
process is doing at such a moment is the machine's affair: a failure is real, a repetition may pass.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
USERS = 500
STEP_MS = 100             # between events
SPIKES = 60
INCIDENTS_MIN = 20        # fewer and the test proves nothing
PASS_SECONDS = 2.5        # of one replay of the file, whatever the machine: kills must have something to hit
RUN_SECONDS_MAX = 60
SIGTERM_SECONDS_MAX = 10  # the promise
STARTED_SECONDS = 0.3     # before a process has taken up signals, SIGTERM simply ends it
DELIVERY_DELAY_MS = 20    # the mock answers this late, so that kills also fall between an acceptance and its record

# Four types on four routes with a key each: a route sends 60 calls at once and then two a second, and the test cannot wait.
LANES = 4


def pipeline_yaml(url, folder):
    lanes = range(LANES)
    for lane in lanes:
        (folder / f"key{lane}").write_text(f"{lane:032}\n")
    return "\n".join([
        "pipeline: kills",
        "events: {id: id, time: at}",
        "entities: {user: user_id}",
        "features:",
        *(f"  habit{lane}: {{baseline: amount{lane}, by: user}}" for lane in lanes),
        "detectors:",
        *(f"  habit{lane}_z: {{zscore: [habit{lane}], side: above, min_change: 50%}}" for lane in lanes),
        "anomalies:",
        *(f"  spike{lane}: {{votes: {{habit{lane}_z: 1}}, fire: {{threshold: 5}}, impact: high, quiet: 20m}}" for lane in lanes),
        "alerts:",
        *(f'  - {{to: pagerduty, name: pd{lane}, url: "{url}", key: "file:{folder}/key{lane}", when: {{type: spike{lane}}}}}'
          for lane in lanes),
        "  - {to: file, default: true}",
        "",
    ])


class Failure(Exception):
    """What a check found wrong, in one line."""


def say(text):
    print(text, flush=True)


def expect(holds, text):
    if not holds:
        raise Failure(text)


def write_events(path, count, seed):
    """Returns the spikes: for each the user and its lines, by number from 0."""
    rng = random.Random(seed)
    start_ms = 1_750_000_000_000
    # The first tenth is calm: histories and calibration grow. Every spike is a burst of its own user's events; users differ, so
    # that each spike is one incident. The last ones are still open when the stream ends.
    spikes = []
    planted = {}
    for n, user in enumerate(rng.sample(range(USERS), SPIKES)):
        line = int(count * (0.1 + 0.899 * (n + rng.random()) / SPIKES))
        lines = []
        for _ in range(rng.randint(3, 9)):
            line += rng.randint(1, 40)
            if line >= count:
                break
            planted[line] = user
            lines.append(line)
        if lines:
            spikes.append((f"u{user:03}", lines))
    usual = [rng.uniform(20, 200) for _ in range(USERS)]
    with open(path, "w", encoding="ascii") as out:
        for line in range(count):
            spike = planted.get(line)
            user = rng.randrange(USERS) if spike is None else spike
            # Bounded noise: only what was planted is far out.
            amount = usual[user] * (0.8 + 0.4 * rng.random()) * (1 if spike is None else 40)
            at_ms = start_ms + line * STEP_MS
            out.write(f'{{"id":"e{line}","at":{at_ms},"user_id":"u{user:03}","amount{user % LANES}":{amount:.2f}}}\n')
    return spikes


class Mock:
    """A PagerDuty of its own for each run."""

    def __init__(self, program, folder, delay_ms=0):
        port_file = folder / "mock.port"
        self.log = folder / "mock.log"
        self.process = subprocess.Popen(
            [program, "--no-rate-limit", "--port-file", port_file, "--log", self.log], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not (port_file.exists() and port_file.read_text().strip()):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                raise Failure("the mock does not start")
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{port_file.read_text().strip()}"
        if delay_ms:
            faults = [{"kind": "hang", "delay_ms": delay_ms, "count": 1_000_000}]
            urllib.request.urlopen(self.url + "/mock/faults", json.dumps(faults).encode(), timeout=10).close()

    def incidents(self):
        with urllib.request.urlopen(self.url + "/mock/incidents", timeout=10) as answer:
            return {incident["dedup_key"]: incident for incident in json.load(answer)["incidents"]}

    def calls(self):
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def stop(self):
        self.process.kill()
        self.process.wait()


class Bench:
    """One data directory with its pipeline and mock."""

    def __init__(self, arguments, name, delay_ms=0):
        self.alcedo = arguments.alcedo
        self.folder = arguments.folder / name
        self.folder.mkdir()
        self.mock = Mock(arguments.mock, self.folder, delay_ms)
        (self.folder / "pipe").mkdir()
        (self.folder / "pipe/pipeline.yaml").write_text(pipeline_yaml(self.mock.url, self.folder))
        self.errors = open(self.folder / "stderr", "ab")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.mock.stop()
        self.errors.close()

    def start(self, source, speed, **how):
        return subprocess.Popen(
            [self.alcedo, "run", self.folder / "pipe", "--source", source, "--speed", speed, "--data", self.folder / "data",
             "--json"], stdout=subprocess.PIPE, stderr=self.errors, cwd=self.folder, **how)

    def last_words(self):
        return (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")[-1500:]

    def finish(self, process, timeout_s=RUN_SECONDS_MAX):
        """The closing summary of a run that ends by itself or was asked to."""
        try:
            out, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failure(f"the run did not end within {timeout_s} s\n{self.last_words()}") from None
        expect(process.returncode == 0, f"exit code {process.returncode}\n{self.last_words()}")
        return json.loads(out)

    def run(self, source, speed):
        """Runs to the end; again while deliveries were left over, since a run waits only so long for its receiver."""
        began = time.monotonic()
        summary = self.finish(self.start(source, speed))
        seconds = time.monotonic() - began
        delivered = summary["deliveries_accepted"]
        for _ in range(20):
            if delivered == 0:
                break
            delivered = self.finish(self.start(source, "max"))["deliveries_accepted"]
        return summary, seconds


def compare(name, expected, found):
    """The promise: nothing lost, nothing paged twice, everything ends the same."""
    opened = {key for key, incident in found.items() if incident["opened"] > 0}
    wanted = {key for key, incident in expected.items() if incident["opened"] > 0}
    lost = sorted(wanted - opened)
    invented = sorted(opened - wanted)
    twice = sorted(key for key in found if found[key]["opened"] > 1)
    differs = sorted(key for key in wanted & opened if found[key]["state"] != expected[key]["state"])
    expect(not lost, f"{name}: {len(lost)} incidents lost, the first {lost[0] if lost else ''}")
    expect(not twice, f"{name}: {len(twice)} incidents paged twice, the first {twice[0] if twice else ''}")
    expect(not invented, f"{name}: {len(invented)} incidents that the run without fault does not know")
    expect(not differs, f"{name}: {len(differs)} incidents end in another state, the first {differs[0] if differs else ''}")


def repeated(expected, found):
    """Triggers beyond those of the run without fault: the same page sent again under its key."""
    return sum(max(0, found[key]["triggers"] - expected[key]["triggers"]) for key in expected if key in found)


def oracle(arguments, source):
    with Bench(arguments, "oracle") as bench:
        # At full speed, so that how a paced replay commits is judged too.
        summary, seconds = bench.run(source, "max")
        incidents = bench.mock.incidents()
    states = [incident["state"] for incident in incidents.values()]
    resolved = states.count("resolved")
    say(f"oracle: {summary['events']:,} events in {seconds:.1f} s; {len(incidents)} incidents, {resolved} resolved, "
        f"{len(states) - resolved} open at the end, {sum(i['triggers'] for i in incidents.values())} triggers")
    expect(summary["events"] == arguments.events, f"oracle: {arguments.events} events written, {summary['events']} seen")
    expect(len(incidents) >= INCIDENTS_MIN, f"void: only {len(incidents)} incidents, at least {INCIDENTS_MIN} are needed")
    expect(resolved >= INCIDENTS_MIN // 2, f"void: only {resolved} incidents resolve")
    expect(all(i["opened"] == 1 for i in incidents.values()), "oracle: an incident was opened twice without any fault")
    return incidents


def interrupt_at_random(arguments, source, expected, rng, name, signal_number, times):
    """Ends the process `times` times within its pass over the stream, then lets it finish."""
    with Bench(arguments, name, DELIVERY_DELAY_MS) as bench:
        hits, paged_before, slowest_s = 0, [], 0.0
        # Every part of the pass gets its share, starting up and the end included.
        moments = [PASS_SECONDS * 1.1 * (n + rng.random()) / times for n in range(times)]
        if signal_number == signal.SIGTERM:
            moments = [max(moment, STARTED_SECONDS) for moment in moments]
        rng.shuffle(moments)
        for moment in moments:
            process = bench.start(source, arguments.speed)
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


def logged_records(folder):
    """How many records of a local log verify; format in src/ingest/local_log.h."""
    count = 0
    for segment in sorted(folder.glob("*.log")):
        data = segment.read_bytes()
        expect(data[:8] == b"ALCLOG1\n", f"{segment} is not a log segment")
        salt, at = data[8:16], 16
        while at + 16 <= len(data):
            length, crc = struct.unpack_from("<II", data, at)
            length &= 0x7FFFFFFF
            end = at + 16 + length
            if end > len(data) or zlib.crc32(salt + data[at:at + 4] + data[at + 8:end]) != crc:
                break
            count += length > 0
            at = end
    return count


def feed(pipe, data, done):
    """Writes until the reader goes away; done[0] is how many bytes it took at most."""
    try:
        for at in range(0, len(data), 65_536):
            pipe.write(data[at:at + 65_536])
            done[0] = min(at + 65_536, len(data))
            time.sleep(0.005)  # so that pages leave before the input has ended
        pipe.close()
    except OSError:
        pass


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
    arguments.speed = f"{arguments.events * STEP_MS / 1000 / PASS_SECONDS:.0f}x"
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
        interrupt_at_random(arguments, source, incidents, rng, "sigterm", signal.SIGTERM, arguments.terms)
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
