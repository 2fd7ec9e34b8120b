"""The ports of a fleet on this machine: where they are set, and what to say when they are taken."""

from __future__ import annotations

from collections.abc import Mapping

from asr_service.app.settings import AsrSettings
from common.settings import load_settings
from deploy.local import ports_in_use
from gateway.app.settings import GatewaySettings
from tts_service.app.settings import TtsSettings


def chosen_ports() -> dict[str, int]:
    """Each service's port by the environment, `.env` or default. Raises `SettingsError`."""
    return {
        "asr": load_settings(AsrSettings).asr_port,
        "tts": load_settings(TtsSettings).tts_port,
        "gateway": load_settings(GatewaySettings).gateway_port,
    }


def complaint(ports: Mapping[str, int], target: str) -> str:
    """What to do about those of `ports` that are taken, a sentence; empty if none is.

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
