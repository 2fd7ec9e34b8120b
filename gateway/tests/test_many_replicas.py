"""Several replicas behind one name: who is asked, and what a client notices when one fails.

Each replica has an address of its own of 127.0.0.0/8, all the same port, as containers have.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from gateway.app.main import build
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams.service import new_http_client
from gateway.tests import misbehaving
from gateway.tests.misbehaving import Answer, cut, error_of, free_port, ready_but, upstream
from tests.support.fakes import FakeVoice
from tests.support.server import Served, served
from tests.support.wire import open_ws, read_utterance, wait_for
from tts_service.app.main import build as build_tts
from tts_service.app.settings import TtsSettings

SPEAK = {"text": "Hello"}


@dataclass
class Fleet:
    """A gateway in front of whatever is at `addresses`."""

    port: int
    stack: ExitStack
    addresses: list[str] = field(default_factory=list)
    voices: dict[str, FakeVoice] = field(default_factory=dict)
    served: dict[str, Served] = field(default_factory=dict)
    at: Served | None = None

    def speaker(self, host: str, slots: int = 1) -> FakeVoice:
        """A replica that works, with its voice."""
        voice = self.voices[host] = FakeVoice()
        self.stack.callback(voice.gate.set)
        app = build_tts(TtsSettings(tts_slots=slots, tts_queue=0), lambda: voice)
        self.served[host] = self.stack.enter_context(served(app, host=host, port=self.port))
        self.stack.callback(voice.gate.set)
        self.addresses.append(host)
        return voice

    def troublemaker(self, host: str, answer: Answer) -> None:
        self.stack.enter_context(upstream(answer, host, self.port))
        self.addresses.append(host)

    def gateway(self) -> Served:
        settings = GatewaySettings(
            gateway_tts_url=f"http://tts:{self.port}",
            gateway_asr_url=misbehaving.closed_port(),
            gateway_connect_timeout_s=1,
            gateway_first_byte_timeout_s=1,
            gateway_stall_timeout_s=0.5,
        )

        async def resolve(host: str, port: int) -> list[str]:
            return self.addresses if host == "tts" else ["127.0.0.1"]

        app = build(settings, new_http_client(), resolve)
        self.at = self.stack.enter_context(served(app, ready=False))
        return self.at

    def post(self) -> httpx.Response:
        assert self.at is not None
        return httpx.post(f"{self.at.http}/api/tts", json=SPEAK, timeout=20)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(free_port(), stack)


def test_requests_go_to_the_replica_with_the_least_load(fleet: Fleet) -> None:
    for host in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
        fleet.speaker(host, slots=9).gate.clear()
    at = fleet.gateway()
    with ExitStack() as sessions:
        for _ in range(6):
            ws = sessions.enter_context(open_ws(f"{at.ws}/ws/tts"))
            ws.send('{"text": "Hello"}')
        for replica in fleet.served.values():
            wait_for(lambda r=replica: r.app.state.lifecycle.in_flight == 2)  # type: ignore[misc]
        for voice in fleet.voices.values():
            voice.gate.set()


def test_a_full_replica_is_passed_over_and_busy_is_answered_when_all_are_full(
    fleet: Fleet,
) -> None:
    one, two = fleet.speaker("127.0.0.2"), fleet.speaker("127.0.0.3")
    at = fleet.gateway()
    one.gate.clear()
    two.gate.clear()
    with (
        # Fills the first behind the gateway's back, so that only its refusal can tell.
        open_ws(f"ws://127.0.0.2:{fleet.port}/ws/tts") as behind,
        ExitStack() as stack,
    ):
        behind.send('{"text": "Hello"}')
        wait_for(lambda: fleet.served["127.0.0.2"].app.state.lifecycle.in_flight == 1)
        ws = stack.enter_context(open_ws(f"{at.ws}/ws/tts"))
        ws.send('{"text": "Hello"}')
        wait_for(lambda: fleet.served["127.0.0.3"].app.state.lifecycle.in_flight == 1)
        refused = fleet.post()
        assert error_of(refused) == (503, "busy")
        assert refused.headers["Retry-After"]
        two.gate.set()
        read_utterance(ws)
        # The first is still full: all of these can only be served by the second.
        for _ in range(4):
            wait_for(lambda: fleet.served["127.0.0.3"].app.state.lifecycle.in_flight == 0)
            assert fleet.post().status_code == 200
        one.gate.set()


def hang_up(connection: socket.socket, head: bytes) -> None:
    """Not a word, and the connection ends."""


@pytest.mark.parametrize(
    "trouble",
    [
        hang_up,
        misbehaving.respond("500 Oops", b"<html>"),
        misbehaving.respond("503 Full", b'{"error": {"code": "busy", "message": "full"}}'),
        misbehaving.respond("503 Away", b'{"error": {"code": "draining", "message": "leaving"}}'),
    ],
)
def test_a_request_that_delivered_nothing_is_retried_on_another_replica(
    fleet: Fleet, trouble: Answer
) -> None:
    fleet.troublemaker("127.0.0.2", ready_but(trouble))
    fleet.speaker("127.0.0.3", slots=9)
    at = fleet.gateway()
    for _ in range(8):
        assert fleet.post().status_code == 200
        with open_ws(f"{at.ws}/ws/tts") as ws:
            ws.send('{"text": "Hello"}')
            assert read_utterance(ws).closing == '{"type":"end"}'


def test_an_unreachable_replica_costs_no_request(fleet: Fleet) -> None:
    fleet.speaker("127.0.0.3", slots=9)
    fleet.addresses.append("127.0.0.2")
    fleet.gateway()
    assert {fleet.post().status_code for _ in range(8)} == {200}


def test_a_hanging_replica_costs_one_timeout_at_most(fleet: Fleet) -> None:
    hung: list[bytes] = []

    def hang(connection: socket.socket, head: bytes) -> None:
        hung.append(head)
        misbehaving.hang(connection, head)

    def choose(connection: socket.socket, head: bytes) -> None:
        # It said that it was ready, once, and answers nothing since.
        if head.startswith(b"GET /readyz") and not hung:
            misbehaving.respond("200 OK", b'{"status": "ready"}')(connection, head)
        else:
            hang(connection, head)

    fleet.troublemaker("127.0.0.2", choose)
    fleet.speaker("127.0.0.3", slots=9)
    fleet.gateway()
    for _ in range(12):
        assert fleet.post().status_code == 200
    asked = [head for head in hung if head.startswith(b"POST")]
    assert len(asked) == 1


def test_a_websocket_is_opened_to_another_replica_if_one_hangs(fleet: Fleet) -> None:
    fleet.troublemaker("127.0.0.2", ready_but(misbehaving.hang))
    fleet.speaker("127.0.0.3", slots=9)
    at = fleet.gateway()
    for _ in range(6):
        with open_ws(f"{at.ws}/ws/tts") as ws:
            ws.send('{"text": "Hello"}')
            assert read_utterance(ws).closing == '{"type":"end"}'


def test_a_request_that_delivered_a_part_is_aborted_and_not_retried(fleet: Fleet) -> None:
    fleet.troublemaker("127.0.0.2", ready_but(misbehaving.stream_then(cut)))
    voice = fleet.speaker("127.0.0.3", slots=9)
    at = fleet.gateway()
    for _ in range(40):
        steps, body = voice.steps, b""
        try:
            with httpx.stream("POST", f"{at.http}/api/tts", json=SPEAK, timeout=20) as answer:
                for chunk in answer.iter_raw():
                    body += chunk
        except httpx.RemoteProtocolError:
            break
    else:
        pytest.fail("the one that breaks off was never asked")
    assert (body, voice.steps) == (b"some", steps)
    assert fleet.post().status_code == 200


def test_a_refusal_of_the_request_itself_is_not_retried(fleet: Fleet) -> None:
    for host in ("127.0.0.2", "127.0.0.3"):
        fleet.speaker(host)
    at = fleet.gateway()
    answer = httpx.post(f"{at.http}/api/tts", json={"text": ""})
    assert error_of(answer) == (400, "empty_text")
    assert httpx.get(f"{at.http}/healthz").json()["replicas"]["tts"] == {"ready": 2}


def test_replicas_that_join_are_used_and_those_that_left_are_not(fleet: Fleet) -> None:
    fleet.speaker("127.0.0.2", slots=9)
    fleet.gateway()
    assert fleet.post().status_code == 200
    newcomer = fleet.speaker("127.0.0.3", slots=9)
    fleet.addresses.remove("127.0.0.2")

    def served_by_the_newcomer() -> bool:
        return fleet.post().status_code == 200 and newcomer.steps > 0

    wait_for(served_by_the_newcomer)
    before = fleet.voices["127.0.0.2"].steps
    assert {fleet.post().status_code for _ in range(4)} == {200}
    assert fleet.voices["127.0.0.2"].steps == before


def test_requests_to_a_replica_have_the_services_name_as_host(fleet: Fleet) -> None:
    heads: list[bytes] = []

    def answer(connection: socket.socket, head: bytes) -> None:
        heads.append(head)

    fleet.troublemaker("127.0.0.2", answer)
    at = fleet.gateway()
    fleet.post()
    with pytest.raises(InvalidStatus), open_ws(f"{at.ws}/ws/tts"):
        pass
    hosts = {
        line.lower() for h in heads for line in h.split(b"\r\n") if line[:5].lower() == b"host:"
    }
    assert hosts == {f"host: tts:{fleet.port}".encode()}
