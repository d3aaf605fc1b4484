-- Submissions, the ledger: one row is one request that may cost money. Rows are never deleted.

-- name: create :exec
-- The intent is on record before anything leaves; submissions_one_live_key refuses a second one.
INSERT INTO submissions (job_id, user_id, user_email, workflow_name, workflow_version, endpoint, token)
SELECT %(job_id)s, %(user_id)s, %(user_email)s, version.workflow_name, version.version,
       %(endpoint)s, %(token)s
FROM workflow_versions AS version
WHERE version.id = %(workflow_version_id)s;

-- name: list_of_job :many
SELECT id, job_id, user_id, user_email, workflow_name, workflow_version, endpoint, token, state,
       arguments, request_id, outcome, charged, estimate, cost, currency, http_status, error_type,
       detail, created_at, sent_at, accepted_at, ended_at
FROM submissions
WHERE job_id = %(job_id)s
ORDER BY created_at, id;

-- name: spending_of_batch :one
SELECT count(*) FILTER (WHERE charged = 'yes') AS pictures,
       coalesce(sum(coalesce(cost, estimate)) FILTER (WHERE charged = 'yes'), 0)::numeric AS charged,
       count(*) FILTER (WHERE charged = 'unknown' OR state = 'unknown') AS perhaps
FROM submissions
WHERE job_id IN (SELECT id FROM processing_jobs WHERE batch_id = %(batch_id)s);

-- name: spending_since :one
-- Requests that left since then, of one user or of all; what fal refused did not count.
SELECT count(*) AS pictures,
       coalesce(sum(coalesce(cost, estimate)) FILTER (WHERE charged = 'yes'), 0)::numeric AS charged,
       count(*) FILTER (WHERE charged = 'unknown' OR state = 'unknown') AS perhaps
FROM submissions
WHERE sent_at >= %(since)s
  AND state IN ('sent', 'accepted', 'unknown', 'settled')
  AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s);

-- name: count_outcomes :many
-- The whole ledger by what became of its requests; what is under way counts as `open`.
SELECT CASE WHEN state = 'settled' THEN outcome
            WHEN state IN ('rejected', 'abandoned', 'unknown') THEN state
            ELSE 'open' END AS outcome,
       CASE WHEN state IN ('rejected', 'abandoned') THEN 'no' ELSE coalesce(charged, 'unknown') END AS charged,
       count(*) AS count,
       coalesce(sum(coalesce(cost, estimate)), 0)::numeric AS cost
FROM submissions
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: list_failures :many
-- The newest requests that left and made no picture, with the provider's words; the arguments are
-- there to be taken out of them.
SELECT job_id, user_email, workflow_name, endpoint, http_status, error_type, detail, arguments,
       charged, coalesce(ended_at, sent_at, created_at) AS failed_at
FROM submissions
WHERE sent_at IS NOT NULL
  AND (state IN ('rejected', 'unknown') OR outcome IN ('error', 'expired'))
ORDER BY sent_at DESC
LIMIT %(page_size)s;

-- name: sum_usage :many
-- What left between two instants, by user, by workflow, by day (UTC) and in all. `failed` ended
-- without a picture and was not cancelled; `perhaps` is what may have been charged besides.
SELECT CASE WHEN grouping(user_email) = 0 THEN 'user'
            WHEN grouping(workflow_name) = 0 THEN 'workflow'
            WHEN grouping(date_trunc('day', sent_at, 'UTC')) = 0 THEN 'day'
            ELSE 'total' END AS kind,
       coalesce(user_email, workflow_name,
                to_char(date_trunc('day', sent_at, 'UTC') AT TIME ZONE 'UTC', 'YYYY-MM-DD'), '') AS name,
       count(*) AS requests,
       count(*) FILTER (WHERE outcome = 'picture') AS pictures,
       count(*) FILTER (WHERE state IN ('rejected', 'unknown') OR outcome IN ('error', 'expired'))
           AS failed,
       coalesce(sum(coalesce(cost, estimate)) FILTER (WHERE charged = 'yes'), 0)::numeric AS charged,
       count(*) FILTER (WHERE charged = 'unknown' OR state = 'unknown') AS unclear,
       coalesce(sum(estimate) FILTER (WHERE charged = 'unknown' OR state = 'unknown'), 0)::numeric
           AS perhaps
