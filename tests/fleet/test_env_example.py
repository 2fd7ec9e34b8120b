"""`env.example` lists all settings and what Compose reads: each with its default, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from asr_service.app.settings import AsrSettings
from common.settings import CommonSettings, load_settings, unknown_variables
from gateway.app.settings import GatewaySettings
from tts_service.app.settings import TtsSettings

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "env.example").read_text().splitlines()
LISTED = {
    match[1]: match[2] for line in LINES if (match := re.fullmatch(r"#([A-Z][A-Z_]*)=(.*)", line))
}
CLASSES = (CommonSettings, TtsSettings, AsrSettings, GatewaySettings)
FIELDS = {name: cls for cls in CLASSES for name in cls.__annotations__ if name != "own_prefix"}
SETTINGS = {name.upper() for name in FIELDS}
FOR_MAKE = {"VERSION", "REVISION", "SOURCE", "CLIENT_USER"}
"""Set by deploy/compose, not by people."""
COMPOSE_FILES = [ROOT / "docker-compose.yml", *sorted((ROOT / "deploy").glob("compose.*.yml"))]
ASKED_FOR = {
    match[1]: match[2] or ""
    for file in COMPOSE_FILES
    for match in re.finditer(r"\$\{(\w+)(?::-(.*?)|:\?.*?)?\}", file.read_text())
    if match[1] not in FOR_MAKE
}
"""Variables of the Compose files with their defaults."""
IN_IMAGES = {"TTS_MODEL": "tts_models/en/ljspeech/tacotron2-DDC"}
"""Where an image is built with another default than a service has outside of one."""
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` and no variable of this machine takes part."""
    monkeypatch.chdir(tmp_path)
    for name in FIELDS:
        monkeypatch.delenv(name.upper(), raising=False)


def test_names_exactly_the_settings_that_exist() -> None:
    assert set(LISTED) == SETTINGS | set(ASKED_FOR)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_shows_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls, shown = FIELDS[name], LISTED[name.upper()]
    field = cls.model_fields[name]
    if field.default_factory is not None:
        assert shown == "", "a default that depends on the machine is shown empty"
        return
    assert shown != ""
    monkeypatch.setenv(name.upper(), shown)
    assert getattr(load_settings(cls), name) == field.default


@pytest.mark.parametrize("name", sorted(set(ASKED_FOR) - set(IN_IMAGES)))
def test_shows_the_default_of_the_compose_files(name: str) -> None:
    assert LISTED[name] == ASKED_FOR[name]


@pytest.mark.parametrize("name", sorted(IN_IMAGES))
def test_names_an_images_own_default_with_the_meaning(name: str) -> None:
    assert ASKED_FOR[name] == IN_IMAGES[name]
    assert f"ARG {name}={IN_IMAGES[name]}\n" in (ROOT / "tts_service/Dockerfile").read_text()
    assert IN_IMAGES[name] in LINES[LINES.index(f"#{name}={LISTED[name]}") - 1]


@pytest.mark.parametrize("name", sorted(set(ASKED_FOR) - SETTINGS))
def test_what_compose_reads_is_not_reported_as_misspelt(name: str) -> None:
    for cls in CLASSES:
        assert unknown_variables(cls, {name: "1"}) == []


@pytest.mark.parametrize(
    ("service", "cls"), [("tts", TtsSettings), ("asr", AsrSettings), ("gateway", GatewaySettings)]
)
def test_every_setting_reaches_its_container(service: str, cls: type[CommonSettings]) -> None:
    # Inside, addresses and places are always the same; names and origins are of the one door alone.
    fixed = {"HOST", f"{service.upper()}_PORT", "TTS_VOICES_DIR"}
    at_the_door = set() if service == "gateway" else {"CORS_ORIGINS", "ALLOWED_HOSTS"}
    expected = {name.upper() for name in cls.model_fields} - fixed - at_the_door
    assert set(SERVICES[service]["environment"]) == expected


@pytest.mark.parametrize("name", sorted(LISTED))
def test_says_what_the_setting_means_on_the_line_above_it(name: str) -> None:
    place = next(i for i, line in enumerate(LINES) if line.startswith(f"#{name}="))
    assert re.fullmatch(r"# [A-Z].*\.", LINES[place - 1])


def test_every_line_is_a_setting_a_meaning_or_empty() -> None:
    strange = [x for x in LINES if x and not re.match(r"# \S|#[A-Z][A-Z_]*=", x)]
    assert strange == []
