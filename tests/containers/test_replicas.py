"""Several replicas in containers all serve, and little is lost when one dies or hangs."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.containers.support import Fleet, docker, events, go_on, spoken_by, stop, wait_for
from tests.support.wire import Utterance, open_ws, read_utterance

END = '{"type":"end"}'
SHORT = "Hello world."
LONG = "The library opens at eight in the morning and closes at six in the evening. " * 40


@pytest.fixture
def three(fleet_of_three: Fleet) -> Fleet:
    """A gateway that knows of three voices; what the test before killed or hung is back."""
    for container in fleet_of_three.ids("tts"):
        go_on(container)
    fleet_of_three.compose("start", "tts")
    wait_for(lambda: ready(fleet_of_three) == 3, what="three replicas")
    return fleet_of_three


def ready(fleet: Fleet) -> int:
    health = httpx.get(f"{fleet.url()}/healthz", timeout=20).json()
    return int(health["replicas"]["tts"].get("ready", 0))


def speak(fleet: Fleet, text: str = SHORT) -> Utterance:
    with open_ws(fleet.ws) as ws:
        ws.send(json.dumps({"text": text}))
        return read_utterance(ws)


def post(fleet: Fleet, text: str = SHORT) -> int:
    return httpx.post(f"{fleet.url()}/api/tts", json={"text": text}, timeout=60).status_code


def waited_for(fleet: Fleet) -> int:
    """How many requests of the gateway's found a replica failing or hanging, by its log."""
    (gateway,) = fleet.ids("gateway")
    return sum(event["event"] == "replica.ejected" for event in events(gateway))


def test_all_replicas_serve(three: Fleet) -> None:
    replicas = three.ids("tts")
    before = [spoken_by(replica) for replica in replicas]
    with ThreadPoolExecutor(3) as threads:
        said = list(threads.map(lambda _: speak(three), range(30)))
    assert {utterance.closing for utterance in said} == {END}
    shares = [spoken_by(r) - n for r, n in zip(replicas, before, strict=True)]
    assert sum(shares) == 30
    assert min(shares) >= 3, shares


def test_a_replica_killed_under_load_takes_only_its_own_streams_with_it(three: Fleet) -> None:
    def stream(_: int) -> tuple[bool, Utterance]:
        utterance = speak(three, LONG)
        return utterance.closing == END, utterance

    with ThreadPoolExecutor(9) as threads:
        speaking = [threads.submit(stream, i) for i in range(6)]
        time.sleep(1.5)
        victim = three.ids("tts")[0]
        docker("kill", victim)
        # New work goes to the others at once, and nothing of it is lost.
        asked = [threads.submit(post, three) for _ in range(20)]
        assert Counter(request.result() for request in asked) == {200: 20}
        ended = [future.result() for future in speaking]
    lost = [utterance.message for whole, utterance in ended if not whole]
    # Two of six were his; each has been told.
    assert len(lost) <= 2
    assert {(message["type"], message["code"]) for message in lost} <= {
        ("error", "upstream_failed")
    }


def test_a_replica_that_hangs_costs_one_timeout_and_then_nothing(three: Fleet) -> None:
    victim = three.ids("tts")[0]
    before = waited_for(three)
    stop(victim)
    assert Counter(post(three) for _ in range(25)) == {200: 25}
    # None, if the gateway found out by itself before anybody was sent there.
    assert waited_for(three) - before <= 1
    assert ready(three) == 2
    for _ in range(6):
        assert speak(three).closing == END
    go_on(victim)
    wait_for(lambda: ready(three) == 3, what="it is taken back")
