"""Server-sent events as OpenAI's API sends them: the type is a field of the data."""

from __future__ import annotations

import json
from typing import Any

SSE = "text/event-stream"


def event(kind: str, **fields: Any) -> bytes:
    return data({"type": kind, **fields})


def data(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
