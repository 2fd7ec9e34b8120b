#!/bin/sh
# prepare-voice.sh install|prepare: makes the voice that $TTS_MODEL names, in /voices. The embedded
# voice comes with its package: then both steps do nothing, and neither torch nor Coqui is installed.
#
# The decision is made here and not by choosing a stage: an engine without BuildKit builds every
# stage that a Dockerfile has.
set -eu

VENV=${VENV:-/opt/voices}
VOICES=${VOICES:-/voices}
OTHERWISE="Set TTS_MODEL=hibari/heart for the embedded voice, which needs no download, or \
TTS_VOICES_BASE_URL to a mirror of the voices' releases."

case $TTS_MODEL in
    hibari/heart)
        mkdir -p "$VOICES"
        exit 0
        ;;
    tts_models/*) ;;
    *)
        echo "There is no voice $TTS_MODEL, so the image is not built. $OTHERWISE" >&2
        exit 1
        ;;
esac

# Versions are pinned apart from those of the services, which need no torch.
install() {
    PIP_EXTRA_INDEX_URL=${TORCH_INDEX_URL-} pip --python "$VENV/bin/python" install --no-input \
        --no-cache-dir --disable-pip-version-check --constraint constraints-voices.txt "$@"
}

case $1 in
    install)
        python -m venv --without-pip "$VENV"
        python deploy/image/requirements.py voices >/tmp/requirements.txt
        # Coqui leaves torch to the user. Making a voice needs no accelerator: TORCH_INDEX_URL is for
        # an index with builds for the CPU, which are a tenth as large.
        install torch six
        install --requirement /tmp/requirements.txt
        ;;
    prepare)
        if ! OMP_NUM_THREADS=1 "$VENV/bin/python" -m tts_service.voices --voices-dir "$VOICES" \
            prepare "$TTS_MODEL"; then
            echo "The voice $TTS_MODEL could not be made, so the image is not built. $OTHERWISE" >&2
            exit 1
        fi
        # What it was made of stays in this stage.
        rm -rf "$VOICES/.downloads"
        ;;
esac
