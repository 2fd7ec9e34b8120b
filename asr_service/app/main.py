"""Builds the app of asr_service, and does nothing else."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from asr_service.app import routes
from asr_service.app.engine import Engine
from asr_service.app.live.vad import SileroVoiceActivity, VoiceActivity
from asr_service.app.service import RecognitionService
from asr_service.app.settings import AsrSettings
from common.server.app import create_app
from common.server.health import health_router
from common.server.lifecycle import Lifecycle, model_loaded_in_background
from common.settings import load_settings


def build(
    settings: AsrSettings,
    load: Callable[[], Engine],
    new_voice_activity: Callable[[], VoiceActivity] = SileroVoiceActivity,
) -> FastAPI:
    """Build the app around the recognizer that `load` loads.

    `new_voice_activity` makes the voice activity detection of a live stream.
    """
    lifecycle = Lifecycle(drain_seconds=settings.drain_seconds)
    service = RecognitionService(settings, lifecycle, new_voice_activity)
    return create_app(
        service="asr",
        summary="Speech to text with times.",
        settings=settings,
        lifecycle=lifecycle,
        routers=[health_router("asr", lifecycle), routes.router(service)],
        run=lambda: model_loaded_in_background(
            lifecycle, settings.asr_model, load=load, use=service.use, stop=service.stop
        ),
    )


def _from_environment() -> FastAPI:
    settings = load_settings(AsrSettings)

    def load() -> Engine:
        # The libraries take as long to import as the model to load: neither holds up the start.
        from asr_service.app.whisper import WhisperEngine, resolve

        SileroVoiceActivity()  # its graph is loaded with the first one
        return WhisperEngine(
            resolve(settings.asr_model),
            compute_type=settings.asr_compute_type,
            workers=settings.asr_workers,
            threads_per_worker=settings.asr_threads_per_worker,
            window=settings.asr_window,
        )

    return build(settings, load)


app = _from_environment()
