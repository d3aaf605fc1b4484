"""The web process's composition root: settings in, a Flask application out.

Nothing is opened here, so that commands start without a database and gunicorn can fork afterwards.
"""

from typing import Any

import flask
from jinja2 import StrictUndefined

from i2i import cli, web
from i2i.config import ROOT, Settings
from i2i.gateways.storage import make_storage
from i2i.web.addresses import Addresses
from i2i.web.database import Database
from i2i.web.sessions import NoFlaskSession
from i2i.web.state import State
from i2i.web.templates import Templates
from i2i.web.uploads import UploadRequest


class App(Addresses):
    """Flask, with the request class that streams uploads to the disk, and without its sessions."""

    request_class = UploadRequest
    jinja_environment = Templates
    session_interface = NoFlaskSession()

    def ensure_sync(self, func: Any) -> Any:
        """Nothing here is async; Flask would look at each function at each request."""
        return func


def create_app(settings: Settings) -> flask.Flask:
    """The application for these settings; SystemExit or StorageError when they cannot work."""
    app = App("i2i", static_folder=None)  # web.assets serves them
    app.template_folder = str(ROOT / "templates")
    app.config.from_mapping(
        SECRET_KEY=settings.secret_key,
        SECRET_KEY_FALLBACKS=list(settings.secret_key_fallbacks),
        MAX_FORM_MEMORY_SIZE=500_000,
        MAX_CONTENT_LENGTH=1_000_000,  # everything but uploads, which set their own
        TRUSTED_HOSTS=list(settings.trusted_hosts) or None,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.jinja_options = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    app.extensions["i2i"] = State(
        settings=settings,
        database=Database(settings),
        storage=make_storage(settings.blob_url, data_dir=settings.data_dir),
    )
    web.register(app)
    cli.register(app)
    return app
