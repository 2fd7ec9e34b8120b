#!/bin/sh
# prepare-voice.sh install|prepare: makes the voice that $TTS_MODEL names, in /voices. The embedded
# voice comes with its package: then both steps do nothing, and neither torch nor Coqui is installed.
#
# The decision is made here and not by choosing a stage: an engine without BuildKit builds every
# stage that a Dockerfile has.
set -eu

case $TTS_MODEL in
    hibari/*)
        mkdir -p /voices
        exit 0
        ;;
esac

case $1 in
    install)
        if ! grep -q '^voices = ' pyproject.toml; then
            echo "TTS_MODEL=$TTS_MODEL cannot be prepared: this version has only the embedded voice." \
                "Build with TTS_MODEL=hibari/heart." >&2
            exit 1
        fi
        python -m venv --without-pip /opt/voices
        python deploy/image/requirements.py voices >/tmp/requirements.txt
        pins=constraints-voices.txt
        [ -f "$pins" ] || pins=/dev/null
        # Reading and checking a voice needs no accelerator: $TORCH_INDEX_URL is for an index with
        # builds of torch for the CPU, which are a tenth as large.
        pip --python /opt/voices/bin/python install --no-input --no-cache-dir \
            --disable-pip-version-check --constraint "$pins" \
            ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch torchaudio
        pip --python /opt/voices/bin/python install --no-input --no-cache-dir \
            --disable-pip-version-check --constraint "$pins" --requirement /tmp/requirements.txt
        ;;
    prepare)
        # The downloads stay in this stage, what was made of them goes into the image.
        if ! /opt/voices/bin/python -m tts_service.voices --voices-dir /voices prepare "$TTS_MODEL"; then
            echo "The voice $TTS_MODEL could not be prepared, so the image is not built. Set" \
                "TTS_MODEL=hibari/heart for the embedded voice, which needs no download, or" \
                "TTS_VOICES_BASE_URL to a mirror of the voice's releases." >&2
            exit 1
        fi
        rm -rf /voices/.downloads
        ;;
esac
