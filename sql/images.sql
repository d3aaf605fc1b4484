-- Images: uploads and results. Rows are written after their bytes are safe in the blob store.

-- name: create_upload :one
-- Bytes that the user has already are refused (images_upload_key): look first, under users.lock.
-- What comes within ten minutes of the photo before belongs to the same upload, however many
-- requests it is: there it stands in name order.
INSERT INTO images (id, user_id, filename, original_filename, blob_url, sha256, file_size,
                    mime_type, width, height, upload_began_at)
VALUES (%(image_id)s, %(user_id)s, %(filename)s, %(original_filename)s, %(blob_url)s, %(sha256)s,
        %(file_size)s, %(mime_type)s, %(width)s, %(height)s,
        coalesce((SELECT earlier.upload_began_at
                  FROM images AS earlier
                  WHERE earlier.user_id = %(user_id)s AND NOT earlier.is_processed
                    AND earlier.created_at > now() - interval '10 minutes'
                  ORDER BY earlier.created_at DESC, earlier.id DESC
                  LIMIT 1), now()))
RETURNING id, user_id, filename, original_filename, blob_url, sha256, file_size, mime_type, width,
          height, is_processed, status, rejection, has_preview, created_at, deleted_at;

-- name: create_result :exec
-- A result is ready at once: it was decoded, or is kept without a preview, before this row.
-- The same picture stored again after a crash is the same row.
INSERT INTO images (id, user_id, filename, original_filename, blob_url, sha256, file_size,
                    mime_type, width, height, is_processed, status, has_preview)
VALUES (%(image_id)s, %(user_id)s, %(filename)s, %(original_filename)s, %(blob_url)s, %(sha256)s,
        %(file_size)s, %(mime_type)s, %(width)s, %(height)s, true, 'ready', %(has_preview)s)
ON CONFLICT (id) DO NOTHING;

-- name: add_further_output :exec
-- A picture of a job beside its result; the same one again changes nothing.
INSERT INTO further_outputs (image_id, job_id, submission_id)
VALUES (%(image_id)s, %(job_id)s, %(submission_id)s)
ON CONFLICT (image_id) DO NOTHING;

-- name: find :optional
SELECT id, user_id, filename, original_filename, blob_url, sha256, file_size, mime_type, width,
       height, is_processed, status, rejection, has_preview, created_at, deleted_at
FROM images
WHERE id = %(image_id)s AND user_id = %(user_id)s;

-- name: find_visible :optional
-- Unless only the trash shows something of it: a photo that is not there or has a picture, a picture
-- whose job is there.
SELECT id, user_id, filename, original_filename, blob_url, sha256, file_size, mime_type, width,
       height, is_processed, status, rejection, has_preview, created_at, deleted_at
FROM images
WHERE id = %(image_id)s AND user_id = %(user_id)s
  AND (NOT is_processed AND deleted_at IS NULL
       OR EXISTS (
           SELECT FROM processing_jobs AS job
           WHERE (job.result_image_id = images.id OR job.original_image_id = images.id)
             AND job.deleted_at IS NULL)
       OR EXISTS (
           SELECT FROM further_outputs AS output
           JOIN processing_jobs AS job ON job.id = output.job_id
           WHERE output.image_id = images.id AND job.deleted_at IS NULL)
       OR EXISTS (
           SELECT FROM batch_references AS reference
           JOIN processing_jobs AS job ON job.batch_id = reference.batch_id
           WHERE reference.image_id = images.id AND job.deleted_at IS NULL));

-- name: find_of_sample :optional
-- One side of a workflow's sample, which everybody may see; the sample is asked of workflows.find.
SELECT images.id, images.user_id, filename, original_filename, blob_url, sha256, file_size, mime_type,
       width, height, is_processed, images.status, rejection, has_preview, images.created_at,
       images.deleted_at
FROM processing_jobs AS job
JOIN images ON images.id = CASE WHEN %(is_result)s::boolean THEN job.result_image_id
                                ELSE job.original_image_id END
WHERE job.id = %(job_id)s;

-- name: find_upload_by_sha256 :optional
SELECT id, user_id, filename, original_filename, blob_url, sha256, file_size, mime_type, width,
       height, is_processed, status, rejection, has_preview, created_at, deleted_at
FROM images
WHERE user_id = %(user_id)s AND sha256 = %(sha256)s AND NOT is_processed;

-- name: find_uploads :many
-- The user's own uploads among the ids, in name order, which is the order of a shoot.
SELECT id, user_id, filename, original_filename, blob_url, sha256, file_size, mime_type, width,
       height, is_processed, status, rejection, has_preview, created_at, deleted_at
FROM images
WHERE id = ANY(%(image_ids)s::uuid[]) AND user_id = %(user_id)s
  AND NOT is_processed AND deleted_at IS NULL
