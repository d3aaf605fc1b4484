"""The plans of the queries that run all day, on tables of a few months.

Generic plans, as a prepared statement gets after five runs: they know no values, so what they use
is what the shape of the query allows.
"""

import re

import factories
import psycopg
import pytest

from i2i.sql import load

BUSY = {"processing_jobs", "images", "submissions", "job_events"}
"""Tables that grow with every picture: never read from end to end."""

SEED = """
-- Months of work, written down at once: nothing here went its way step by step.
ALTER TABLE processing_jobs DISABLE TRIGGER processing_jobs_created;

INSERT INTO users (email, password_hash)
SELECT 'user' || n || '@example.com', 'x' FROM generate_series(1, 20) AS n;

INSERT INTO images (user_id, filename, original_filename, blob_url, sha256, file_size, mime_type,
                    width, height, status, created_at, upload_began_at)
SELECT (SELECT id FROM users WHERE email = 'user' || (n % 20 + 1) || '@example.com'),
       'original.jpg', n || '.jpg', 'users/' || n, lpad(to_hex(n), 64, '0'), 1000, 'image/jpeg',
       100, 100, CASE WHEN n % 400 = 0 THEN 'preparing' ELSE 'ready' END,
       now() - n * interval '10 minutes', now() - n / 400 * interval '1 day'
FROM generate_series(1, 8000) AS n;

INSERT INTO batches (user_id, workflow_version_id, parameters, variations, pilot, client_key,
                     content_digest, created_at)
SELECT (SELECT id FROM users WHERE email = 'user' || (n % 20 + 1) || '@example.com'),
       (SELECT id FROM workflow_versions), '{}', 1, 0, 'key number ' || n, '',
       now() - n * interval '200 minutes'
FROM generate_series(1, 400) AS n;

INSERT INTO processing_jobs (user_id, batch_id, position, variation, original_image_id,
    workflow_name, workflow_version_id, parameters, status, fal_job_id, completed_at, lease_until,
    created_at)
SELECT batch.user_id, batch.id, n, 0, image.id, 'basic-v1', batch.workflow_version_id, '{}',
       state, CASE WHEN state IN ('processing', 'storing') THEN 'request ' || batch.client_key || n END,
       CASE WHEN state = 'completed' THEN now() END,
       CASE WHEN state = 'submitting' THEN now() END,
       batch.created_at - n * interval '10 minutes'
FROM batches AS batch
CROSS JOIN generate_series(1, 20) AS n
CROSS JOIN LATERAL (
    SELECT id FROM images WHERE images.user_id = batch.user_id ORDER BY created_at OFFSET n LIMIT 1
) AS image
CROSS JOIN LATERAL (
    SELECT CASE n WHEN 20 THEN (ARRAY['pending', 'submitting', 'processing', 'storing'])
                                   [split_part(batch.client_key, ' ', 3)::integer % 4 + 1]
                ELSE 'completed' END AS state
) AS kind;

INSERT INTO submissions (job_id, user_id, user_email, workflow_name, workflow_version, endpoint,
    token, state, arguments, sent_at, outcome, charged, ended_at)
SELECT id, user_id, 'x@example.com', 'basic-v1', 1, 'fal-ai/' || position % 10,
       replace(id::text, '-', ''), 'settled', '{}', created_at, 'picture', 'yes', now()
FROM processing_jobs WHERE status = 'completed';

INSERT INTO job_events (job_id, from_status, to_status)
SELECT id, 'storing', 'completed' FROM processing_jobs WHERE status = 'completed';
"""

