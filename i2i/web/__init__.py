"""The pages: blueprints that parse, make one call, and render or redirect."""

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from i2i.web import (
    admin,
    assets,
    bar,
    batches,
    compression,
    cross_site,
    database,
    downloads,
    errors,
    headers,
    health,
    images,
    jobs,
    metrics,
    presets,
    refusals,
    requests,
    sessions,
    trash,
    webhooks,
    words,
    workflows,
)
from i2i.web.state import State


def register(app: Flask) -> None:
    """Put everything that answers requests on the application, in the order it takes part."""
    state: State = app.extensions["i2i"]
    if proxies := state.settings.trusted_proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies
        )
    database.register(app)
    requests.register(app)
    refusals.register(app)
    compression.register(app)
    metrics.register(app, token=state.settings.metrics_token)
    headers.register(app)
    assets.register(app)
    errors.register(app)
    cross_site.register(app)
    words.register(app)
    sessions.register(app)
    bar.register(app)
    pages = (
        health,
        metrics,
        sessions,
        images,
        batches,
        presets,
        jobs,
        downloads,
        trash,
        workflows,
        admin,
    )
    for module in pages:
        app.register_blueprint(module.bp)
    webhooks.register(app, settings=state.settings)
