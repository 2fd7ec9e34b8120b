"""What can go wrong while a voice is prepared. Nothing is installed when one of these is raised."""

from __future__ import annotations


class PrepareError(Exception):
    """The voice could not be prepared; the message says why, for a person."""


class UnknownVoice(PrepareError):
    """No such name in Coqui's catalogue, and no such file, address or folder."""


class DownloadFailed(PrepareError):
    """The file could not be fetched, or not all of it."""


class HashMismatch(PrepareError):
    """The file is not the one that was pinned or recorded."""


class BadArchive(PrepareError):
    """The archive is damaged, hostile, or holds no checkpoint."""


class UnsupportedVoice(PrepareError):
    """The checkpoint is of a kind that the engine cannot speak; the message names the option."""


class CheckFailed(PrepareError):
    """What was exported does not equal Coqui."""


class Busy(PrepareError):
    """Another process is preparing this voice."""
