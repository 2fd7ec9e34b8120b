"""Downloads resume, are checked, and leave nothing half done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tts_service.tests.voices.file_server import FileServer, serving
from tts_service.voices.errors import DownloadFailed, HashMismatch
from tts_service.voices.fetch import HASHES, fetch

BODY = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving({"/voice.zip": BODY}) as running:
        yield running


def test_a_file_is_fetched_and_its_hash_recorded(server: FileServer, tmp_path: Path) -> None:
    file, digest = fetch(f"{server.url}/voice.zip", tmp_path, pinned=None)
    assert file.read_bytes() == BODY
    assert digest == DIGEST
    assert json.loads((tmp_path / HASHES).read_text()) == {"voice.zip": DIGEST}


def test_a_file_that_is_there_is_not_fetched_again(server: FileServer, tmp_path: Path) -> None:
    for _ in range(2):
        fetch(f"{server.url}/voice.zip", tmp_path, pinned=None)
    assert len(server.ranges) == 1


def test_a_file_that_was_damaged_since_is_fetched_again(server: FileServer, tmp_path: Path) -> None:
    file, _ = fetch(f"{server.url}/voice.zip", tmp_path, pinned=None)
    file.write_bytes(b"damaged")
    fetch(f"{server.url}/voice.zip", tmp_path, pinned=None)
    assert file.read_bytes() == BODY


def test_a_broken_connection_is_resumed_where_it_broke(server: FileServer, tmp_path: Path) -> None:
    server.cut_at = [100_000, 500_000]
    file, _ = fetch(f"{server.url}/voice.zip", tmp_path, pinned=DIGEST)
    assert file.read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-", "bytes=500000-"]


def test_a_download_that_broke_off_goes_on_in_the_next_run(
    server: FileServer, tmp_path: Path
) -> None:
    server.cut_at = [100_000]
    with pytest.raises(DownloadFailed, match="100000 bytes are kept"):
        fetch(f"{server.url}/voice.zip", tmp_path, pinned=None, attempts=1)
    assert not (tmp_path / "voice.zip").exists()
    file, _ = fetch(f"{server.url}/voice.zip", tmp_path, pinned=None, attempts=1)
    assert server.ranges[-1] == "bytes=100000-"
    assert file.read_bytes() == BODY


def test_a_file_that_changed_meanwhile_comes_from_its_beginning(
    server: FileServer, tmp_path: Path
) -> None:
    server.cut_at = [100_000]
    with pytest.raises(DownloadFailed):
        fetch(f"{server.url}/voice.zip", tmp_path, pinned=None, attempts=1)
    server.tag, server.files = '"two"', {"/voice.zip": BODY[::-1]}
    file, _ = fetch(f"{server.url}/voice.zip", tmp_path, pinned=None)
    assert file.read_bytes() == BODY[::-1]


def test_a_server_error_is_tried_again(server: FileServer, tmp_path: Path) -> None:
    server.status = [503, 500]
    file, _ = fetch(f"{server.url}/voice.zip", tmp_path, pinned=None)
    assert file.read_bytes() == BODY


def test_a_missing_file_is_not_tried_again(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="404"):
        fetch(f"{server.url}/other.zip", tmp_path, pinned=None)
    assert len(server.ranges) == 1


def test_a_file_with_another_hash_than_pinned_is_not_kept(
    server: FileServer, tmp_path: Path
) -> None:
    with pytest.raises(HashMismatch, match="pinned in the project"):
        fetch(f"{server.url}/voice.zip", tmp_path, pinned="0" * 64)
    assert [p.name for p in tmp_path.iterdir() if p.suffix in (".zip", ".part")] == []


def test_a_file_with_another_hash_than_recorded_is_not_kept(
    server: FileServer, tmp_path: Path
) -> None:
    file, _ = fetch(f"{server.url}/voice.zip", tmp_path, pinned=None)
    file.unlink()
    server.files = {"/voice.zip": BODY + b"!"}
    with pytest.raises(HashMismatch, match="recorded in"):
        fetch(f"{server.url}/voice.zip", tmp_path, pinned=None)
    assert not file.exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://somewhere/voice.zip", "voice.zip"])
def test_only_http_is_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="not an http address"):
        fetch(url, tmp_path, pinned=None)
