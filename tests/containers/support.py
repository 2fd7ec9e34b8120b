"""These helpers query the engine and run the fleet in it through make, as a user does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local import ROOT
from tests.containers.engine import base

SERVICES = ("tts", "asr", "gateway")
PREFIX = "fleet-test"
"""Of the images' names: those of a fleet that runs on the same engine are left alone."""
FIRST_PORT = 18000
OFFSETS = {"gateway": 0, "asr": 81, "tts": 82}


def run(
    *command: str,
    timeout_s: float = 120.0,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> str:
    """What a command says on stdout; `env` is added to ours.

    Fails the test, with all it said, if it fails.
    """
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if check and ended.returncode:
        raise AssertionError(
            f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
        )
    return ended.stdout.strip()


def docker(*arguments: str, **options: Any) -> str:
    return run("docker", *arguments, **options)


def image(name: str) -> str:
    return f"{PREFIX}/{name}:latest"


def size_over_base(name: str) -> int:
    """Bytes of an image, uncompressed, without those of the image it is made from."""
    sizes = [docker("image", "inspect", "--format", "{{.Size}}", i) for i in (name, base.IMAGE)]
    return int(sizes[0]) - int(sizes[1])


def wait_for(condition: Callable[[], bool], timeout_s: float = 120.0, what: str = "") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain: {what}"
        time.sleep(0.2)


def copy_of_the_tree(target: Path) -> Path:
    """The tracked and new files of this checkout, somewhere else."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


@dataclass
class Fleet:
    """A Compose project that `make` brings up. `env` holds its settings."""

    project: str
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path = ROOT
    first_port: int = FIRST_PORT

    @property
    def environment(self) -> dict[str, str]:
        ports = {f"{name.upper()}_PORT": str(self.port(name)) for name in OFFSETS}
        mine = {
            "COMPOSE_PROJECT_NAME": self.project,
            "IMAGE_PREFIX": PREFIX,
            # The default voice is a download; test_voice.py makes it of a mirror's.
            "TTS_MODEL": "hibari/heart",
        }
        return {**mine, **ports, **self.env}

    def make(self, target: str, *, timeout_s: float = 300.0, **env: str) -> str:
        where = ("-C", str(self.cwd), "--no-print-directory")
        return run("make", *where, target, timeout_s=timeout_s, env={**self.environment, **env})

    def compose(self, *arguments: str, **options: Any) -> str:
        return run("deploy/compose", *arguments, env=self.environment, **options)

    def ids(self, service: str) -> list[str]:
        label = "label=com.docker.compose"
        found = docker(
            "ps",
            "--quiet",
            "--no-trunc",
            f"--filter={label}.project={self.project}",
            f"--filter={label}.service={service}",
        )
        return found.split()

    def port(self, name: str = "gateway") -> int:
        return self.first_port + OFFSETS[name]

    def url(self, name: str = "gateway", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port(name)}"

    @property
    def ws(self) -> str:
        return f"{self.url(scheme='ws')}/ws/tts"


def events(container: str) -> list[dict[str, Any]]:
    """The log of a container; each line must be a JSON object."""
    ended = subprocess.run(
        ["docker", "logs", container], capture_output=True, text=True, timeout=60, check=True
    )
    lines = (ended.stdout + ended.stderr).splitlines()
    found = [json.loads(line) for line in lines]
    assert all(isinstance(event, dict) for event in found)
    return found


def spoken_by(container: str) -> int:
    """How many utterances a replica has spoken, by its log."""
    return sum(event["event"] == "utterance.done" for event in events(container))


def is_ready(container: str, port: int) -> bool:
    """Whether the container's own health check says so, asked right now."""
    script = f"healthcheck {port} >/dev/null 2>&1 && echo yes"
    return docker("exec", container, "sh", "-c", script, check=False) == "yes"


def stop(container: str) -> None:
    """SIGSTOP to all that runs in it: it keeps its connections and says nothing any more."""
    docker("exec", container, "bash", "-c", "kill -STOP -1")


def go_on(container: str) -> None:
    """The end of `stop`."""
    docker("exec", container, "bash", "-c", "kill -CONT -1", check=False)
