"""`/ws/stt`: one accepted WebSocket, from its `start` to its `end`.

One task reads the socket into a `FrameQueue`, and stops while that holds `MAX_BACKLOG_MS` of audio,
which slows down the client. One task takes from the queue and sends, so that all messages are in
the order of the stream. Others watch for a client that does not read, for the longest time of a
session and for the draining of the server. A session that ends from our side ends as if the client
had sent `finish`, with its last final and `end`, and then the close code 1001.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace

import anyio
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from asr_service.app.batching import Recognition, release
from asr_service.app.engine import RecognitionOptions
from asr_service.app.live.agreement import TimedWord
from asr_service.app.live.frames import AudioFramer, FrameQueue, VadFrame, WebSocketFrame
from asr_service.app.live.transcriber import DecodeRequest, Kind, StreamTranscriber
from asr_service.app.service import RecognitionService
from common.errors import BadRequest
from common.logger import get_logger, text_field
from common.protocol.live import (
    ListenCommand,
    ListenEnd,
    ListenEvent,
    ListenLimits,
    ListenReady,
    ListenStart,
)
from common.protocol.messages import (
    GOING_AWAY,
    NORMAL,
    SessionAudio,
    parse_command,
    parse_json_object,
    parse_start,
)
from common.protocol.session import GoAway
from common.server.error_boundary import error_boundary
from common.server.request_log import adopt, current_request_id
from common.server.websocket import WebSocketSender, close

log = get_logger(__name__)

MAX_BACKLOG_MS = 2000
"""The most audio that was read from the socket and is not processed yet."""
DRAIN_SHARE = 0.8
"""The share of the drain time after which a session is ended, to leave time for its last final."""
PARTIAL_BEAM_SIZE = 1
"""A partial is shown for a moment: early is better than best."""
UPDATE_SHARE = 0.5
"""The share of its time that a stream may spend on partials: if they take longer, there are fewer.
"""


class LiveSession:
    """Serves one socket. Run it once."""

    def __init__(self, websocket: WebSocket, service: RecognitionService) -> None:
        self._websocket = websocket
        self._service = service
        self._settings = service.settings
        self._client = WebSocketSender(websocket, service.settings.idle_timeout_s)
        self._queue = FrameQueue()
        self._end_reason: str | None = None
        """Why the session ends from our side."""
        self._is_ready = False

    async def run(self) -> None:
        """Serve until the stream is finished, the client disconnects, or an error occurs."""
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                await self._read()
                tasks.cancel_scope.cancel()

            async def watch() -> None:
                await self._client.watch()
                tasks.cancel_scope.cancel()

            tasks.start_soon(read)
            tasks.start_soon(watch)
            tasks.start_soon(self._end_at_length_limit)
            tasks.start_soon(self._end_when_draining)
            await self._serve()
            tasks.cancel_scope.cancel()

    async def _read(self) -> None:
        """Put what comes into the queue; return when the client disconnects."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                log.debug("session.disconnected", close_code=message.get("code"))
                return
            data = message.get("bytes")
            await self._queue.put(message["text"] if data is None else data)

    async def _serve(self) -> None:
        async with error_boundary(self._websocket, session=True):
            start = await self._negotiate()
            if start is not None:
                with self._service.lifecycle.work():
                    await self._transcribe(start)
            reason = self._end_reason
            await close(self._websocket, NORMAL if reason is None else GOING_AWAY, reason or "")

    async def _negotiate(self) -> ListenStart | None:
        """Return the first message, answered by `ready`; None if the session ends before."""
        frame = await self._next_frame(None)
        if frame is None:
            return None
        if isinstance(frame, bytes):
            raise BadRequest('A session begins with a message of the type "start", not with audio.')
        value = parse_json_object(frame)
        start = parse_start(ListenStart, value)
        self._service.check_language(start.language)
        if start.request_id is not None:
            adopt(start.request_id)
        self._service.lifecycle.check()
        audio = audio_of(start)
        self._queue.limit_bytes = MAX_BACKLOG_MS * audio.sample_rate // 1000 * audio.bytes_per_frame
        settings = self._settings
        await self._client.send(
            ListenReady(
                session_id=uuid.uuid4().hex,
                request_id=current_request_id(),
                model=settings.asr_model,
                audio=audio,
                limits=ListenLimits(
                    max_message_bytes=settings.max_message_bytes,
                    max_utterance_ms=round(settings.asr_live_max_utterance_s * 1000),
                    max_backlog_ms=MAX_BACKLOG_MS,
                    max_session_s=settings.max_session_s,
                    idle_timeout_s=settings.idle_timeout_s,
                ),
                ignored=ListenStart.unknown(value),
            )
        )
        self._is_ready = True
        return start

    async def _transcribe(self, start: ListenStart) -> None:
        stream = _Stream(self._service, start, self._queue, self._client)
        try:
            while (frame := await self._next_frame(stream)) is not None:
                if isinstance(frame, bytes):
                    await stream.push(frame)
                elif await self._handle_command(frame, stream):
                    break
            end, left_bytes = await stream.finish()
            if self._queue.audio_bytes and self._end_reason is None:
                await self._client.send_error(BadRequest("Audio after finish was not listened to."))
            if left_bytes:
                message = (
                    f"The audio ended within a sample; its last {left_bytes} byte(s) were left out."
                )
                await self._client.send_error(BadRequest(message))
            await self._client.send(end)
        finally:
            await stream.release()
        self._log_end(end)

    async def _handle_command(self, text: str, stream: _Stream) -> bool:
        """Do what a message says; return whether it was the last one."""
        value = parse_json_object(text)
        try:
            command = parse_command(ListenCommand, value)
        except BadRequest as error:
            await self._client.send_error(error)
            return False
        if command.type == "finalize":
            await stream.finalize()
        return command.type == "finish"

    async def _next_frame(self, stream: _Stream | None) -> WebSocketFrame | None:
        """Return the next frame; None if the session ends. Send what is decoded meanwhile."""
        idle_s = self._settings.idle_timeout_s
        idle_at = anyio.current_time() + idle_s
        while self._end_reason is None:
            if stream is not None and stream.decoded:
                await stream.apply_decoded()
                continue
            frame = self._queue.take()
            if frame is not None:
                return frame
            with anyio.CancelScope(deadline=idle_at) as waiting:
                await self._queue.wait()
            if waiting.cancelled_caught:
                self._end(f"idle for {idle_s:g} s")
        return None

    async def _end_at_length_limit(self) -> None:
        await anyio.sleep(self._settings.max_session_s)
        self._end("session length limit")

    async def _end_when_draining(self) -> None:
        """Send `goaway` when the server drains; end the session if the client does not in time."""
        await self._service.lifecycle.draining.wait()
        drain_s = self._service.lifecycle.drain_remaining_s * DRAIN_SHARE
        if self._is_ready:
            try:
                await self._client.send(GoAway(deadline_ms=round(drain_s * 1000)))
            except WebSocketDisconnect:
                return
            await anyio.sleep(drain_s)
        self._end("the server is leaving")

    def _end(self, reason: str) -> None:
        self._end_reason = reason
        self._queue.wake()

    def _log_end(self, end: ListenEnd) -> None:
        log.info(
            "live.done",
            audio_ms=end.audio_ms,
            segments=len(end.segments),
            end_reason=self._end_reason or "finish",
            **text_field(self._settings, end.text),
        )


