"""What a program loads when it starts: no more than it needs at once.

`make lint` checks who may import whom at all; only a run shows what is put off until it is used.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from deploy.local import ROOT

MODELS = {"onnxruntime", "hibari", "faster_whisper", "ctranslate2", "torch", "scipy"}
SERVER = {"fastapi", "pydantic_settings", "starlette", "structlog", "uvicorn"}
"""Packages of the extra `server`, which the client's does not include."""


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("gateway.app.main", MODELS | {"numpy", "soxr"}),
        ("tts_service.app.main", MODELS),
        ("asr_service.app.main", MODELS),
        ("client", MODELS | SERVER | {"numpy", "soundfile", "tqdm"}),
        ("client.stream_tts", MODELS | SERVER),
        ("client.stream_stt", MODELS | SERVER),
        ("common.server.serve", MODELS | {"numpy"}),
    ],
)
def test_importing_a_program_imports_nothing_it_must_not(module: str, forbidden: set[str]) -> None:
    names = f"import {module}, sys; print(*{{m.partition('.')[0] for m in sys.modules}})"
    ran = subprocess.run(
        [sys.executable, "-c", names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert forbidden & set(ran.stdout.split()) == set()
