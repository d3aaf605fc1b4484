"""Users: sql/users.sql."""

from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import User, UserOverview, UserStatistics
from i2i.sql import load

SQL = load("users")


def create(
    conn: Connection[Any],
    *,
    email: str,
    password_hash: str,
    is_whitelisted: bool,
    role: str,
    is_generated: bool = False,
) -> User:
    """The new user; UniqueViolation users_email_key when the address is taken."""
    return SQL["create"].one(
        conn,
        User,
        email=email,
        password_hash=password_hash,
        is_whitelisted=is_whitelisted,
        role=role,
        is_generated=is_generated,
    )


def find(conn: Connection[Any], *, user_id: UUID) -> User | None:
    return SQL["find"].optional(conn, User, user_id=user_id)


def find_by_email(conn: Connection[Any], *, email: str) -> User | None:
    return SQL["find_by_email"].optional(conn, User, email=email)


def lock(conn: Connection[Any], *, user_id: UUID) -> int:
    """1, or 0 when the user is gone."""
    return SQL["lock"].execute(conn, user_id=user_id)


def lock_password(conn: Connection[Any], *, user_id: UUID, password_hash: str) -> int:
    """1, or 0 when the password is another one by now."""
    return SQL["lock_password"].execute(conn, user_id=user_id, password_hash=password_hash)


def list_all(conn: Connection[Any]) -> list[User]:
    return SQL["list_all"].many(conn, User)


def statistics(conn: Connection[Any], *, user_id: UUID) -> UserStatistics:
    return SQL["statistics"].one(conn, UserStatistics, user_id=user_id)


def list_overview(conn: Connection[Any], *, user_id: UUID | None = None) -> list[UserOverview]:
    """Everybody, or one user, with what they have and have used."""
    return SQL["list_overview"].many(conn, UserOverview, user_id=user_id)


def set_whitelisted(conn: Connection[Any], *, user_id: UUID, is_whitelisted: bool) -> int:
    return SQL["set_whitelisted"].execute(conn, user_id=user_id, is_whitelisted=is_whitelisted)


def set_time_zone(conn: Connection[Any], *, user_id: UUID, time_zone: str, is_guess: bool) -> int:
    return SQL["set_time_zone"].execute(
        conn, user_id=user_id, time_zone=time_zone, is_guess=is_guess
    )


def set_review_keys(conn: Connection[Any], *, user_id: UUID, review_keys: bool) -> int:
    return SQL["set_review_keys"].execute(conn, user_id=user_id, review_keys=review_keys)


def set_password_hash(
    conn: Connection[Any], *, user_id: UUID, password_hash: str, is_generated: bool
) -> int:
    return SQL["set_password_hash"].execute(
        conn, user_id=user_id, password_hash=password_hash, is_generated=is_generated
    )


def set_role(conn: Connection[Any], *, user_id: UUID, role: str) -> int:
    return SQL["set_role"].execute(conn, user_id=user_id, role=role)


def delete(conn: Connection[Any], *, user_id: UUID) -> int:
    return SQL["delete"].execute(conn, user_id=user_id)
