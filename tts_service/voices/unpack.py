"""This module takes a checkpoint out of a release archive and trusts nothing in it."""

from __future__ import annotations

import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import BadArchive

MAX_FILE_BYTES = 2 << 30
MAX_TOTAL_BYTES = 4 << 30
MAX_RATIO = 200
"""Largest ratio of unpacked to packed size. Weights hardly compress, so more is a zip bomb."""
MAX_FILES = 200

MODEL_NAMES = ("model_file.pth", "model_file.pth.tar", "model.pth", "checkpoint.pth")
"""The names that Coqui looks for."""
_WANTED = (*MODEL_NAMES, "config.json", "scale_stats.npy")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint is the files of one model."""

    model: Path
    config: Path
    stats: Path | None
    """Mean and variance of the mel bands, where the release has them."""


def unpack(archive: Path, folder: Path) -> Checkpoint:
    """Extract the checkpoint in `archive` into `folder`, which is made and must be empty.

    Only known names are extracted, without their paths. Raises `BadArchive`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _refuse_hostile(archive, members)
            taken: set[str] = set()
            for member in sorted(members, key=lambda m: m.filename.count("/")):
                name = PurePosixPath(member.filename).name
                hidden = any(p.startswith((".", "__MACOSX")) for p in member.filename.split("/"))
                if member.is_dir() or hidden or name not in _WANTED or name in taken:
                    continue
                taken.add(name)
                _extract(opened, member, folder / name)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise BadArchive(f"{archive.name} is damaged or no zip file: {error}") from error
    return find_checkpoint(folder)


def find_checkpoint(folder: Path) -> Checkpoint:
    """Find the checkpoint in a folder.

    Raises `BadArchive` if its model or configuration is missing.
    """
    model = next((folder / n for n in MODEL_NAMES if (folder / n).is_file()), None)
    config = folder / "config.json"
    if model is None or not config.is_file():
        missing = "config.json" if model else MODEL_NAMES[0]
        raise BadArchive(f"{folder.name} holds no checkpoint: {missing} is missing")
    stats = folder / "scale_stats.npy"
    return Checkpoint(model, config, stats if stats.is_file() else None)


def _refuse_hostile(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_FILES:
        raise BadArchive(f"{archive.name} holds {len(members)} files")
    if sum(m.file_size for m in members) > MAX_TOTAL_BYTES:
        raise BadArchive(f"{archive.name} would unpack to more than {MAX_TOTAL_BYTES >> 30} GiB")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[:1]:
            raise BadArchive(f"{archive.name} holds a path that leaves it: {member.filename!r}")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise BadArchive(f"{archive.name} holds a link: {member.filename!r}")
        if member.flag_bits & 1:
            raise BadArchive(f"{archive.name} is encrypted")
        if member.file_size > MAX_FILE_BYTES:
            raise BadArchive(f"{archive.name} holds a file of {member.file_size} bytes")
        if (
            member.file_size > max(member.compress_size, 1) * MAX_RATIO
            and member.file_size > _CHUNK
        ):
            raise BadArchive(f"{archive.name} holds a zip bomb: {member.filename!r}")


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Extract one member; reading it to its end also checks its CRC."""
    left = member.file_size
    with opened.open(member) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise BadArchive(f"{member.filename!r} is larger than it says")
            file.write(chunk)
    if left:
        raise BadArchive(f"{member.filename!r} is shorter than it says")
