"""Settings that all services share, and how any service's settings are read.

A setting's name is its environment variable in lower case. Values come from the environment, then
from `.env` in the working directory, then from the defaults here; `env.example` lists them all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_FILE = ".env"
FOR_THE_CONTAINERS = ("REPLICAS", "CPUS", "MEMORY", "VOICES_BASE_URL")
"""After a service's prefix: variables of the same `.env` that docker-compose.yml reads."""


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)]


class CommonSettings(BaseSettings):
    """What every service understands. Each service derives its own class from this one."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True
    )

    own_prefix: ClassVar[str] = ""
    """Variables that begin so belong to this service: one that it does not know is reported."""

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


S = TypeVar("S", bound=CommonSettings)


class SettingsError(Exception):
    """Settings that do not fit; the message names each with what is wrong, a line each."""


def load_settings(cls: type[S]) -> S:
    """Read and validate `cls` from the environment and `.env`.

    Raises `SettingsError`.
    """
    try:
        return cls()
    except ValidationError as error:
        lines = [
            f"{'_'.join(str(part) for part in e['loc']).upper()}={e['input']!r}: {e['msg']}"
            for e in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from None


def unknown_variables(
    cls: type[CommonSettings], environ: Mapping[str, str] | None = None
) -> list[str]:
    """Variables with the service's prefix that nothing answers to: most likely misspelt."""
    names = set(os.environ if environ is None else environ)
    if environ is None and Path(ENV_FILE).is_file():
        names |= set(dotenv_values(ENV_FILE))
    prefix = cls.own_prefix
    known = {name.upper() for name in cls.model_fields}
    known |= {f"{prefix}{name}" for name in FOR_THE_CONTAINERS}
    return sorted(n for n in names if prefix and n.startswith(prefix) and n not in known)
