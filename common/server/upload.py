"""An uploaded file, as the body itself or as the field `file` of a form, up to a limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import BinaryIO

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from common.errors import BadRequest, EmptyAudio
from common.server.body import bounded

FIELD = "file"
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 16_384


@dataclass(frozen=True)
class Upload:
    """A file that is not empty, and what a form said beside it."""

    file: BinaryIO
    items: tuple[tuple[str, str], ...] = ()
    """Names and values in order; a name may come more than once."""

    @property
    def fields(self) -> dict[str, str]:
        """The items by their names. Raises `BadRequest` if one comes twice."""
        fields: dict[str, str] = {}
        for name, value in self.items:
            if name in fields:
                raise BadRequest(f"{name}: this field comes twice.")
            fields[name] = value
        return fields


@asynccontextmanager
async def uploaded(request: Request, *, limit_bytes: int) -> AsyncIterator[Upload]:
    """The file that `request` brings, open as long as the block runs; its body has been read.

    Raises `BadRequest`, `EmptyAudio`, and as `common.server.body.bounded` does.
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
