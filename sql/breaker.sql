-- The breaker: one row that says whether the account at fal takes requests. Open means: send nothing.

-- name: find :one
-- With how many of the user's pictures wait for it.
SELECT reason, opened_at, checked_at, next_check_at,
       (SELECT count(*) FROM processing_jobs
        WHERE status = 'pending' AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)) AS waiting
FROM breaker;

-- name: trip :exec
UPDATE breaker
SET reason = %(reason)s, opened_at = now(), checked_at = now(), next_check_at = now() + interval '1 minute'
WHERE opened_at IS NULL;

-- name: claim_check :exec
-- At most one check a minute, by whichever worker comes first.
UPDATE breaker
SET checked_at = now(), next_check_at = coalesce(%(now)s::timestamptz, now()) + interval '1 minute'
WHERE opened_at IS NOT NULL AND next_check_at <= coalesce(%(now)s::timestamptz, now());

-- name: reset :exec
UPDATE breaker
SET reason = NULL, opened_at = NULL, checked_at = now(), next_check_at = NULL
WHERE opened_at IS NOT NULL;
