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
from collections import deque
from typing import Any

from fastapi import WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed

from common.errors import BadRequest, Internal, SpeechError, UpstreamFailed
from common.logger import get_logger
from common.protocol.echo import (
    EchoReady,
    EchoStart,
    EchoTranscript,
    Voice,
    parse_echo_command,
    parse_echo_start,
)
from common.protocol.live import Command, Final, ListenEnd, ListenReady
from common.protocol.messages import parse_json_object
from common.protocol.session import Cancel, Close, GoAway, Ping, Ready, Speak
from common.server.error_boundary import FAULT
from common.server.lifecycle import Lifecycle
from common.server.request_log import adopt, current_request_id
from common.server.tasks import until_first
from common.server.websocket import (
    GOING_AWAY,
    NORMAL,
    SERVICE_RESTART,
    WebSocketSender,
    close,
    close_with_error,
)
from gateway.app.in_flight import SpeechInFlightTracker
from gateway.app.settings import GatewaySettings
from gateway.app.watched import Closed, UpstreamSocket

log = get_logger(__name__)

_IN_ORDER = {NORMAL, GOING_AWAY, SERVICE_RESTART}
_MAX_EARLY = 64
"""Frames that a client may send before it is told `ready`; what is more waits in its socket."""
_KEPT_ALIVE_SHARE = 3
"""The voice is kept alive this many times in the time after which it would be idle."""


