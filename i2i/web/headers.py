"""What every answer says to browsers and caches."""

from flask import Flask, Response, request

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

ALWAYS = {
    "Content-Security-Policy": CSP,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def register(app: Flask) -> None:
    """Add the headers after each request, where the view has not set its own."""
    app.after_request(add_headers)


def add_headers(response: Response) -> Response:
    """Pages are private and never stored; a strict policy for what they may load."""
    headers = response.headers
    given = {name.lower() for name, _ in headers}
    for name, text in ALWAYS.items():
        if name.lower() not in given:
            headers.add(name, text)
    if request.is_secure:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
    if request.endpoint != "static" or response.status_code >= 400:
        headers.setdefault("Cache-Control", "no-store")
        response.vary.add("Cookie")
    return response
