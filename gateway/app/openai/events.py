"""Server-sent events have their type as a field of the data in OpenAI's API."""

from __future__ import annotations

import json
from typing import Any

SSE = "text/event-stream"


def event(kind: str, **fields: Any) -> bytes:
    return data({"type": kind, **fields})


def data(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
