"""Accounts: who may sign in, and as what. `flask users` does the same in a terminal."""

from uuid import UUID

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i import passwords
from i2i.errors import EmailTaken, InvalidFields, NotFound, Refused
from i2i.models import Role, UserOverview
from i2i.queries import jobs
from i2i.queries import users as queries
from i2i.services import sessions as session_service
from i2i.services import users as service
from i2i.web import words
from i2i.web.admin import bp
from i2i.web.database import connection, lend
from i2i.web.sessions import current_user
from i2i.web.state import settings, state


@bp.get("/users")
def users() -> ResponseReturnValue:
    """Everybody, and a form for somebody new."""
    return _users_page()


@bp.post("/users")
def create_user() -> ResponseReturnValue:
    """A new account; its password is shown in the answer, and never again."""
    password = passwords.make_password()
    try:
        user = service.create(
            connection(),
            settings(),
            email=request.form.get("email", ""),
            password=password,
            role=Role.ADMIN if request.form.get("role") == Role.ADMIN else Role.USER,
            is_whitelisted="may_sign_in" in request.form,
            is_generated=True,
        )
    except EmailTaken as error:
        return _users_page(errors={"email": str(error)}), 422
    except InvalidFields as error:
        return _users_page(errors=error.fields), 422
    return _password_page(user.id, email=user.email, password=password, is_new=True)


def _users_page(*, errors: dict[str, str] | None = None) -> str:
    return render_template(
        "admin/users.html",
        rows=queries.list_overview(connection()),
        errors=list((errors or {}).items()),
        typed=request.form,
    )


def _password_page(user_id: UUID, *, email: str, password: str, is_new: bool) -> str:
    return render_template(
        "admin/password.html",
        email=email,
        password=password,
        is_new=is_new,
        url=url_for("admin.user", id=user_id),
    )


@bp.get("/users/<uuid:id>")
def user(id: UUID) -> ResponseReturnValue:  # noqa: A002 - the word of the route
    """One account, and what can be done with it."""
    row = _overview(id)
    return render_template("admin/user.html", row=row, is_self=row.id == current_user().id)


@bp.post("/users/<uuid:id>/whitelist")
def set_whitelisted(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Let somebody in, or out: signed out at once, and what was not sent is cancelled."""
    row = _somebody_else(id, "take away your own place on the whitelist")
    service.set_whitelisted(
        connection(), email=row.email, is_whitelisted=request.form.get("may_sign_in") == "yes"
    )
    return _back(id)


@bp.post("/users/<uuid:id>/role")
def set_role(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Make somebody an admin, or no longer."""
    row = _somebody_else(id, "change your own role")
    role = Role.ADMIN if request.form.get("role") == Role.ADMIN else Role.USER
    service.set_role(connection(), email=row.email, role=role)
    return _back(id)


@bp.post("/users/<uuid:id>/password")
def reset_password(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """A new password, shown once; whoever was signed in with the old one is signed out."""
    row = _somebody_else(id, "reset your own password here; the account page changes it")
    password = passwords.make_password()
    service.set_password(
        connection(), settings(), user_id=row.id, password=password, is_generated=True
    )
    return _password_page(row.id, email=row.email, password=password, is_new=False)


@bp.post("/users/<uuid:id>/sign-out")
def sign_out_user(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """End all sessions of somebody."""
    session_service.revoke_all(
        connection(), email=_overview(id).email, keep=current_user().session_id
    )
    return _back(id)


@bp.get("/users/<uuid:id>/delete")
def confirm_delete_user(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """What goes and what stays, before it happens."""
    row = _somebody_else(id, "delete your own account")
    what = f"{words.plural(row.uploads, 'photo')} and {words.plural(row.pictures, 'picture')}"
    sentences = [
        f"{what} ({words.gigabytes(row.stored_bytes)}) are removed for good, the trash too.",
        f"What was charged stays in the books: {words.money(row.charged)}.",
    ]
    if at_fal := jobs.count_at_fal(connection(), user_id=row.id).count:
        sentences.append(
            f"{words.plural(at_fal, 'picture')} of theirs may still be in the making. "
            "Take them off the whitelist first, and delete when all is finished."
        )
    return render_template(
        "jobs/confirm.html",
        section="admin",
        title=f"Delete {row.email}?",
        sentences=sentences,
        keep=("Keep", url_for("admin.user", id=id)),
        action=(f"Delete {row.email}", "post", url_for("admin.delete_user", id=id), {}),
    )


@bp.post("/users/<uuid:id>/delete")
def delete_user(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Remove an account with its pictures; the ledger stays."""
    row = _somebody_else(id, "delete your own account")
    service.delete(lend, state().storage, email=row.email)
    return redirect(url_for("admin.users"), code=303)


def _overview(user_id: UUID) -> UserOverview:
    rows = queries.list_overview(connection(), user_id=user_id)
    if not rows:
        raise NotFound("This account does not exist.")
    return rows[0]


def _somebody_else(user_id: UUID, action: str) -> UserOverview:
    """The account; Refused for one's own, so that no admin locks himself out by a click."""
    if user_id == current_user().id:
        raise Refused(f"You cannot {action}. Nothing was changed.")
    return _overview(user_id)


def _back(user_id: UUID) -> ResponseReturnValue:
    return redirect(url_for("admin.user", id=user_id), code=303)
