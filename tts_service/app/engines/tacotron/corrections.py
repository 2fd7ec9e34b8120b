"""Mends text where the checkpoints' own cleaners would misread it.

Runs before them and writes what they read rightly. Every rule names the fault it is for.
"""

from __future__ import annotations

import re

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
