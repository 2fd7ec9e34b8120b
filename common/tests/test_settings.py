"""Settings come from the environment, are validated, and are reported where misspelt."""

from pathlib import Path
from typing import ClassVar

import pytest

from common.settings import (
    CommonSettings,
    SettingsError,
    closest_setting,
    load_settings,
    unknown_variables,
)


class ToySettings(CommonSettings):
    own_prefix: ClassVar[str] = "TOY_"
    toy_slots: int = 3


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_settings(ToySettings).toy_slots == 3
    Path(".env").write_text("TOY_SLOTS=4\n")
    assert load_settings(ToySettings).toy_slots == 4
    monkeypatch.setenv("TOY_SLOTS", "5")
    assert load_settings(ToySettings).toy_slots == 5


def test_a_value_that_does_not_fit_is_named_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOY_SLOTS", "many")
    monkeypatch.setenv("DRAIN_SECONDS", "-1")
    with pytest.raises(SettingsError) as error:
        load_settings(ToySettings)
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert any(line.startswith("TOY_SLOTS='many': ") for line in lines)
    assert any(line.startswith("DRAIN_SECONDS='-1': ") for line in lines)


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_SLOTS", "")
    assert load_settings(ToySettings).toy_slots == 3


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example, https://b.example,")
    origins = load_settings(ToySettings).cors_origins
    assert origins == ("https://a.example", "https://b.example")


def test_an_unknown_variable_with_the_prefix_is_reported_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOY_SLOTZ", "1")
    monkeypatch.setenv("OTHER_SLOTZ", "1")
    Path(".env").write_text("TOY_QUEUE=4\nTOY_SLOTS=1\n")
    assert unknown_variables(ToySettings) == ["TOY_QUEUE", "TOY_SLOTZ"]


def test_a_variable_that_is_close_to_a_setting_is_reported_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("APIKEY", "TOYSLOTS", "Host", "GATEWAY_PORT", "OPENAI_API_KEY", "HOSTNAME"):
        monkeypatch.setenv(name, "1")
    Path(".env").write_text("LOGLEVEL=debug\nDRAIN_SECOND=4\n")
    found = unknown_variables(ToySettings)
    assert {"APIKEY", "TOYSLOTS", "LOGLEVEL", "DRAIN_SECOND"} <= set(found)
    assert not {"GATEWAY_PORT", "OPENAI_API_KEY", "HOSTNAME"} & set(found)
    assert [closest_setting(ToySettings, name) for name in ("APIKEY", "TOYSLOTS", "LOGLEVEL")] == [
        "API_KEYS",
        "TOY_SLOTS",
        "LOG_LEVEL",
    ]


def test_a_range_is_named_and_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAIN_SECONDS", "-1")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    monkeypatch.setenv("API_KEYS", "topsecret")
    with pytest.raises(SettingsError) as error:
        load_settings(ToySettings)
    lines = str(error.value).splitlines()
    assert "DRAIN_SECONDS='-1': must be 0 to 3600" in lines
    assert "LOG_LEVEL='loud': must be debug, info, warning or error" in lines
    assert "topsecret" not in str(error.value)
