"""Recognition for a Wyoming client: its audio, from `audio-start` to `audio-stop`, as text."""

from __future__ import annotations

from contextlib import aclosing

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart

from common.audio.pcm import BYTES_PER_SAMPLE
from common.errors import BadRequest, TooLarge
from common.protocol.messages import validate
from common.protocol.recognition import Segment, SttQuery
from common.protocol.recognition import Transcript as Recognized
from gateway.app.upstreams.services import (
    STT_BYTES,
    Recording,
    Services,
    segments_of,
)
from gateway.app.wyoming.peer import Peer


class IncomingAudio:
    """One recording while it comes. Raises `BadRequest` if its format cannot be recognized."""

    def __init__(self, request: Transcribe, start: AudioStart, *, limit_bytes: int) -> None:
        _check_width(start)
        options: dict[str, object] = {"sr": start.rate, "ch": start.channels}
        if request.language:
            # The recognizer knows no regions: en-GB is en.
            options["lang"] = request.language.partition("-")[0]
        words = [*(request.transcript_names or ()), *(request.transcript_terms or ())]
        if words:
            options["hotwords"] = " ".join(words)
        self._query = validate(SttQuery, options)
        self._format = (start.rate, start.channels)
        self._limit_bytes = limit_bytes
        self._pcm = bytearray()

    def add(self, chunk: AudioChunk) -> None:
        """Take a chunk. Raises `BadRequest` or `TooLarge`."""
        _check_width(chunk)
        if (chunk.rate, chunk.channels) != self._format:
            raise BadRequest("The rate or the channels of the audio changed within the recording.")
        self._pcm += chunk.audio
        if len(self._pcm) > self._limit_bytes:
            raise TooLarge(f"The audio is over the limit of {self._limit_bytes} bytes.")

    async def transcribe(self, services: Services, peer: Peer) -> None:
        """Send each segment as it is found, then the whole transcript.

        Raises as `Upstream` and `segments_of` do, and `BadRequest` or `EmptyAudio`.
        """
        self._query.pcm.check(self._pcm)
        found: list[Segment] = []
        recording = Recording(STT_BYTES, self._pcm, self._query)
        language = self._query.lang
        async with services.admitted(), services.segments(recording) as answer:
            await peer.write(TranscriptStart(language=language))
            async with aclosing(segments_of(services.asr.chunks(answer))) as segments:
                async for segment in segments:
                    space = " " if found else ""
                    found.append(segment)
                    await peer.write(TranscriptChunk(text=space + segment.text))
        await peer.write(Transcript(text=Recognized.of(found).text, language=language))
        await peer.write(TranscriptStop())


def _check_width(audio: AudioStart | AudioChunk) -> None:
    if audio.width != BYTES_PER_SAMPLE:
        raise BadRequest(f"width: samples must have {BYTES_PER_SAMPLE} bytes, not {audio.width}.")
