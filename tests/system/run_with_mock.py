"""What the scripts that break a running `alcedo run` share: a seeded stream with planted spikes, a pipeline whose pages go to a
PagerDuty mock of its own, the run without a fault that all others are compared with, and what a local log still holds.
"""

import json
import pathlib
import random
import struct
import subprocess
import time
import urllib.request
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
USERS = 500
STEP_MS = 100             # between events
SPIKES = 60
INCIDENTS_MIN = 20        # fewer and the test proves nothing
ROUND_SECONDS = 0.35      # of one round, where rounds go on from checkpoints: many of those must fit
PASS_SECONDS = 2.5        # of one replay of the file, whatever the machine: kills must have something to hit
RUN_SECONDS_MAX = 60
DELIVERY_DELAY_MS = 20    # the mock answers this late, so that kills also fall between an acceptance and its record

# Four types on four routes with a key each: a route sends 60 calls at once and then two a second, and the test cannot wait.
LANES = 4


def pipeline_yaml(url, folder, file_lanes=()):
    """Incidents of `file_lanes` go to alerts.ndjson in the data directory, all others to the mock at `url`."""
    lanes = range(LANES)
    for lane in lanes:
        (folder / f"key{lane}").write_text(f"{lane:032}\n")
    return "\n".join([
        "pipeline: kills",
        "events: {id: id, time: at, ahead: none}",
        "entities: {user: user_id}",
        "features:",
        *(f"  habit{lane}: {{baseline: amount{lane}, by: user}}" for lane in lanes),
        "detectors:",
        *(f"  habit{lane}_z: {{zscore: [habit{lane}], side: above, min_change: 50%}}" for lane in lanes),
        "anomalies:",
        *(f"  spike{lane}: {{votes: {{habit{lane}_z: 1}}, fire: {{threshold: 5}}, impact: high, quiet: 20m}}" for lane in lanes),
        "alerts:",
        *(f'  - {{to: pagerduty, name: pd{lane}, url: "{url}", key: "file:{folder}/key{lane}", when: {{type: spike{lane}}}}}'
          for lane in lanes if lane not in file_lanes),
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


def write_events(path, count, seed, users=USERS, calm=0.1, start_ms=1_750_000_000_000, broken_every=0):
    """Returns the spikes: for each the user and its lines, by number from 0. One line in `broken_every` is no JSON."""
    rng = random.Random(seed)
    # The first part is calm: histories and calibration grow. Every spike is a burst of its own user's events; users differ, so
    # that each spike is one incident. The last ones are still open when the stream ends.
    spikes = []
    planted = {}
    for n, user in enumerate(rng.sample(range(users), SPIKES)):
        line = int(count * (calm + (0.999 - calm) * (n + rng.random()) / SPIKES))
        lines = []
        for _ in range(rng.randint(3, 9)):
            line += rng.randint(1, 40)
            if line >= count:
                break
            planted[line] = user
            lines.append(line)
        if lines:
            spikes.append((f"u{user:03}", lines))
    usual = [rng.uniform(20, 200) for _ in range(users)]
    with open(path, "w", encoding="ascii") as out:
        for line in range(count):
            spike = planted.get(line)
            user = rng.randrange(users) if spike is None else spike
            # Bounded noise: only what was planted is far out.
            amount = usual[user] * (0.8 + 0.4 * rng.random()) * (1 if spike is None else 40)
            at_ms = start_ms + line * STEP_MS
            if broken_every and spike is None and line % broken_every == broken_every // 2:
                out.write(f'{{"id":"e{line}","at":{at_ms},"user_id"\n')
                continue
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

    def __init__(self, arguments, name, delay_ms=0, data="data", file_lanes=(), options=()):
        self.alcedo = arguments.alcedo
        self.options = options
        self.folder = arguments.folder / name
        self.data = self.folder / data
        self.folder.mkdir()
        self.mock = Mock(arguments.mock, self.folder, delay_ms)
        (self.folder / "pipe").mkdir()
        (self.folder / "pipe/pipeline.yaml").write_text(pipeline_yaml(self.mock.url, self.folder, file_lanes))
        self.errors = open(self.folder / "stderr", "ab")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.mock.stop()
        self.errors.close()

    def start(self, source, speed, **how):
        return subprocess.Popen(
            [self.alcedo, "run", self.folder / "pipe", "--source", source, "--speed", speed, "--data", self.data, "--json",
             *self.options], stdout=subprocess.PIPE, stderr=self.errors, cwd=self.folder, **how)

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


def judge_oracle(name, summary, seconds, incidents, events):
    """A run without a fault that opens too little, or anything twice, proves nothing about one with."""
    states = [incident["state"] for incident in incidents.values()]
    resolved = states.count("resolved")
    say(f"{name}: {summary['events']:,} events in {seconds:.1f} s; {len(incidents)} incidents, {resolved} resolved, "
        f"{len(states) - resolved} open at the end, {sum(i['triggers'] for i in incidents.values())} triggers")
    expect(summary["events"] == events, f"{name}: {events} events written, {summary['events']} seen")
    expect(len(incidents) >= INCIDENTS_MIN, f"void: only {len(incidents)} incidents, at least {INCIDENTS_MIN} are needed")
    expect(resolved >= INCIDENTS_MIN // 2, f"void: only {resolved} incidents resolve")
    expect(all(i["opened"] == 1 for i in incidents.values()), f"{name}: an incident was opened twice without any fault")


def logged_records(folder):
    """How many records of a local log verify; format in src/ingest/local_log.h."""
    count = 0
    for segment in sorted(folder.glob("*.log")):
        data = segment.read_bytes()
        expect(b"ALCLOG1\n".startswith(data[:8].rstrip(b"\0")), f"{segment} is not a log segment")
        if len(data) < 16 or data[:8] != b"ALCLOG1\n":
            continue  # its header was never synced
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


def feed(pipe, data, done, chunk_bytes=65_536):
    """Writes until the reader goes away; done[0] is how many bytes it took at most."""
    try:
        for at in range(0, len(data), chunk_bytes):
            pipe.write(data[at:at + chunk_bytes])
            done[0] = min(at + chunk_bytes, len(data))
            time.sleep(0.005)  # so that pages leave before the input has ended
        pipe.close()
    except OSError:
        pass
