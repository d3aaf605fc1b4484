-- Processing jobs: the queue and the pages. Legal transitions: docs/job-states.md.
-- Every claim sets a lease and bumps the fence; the step's last UPDATE names the fence it got, and
-- a row count of 0 says that somebody else owns the job by now.

-- name: create :exec
-- The pictures of a batch, in the order given; four arrays of one length. In a child batch each
-- comes from the parent's picture of the same photo and variation, where there is one. A photo's
-- pictures with one workflow are numbered, so that no two are saved under one name.
INSERT INTO processing_jobs (user_id, batch_id, position, variation, original_image_id,
                             workflow_name, workflow_version_id, parameters, status, number, parent_id)
SELECT batch.user_id, batch.id, picture.position, picture.variation, picture.image_id,
       version.workflow_name, batch.workflow_version_id, picture.parameters, picture.status,
       coalesce((SELECT max(earlier.number)
                 FROM processing_jobs AS earlier
                 WHERE earlier.original_image_id = picture.image_id
                   AND earlier.workflow_name = version.workflow_name), 0)
           + row_number() OVER (PARTITION BY picture.image_id ORDER BY picture.position),
       (SELECT parent.id
        FROM processing_jobs AS parent
        WHERE parent.batch_id = batch.parent_id AND parent.user_id = batch.user_id
          AND parent.original_image_id = picture.image_id AND parent.variation = picture.variation
        ORDER BY parent.created_at DESC, parent.position DESC
        LIMIT 1)
FROM batches AS batch
JOIN workflow_versions AS version ON version.id = batch.workflow_version_id
CROSS JOIN unnest(
    %(image_ids)s::uuid[], %(variations)s::integer[], %(parameters)s::jsonb[], %(statuses)s::text[]
) WITH ORDINALITY AS picture (image_id, variation, parameters, status, position)
WHERE batch.id = %(batch_id)s;

-- name: find :optional
-- For operators and the worker; pages ask find_card, which knows the owner.
SELECT id, user_id, batch_id, position, variation, number, original_image_id, result_image_id, workflow_name,
       workflow_version_id, parameters, fal_job_id, status, attention, cancel_requested_at,
       error_code, error_message, run_after, fence, crashes, created_at, completed_at
FROM processing_jobs
WHERE id = %(job_id)s;

-- name: find_card :optional
SELECT id, batch_id, position, variation, status, attention, cancel_requested_at, error_code,
       error_message, queue_position, processing_time_ms, workflow_name,
       created_at, updated_at, started_at, completed_at, original_image_id,
       original_filename, original_status, result_image_id, result_has_preview, sent_at, charged,
       cost, perhaps, estimate, further, verdict, verdict_reason, verdict_note, verdict_at, parent_id
FROM job_cards
WHERE id = %(job_id)s AND user_id = %(user_id)s AND deleted_at IS NULL;

-- name: list_cards :many
-- A batch's pictures, in order.
SELECT id, batch_id, position, variation, status, attention, cancel_requested_at, error_code,
       error_message, queue_position, processing_time_ms, workflow_name,
       created_at, updated_at, started_at, completed_at, original_image_id,
       original_filename, original_status, result_image_id, result_has_preview, sent_at, charged,
       cost, perhaps, estimate, further, verdict, verdict_reason, verdict_note, verdict_at, parent_id
FROM job_cards
WHERE batch_id = %(batch_id)s AND user_id = %(user_id)s AND deleted_at IS NULL
ORDER BY position;

-- name: list_chosen_cards :many
-- Those of the pictures named that can be shown, in the order named.
SELECT card.id, card.batch_id, card.position, card.variation, card.status, card.attention,
       card.cancel_requested_at, card.error_code, card.error_message, card.queue_position,
       card.processing_time_ms, card.workflow_name,
       card.created_at, card.updated_at, card.started_at, card.completed_at,
       card.original_image_id, card.original_filename, card.original_status, card.result_image_id,
       card.result_has_preview, card.sent_at, card.charged, card.cost, card.perhaps, card.estimate,
       card.further, card.verdict, card.verdict_reason, card.verdict_note, card.verdict_at,
       card.parent_id
