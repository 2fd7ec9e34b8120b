"""What `describe` is answered: the voice and the recognizer that are loaded now."""

from __future__ import annotations

from wyoming.info import AsrModel, AsrProgram, Attribution, Info, TtsProgram, TtsVoice

from common import __version__
from common.catalogue import LoadedModel, LoadedVoice
from common.errors import SpeechError
from common.logger import get_logger
from gateway.app.catalogue import Catalogue
from gateway.app.upstreams import UpstreamAnswer

log = get_logger(__name__)

PROGRAM = "speech-fleet"
_ATTRIBUTION = Attribution(name=PROGRAM, url="")


async def describe(catalogue: Catalogue) -> Info:
    """A service that is away is left out: the other can still be used."""
    tts: list[TtsProgram] = []
    asr: list[AsrProgram] = []
    try:
        tts.append(_tts(await catalogue.voice()))
    except (SpeechError, UpstreamAnswer) as error:
        log.warning("wyoming.left_out", service="tts", code=error.code)
    try:
        asr.append(_asr(await catalogue.recognizer()))
    except (SpeechError, UpstreamAnswer) as error:
        log.warning("wyoming.left_out", service="asr", code=error.code)
    return Info(tts=tts, asr=asr)


def _tts(voice: LoadedVoice) -> TtsProgram:
    loaded = TtsVoice(
        name=voice.name,
        attribution=_ATTRIBUTION,
        installed=True,
        description=voice.name,
        version=None,
        languages=voice.languages,
    )
    return TtsProgram(
        name=PROGRAM,
        attribution=_ATTRIBUTION,
        installed=True,
        description="Self-hosted speech",
        version=__version__,
        voices=[loaded],
        supports_synthesize_streaming=True,
    )


def _asr(model: LoadedModel) -> AsrProgram:
    loaded = AsrModel(
        name=model.name,
        attribution=_ATTRIBUTION,
        installed=True,
        description=model.name,
        version=None,
        languages=model.languages,
    )
    return AsrProgram(
        name=PROGRAM,
        attribution=_ATTRIBUTION,
        installed=True,
        description="Self-hosted recognition",
        version=__version__,
        models=[loaded],
        supports_transcript_streaming=True,
    )
