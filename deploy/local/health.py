"""`make health` prints the answers of each service's probes, and exits 1 unless all are ready."""

from __future__ import annotations

import sys
from typing import Any

import httpx

from common.settings import SettingsError
from deploy.local.settings import running_ports

AWAY = "no answer"


def main() -> int:
    try:
        ports = running_ports()
    except SettingsError as error:
        print(f"A setting in the environment or in .env is not valid: {error}.", file=sys.stderr)
        return 2
    print(f"{'service':<9}{'port':<7}{'alive':<11}{'ready':<11}reason")
    all_ready = True
    for name, port in ports.items():
        alive, _ = _ask(port, "healthz")
        ready, reason = _ask(port, "readyz")
        all_ready &= ready == "ready"
        print(f"{name:<9}{port:<7}{alive:<11}{ready:<11}{reason}".rstrip())
    if not all_ready:
        print("Not every service is ready; `make run` starts them.", file=sys.stderr)
    return 0 if all_ready else 1


def _ask(port: int, probe: str) -> tuple[str, str]:
    """Return the status that a probe answers, and its reason."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/{probe}", timeout=5.0, trust_env=False)
        body: Any = answer.json()
        return str(body["status"]), str(body.get("reason", ""))
    except httpx.HTTPError:
        return AWAY, ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return "unknown", "another program answers on this port"


if __name__ == "__main__":
    sys.exit(main())
