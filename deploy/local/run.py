"""`make run`: the services of the Procfile in the foreground, until Ctrl-C.

Honcho starts them, prefixes their lines and stops all when one ends. What is added here: the ports
are looked at first, the gateway is told of other ports, and the logs are made for people.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer

from common.settings import SettingsError
from deploy.local import ROOT
from deploy.local.settings import chosen_ports, complaint

STOPPED_BY_HAND = (130, 143)
"""Honcho's statuses for SIGINT and SIGTERM: here the ordinary way to end."""


def main() -> int:
    try:
        ports = chosen_ports()
    except SettingsError as error:
        print(f"A setting in the environment or in .env does not fit: {error}.", file=sys.stderr)
        return 2
    if taken := complaint(ports, "run"):
        print(taken, file=sys.stderr)
        return 2
    services = environment(os.environ, ports, colors=sys.stdout.isatty())
    # The services tell the time themselves.
    manager = Manager(Printer(sys.stdout, time_format=""))
    for name, command in parse_procfile((ROOT / "Procfile").read_text()).processes.items():
        manager.add_process(name, command, env=services, cwd=str(ROOT))
    signal.signal(signal.SIGHUP, _terminal_closed)
    print(f"http://localhost:{ports['gateway']} — Ctrl-C stops the fleet", flush=True)
    manager.loop()
    return 0 if manager.returncode in STOPPED_BY_HAND else manager.returncode or 0


def environment(
    environ: Mapping[str, str], ports: Mapping[str, int], *, colors: bool
) -> dict[str, str]:
    """What the services are started with; what the user has set himself is left as it is."""
    defaults = {
        "LOG_FORMAT": "console",
        # Each line at once, and not when a buffer is full: these are pipes.
        "PYTHONUNBUFFERED": "1",
        # Honcho kills what has not ended 5 s after the first: leave in order before that.
        "DRAIN_SECONDS": "4",
        "GATEWAY_TTS_URL": f"http://127.0.0.1:{ports['tts']}",
        "GATEWAY_ASR_URL": f"http://127.0.0.1:{ports['asr']}",
    }
    if colors and "NO_COLOR" not in environ:
        # The services write into a pipe, so they cannot see the terminal behind it.
        defaults["FORCE_COLOR"] = "1"
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', os.defpath)}"
    return {**defaults, **environ, "PATH": path}


def _terminal_closed(_: int, __: FrameType | None) -> None:
    """Stop as for SIGTERM; nothing can be printed any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.dup2(null, sys.stderr.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
