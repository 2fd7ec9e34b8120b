"""These are the errors of preparing a voice. Nothing is installed when one of them is raised."""

from __future__ import annotations


class PrepareError(Exception):
    """The voice could not be prepared; the message says why, for a person."""


class UnknownVoice(PrepareError):
    """The source is neither a name in Coqui's catalogue nor a file, URL or folder."""


class DownloadFailed(PrepareError):
    """The file could not be downloaded completely."""


class HashMismatch(PrepareError):
    """The file's hash is not the one that was pinned or recorded."""


class BadArchive(PrepareError):
    """The archive is damaged or unsafe, or holds no checkpoint."""


class UnsupportedVoice(PrepareError):
    """The engine does not support an option of the checkpoint; the message names the option."""


class CheckFailed(PrepareError):
    """The exported voice differs from Coqui's, or from the files that were installed."""


class Busy(PrepareError):
    """Another process is preparing this voice."""