class VoiceLoop:
    """Run it once, with a client that was accepted and two upstreams that are open."""

    def __init__(
        self,
        client: WebSocket,
        *,
        ears: UpstreamSocket,
        voice: UpstreamSocket,
        lifecycle: Lifecycle,
        settings: GatewaySettings,
    ) -> None:
        self._client = client
        self._told = WebSocketSender(client, settings.idle_timeout_s)
        self._ears = ears
        self._voice = voice
        self._lifecycle = lifecycle
        self._settings = settings
        self._early: deque[Message] = deque()
        """What the client sent before both were ready."""
        self._voice_idle_s = 0.0
        """After this time without a message, the voice would be idle."""
        self._speaking = SpeechInFlightTracker()
        self._held: list[Final] = []
        """What is final and not spoken yet: it is so only for its length."""
        self._heard: ListenEnd | None = None
        self._ears_closed: Closed | None = None
        self._voice_closed: Closed | None = None
        self._left = False
        self._over = False
        """All is heard and said: nothing that the client sends matters any more."""

    async def run(self) -> None:
        """Serve until all is heard and said, or one of the three goes."""
        try:
            with self._lifecycle.work():
                # Not in a task of its own: all of this goes by the id that the client may choose.
                start, ignored = await self._take_start()
                await until_first(
                    self._converse(start, ignored),
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
            await close_with_error(self._client, error, session=True)
        except Exception as error:
            log.error("loop.failed", exc_info=error)
            await close_with_error(self._client, Internal(FAULT), session=True)

    async def _watch_client(self) -> None:
        await self._told.watch()
        raise Closed(GOING_AWAY, f"took nothing for {self._settings.idle_timeout_s:g} s")

    # --- opening ---

    async def _take_start(self) -> tuple[EchoStart, list[str]]:
        """The first message, and what of it is not known."""
        idle_s = self._settings.idle_timeout_s
        try:
            message = await asyncio.wait_for(self._client.receive(), idle_s)
        except asyncio.TimeoutError:
            raise Closed(GOING_AWAY, f"idle for {idle_s:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        if message.get("text") is None:
            raise BadRequest('A voice loop begins with a message of the type "start".')
        value = parse_json_object(message["text"])
        start = parse_echo_start(value)
        if start.request_id is not None:
            adopt(start.request_id)
        return start, EchoStart.unknown(value)

    async def _converse(self, start: EchoStart, ignored: list[str]) -> None:
        await until_first(self._open(start, ignored), self._hear_early())
        await until_first(
            self._from_voice(),
            self._from_ears(),
            self._from_client(),
            self._keep_voice(),
            self._leave(),
        )

    async def _hear_early(self) -> None:
        """Keep what the client sends already. Raises `WebSocketDisconnect` when it has gone."""
        while len(self._early) < _MAX_EARLY:
            message = await self._client.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            self._early.append(message)
        await asyncio.Event().wait()

    async def _open(self, start: EchoStart, ignored: list[str]) -> None:
        """Start both upstreams and answer `ready`."""
        own = {"request_id": current_request_id()}
        asked_to_speak = start.to_speak().model_copy(update=own).model_dump_json(exclude_none=True)
        self._speaking.client_sent(asked_to_speak)
        await self._voice.send(asked_to_speak)
        await self._ears.send(start.to_listen().model_copy(update=own).model_dump_json())
        hears = self._ears.parse_as(ListenReady, await self._answer_of(self._ears))
        speaks = self._voice.parse_as(Ready, await self._answer_of(self._voice))
        ready = EchoReady(
            **dict(hears),
            voice=Voice(model=speaks.model, audio=speaks.audio),
        ).model_copy(update={**own, "ignored": ignored})
        self._voice_idle_s = speaks.limits.idle_timeout_s
        await self._told.send_message(ready)

    async def _answer_of(self, upstream: UpstreamSocket) -> dict[str, Any]:
        """The `ready` of an upstream; if it refuses, the client is told so in its words."""
        try:
            frame = await upstream.receive()
            message = upstream.parse(frame)
            if message.get("type") == "error":
                await self._told.send(frame)
                await upstream.receive()
        except ConnectionClosed as closed:
            raise upstream.ending(closed, in_flight=True) from None
        return message

    # --- from the three ---

    async def _from_client(self) -> None:
        """Returns when the client has gone."""
        while True:
            message = self._early.popleft() if self._early else await self._client.receive()
            if message["type"] == "websocket.disconnect":
                return
            if self._over:
                continue
            text: str | None = message.get("text")
            if text is None:
                if not self._left and self._ears_closed is None:
                    await self._ears.send(message["bytes"])
                continue
            value = parse_json_object(text)
            try:
                await self._obey(parse_echo_command(value).type)
            except BadRequest as error:
                await self._told.send_error(error)

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
                ending = self._ears.ending(closed, in_flight=self._heard is None)
                if isinstance(ending, Closed) and self._heard is not None:
                    await self._all_heard(ending)
                    await asyncio.Event().wait()
                raise ending from None
            message = self._ears.parse(frame)
            kind = message.get("type")
            if kind == "end":
                self._heard = self._ears.parse_as(ListenEnd, message)
                continue
            if kind == "speech_start" or (kind == "partial" and message.get("text")):
                await self._interrupt()
            await self._told.send(frame)
            if kind == "final":
                await self._take(self._ears.parse_as(Final, message))

    async def _from_voice(self) -> None:
        while True:
            try:
                frame = await self._voice.receive()
            except ConnectionClosed as closed:
                ending = self._voice.ending(closed, in_flight=bool(self._speaking))
                if not isinstance(ending, Closed) or ending.code not in _IN_ORDER:
                    raise ending from None
                await self._voice_gone(ending)
                await asyncio.Event().wait()
            if isinstance(frame, bytes):
                await self._told.send(frame)
                continue
            self._speaking.service_sent(frame)
            if self._voice.parse(frame).get("type") != "pong":
                await self._told.send(frame)

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
            await self._told.send_error(gone, of=id_)
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
        self._over = True
        await self._told.send_message(
            EchoTranscript(audio_ms=heard.audio_ms, text=heard.text, segments=heard.segments)
        )
        if self._lifecycle.draining.is_set():
            raise Closed(GOING_AWAY, "shutting down")
        raise self._ears_closed if self._ears_closed.code != NORMAL else self._voice_closed

    async def _leave(self) -> None:
        """When the gateway leaves: say so, hear and say what was said until now, and end."""
        await self._lifecycle.draining.wait()
        await self._told.send_message(
            GoAway(deadline_ms=round(self._lifecycle.drain_remaining_s * 1000))
        )
        await self._hear_no_more()
        await asyncio.Event().wait()

    async def _keep_voice(self) -> None:
        """A voice that has nothing to say for long is not idle: its listener speaks."""
        ping = Ping(type="ping").model_dump_json(exclude_none=True)
        while True:
            await asyncio.sleep(self._voice_idle_s / _KEPT_ALIVE_SHARE)
            if self._voice_closed is None:
                await self._voice.send(ping)
