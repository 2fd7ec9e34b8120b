"""Speech for a Wyoming client: a session of `/ws/tts`, spoken while its text still comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
from wyoming.audio import AudioChunk, AudioStart, AudioStop

from common.audio.pcm import BYTES_PER_SAMPLE
from common.protocol.session import Finish, Ready, SendText, Start
from common.server.tasks import until_first
from common.wire.errors import ConnectionEnded, ErrorAnswer
from gateway.app.upstreams.services import Services
from gateway.app.upstreams.socket import UpstreamSocket
from gateway.app.wyoming.peer import Peer

_ID = "1"
_MONO = 1


async def speak(services: Services, peer: Peer, texts: AsyncGenerator[str, None]) -> None:
    """Speak one utterance of which `texts` are the parts; its audio is sent as it is synthesized.

    Raises `ErrorAnswer` if the session refuses the text or fails on it, `Disconnected`, what
    `texts` raises, and as `Services.admitted` and `Upstream` do.
    """
    async with services.admitted(), services.tts.websocket("/ws/tts") as upstream:
        timeout_s = services.settings.gateway_first_byte_timeout_s
        ready = await upstream.start_session(Start(type="start"), Ready, timeout_s=timeout_s)
        await until_first(
            _relay_audio(upstream, ready.audio.sample_rate, peer),
            _send_text(upstream, texts),
            upstream.watch(),
        )


async def _send_text(upstream: UpstreamSocket, texts: AsyncGenerator[str, None]) -> None:
    async with aclosing(texts):
        async for text in texts:
            await upstream.send_while_open(
                SendText(type="text", id=_ID, text=text).model_dump_json()
            )
    await upstream.send_while_open(Finish(type="finish", id=_ID).model_dump_json())
    await anyio.sleep_forever()


async def _relay_audio(upstream: UpstreamSocket, sample_rate_hz: int, peer: Peer) -> None:
    """Send the utterance's audio, from the first frame to its `end`."""
    audio_format = {"rate": sample_rate_hz, "width": BYTES_PER_SAMPLE, "channels": _MONO}
    has_begun = False
    while True:
        try:
            frame = await upstream.receive()
        except ConnectionEnded as ended:
            raise upstream.ending(ended, in_flight=True) from None
        if isinstance(frame, bytes):
            if not has_begun:
                await peer.write(AudioStart(**audio_format))
                has_begun = True
            await peer.write(AudioChunk(audio=frame, **audio_format))
            continue
        message = upstream.parse(frame)
        if message["type"] == "error":
            raise ErrorAnswer.of_frame(message)
        if message["type"] == "end":
            await peer.write(AudioStop())
            return
