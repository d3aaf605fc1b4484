"""The size of the frames on a contact sheet: S, M or L, as this browser chose it last."""

from typing import Any

from flask import Response, after_this_request, request, url_for

SIZES = ("s", "m", "l")
COOKIE = "frames"
A_YEAR = 365 * 86400


def chosen(*, default: str) -> str:
    """The size asked for by the address, which is remembered; else the one remembered."""
    wanted = request.args.get("size", "")
    if wanted in SIZES:
        after_this_request(_remember)
        return wanted
    kept = request.cookies.get(COOKIE, "")
    return kept if kept in SIZES else default


def _remember(response: Response) -> Response:
    response.set_cookie(
        COOKIE,
        request.args["size"],
        max_age=A_YEAR,
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )
    return response


def switch(endpoint: str, size: str, **values: Any) -> list[tuple[str, str, bool]]:
    """The three links: label, address, whether it is the current one."""
    here = url_for(endpoint, **values)
    joint = "&" if "?" in here else "?"
    return [(each.upper(), f"{here}{joint}size={each}", each == size) for each in SIZES]
