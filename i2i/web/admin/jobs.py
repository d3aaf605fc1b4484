"""What failed or needs a person, of all users: states, errors and money, never pictures."""

from typing import Any

from flask import jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i.errors import NotFound
from i2i.explanations import of_code, without_inputs
from i2i.models import JobStatus, TroubledJob
from i2i.queries import jobs as queries
from i2i.web.admin import bp
from i2i.web.database import connection
from i2i.web.errors import wants_json
from i2i.web.paging import read_cursor, write_cursor
from i2i.web.words import money

PAGE_SIZE = 50

SHOWN = {"": ("All", None), "open": ("Needs a look", False), "failed": ("Failed", True)}
"""What `show` may be: its words, and whether jobs have failed for good."""


@bp.get("/jobs")
def jobs() -> ResponseReturnValue:
    """Failed jobs and those that need a person, newest first, with the provider's own words."""
    show = request.args.get("show", "")
    if show not in SHOWN:
        raise NotFound("There is no such filter.")
    after = read_cursor(request.args.get("after"))
    rows = queries.page_troubled(
        connection(),
        page_size=PAGE_SIZE + 1,
        failed=SHOWN[show][1],
        before=after and after[0],
        before_id=after and after[1],
    )
    shown = rows[:PAGE_SIZE]
    older = None
    if len(rows) > PAGE_SIZE:
        cursor = write_cursor(shown[-1].created_at, shown[-1].id)
        older = url_for("admin.jobs", show=show or None, after=cursor)
    found = [describe(each) for each in shown]
    if wants_json():
        return jsonify(jobs=found, next=older)
    return render_template(
        "admin/jobs.html",
        jobs=found,
        tabs=[
            (words, url_for("admin.jobs", show=key or None), key == show)
            for key, (words, _) in SHOWN.items()
        ],
        newer_url=url_for("admin.jobs", show=show or None) if after else None,
        older_url=older,
    )


def describe(row: TroubledJob) -> dict[str, Any]:
    """A job without what its user wrote."""
    failed = row.status == JobStatus.FAILED
    return {
        "id": row.id,
        "status": row.status,
        "glyph": "failed" if failed else "unknown",
        "tone": "red" if failed else "amber",
        "title": of_code(row.error_code).title if failed else "Needs a look",
        "reason": row.error_message or row.attention or "",
        "error_code": row.error_code,
        "http_status": row.http_status,
        "error_type": row.error_type,
        "words": without_inputs(row.detail or "", arguments=row.arguments),
        "workflow": row.workflow_name,
        "user": row.email,
        "created_at": row.created_at,
        "charged": row.charged,
        "cost": row.cost,
        "money": {"yes": f"{money(row.cost)} charged", "no": "not charged"}.get(
            row.charged, "perhaps charged"
        ),
    }