FROM submissions
WHERE sent_at >= %(since)s AND sent_at < %(until)s
GROUP BY GROUPING SETS (
    (user_email), (workflow_name), (date_trunc('day', sent_at, 'UTC')), ())
ORDER BY kind, charged DESC, requests DESC, name;

-- name: list_open_tokens :many
-- Requests whose picture may still come.
SELECT token
FROM submissions
WHERE state IN ('intent', 'sent', 'accepted', 'unknown') OR look_until IS NOT NULL;

-- name: list_later_tokens :one
-- Tokens of ours sent to the same endpoint later than this one: if fal's list shows one of them
-- and not this one, this one never arrived.
SELECT coalesce(array_agg(later.token ORDER BY later.sent_at), '{}') AS tokens
FROM submissions AS later
JOIN submissions AS mine ON mine.token = %(token)s
WHERE later.endpoint = mine.endpoint AND later.sent_at > mine.sent_at
  AND later.state IN ('accepted', 'settled');

-- name: mark_sent :exec
-- With exactly what will be sent; committed before the first byte leaves.
UPDATE submissions
SET state = 'sent', sent_at = now(), arguments = %(arguments)s, estimate = %(estimate)s
WHERE token = %(token)s AND state = 'intent';

-- name: accept :exec
-- Keyed by the token, not by a lease: an answer that came is always saved.
UPDATE submissions
SET state = 'accepted', request_id = %(request_id)s, status_url = %(status_url)s,
    response_url = %(response_url)s, cancel_url = %(cancel_url)s, accepted_at = now()
WHERE token = %(token)s AND state IN ('sent', 'unknown');

-- name: reject :exec
-- fal said no before accepting: free.
UPDATE submissions
SET state = 'rejected', http_status = %(http_status)s, error_type = %(error_type)s, detail = %(detail)s,
    ended_at = now()
WHERE token = %(token)s AND state IN ('sent', 'unknown');

-- name: abandon :exec
-- Never left: free. A request that may have left is never abandoned here, whoever asks.
UPDATE submissions
SET state = 'abandoned', detail = %(detail)s, ended_at = now()
WHERE token = %(token)s AND state = 'intent';

-- name: prove_absent :exec
-- Left, and is proven never to have arrived: free.
UPDATE submissions
SET state = 'abandoned', detail = %(detail)s, ended_at = now()
WHERE token = %(token)s AND state = 'unknown' AND request_id IS NULL;

-- name: lose_answer :exec
-- While `sending`, what a callback has adopted meanwhile stays accepted: its id is known.
UPDATE submissions
SET state = 'unknown', http_status = %(http_status)s, detail = %(detail)s
WHERE token = %(token)s AND (state = 'sent' OR state = 'accepted' AND NOT %(sending)s::boolean);

-- name: save_outputs :exec
UPDATE submissions
SET output_urls = %(output_urls)s, cost = %(cost)s
WHERE token = %(token)s AND state = 'accepted';

-- name: settle :exec
-- With `look` the picture may still come: it is looked for one more day.
UPDATE submissions
SET state = 'settled', outcome = %(outcome)s, charged = %(charged)s, http_status = %(http_status)s,
    error_type = %(error_type)s, detail = %(detail)s, ended_at = now(),
    look_after = CASE WHEN %(look)s::boolean THEN now() + interval '1 minute' END,
    look_until = CASE WHEN %(look)s::boolean THEN now() + interval '1 day' END
WHERE token = %(token)s AND state IN ('sent', 'accepted', 'unknown');

-- name: settle_live :exec
-- The live submission of a job that a person gives up while its answer is unknown.
UPDATE submissions
SET state = 'settled', outcome = 'expired', charged = 'unknown', detail = %(detail)s, ended_at = now(),
    look_after = now(), look_until = now() + interval '1 day'
WHERE job_id = %(job_id)s AND state = 'unknown';

