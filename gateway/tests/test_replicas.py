"""Which replica is asked: by what is known of them, and in what order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import pytest

from gateway.app.upstreams.replicas import Replica, Replicas

T = TypeVar("T")


class World:
    """Addresses behind a name, how each is, and the time."""

    def __init__(self, *addresses: str) -> None:
        self.states = dict.fromkeys(addresses, "ready")
        self.now = 100.0
        self.resolver_works = True
        self.while_asked: Callable[[], None] = lambda: None
        self.replicas = Replicas(
            "tts", 8082, probe=self.probe, resolve=self.resolve, clock=lambda: self.now
        )

    async def resolve(self, host: str, port: int) -> list[str]:
        assert (host, port) == ("tts", 8082)
        if not self.resolver_works:
            raise OSError("no answer")
        return list(self.states)

    async def probe(self, replica: Replica) -> str:
        self.now += 1
        self.while_asked()
        return self.states[replica.host]

    def look(self) -> None:
        run(self.replicas.refresh())

    def __getitem__(self, host: str) -> Replica:
        return next(r for r in self.replicas.known if r.host == host)

    def order(self) -> list[str]:
        return [replica.host for replica in self.replicas.in_order()]


def run(work: Awaitable[T]) -> T:
    async def awaited() -> T:
        return await work

    return asyncio.run(awaited())


@pytest.fixture
def world() -> World:
    world = World("a", "b", "c")
    world.look()
    return world


def test_the_replica_with_the_least_load_comes_first(world: World) -> None:
    world["a"].in_flight, world["b"].in_flight, world["c"].in_flight = 2, 0, 1
    assert world.order() == ["b", "c", "a"]


def test_replicas_of_equal_load_are_chosen_at_random(world: World) -> None:
    assert {world.order()[0] for _ in range(200)} == {"a", "b", "c"}


def test_requests_in_flight_are_counted_until_they_end(world: World) -> None:
    with world["a"].in_use(), world["a"].in_use():
        assert world["a"].in_flight == 2
    assert world["a"].in_flight == 0


def test_a_full_replica_comes_last_for_a_while(world: World) -> None:
    world.replicas.mark_full(world["a"], for_s=5)
    world["b"].in_flight = world["c"].in_flight = 7
    assert world.order()[-1] == "a"
    world.now += 5
    assert world.order()[0] == "a"


def test_a_replica_that_failed_is_out_until_a_probe_finds_it_ready(world: World) -> None:
    world.replicas.eject(world["a"], "unreachable")
    assert sorted(world.order()) == ["b", "c"]
    world.states["a"] = "unreachable"
    world.look()
    assert sorted(world.order()) == ["b", "c"]
    world.states["a"] = "ready"
    world.look()
    assert sorted(world.order()) == ["a", "b", "c"]


def test_a_failure_outweighs_a_probe_that_began_before_it(world: World) -> None:
    def fail() -> None:
        world.now += 1
        world.replicas.eject(world["a"], "unreachable")

    world.while_asked = fail
    world.look()
    assert "a" not in world.order()


def test_a_replica_ejected_during_the_first_attempt_is_not_tried(world: World) -> None:
    order = world.replicas.in_order()
    first = next(order).host
    second, third = (host for host in "abc" if host != first)
    world.replicas.eject(world[second], "unreachable")
    assert [replica.host for replica in order] == [third]


def test_if_none_is_ready_the_replica_that_failed_longest_ago_is_tried(world: World) -> None:
    for host in ("b", "a", "c"):
        world.now += 1
        world.replicas.eject(world[host], "unreachable")
    assert world.order() == ["b"]


def test_a_name_without_addresses_has_no_replicas() -> None:
    world = World()
    world.look()
    assert world.order() == []
    assert world.replicas.state == "unreachable"


def test_replicas_come_and_go_with_their_addresses(world: World) -> None:
    world["b"].in_flight = 3
    world.states = {"b": "ready", "d": "loading"}
    world.look()
    assert world.order() == ["b"]
    assert world["b"].in_flight == 3
    world.states["d"] = "ready"
    world.look()
    assert world.order() == ["d", "b"]


def test_a_resolver_that_fails_removes_no_replica(world: World) -> None:
    world.resolver_works = False
    world.look()
    assert sorted(world.order()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["unreachable", "ready", "loading"], "ready"),
        (["unreachable", "loading", "draining"], "loading"),
        (["unreachable", "draining", "draining"], "draining"),
        (["unreachable", "unreachable", "nonsense"], "unreachable"),
    ],
)
def test_the_state_of_a_service_is_that_of_its_most_available_replica(
    world: World, states: list[str], state: str
) -> None:
    world.states = dict(zip("abc", states, strict=True))
    world.look()
    assert world.replicas.state == state
    assert sum(world.replicas.count().values()) == 3


def test_replicas_are_refreshed_periodically(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.app.upstreams.replicas.PROBE_EVERY_S", 0.01)

    async def watch() -> None:
        with anyio.fail_after(5):
            async with world.replicas.kept_fresh():
                world.states = {"e": "ready"}
                while world.order() != ["e"]:  # noqa: ASYNC110 - nothing tells of a refresh
                    await anyio.sleep(0.01)

    run(watch())
