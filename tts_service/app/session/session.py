"""A socket of `/ws/tts` at work: `SessionMachine` decides, this moves bytes.

One task takes messages, one speaks the active utterance; one watches for a client that sends
nothing, one for a client that reads nothing; one waits for the end of the session to be announced.
Each tells the machine what it saw and has the effects carried out: what touches no socket at once,
frames through one queue in the order in which the machine decided them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
from fastapi import WebSocket

from common.audio.encoding import fade
from common.audio.pcm import Chunker
from common.errors import BadRequest, NotJson, SpeechError
from common.logger import get_logger, text_field
from common.protocol.messages import parse_json_object
from common.protocol.session import (
    Cancel,
    Ready,
    SessionCommand,
    SessionEvent,
    parse_client_message,
)
from common.server.error_boundary import error_boundary
from common.server.tasks import until_first
from common.server.websocket import WebSocketSender, close
from tts_service.app.engines.base import SynthesisWarning
from tts_service.app.scheduler import Stream
from tts_service.app.service import SpeechService
from tts_service.app.session.machine import (
    Accept,
    CloseSocket,
    Drop,
    Effect,
    PutText,
    Send,
    SendAudio,
    SessionMachine,
)
from tts_service.app.settings import TtsSettings
from tts_service.app.text import TextEvent, TextStream
from tts_service.app.utterance import Sentence, SpeechEvent, SpeechOptions

log = get_logger(__name__)

LAST_MESSAGES_S = 0.25
"""Before the server's own deadline: what is left is cancelled, and its `end` still gets out."""

CHUNKS_AT_ONCE = 8
"""So many are sent, if they are there, before messages of the client are taken again."""

Received = dict[str, Any] | SpeechError
"""A message of a client, or what is wrong with it."""


@dataclass(frozen=True)
class SessionConfig:
    """What holds for a session."""

    options: SpeechOptions
    chunk_samples: int
    delay_s: float
    """Without more text, until what is no sentence yet is spoken."""
    marks: bool = False
    """Whether a `mark` follows each sentence."""
    ready: Ready | None = None
    """The session's first message, if it has one."""

    @classmethod
    def of_simple_mode(cls, settings: TtsSettings) -> SessionConfig:
        """What holds for a socket on which nothing is negotiated."""
        return cls(
            options=SpeechOptions(sample_rate_hz=settings.tts_sr),
            chunk_samples=settings.tts_chunk_samples,
            delay_s=settings.tts_max_buffer_delay_ms / 1000,
        )


def read_object(frame: str | None, subject: str) -> Received:
    """The JSON object in a text frame; None stands for a binary frame."""
    if frame is None:
        return BadRequest(f"{subject} takes JSON text frames, not binary ones.")
    try:
        return parse_json_object(frame)
    except SpeechError as error:
        return error


class SessionMode:
    """How frames and the machine's messages become each other; here, those of the session mode."""

    subject = "A session"
    """What takes the frames, in error messages."""
    is_session = True
    """Whether draining is announced, a full queue refuses, and errors say whether they are fatal.

    Otherwise a client notices draining by its next text, and waits while the queue is full.
    """

    def __init__(self, machine: SessionMachine) -> None:
        self.machine = machine

    def parse(self, value: dict[str, Any]) -> SessionCommand:
        """The message in `value`. Raises the `SpeechError` to refuse it with."""
        return parse_client_message(value)

    def refuse(self, error: SpeechError, of: str | None) -> list[Effect]:
        """What follows a message that cannot be honoured; `of` is the utterance that it named."""
        if isinstance(error, NotJson):
            return self.machine.fatal(error)
        return self.machine.refuse(error, of)

    def failed(self, id_: str, error: SpeechError) -> list[Effect]:
        """What follows when an utterance cannot be spoken, or not further."""
        return self.machine.failed(id_, error)

    def frame(self, message: SessionEvent) -> str | None:
        """The text frame for `message`; None if it is not sent."""
        return message.frame()


class _Utterance:
    """What an accepted utterance holds: its text, its part in what is in flight, a timer."""

    def __init__(self, held: ExitStack) -> None:
        self.text = TextStream()
        self.held = held
        self.delay: asyncio.TimerHandle | None = None


