"""The names that clients of OpenAI's API use, and what is loaded here that answers to them.

One voice and one recognizer are loaded at a time; each of OpenAI's names stands for it. A name that
is neither one of theirs nor the loaded one's own is refused: it would promise something else.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from common.errors import BadRequest, UnknownModel
from gateway.app.catalogue import Catalogue

SPEECH_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")
TRANSCRIPTION_MODELS = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
)
"""Not `gpt-4o-transcribe-diarize`: nobody here tells speakers apart."""
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
    created: int = Field(default=0, description="When it was made is not known here")
    owned_by: str = "speech-fleet"
    root: str = Field(examples=["hibari/heart"], description="What is loaded and answers to the id")


class Voice(BaseModel):
    id: str = Field(examples=["alloy"])
    name: str = Field(examples=["alloy (hibari/heart)"])


class Names(Catalogue):
    """The names there are, and what each stands for now."""

    async def check_speech(self, model: str, voice: str) -> None:
        """Raise `UnknownModel` or `BadRequest` unless both mean what is loaded."""
        if model in SPEECH_MODELS and voice in VOICES:
            return
        loaded = (await self.voice()).name
        if model not in (*SPEECH_MODELS, loaded):
            raise _unknown_model(model, loaded, SPEECH_MODELS)
        if voice not in (*VOICES, loaded):
            raise BadRequest(
                f"voice: {voice!r} is not known here; there is {loaded!r}, which all "
                "of OpenAI's names stand for."
            )

    async def check_transcription(self, model: str) -> None:
        """Raise `UnknownModel` unless it means the loaded recognizer."""
        if model in TRANSCRIPTION_MODELS:
            return
        loaded = (await self.recognizer()).name
        if model != loaded:
            raise _unknown_model(model, loaded, TRANSCRIPTION_MODELS)

    async def models(self) -> list[Model]:
        """The loaded ones, then the names that stand for them."""
        voice, recognizer = (await self.voice()).name, (await self.recognizer()).name
        pairs = [
            (voice, voice),
            (recognizer, recognizer),
            *((name, voice) for name in SPEECH_MODELS),
            *((name, recognizer) for name in TRANSCRIPTION_MODELS),
        ]
        return [Model(id=name, root=root) for name, root in pairs]

    async def model(self, name: str) -> Model:
        """Raises `UnknownModel`."""
        for model in await self.models():
            if model.id == name:
                return model
        raise UnknownModel(f"model: {name!r} is not known here.")

    async def voices(self) -> list[Voice]:
        loaded = (await self.voice()).name
        aliases = [Voice(id=name, name=f"{name} ({loaded})") for name in VOICES]
        return [Voice(id=loaded, name=loaded), *aliases]


def _unknown_model(model: str, loaded: str, names: tuple[str, ...]) -> UnknownModel:
    return UnknownModel(
        f"model: {model!r} is not known here; there is {loaded!r}, which {', '.join(names)} stand "
        "for."
    )
