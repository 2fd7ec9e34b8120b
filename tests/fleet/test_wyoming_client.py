"""The `wyoming` package's own client against the running fleet: said, and heard as it was said."""

from __future__ import annotations

import asyncio

import pytest
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.tts import SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped

from deploy.local import free_ports
from deploy.local.words import words
from tests.fleet.conftest import StartFleet

pytestmark = pytest.mark.fleet

TEXT = "The library opens at eight in the morning. It closes at six in the evening."


def test_a_text_in_chunks_is_spoken_and_the_speech_is_transcribed(start_fleet: StartFleet) -> None:
    port = free_ports()["gateway"]
    start_fleet(GATEWAY_WYOMING_PORT=str(port))

    async def run() -> str:
        async with AsyncTcpClient("127.0.0.1", port, read_timeout=60) as client:
            chunks = await speak(client)
            form = {"rate": chunks[0].rate, "width": 2, "channels": 1}
            await client.write_event(AudioStart(**form).event())
            for chunk in chunks:
                await client.write_event(chunk.event())
            await client.write_event(AudioStop().event())
            while (event := await client.read_event()) is not None:
                if Transcript.is_type(event.type):
                    return Transcript.from_event(event).text
            raise AssertionError("the server closed the connection")

    async def speak(client: AsyncTcpClient) -> list[AudioChunk]:
        await client.write_event(SynthesizeStart().event())
        for word in TEXT.split(" "):
            await client.write_event(SynthesizeChunk(text=f"{word} ").event())
        await client.write_event(SynthesizeStop().event())
        chunks = []
        while (event := await client.read_event()) is not None:
            if AudioChunk.is_type(event.type):
                chunks.append(AudioChunk.from_event(event))
            if SynthesizeStopped.is_type(event.type):
                return chunks
        raise AssertionError("the server closed the connection")

    assert words(asyncio.run(run())) == words(TEXT)
