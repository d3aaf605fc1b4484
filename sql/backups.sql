-- Backups: one snapshot for the dump and the list of its files, what was verified, and what a restore holds back.

-- name: export_snapshot :one
-- For pg_dump, which sees exactly what this transaction sees. That stays open, idle, for as long.
SELECT pg_export_snapshot() AS snapshot, now() AS taken_at,
       (SELECT count(*) FROM images) AS images,
       (SELECT count(*) FROM processing_jobs) AS jobs,
       (SELECT count(*) FROM submissions) AS submissions
FROM set_config('idle_in_transaction_session_timeout', '0', true);

-- name: count_rows :one
-- The same numbers of a restored database.
SELECT (SELECT count(*) FROM images) AS images,
       (SELECT count(*) FROM processing_jobs) AS jobs,
       (SELECT count(*) FROM submissions) AS submissions;

-- name: save_verified :exec
INSERT INTO backups (id, taken_at, images, checked)
VALUES (%(backup_id)s, %(taken_at)s, %(images)s, %(checked)s)
ON CONFLICT (id) DO UPDATE SET checked = excluded.checked, verified_at = now();

-- name: find_newest :optional
-- Of those that were found whole, the one with the newest data.
SELECT id, taken_at, images, checked, verified_at,
       extract(epoch FROM now() - taken_at)::float8 AS age_seconds
FROM backups
ORDER BY taken_at DESC
LIMIT 1;

-- name: count_tables :one
SELECT count(*) AS count FROM pg_tables WHERE schemaname = current_schema();

-- name: lock_queue :exec
-- No worker claims anything for sending until this connection is closed (jobs.lock_queue).
SELECT pg_advisory_lock(hashtext('i2i.queue'));

-- name: return_unsent :exec
-- What was just being sent when the backup was taken, and had not left.
UPDATE processing_jobs AS job
SET status = 'pending', lease_until = NULL, fence = job.fence + 1
WHERE job.status = 'submitting' AND NOT EXISTS (
    SELECT FROM submissions
    WHERE submissions.job_id = job.id AND submissions.state IN ('sent', 'accepted', 'unknown'));

-- name: abandon_unsent :exec
UPDATE submissions
SET state = 'abandoned', detail = %(detail)s, ended_at = now()
WHERE state = 'intent';

-- name: hold_unsent :exec
UPDATE processing_jobs
SET status = 'held', attention = %(attention)s
WHERE status IN ('held', 'pending');
