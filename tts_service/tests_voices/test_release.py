"""The whole way of a release: served, pulled, checked, exported, spoken; and its refusals."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tts_service.app.engines.tacotron import GuardLimits, TacotronOptions, load
from tts_service.app.engines.tacotron.manifest import voice_folder
from tts_service.tests.voices.file_server import FileServer, serving
from tts_service.tests_voices.release import make_release
from tts_service.voices import catalogue
from tts_service.voices.__main__ import main
from tts_service.voices.coqui import CoquiVoice
from tts_service.voices.errors import (
    BadArchive,
    CheckFailed,
    DownloadFailed,
    HashMismatch,
    UnknownVoice,
    UnsupportedVoice,
)
from tts_service.voices.prepare import Places, prepare, pull, verify
from tts_service.voices.unpack import find_checkpoint

NAME = catalogue.DEFAULT_VOICE


@dataclass(frozen=True)
class Mirror:
    """A file server with the two archives of the default voice."""

    server: FileServer
    archives: Path

    def path(self, archive: str) -> str:
        return next(p for p in self.server.files if p.endswith(archive))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def archives(release: dict[str, Path]) -> Path:
    """The folder with the archives, and what is in them in folders of the same names."""
    return next(iter(release.values())).parent


@pytest.fixture
def mirror(release: dict[str, Path], archives: Path) -> Iterator[Mirror]:
    files = {f"/{path}": file.read_bytes() for path, file in release.items()}
    with serving(files) as server:
        yield Mirror(server, archives)


@pytest.fixture
def places(mirror: Mirror, tmp_path: Path) -> Places:
    return Places(tmp_path / "voices", mirror.server.url)


def left_over(places: Places) -> list[str]:
    hidden = (".lock", ".downloads")
    return [p.name for p in places.voices_dir.iterdir() if not p.name.startswith(hidden)]


def test_a_voice_is_pulled_proven_installed_and_spoken(places: Places, mirror: Mirror) -> None:
    manifest, made = prepare(NAME, places)
    assert made
    assert manifest.name == NAME
    assert (manifest.sample_rate_hz, manifest.hop, manifest.r) == (22050, 256, 1)
    assert manifest.licence == "apache 2.0"
    assert manifest.text.language == "en"
    assert manifest.proof is not None
    assert verify(NAME, places) == manifest
    assert left_over(places) == [voice_folder(places.voices_dir, NAME).name]

    options = TacotronOptions("float32", limits=GuardLimits.off(), sentence_pause_ms=0)
    engine = load(NAME, places.voices_dir, options)
    streamed = np.concatenate(
        list(engine.synthesize("Hello world.", speed=1.0, opens=True, closes=True))
    )
    model, vocoder = sorted(p for p in mirror.archives.iterdir() if p.is_dir())
    coqui = CoquiVoice(find_checkpoint(model), find_checkpoint(vocoder), places.voices_dir)
    theirs = np.array(coqui.synthesizer.tts("Hello world.", split_sentences=False), np.float32)
    assert not theirs[-10_000:].any()
    np.testing.assert_allclose(streamed, theirs[:-10_000], atol=1e-5)

    requests = len(mirror.server.ranges)
    again, made = prepare(NAME, places)
    assert (again, made) == (manifest, False)
    assert len(mirror.server.ranges) == requests

    (voice_folder(places.voices_dir, NAME) / "postnet.onnx").write_bytes(b"damaged")
    _, made = prepare(NAME, places)
    assert made
    verify(NAME, places)


def test_the_command_prepares_from_archives_on_disk(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, vocoder = sorted(mirror.archives.glob("*.zip"))
    arguments = ["--voices-dir", str(tmp_path), "prepare", str(model), "--vocoder", str(vocoder)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"{NAME} is ready" in said
    assert "largest difference" in said
    assert mirror.server.ranges == []
    assert load(NAME, tmp_path).sample_rate_hz == 22050


def test_the_catalogue_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert f"{NAME}  (apache 2.0)" in capsys.readouterr().out.splitlines()


def test_a_name_that_the_catalogue_lacks_is_answered_with_those_there_are(places: Places) -> None:
    with pytest.raises(UnknownVoice, match=NAME):
        pull("tts_models/en/ljspeech/tacotron9", places)


def test_a_truncated_download_installs_nothing_and_is_resumed(
    places: Places, mirror: Mirror
) -> None:
    mirror.server.cut_at = [1000, 2000, 3000, 4000]
    with pytest.raises(DownloadFailed, match="kept"):
        pull(NAME, places)
    assert left_over(places) == []
    assert [f.name for f in pull(NAME, places)] == sorted(
        p.name for p in mirror.archives.glob("*.zip")
    )
    assert mirror.server.ranges[4] == "bytes=4000-"


def test_a_release_that_changed_is_refused(places: Places, mirror: Mirror) -> None:
    pull(NAME, places)
    for file in places.downloads.glob("*.zip"):
        file.unlink()
    path = mirror.path("tacotron2-DDC.zip")
    mirror.server.files[path] = mirror.server.files[path][:-1] + b"!"
    with pytest.raises(HashMismatch, match="changed or damaged"):
        prepare(NAME, places)
    assert left_over(places) == []


def test_a_failing_proof_leaves_the_voice_before_in_place(
    places: Places, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = prepare(NAME, places)
    monkeypatch.setattr("tts_service.voices.check.TOLERANCE", 0.0)
    with pytest.raises(CheckFailed, match="more than"):
        prepare(NAME, places, force=True)
    assert verify(NAME, places) == before
    assert left_over(places) == [voice_folder(places.voices_dir, NAME).name]


REFUSED: dict[str, dict[str, Any]] = {
    "use_phonemes": {"use_phonemes": True},
    "use_gst": {"use_gst": True},
    "use_speaker_embedding": {"use_speaker_embedding": True},
    "graves": {"attention_type": "graves"},
    "attention_norm 'tanh'": {"attention_norm": "tanh"},
    "'glow_tts'": {"model": "glow_tts"},
}


@pytest.mark.parametrize("named", REFUSED)
def test_what_is_not_supported_is_named(archives: Path, tmp_path: Path, named: str) -> None:
    model, vocoder = sorted(p for p in archives.iterdir() if p.is_dir())
    source = tmp_path / "source"
    source.mkdir()
    os.link(model / "model_file.pth", source / "model_file.pth")
    config = json.loads((model / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, **REFUSED[named]}))
    with pytest.raises(UnsupportedVoice, match=named):
        prepare(str(source), Places(tmp_path / "voices"), vocoder=str(vocoder))
    assert left_over(Places(tmp_path / "voices")) == []


def test_a_configuration_with_comments_is_read(archives: Path, tmp_path: Path) -> None:
    """Old releases have them, and addresses in strings beside them."""
    model, vocoder = sorted(p for p in archives.iterdir() if p.is_dir())
    source = tmp_path / "source"
    source.mkdir()
    os.link(model / "model_file.pth", source / "model_file.pth")
    text = (model / "config.json").read_text()
    commented = text.replace("{", '{ // a comment\n "run_name": "http://x", /* and\n more */', 1)
    (source / "config.json").write_text(commented)
    CoquiVoice(find_checkpoint(source), find_checkpoint(vocoder), tmp_path)


def test_weights_of_another_shape_are_refused(archives: Path, tmp_path: Path) -> None:
    model, vocoder = sorted(p for p in archives.iterdir() if p.is_dir())
    source = tmp_path / "source"
    source.mkdir()
    os.link(vocoder / "model_file.pth", source / "model_file.pth")
    (source / "config.json").write_text((model / "config.json").read_text())
    with pytest.raises(BadArchive, match="Coqui cannot load"):
        prepare(str(source), Places(tmp_path / "voices"), vocoder=str(vocoder))


class Hostile:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this ran",))


@pytest.mark.parametrize("where", ["model_file.pth", "scale_stats.npy"])
def test_code_in_a_checkpoint_is_not_run(
    archives: Path, tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, vocoder = sorted(p for p in archives.iterdir() if p.is_dir())
    source = tmp_path / "source"
    source.mkdir()
    config = json.loads((model / "config.json").read_text())
    if where == "scale_stats.npy":
        os.link(model / "model_file.pth", source / "model_file.pth")
        config["audio"] |= {"stats_path": "scale_stats.npy", "signal_norm": True}
        with (source / where).open("wb") as file:
            np.save(file, np.array(Hostile(), dtype=object), allow_pickle=True)
    else:
        (source / where).write_bytes(pickle.dumps(Hostile(), protocol=2))
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadArchive):
        prepare(str(source), Places(tmp_path / "voices"), vocoder=str(vocoder))
    assert "this ran" not in capsys.readouterr().out
