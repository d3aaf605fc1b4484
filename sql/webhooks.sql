-- Callbacks of fal whose signature held: kept at once, applied by a worker. A callback is a hint that
-- something has ended; what has ended is always asked of fal itself.

-- name: read_clock :one
-- The database's clock is everybody's; a callback's time is compared with it.
SELECT extract(epoch FROM clock_timestamp())::float8 AS seconds;

-- name: find_submission :optional
-- `taken` says that the request is known to be another submission's.
SELECT submission.request_id,
       EXISTS (SELECT FROM submissions AS other
               WHERE other.request_id = %(request_id)s AND other.token <> submission.token) AS taken
FROM submissions AS submission
WHERE submission.token = %(token)s;

-- name: create :exec
-- The same body again is the same row, and changes nothing.
INSERT INTO webhook_events (token, request_id, body_sha256)
VALUES (%(token)s, %(request_id)s, %(body_sha256)s)
ON CONFLICT ON CONSTRAINT webhook_events_body_key DO NOTHING;

-- name: claim :optional
-- The oldest one to be applied, with its submission as it is now. Locked until commit.
SELECT event.id, event.token, event.request_id, submission.job_id, submission.endpoint,
       submission.request_id AS known_request_id
FROM webhook_events AS event
JOIN submissions AS submission ON submission.token = event.token
WHERE event.applied_at IS NULL
ORDER BY event.id
LIMIT 1
FOR UPDATE OF event SKIP LOCKED;

-- name: mark_applied :exec
UPDATE webhook_events SET applied_at = now() WHERE id = %(event_id)s AND applied_at IS NULL;

-- name: make_job_due :exec
UPDATE processing_jobs SET run_after = least(run_after, now())
WHERE id = %(job_id)s AND status = 'processing' AND fal_job_id = %(request_id)s;

-- name: make_look_due :exec
UPDATE submissions SET look_after = least(look_after, now())
WHERE token = %(token)s AND request_id = %(request_id)s AND look_until IS NOT NULL;

-- name: purge :exec
-- What was applied and is of no use any more; what was not applied waits, however old.
DELETE FROM webhook_events WHERE applied_at < now() - interval '30 days';
