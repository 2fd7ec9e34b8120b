"""`/ws/echo`: a voice loop. One recognition and one session of the voice, joined for a client.

    client ──audio, commands──► ears ──events──► client
                                  └──final──► voice ──audio, marks──► client

What is final is spoken, under the id of its `final`. Signs of speech while the voice speaks cancel
it before the client is told of them, so that nobody is talked over. An utterance that is final only
for its length goes on: it is spoken with what follows. When the ears have ended, the voice finishes
what it has; then `transcript` says that the loop is whole, and it closes as the ears did.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeVar

from fastapi import WebSocket
from pydantic import BaseModel, ValidationError
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed

from common.boundary import FAULT
from common.errors import BadRequest, Internal, SpeechError, UpstreamFailed
from common.lifecycle import Lifecycle
from common.logger import get_logger
from common.protocol import parse_json_object
from common.protocol_echo import (
    EchoReady,
    EchoStart,
    EchoTranscript,
    Voice,
    parse_echo_command,
    parse_echo_start,
)
from common.protocol_session import Cancel, Close, Failure, Frame, GoAway, Ping, Ready, Speak
from common.protocol_stt import Command, Final, ListenEnd, ListenReady
from common.request_id import adopt, current_request_id
from common.tasks import until_first
from common.websocket import GOING_AWAY, NORMAL, SERVICE_RESTART, close
from gateway.app.settings import GatewaySettings
from gateway.app.under_way import SpeechUnderWay
from gateway.app.watched import Closed, WatchedUpstream

M = TypeVar("M", bound=BaseModel)
log = get_logger(__name__)

_IN_ORDER = {NORMAL, GOING_AWAY, SERVICE_RESTART}
_KEPT_ALIVE_SHARE = 3
"""The voice is kept alive this many times in the time after which it would be idle."""


class VoiceLoop:
    """Run it once, with a client that was accepted and two upstreams that are open."""

    def __init__(
        self,
        client: WebSocket,
        *,
        ears: WatchedUpstream,
        voice: WatchedUpstream,
        lifecycle: Lifecycle,
        settings: GatewaySettings,
    ) -> None:
        self._client = client
        self._ears = ears
        self._voice = voice
        self._lifecycle = lifecycle
        self._settings = settings
        self._speaking = SpeechUnderWay()
        self._held: list[Final] = []
        """What is final and not spoken yet: it is so only for its length."""
        self._heard: ListenEnd | None = None
        self._ears_closed: Closed | None = None
        self._voice_closed: Closed | None = None
        self._left = False
        self._writing = asyncio.Lock()
        self._sending_since: float | None = None

    async def run(self) -> None:
        """Serve until all is heard and said, or one of the three goes."""
        try:
            with self._lifecycle.work():
                await until_first(
                    self._converse(),
                    self._ears.watch(),
                    self._voice.watch(),
                    self._watch_client(),
                )
        except Closed as closed:
            await close(self._client, closed.code, closed.reason)
        except WebSocketDisconnect:
            log.debug("loop.client_left")
        except SpeechError as error:
            log.info("loop.broken_off", code=error.code)
            await self._break_off(error)
        except Exception as error:
            log.error("loop.failed", exc_info=error)
            await self._break_off(Internal(FAULT))

    async def _break_off(self, error: SpeechError) -> None:
        last = Failure.of(error, current_request_id(), fatal=True)
        words = last.model_dump(mode="json", exclude_none=True)
        await close(self._client, error.close_code, error.code, last_words=words)

    # --- opening ---

    async def _converse(self) -> None:
        voice_idle_s = await self._open()
        await until_first(
            self._from_client(),
            self._from_ears(),
            self._from_voice(),
            self._keep_voice(voice_idle_s),
            self._leave(),
        )

    async def _open(self) -> float:
        """Take `start`, start both upstreams, answer `ready`; after how long the voice is idle."""
        value = await self._first_message()
        start = parse_echo_start(value)
        if start.request_id is not None:
            adopt(start.request_id)
        own = {"request_id": current_request_id()}
        asked_to_speak = start.to_speak().model_copy(update=own).model_dump_json(exclude_none=True)
        self._speaking.client_sent(asked_to_speak)
        await self._voice.send(asked_to_speak)
        await self._ears.send(start.to_listen().model_copy(update=own).model_dump_json())
        hears = _as(ListenReady, await self._answer_of(self._ears), self._ears)
        speaks = _as(Ready, await self._answer_of(self._voice), self._voice)
        ready = EchoReady(
            **dict(hears),
            voice=Voice(model=speaks.model, audio=speaks.audio),
        ).model_copy(update={**own, "ignored": EchoStart.unknown(value)})
        await self._tell(ready)
        return speaks.limits.idle_timeout_s

    async def _first_message(self) -> dict[str, Any]:
        idle_s = self._settings.idle_timeout_s
        try:
            message = await asyncio.wait_for(self._client.receive(), idle_s)
        except asyncio.TimeoutError:
            raise Closed(GOING_AWAY, f"idle for {idle_s:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        text = message.get("text")
        if text is None:
            raise BadRequest('A voice loop begins with a message of the type "start".')
        return parse_json_object(text)

    async def _answer_of(self, upstream: WatchedUpstream) -> dict[str, Any]:
        """The `ready` of an upstream; if it refuses, the client is told so in its words."""
        try:
            frame = await upstream.receive()
            message = _message_of(upstream, frame)
            if message.get("type") == "error":
                await self._write(frame)
                await upstream.receive()
        except ConnectionClosed as closed:
            raise upstream.ending(closed, under_way=True) from None
        return message

    # --- from the three ---

    async def _from_client(self) -> None:
        """Returns when the client has gone."""
        while True:
            message = await self._client.receive()
            if message["type"] == "websocket.disconnect":
                return
            text: str | None = message.get("text")
            if text is None:
                if not self._left and self._ears_closed is None:
                    await self._ears.send(message["bytes"])
                continue
            value = parse_json_object(text)
            try:
                await self._obey(parse_echo_command(value).type)
            except BadRequest as error:
                await self._tell(Failure.of(error, current_request_id()))

    async def _obey(self, command: str) -> None:
        if command == "cancel":
            await self._interrupt()
        elif not self._left and self._ears_closed is None:
            await self._ears.send(Command(type=command).model_dump_json())

    async def _from_ears(self) -> None:
        while True:
            try:
                frame = await self._ears.receive()
            except ConnectionClosed as closed:
                ending = self._ears.ending(closed, under_way=self._heard is None)
                if isinstance(ending, Closed) and self._heard is not None:
                    await self._all_heard(ending)
                    await asyncio.Event().wait()
                raise ending from None
            message = _message_of(self._ears, frame)
            kind = message.get("type")
            if kind == "end":
                self._heard = _as(ListenEnd, message, self._ears)
                continue
            if kind == "speech_start" or (kind == "partial" and message.get("text")):
                await self._interrupt()
            await self._write(frame)
            if kind == "final":
                await self._take(_as(Final, message, self._ears))

    async def _from_voice(self) -> None:
        while True:
            try:
                frame = await self._voice.receive()
            except ConnectionClosed as closed:
                ending = self._voice.ending(closed, under_way=bool(self._speaking))
                if not isinstance(ending, Closed) or ending.code not in _IN_ORDER:
                    raise ending from None
                await self._voice_gone(ending)
                await asyncio.Event().wait()
            if isinstance(frame, bytes):
                await self._write(frame)
                continue
            self._speaking.service_sent(frame)
            if _message_of(self._voice, frame).get("type") != "pong":
                await self._write(frame)

    # --- what follows from it ---

    async def _take(self, final: Final) -> None:
        if final.text:
            self._held.append(final)
        if final.reason != "max_length":
            await self._speak()

    async def _speak(self) -> None:
        """Have the voice say what is held, under the id of the last of it."""
        if not self._held:
            return
        id_, text = self._held[-1].id, " ".join(final.text for final in self._held)
        self._held = []
        if self._voice_closed is not None:
            gone = UpstreamFailed("The voice has left; this is not spoken.")
            await self._tell(Failure.of(gone, current_request_id(), of=id_))
            return
        spoken = Speak(type="speak", id=id_, text=text).model_dump_json()
        self._speaking.client_sent(spoken)
        await self._voice.send(spoken)

    async def _interrupt(self) -> None:
        """Silence the voice."""
        if self._speaking:
            await self._voice.send(Cancel(type="cancel").model_dump_json(exclude_none=True))

    async def _all_heard(self, how: Closed) -> None:
        """The ears have ended in order: the voice finishes what it has."""
        self._ears_closed = how
        await self._speak()
        if self._voice_closed is None:
            await self._voice.send(Close(type="close").model_dump_json())
        else:
            await self._finish()

    async def _voice_gone(self, how: Closed) -> None:
        """The voice has ended in order: because all is said, or on its own."""
        self._voice_closed = how
        if self._ears_closed is not None:
            await self._finish()
        else:
            await self._hear_no_more()

    async def _hear_no_more(self) -> None:
        """What was said until now is heard to its end."""
        if not self._left and self._ears_closed is None:
            self._left = True
            await self._ears.send(Command(type="finish").model_dump_json())

    async def _finish(self) -> None:
        assert self._heard is not None
        assert self._ears_closed is not None
        assert self._voice_closed is not None
        heard = self._heard
        await self._tell(
            EchoTranscript(audio_ms=heard.audio_ms, text=heard.text, segments=heard.segments)
        )
        if self._lifecycle.draining.is_set():
            raise Closed(GOING_AWAY, "shutting down")
        raise self._ears_closed if self._ears_closed.code != NORMAL else self._voice_closed

    async def _leave(self) -> None:
        """When the gateway leaves: say so, hear and say what was said until now, and end."""
        await self._lifecycle.draining.wait()
        await self._tell(GoAway(deadline_ms=round(self._lifecycle.left_s * 1000)))
        await self._hear_no_more()
        await asyncio.Event().wait()

    async def _keep_voice(self, idle_s: float) -> None:
        """A voice that has nothing to say for long is not idle: its listener speaks."""
        ping = Ping(type="ping").model_dump_json(exclude_none=True)
        while True:
            await asyncio.sleep(idle_s / _KEPT_ALIVE_SHARE)
            if self._voice_closed is None:
                await self._voice.send(ping)

    # --- to the client ---

    async def _tell(self, message: Frame) -> None:
        await self._write(message.frame())

    async def _write(self, frame: str | bytes) -> None:
        """Whoever comes meanwhile waits: that is the back-pressure."""
        kind = "bytes" if isinstance(frame, bytes) else "text"
        async with self._writing:
            self._sending_since = time.monotonic()
            await self._client.send({"type": "websocket.send", kind: frame})
            self._sending_since = None

    async def _watch_client(self) -> None:
        """Notice a client that takes nothing."""
        idle_s = self._settings.idle_timeout_s
        while True:
            await asyncio.sleep(idle_s / 4)
            since = self._sending_since
            if since is not None and time.monotonic() - since > idle_s:
                raise Closed(GOING_AWAY, f"took nothing for {idle_s:g} s")


def _message_of(upstream: WatchedUpstream, frame: str | bytes) -> dict[str, Any]:
    """A text frame of an upstream. Raises `UpstreamFailed` if it is none of ours."""
    try:
        return parse_json_object(frame)
    except SpeechError:
        raise _nonsense(upstream) from None


def _as(kind: type[M], message: dict[str, Any], upstream: WatchedUpstream) -> M:
    try:
        return kind.model_validate(message)
    except ValidationError:
        raise _nonsense(upstream) from None


def _nonsense(upstream: WatchedUpstream) -> UpstreamFailed:
    return UpstreamFailed(f"The {upstream.name} service gave an answer that makes no sense.")
