"""The engine as its callers see it, with tiny voices of the real architecture."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tts_service.app.engines.base import Engine, SynthesisContext, SynthesisWarning
from tts_service.app.engines.tacotron import (
    BrokenVoiceError,
    GuardLimits,
    Pace,
    TacotronEngine,
    TacotronOptions,
    VoiceNotPreparedError,
    load,
)
from tts_service.app.engines.tacotron.manifest import FILE, voice_folder
from tts_service.tests.tacotron import reference, tiny
from tts_service.tests.tacotron.conftest import Loaded, LogEvents
from tts_service.voices.graphs.decoder import DecoderOptions
from tts_service.voices.graphs.vocoder import build_vocoder

TEXT = "the quick brown fox jumps over it"
SMALLEST = Pace(first_frames=1, min_frames=1, max_frames=1)
STOCHASTIC = DecoderOptions(r=1, r_init=1, frame_channels=tiny.MELS, prenet_dropout=True)


def speak(engine: Engine, text: str = TEXT, **changes: Any) -> NDArray[np.float32]:
    arguments = {"speed": 1.0, "opens": True, "closes": True, **changes}
    return np.concatenate([*engine.synthesize(text, **arguments), np.zeros(0, np.float32)])


def whole(
    voice: tiny.TinyVoice, engine: TacotronEngine, text: str, steps: int
) -> NDArray[np.float32]:
    """The utterance computed in plain numpy, all at once."""
    w = tiny.weights(voice)
    memory, keys = reference.encoder(w, engine.front_end.symbols(text).ids)
    frames = reference.decode(w, voice.decoder, memory, keys, steps).T
    mel = reference.postnet(w, np.ascontiguousarray(frames))
    padded = np.pad(mel, ((0, 0), (2, 2)), mode="edge")
    return reference.vocoder(tiny.vocoder_weights(voice.seed), tiny.VOCODER, padded)


@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("steps", [2, 3, 4, 9, 10, 11, 17, 40])
def test_what_is_streamed_is_the_whole_utterance(loaded: Loaded, steps: int, r: int) -> None:
    voice = tiny.TinyVoice(steps=steps, decoder=DecoderOptions(r, r, frame_channels=tiny.MELS))
    engine = loaded(voice)
    expected = whole(voice, engine, TEXT, steps)
    samples = speak(engine)
    assert samples.shape == expected.shape
    np.testing.assert_allclose(samples, expected, atol=1e-5)


PACES = {
    "smallest": SMALLEST,
    "usual": Pace(),
    "all at once": Pace(first_frames=500, min_frames=500, max_frames=500),
    "sevens": Pace(first_frames=7, min_frames=7, max_frames=7),
}


@pytest.mark.parametrize("pace", PACES)
def test_the_chunk_schedule_changes_nothing(loaded: Loaded, pace: str) -> None:
    voice = tiny.TinyVoice(steps=0)
    engine = loaded(voice, replace(tiny.UNGUARDED, pace=PACES[pace]))
    symbols = engine.front_end.symbols(TEXT)
    for steps in range(1, 45):
        samples = np.concatenate(list(engine.speak(symbols, max_steps=steps)))
        expected = whole(voice, engine, TEXT, steps)
        assert samples.shape == expected.shape
        np.testing.assert_allclose(samples, expected, atol=1e-5, err_msg=f"{steps} steps")


def test_sound_leaves_before_the_text_is_decoded(loaded: Loaded) -> None:
    engine = loaded(tiny.TinyVoice(steps=200), replace(tiny.UNGUARDED, pace=SMALLEST))
    parts = list(engine.synthesize(TEXT, speed=1.0, opens=True, closes=True))
    assert len(parts) > 100
    assert sum(map(len, parts[:2])) < 30 * tiny.HOP


def test_speakers_at_once_hear_what_they_would_alone(loaded: Loaded) -> None:
    engine = loaded(tiny.TinyVoice(steps=60))
    texts = [TEXT[:n] for n in range(3, len(TEXT), 3)]
    alone = [speak(engine, text) for text in texts]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda text: speak(engine, text), texts, timeout=120))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_the_same_seed_gives_the_same_speech_and_another_does_not(loaded: Loaded) -> None:
    voice = tiny.TinyVoice(decoder=STOCHASTIC)
    engine = loaded(voice, replace(tiny.UNGUARDED, seed=1))
    first = speak(engine)
    for same in (engine, loaded(voice, replace(tiny.UNGUARDED, seed=1))):
        np.testing.assert_allclose(speak(same), first, atol=1e-6)
    assert np.abs(first - speak(loaded(voice, replace(tiny.UNGUARDED, seed=2)))).max() > 1e-3


def test_closing_frees_the_place_in_the_batch(loaded: Loaded) -> None:
    engine = loaded(tiny.TinyVoice(steps=500))
    steps = engine.synthesize(TEXT, speed=1.0, opens=True, closes=True)
    next(steps)
    assert engine.speaking == 1
    steps.close()
    assert engine.speaking == 0


def test_cancelling_ends_the_speech_within_a_step(loaded: Loaded) -> None:
    """In the middle of a chunk of 10 000 frames, not after it."""
    engine = loaded(
        tiny.TinyVoice(steps=0, manifest={"max_decoder_steps": 10**6}),
        replace(tiny.UNGUARDED, pace=Pace(10_000, 10_000, 10_000)),
    )
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    assert speak(engine, context=SynthesisContext(cancelled=cancelled)).size == 0
    assert asked < 12
    assert engine.speaking == 0


def test_a_sentence_ends_in_the_silence_that_was_set(loaded: Loaded) -> None:
    voice, options = tiny.TinyVoice(), replace(tiny.UNGUARDED, sentence_pause_ms=100)
    engine = loaded(voice, options)
    closed, open_ = speak(engine), speak(engine, closes=False)
    assert closed.size - open_.size == tiny.RATE // 10
    assert not closed[open_.size :].any()


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_speed_changes_the_length(loaded: Loaded, speed: float) -> None:
    engine = loaded(tiny.TinyVoice(steps=100))
    usual, changed = speak(engine).size, speak(engine, speed=speed).size
    padding = 4 * tiny.HOP
    assert changed - padding == pytest.approx((usual - padding) / speed, abs=2 * tiny.HOP)


def test_the_endpoint_cuts_what_coqui_cuts(loaded: Loaded) -> None:
    """A threshold above every sample: the very first window is silence."""
    engine = loaded(
        tiny.TinyVoice(manifest={"endpoint": {"window": 40, "hop": 10, "threshold": 2.0}})
    )
    assert speak(engine).size == 20
    assert engine.speaking == 0


class Warnings:
    """A context that remembers what it was warned of."""

    def __init__(self) -> None:
        self.all: list[SynthesisWarning] = []
        self.context = SynthesisContext(warn=self.all.append)


def stalling(frames: float = 25) -> GuardLimits:
    """Random weights make no progress: they are stalled after `frames`."""
    return replace(GuardLimits.off(), stall_frames=frames, end_symbols=0, grace_frames=5)


def test_a_stalled_decode_is_cut_with_a_fade_and_told(loaded: Loaded) -> None:
    options = replace(tiny.UNGUARDED, limits=stalling(), pace=SMALLEST)
    engine, warned = loaded(tiny.TinyVoice(steps=0), options), Warnings()
    samples = speak(engine, context=warned.context)
    assert [n.code for n in warned.all] == ["stalled"]
    assert warned.all[0].at_sample == samples.size
    assert abs(samples[-1]) < abs(samples[-40:]).max() / 8
    assert engine.speaking == 0


def test_healthy_speech_is_not_warned_of(loaded: Loaded) -> None:
    engine, warned = loaded(), Warnings()
    assert speak(engine, context=warned.context).size
    assert warned.all == []


def test_a_stochastic_voice_that_failed_unheard_is_asked_once_more(
    loaded: Loaded, log_events: LogEvents
) -> None:
    """Nothing had left yet: what is heard is the second attempt alone, from its beginning."""
    patient = Pace(first_frames=400, min_frames=400, max_frames=400)
    options = replace(tiny.UNGUARDED, limits=stalling(), pace=patient)
    engine, warned = loaded(tiny.TinyVoice(steps=0, decoder=STOCHASTIC), options), Warnings()
    samples = speak(engine, context=warned.context)
    assert [n.code for n in warned.all] == ["stalled"]
    assert samples.size
    assert [e["attempt"] for e in log_events()] == [0, 1]


def test_a_stochastic_voice_that_failed_midway_goes_on_where_it_failed(
    loaded: Loaded, log_events: LogEvents
) -> None:
    """The second attempt may not repeat what was heard: it is silent up to the symbol."""
    limits = stalling()
    voice = tiny.TinyVoice(steps=0, decoder=STOCHASTIC)
    once = loaded(voice, replace(tiny.UNGUARDED, limits=limits, pace=SMALLEST))
    samples = speak(once)
    assert [e["attempt"] for e in log_events()] == [0, 1]
    ungated = loaded(
        replace(voice, decoder=replace(STOCHASTIC, prenet_dropout=True)), tiny.UNGUARDED
    )
    first_alone = np.concatenate(
        list(ungated.speak(ungated.front_end.symbols(TEXT), max_steps=200))
    )
    heard = min(samples.size, 10 * tiny.HOP)
    np.testing.assert_allclose(samples[:heard], first_alone[:heard], atol=1e-5)


def test_a_deterministic_voice_is_not_asked_again(loaded: Loaded, log_events: LogEvents) -> None:
    options = replace(tiny.UNGUARDED, limits=stalling())
    engine = loaded(tiny.TinyVoice(steps=0), options)
    speak(engine)
    assert [e["attempt"] for e in log_events()] == [0]


def test_an_early_stop_is_told(loaded: Loaded) -> None:
    limits = replace(GuardLimits.off(), uncovered_symbols=-100, uncovered_share=-1.0)
    engine, warned = loaded(options=replace(tiny.UNGUARDED, limits=limits)), Warnings()
    speak(engine, context=warned.context)
    assert [n.code for n in warned.all] == ["early_stop"]


def test_text_without_symbols_gives_no_samples(loaded: Loaded) -> None:
    assert list(loaded().synthesize("🎉", speed=1.0, opens=True, closes=True)) == []


@pytest.mark.parametrize("text", ["a", "i.", "ok"])
def test_the_shortest_texts_can_be_spoken(loaded: Loaded, text: str) -> None:
    assert speak(loaded(), text).size > 0


def test_a_voice_whose_samples_are_not_finite_is_refused_at_load(tmp_path: Path) -> None:
    tiny.install(tiny.TinyVoice(), tmp_path)
    folder = voice_folder(tmp_path, tiny.NAME)
    broken = tiny.vocoder_weights()
    broken["conv_post.bias"][:] = np.nan
    onnx.save(build_vocoder(broken, tiny.VOCODER), folder / "vocoder.onnx")
    with pytest.raises(BrokenVoiceError, match="not finite"):
        load(tiny.NAME, tmp_path, tiny.UNGUARDED)


def test_8_bit_is_taken_where_the_voice_has_it(loaded: Loaded) -> None:
    wide = tiny.TinyVoice(width=128)
    best, exact = loaded(wide), loaded(wide, replace(tiny.UNGUARDED, precision="float32"))
    assert (best.precision, exact.precision) == ("int8", "float32")
    np.testing.assert_allclose(speak(best), speak(exact), atol=0.05)
    assert loaded().precision == "float32"


def test_a_precision_that_the_voice_lacks_is_named(loaded: Loaded) -> None:
    with pytest.raises(BrokenVoiceError, match="no precision int8; it has float32"):
        loaded(options=TacotronOptions(precision="int8"))


def test_a_voice_that_was_not_prepared_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(VoiceNotPreparedError, match="run `make voice`"):
        load(tiny.NAME, tmp_path)


@pytest.mark.parametrize("file", ["encoder.onnx", "decoder.float32.onnx", "postnet.onnx"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_voice_is_refused_at_load(tmp_path: Path, file: str, damage: str) -> None:
    tiny.install(tiny.TinyVoice(), tmp_path)
    path = voice_folder(tmp_path, tiny.NAME) / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BrokenVoiceError, match=file):
        load(tiny.NAME, tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}'])
def test_a_manifest_that_cannot_be_read_says_so(tmp_path: Path, text: str) -> None:
    tiny.install(tiny.TinyVoice(), tmp_path)
    (voice_folder(tmp_path, tiny.NAME) / FILE).write_text(text)
    with pytest.raises(BrokenVoiceError, match="prepare the voice again"):
        load(tiny.NAME, tmp_path)


def test_utterances_can_be_stepped_from_changing_threads(loaded: Loaded) -> None:
    """A scheduler gives each step of a generator to whichever worker is free."""
    engine = loaded(tiny.TinyVoice(steps=80), replace(tiny.UNGUARDED, pace=SMALLEST))
    expected = speak(engine)
    generators = [engine.synthesize(TEXT, speed=1.0, opens=True, closes=True) for _ in range(4)]
    results: list[list[NDArray[np.float32]]] = [[] for _ in generators]
    free = list(range(4))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not free:
                    return
                mine = free.pop(0)
            part = next(generators[mine], None)
            if part is not None:
                results[mine].append(part)
                with lock:
                    free.append(mine)

    with ThreadPoolExecutor(3) as threads:
        for future in [threads.submit(work) for _ in range(3)]:
            future.result(60)
    for parts in results:
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-6)
