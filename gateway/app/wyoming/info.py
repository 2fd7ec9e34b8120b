"""The answer to `describe` names the voice and the recognizer that are loaded now."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypedDict, TypeVar

from wyoming.info import AsrModel, AsrProgram, Attribution, Info, TtsProgram, TtsVoice

from common import __version__
from common.errors import SpeechError
from common.logger import get_logger
from common.protocol.catalogue import LoadedModel, LoadedVoice
from common.wire.errors import ErrorAnswer
from gateway.app.upstreams.services import Services

log = get_logger(__name__)

PROGRAM = "speech-fleet"
T = TypeVar("T")


async def describe(services: Services) -> Info:
    """Leave out a service that cannot be reached: the other can still be used."""
    voices = await _unless_unreachable("tts", services.voice())
    models = await _unless_unreachable("asr", services.recognizer())
    return Info(tts=[_tts(voice) for voice in voices], asr=[_asr(model) for model in models])


async def _unless_unreachable(service: str, loaded: Awaitable[T]) -> list[T]:
    try:
        return [await loaded]
    except (SpeechError, ErrorAnswer) as error:
        log.warning("wyoming.service_unreachable", service=service, code=error.code)
        return []


def _tts(voice: LoadedVoice) -> TtsProgram:
    return TtsProgram(
        **_artifact(PROGRAM, "Self-hosted speech", __version__),
        voices=[TtsVoice(**_artifact(voice.name, voice.name), languages=voice.languages)],
        supports_synthesize_streaming=True,
    )


def _asr(model: LoadedModel) -> AsrProgram:
    return AsrProgram(
        **_artifact(PROGRAM, "Self-hosted recognition", __version__),
        models=[AsrModel(**_artifact(model.name, model.name), languages=model.languages)],
        supports_transcript_streaming=True,
    )


class _Artifact(TypedDict):
    """The fields that `wyoming.info` has for a program and for what it has loaded."""

    name: str
    attribution: Attribution
    installed: bool
    description: str
    version: str | None


def _artifact(name: str, description: str, version: str | None = None) -> _Artifact:
    return {
        "name": name,
        "attribution": Attribution(name=PROGRAM, url=""),
        "installed": True,
        "description": description,
        "version": version,
    }
