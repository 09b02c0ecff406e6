#!/usr/bin/env python3
"""What a person meets at the command line: exit codes, messages that say what to do, and outputs that programs can read.

usage: cli_test.py ALCEDO
"""

import csv
import gzip
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent

PIPELINE = """\
pipeline: machines
events: {time: time}
entities: {machine: machine}
features: {level: {baseline: temperature, by: machine}}
detectors: {level_z: {zscore: [level]}}
anomalies: {unusual: {votes: {level_z: 1}, fire: {threshold: 5}}}
alerts: [{to: file, default: true}]
calibrate_events: 500
"""

# name: (arguments, exit code, what stderr says). WORK/ has the files of setUp; {payments} is the shipped pipeline.
REFUSALS = {
    "no command": ([], 2, r"a command is needed.*\n.*--help"),
    "a command misspelt": (["evalute"], 2, r"no command 'evalute'; did you mean 'evaluate'\?"),
    "no pipeline": (["replay"], 2, r"PIPELINE is required\n.*alcedo replay --help"),
    "an option misspelt": (["replay", "p.yaml", "--event", "x"], 2, r"not expected: .*--event"),
    "no events": (["replay", "p.yaml"], 2, r"--events FILE.*--source URI"),
    "events twice": (["replay", "p.yaml", "--events", "r.csv", "--source", "file:r.csv"], 2, r"exclude each other"),
    "a missing pipeline": (["check", "nosuch.yaml"], 2, r"nosuch\.yaml: no such"),
    "a folder without a pipeline": (["check", "."], 2, r"pipeline\.yaml: no such file"),
    "a pipeline that is a program": (["check", "program.yaml"], 2, r"not UTF-8"),
    "a missing file": (["replay", "p.yaml", "--events", "nosuch.csv"], 2, r"nosuch\.csv: No such file.*check the path"),
    "a directory as events": (["replay", "p.yaml", "--events", "."], 2, r"is a directory; name its files"),
    "another delimiter": (["replay", "p.yaml", "--events", "semicolons.csv"], 2, r'set the delimiter \(";"\)'),
    "a truncated gzip": (["replay", "p.yaml", "--events", "short.csv.gz"], 1, r"gzip data ends too early.*fetch it again"),
    "an unknown source": (["replay", "p.yaml", "--source", "kafak://x/y"], 2, r"unknown source.*known are file:"),
    "an unknown option of a source": (["replay", "p.yaml", "--source", "simulate:payments?evnts=3"], 2,
                                      r'unknown option "evnts"; did you mean "events"'),
    "a source without end": (["replay", "p.yaml", "--source", "host:"], 2, r"use alcedo run"),
    "a speed that is none": (["replay", "p.yaml", "--events", "r.csv", "--speed", "fast"], 2, r"--speed fast: expected 1x"),
    "a full disk": (["replay", "p.yaml", "--events", "r.csv", "--out", "/dev/full"], 1, r"/dev/full: cannot write: No space"),
    "no labels": (["evaluate", "p.yaml", "--events", "r.csv"], 2, r"no labels: give --labels FILE"),
    "missing labels": (["evaluate", "p.yaml", "--events", "r.csv", "--labels", "nosuch.csv"], 2, r"nosuch\.csv: no such file"),
    "labels of another form": (["evaluate", "p.yaml", "--events", "r.csv", "--labels", "r.csv"], 2,
                               r"columns time, machine, temperature; expected .*entity,start,end"),
    "labels for labelled events": (["evaluate", "{payments}", "--source", "simulate:payments?events=10", "--labels", "l.csv"],
                                   2, r"carry their own; leave it out"),
    "a report in a file": (["evaluate", "p.yaml", "--events", "r.csv", "--labels", "l.csv", "--report", "r.csv"], 1,
                           r"r\.csv: cannot be made"),
    "data in a file": (["run", "p.yaml", "--events", "r.csv", "--data", "r.csv"], 1, r"cannot make the data directory"),
    "one pipeline twice": (["run", "p.yaml", "p.yaml", "--events", "r.csv"], 2, r"two pipelines named 'machines'"),
    "a page without a key": (["run", "{payments}", "--source", "simulate:payments?events=10"], 2,
                             r"PAGERDUTY_ROUTING_KEY.* is not set; export it"),
    "a bench without payments": (["bench", "p.yaml", "--rate", "100", "--seconds", "0.2", "--warm-up-events", "10"], 2,
                                 r"not one simulated payment is an event of pipeline 'machines'"),
}


class CliTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.work = pathlib.Path(folder.name)
        rows = ["time,machine,temperature"]
        for minute in range(600):
            for machine in (1, 2):
                hot = 15 if machine == 2 and 500 <= minute < 505 else 0
                rows.append(f"{1700000000 + 60 * minute},m{machine},{20 + math.sin(minute * machine) + hot:.2f}")
        text = "\n".join(rows) + "\n"
        self.write("p.yaml", PIPELINE)
        self.write("r.csv", text)
        self.write("semicolons.csv", text.replace(",", ";"))
        self.write("l.csv", "entity,start,end\nm2,2023-11-15T06:33:20Z,2023-11-15T06:38:00Z\n")
        (self.work / "program.yaml").write_bytes(b"\x7fELF\x02\x01\xff\x1b[2J")
        (self.work / "short.csv.gz").write_bytes(gzip.compress(text.encode())[:2000])

    def write(self, name, text):
        (self.work / name).write_text(text, encoding="utf-8")

    def alcedo(self, *arguments, code=0, **more):
        environment = {k: v for k, v in os.environ.items() if k != "PAGERDUTY_ROUTING_KEY"}
        run = subprocess.run([ALCEDO, *arguments], cwd=self.work, env=environment, capture_output=True, text=True,
                             timeout=60, check=False, errors="replace", **more)
        self.assertEqual(code, run.returncode, f"{arguments}\n{run.stdout}\n{run.stderr}")
        return run

    def test_every_refusal_says_what_and_what_to_do(self):
        for name, (arguments, code, says) in REFUSALS.items():
            with self.subTest(name):
                payments = str(ROOT / "pipelines/payments")
                run = self.alcedo(*[a.replace("{payments}", payments) for a in arguments], code=code)
                self.assertRegex(run.stderr, re.compile(says, re.DOTALL))
                self.assertTrue(all(c.isprintable() or c == "\n" for c in run.stderr), run.stderr)

    def test_every_command_has_help_with_an_example(self):
        commands = re.findall(r"(?m)^  (\w+) {3,}", self.alcedo("--help").stdout.split("Subcommands:")[1].split("Examples")[0])
        self.assertEqual(8, len(commands), commands)
        for command in commands:
            self.assertRegex(self.alcedo(command, "--help").stdout, rf"(?s)Example.*  .*alcedo {command}")

    def test_a_result_that_cannot_be_written_is_a_failure(self):
        for arguments in (["--help"], ["check", "p.yaml"], ["replay", "p.yaml", "--events", "r.csv", "--json"]):
            with open("/dev/full", "w", encoding="utf-8") as full:
                run = subprocess.run([ALCEDO, *arguments], cwd=self.work, stdout=full, stderr=subprocess.PIPE, text=True,
                                     timeout=60, check=False)
            self.assertEqual(1, run.returncode, arguments)
            self.assertRegex(run.stderr, "cannot write the result")

    def test_data_does_not_reach_the_terminal_as_control_characters(self):
        self.write("r.csv", (self.work / "r.csv").read_text(encoding="utf-8").replace("m2", "m\x1b[2J\x07\u009b"))
        run = self.alcedo("replay", "p.yaml", "--events", "r.csv")
        self.assertRegex(run.stdout, r"machine m\?\[2J\?\?")
        self.assertTrue(all(c.isprintable() or c == "\n" for c in run.stdout), run.stdout)

    def test_standard_input_is_read_as_a_file_is(self):
        text = (self.work / "r.csv").read_text(encoding="utf-8")
        named = self.alcedo("replay", "p.yaml", "--events", "r.csv").stdout
        self.assertIn("m2", named)
        self.assertEqual(named, self.alcedo("replay", "p.yaml", "--source", "stdin:?format=csv", input=text).stdout)
        wrong = self.alcedo("replay", "p.yaml", "--source", "stdin:", input=text)
        self.assertRegex(wrong.stderr, r"not one of 1,201 records is an event.*format: csv.*--dead-letters")
        self.assertRegex(self.alcedo("replay", "p.yaml", "--source", "stdin:", input="").stderr, "nothing to read")

    def test_a_journal_on_standard_input_raises_its_burst(self):
        lines = []
        for minute in range(2400):
            for unit in ("cron.service", "ssh.service"):
                for i in range(200 if (unit, minute) == ("ssh.service", 2200) else 1 + minute % 3):
                    line = {"__CURSOR": f"s={len(lines)}", "__REALTIME_TIMESTAMP": str((1700000000 + 60 * minute + i // 4) * 10**6),
                            "_HOSTNAME": "web1", "PRIORITY": "6", "MESSAGE": [104, 105, 255] if i == 1 else "accepted"}
                    if i != 2:
                        line["_SYSTEMD_UNIT"] = unit
                    lines.append(json.dumps(line))
        journal = str(ROOT / "docs/examples/journal")
        run = self.alcedo("run", journal, "--source", "stdin:", "--data", "d", "--json", input="\n".join(lines) + "\n")
        result = json.loads(run.stdout)
        self.assertEqual((len(lines), 0), (result["events"], result["dead_letters"]))
        steps = [json.loads(line) for line in (self.work / "d/journal/alerts.ndjson").read_text().splitlines()]
        self.assertEqual({"web1"}, {step["key"] for step in steps})
        self.assertIn("ssh.service", " ".join(step["summary"] + "".join(step["members"]) for step in steps))
        self.assertTrue(any(step["first"].startswith("2023-11-16T10:5") for step in steps), steps)

    def test_an_interrupt_ends_with_the_results_so_far(self):
        for command in (["replay", "--out", "a.ndjson", "--json"], ["evaluate", "--json", "--report", "rep"]):
            with self.subTest(command[0]):
                run = subprocess.Popen([ALCEDO, command[0], ROOT / "pipelines/payments", "--source",
                                        "simulate:payments?rate=1000&seconds=50", *command[1:]], cwd=self.work,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                time.sleep(1.5)
                run.send_signal(signal.SIGINT)
                out, err = run.communicate(timeout=20)
                self.assertEqual(0, run.returncode, err)
                result = json.loads(out)
                self.assertGreater(result.get("events", result.get("rows")), 0)
                self.assertIn("topped", out.lower())

    def test_outputs_for_programs_have_the_documented_fields(self):
        doc = (ROOT / "docs/outputs.md").read_text(encoding="utf-8")

        def documented(field):
            return f"`{field.removesuffix('_interval')}`" in doc

        alerts = self.alcedo("replay", "p.yaml", "--events", "r.csv", "--out", "-", "--scores", "s.csv").stdout
        for line in alerts.splitlines():
            for field in json.loads(line):
                self.assertTrue(documented(field), field)
        with open(self.work / "s.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(1200, len(rows))
        self.assertEqual({"m1", "m2"}, {row["machine"] for row in rows})
        self.assertEqual({"m2"}, {row["machine"] for row in rows if row["unusual.fired"] == "1"})
        self.assertEqual(5, sum(row["unusual.fired"] == "1" for row in rows))
        for row in rows:
            self.assertNotIn(None, row)
            for name, value in row.items():
                if name not in ("id", "time", "machine") and value:
                    float(value)
        self.assertLessEqual({"id", "time", "machine", "level.z", "level_z.score", "level_z.surprise", "unusual.score"},
                             set(rows[0]))
        for arguments in (["replay", "p.yaml", "--events", "r.csv", "--json"],
                          ["run", "p.yaml", "--events", "r.csv", "--data", "d", "--json"],
                          ["check", "p.yaml", "--json"],
                          ["evaluate", "p.yaml", "--events", "r.csv", "--labels", "l.csv", "--complete", "--json"]):
            for field in json.loads(self.alcedo(*arguments).stdout):
                self.assertTrue(documented(field), f"{field} of {arguments}")

    def test_pages_go_to_a_file_where_asked(self):
        self.write("p.yaml", PIPELINE.replace("{to: file, default", "{to: pagerduty, default"))
        self.alcedo("run", "p.yaml", "--events", "r.csv", "--data", "d", code=2)
        self.alcedo("run", "p.yaml", "--events", "r.csv", "--data", "d", "--pages-to-file")
        self.assertIn("m2", (self.work / "d/machines/pagerduty.ndjson").read_text(encoding="utf-8"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    ALCEDO = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
