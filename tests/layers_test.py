#!/usr/bin/env python3
"""Keeps the house rules that no compiler checks: who may include whom, first lines, names, lengths, machine paths.

usage: layers_test.py [ROOT]     checks a tree (default: this repository), prints each violation, exits 1 if there is one
       layers_test.py --self-test   proves on small trees that each rule refuses what it should, and nothing else
"""

import os
import pathlib
import re
import sys
import tempfile
import unittest

# What each folder of src/ may include besides itself. An arrow that is not here is refused; to add one is a decision to be
# written down in docs/decisions/.
ALLOWED = {
    "core": set(),
    "contract": {"core"},
    "ingest": {"core", "contract"},
    "features": {"core"},
    "models": {"core"},
    "decide": {"core"},
    "alert": {"core"},
    "evaluate": {"core"},
    "training": {"core", "models", "decide", "evaluate"},
    "monitor": {"core"},
    "serve": {"core", "features"},
    "pipeline": {"core", "contract", "ingest", "features", "models", "decide", "alert", "evaluate", "monitor"},
}

LINES_MAX = 800
VAGUE = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}
NOT_OURS = {".git", "build", "node_modules", "alcedo-data", "__pycache__", ".cache"}
COMMENT = {
    ".h": "//", ".cc": "//", ".ts": "//", ".tsx": "//", ".java": "//",
    ".py": '"""', ".sh": "#", ".cmake": "#", ".yaml": "#", ".yml": "#", "CMakeLists.txt": "#", "dev": "#", "run": "#",
}
TEXT = set(COMMENT) | {".md", ".json", ".avsc", ".svg", ".html", ".txt", ".css", ".csv"}
# Folders whose files are data: cases are wrong on purpose.
DATA = ("tests/golden/", "tests/fuzz_corpus/")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:work|root|home)/\w")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def kind(path):
    return path.name if path.name in COMMENT else path.suffix


def first_comment(path, lines):
    """The first line, or the second where the first says how to run the file."""
    first = lines[0] if lines else ""
    number = 1
    if first.startswith("#!"):
        first = lines[1] if len(lines) > 1 else ""
        number = 2
    return number, first.strip()


def check_includes(root, relative, lines):
    parts = relative.parts
    if parts[0] != "src" or len(parts) < 3:
        return
    layer = parts[1]
    if layer not in ALLOWED:
        yield 1, f"src/{layer} is no known layer; the layers are {', '.join(ALLOWED)}"
        return
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match.group(1)
        if ".." in pathlib.PurePosixPath(target).parts:
            yield number, f'"{target}" steps out of its folder; write quoted includes from src/ on'
            continue
        if not (root / "src" / target).is_file():
            yield number, f'"{target}" is not a path under src/; write quoted includes from src/ on'
            continue
        other = pathlib.PurePosixPath(target).parts[0]
        if other != layer and other not in ALLOWED[layer]:
            allowed = ", ".join(name for name in ALLOWED if name in ALLOWED[layer]) or "nothing else"
            yield number, f"{layer} may not include {other} (it may include {allowed})"


def check_first_line(relative, lines):
    mark = COMMENT.get(kind(relative))
    if mark is None:
        return
    number, line = first_comment(relative, lines)
    words = line.removeprefix(mark).strip()
    if not line.startswith(mark) or len(words.split()) < 4 or words.lower().startswith("copyright"):
        yield number, f"the first line must be a comment ({mark}) that says why the file exists"


def check_names(relative):
    for part in relative.parts:
        words = re.split(r"[_\-.]", part.lower())
        for word in words:
            if word in VAGUE:
                yield 1, f"'{part}': a name says what is inside; '{word}' does not"


def check_file(root, path):
    relative = path.relative_to(root)
    if kind(relative) not in TEXT or relative.as_posix().startswith(DATA):
        return
    yield from check_names(relative)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        yield 1, "not UTF-8"
        return
    yield from check_includes(root, relative, lines)
    yield from check_first_line(relative, lines)
    if kind(relative) in COMMENT and len(lines) > LINES_MAX:
        yield LINES_MAX + 1, f"{len(lines)} lines; a file has at most {LINES_MAX}"
    for number, line in enumerate(lines, 1):
        if MACHINE_PATH.search(line):
            yield number, "a path of one machine; the project runs anywhere"


def check(root):
    """All violations under root, as "file:line: rule", in the order of file names, and how many files were read."""
    violations = []
    files = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in NOT_OURS)
        for name in sorted(names):
            path = pathlib.Path(folder) / name
            if path.is_symlink():
                continue
            files += 1
            for number, rule in check_file(root, path):
                violations.append(f"{path.relative_to(root)}:{number}: {rule}")
    return violations, files


