"""HTTP answers of the server: its refusals in its own words, its failures under our names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx

from client import address
from client.errors import BadInput, BrokenOff, Refused, ServerAway

CONNECT_TIMEOUT_S = 5.0


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


def _deepest_reason(error: BaseException) -> str:
    """What the operating system said, which the libraries above it wrap several times."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error)


@contextmanager
def post(
    url: str, path: str, *, content: bytes, query: Mapping[str, str | int], timeout_s: float
) -> Iterator[httpx.Response]:
    """POST raw PCM to `url` + `path`; yields the answer to be read as it comes.

    `timeout_s` is for each wait for the server. Raises `BadInput`, `ServerAway`, `Refused`, or
    `BrokenOff` if the answer does not come to its end.
    """
    base = address.check(url, "http", "https")
    timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
    trust_env = not address.is_on_this_machine(base)
    try:
        with (
            httpx.Client(timeout=timeout, trust_env=trust_env) as http,
            http.stream(
                "POST",
                base + path,
                params=dict(query),
                content=content,
                headers={"Content-Type": "application/octet-stream"},
            ) as answer,
        ):
            if answer.status_code != HTTPStatus.OK:
                raise refusal(answer.status_code, answer.read(), answer.headers)
            yield answer
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
        raise BrokenOff(f"The connection broke off before the answer was whole: {error}") from None
