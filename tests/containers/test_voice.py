"""The build of the image makes the default voice from a release.

The released weights cannot be downloaded everywhere. So the release is one of the same form with
random weights, on a mirror on this machine.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from client.stream_tts import speak_to_file
from client.wav import read_wav
from deploy.local import ROOT
from tests.containers.support import (
    PREFIX,
    docker,
    image,
    is_ready,
    run,
    size_over_base,
    wait_for,
)
from tests.containers.test_images import MB

VOICE = "tts_models/en/ljspeech/tacotron2-DDC"
DOCKERFILE = ROOT / "tts_service/Dockerfile"
RELEASE = """
FROM voice-tools AS release
COPY common common
COPY tts_service tts_service
RUN /opt/voices/bin/python -W ignore -m tts_service.tests_voices.release /mirror
FROM scratch
COPY --from=release /mirror /
"""
IGNORED = "*\n!common\n!tts_service\n!deploy/image\n!pyproject.toml\n!constraints\n**/__pycache__"
"""Not the tests, of which one makes the release."""
SPEAKING = f"{PREFIX}/tts-{VOICE.rsplit('/', 1)[-1].lower()}:latest"
LIMIT_MB = 510
"""Over the base image: the embedded voice's 360, and this one in both precisions."""
NOWHERE = "http://127.0.0.1:9"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its address and its folder; on the loopback, so that pip asks for no certificate."""
    folder = tmp_path_factory.mktemp("mirror")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", folder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def build(*options: str, file: Path = DOCKERFILE) -> str:
    """Builds of tts without a word of which voice; they share this machine's loopback."""
    command = ("docker", "build", "--network=host", f"--file={file}", *options, ".")
    return run(*command, timeout_s=900, env={"DOCKER_BUILDKIT": "1"})


@pytest.fixture(scope="module")
def torch(mirror: tuple[str, Path]) -> str:
    """The option to build with the torch that pip gets here.

    Builds for the CPU need not be on the index that containers ask.
    """
    url, folder = mirror
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
    index = folder / "index" / "torch"
    run(*pip, "--constraint=constraints/voices.txt", f"--dest={index}", "torch", timeout_s=600)
    return f"--build-arg=TORCH_INDEX_URL={url}/index"


@pytest.fixture(scope="module")
def speaking(
    mirror: tuple[str, Path], torch: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The image, made of a release on the mirror; the stage that makes voices makes that, too."""
    url, folder = mirror
    file = tmp_path_factory.mktemp("release") / "Dockerfile"
    file.write_text(DOCKERFILE.read_text() + RELEASE)
    file.with_name("Dockerfile.dockerignore").write_text(IGNORED)
    build(f"--output=type=local,dest={folder}", torch, file=file)
    build(f"--build-arg=TTS_VOICES_BASE_URL={url}", f"--tag={SPEAKING}", torch)
    yield SPEAKING
    docker("image", "rm", "--force", SPEAKING)


def test_a_release_that_cannot_be_had_ends_the_build_with_what_to_set(
    torch: str,
) -> None:
    with pytest.raises(AssertionError) as failed:
        build("--target=voice", f"--build-arg=TTS_VOICES_BASE_URL={NOWHERE}", torch)
    assert f"error: {NOWHERE}/v0." in str(failed.value)
    assert f"The voice {VOICE} could not be downloaded and made" in str(failed.value)
    assert "TTS_MODEL=hibari/heart" in str(failed.value)
    assert "TTS_VOICES_BASE_URL" in str(failed.value)


def test_the_voice_of_a_release_is_spoken(speaking: str, tmp_path: Path) -> None:
    name = "fleet-test-voice"
    docker(
        *("run", "--detach", "--name", name, "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"),
        *("--publish=127.0.0.1::8082", speaking),
    )
    try:
        wait_for(lambda: is_ready(name, 8082), what="ready")
        address = docker("port", name, "8082/tcp")
        spoken = speak_to_file("Hello world.", tmp_path / "hello.wav", f"ws://{address}/ws/tts")
    finally:
        docker("rm", "--force", name)
    # Random weights babble; they stop after 40 steps.
    print(f"{spoken.audio_s:.2f} s of audio, the first after {spoken.first_audio_s * 1000:.0f} ms")
    assert spoken.audio_s > 0.3
    samples = np.frombuffer(read_wav(spoken.path).pcm, "<i2")
    assert np.abs(samples.astype(np.int32)).max() > 300


def test_only_the_voice_is_left_of_what_made_it(speaking: str) -> None:
    made_by = (
        *("/opt/voices", "*/site-packages/torch*", "*/site-packages/TTS", "*/libtorch*"),
        *("*/site-packages/coqui*", "*/model_file.pth", "*/tts_models--*.zip", "*/.downloads"),
    )
    found = " -o ".join(f"-path '{path}' -print" for path in made_by)
    script = f"find / -xdev -path /proc -prune -o {found}; ls -A /app/voices"
    left = docker("run", "--rm", "--user=0", "--entrypoint=sh", speaking, "-c", script)
    assert left == VOICE.replace("/", "--")


def test_the_image_is_larger_by_the_weights_alone(speaking: str) -> None:
    size, embedded = size_over_base(speaking), size_over_base(image("tts"))
    print(f"tts, {VOICE}: {size / MB:.0f} MB over the base image, {embedded / MB:.0f} without")
    assert size <= LIMIT_MB * MB
