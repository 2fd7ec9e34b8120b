"""One connection: events in, answers out, one request after another.

Of several requests on a connection each is answered before the next is read; only the text of a
streamed utterance is read while its audio is sent. Events that are not known are passed over, as
the protocol wants it.
"""

from __future__ import annotations

import uuid

from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeTextFormat,
)

from common.errors import BadRequest, Internal, SpeechError
from common.logger import get_logger
from common.server.error_boundary import FAULT
from common.server.request_log import adopt
from gateway.app.catalogue import Catalogue
from gateway.app.fleet import Fleet
from gateway.app.upstreams import UpstreamAnswer
from gateway.app.wyoming.hearing import Hearing
from gateway.app.wyoming.info import describe
from gateway.app.wyoming.speaking import speaking
from gateway.app.wyoming.wire import Gone, Peer, Refusal

log = get_logger(__name__)


class Connection:
    """A client, from its first event to its leaving."""

    def __init__(self, peer: Peer, fleet: Fleet, catalogue: Catalogue) -> None:
        self._peer = peer
        self._fleet = fleet
        self._catalogue = catalogue
        self._asked = Transcribe()
        self._hearing: Hearing | None = None

    async def run(self) -> None:
        """Serve until the client leaves; what fails is told, and the next request is read."""
        try:
            while True:
                adopt(uuid.uuid4().hex)
                await self._serve(await self._peer.read())
        except Gone as gone:
            log.debug("wyoming.gone", why=str(gone))
        except Exception as error:
            log.error("wyoming.failed", exc_info=error)
            await self._last_words()

    async def _last_words(self) -> None:
        try:
            await self._peer.refuse(Refusal.of(Internal(FAULT)))
        except Gone as gone:
            log.debug("wyoming.gone", why=str(gone))

    async def _serve(self, event: Event) -> None:
        try:
            await self._answer(event)
        except (SpeechError, UpstreamAnswer) as error:
            await self._refuse(Refusal.of(error))
        except Refusal as refusal:
            await self._refuse(refusal)
        except KeyError as missing:
            await self._refuse(Refusal(f"{missing.args[0]}: this field is missing.", "bad_request"))

    async def _refuse(self, refusal: Refusal) -> None:
        log.info("wyoming.refused", code=refusal.code)
        self._hearing = None
        await self._peer.refuse(refusal)

    async def _answer(self, event: Event) -> None:
        if Describe.is_type(event.type):
            await self._peer.write(await describe(self._catalogue))
        elif Ping.is_type(event.type):
            await self._peer.write(Pong(text=Ping.from_event(event).text))
        elif Synthesize.is_type(event.type):
            whole = Synthesize.from_event(event)
            await self._check_voice(whole)
            async with speaking(self._fleet, self._peer) as utterance:
                await utterance.say(whole.text)
                await utterance.finish()
        elif SynthesizeStart.is_type(event.type):
            await self._check_voice(SynthesizeStart.from_event(event))
            await self._speak_as_it_comes()
        elif Transcribe.is_type(event.type):
            asked = Transcribe.from_event(event)
            await self._check_recognizer(asked)
            self._asked = asked
        else:
            await self._hear(event)

    async def _speak_as_it_comes(self) -> None:
        """From `synthesize-start` to `synthesize-stop`.

        The `synthesize` between them repeats the whole text for servers that do not stream.
        """
        async with speaking(self._fleet, self._peer) as utterance:
            while True:
                event = await self._peer.read()
                if SynthesizeChunk.is_type(event.type):
                    await utterance.say(SynthesizeChunk.from_event(event).text)
                elif SynthesizeStop.is_type(event.type):
                    await utterance.finish()
                    break
        await self._peer.write(SynthesizeStopped())

    async def _hear(self, event: Event) -> None:
        if AudioStart.is_type(event.type):
            start = AudioStart.from_event(event)
            limit_bytes = self._fleet.settings.gateway_max_body_bytes
            self._hearing = Hearing(self._asked, start, limit_bytes=limit_bytes)
        elif self._hearing is not None and AudioChunk.is_type(event.type):
            self._hearing.add(AudioChunk.from_event(event))
        elif self._hearing is not None and AudioStop.is_type(event.type):
            hearing, self._hearing, self._asked = self._hearing, None, Transcribe()
            await hearing.answer(self._fleet, self._peer)

    async def _check_voice(self, asked: Synthesize | SynthesizeStart) -> None:
        """Raise `BadRequest` for what cannot be honoured."""
        if asked.text_format not in (None, SynthesizeTextFormat.TEXT):
            raise BadRequest("text_format: only plain text is spoken.")
        if asked.voice is None:
            return
        loaded = await self._catalogue.voice()
        if asked.voice.speaker is not None:
            raise BadRequest(f"voice: {loaded.name!r} has one speaker.")
        if asked.voice.name not in (None, loaded.name):
            raise BadRequest(f"voice: {asked.voice.name!r} is not known here, but {loaded.name!r}.")
        language = (asked.voice.language or "").partition("-")[0]
        if language and language not in loaded.languages:
            raise BadRequest(f"voice: {loaded.name!r} speaks no {language!r}.")

    async def _check_recognizer(self, asked: Transcribe) -> None:
        """Raise `BadRequest` for what cannot be honoured."""
        if asked.name is None:
            return
        loaded = await self._catalogue.recognizer()
        if asked.name != loaded.name:
            raise BadRequest(f"name: {asked.name!r} is not known here, but {loaded.name!r}.")
