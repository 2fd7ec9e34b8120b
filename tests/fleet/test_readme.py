"""The examples of the README and of docs/ run, and print what the documents say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local import DEFAULT_PORTS, ROOT, LocalFleet
from deploy.local.words import words

pytestmark = pytest.mark.fleet

README = (ROOT / "README.md").read_text()
EXAMPLES = re.compile(r"<!-- examples -->(.*?)<!-- end of examples -->", re.DOTALL)
WITH_EXAMPLES = [
    page for page in sorted((ROOT / "docs").glob("*.md")) if EXAMPLES.search(page.read_text())
]


@dataclass(frozen=True)
class Example:
    command: str
    answer: str


def examples(page: str) -> list[Example]:
    """The commands of a page's marked blocks, in their order."""
    marked = "\n".join(EXAMPLES.findall(page))
    found = []
    for block in re.findall(r"```console\n(.*?)```", marked, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            # A command goes on while its lines end in a backslash.
            match = re.match(r"((?:.*\\\n)*.*)\n?", part)
            assert match is not None
            found.append(Example(match[0].strip(), part[match.end() :].strip()))
    return found


def answers_as_documented(documented: str, got: str) -> bool:
    """Whether `got` is what the README says; `…` stands for what differs each time.

    Processors differ in the case and punctuation of what is recognized, so in an answer that holds
    a transcript neither counts.
    """
    if "morning" in documented:
        documented, got = _without_punctuation(documented), _without_punctuation(got)
    pattern = ".*".join(re.escape(part) for part in documented.split("…"))
    return re.fullmatch(pattern, got, re.DOTALL) is not None


def _without_punctuation(text: str) -> str:
    return re.sub(r"[.,!?]|%2C", "", text).lower()


def test_each_task_has_a_page_with_examples() -> None:
    assert {page.stem for page in WITH_EXAMPLES} >= {"speak", "listen", "live", "echo", "operate"}


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_every_example_of_a_page_prints_what_the_page_says(
    fleet: LocalFleet, tmp_path: Path, page: Path
) -> None:
    # The commands run one after another in one folder that looks like a checkout: later examples
    # use what earlier ones wrote.
    (tmp_path / "client").symlink_to(ROOT / "client")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for example in examples(page.read_text()):
        command = example.command
        for name, port in DEFAULT_PORTS.items():
            command = command.replace(f"localhost:{port}", f"127.0.0.1:{fleet.ports[name]}")
        ended = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        said = (ended.stdout + ended.stderr).strip()
        assert answers_as_documented(example.answer, said), f"{command}\n{said}"


def test_the_python_example_prints_what_the_readme_says(fleet: LocalFleet, tmp_path: Path) -> None:
    match = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)
    assert match is not None
    program = tmp_path / "example.py"
    program.write_text(match[1].replace("http://localhost:8000", fleet.url("gateway")))
    ended = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stderr == ""
    printed, documented = ended.stdout.splitlines(), match[2].splitlines()
    assert [words(line) for line in printed] == [words(line) for line in documented]
