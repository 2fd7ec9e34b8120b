"""The real fleet: three processes on free ports, real sockets, real models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local import LocalFleet

StartFleet = Callable[..., LocalFleet]


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    """One fleet for all tests that do it no harm."""
    with LocalFleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture
def start_fleet(tmp_path: Path) -> Iterator[StartFleet]:
    """Call it with settings to have a fleet of one's own, to kill and hang at will."""
    with ExitStack() as stack:

        def start(**env: str) -> LocalFleet:
            return stack.enter_context(LocalFleet(tmp_path / "logs", env=env))

        yield start
