"""Logs events with fields: one JSON object a line, or readable lines on a terminal.

    log = get_logger(__name__)
    log.info("utterance.done", audio_ms=1480, first_audio_ms=42)

The id of the current request is added to each event (see `common.server.request_log`). Records
of libraries that use the standard `logging` take the same way out.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from common.settings import CommonSettings

_QUIET = ("httpx", "httpcore", "websockets", "faster_whisper", "asyncio")
"""Libraries that log each request: only their warnings are kept."""


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose events carry `logger=name`."""
    return cast(FilteringBoundLogger, structlog.get_logger(name))


def configure_logging(service: str, settings: CommonSettings) -> None:
    """Send all logs of this process to stdout in the form that `LOG_FORMAT` asks for."""
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stdout.isatty()
    )

    def add_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=as_json),
        add_service,
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=_wants_colors())]
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _drop_uvicorn_colors],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its start and stop lines repeat ours; its errors are kept.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.captureWarnings(True)

    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelName(settings.log_level.upper())
        ),
    )


def _wants_colors() -> bool:
    """Tell whether to colour lines: on a terminal, or where `FORCE_COLOR` is set."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def _drop_uvicorn_colors(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)
    return event


def text_field(settings: CommonSettings, text: str) -> dict[str, Any]:
    """Return the fields of a user's text: its length, and the text itself only with `LOG_TEXT`."""
    fields: dict[str, Any] = {"text_chars": len(text)}
    if settings.log_text:
        fields["text"] = text
    return fields
