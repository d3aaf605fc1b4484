"""A studio in every state, written down at once: pages to look at, for people and for axe.

No worker runs beside it, so what moves stands still.
"""

import io
import os
from dataclasses import dataclass, field
from itertools import cycle

import factories
import pictures
from PIL import ImageEnhance

from i2i import __version__
from i2i.gateways.storage import image_key
from i2i.queries import images, jobs, presets, trash, users, workflows

ADMIN, EMPTY, NEW = "admin@example.com", "empty@example.com", "new@example.com"
"""Beside the one who has everything: an operator, somebody who has nothing yet, and somebody who
has not yet chosen a password."""

NAMES = ("astronaut.png", "coffee.png", "rocket.jpg", "chelsea.png", "flower.jpg", "china.jpg")
PARAMETERS = {"aspect_ratio": "3:4", "style_strength": 75, "lighting_style": "studio"}
OTHER_PARAMETERS = PARAMETERS | {"style_strength": 50, "lighting_style": "natural"}


@dataclass
class Scene:
    """The path of each page of somebody who has done everything, by a name of its own."""

    email: str
    paths: dict[str, str] = field(default_factory=dict)

    def pages(self):
        """{who looks (None: nobody who is known): {name of the page: path}}."""
        return {
            self.email: {name: self.paths[name] for name in PAGES},
            EMPTY: {f"empty-{path.strip('/')}": path for path in EMPTY_PAGES},
            ADMIN: {path.strip("/").replace("/", "-"): path for path in ADMIN_PAGES},
            NEW: {"choose-password": "/account/password"},
            None: {"signin": "/login"},
        }


@dataclass(frozen=True)
class _Picture:
    """The files of one photograph: as a camera gives it, and its two copies."""

    jpeg: bytes
    thumbnail: bytes
    preview: bytes
    size: tuple[int, int]


def _picture(image):
    def copy(side):
        small = image.copy()
        small.thumbnail((side, side))
        file = io.BytesIO()
        small.save(file, "WEBP")
        return file.getvalue()

    return _Picture(pictures.jpeg(image), copy(320), copy(1280), image.size)


