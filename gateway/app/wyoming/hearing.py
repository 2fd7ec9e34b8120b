"""What a Wyoming client says, from `audio-start` to `audio-stop`, and the transcript of it."""

from __future__ import annotations

from contextlib import aclosing

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart

from common.audio.pcm import BYTES_PER_SAMPLE
from common.errors import BadRequest, TooLarge
from common.protocol.messages import validate
from common.protocol.recognition import Segment, SttQuery
from common.protocol.recognition import Transcript as Recognized
from gateway.app.fleet import Audio, Fleet
from gateway.app.listening import STT_BYTES
from gateway.app.overlap import segments_of
from gateway.app.wyoming.wire import Peer


class Hearing:
    """One recording. Raises `BadRequest` if it is none that can be recognized."""

    def __init__(self, asked: Transcribe, start: AudioStart, *, limit_bytes: int) -> None:
        _check_width(start)
        given: dict[str, object] = {"sr": start.rate, "ch": start.channels}
        if asked.language:
            # Regions are of no matter to the recognizer: en-GB is en.
            given["lang"] = asked.language.partition("-")[0]
        words = [*(asked.transcript_names or ()), *(asked.transcript_terms or ())]
        if words:
            given["hotwords"] = " ".join(words)
        self._query = validate(SttQuery, given)
        self._format = (start.rate, start.channels)
        self._limit_bytes = limit_bytes
        self._pcm = bytearray()

    def add(self, chunk: AudioChunk) -> None:
        """Raises `BadRequest` or `TooLarge`."""
        _check_width(chunk)
        if (chunk.rate, chunk.channels) != self._format:
            raise BadRequest("The audio changed its format midway.")
        self._pcm += chunk.audio
        if len(self._pcm) > self._limit_bytes:
            raise TooLarge(f"The audio is over the limit of {self._limit_bytes} bytes.")

    async def answer(self, fleet: Fleet, peer: Peer) -> None:
        """Have it recognized, and send each segment as it is found, then the whole.

        Raises as `Upstream.post` and `segments_of` do, and `BadRequest` or `EmptyAudio`.
        """
        self._query.pcm.check(self._pcm)
        found: list[Segment] = []
        audio = Audio(STT_BYTES, self._pcm, self._query)
        language = self._query.lang
        async with fleet.admitted(), fleet.lines(audio) as heard:
            await peer.write(TranscriptStart(language=language))
            async with aclosing(segments_of(fleet.asr.chunks(heard))) as segments:
                async for segment in segments:
                    space = " " if found else ""
                    found.append(segment)
                    await peer.write(TranscriptChunk(text=space + segment.text))
        await peer.write(Transcript(text=Recognized.of(found).text, language=language))
        await peer.write(TranscriptStop())


def _check_width(audio: AudioStart | AudioChunk) -> None:
    if audio.width != BYTES_PER_SAMPLE:
        raise BadRequest(f"width: samples are to have {BYTES_PER_SAMPLE} bytes, not {audio.width}.")