class _Stream:
    """Feeds a `StreamTranscriber`, has its requests decoded, and sends its events in order."""

    def __init__(
        self,
        service: RecognitionService,
        start: ListenStart,
        queue: FrameQueue,
        client: WebSocketSender,
    ) -> None:
        settings = service.settings
        self._service = service
        self._audio = audio_of(start)
        self._queue = queue
        self._client = client
        self._framer: AudioFramer | None = None
        self._update_ms = self._interval_ms = settings.asr_live_update_ms
        self._transcriber = StreamTranscriber(
            endpoint_ms=start.endpoint_ms,
            partials=start.partials,
            max_utterance_ms=round(settings.asr_live_max_utterance_s * 1000),
        )
        options = RecognitionOptions(
            language=start.language, beam_size=settings.asr_beam_size, words=True, vad=False
        )
        self._decoder = _Decoder(service, options, on_decoded=queue.wake)

    @property
    def decoded(self) -> bool:
        """Whether there is something for `apply_decoded`."""
        return self._decoder.decoded

    async def push(self, data: bytes) -> None:
        """Take the next bytes of the stream. Raises `RecognitionFailed`."""

        def frames() -> list[VadFrame]:
            if self._framer is None:
                self._framer = AudioFramer(self._audio, self._service.new_voice_activity())
            return list(self._framer.push(data))

        await self._push(await self._service.run_vad(frames))

    async def finalize(self) -> None:
        """Make the speech so far final."""
        await self._send(self._transcriber.finalize())
        await self._decode_requests()

    async def finish(self) -> tuple[ListenEnd, int]:
        """End the stream; return its transcript, and the bytes that were left of a sample."""
        left_bytes = 0
        if (framer := self._framer) is not None:
            left_bytes = framer.partial_sample_bytes
            await self._push(await self._service.run_vad(lambda: list(framer.flush())))
        await self._send(self._transcriber.finish(self._audio_ms))
        await self._decode_requests()
        return self._transcriber.end(), left_bytes

    async def apply_decoded(self) -> None:
        """Wait for the request that is being decoded, and send what comes of it."""
        request, words, took_ms = await self._decoder.result()
        if request.kind == "partial":
            self._interval_ms = max(self._update_ms, round(took_ms / UPDATE_SHARE))
        bytes_per_second = self._audio.bytes_per_frame * self._audio.sample_rate
        queued_ms = self._queue.audio_bytes * 1000 // bytes_per_second
        await self._send(self._transcriber.apply(request, words, self._audio_ms + queued_ms))

    async def release(self) -> None:
        """Cancel what is being decoded, and return when no worker works on it."""
        await self._decoder.release()

    @property
    def _audio_ms(self) -> int:
        return 0 if self._framer is None else self._framer.audio_ms

    async def _push(self, frames: Iterable[VadFrame]) -> None:
        for frame in frames:
            await self._send(self._transcriber.push(frame.samples, frame.probability))
            await self._decode_requests()

    async def _decode_requests(self) -> None:
        while True:
            request = self._transcriber.next_request(self._interval_ms, self._decoder.kind)
            if request is not None:
                self._decoder.start(request)
            if not self._transcriber.blocked:
                return
            await self.apply_decoded()

    async def _send(self, events: Iterable[ListenEvent]) -> None:
        for event in events:
            await self._client.send(event)


