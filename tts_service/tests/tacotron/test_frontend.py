"""Cleaners as the checkpoints know them, and corrections before them. Equality with Coqui on many
texts is in `tests_voices`; here the outcomes are spelled out."""

from __future__ import annotations

import pytest

from tts_service.app.engines.tacotron import BrokenVoiceError, numerals
from tts_service.app.engines.tacotron.cleaners import CLEANERS
from tts_service.app.engines.tacotron.frontend import FrontEnd, correct
from tts_service.app.engines.tacotron.manifest import TextInput
from tts_service.tests.tacotron import tiny


def front_end(**changes: object) -> FrontEnd:
    data = {"cleaner": "english_cleaners", "language": "en", "symbols": tiny.SYMBOLS, **changes}
    return FrontEnd(TextInput.model_validate(data))


def read(text: str) -> str:
    return "".join(front_end().symbols(text).characters)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Dr. Smith & Co.", "doctor smith and company"),
        ("$1.01, £2 and ¥5", "one dollar one cent, two pounds sterling and five yen"),
        (
            "In 1905 and 2005 and 2024",
            "in nineteen oh five and two thousand five and twenty twenty-four",
        ),
        ("1,234 men", "twelve thirty-four men"),
        ("the 21st (of 3)", "the twenty-first of three"),
        ("a; b: c-d", "a, b, c d"),
        ("3.14", "three point fourteen"),
        ("10:05 am", "ten oh five a m"),
        ("0:30", "twelve thirty p m"),
        ("-5", "minus five"),
    ],
)
def test_english_is_cleaned_as_the_checkpoints_were_trained(text: str, cleaned: str) -> None:
    assert CLEANERS["english_cleaners"](text, "en").replace("-", " ") == cleaned.replace("-", " ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It is 5:30 p.m. now.", "it is five thirty p m now."),
        ("It is 5:30 p.m.", "it is five thirty p m."),
        ("At 7:05 A.M. We left.", "at seven oh five a m. we left."),
        ("I’m “here”", "i'm here"),
        ("It costs €5.", "it costs five euros."),
        ("It costs €5.20.", "it costs five euros twenty."),
        ("100%", "one hundred percent"),
        ("Wait… what", "wait... what"),
    ],
)
def test_what_the_cleaners_misread_is_corrected_before_them(text: str, said: str) -> None:
    assert read(text) == said


def test_the_fault_that_is_corrected_is_there() -> None:
    assert "mp.m." in CLEANERS["english_cleaners"]("5:30 p.m.", "en")


@pytest.mark.parametrize("text", ["", "...", "🎉🎉", "   ", "?!", "中文"])
def test_text_without_a_sound_cannot_be_spoken(text: str) -> None:
    assert not front_end().can_speak(text)


@pytest.mark.parametrize("text", ["a", "7", "Hi 🎉", "(a)", "%"])
def test_text_with_a_sound_can_be_spoken(text: str) -> None:
    assert front_end().can_speak(text)


def test_characters_the_voice_does_not_know_are_left_out() -> None:
    assert read("café 🎉 b") == "caf  b"


def test_of_two_equal_symbols_the_last_one_counts() -> None:
    symbols = front_end(symbols=("_", "a", "b", "a")).symbols("ab")
    assert symbols.ids.tolist() == [3, 2]


def test_blanks_and_marks_stand_where_coqui_puts_them() -> None:
    symbols = front_end(symbols=("_", "a", "b"), blank_id=0, bos_id=7, eos_id=8).symbols("ab")
    assert symbols.ids.tolist() == [7, 0, 1, 0, 2, 0, 8]
    assert symbols.characters == ("", "", "a", "", "b", "", "")


def test_a_cleaner_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(BrokenVoiceError, match="chinese_mandarin_cleaners"):
        front_end(cleaner="chinese_mandarin_cleaners")


def test_titles_of_other_languages_are_refused_by_name() -> None:
    with pytest.raises(BrokenVoiceError, match="english_cleaners is not supported for fr"):
        front_end(language="fr")


def test_other_languages_keep_their_numbers_for_their_own_cleaners() -> None:
    assert correct("5:30 p.m. 5%", "de") == "5:30 p.m. 5%"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (90, "ninety"),
        (101, "one hundred and one"),
        (1_000, "one thousand"),
        (1_001, "one thousand and one"),
        (
            1_234_567,
            "one million, two hundred and thirty-four thousand, five hundred and sixty-seven",
        ),
        (10**12, "one trillion"),
    ],
)
def test_numbers_are_named(number: int, words: str) -> None:
    assert numerals.cardinal(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "first"), (12, "twelfth"), (20, "twentieth"), (103, "one hundred and third")],
)
def test_places_are_named(number: int, words: str) -> None:
    assert numerals.ordinal(number) == words


def test_a_number_without_a_name_is_spelled() -> None:
    text = CLEANERS["english_cleaners"]("1" + "0" * 36, "en")
    assert text == "one" + " zero" * 36
