"""Machines that are network namespaces, joined by a bridge: what a node of a swarm stands on."""

from __future__ import annotations

import subprocess
from types import TracebackType

from typing_extensions import Self

SUBNET = "10.214.0"


class Network:
    """`count` namespaces with an address each; a context manager that leaves none behind."""

    def __init__(self, name: str, count: int) -> None:
        self._bridge = f"{name}-br"
        self.machines = [f"{name}-{i}" for i in range(1, count + 1)]

    def address(self, machine: str) -> str:
        return f"{SUBNET}.{self.machines.index(machine) + 11}"

    def within(self, machine: str) -> tuple[str, ...]:
        """What is put before a command to run it on a machine."""
        return ("ip", "netns", "exec", machine)

    def cut(self, machine: str) -> None:
        """Pull its cable."""
        _ip("link", "set", self._cable(machine), "down")

    def _cable(self, machine: str) -> str:
        return f"{machine}-v"

    def __enter__(self) -> Self:
        self._remove()
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("addr", "add", f"{SUBNET}.1/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for machine in self.machines:
                cable = self._cable(machine)
                _ip("netns", "add", machine)
                _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", machine)
                _ip("link", "set", cable, "master", self._bridge, "up")
                _ip("-n", machine, "addr", "add", f"{self.address(machine)}/24", "dev", "eth0")
                _ip("-n", machine, "link", "set", "eth0", "up")
                _ip("-n", machine, "link", "set", "lo", "up")
                # A swarm wants to know which address is this machine's.
                _ip("-n", machine, "route", "add", "default", "via", f"{SUBNET}.1")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for machine in self.machines:
            _ip("link", "del", self._cable(machine), check=False)
            _ip("netns", "del", machine, check=False)
        _ip("link", "del", self._bridge, check=False)


def _ip(*arguments: str, check: bool = True) -> None:
    ended = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if check and ended.returncode:
        raise AssertionError(f"ip {' '.join(arguments)}: {ended.stderr.strip()}")
