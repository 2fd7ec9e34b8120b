"""`make demo` starts the fleet, speaks a sentence, recognizes it and its echo, and stops the fleet.

Exit codes: 0 if the words came back unchanged, 1 if they did not, 2 if the demo could not be run.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from client.echo_bytes import echo_to_file
from client.errors import INTERRUPTED_EXIT_CODE, ClientError
from client.stream_tts import speak_to_file
from client.transcribe import transcribe
from client.wav import read_wav
from common.settings import SettingsError, load_settings
from deploy.local import ROOT, FleetError, LocalFleet
from deploy.local.settings import chosen_ports, complaint, provide_key
from deploy.local.words import words
from tts_service.app.settings import TtsSettings

SENTENCE = (
    "Good evening, Ada. The kettle is on, 21 letters came today, and the train leaves at noon."
)
FOLDER = ROOT / ".run" / "demo"
WORDS_DIFFER, COULD_NOT_RUN = 1, 2


def main() -> int:
    # A demo that is stopped by a signal stops its fleet too.
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, _as_interrupt)
    try:
        ports = chosen_ports()
        provide_key()
        if taken := complaint(ports, "demo"):
            return _fail(taken)
        return _run(ports)
    except SettingsError as error:
        return _fail(f"A setting in the environment or in .env is not valid: {error}.")
    except FleetError as error:
        say("", f"The logs are in {_shown(FOLDER)}.")
        return _fail(f"The fleet did not start: {error}")
    except ClientError as error:
        return _fail(f"{error.message} The logs are in {_shown(FOLDER)}.")
    except OSError as error:
        return _fail(f"The demo cannot write its files: {error}.")
    except KeyboardInterrupt:
        print("\nInterrupted; the fleet is stopped.", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE


def _run(ports: Mapping[str, int]) -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    speech_wav, echo_wav = FOLDER / "speech.wav", FOLDER / "echo.wav"
    fleet = LocalFleet(FOLDER, ports=ports)
    for name in ports:
        fleet.log(name).unlink(missing_ok=True)
    say("starting", "asr :{asr}, tts :{tts}, gateway :{gateway}".format_map(ports))
    started = time.perf_counter()
    with fleet:
        say("ready", f"after {time.perf_counter() - started:.1f} s")
        gateway = f"localhost:{ports['gateway']}"

        spoken = speak_to_file(
            SENTENCE,
            speech_wav,
            f"ws://{gateway}/ws/tts",
            sample_rate_hz=load_settings(TtsSettings).tts_sr,
        )
        say("spoken", f"first audio after {spoken.first_audio_s * 1000:.0f} ms")
        say("", f"{spoken.audio_s:.2f} s of audio, real-time factor {spoken.real_time_factor:.3f}")

        url = f"http://{gateway}"
        heard = transcribe(read_wav(speech_wav), url).text
        echo = echo_to_file(read_wav(speech_wav), echo_wav, url)
        say("echoed", f"first audio after {echo.first_audio_s * 1000:.0f} ms, recognition included")
        echo_heard = transcribe(read_wav(echo_wav), url).text
    print()
    say("the sentence", SENTENCE)
    say("was heard as", heard)
    say("its echo as", echo_heard)
    print()
    say("listen to", f"{_shown(speech_wav)} and {_shown(echo_wav)}")
    if not words(SENTENCE) == words(heard) == words(echo_heard):
        return _fail("The recognized words differ from the sentence.", WORDS_DIFFER)
    print("The words came back as they were said.")
    return 0


def say(name: str, value: str) -> None:
    print(f"{name:<14}{value}", flush=True)


def _fail(sentence: str, code: int = COULD_NOT_RUN) -> int:
    sys.stdout.flush()
    print(sentence, file=sys.stderr)
    return code


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _as_interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
