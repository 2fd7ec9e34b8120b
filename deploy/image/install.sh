#!/bin/sh
# install.sh GROUP… builds /opt/venv with the pinned packages of the groups (see requirements.py) and
# removes what a service never uses. The build stage of each image runs it.
set -eu

python -m venv --without-pip /opt/venv
python deploy/image/requirements.py "$@" >/tmp/requirements.txt
# The image's pip installs into the environment, which therefore needs none of its own.
pip --python /opt/venv/bin/python install --no-input --no-cache-dir --disable-pip-version-check \
    --only-binary :all: --constraint constraints/fleet.txt --requirement /tmp/requirements.txt
python deploy/image/trim.py /opt/venv
