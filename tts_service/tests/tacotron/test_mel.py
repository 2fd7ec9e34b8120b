"""Normalisation between two models, and the pace."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tts_service.app.engines.tacotron.manifest import MelStep
from tts_service.app.engines.tacotron.vocoder import MelBridge, Pacer


def ramp(n: int) -> NDArray[np.float32]:
    return np.stack([np.arange(n), np.arange(n) * -2.0]).astype(np.float32)


def paced(speed: float, frames: NDArray[np.float32], chunk: int) -> NDArray[np.float32]:
    pacer = Pacer(speed)
    starts = range(0, frames.shape[1], chunk)
    parts = [
        pacer.push(frames[:, a : a + chunk], last=a + chunk >= frames.shape[1]) for a in starts
    ]
    return np.concatenate([p for p in parts if p.size], axis=1)


def test_steps_clip_scale_and_shift_in_order() -> None:
    bridge = MelBridge(
        [
            MelStep(before=(-4, 4), scale=(2.0,), offset=(1.0,)),
            MelStep(scale=(1.0, 0.5), offset=(0.0, 1.0), after=(-2, 5)),
        ]
    )
    frames = np.array([[-9, 0, 1], [2, 3, 9]], np.float32)
    expected = np.array([[-2, 1, 3], [3.5, 4.5, 5]])
    np.testing.assert_allclose(bridge(frames), expected)


def test_models_that_agree_pass_frames_untouched() -> None:
    frames = ramp(4)
    assert MelBridge([])(frames) is frames


def test_the_voices_own_pace_passes_frames_untouched() -> None:
    np.testing.assert_array_equal(paced(1.0, ramp(10), 3), ramp(10))


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0, 3.0])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50])
def test_frames_are_read_speed_times_as_fast(speed: float, chunk: int) -> None:
    frames = ramp(50)
    result = paced(speed, frames, chunk)
    expected = np.arange(0, 49 + 1e-9, speed)
    np.testing.assert_allclose(result[0], expected, atol=1e-4)
    np.testing.assert_allclose(result[1], -2 * expected, atol=1e-4)


def test_no_pace_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        Pacer(0.0)
