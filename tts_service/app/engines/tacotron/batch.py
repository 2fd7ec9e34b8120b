"""Continuous batching: utterances share decoder steps, joining and leaving between any two.

There is no thread of its own. A thread that waits for frames, while no other steps, steps the batch
for all until it has what it waits for, and then hands over to another that waits. Rows whose owner
is busy elsewhere (vocoding what it got) are stepped as well, up to `read_ahead` frames beyond what
was asked for: the batch stays full, and a reader that does not come back has left it after that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .decoder import DecoderModel, Row, Stack
from .guard import DecodeEnd


@dataclass(eq=False)
class Slot:
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
            self.row.end is not None
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
        self._slots: list[Slot] = []
        self._stepping = False
        self._tickets = 0
        self._stack: Stack | None = None

    def join(self, row: Row) -> Slot:
        if not row.state:
            row.state = self._model.initial(row.symbols)
        slot = Slot(row)
        with self._lock:
            self._slots.append(slot)
        return slot

    def leave(self, slot: Slot) -> None:
        """Forget the row; a step in flight finishes without it being missed."""
        with self._lock:
            if slot in self._slots:
                self._slots.remove(slot)

    @property
    def rows(self) -> int:
        """How many decodes are in flight, stepped or not."""
        return len(self._slots)

    def take(
        self, slot: Slot, frames: int, cancelled: Callable[[], bool] = lambda: False
    ) -> tuple[list[NDArray[np.float32]], DecodeEnd | None]:
        """Wait for `frames` more frames of a row, less if it ends or is cancelled before.

        Returns what is there, each part (r, mels), and the end if these are the row's last.
        Raises what the step raised.
        """
        slot.cancelled = cancelled
        with self._lock:
            slot.wanted = frames
            self._tickets += 1
            slot.ticket = self._tickets
        while not slot.served:
            with self._lock:
                leads = not self._stepping
                self._stepping = True
                slot.wake.clear()
            if leads:
                self._lead(slot)
            elif not slot.served:
                slot.wake.wait()
        with self._lock:
            slot.wanted = 0
            self._hand_over()
            if slot.error is not None:
                raise slot.error
            taken, slot.row.frames = slot.row.frames, []
            return taken, slot.row.end

    def _lead(self, slot: Slot) -> None:
        """Step the batch until `slot` is served."""
        try:
            while not slot.served:
                self._step()
        finally:
            with self._lock:
                self._stepping = False

    def _hand_over(self) -> None:
        """Wake those that are served and, if nobody steps, one that is not: it will."""
        self._wake_served()
        if not self._stepping:
            waiting = next((s for s in self._slots if s.wanted and not s.served), None)
            if waiting is not None:
                waiting.wake.set()

    def _step(self) -> None:
        with self._lock:
            chosen = self._choose()
        try:
            # The lock is free while the model works: others join, leave and take meanwhile.
            step = self._model.run(self._restack([slot.row for slot in chosen]))
        except Exception as error:  # noqa: BLE001 - handed to every owner, raised in `take`
            self._stack = None
            with self._lock:
                for slot in chosen:
                    slot.error = error
        else:
            self._stack = step.stack
            with self._lock:
                self._model.deliver(step)
        with self._lock:
            self._wake_served()

    def _wake_served(self) -> None:
        """Also those that did not step: a cancelled wait is over too."""
        for slot in self._slots:
            if slot.wanted and slot.served:
                slot.wake.set()

    def _choose(self) -> list[Slot]:
        """Those that are waited for, the longest-waiting first; then those that are read ahead."""
        waiting = [s for s in self._slots if s.wanted and not s.served]
        chosen = sorted(waiting, key=lambda s: s.ticket)[: self._max_rows]
        read_ahead = [
            s
            for s in self._slots
            if not s.wanted
            and s.row.end is None
            and s.error is None
            and s.ticket
            and s.ready < self._read_ahead
        ]
        return chosen + read_ahead[: self._max_rows - len(chosen)]

    def _restack(self, rows: list[Row]) -> Stack:
        """The stack for `rows`; the one there is, if they are the same."""
        stack = self._stack
        if stack is not None:
            if len(rows) == len(stack.rows) and set(rows) == set(stack.rows):
                return stack
            self._model.unstack(stack)
        return self._model.stack(rows)