ORDER BY sort_name, created_at, id;

-- name: list_of_batch :many
-- Its photos that can still be used, in name order: of all its pictures, of those in a state, or of
-- those with a verdict.
SELECT id, user_id, filename, original_filename, blob_url, sha256, file_size, mime_type, width,
       height, is_processed, status, rejection, has_preview, created_at, deleted_at
FROM images
WHERE user_id = %(user_id)s AND NOT is_processed AND deleted_at IS NULL
  AND id IN (
      SELECT original_image_id
      FROM processing_jobs
      WHERE batch_id = %(batch_id)s AND user_id = %(user_id)s AND deleted_at IS NULL
        AND (%(status)s::text IS NULL OR processing_jobs.status = %(status)s)
        AND (%(verdict)s::text IS NULL OR verdict = %(verdict)s))
ORDER BY sort_name, created_at, id;

-- name: lock_uploads :exec
-- Nothing turns `rejected` between the look at the photos and the batch that uses them.
SELECT FROM images WHERE id = ANY(%(image_ids)s::uuid[]) ORDER BY id FOR SHARE;

-- name: find_references :many
SELECT image.id, image.user_id, image.filename, image.original_filename, image.blob_url, image.sha256,
       image.file_size, image.mime_type, image.width, image.height, image.is_processed, image.status,
       image.rejection, image.has_preview, image.created_at, image.deleted_at
FROM batch_references AS reference
JOIN images AS image ON image.id = reference.image_id
WHERE reference.batch_id = %(batch_id)s
ORDER BY reference.position;

-- name: list_further_outputs :many
SELECT image.id, image.user_id, image.filename, image.original_filename, image.blob_url, image.sha256,
       image.file_size, image.mime_type, image.width, image.height, image.is_processed, image.status,
       image.rejection, image.has_preview, image.created_at, image.deleted_at
FROM further_outputs AS output
JOIN images AS image ON image.id = output.image_id
WHERE output.job_id = %(job_id)s AND image.user_id = %(user_id)s
ORDER BY output.arrived_at, image.id;

-- name: list_results :many
-- The files that jobs have made, what came late beside them, in the photos' name order.
SELECT job.id AS job_id, job.parameters, version.version AS workflow_version, image.original_filename,
       image.blob_url, image.sha256, image.file_size, image.created_at
FROM unnest(%(job_ids)s::uuid[]) AS chosen (id)
JOIN processing_jobs AS job ON job.id = chosen.id
JOIN workflow_versions AS version ON version.id = job.workflow_version_id
CROSS JOIN LATERAL (
    SELECT job.result_image_id AS image_id
    UNION ALL
    SELECT output.image_id FROM further_outputs AS output WHERE output.job_id = job.id
) AS made
JOIN images AS image ON image.id = made.image_id
JOIN images AS photo ON photo.id = job.original_image_id
WHERE job.user_id = %(user_id)s AND job.deleted_at IS NULL
ORDER BY photo.sort_name, photo.created_at, photo.id, image.sort_name, image.created_at, image.id;

-- name: page_uploads :many
-- The newest upload first, its photos in name order. The place of the cursor's photo is looked up;
-- where it is gone, its upload begins anew, so that no photo is left out.
WITH place AS (
    SELECT upload_began_at, sort_name
    FROM images
    WHERE id = %(before_id)s AND user_id = %(user_id)s
)
SELECT id, user_id, filename, original_filename, blob_url, sha256, file_size, mime_type, width,
       height, is_processed, status, rejection, has_preview, created_at, deleted_at
FROM images
WHERE user_id = %(user_id)s AND NOT is_processed AND deleted_at IS NULL
  AND (%(status)s::text IS NULL OR status = %(status)s)
  AND upload_began_at <= coalesce(
      (SELECT upload_began_at FROM place), %(before)s::timestamptz, 'infinity')
  AND (upload_began_at < coalesce(
           (SELECT upload_began_at FROM place), %(before)s::timestamptz, 'infinity')
       OR (sort_name, id) > (
           coalesce((SELECT sort_name FROM place), ''),
           coalesce(%(before_id)s::uuid, '00000000-0000-0000-0000-000000000000')))
ORDER BY upload_began_at DESC, sort_name, id
LIMIT %(page_size)s;

-- name: page_stored :many
-- Everybody's, for the check of the store.
SELECT id, user_id, is_processed, original_filename, blob_url, sha256, file_size, has_preview, lost_at
FROM images
WHERE id > coalesce(%(after_id)s::uuid, '00000000-0000-0000-0000-000000000000')
ORDER BY id
LIMIT %(page_size)s;

