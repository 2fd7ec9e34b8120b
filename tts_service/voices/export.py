"""This module writes the graphs and the manifest of a voice that Coqui has loaded."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from tts_service.app.engines.tacotron.cleaners import supported
from tts_service.app.engines.tacotron.manifest import (
    Endpoint,
    Manifest,
    MelStep,
    Precision,
    PrecisionName,
    TextInput,
)

from .coqui import CoquiVoice
from .errors import UnsupportedVoice
from .graphs.decoder import DecoderOptions, build_decoder
from .graphs.encoder import build_encoder
from .graphs.postnet import build_postnet
from .graphs.vocoder import VocoderOptions, build_vocoder

PRECISIONS: tuple[PrecisionName, ...] = ("float32", "int8")


@dataclass(frozen=True)
class Provenance:
    """Provenance is where the voice comes from, for its manifest."""

    name: str
    vocoder: str
    licence: str
    source: Mapping[str, str]
    hashes: Mapping[str, str]


def export(coqui: CoquiVoice, folder: Path, provenance: Provenance) -> Manifest:
    """Write the graphs into `folder`; returns the manifest, without a proof yet.

    Raises `UnsupportedVoice`, which names the option that the engine does not support.
    """
    weights = coqui.model_weights()
    options = decoder_options(coqui)
    generator_params = coqui.synthesizer.vocoder_config.generator_model_params
    vocoder = VocoderOptions(
        upsample_factors=list(generator_params["upsample_factors"]),
        resblock_type=str(generator_params["resblock_type"]),
        resblock_kernel_sizes=list(generator_params["resblock_kernel_sizes"]),
        resblock_dilation_sizes=[list(d) for d in generator_params["resblock_dilation_sizes"]],
    )
    hop = math.prod(vocoder.upsample_factors)
    _refuse_mismatch(coqui, hop)
    onnx.save(build_encoder(weights), folder / "encoder.onnx")
    onnx.save(build_postnet(weights), folder / "postnet.onnx")
    onnx.save(build_vocoder(coqui.generator_weights(), vocoder), folder / "vocoder.onnx")
    precisions: dict[PrecisionName, Precision] = {}
    for precision in PRECISIONS:
        file = f"decoder.{precision}.onnx"
        onnx.save(build_decoder(weights, options, precision), folder / file)
        precisions[precision] = Precision(file=file, mel_deviation=0.0, steps=0)
    return Manifest(
        name=provenance.name,
        vocoder=provenance.vocoder,
        sample_rate_hz=coqui.synthesizer.output_sample_rate,
        hop=hop,
        mels=options.frame_channels,
        r=options.r,
        r_init=options.r_init,
        max_decoder_steps=coqui.model.decoder.max_decoder_steps,
        prenet_dropout=options.prenet_dropout,
        attention={
            k: v
            for k, v in asdict(options).items()
            if isinstance(v, bool | str) and k != "prenet_dropout"
        },
        text=text_input(coqui),
        mel_steps=mel_steps(coqui.model.ap, coqui.synthesizer.vocoder_ap),
        vocoder_padding=coqui.generator.inference_padding,
        endpoint=endpoint(coqui),
        precisions=precisions,
        source=dict(provenance.source),
        licence=provenance.licence,
        hashes=dict(provenance.hashes),
        versions={p: importlib.metadata.version(p) for p in ("coqui-tts", "torch", "onnx")},
    )


def decoder_options(coqui: CoquiVoice) -> DecoderOptions:
    """Read the options from the loaded modules, in which Coqui has filled in its defaults."""
    decoder = coqui.model.decoder
    attention, prenet = decoder.attention, decoder.prenet
    return DecoderOptions(
        r=decoder.r,
        r_init=decoder.r_init,
        frame_channels=decoder.frame_channels,
        attention_norm=attention.norm,
        location_attn=bool(attention.location_attention),
        attention_win=bool(attention.windowing),
        use_forward_attn=bool(attention.forward_attn),
        transition_agent=bool(attention.trans_agent),
        forward_attn_mask=bool(attention.forward_attn_mask),
        prenet_type=prenet.prenet_type,
        prenet_dropout=bool(prenet.prenet_dropout and prenet.dropout_at_inference),
    )


def text_input(coqui: CoquiVoice) -> TextInput:
    """Describe the tokenizer as data."""
    model, config = coqui.model, coqui.synthesizer.tts_config
    tokenizer, characters = model.tokenizer, model.tokenizer.characters
    cleaner = config.text_cleaner
    names = model.language_manager.language_names
    language = names[0].split("-")[0] if len(names) == 1 else None
    if not supported(cleaner, language):
        raise UnsupportedVoice(f"text_cleaner {cleaner!r} is not supported for {language}")
    if tokenizer.add_blank and tokenizer.blank_id is None:
        raise UnsupportedVoice("add_blank is set, but there is no blank symbol")
    marked = tokenizer.use_eos_bos
    return TextInput(
        cleaner=cleaner,
        language=language,
        symbols=tuple(characters.vocab),
        blank_id=tokenizer.blank_id if tokenizer.add_blank else None,
        bos_id=characters.bos_id if marked else None,
        eos_id=characters.eos_id if marked else None,
    )


def mel_steps(model: Any, vocoder: Any) -> tuple[MelStep, ...]:
    """Describe `vocoder.normalize(model.denormalize(x))` of two audio processors as data.

    It is empty where both models work on the same, unnormalised mel frames.
    """
    steps = [s for s in (_denormalize(model), _normalize(vocoder)) if s is not None]
    return tuple(steps)


def _denormalize(ap: Any) -> MelStep | None:
    if not ap.signal_norm:
        return None
    if hasattr(ap, "mel_scaler"):
        return MelStep(
            scale=tuple(map(float, ap.mel_scaler.scale_)),
            offset=tuple(map(float, ap.mel_scaler.mean_)),
        )
    top, floor = float(ap.max_norm), float(ap.min_level_db)
    bottom = -top if ap.symmetric_norm else 0.0
    scale = -floor / (top - bottom)
    return MelStep(
        before=(bottom, top) if ap.clip_norm else None,
        scale=(scale,),
        offset=(-bottom * scale + floor + float(ap.ref_level_db),),
    )


def _normalize(ap: Any) -> MelStep | None:
    if not ap.signal_norm:
        return None
    if hasattr(ap, "mel_scaler"):
        scales = [1.0 / float(s) for s in ap.mel_scaler.scale_]
        return MelStep(
            scale=tuple(scales),
            offset=tuple(-float(m) * s for m, s in zip(ap.mel_scaler.mean_, scales, strict=True)),
        )
    top, floor = float(ap.max_norm), float(ap.min_level_db)
    bottom = -top if ap.symmetric_norm else 0.0
    scale = (top - bottom) / -floor
    return MelStep(
        scale=(scale,),
        offset=((-float(ap.ref_level_db) - floor) * scale + bottom,),
        after=(bottom, top) if ap.clip_norm else None,
    )


def endpoint(coqui: CoquiVoice) -> Endpoint | None:
    """Describe Coqui's `find_endpoint`, if the configuration uses it."""
    from TTS.utils.audio.numpy_transforms import db_to_amp

    if not coqui.synthesizer.tts_config.audio.get("do_trim_silence"):
        return None
    ap = coqui.model.ap
    window = int(ap.sample_rate * 0.8)
    threshold = float(db_to_amp(x=-ap.trim_db, gain=ap.spec_gain, base=ap.base))
    return Endpoint(window=window, hop=int(window / 4), threshold=threshold)


def _refuse_mismatch(coqui: CoquiVoice, hop: int) -> None:
    model, vocoder = coqui.model.ap, coqui.synthesizer.vocoder_ap
    if model.sample_rate != vocoder.sample_rate:
        raise UnsupportedVoice(
            f"the model's sample rate is {model.sample_rate}, the vocoder's {vocoder.sample_rate}"
        )
    if model.hop_length != hop:
        raise UnsupportedVoice(
            f"a mel frame is {model.hop_length} samples to the model, {hop} to the vocoder"
        )
    for extra in ("cond_layer", "conds", "lin_pre"):
        if hasattr(coqui.generator, extra):
            raise UnsupportedVoice(f"the vocoder has {extra}, which is not supported")
    if coqui.model.num_speakers > 1:
        raise UnsupportedVoice("several speakers are not supported")
