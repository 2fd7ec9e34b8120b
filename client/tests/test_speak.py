"""`SpeechClient.speak`: whole, while its text is written, and left."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import anyio
import pytest
from websockets.http11 import Request
from websockets.sync.server import ServerConnection

from client import (
    BadInput,
    BrokenOff,
    Recording,
    SpeechClient,
    Timeouts,
)
from client.tests.conftest import WsServer
from client.tests.session_server import (
    CHUNK,
    LIMITS,
    SessionServer,
    Side,
    speaks_whatever_comes,
)
from client.tests.using import all_of, run, until


def test_a_whole_text_is_one_message_and_its_audio_comes_in_order(ws_server: WsServer) -> None:
    def answer(side: Side) -> None:
        id_ = side.read()["id"]
        side.begin(id_)
        for chunk in (b"\1\0", b"\2\0"):
            side.audio(chunk)
        side.send(
            "mark", id=id_, index=0, text="Hi.", char_start=0, char_end=3, start_ms=0, end_ms=1
        )
        side.end(id_)
        side.connection.recv()

    server = SessionServer(answer)

    async def use(client: SpeechClient) -> None:
        utterance = client.speak("Hi.", sample_rate=8000, encoding="mulaw", speed=1.5, marks=True)
        assert await all_of(utterance) == b"\1\0\2\0"
        assert utterance.audio is not None
        assert (utterance.audio.sample_rate, utterance.audio.encoding) == (8000, "mulaw")
        assert [(mark.text, mark.end_ms) for mark in utterance.marks] == [("Hi.", 1)]
        assert utterance.end is not None
        assert utterance.end.reason == "done"

    run(ws_server(server), use)
    assert server.starts == [
        {
            "type": "start",
            "sample_rate": 8000,
            "encoding": "mulaw",
            "timestamps": "sentence",
            "speed": 1.5,
        }
    ]
    assert server.received[0] == {"type": "speak", "id": "u1", "text": "Hi."}


def test_an_utterance_that_is_read_knows_its_rate_and_encoding(ws_server: WsServer) -> None:
    async def use(client: SpeechClient) -> None:
        recording = await client.speak("Hi.", sample_rate=8000, encoding="mulaw").read()
        assert recording == Recording(CHUNK, 8000, "mulaw")
        assert recording.audio_s == len(CHUNK) / 8000

    run(ws_server(SessionServer(speaks_whatever_comes)), use)


def test_audio_comes_while_the_text_is_still_being_written(ws_server: WsServer) -> None:
    def answer(side: Side) -> None:
        id_ = side.read()["id"]
        side.begin(id_)
        side.audio()
        side.read_until("finish")
        side.audio()
        side.end(id_)
        side.connection.recv()

    server = SessionServer(answer)

    async def use(client: SpeechClient) -> None:
        heard = anyio.Event()

        async def written() -> AsyncIterator[str]:
            yield "First. "
            await heard.wait()
            yield "Second."

        count = 0
        async for _ in client.speak(written()):
            count += 1
            heard.set()
        assert count == 2

    run(ws_server(server), use)
    assert [m.get("text", m["type"]) for m in server.received] == ["First. ", "Second.", "finish"]


def test_a_list_and_a_generator_are_texts_too(ws_server: WsServer) -> None:
    server = SessionServer(speaks_whatever_comes)

    async def use(client: SpeechClient) -> None:
        assert await all_of(client.speak(["One ", "two."])) == CHUNK
        assert await all_of(client.speak(word for word in ["Three."])) == CHUNK
        assert await all_of(client.speak([])) == CHUNK

    run(ws_server(server), use)
    texts = [m["text"] for m in server.received if m["type"] == "text"]
    assert texts == ["One ", "two.", "Three.", ""]


def test_utterances_after_each_other_use_one_connection_and_at_once_several(
    ws_server: WsServer,
) -> None:
    server = SessionServer(speaks_whatever_comes)

    async def use(client: SpeechClient) -> None:
        for _ in range(3):
            assert await all_of(client.speak("Hello")) == CHUNK
        assert len(server.starts) == 1
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(all_of, client.speak("Hello"))
        assert len(server.starts) == 3
        await all_of(client.speak("Hello", speed=2))
        assert len(server.starts) == 4, "other options need a session of their own"

    run(ws_server(server), use)
    assert [m["id"] for m in server.received[:3]] == ["u1", "u2", "u3"]


def speaks_until_cancelled(side: Side) -> None:
    """Then the next utterance is spoken whole; frames that were on their way come before it."""
    first = side.read()["id"]
    side.begin(first)
    side.audio()
    side.read_until("cancel")
    side.audio()
    side.end(first, "cancelled")
    speaks_whatever_comes(side)


@pytest.mark.parametrize("way", ["break", "with", "cancelled", "forgotten"])
def test_leaving_cancels_and_the_connection_serves_the_next(ws_server: WsServer, way: str) -> None:
    server = SessionServer(speaks_until_cancelled)

    async def leave(client: SpeechClient) -> None:
        if way == "break":
            async for _ in client.speak("A long text."):
                break
        elif way == "with":
            async with client.speak("A long text.") as utterance:
                async for _ in utterance:
                    break
        elif way == "forgotten":
            iterator = aiter(client.speak("A long text."))
            await anext(iterator)
            del iterator
        else:
            heard = anyio.Event()

            async def listen() -> None:
                async for _ in client.speak("A long text."):
                    heard.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                await heard.wait()
                tasks.cancel_scope.cancel()

    async def use(client: SpeechClient) -> None:
        await leave(client)
        await until(lambda: any(m["type"] == "cancel" for m in server.received))
        assert await all_of(client.speak("Next.")) == CHUNK
        assert len(server.starts) == 1

    run(ws_server(server), use)
    kinds = [(m["type"], m["id"]) for m in server.received]
    assert kinds == [("speak", "u1"), ("cancel", "u1"), ("speak", "u2")]


def test_cancel_ends_the_iteration_in_order(ws_server: WsServer) -> None:
    server = SessionServer(speaks_until_cancelled)

    async def use(client: SpeechClient) -> None:
        utterance = client.speak("A long text.")
        heard = b""
        async for chunk in utterance:
            if not heard:
                await utterance.cancel()
            heard += chunk
        assert heard == CHUNK * 2
        assert utterance.end is not None
        assert utterance.end.reason == "cancelled"

    run(ws_server(server), use)


def test_leaving_the_client_ends_its_connections(ws_server: WsServer) -> None:
    gone = threading.Event()

    def answer(side: Side) -> None:
        side.begin(side.read()["id"])
        side.audio()
        for _ in side.connection:
            pass
        gone.set()

    async def use(client: SpeechClient) -> None:
        await anext(aiter(client.speak("Hello")))

    run(ws_server(SessionServer(answer)), use)
    assert gone.wait(5)


def test_what_the_text_raises_comes_out_and_ends_the_utterance(ws_server: WsServer) -> None:
    spoke, gone = threading.Event(), threading.Event()

    def answer(side: Side) -> None:
        side.begin(side.read()["id"])
        side.audio()
        spoke.set()
        for _ in side.connection:
            pass
        gone.set()

    async def use(client: SpeechClient) -> None:
        async def written() -> AsyncIterator[str]:
            yield "One, "
            await until(spoke.is_set)
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await all_of(client.speak(written()))

    run(ws_server(SessionServer(answer)), use)
    assert gone.wait(5)


def test_a_writer_may_pause_for_longer_than_the_server(ws_server: WsServer) -> None:
    server = SessionServer(speaks_whatever_comes, limits={**LIMITS, "idle_timeout_s": 0.06})

    async def use(client: SpeechClient) -> None:
        async def written() -> AsyncIterator[str]:
            yield "One, "
            await until(lambda: sum(m["type"] == "ping" for m in server.received) == 3)
            yield "two."

        assert await all_of(client.speak(written())) == CHUNK

    run(ws_server(server), use, timeouts=Timeouts(answer_s=0.05))


def test_what_is_new_in_the_protocol_is_passed_over(ws_server: WsServer) -> None:
    def answer(side: Side) -> None:
        id_ = side.read()["id"]
        side.send("mood", id=id_, value="good")
        side.send("begin", id=id_, queue_ms=0, more="than before")
        side.audio()
        side.end(id_)
        side.connection.recv()

    async def use(client: SpeechClient) -> None:
        assert await all_of(client.speak("Hello")) == CHUNK

    run(ws_server(SessionServer(answer)), use)


def test_a_field_that_the_server_does_not_know_is_not_left_out_silently(
    ws_server: WsServer,
) -> None:
    async def use(client: SpeechClient) -> None:
        with pytest.raises(BrokenOff, match="does not know speed"):
            await all_of(client.speak("Hello", speed=2))

    run(ws_server(SessionServer(speaks_whatever_comes, ignored=["speed"])), use)


def test_a_value_that_cannot_be_is_told_before_anything_is_sent() -> None:
    client = SpeechClient("http://localhost:1")
    with pytest.raises(BadInput, match=r"speed: must be 0\.5 to 2, not 3"):
        client.speak("Hello", speed=3)


def test_the_key_is_sent_with_the_handshake(
    ws_server: WsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str | None] = []

    def on_upgrade(_: ServerConnection, request: Request) -> None:
        given.append(request.headers.get("Authorization"))

    uri = ws_server(SessionServer(speaks_whatever_comes), on_upgrade=on_upgrade)

    async def use(client: SpeechClient) -> None:
        await all_of(client.speak("Hello"))

    run(uri, use, api_key="abc")
    monkeypatch.setenv("SPEECH_API_KEY", "of-the-environment")
    run(uri, use)
    assert given == ["Bearer abc", "Bearer of-the-environment"]


def test_an_utterance_is_iterated_once(ws_server: WsServer) -> None:
    async def use(client: SpeechClient) -> None:
        utterance = client.speak("Hello")
        await all_of(utterance)
        with pytest.raises(RuntimeError, match="only once"):
            await all_of(utterance)

    run(ws_server(SessionServer(speaks_whatever_comes)), use)