-- name: find_stored :optional
SELECT id, user_id, is_processed, original_filename, blob_url, sha256, file_size, has_preview, lost_at
FROM images
WHERE id = %(image_id)s;

-- name: list_stored :many
SELECT id, user_id, is_processed, original_filename, blob_url, sha256, file_size, has_preview, lost_at
FROM images
WHERE id = ANY(%(image_ids)s::uuid[])
ORDER BY id;

-- name: stored_bytes :one
SELECT coalesce(sum(file_size), 0)::bigint AS count FROM images WHERE user_id = %(user_id)s;

-- name: sum_bytes :many
-- Of all users: uploads and results.
SELECT is_processed, count(*) AS count, coalesce(sum(file_size), 0)::bigint AS stored_bytes
FROM images
GROUP BY is_processed
ORDER BY is_processed;

-- name: claim_preparing :optional
-- Lease one image for decoding; a lease that ran out counts as a crash of the worker that held it.
WITH next AS (
    SELECT id
    FROM images
    WHERE status = 'preparing'
      AND run_after <= coalesce(%(now)s::timestamptz, now())
      AND (lease_until IS NULL OR lease_until < coalesce(%(now)s::timestamptz, now()))
    ORDER BY run_after
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE images AS image
SET crashes = image.crashes + CASE WHEN image.lease_until IS NULL THEN 0 ELSE 1 END,
    lease_until = coalesce(%(now)s::timestamptz, now()) + make_interval(secs => %(lease_seconds)s::float8),
    fence = image.fence + 1
FROM next
WHERE image.id = next.id
RETURNING image.id, image.user_id, image.blob_url, image.original_filename, image.fence, image.crashes;

-- name: finish_preparing :exec
UPDATE images
SET status = 'ready', has_preview = true, width = %(width)s, height = %(height)s, lease_until = NULL
WHERE id = %(image_id)s AND status = 'preparing' AND fence = %(fence)s;

-- name: reject :exec
UPDATE images
SET status = 'rejected', rejection = %(rejection)s, lease_until = NULL
WHERE id = %(image_id)s AND status = 'preparing' AND fence = %(fence)s;

-- name: postpone_preparing :exec
-- This machine is in trouble, not the photo, so it does not count as a crash.
UPDATE images
SET lease_until = NULL, run_after = now() + make_interval(secs => %(delay_seconds)s::float8)
WHERE id = %(image_id)s AND status = 'preparing' AND fence = %(fence)s;

-- name: lease_ready :optional
-- Hold a photo while its copy for fal is made; a lease that ran out counts as a crash, as above.
UPDATE images
SET crashes = crashes + CASE WHEN lease_until IS NULL THEN 0 ELSE 1 END,
    lease_until = coalesce(%(now)s::timestamptz, now()) + make_interval(secs => %(lease_seconds)s::float8),
    fence = fence + 1
WHERE id = %(image_id)s AND status = 'ready'
  AND (lease_until IS NULL OR lease_until < coalesce(%(now)s::timestamptz, now()))
RETURNING fence, crashes;

-- name: renew_lease :exec
UPDATE images
SET lease_until = now() + make_interval(secs => %(lease_seconds)s::float8)
WHERE id = %(image_id)s AND fence = %(fence)s AND lease_until IS NOT NULL;

-- name: end_lease :exec
UPDATE images
SET lease_until = NULL, crashes = 0
WHERE id = %(image_id)s AND fence = %(fence)s AND status = 'ready' AND lease_until IS NOT NULL;

-- name: mark_lost :exec
-- Its original is gone or not what it was: nothing is made of it, and whoever decodes it gives up.
UPDATE images
SET status = 'rejected', rejection = coalesce(rejection, %(rejection)s), has_preview = false,
    lease_until = NULL, fence = fence + 1, lost_at = now()
WHERE id = %(image_id)s AND lost_at IS NULL;

-- name: mark_found :exec
-- The bytes are there again. An upload is prepared anew; the copies of a result are seen to next.
UPDATE images
SET status = CASE WHEN is_processed THEN 'ready' ELSE 'preparing' END, rejection = NULL,
    lost_at = NULL, run_after = now(), crashes = 0
WHERE id = %(image_id)s AND lost_at IS NOT NULL;

-- name: show_preview :exec
-- What has whole copies.
UPDATE images SET has_preview = true WHERE id = %(image_id)s AND status = 'ready';

-- name: set_deleted :exec
-- To the trash, or back from it.
UPDATE images
SET deleted_at = CASE WHEN %(deleted)s::boolean THEN coalesce(deleted_at, now()) END
WHERE id = %(image_id)s AND user_id = %(user_id)s AND NOT is_processed;

-- name: notify_work :exec
-- Wakes the workers that listen, when the surrounding transaction commits.
SELECT pg_notify('i2i_work', '');
