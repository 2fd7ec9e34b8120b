"""Prints what pyproject.toml asks for: `requirements.py [base] [EXTRA…]`, a requirement a line.

So an image installs the packages of one service before its code is copied in, and a change of code
does not install them again. Extras that name others of this project are followed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomllib

BASE = "base"
"""Stands for `dependencies`, what every service needs."""


def requirements(project: dict[str, Any], group: str) -> Iterator[str]:
    """The requirements of one extra, or of `base`. Raises `KeyError` if there is none such."""
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
