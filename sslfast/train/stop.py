"""Stopping a run from outside: SIGTERM and SIGINT let the step finish and the checkpoint be saved."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from sslfast.errors import TrainingError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(TrainingError):
    """A signal stopped the run after it was saved; the command line exits with 128 + the signal's number."""

    def __init__(self, message: str, signum: int = signal.SIGTERM) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.exit_code - 128)


class StopSignals:
    """Remembers the first SIGTERM or SIGINT while it is entered; a second SIGINT ends the process at once.

    Outside the main thread signals cannot be caught, and nothing is remembered.

    Attributes:
        received: number of the signal, 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        children = [child for child in multiprocessing.active_children() if child.pid is not None]
        if self.received and signum == signal.SIGINT and multiprocessing.parent_process() is None:
            raise KeyboardInterrupt
        self.received = signum
        for child in children:  # ranks that this process started
            assert child.pid is not None
            os.kill(child.pid, signum)
