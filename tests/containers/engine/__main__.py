"""This program runs a command with a container engine, Compose and a base image.

    python -m tests.containers.engine COMMAND…

An engine that runs here and has the base image, or can pull it, is used. Otherwise one is started
for COMMAND and stopped after it; its parts are kept in a cache outside the checkout:
`SPEECH_FLEET_CACHE`, or `speech-fleet` in the user's cache.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from tests.containers.engine import base, tools
from tests.containers.engine.engine import Engine, EngineError

CANNOT = 3
"""The exit status if there can be no engine."""


def main(command: list[str]) -> int:
    if not command:
        print("usage: python -m tests.containers.engine COMMAND…", file=sys.stderr)
        return 2
    # To be told to stop must stop the engine as well.
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, _as_interrupt)
    try:
        if _an_engine_is_here():
            say("engine", "the one that runs here")
            return subprocess.run(command, check=False).returncode
        return _with_our_own(command)
    except EngineError as error:
        print(f"The containers cannot be tested here: {error}", file=sys.stderr)
        return CANNOT
    except KeyboardInterrupt:
        return 130


def cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("SPEECH_FLEET_CACHE") or Path(home) / "speech-fleet")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _with_our_own(command: list[str]) -> int:
    started = time.monotonic()
    cache = cache_folder()
    if installed := tools.provide():
        say("installed", ", ".join(installed))
    with tempfile.TemporaryDirectory(prefix="fleet-") as scratch:
        config = Path(scratch) / "config"
        say("compose", tools.provide_plugins(config, cache))
        with Engine(Path(scratch) / "engine") as engine:
            os.environ["DOCKER_CONFIG"] = str(config)
            say("engine", engine.docker("version", "--format", "{{.Server.Version}}"))
            say("base image", base.provide(engine, cache))
            say("ready", f"after {time.monotonic() - started:.0f} s")
            environment = {**os.environ, "DOCKER_HOST": engine.host}
            return subprocess.run(command, env=environment, check=False).returncode


def _an_engine_is_here() -> bool:
    try:
        for probe in (["version"], ["compose", "version"]):
            command = ["docker", *probe]
            if subprocess.run(command, capture_output=True, timeout=20, check=False).returncode:
                return False
        has = ["docker", "image", "inspect", base.IMAGE]
        if subprocess.run(has, capture_output=True, timeout=20, check=False).returncode == 0:
            return True
        pull = ["docker", "pull", "--quiet", base.IMAGE]
        return subprocess.run(pull, timeout=base.PULL_TIMEOUT_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _as_interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def say(name: str, value: str) -> None:
    print(f"{name:<14}{value}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
