"""The images, built once as a person builds them; a fleet of them for tests that do it no harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests_containers.support import SERVICES, Fleet, go_on

StartFleet = Callable[..., Fleet]


@pytest.fixture(scope="session", autouse=True)
def images() -> None:
    """All four, by `make build`, with BuildKit."""
    Fleet("fleet-test").make("build", timeout_s=900, DOCKER_BUILDKIT="1")


OWN_FIRST_PORT = 19000
"""Of a test's own fleet: the module's may be up at the same time."""


def _start(stack: ExitStack, fleet: Fleet) -> Fleet:

    def end() -> None:
        # One that was stopped in its tracks must not be waited for.
        for service in SERVICES:
            for container in fleet.ids(service):
                go_on(container)
        fleet.make("down")

    stack.callback(end)
    fleet.make("up")
    return fleet


@pytest.fixture(scope="module")
def fleet(images: None) -> Iterator[Fleet]:
    """One of each service, the same for all tests of a module."""
    with ExitStack() as stack:
        yield _start(stack, Fleet("fleet-test"))


@pytest.fixture
def start_fleet(images: None) -> Iterator[StartFleet]:
    """Call it with settings to have a fleet of one's own, to kill and hang at will."""
    with ExitStack() as stack:
        yield lambda **env: _start(stack, Fleet("fleet-test-own", env, first_port=OWN_FIRST_PORT))