class Session:
    """One accepted WebSocket, from its first message to its close."""

    def __init__(
        self,
        websocket: WebSocket,
        service: SpeechService,
        config: SessionConfig,
        mode: SessionMode,
        *,
        ends_at: float,
    ) -> None:
        """`ends_at` is when the session's time is up, as `time.monotonic` has it."""
        self._websocket = websocket
        self._service = service
        self._settings = service.settings
        self._config = config
        self._mode = mode
        self._machine = mode.machine
        self._ends_at = ends_at
        self._utterances: dict[str, _Utterance] = {}
        self._speaking: ActiveUtterance | None = None
        self._accepted = asyncio.Event()
        self._dropped = asyncio.Event()
        self._end_announced = False
        self._last_message_at = time.monotonic()
        """When the client last sent something, or was not waited for."""
        self._sender = WebSocketSender(websocket, service.settings.idle_timeout_s)
        self._outgoing: deque[Send | SendAudio | CloseSocket] = deque()
        self._writing = asyncio.Lock()
        self._last_sent_at = time.monotonic()
        self._closed = asyncio.Event()

    async def run(self, first: Received | None = None) -> None:
        """Serve until either side closes; `first` is a message that was received already."""
        if ready := self._config.ready:
            log.info("session.start", session_id=ready.session_id, ignored=len(ready.ignored))
            self._outgoing.append(Send(ready))
        try:
            async with error_boundary(self._websocket, session=self._mode.is_session):
                await until_first(
                    self._receive(first),
                    self._speak(),
                    self._watch_idleness(),
                    self._announce_end(),
                    self._sender.watch(),
                    self._closed.wait(),
                )
        finally:
            for id_ in list(self._utterances):
                self._drop(id_)

    # --- the tasks ---

    async def _receive(self, first: Received | None) -> None:
        """Take messages; return when the client has gone."""
        await self._write()
        if first is not None:
            await self._do(self._take(first))
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                log.debug("session.disconnected", close_code=message.get("code"))
                return
            self._last_message_at = time.monotonic()
            received = read_object(message.get("text"), self._mode.subject)
            while self._machine.is_full and not self._mode.is_session:
                self._dropped.clear()
                await self._dropped.wait()
            await self._do(self._take(received))

    def _take(self, received: Received) -> list[Effect]:
        of: str | None = None
        try:
            if isinstance(received, SpeechError):
                raise received
            of = received["id"] if isinstance(received.get("id"), str) else None
            message = self._mode.parse(received)
        except SpeechError as error:
            return self._mode.refuse(error, of)
        announced = []
        if self._mode.is_session and self._service.lifecycle.draining.is_set():
            announced = self._go_away()
        return announced + self._machine.receive(message, self._fade_for(message))

    def _fade_for(self, message: SessionCommand) -> bytes:
        """How what is being spoken falls silent, if this message cancels it."""
        speaking = self._speaking
        if not isinstance(message, Cancel) or speaking is None:
            return b""
        return speaking.fade() if message.id in (None, speaking.id) else b""

    async def _speak(self) -> None:
        """Speak the active utterance, then the next."""
        while True:
            id_ = self._machine.active
            if id_ is None:
                self._accepted.clear()
                await self._accepted.wait()
                continue
            self._speaking = ActiveUtterance(id_, self._config, self._machine, self._do)
            try:
                await self._speaking.run(self._service, self._utterances[id_].text)
            except SpeechError as error:
                await self._do(self._mode.failed(id_, error))
            finally:
                self._speaking = None

    async def _watch_idleness(self) -> None:
        """End the session of a client that sends nothing while it is waited for."""
        idle_s = self._settings.idle_timeout_s
        while True:
            now = time.monotonic()
            since = max(self._last_message_at, self._last_sent_at)
            if self._writing.locked() or not self._waits_for_client():
                self._last_message_at = now
                await anyio.sleep(idle_s / 4)
            elif now - since >= idle_s:
                await self._do(self._machine.expire(f"idle for {idle_s:g} s"))
                return
            else:
                await anyio.sleep(since + idle_s - now)

    def _waits_for_client(self) -> bool:
        if self._machine.active is None:
            return True
        return self._speaking is not None and self._speaking.waits_for_text

    async def _announce_end(self) -> None:
        """When the server drains, or the session's time is up: announce the end, and keep to it."""
        with anyio.move_on_after(max(0.0, self._ends_at - time.monotonic())) as in_time:
            if self._mode.is_session:
                await self._service.lifecycle.draining.wait()
            else:
                await anyio.sleep_forever()
        if in_time.cancelled_caught:
            log.info("session.length_limit")
        await self._do(self._go_away())
        left_s, reason = self._time_left()
        await anyio.sleep(left_s)
        await self._do(self._machine.expire(reason))

    def _go_away(self) -> list[Effect]:
        """The announcement, once."""
        if self._end_announced:
            return []
        self._end_announced = True
        left_s, reason = self._time_left()
        return self._machine.go_away(round(left_s * 1000), reason)

    def _time_left(self) -> tuple[float, str]:
        """Seconds until what is left is cancelled, and why."""
        lifecycle = self._service.lifecycle
        if self._mode.is_session and lifecycle.draining.is_set():
            return max(0.0, lifecycle.drain_remaining_s - LAST_MESSAGES_S), "shutting down"
        return self._settings.drain_seconds, "session length limit"

    # --- carrying out what the machine decided ---

    async def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendAudio() | Send() | CloseSocket():
                    self._outgoing.append(effect)
                case Accept(id_):
                    self._accept(id_)
                case PutText(id_, event):
                    self._put_text(id_, event)
                case Drop(id_, text, end):
                    self._drop(id_)
                    done = end.model_dump(exclude={"type", "id"})
                    log.info("utterance.done", **done, **text_field(self._settings, text))
        await self._write()

    def _accept(self, id_: str) -> None:
        with ExitStack() as held:
            held.enter_context(self._service.lifecycle.work())
            self._utterances[id_] = _Utterance(held.pop_all())
        self._accepted.set()

    def _put_text(self, id_: str, event: str | TextEvent) -> None:
        utterance = self._utterances[id_]
        if utterance.delay is not None:
            utterance.delay.cancel()
            utterance.delay = None
        utterance.text.put(event)
        if isinstance(event, str):
            loop = asyncio.get_running_loop()
            put = utterance.text.put
            utterance.delay = loop.call_later(self._config.delay_s, put, TextEvent.PAUSE)

    def _drop(self, id_: str) -> None:
        """Stop it, whatever it waits for."""
        utterance = self._utterances.pop(id_)
        if utterance.delay is not None:
            utterance.delay.cancel()
        utterance.held.close()
        if self._speaking is not None and self._speaking.id == id_:
            self._speaking.stop()
        self._dropped.set()

    async def _write(self) -> None:
        """Send all that is to be sent. Whoever comes meanwhile waits: that is the back-pressure."""
        async with self._writing:
            while self._outgoing:
                match self._outgoing.popleft():
                    case SendAudio() as effect:
                        await self._sender.send(effect.chunk)
                    case Send(message):
                        if (frame := self._mode.frame(message)) is not None:
                            await self._sender.send(frame)
                    case CloseSocket(code, reason):
                        await close(self._websocket, code, reason)
                        self._closed.set()
            self._last_sent_at = time.monotonic()


