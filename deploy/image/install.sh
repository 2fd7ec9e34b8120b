#!/bin/sh
# Builds /opt/venv with the pinned packages of the groups that are named (see requirements.py) and
# takes out what a service never runs. Used in the build stage of each image.
set -eu

python -m venv --without-pip /opt/venv
python deploy/image/requirements.py "$@" >/tmp/requirements.txt
# The image's pip installs into the environment, which so needs none of its own.
pip --python /opt/venv/bin/python install --no-input --no-cache-dir --disable-pip-version-check \
    --only-binary :all: --constraint constraints/fleet.txt --requirement /tmp/requirements.txt
python deploy/image/trim.py /opt/venv
