"""The client of a speech server, for Python programs; and programs that are made with it.

`SpeechClient` is documented in docs/client.md. It needs neither numpy nor any service.
"""

from client.errors import (
    BadInput,
    BrokenOff,
    ClientError,
    Lost,
    Refused,
    ServerAway,
    Unavailable,
)
from client.live import Listening, VoiceLoop
from client.recordings import Recording
from client.retry import Retry
from client.speech_client import SpeechClient, Timeouts
from client.utterance import Utterance

__all__ = [
    "BadInput",
    "BrokenOff",
    "ClientError",
    "Listening",
    "Lost",
    "Recording",
    "Refused",
    "Retry",
    "ServerAway",
    "SpeechClient",
    "Timeouts",
    "Unavailable",
    "Utterance",
    "VoiceLoop",
]
