"""`make test-client` runs the three client programs, one after another, with a running fleet.

They are started as a user would start them; the first that fails decides the exit code. The image
of the client has no settings of the fleet: there `--gateway HOST:PORT` names it.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from client.errors import INTERRUPTED_EXIT_CODE

TEXT = "The quick brown fox jumps over 13 lazy dogs."
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ".run/client"


def main() -> int:
    parser = argparse.ArgumentParser(description="Try the three client programs.")
    parser.add_argument("--gateway", metavar="HOST:PORT", help="default: this machine's fleet")
    options = parser.parse_args()
    gateway, sample_rate_hz = options.gateway, 16000
    if gateway is None:
        # Only here: the client's image has neither services nor what they need.
        from common.settings import SettingsError

        try:
            gateway, sample_rate_hz = _fleet_of_this_machine()
        except SettingsError as error:
            print(
                f"A setting in the environment or in .env is not valid: {error}.", file=sys.stderr
            )
            return 2
    speech, echo = f"{FOLDER}/speech.wav", f"{FOLDER}/echo.wav"
    speak = ["stream_tts.py", "--text", TEXT, "--out", speech, "--url", f"http://{gateway}"]
    if sample_rate_hz != 16000:
        speak += ["--sample-rate", str(sample_rate_hz)]
    url = ["--url", f"http://{gateway}"]
    (ROOT / FOLDER).mkdir(parents=True, exist_ok=True)
    for program, *arguments in (
        speak,
        ["transcribe.py", "--wav", speech, "--times", *url],
        ["echo_bytes.py", "--wav", speech, "--out", echo, *url],
    ):
        command = [f"client/{program}", *arguments]
        print(f"$ {_shown_python()} {shlex.join(command)}", flush=True)
        try:
            status = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
        except KeyboardInterrupt:
            # The program received the same Ctrl-C and has said so.
            return INTERRUPTED_EXIT_CODE
        if status:
            return status
    return 0


def _shown_python() -> str:
    """Return the interpreter as a user would write it in the project's folder."""
    python = Path(sys.executable)
    return str(python.relative_to(ROOT)) if python.is_relative_to(ROOT) else "python"


def _fleet_of_this_machine() -> tuple[str, int]:
    """Return the address of its gateway, and the sample rate of its speech.

    The fleet's key, if it has one, is put into the environment. Raises `SettingsError`.
    """
    from common.settings import load_settings
    from deploy.local.settings import provide_key, running_ports
    from tts_service.app.settings import TtsSettings

    provide_key()
    return f"localhost:{running_ports()['gateway']}", load_settings(TtsSettings).tts_sr


if __name__ == "__main__":
    sys.exit(main())
