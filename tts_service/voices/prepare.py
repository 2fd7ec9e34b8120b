"""This module prepares a voice: it finds its files, unpacks, exports, checks and installs them."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tts_service.app.engines.tacotron.manifest import (
    FILE,
    Manifest,
    VoiceError,
    read_manifest,
    voice_folder,
)

from . import catalogue
from .errors import Busy, CheckFailed, UnknownVoice
from .fetch import fetch, sha256
from .unpack import Checkpoint, find_checkpoint, unpack

DOWNLOADS = ".downloads"


@dataclass(frozen=True)
class Places:
    """Places are the folder of the voices and the address of the releases."""

    voices_dir: Path
    base_url: str = catalogue.RELEASES

    @property
    def downloads(self) -> Path:
        return self.voices_dir / DOWNLOADS


@dataclass(frozen=True)
class Source:
    """A source is the files of one model, and where they came from."""

    name: str
    checkpoint: Checkpoint
    source: str
    licence: str
    hashes: dict[str, str]
    vocoder: str | None
    """The vocoder that the source itself names."""


def pull(name: str, places: Places) -> list[Path]:
    """Download a voice of the catalogue and its vocoder, and do nothing else."""
    model = catalogue.release(name, places.base_url)
    names = [name] + ([model.vocoder] if model.vocoder else [])
    with locked(places.voices_dir, name):
        return [_fetch(catalogue.release(n, places.base_url).url, places)[0] for n in names]


def prepare(
    source: str,
    places: Places,
    *,
    vocoder: str | None = None,
    name: str | None = None,
    force: bool = False,
) -> tuple[Manifest, bool]:
    """Make a voice from `source`.

    That is a name in Coqui's catalogue, a zip file (path or URL), or a folder with a checkpoint and
    the vocoder's in its folder `vocoder`. Returns the manifest and whether the voice was made: one
    that was made from the same files is kept unless `force` is set. Raises `PrepareError`; then a
    voice that was installed before is still there.
    """
    name = name or _name_of(source)
    places.voices_dir.mkdir(parents=True, exist_ok=True)
    with (
        locked(places.voices_dir, name),
        tempfile.TemporaryDirectory(dir=places.voices_dir, prefix=".making-") as scratch,
    ):
        work = Path(scratch)
        model = _find(source, places, work / "model")
        named = vocoder or model.vocoder
        if named is None:
            raise UnknownVoice(f"{source} names no vocoder: give one with --vocoder")
        generator = _find(named, places, work / "vocoder")
        hashes = {**model.hashes, **generator.hashes}
        if not force and (there := _same(places, name, hashes)) is not None:
            return there, False
        manifest = _make(name, model, generator, hashes, work)
        _install(work / "voice", voice_folder(places.voices_dir, name))
    return manifest, True


def verify(name: str, places: Places) -> Manifest:
    """Check that a prepared voice's files are those that were installed. Raises `CheckFailed`."""
    try:
        manifest, folder = read_manifest(places.voices_dir, name)
    except VoiceError as error:
        raise CheckFailed(str(error)) from error
    for file in sorted(folder.glob("*.onnx")):
        if manifest.hashes.get(file.name) != sha256(file):
            raise CheckFailed(f"{file} is not the file that was installed: prepare the voice again")
    return manifest


def _make(
    name: str, model: Source, generator: Source, hashes: dict[str, str], work: Path
) -> Manifest:
    # Torch and Coqui take seconds to import: only once it is clear that they are needed.
    from .check import check
    from .coqui import CoquiVoice
    from .export import Provenance, export

    folder = work / "voice"
    folder.mkdir()
    coqui = CoquiVoice(model.checkpoint, generator.checkpoint, work)
    provenance = Provenance(
        name=name,
        vocoder=generator.name,
        licence=model.licence,
        source={"model": model.source, "vocoder": generator.source},
        hashes=hashes,
    )
    try:
        manifest = check(coqui, export(coqui, folder, provenance), folder)
    except VoiceError as error:
        raise CheckFailed(f"the export cannot be loaded: {error}") from error
    made = {file.name: sha256(file) for file in sorted(folder.glob("*.onnx"))}
    manifest = manifest.model_copy(update={"hashes": {**hashes, **made}})
    (folder / FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def _install(made: Path, place: Path) -> None:
    """Replace the installed voice; a service that has the old one open keeps using it."""
    old = place.with_name(f".old-{place.name}")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    made.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _same(places: Places, name: str, hashes: dict[str, str]) -> Manifest | None:
    """Return the installed voice if it was made from these files and is undamaged."""
    try:
        manifest = verify(name, places)
    except CheckFailed:
        return None
    return manifest if hashes.items() <= manifest.hashes.items() else None


def _name_of(source: str) -> str:
    """Return the name in a path: `…/tts_models--en--a--b.zip` is `tts_models/en/a/b`."""
    if source.startswith("tts_models/"):
        return source
    return Path(source.rstrip("/")).name.removesuffix(".zip").replace("--", "/")


def _find(source: str, places: Places, target: Path) -> Source:
    if source.startswith(("tts_models/", "vocoder_models/")) and not Path(source).exists():
        entry = catalogue.release(source, places.base_url)
        file, digest = _fetch(entry.url, places)
        checkpoint = unpack(file, target)
        return Source(
            entry.name, checkpoint, entry.url, entry.licence, {file.name: digest}, entry.vocoder
        )
    if source.startswith(("https://", "http://")):
        file, digest = _fetch(source, places)
        return Source(_name_of(source), unpack(file, target), source, "", {file.name: digest}, None)
    path = Path(source)
    if path.is_dir():
        checkpoint = find_checkpoint(path)
        inner = path / "vocoder"
        prefix = f"{path.name}/"
        hashes = {prefix + f.name: sha256(f) for f in (checkpoint.model, checkpoint.config)}
        return Source(
            _name_of(source),
            checkpoint,
            str(path),
            "",
            hashes,
            str(inner) if inner.is_dir() else None,
        )
    if path.is_file():
        hashes = {path.name: sha256(path)}
        return Source(_name_of(source), unpack(path, target), str(path), "", hashes, None)
    raise UnknownVoice(
        f"{source} is neither a name in the catalogue nor a file, folder or http address"
    )


def _fetch(url: str, places: Places) -> tuple[Path, str]:
    pinned = catalogue.PINNED_SHA256.get(url.rsplit("/", 1)[-1])
    return fetch(url, places.downloads, pinned=pinned)


@contextmanager
def locked(voices_dir: Path, name: str) -> Iterator[None]:
    """Allow one process for each voice. Raises `Busy` if another is preparing it."""
    voices_dir.mkdir(parents=True, exist_ok=True)
    lock = voices_dir / f".lock-{voice_folder(voices_dir, name).name}"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"another process is preparing {name}") from error
        yield
