"""`python -m tts_service.voices` prepares the voices that the service speaks with."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from tts_service.app.engines.tacotron.manifest import Manifest

from . import catalogue
from .errors import PrepareError
from .prepare import Places, prepare, pull, verify


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the process's exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    places = Places(options.voices_dir, options.base_url)
    try:
        if options.command == "list":
            for release in sorted(
                catalogue.releases(places.base_url).values(), key=lambda r: r.name
            ):
                _say(f"{release.name}  ({release.licence or 'licence unknown'})")
        elif options.command == "pull":
            for file in pull(options.name, places):
                _say(str(file))
        elif options.command == "prepare":
            manifest, made = prepare(
                options.source,
                places,
                vocoder=options.vocoder,
                name=options.name,
                force=options.force,
            )
            _say(f"{manifest.name} {'is ready' if made else 'was ready already'}")
            _describe(manifest)
        else:
            _describe(verify(options.name, places))
    except PrepareError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tts_service.voices", description=__doc__)
    parser.add_argument(
        "--voices-dir",
        type=Path,
        default=Path(os.environ.get("TTS_VOICES_DIR", "voices")),
        help="folder of the prepared voices (TTS_VOICES_DIR; default: voices)",
    )
    parser.add_argument(
        "--base-url",
        default=os.environ.get("TTS_VOICES_BASE_URL") or catalogue.RELEASES,
        help="address of Coqui's releases or of a mirror (TTS_VOICES_BASE_URL)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the voices and vocoders of Coqui's catalogue")
    command = commands.add_parser(
        "pull", help="download a voice and its vocoder, and do nothing else"
    )
    command.add_argument("name", nargs="?", default=catalogue.DEFAULT_VOICE)
    command = commands.add_parser(
        "prepare", help="download, export, compare with Coqui and install a voice"
    )
    command.add_argument(
        "source",
        nargs="?",
        default=catalogue.DEFAULT_VOICE,
        help="name in the catalogue, zip file (path or URL) or folder",
    )
    command.add_argument(
        "--vocoder",
        help="the vocoder, given like the source; default: the one that the voice names",
    )
    command.add_argument(
        "--name", help="name of the voice for TTS_MODEL; default: made from the source"
    )
    command.add_argument(
        "--force", action="store_true", help="prepare the voice again even if it is unchanged"
    )
    command = commands.add_parser(
        "check", help="check the files of a prepared voice against their hashes"
    )
    command.add_argument("name", nargs="?", default=catalogue.DEFAULT_VOICE)
    return parser


def _describe(manifest: Manifest) -> None:
    _say(f"  {manifest.sample_rate_hz} Hz, r = {manifest.r}, licence: {manifest.licence or '?'}")
    if manifest.proof is not None:
        proof = manifest.proof
        _say(
            f"  streamed against Coqui: {proof.texts} texts, {proof.samples} samples,"
            f" largest difference {proof.max_difference:.1e}"
        )
    for name, precision in manifest.precisions.items():
        _say(f"  {name}: frames deviate by {precision.mel_deviation:.2%}")


def _say(line: str) -> None:
    print(line)


if __name__ == "__main__":
    sys.exit(main())
