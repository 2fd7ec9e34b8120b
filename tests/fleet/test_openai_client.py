"""The official `openai` package against the running fleet: what it sends is understood, and what
comes back is what it expects.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from typing import Any, Literal, get_args

import av
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from common.audio.encoding import decode_s16le, encode_s16le
from common.audio.samples import resample
from deploy.local import LocalFleet
from deploy.local.words import words
from tests.fleet.conftest import StartFleet
from tests.support.speech import RATE_HZ, hear

pytestmark = pytest.mark.fleet

SENTENCE = "The library opens at eight in the morning and closes at six in the evening."
TWO = f"{SENTENCE} A quiet afternoon is a good time to read a long book."
Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]


@pytest.fixture(scope="module")
def client(fleet: LocalFleet) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{fleet.url('gateway')}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def recording(client: OpenAI) -> bytes:
    """Two sentences, as an MP3."""
    return client.audio.speech.create(model="tts-1", voice="alloy", input=TWO).content


def pcm_of(file: bytes, wanted: Format) -> bytes:
    """By FFmpeg, as s16le at the rate at which the tests listen."""
    if wanted == "pcm":
        samples, rate_hz = decode_s16le(file, 1), 24000
    else:
        with av.open(io.BytesIO(file)) as container:
            to_mono = av.AudioResampler(format="flt", layout="mono")
            frames = [f for frame in container.decode(audio=0) for f in to_mono.resample(frame)]
        samples = np.concatenate([frame.to_ndarray()[0].astype(np.float32) for frame in frames])
        rate_hz = frames[0].sample_rate
    return encode_s16le(resample(samples, rate_hz, RATE_HZ))


@pytest.mark.parametrize("wanted", get_args(Format))
def test_speech_in_every_format_is_heard_as_it_was_said(
    fleet: LocalFleet, client: OpenAI, wanted: Format
) -> None:
    spoken = client.audio.speech.create(
        model="gpt-4o-mini-tts", voice="coral", input=SENTENCE, response_format=wanted
    )
    heard = hear(fleet, pcm_of(spoken.content, wanted))["text"]
    assert words(heard) == words(SENTENCE)


@pytest.mark.parametrize("wanted", get_args(Format))
def test_the_first_bytes_come_before_the_end(client: OpenAI, wanted: Format) -> None:
    request = client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=f"{TWO} " * 4, response_format=wanted
    )
    started = time.perf_counter()
    with request as answer:
        arrived = [time.perf_counter() - started for _ in answer.iter_bytes()]
    assert len(arrived) > 10
    assert arrived[0] < arrived[-1] / 2


def test_transcriptions_in_json(client: OpenAI, recording: bytes) -> None:
    heard = client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", recording))
    assert words(heard.text) == words(TWO)
    assert heard.usage is not None
    assert heard.usage.type == "duration"
    assert 6 < heard.usage.seconds < 12


def test_transcriptions_as_text_and_subtitles(client: OpenAI, recording: bytes) -> None:
    def transcript(wanted: Any) -> str:
        answer: str = client.audio.transcriptions.create(
            model="whisper-1", file=("a.mp3", recording), response_format=wanted
        )
        return answer

    assert words(transcript("text")) == words(TWO)
    assert transcript("srt").startswith("1\n00:00:00,")
    assert transcript("vtt").startswith("WEBVTT\n\n00:00:00.")


def test_transcriptions_in_verbose_json(client: OpenAI, recording: bytes) -> None:
    heard = client.audio.transcriptions.create(
        model="whisper-1",
        file=("a.mp3", recording),
        language="en",
        prompt="A library.",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert words(heard.text) == words(TWO)
    assert heard.segments
    assert heard.words
    assert words(" ".join(word.word for word in heard.words)) == words(TWO)
    starts = [word.start for word in heard.words]
    assert starts == sorted(starts)
    assert heard.segments[-1].end <= heard.duration
    assert heard.language == "en"


def test_a_streamed_transcription_is_deltas_and_then_the_whole(
    client: OpenAI, recording: bytes
) -> None:
    events = list(
        client.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=("a.mp3", recording), stream=True
        )
    )
    *deltas, done = events
    assert done.type == "transcript.text.done"
    assert words(done.text) == words(TWO)
    assert "".join(event.delta for event in deltas if event.type == "transcript.text.delta") == (
        done.text
    )


def test_the_async_client_does_it_too(fleet: LocalFleet) -> None:
    async def both() -> str:
        url = f"{fleet.url('gateway')}/v1"
        async with AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
            request = client.audio.speech.with_streaming_response.create(
                model="tts-1", voice="nova", input=SENTENCE, response_format="opus"
            )
            async with request as answer:
                spoken = await answer.read()
            heard = await client.audio.transcriptions.create(
                model="gpt-4o-mini-transcribe", file=("a.opus", spoken)
            )
            return heard.text

    assert words(asyncio.run(both())) == words(SENTENCE)


def test_models_can_be_listed_and_asked_for(client: OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert {"tts-1", "whisper-1", "hibari/heart", "tiny.en"} <= listed
    assert client.models.retrieve("hibari/heart").id == "hibari/heart"


# The package calls its own method for translations deprecated.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_errors_are_its_own_exceptions(client: OpenAI, recording: bytes) -> None:
    speech, transcriptions = client.audio.speech, client.audio.transcriptions
    with pytest.raises(openai.NotFoundError) as missing:
        speech.create(model="tts-9", voice="alloy", input="Hello")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert missing.value.request_id
    with pytest.raises(openai.BadRequestError) as bad:
        speech.create(model="tts-1", voice="alloy", input="Hello", instructions="Whisper.")
    assert bad.value.param == "instructions"
    assert bad.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError):
        client.audio.translations.create(model="whisper-1", file=("a.mp3", recording))
    with pytest.raises(openai.APIStatusError) as undecodable:
        transcriptions.create(model="whisper-1", file=("a.mp3", b"no audio"))
    assert undecodable.value.status_code == 415
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="tts-1", messages=[])


def test_keys_quotas_and_absent_services_are_its_own_exceptions(start_fleet: StartFleet) -> None:
    fleet = start_fleet(API_KEYS="ada:ada-key-12345", GATEWAY_KEY_REQUESTS_PER_MINUTE="2")
    url = f"{fleet.url('gateway')}/v1"
    with (
        OpenAI(base_url=url, api_key="wrong-key-1", max_retries=0) as stranger,
        OpenAI(base_url=url, api_key="ada-key-12345", max_retries=0) as ada,
    ):
        with pytest.raises(openai.AuthenticationError) as unknown:
            stranger.models.list()
        assert unknown.value.code == "invalid_api_key"
        assert ada.audio.speech.create(model="tts-1", voice="alloy", input="Hello").content
        fleet.stop("tts")
        with pytest.raises(openai.InternalServerError):
            ada.audio.speech.create(model="tts-1", voice="alloy", input="Hello")
        with pytest.raises(openai.RateLimitError) as limited:
            ada.models.list()
        assert limited.value.code == "rate_limit_exceeded"
        assert 1 <= int(limited.value.response.headers["Retry-After"]) <= 60
