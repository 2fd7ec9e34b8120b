"""These fixtures build the images once, as a user does, and run two fleets of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.containers.support import SERVICES, Fleet, go_on


@pytest.fixture(scope="session", autouse=True)
def images() -> None:
    """Build all four images by `make build`, with BuildKit."""
    Fleet("fleet-test").make("build", timeout_s=900, DOCKER_BUILDKIT="1")


@contextmanager
def up(fleet: Fleet) -> Iterator[Fleet]:
    try:
        fleet.make("up")
        yield fleet
    finally:
        # A container that is paused would not stop.
        for service in SERVICES:
            for container in fleet.ids(service):
                go_on(container)
        fleet.make("down")


@pytest.fixture(scope="module")
def fleet(images: None) -> Iterator[Fleet]:
    """Run one of each service; a test that stops one starts it again."""
    with up(Fleet("fleet-test")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def fleet_of_three(images: None) -> Iterator[Fleet]:
    """Run a gateway with three replicas of tts, which tests may kill or pause."""
    settings = {"TTS_REPLICAS": "3", "GATEWAY_FIRST_BYTE_TIMEOUT_S": "3"}
    with up(Fleet("fleet-test-three", settings)) as fleet:
        yield fleet
