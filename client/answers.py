"""HTTP answers of the server: its refusals in its own words, its failures under our names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from client import address
from client.errors import BadInput, BrokenOff, Lost, Refused, ServerAway, refused


@dataclass(frozen=True)
class Question:
    """A body of bytes that is posted to `path`."""

    path: str
    content: bytes
    query: dict[str, str | int]


class Answer:
    """An answer that has begun with 200 OK. Reading it raises `BrokenOff` unless it is whole."""

    def __init__(self, response: httpx.Response, url: str) -> None:
        self._response = response
        self._url = url

    def header(self, name: str) -> str:
        """A header's value, or nothing."""
        return str(self._response.headers.get(name, ""))

    async def read(self) -> bytes:
        with _failures_named(self._url):
            return await self._response.aread()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, cut anywhere."""
        with _failures_named(self._url):
            async for chunk in self._response.aiter_raw():
                yield chunk

    async def lines(self) -> AsyncIterator[str]:
        """The body line by line, as it comes."""
        with _failures_named(self._url):
            async for line in self._response.aiter_lines():
                yield line


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> Refused:
    """The error that an answer other than 200 stands for."""
    request_id = headers.get("X-Request-ID", "")
    try:
        error: Any = json.loads(body)["error"]
        sentence, code = str(error["message"]), str(error["code"])
    except (ValueError, KeyError, TypeError):
        # Not in our shape: a proxy on the way, or some other server.
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "unknown status"
        sentence, code = f"It answered {status} ({phrase}).", ""
    advice = headers.get("Retry-After", "")
    retry_after_s = float(advice) if advice.isdigit() else None
    return refused(sentence, code=code, request_id=request_id, retry_after_s=retry_after_s)


@asynccontextmanager
async def post(
    http: httpx.AsyncClient, url: str, asked: Question, accept: str = "*/*"
) -> AsyncIterator[Answer]:
    """Ask the server at `url`; yields the answer, to be read as it comes.

    Raises `BadInput`, `ServerAway`, `Refused`, or `BrokenOff` if the answer does not begin.
    """
    async with AsyncExitStack() as stack:
        with _failures_named(url):
            asking = http.stream(
                "POST",
                url + asked.path,
                params=asked.query,
                content=asked.content,
                headers={"Content-Type": "application/octet-stream", "Accept": accept},
            )
            response = await stack.enter_async_context(asking)
            if response.status_code != HTTPStatus.OK:
                body = await response.aread()
                raise refusal(response.status_code, body, response.headers)
        yield Answer(response, url)


@contextmanager
def _failures_named(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise BadInput(f"{url!r} is not an address like http://localhost:8000: {error}") from None
    except httpx.ConnectTimeout as error:
        raise ServerAway(f"{url} did not answer within {_timeout_s(error, 'connect')} s.") from None
    except httpx.ConnectError as error:
        why = address.deepest_reason(error)
        raise ServerAway(f"There is no server at {url}: {why}. Is the fleet running?") from None
    except httpx.TimeoutException as error:
        raise BrokenOff(f"The server sent nothing for {_timeout_s(error, 'read')} s.") from None
    except httpx.TransportError as error:
        raise Lost(f"The connection broke off before the answer was whole: {error}.") from None


def _timeout_s(error: httpx.TimeoutException, of: str) -> str:
    return f"{error.request.extensions['timeout'][of]:g}"
