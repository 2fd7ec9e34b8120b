"""`/ws/echo`: a voice loop, one session of recognition and one of speech joined for a client.

    client ──audio, commands──► recognition ──events──► client
                                     └──final──► speech ──audio, marks──► client

Each final is spoken, under its own id. When somebody speaks while speech is in flight, speech is
cancelled before the client is informed, so that nobody is talked over. A final of the reason
`max_length` goes on: it is spoken together with what follows. When recognition has ended, speech
finishes what it has; then `transcript` completes the loop, which closes as recognition did.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import anyio
from fastapi import WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from common.errors import BadRequest, UpstreamFailed
from common.protocol.echo import (
    EchoCommand,
    EchoReady,
    EchoStart,
    EchoTranscript,
    Voice,
)
from common.protocol.live import Final, ListenCommand, ListenEnd, ListenReady
from common.protocol.messages import (
    GOING_AWAY,
    NORMAL,
    parse_command,
    parse_json_object,
    parse_start,
)
from common.protocol.session import Cancel, Close, GoAway, Ping, Ready, Speak
from common.server.error_boundary import error_boundary
from common.server.lifecycle import Lifecycle
from common.server.request_log import adopt, current_request_id
from common.server.tasks import until_first
from common.server.websocket import WebSocketSender, close
from common.wire.errors import ENDED_EARLY, ConnectionEnded
from gateway.app.relay import SpeechInFlightTracker
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams.socket import SessionClosed, UpstreamSocket

_MAX_EARLY_FRAMES = 64
"""Frames that are taken from a client before its `ready`; what is more waits in its socket."""
_PINGS_PER_IDLE_TIME = 3
"""Speech is sent as many pings in the time after which its session would be idle."""


class VoiceLoop:
    """Run it once, with a client that was accepted and two upstreams that are open."""

    def __init__(
        self,
        client: WebSocket,
        *,
        recognition: UpstreamSocket,
        speech: UpstreamSocket,
        lifecycle: Lifecycle,
        settings: GatewaySettings,
    ) -> None:
        self._client = client
        self._sender = WebSocketSender(client, settings.idle_timeout_s)
        self._recognition = recognition
        self._speech = speech
        self._lifecycle = lifecycle
        self._settings = settings
        self._early_frames: deque[Message] = deque()
        """What the client sent before both upstreams were ready."""
        self._speech_idle_s = 0.0
        """Speech ends a session that is sent nothing for as long."""
        self._speech_in_flight = SpeechInFlightTracker()
        self._unspoken: list[Final] = []
        """Finals of the reason `max_length` that wait for what follows them."""
        self._recognized: ListenEnd | None = None
        self._recognition_closed: SessionClosed | None = None
        self._speech_closed: SessionClosed | None = None
        self._finish_sent = False
        self._is_complete = False
        """Everything is recognized and spoken: what the client sends changes nothing any more."""

    async def run(self) -> None:
        """Serve until everything is recognized and spoken, or one of the three sockets ends."""
        with self._lifecycle.work():
            async with error_boundary(self._client, session=True):
                try:
                    # Not in a task of its own: the id that the client may choose holds for all.
                    start, ignored = await self._receive_start()
                    await until_first(
                        self._converse(start, ignored),
                        self._recognition.watch(),
                        self._speech.watch(),
                        self._watch_slow_reader(),
                    )
                except SessionClosed as closed:
                    await close(self._client, closed.code, closed.reason)

    async def _watch_slow_reader(self) -> None:
        await self._sender.watch()
        raise SessionClosed(GOING_AWAY, f"took nothing for {self._settings.idle_timeout_s:g} s")

    # --- opening ---

    async def _receive_start(self) -> tuple[EchoStart, list[str]]:
        """Return the first message, and its fields that are not known."""
        idle_s = self._settings.idle_timeout_s
        try:
            with anyio.fail_after(idle_s):
                message = await self._client.receive()
        except TimeoutError:
            raise SessionClosed(GOING_AWAY, f"idle for {idle_s:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        if message.get("text") is None:
            raise BadRequest('A session begins with a message of the type "start".')
        value = parse_json_object(message["text"])
        start = parse_start(EchoStart, value)
        if start.request_id is not None:
            adopt(start.request_id)
        return start, EchoStart.unknown(value)

    async def _converse(self, start: EchoStart, ignored: list[str]) -> None:
        await until_first(self._open(start, ignored), self._receive_early_frames())
        await until_first(
            self._from_speech(),
            self._from_recognition(),
            self._from_client(),
            self._keep_speech_alive(),
            self._drain(),
        )

    async def _receive_early_frames(self) -> None:
        """Keep what the client sends already. Raises `WebSocketDisconnect` when it has gone."""
        while len(self._early_frames) < _MAX_EARLY_FRAMES:
            message = await self._client.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            self._early_frames.append(message)
        await anyio.sleep_forever()

    async def _open(self, start: EchoStart, ignored: list[str]) -> None:
        """Start both upstreams and answer `ready`."""
        own = {"request_id": current_request_id()}
        speech_start = start.to_speak().model_copy(update=own).model_dump_json(exclude_none=True)
        self._speech_in_flight.client_sent(speech_start)
        await self._speech.send_while_open(speech_start)
        recognition_start = start.to_listen().model_copy(update=own).model_dump_json()
        await self._recognition.send_while_open(recognition_start)
        recognition = self._recognition.parse_as(
            ListenReady, await self._receive_ready(self._recognition)
        )
        speech = self._speech.parse_as(Ready, await self._receive_ready(self._speech))
        ready = EchoReady(
            **dict(recognition),
            voice=Voice(model=speech.model, audio=speech.audio),
        ).model_copy(update={**own, "ignored": ignored})
        self._speech_idle_s = speech.limits.idle_timeout_s
        await self._sender.send(ready)

    async def _receive_ready(self, upstream: UpstreamSocket) -> dict[str, Any]:
        """Return the `ready` of an upstream; its refusal is passed on to the client."""
        try:
            frame = await upstream.receive()
            message = upstream.parse(frame)
            if message.get("type") == "error":
                await self._sender.send(frame)
                await upstream.receive()
        except ConnectionEnded as ended:
            raise upstream.ending(ended, in_flight=True) from None
        return message

    # --- from the three sockets ---

    async def _from_client(self) -> None:
        """Obey the client; returns when it has disconnected."""
        while True:
            message = (
                self._early_frames.popleft() if self._early_frames else await self._client.receive()
            )
            if message["type"] == "websocket.disconnect":
                return
            if self._is_complete:
                continue
            text: str | None = message.get("text")
            if text is None:
                await self._send_to_recognition(message["bytes"])
                continue
            value = parse_json_object(text)
            try:
                command = parse_command(EchoCommand, value).type
            except BadRequest as error:
                await self._sender.send_error(error)
                continue
            if command == "cancel":
                await self._cancel_speech()
            else:
                await self._send_to_recognition(ListenCommand(type=command).model_dump_json())

    async def _from_recognition(self) -> None:
        while True:
            try:
                frame = await self._recognition.receive()
            except ConnectionEnded as ended:
                ending = self._recognition.ending(ended, in_flight=self._recognized is None)
                if isinstance(ending, SessionClosed) and self._recognized is not None:
                    await self._recognition_has_ended(ending)
                    await anyio.sleep_forever()
                raise ending from None
            message = self._recognition.parse(frame)
            kind = message.get("type")
            if kind == "end":
                self._recognized = self._recognition.parse_as(ListenEnd, message)
                continue
            if kind == "speech_start" or (kind == "partial" and message.get("text")):
                await self._cancel_speech()
            await self._sender.send(frame)
            if kind == "final":
                await self._take_final(self._recognition.parse_as(Final, message))

    async def _from_speech(self) -> None:
        while True:
            try:
                frame = await self._speech.receive()
            except ConnectionEnded as ended:
                ending = self._speech.ending(ended, in_flight=bool(self._speech_in_flight))
                if not isinstance(ending, SessionClosed) or ending.code not in ENDED_EARLY:
                    raise ending from None
                await self._speech_has_ended(ending)
                await anyio.sleep_forever()
            if isinstance(frame, bytes):
                await self._sender.send(frame)
                continue
            self._speech_in_flight.service_sent(frame)
            if self._speech.parse(frame).get("type") != "pong":
                await self._sender.send(frame)

    # --- what follows from it ---

    async def _send_to_recognition(self, frame: str | bytes) -> None:
        if not self._finish_sent and self._recognition_closed is None:
            await self._recognition.send_while_open(frame)

    async def _take_final(self, final: Final) -> None:
        if final.text:
            self._unspoken.append(final)
        if final.reason != "max_length":
            await self._speak()

    async def _speak(self) -> None:
        """Have the finals spoken that are not spoken yet, under the id of the last."""
        if not self._unspoken:
            return
        id_, text = self._unspoken[-1].id, " ".join(final.text for final in self._unspoken)
        self._unspoken = []
        if self._speech_closed is not None:
            error = UpstreamFailed("The tts service is shutting down; this is not spoken.")
            await self._sender.send_error(error, of=id_)
            return
        speak = Speak(type="speak", id=id_, text=text).model_dump_json()
        self._speech_in_flight.client_sent(speak)
        await self._speech.send_while_open(speak)

    async def _cancel_speech(self) -> None:
        if self._speech_in_flight:
            await self._speech.send_while_open(
                Cancel(type="cancel").model_dump_json(exclude_none=True)
            )

    async def _recognition_has_ended(self, closed: SessionClosed) -> None:
        """Have speech finish what it has."""
        self._recognition_closed = closed
        await self._speak()
        if self._speech_closed is None:
            await self._speech.send_while_open(Close(type="close").model_dump_json())
        else:
            await self._complete()

    async def _speech_has_ended(self, closed: SessionClosed) -> None:
        """Complete the loop, or have recognition finish if speech ended on its own."""
        self._speech_closed = closed
        if self._recognition_closed is not None:
            await self._complete()
        else:
            await self._finish_recognition()

    async def _finish_recognition(self) -> None:
        """Have recognized what was said until now, and nothing after it."""
        if not self._finish_sent and self._recognition_closed is None:
            self._finish_sent = True
            await self._recognition.send_while_open(ListenCommand(type="finish").model_dump_json())

    async def _complete(self) -> None:
        assert self._recognized is not None
        assert self._recognition_closed is not None
        assert self._speech_closed is not None
        recognized = self._recognized
        self._is_complete = True
        await self._sender.send(
            EchoTranscript(
                audio_ms=recognized.audio_ms, text=recognized.text, segments=recognized.segments
            )
        )
        if self._lifecycle.draining.is_set():
            raise SessionClosed(GOING_AWAY, "shutting down")
        if self._recognition_closed.code != NORMAL:
            raise self._recognition_closed
        raise self._speech_closed

    async def _drain(self) -> None:
        """When the gateway drains: announce it, and finish what was said until now."""
        await self._lifecycle.draining.wait()
        await self._sender.send(GoAway(deadline_ms=round(self._lifecycle.drain_remaining_s * 1000)))
        await self._finish_recognition()
        await anyio.sleep_forever()

    async def _keep_speech_alive(self) -> None:
        """Send pings: speech without a text is not idle while somebody speaks to recognition."""
        ping = Ping(type="ping").model_dump_json(exclude_none=True)
        while True:
            await anyio.sleep(self._speech_idle_s / _PINGS_PER_IDLE_TIME)
            if self._speech_closed is None:
                await self._speech.send_while_open(ping)
