"""The replicas of one service: all addresses behind its name, and which of them to ask next.

Every `PROBE_EVERY_S` the name is resolved anew and each replica is asked whether it is ready. A
replica that fails or hangs during a request is ejected at once, and comes back when a later probe
finds it ready: no request is spent on finding that out.
"""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio

from common.logger import get_logger

log = get_logger(__name__)

PROBE_EVERY_S = 2.0
RESOLVE_TIMEOUT_S = 2.0

READY = "ready"
UNREACHABLE = "unreachable"
_MOST_AVAILABLE_FIRST = (READY, "loading", "draining")
"""Of several states, the first that any replica is in is the service's."""


@dataclass(eq=False)
class Replica:
    """One address, with what this gateway knows of it."""

    host: str
    port: int
    state: str = READY
    """What its `/readyz` answered last; a new replica counts as ready until it says otherwise."""
    in_flight: int = 0
    """Requests and sessions of this gateway that it serves now."""
    full_until: float = 0.0
    failed_at: float = 0.0

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1


Resolve = Callable[[str, int], Awaitable[list[str]]]
Probe = Callable[[Replica], Awaitable[str]]
"""Returns the replica's state; does not raise."""


async def addresses_of(host: str, port: int) -> list[str]:
    """Resolve a name to all its addresses, in a thread. Raises `OSError`."""
    # Without the type, each address is listed once for each kind of socket.
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [address[0] for *_, address in found]


class Replicas:
    """The replicas behind `host`. Belongs to the event loop."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        probe: Probe,
        resolve: Resolve = addresses_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self.port = port
        self._probe = probe
        self._resolve = resolve
        self._clock = clock
        self._known: dict[str, Replica] = {}

    @property
    def known(self) -> tuple[Replica, ...]:
        return tuple(self._known.values())

    @property
    def state(self) -> str:
        """`ready` if any replica is, else the state nearest to it that any of them is in."""
        states = {replica.state for replica in self.known}
        return next((s for s in _MOST_AVAILABLE_FIRST if s in states), UNREACHABLE)

    def count(self) -> dict[str, int]:
        """How many replicas are in each state."""
        return dict(Counter(replica.state for replica in self.known))

    def in_order(self) -> Iterator[Replica]:
        """Yield the replicas to ask, the best first.

        Ready ones come in the order of their load, then those that were full a moment ago. If no
        replica is ready, one of the others is tried: that is better than to refuse a request that
        could be served.
        """
        asked: list[Replica] = []
        while True:
            # Chosen anew each time: the attempt before may have taken long, and others failed.
            now = self._clock()
            rest = [r for r in random.sample(self.known, len(self._known)) if r not in asked]
            ready = [replica for replica in rest if replica.state == READY]
            if ready:
                best = min(ready, key=lambda r: (r.full_until > now, r.in_flight))
            elif rest and not asked:
                best = min(rest, key=lambda r: r.failed_at)
            else:
                return
            asked.append(best)
            yield best

    def mark_full(self, replica: Replica, for_s: float) -> None:
        """Ask the others first for `for_s`: this replica refused a request as busy."""
        replica.full_until = self._clock() + for_s

    def eject(self, replica: Replica, why: str) -> None:
        """Take out a replica that fails, hangs or drains, until a probe finds it ready."""
        replica.failed_at = self._clock()
        if replica.state == READY:
            log.warning("replica.ejected", service=self.host, replica=replica.netloc, why=why)
        replica.state = why

    async def refresh(self) -> None:
        """Resolve the name and probe each replica."""
        try:
            with anyio.fail_after(RESOLVE_TIMEOUT_S):
                found = await self._resolve(self.host, self.port)
        except (OSError, TimeoutError) as error:
            # A resolver that fails for a moment does not mean that any replica has gone.
            log.debug("replica.unresolved", service=self.host, error=repr(error))
        else:
            self._known = {a: self._known.get(a) or Replica(a, self.port) for a in found}
        async with anyio.create_task_group() as probes:
            for replica in self.known:
                probes.start_soon(self._refresh_state, replica)

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Refresh once, then every `PROBE_EVERY_S` while the block runs."""
        await self.refresh()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._refresh_periodically)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()

    async def _refresh_periodically(self) -> None:
        while True:
            await anyio.sleep(PROBE_EVERY_S)
            await self.refresh()

    async def _refresh_state(self, replica: Replica) -> None:
        probed_at = self._clock()
        state = await self._probe(replica)
        if state == READY and replica.failed_at > probed_at:
            return  # it has failed since
        if state != replica.state:
            log.info("replica.state", service=self.host, replica=replica.netloc, state=state)
        replica.state = state
