"""`requirements.py [base] [EXTRA…]` prints the requirements of pyproject.toml, one a line.

With it an image installs the packages of one service before its code is copied in, so that a change
of code does not install them again. Extras that name others of this project are followed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomllib

BASE = "base"
"""This name stands for `dependencies`."""


def requirements(project: dict[str, Any], group: str) -> Iterator[str]:
    """Yield the requirements of one extra, or of `base`. Raises `KeyError` for an unknown one."""
    if group == BASE:
        yield from project["dependencies"]
        return
    own = f"{project['name']}["
    for requirement in project["optional-dependencies"][group]:
        if requirement.startswith(own):
            for extra in requirement.removeprefix(own).removesuffix("]").split(","):
                yield from requirements(project, extra.strip())
        else:
            yield requirement


def main() -> int:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    for group in sys.argv[1:]:
        print("\n".join(requirements(project, group)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