FROM unnest(%(job_ids)s::uuid[]) WITH ORDINALITY AS chosen (id, place)
JOIN job_cards AS card ON card.id = chosen.id
WHERE card.user_id = %(user_id)s AND card.deleted_at IS NULL
ORDER BY chosen.place;

-- name: list_parameters :many
-- Beside the cards, for what shows them: pages do not.
SELECT id, parameters
FROM processing_jobs
WHERE id = ANY(%(job_ids)s::uuid[]) AND user_id = %(user_id)s;

-- name: list_film :many
-- A batch's pictures as the film strip of the review shows them, in order.
SELECT id, status, verdict, original_filename, original_image_id, result_image_id,
       coalesce(result_has_preview, false) AS has_preview
FROM job_cards
WHERE batch_id = %(batch_id)s AND user_id = %(user_id)s AND deleted_at IS NULL
ORDER BY position;

-- name: list_versions :many
-- The pictures made of one photo, numbered in the order in which they were asked for: the newest,
-- and always the two named.
SELECT job.number, job.id, job.status, job.verdict, job.verdict_reason, job.original_image_id,
       job.result_image_id, job.result_width, job.result_height,
       coalesce(job.result_has_preview, false) AS has_preview, job.parameters, version.definition
FROM (
    SELECT row_number() OVER (ORDER BY card.created_at, card.position, card.id) AS number,
           card.id, card.status, card.verdict, card.verdict_reason, card.original_image_id,
           card.result_image_id, card.result_width, card.result_height, card.result_has_preview,
           card.parameters, card.workflow_name, card.workflow_version
    FROM job_cards AS card
    WHERE card.original_image_id = %(image_id)s AND card.user_id = %(user_id)s
      AND card.deleted_at IS NULL
) AS job
JOIN workflow_versions AS version
  ON version.workflow_name = job.workflow_name AND version.version = job.workflow_version
ORDER BY (job.id = %(job_id)s OR job.id = %(parent_id)s) IS TRUE DESC, job.number DESC
LIMIT %(page_size)s;

-- name: list_parent_results :many
-- What the pictures of a batch make again, where that can still be shown.
SELECT job.id, result.id AS result_image_id
FROM processing_jobs AS job
JOIN processing_jobs AS parent ON parent.id = job.parent_id AND parent.user_id = job.user_id
JOIN images AS result ON result.id = parent.result_image_id
WHERE job.batch_id = %(batch_id)s AND job.user_id = %(user_id)s
  AND result.has_preview AND result.deleted_at IS NULL AND parent.deleted_at IS NULL;

-- name: list_newest :many
-- For operators.
SELECT id, user_id, batch_id, position, variation, number, original_image_id, result_image_id, workflow_name,
       workflow_version_id, parameters, fal_job_id, status, attention, cancel_requested_at,
       error_code, error_message, run_after, fence, crashes, created_at, completed_at
