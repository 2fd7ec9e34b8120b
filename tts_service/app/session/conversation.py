"""A session of `/ws/tts` at work: `SessionMachine` decides, this moves bytes.

Tasks of a session: one listens; one speaks the active utterance; one watches for a client that asks
for nothing, one for a client that takes nothing; one waits for the session's end to be announced.
Each tells the machine what it saw and has the effects carried out: what touches no socket at once,
frames through one outbox in the order in which the machine decided them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

from fastapi import WebSocket

from common.errors import BadRequest, NotJson, SpeechError
from common.logger import get_logger
from common.protocol.messages import parse_json_object
from common.protocol.session import Cancel, ClientMessage, parse_client_message
from common.server.error_boundary import error_boundary
from common.server.tasks import until_first
from tts_service.app.feed import TextFeed, Turn
from tts_service.app.service import SpeechService
from tts_service.app.session.effects import Accept, Drop, Effect, Hand, Send
from tts_service.app.session.machine import SessionMachine
from tts_service.app.session.opening import Terms
from tts_service.app.session.outbox import Outbox
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
        self._outbox = Outbox(websocket, self._settings.idle_timeout_s)
        self._outbox.put(Send(terms.ready))
        self._left = False
        self._last_sign = time.monotonic()
        """When the client last sent something, or was not waited for."""

    async def run(self) -> None:
        """Serve until either side closes."""
        ready = self._terms.ready
        log.info("session.start", session_id=ready.session_id, ignored=len(ready.ignored))
        try:
            async with error_boundary(self._websocket, session=True):
                await until_first(
                    self._listen(),
                    self._speak(),
                    self._watch_idleness(),
                    self._announce_end(),
                    self._outbox.watch(),
                    self._outbox.hung_up.wait(),
                )
        finally:
            for id_ in list(self._utterances):
                self._drop(id_)

    # --- the tasks ---

    async def _listen(self) -> None:
        """Take messages; return when the client has gone."""
        await self._outbox.write()
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

    async def _watch_idleness(self) -> None:
        """End the session of a client that sends nothing while it is waited for."""
        idle_s = self._settings.idle_timeout_s
        while True:
            now = time.monotonic()
            last_sign = max(self._last_sign, self._outbox.taken_at)
            if self._outbox.is_writing or not self._waits_for_client():
                self._last_sign = now
                await asyncio.sleep(idle_s / 4)
            elif now - last_sign >= idle_s:
                await self._do(self._machine.expire(f"idle for {idle_s:g} s"))
                return
            else:
                await asyncio.sleep(last_sign + idle_s - now)

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
            return max(0.0, lifecycle.drain_remaining_s - LAST_WORDS_S), "shutting down"
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
                    self._outbox.put(effect)
        await self._outbox.write()

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
