"""Services import `common`, never each other, and no more than they need to start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deploy.local import ROOT

MODELS = {"onnxruntime", "hibari", "faster_whisper", "ctranslate2", "torch", "scipy"}
OTHERS = {"tts_service", "asr_service", "gateway", "client"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("gateway.app.main", OTHERS - {"gateway"} | MODELS | {"numpy", "soxr"}),
        ("tts_service.app.main", OTHERS - {"tts_service"} | MODELS),
        ("asr_service.app.main", OTHERS - {"asr_service"} | MODELS),
        (
            "client",
            OTHERS - {"client"} | MODELS | {"fastapi", "numpy", "soundfile", "starlette", "tqdm"},
        ),
        ("client.stream_tts", OTHERS - {"client"} | MODELS | {"fastapi", "uvicorn"}),
        ("client.stream_stt", OTHERS - {"client"} | MODELS | {"fastapi", "uvicorn"}),
        ("common.server.serve", OTHERS | MODELS | {"numpy"}),
    ],
)
def test_importing_a_program_imports_nothing_it_must_not(module: str, forbidden: set[str]) -> None:
    names = f"import {module}, sys; print(*{{m.partition('.')[0] for m in sys.modules}})"
    ran = subprocess.run(
        [sys.executable, "-c", names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert forbidden & set(ran.stdout.split()) == set()
