"""The port on which Wyoming is spoken, and its connections.

The requests of a connection are answered one after another; only the text of a streamed utterance
is read while its audio is sent. Unknown events are ignored, as the protocol wants it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream
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
from common.server.tasks import until_first
from common.wire.errors import ErrorAnswer
from gateway.app.tcp import accept, listen
from gateway.app.upstreams.services import Services
from gateway.app.wyoming.info import describe
from gateway.app.wyoming.peer import Disconnected, Peer
from gateway.app.wyoming.recognition import IncomingAudio
from gateway.app.wyoming.speech import speak

log = get_logger(__name__)

NO_KEYS = (
    "Wyoming has no keys: everybody who can reach this port may use the fleet, whatever API_KEYS "
    "says."
)


@asynccontextmanager
async def serving(services: Services) -> AsyncIterator[None]:
    """Serve while the block runs; then the connections that are left are closed.

    If the port cannot be listened on, the gateway stops, and says why.
    """
    settings = services.settings
    port = settings.gateway_wyoming_port

    async def serve(stream: ByteStream) -> None:
        async with stream:
            with Peer(stream, idle_s=settings.idle_timeout_s) as peer:
                await Connection(peer, services).run()

    try:
        listeners = await listen(settings.host, port)
    except OSError as error:
        log.error("wyoming.cannot_listen", port=port, error=str(error))
        services.lifecycle.fail(f"GATEWAY_WYOMING_PORT cannot be listened on: {error}")
        yield
        return
    log.info("wyoming.start", port=port)
    if settings.keys:
        log.warning("wyoming.no_keys", port=port, meaning=NO_KEYS)
    async with anyio.create_task_group() as tasks:
        for listener in listeners:
            tasks.start_soon(accept, listener, serve, tasks)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


class Connection:
    """A client, from its first event until it disconnects."""

    def __init__(self, peer: Peer, services: Services) -> None:
        self._peer = peer
        self._services = services
        self._request = Transcribe()
        self._audio: IncomingAudio | None = None

    async def run(self) -> None:
        """Serve until the client disconnects; after an error the next request is read."""
        try:
            await until_first(self._serve(), self._receive())
        except Disconnected as disconnected:
            log.debug("wyoming.disconnected", why=str(disconnected))
        except Exception as error:
            log.error("wyoming.failed", exc_info=error)
            try:
                await self._send_error(Internal(FAULT))
            except Disconnected:
                log.debug("wyoming.disconnected", why="before the error was sent")

    async def _receive(self) -> None:
        await self._peer.receive_events()
        await anyio.sleep_forever()  # what was received is still answered

    async def _serve(self) -> None:
        while True:
            adopt(uuid.uuid4().hex)
            event = await self._peer.read()
            try:
                await self._answer(event)
            except (SpeechError, ErrorAnswer) as error:
                await self._send_error(error)
            except KeyError as missing:
                await self._send_error(BadRequest(f"{missing.args[0]}: this field is missing."))

    async def _send_error(self, error: SpeechError | ErrorAnswer) -> None:
        log.info("wyoming.refused", code=error.code)
        self._audio = None
        await self._peer.send_error(error.code, error.message)

    async def _answer(self, event: Event) -> None:
        if Describe.is_type(event.type):
            await self._peer.write(await describe(self._services))
        elif Ping.is_type(event.type):
            await self._peer.write(Pong(text=Ping.from_event(event).text))
        elif Synthesize.is_type(event.type):
            synthesize = Synthesize.from_event(event)
            await self._check_voice(synthesize)
            await speak(self._services, self._peer, _whole(synthesize.text))
        elif SynthesizeStart.is_type(event.type):
            await self._check_voice(SynthesizeStart.from_event(event))
            await speak(self._services, self._peer, self._text_chunks())
            await self._peer.write(SynthesizeStopped())
        elif Transcribe.is_type(event.type):
            request = Transcribe.from_event(event)
            await self._check_recognizer(request)
            self._request = request
        else:
            await self._take_audio(event)

    async def _text_chunks(self) -> AsyncGenerator[str, None]:
        """Yield the text that comes up to `synthesize-stop`.

        The `synthesize` before it repeats the whole text for servers that do not stream.
        """
        while not SynthesizeStop.is_type((event := await self._peer.read()).type):
            if SynthesizeChunk.is_type(event.type):
                yield SynthesizeChunk.from_event(event).text

    async def _take_audio(self, event: Event) -> None:
        if AudioStart.is_type(event.type):
            start = AudioStart.from_event(event)
            limit_bytes = self._services.settings.gateway_max_body_bytes
            self._audio = IncomingAudio(self._request, start, limit_bytes=limit_bytes)
        elif self._audio is not None and AudioChunk.is_type(event.type):
            self._audio.add(AudioChunk.from_event(event))
        elif self._audio is not None and AudioStop.is_type(event.type):
            audio, self._audio, self._request = self._audio, None, Transcribe()
            await audio.transcribe(self._services, self._peer)

    async def _check_voice(self, request: Synthesize | SynthesizeStart) -> None:
        """Raise `BadRequest` for what cannot be honoured."""
        if request.text_format not in (None, SynthesizeTextFormat.TEXT):
            raise BadRequest("text_format: only plain text can be spoken.")
        if request.voice is None:
            return
        loaded = await self._services.voice()
        if request.voice.speaker is not None:
            raise BadRequest(f"voice: {loaded.name!r} has one speaker; leave the speaker out.")
        if request.voice.name not in (None, loaded.name):
            raise BadRequest(
                f"voice: {request.voice.name!r} does not exist here. Use {loaded.name!r}."
            )
        language = (request.voice.language or "").partition("-")[0]
        if language and language not in loaded.languages:
            raise BadRequest(f"voice: {loaded.name!r} does not speak {language!r}.")

    async def _check_recognizer(self, request: Transcribe) -> None:
        """Raise `BadRequest` for what cannot be honoured."""
        if request.name is None:
            return
        loaded = await self._services.recognizer()
        if request.name != loaded.name:
            raise BadRequest(f"name: {request.name!r} does not exist here. Use {loaded.name!r}.")


async def _whole(text: str) -> AsyncGenerator[str, None]:
    yield text
