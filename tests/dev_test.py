#!/usr/bin/env python3
"""Shows that ./dev does and says what its help promises, with stand-ins for the tools that it calls.

The stand-ins are shell scripts in a folder that comes first in PATH. Each writes its name and arguments to a log, so that a
test can say what was called, and behaves as the test's environment variables ask.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent

STAND_INS = {
    # Everything asked for is installed but what MISSING names and apt-get has not yet installed.
    "dpkg-query": """
        shift 3
        for package in "$@"; do
          case " $MISSING " in
            *" $package "*) if grep -q "^apt-get.* install .*$package" "$LOG"; then echo "installed $package"; fi ;;
            *) echo "installed $package" ;;
          esac
        done""",
    "apt-cache": """
        if [ -n "$NO_LISTS" ] && ! grep -q '^apt-get.* update' "$LOG"; then echo "  Candidate: (none)"; exit 0; fi
        shift
        for package in "$@"; do echo "  Candidate: 1.0"; done""",
    "apt-get": 'echo "apt-get says no" ; exit ${APT_STATUS:-0}',
    "id": "echo ${USER_ID:-0}",
    "sudo": '"$@"',
    "cmake": """
        case "$1" in
          --preset) mkdir -p "build/$2" ;;
          --build)
            case " $FAIL_BUILD " in *" ${2#build/} "*) echo "error: no such type"; exit 1 ;; esac
            printf '#!/bin/sh\\necho "{\\\\"ran\\\\": \\\\"$*\\\\"}"\\n' >"$2/alcedo"
            chmod +x "$2/alcedo" ;;
        esac
        echo "noise on stdout" """,
    "ctest": """
        folder=$2
        while [ $# -gt 0 ]; do if [ "$1" = --output-junit ]; then out=$2; fi; shift; done
        case $folder in build/release) set -- $RELEASE ;; build/dev) set -- $DEV ;; *) set -- $TSAN ;; esac
        printf '<?xml version="1.0"?>\\n<testsuite name="x"\\n\\ttests="%s"\\n\\tfailures="%s"\\n\\tdisabled="0"\\n' $1 $2 >"$out"
        printf '\\tskipped="%s"\\n>\\n\\t<testcase>tests="99"</testcase>' $3 >>"$out"
        echo "  Start  1: quiet"
        [ $2 = 0 ] && exit ${CTEST_STATUS:-0}
        echo "a failing test's output"
        exit 8""",
    "clang-format-19": "exit ${FORMAT_STATUS:-0}",
    "setarch": '[ "$2" = true ] && exit 0; shift; "$@"',
}


class DevTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.tree = pathlib.Path(self.folder.name) / "tree with a space"
        tools = pathlib.Path(self.folder.name) / "tools"
        for folder in (self.tree / "src" / "ingest", self.tree / ".ci", tools):
            folder.mkdir(parents=True)
        for layer in ("alert", "pipeline"):
            (self.tree / "src" / layer).mkdir()
        (self.tree / "src" / "ingest" / "file_test.cc").write_text("// A threaded suite for the stand-ins.\n")
        shutil.copy(ROOT / "dev", self.tree / "dev")
        shutil.copy(ROOT / ".ci" / "run", self.tree / ".ci" / "run")
        for name, body in STAND_INS.items():
            (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"$LOG"\n{body}\n')
            (tools / name).chmod(0o755)
        self.tools = tools
        self.log = pathlib.Path(self.folder.name) / "log"
        self.log.write_text("")
        self.environment = {
            "PATH": f"{tools}:/usr/bin:/bin", "LOG": str(self.log), "CI": "true", "ALCEDO_JOBS": "2", "MISSING": "",
            "RELEASE": "10 0 1", "DEV": "7 0 0", "TSAN": "3 0 0",
        }

    def dev(self, *arguments, program=("./dev",), **environment):
        return subprocess.run([*program, *arguments], cwd=self.tree, env=self.environment | environment, text=True,
                              capture_output=True, timeout=60, stdin=subprocess.DEVNULL, check=False)

    def calls(self, name):
        return [line for line in self.log.read_text().splitlines() if line.split(" ")[0] == name]

    def last_line(self, run):
        return run.stdout.splitlines()[-1]

    def test_no_verb_or_a_wrong_one_shows_the_help_and_exits_2(self):
        for arguments in ([], ["tests"], ["test", "--slow"], ["setup", "now"], ["build", "all"], ["tidy", "x"],
                          ["test", "--fuzz", "long"]):
            run = self.dev(*arguments)
            self.assertEqual(2, run.returncode, arguments)
            self.assertIn("usage: ./dev VERB", run.stderr)
            self.assertEqual("", run.stdout)
        self.assertEqual(0, self.dev("--help").returncode)
        self.assertIn("usage: ./dev VERB", self.dev("help").stdout)

    def test_setup_is_quiet_when_nothing_is_missing(self):
        run = self.dev("setup")
        self.assertEqual((0, "", ""), (run.returncode, run.stdout, run.stderr))
        self.assertEqual([], self.calls("apt-get"))

    def test_setup_says_what_it_installs_and_installs_only_that(self):
        run = self.dev("setup", MISSING="ninja-build clang-tidy-19")
        self.assertEqual(0, run.returncode, run.stderr)
        self.assertIn("Installing 2 missing Debian packages with apt-get: ninja-build clang-tidy-19", run.stderr)
        self.assertEqual(1, len(self.calls("apt-get")))
        self.assertTrue(self.calls("apt-get")[0].endswith("install --no-install-recommends ninja-build clang-tidy-19"))

    def test_package_lists_are_read_first_where_there_are_none(self):
        run = self.dev("setup", MISSING="cmake", NO_LISTS="1")
        self.assertEqual(0, run.returncode, run.stderr)
        self.assertEqual(["update", "cmake"], [call.split()[-1] for call in self.calls("apt-get")])

    def test_a_user_gets_sudo_or_else_the_line_to_run(self):
        run = self.dev("setup", MISSING="cmake", USER_ID="1000")
        self.assertEqual(0, run.returncode, run.stderr)
        self.assertIn("with sudo apt-get: cmake", run.stderr)
        self.assertEqual(1, len(self.calls("sudo")))

        (self.tools / "sudo").unlink()
        self.log.write_text("")
        # Only the stand-ins and what bash needs: this machine may have a sudo.
        path = pathlib.Path(self.folder.name) / "path"
        path.mkdir()
        for tool in ("bash", "env", "dirname", "grep", "sh"):
            (path / tool).symlink_to(shutil.which(tool))
        run = self.dev("setup", MISSING="cmake g++", USER_ID="1000", PATH=f"{self.tools}:{path}")
        self.assertEqual(1, run.returncode)
        self.assertIn("apt-get update && apt-get install -y --no-install-recommends g++ cmake\n", run.stderr)
        self.assertEqual([], self.calls("apt-get"))

    def test_a_failing_apt_get_is_shown(self):
        run = self.dev("build", MISSING="cmake", APT_STATUS="100")
        self.assertEqual(1, run.returncode)
        self.assertIn("apt-get says no", run.stderr)
        self.assertEqual([], self.calls("cmake"))

    def test_the_demo_leaves_stdout_to_the_program_and_needs_no_test_libraries(self):
        run = self.dev("demo", "--json", "--seconds", "5", MISSING="libgtest-dev clang-format-19")
        self.assertEqual((0, '{"ran": "demo --json --seconds 5"}\n'), (run.returncode, run.stdout), run.stderr)
        self.assertEqual([], self.calls("apt-get"))
        self.assertIn("-DALCEDO_TESTS=OFF", self.calls("cmake")[0])

    def test_a_failing_build_stops_the_demo_with_its_log(self):
        run = self.dev("demo", FAIL_BUILD="release")
        self.assertEqual((1, ""), (run.returncode, run.stdout))
        self.assertIn("error: no such type", run.stderr)

    def test_the_last_line_counts_every_suite(self):
        run = self.dev("test")
        self.assertEqual(0, run.returncode, run.stderr)
        # format + (10 - 1 skipped) + 7 + 3
        self.assertEqual("20 passed, 0 failed, 1 skipped", self.last_line(run))
        self.assertIn("^(ingest|alert|pipeline|serve)\\.", self.calls("ctest")[2])
        self.assertNotIn("quiet", run.stdout)

    def test_quick_runs_one_build(self):
        run = self.dev("test", "--quick", RELEASE="4 0 0")
        self.assertEqual((0, "5 passed, 0 failed"), (run.returncode, self.last_line(run)))

    def test_a_pattern_runs_the_tests_it_names(self):
        run = self.dev("test", "--quick", "core.Hash", RELEASE="2 0 0")
        self.assertEqual((0, "2 passed, 0 failed"), (run.returncode, self.last_line(run)))
        self.assertIn("-R core.Hash", self.calls("ctest")[0])

    def test_it_goes_on_after_failures_and_counts_them(self):
        run = self.dev("test", RELEASE="10 2 0", FORMAT_STATUS="1")
        self.assertEqual((1, "18 passed, 3 failed"), (run.returncode, self.last_line(run)))
        self.assertIn("a failing test's output", run.stdout)

        run = self.dev("test", FAIL_BUILD="dev", RELEASE="10 0 0")
        self.assertEqual((1, "14 passed, 1 failed"), (run.returncode, self.last_line(run)))

    def test_a_ctest_that_fails_without_a_failed_test_is_a_failure(self):
        run = self.dev("test", "--quick", RELEASE="10 0 0", CTEST_STATUS="8")
        self.assertEqual((1, "11 passed, 1 failed"), (run.returncode, self.last_line(run)))

    def test_peers_need_java_and_maven_and_say_so_before_anything_is_built(self):
        # Only what bash needs, as this machine may have a Java.
        path = pathlib.Path(self.folder.name) / "path"
        path.mkdir()
        for tool in ("bash", "env", "dirname", "grep", "sh", "python3", "nproc", "awk", "cat", "mkdir", "tail", "chmod"):
            (path / tool).symlink_to(shutil.which(tool))
        run = self.dev("bench", "peers", PATH=f"{self.tools}:{path}")
        self.assertEqual((2, ""), (run.returncode, run.stdout), run.stderr)
        self.assertIn("there is no java", run.stderr)
        self.assertIn("apt-get install -y --no-install-recommends openjdk-17-jdk-headless maven\n", run.stderr)
        self.assertEqual(([], []), (self.calls("cmake"), self.calls("apt-get")))

        for tool in ("java", "javac", "mvn"):
            (self.tools / tool).write_text(f'#!/bin/sh\necho "{tool} $*" >>"$LOG"\nexit ${{MAVEN_STATUS:-0}}\n')
            (self.tools / tool).chmod(0o755)
        (self.tree / "bench" / "peers").mkdir(parents=True)
        (self.tree / "bench" / "peers" / "peers.py").write_text("import sys\nprint('measured', *sys.argv[1:])\n")
        run = self.dev("bench", "peers", "--runs", "1", PATH=f"{self.tools}:{path}")
        self.assertEqual((0, "measured --runs 1\n"), (run.returncode, run.stdout), run.stderr)
        self.assertIn(f"-Dmaven.repo.local={self.tree}/build/bench/maven", self.calls("mvn")[0])

        run = self.dev("bench", "peers", PATH=f"{self.tools}:{path}", MAVEN_STATUS="1")
        self.assertEqual((1, ""), (run.returncode, run.stdout))
        self.assertIn("Maven could not build the Flink jobs", run.stderr)

    def test_detection_installs_its_python_packages_once_and_again_when_they_change(self):
        (self.tools / "python3").write_text(
            '#!/bin/sh\necho "python3 $*" >>"$LOG"\nfor last; do :; done\nrm -rf "$last"; mkdir -p "$last/bin"\n'
            'printf \'#!/bin/sh\\necho "python $*" >>"$LOG"\\necho "measured $*"\\nexit ${PIP_STATUS:-0}\\n\' >"$last/bin/python"\n'
            'chmod +x "$last/bin/python"\n')
        (self.tools / "python3").chmod(0o755)
        (self.tree / "bench" / "detection").mkdir(parents=True)
        wanted = self.tree / "bench" / "detection" / "requirements.txt"
        wanted.write_text("one==1\n")
        venv = "build/bench/detection-venv"
        install = f"python -m pip install --disable-pip-version-check -r bench/detection/requirements.txt"

        for tool in ("java", "javac", "mvn"):
            (self.tools / tool).write_text(f'#!/bin/sh\necho "{tool} $*" >>"$LOG"\nexit ${{MAVEN_STATUS:-0}}\n')
            (self.tools / tool).chmod(0o755)
        run = self.dev("bench", "detection", PIP_STATUS="1")
        self.assertEqual((1, ""), (run.returncode, run.stdout), run.stderr)
        self.assertIn("pip failed", run.stderr)
        for content, installs in (("one==1\n", 2), ("one==1\n", 2), ("one==2\n", 3)):
            wanted.write_text(content)
            run = self.dev("bench", "detection", "--quick")
            self.assertEqual((0, "measured -B bench/detection/detection.py --quick\n"), (run.returncode, run.stdout), run.stderr)
            self.assertEqual([f"python3 -m venv --clear {venv}"] * installs, self.calls("python3"))
            self.assertEqual([install] * installs, [call for call in self.calls("python") if " pip " in call])
        self.assertIn("-f bench/detection/rcf ", self.calls("mvn")[0])
        run = self.dev("bench", "detection", MAVEN_STATUS="1")
        self.assertEqual((1, ""), (run.returncode, run.stdout))
        self.assertIn("Maven could not build bench/detection/rcf", run.stderr)

    def test_nothing_run_is_no_success(self):
        run = self.dev("test", "--quick", "nothing", RELEASE="0 0 0")
        self.assertEqual((1, "0 passed, 0 failed"), (run.returncode, self.last_line(run)))

    def test_continuous_integration_runs_the_same(self):
        run = self.dev(program=("bash", ".ci/run"))
        self.assertEqual((0, "20 passed, 0 failed, 1 skipped"), (run.returncode, self.last_line(run)))


if __name__ == "__main__":
    unittest.main()