class ActiveUtterance:
    """The utterance that is spoken now, from its wait for a slot to its last chunk.

    What the voice yields is told to the machine a few chunks at a time, when those before them were
    sent; `do` carries out what the machine says.
    """

    def __init__(
        self,
        id_: str,
        config: SessionConfig,
        machine: SessionMachine,
        do: Callable[[list[Effect]], Awaitable[None]],
    ) -> None:
        self.id = id_
        self._config = config
        self._audio = config.options.audio
        self._machine = machine
        self._do = do
        self._chunker = Chunker(config.chunk_samples, self._audio.bytes_per_frame)
        self._chunks: deque[bytes] = deque()
        """Made and cut, not sent yet."""
        self._slot = anyio.CancelScope()
        self._stream: Stream[SpeechEvent] | None = None

    async def run(self, service: SpeechService, text: TextStream) -> None:
        """Speak it to its end, or until `stop`. Raises what the voice fails with."""
        async with AsyncExitStack() as held:
            with self._slot:
                speech = service.speak(text, self._config.options)
                self._stream = await held.enter_async_context(speech)
            if self._stream is None or self._machine.active != self.id:
                return
            await self._do(self._machine.begun(self.id))
            async for event in self._stream:
                await self._pass_on(event)
            await self._send_rest()
            await self._do(self._machine.done(self.id))

    @property
    def waits_for_text(self) -> bool:
        return self._stream is not None and self._stream.waiting

    def fade(self) -> bytes:
        """How it falls silent if it is stopped now, as far as its next samples are known."""
        if self._stream is None:
            return b""
        enough = self._audio.sample_rate_hz * self._audio.bytes_per_frame // 100
        rest = b"".join(self._chunks) + self._chunker.flush()
        tail = rest if len(rest) >= enough else rest + self._stream.unread(enough)
        return fade(tail, self._audio)

    def stop(self) -> None:
        """Stop it, whatever it waits for."""
        self._chunks.clear()
        if self._stream is None:
            self._slot.cancel()
        else:
            self._stream.close()

    async def _pass_on(self, event: SpeechEvent) -> None:
        machine = self._machine
        if isinstance(event, bytes):
            self._chunks += self._chunker.push(event)
            await self._send_chunks()
        elif isinstance(event, Sentence):
            if self._config.marks:
                await self._do(machine.mark(self.id, event))
        elif isinstance(event, SynthesisWarning):
            await self._do(machine.warning(self.id, event))
        else:
            await self._send_rest()
            if event is TextEvent.FLUSH:
                await self._do(machine.flushed(self.id))

    async def _send_rest(self) -> None:
        """Also a chunk that is not full: nothing comes to fill it now."""
        if rest := self._chunker.flush():
            self._chunks.append(rest)
        await self._send_chunks()

    async def _send_chunks(self) -> None:
        assert self._stream is not None
        while self._chunks:
            effects: list[Effect] = []
            while self._chunks and len(effects) < CHUNKS_AT_ONCE:
                chunk = self._chunks.popleft()
                effects += self._machine.audio(self.id, chunk, self._stream.computed_s)
            await self._do(effects)
            # Sending suspends only when the socket is full, and a message must still be taken.
            await anyio.lowlevel.checkpoint()
