#!/usr/bin/env python3
"""Watches this machine with the shipped infrastructure pipeline, loads it, and waits for the alert.

After --quiet seconds of whatever the machine does anyway, busy loops take all its CPUs: an alert must show a CPU metric, what was seen
and what was expected. A second watcher, in a mount namespace of its own (root only), has a small file system that fills up to 95 %: an
alert must show filesystem_used_ratio. All series of a host are one incident, so where something else opened it before, it counts that
the series joins it. The pipeline is pipelines/infrastructure unchanged, but that every incident goes to a file. Incidents before the
load are printed, and fail the test only with --strict: a build machine is not quiet. What cannot be judged here (no root, CPUs busy
already) is left out, said, and makes the exit code 77.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
LOAD_SECONDS = 25
PATIENCE_SECONDS = 15  # after the load
BUSY_MAX = 0.35        # of all CPUs before the load; above, the load is nothing unusual and its part is skipped
# What all CPUs busy looks like in /proc.
CPU_METRICS = ("cpu_busy_ratio", "cpu_user_ratio", "process_cpu_ratio", "pressure_cpu_ratio", "load_average_1m",
               "processes_running")
DISK_METRICS = ("filesystem_used_ratio",)

# In a namespace of its own: the file system lives in memory and is gone with the last process that sees it.
MOUNT_AND_RUN = 'truncate -s 64M "$1" && mkfs.ext4 -q -F -m 0 "$1" && mount -o loop "$1" "$2" && shift 2 && exec "$@"'


def say(text):
    print(text, flush=True)


class Watcher:
    """alcedo run on this machine; its alerts go to a file."""

    def __init__(self, arguments, name, wrapper=()):
        self.folder = arguments.folder / name
        (self.folder / "pipe").mkdir(parents=True)
        text = (arguments.pipeline / "pipeline.yaml").read_text(encoding="utf-8")
        routes = f"alerts: [{{to: file, path: {self.folder}/alerts.ndjson, default: true}}]\n"
        text, replaced = re.subn(r"(?ms)^alerts:.*?(?=^\S|\Z)", lambda _: routes, text)
        if replaced != 1:
            raise RuntimeError("pipelines/infrastructure has no alerts: section")
        (self.folder / "pipe/pipeline.yaml").write_text(text, encoding="utf-8")
        self.errors = open(self.folder / "stderr", "wb")
        command = [arguments.alcedo, "run", self.folder / "pipe", "--source", "host:", "--data", self.folder / "data", "--json"]
        self.process = subprocess.Popen([*wrapper, *command], stdout=subprocess.PIPE, stderr=self.errors, cwd=self.folder)

    def alerts(self):
        """Incidents that opened and what was learnt of them later, in order."""
        path = self.folder / "alerts.ndjson"
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        return [alert for alert in map(json.loads, lines) if alert["step"] != "resolve"]

    def stop(self):
        """The exit code of a clean stop."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.errors.close()
        return self.process.returncode

    def words(self):
        return (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")


def cpu_ticks():
    """Busy and all ticks of all CPUs since boot."""
    ticks = [int(word) for word in pathlib.Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def explains(alert, metrics):
    """It says: this metric was so, and expected was that."""
    return any(metric in reason["text"] and "expected" in reason["text"] for metric in metrics for reason in alert["reasons"])


def joined(alert, metrics, known):
    """It adds one of these metrics' series to an incident that something else had opened before."""
    return any(metric in member and member not in known for metric in metrics for member in alert["members"])


def wait_for(watcher, metrics, before, seconds):
    """The first alert after the `before` oldest that shows one of the metrics; None if there is none in time."""
    known = {member for alert in watcher.alerts()[:before] for member in alert["members"]}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for alert in watcher.alerts()[before:]:
            if explains(alert, metrics) or joined(alert, metrics, known):
                return alert
        time.sleep(0.25)
    return None


def report(name, watcher, before, metrics, found):
    """Prints the alerts; returns how many incidents opened before the load."""
    alerts = watcher.alerts()
    opened = [alert for alert in alerts[:before] if alert["step"] == "open"]
    say(f"{name}: {len(opened)} incidents opened before it began")
    for alert in opened:
        say(f"  before {alert['last'][11:19]}  {alert['summary']}")
    for alert in alerts[before:]:
        say(f"  {'found ' if alert == found else 'after '} {alert['last'][11:19]}  {alert['step']}: {alert['summary']}; "
            f"{alert['members_total']} series: {', '.join(alert['members'])}")
    if found is None:
        say(f"  no alert shows one of {', '.join(metrics)}")
    return len(opened)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alcedo", type=pathlib.Path, default=ROOT / "build/release/alcedo")
    parser.add_argument("--mock", type=pathlib.Path, help="not used: which alerts there are is read from the file route")
    parser.add_argument("--pipeline", type=pathlib.Path, default=ROOT / "pipelines/infrastructure")
    parser.add_argument("--quiet", type=float, default=80, help="seconds before the load")
    parser.add_argument("--strict", action="store_true", help="a page before the load is a failure")
    parser.add_argument("--keep", action="store_true", help="leave the folder with data and logs")
    arguments = parser.parse_args()
    if not os.access(arguments.alcedo, os.X_OK):
        say(f"{arguments.alcedo} is not there: build it first")
        return 2
    if not pathlib.Path("/proc/stat").exists():
        say("skipped: there is no /proc")
        return SKIPPED
    arguments.alcedo = arguments.alcedo.resolve()
    arguments.folder = pathlib.Path(tempfile.mkdtemp(prefix="alcedo-host-load-"))
    # The small disk is kept in memory, so that filling it is no load of a real one.
    memory = pathlib.Path(tempfile.mkdtemp(prefix="alcedo-host-load-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    small = arguments.folder / "small"  # where it is mounted: what is below /dev is not watched
    small.mkdir()
    watchers, loops = [], []
    try:
        cpu = Watcher(arguments, "cpu")
        watchers.append(cpu)
        disk = None
        if os.geteuid() == 0 and shutil.which("unshare") and shutil.which("mkfs.ext4"):
            disk = Watcher(arguments, "disk", ("unshare", "-m", "sh", "-c", MOUNT_AND_RUN, "sh", memory / "image", small))
            watchers.append(disk)
        quiet_before = cpu_ticks()
        time.sleep(arguments.quiet)
        busy_ticks, all_ticks = (now - before for now, before in zip(cpu_ticks(), quiet_before, strict=True))
        busy = busy_ticks / max(1, all_ticks)
        say(f"without load: {arguments.quiet:.0f} s, CPUs {busy:.0%} busy")
        for watcher in watchers:
            if watcher is not disk and watcher.process.poll() is not None:
                say(f"FAILED: the watcher ended by itself\n{watcher.words()}")
                return 1
        if disk is not None and disk.process.poll() is not None:
            say(f"the disk part is skipped, no file system could be mounted: {disk.words().strip()}")
            disk = None

        failures = []
        if disk is not None:
            # /proc/PID/root is that process's view of the file system.
            inside = pathlib.Path(f"/proc/{disk.process.pid}/root{small}")
            space = os.statvfs(inside)
            before = len(disk.alerts())
            with open(inside / "filling", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, int(space.f_bfree * space.f_frsize - 0.05 * space.f_blocks * space.f_frsize))
            found = wait_for(disk, DISK_METRICS, before, PATIENCE_SECONDS)
            early = report("filling disk", disk, before, DISK_METRICS, found)
            if found is None:
                failures.append("the filling disk was not noticed")
            if early and arguments.strict:
                failures.append(f"{early} incidents before the disk filled")
        else:
            say("the disk part is skipped: it needs root, unshare, mkfs.ext4 and a loop device")

        if busy > BUSY_MAX:
            say(f"the CPU part is skipped: this machine was {busy:.0%} busy before the load")
            cpu_judged = False
        else:
            cpu_judged = True
            before = len(cpu.alerts())
            loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(max(2, os.cpu_count() or 2))]
            found = wait_for(cpu, CPU_METRICS, before, LOAD_SECONDS)
            for loop in loops:
                loop.kill()
                loop.wait()
            found = found or wait_for(cpu, CPU_METRICS, before, PATIENCE_SECONDS)
            early = report("CPU load", cpu, before, CPU_METRICS, found)
            if found is None:
                failures.append("the load was not noticed")
            if early and arguments.strict:
                failures.append(f"{early} incidents before the load")
        while watchers:
            watcher = watchers.pop()
            if watcher.process.poll() is None and (code := watcher.stop()) != 0:
                failures.append(f"exit code {code} after SIGTERM\n{watcher.words()}")
        for failure in failures:
            say(f"FAILED: {failure}")
        if failures:
            return 1
        skipped = [part for part, judged in (("disk", disk is not None), ("CPU", cpu_judged)) if not judged]
        say(f"passed{', skipped: ' + ' and '.join(skipped) if skipped else ''}")
        return SKIPPED if skipped else 0
    finally:
        for loop in loops:
            if loop.poll() is None:
                loop.kill()
        for watcher in watchers:
            watcher.stop()
        shutil.rmtree(memory, ignore_errors=True)
        if arguments.keep:
            say(f"kept {arguments.folder}")
        else:
            shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    sys.exit(main())
