"""`make bench`: how long the things take that people and workers wait for. Prints, never fails.

Medians on a throw-away PostgreSQL; compare ratios rather than figures of different machines.
"""

import itertools
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import callbacks
import factories
import pictures
import psycopg
from house import House, wait_until

from i2i import embedded, forms, imaging, passwords
from i2i.app import create_app
from i2i.config import Settings
from i2i.practice import PracticeServer
from i2i.queries import history as history_queries
from i2i.queries import jobs
from i2i.services import history, workflows
from i2i.services import jobs as job_service

BACKLOG = 10_000
MANY = 100
CALLBACKS = 300


def measure(what, bound, work, *, times=15):
    """Print the median of `times` runs beside the bound that the design names; of many also p95."""
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds) * 1000
    if times >= MANY:
        late = statistics.quantiles(seconds, n=20)[-1] * 1000
        bound = f"p95 {late:.2f} ms   {bound}"
    print(f"{what:<58} {median:9.2f} ms   {bound}", flush=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        server = embedded.start_throwaway()
        try:
            settings = Settings.from_env(
                {
                    "SECRET_KEY": "only-for-benchmarks-0123",
                    "DATA_DIR": folder,
                    "POSTGRES_URL": server.url,
                }
            )
            run(replace(settings, bcrypt_rounds=4), server.url)
            measure_history(server.url)
            measure_callbacks(server.url, folder=Path(folder) / "callbacks")
        finally:
            server.remove()


def run(settings, url):
    app = create_app(settings)
    assert app.test_cli_runner().invoke(args=["db", "setup"]).exit_code == 0
    with psycopg.connect(url, autocommit=True) as conn:
        user = factories.make_user(conn)
        image = factories.make_image(conn, user=user)
        client = sign_in(app, user)
        workflow = workflows.get(conn, workflow_id="mannequin-to-human-v1")
        batches = [make_batch(conn, user, image, workflow) for _ in range(BACKLOG // 50)]
        conn.execute("ANALYZE")
        print(f"{BACKLOG:,} pending pictures of one user")

        def claim():
            with conn.transaction(force_rollback=True):
                assert job_service.claim_send(conn, settings)

        measure("claim one picture for sending", "< 10 ms wanted", claim)
        for path in (f"/batches/{batches[0]}", f"/batches/{batches[0]}/live", "/jobs", "/upload"):
            name = path.replace(str(batches[0]), "<50 pictures>")
            measure(f"GET {name}", "", lambda path=path: expect_page(client, path))
    definition = workflows.definition_of(workflow.definition)
    measure(
        "render one request",
        "",
        lambda: forms.render_request(
            definition.request_template,
            parameters=definition.default_parameters,
            image_urls=["https://example.com/0.jpg"],
            references=[],
        ),
    )
    measure("bcrypt, 12 rounds", "", check_password, times=3)
    measure_decoding()


def sign_in(app, user):
    client = app.test_client()
    fields = {"email": user.email, "password": factories.PASSWORD}
    answer = client.post("/login", data=fields, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 303
    return client


def make_batch(conn, user, image, workflow):
    batch_id = conn.execute(
        "INSERT INTO batches (user_id, workflow_version_id, parameters, variations, pilot,"
        " client_key, content_digest) VALUES (%s, %s, '{}', 1, 0, gen_random_uuid(), '') RETURNING id",
        [user.id, workflow.version_id],
    ).fetchone()[0]
    jobs.create(
        conn,
        batch_id=batch_id,
        image_ids=[image.id] * 50,
        variations=[0] * 50,
        parameters=[{}] * 50,
        statuses=["pending"] * 50,
    )
    return batch_id


LONG_HISTORY = """
ALTER TABLE processing_jobs DISABLE TRIGGER USER;
INSERT INTO images (user_id, filename, original_filename, blob_url, sha256, file_size, mime_type, width,
                    height, status, created_at)
SELECT %(user)s, 'original.jpg', 'NF26-' || n || CASE n %% 5000 WHEN 0 THEN '_trench' ELSE '_tee' END || '.jpg',
       'long/' || n, lpad(to_hex(n), 64, '0'), 8000000, 'image/jpeg', 3000, 4000, 'ready',
       now() - n * interval '1 minute'
FROM generate_series(1, 50000) AS n;
INSERT INTO batches (user_id, workflow_version_id, parameters, variations, pilot, client_key, content_digest,
                     created_at)
SELECT %(user)s, %(version)s, '{}', 1, 0, 'long history ' || n, '', now() - n * interval '50 minutes'
FROM generate_series(1, 1000) AS n;
INSERT INTO processing_jobs (user_id, batch_id, position, variation, original_image_id, workflow_name,
    workflow_version_id, parameters, status, error_message, completed_at, verdict, verdict_at, created_at)
SELECT %(user)s, batch.id, number, 0, image.id, 'mannequin-to-human-v1', %(version)s, '{"seed": 7}',
       CASE WHEN number = 7 THEN 'failed' ELSE 'completed' END,
       CASE WHEN number = 7 THEN 'No.' END, now(),
       CASE WHEN number < 5 THEN 'approved' END, CASE WHEN number < 5 THEN now() END, batch.created_at
FROM (SELECT id, created_at, row_number() OVER (ORDER BY created_at) AS place FROM batches
      WHERE client_key LIKE 'long history %%') AS batch
CROSS JOIN generate_series(1, 50) AS number
JOIN (SELECT id, row_number() OVER (ORDER BY created_at) AS place FROM images
      WHERE blob_url LIKE 'long/%%') AS image ON image.place = (batch.place - 1) * 50 + number;
INSERT INTO submissions (job_id, user_id, user_email, workflow_name, workflow_version, endpoint, token,
    state, arguments, sent_at, outcome, charged, cost, ended_at)
SELECT id, user_id, 'x@example.com', workflow_name, 1, 'fal-ai/x', replace(id::text, '-', ''), 'settled',
       '{}', created_at, 'picture', 'yes', 0.04, now()
FROM processing_jobs WHERE user_id = %(user)s;
"""
"""Fifty thousand pictures of one user, each of its own photo; one in 5,000 is of a trench."""


def measure_history(url):
    """The history of a busy studio: what each filter takes in SQL, with plans that know no values."""
    with psycopg.connect(url, autocommit=True) as conn, psycopg.ClientCursor(conn) as cursor:
        user = factories.make_user(conn)
        version = workflows.get(conn, workflow_id="mannequin-to-human-v1").version_id
        with conn.transaction():
            cursor.execute(LONG_HISTORY, {"user": user.id, "version": version})
            cursor.execute("ALTER TABLE processing_jobs ENABLE TRIGGER USER")
        conn.execute("VACUUM ANALYZE")
        print("50,000 pictures of one user")
        conn.prepare_threshold = 0
        conn.execute("SET plan_cache_mode = force_generic_plan")
        workflow = "mannequin-to-human-v1"
        filters = [
            ("everything", {}, "<= 5 ms wanted"),
            ("failed", {"statuses": ["failed", "cancelled"]}, "<= 5 ms wanted"),
            ("needs you (none)", {"statuses": ["unknown"]}, "<= 5 ms wanted"),
            ("workflow", {"workflow": workflow}, "<= 5 ms wanted"),
            ("to review", {"verdict": "none"}, "<= 5 ms wanted"),
            ("approved", {"verdict": "approved"}, "<= 5 ms wanted"),
            ("rejected (none)", {"verdict": "rejected"}, "<= 5 ms wanted"),
            ("file name (10 match)", {"q": "trench"}, "<= 100 ms wanted"),
            ("file name (all match)", {"q": "NF26"}, "<= 100 ms wanted"),
            (
                "workflow, failed",
                {"workflow": workflow, "statuses": ["failed"]},
                "<= 100 ms wanted",
            ),
            (
                "file name, workflow, approved",
                {"q": "trench", "workflow": workflow, "verdict": "approved"},
                "<= 100 ms wanted",
            ),
        ]
        middle = datetime.now(UTC) - timedelta(minutes=25_000), uuid4()
        for name, fields, bound in filters:
            chosen = history.Filter(user_id=user.id, **fields)
            pick = partial(history.pick, conn, chosen, page_size=25)
            measure(f"history, {name}: newest", bound, pick)
            measure(f"history, {name}: from the middle", bound, partial(pick, after=middle))
            if not fields or name == "failed":
                measure(f"history, {name}: count", "", partial(history.count, conn, chosen))
        page = partial(history.page, conn, history.Filter(user_id=user.id), page_size=25)
        measure("history, a page with its 25 cards", "<= 5 ms wanted", page)
        batches = partial(history.page_batches, conn, history.Filter(user_id=user.id), page_size=25)
        measure("history, by batch: newest", "<= 100 ms wanted", batches)
        for q, match in (("trench", "10 match"), ("NF26", "all match")):
            chosen = history.Filter(user_id=user.id, q=q)
            named = partial(history.page_batches, conn, chosen, page_size=25)
            measure(f"history, by batch, file name ({match})", "<= 100 ms wanted", named)
        measure("history, storage used", "", partial(history_queries.head, conn, user_id=user.id))


def expect_page(client, path):
    assert client.get(path).status_code == 200


def check_password():
    passwords.verify_password("x" * 20, None, rounds=12)


def measure_callbacks(url, *, folder):
    """fal's callbacks over real HTTP: gunicorn checks, keeps and answers; each is another body."""
    with psycopg.connect(url, autocommit=True) as conn:
        user = factories.make_user(conn)
        job = factories.make_job(conn, user=user, status="submitting")
        (token,) = conn.execute(
            "SELECT token FROM submissions WHERE job_id = %s", [job.id]
        ).fetchone()
        factories.send(conn, token)
    with PracticeServer(folder / "practice") as fal:
        house = House(
            database=url,
            folder=folder,
            FAL_REST_URL=fal.url,
            PUBLIC_URL="https://i2i.example.com",
        )
        house.start_web()
        try:
            wait_until(house.is_ready, what="GET /readyz with 200")
            numbers = itertools.count()
            measure(
                "POST /webhooks/fal: checked, stored and answered",
                "milliseconds wanted",
                lambda: call_back(house, fal.courier, token=token, number=next(numbers)),
                times=CALLBACKS,
            )
        finally:
            house.stop()


def call_back(house, courier, *, token, number):
    request_id = "0f3c9e1a-7d67-4bb0-8c62-3c0a3d4d9f11"
    body = callbacks.body_of(request_id, number=number)
    headers = courier.sign(request_id=request_id, body=body, timestamp=int(time.time()))
    headers["Content-Type"] = "application/json"
    answer = house.http.request(
        "POST", f"{house.url}/webhooks/fal/{token}", body=body, headers=headers
    )
    assert answer.status == 200, answer.data


def measure_decoding():
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        photo.write_bytes(pictures.jpeg(pictures.photo(size=(4000, 3000))))
        measure(
            "prepare a 12 megapixel JPEG (child, two WebP copies)", "", lambda: make(photo), times=5
        )
        measure(
            "read the header of a 12 megapixel JPEG",
            "",
            lambda: imaging.read_header(photo, max_pixels=50_000_000),
        )


def make(photo):
    with tempfile.TemporaryDirectory() as folder:
        imaging.prepare(photo, directory=Path(folder), max_pixels=50_000_000)


if __name__ == "__main__":
    sys.exit(main())
