"""Signing in and out, and the account page. Without a session only the sign-in page answers."""

from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from flask import (
    Blueprint,
    Flask,
    g,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.sessions import SessionInterface
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.wrappers import Response as BaseResponse

from i2i import origin, passwords
from i2i.errors import InvalidFields, TooBusy, TooManyTries, WrongCredentials
from i2i.models import CurrentUser
from i2i.queries import sessions as queries
from i2i.queries import tokens as token_queries
from i2i.queries import users as queries_of_users
from i2i.services import sessions as service
from i2i.services import users
from i2i.web import words
from i2i.web.cross_site import is_script
from i2i.web.database import connection
from i2i.web.errors import later, wants_json
from i2i.web.state import settings

bp = Blueprint("sessions", __name__)

FOR_PROGRAMS = {"static", "health.live", "health.ready", "metrics.show", "webhooks.receive"}
"""No cookie is looked at here, and no database asked for one."""

PUBLIC = FOR_PROGRAMS | {"sessions.login", "sessions.sign_in", "sessions.logout"}
"""Everything else needs a session; a new route is closed until it is named here."""

CHOOSING = PUBLIC | {"sessions.choose_password", "sessions.save_password"}
"""All that answers while the password is a generated one."""

COOKIE_AGE = timedelta(days=14)

SAVED = {
    "password": "Password changed. Other places were signed out.",
    "time-zone": "Time zone changed.",
    "review-keys": "Keys of the review changed.",
}
"""What the account page says after a form was saved."""


class NoFlaskSession(SessionInterface):
    """Flask keeps nothing in a cookie of its own: it would make what signs it for each request."""

    def open_session(self, *_: Any) -> None:
        """Flask then makes one that takes nothing, and asks for nothing to be saved."""


def register(app: Flask) -> None:
    """Know the user before each request; tell the templates."""
    app.before_request(require_user)
    app.context_processor(lambda: {"current_user": g.get("user")})


def current_user() -> CurrentUser:
    """The signed-in user; only in views that are not PUBLIC."""
    return cast("CurrentUser", g.user)


def cookie_name() -> str:
    """The `__Host-` prefix binds the cookie to this host, but browsers want https for it."""
    return "__Host-i2i" if request.is_secure else "i2i"


def require_user() -> ResponseReturnValue | None:
    """Let nobody but signed-in users past; runs before any body is read."""
    if request.endpoint in FOR_PROGRAMS:
        return None
    if is_script():
        return require_token()
    token = request.cookies.get(cookie_name())
    if token:
        conn = connection()
        user = queries.current(conn, token_hash=passwords.hash_token(token))
        if user is not None:
            g.user = user
            origin.learn(actor=user.email, actor_id=user.id)
            if user.unseen:
                queries.touch(conn, session_id=user.session_id)
            return choose_first(user)
    if request.endpoint in PUBLIC:
        return None
    if wants_json():
        return jsonify(error="Sign in first."), 401
    return redirect(url_for("sessions.login", next=wanted_path()), code=303)


def require_token() -> ResponseReturnValue | None:
    """Let a script with a good token past, wherever no account and no operator is at stake."""
    conn = connection()
    bearer = request.authorization.token if request.authorization else None
    user = token_queries.current(conn, token_hash=passwords.hash_token(bearer or ""))
    if user is None:
        answer = make_response(jsonify(error="This token is not known, or good no more."), 401)
        answer.www_authenticate = WWWAuthenticate("bearer")
        return answer
    g.user = user
    origin.learn(actor=user.email, actor_id=user.id)
    if user.unseen:
        token_queries.touch(conn, token_id=user.session_id)
    if request.blueprint in {"sessions", "admin"}:
        return jsonify(error="A token does not open this. Sign in with a browser."), 403
    return choose_first(user)


def choose_first(user: CurrentUser) -> ResponseReturnValue | None:
    """Lead to the one page that a generated password opens."""
    if user.password_expires_at is None or request.endpoint in CHOOSING:
        return None
    if wants_json():
        url = url_for("sessions.choose_password")
        return jsonify(error=f"Choose your own password first, at {url}."), 403
    return redirect(url_for("sessions.choose_password", next=wanted_path()), code=303)


def wanted_path() -> str | None:
    """Where the user wanted to go, to get there later."""
    return request.full_path.rstrip("?") if request.method == "GET" else None


def own_path(text: str | None) -> str:
    """The path to go to after signing in, if it is one of ours; else the start page."""
    start = url_for("images.upload")
    if not text or not text.startswith("/") or any(ord(letter) < 33 for letter in text):
        return start
    return start if text.startswith("//") or "\\" in text else text


@bp.get("/login")
def login() -> ResponseReturnValue:
    """The sign-in page."""
    if g.get("user"):
        return redirect(own_path(request.args.get("next")), code=303)
    return _login_page()


@bp.post("/login")
def sign_in() -> ResponseReturnValue:
    """Sign in: 303 to where the user wanted to go, or 401 without saying what was wrong."""
    target = own_path(request.form.get("next"))
    try:
        token = service.sign_in(
            connection(),
            settings(),
            email=request.form.get("email", ""),
            password=request.form.get("password", ""),
            ip_address=request.remote_addr or "",
            user_agent=request.headers.get("User-Agent", ""),
            time_zone=request.form.get("time_zone", ""),
            former_token=request.cookies.get(cookie_name(), ""),
        )
    except WrongCredentials as error:
        return _login_page(str(error), status=401)
    except TooManyTries as error:
        wait = words.seconds(error.retry_after)
        page = _login_page(f"Too many tries. Wait {wait}, then try again.", status=429)
        return later(page, seconds=error.retry_after)
    except TooBusy as error:
        return later(_login_page(str(error), status=503), seconds=1)
    response: BaseResponse = jsonify(url=target) if wants_json() else redirect(target, code=303)
    return _with_token(response, token)


def _with_token(response: BaseResponse, token: str) -> BaseResponse:
    response.set_cookie(
        cookie_name(),
        token,
        max_age=COOKIE_AGE,
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
        path="/",
    )
    return response


@bp.get("/account/password")
def choose_password() -> ResponseReturnValue:
    """The page that a generated password opens; for everybody else the account page has a form."""
    if current_user().password_expires_at is None:
        return redirect(url_for("sessions.account"), code=303)
    return _choose_page()


@bp.post("/account/password")
def save_password() -> ResponseReturnValue:
    """A password of one's own: 303 to where the user wanted to go, or 422."""
    user = current_user()
    if user.password_expires_at is None:
        return redirect(url_for("sessions.account"), code=303)
    password = request.form.get("new_password", "")
    try:
        token = service.choose_password(connection(), settings(), user=user, password=password)
    except InvalidFields as error:
        if wants_json():
            return jsonify(error=str(error)), 422
        return _choose_page(error=error.fields["password"]), 422
    target = own_path(request.form.get("next"))
    response: BaseResponse = jsonify(url=target) if wants_json() else redirect(target, code=303)
    return _with_token(response, token)


def _choose_page(*, error: str | None = None) -> str:
    user = current_user()
    return render_template(
        "sessions/choose_password.html",
        email=user.email,
        expires_at=user.password_expires_at,
        error=error,
        minimum_length=passwords.MINIMUM,
        next=request.values.get("next", ""),
    )


def _login_page(error: str | None = None, *, status: int = 200) -> ResponseReturnValue:
    if wants_json() and error:
        return jsonify(error=error), status
    page = render_template(
        "sessions/login.html",
        error=error,
        email=request.form.get("email", ""),
        next=request.values.get("next", ""),
    )
    return page, status


@bp.post("/logout")
def logout() -> ResponseReturnValue:
    """End this session; the browser is told to forget what it kept of us."""
    user = g.get("user")
    if user:
        service.sign_out(connection(), user=user)
    response = make_response(redirect(url_for("sessions.login"), code=303))
    response.delete_cookie(cookie_name(), path="/", secure=request.is_secure, samesite="Lax")
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


@bp.get("/account")
def account() -> ResponseReturnValue:
    """Password, time zone and own sessions."""
    return _account_page(saved=SAVED.get(request.args.get("saved", "")))


@bp.post("/account")
def change_password() -> ResponseReturnValue:
    """Change the password, which needs the current one and ends the user's other sessions."""
    user = current_user()
    try:
        token = service.change_password(
            connection(),
            settings(),
            user=user,
            current=request.form.get("current_password", ""),
            password=request.form.get("new_password", ""),
            ip_address=request.remote_addr or "",
        )
    except TooManyTries as error:
        wait = words.seconds(error.retry_after)
        sentence = f"Too many wrong passwords. Wait {wait}, then try again."
        refusal = _refused([("current_password", sentence)], status=429)
        return later(refusal, seconds=error.retry_after)
    except InvalidFields as error:
        names = {"current": "current_password", "password": "new_password"}
        return _refused([(names[key], text) for key, text in error.fields.items()])
    return _with_token(redirect(url_for("sessions.account", saved="password"), code=303), token)


@bp.post("/account/review-keys")
def set_review_keys() -> ResponseReturnValue:
    """Switch the keys of the review on or off."""
    wanted = "review_keys" in request.form
    queries_of_users.set_review_keys(connection(), user_id=current_user().id, review_keys=wanted)
    if wants_json():
        return jsonify(review_keys=wanted)
    return redirect(url_for("sessions.account", saved="review-keys"), code=303)


@bp.post("/account/time-zone")
def set_time_zone() -> ResponseReturnValue:
    """Choose where the clock hangs whose times the pages show."""
    try:
        users.set_time_zone(
            connection(),
            user_id=current_user().id,
            time_zone=request.form.get("time_zone", ""),
        )
    except InvalidFields as error:
        return _refused(list(error.fields.items()))
    return redirect(url_for("sessions.account", saved="time-zone"), code=303)


def _refused(errors: list[tuple[str, str]], *, status: int = 422) -> ResponseReturnValue:
    if wants_json():
        return jsonify(error="Nothing was changed.", fields=dict(errors)), status
    return _account_page(errors=errors), status


def _account_page(*, saved: str | None = None, errors: list[tuple[str, str]] | None = None) -> str:
    user = current_user()
    rows = queries.list_of_user(connection(), user_id=user.id)
    return render_template(
        "sessions/account.html",
        email=user.email,
        saved=saved,
        time_zone=request.form.get("time_zone") or user.time_zone or "UTC",
        time_zones=words.time_zones(),
        review_keys=user.review_keys,
        errors=errors or [],
        minimum_length=passwords.MINIMUM,
        sessions=[
            (
                row.id,
                row.id == user.session_id,
                row.created_at,
                row.last_seen_at,
                words.browser(row.user_agent),
                row.ip_address,
            )
            for row in rows
        ],
    )


@bp.post("/account/sessions/<uuid:id>/revoke")
def revoke(id: UUID) -> ResponseReturnValue:  # noqa: A002 - the word of the route
    """Sign one of the user's own browsers out."""
    service.revoke(connection(), session_id=id, user=current_user())
    return redirect(url_for("sessions.account"), code=303)
