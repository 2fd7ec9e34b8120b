"""Coqui's Tacotron2 with HiFi-GAN, speaking while it decodes.

Needs a voice that `tts_service.voices` prepared; ONNX Runtime and numpy run it.
"""

from .engine import TacotronEngine, TacotronOptions, load
from .errors import BrokenVoiceError, VoiceError, VoiceNotPreparedError
from .guard import GuardLimits
from .manifest import Manifest
from .schedule import Pace

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
