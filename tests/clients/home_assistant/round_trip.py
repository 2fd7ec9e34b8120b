"""Home Assistant finds the fleet by Wyoming, has it speak a text and recognizes the speech.

`test_home_assistant.py` runs this in its own environment, which has Home Assistant's fixtures;
`WYOMING_PORT` and `TEXT` name the port and the text. Nothing of the fleet is imported.
"""

from __future__ import annotations

import os
import wave
from collections.abc import AsyncIterator
from io import BytesIO

from homeassistant.components import stt, tts
from homeassistant.config_entries import SOURCE_USER
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.setup import async_setup_component

CHUNK_BYTES = 2048


async def test_what_it_has_spoken_it_hears(hass: HomeAssistant, socket_enabled: None) -> None:
    assert await async_setup_component(hass, "homeassistant", {})

    # As somebody who adds the integration by its form.
    form = await hass.config_entries.flow.async_init("wyoming", context={"source": SOURCE_USER})
    typed = {"host": "127.0.0.1", "port": int(os.environ["WYOMING_PORT"])}
    added = await hass.config_entries.flow.async_configure(form["flow_id"], typed)
    assert added["type"] is FlowResultType.CREATE_ENTRY, added
    await hass.async_block_till_done()
    (voice_id,) = hass.states.async_entity_ids("tts")
    (ears_id,) = hass.states.async_entity_ids("stt")

    voice = hass.data["tts"].get_entity(voice_id)
    options = {tts.ATTR_PREFERRED_FORMAT: "wav"}
    kind, spoken = await voice.async_get_tts_audio(
        os.environ["TEXT"], voice.default_language, options
    )
    assert kind == "wav"
    with wave.open(BytesIO(spoken)) as file:
        pcm = file.readframes(file.getnframes())
        heard_as = stt.SpeechMetadata(
            language=voice.default_language,
            format=stt.AudioFormats.WAV,
            codec=stt.AudioCodecs.PCM,
            bit_rate=stt.AudioBitRates(8 * file.getsampwidth()),
            sample_rate=stt.AudioSampleRates(file.getframerate()),
            channel=stt.AudioChannels(file.getnchannels()),
        )

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(pcm), CHUNK_BYTES):
            yield pcm[start : start + CHUNK_BYTES]

    ears = stt.async_get_speech_to_text_engine(hass, ears_id)
    heard = await ears.internal_async_process_audio_stream(heard_as, chunks())
    assert heard.result is stt.SpeechResultState.SUCCESS
    print("heard:", heard.text)
    assert await hass.config_entries.async_unload(added["result"].entry_id)
