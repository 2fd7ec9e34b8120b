"""This program installs the project and its pinned packages into a virtual environment.

    setup.py run                             what the fleet needs, into .venv
    setup.py dev [--venv .venv-3.10]         that, and what tests and lint need
    setup.py voices --venv .venv-voices      the tools that prepare voices (torch, Coqui)
    setup.py clients --venv .venv-clients    other people's clients: Pipecat, LiveKit
    setup.py docs --venv .venv-docs          what builds the documentation

It uses nothing but the standard library, since it runs before anything is installed. A failure ends
in a sentence that says what to do; the output of pip is in `setup.log` in the environment. A stamp
file in the environment tells make that the installation is up to date.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INCLUDED = {
    "run": ("run",),
    "dev": ("run", "dev"),
    "voices": ("voices",),
    "voices-dev": ("voices", "voices-dev"),
    "clients": ("clients",),
    "docs": ("docs",),
}
"""Each extra with those that it includes, whose stamps are written too."""

CONSTRAINTS = {
    "voices": "constraints/voices.txt",
    "voices-dev": "constraints/voices.txt",
    "clients": "constraints/clients.txt",
    "docs": "constraints/docs.txt",
}
"""Where the versions of an extra are pinned, if not in constraints/fleet.txt. That file is without
torch, and other people's clients need other versions."""

FIRST = {"voices": ("torch", "six"), "voices-dev": ("torch", "six")}
"""Packages that are installed before the extra. Coqui does not depend on torch, so that users may
choose a build: PIP_EXTRA_INDEX_URL says from where, and an installed one stays."""

FINDINGS = (
    (
        r"No space left on device",
        "The disk is full: the packages need about 700 MB.",
    ),
    (
        r"NewConnectionError|Failed to establish a new connection|NameResolutionError"
        r"|Temporary failure in name resolution|Network is unreachable|ConnectTimeoutError"
        r"|ReadTimeoutError|ProxyError|SSLError|connection broken by|ConnectionRefusedError",
        "The package index cannot be reached: check the network and, behind a proxy or with a "
        "mirror of your own, HTTPS_PROXY and PIP_INDEX_URL; then run the same command again.",
    ),
    (
        r"command '\S*(gcc|cc|clang|g\+\+|c\+\+)\S*' failed|Microsoft Visual C\+\+ \d|No such file "
        r"or directory: '\S*(gcc|cc|clang|g\+\+|c\+\+)'|[Cc]ompiler \S+ (was )?not found"
        r"|CMAKE_C(XX)?_COMPILER|linker `cc` not found",
        "A package has no ready-made build for this Python and machine, and compiling it failed: "
        "install a C and C++ compiler (Debian, Ubuntu: apt install build-essential python3-dev; "
        "macOS: xcode-select --install), or use Python 3.10 to 3.13, for which builds exist.",
    ),
    (
        r"No matching distribution found for",
        "The package index does not have a version that constraints/fleet.txt names for this "
        "Python and machine: use Python 3.10 to 3.13 (PYTHON=…), or an index that is up to date.",
    ),
)
"""Patterns in pip's output, and what they mean; the first that matches counts."""


class SetupError(Exception):
    """The setup failed; the message is one sentence for the user."""


def explain(log: str) -> str:
    """Return the sentence for a failed run of pip with the output `log`."""
    for pattern, sentence in FINDINGS:
        if re.search(pattern, log):
            return sentence
    return "pip failed."


def make_venv(venv: Path) -> Path:
    """Create the environment unless a working one exists; returns its interpreter.

    Raises `SetupError`.
    """
    python = venv / "bin" / "python"
    if _works(python):
        return python
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if find_spec("venv") is None or find_spec("ensurepip") is None:
        raise SetupError(
            f"{sys.executable} (Python {version}) cannot create environments: install its venv "
            f"package (Debian, Ubuntu: apt install python{version}-venv) or name another Python "
            "with PYTHON=/path/to/python."
        )
    say(f"creating {venv.name} with Python {version} ({sys.executable})")
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if made.returncode:
        said = " ".join(made.stdout.split())
        raise SetupError(f"The environment {venv} cannot be created: {said}")
    return python


def install(python: Path, extra: str, log: Path) -> None:
    """Install the project, editable, with `extra` at the pinned versions. Raises `SetupError`."""
    say(f"installing the pinned packages; this takes a minute or two the first time (log: {log})")
    constraints = CONSTRAINTS.get(extra, "constraints/fleet.txt")
    first = FIRST.get(extra, ())
    with log.open("w", encoding="utf-8") as output:
        for wanted in filter(None, (first, ("--editable", f".[{extra}]"))):
            status = subprocess.run(
                [
                    str(python),
                    "-m",
                    "pip",
                    "install",
                    "--no-input",
                    "--disable-pip-version-check",
                    "--constraint",
                    constraints,
                    *wanted,
                ],
                cwd=ROOT,
                # pip's messages are searched for what went wrong: have them in English.
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
            if status:
                break
    if status:
        said = log.read_text(encoding="utf-8", errors="replace")
        raise SetupError(f"{explain(said)} The output of pip is in {log}.")


def stamp(venv: Path, extra: str) -> Path:
    """Return the file whose time says when `extra` was last installed."""
    return venv / f".{extra}-installed"


def main() -> int:
    parser = argparse.ArgumentParser(description="Install the project into a virtual environment.")
    parser.add_argument("extra", choices=sorted(INCLUDED))
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="default: %(default)s")
    options = parser.parse_args()
    venv = (ROOT / options.venv).resolve()
    try:
        python = make_venv(venv)
        install(python, options.extra, venv / "setup.log")
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The setup cannot write its files: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to continue.", file=sys.stderr)
        return 130
    for included in INCLUDED[options.extra]:
        stamp(venv, included).touch()
    return 0


def _works(python: Path) -> bool:
    """Return whether the environment's interpreter still runs and has pip."""
    try:
        command = [str(python), "-c", "import pip"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main())
