"""Whether two texts are the same words to the ear: case, punctuation and spelled numbers aside."""

from __future__ import annotations

from whisper_normalizer.english import EnglishTextNormalizer

_normalize = EnglishTextNormalizer()


def words(text: str) -> list[str]:
    """The words of an English text as they are compared.

    By Whisper's own normalizer (Radford et al. 2022, appendix C): "Seven O'Clock!" and "7 o'clock"
    are the same.
    """
    return str(_normalize(text)).split()
