"""A session of `/ws/tts` at work: `SessionMachine` decides, this moves bytes.

Tasks of a session: one listens; one speaks the active utterance; one watches for a client that
neither asks nor takes anything; one waits for the session's end to be announced. Each tells the
machine what it saw and has the effects carried out: what touches no socket at once, frames through
one outbox in the order in which the machine decided them.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack

import anyio
from fastapi import WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from common.boundary import FAULT
from common.encoding import AudioFormat
from common.errors import BadRequest, Internal, NotJson, SpeechError
from common.logger import get_logger
from common.pcm import Chunker
from common.protocol import parse_json_object, validate
from common.protocol_session import Audio as AudioInfo
from common.protocol_session import (
    Cancel,
    End,
    Failure,
    Limits,
    Ready,
    Start,
    parse_client_message,
)
from common.request_id import adopt, current_request_id
from common.websocket import close
from tts_service.app.feed import Gap, TextFeed, Turn
from tts_service.app.scheduler import Stream
from tts_service.app.service import SpeechService
from tts_service.app.session.machine import (
    Accept,
    Audio,
    Drop,
    Effect,
    Hand,
    Hangup,
    Send,
    SessionMachine,
)
from tts_service.app.utterance import Flaw, Sentence, SpeechOptions, Step

log = get_logger(__name__)

LAST_WORDS_S = 0.25
"""Before the server's own deadline: what is left is cancelled, and its `end` still gets out."""


class _Utterance:
    """What an accepted utterance holds: its text, a place in the work to be waited for, a timer."""

    def __init__(self, held: ExitStack) -> None:
        self.feed = TextFeed()
        self.held = held
        self.delay: asyncio.TimerHandle | None = None


