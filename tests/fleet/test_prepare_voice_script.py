"""How the build of the tts image makes a voice, and what it says when that fails."""

from __future__ import annotations

import os
import re
import subprocess
from modulefinder import ModuleFinder
from pathlib import Path

import pytest

from deploy.local import ROOT

DDC = "tts_models/en/ljspeech/tacotron2-DDC"


def shim(program: Path, script: str) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def prepare(folder: Path, voice: str, python: str) -> subprocess.CompletedProcess[str]:
    """Run the step `prepare`, where `python` is the script of the environment's interpreter."""
    shim(folder / "venv/bin/python", python)
    return run("prepare", folder, voice)


def run(step: str, folder: Path, voice: str) -> subprocess.CompletedProcess[str]:
    """The script, with programs in the folder `bin` before those of this machine."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    places = {"VENV": str(folder / "venv"), "VOICES": str(folder / "voices")}
    return subprocess.run(
        [str(ROOT / "deploy/image/prepare-voice.sh"), step],
        env={**os.environ, **places, "TTS_MODEL": voice, "PATH": path},
        cwd=ROOT,
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
    said = f"-W ignore -m tts_service.voices --voices-dir {tmp_path}/voices prepare {DDC}\n"
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


def test_what_makes_voices_and_cannot_be_installed_is_named(tmp_path: Path) -> None:
    shim(tmp_path / "bin/python", "exit 0")
    shim(tmp_path / "bin/pip", "exit 1")
    ended = run("install", tmp_path, DDC)
    assert ended.returncode == 1
    for words in ("torch, Coqui", DDC, "TTS_MODEL=hibari/heart", "TTS_VOICES_BASE_URL"):
        assert words in ended.stderr


def test_the_stage_that_makes_a_voice_has_all_of_this_project_that_runs_there() -> None:
    dockerfile = (ROOT / "tts_service/Dockerfile").read_text().replace("\\\n", " ")
    stage = dockerfile.partition("AS voice\n")[2].partition("\nFROM ")[0]
    copied = [line.split()[:-1] for line in re.findall(r"(?m)^COPY (.*)$", stage)]
    places = [ROOT / name for names in copied for name in names]
    finder = ModuleFinder(path=[str(ROOT)])
    finder.import_hook("tts_service.voices.__main__")
    found = [getattr(module, "__file__", None) for module in finder.modules.values()]
    files = {Path(file) for file in found if file}
    assert ROOT / "tts_service/voices/coqui.py" in files
    assert ROOT / "common/settings.py" in files
    missing = {f for f in files if not any(f == p or p in f.parents for p in places)}
    assert missing == set()
