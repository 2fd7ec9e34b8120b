"""The images, built once as a person builds them, and two fleets of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.containers.support import SERVICES, Fleet, go_on


@pytest.fixture(scope="session", autouse=True)
def images() -> None:
    """All four, by `make build`, with BuildKit."""
    Fleet("fleet-test").make("build", timeout_s=900, DOCKER_BUILDKIT="1")


@contextmanager
def up(fleet: Fleet) -> Iterator[Fleet]:
    try:
        fleet.make("up")
        yield fleet
    finally:
        # One that was stopped in its tracks must not be waited for.
        for service in SERVICES:
            for container in fleet.ids(service):
                go_on(container)
        fleet.make("down")


@pytest.fixture(scope="module")
def fleet(images: None) -> Iterator[Fleet]:
    """One of each service. A test that takes something away puts it back."""
    with up(Fleet("fleet-test")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def fleet_of_three(images: None) -> Iterator[Fleet]:
    """A gateway with three voices behind it, to kill and hang at will."""
    settings = {"TTS_REPLICAS": "3", "GATEWAY_FIRST_BYTE_TIMEOUT_S": "3"}
    with up(Fleet("fleet-test-three", settings)) as fleet:
        yield fleet