EXPECTED = [
    ("jobs", "claim_send", {"processing_jobs_pending_index", "processing_jobs_moving_index"}),
    ("jobs", "claim_fal", {"processing_jobs_moving_index", "submissions_one_live_key"}),
    ("jobs", "claim_expired", {"submissions_one_live_key"}),
    (
        "jobs",
        "find_due",
        {
            "processing_jobs_moving_index",
            "images_preparing_index",
            "submissions_look_index",
        },
    ),
    ("history", "pick_by_status", {"processing_jobs_user_status_index"}),
    (
        "history",
        "page_newest",
        {"processing_jobs_user_newest_index", "images_pkey", "submissions_job_index"},
    ),
    ("history", "pick_by_workflow", {"processing_jobs_user_workflow_index"}),
    ("history", "pick_by_verdict", {"processing_jobs_user_verdict_index"}),
    ("history", "pick_by_several", set()),
    ("history", "pick_newest_by_name", {"processing_jobs_user_newest_index", "images_pkey"}),
    ("history", "pick_by_name", {"processing_jobs_original_image_index"}),
    ("history", "page_batches", {"batches_user_newest_index", "processing_jobs_place_key"}),
    ("jobs", "list_chosen_cards", {"processing_jobs_pkey", "submissions_job_index"}),
    ("images", "list_results", {"processing_jobs_pkey"}),
    ("images", "find_visible", {"images_pkey", "processing_jobs_result_image_index"}),
    ("trash", "page_newest", {"processing_jobs_trash_index", "images_trash_index"}),
    ("trash", "lock_jobs_to_purge", {"processing_jobs_trash_index"}),
    ("trash", "lock_photos_to_purge", {"images_trash_index"}),
    ("jobs", "list_cards", {"processing_jobs_place_key"}),
    ("jobs", "list_film", {"processing_jobs_place_key"}),
    ("jobs", "list_versions", {"processing_jobs_original_image_index"}),
    ("jobs", "list_parent_results", {"processing_jobs_pkey"}),
    ("batches", "list_children", {"batches_parent_index"}),
    ("jobs", "list_places", {"processing_jobs_pending_index", "processing_jobs_moving_index"}),
    ("jobs", "find_card", {"processing_jobs_pkey"}),
    ("jobs", "count_in_flight", {"processing_jobs_moving_index"}),
    ("images", "page_stored", {"images_pkey"}),
    ("jobs", "mark_result", {"processing_jobs_result_image_index"}),
    ("images", "page_uploads", {"images_user_upload_index"}),
    ("images", "create_upload", {"images_user_newest_index"}),
    ("images", "claim_preparing", {"images_preparing_index"}),
    ("images", "find_upload_by_sha256", {"images_upload_key"}),
    (
        "batches",
        "find_version",
        {"batches_pkey", "processing_jobs_place_key", "processing_jobs_pending_index"},
    ),
    (
        "breaker",
        "find_for_bar",
        {"processing_jobs_user_status_index", "processing_jobs_pending_index"},
    ),
    ("batches", "find_by_client_key", {"batches_client_key_key"}),
    ("jobs", "list_events", {"job_events_job_index"}),
    ("jobs", "page_troubled", {"processing_jobs_trouble_index", "submissions_job_index"}),
    ("jobs", "count_attention", {"processing_jobs_trouble_index"}),
    ("submissions", "list_failures", {"submissions_failed_index"}),
    ("submissions", "list_of_job", {"submissions_job_index"}),
    ("submissions", "claim_late", {"submissions_look_index"}),
    ("submissions", "stop_looking_late", {"submissions_look_index"}),
    ("submissions", "count_today", {"submissions_sent_index", "processing_jobs_asked_index"}),
    ("webhooks", "find_submission", {"submissions_token_key"}),
    ("submissions", "list_later_tokens", {"submissions_token_key", "submissions_sent_index"}),
]


@pytest.fixture(scope="module")
def seeded(copies):
    """A database with thousands of rows that most queries must not look at."""
    with psycopg.connect(copies(), autocommit=True) as connection:
        factories.make_workflow(connection)
        connection.execute(SEED)
        connection.execute("ANALYZE")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        yield connection


def plan_of(connection, query):
    names = list(dict.fromkeys(re.findall(rb"%\((\w+)\)s", query.text)))
    statement = query.text
    for number, name in enumerate(names, start=1):
        statement = statement.replace(b"%%(%s)s" % name, b"$%d" % number)
    connection.execute(b"PREPARE question AS " + statement)
    nulls = ", ".join(["NULL"] * len(names))
    try:
        explained = connection.execute(
            "EXPLAIN (FORMAT JSON) EXECUTE question" + (f"({nulls})" if nulls else "")
        )
        return explained.fetchone()[0][0]["Plan"]
    finally:
        connection.execute("DEALLOCATE question")


def nodes_of(plan):
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes_of(part)


@pytest.mark.parametrize(
    ("aggregate", "name", "indexes"), EXPECTED, ids=[f"{each[0]}.{each[1]}" for each in EXPECTED]
)
def test_a_query_finds_its_rows_by_index(seeded, aggregate, name, indexes):
    nodes = list(nodes_of(plan_of(seeded, load(aggregate)[name])))
    walked = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"} & BUSY
    used = {node["Index Name"] for node in nodes if "Index Name" in node}
    assert walked == set()
    assert indexes <= used


def test_the_seed_is_what_it_says(seeded):
    counts = dict(
        seeded.execute("SELECT status, count(*) FROM processing_jobs GROUP BY status").fetchall()
    )
    assert sum(counts.values()) == 8000
    assert counts.keys() == {"completed", "pending", "submitting", "processing", "storing"}
    assert counts["completed"] == 7600
