"""Defines the answers of `GET /api/voices` and `GET /api/models`."""

from __future__ import annotations

from pydantic import BaseModel, Field


class LoadedVoice(BaseModel):
    """A voice that is loaded."""

    name: str = Field(examples=["hibari/heart"], description="As TTS_MODEL names it")
    sample_rate: int = Field(examples=[24000], description="Its own, in Hz")
    languages: list[str] = Field(examples=[["en"]], description="Codes of those it speaks")


class Voices(BaseModel):
    voices: list[LoadedVoice]


class LoadedModel(BaseModel):
    """A recognizer that is loaded."""

    name: str = Field(examples=["tiny.en"], description="As ASR_MODEL names it")
    languages: list[str] = Field(examples=[["en"]], description="Codes of those it understands")


class Models(BaseModel):
    models: list[LoadedModel]
