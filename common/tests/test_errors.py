"""The error table of the wire contract."""

import pytest

from common import errors

TABLE = [
    (errors.BadRequest, 400, 1003, "bad_request"),
    (errors.NotJson, 400, 1007, "bad_request"),
    (errors.EmptyText, 400, 1003, "empty_text"),
    (errors.EmptyAudio, 400, 1003, "empty_audio"),
    (errors.NotFound, 404, 1003, "not_found"),
    (errors.UnknownModel, 404, 1003, "unknown_model"),
    (errors.MethodNotAllowed, 405, 1003, "method_not_allowed"),
    (errors.Unauthorized, 401, 1008, "unauthorized"),
    (errors.TooLarge, 413, 1009, "too_large"),
    (errors.UndecodableAudio, 415, 1003, "undecodable_audio"),
    (errors.RateLimited, 429, 1013, "rate_limited"),
    (errors.QueueFull, 429, 1013, "queue_full"),
    (errors.SynthesisFailed, 500, 1011, "synthesis_failed"),
    (errors.RecognitionFailed, 500, 1011, "recognition_failed"),
    (errors.UpstreamFailed, 502, 1011, "upstream_failed"),
    (errors.Busy, 503, 1013, "busy"),
    (errors.Loading, 503, 1013, "loading"),
    (errors.Draining, 503, 1013, "draining"),
    (errors.UpstreamTimeout, 504, 1011, "upstream_timeout"),
]


@pytest.mark.parametrize(("error", "status", "close_code", "code"), TABLE)
def test_each_error_has_its_row(
    error: type[errors.SpeechError], status: int, close_code: int, code: str
) -> None:
    assert (error.http_status, error.close_code, error.code) == (status, close_code, code)


def test_http_body_and_websocket_frame_say_the_same() -> None:
    error = errors.Busy("All slots are taken.", retry_after_s=3)
    body, frame = error.body("id-1")["error"], error.frame("id-1")
    assert body == {"code": "busy", "message": "All slots are taken.", "request_id": "id-1"}
    assert frame["type"] == "error"
    assert frame["error"] == body["message"]
    assert frame["code"] == body["code"]
    assert error.headers() == {"Retry-After": "3"}


def test_what_may_pass_says_when_to_come_back() -> None:
    assert errors.Loading("Not yet.").headers() == {"Retry-After": "1"}
    assert errors.BadRequest("No.").headers() == {}
