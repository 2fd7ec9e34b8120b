"""`SpeechClient.speak` refused, lost, or with no server: asked again where that is right."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from client import (
    BrokenOff,
    Lost,
    Refused,
    Retry,
    ServerAway,
    SpeechClient,
    Timeouts,
    Unavailable,
)
from client.tests.conftest import WsServer
from client.tests.session_server import (
    CHUNK,
    SessionServer,
    Side,
    speaks_whatever_comes,
)
from client.tests.using import all_of, busy_upgrade, hear, run, until


def test_a_full_server_is_asked_again(ws_server: WsServer) -> None:
    async def use(client: SpeechClient) -> None:
        assert await all_of(client.speak("Hello")) == CHUNK

    run(ws_server(SessionServer(speaks_whatever_comes), on_upgrade=busy_upgrade(2)), use)


@pytest.mark.parametrize(
    ("on_upgrade", "retry"),
    [(busy_upgrade(3), Retry(attempts=3)), (busy_upgrade(1, "60"), Retry())],
    ids=["too often", "too long"],
)
def test_a_full_server_is_not_asked_for_ever(
    ws_server: WsServer, on_upgrade: Any, retry: Retry
) -> None:
    async def use(client: SpeechClient) -> None:
        with pytest.raises(Unavailable, match="All slots are taken") as caught:
            await all_of(client.speak("Hello"))
        error = caught.value
        assert (error.code, error.request_id) == ("busy", "r7")
        assert error.retry_after_s in (0, 60)

    run(ws_server(SessionServer(speaks_whatever_comes), on_upgrade=on_upgrade), use, retry=retry)


@pytest.mark.parametrize("loss", ["lost", "going away", "draining", "cancelled"])
def test_what_delivered_nothing_is_said_again_on_another_connection(
    ws_server: WsServer, loss: str
) -> None:
    def answer(side: Side) -> None:
        if side.number > 1:
            return speaks_whatever_comes(side)
        id_ = side.read()["id"]
        side.read()
        if loss == "lost":
            side.begin(id_)
            side.lose()
        elif loss == "going away":
            side.connection.close(1001, "idle")
        elif loss == "draining":
            side.error("draining", id=id_)
            side.connection.recv()
        else:
            side.end(id_, "cancelled")
            side.connection.recv()
        return None

    server = SessionServer(answer)

    async def use(client: SpeechClient) -> None:
        async def written() -> AsyncIterator[str]:
            yield "One, "
            yield "two, "
            await until(lambda: len(server.starts) == 2)
            yield "three."

        assert await all_of(client.speak(written())) == CHUNK

    run(ws_server(server), use)
    texts = [m["text"] for m in server.received if m["type"] == "text"]
    assert texts == ["One, ", "two, ", "One, ", "two, ", "three."]


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        (Side.lose, Lost),
        (lambda side: side.connection.close(1011, "internal"), BrokenOff),
        (lambda side: side.error("synthesis_failed", id="u1"), BrokenOff),
        (lambda side: side.error("internal", fatal=True), BrokenOff),
        (lambda side: side.end("u1", "cancelled"), Lost),
        (lambda side: side.end("u1", "error"), BrokenOff),
        (lambda side: side.connection.send("nonsense"), BrokenOff),
        (lambda side: side.send("end", id="u1", reason="whatever"), BrokenOff),
    ],
)
def test_what_ends_badly_after_audio_is_broken_off_and_not_repeated(
    ws_server: WsServer, ending: Callable[[Side], None], error: type[BrokenOff]
) -> None:
    def answer(side: Side) -> None:
        side.begin(side.read()["id"])
        side.audio()
        ending(side)
        for _ in side.connection:
            pass

    server = SessionServer(answer)

    async def use(client: SpeechClient) -> None:
        heard: list[bytes] = []
        with pytest.raises(error) as caught:
            await hear(client.speak("Hello"), heard)
        assert type(caught.value) is error
        assert heard == [CHUNK]

    run(ws_server(server), use)
    assert len(server.starts) == 1


def test_a_refusal_is_told_with_its_code_and_not_repeated(ws_server: WsServer) -> None:
    def answer(side: Side) -> None:
        side.error("empty_text", id=side.read()["id"], request_id="r9")
        side.connection.recv()

    server = SessionServer(answer)

    async def use(client: SpeechClient) -> None:
        with pytest.raises(Refused, match=r"No\. \[empty_text\]") as caught:
            await all_of(client.speak("?!"))
        assert type(caught.value) is Refused
        assert (caught.value.code, caught.value.request_id) == ("empty_text", "r9")

    run(ws_server(server), use)
    assert len(server.starts) == 1


def test_a_silent_server_is_given_up(ws_server: WsServer) -> None:
    def answer(side: Side) -> None:
        for _ in side.connection:
            pass

    async def use(client: SpeechClient) -> None:
        for text in ("Hello", ["Hello"]):
            with pytest.raises(BrokenOff, match=r"sent nothing for 0\.05 s"):
                await all_of(client.speak(text))

    run(ws_server(SessionServer(answer)), use, timeouts=Timeouts(answer_s=0.05))


def test_no_server_is_said_with_its_address(closed_port: int) -> None:
    uri = f"ws://127.0.0.1:{closed_port}/ws/tts"

    async def use(client: SpeechClient) -> None:
        with pytest.raises(ServerAway, match=f"no server at {uri}: Connection refused"):
            await all_of(client.speak("Hello"))

    run(uri, use, retry=Retry(attempts=2))
