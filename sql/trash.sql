-- The trash: what was thrown away can come back for some days. The ledger is never touched.

-- name: throw_away :exec
-- Pictures go to the trash; what waits is cancelled, free. What is just being made stays.
UPDATE processing_jobs
SET deleted_at = now(),
    status = CASE WHEN status IN ('held', 'pending') THEN 'cancelled' ELSE status END,
    attention = CASE WHEN status NOT IN ('held', 'pending') THEN attention END,
    completed_at = coalesce(completed_at, now())
WHERE id = ANY(%(job_ids)s::uuid[]) AND user_id = %(user_id)s AND deleted_at IS NULL
  AND status IN ('held', 'pending', 'completed', 'failed', 'cancelled');

-- name: restore_jobs :exec
-- These, those of a batch, or all.
UPDATE processing_jobs
SET deleted_at = NULL
WHERE user_id = %(user_id)s AND deleted_at IS NOT NULL
  AND (%(job_ids)s::uuid[] IS NULL OR id = ANY(%(job_ids)s))
  AND (%(batch_id)s::uuid IS NULL OR batch_id = %(batch_id)s);

-- name: restore_photos :exec
UPDATE images SET deleted_at = NULL WHERE user_id = %(user_id)s AND deleted_at IS NOT NULL;

-- name: find_thrown :one
-- What lies in the trash of a picture, or of a batch, and since when.
SELECT count(*) AS pictures, min(deleted_at) AS deleted_at
FROM processing_jobs
WHERE user_id = %(user_id)s AND deleted_at IS NOT NULL
  AND (id = %(job_id)s::uuid OR batch_id = %(batch_id)s::uuid);

-- name: page_newest :many
-- Pictures and photos together. A photo is kept as long as pictures made with it are.
SELECT thing.is_job, thing.id, thing.deleted_at,
       CASE WHEN result.has_preview THEN result.id ELSE photo.id END AS image_id,
       photo.original_filename,
       NOT thing.is_job AND (
           EXISTS (SELECT FROM processing_jobs AS job
                   WHERE job.original_image_id = photo.id AND job.deleted_at IS NULL)
           OR EXISTS (SELECT FROM batch_references AS reference
                      JOIN processing_jobs AS job ON job.batch_id = reference.batch_id
                      WHERE reference.image_id = photo.id AND job.deleted_at IS NULL)) AS is_needed
FROM (
    (SELECT true AS is_job, id, deleted_at, original_image_id, result_image_id
     FROM processing_jobs
     WHERE user_id = %(user_id)s AND deleted_at IS NOT NULL
       AND (deleted_at, id) < (
           coalesce(%(before)s::timestamptz, 'infinity'),
           coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
     ORDER BY deleted_at DESC, id DESC
     LIMIT %(page_size)s)
    UNION ALL
    (SELECT false, id, deleted_at, id, NULL
     FROM images
     WHERE user_id = %(user_id)s AND deleted_at IS NOT NULL
       AND (deleted_at, id) < (
           coalesce(%(before)s::timestamptz, 'infinity'),
           coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
     ORDER BY deleted_at DESC, id DESC
     LIMIT %(page_size)s)
) AS thing
JOIN images AS photo ON photo.id = thing.original_image_id
LEFT JOIN images AS result ON result.id = thing.result_image_id
ORDER BY thing.deleted_at DESC, thing.id DESC
LIMIT %(page_size)s;

-- name: totals :one
-- What lies in the trash, and the bytes that are free again without it.
SELECT
    (SELECT count(*) FROM processing_jobs
     WHERE user_id = %(user_id)s AND deleted_at IS NOT NULL) AS pictures,
    (SELECT count(*) FROM images WHERE user_id = %(user_id)s AND deleted_at IS NOT NULL) AS photos,
    (SELECT coalesce(sum(result.file_size), 0)
     FROM processing_jobs AS job
     JOIN images AS result ON result.id = job.result_image_id
     WHERE job.user_id = %(user_id)s AND job.deleted_at IS NOT NULL)::bigint
    + (SELECT coalesce(sum(file_size), 0) FROM images
       WHERE user_id = %(user_id)s AND deleted_at IS NOT NULL)::bigint AS stored_bytes;

-- name: lock_jobs_to_purge :many
-- Thrown away long enough ago, of one user or of all, and at an end: not while something of theirs is
-- at fal, or may still come from there.
SELECT id, batch_id
FROM processing_jobs AS job
WHERE deleted_at <= coalesce(%(now)s::timestamptz, now()) - make_interval(days => %(days)s::integer)
  AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
  AND status IN ('completed', 'failed', 'cancelled')
  AND NOT EXISTS (
      SELECT FROM submissions
      WHERE submissions.job_id = job.id
        AND (state IN ('intent', 'sent', 'accepted', 'unknown') OR look_until IS NOT NULL))
LIMIT %(page_size)s
FOR UPDATE SKIP LOCKED;

-- name: list_images_of_jobs :many
SELECT result_image_id AS id FROM processing_jobs
WHERE id = ANY(%(job_ids)s::uuid[]) AND result_image_id IS NOT NULL
UNION ALL
SELECT image_id FROM further_outputs WHERE job_id = ANY(%(job_ids)s::uuid[]);

-- name: lock_photos_to_purge :many
-- Thrown away long enough ago, and no picture is there that was made from it or with it.
SELECT id
FROM images AS photo
WHERE deleted_at <= coalesce(%(now)s::timestamptz, now()) - make_interval(days => %(days)s::integer)
  AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
  AND (lease_until IS NULL OR lease_until < now())
  AND NOT EXISTS (SELECT FROM processing_jobs AS job WHERE job.original_image_id = photo.id)
  AND NOT EXISTS (
      SELECT FROM batch_references AS reference
      JOIN processing_jobs AS job ON job.batch_id = reference.batch_id
      WHERE reference.image_id = photo.id)
LIMIT %(page_size)s
FOR UPDATE SKIP LOCKED;

-- name: purge_jobs :exec
DELETE FROM processing_jobs WHERE id = ANY(%(job_ids)s::uuid[]);

-- name: purge_images :many
DELETE FROM images WHERE id = ANY(%(image_ids)s::uuid[]) RETURNING id, user_id;

-- name: purge_batches :exec
-- A batch without pictures is nothing any more.
DELETE FROM batches AS batch
WHERE id = ANY(%(batch_ids)s::uuid[])
  AND NOT EXISTS (SELECT FROM processing_jobs WHERE processing_jobs.batch_id = batch.id);
