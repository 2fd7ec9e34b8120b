"""Opens ONNX graphs so that the fleet's processes do not fight over cores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime as ort

from .errors import BrokenVoiceError


def open_graph(path: Path, *, threads: int = 1) -> ort.InferenceSession:
    """A session that works on the calling thread alone unless `threads` is more than 1.

    Spinning is off: a waiting thread that burns its core made everything beside it ten times
    slower. Raises `BrokenVoiceError` if the file is missing or no graph.
    """
    if not path.is_file():
        raise BrokenVoiceError(f"{path} is missing, prepare the voice again")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no public class in common
        raise BrokenVoiceError(f"{path} is no usable graph: {error}") from error


def metadata(session: ort.InferenceSession, key: str) -> Any:
    """A value that the graph's builder left in it as JSON."""
    return json.loads(session.get_modelmeta().custom_metadata_map[key])
