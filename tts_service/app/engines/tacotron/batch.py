"""Continuous batching: speakers share decoder steps, joining and leaving between any two.

There is no thread of its own. Whoever waits for frames and finds nobody stepping steps for all,
until it has what it came for, and then hands over to another that waits. Rows whose owner is busy
elsewhere (vocoding what it got) ride along while others step, up to `read_ahead` frames beyond what
was asked for: the batch stays full, and a reader that does not come back has left it after that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .decoder import DecoderModel, Row, Stack
from .guard import Verdict


@dataclass(eq=False)
class Seat:
    """A row's place in the batch."""

    row: Row
    wanted: int = 0
    """Frames its owner waits for; 0 while it does not."""
    cancelled: Callable[[], bool] = lambda: False
    """Asked between any two steps, by whichever thread steps: must be cheap."""
    ticket: int = 0
    """When it last asked; 0 before it ever did."""
    wake: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    @property
    def ready(self) -> int:
        return sum(part.shape[0] for part in self.row.frames)

    @property
    def served(self) -> bool:
        return (
            self.row.verdict is not None
            or self.ready >= self.wanted
            or self.error is not None
            or self.cancelled()
        )


class Batch:
    """All decodes of one voice."""

    def __init__(self, model: DecoderModel, *, max_rows: int = 8, read_ahead: int = 24) -> None:
        """At most `max_rows` step together; a row runs at most `read_ahead` frames ahead."""
        self._model = model
        self._max_rows = max_rows
        self._read_ahead = read_ahead
        self._lock = threading.Lock()
        self._seats: list[Seat] = []
        self._stepping = False
        self._tickets = 0
        self._stack: Stack | None = None

    def join(self, row: Row) -> Seat:
        if not row.state:
            row.state = self._model.initial(row.symbols)
        seat = Seat(row)
        with self._lock:
            self._seats.append(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Forget the row; a step under way finishes without it being missed."""
        with self._lock:
            if seat in self._seats:
                self._seats.remove(seat)

    @property
    def rows(self) -> int:
        """How many decodes are under way, stepped or not."""
        return len(self._seats)

    def take(
        self, seat: Seat, frames: int, cancelled: Callable[[], bool] = lambda: False
    ) -> tuple[list[NDArray[np.float32]], Verdict | None]:
        """Wait for `frames` more frames of a row, less if it ends or is cancelled before.

        Returns what is there, each part (r, mels), and the verdict if these are the row's last.
        Raises what the step raised.
        """
        seat.cancelled = cancelled
        with self._lock:
            seat.wanted = frames
            self._tickets += 1
            seat.ticket = self._tickets
        while not seat.served:
            with self._lock:
                leads = not self._stepping
                self._stepping = True
                seat.wake.clear()
            if leads:
                self._lead(seat)
            elif not seat.served:
                seat.wake.wait()
        with self._lock:
            seat.wanted = 0
            self._hand_over()
            if seat.error is not None:
                raise seat.error
            taken, seat.row.frames = seat.row.frames, []
            return taken, seat.row.verdict

    def _lead(self, seat: Seat) -> None:
        """Step the batch until `seat` is served."""
        try:
            while not seat.served:
                self._step()
        finally:
            with self._lock:
                self._stepping = False

    def _hand_over(self) -> None:
        """Wake those that are served and, if nobody steps, one that is not: it will."""
        self._wake_served()
        if not self._stepping:
            waiting = next((s for s in self._seats if s.wanted and not s.served), None)
            if waiting is not None:
                waiting.wake.set()

    def _step(self) -> None:
        with self._lock:
            chosen = self._choose()
        try:
            # The lock is free while the model works: others join, leave and take meanwhile.
            step = self._model.run(self._restack([seat.row for seat in chosen]))
        except Exception as error:  # noqa: BLE001 - handed to every owner, raised in `take`
            self._stack = None
            with self._lock:
                for seat in chosen:
                    seat.error = error
        else:
            self._stack = step.stack
            with self._lock:
                self._model.deliver(step)
        with self._lock:
            self._wake_served()

    def _wake_served(self) -> None:
        """Also those that did not step: a cancelled wait is over too."""
        for seat in self._seats:
            if seat.wanted and seat.served:
                seat.wake.set()

    def _choose(self) -> list[Seat]:
        """Those that are waited for, the longest-waiting first; then those that ride along."""
        waiting = [s for s in self._seats if s.wanted and not s.served]
        chosen = sorted(waiting, key=lambda s: s.ticket)[: self._max_rows]
        riders = [
            s
            for s in self._seats
            if not s.wanted
            and s.row.verdict is None
            and s.error is None
            and s.ticket
            and s.ready < self._read_ahead
        ]
        return chosen + riders[: self._max_rows - len(chosen)]

    def _restack(self, rows: list[Row]) -> Stack:
        """The stack for `rows`; the one there is, if they are the same."""
        stack = self._stack
        if stack is not None:
            if len(rows) == len(stack.rows) and set(rows) == set(stack.rows):
                return stack
            self._model.unstack(stack)
        return self._model.stack(rows)
