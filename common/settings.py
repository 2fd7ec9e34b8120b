"""Defines the settings that all services share, and reads those of any service.

A setting's name is its environment variable in lower case. Values come from the environment, then
from `.env` in the working directory, then from the defaults here; `env.example` lists them all.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from common.keys import Keys, parse_keys, read_keys
from common.validation import close_to, what_is_wrong

ENV_FILE = ".env"
PREFIXES = ("TTS_", "ASR_", "GATEWAY_")
"""Prefixes of the settings of a service; each service reports variables with its own prefix."""
FOR_THE_CONTAINERS = ("REPLICAS", "CPUS", "MEMORY", "VOICES_BASE_URL")
"""Variables, after a service's prefix, that docker-compose.yml reads from the same `.env`."""


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)]


class CommonSettings(BaseSettings):
    """The settings that every service has. Each service derives its own class from this one."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True
    )

    own_prefix: ClassVar[str] = ""
    """Prefix of the service's own variables; an unknown one is reported."""

    host: str = "127.0.0.1"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    log_text: bool = False
    drain_seconds: float = Field(default=25.0, ge=0, le=3600)
    idle_timeout_s: float = Field(default=60.0, gt=0)
    max_session_s: float = Field(default=3600.0, gt=0)
    max_message_bytes: int = Field(default=65536, ge=1024, le=16 * 1024 * 1024)
    cors_origins: CommaSeparated = ("*",)
    allowed_hosts: CommaSeparated = ("*",)
    api_keys: SecretStr = Field(default_factory=lambda: SecretStr(""))
    api_keys_file: Path | None = Field(default_factory=lambda: None)
    docs: bool = True

    @field_validator("api_keys")
    @classmethod
    def _keys_fit(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value().split(","))
        return value

    @field_validator("api_keys_file")
    @classmethod
    def _file_of_keys_fits(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_keys(value)
        return value

    @property
    def keys(self) -> Keys:
        """Return all keys of `API_KEYS` and `API_KEYS_FILE`. Raises `BadKeys`."""
        named = parse_keys(self.api_keys.get_secret_value().split(","))
        filed = read_keys(self.api_keys_file) if self.api_keys_file else Keys()
        both = named.holders + filed.holders
        return parse_keys(f"{name}:{key}" for name, key in both)

    @property
    def open_to_the_network(self) -> bool:
        """Whether other machines can reach the port."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True


S = TypeVar("S", bound=CommonSettings)


class SettingsError(Exception):
    """The settings cannot be used; the message has a line for each that is wrong."""


def load_settings(cls: type[S]) -> S:
    """Read and validate `cls` from the environment and `.env`.

    Raises `SettingsError`.
    """
    try:
        return cls()
    except ValidationError as error:
        raise SettingsError("\n".join(_in_a_line(cls, e) for e in error.errors())) from None


def _in_a_line(cls: type[CommonSettings], error: ErrorDetails) -> str:
    name = "_".join(str(part) for part in error["loc"])
    if not name:
        return what_is_wrong(error)
    field = cls.model_fields.get(name)
    secret = field is not None and field.annotation is SecretStr
    given = "" if secret else f"={error['input']!r}"
    return f"{name.upper()}{given}: {what_is_wrong(error, cls, show_value=False)}"


def unknown_variables(
    cls: type[CommonSettings], environ: Mapping[str, str] | None = None
) -> list[str]:
    """Return variables that are most likely a misspelt setting of the service.

    They have the service's prefix and are not known, or are close to the name of a setting.
    """
    names = set(os.environ if environ is None else environ)
    if environ is None and Path(ENV_FILE).is_file():
        names |= set(dotenv_values(ENV_FILE))
    known = {name.upper() for name in cls.model_fields}
    known |= {f"{cls.own_prefix}{name}" for name in FOR_THE_CONTAINERS}
    return sorted(
        name
        for name in names - known
        if (cls.own_prefix and name.startswith(cls.own_prefix))
        or (not name.startswith(PREFIXES) and closest_setting(cls, name))
    )


def closest_setting(cls: type[CommonSettings], variable: str) -> str | None:
    """Return the setting that `variable` is most likely a misspelling of, or None."""
    return close_to(variable, (name.upper() for name in cls.model_fields), cutoff=0.85)
