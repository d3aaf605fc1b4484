-- Buckets: how often something may be tried in a while, counted for all processes together.

-- name: wait_briefly :exec
-- To the end of this transaction: a limiter that cannot count refuses, instead of hanging.
SELECT set_config('lock_timeout', '2s', true);

-- name: take :optional
-- One try from a bucket of `capacity` tries that refills evenly in `refill_seconds`. The row keeps
-- one instant: when the bucket is full again. No row comes back when no try is left, and a refused
-- try costs nothing, so waiting always helps. (The generic cell rate algorithm.)
INSERT INTO rate_limits AS bucket (bucket, full_at)
VALUES (%(bucket)s, now() + make_interval(secs => %(refill_seconds)s::float8 / %(capacity)s::float8))
ON CONFLICT (bucket) DO UPDATE
SET full_at = greatest(bucket.full_at, now())
    + make_interval(secs => %(refill_seconds)s::float8 / %(capacity)s::float8)
WHERE greatest(bucket.full_at, now())
    + make_interval(secs => %(refill_seconds)s::float8 / %(capacity)s::float8)
    <= now() + make_interval(secs => %(refill_seconds)s::float8)
RETURNING full_at;

-- name: find :optional
SELECT full_at FROM rate_limits WHERE bucket = %(bucket)s;

-- name: give_back :exec
-- A try that succeeded does not count.
UPDATE rate_limits
SET full_at = full_at - make_interval(secs => %(refill_seconds)s::float8 / %(capacity)s::float8)
WHERE bucket = %(bucket)s;

-- name: delete_full :exec
DELETE FROM rate_limits WHERE bucket IN (
    SELECT bucket FROM rate_limits WHERE full_at < now() FOR UPDATE SKIP LOCKED
);
