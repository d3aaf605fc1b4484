"""Ends connections whose time is up.

Time-outs of a socket bound one read, and a server that drips would never meet them. One thread
watches all deadlines, for starting one each would cost a good part of an exchange.
"""

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(order=True, slots=True)
class _Watched:
    deadline: float
    number: int
    sock: socket.socket | None = field(compare=False)
    """None once the exchange is over."""


class Deadlines:
    """The deadlines of all connections under way. Its thread lives until the last one is over."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: list[_Watched] = []
        self._numbers = itertools.count()
        self._watching = False

    @contextmanager
    def cutting(self, sock: socket.socket, deadline: float) -> Iterator[None]:
        """Shut the socket down at `deadline` (time.monotonic), unless the block has ended by then.

        The reader then wakes with an error or an early end.
        """
        entry = _Watched(deadline, next(self._numbers), sock)
        with self._changed:
            if not self._watching:
                threading.Thread(target=self._watch, name="deadlines", daemon=True).start()
                self._watching = True
            heapq.heappush(self._watched, entry)
            if self._watched[0] is entry:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                entry.sock = None

    def _watch(self) -> None:
        with self._changed:
            while self._watched:
                first = self._watched[0]
                left = first.deadline - time.monotonic()
                if first.sock is not None and left > 0:
                    self._changed.wait(left)
                    continue
                heapq.heappop(self._watched)
                if first.sock is not None:
                    _cut(first.sock)
            self._watching = False


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):
        # Not SSLSocket.shutdown, which takes the TLS object away under the reader's feet.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