class _Decoder:
    """Has the requests of one stream decoded, one at a time: a newer one cancels the one before."""

    def __init__(
        self,
        service: RecognitionService,
        options: RecognitionOptions,
        on_decoded: Callable[[], None],
    ) -> None:
        self._service = service
        self._options = options
        self._on_decoded = on_decoded
        self._request: DecodeRequest | None = None
        self._recognition: Recognition | None = None
        self._cancelled: list[Recognition] = []
        self._started_at = -math.inf

    @property
    def kind(self) -> Kind | None:
        """The kind of the request that is being decoded, or whose result was not taken yet."""
        return None if self._request is None else self._request.kind

    @property
    def decoded(self) -> bool:
        """Whether `result` returns at once."""
        return self._recognition is not None and self._recognition.ended

    def start(self, request: DecodeRequest) -> None:
        """Decode `request` instead of what is being decoded."""
        self._cancel()
        options = self._options
        if request.kind == "partial":
            options = replace(options, beam_size=PARTIAL_BEAM_SIZE)
        self._request, self._started_at = request, time.monotonic()
        self._recognition = self._service.workers.submit(
            lambda _: request.samples, options, self._on_decoded
        )

    async def result(self) -> tuple[DecodeRequest, list[TimedWord], float]:
        """Wait for the result; return it with how many ms it took. Raises what decoding raises."""
        assert self._request is not None
        assert self._recognition is not None
        segments = [segment async for segment in self._recognition]
        request, self._request, self._recognition = self._request, None, None
        return request, request.words(segments), (time.monotonic() - self._started_at) * 1000

    async def release(self) -> None:
        """Cancel what is being decoded, and return when no worker works on it."""
        self._cancel()
        await release(*self._cancelled)

    def _cancel(self) -> None:
        self._cancelled = [r for r in self._cancelled if not r.ended]
        if self._recognition is not None:
            self._recognition.cancel()
            self._cancelled.append(self._recognition)
        self._request = self._recognition = None


def audio_of(start: ListenStart) -> SessionAudio:
    """Return the format of the stream's binary WebSocket frames."""
    return SessionAudio(
        encoding=start.encoding, sample_rate=start.sample_rate, channels=start.channels
    )
