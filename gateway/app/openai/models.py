"""`GET /v1/models`, `GET /v1/models/{model}` and `GET /v1/audio/voices`."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from common.errors import UnknownModel
from gateway.app.fleet import ASKED, Fleet
from gateway.app.openai.documents import refusals
from gateway.app.openai.names import Model, Names, Voice


class ModelList(BaseModel):
    object: str = "list"
    data: list[Model]


class VoiceList(BaseModel):
    voices: list[Voice]


def router(fleet: Fleet, names: Names) -> APIRouter:
    routes = APIRouter(tags=["openai"])

    @routes.get("/v1/models", summary="What is loaded", responses=refusals(*ASKED))
    async def models() -> ModelList:
        async with fleet.admitted():
            return ModelList(data=await names.models())

    @routes.get(
        "/v1/models/{model:path}",
        summary="What a name of a model stands for",
        responses=refusals(*ASKED, UnknownModel),
    )
    async def model(model: str) -> Model:
        async with fleet.admitted():
            return await names.model(model)

    @routes.get("/v1/audio/voices", summary="The voices that there are", responses=refusals(*ASKED))
    async def voices() -> VoiceList:
        async with fleet.admitted():
            return VoiceList(voices=await names.voices())

    return routes
