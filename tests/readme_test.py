#!/usr/bin/env python3
"""Runs what README tells a newcomer to paste, and checks that every file it points to is there.

usage: readme_test.py ALCEDO     ALCEDO is the program that stands in for build/release/alcedo
"""

import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block_after(heading):
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.search(r"```sh\n(.*?)```", section, re.DOTALL).group(1)


class ReadmeTest(unittest.TestCase):
    def test_the_links_lead_somewhere(self):
        links = re.findall(r"\]\(([^)#]+)\)", README)
        self.assertGreater(len(links), 4)
        self.assertEqual([], [link for link in links if "://" not in link and not (ROOT / link).exists()])

    def test_the_two_commands_are_verbs_of_dev(self):
        commands = [line.split("#")[0].split() for line in block_after("Two commands").splitlines()]
        self.assertEqual([["./dev", "demo"], ["./dev", "test"]], commands)
        text = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
        for _, verb in commands:
            self.assertRegex(text, rf"(?m)^  {verb}\b")

    def test_the_quick_start_finds_the_five_hot_minutes_and_nothing_else(self):
        with tempfile.TemporaryDirectory() as folder:
            script = block_after("Your own data").replace("/tmp/machines", folder)
            script = script.replace("build/release/alcedo", shlex.quote(ALCEDO))
            run = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True,
                                 timeout=60, check=False)
            self.assertEqual(0, run.returncode, run.stdout + run.stderr)
            alerts = (pathlib.Path(folder) / "alerts.ndjson").read_text(encoding="utf-8")
        shown = re.findall(r"```text\n(.*?)```", README.split("## Your own data\n", 1)[1], re.DOTALL)
        self.assertEqual(1, len(shown))
        for line in shown[0].splitlines():
            self.assertIn(line + "\n", run.stdout)
        steps = [json.loads(line) for line in alerts.splitlines()]
        self.assertGreater(len(steps), 0)
        self.assertEqual({"m2"}, {step["key"] for step in steps})
        self.assertEqual(["open", "resolve"], [steps[0]["step"], steps[-1]["step"]])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    ALCEDO = str(pathlib.Path(sys.argv.pop()).resolve())
    unittest.main()
