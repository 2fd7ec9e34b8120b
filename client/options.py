"""What can be asked for by keyword, said once for all that take it."""

from __future__ import annotations

from typing_extensions import TypedDict

from common.audio.pcm import Encoding


class TranscriptOptions(TypedDict, total=False):
    """How a recording is recognized."""

    language: str
    """Default: `en`."""
    words: bool
    """Whether each segment has its words with their times; default: no."""


class RecordingOptions(TranscriptOptions, total=False):
    """That, and what PCM is; a file says so itself."""

    sample_rate: int
    """Hz; default: 16000."""
    channels: int
    """Interleaved; default: 1."""


class ListenOptions(TypedDict, total=False):
    """What the audio of somebody speaking is, and how it is recognized; see `ListenStart`."""

    sample_rate: int
    """Hz; default: 16000."""
    channels: int
    """Interleaved; default: 1."""
    encoding: Encoding
    """Default: `pcm_s16le`."""
    language: str
    """Default: `en`."""
    partials: bool
    """Whether to be told what an utterance is heard as until it is final; default: yes."""
    endpoint_ms: int
    """Silence after which an utterance is final; default: 600."""
