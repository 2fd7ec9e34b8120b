"""What can be checked of preparing without torch: sources, locks, and what is left behind."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tts_service.app.engines.tacotron.manifest import voice_folder
from tts_service.tests.tacotron import tiny
from tts_service.voices.__main__ import main
from tts_service.voices.errors import BadArchive, Busy, CheckFailed, UnknownVoice
from tts_service.voices.fetch import sha256
from tts_service.voices.prepare import Places, locked, prepare, verify


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "voices")


def left_over(places: Places) -> list[str]:
    return [p.name for p in places.voices_dir.iterdir() if not p.name.startswith(".lock")]


@pytest.mark.parametrize("source", ["no/such/place", "nothing.zip", "vocoder"])
def test_a_source_that_is_nothing_is_named(places: Places, source: str) -> None:
    with pytest.raises(UnknownVoice, match=source):
        prepare(source, places)
    assert left_over(places) == []


def test_a_damaged_archive_leaves_nothing_behind(places: Places, tmp_path: Path) -> None:
    broken = tmp_path / "voice.zip"
    broken.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(BadArchive):
        prepare(str(broken), places, vocoder=str(broken))
    assert left_over(places) == []


def test_a_voice_without_a_vocoder_asks_for_one(places: Places, tmp_path: Path) -> None:
    path = tmp_path / "voice.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("model_file.pth", b"")
        opened.writestr("config.json", b"{}")
    with pytest.raises(UnknownVoice, match="--vocoder"):
        prepare(str(path), places)


def test_two_at_once_are_refused(places: Places) -> None:
    with (
        locked(places.voices_dir, "tts_models/en/a/b"),
        pytest.raises(Busy, match="another process"),
        locked(places.voices_dir, "tts_models/en/a/b"),
    ):
        pass
    with locked(places.voices_dir, "tts_models/en/a/b"):
        pass


def test_a_voice_whose_files_changed_fails_its_check(places: Places) -> None:
    made = tiny.install(tiny.TinyVoice(), places.voices_dir)
    folder = voice_folder(places.voices_dir, tiny.NAME)
    hashes = {f.name: sha256(f) for f in folder.glob("*.onnx")}
    whole = made.model_copy(update={"hashes": hashes})
    (folder / "voice.json").write_text(whole.model_dump_json())
    assert verify(tiny.NAME, places) == whole
    (folder / "postnet.onnx").write_bytes(b"changed")
    with pytest.raises(CheckFailed, match=r"postnet\.onnx is not the file"):
        verify(tiny.NAME, places)


def test_the_command_says_what_is_wrong_and_fails(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--voices-dir", str(places.voices_dir), "check", "tts_models/en/no/voice"])
    assert status == 1
    assert "run `make voice`" in capsys.readouterr().err
