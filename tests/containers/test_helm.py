"""The Helm chart passes lint, and what it renders passes the schemas of Kubernetes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local import DEFAULT_PORTS
from tests.containers.engine import tools
from tests.containers.engine.__main__ import cache_folder
from tests.containers.support import run

CHART = "deploy/helm"
EVERYTHING = (
    "--set=ingress.enabled=true,ingress.host=speech.example.com,ingress.tlsSecretName=tls",
    "--set=gateway.secretName=keys,image.pullSecrets[0].name=pull",
    "--set=settings.LOG_LEVEL=debug,gateway.settings.GATEWAY_MAX_BODY_BYTES=24000000",
)


@pytest.fixture(scope="module")
def helm() -> str:
    return tools.provide_helm(cache_folder())


def rendered(helm: str, *options: str) -> list[dict[str, Any]]:
    said = run(helm, "template", "fleet", CHART, *options)
    return [document for document in yaml.safe_load_all(said) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {d["metadata"]["name"]: d for d in documents if d["kind"] == kind}


def test_the_chart_lints(helm: str) -> None:
    assert "0 chart(s) failed" in run(helm, "lint", "--strict", CHART)


@pytest.mark.parametrize("options", [(), EVERYTHING], ids=["defaults", "everything"])
def test_what_it_renders_is_valid(helm: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(run(helm, "template", "fleet", CHART, *options))
    validate = str(Path(sys.executable).parent / "kubernetes-validate")
    ended = subprocess.run(
        [validate, "--strict", str(manifests)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (ended.stdout + ended.stderr).count("passed for resource") >= 15


def test_the_probes_ports_and_names_are_those_of_the_services(helm: str) -> None:
    documents = rendered(helm, *EVERYTHING)
    deployments, services = of_kind(documents, "Deployment"), of_kind(documents, "Service")
    for name, port in DEFAULT_PORTS.items():
        pod = deployments[f"fleet-{name}"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["ports"][0]["containerPort"] == port
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        env = {e["name"]: e["value"] for e in container["env"]}
        assert pod["terminationGracePeriodSeconds"] > int(env["DRAIN_SECONDS"])
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        # Service links would set TTS_PORT and the like to addresses.
        assert pod["enableServiceLinks"] is False
        assert env["LOG_LEVEL"] == "debug"
    assert env["GATEWAY_MAX_BODY_BYTES"] == "24000000"
    assert env["GATEWAY_TTS_URL"] == "http://fleet-tts:8082"
    assert env["GATEWAY_ASR_URL"] == "http://fleet-asr:8081"
    for name in ("tts", "asr"):
        assert services[f"fleet-{name}"]["spec"]["clusterIP"] == "None"