-- name: claim_late :many
-- Settled ones whose picture may still come; the next look is five minutes later.
WITH due AS (
    SELECT id
    FROM submissions
    WHERE look_until IS NOT NULL AND look_after <= coalesce(%(now)s::timestamptz, now())
    ORDER BY look_after
    LIMIT %(page_size)s
    FOR UPDATE SKIP LOCKED
)
UPDATE submissions AS submission
SET look_after = coalesce(%(now)s::timestamptz, now()) + interval '5 minutes'
FROM due
WHERE submission.id = due.id
RETURNING submission.id, submission.job_id, submission.user_id, submission.workflow_name,
          submission.token, submission.endpoint, submission.request_id, submission.status_url,
          submission.response_url,
          (SELECT (version.definition ->> 'unit_price')::numeric FROM workflow_versions AS version
           WHERE version.workflow_name = submission.workflow_name
             AND version.version = submission.workflow_version) AS unit_price,
          coalesce(submission.sent_at, submission.created_at) AS sent_at,
          extract(epoch FROM coalesce(%(now)s::timestamptz, now()) - submission.sent_at)::float8
              AS waited_seconds;

-- name: stop_looking :exec
UPDATE submissions SET look_after = NULL, look_until = NULL
WHERE token = %(token)s AND look_until IS NOT NULL;

-- name: stop_looking_late :exec
-- What did not come within the day.
UPDATE submissions SET look_after = NULL, look_until = NULL
WHERE look_until < coalesce(%(now)s::timestamptz, now());

-- name: find_late_request :exec
-- The list has shown under which id fal runs a request that was given up.
UPDATE submissions
SET request_id = %(request_id)s, status_url = %(status_url)s, response_url = %(response_url)s,
    cancel_url = %(cancel_url)s, accepted_at = coalesce(accepted_at, now()), look_after = now()
WHERE token = %(token)s AND look_until IS NOT NULL AND request_id IS NULL;

-- name: revive :exec
-- It left, counts as free, and fal ran it all the same: perhaps charged, and its picture is wanted.
UPDATE submissions
SET state = 'settled', outcome = 'expired', charged = 'unknown', request_id = %(request_id)s,
    status_url = %(status_url)s, response_url = %(response_url)s, cancel_url = %(cancel_url)s,
    accepted_at = now(), look_after = now(), look_until = now() + interval '1 day'
WHERE token = %(token)s AND state IN ('rejected', 'abandoned') AND sent_at IS NOT NULL
  AND request_id IS NULL;

-- name: reopen :exec
-- Its picture came late, and nothing newer lives: it is collected like any other.
UPDATE submissions AS submission
SET state = 'accepted', outcome = NULL, charged = NULL, ended_at = NULL, look_after = NULL,
    look_until = NULL, output_urls = %(output_urls)s, cost = %(cost)s,
    accepted_at = coalesce(accepted_at, now())
WHERE token = %(token)s AND look_until IS NOT NULL AND request_id IS NOT NULL
  AND NOT EXISTS (
      SELECT FROM submissions AS newer
      WHERE newer.job_id = submission.job_id AND newer.created_at > submission.created_at
        AND (newer.state IN ('intent', 'sent', 'accepted', 'unknown') OR newer.outcome = 'picture'));

-- name: settle_late :exec
-- It was made after all, late: kept beside a newer picture, or withheld. Both are charged.
UPDATE submissions
SET outcome = %(outcome)s, charged = 'yes', cost = %(cost)s, look_after = NULL, look_until = NULL
WHERE token = %(token)s AND look_until IS NOT NULL;

-- name: lock_limits :exec
-- Who counts against a daily limit takes turns; released with the transaction.
SELECT pg_advisory_xact_lock(hashtext('i2i.limits'));

-- name: count_today :one
-- Pictures of this day (UTC), of one user or of all: what left and was not refused, and what is
-- asked for and has not left.
SELECT (
    SELECT count(*) FROM submissions
    WHERE (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
      AND sent_at >= date_trunc('day', now(), 'UTC')
      AND state NOT IN ('rejected', 'abandoned')
) + (
    SELECT count(*) FROM processing_jobs
    WHERE (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
      AND (status IN ('held', 'pending') OR status = 'submitting' AND EXISTS (
          SELECT FROM submissions
          WHERE submissions.job_id = processing_jobs.id AND submissions.state = 'intent'))
) AS count;
