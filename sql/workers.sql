-- Workers that live. Nothing is decided by these rows: they tell people what runs.

-- name: beat :exec
-- Written every few seconds; `trouble` says in words why it sends nothing.
INSERT INTO workers (id, host, process_id, release, trouble)
VALUES (%(worker_id)s, %(host)s, %(process_id)s, %(release)s, %(trouble)s)
ON CONFLICT (id) DO UPDATE SET trouble = excluded.trouble, seen_at = now();

-- name: list_all :many
-- The one seen last first; `silent_seconds` since then.
SELECT id, host, process_id, release, trouble, started_at, seen_at,
       extract(epoch FROM now() - seen_at)::float8 AS silent_seconds
FROM workers
ORDER BY seen_at DESC, id;

-- name: leave :exec
-- A clean stop. What was killed stays on record until it is purged.
DELETE FROM workers WHERE id = %(worker_id)s;

-- name: purge :exec
DELETE FROM workers WHERE seen_at < now() - interval '1 day';
