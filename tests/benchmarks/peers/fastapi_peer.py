"""The history page with FastAPI, SQLAlchemy's ORM and Jinja2.

DATABASE_URL=postgresql+psycopg://… uvicorn fastapi_peer:app
"""

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

import words
from fastapi import Cookie, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.templating import Jinja2Templates
from sqlalchemy import ForeignKey, create_engine, func, select, tuple_
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

engine = create_engine(os.environ["DATABASE_URL"], pool_size=4, max_overflow=0)
templates = Jinja2Templates(Path(__file__).parent / "fastapi_templates")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    role: Mapped[str]
    is_whitelisted: Mapped[bool]


class Login(Base):
    __tablename__ = "sessions"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    token_hash: Mapped[bytes]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    user: Mapped[User] = relationship()


class Image(Base):
    __tablename__ = "images"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    original_filename: Mapped[str]
    file_size: Mapped[int]
    has_preview: Mapped[bool]


class Workflow(Base):
    __tablename__ = "workflow_configs"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class Job(Base):
    __tablename__ = "processing_jobs"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    batch_id: Mapped[UUID]
    original_image_id: Mapped[UUID] = mapped_column(ForeignKey("images.id"))
    result_image_id: Mapped[UUID | None] = mapped_column(ForeignKey("images.id"))
    position: Mapped[int]
    workflow_name: Mapped[str]
    status: Mapped[str]
    error_message: Mapped[str | None]
    processing_time_ms: Mapped[int | None]
    verdict: Mapped[str | None]
    verdict_reason: Mapped[str | None]
    verdict_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    original_image: Mapped[Image] = relationship(foreign_keys=[original_image_id])
    result_image: Mapped[Image | None] = relationship(foreign_keys=[result_image_id])
    submissions: Mapped[list["Submission"]] = relationship()


class Submission(Base):
    __tablename__ = "submissions"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("processing_jobs.id"))
    charged: Mapped[str | None]
    estimate: Mapped[Decimal | None]
    cost: Mapped[Decimal | None]


def database():
    with Session(engine) as session:
        yield session


@app.get("/jobs", response_class=HTMLResponse)
def history(
    request: Request,
    db: Annotated[Session, Depends(database)],
    i2i: Annotated[str, Cookie()] = "",
    status: str = "",
    workflow: str = "",
    verdict: str = "",
    q: str = "",
    after: str = "",
):
    now = datetime.now(UTC)
    login = db.scalars(
        select(Login)
        .join(Login.user)
        .options(joinedload(Login.user))
        .where(
            Login.token_hash == words.token_hash(i2i),
            User.is_whitelisted,
            Login.last_seen_at > now - timedelta(hours=24),
            Login.created_at > now - timedelta(days=14),
        )
    ).first()
    if login is None:
        return RedirectResponse("/login")
    user = login.user
    jobs = select(Job).where(Job.user_id == user.id, Job.deleted_at.is_(None))
    if status:
        jobs = jobs.where(Job.status == status)
    if workflow:
        jobs = jobs.where(Job.workflow_name == workflow)
    if verdict:
        wanted = None if verdict == "none" else verdict
        jobs = jobs.where(Job.status == "completed", Job.verdict == wanted)
    if q:
        jobs = jobs.join(Job.original_image).where(Image.original_filename.icontains(q))
    some = jobs.with_only_columns(Job.id).limit(words.MOST_COUNTED + 1).subquery()
    found = db.scalar(select(func.count()).select_from(some))
    if after:
        moment, _, last = after.partition("_")
        before = (datetime.fromisoformat(moment), UUID(last))
        jobs = jobs.where(tuple_(Job.created_at, Job.id) < tuple_(*before))
    rows = db.scalars(
        jobs.options(
            joinedload(Job.original_image),
            joinedload(Job.result_image),
            selectinload(Job.submissions),
        )
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(words.PAGE_SIZE + 1)
    ).all()
    shown = rows[: words.PAGE_SIZE]
    older = None
    if len(rows) > words.PAGE_SIZE:
        cursor = f"{shown[-1].created_at.isoformat()}_{shown[-1].id}"
        older = f"/jobs?{urlencode({'after': cursor})}"
    running = db.scalars(
        select(Job.batch_id)
        .where(Job.user_id == user.id, Job.status.in_(words.WORKING), Job.deleted_at.is_(None))
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(1)
    ).first()
    own = select(func.count()).select_from(Job)
    return templates.TemplateResponse(
        request,
        "history.html",
        {
            "user": user,
            "running": running,
            "cards": [card(row, request) for row in shown],
            "tabs": words.TABS,
            "sizes": words.SIZES,
            "workflows": db.scalars(select(Workflow).order_by(Workflow.id)).all(),
            "total": db.scalar(own.where(Job.user_id == user.id, Job.deleted_at.is_(None))),
            "used": words.gigabytes(
                db.scalar(select(func.sum(Image.file_size)).where(Image.user_id == user.id)) or 0
            ),
            "found": found,
            "older": older,
            "typed": request.query_params,
        },
    )


def card(row, request):
    result = row.result_image
    glyph, tone, word, fact, charge = words.describe(row, submissions=row.submissions)
    first, last = words.halves(row.original_image.original_filename)

    def url(name, id_):
        return app.url_path_for(name, id=id_)

    return {
        "id": row.id,
        "position": row.position,
        "url": url("job", row.id),
        "name": row.original_image.original_filename,
        "first": first,
        "last": last,
        "result": url("image", result.id) if result else None,
        "original": url("image", row.original_image_id),
        "retry": url("retry", row.id) if row.status == "failed" else None,
        "error": row.error_message,
        "money": charge,
        "other": f"/batches/new?{urlencode({'parent': row.batch_id, 'image': row.original_image_id})}"
        if row.status == "failed"
        else None,
        "glyph": glyph,
        "tone": tone,
        "word": word,
        "fact": fact,
    }


@app.get("/jobs/{id}")
def job(id: UUID):  # noqa: A002
    return HTMLResponse(status_code=404)


@app.post("/jobs/{id}/retry")
def retry(id: UUID):  # noqa: A002
    return HTMLResponse(status_code=404)


@app.get("/images/{id}")
def image(id: UUID):  # noqa: A002
    return HTMLResponse(status_code=404)
