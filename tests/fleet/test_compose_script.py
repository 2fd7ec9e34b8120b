"""Which Compose the targets of make use, and what is said where there is none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local import ROOT

NEEDED = ("dirname", "id", "sed", "mkdir", "git")


def which(folder: Path, **shims: str) -> subprocess.CompletedProcess[str]:
    """Ask deploy/compose, where no programs are but a few and `shims`, NAME=SCRIPT."""
    for name in NEEDED:
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, script in shims.items():
        shim = folder / name.replace("_", "-")
        shim.write_text(f"#!/bin/sh\n{script}\n")
        shim.chmod(0o755)
    return subprocess.run(
        ["/bin/sh", str(ROOT / "deploy/compose"), "--which"],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_plugin_is_preferred(tmp_path: Path) -> None:
    assert which(tmp_path, docker="exit 0", docker_compose="exit 0").stdout == "docker compose\n"


def test_the_older_program_is_used_where_there_is_no_plugin(tmp_path: Path) -> None:
    said = which(tmp_path, docker="exit 1", docker_compose="exit 0").stdout
    assert said == "docker-compose --compatibility\n"


@pytest.mark.parametrize(
    ("shims", "sentence"),
    [
        ({"docker": "exit 1"}, "Docker is installed, but Compose is not: install its plugin"),
        ({}, "Docker is not installed: install Docker Engine with Compose"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, shims: dict[str, str], sentence: str) -> None:
    ended = which(tmp_path, **shims)
    assert ended.returncode == 127
    assert ended.stderr.startswith(sentence)
