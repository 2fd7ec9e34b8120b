"""What a newcomer is told when setting up fails, and how the fleet is started for people."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from deploy.local import ROOT, run, setup
from deploy.local.settings import complaint
from deploy.local.words import words


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError("
            "...: Failed to establish a new connection: [Errno 111] Connection refused')'\n"
            "ERROR: Could not find a version that satisfies the requirement hatchling>=1.27\n"
            "ERROR: No matching distribution found for hatchling>=1.27",
            "index cannot be reached",
        ),
        ("Temporary failure in name resolution", "index cannot be reached"),
        ("ERROR: No matching distribution found for numpy==2.2.6", "does not have a version"),
        ("error: command 'gcc' failed: No such file or directory", "C and C++ compiler"),
        ("error: command '/usr/bin/x86_64-linux-gnu-gcc' failed with exit code 1", "compiler"),
        ("error: Microsoft Visual C++ 14.0 or greater is required.", "compiler"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("something new", "pip failed"),
    ],
)
def test_failure_of_pip_is_explained(said: str, sentence: str) -> None:
    assert sentence in setup.explain(said)


def test_python_that_does_not_fit_is_named() -> None:
    found = subprocess.run(
        [ROOT / "deploy/local/find_python"],
        env={**os.environ, "PYTHON": "/no/such/python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr.startswith("PYTHON=/no/such/python does not run")


def test_shim_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    for name, status in (("python3", 127), ("python3.13", 1), ("python3.12", 0)):
        shim = tmp_path / name
        shim.write_text(f"#!/bin/sh\nexit {status}\n")
        shim.chmod(0o755)
    found = subprocess.run(
        ["/bin/sh", ROOT / "deploy/local/find_python"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "python3.12\n"


def test_machine_without_python_is_told_what_to_install(tmp_path: Path) -> None:
    found = subprocess.run(
        ["/bin/sh", ROOT / "deploy/local/find_python"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "apt install python3 python3-venv" in found.stderr


def test_port_in_use_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        said = complaint({"asr": free.getsockname()[1], "gateway": port}, "run")
    assert said.startswith(f"Port {port} (gateway) is in use by another program")
    assert f"`make run GATEWAY_PORT={port + 100}`" in said
    assert "asr" not in said


def test_ports_in_use_are_all_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
        socket.create_server(("127.0.0.1", 0)) as three,
    ):
        a, b, c = (listener.getsockname()[1] for listener in (one, two, three))
        said = complaint({"asr": a, "tts": b, "gateway": c}, "demo")
    assert said.startswith(f"Ports {a} (asr), {b} (tts) and {c} (gateway) are in use")


def test_free_ports_need_no_words() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert complaint({"asr": free.getsockname()[1]}, "run") == ""


def test_what_the_user_sets_is_left_to_him() -> None:
    ports = {"asr": 1, "tts": 2, "gateway": 3}
    chosen = {"LOG_FORMAT": "json", "GATEWAY_TTS_URL": "http://elsewhere:1", "PATH": "/bin"}
    environment = run.environment(chosen, ports, colors=True)
    assert environment["LOG_FORMAT"] == "json"
    assert environment["GATEWAY_TTS_URL"] == "http://elsewhere:1"
    assert environment["GATEWAY_ASR_URL"] == "http://127.0.0.1:1"
    assert environment["FORCE_COLOR"] == "1"
    assert environment["PATH"] == "/bin"


@pytest.mark.parametrize(("environ", "colors"), [({"NO_COLOR": "1"}, True), ({}, False)])
def test_colors_are_for_terminals_that_want_them(environ: dict[str, str], colors: bool) -> None:
    ports = {"asr": 1, "tts": 2, "gateway": 3}
    assert "FORCE_COLOR" not in run.environment(environ, ports, colors=colors)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("It's 21, Ada!", "it is twenty-one ada"),
        ("Doctor Lee paid twenty dollars.", "Dr. Lee paid $20"),
        ("Five letters came today.", "5 letters came today"),
    ],
)
def test_words_are_the_same_to_the_ear(said: str, heard: str) -> None:
    assert words(said) == words(heard)


@pytest.mark.parametrize("heard", ["", "The kettle is", "The cattle is on.", "is on the kettle"])
def test_other_words_are_told_apart(heard: str) -> None:
    assert words("The kettle is on.") != words(heard)
