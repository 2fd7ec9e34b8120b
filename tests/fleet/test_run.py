"""`make run`: it says when it is ready, starts again what crashes, and gives up with a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from deploy.local import ROOT, free_ports
from deploy.local.run import MAX_RESTARTS, Supervisor
from deploy.local.settings import ports_remembered, remembered_ports, running_ports
from tests.support.wire import wait_for

STAYS = ("sh", "-c", "exec sleep 60")


def supervise(
    commands: dict[str, tuple[str, ...]],
    *,
    ready: bool = True,
    ready_file: Path | None = None,
    **options: Any,
) -> tuple[int, list[str]]:
    """Run a supervisor of `commands` to its end: the exit status, and `ready` if it was said.

    `ready_file` is made when `tts` was found ready.
    """
    announced: list[str] = []

    async def is_ready(name: str) -> bool:
        if ready_file and name == "tts":
            ready_file.touch()  # noqa: ASYNC240 - a moment
        return ready

    supervisor = Supervisor(
        commands=commands,
        environment=dict(os.environ),
        is_ready=is_ready,
        announce=lambda: announced.append("ready"),
        first_delay_s=0.01,
        **options,
    )
    return anyio.run(supervisor.run), announced


def test_a_service_whose_settings_do_not_fit_ends_the_run_with_its_sentence(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    fails = f"echo >> {starts}; sleep 0.2; echo 'tts cannot start: TTS_SR=7 is too low' >&2; exit 2"
    status, _ = supervise({"tts": ("sh", "-c", fails), "gateway": STAYS})
    said = capfd.readouterr()
    assert status == 2
    assert said.err == "tts cannot start: TTS_SR=7 is too low\n"
    assert len(starts.read_text().splitlines()) == 1


def test_a_service_that_ends_before_it_was_ready_is_not_started_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    status, announced = supervise({"asr": ("sh", "-c", "exit 3"), "tts": STAYS}, ready=False)
    assert (status, announced) == (3, [])
    assert capfd.readouterr().err == "asr ended with status 3 before it was ready.\n"


def test_a_service_that_keeps_crashing_ends_the_run(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    crashes = f"echo >> {starts}; until [ -e {tmp_path}/ready ]; do sleep 0.01; done; kill -9 $$"
    status, announced = supervise(
        {"gateway": STAYS, "tts": ("sh", "-c", crashes)}, ready_file=tmp_path / "ready"
    )
    said = capfd.readouterr()
    assert (status, announced) == (1, ["ready"])
    assert len(starts.read_text().splitlines()) == 1 + MAX_RESTARTS
    assert f"restart {MAX_RESTARTS} of at most {MAX_RESTARTS}" in said.out
    assert said.err == (
        "tts was killed by SIGKILL, after 5 restarts within 60 s: the fleet is stopped.\n"
    )


def test_a_service_that_does_not_end_is_killed(capfd: pytest.CaptureFixture[str]) -> None:
    deaf = ("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    bad = ("sh", "-c", "sleep 0.3; exit 2")
    status, _ = supervise({"tts": deaf, "asr": bad}, stop_timeout_s=0.2)
    assert status == 2


def test_a_fleet_is_remembered_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / ".run" / "fleet.json"
    ports = {"asr": 1, "tts": 2, "gateway": 3}
    assert remembered_ports(file) == {}
    with ports_remembered(ports, file) as remembered:
        assert remembered
        assert remembered_ports(file) == ports
        assert running_ports({"TTS_PORT": "9"}, file) == {"asr": 1, "tts": 8082, "gateway": 3}
        with ports_remembered({"asr": 4}, file) as second:
            assert not second
        assert remembered_ports(file) == ports
    assert not file.exists()


@pytest.mark.parametrize("left", ['{"pid": 1, "ports": {"tts": 2}}', "", "no JSON"])
def test_what_a_killed_run_left_behind_does_not_count(tmp_path: Path, left: str) -> None:
    file = tmp_path / "fleet.json"
    file.write_text(left)
    assert remembered_ports(file) == {}
    with ports_remembered({"tts": 5}, file) as remembered:
        assert remembered
        assert remembered_ports(file) == {"tts": 5}


def test_a_folder_that_cannot_be_written_is_no_reason_not_to_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with ports_remembered({"tts": 5}, tmp_path / "file" / "fleet.json") as remembered:
        assert not remembered


def test_the_systemd_unit_runs_what_make_run_runs() -> None:
    unit = ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy/systemd/speech-fleet.service")
    service = unit["Service"]
    folder = service["WorkingDirectory"]
    assert service["ExecStart"] == f"{folder}/.venv/bin/python -m deploy.local.run"
    assert service["RestartPreventExitStatus"] == "2"
    assert unit["Install"]["WantedBy"] == "multi-user.target"


@contextmanager
def fleet_in(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`make run` on free ports in a folder of its own; and what it says."""
    output = folder / "output"
    ports = {f"{name.upper()}_PORT": str(port) for name, port in free_ports().items()}
    with output.open("wb") as log:
        fleet = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.run"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DRAIN_SECONDS": "4", **ports},
            stdout=log,
            stderr=log,
        )
    try:
        yield fleet, output
    finally:
        fleet.terminate()
        fleet.wait(30)


@pytest.mark.fleet
def test_a_killed_service_is_started_again_and_health_finds_the_fleet(tmp_path: Path) -> None:
    with fleet_in(tmp_path) as (fleet, output):
        wait_for(lambda: "The fleet is ready" in output.read_text(), timeout_s=60)
        health = subprocess.run(
            [sys.executable, "-m", "deploy.local.health"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert health.returncode == 0, health.stdout
        services = psutil.Process(fleet.pid).children()
        (tts,) = [p for p in services if "tts_service" in p.cmdline()]
        tts.kill()
        wait_for(lambda: "tts is ready again." in output.read_text(), timeout_s=60)
        assert "\ntts was killed by SIGKILL; it is started again" in output.read_text()
        fleet.send_signal(signal.SIGINT)
        assert fleet.wait(30) == 0
    assert not (tmp_path / ".run" / "fleet.json").exists()
    deadline = time.monotonic() + 5
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in services):
        assert time.monotonic() < deadline, "a service outlives the fleet"
        time.sleep(0.02)


@pytest.mark.fleet
@pytest.mark.parametrize(
    ("setting", "value", "status"),
    [
        ("TTS_MODEL", "nobody/nowhere", 2),
        ("TTS_MODEL", "tts_models/en/ljspeech/tacotron2-DDC", 1),
        ("ASR_MODEL", "no-such-model", 1),
    ],
)
def test_a_model_that_is_missing_ends_the_run_with_a_sentence(
    tmp_path: Path, setting: str, value: str, status: int
) -> None:
    ports = {f"{name.upper()}_PORT": str(port) for name, port in free_ports().items()}
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.local.run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), setting: value, **ports},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status
    assert value in ended.stderr
    assert "cannot start" in ended.stderr
    assert "Traceback" not in ended.stderr
