"""`voice.json`: all that a prepared voice says about itself.

Written once by `tts_service.voices`, read at start. Nothing about a voice is assumed elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class VoiceError(Exception):
    """A voice cannot be used; the message says why and, where there is one, the way out."""


class VoiceNotPreparedError(VoiceError):
    """The voice was never prepared here."""

    def __init__(self, name: str, folder: str) -> None:
        super().__init__(
            f"the voice {name} is not prepared in {folder}: run `make voice`"
            f" (or `python -m tts_service.voices prepare {name}`)"
        )


class BrokenVoiceError(VoiceError):
    """The voice's folder is there, but what it holds cannot be used."""


FILE = "voice.json"

PrecisionName = Literal["float32", "int8"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextInput(_Part):
    """How text becomes the symbols that the model was trained on."""

    cleaner: str | None
    """Name of Coqui's cleaner, none to take the text as it is."""
    language: str | None
    """What Coqui hands the cleaner, for example `en`."""
    symbols: tuple[str, ...]
    """The id of a symbol is its last place in this table."""
    blank_id: int | None = None
    """Put between all symbols if given."""
    bos_id: int | None = None
    eos_id: int | None = None
    """Put around the text if given."""


class MelStep(_Part):
    """One affine step with limits: `clip(x, *before) * scale + offset`, then `clip(·, *after)`."""

    before: tuple[float, float] | None = None
    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    """One number, or one a mel band."""
    after: tuple[float, float] | None = None


class Endpoint(_Part):
    """Where Coqui ends the audio of a sentence (`do_trim_silence`)."""

    window: int
    """Samples that must all be under the threshold."""
    hop: int
    threshold: float


class Precision(_Part):
    """One precision of the decoder step."""

    file: str
    mel_deviation: float
    """RMS of the difference to Coqui's frames, as a share of their standard deviation."""
    steps: int
    """Decoder steps over which that was measured."""


class Proof(_Part):
    """What the comparison with Coqui found when the voice was made."""

    texts: int
    max_difference: float
    """Largest difference of a sample, streamed against Coqui's whole utterance, in float32."""
    samples: int


class Manifest(_Part):
    format: Literal[1] = 1
    name: str
    vocoder: str
    sample_rate_hz: int = Field(gt=0)
    hop: int = Field(gt=0)
    """Samples a frame."""
    mels: int = Field(gt=0)
    r: int = Field(gt=0)
    """Frames a decoder step."""
    r_init: int = Field(gt=0)
    max_decoder_steps: int = Field(gt=0)
    """Where Coqui itself gives up."""
    prenet_dropout: bool
    """Whether the voice is stochastic."""
    attention: dict[str, bool | str]
    text: TextInput
    mel_steps: tuple[MelStep, ...] = ()
    """From the acoustic model's frames to the vocoder's; empty where both agree."""
    vocoder_padding: int = Field(ge=0)
    """Frames that repeat the first and the last one before vocoding."""
    endpoint: Endpoint | None = None
    precisions: dict[PrecisionName, Precision]
    proof: Proof | None = None
    """Absent only in voices made by tests."""
    source: dict[str, str] = {}
    """Addresses or paths that the checkpoints came from."""
    licence: str = ""
    hashes: dict[str, str] = {}
    """SHA-256 of what was downloaded and of every file here."""
    versions: dict[str, str] = {}

    @property
    def frame_s(self) -> float:
        return self.hop / self.sample_rate_hz


def voice_folder(voices_dir: Path, name: str) -> Path:
    """`tts_models/en/ljspeech/tacotron2-DDC` lives in `tts_models--en--ljspeech--tacotron2-DDC`."""
    return voices_dir / name.strip("/").replace("/", "--")


def read_manifest(voices_dir: Path, name: str) -> tuple[Manifest, Path]:
    """The manifest of a prepared voice and the folder that its files are in.

    Raises `VoiceNotPreparedError` or `BrokenVoiceError`.
    """
    folder = voice_folder(voices_dir, name)
    file = folder / FILE
    if not file.is_file():
        raise VoiceNotPreparedError(name, str(voices_dir))
    try:
        manifest = Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise BrokenVoiceError(
            f"{file} cannot be read, prepare the voice again: {error}"
        ) from error
    return manifest, folder
