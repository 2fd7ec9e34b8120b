#!/bin/sh
# prepare-voice.sh install|prepare makes the voice that $TTS_MODEL names in /voices. The embedded
# voice is part of a package: for it both steps do nothing, and neither torch nor Coqui is installed.
#
# The decision is made here and not by choosing a stage: an engine without BuildKit builds every
# stage that a Dockerfile has.
set -eu

VENV=${VENV:-/opt/voices}
VOICES=${VOICES:-/voices}

refuse() {
    echo "$1, so the image is not built. Set TTS_MODEL=hibari/heart for the embedded voice, which" \
        "needs no download, or TTS_VOICES_BASE_URL to a mirror of the voices' releases." >&2
    exit 1
}

case $TTS_MODEL in
    hibari/heart)
        mkdir -p "$VOICES"
        exit 0
        ;;
    tts_models/*) ;;
    *) refuse "There is no voice $TTS_MODEL" ;;
esac

# Versions are pinned separately from those of the services, which need no torch. Nothing is compiled,
# since it runs once.
install() {
    PIP_EXTRA_INDEX_URL=${TORCH_INDEX_URL-} pip --python "$VENV/bin/python" install --no-input \
        --no-cache-dir --no-compile --disable-pip-version-check \
        --constraint constraints/voices.txt "$@" ||
        refuse "The tools that make the voice $TTS_MODEL (torch, Coqui) could not be installed"
}

case $1 in
    install)
        python -m venv --without-pip "$VENV"
        python deploy/image/requirements.py base voices >/tmp/requirements.txt
        # Coqui does not depend on torch itself. Making a voice needs no GPU: TORCH_INDEX_URL names an
        # index with builds for the CPU, which are a tenth as large.
        install torch six
        install --requirement /tmp/requirements.txt
        ;;
    prepare)
        OMP_NUM_THREADS=1 "$VENV/bin/python" -W ignore -m tts_service.voices \
            --voices-dir "$VOICES" prepare "$TTS_MODEL" ||
            refuse "The voice $TTS_MODEL could not be downloaded and made"
        # Only the voice leaves this stage.
        rm -rf "$VOICES/.downloads" "$VOICES"/.lock-*
        ;;
esac
