"""A session of `/ws/tts` at work: `SessionMachine` decides, this moves bytes.

Tasks of a session: one listens; one speaks the active utterance; one watches for a client that
neither asks nor takes anything; one waits for the session's end to be announced. Each tells the
machine what it saw and has the effects carried out: what touches no socket at once, frames through
one outbox in the order in which the machine decided them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import anyio
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from common.boundary import FAULT
from common.errors import BadRequest, Internal, NotJson, SpeechError
from common.logger import get_logger
from common.protocol import parse_json_object
from common.protocol_session import Cancel, ClientMessage, End, parse_client_message
from common.websocket import break_off, close
from tts_service.app.feed import TextFeed, Turn
from tts_service.app.service import SpeechService
from tts_service.app.session.effects import Accept, Audio, Drop, Effect, Hand, Hangup, Send
from tts_service.app.session.machine import SessionMachine
from tts_service.app.session.opening import Terms
from tts_service.app.session.speaking import Speaking

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

    def __init__(
        self, websocket: WebSocket, service: SpeechService, terms: Terms, began: float
    ) -> None:
        self._websocket = websocket
        self._service = service
        self._settings = service.settings
        self._terms = terms
        self._machine = SessionMachine(
            terms.options.audio,
            max_text_chars=terms.ready.limits.max_text_chars,
            max_queued=terms.ready.limits.max_queued_utterances,
            request_id=terms.ready.request_id,
        )
        self._ends_at = began + self._settings.max_session_s
        self._utterances: dict[str, _Utterance] = {}
        self._some_work = asyncio.Event()
        self._speaking: Speaking | None = None
        self._outbox: deque[Send | Audio | Hangup] = deque([Send(terms.ready)])
        self._writing = asyncio.Lock()
        self._hung_up = asyncio.Event()
        self._left = False
        self._sending_since: float | None = None
        self._last_sign = time.monotonic()
        """When the client last sent or took something."""

    async def run(self) -> None:
        """Serve until either side closes."""
        ready = self._terms.ready
        log.info("session.start", session_id=ready.session_id, ignored=len(ready.ignored))
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

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        """The one boundary of a session: here a fault becomes a close and a log line."""
        try:
            await task()
        except WebSocketDisconnect:
            log.debug("session.left")
        except Exception as error:
            log.error("session.failed", exc_info=error)
            await break_off(self._websocket, Internal(FAULT), session=True)

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
        return leaving + self._machine.receive(message, self._fade_for(message))

    def _fade_for(self, message: ClientMessage) -> bytes:
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
                self._some_work.clear()
                await self._some_work.wait()
                continue
            self._speaking = Speaking(id_, self._terms, self._machine, self._do)
            try:
                await self._speaking.run(self._service, self._utterances[id_].feed)
            except SpeechError as error:
                await self._do(self._machine.failed(id_, error))
            finally:
                self._speaking = None

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
        return self._speaking is not None and self._speaking.waits_for_text

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
            utterance.delay = loop.call_later(self._terms.delay_s, utterance.feed.put, Turn.PAUSE)

    def _drop(self, id_: str) -> None:
        """Stop it, whatever it waits for."""
        utterance = self._utterances.pop(id_)
        if utterance.delay is not None:
            utterance.delay.cancel()
        utterance.held.close()
        if self._speaking is not None and self._speaking.id == id_:
            self._speaking.stop()

    def _log_end(self, end: End) -> None:
        log.info("utterance.done", **end.model_dump(exclude={"type", "id"}))