class RefusesViolations(unittest.TestCase):
    """Each rule against the smallest tree that breaks it."""

    WHY = "// Exists so that this test has a file.\n"

    def violations(self, files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
            return check(root)[0]

    def assert_refused(self, files, *expected):
        self.assertEqual(list(expected), self.violations(files))

    def test_a_clean_tree_passes(self):
        self.assert_refused({
            "src/core/word.h": self.WHY + "#pragma once\n#include <vector>\n",
            "src/contract/reader.cc": self.WHY + '#include "core/word.h"\n',
            "src/ingest/deep/file.h": self.WHY + '#include "contract/reader.cc"\n',
            "src/pipeline/all.h": self.WHY + '#include "ingest/deep/file.h"\n',
            "hosts/cli/main.cc": self.WHY + '#include "pipeline/all.h"\n',
            "dev": "#!/usr/bin/env bash\n# The one command of this tree.\n",
            "README.md": "# A tree\n",
            "build/src/core/util.h": "nothing that we wrote\n",
            "tests/golden/case/util.yaml": "data may be wrong on purpose\n" * (LINES_MAX + 1),
        })

    def test_an_arrow_to_the_right_is_refused(self):
        self.assert_refused(
            {"src/alert/ledger.h": self.WHY, "src/core/word.h": self.WHY + '\n#include "alert/ledger.h"\n'},
            "src/core/word.h:3: core may not include alert (it may include nothing else)")

    def test_siblings_are_refused_and_the_one_exception_is_not(self):
        self.assert_refused(
            {"src/contract/reader.h": self.WHY,
             "src/ingest/file.cc": self.WHY + '#include "contract/reader.h"\n',
             "src/features/plan_test.cc": self.WHY + '#  include "contract/reader.h"\n'},
            "src/features/plan_test.cc:2: features may not include contract (it may include core)")

    def test_a_stage_may_not_know_the_pipeline(self):
        self.assert_refused(
            {"src/pipeline/all.h": self.WHY, "src/evaluate/report.cc": self.WHY + '#include "pipeline/all.h"\n'},
            "src/evaluate/report.cc:2: evaluate may not include pipeline (it may include core)")

    def test_includes_start_at_src(self):
        self.assert_refused(
            {"src/alert/ledger.h": self.WHY,
             "src/alert/a.cc": self.WHY + '#include "ledger.h"\n',
             "src/alert/b.cc": self.WHY + '#include "../alert/ledger.h"\n'},
            'src/alert/a.cc:2: "ledger.h" is not a path under src/; write quoted includes from src/ on',
            'src/alert/b.cc:2: "../alert/ledger.h" steps out of its folder; write quoted includes from src/ on')

    def test_an_unknown_layer_is_refused(self):
        self.assert_refused({"src/magic/a.cc": self.WHY},
                            "src/magic/a.cc:1: src/magic is no known layer; the layers are " + ", ".join(ALLOWED))

    def test_a_file_says_why_it_exists(self):
        rule = "the first line must be a comment ({}) that says why the file exists"
        self.assert_refused(
            {"src/core/a.h": "#pragma once\n", "src/core/b.cc": "// b.cc\n", "src/core/c.cc": "",
             "src/core/d.cc": "// Copyright 2024 the authors of this\n",
             "tests/e.py": "#!/usr/bin/env python3\nimport os\n", "pipelines/x/pipeline.yaml": "pipeline: x\n"},
            "pipelines/x/pipeline.yaml:1: " + rule.format("#"), "src/core/a.h:1: " + rule.format("//"),
            "src/core/b.cc:1: " + rule.format("//"), "src/core/c.cc:1: " + rule.format("//"),
            "src/core/d.cc:1: " + rule.format("//"), "tests/e.py:2: " + rule.format('"""'))

    def test_vague_names_are_refused(self):
        self.assert_refused(
            {"src/core/string_util.h": self.WHY, "src/core/common/a.h": self.WHY, "src/core/commonly.h": self.WHY},
            "src/core/string_util.h:1: 'string_util.h': a name says what is inside; 'util' does not",
            "src/core/common/a.h:1: 'common': a name says what is inside; 'common' does not")

    def test_long_files_are_refused(self):
        self.assert_refused(
            {"src/core/a.h": self.WHY * LINES_MAX, "src/core/b.h": self.WHY * (LINES_MAX + 1)},
            f"src/core/b.h:{LINES_MAX + 1}: {LINES_MAX + 1} lines; a file has at most {LINES_MAX}")

    def test_machine_paths_are_refused(self):
        folder = "/".join(["", "home", "ann", "x"])
        self.assert_refused(
            {"src/core/a.h": self.WHY + f"// see {folder}\n", "docs/b.md": f"see `{folder}`\n",
             "docs/c.md": "https://example.org/home/ann and $HOME/home/x\n"},
            "docs/b.md:1: a path of one machine; the project runs anywhere",
            "src/core/a.h:2: a path of one machine; the project runs anywhere")


def main(arguments):
    if arguments == ["--self-test"]:
        unittest.main(argv=["layers_test"])
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print(__doc__, file=sys.stderr)
        return 2
    root = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parent.parent).resolve()
    violations, files = check(root)
    for violation in violations:
        print(violation)
    print(f"{files} files, {len(violations)} violations")
    # A tree without a file is a wrong path, not a clean tree.
    return 0 if files and not violations else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
