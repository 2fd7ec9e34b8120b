"""Turns text into the symbols of one voice.

First what the checkpoints' own cleaners would misread is corrected, then the voice's cleaner writes
the text as the model was trained on it, then its table turns characters into symbols.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .cleaners import CLEANERS, supported
from .manifest import BrokenVoiceError, TextInput

# --- what the cleaners would misread -------------------------------------------------------------


_HALF_DAY = re.compile(r"(?<=\d)(\s?)([ap])\.\s?m\b\.?(?=(\s+(?-i:[A-Z])|\s*$)?)", re.IGNORECASE)
_EURO = re.compile(r"€\s?([0-9][0-9,.]*[0-9]|[0-9])")
_TYPOGRAPHIC = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "‛": "'",
        "“": '"',
        "”": '"',
        "–": "-",
        "—": ", ",
        "…": "...",
        "\u00a0": " ",
        "\u00ad": None,
        "\u200b": None,
    }
)


def correct(text: str, language: str | None) -> str:
    """English text as the cleaners can read it; other languages only get plain punctuation."""
    text = text.translate(_TYPOGRAPHIC)
    if language != "en":
        return text
    text = _HALF_DAY.sub(_half_day, text)
    text = _EURO.sub(_euros, text)
    return text.replace("%", " percent").replace("  percent", " percent")


def _half_day(match: re.Match[str]) -> str:
    """`5:30 p.m.` is read "five thirty a mp.m." by them, `5:30 pm` as it should be.

    The full stop stays where it ends the sentence as well.
    """
    ends = match[0].endswith(".") and match[3] is not None
    return f"{match[1]}{match[2]}m" + ("." if ends else "")


def _euros(match: re.Match[str]) -> str:
    """They know £, $ and ¥ only, and drop the sign: `€5` would be read "five"."""
    whole, _, cents = match[1].replace(",", "").partition(".")
    unit = "euro" if whole == "1" and not cents.strip("0") else "euros"
    if len(cents) == 2 and cents != "00":
        return f"{int(whole)} {unit} {int(cents)}"
    return f"{match[1]} {unit}"


# --- symbols -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Symbols:
    """A text as the model gets it."""

    ids: NDArray[np.int64]
    """(symbols,)."""
    characters: tuple[str, ...]
    """What each id stands for, "" for blanks and the marks of start and end."""


class FrontEnd:
    """Cleaner and symbol table of one voice."""

    def __init__(self, text: TextInput) -> None:
        """Raises `BrokenVoiceError` if the voice names a cleaner that is not known here."""
        if not supported(text.cleaner, text.language):
            raise BrokenVoiceError(
                f"the text cleaner {text.cleaner} is not supported for {text.language}"
            )
        self._text = text
        self._clean = CLEANERS[text.cleaner] if text.cleaner is not None else None
        # As in Coqui, of two equal symbols the last one counts.
        self._ids = {symbol: i for i, symbol in enumerate(text.symbols)}

    def symbols(self, text: str) -> Symbols:
        """The ids of `text`; characters that the voice does not know are left out."""
        text = correct(text, self._text.language)
        return self.encode(self.clean(text))

    def clean(self, text: str) -> str:
        """Coqui's cleaning alone."""
        return text if self._clean is None else self._clean(text, self._text.language)

    def encode(self, cleaned: str) -> Symbols:
        """Coqui's encoding of cleaned text, blanks and marks included."""
        known = [(self._ids[c], c) for c in cleaned if c in self._ids]
        if self._text.blank_id is not None:
            blank = (self._text.blank_id, "")
            known = [blank] + [part for one in known for part in (one, blank)]
        if self._text.bos_id is not None and self._text.eos_id is not None:
            known = [(self._text.bos_id, ""), *known, (self._text.eos_id, "")]
        return Symbols(np.array([i for i, _ in known], np.int64), tuple(c for _, c in known))

    def can_speak(self, text: str) -> bool:
        """Whether anything of `text` has a sound: a letter, once numbers are written out."""
        return any(c.isalpha() for c in self.symbols(text).characters)
