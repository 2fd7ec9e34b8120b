"""This module runs a Docker engine whose data, socket and pid file are in one folder.

It never touches an engine that runs already, and stops only the processes that it started.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from typing_extensions import Self

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0


class EngineError(Exception):
    """The engine cannot be had; the message says why and what can be done."""


class Engine:
    """A `dockerd` with its own data; a context manager.

    `folder` holds all of it and is deleted at the end, unless `keep`. `within` is put before the
    command, to run it in a network namespace (`ip netns exec …`).
    """

    def __init__(
        self,
        folder: Path,
        *,
        within: Sequence[str] = (),
        bridge: bool = True,
        keep: bool = False,
    ) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self._within = tuple(within)
        self._bridge = bridge
        self._keep = keep
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """For `DOCKER_HOST`."""
        return f"unix://{self.socket}"

    def docker(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """What a command of the docker client says. Raises `EngineError` if it fails."""
        command = ["docker", "--host", self.host, *arguments]
        try:
            ran = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise EngineError(f"{' '.join(command)} took over {timeout_s:g} s.") from None
        if ran.returncode:
            raise EngineError(f"{' '.join(command)} failed: {ran.stderr.strip()}")
        return ran.stdout.strip()

    def start(self) -> None:
        """Start it and wait until it answers. Raises `EngineError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            *self._within,
            "dockerd",
            f"--host={self.host}",
            f"--data-root={self.folder / 'data'}",
            f"--exec-root={self.folder / 'exec'}",
            f"--pidfile={self.folder / 'dockerd.pid'}",
            # Wide enough for the tests; the default pools may be in use by another engine.
            "--default-address-pool=base=10.213.0.0/16,size=24",
            *([] if self._bridge else ["--bridge=none"]),
        ]
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with suppress(EngineError):
                self.docker("version", timeout_s=5)
                return
            ended = self._process.poll()
            if ended is not None or time.monotonic() > deadline:
                how = "is not up in time" if ended is None else f"ended with status {ended}"
                raise EngineError(f"dockerd {how}:\n{self._log_end()}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Remove its containers, end it, and delete its folder. Never raises."""
        if self._process is not None and self._process.poll() is None:
            with suppress(EngineError):
                running = self.docker("ps", "--all", "--quiet").split()
                if running:
                    self.docker("rm", "--force", "--volumes", *running)
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._kill_session(self._process.pid)
        self._process = None
        self._unmount()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _kill_session(self, session: int) -> None:
        """The last resort: what we started (containerd and its shims are of our session too)."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if os.getsid(int(entry.name)) == session:
                        os.kill(int(entry.name), signal.SIGKILL)

    def _unmount(self) -> None:
        """What an engine that was killed left mounted in our folder."""
        with suppress(OSError):
            lines = Path("/proc/self/mounts").read_text().splitlines()
            places = [line.split()[1] for line in lines]
            mine = [p for p in places if p.startswith(f"{self.folder}/")]
            for place in sorted(mine, key=len, reverse=True):
                subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)

    def _log_end(self) -> str:
        log = (self.folder / "dockerd.log").read_text(errors="replace")
        return "\n".join(log.splitlines()[-15:])

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()
