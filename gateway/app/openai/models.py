"""The models and voices under the names of OpenAI's API, and the endpoints that list them.

Each of OpenAI's names is an alias of the voice or the recognizer that is loaded here. A name that
is neither an alias nor the loaded one's own is refused: it would promise something else.
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from common.errors import BadRequest, UnknownModel
from gateway.app.openai.errors import error_answers
from gateway.app.upstreams.services import UPSTREAM_ERRORS, Services

SPEECH_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")
TRANSCRIPTION_MODELS = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
)
"""Without `gpt-4o-transcribe-diarize`: nothing here tells speakers apart."""
VOICES = (
    "alloy",
    "ash",
    "ballad",
    "cedar",
    "coral",
    "echo",
    "fable",
    "marin",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
)


class Model(BaseModel):
    """A model in OpenAI's list."""

    id: str = Field(examples=["tts-1"])
    object: str = "model"
    created: int = Field(default=0, description="Always 0: the date of the model is not known")
    owned_by: str = "speech-fleet"
    root: str = Field(examples=["hibari/heart"], description="The loaded model that the id names")


class Voice(BaseModel):
    id: str = Field(examples=["alloy"])
    name: str = Field(examples=["alloy (hibari/heart)"])


class ModelList(BaseModel):
    object: str = "list"
    data: list[Model]


class VoiceList(BaseModel):
    voices: list[Voice]


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["openai"])

    @routes.get(
        "/v1/models",
        summary="The models that are loaded, and their aliases",
        responses=error_answers(*UPSTREAM_ERRORS),
    )
    async def list_models() -> ModelList:
        async with services.admitted():
            return ModelList(data=await models(services))

    @routes.get(
        "/v1/models/{model:path}",
        summary="The loaded model that a name stands for",
        responses=error_answers(*UPSTREAM_ERRORS, UnknownModel),
    )
    async def retrieve_model(model: str) -> Model:
        async with services.admitted():
            for known in await models(services):
                if known.id == model:
                    return known
            raise UnknownModel(f"model: {model!r} does not exist here.")

    @routes.get(
        "/v1/audio/voices",
        summary="The voices that speak",
        responses=error_answers(*UPSTREAM_ERRORS),
    )
    async def list_voices() -> VoiceList:
        async with services.admitted():
            loaded = (await services.voice()).name
            aliases = [Voice(id=name, name=f"{name} ({loaded})") for name in VOICES]
            return VoiceList(voices=[Voice(id=loaded, name=loaded), *aliases])

    return routes


async def models(services: Services) -> list[Model]:
    """List the loaded models, then their aliases."""
    voice, recognizer = (await services.voice()).name, (await services.recognizer()).name
    pairs = [
        (voice, voice),
        (recognizer, recognizer),
        *((name, voice) for name in SPEECH_MODELS),
        *((name, recognizer) for name in TRANSCRIPTION_MODELS),
    ]
    return [Model(id=name, root=root) for name, root in pairs]


async def check_speech(services: Services, model: str, voice: str) -> None:
    """Raise `UnknownModel` or `BadRequest` unless both name what is loaded."""
    if model in SPEECH_MODELS and voice in VOICES:
        return
    loaded = (await services.voice()).name
    if model not in (*SPEECH_MODELS, loaded):
        raise _unknown_model(model, loaded, SPEECH_MODELS)
    if voice not in (*VOICES, loaded):
        raise BadRequest(
            f"voice: {voice!r} does not exist here. Use {loaded!r} or its aliases, which are the "
            "names of OpenAI's voices."
        )


async def check_transcription(services: Services, model: str) -> None:
    """Raise `UnknownModel` unless `model` names the loaded recognizer."""
    if model in TRANSCRIPTION_MODELS:
        return
    loaded = (await services.recognizer()).name
    if model != loaded:
        raise _unknown_model(model, loaded, TRANSCRIPTION_MODELS)


def _unknown_model(model: str, loaded: str, aliases: tuple[str, ...]) -> UnknownModel:
    return UnknownModel(
        f"model: {model!r} does not exist here. Use {loaded!r} or one of its aliases: "
        f"{', '.join(aliases)}."
    )
