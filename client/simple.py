"""The simple mode of `/ws/tts`, which any server of the contract speaks: text, audio, `end`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from client import address
from client.connection import Connection
from client.errors import BrokenOff
from client.iteration import IteratedOnce
from common.audio.pcm import BYTES_PER_SAMPLE

CONNECT_TIMEOUT_S = 5.0


class SimpleSpeech(IteratedOnce[bytes]):
    """Iterate for its PCM, s16le mono, which ends only when the server said that it is whole.

    Raises `Refused` if an error comes before any audio, else `BrokenOff`.
    """

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    @property
    def sample_rate_hz(self) -> int | None:
        """The rate, where the server names it (`X-Sample-Rate` in its handshake)."""
        named = self._connection.headers.get("X-Sample-Rate", "")
        return int(named) if named.isdigit() else None

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        connection = self._connection
        while True:
            frame = await connection.receive(self._timeout_s)
            if isinstance(frame, bytes):
                if len(frame) % BYTES_PER_SAMPLE:
                    raise BrokenOff("The server sent half a sample; the rest is not to be trusted.")
                connection.has_delivered = True
                yield frame
            elif frame["type"] == "error":
                raise connection.refusal(frame)
            elif frame["type"] != "end":
                said = str(frame)[:80]
                raise BrokenOff(f"The server sent something that is not of the protocol: {said}.")
            elif not connection.has_delivered:
                raise BrokenOff("The server sent no audio at all.")
            else:
                return


@asynccontextmanager
async def simple_speech(text: str, uri: str, timeout_s: float) -> AsyncIterator[SimpleSpeech]:
    """Have `text` spoken. `timeout_s` is for each wait for audio.

    Raises `BadInput`, `ServerAway` or `Refused`; leaving early stops the work on the server.
    """
    connection = await Connection.open(
        uri, what="speech", headers=address.key_header(), timeout_s=CONNECT_TIMEOUT_S
    )
    try:
        await connection.send({"text": text})
        yield SimpleSpeech(connection, timeout_s)
    finally:
        await connection.close()
