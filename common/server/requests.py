"""Reads what a request sends: its body or its upload, each up to a limit, and its disconnect."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import Any, BinaryIO, TypeVar

import anyio
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from common.errors import BadRequest, EmptyAudio, TooLarge

T = TypeVar("T")

LINGER_S = 1.0
LINGER_BYTES = 32 * 1024 * 1024


async def bounded(
    request: Request, *, limit_bytes: int, limit_in_words: str
) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes.

    Raises `TooLarge` as soon as more than `limit_bytes` are announced or have come, and
    `starlette.requests.ClientDisconnect` if the client leaves before its end.
    """
    refusal = TooLarge(f"The body is over the limit of {limit_in_words}.")
    announced = request.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise refusal
    left = limit_bytes
    async for chunk in request.stream():
        left -= len(chunk)
        if left < 0:
            raise refusal
        yield chunk


async def read_body(request: Request, *, limit_bytes: int, limit_in_words: str) -> bytearray:
    """Return the whole body. Raises as `bounded` does."""
    body = bytearray()
    async for chunk in bounded(request, limit_bytes=limit_bytes, limit_in_words=limit_in_words):
        body += chunk
    return body


class LingeringResponse(JSONResponse):
    """Answers while the client may still be sending, and closes.

    Most clients read only when they have sent, and a close with bytes unread discards the answer on
    its way to them: so the answer is sent first, then what still comes is thrown away, for
    `LINGER_S` or `LINGER_BYTES` at most.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["Connection"] = "close"
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with anyio.move_on_after(LINGER_S):
            left = LINGER_BYTES
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
        await send({"type": "http.response.body", "body": b"", "more_body": False})


FIELD = "file"
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 16_384


@dataclass(frozen=True)
class Upload:
    """A file that is not empty, and the other fields of its form."""

    file: BinaryIO
    items: tuple[tuple[str, str], ...] = ()
    """Names and values of the form in order; a name may come more than once."""

    @property
    def fields(self) -> dict[str, str]:
        """Return the items by their names. Raises `BadRequest` if one comes twice."""
        fields: dict[str, str] = {}
        for name, value in self.items:
            if name in fields:
                raise BadRequest(f"{name}: this field comes twice.")
            fields[name] = value
        return fields


@asynccontextmanager
async def uploaded(request: Request, *, limit_bytes: int) -> AsyncIterator[Upload]:
    """Read the file that `request` brings, and keep it open as long as the block runs.

    Raises `BadRequest`, `EmptyAudio`, and as `common.server.requests.bounded` does.
    """
    body = bounded(request, limit_bytes=limit_bytes, limit_in_words=f"{limit_bytes} bytes")
    async with aclosing(body):
        with ExitStack() as held:
            if request.headers.get("Content-Type", "").lower().startswith("multipart/form-data"):
                items = await _form(request, body, limit_bytes)
                for _, value in items:
                    if isinstance(value, UploadFile):
                        held.callback(value.file.close)
                upload = _of_form(items)
            else:
                upload = Upload(held.enter_context(BytesIO()))
                async for chunk in body:
                    upload.file.write(chunk)
            upload.file.seek(0, SEEK_END)
            if not upload.file.tell():
                raise EmptyAudio("The file is empty.")
            upload.file.seek(0)
            yield upload


async def _form(
    request: Request, body: AsyncGenerator[bytes, None], limit_bytes: int
) -> list[tuple[str, UploadFile | str]]:
    parser = MultiPartParser(
        request.headers, body, max_files=2, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
    )
    parser.spool_max_size = limit_bytes  # nothing is written to the disk
    try:
        return (await parser.parse()).multi_items()
    except MultiPartException as error:
        # Most clients read only when they have sent all of it.
        async for _ in body:
            pass
        raise BadRequest(f"The form cannot be read: {error.message}") from None


def _of_form(items: list[tuple[str, UploadFile | str]]) -> Upload:
    files: list[BinaryIO] = []
    fields: list[tuple[str, str]] = []
    for name, value in items:
        if isinstance(value, str):
            if name == FIELD:
                raise BadRequest(f"{FIELD}: this field is to be a file, with a file name.")
            fields.append((name, value))
        elif name != FIELD:
            raise BadRequest(f"{name}: the file is to be in the field {FIELD!r}.")
        else:
            files.append(value.file)
    if len(files) != 1:
        raise BadRequest(f"{FIELD}: the form is to have one file in this field, not {len(files)}.")
    return Upload(files[0], tuple(fields))


async def until_disconnect(receive: Receive) -> None:
    """Return when the client of an HTTP request has gone (its body must have been read)."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, or cancel it and raise `ClientDisconnect` when the client goes first.

    The request's body must have been read before: the only thing that may still come is the
    disconnect.
    """
    failure: Exception = ClientDisconnect()
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await until_disconnect(request.receive)
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        try:
            return await work
        except Exception as error:  # noqa: BLE001 - raised below; the group would wrap it
            failure = error
        finally:
            tasks.cancel_scope.cancel()
    raise failure
