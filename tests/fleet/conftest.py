"""These fixtures start the real fleet: three processes on free ports, with real models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local import LocalFleet

StartFleet = Callable[..., LocalFleet]


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    """Start one fleet for all tests that leave it unharmed."""
    with LocalFleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture
def start_fleet(tmp_path: Path) -> Iterator[StartFleet]:
    """Return a function that starts a fleet with settings; the test may kill or stop services."""
    with ExitStack() as stack:

        def start(**env: str) -> LocalFleet:
            return stack.enter_context(LocalFleet(tmp_path / "logs", env=env))

        yield start
