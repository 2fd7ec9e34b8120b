"""Makes a program of this folder run as a script: `python client/stream_tts.py`.

The packages of the project are one folder up, and this folder holds no modules of its own. What the
programs need from the package index is checked first, so that a machine without it gets a sentence
instead of a traceback. Each program runs this file before it imports anything else.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (
    "anyio",
    "httpx",
    "numpy",
    "pydantic",
    "soundfile",
    "soxr",
    "tenacity",
    "tqdm",
    "websockets",
)


def prepare() -> None:
    """Find the project's packages; exit with status 2 if a package that they need is missing."""
    sys.path[0] = str(ROOT)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"This Python lacks {', '.join(missing)}. In {ROOT}, run `make setup` and use "
            ".venv/bin/python, or run `pip install '.[client]'` with this one.",
            file=sys.stderr,
        )
        sys.exit(2)


prepare()
