"""This module makes a stand-in for the official Python image, where no registry can be reached.

It is Debian's own Python 3.11 in a minimal Debian 12, with `python` and `pip` where the official
image has them. It has this machine's certificates and pip settings, so that the Dockerfiles do not
mention them. The file system is kept in the cache and made again only if it is missing.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.containers.engine.engine import Engine, EngineError

IMAGE = "python:3.11-slim"
SUITE = "bookworm"
PULL_TIMEOUT_S = 90.0
MAKE_TIMEOUT_S = 600.0

DOCKERFILE = """\
FROM scratch
ADD base.tar /
COPY certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY pip.conf /etc/pip.conf
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["python3"]
"""


def provide(engine: Engine, cache: Path) -> str:
    """Have the engine know `python:3.11-slim`; returns how. Raises `EngineError`."""
    try:
        engine.docker("pull", "--quiet", IMAGE, timeout_s=PULL_TIMEOUT_S)
        return "pulled"
    except EngineError:
        pass
    tar = cache / f"base-{SUITE}.tar"
    how = "from the cache"
    if not tar.is_file():
        _make(tar)
        how = "made with mmdebstrap"
    context = engine.folder / "base"
    context.mkdir()
    try:
        (context / "base.tar").hardlink_to(tar)
    except OSError:
        shutil.copyfile(tar, context / "base.tar")
    _copy(Path("/etc/ssl/certs/ca-certificates.crt"), context / "certificates.crt")
    _copy(Path("/etc/pip.conf"), context / "pip.conf")
    (context / "Dockerfile").write_text(DOCKERFILE)
    engine.docker("build", "--quiet", "--tag", IMAGE, str(context), timeout_s=300)
    shutil.rmtree(context)
    return how


def _make(tar: Path) -> None:
    mirror = mirror_of_this_machine()
    unfinished = tar.with_suffix(".part.tar")
    command = [
        "mmdebstrap",
        "--variant=minbase",
        "--include=python3,python3-venv,ca-certificates",
        "--aptopt=Acquire::Languages none",
        *(f"--dpkgopt=path-exclude=/usr/share/{p}/*" for p in ("doc", "locale", "man")),
        '--customize-hook=chroot "$1" python3 -m venv /usr/local',
        SUITE,
        str(unfinished),
        *([f"deb {mirror} {SUITE} main"] if mirror else []),
    ]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=MAKE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"The base image was not made within {MAKE_TIMEOUT_S:g} s.") from None
    if ran.returncode:
        end = "\n".join(ran.stderr.splitlines()[-15:])
        raise EngineError(f"The base image cannot be made: mmdebstrap said:\n{end}")
    unfinished.replace(tar)


def mirror_of_this_machine() -> str:
    """Where this machine's apt gets Debian from; empty if it does not say."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    uris = [uri for uri in ran.stdout.split() if "security" not in uri]
    return uris[0] if uris else ""


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        shutil.copyfile(source, target)
    else:
        target.touch()
