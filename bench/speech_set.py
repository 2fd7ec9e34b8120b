"""This module fetches human speech with transcripts, for tests and benchmarks of recognition.

    python -m bench.speech_set

fetches it once into the user's cache (`$XDG_CACHE_HOME/speech-fleet/speech-set`) and prints its
size. It comes from packages of Debian, which apt must know (on Debian or Ubuntu it does, after
`apt-get update`), and is not part of the wheel:

- `asterisk-core-sounds-en-g722`, transcripts in `asterisk-core-sounds-en`: prompts of a telephone
  system, one studio voice. © 2003-2010 Allison Smith and Digium, CC-BY-SA-3.0.
- `pocketsphinx-testdata`: sentences from LibriVox (public domain) and spoken playing cards, three
  voices. © Carnegie Mellon University and Alpha Cephei, BSD-2-Clause.

Prompts of less than three words, and those whose transcript describes instead of quoting, are left
out. The set has two halves, by a hash of the names: settings are chosen on the `tuning` half, and
published figures are measured on the `held_out` half.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import jiwer
import numpy as np

from bench.support import say
from common.audio.encoding import encode_s16le
from common.audio.samples import Samples
from deploy.local.words import words

PACKAGES = ("asterisk-core-sounds-en-g722", "asterisk-core-sounds-en", "pocketsphinx-testdata")
SAMPLE_RATE_HZ = 16000
PROMPTS = Path("usr/share/asterisk/sounds/en_US_f_Allison")
PROMPT_TEXTS = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
SENTENCES = Path("usr/share/pocketsphinx/test/data")
MIN_WORDS = 3
TIMEOUT_S = 300


class SpeechSetMissing(Exception):
    """The set cannot be fetched on this machine; the message says why."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip is a mono recording at `SAMPLE_RATE_HZ` and its transcript."""

    name: str
    text: str
    samples: Samples

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def pcm(self) -> bytes:
        """The recording as s16le."""
        return encode_s16le(self.samples)

    @property
    def held_out(self) -> bool:
        return hashlib.sha256(self.name.encode()).digest()[0] % 2 == 1


def load() -> list[Clip]:
    """Load all clips, ordered by name; they are fetched if they are not in the cache.

    Raises `SpeechSetMissing`.
    """
    folder = _fetched()
    clips = [*_prompts(folder), *_sentences(folder)]
    return sorted(clips, key=lambda clip: clip.name)


def tuning(clips: Sequence[Clip]) -> list[Clip]:
    """Return the half that settings may be chosen on."""
    return [clip for clip in clips if not clip.held_out]


def held_out(clips: Sequence[Clip]) -> list[Clip]:
    """Return the half that no setting was chosen on."""
    return [clip for clip in clips if clip.held_out]


def joined(clips: Sequence[Clip], min_seconds: float, *, gap_s: float = 0.6) -> list[Clip]:
    """Make longer recordings of several clips with pauses between them."""
    gap = np.zeros(int(gap_s * SAMPLE_RATE_HZ), np.float32)
    made: list[Clip] = []
    parts: list[Clip] = []
    for clip in clips:
        parts.append(clip)
        if sum(part.seconds + gap_s for part in parts) >= min_seconds:
            samples = np.concatenate([piece for part in parts for piece in (part.samples, gap)])
            text = " ".join(part.text for part in parts)
            made.append(Clip(f"{parts[0].name} and {len(parts) - 1} more", text, samples))
            parts = []
    return made


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return the word error rate of all texts, after Whisper's normalizer of English."""
    rate: float = jiwer.wer(
        [" ".join(words(r)) for r in references], [" ".join(words(h)) for h in hypotheses]
    )
    return rate


def _prompts(folder: Path) -> list[Clip]:
    lines = gzip.decompress((folder / PROMPT_TEXTS).read_bytes()).decode().splitlines()
    clips = []
    for line in lines:
        name, _, text = line.partition(":")
        path = folder / PROMPTS / f"{name.strip()}.g722"
        described = re.search(r"[()\[\]<>]", text)
        if path.is_file() and not described and len(words(text)) >= MIN_WORDS:
            clips.append(Clip(name.strip(), text.strip(), _decode(path, "g722")))
    return clips


def _sentences(folder: Path) -> list[Clip]:
    clips = []
    for texts in ("librivox/transcription", "cards/cards.transcription"):
        path = folder / SENTENCES / texts
        for text, name in re.findall(r"<s>(.*)</s> \((.*)\)", path.read_text()):
            if len(words(text)) >= MIN_WORDS:
                samples = _decode(path.parent / f"{name}.wav", "wav")
                clips.append(Clip(name, text.strip(), samples))
    return clips


def _decode(path: Path, container: str) -> Samples:
    with av.open(str(path), format=container) as source:
        (stream,) = source.streams.audio
        assert stream.rate == SAMPLE_RATE_HZ, path
        frames = [frame.to_ndarray().reshape(-1) for frame in source.decode(stream)]
    samples: Samples = np.concatenate(frames).astype(np.float32) / np.float32(32768)
    return samples


def _fetched() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "speech-fleet" / "speech-set"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _fetch(Path(scratch))
            (Path(scratch) / "root").rename(folder)
    return folder


def _fetch(scratch: Path) -> None:
    """Unpack the packages into `scratch/root`."""
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise SpeechSetMissing(
                f"The speech set comes in packages of Debian, and {program} is not installed: run "
                "this on Debian or Ubuntu."
            )
    # As another user apt could not write here.
    download = ["apt-get", "-qq", "--option=APT::Sandbox::User=root", "download", *PACKAGES]
    ran = _run(download, scratch)
    if ran.returncode and os.geteuid() == 0:
        _run(["apt-get", "-qq", "update"], scratch)
        ran = _run(download, scratch)
    if ran.returncode:
        raise SpeechSetMissing(
            f"The speech set cannot be downloaded ({' '.join(PACKAGES)}); if apt knows no such "
            f"packages, `apt-get update` helps. It said:\n{ran.stderr.strip()}"
        )
    for package in scratch.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(package), str(scratch / "root")], scratch)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    clips = load()
    for name, half in (("all", clips), ("tuning", tuning(clips)), ("held out", held_out(clips))):
        minutes = sum(clip.seconds for clip in half) / 60
        count = sum(len(words(clip.text)) for clip in half)
        say(f"{name:<10}{len(half):4} clips, {minutes:5.1f} minutes, {count:5} words")


if __name__ == "__main__":
    main()
