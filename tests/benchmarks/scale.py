"""A site after a year: 200 users, 200,000 jobs, 300,000 images, written by the database itself."""

import psycopg

USERS, JOBS, ORIGINALS, BATCH = 200, 200_000, 150_000, 50

SITE = f"""
ALTER TABLE processing_jobs DISABLE TRIGGER USER;
CREATE TEMPORARY TABLE busy AS
    SELECT gen_random_uuid() AS id, n FROM generate_series(0, {USERS - 1}) AS n;
INSERT INTO users (id, email, password_hash)
SELECT id, 'user' || n || '@example.com', %(password_hash)s FROM busy;

CREATE TEMPORARY TABLE photo AS
    SELECT gen_random_uuid() AS id, n, n %% {USERS} AS owner FROM generate_series(0, {ORIGINALS - 1}) AS n;
INSERT INTO images (id, user_id, filename, original_filename, blob_url, sha256, file_size, mime_type,
                    width, height, status, has_preview, created_at)
SELECT photo.id, busy.id, 'original.jpg', 'NF26-' || photo.n || '_tee.jpg', 'original/' || photo.n,
       lpad(to_hex(photo.n), 64, '0'), 8000000, 'image/jpeg', 3000, 4000, 'ready', true,
       now() - photo.n * interval '3 minutes'
FROM photo JOIN busy ON busy.n = photo.owner;

INSERT INTO batches (user_id, workflow_version_id, parameters, variations, pilot, client_key,
                     content_digest, created_at)
SELECT busy.id, %(version)s, '{{}}', 1, 0, 'the scale ' || turn, '', now() - turn * interval '100 minutes'
FROM generate_series(0, {JOBS // BATCH - 1}) AS click (turn) JOIN busy ON busy.n = turn %% {USERS};

CREATE TEMPORARY TABLE made AS
SELECT gen_random_uuid() AS id, gen_random_uuid() AS result_id, batch.id AS batch_id, batch.user_id,
       batch.created_at, place, photo.id AS photo_id, photo.n AS photo,
       CASE WHEN place %% 4 = 3 THEN 'failed' ELSE 'completed' END AS status
FROM (SELECT batches.id, batches.user_id, batches.created_at, busy.n AS owner,
             row_number() OVER (PARTITION BY user_id ORDER BY batches.created_at) AS turn
      FROM batches JOIN busy ON busy.id = batches.user_id) AS batch
CROSS JOIN generate_series(1, {BATCH}) AS place
JOIN photo ON photo.owner = batch.owner
          AND photo.n / {USERS} = (batch.turn * {BATCH} + place) %% {ORIGINALS // USERS};
INSERT INTO images (id, user_id, filename, original_filename, blob_url, sha256, file_size, mime_type,
                    width, height, is_processed, status, has_preview, created_at)
SELECT result_id, user_id, 'result.png', 'result.png', 'result/' || id, repeat('a', 64), 4000000,
       'image/png', 1440, 1920, true, 'ready', true, created_at
FROM made WHERE status = 'completed';
INSERT INTO processing_jobs (id, user_id, batch_id, position, variation, original_image_id,
    result_image_id, workflow_name, workflow_version_id, parameters, status, error_code, error_message,
    processing_time_ms, completed_at, verdict, verdict_at, created_at)
SELECT id, user_id, batch_id, place, 0, photo_id, CASE WHEN status = 'completed' THEN result_id END,
       'mannequin-to-human-v1', %(version)s, '{{"seed": 7, "lighting": "studio"}}', status, NULL,
       CASE WHEN status = 'failed' THEN 'The provider could not make it.' END,
       CASE WHEN status = 'completed' THEN 38000 END, created_at + interval '40 seconds',
       CASE WHEN place %% 8 = 0 THEN 'approved' END, CASE WHEN place %% 8 = 0 THEN created_at END,
       created_at
FROM made;
INSERT INTO submissions (job_id, user_id, user_email, workflow_name, workflow_version, endpoint, token,
    state, arguments, sent_at, outcome, charged, estimate, cost, ended_at)
SELECT id, user_id, 'x@example.com', 'mannequin-to-human-v1', 1, 'fal-ai/x', replace(id::text, '-', ''),
       'settled', '{{}}', created_at, CASE WHEN status = 'completed' THEN 'picture' ELSE 'error' END,
       CASE WHEN status = 'completed' THEN 'yes' ELSE 'no' END, 0.04,
       CASE WHEN status = 'completed' THEN 0.04 END, created_at + interval '40 seconds'
FROM made;
ALTER TABLE processing_jobs ENABLE TRIGGER USER;
"""


def fill(url, *, version, password_hash):
    """Write the site; the address of the user whose pages are measured."""
    with psycopg.connect(url, autocommit=True) as conn:
        with conn.transaction(), psycopg.ClientCursor(conn) as cursor:
            cursor.execute(SITE, {"version": version, "password_hash": password_hash})
        conn.execute("VACUUM ANALYZE")
        (images,) = conn.execute("SELECT count(*) FROM images").fetchone()
        (jobs,) = conn.execute("SELECT count(*) FROM processing_jobs").fetchone()
    print(f"{USERS} users, {jobs:,} jobs, {images:,} images", flush=True)
    return "user7@example.com"
