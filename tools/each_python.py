"""`make test-pythons` runs the fast tests on the oldest and the newest supported Python.

Each gets an environment of its own, `.venv-3.10` and so on. A version that this machine lacks is
skipped and named; having none at all is a failure.

    python3 tools/each_python.py [--find 3.13]      only prints the interpreter of that version
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.10", "3.13")
ROOT = Path(__file__).resolve().parent.parent
FAST = "not models and not fleet"
TWO_AT_A_TIME = ("--numprocesses", "2", "--dist", "worksteal")


def candidates(version: str) -> Iterator[str]:
    """Yield interpreters named like `version`: on the PATH, then pyenv's."""
    if found := shutil.which(f"python{version}"):
        yield found
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout
        versions = Path(root.strip()) / "versions"
        yield from map(str, sorted(versions.glob(f"{version}.*/bin/python{version}"), reverse=True))


def find(version: str) -> str | None:
    """Return the first candidate that really runs as `version`, which a shim may not."""
    probe = "import sys; print('%d.%d' % sys.version_info[:2])"
    for python in candidates(version):
        ran = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
        if ran.stdout.strip() == version:
            return python
    return None


def test(version: str, python: str) -> bool:
    """Set up the environment and run the fast tests in it."""
    venv = f".venv-{version}"
    print(f"== Python {version} ({python})", flush=True)
    setup = [python, "deploy/local/setup.py", "dev", "--venv", venv]
    pytest = [f"{venv}/bin/python", "-m", "pytest", "-q", "-m", FAST, *TWO_AT_A_TIME]
    # Python's variables for one version must not reach another.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "VIRTUAL_ENV")}
    return all(
        subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
        for command in (setup, pytest)
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--find", metavar="VERSION", help="print an interpreter, run nothing")
    options = parser.parse_args()
    if options.find is None:
        return test_all()
    python = find(options.find)
    if python is None:
        print(f"Python {options.find} is not installed.", file=sys.stderr)
        return 1
    print(python)
    return 0


def test_all() -> int:
    found = {version: find(version) for version in VERSIONS}
    passed = {v: test(v, python) for v, python in found.items() if python is not None}
    for version, python in found.items():
        result = (
            "not found, skipped" if python is None else "passed" if passed[version] else "FAILED"
        )
        print(f"Python {version}: {result}")
    if not passed:
        print(f"None of Python {', '.join(VERSIONS)} is installed.", file=sys.stderr)
    return 0 if passed and all(passed.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
