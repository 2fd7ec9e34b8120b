"""What is loaded behind the gateway, as the services say when they are asked."""

from __future__ import annotations

from pydantic import ValidationError

from common.errors import UpstreamFailed
from common.protocol.catalogue import LoadedModel, LoadedVoice, Models, Voices
from gateway.app.fleet import Fleet


class Catalogue:
    """All methods raise as `Upstream.get` does."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def voice(self) -> LoadedVoice:
        answer = await self._fleet.tts.get("/api/voices")
        try:
            return Voices.model_validate_json(answer.content).voices[0]
        except (ValidationError, IndexError):
            raise UpstreamFailed("The tts service named no voice.") from None

    async def recognizer(self) -> LoadedModel:
        answer = await self._fleet.asr.get("/api/models")
        try:
            return Models.model_validate_json(answer.content).models[0]
        except (ValidationError, IndexError):
            raise UpstreamFailed("The asr service named no model.") from None
