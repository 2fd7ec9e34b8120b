"""`livekit_round_trip.py URL TEXT` has LiveKit's OpenAI plugin speak a text and recognize it.

`test_round_trips.py` runs it in an environment of its own. It prints a transcript for each pair of
models: the plugin's defaults, streamed as events, and the older ones.
"""

from __future__ import annotations

import asyncio
import sys

from livekit.plugins import openai

MODELS = (("gpt-4o-mini-tts", "gpt-4o-mini-transcribe"), ("tts-1", "whisper-1"))


async def main(url: str, text: str) -> None:
    for speaks, hears in MODELS:
        voice = openai.TTS(model=speaks, base_url=url, api_key="any")
        ears = openai.STT(model=hears, base_url=url, api_key="any")
        spoken = await voice.synthesize(text).collect()
        heard = await ears.recognize(spoken)
        print(heard.alternatives[0].text)
        await voice.aclose()
        await ears.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
