"""`env.example` is the list of all settings: it names each, with its default, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asr_service.app.settings import AsrSettings
from common.settings import CommonSettings, load_settings
from gateway.app.settings import GatewaySettings
from tts_service.app.settings import TtsSettings

LINES = (Path(__file__).resolve().parent.parent / "env.example").read_text().splitlines()
LISTED = {
    match[1]: match[2] for line in LINES if (match := re.fullmatch(r"#([A-Z][A-Z_]*)=(.*)", line))
}
CLASSES = (CommonSettings, TtsSettings, AsrSettings, GatewaySettings)
FIELDS = {name: cls for cls in CLASSES for name in cls.__annotations__ if name != "own_prefix"}


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` and no variable of this machine takes part."""
    monkeypatch.chdir(tmp_path)
    for name in FIELDS:
        monkeypatch.delenv(name.upper(), raising=False)


def test_names_exactly_the_settings_that_exist() -> None:
    assert set(LISTED) == {name.upper() for name in FIELDS}


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


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_says_what_the_setting_means_on_the_line_above_it(name: str) -> None:
    place = next(i for i, line in enumerate(LINES) if line.startswith(f"#{name.upper()}="))
    assert re.fullmatch(r"# [A-Z].*\.", LINES[place - 1])


def test_every_line_is_a_setting_a_meaning_or_empty() -> None:
    strange = [x for x in LINES if x and not re.match(r"# \S|#[A-Z][A-Z_]*=", x)]
    assert strange == []
