"""Who acts, from where and for which request: known in every layer without being handed through.

The edges say it: a request, a command, a step of the worker. Log lines and audit records read it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where what happens now comes from; everything that is not known is empty.

    `actor` is the address of an account, "operator NAME" in a terminal, or "worker".
    """

    actor: str = ""
    actor_id: UUID | None = None
    ip_address: str | None = None
    request_id: str | None = None
    job_id: UUID | None = None


_current: ContextVar[Origin] = ContextVar("origin", default=Origin())  # noqa: B039 - it is frozen


def current() -> Origin:
    """The origin of what this thread does."""
    return _current.get()


def begin(origin: Origin) -> None:
    """From here on this thread acts for this origin."""
    _current.set(origin)


def learn(**facts: Any) -> None:
    """More is known of the origin by now, such as who sent the request."""
    _current.set(replace(_current.get(), **facts))


@contextmanager
def acting(**facts: Any) -> Iterator[None]:
    """For a while, these facts of the origin are others."""
    token = _current.set(replace(_current.get(), **facts))
    try:
        yield
    finally:
        _current.reset(token)
