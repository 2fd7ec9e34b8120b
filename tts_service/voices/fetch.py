"""This module downloads a file, resumes a partial one, checks its hash and shows progress.

It is our own because pooch (1.9) does not resume: it begins again after each broken connection, and
a release has hundreds of megabytes.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from .errors import DownloadFailed, HashMismatch

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0
MAX_BYTES = 4 << 30
HASHES = "hashes.json"


def fetch(url: str, folder: Path, *, pinned: str | None, attempts: int = 4) -> tuple[Path, str]:
    """Download `url` into `folder`; returns the file and its SHA-256.

    A file that exists and has the right hash is not downloaded again. `pinned` is the hash that the
    project knows; without one the hash is recorded in `hashes.json` at the first download, and each
    later download must have the same. Raises `DownloadFailed` or `HashMismatch`.
    """
    if not url.startswith(("https://", "http://")):
        raise DownloadFailed(f"{url} is not an http address")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / url.rsplit("/", 1)[-1]
    book = folder / HASHES
    recorded: dict[str, str] = json.loads(book.read_text()) if book.is_file() else {}
    expected = pinned or recorded.get(file.name)
    if file.is_file() and expected and sha256(file) == expected:
        return file, expected
    part = file.with_name(file.name + ".part")
    _download(url, part, attempts)
    actual = sha256(part)
    if expected and actual != expected:
        part.unlink()
        kind = "pinned in the project" if pinned else f"recorded in {book}"
        raise HashMismatch(
            f"{url} has SHA-256 {actual}, but {expected} is {kind}: the file was changed or damaged"
        )
    part.replace(file)
    if file.name not in recorded:
        recorded[file.name] = actual
        book.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n")
    return file, actual


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(url: str, part: Path, attempts: int) -> None:
    for attempt in range(attempts):
        try:
            _download_rest(url, part)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                raise DownloadFailed(f"{url}: {error.code} {error.reason}") from error
            problem: Exception = error
        except (OSError, http.client.HTTPException) as error:
            problem = error
        else:
            return
        if attempt == attempts - 1:
            kept = part.stat().st_size if part.is_file() else 0
            raise DownloadFailed(
                f"{url}: {problem}; {kept} bytes are kept, and the next run resumes there"
            ) from problem


def _download_rest(url: str, part: Path) -> None:
    """Download over one connection: the rest of the file if the server can resume, else all."""
    have = part.stat().st_size if part.is_file() else 0
    tag_file = part.with_name(part.name + ".etag")
    tag = tag_file.read_text() if tag_file.is_file() else None
    request = urllib.request.Request(url)  # noqa: S310 - the scheme was checked
    if have and tag:
        # If-Range: a file that has changed since is sent from its beginning.
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        if total is not None and total > MAX_BYTES:
            raise DownloadFailed(f"{url} is {total} bytes, more than any voice")
        if not resumed and (new_tag := response.headers.get("ETag")):
            tag_file.write_text(new_tag)
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(
                total=total,
                initial=have,
                unit="B",
                unit_scale=True,
                desc=part.stem,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                have += len(chunk)
                if have > MAX_BYTES:
                    raise DownloadFailed(f"{url} is larger than any voice")
    if total is not None and have != total:
        raise OSError(f"the connection ended after {have} of {total} bytes")
    tag_file.unlink(missing_ok=True)
