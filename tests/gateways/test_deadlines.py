"""Deadlines on real sockets."""

import socket
import threading
import time

from i2i.gateways.deadlines import Deadlines

GUARD_SECONDS = 60


def test_each_connection_ends_at_its_own_deadline():
    deadlines = Deadlines()
    begin = time.monotonic()
    (slow, far_slow), (quick, far_quick) = socket.socketpair(), socket.socketpair()
    with slow, far_slow, quick, far_quick:
        for each in (slow, quick):
            each.settimeout(GUARD_SECONDS)
        with (
            deadlines.cutting(slow, begin + GUARD_SECONDS),
            deadlines.cutting(quick, begin + 0.05),
        ):
            assert quick.recv(1) == b"", "cut, though the other one was watched first"
            assert time.monotonic() >= begin + 0.05
            far_slow.send(b"x")
            assert slow.recv(1) == b"x"


def test_what_has_ended_is_left_alone():
    deadlines = Deadlines()
    near, far = socket.socketpair()
    other, far_other = socket.socketpair()
    with near, far, other, far_other:
        with deadlines.cutting(near, time.monotonic() + 0.05):
            pass
        other.settimeout(GUARD_SECONDS)
        with deadlines.cutting(other, time.monotonic() + 0.1):
            assert other.recv(1) == b"", "the later deadline is over"
        far.send(b"x")
        assert near.recv(1) == b"x"


def test_a_closed_socket_harms_nobody_and_the_thread_ends_with_the_work():
    deadlines = Deadlines()
    near, far = socket.socketpair()
    others = set(threading.enumerate())  # among them those that watch for other tests' deadlines
    with far, near, deadlines.cutting(near, time.monotonic() + 0.05):
        near.close()
        started = set(threading.enumerate()) - others
        for each in started:
            each.join(GUARD_SECONDS)
    assert not any(each.is_alive() for each in started)
