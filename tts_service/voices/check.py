"""This module proves that an exported voice equals Coqui's: same symbols, same waveform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tts_service.app.engines.tacotron.decoder import draw_mask
from tts_service.app.engines.tacotron.engine import TacotronEngine, TacotronOptions
from tts_service.app.engines.tacotron.frontend import FrontEnd, Symbols
from tts_service.app.engines.tacotron.guard import GuardLimits
from tts_service.app.engines.tacotron.manifest import Manifest, PrecisionName, Proof

from .coqui import CoquiVoice
from .errors import CheckFailed

TOLERANCE = 1e-5
"""Largest difference of a sample in [-1, 1], float32: a third of one step of 16-bit audio."""
MOST_DEVIATION = 0.5
"""Largest deviation of a reduced precision's mel frames from Coqui's."""
MOST_STEPS = 1000
"""Decoder steps after which both are cut off, so that weights that never stop can be compared."""
DEVIATION_STEPS = 300

TEXTS = (
    "Hello world.",
    "The quick brown fox jumps over the lazy dog.",
    "It took me quite a long time to develop a voice, and now that I have it I am not going to be"
    " silent.",
    "At 10:45 am on the 21st of May 1905, Dr. Smith paid $3.50 for 12 apples & a pear.",
)


def check(
    coqui: CoquiVoice, manifest: Manifest, folder: Path, texts: Sequence[str] = TEXTS
) -> Manifest:
    """Compare the voice in `folder` with Coqui; returns the manifest with the result.

    Raises `CheckFailed` if symbols differ, or samples by more than `TOLERANCE`.
    """
    symbols = [_same_symbols(coqui, manifest, text) for text in texts]
    largest, samples = 0.0, 0
    decoder = coqui.model.decoder
    limit = decoder.max_decoder_steps
    decoder.max_decoder_steps = min(limit, MOST_STEPS)
    try:
        engine = comparable(manifest, folder, "float32")
        for text, ids in zip(texts, symbols, strict=True):
            with same_dropout(coqui, manifest):
                whole = coqui.waveform(ids.ids.tolist())
            streamed = np.concatenate(list(engine.speak(ids, max_steps=decoder.max_decoder_steps)))
            if whole.shape != streamed.shape:
                raise CheckFailed(
                    f"{text!r}: Coqui makes {whole.size} samples, the export {streamed.size}"
                )
            difference = float(np.abs(whole - streamed).max())
            if not difference <= TOLERANCE:
                raise CheckFailed(
                    f"{text!r}: a sample differs from Coqui's by {difference:.2g},"
                    f" more than {TOLERANCE:.0e}"
                )
            largest, samples = max(largest, difference), samples + whole.size
        precisions = {
            name: precision.model_copy(
                update={
                    "mel_deviation": _deviation(coqui, manifest, folder, name, symbols[-1]),
                    "steps": DEVIATION_STEPS,
                }
            )
            for name, precision in manifest.precisions.items()
        }
    finally:
        decoder.max_decoder_steps = limit
    proof = Proof(texts=len(texts), max_difference=largest, samples=samples)
    return manifest.model_copy(update={"proof": proof, "precisions": precisions})


def comparable(manifest: Manifest, folder: Path, precision: PrecisionName) -> TacotronEngine:
    """Load the voice as Coqui runs it: only the stop token and the limit end a decode."""
    options = TacotronOptions(
        precision=precision, limits=GuardLimits.off(), sentence_pause_ms=0, seed=0
    )
    return TacotronEngine(manifest, folder, options)


def _same_symbols(coqui: CoquiVoice, manifest: Manifest, text: str) -> Symbols:
    front_end = FrontEnd(manifest.text)
    symbols = front_end.encode(front_end.clean(text))
    if coqui.ids(text) != symbols.ids.tolist():
        raise CheckFailed(f"{text!r}: the symbols are not those that Coqui makes of it")
    return symbols


def _deviation(
    coqui: CoquiVoice, manifest: Manifest, folder: Path, name: PrecisionName, symbols: Symbols
) -> float:
    """Return how far the decoder's mel frames are from Coqui's, each decoding on its own."""
    from tts_service.app.engines.tacotron.batch import Batch
    from tts_service.app.engines.tacotron.decoder import DecoderModel, Row
    from tts_service.app.engines.tacotron.graph import open_graph
    from tts_service.app.engines.tacotron.guard import Guard

    steps = DEVIATION_STEPS
    coqui.model.decoder.max_decoder_steps = min(coqui.model.decoder.max_decoder_steps, steps)
    with same_dropout(coqui, manifest):
        theirs, _ = coqui.frames(symbols.ids.tolist())
    encoder = open_graph(folder / "encoder.onnx")
    memory, keys = encoder.run(["memory", "keys"], {"ids": symbols.ids[None]})
    guard = Guard(symbols.ids.size, manifest.r, steps, GuardLimits.off())
    dropout = np.random.Generator(np.random.Philox([0, 0])) if manifest.prenet_dropout else None
    batch = Batch(DecoderModel(open_graph(folder / manifest.precisions[name].file)))
    slot = batch.join(Row(memory[0], keys[0], guard, dropout))
    parts, _ = batch.take(slot, steps * manifest.r)
    ours = np.concatenate(parts)
    common = min(len(ours), len(theirs))
    error = np.sqrt(np.mean((ours[:common] - theirs[:common]) ** 2))
    deviation = float(error / theirs[:common].std())
    if not deviation <= MOST_DEVIATION:
        raise CheckFailed(f"the frames of {name} deviate from Coqui's by {deviation:.0%}")
    return deviation


@contextmanager
def same_dropout(coqui: CoquiVoice, manifest: Manifest) -> Iterator[None]:
    """Make Coqui's prenet drop what ours drops, so that a stochastic voice can be compared."""
    if not manifest.prenet_dropout:
        yield
        return
    import torch

    prenet: Any = coqui.model.decoder.prenet
    source = np.random.Generator(np.random.Philox([0, 0]))

    def forward(x: Any) -> Any:
        widths = [layer.linear_layer.out_features for layer in prenet.linear_layers]
        masks = [draw_mask(source, width) for width in widths]
        for layer, mask in zip(prenet.linear_layers, masks, strict=True):
            x = torch.relu(layer(x)) * torch.from_numpy(mask)
        return x

    original = prenet.forward
    prenet.forward = forward
    try:
        yield
    finally:
        prenet.forward = original
