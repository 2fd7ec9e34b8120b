"""This module runs the fleet as three processes, for the demo, the tests and the benchmarks.

The logs go to files; `make run` (see `deploy.local.run`) shows them in the terminal.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
from typing_extensions import Self

SERVICES = {"asr": "asr_service", "tts": "tts_service", "gateway": "gateway"}
"""The services in the order in which they are started, and the modules that run them."""
DEFAULT_PORTS = {"asr": 8081, "tts": 8082, "gateway": 8000}
ROOT = Path(__file__).resolve().parents[2]


class FleetError(Exception):
    """The fleet did not start; the message is for the user."""


def free_ports() -> dict[str, int]:
    """Return a port for each service on which nothing listens now."""
    with ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.socket()) for name in SERVICES}
        for listener in sockets.values():
            listener.bind(("127.0.0.1", 0))
        return {name: listener.getsockname()[1] for name, listener in sockets.items()}


def ports_in_use(ports: Mapping[str, int]) -> dict[str, int]:
    """Return those of `ports` on which something listens already."""
    taken = {}
    for name, port in ports.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                taken[name] = port
    return taken


class LocalFleet:
    """A local fleet is asr, tts and gateway on 127.0.0.1; a context manager that stops them.

    `ports` defaults to free ones. `env` is added to each service's environment. Logs are JSON
    lines in `log_dir/NAME.log`.
    """

    def __init__(
        self,
        log_dir: Path,
        *,
        ports: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.ports = dict(ports or free_ports())
        self.log_dir = log_dir
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._env = dict(env or {})

    def url(self, name: str, *, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.ports[name]}"

    def log(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def start(self, name: str, **env: str) -> None:
        """Start one service; `env` is for it alone."""
        environment = {
            **os.environ,
            "HOST": "127.0.0.1",
            "LOG_FORMAT": "json",
            f"{name.upper()}_PORT": str(self.ports[name]),
            "GATEWAY_TTS_URL": self.url("tts"),
            "GATEWAY_ASR_URL": self.url("asr"),
            **self._env,
            **env,
        }
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", SERVICES[name]],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_all(self) -> None:
        for name in SERVICES:
            self.start(name)

    def wait_ready(self, *names: str, timeout_s: float = 60.0) -> None:
        """Wait until the services' `/readyz` answers 200.

        Raises `FleetError` with the end of the log if one ends or takes too long.
        """
        deadline = time.monotonic() + timeout_s
        for name in names or SERVICES:
            while not self._is_ready(name):
                ended = self.processes[name].poll()
                if ended is not None:
                    raise FleetError(f"{name} ended with status {ended}:\n{self._log_end(name)}")
                if time.monotonic() > deadline:
                    raise FleetError(
                        f"{name} was not ready after {timeout_s:g} s:\n{self._log_end(name)}"
                    )
                time.sleep(0.02)

    def stop(self, *names: str, timeout_s: float = 30.0) -> None:
        """Stop services in order; those that do not end in time are killed."""
        chosen = [self.processes.pop(n) for n in names or tuple(self.processes)]
        for process in chosen:
            process.terminate()
        for process in chosen:
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _is_ready(self, name: str) -> bool:
        try:
            answer = httpx.get(f"{self.url(name)}/readyz", timeout=2.0, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def _log_end(self, name: str) -> str:
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-20:])

    def __enter__(self) -> Self:
        try:
            self.start_all()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()
