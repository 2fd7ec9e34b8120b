"""What live sessions share: who is let in, the thread that listens for speech, the recognizer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from asr_service.app.live.vad import VoiceActivity
from asr_service.app.service import RecognitionService
from common.server.admission import Admission

T = TypeVar("T")


class LiveService:
    """`new_activity` gives the voice activity detection of a new stream; it computes."""

    def __init__(
        self, recognition: RecognitionService, new_activity: Callable[[], VoiceActivity]
    ) -> None:
        self.recognition = recognition
        self.settings = recognition.settings
        self.lifecycle = recognition.lifecycle
        self.admission = Admission(slots=self.settings.asr_live_sessions, queue=0)
        self.new_activity = new_activity
        self._ears = ThreadPoolExecutor(1, thread_name_prefix="ears")

    async def on_ears(self, work: Callable[[], T]) -> T:
        """Run a few ms of computing, after what other sessions have asked for."""
        return await asyncio.get_running_loop().run_in_executor(self._ears, work)

    async def stop(self) -> None:
        self._ears.shutdown(wait=False, cancel_futures=True)
