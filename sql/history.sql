-- History: which of a user's pictures, or batches, a filter finds; newest first, in pages by keyset.
-- Each filter that has an index has a query of its own, so that a prepared plan uses it. There is one
-- upper bound, the cursor: with a second one PostgreSQL would begin to read at the wrong one. Without
-- a page_size all are found.

-- name: pick_by_status :many
-- Of these states, or of all nine: the newest of each, merged.
SELECT found.id
FROM unnest(%(statuses)s::text[]) AS wanted (status)
CROSS JOIN LATERAL (
    SELECT id, created_at
    FROM processing_jobs
    WHERE user_id = %(user_id)s AND status = wanted.status AND deleted_at IS NULL
      AND created_at >= coalesce(%(created_from)s::timestamptz, '-infinity')
      AND (created_at, id) < (
          coalesce(%(before)s::timestamptz, 'infinity'),
          coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY created_at DESC, id DESC
    LIMIT %(page_size)s
) AS found
ORDER BY found.created_at DESC, found.id DESC
LIMIT %(page_size)s;

-- name: page_newest :many
-- Without a filter: what most pages show. What is in the trash is walked past, until it is purged: a
-- thousand of a user's newest there cost half a millisecond.
SELECT id, batch_id, position, variation, status, attention, cancel_requested_at, error_code,
       error_message, queue_position, processing_time_ms, workflow_name,
       created_at, updated_at, started_at, completed_at, original_image_id,
       original_filename, original_status, result_image_id, result_has_preview, sent_at, charged,
       cost, perhaps, estimate, further, verdict, verdict_reason, verdict_note, verdict_at, parent_id
FROM job_cards
WHERE user_id = %(user_id)s AND deleted_at IS NULL
  AND created_at >= coalesce(%(created_from)s::timestamptz, '-infinity')
  AND (created_at, id) < (
      coalesce(%(before)s::timestamptz, 'infinity'),
      coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY created_at DESC, id DESC
LIMIT %(page_size)s;

-- name: pick_by_workflow :many
SELECT id
FROM processing_jobs
WHERE user_id = %(user_id)s AND workflow_name = %(workflow)s AND deleted_at IS NULL
  AND created_at >= coalesce(%(created_from)s::timestamptz, '-infinity')
  AND (created_at, id) < (
      coalesce(%(before)s::timestamptz, 'infinity'),
      coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY created_at DESC, id DESC
LIMIT %(page_size)s;

-- name: pick_by_verdict :many
-- Of what is made; "none" is what nobody has judged.
SELECT id
FROM processing_jobs
WHERE user_id = %(user_id)s AND coalesce(verdict, 'none') = %(verdict)s
  AND status = 'completed' AND deleted_at IS NULL
  AND created_at >= coalesce(%(created_from)s::timestamptz, '-infinity')
  AND (created_at, id) < (
      coalesce(%(before)s::timestamptz, 'infinity'),
      coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY created_at DESC, id DESC
LIMIT %(page_size)s;

-- name: pick_by_several :many
-- Two filters or more, without a file name.
SELECT id
FROM processing_jobs
WHERE user_id = %(user_id)s AND deleted_at IS NULL
  AND status = ANY(%(statuses)s::text[])
  AND (%(workflow)s::text IS NULL OR workflow_name = %(workflow)s)
  AND (%(verdict)s::text IS NULL
       OR status = 'completed' AND coalesce(verdict, 'none') = %(verdict)s)
  AND created_at >= coalesce(%(created_from)s::timestamptz, '-infinity')
  AND (created_at, id) < (
      coalesce(%(before)s::timestamptz, 'infinity'),
      coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY created_at DESC, id DESC
LIMIT %(page_size)s;

-- name: pick_newest_by_name :many
-- Among the newest pictures only, which are the whole page when the name is a common one.
SELECT recent.id
FROM (
    SELECT id, created_at, original_image_id, status, workflow_name, verdict
    FROM processing_jobs
    WHERE user_id = %(user_id)s AND deleted_at IS NULL
      AND created_at >= coalesce(%(created_from)s::timestamptz, '-infinity')
      AND (created_at, id) < (
          coalesce(%(before)s::timestamptz, 'infinity'),
          coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY created_at DESC, id DESC
    LIMIT 500 + 2 * %(page_size)s::integer
) AS recent
JOIN images AS photo ON photo.id = recent.original_image_id
WHERE recent.status = ANY(%(statuses)s::text[])
  AND (%(workflow)s::text IS NULL OR recent.workflow_name = %(workflow)s)
  AND (%(verdict)s::text IS NULL
       OR recent.status = 'completed' AND coalesce(recent.verdict, 'none') = %(verdict)s)
  AND position(lower(%(q)s) IN lower(photo.original_filename)) > 0
ORDER BY recent.created_at DESC, recent.id DESC
LIMIT %(page_size)s;

-- name: pick_by_name :many
-- The photos with the name first, once, then what was made of them, whatever the planner thinks of
-- how many they are.
WITH photo AS MATERIALIZED (
    SELECT id
    FROM images
    WHERE user_id = %(user_id)s AND NOT is_processed
      AND position(lower(%(q)s) IN lower(original_filename)) > 0
)
SELECT id
FROM processing_jobs
WHERE user_id = %(user_id)s AND deleted_at IS NULL
  AND original_image_id = ANY(ARRAY(SELECT id FROM photo))
  AND status = ANY(%(statuses)s::text[])
  AND (%(workflow)s::text IS NULL OR workflow_name = %(workflow)s)
  AND (%(verdict)s::text IS NULL
       OR status = 'completed' AND coalesce(verdict, 'none') = %(verdict)s)
  AND created_at >= coalesce(%(created_from)s::timestamptz, '-infinity')
  AND (created_at, id) < (
      coalesce(%(before)s::timestamptz, 'infinity'),
      coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY created_at DESC, id DESC
LIMIT %(page_size)s;

-- name: page_batches :many
-- Batches that have a picture which the filter finds; counts are of all that are not in the trash.
-- Each batch is asked for one such picture: as EXISTS the planner may join all pictures of all users.
WITH photo AS MATERIALIZED (
    SELECT id
    FROM images
    WHERE user_id = %(user_id)s AND NOT is_processed
      AND position(lower(%(q)s) IN lower(original_filename)) > 0
), page AS (
    SELECT batch.id, batch.created_at, batch.workflow_version_id
    FROM batches AS batch
    CROSS JOIN LATERAL (
        SELECT
        FROM processing_jobs AS job
        WHERE job.batch_id = batch.id AND job.deleted_at IS NULL
          AND job.status = ANY(%(statuses)s::text[])
          AND (%(workflow)s::text IS NULL OR job.workflow_name = %(workflow)s)
          AND (%(verdict)s::text IS NULL
               OR job.status = 'completed' AND coalesce(job.verdict, 'none') = %(verdict)s)
          AND (%(q)s::text IS NULL OR job.original_image_id IN (SELECT id FROM photo))
        LIMIT 1
    ) AS found
    WHERE batch.user_id = %(user_id)s
      AND batch.created_at >= coalesce(%(created_from)s::timestamptz, '-infinity')
      AND (batch.created_at, batch.id) < (
          coalesce(%(before)s::timestamptz, 'infinity'),
          coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY batch.created_at DESC, batch.id DESC
    LIMIT %(page_size)s
)
SELECT page.id, page.created_at, version.definition ->> 'name' AS workflow_title,
       pictures.photos, pictures.pictures, pictures.completed, pictures.failed, pictures.unknown,
       pictures.moving, pictures.held, pictures.approved, pictures.rejected,
       ARRAY(SELECT coalesce(job.result_image_id, job.original_image_id)
             FROM processing_jobs AS job
             WHERE job.batch_id = page.id AND job.deleted_at IS NULL
             ORDER BY job.position
             LIMIT 4) AS image_ids
FROM page
JOIN workflow_versions AS version ON version.id = page.workflow_version_id
CROSS JOIN LATERAL (
    SELECT count(DISTINCT job.original_image_id) AS photos, count(*) AS pictures,
           count(*) FILTER (WHERE job.status = 'completed') AS completed,
           count(*) FILTER (WHERE job.status IN ('failed', 'cancelled')) AS failed,
           count(*) FILTER (WHERE job.status = 'unknown') AS unknown,
           count(*) FILTER (WHERE job.status IN ('pending', 'submitting', 'processing', 'storing'))
               AS moving,
           count(*) FILTER (WHERE job.status = 'held') AS held,
           count(*) FILTER (WHERE job.verdict = 'approved') AS approved,
           count(*) FILTER (WHERE job.verdict = 'rejected') AS rejected
    FROM processing_jobs AS job
    WHERE job.batch_id = page.id AND job.deleted_at IS NULL
) AS pictures
ORDER BY page.created_at DESC, page.id DESC;

-- name: list_photos :many
-- The photos of these pictures that can still be used, newest first, up to page_size.
SELECT image.id
FROM images AS image
WHERE image.user_id = %(user_id)s AND image.deleted_at IS NULL AND image.status <> 'rejected'
  AND image.id IN (
      SELECT original_image_id
      FROM processing_jobs
      WHERE id = ANY(%(job_ids)s::uuid[]) AND user_id = %(user_id)s AND deleted_at IS NULL)
ORDER BY image.created_at DESC, image.id DESC
LIMIT %(page_size)s;

-- name: count_statuses :many
-- How these pictures stand.
SELECT status, count(*) AS count
FROM processing_jobs
WHERE id = ANY(%(job_ids)s::uuid[]) AND user_id = %(user_id)s AND deleted_at IS NULL
GROUP BY status
ORDER BY status;

-- name: head :one
-- Pictures that are not in the trash; bytes of all that is kept, the trash included; and the workflows
-- to choose from, active or not.
SELECT
    (SELECT count(*) FROM processing_jobs WHERE user_id = %(user_id)s AND deleted_at IS NULL) AS pictures,
    (SELECT coalesce(sum(file_size), 0)::bigint FROM images WHERE user_id = %(user_id)s) AS stored_bytes,
    ARRAY(SELECT id FROM workflow_configs ORDER BY id) AS workflow_ids,
    ARRAY(SELECT name FROM workflow_configs ORDER BY id) AS workflow_names;