FROM processing_jobs
WHERE (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
ORDER BY created_at DESC, id DESC
LIMIT %(page_size)s;

-- name: count_statuses :many
SELECT status, count(*) AS count,
       extract(epoch FROM now() - min(created_at))::float8 AS oldest_seconds
FROM processing_jobs
GROUP BY status
ORDER BY status;

-- name: count_attention :many
-- What waits for a person, by what it says.
SELECT status, coalesce(attention, '') AS reason, count(*) AS count
FROM processing_jobs
WHERE (status IN ('failed', 'unknown') OR attention IS NOT NULL)
  AND status NOT IN ('failed', 'cancelled', 'completed')
GROUP BY status, attention
ORDER BY count DESC, reason;

-- name: page_troubled :many
-- For operators: what failed or needs a person, with the last request's words; newest first. The
-- arguments are there to be taken out of those words.
SELECT job.id, job.status, job.attention, job.error_code, job.error_message, job.workflow_name,
       users.email, job.created_at, ledger.http_status, ledger.error_type, ledger.detail,
       ledger.arguments, ledger.charged, ledger.cost
FROM processing_jobs AS job
JOIN users ON users.id = job.user_id
CROSS JOIN LATERAL (
    SELECT (array_agg(submission.http_status ORDER BY created_at DESC))[1] AS http_status,
           (array_agg(submission.error_type ORDER BY created_at DESC))[1] AS error_type,
           (array_agg(submission.detail ORDER BY created_at DESC))[1] AS detail,
           (array_agg(submission.arguments ORDER BY created_at DESC))[1] AS arguments,
           CASE WHEN bool_or(submission.charged = 'yes') THEN 'yes'
                WHEN bool_or(submission.charged = 'unknown'
                             OR submission.state IN ('sent', 'accepted', 'unknown')) THEN 'unknown'
                ELSE 'no' END AS charged,
           sum(coalesce(submission.cost, submission.estimate))
               FILTER (WHERE submission.charged = 'yes') AS cost
    FROM submissions AS submission
    WHERE submission.job_id = job.id
) AS ledger
WHERE (job.status IN ('failed', 'unknown') OR job.attention IS NOT NULL)
  AND (%(failed)s::boolean IS NULL OR (job.status = 'failed') = %(failed)s)
  AND (job.created_at, job.id) < (
      coalesce(%(before)s::timestamptz, 'infinity'),
      coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY job.created_at DESC, job.id DESC
LIMIT %(page_size)s;

-- name: count_in_flight :one
SELECT count(*) AS count FROM processing_jobs WHERE status IN ('submitting', 'processing');

-- name: count_of_workflow :one
SELECT count(*) AS count FROM processing_jobs WHERE workflow_name = %(workflow_name)s;

-- name: list_usual_seconds :many
-- The median of each workflow's last fifty pictures, from sending to storing.
SELECT workflow.id AS workflow_name,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY recent.processing_time_ms) / 1000 AS seconds
FROM workflow_configs AS workflow
CROSS JOIN LATERAL (
    SELECT processing_time_ms
    FROM processing_jobs
    WHERE workflow_name = workflow.id AND status = 'completed'
    ORDER BY completed_at DESC
    LIMIT 50
) AS recent
GROUP BY workflow.id
ORDER BY workflow.id;

-- name: list_places :many
-- The place in line of a user's waiting pictures, among those of everybody, in the order in which
-- claim_send takes them: the n-th picture of whoever has m in flight comes in turn m + n.
WITH busy AS (
    SELECT user_id, count(*) AS in_flight
    FROM processing_jobs
    WHERE status IN ('submitting', 'processing')
    GROUP BY user_id
),
waiting AS (
    SELECT job.id, job.user_id, job.created_at, job.original_image_id,
           coalesce(busy.in_flight, 0)
               + row_number() OVER (PARTITION BY job.user_id
                                    ORDER BY job.crashes, job.created_at, job.position) AS turn
    FROM processing_jobs AS job
    LEFT JOIN busy ON busy.user_id = job.user_id
    WHERE job.status = 'pending'
),
line AS (
    SELECT id, user_id, original_image_id, turn, row_number() OVER (ORDER BY turn, created_at, id) AS place
    FROM waiting
)
SELECT id, place, turn, (SELECT coalesce(sum(in_flight), 0)::bigint FROM busy) AS in_flight,
       EXISTS (SELECT FROM images
               WHERE images.id = line.original_image_id AND images.status = 'preparing') AS preparing,
       EXISTS (SELECT FROM breaker WHERE opened_at IS NOT NULL) AS paused
FROM line
WHERE user_id = %(user_id)s
ORDER BY place;

-- name: find_due :one
-- What there is to claim, in one question, so that a worker asks further only where something waits:
-- most rounds find one kind. `seconds` is when more comes due; what is due already and was not
-- claimed waits for a free thread or place, not for time.
WITH moment AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, now()) AS now)
SELECT EXISTS (SELECT FROM processing_jobs WHERE status = 'submitting' AND lease_until < moment.now) AS expired,
       EXISTS (SELECT FROM webhook_events WHERE applied_at IS NULL) AS callbacks,
       ARRAY(
           SELECT state.status
           FROM unnest(ARRAY['storing', 'processing', 'unknown']) AS state (status)
           WHERE EXISTS (
               SELECT FROM processing_jobs
               WHERE status = state.status AND status IN ('processing', 'storing', 'unknown')
                 AND run_after <= moment.now AND (lease_until IS NULL OR lease_until < moment.now))
       ) AS looks,
       EXISTS (SELECT FROM submissions
               WHERE look_until IS NOT NULL AND (look_after <= moment.now OR look_until < moment.now)) AS late,
       EXISTS (SELECT FROM breaker WHERE opened_at IS NOT NULL AND next_check_at <= moment.now) AS account,
       -- In the index's order, for there are few of them, and all at the end of the table.
       (SELECT true FROM processing_jobs WHERE status = 'pending' AND run_after <= moment.now
        ORDER BY user_id, crashes, created_at, position LIMIT 1) IS TRUE AS pending,
       EXISTS (SELECT FROM images
               WHERE status = 'preparing' AND run_after <= moment.now
                 AND (lease_until IS NULL OR lease_until < moment.now)) AS photos,
       (SELECT extract(epoch FROM min(due) - moment.now)::float8
        FROM (
            SELECT greatest(run_after, lease_until) AS due FROM processing_jobs
            WHERE status IN ('submitting', 'processing', 'storing', 'unknown')
            UNION ALL
            SELECT run_after FROM processing_jobs WHERE status = 'pending' AND run_after > moment.now
            UNION ALL
            SELECT greatest(run_after, lease_until) FROM images WHERE status = 'preparing'
        ) AS waiting
        WHERE due > moment.now) AS seconds
