"""`pipecat_round_trip.py URL TEXT` has Pipecat's OpenAI services speak a text and recognize it.

`test_round_trips.py` runs it in an environment of its own, since Pipecat pins other versions than
this project. It prints the transcript.
"""

from __future__ import annotations

import asyncio
import sys

from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.worker import PipelineParams
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.tests.utils import SleepFrame, run_test

RATE_HZ = 24000
FRAME_BYTES = RATE_HZ // 50 * 2
"""20 ms, as a microphone gives them."""


async def spoken(url: str, text: str) -> bytes:
    service = OpenAITTSService(api_key="any", base_url=url, sample_rate=RATE_HZ)
    down, up = await run_test(
        service,
        frames_to_send=[TTSSpeakFrame(text)],
        pipeline_params=PipelineParams(audio_out_sample_rate=RATE_HZ),
        start_timeout=20,
    )
    _raise_errors([*down, *up])
    return b"".join(frame.audio for frame in down if isinstance(frame, TTSAudioRawFrame))


async def heard(url: str, pcm: bytes) -> str:
    service = OpenAISTTService(api_key="any", base_url=url, sample_rate=RATE_HZ)
    audio = [
        InputAudioRawFrame(pcm[at : at + FRAME_BYTES], RATE_HZ, 1)
        for at in range(0, len(pcm), FRAME_BYTES)
    ]
    down, up = await run_test(
        service,
        frames_to_send=[
            VADUserStartedSpeakingFrame(),
            SleepFrame(),
            *audio,
            SleepFrame(),
            VADUserStoppedSpeakingFrame(),
            SleepFrame(sleep=5.0),
        ],
        pipeline_params=PipelineParams(audio_in_sample_rate=RATE_HZ),
        start_timeout=20,
    )
    _raise_errors([*down, *up])
    return " ".join(frame.text for frame in down if isinstance(frame, TranscriptionFrame))


def _raise_errors(frames: list[Frame]) -> None:
    for frame in frames:
        if isinstance(frame, ErrorFrame):
            raise RuntimeError(frame.error)


async def main(url: str, text: str) -> None:
    pcm = await spoken(url, text)
    print(await heard(url, pcm))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