class Conversation:
    """One accepted WebSocket whose first message is `start`."""

    def __init__(self, websocket: WebSocket, service: SpeechService, began: float) -> None:
        self._websocket = websocket
        self._service = service
        self._settings = service.settings
        self._ends_at = began + self._settings.max_session_s
        self._utterances: dict[str, _Utterance] = {}
        self._some_work = asyncio.Event()
        # Of the utterance that is being spoken:
        self._speaking: str | None = None
        self._waiting_for_slot: anyio.CancelScope | None = None
        self._stream: Stream[Step] | None = None
        self._frames: deque[bytes] = deque()
        """Made and cut, not sent yet."""
        self._outbox: deque[Send | Audio | Hangup] = deque()
        self._writing = asyncio.Lock()
        self._hung_up = asyncio.Event()
        self._left = False
        self._sending_since: float | None = None
        self._last_sign = time.monotonic()
        """When the client last sent or took something."""

    async def run(self, first: Message) -> None:
        """Serve until either side closes."""
        try:
            self._start(first)
        except SpeechError as error:
            log.info("session.refused", code=error.code)
            await self._break_off(error)
            return
        try:
            async with anyio.create_task_group() as tasks:

                async def until_end(task: Callable[[], Awaitable[None]]) -> None:
                    await self._guard(task)
                    tasks.cancel_scope.cancel()

                for task in (self._listen, self._speak, self._watch, self._announce_end):
                    tasks.start_soon(until_end, task)
                await self._hung_up.wait()
                tasks.cancel_scope.cancel()
        finally:
            for id_ in list(self._utterances):
                self._drop(id_)

    def _start(self, first: Message) -> None:
        """Raises `BadRequest` for a `start` that cannot be honoured."""
        value = parse_json_object(first["text"])
        start = validate(Start, value)
        if start.request_id is not None:
            adopt(start.request_id)
        settings = self._settings
        self._options = SpeechOptions(
            sample_rate_hz=start.sample_rate or settings.tts_sr,
            speed=start.speed,
            encoding=start.encoding,
        )
        self._audio: AudioFormat = self._options.audio
        default_ms = round(settings.tts_chunk_samples * 1000 / settings.tts_sr)
        chunk_ms = start.chunk_ms or default_ms
        self._chunk_samples = self._options.sample_rate_hz * chunk_ms // 1000
        delay_ms = start.max_buffer_delay_ms or settings.tts_max_buffer_delay_ms
        self._delay_s = delay_ms / 1000
        self._marks = start.timestamps == "sentence"
        self._machine = SessionMachine(
            self._audio,
            max_text_chars=settings.tts_max_text_chars,
            max_queued=settings.tts_max_queued_texts,
            request_id=current_request_id(),
        )
        ready = Ready(
            session_id=uuid.uuid4().hex,
            request_id=current_request_id(),
            model=self._service.model,
            audio=AudioInfo(
                encoding=start.encoding,
                sample_rate=self._options.sample_rate_hz,
                chunk_ms=chunk_ms,
            ),
            limits=Limits(
                max_text_chars=settings.tts_max_text_chars,
                max_message_bytes=settings.max_message_bytes,
                max_queued_utterances=settings.tts_max_queued_texts,
                idle_timeout_s=settings.idle_timeout_s,
                max_session_s=settings.max_session_s,
                max_buffer_delay_ms=delay_ms,
            ),
            ignored=Start.unknown(value),
        )
        log.info("session.start", session_id=ready.session_id, ignored=len(ready.ignored))
        self._outbox.append(Send(ready))

    async def _break_off(self, error: SpeechError) -> None:
        frame = Failure.of(error, current_request_id(), fatal=True)
        words = frame.model_dump(exclude_none=True)
        await close(self._websocket, error.close_code, error.code, last_words=words)

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        """The one boundary of a session: here a fault becomes a close and a log line."""
        try:
            await task()
        except WebSocketDisconnect:
            log.debug("session.left")
        except Exception as error:
            log.error("session.failed", exc_info=error)
            await self._break_off(Internal(FAULT))

    # --- the tasks ---

    async def _listen(self) -> None:
        """Take messages; return when the client has gone."""
        await self._write()
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                log.debug("session.left", close_code=message.get("code"))
                return
            self._last_sign = time.monotonic()
            await self._do(self._take(message.get("text")))

    def _take(self, frame: str | None) -> list[Effect]:
        of: str | None = None
        try:
            if frame is None:
                raise BadRequest("A session takes JSON text frames, not binary ones.")
            value = parse_json_object(frame)
            of = value["id"] if isinstance(value.get("id"), str) else None
            message = parse_client_message(value)
        except NotJson as error:
            return self._machine.fatal(error)
        except SpeechError as error:
            return self._machine.refuse(error, of)
        leaving = self._leave() if self._service.lifecycle.draining.is_set() else []
        cuts = isinstance(message, Cancel) and message.id in (None, self._speaking)
        return leaving + self._machine.receive(message, self._fade() if cuts else b"")

    async def _speak(self) -> None:
        """Speak the active utterance, then the next."""
        while True:
            id_ = self._machine.active
            if id_ is None:
                self._some_work.clear()
                await self._some_work.wait()
                continue
            try:
                await self._speak_one(id_, self._utterances[id_].feed)
            except SpeechError as error:
                await self._do(self._machine.failed(id_, error))

    async def _speak_one(self, id_: str, feed: TextFeed) -> None:
        self._speaking = id_
        self._frames.clear()
        self._chunker = Chunker(self._chunk_samples, self._audio.bytes_per_sample)
        async with AsyncExitStack() as held:
            held.callback(self._forget)
            with anyio.CancelScope() as self._waiting_for_slot:
                speaking = self._service.speak_feed(feed, self._options)
                self._stream = await held.enter_async_context(speaking)
            self._waiting_for_slot = None
            if self._stream is None or self._machine.active != id_:
                return
            await self._do(self._machine.begun(id_))
            async for step in self._stream:
                await self._pass_on(id_, step)
            await self._send_rest(id_)
            await self._do(self._machine.done(id_))

    def _forget(self) -> None:
        self._speaking = self._stream = self._waiting_for_slot = None

    async def _pass_on(self, id_: str, step: Step) -> None:
        machine = self._machine
        if isinstance(step, bytes):
            self._frames += self._chunker.push(step)
            await self._send_frames(id_)
        elif isinstance(step, Sentence):
            if self._marks:
                mark = machine.mark(
                    id_,
                    char_start=step.char_start,
                    char_end=step.char_end,
                    start_sample=step.start_sample,
                    end_sample=step.end_sample,
                )
                await self._do(mark)
        elif isinstance(step, Flaw):
            notice = step.notice
            await self._do(machine.warned(id_, notice.code, notice.message, step.at_sample))
        else:
            await self._send_rest(id_)
            if step is Gap.FLUSHED:
                await self._do(machine.flushed(id_))

    async def _send_rest(self, id_: str) -> None:
        """Also a frame that is not full: nothing comes to fill it now."""
        if rest := self._chunker.flush():
            self._frames.append(rest)
        await self._send_frames(id_)

    async def _send_frames(self, id_: str) -> None:
        while self._frames:
            computed_s = 0.0 if self._stream is None else self._stream.computed_s
            await self._do(self._machine.audio(id_, self._frames.popleft(), computed_s))
            # Sending suspends only when the socket is full; who interrupts must be heard.
            await asyncio.sleep(0)

    async def _watch(self) -> None:
        """End the session of a client that sends nothing while it is waited for, or takes nothing.

        One task a session, for a timer a frame would cost as much as the frame.
        """
        idle_s = self._settings.idle_timeout_s
        while True:
            now = time.monotonic()
            if self._sending_since is not None:
                if now - self._sending_since > idle_s:
                    log.info("session.reads_nothing", idle_s=idle_s)
                    return
                await asyncio.sleep(idle_s / 4)
            elif not self._waits_for_client():
                self._last_sign = now
                await asyncio.sleep(idle_s / 4)
            elif now - self._last_sign >= idle_s:
                await self._do(self._machine.expire(f"idle for {idle_s:g} s"))
                return
            else:
                await asyncio.sleep(self._last_sign + idle_s - now)

    def _waits_for_client(self) -> bool:
        if self._machine.active is None:
            return True
        return self._stream is not None and self._stream.waiting

    async def _announce_end(self) -> None:
        """When the server leaves, or the session's time is up: say so, and end it in time."""
        draining = self._service.lifecycle.draining
        try:
            await asyncio.wait_for(draining.wait(), max(0.0, self._ends_at - time.monotonic()))
        except asyncio.TimeoutError:
            log.info("session.length_limit")
        await self._do(self._leave())
        left_s, reason = self._time_left()
        await asyncio.sleep(left_s)
        await self._do(self._machine.expire(reason))

    def _leave(self) -> list[Effect]:
        """The announcement, once."""
        if self._left:
            return []
        self._left = True
        left_s, reason = self._time_left()
        return self._machine.leave(round(left_s * 1000), reason)

    def _time_left(self) -> tuple[float, str]:
        """Seconds until what is left is cancelled, and why."""
        lifecycle = self._service.lifecycle
        if lifecycle.draining.is_set():
            return max(0.0, lifecycle.left_s - LAST_WORDS_S), "shutting down"
        return self._settings.drain_seconds, "session length limit"

    # --- carrying out what the machine decided ---

    async def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Accept():
                    self._accept(effect.id)
                case Hand():
                    self._hand(effect.id, effect.event)
                case Drop():
                    self._drop(effect.id)
                case _:
                    self._outbox.append(effect)
        await self._write()

    async def _write(self) -> None:
        """Send what is in the outbox. Whoever comes meanwhile waits: that is the back-pressure."""
        async with self._writing:
            while self._outbox:
                effect = self._outbox.popleft()
                self._sending_since = time.monotonic()
                match effect:
                    case Audio():
                        await self._websocket.send_bytes(effect.frame)
                    case Send():
                        await self._websocket.send_text(effect.message.frame())
                        if isinstance(effect.message, End):
                            self._log_end(effect.message)
                    case Hangup():
                        await close(self._websocket, effect.code, effect.reason)
                        self._hung_up.set()
                self._last_sign = time.monotonic()
                self._sending_since = None

    def _accept(self, id_: str) -> None:
        with ExitStack() as held:
            held.enter_context(self._service.lifecycle.work())
            self._utterances[id_] = _Utterance(held.pop_all())
        self._some_work.set()

    def _hand(self, id_: str, event: str | Turn) -> None:
        utterance = self._utterances[id_]
        if utterance.delay is not None:
            utterance.delay.cancel()
        utterance.feed.put(event)
        if isinstance(event, str):
            loop = asyncio.get_running_loop()
            utterance.delay = loop.call_later(self._delay_s, utterance.feed.put, Turn.PAUSE)

    def _drop(self, id_: str) -> None:
        """Stop it, whatever it waits for."""
        utterance = self._utterances.pop(id_)
        if utterance.delay is not None:
            utterance.delay.cancel()
        utterance.held.close()
        if id_ != self._speaking:
            return
        self._frames.clear()
        if self._waiting_for_slot is not None:
            self._waiting_for_slot.cancel()
        if self._stream is not None:
            self._stream.close()

    def _fade(self) -> bytes:
        """How what is being spoken falls silent, as far as its next samples are known."""
        if self._stream is None:
            return b""
        enough = self._audio.sample_rate_hz * self._audio.bytes_per_sample // 100
        rest = b"".join(self._frames) + self._chunker.flush()
        return self._audio.fade(rest if len(rest) >= enough else rest + self._stream.unread(enough))

    def _log_end(self, end: End) -> None:
        log.info("utterance.done", **end.model_dump(exclude={"type", "id"}))