FROM moment;

-- name: lock_queue :exec
-- Claims that count against a cap take turns; released with the transaction.
SELECT pg_advisory_xact_lock(hashtext('i2i.queue'));

-- name: claim_send :optional
-- The oldest pending picture of the user with the fewest in flight, if the breaker is closed, the
-- caps leave room and every photo it needs is decoded. What was being sent when a worker
-- crashed comes after the rest and one at a time, so that only the guilty one crashes again. A photo
-- of which a worker just makes the copy for fal is that worker's; job_id is what it then claims.
-- The caller holds lock_queue, so that the caps hold exactly. Who waits is found by leaping from user
-- to user in processing_jobs_pending_index: ten thousand waiting pictures are not read.
WITH RECURSIVE waiting AS (
    (SELECT user_id FROM processing_jobs WHERE status = 'pending' ORDER BY user_id LIMIT 1)
    UNION ALL
    SELECT further.user_id
    FROM waiting
    CROSS JOIN LATERAL (
        SELECT user_id FROM processing_jobs
        WHERE status = 'pending' AND user_id > waiting.user_id
        ORDER BY user_id
        LIMIT 1
    ) AS further
),
busy AS (
    SELECT user_id, count(*) AS in_flight
    FROM processing_jobs
    WHERE status IN ('submitting', 'processing')
    GROUP BY user_id
),
next AS (
    SELECT oldest.id
    FROM waiting
    JOIN users ON users.id = waiting.user_id AND users.is_whitelisted
    LEFT JOIN busy ON busy.user_id = waiting.user_id
    CROSS JOIN LATERAL (
        SELECT job.id, job.created_at
        FROM processing_jobs AS job
        WHERE job.status = 'pending'
          AND job.user_id = waiting.user_id
          AND (job.run_after <= coalesce(%(now)s::timestamptz, now()) OR job.id = %(job_id)s)
          AND (%(job_id)s::uuid IS NULL OR job.id = %(job_id)s)
          AND (job.crashes = 0 OR NOT EXISTS (
              SELECT FROM processing_jobs AS suspect
              WHERE suspect.status = 'submitting' AND suspect.crashes > 0))
          AND EXISTS (
              SELECT FROM images
              WHERE id = job.original_image_id AND status = 'ready'
                AND (lease_until IS NULL OR lease_until < coalesce(%(now)s::timestamptz, now())))
          AND NOT EXISTS (
              SELECT FROM batch_references AS reference JOIN images ON images.id = reference.image_id
              WHERE reference.batch_id = job.batch_id AND images.status <> 'ready')
        ORDER BY job.crashes, job.created_at, job.position
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS oldest
    WHERE NOT EXISTS (SELECT FROM breaker WHERE opened_at IS NOT NULL)
      AND coalesce(busy.in_flight, 0) < coalesce(%(max_per_user)s::integer, 2147483647)
      AND (SELECT coalesce(sum(in_flight), 0) FROM busy) < %(max_in_flight)s::integer
    ORDER BY coalesce(busy.in_flight, 0), oldest.created_at, oldest.id
    LIMIT 1
)
UPDATE processing_jobs AS job
SET status = 'submitting',
    lease_until = coalesce(%(now)s::timestamptz, now()) + make_interval(secs => %(lease_seconds)s::float8),
    fence = job.fence + 1,
    attention = NULL
FROM next, users, workflow_versions AS version
WHERE job.id = next.id AND users.id = job.user_id AND version.id = job.workflow_version_id
RETURNING job.id, job.user_id, users.email, job.batch_id, job.workflow_version_id, version.definition,
          job.parameters, job.original_image_id, job.fence, job.crashes,
          (SELECT count(*) FROM submissions AS earlier
           WHERE earlier.job_id = job.id AND earlier.state IN ('rejected', 'abandoned')
             AND earlier.ended_at > now() - interval '1 hour') AS attempts;

-- name: claim_fal :many
-- Jobs of one state that are due for a look at fal's side (or the one job named, whenever it is due),
-- with their live submission. A lease
-- that ran out means that a worker died or froze on it: that is counted, and only backs off.
WITH due AS (
    SELECT id
    FROM processing_jobs
    WHERE status = %(status)s
      -- Lets a prepared statement use processing_jobs_moving_index, whose condition this implies.
      AND status IN ('processing', 'storing', 'unknown')
      AND (run_after <= coalesce(%(now)s::timestamptz, now()) OR id = %(job_id)s)
      AND (%(job_id)s::uuid IS NULL OR id = %(job_id)s)
      AND (lease_until IS NULL OR lease_until < coalesce(%(now)s::timestamptz, now()))
    ORDER BY run_after
    LIMIT %(page_size)s
    FOR UPDATE SKIP LOCKED
)
UPDATE processing_jobs AS job
SET crashes = job.crashes + CASE WHEN job.lease_until IS NULL THEN 0 ELSE 1 END,
    lease_until = coalesce(%(now)s::timestamptz, now()) + make_interval(secs => %(lease_seconds)s::float8),
    fence = job.fence + 1
FROM due, submissions AS submission, workflow_versions AS version
WHERE job.id = due.id AND version.id = job.workflow_version_id
  AND submission.job_id = job.id AND submission.state IN ('accepted', 'unknown')
RETURNING job.id, job.user_id, job.status, job.fence, job.crashes, job.cancel_requested_at,
          job.started_at, job.workflow_name, job.number,
          (version.definition ->> 'unit_price')::numeric AS unit_price,
          (version.definition ->> 'deadline_seconds')::integer AS deadline_seconds,
          job.original_image_id, submission.token, submission.endpoint, submission.request_id,
          submission.status_url, submission.response_url, submission.cancel_url, submission.output_urls,
          coalesce(submission.sent_at, submission.created_at) AS sent_at,
          extract(epoch FROM coalesce(%(now)s::timestamptz, now()) - submission.sent_at)::float8
              AS waited_seconds,
          coalesce(extract(epoch FROM coalesce(%(now)s::timestamptz, now()) - job.gone_since), 0)::float8
              AS gone_seconds,
          (SELECT count(*) FROM processing_jobs AS other
           WHERE other.status IN ('submitting', 'processing')) AS in_flight;

-- name: claim_expired :many
-- Jobs whose worker vanished between the claim and the saved answer. Without a live submission
-- (which no code of ours leaves behind) nothing can have been sent.
UPDATE processing_jobs AS job
SET fence = job.fence + 1,
    lease_until = coalesce(%(now)s::timestamptz, now()) + make_interval(secs => %(lease_seconds)s::float8)
WHERE job.status = 'submitting' AND job.lease_until < coalesce(%(now)s::timestamptz, now())
RETURNING job.id, job.fence, job.crashes,
          (SELECT token FROM submissions WHERE job_id = job.id AND state IN ('intent', 'sent')) AS token,
          (SELECT state FROM submissions WHERE job_id = job.id AND state IN ('intent', 'sent')) AS state;

-- name: renew_lease :exec
UPDATE processing_jobs
SET lease_until = now() + make_interval(secs => %(lease_seconds)s::float8)
WHERE id = %(job_id)s AND fence = %(fence)s AND lease_until IS NOT NULL;

-- name: lock_sendable :exec
-- The last look before the request leaves: still ours, still wanted, breaker closed. Holds the row
-- until commit, so that a cancel comes either before the request counts as sent or after.
UPDATE processing_jobs
SET lease_until = now() + make_interval(secs => %(lease_seconds)s::float8)
WHERE id = %(job_id)s AND fence = %(fence)s AND status = 'submitting' AND cancel_requested_at IS NULL
  AND NOT EXISTS (SELECT FROM breaker WHERE opened_at IS NOT NULL);

-- name: return_to_pending :exec
-- Provably not accepted: wait, then try again with a new submission; or, where a cancel was asked
-- for meanwhile or the user lost the whitelist, end here and free. Answers of fal come without a
-- fence: they always count.
UPDATE processing_jobs AS job
SET status = CASE WHEN cancel_requested_at IS NULL AND is_whitelisted THEN 'pending' ELSE 'cancelled' END,
    completed_at = CASE WHEN cancel_requested_at IS NULL AND is_whitelisted THEN NULL ELSE now() END,
    attention = CASE WHEN cancel_requested_at IS NULL AND is_whitelisted THEN %(attention)s::text END,
    lease_until = NULL, fal_job_id = NULL, gone_since = NULL,
    crashes = %(crashes)s, run_after = now() + make_interval(secs => %(delay_seconds)s::float8)
FROM users
WHERE job.id = %(job_id)s AND users.id = job.user_id
  AND (%(fence)s::integer IS NULL OR fence = %(fence)s) AND status IN ('submitting', 'unknown');

-- name: accept :exec
-- Guarded by state, not by fence: the answer of a POST is always saved.
UPDATE processing_jobs
SET status = 'processing', fal_job_id = %(fal_job_id)s, lease_until = NULL, attention = NULL,
    crashes = 0, gone_since = NULL,
    run_after = now() + make_interval(secs => %(delay_seconds)s::float8)
WHERE id = %(job_id)s AND status IN ('submitting', 'unknown');

-- name: lose_answer :exec
UPDATE processing_jobs
SET status = 'unknown', lease_until = NULL, attention = %(attention)s,
    run_after = now() + make_interval(secs => %(delay_seconds)s::float8)
WHERE id = %(job_id)s AND fence = %(fence)s AND status IN ('submitting', 'processing');

-- name: keep_waiting :exec
-- fal still works on it; what the page shows is updated.
UPDATE processing_jobs
SET lease_until = NULL, crashes = 0, gone_since = NULL, attention = NULL,
    queue_position = %(queue_position)s,
    started_at = coalesce(started_at, CASE WHEN %(running)s::boolean THEN now() END),
    run_after = now() + make_interval(secs => %(delay_seconds)s::float8)
WHERE id = %(job_id)s AND fence = %(fence)s;

-- name: postpone :exec
-- The look did not work; `attention` is a sentence when a person should know. It counts as a crash,
-- so that trouble in a row is asked about less and less often. `gone` is fal's 404, whose beginning
-- is kept: one of them proves nothing, a day of them does.
UPDATE processing_jobs
SET lease_until = NULL, attention = %(attention)s, crashes = crashes + 1,
    gone_since = CASE WHEN %(gone)s::boolean THEN coalesce(gone_since, now()) END,
    run_after = now() + make_interval(secs => %(delay_seconds)s::float8)
WHERE id = %(job_id)s AND fence = %(fence)s
  AND status IN ('processing', 'storing', 'unknown');

-- name: begin_storing :exec
UPDATE processing_jobs
SET status = 'storing', lease_until = NULL, crashes = 0, queue_position = NULL, attention = NULL,
    gone_since = NULL, started_at = coalesce(started_at, now()), run_after = now()
WHERE id = %(job_id)s AND fence = %(fence)s AND status = 'processing';

-- name: complete :exec
UPDATE processing_jobs
SET status = 'completed', result_image_id = %(result_image_id)s, lease_until = NULL, attention = NULL,
    processing_time_ms = %(processing_time_ms)s, completed_at = now()
WHERE id = %(job_id)s AND fence = %(fence)s AND status = 'storing';

-- name: fail :exec
-- Without a fence where the caller has just closed the job's live submission.
UPDATE processing_jobs
SET status = 'failed', error_code = %(error_code)s, error_message = %(error_message)s,
    lease_until = NULL, attention = NULL, queue_position = NULL, completed_at = now()
WHERE id = %(job_id)s AND (%(fence)s::integer IS NULL OR fence = %(fence)s)
  AND status IN ('submitting', 'processing', 'storing', 'unknown');

-- name: fail_of_image :exec
-- Waiting pictures, held ones too, whose photo or reference turned out not to be readable.
UPDATE processing_jobs AS job
SET status = 'failed', error_code = %(error_code)s, error_message = %(error_message)s,
    attention = NULL, completed_at = now()
WHERE job.status IN ('held', 'pending')
  AND (job.original_image_id = %(image_id)s OR EXISTS (
      SELECT FROM batch_references AS reference
      WHERE reference.batch_id = job.batch_id AND reference.image_id = %(image_id)s));

-- name: mark_result :exec
-- What a page says of a finished picture whose file is lost; null when it is there again.
UPDATE processing_jobs
SET attention = %(attention)s
WHERE result_image_id = %(image_id)s AND status = 'completed';

-- name: cancel_sending :exec
-- Asked for while the inputs went up: nothing was sent, so it ends here and is free.
UPDATE processing_jobs
SET status = 'cancelled', lease_until = NULL, attention = NULL, completed_at = now()
WHERE id = %(job_id)s AND fence = %(fence)s AND status = 'submitting'
  AND cancel_requested_at IS NOT NULL;

-- name: cancel_at_fal :exec
-- fal confirmed that it stopped.
UPDATE processing_jobs
SET status = 'cancelled', lease_until = NULL, queue_position = NULL, attention = NULL, completed_at = now()
WHERE id = %(job_id)s AND fence = %(fence)s AND status = 'processing';

-- name: cancel_waiting :exec
-- What was not sent is cancelled at once: one job, a batch, or all of a user.
UPDATE processing_jobs
SET status = 'cancelled', completed_at = now(), attention = NULL
WHERE status IN ('held', 'pending')
  AND user_id = %(user_id)s
  AND (%(job_id)s::uuid IS NULL OR id = %(job_id)s)
  AND (%(batch_id)s::uuid IS NULL OR batch_id = %(batch_id)s);

-- name: cancel_held_of_parent :exec
-- A child batch makes these with other settings.
UPDATE processing_jobs AS held
SET status = 'cancelled', completed_at = now(), attention = NULL
FROM batches AS child
WHERE child.id = %(batch_id)s AND held.batch_id = child.parent_id AND held.user_id = child.user_id
  AND held.status = 'held'
  AND EXISTS (SELECT FROM processing_jobs AS made
              WHERE made.batch_id = child.id AND made.original_image_id = held.original_image_id);

-- name: ask_cancel_sending :exec
-- A user who lost the whitelist: what is just being sent stops, if it can still be stopped.
UPDATE processing_jobs SET cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE user_id = %(user_id)s AND status = 'submitting';

-- name: count_at_fal :one
-- Pictures of a user that fal may be working on.
SELECT count(*) AS count FROM processing_jobs
WHERE user_id = %(user_id)s AND status IN ('submitting', 'processing', 'storing', 'unknown');

-- name: cancel_waiting_of_workflow :exec
UPDATE processing_jobs
SET status = 'cancelled', completed_at = now(), attention = NULL
WHERE status IN ('held', 'pending') AND workflow_name = %(workflow_name)s;

-- name: ask_cancel :exec
-- The worker asks fal at its next look; a picture that comes after all is kept.
UPDATE processing_jobs
SET cancel_requested_at = coalesce(cancel_requested_at, now()), run_after = least(run_after, now())
WHERE id = %(job_id)s AND user_id = %(user_id)s AND status IN ('submitting', 'processing');

-- name: ask_cancel_late :exec
-- The deadline has passed: the worker asks by itself.
UPDATE processing_jobs
SET cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = %(job_id)s AND fence = %(fence)s AND status = 'processing';

-- name: release :exec
-- The held rest of a pilot starts.
UPDATE processing_jobs
SET status = 'pending', attention = NULL, run_after = now()
WHERE batch_id = %(batch_id)s AND user_id = %(user_id)s AND status = 'held';

-- name: retry :many
-- Failed or cancelled pictures start again: one job, or all of a batch; those that were perhaps
-- charged only when a person wants it. Not those whose photo or reference cannot be read: they
-- would wait for ever.
UPDATE processing_jobs AS job
SET status = 'pending', fal_job_id = NULL, error_code = NULL, error_message = NULL, attention = NULL,
    cancel_requested_at = NULL, queue_position = NULL, started_at = NULL, completed_at = NULL,
    crashes = 0, gone_since = NULL, run_after = now()
WHERE user_id = %(user_id)s
  AND status = ANY(%(statuses)s::text[])
  AND (%(job_id)s::uuid IS NULL OR id = %(job_id)s)
  AND (%(batch_id)s::uuid IS NULL OR batch_id = %(batch_id)s)
  AND (%(perhaps)s::boolean OR NOT EXISTS (
      SELECT FROM submissions WHERE submissions.job_id = job.id AND submissions.charged = 'unknown'))
  AND NOT EXISTS (
      SELECT FROM images
      WHERE images.status = 'rejected'
        AND (images.id = job.original_image_id OR images.id IN (
            SELECT image_id FROM batch_references AS reference
            WHERE reference.batch_id = job.batch_id)))
RETURNING id, EXISTS (
    SELECT FROM submissions WHERE submissions.job_id = job.id AND submissions.charged = 'unknown') AS perhaps;

-- name: reopen :exec
-- A late picture: the job that was given up takes it after all.
UPDATE processing_jobs
SET status = 'storing', fal_job_id = %(fal_job_id)s, error_code = NULL, error_message = NULL,
    attention = NULL, completed_at = NULL, lease_until = NULL, crashes = 0, gone_since = NULL,
    run_after = now()
WHERE id = %(job_id)s AND status IN ('failed', 'cancelled');

-- name: explain_withheld :exec
-- A sentence that says the picture may still come gives way, unless a newer try has its own.
UPDATE processing_jobs AS job
SET error_code = %(error_code)s, error_message = %(error_message)s
WHERE job.id = %(job_id)s AND job.status = 'failed' AND NOT EXISTS (
    SELECT FROM submissions AS mine
    JOIN submissions AS newer ON newer.job_id = mine.job_id AND newer.created_at > mine.created_at
    WHERE mine.token = %(token)s);

-- name: hurry :exec
-- A person asks to look again: the worker does it at once.
UPDATE processing_jobs SET run_after = now()
WHERE id = %(job_id)s AND user_id = %(user_id)s AND status = 'unknown';

-- name: give_up_unknown :exec
-- A person decides: send again (pending), or leave it (failed). Whoever looks just now loses it.
UPDATE processing_jobs
SET status = %(status)s, fence = fence + 1, lease_until = NULL, attention = NULL, fal_job_id = NULL,
    crashes = 0, cancel_requested_at = NULL, started_at = NULL, run_after = now(),
    error_code = %(error_code)s, error_message = %(error_message)s,
    completed_at = CASE WHEN %(status)s = 'failed' THEN now() END
WHERE id = %(job_id)s AND user_id = %(user_id)s AND status = 'unknown';

-- name: judge :exec
-- Approved, rejected or neither: of what is made, until it is thrown away.
UPDATE processing_jobs
SET verdict = %(verdict)s, verdict_reason = %(reason)s, verdict_note = %(note)s,
    verdict_at = CASE WHEN %(verdict)s::text IS NOT NULL THEN now() END
WHERE id = %(job_id)s AND user_id = %(user_id)s AND status = 'completed' AND deleted_at IS NULL;

-- name: list_events :many
SELECT from_status, to_status, happened_at
FROM job_events
WHERE job_id = %(job_id)s
ORDER BY id;
