"""Coqui's Tacotron2 with HiFi-GAN, speaking while it decodes.

Needs a voice that `tts_service.voices` prepared; ONNX Runtime and numpy run it.
"""

from .engine import TacotronEngine, TacotronOptions, load
from .guard import GuardLimits
from .manifest import BrokenVoiceError, Manifest, VoiceError, VoiceNotPreparedError
from .speech import Pace

__all__ = [
    "BrokenVoiceError",
    "GuardLimits",
    "Manifest",
    "Pace",
    "TacotronEngine",
    "TacotronOptions",
    "VoiceError",
    "VoiceNotPreparedError",
    "load",
]
