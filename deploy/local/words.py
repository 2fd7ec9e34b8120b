"""This module compares texts by their words: not by case, punctuation or spelling of numbers."""

from __future__ import annotations

from whisper_normalizer.english import EnglishTextNormalizer

_normalize = EnglishTextNormalizer()


def words(text: str) -> list[str]:
    """Return the normalized words of an English text.

    Whisper's normalizer (Radford et al. 2022, appendix C) makes "Seven O'Clock!" equal "7 o'clock".
    """
    return str(_normalize(text)).split()
