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

-- name: list_later_tokens :one
-- Tokens of ours sent to the same endpoint later than this one: if fal's list shows one of them
-- and not this one, this one never arrived.
SELECT coalesce(array_agg(later.token ORDER BY later.sent_at), '{}') AS tokens
FROM submissions AS later
JOIN submissions AS mine ON mine.token = %(token)s
WHERE later.endpoint = mine.endpoint AND later.sent_at > mine.sent_at
  AND later.state IN ('accepted', 'settled');

-- name: save_arguments :exec
UPDATE submissions
SET arguments = %(arguments)s, estimate = %(estimate)s
WHERE token = %(token)s AND state = 'intent';

-- name: mark_sent :exec
-- Committed before the first byte leaves.
UPDATE submissions SET state = 'sent', sent_at = now()
WHERE token = %(token)s AND state = 'intent' AND arguments IS NOT NULL;

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
WHERE token = %(token)s AND state = 'unknown';

-- name: lose_answer :exec
UPDATE submissions
SET state = 'unknown', http_status = %(http_status)s, detail = %(detail)s
WHERE token = %(token)s AND state IN ('sent', 'accepted');

-- name: save_outputs :exec
UPDATE submissions
SET output_urls = %(output_urls)s, cost = %(cost)s
WHERE token = %(token)s AND state = 'accepted';

-- name: settle :exec
UPDATE submissions
SET state = 'settled', outcome = %(outcome)s, charged = %(charged)s, http_status = %(http_status)s,
    error_type = %(error_type)s, detail = %(detail)s, ended_at = now()
WHERE token = %(token)s AND state IN ('sent', 'accepted', 'unknown');
