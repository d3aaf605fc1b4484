"""Pages and JSON go gzipped to those who take it, with or without a proxy in front.

Compressing what holds both a secret and an attacker's words lets its length give the secret away
(BREACH). That needs an attacker who makes a signed-in browser ask many times: a foreign page's
requests come without our cookie (SameSite), and no page of ours holds a token to guess.
"""

import gzip

from flask import Flask, Response, request

TYPES = {"text/html", "application/json"}

LEAST_BYTES = 1000
"""Below this the headers weigh more than what is saved."""

LEVEL = 5
"""74 kB of HTML become 9 kB in a millisecond."""


def register(app: Flask) -> None:
    """Compress after each request; streams and files are left alone."""
    app.after_request(compress)


def compress(response: Response) -> Response:
    """The answer, smaller where that pays."""
    if response.mimetype not in TYPES or response.is_streamed or response.status_code == 304:
        return response
    response.vary.add("Accept-Encoding")
    if (
        request.accept_encodings["gzip"] > 0
        and "Content-Encoding" not in response.headers
        and (response.content_length or 0) >= LEAST_BYTES
    ):
        response.set_data(gzip.compress(response.get_data(), LEVEL, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
        if etag := response.get_etag()[0]:
            response.set_etag(etag, weak=True)
    return response
