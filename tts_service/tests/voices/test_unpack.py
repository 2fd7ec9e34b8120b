"""Archives are opened with suspicion."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from tts_service.voices import unpack as unpacking
from tts_service.voices.errors import BadArchive
from tts_service.voices.unpack import find_checkpoint, unpack

GOOD = {"voice/": b"", "voice/model_file.pth": b"weights", "voice/config.json": b"{}"}


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, body in members.items():
            opened.writestr(name, body)
    return path


def test_a_release_gives_its_checkpoint(tmp_path: Path) -> None:
    zipped = archive(tmp_path / "voice.zip", {**GOOD, "voice/scale_stats.npy": b"stats"})
    found = unpack(zipped, tmp_path / "out")
    assert found.model.read_bytes() == b"weights"
    assert found.config.read_bytes() == b"{}"
    assert found.stats is not None
    assert found.stats.read_bytes() == b"stats"


def test_only_what_is_known_is_unpacked(tmp_path: Path) -> None:
    extra = {"voice/run.py": b"", "voice/.model_file.pth": b"x", "__MACOSX/model.pth": b"x"}
    unpack(archive(tmp_path / "voice.zip", {**extra, **GOOD}), tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").rglob("*")} == {"model_file.pth", "config.json"}


def test_the_outer_of_two_files_of_a_name_is_taken(tmp_path: Path) -> None:
    nested = {"voice/old/config.json": b"old", **GOOD}
    found = unpack(archive(tmp_path / "voice.zip", nested), tmp_path / "out")
    assert found.config.read_bytes() == b"{}"


@pytest.mark.parametrize(
    "name", ["../model_file.pth", "/etc/config.json", "a/../../config.json", "..\\config.json"]
)
def test_a_path_that_leaves_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    hostile = archive(tmp_path / "voice.zip", {**GOOD, name: b"x"})
    with pytest.raises(BadArchive, match="leaves it"):
        unpack(hostile, tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "voice.zip", GOOD)
    link = zipfile.ZipInfo("voice/scale_stats.npy")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(BadArchive, match="link"):
        unpack(path, tmp_path / "out")


def test_a_bomb_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    bomb = {**GOOD, "voice/model_file.pth": bytes(8 << 20)}
    path = archive(tmp_path / "voice.zip", bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(BadArchive, match="bomb"):
        unpack(path, tmp_path / "out")


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    many = {f"voice/{i}.txt": b"" for i in range(unpacking.MAX_FILES)}
    with pytest.raises(BadArchive, match="203 files"):
        unpack(archive(tmp_path / "voice.zip", {**GOOD, **many}), tmp_path / "out")


def test_a_damaged_member_is_noticed(tmp_path: Path) -> None:
    path = archive(tmp_path / "voice.zip", GOOD)
    path.write_bytes(path.read_bytes().replace(b"weights", b"weighty"))
    with pytest.raises(BadArchive, match="damaged"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 10, 100])
def test_a_truncated_archive_is_refused(tmp_path: Path, keep: int) -> None:
    path = archive(tmp_path / "voice.zip", GOOD)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadArchive, match="damaged or no zip"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("missing", ["voice/model_file.pth", "voice/config.json"])
def test_an_archive_without_a_checkpoint_says_what_is_missing(tmp_path: Path, missing: str) -> None:
    path = archive(tmp_path / "voice.zip", {k: v for k, v in GOOD.items() if k != missing})
    with pytest.raises(BadArchive, match=missing.rsplit("/", 1)[1]):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("name", unpacking.MODEL_NAMES)
def test_the_names_that_coqui_looks_for_are_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    assert find_checkpoint(tmp_path).model.name == name
