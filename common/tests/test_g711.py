"""μ-law and A-law against what ITU-T published, and against libsndfile."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from common.audio.encoding import Law, decode_g711, encode_g711
from common.audio.samples import Samples

LAWS: list[Law] = ["mulaw", "alaw"]
ALL_CODES = bytes(range(256))
ALL_SAMPLES: Samples = np.arange(-32768, 32768).astype(np.float32) / np.float32(32768)


def as_16_bit(samples: Samples) -> list[int]:
    return [round(float(s) * 32768) for s in samples]


@pytest.mark.parametrize(
    ("law", "code", "level"),
    [
        # G.711, tables 2a and 2b: 14 bits, here times 4.
        ("mulaw", 0x80, 8031 * 4),
        ("mulaw", 0x8F, 4191 * 4),
        ("mulaw", 0xEF, 33 * 4),
        ("mulaw", 0xFE, 2 * 4),
        ("mulaw", 0xFF, 0),
        ("mulaw", 0x7F, 0),
        ("mulaw", 0x7E, -2 * 4),
        ("mulaw", 0x00, -8031 * 4),
        # G.711, tables 1a and 1b: 13 bits, here times 8.
        ("alaw", 0x80 ^ 0x55, 1 * 8),
        ("alaw", 0x81 ^ 0x55, 3 * 8),
        ("alaw", 0xFF ^ 0x55, 4032 * 8),
        ("alaw", 0x00 ^ 0x55, -1 * 8),
        ("alaw", 0x7F ^ 0x55, -4032 * 8),
    ],
)
def test_codes_stand_for_the_levels_of_the_standard(law: Law, code: int, level: int) -> None:
    assert as_16_bit(decode_g711(bytes([code]), law)) == [level]


@pytest.mark.parametrize(
    ("law", "period"),
    [("mulaw", "1e0b0b1e9e8b8b9e"), ("alaw", "34212134b4a1a1b4")],
)
def test_the_digital_milliwatt_is_the_published_one(law: Law, period: str) -> None:
    """G.711, tables 5 and 6: a sine of 1 kHz at 0 dBm0, which is 3.17 and 3.14 dB below the top."""
    below_top_db, top = (3.17, 8159 * 4) if law == "mulaw" else (3.14, 4096 * 8)
    phases = (np.arange(8) * 2 + 1) * np.pi / 8
    sine = -np.sin(phases) * top / 32768 * 10 ** (-below_top_db / 20)
    assert encode_g711(sine.astype(np.float32), law) == bytes.fromhex(period)


@pytest.mark.parametrize("law", LAWS)
def test_every_code_decodes_as_libsndfile_decodes_it(law: Law) -> None:
    subtype = {"mulaw": "ULAW", "alaw": "ALAW"}[law]
    theirs, _ = soundfile.read(
        io.BytesIO(ALL_CODES),
        format="RAW",
        subtype=subtype,
        channels=1,
        samplerate=8000,
        dtype="int16",
    )
    assert as_16_bit(decode_g711(ALL_CODES, law)) == theirs.tolist()


@pytest.mark.parametrize("law", LAWS)
def test_every_level_survives_a_round_trip(law: Law) -> None:
    again = encode_g711(decode_g711(ALL_CODES, law), law)
    different = [code for code in range(256) if again[code] != code]
    assert different == ([0x7F] if law == "mulaw" else []), "μ-law spells zero in two ways"


@pytest.mark.parametrize("law", LAWS)
def test_every_sample_becomes_the_nearest_level(law: Law) -> None:
    codes = encode_g711(ALL_SAMPLES, law)
    levels = np.unique(decode_g711(ALL_CODES, law))
    nearest = np.abs(ALL_SAMPLES[:, None] - levels[None, :]).min(axis=1)
    assert np.array_equal(np.abs(decode_g711(codes, law) - ALL_SAMPLES), nearest)


@pytest.mark.parametrize(("law", "zero", "below"), [("mulaw", 0xFF, 0x7F), ("alaw", 0xD5, 0x55)])
def test_silence_has_one_code(law: Law, zero: int, below: int) -> None:
    assert encode_g711(np.zeros(3, np.float32), law) == bytes([zero] * 3)
    assert encode_g711(np.full(1, -1 / 32768, np.float32), law) == bytes([below])


@pytest.mark.parametrize("law", LAWS)
def test_too_loud_is_clipped(law: Law) -> None:
    loud: Samples = np.array([2.0, -2.0], np.float32)
    assert encode_g711(loud, law) == encode_g711(np.array([1.0, -1.0], np.float32), law)


def test_channels_are_averaged() -> None:
    stereo = encode_g711(np.array([0.5, -0.5, 0.25, 0.25], np.float32), "alaw")
    left, right = decode_g711(stereo[2:3], "alaw"), decode_g711(stereo[3:4], "alaw")
    mono = decode_g711(stereo, "alaw", channels=2)
    assert abs(mono[0]) < 0.02
    assert mono[1] == (left[0] + right[0]) / 2
