"""HTTP answers of the server: its refusals in its own words, its failures under our names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from typing import Any

import httpx

from client import address
from client.errors import BadInput, BrokenOff, Refused, ServerAway

CONNECT_TIMEOUT_S = 5.0


class Answer:
    """An answer that has begun with 200 OK. Reading it raises `BrokenOff` unless it is whole."""

    def __init__(self, response: httpx.Response, url: str, timeout_s: float) -> None:
        self._response = response
        self._url = url
        self._timeout_s = timeout_s

    def header(self, name: str) -> str:
        """A header's value, or nothing."""
        return str(self._response.headers.get(name, ""))

    def read(self) -> bytes:
        with _failures_named(self._url, self._timeout_s):
            return self._response.read()

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, cut anywhere."""
        with _failures_named(self._url, self._timeout_s):
            yield from self._response.iter_raw()

    def lines(self) -> Iterator[str]:
        """The body line by line, as it comes."""
        with _failures_named(self._url, self._timeout_s):
            yield from self._response.iter_lines()


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> Refused:
    """The error that an answer other than 200 stands for."""
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
    return Refused(sentence, code=code, retry_after_s=headers.get("Retry-After", ""))


@contextmanager
def post(
    url: str,
    path: str,
    *,
    content: bytes,
    query: Mapping[str, str | int],
    timeout_s: float,
    accept: str = "*/*",
) -> Iterator[Answer]:
    """POST audio to `url` + `path`; yields the answer to be read as it comes.

    `timeout_s` is for each wait for the server. Raises `BadInput`, `ServerAway`, `Refused`, or
    `BrokenOff` if the answer does not begin.
    """
    base = address.check(url, "http", "https")
    timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
    with ExitStack() as stack:
        with _failures_named(url, timeout_s):
            http = stack.enter_context(
                httpx.Client(timeout=timeout, trust_env=not address.is_on_this_machine(base))
            )
            response = stack.enter_context(
                http.stream(
                    "POST",
                    base + path,
                    params=dict(query),
                    content=content,
                    headers={
                        "Content-Type": "application/octet-stream",
                        "Accept": accept,
                        **address.key_header(),
                    },
                )
            )
            if response.status_code != HTTPStatus.OK:
                raise refusal(response.status_code, response.read(), response.headers)
        yield Answer(response, url, timeout_s)


@contextmanager
def _failures_named(url: str, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise BadInput(f"{url!r} is not an address like http://localhost:8000: {error}") from None
    except httpx.ConnectTimeout:
        raise ServerAway(f"{url} did not answer within {CONNECT_TIMEOUT_S:g} s.") from None
    except httpx.ConnectError as error:
        why = _deepest_reason(error)
        raise ServerAway(f"There is no server at {url}: {why}. Is the fleet running?") from None
    except httpx.TimeoutException:
        raise BrokenOff(f"The server sent nothing for {timeout_s:g} s.") from None
    except httpx.TransportError as error:
        raise BrokenOff(f"The connection broke off before the answer was whole: {error}.") from None


def _deepest_reason(error: BaseException) -> str:
    """What the operating system said, which the libraries above it wrap several times."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error)
