"""Stable text never changes, whatever the hypotheses are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from asr_service.app.live.agreement import (
    LocalAgreement,
    TimedWord,
    align,
    join_punctuation,
    segments_of,
    text_of,
)


def hypothesis(line: str, at_ms: int = 0) -> list[TimedWord]:
    """A hypothesis whose words last 100 ms each; `|` ends a segment."""
    words = []
    for count, part in enumerate(line.split()):
        since = at_ms + 100 * count
        text = f" {part.rstrip('|')}"
        words.append(TimedWord(since, since + 100, text, ends_segment=part.endswith("|")))
    return words


def test_words_are_stable_once_two_hypotheses_in_a_row_begin_with_them() -> None:
    agreement = LocalAgreement()
    agreement.push(hypothesis("the cat sat"))
    assert (agreement.text, agreement.stable_chars) == ("the cat sat", 0)
    agreement.push(hypothesis("the cat set on a"))
    assert (agreement.text, agreement.stable_chars) == ("the cat set on a", len("the cat"))
    agreement.push(hypothesis("the cat sat on a mat"))
    assert agreement.stable_chars == len("the cat")
    agreement.push(hypothesis("the cat sat on a mat today"))
    assert agreement.text[: agreement.stable_chars] == "the cat sat on a mat"


def test_words_at_the_end_of_the_audio_are_not_stable_yet() -> None:
    agreement = LocalAgreement()
    for _ in range(2):
        agreement.push(hypothesis("from the black"), agreed_until_ms=200)
    assert (agreement.text, agreement.stable_chars) == ("from the black", len("from the"))
    for _ in range(2):
        agreement.push(hypothesis("from the blacklist now"), agreed_until_ms=300)
    assert agreement.stable_chars == len("from the blacklist")


def test_case_and_punctuation_are_no_disagreement_and_the_last_ones_may_change() -> None:
    agreement = LocalAgreement()
    agreement.push(hypothesis("the end."))
    agreement.push(hypothesis("The end, of"))
    assert agreement.text[: agreement.stable_chars] == "The end"
    agreement.push(hypothesis("The end of it"))
    assert agreement.text == "The end of it"


def test_a_later_hypothesis_that_differs_in_agreed_words_changes_only_what_is_tentative() -> None:
    agreement = LocalAgreement()
    for _ in range(2):
        agreement.push(hypothesis("the cat sat on"))
    agreement.push(hypothesis("a fat cat sat on the mat"))
    assert agreement.text == "the cat sat on the mat"
    assert agreement.stable_chars == len("the cat sat on")


def test_the_last_hypothesis_extends_the_stable_text() -> None:
    agreement = LocalAgreement()
    for _ in range(2):
        agreement.push(hypothesis("the cat sat"))
    agreement.conclude(hypothesis("the cats sat on the mat.|"))
    assert agreement.text == "the cat sat on the mat."


def test_after_a_cut_the_words_before_it_stay_and_their_repetition_is_dropped() -> None:
    agreement = LocalAgreement()
    for _ in range(2):
        agreement.push(hypothesis("one two three four"))
    agreement.cut(2, 200)
    agreement.push(hypothesis("two three four five", at_ms=200))
    assert agreement.text == "one two three four five"
    agreement.cut(4, 400)
    agreement.push(hypothesis("five six", at_ms=400))
    assert agreement.text == "one two three four five six"


def test_a_word_that_is_spoken_twice_is_not_taken_for_a_repetition() -> None:
    agreement = LocalAgreement()
    for _ in range(2):
        agreement.push(hypothesis("very very good"))
    agreement.cut(1, 100)
    agreement.push(hypothesis("very good indeed", at_ms=100))
    assert agreement.text == "very very good indeed"


def test_punctuation_alone_belongs_to_the_word_before_it() -> None:
    words = join_punctuation(hypothesis("- well ... yes !|"))
    assert [word.text for word in words] == [" well ...", " yes !"]
    assert words[-1].ends_segment


def test_segments_are_those_of_the_recognizer_in_order() -> None:
    segments = segments_of(hypothesis("Hello world.| How are you?|"))
    assert [(s.start_ms, s.end_ms, s.text) for s in segments] == [
        (0, 200, "Hello world."),
        (200, 500, "How are you?"),
    ]


words_st = st.lists(
    st.builds(
        TimedWord,
        start_ms=st.integers(0, 5000),
        end_ms=st.integers(0, 5000),
        text=st.sampled_from(["", " "]).flatmap(
            lambda space: st.sampled_from(
                ["a", "A", "b", "b.", "c,", "a-b", "…", "-", '"c"', "ß", "İ"]
            ).map(lambda word: space + word)
        ),
        ends_segment=st.booleans(),
    ),
    max_size=8,
)
steps_st = st.lists(
    st.tuples(st.just("push"), words_st) | st.tuples(st.just("cut"), st.integers(0, 8)),
    max_size=12,
)


@given(steps=steps_st, last=words_st)
def test_stable_text_begins_every_later_text(
    steps: list[tuple[str, object]], last: list[TimedWord]
) -> None:
    agreement, stable = LocalAgreement(), ""
    for kind, value in steps:
        if kind == "push":
            assert isinstance(value, list)
            agreement.push(value)
        else:
            assert isinstance(value, int)
            count = min(value, len(agreement.words))
            agreement.cut(count, 100 * count)
        assert agreement.text.startswith(stable)
        assert agreement.text[: agreement.stable_chars].startswith(stable)
        stable = agreement.text[: agreement.stable_chars]
    agreement.conclude(last)
    assert agreement.text.startswith(stable)
    assert text_of(agreement.words) == agreement.text


@given(agreed=words_st, again=words_st)
def test_alignment_takes_the_beginning_with_the_fewest_edits(
    agreed: list[TimedWord], again: list[TimedWord]
) -> None:
    pairs, count = align(agreed, again)
    assert all(agreed[i].key == again[j].key and j < count for i, j in pairs)
    assert pairs == sorted(pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    edits = _edits(agreed, again[:count])
    assert edits == min(_edits(agreed, again[:other]) for other in range(len(again) + 1))


def _edits(a: list[TimedWord], b: list[TimedWord]) -> int:
    """How many words must be added, left out or changed to make one of the other."""
    keys = [word.key for word in a], [word.key for word in b]
    return int(Levenshtein.distance(*keys))
