-- The breaker: one row that says whether the account at fal takes requests. Open means: send nothing.

-- name: find :one
-- With how many pictures wait for it.
SELECT reason, opened_at, checked_at, next_check_at,
       (SELECT count(*) FROM processing_jobs WHERE status = 'pending') AS waiting
FROM breaker;

-- name: find_for_bar :one
-- What stands above every page of a user: the same, and the newest batch at work. Nothing at work is
-- in the trash, but the index wants to hear it; in the order of another, all pictures would be read.
SELECT reason, opened_at, checked_at, next_check_at,
       (SELECT count(*) FROM processing_jobs
        WHERE status = 'pending' AND user_id = %(user_id)s) AS waiting,
       (SELECT batch_id FROM processing_jobs
        WHERE user_id = %(user_id)s AND status IN ('pending', 'submitting', 'processing', 'storing')
          AND deleted_at IS NULL
        ORDER BY created_at DESC, batch_id DESC
        LIMIT 1) AS working_batch_id
FROM breaker;

-- name: trip :exec
-- The check asks fal's storage, which may take us while submits are refused. So what opens again
-- within a quarter of an hour is checked after 1, 2, 4, 8 and then 15 minutes.
WITH state AS (
    SELECT id, CASE WHEN closed_at > now() - interval '15 minutes' THEN trips + 1 ELSE 1 END AS trips
    FROM breaker
    WHERE opened_at IS NULL
    FOR UPDATE
)
UPDATE breaker
SET reason = %(reason)s, opened_at = now(), checked_at = now(), closed_at = NULL, trips = state.trips,
    next_check_at = now() + least(15, 2 ^ least(state.trips - 1, 4)) * interval '1 minute'
FROM state
WHERE breaker.id = state.id;

-- name: claim_check :exec
-- At most one check a pause, by whichever worker comes first.
UPDATE breaker
SET checked_at = now(),
    next_check_at = coalesce(%(now)s::timestamptz, now())
        + least(15, 2 ^ least(trips - 1, 4)) * interval '1 minute'
WHERE opened_at IS NOT NULL AND next_check_at <= coalesce(%(now)s::timestamptz, now());

-- name: reset :exec
UPDATE breaker
SET reason = NULL, opened_at = NULL, checked_at = now(), next_check_at = NULL, closed_at = now()
WHERE opened_at IS NOT NULL;
