"""How the build of the tts image makes a voice, and what it says when that fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploy.local import ROOT

DDC = "tts_models/en/ljspeech/tacotron2-DDC"


def prepare(folder: Path, voice: str, python: str) -> subprocess.CompletedProcess[str]:
    """Run the step `prepare`, where `python` is the script of the environment's interpreter."""
    program = folder / "venv/bin/python"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{python}\n")
    program.chmod(0o755)
    places = {"VENV": str(folder / "venv"), "VOICES": str(folder / "voices")}
    return subprocess.run(
        [str(ROOT / "deploy/image/prepare-voice.sh"), "prepare"],
        env={**os.environ, **places, "TTS_MODEL": voice},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_embedded_voice_needs_no_making(tmp_path: Path) -> None:
    assert prepare(tmp_path, "hibari/heart", "exit 1").returncode == 0
    assert list((tmp_path / "voices").iterdir()) == []


def test_a_voice_is_made_and_its_downloads_are_left_behind(tmp_path: Path) -> None:
    made = f"mkdir -p {tmp_path}/voices/.downloads {tmp_path}/voices/voice; echo $*"
    ended = prepare(tmp_path, DDC, made)
    assert ended.returncode == 0
    said = f"-m tts_service.voices --voices-dir {tmp_path}/voices prepare {DDC}\n"
    assert ended.stdout == said
    assert [p.name for p in (tmp_path / "voices").iterdir()] == ["voice"]


@pytest.mark.parametrize("voice", [DDC, "nobody/nothing"])
def test_a_failure_names_the_voice_that_needs_no_download_and_the_mirror(
    tmp_path: Path, voice: str
) -> None:
    ended = prepare(tmp_path, voice, "exit 1")
    assert ended.returncode == 1
    for words in (voice, "TTS_MODEL=hibari/heart", "TTS_VOICES_BASE_URL"):
        assert words in ended.stderr
