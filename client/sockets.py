"""WebSockets to the server, opened as all programs open them."""

from __future__ import annotations

from contextlib import ExitStack

from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from client import address
from client.answers import refusal
from client.errors import BadInput, ServerAway

CONNECT_TIMEOUT_S = 5.0


def open_socket(
    uri: str, stack: ExitStack, *, like: str, pong_timeout_s: float | None = 20
) -> ClientConnection:
    """A connection that `stack` closes. `like` is an example of an address.

    `pong_timeout_s` is None where pongs may be late because the server reads no faster.

    Raises `BadInput`, `ServerAway` or `Refused`.
    """
    address.check(uri, "ws", "wss")
    try:
        return stack.enter_context(
            connect(
                uri,
                compression=None,
                proxy=None if address.is_on_this_machine(uri) else True,
                open_timeout=CONNECT_TIMEOUT_S,
                close_timeout=1,
                ping_timeout=pong_timeout_s,
                max_size=None,
            )
        )
    except InvalidURI as error:
        raise BadInput(f"{uri!r} is not an address like {like}: {error}.") from None
    except InvalidStatus as refused:
        answer = refused.response
        raise refusal(answer.status_code, bytes(answer.body or b""), answer.headers) from None
    except InvalidHandshake as error:
        raise ServerAway(f"What answers at {uri} does not speak WebSocket: {error}.") from None
    except TimeoutError:
        raise ServerAway(f"{uri} did not answer within {CONNECT_TIMEOUT_S:g} s.") from None
    except OSError as error:
        why = error.strerror or error
        raise ServerAway(f"There is no server at {uri}: {why}. Is the fleet running?") from None
