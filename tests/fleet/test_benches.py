"""The benchmarks begin: each finds what it takes from elsewhere, and says how it is called."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deploy.local import ROOT

BENCHES = sorted(
    path.stem for path in (ROOT / "bench").glob("*.py") if "ArgumentParser(" in path.read_text()
)


@pytest.mark.parametrize("name", BENCHES)
def test_a_benchmark_says_how_it_is_called(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert f"bench.{name}" in ran.stdout