def _portrait(name):
    """A photograph in the shape of a hung garment."""
    image = pictures.photo(name)
    height = min(image.height, image.width * 4 // 3)
    width = height * 3 // 4
    left = (image.width - width) // 2
    return image.crop((left, 0, left + width, height)).resize((768, 1024))


class Studio:
    """Makes rows and their bytes for one user."""

    def __init__(self, conn, storage, user):
        self.conn, self.storage, self.user = conn, storage, user
        self.workflow = workflows.find(conn, workflow_id="mannequin-to-human-v1")
        photos = [_portrait(name) for name in NAMES]
        bright = [ImageEnhance.Brightness(each).enhance(1.3) for each in photos]
        self.pairs = cycle(
            [(_picture(photo), _picture(made)) for photo, made in zip(photos, bright, strict=True)]
        )
        self.results = {}
        self.numbers = iter(range(1, 10_000))

    def keep(self, image, picture):
        """Write the bytes that belong to a row."""
        folder = self.storage.root / image_key(self.user.id, image.id, "x.jpg")
        folder.parent.mkdir(parents=True, exist_ok=True)
        (folder.parent / image.filename).write_bytes(picture.jpeg)
        (folder.parent / "thumb.webp").write_bytes(picture.thumbnail)
        (folder.parent / "preview.webp").write_bytes(picture.preview)
        self.conn.execute(
            "UPDATE images SET width = %s, height = %s, file_size = %s WHERE id = %s",
            [*picture.size, len(picture.jpeg), image.id],
        )

    def photo(self, *, name=None, status="ready"):
        picture, result = next(self.pairs)
        name = name or f"NF26-{next(self.numbers):03}_tee-black.jpg"
        image = factories.make_image(
            self.conn, user=self.user, name=name, status=status, size=picture.size
        )
        self.keep(image, picture)
        self.results[image.id] = result
        return image

    def batch(self, states, *, photos=None, parameters=None):
        """A batch with a job in each of these states; see `bring`."""
        photos = photos or [self.photo() for _ in states]
        batch = factories.make_batch(
            self.conn,
            user=self.user,
            photos=photos,
            workflow=self.workflow,
            parameters=parameters or PARAMETERS,
            statuses=["held" if state == "held" else "pending" for state in states],
        )
        made = factories.jobs_of(self.conn, batch)
        for job, state in zip(made, states, strict=True):
            self.bring(job, state)
        return batch, made

    def again(self, batch, made):
        """A child of this batch with another setting: half of it is done."""
        states = ["completed" if number % 2 else "pending" for number, _ in enumerate(made)]
        photos = [
            images.find(self.conn, image_id=job.original_image_id, user_id=self.user.id)
            for job in made
        ]
        child, pictures = self.batch(states, photos=photos, parameters=OTHER_PARAMETERS)
        self.conn.execute("UPDATE batches SET parent_id = %s WHERE id = %s", [batch.id, child.id])
        for job, picture in zip(made, pictures, strict=True):
            self.conn.execute(
                "UPDATE processing_jobs SET parent_id = %s WHERE id = %s", [job.id, picture.id]
            )
        return child

    def bring(self, job, state):
        """Into a state of the ledger; a few words name what has no state of its own."""
        known = {
            "withheld": "failed",
            "running": "processing",
            "stopping": "processing",
            "full": "storing",
            "no preview": "completed",
            "approved": "completed",
            "rejected": "completed",
        }.get(state, state)
        if known == "cancelled":
            jobs.cancel_waiting(self.conn, user_id=self.user.id, job_id=job.id)
        elif known not in {"held", "pending"}:
            factories.move(self.conn, job, user=self.user, status=known)
        if known == "completed":
            self._complete(job, has_preview=state != "no preview")
        self.conn.execute(_MORE.get(state, "SELECT %s::uuid"), [job.id])

    def _complete(self, job, *, has_preview):
        row = self.conn.execute(
            "SELECT images.id, images.filename FROM images JOIN processing_jobs AS job"
            " ON job.result_image_id = images.id WHERE job.id = %s",
            [job.id],
        ).fetchone()
        image_id, filename = row
        result = factories.images.find(self.conn, image_id=image_id, user_id=self.user.id)
        assert result.filename == filename
        self.keep(result, self.results[job.original_image_id])
        self.conn.execute(
            "UPDATE images SET has_preview = %s WHERE id = %s", [has_preview, image_id]
        )


_MORE = {
    "processing": "UPDATE processing_jobs SET queue_position = 3 WHERE id = %s",
    "running": (
        "UPDATE processing_jobs SET started_at = now() - interval '11 seconds' WHERE id = %s"
    ),
    "stopping": "UPDATE processing_jobs SET cancel_requested_at = now() WHERE id = %s",
    "full": "UPDATE processing_jobs SET attention = 'The disk is full.' WHERE id = %s",
    "withheld": (
        "UPDATE processing_jobs SET error_code = 'withheld', error_message = 'A picture was made,"
        " but the provider''s safety filter held it back.' WHERE id = %s"
    ),
    "approved": "UPDATE processing_jobs SET verdict = 'approved', verdict_at = now() WHERE id = %s",
    "rejected": (
        "UPDATE processing_jobs SET verdict = 'rejected', verdict_at = now(),"
        " verdict_reason = 'colour', verdict_note = 'Too warm.' WHERE id = %s"
    ),
}

ALL_STATES = [
    *("held", "pending", "submitting", "processing", "running", "stopping", "storing", "full"),
    *("unknown", "failed", "withheld", "cancelled"),
    *("completed", "approved", "rejected", "no preview"),
]

PAGES = [
    *("upload", "new-batch", "batch-every-state", "batch-done", "batch-pilot", "batch-working"),
    *("batch-child", "new-batch-again", "presets"),
    *("job-done", "job-pending", "job-running", "job-unknown", "job-failed", "job-no-preview"),
    *("job-approved", "job-rejected", "job-cancelled", "job-child", "review", "review-sum"),
    *("history", "history-batches", "history-failed", "history-nothing-found", "trash"),
    *("account", "nothing-here"),
]
"""What is looked at by default; `set_scene` knows the path of each."""

EMPTY_PAGES = ["/upload", "/jobs", "/trash", "/presets"]
"""Lists that have a next step where nothing is yet."""

ADMIN_PAGES = [
    *("/admin/health", "/admin/jobs", "/admin/usage", "/admin/users"),
    *("/admin/workflows", "/admin/workflows/mannequin-to-human-v1"),
]
"""What an operator sees."""


def put_to_work(page, folder):
    """The upload page with photos that never arrive: three on their way, one waits, one too large."""
    page.route("**/images", lambda _: None)
    page.goto("/upload")
    files = [folder / f"NF26-10{number}_coat.jpg" for number in range(1, 6)]
    for path, name in zip(files, NAMES, strict=False):
        path.write_bytes(pictures.jpeg(_portrait(name)))
    os.truncate(files[-1], 25_000_001)
    page.locator("#files").set_input_files(files)
    page.get_by_text("3 uploading, 1 waiting, 1 not accepted.").wait_for()


def set_scene(conn, storage, *, email):
    """Fill a migrated and seeded database for this user and the ADMIN; where to look."""
    user = users.find_by_email(conn, email=email)
    conn.execute(
        "UPDATE users SET password_expires_at = now() + interval '24 hours' WHERE email = %s", [NEW]
    )
    studio = Studio(conn, storage, user)
    scene = Scene(email)
    for status in ("ready", "preparing"):
        studio.photo(status=status)
    unreadable = studio.photo(status="rejected")
    chosen = [studio.photo() for _ in range(3)]
    mixed, made = studio.batch(ALL_STATES)
    done, pictures_done = studio.batch(["completed"] * 6)
    child = studio.again(done, pictures_done)
    pilot, _ = studio.batch(["completed", "completed", *["held"] * 6])
    working, _ = studio.batch(["completed", "completed", "running", "processing", *["pending"] * 8])
    _, thrown = studio.batch(["completed", "completed", "failed"])
    trash.throw_away(conn, job_ids=[each.id for each in thrown], user_id=user.id)
    images.set_deleted(conn, image_id=studio.photo().id, user_id=user.id, deleted=True)
    _, shown = Studio(conn, storage, users.find_by_email(conn, email=ADMIN)).batch(
        ["completed"] * 2
    )
    conn.execute(
        "UPDATE workflow_configs SET sample_job_id = %s WHERE id = 'mannequin-to-human-v1'",
        [shown[0].id],
    )
    job = dict(zip(ALL_STATES, made, strict=True))
    query = "&".join(f"image={each.id}" for each in chosen)
    for host, seen in (("studio-1", "now() + interval '1 hour'"), ("studio-2", "now()")):
        conn.execute(  # nothing runs here: one that keeps fresh for as long as somebody looks
            "INSERT INTO workers (id, host, process_id, release, seen_at)"
            f" VALUES (gen_random_uuid(), '{host}', 4711, '{__version__}', {seen})"
        )
    conn.execute(
        "UPDATE submissions SET detail = 'HTTP 422: body.prompt: the content checker has flagged it',"
        " error_type = 'content_policy_violation', estimate = 0.04 WHERE state = 'rejected'"
    )
    conn.execute(
        "UPDATE submissions SET estimate = 0.04, sent_at = sent_at - age, ended_at = ended_at - age"
        " FROM (SELECT id AS old, row_number() OVER (ORDER BY token) % 20 * interval '1 day' AS age"
        " FROM submissions) AS aged"
        " WHERE old = id AND state IN ('settled', 'rejected')"
    )
    preset = presets.create(
        conn,
        user_id=user.id,
        workflow_name="mannequin-to-human-v1",
        name="AW26 lookbook",
        parameters={"aspect_ratio": "3:4", "lighting_style": "candle", "seed": 7},
    )
    scene.paths = {
        "upload": "/upload",
        "new-batch": f"/batches/new?{query}",
        "new-batch-again": f"/batches/new?parent={done.id}&image={unreadable.id}&{query}"
        f"&preset={preset.id}&variations=4&pilot=2",
        "presets": "/presets",
        "batch-every-state": f"/batches/{mixed.id}",
        "batch-done": f"/batches/{done.id}",
        "batch-pilot": f"/batches/{pilot.id}",
        "batch-working": f"/batches/{working.id}",
        "batch-child": f"/batches/{child.id}",
        "job-child": f"/jobs/{factories.jobs_of(conn, child)[1].id}",
        "review": f"/jobs/{job['approved'].id}?review=1",
        "review-sum": f"/batches/{mixed.id}/verdicts",
        "job-done": f"/jobs/{pictures_done[1].id}",
        **{f"job-{state.replace(' ', '-')}": f"/jobs/{each.id}" for state, each in job.items()},
        "history": "/jobs",
        "history-batches": "/jobs?view=batches",
        "history-failed": "/jobs?status=failed",
        "trash": "/trash",
        "history-nothing-found": "/jobs?q=trench",
        "account": "/account",
        "nothing-here": "/nowhere",
    }
    return scene
