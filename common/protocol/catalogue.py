"""Defines the answers of `GET /api/voices` and `GET /api/models`."""

from __future__ import annotations

from pydantic import BaseModel, Field


class LoadedVoice(BaseModel):
    """A voice that is loaded."""

    name: str = Field(examples=["hibari/heart"], description="Name of the voice, as in TTS_MODEL")
    sample_rate: int = Field(examples=[24000], description="Sample rate of the voice, in Hz")
    languages: list[str] = Field(
        examples=[["en"]], description="Codes of the languages that it speaks"
    )


class Voices(BaseModel):
    voices: list[LoadedVoice]


class LoadedModel(BaseModel):
    """A recognizer that is loaded."""

    name: str = Field(examples=["tiny.en"], description="Name of the recognizer, as in ASR_MODEL")
    languages: list[str] = Field(
        examples=[["en"]], description="Codes of the languages that it understands"
    )


class Models(BaseModel):
    models: list[LoadedModel]
