"""Requests for another host, or that another site makes a signed-in browser send, are refused.

The browser itself says where a request comes from: `Sec-Fetch-Site`, or in older ones `Origin`. No
token is needed, so a page that was open for a day still sends its form.
"""

from urllib.parse import urlsplit

from flask import Flask, Request, Response, request
from werkzeug.exceptions import Forbidden, SecurityError

SAFE = {"GET", "HEAD", "OPTIONS"}

SIGNED = {"webhooks.receive"}
"""Routes for programs, which prove by a signature who they are."""


def register(app: Flask) -> None:
    """Check every unsafe method before anything else looks at the request."""
    app.before_request(refuse_other_hosts)
    app.before_request(refuse_cross_site)


def refuse_other_hosts() -> Response | None:
    """400 in plain text for a Host outside TRUSTED_HOSTS: no page, for Flask makes no URLs then."""
    if isinstance(request.routing_exception, SecurityError):
        return Response("This site has another name.\n", 400, mimetype="text/plain")
    return None


def refuse_cross_site() -> None:
    """Forbidden unless the request is safe, signed, a script's, or comes from a page of ours."""
    if request.endpoint in SIGNED or is_script():
        return
    if request.method not in SAFE and not is_own(request):
        raise Forbidden("This form was sent from another site. Nothing was changed.")


def is_script() -> bool:
    """Whether the request brings a bearer's token and no cookie.

    No page can make a browser send such a token of a script, and without a cookie the request has
    no rights but the token's.
    """
    given = request.authorization
    return given is not None and given.type == "bearer" and not request.cookies


def is_own(request: Request) -> bool:
    """Whether the browser says that one of our pages, or the user directly, sent this."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    if origin is None or origin == "null":
        return False
    try:
        return bool(request.host) and urlsplit(origin).netloc == request.host
    except ValueError:
        return False
