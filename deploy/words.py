"""This module is an alias of `deploy.local.words` for tests that are being moved."""

from deploy.local.words import words

__all__ = ["words"]
