"""The fleet that `make up` starts works as documented."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from client.stream_tts import speak_to_file
from client.transcribe import transcribe
from client.wav import read_wav
from deploy.local.words import words
from tests.containers.support import SERVICES, Fleet, docker, events, image, is_ready, run, wait_for

SENTENCE = "The library opens at eight in the morning and closes at six in the evening."


def test_what_is_said_is_heard_through_the_one_door(fleet: Fleet, tmp_path: Path) -> None:
    speak_to_file(SENTENCE, tmp_path / "speech.wav", fleet.ws)
    heard = transcribe(read_wav(tmp_path / "speech.wav"), fleet.url())
    assert words(heard.text) == words(SENTENCE)


def test_the_services_answer_on_their_own_ports_too(fleet: Fleet, tmp_path: Path) -> None:
    for name in SERVICES:
        assert httpx.get(f"{fleet.url(name)}/healthz").json()["service"] == name
    speak_to_file(SENTENCE, tmp_path / "speech.wav", f"{fleet.url('tts', 'ws')}/ws/tts")
    heard = transcribe(read_wav(tmp_path / "speech.wav"), fleet.url("asr"))
    assert words(heard.text) == words(SENTENCE)


def test_the_ports_are_open_to_this_machine_alone(fleet: Fleet) -> None:
    published = fleet.compose("ps")
    assert f"127.0.0.1:{fleet.port()}" in published
    assert "0.0.0.0" not in published


def test_docker_and_nothing_else_is_enough_for_the_clients(fleet: Fleet) -> None:
    said = fleet.compose("run", "--rm", "client", timeout_s=180)
    assert "heard             The quick brown fox jumps over 13 lazy dogs." in said
    said = fleet.compose(
        *("run", "--rm", "client", "python", "client/stream_tts.py", "--text", "Hello world"),
        *("--out", "/tmp/hello.wav", "--url", "http://gateway:8000"),
    )
    assert "written to        /tmp/hello.wav" in said


def test_health_names_each_container(fleet: Fleet) -> None:
    said = run("deploy/containers", "health", env=fleet.environment)
    assert said.count("healthy") == 4


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_can_do_nothing_but_serve(fleet: Fleet, service: str) -> None:
    (container,) = fleet.ids(service)
    # 1 is the init, which has started the service.
    status = docker("exec", container, "sh", "-c", "cat /proc/1/status /proc/self/status")
    fields = [line.split() for line in status.splitlines()]
    values = {name: {f[1] for f in fields if f[0] == name} for name in ("Uid:", "Gid:")}
    assert values == {"Uid:": {"10001"}, "Gid:": {"10001"}}
    for name in ("CapEff:", "CapPrm:", "CapBnd:"):
        assert {int(f[1], 16) for f in fields if f[0] == name} == {0}
    assert {f[1] for f in fields if f[0] == "NoNewPrivs:"} == {"1"}
    where = "for d in / /app /etc /opt/venv /var /home; do touch $d/x 2>/dev/null && echo $d; done"
    assert docker("exec", container, "sh", "-c", f"{where}; touch /tmp/x") == ""
    log = docker("inspect", "--format", "{{.HostConfig.LogConfig.Config}}", container)
    assert "max-size:10m" in log
    assert int(docker("inspect", "--format", "{{.HostConfig.Memory}}", container)) > 0
    assert docker("inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", container) == (
        "unless-stopped"
    )
    assert int(docker("inspect", "--format", "{{.Config.StopTimeout}}", container)) > 25


def test_one_request_id_stands_in_the_json_logs_of_all_three(fleet: Fleet, tmp_path: Path) -> None:
    speak_to_file(SENTENCE, tmp_path / "speech.wav", fleet.ws)
    pcm = (tmp_path / "speech.wav").read_bytes()[44:]
    headers = {"X-Request-ID": "one-id-through-three-containers"}
    url = f"{fleet.url()}/api/echo-bytes?sr=16000&ch=1&fmt=s16le"
    answer = httpx.post(url, content=pcm, headers=headers, timeout=60)
    assert answer.status_code == 200
    for service in SERVICES:
        (container,) = fleet.ids(service)
        mine = [e for e in events(container) if e.get("request_id") == headers["X-Request-ID"]]
        assert {e["service"] for e in mine} == {service}


def test_the_health_check_is_cheap(fleet: Fleet) -> None:
    (container,) = fleet.ids("tts")
    checks = "for i in 1 2 3 4 5 6 7 8 9 10; do healthcheck 8082 || exit 1; done"
    script = f"TIMEFORMAT='%U %S'; {{ time ({checks}); }} 2>&1"
    cpu_s = sum(map(float, docker("exec", container, "bash", "-c", script).split()))
    print(f"{cpu_s * 100:.1f} ms of CPU a check")
    assert cpu_s / 10 < 0.05


def test_nothing_asks_the_network(images: None) -> None:
    """On a network that leads nowhere the services start, speak and listen all the same."""
    network = "fleet-test-internal"
    docker("network", "create", "--internal", network)
    safe = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--network", network)
    names = [f"fleet-test-offline-{service}" for service in SERVICES]
    outside = "fleet-test-outside"
    try:
        for name, service in zip(names, SERVICES, strict=True):
            docker(
                *("run", "--detach", "--name", name, "--network-alias", service, *safe),
                *("--env=GATEWAY_TTS_URL=http://tts:8082", "--env=GATEWAY_ASR_URL=http://asr:8081"),
                image(service),
            )
        wait_for(lambda: all(map(is_ready, names, (8082, 8081, 8000))), what="ready offline")
        client = ("run", "--rm", *safe, "--tmpfs=/app/.run/client:mode=1777", image("client"))
        assert "heard             The quick brown fox" in docker(*client)
        # It does lead nowhere: a neighbour on another network of this machine cannot be reached.
        docker("run", "--detach", "--name", outside, image("gateway"))
        address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", outside)
        knock = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/8000' 2>/dev/null && echo open"
        wait_for(lambda: docker("exec", outside, "bash", "-c", knock, check=False) == "open")
        for name in names:
            assert docker("exec", name, "bash", "-c", knock, check=False) == ""
        said = {e["event"] for name in names for e in events(name)}
        assert "model.load_failed" not in said
    finally:
        docker("rm", "--force", *names, outside, check=False)
        docker("network", "rm", network)


def test_health_goes_from_not_ready_to_ready(images: None) -> None:
    name = "fleet-test-health"
    docker("run", "--detach", "--name", name, "--health-interval=1s", image("tts"))
    try:
        seen = []

        def healthy() -> bool:
            state = docker("inspect", "--format", "{{.State.Health.Status}}", name)
            ready = docker(
                *("exec", name, "sh", "-c", "healthcheck 8082 2>/dev/null && echo 200"), check=False
            )
            seen.append((state, "200" in ready))
            return state == "healthy"

        wait_for(healthy, what="healthy")
        assert seen[0] == ("starting", False)
        assert seen[-1] == ("healthy", True)
        # Never green before it can serve.
        assert ("healthy", False) not in seen
    finally:
        docker("rm", "--force", name)


def test_an_utterance_is_finished_when_its_container_is_stopped(
    fleet: Fleet, tmp_path: Path
) -> None:
    (container,) = fleet.ids("tts")
    text = f"{SENTENCE} " * 30
    try:
        with ThreadPoolExecutor(1) as threads:
            began: list[float] = []
            speaking = threads.submit(
                speak_to_file, text, tmp_path / "long.wav", fleet.ws, on_audio=began.append
            )
            wait_for(lambda: bool(began), what="first audio")
            assert not speaking.done()
            docker("stop", "--time=40", container)
            spoken = speaking.result(60)
        assert spoken.audio_s > 60
        assert spoken.audio_s == pytest.approx(_audio_s_of(events(container)), abs=0.1)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"
    finally:
        docker("start", container)
        wait_for(
            lambda: httpx.get(f"{fleet.url()}/readyz", timeout=20).status_code == 200,
            what="it speaks again",
        )


def _audio_s_of(log: list[dict[str, object]]) -> float:
    """Of what was said last."""
    done = [event for event in log if event["event"] == "utterance.done"]
    return float(str(done[-1]["audio_ms"])) / 1000


def test_compose_1_29_brings_it_up_too(images: None, tmp_path: Path) -> None:
    # Without the folder of plugins the client has no Compose of its own.
    fleet = Fleet("fleet-test-old", {"DOCKER_CONFIG": str(tmp_path)}, first_port=19000)
    if fleet.compose("--which") != "docker-compose --compatibility":
        pytest.skip("docker-compose 1.29 is not installed, or the engine's client has a Compose")
    try:
        fleet.make("up", TTS_REPLICAS="2")
        assert len(fleet.ids("tts")) == 2
        spoken = speak_to_file(SENTENCE, tmp_path / "speech.wav", fleet.ws)
        assert spoken.audio_s > 2
        fleet.make("health")
    finally:
        fleet.make("down")
    assert not fleet.ids("gateway")
