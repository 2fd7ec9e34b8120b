"""Things go wrong in the real fleet, and the client is told the truth."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus

from deploy.local import LocalFleet
from tests.fleet.conftest import StartFleet
from tests.support.speech import say
from tests.support.wire import close_of, closing_of, open_ws, read_utterance, wait_for

pytestmark = pytest.mark.fleet

LONG = "The library opens at eight in the morning and closes at six in the evening. " * 60
TIMEOUTS = {
    "GATEWAY_RECOGNITION_TIMEOUT_S": "3",
    "GATEWAY_FIRST_BYTE_TIMEOUT_S": "3",
    "GATEWAY_CONNECT_TIMEOUT_S": "2",
    "GATEWAY_STALL_TIMEOUT_S": "1",
}
"""Shorter than the defaults, and long enough for what works on a busy machine."""
END = '{"type":"end"}'


def cpu_s(fleet: LocalFleet, name: str) -> float:
    times = psutil.Process(fleet.processes[name].pid).cpu_times()
    return float(times.user + times.system)


def cpu_until_idle_s(fleet: LocalFleet, name: str) -> float:
    """The CPU time that a service still uses from now until it uses none for 0.3 s."""
    start = before = cpu_s(fleet, name)
    while True:
        time.sleep(0.3)
        now = cpu_s(fleet, name)
        if now - before < 0.02:
            return now - start
        before = now


def ws_url(fleet: LocalFleet, name: str = "gateway") -> str:
    return f"{fleet.url(name, scheme='ws')}/ws/tts"


def refused(fleet: LocalFleet, name: str = "gateway") -> tuple[int, str]:
    """The status and code with which an upgrade is refused; (101, "") if it is not."""
    try:
        with open_ws(ws_url(fleet, name)):
            return 101, ""
    except InvalidStatus as refusal:
        answer = refusal.response
        return answer.status_code, json.loads(answer.body or b"{}")["error"]["code"]


@pytest.mark.parametrize("name", ["tts", "gateway"])
def test_a_client_that_leaves_mid_stream_costs_no_more_than_200_ms_of_work(
    start_fleet: StartFleet, name: str
) -> None:
    fleet = start_fleet()
    say(fleet, "Warm up.")
    with open_ws(ws_url(fleet, name)) as ws:
        ws.send(json.dumps({"text": LONG}))
        assert isinstance(ws.recv(10), bytes)
        before = cpu_s(fleet, "tts")
    assert cpu_until_idle_s(fleet, "tts") <= 0.2
    # Had it gone on, it would have worked for longer than that.
    say(fleet, LONG)
    assert cpu_s(fleet, "tts") - before > 1.0


def test_tts_killed_mid_stream_is_an_error_frame_and_1011_and_the_fleet_recovers(
    start_fleet: StartFleet,
) -> None:
    fleet = start_fleet(**TIMEOUTS)
    with open_ws(ws_url(fleet)) as ws:
        ws.send(json.dumps({"text": LONG}))
        assert isinstance(ws.recv(10), bytes)
        fleet.processes["tts"].kill()
        message, closed_with = closing_of(ws)
    assert (message["type"], message["code"], closed_with) == ("error", "upstream_failed", 1011)
    fleet.processes["tts"].wait()
    assert refused(fleet) == (502, "upstream_failed")
    ready = httpx.get(f"{fleet.url('gateway')}/readyz")
    assert (ready.status_code, ready.json()["upstreams"]["tts"]) == (503, "unreachable")
    assert httpx.get(f"{fleet.url('gateway')}/healthz").status_code == 200
    fleet.start("tts")
    fleet.wait_ready()
    assert say(fleet, "Hello again.")


def test_tts_killed_mid_stream_breaks_the_http_body_off(start_fleet: StartFleet) -> None:
    fleet = start_fleet(**TIMEOUTS)
    url = f"{fleet.url('gateway')}/api/tts"
    with httpx.stream("POST", url, json={"text": LONG, "format": "wav"}) as answer:
        body = answer.iter_raw()
        next(body)
        fleet.processes["tts"].kill()
        with pytest.raises(httpx.RemoteProtocolError):
            list(body)


def test_asr_killed_mid_request_is_502(start_fleet: StartFleet) -> None:
    fleet = start_fleet()
    pcm = say(fleet, LONG)[: 60 * 32000]
    with ThreadPoolExecutor(1) as threads:
        url = f"{fleet.url('gateway')}/api/echo-bytes"
        request = threads.submit(httpx.post, url, content=pcm, timeout=60)
        before = cpu_s(fleet, "asr")
        wait_for(lambda: cpu_s(fleet, "asr") - before > 0.1)
        fleet.processes["asr"].kill()
        answer = request.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")


@pytest.mark.parametrize("path", ["/api/stt/bytes", "/api/echo-bytes"])
def test_a_hung_asr_is_504_within_the_timeout(start_fleet: StartFleet, path: str) -> None:
    # Long enough for a recognition on a busy machine, which follows below.
    fleet = start_fleet(**{**TIMEOUTS, "GATEWAY_RECOGNITION_TIMEOUT_S": "6"})
    pcm = say(fleet, "Hello world.")
    asr = fleet.processes["asr"]
    asr.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        answer = httpx.post(f"{fleet.url('gateway')}{path}", content=pcm, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
        assert time.monotonic() - started < 20
        # The other half of the fleet works meanwhile.
        assert say(fleet, "Hello world.") == pcm
        assert httpx.get(f"{fleet.url('gateway')}/readyz").json()["reason"] == "asr is unreachable"
    finally:
        asr.send_signal(signal.SIGCONT)
    fleet.wait_ready()
    assert httpx.post(f"{fleet.url('gateway')}{path}", content=pcm, timeout=30).status_code == 200


def test_a_hung_tts_is_an_error_frame_mid_stream_and_504_after(start_fleet: StartFleet) -> None:
    fleet = start_fleet(**TIMEOUTS)
    tts = fleet.processes["tts"]
    with open_ws(ws_url(fleet)) as ws:
        ws.send(json.dumps({"text": LONG}))
        assert isinstance(ws.recv(10), bytes)
        tts.send_signal(signal.SIGSTOP)
        try:
            message, closed_with = closing_of(ws)
            assert (message["code"], closed_with) == ("upstream_timeout", 1011)
            assert refused(fleet) == (504, "upstream_timeout")
        finally:
            tts.send_signal(signal.SIGCONT)
    assert say(fleet, "Hello world.")


def test_sigterm_finishes_the_utterance_under_way_and_refuses_new_ones(
    start_fleet: StartFleet,
) -> None:
    fleet = start_fleet(TTS_BUFFER_SECONDS="2", DRAIN_SECONDS="60")
    whole = say(fleet, LONG)
    tts = fleet.processes["tts"]
    with open_ws(ws_url(fleet, "tts"), max_queue=1) as ws, open_ws(ws_url(fleet, "tts")) as idle:
        ws.send(json.dumps({"text": LONG}))
        first = ws.recv(10)
        assert isinstance(first, bytes)
        tts.terminate()
        wait_for(lambda: refused(fleet, "tts") == (503, "draining"))
        ready = httpx.get(f"{fleet.url('tts')}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "draining")
        answer = httpx.post(f"{fleet.url('tts')}/api/tts", json={"text": "Too late."})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
        idle.send('{"text": "Too late."}')
        message, closed_with = closing_of(idle)
        assert (message["code"], closed_with) == ("draining", 1013)
        rest = read_utterance(ws)
        assert rest.closing == END
        assert first + rest.pcm == whole
        assert close_of(ws)[0] == 1012
    assert tts.wait(10) == 0


@pytest.mark.parametrize("name", ["asr", "tts", "gateway"])
def test_an_idle_service_leaves_at_once_and_in_order(start_fleet: StartFleet, name: str) -> None:
    fleet = start_fleet()
    process = fleet.processes[name]
    process.terminate()
    # Far less than DRAIN_SECONDS, 25.
    assert process.wait(10) == 0


def test_sigterm_lets_the_gateway_finish_what_it_relays(start_fleet: StartFleet) -> None:
    fleet = start_fleet(TTS_BUFFER_SECONDS="2", DRAIN_SECONDS="60")
    whole = say(fleet, LONG)
    gateway = fleet.processes["gateway"]
    with open_ws(ws_url(fleet), max_queue=1) as ws:
        ws.send(json.dumps({"text": LONG}))
        first = ws.recv(10)
        assert isinstance(first, bytes)
        gateway.terminate()
        wait_for(lambda: refused(fleet) == (503, "draining"))
        rest = read_utterance(ws)
        assert rest.closing == END
        assert first + rest.pcm == whole
    assert gateway.wait(10) == 0


def test_the_deadline_ends_what_nobody_reads(start_fleet: StartFleet) -> None:
    fleet = start_fleet(DRAIN_SECONDS="1")
    tts = fleet.processes["tts"]
    with open_ws(ws_url(fleet, "tts"), max_queue=1) as ws:
        for _ in range(8):
            ws.send(json.dumps({"text": LONG}))
        assert isinstance(ws.recv(10), bytes)
        cpu_until_idle_s(fleet, "tts")
        terminated = time.monotonic()
        tts.terminate()
        tts.wait(15)
        assert 1 <= time.monotonic() - terminated < 10
    log = fleet.log("tts").read_text()
    assert '"event": "drain.deadline"' in log


def test_a_full_tts_refuses_and_the_waiting_are_served(start_fleet: StartFleet) -> None:
    fleet = start_fleet(TTS_SLOTS="1", TTS_QUEUE="1", TTS_BUFFER_SECONDS="1")
    with (
        open_ws(ws_url(fleet), max_queue=1) as speaking,
        open_ws(ws_url(fleet)) as waiting,
        open_ws(ws_url(fleet)) as late,
    ):
        for _ in range(2):
            speaking.send(json.dumps({"text": LONG}))
        assert isinstance(speaking.recv(10), bytes)
        waiting.send('{"text": "I wait for my turn."}')
        wait_for(lambda: refused(fleet) == (503, "busy"))
        answer = httpx.post(f"{fleet.url('gateway')}/api/tts", json={"text": "Too many."})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
        assert answer.headers["Retry-After"] == "1"
        late.send('{"text": "Too many."}')
        message, closed_with = closing_of(late)
        assert (message["code"], closed_with) == ("busy", 1013)
        assert read_utterance(speaking).closing == END
        assert read_utterance(waiting).closing == END


def test_a_full_asr_refuses_at_once(start_fleet: StartFleet) -> None:
    fleet = start_fleet(ASR_WORKERS="1", ASR_MAX_BATCH="1", ASR_QUEUE="0")
    pcm = say(fleet, LONG)[: 25 * 32000]
    url = f"{fleet.url('gateway')}/api/stt/bytes"
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(httpx.post, url, content=pcm, timeout=60)
        before = cpu_s(fleet, "asr")
        wait_for(lambda: cpu_s(fleet, "asr") - before > 0.1)
        answer = httpx.post(url, content=pcm, timeout=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
        assert answer.headers["Retry-After"] == "1"
        assert first.result().status_code == 200


def test_a_reader_that_sleeps_costs_bounded_memory(start_fleet: StartFleet) -> None:
    fleet = start_fleet(TTS_MAX_TEXT_CHARS="60000")
    say(fleet, LONG)
    resident = {
        name: psutil.Process(fleet.processes[name].pid).memory_info().rss
        for name in ("tts", "gateway")
    }
    text = (LONG * 20)[:60000]
    with open_ws(ws_url(fleet), max_queue=1) as ws:
        # An hour of audio, over 100 MB.
        ws.send(json.dumps({"text": text}))
        assert isinstance(ws.recv(10), bytes)
        assert cpu_until_idle_s(fleet, "tts") < 20
        for name, before in resident.items():
            now = psutil.Process(fleet.processes[name].pid).memory_info().rss
            assert now - before < 20_000_000, name
        # Others are served meanwhile.
        assert say(fleet, "Hello world.")
