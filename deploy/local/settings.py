"""This module finds the ports and the key of this machine's fleet.

A fleet that `make run` started is remembered in `.run/fleet.json`, so that `make health` and
`make test-client` find it without being given its ports again. The file is locked for as long as
that fleet runs: one without a lock was left behind by a run that was killed, and does not count.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from asr_service.app.settings import AsrSettings
from client.connection import KEY_VARIABLE
from common.settings import CommonSettings, load_settings
from deploy.local.fleet import ports_in_use
from gateway.app.settings import GatewaySettings
from tts_service.app.settings import TtsSettings

REMEMBERED = Path(".run/fleet.json")
"""In the folder that the fleet is started in, as its `.env` is."""

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1", "localhost": "127.0.0.1"}  # noqa: S104


def chosen_ports() -> dict[str, int]:
    """Return each service's port: from the environment, `.env` or default.

    Raises `SettingsError`.
    """
    return {
        "asr": load_settings(AsrSettings).asr_port,
        "tts": load_settings(TtsSettings).tts_port,
        "gateway": load_settings(GatewaySettings).gateway_port,
    }


def running_ports(
    environ: Mapping[str, str] = os.environ, file: Path = REMEMBERED
) -> dict[str, int]:
    """Return the ports of the fleet that runs here; the chosen ones if none is remembered.

    A port that stands in the environment counts before a remembered one. Raises `SettingsError`.
    """
    chosen, remembered = chosen_ports(), remembered_ports(file)
    return {
        name: port if f"{name.upper()}_PORT" in environ else remembered.get(name, port)
        for name, port in chosen.items()
    }


def remembered_ports(file: Path = REMEMBERED) -> dict[str, int]:
    """Return the ports of the fleet that `make run` runs in this folder; empty if none runs."""
    try:
        with file.open(encoding="utf-8") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return {name: int(port) for name, port in json.load(held)["ports"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {}


@contextmanager
def ports_remembered(ports: Mapping[str, int], file: Path = REMEMBERED) -> Iterator[bool]:
    """Remember `ports` while the body runs.

    Yields false if another fleet is remembered already, or nothing can be written here.
    """
    with ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(file.open("a", encoding="utf-8"))
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        held.truncate(0)
        json.dump({"pid": os.getpid(), "ports": dict(ports)}, held)
        held.flush()
        try:
            yield True
        finally:
            file.unlink(missing_ok=True)


def provide_key() -> None:
    """Put the fleet's first key where the clients look, unless the user has put one there.

    Raises `SettingsError`.
    """
    if key := load_settings(GatewaySettings).keys.own:
        os.environ.setdefault(KEY_VARIABLE, key)


def reachable_host() -> str:
    """Return the address at which this machine reaches its services. Raises `SettingsError`."""
    host = load_settings(CommonSettings).host
    return ANY_ADDRESS.get(host, f"[{host}]" if ":" in host else host)


def complaint(ports: Mapping[str, int], target: str) -> str:
    """Return a sentence about those of `ports` that are in use; empty if none is.

    `target` is the target of make that wants them.
    """
    taken = ports_in_use(ports)
    if not taken:
        return ""
    *most, last = [f"{port} ({name})" for name, port in taken.items()]
    which = f"Ports {', '.join(most)} and {last} are" if most else f"Port {last} is"
    others = " ".join(f"{name.upper()}_PORT={port + 100}" for name, port in taken.items())
    return (
        f"{which} in use by another program, perhaps a fleet that runs already: stop it "
        f"(`ss -ltnp` or `lsof -i :{next(iter(taken.values()))}` names it), or use other ports "
        f"with `make {target} {others}`."
    )
