"""The text cleaners that checkpoints name, each giving what Coqui's cleaner of that name gives.

The model was trained on text cleaned just so; another spelling is another sound. So they are kept
with their quirks (the tests compare them with Coqui's on many texts), and what is wrong with them
is corrected before, in `corrections`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from unicodedata import normalize

from . import numerals

Cleaner = Callable[[str, str | None], str]
"""A text and a language in, what the model was trained on out."""

_CLOCK = re.compile(
    r"\b((?:0?[0-9])|(?:1[0-1])|(?:1[2-9])|(?:2[0-3])):([0-5][0-9])"
    # The alternatives with backslashes were meant to be dots; they stay as they act.
    r"\s*(a\\.m\\.|am|pm|p\\.m\\.|a\\.m|p\\.m)?\b",
    re.IGNORECASE,
)
_GROUPED = re.compile(r"[0-9][0-9,]+[0-9]")
_MONEY = re.compile(r"([£$¥])([0-9,.]*[0-9]+)")
_DECIMAL = re.compile(r"[0-9]+\.[0-9]+")
_ORDINAL = re.compile(r"([0-9]+)(?:st|nd|rd|th)")
_NUMBER = re.compile(r"-?[0-9]+")

_COINS = {
    # unit: one, many, one of the hundredth part, many of it
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound sterling", "pounds sterling", "penny", "pence"),
    "¥": ("yen", "yen", "sen", "sen"),
}

_TITLES = [
    (re.compile(rf"\b{short}\.", re.IGNORECASE), full)
    for short, full in {
        "mrs": "misess",
        "mr": "mister",
        "dr": "doctor",
        "st": "saint",
        "co": "company",
        "jr": "junior",
        "maj": "major",
        "gen": "general",
        "drs": "doctors",
        "rev": "reverend",
        "lt": "lieutenant",
        "hon": "honorable",
        "sgt": "sergeant",
        "capt": "captain",
        "esq": "esquire",
        "ltd": "limited",
        "col": "colonel",
        "ft": "fort",
    }.items()
]


def english(text: str, language: str | None) -> str:
    text = _composed(text).lower()
    text = _CLOCK.sub(_say_clock, text)
    text = say_numbers(text)
    return _plain(_titles(text, language), language)


def phoneme(text: str, language: str | None) -> str:
    text = say_numbers(_composed(text))
    return _plain(_titles(text, language), language)


def multilingual(text: str, language: str | None) -> str:
    return _plain(_composed(text).lower(), language)


def multilingual_phoneme(text: str, language: str | None) -> str:
    return _plain(_composed(text), language)


def basic(text: str, language: str | None) -> str:
    return _one_space(_composed(text).lower())


def untouched(text: str, language: str | None) -> str:
    return text.replace("\n", "")


CLEANERS: dict[str, Cleaner] = {
    "english_cleaners": english,
    "phoneme_cleaners": phoneme,
    "multilingual_cleaners": multilingual,
    "portuguese_cleaners": multilingual,
    "multilingual_phoneme_cleaners": multilingual_phoneme,
    "basic_cleaners": basic,
    "transliteration_cleaners": basic,
    "basic_german_cleaners": basic,
    "no_cleaners": untouched,
}
"""By Coqui's name. A voice that names another cannot be prepared."""

_TITLED = ("english_cleaners", "phoneme_cleaners")
_OTHER_TITLES = ("fr", "it")


def supported(cleaner: str | None, language: str | None) -> bool:
    """Whether texts are cleaned here as Coqui cleans them; French and Italian titles are not."""
    if cleaner is None:
        return True
    return cleaner in CLEANERS and not (cleaner in _TITLED and language in _OTHER_TITLES)


def say_numbers(text: str) -> str:
    """Write numbers, money and ordinals out in words."""
    text = _GROUPED.sub(lambda m: m[0].replace(",", ""), text)
    text = _MONEY.sub(_say_money, text)
    text = _DECIMAL.sub(lambda m: m[0].replace(".", " point "), text)
    text = _ORDINAL.sub(lambda m: numerals.ordinal(int(m[1])), text)
    return _NUMBER.sub(lambda m: _say_number(int(m[0])), text)


def _say_clock(match: re.Match[str]) -> str:
    hour, minute, half = int(match[1]), int(match[2]), match[3]
    words = [numerals.cardinal(hour % 12 or 12)]
    if minute:
        words += ["oh"] if minute < 10 else []
        words.append(numerals.cardinal(minute))
    if half is None:
        # Midnight counts as past noon there.
        words.append("p m" if hour >= 12 or hour == 0 else "a m")
    else:
        words += list(half.replace(".", ""))
    return " ".join(words)


def _say_money(match: re.Match[str]) -> str:
    one, many, one_part, many_parts = _COINS[match[1]]
    parts = match[2].replace(",", "").split(".")
    if len(parts) > 2:
        return f"{match[2]} {many}"
    whole = int(parts[0] or 0)
    hundredths = int(parts[1] or 0) if len(parts) > 1 else 0
    words = []
    if whole:
        words.append(f"{whole} {one if whole == 1 else many}")
    if hundredths:
        words.append(f"{hundredths} {one_part if hundredths == 1 else many_parts}")
    return " ".join(words) or f"zero {many}"


def _say_number(number: int) -> str:
    if 1000 < number < 3000:
        if number == 2000:
            return "two thousand"
        if 2000 < number < 2010:
            return f"two thousand {numerals.cardinal(number % 100)}"
        if number % 100 == 0:
            return f"{numerals.cardinal(number // 100)} hundred"
        return numerals.pairs(number)
    try:
        return numerals.cardinal(number, and_=False)
    except OverflowError:
        return numerals.spelled(number)


def _titles(text: str, language: str | None) -> str:
    if language == "en":
        for pattern, full in _TITLES:
            text = pattern.sub(full, text)
    return text


def _plain(text: str, language: str | None) -> str:
    """The symbols that no checkpoint knows, replaced or left out; spaces collapsed."""
    if language != "el":
        text = text.replace(";", ",")
    text = text.replace("-", "" if language == "ca" else " ").replace(":", ",")
    ampersand = {"en": " and ", "fr": " et ", "it": " e ", "pt": " e ", "ca": " i "}
    if language in ampersand:
        text = text.replace("&", ampersand[language])
    if language == "ca":
        text = text.replace("'", "")
    return _one_space(re.sub(r"[<>()\[\]\"]+", "", text))


def _composed(text: str) -> str:
    return normalize("NFC", text)


def _one_space(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
