"""The front end gives the very symbols that Coqui gives, quirks included."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_service.app.engines.tacotron import cleaners, numerals
from tts_service.app.engines.tacotron.frontend import FrontEnd
from tts_service.tests_voices import release
from tts_service.tests_voices.conftest import Export
from tts_service.tests_voices.release import Shape

LANGUAGES = ["en", None, "de", "fr", "it", "pt", "ca", "el"]

TEXTS = [
    "Dr. Smith, Mrs. Jones & Co. met Capt. Ltd. Gen. Lt. St. John Jr. at Ft. Worth; Rev. Col. Esq.",
    "$1 $1.00 $0.01 $0.50 $1,234.56 £1 £0.01 £2.99 ¥1 ¥0.01 ¥500 €5 $1.2.3 $.5 $0",
    "1st 2nd 3rd 4th 11th 12th 13th 21st 100th 101st 1000th 1,000,001st 0th 007th 12nd",
    "0 1 10 100 1000 1001 1999 2000 2001 2009 2010 2100 2999 3000 3001 1100 1905 1010 2005",
    "1,234 12,345,678 1,2 1,,2 3.14 0.5 10.20.30 -5 -1905 5-6 007 00",
    "12345678901234567890 " + "9" * 36 + " " + "9" * 37 + " " + "1" * 50,
    "5:30 p.m. 5:30 pm 5:30pm 12:00 am 0:00 00:05 23:59 24:00 1:2 11:11 AM 5:30 a.m 10:05a.m.",
    'a <b> (c) [d] "e" a--b a-b: c; d!? it\'s',
    "Ünïcödé café naïve ﬁ ½ ² ５ ١٢ İstanbul ß ẞ",
    "tabs\tand\nnew\r\nlines   and  spaces ",
    "emoji 🎉 中文 العربية עברית",
    r"backslashes 5:30 a\xm\y 5:30 p\.m",
    "MR. MRS. DR. mr.smith mr. . MisterMr. drs. co.uk",
    "",
    " ",
    "...",
]

PIECES = [
    "the", "Dr.", "mrs.", "$", "£", "¥", "€", "5", "12", "1905", "2000", ",", ".", ":", "30", "am",
    "pm", "p.m.", "st", "th", "nd", "rd", "-", " ", " ", " ", "&", "%", "(", ")", "[", "]", '"',
    "'", ";", "é", "\n", "x", "0", "00", "co.", "Ft.",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "language"),
    [(n, lang) for n in cleaners.CLEANERS for lang in LANGUAGES if cleaners.supported(n, lang)],
)
def test_cleaners_give_what_coquis_give(name: str, language: str | None) -> None:
    from TTS.tts.utils.text import cleaners as coquis

    theirs, ours = getattr(coquis, name), cleaners.CLEANERS[name]
    for text in TEXTS:
        assert ours(text, language) == theirs(text, language), text


def test_english_texts_by_the_thousand_are_cleaned_alike() -> None:
    from TTS.tts.utils.text.cleaners import english_cleaners

    source = random.Random(1)
    for _ in range(20_000):
        text = "".join(source.choices(PIECES, k=source.randint(1, 14)))
        assert cleaners.english(text, "en") == english_cleaners(text, "en"), text


@given(st.text(st.sampled_from("0123456789$£¥.,:;-&()aApPmM stndrh\\é\n"), max_size=30))
@settings(max_examples=2000, deadline=None)
def test_any_text_of_the_tricky_characters_is_cleaned_alike(text: str) -> None:
    from TTS.tts.utils.text.cleaners import english_cleaners

    assert cleaners.english(text, "en") == english_cleaners(text, "en")


@given(st.text(max_size=60))
@settings(max_examples=1000, deadline=None)
def test_any_text_at_all_is_cleaned_alike(text: str) -> None:
    from TTS.tts.utils.text.cleaners import english_cleaners

    assert cleaners.english(text, "en") == english_cleaners(text, "en")


def test_numbers_are_named_as_inflect_names_them() -> None:
    import inflect

    engine = inflect.engine()
    source = random.Random(2)
    numbers = [*range(3100), *(source.randrange(10 ** source.randint(4, 36)) for _ in range(3000))]
    for number in numbers:
        assert numerals.cardinal(number) == engine.number_to_words(number)
        assert numerals.cardinal(number, and_=False) == engine.number_to_words(number, andword="")
        assert numerals.ordinal(number) == engine.number_to_words(f"{number}th")


@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(
            model={
                "add_blank": True,
                "enable_eos_bos_chars": True,
                "characters": {**release.CHARACTERS, "blank": "#"},
            }
        ),
    ],
    ids=["plain", "blanks and marks"],
)
def test_symbols_are_coquis(exported: Export, shape: Shape) -> None:
    voice = exported(shape)
    front_end = FrontEnd(voice.manifest.text)
    source = random.Random(3)
    texts = TEXTS + ["".join(source.choices(PIECES, k=12)) for _ in range(300)]
    for text in texts:
        ours = front_end.encode(front_end.clean(text)).ids.tolist()
        assert ours == voice.coqui.ids(text), text
