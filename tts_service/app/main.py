"""Builds the app of tts_service, and does nothing else."""

from __future__ import annotations

from fastapi import FastAPI

from common.server.app import create_app
from common.server.health import health_router
from common.server.lifecycle import Lifecycle, model_loaded_in_background
from common.settings import load_settings
from tts_service.app import engines, routes
from tts_service.app.engines import Load
from tts_service.app.service import SpeechService
from tts_service.app.settings import TtsSettings


def build(settings: TtsSettings, load: Load) -> FastAPI:
    """The app, speaking with the voice that `load` loads."""
    lifecycle = Lifecycle(drain_seconds=settings.drain_seconds)
    service = SpeechService(settings, lifecycle)

    return create_app(
        service="tts",
        summary="Text to speech, streamed while it is synthesized.",
        settings=settings,
        lifecycle=lifecycle,
        routers=[health_router("tts", lifecycle), routes.router(service)],
        run=lambda: model_loaded_in_background(
            lifecycle, settings.tts_model, load=load, use=service.use, stop=service.stop
        ),
    )


def _from_environment() -> FastAPI:
    settings = load_settings(TtsSettings)
    return build(settings, engines.loader(settings))


app = _from_environment()
