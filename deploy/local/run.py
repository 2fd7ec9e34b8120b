"""`make run` runs the fleet in the foreground, with readable logs, until Ctrl-C.

It supervises three processes. It prints the addresses once all services are ready, restarts a
service that crashes, and stops the fleet if a service ends before it was ever ready, ends with
status 2 (its settings are not valid) or crashes too often.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import httpx
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.text import TextReceiveStream

from common.settings import SettingsError
from deploy.local.fleet import SERVICES
from deploy.local.settings import chosen_ports, complaint, ports_remembered, reachable_host

MAX_RESTARTS, RESTARTS_WITHIN_S = 5, 60.0
POLL_S = 0.1
BAD_SETTINGS = 2
COLORS = {"asr": 33, "tts": 36, "gateway": 32}
"""ANSI's yellow, cyan and green."""
KILL_AFTER_DRAIN_S = 10.0
"""How long after its drain a service may take to end."""


@dataclass(kw_only=True)
class Supervisor:
    """A supervisor keeps one process for each of `commands` running; it stops `gateway` first.

    `is_ready` tells whether the service of that name is ready; `announce` is called once all are.
    """

    commands: Mapping[str, Sequence[str]]
    environment: Mapping[str, str]
    is_ready: Callable[[str], Awaitable[bool]]
    announce: Callable[[], None]
    colors: bool = False
    stop_timeout_s: float = 14.0
    """How long the services may take to end before they are killed."""
    first_delay_s: float = 0.5
    """Pause before a restart; each further one within `RESTARTS_WITHIN_S` waits twice as long."""
    _processes: dict[str, Process] = field(default_factory=dict)
    _ready: set[str] = field(default_factory=set)
    _stopping: anyio.Event = field(default_factory=anyio.Event)
    _failure: tuple[str, int] | None = None

    async def run(self) -> int:
        """Run until a signal comes or a service cannot be kept running; returns the exit status."""
        async with anyio.create_task_group() as signals:
            signals.start_soon(self._stop_on_signal)
            async with anyio.create_task_group() as services:
                for name in self.commands:
                    services.start_soon(self._keep_running, name)
                await self._stopping.wait()
                await self._stop_processes()
                # For what they said last.
                services.cancel_scope.deadline = anyio.current_time() + 2
            signals.cancel_scope.cancel()
        if self._failure is None:
            return 0
        sentence, status = self._failure
        sys.stdout.flush()
        print(sentence, file=sys.stderr)
        return status

    async def _stop_on_signal(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    _detach_output()
                if self._stopping.is_set():
                    _kill(self._processes.values())
                self._stopping.set()

    async def _stop_processes(self) -> None:
        """Stop the gateway, whose work in flight may need the others, and then the others."""
        names = list(self._processes)
        for group in ([n for n in names if n == "gateway"], [n for n in names if n != "gateway"]):
            running = [p for n in group if (p := self._processes[n]).returncode is None]
            for process in running:
                process.terminate()
            with anyio.move_on_after(self.stop_timeout_s):
                for process in running:
                    await process.wait()
            _kill(running)

    async def _keep_running(self, name: str) -> None:
        restarts: deque[float] = deque()
        while not self._stopping.is_set():
            status, last_lines = await self._run_once(name)
            if self._stopping.is_set():
                return
            ended = f"{name} {_how_it_ended(status)}"
            if status == BAD_SETTINGS or name not in self._ready:
                said = "\n".join(last_lines) or f"{ended} before it was ready."
                self._give_up(said, status if status > 0 else 1)
                return
            now = time.monotonic()
            while restarts and now - restarts[0] > RESTARTS_WITHIN_S:
                restarts.popleft()
            if len(restarts) == MAX_RESTARTS:
                self._give_up(
                    f"{ended}, after {MAX_RESTARTS} restarts within {RESTARTS_WITHIN_S:g} s: the "
                    "fleet is stopped.",
                    1,
                )
                return
            delay_s = self.first_delay_s * 2 ** len(restarts)
            restarts.append(now)
            _say(
                f"{ended}; it is started again in {delay_s:g} s (restart {len(restarts)} of at "
                f"most {MAX_RESTARTS} within {RESTARTS_WITHIN_S:g} s)."
            )
            with anyio.move_on_after(delay_s):
                await self._stopping.wait()

    def _give_up(self, sentence: str, status: int) -> None:
        if self._failure is None:
            self._failure = sentence, status
        self._stopping.set()

    async def _run_once(self, name: str) -> tuple[int, deque[str]]:
        """Start a service and print what it says until it ends.

        Returns its status and the last lines of its stderr.
        """
        last_lines: deque[str] = deque(maxlen=20)
        async with (
            await anyio.open_process(
                self.commands[name],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                # Ctrl-C in the terminal reaches the supervisor alone, which stops them in order.
                start_new_session=True,
            ) as process,
            anyio.create_task_group() as tasks,
        ):
            self._processes[name] = process
            assert process.stdout is not None
            assert process.stderr is not None
            if self._stopping.is_set():
                process.terminate()
            tasks.start_soon(self._print_lines, name, process.stdout)
            tasks.start_soon(self._print_lines, name, process.stderr, last_lines)
            async with anyio.create_task_group() as readiness:
                readiness.start_soon(self._watch_readiness, name)
                status = await process.wait()
                readiness.cancel_scope.cancel()
        return status, last_lines

    async def _watch_readiness(self, name: str) -> None:
        while not await self.is_ready(name):  # noqa: ASYNC110 - another process is asked
            await anyio.sleep(POLL_S)
        if name in self._ready:
            _say(f"{name} is ready again.")
            return
        self._ready.add(name)
        if len(self._ready) == len(self.commands):
            self.announce()

    async def _print_lines(
        self, name: str, stream: ByteReceiveStream, kept: deque[str] | None = None
    ) -> None:
        # Lines of JSON have the service in them.
        prefix = "" if self.environment.get("LOG_FORMAT") == "json" else f"{name:<8}| "
        if self.colors and prefix:
            prefix = f"\x1b[{COLORS[name]}m{prefix}\x1b[0m"
        rest = ""
        async for text in TextReceiveStream(stream, errors="replace"):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                print(prefix + line, flush=True)
                if kept is not None:
                    kept.append(line)
        if rest:
            print(prefix + rest, flush=True)


def main() -> int:
    try:
        ports = chosen_ports()
        host = reachable_host()
    except SettingsError as error:
        print(f"A setting in the environment or in .env is not valid: {error}.", file=sys.stderr)
        return 2
    if taken := complaint(ports, "run"):
        print(taken, file=sys.stderr)
        return 2
    with ports_remembered(ports) as remembered:
        return anyio.run(_supervise, ports, host, remembered)


async def _supervise(ports: Mapping[str, int], host: str, remembered: bool) -> int:
    colors = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    services = environment(os.environ, ports, host=host, colors=colors)

    def announce() -> None:
        shown = "localhost" if host == "127.0.0.1" else host
        addresses = "\n".join(f"  {name:<10}http://{shown}:{ports[name]}" for name in ports)
        use = "`make health` and `make test-client` find it; " if remembered else ""
        _say(f"\nThe fleet is ready:\n{addresses}\n{use}Ctrl-C stops it.\n")

    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:

        async def is_ready(name: str) -> bool:
            try:
                answer = await client.get(f"http://{host}:{ports[name]}/readyz")
            except httpx.HTTPError:
                return False
            return answer.status_code == 200

        _say("Starting " + ", ".join(f"{name} :{port}" for name, port in ports.items()) + " …")
        return await Supervisor(
            commands={name: [sys.executable, "-m", module] for name, module in SERVICES.items()},
            environment=services,
            is_ready=is_ready,
            announce=announce,
            colors=colors,
            stop_timeout_s=float(services["DRAIN_SECONDS"]) + KILL_AFTER_DRAIN_S,
        ).run()


def environment(
    environ: Mapping[str, str], ports: Mapping[str, int], *, host: str = "127.0.0.1", colors: bool
) -> dict[str, str]:
    """Return the environment of the services; variables that the user has set stay."""
    defaults = {
        "LOG_FORMAT": "console",
        # Each line at once, and not when a buffer is full: these are pipes.
        "PYTHONUNBUFFERED": "1",
        # A person waits for the terminal.
        "DRAIN_SECONDS": "4",
        "GATEWAY_TTS_URL": f"http://{host}:{ports['tts']}",
        "GATEWAY_ASR_URL": f"http://{host}:{ports['asr']}",
    }
    if colors and "NO_COLOR" not in environ:
        # The services write into a pipe, so they cannot see the terminal behind it.
        defaults["FORCE_COLOR"] = "1"
    return {**defaults, **environ}


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was killed by {signal.Signals(-status).name}"


def _kill(processes: Iterable[Process]) -> None:
    for process in processes:
        if process.returncode is None:
            process.kill()


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def _detach_output() -> None:
    """Write to nowhere from now on: the terminal was closed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.dup2(null, sys.stderr.fileno())


if __name__ == "__main__":
    sys.exit(main())
