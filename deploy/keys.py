"""The key with which the programs of this folder ask the fleet of this machine."""

from __future__ import annotations

import os

from client.address import KEY_VARIABLE
from common.settings import load_settings
from gateway.app.settings import GatewaySettings


def provide_key() -> None:
    """Put the fleet's first key where the clients look, unless the user has put one there.

    Raises `SettingsError`.
    """
    if key := load_settings(GatewaySettings).keys.own:
        os.environ.setdefault(KEY_VARIABLE, key)
