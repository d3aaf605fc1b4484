"""What the views of one application share."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from i2i.config import Settings
from i2i.gateways.storage import Storage
from i2i.web.database import Database


@dataclass(frozen=True, slots=True)
class State:
    """Settings and the two places where data lives; kept in `app.extensions["i2i"]`."""

    settings: Settings
    database: Database
    storage: Storage


def state() -> State:
    """The current application's."""
    return cast("State", current_app.extensions["i2i"])


def settings() -> Settings:
    """The current application's settings."""
    return state().settings
