"""This module makes network namespaces joined by a bridge: the machines of a swarm.

The bridge has a namespace of its own: in the default one, the rules of an engine that runs here
would apply to its traffic.
"""

from __future__ import annotations

import subprocess

from typing_extensions import Self

SUBNET = "10.214.0"


class Network:
    """`count` namespaces with an address each; a context manager that leaves none behind."""

    def __init__(self, name: str, count: int) -> None:
        self._switch = f"{name}-switch"
        self._uplink = f"{name}-up"
        self.machines = [f"{name}-{i}" for i in range(1, count + 1)]

    def address(self, machine: str) -> str:
        return f"{SUBNET}.{self.machines.index(machine) + 11}"

    def within(self, machine: str) -> tuple[str, ...]:
        """What is put before a command to run it on a machine."""
        # Not `ip netns exec`: its mounts of its own would hide the control groups from an engine.
        return ("nsenter", f"--net=/run/netns/{machine}")

    def cut(self, machine: str) -> None:
        """Pull its cable."""
        _ip("-n", self._switch, "link", "set", self._cable(machine), "down")

    def _cable(self, machine: str) -> str:
        return f"{machine}-v"

    def _plug_in(self, cable: str) -> None:
        """One end here, the other, of the same name, in the switch."""
        _ip("link", "add", cable, "type", "veth", "peer", "name", cable, "netns", self._switch)
        _ip("-n", self._switch, "link", "set", cable, "master", "br0", "up")

    def __enter__(self) -> Self:
        self._remove()
        try:
            _ip("netns", "add", self._switch)
            _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "br0", "up")
            # Ours, to ask the machines from outside.
            self._plug_in(self._uplink)
            _ip("addr", "add", f"{SUBNET}.1/24", "dev", self._uplink)
            _ip("link", "set", self._uplink, "up")
            for machine in self.machines:
                _ip("netns", "add", machine)
                self._plug_in(self._cable(machine))
                _ip("link", "set", self._cable(machine), "netns", machine, "name", "eth0")
                _ip("-n", machine, "addr", "add", f"{self.address(machine)}/24", "dev", "eth0")
                _ip("-n", machine, "link", "set", "eth0", "up")
                _ip("-n", machine, "link", "set", "lo", "up")
                # A swarm wants to know which address is this machine's.
                _ip("-n", machine, "route", "add", "default", "via", f"{SUBNET}.1")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._remove()

    def _remove(self) -> None:
        for cable in (self._uplink, *map(self._cable, self.machines)):
            _ip("link", "del", cable, check=False)
        for name in (self._switch, *self.machines):
            _ip("netns", "del", name, check=False)


def _ip(*arguments: str, check: bool = True) -> None:
    ended = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if check and ended.returncode:
        raise AssertionError(f"ip {' '.join(arguments)}: {ended.stderr.strip()}")
