-- Batches: one click on "Make 24 pictures", and the references it uses.

-- name: create :optional
-- No row comes back when this client_key made a batch before: the click is a resend.
INSERT INTO batches (user_id, parent_id, workflow_version_id, parameters, variations, pilot, estimate,
                     client_key, content_digest)
VALUES (%(user_id)s, %(parent_id)s, %(workflow_version_id)s, %(parameters)s, %(variations)s, %(pilot)s,
        %(estimate)s, %(client_key)s, %(content_digest)s)
ON CONFLICT (user_id, client_key) DO NOTHING
RETURNING id;

-- name: add_reference :exec
INSERT INTO batch_references (batch_id, position, image_id)
VALUES (%(batch_id)s, %(position)s, %(image_id)s);

-- name: find :optional
SELECT batch.id, batch.user_id, batch.parent_id, version.workflow_name, batch.workflow_version_id,
       version.definition, batch.parameters, batch.variations, batch.pilot, batch.estimate,
       batch.client_key, batch.content_digest, batch.created_at
FROM batches AS batch
JOIN workflow_versions AS version ON version.id = batch.workflow_version_id
WHERE batch.id = %(batch_id)s AND batch.user_id = %(user_id)s;

-- name: find_by_client_key :optional
SELECT batch.id, batch.user_id, batch.parent_id, version.workflow_name, batch.workflow_version_id,
       version.definition, batch.parameters, batch.variations, batch.pilot, batch.estimate,
       batch.client_key, batch.content_digest, batch.created_at
FROM batches AS batch
JOIN workflow_versions AS version ON version.id = batch.workflow_version_id
WHERE batch.client_key = %(client_key)s AND batch.user_id = %(user_id)s;

-- name: list_children :many
-- Batches that make pictures of this one again, oldest first.
SELECT batch.id, batch.user_id, batch.parent_id, version.workflow_name, batch.workflow_version_id,
       version.definition, batch.parameters, batch.variations, batch.pilot, batch.estimate,
       batch.client_key, batch.content_digest, batch.created_at
FROM batches AS batch
JOIN workflow_versions AS version ON version.id = batch.workflow_version_id
WHERE batch.parent_id = %(batch_id)s AND batch.user_id = %(user_id)s
  AND EXISTS (
      SELECT FROM processing_jobs AS job WHERE job.batch_id = batch.id AND job.deleted_at IS NULL)
ORDER BY batch.created_at, batch.id;

-- name: find_last_used :optional
-- What the user last made pictures with in this workflow.
SELECT batch.parameters
FROM batches AS batch
JOIN workflow_versions AS version ON version.id = batch.workflow_version_id
WHERE batch.user_id = %(user_id)s AND version.workflow_name = %(workflow_name)s
ORDER BY batch.created_at DESC, batch.id DESC
LIMIT 1;

-- name: find_version :optional
-- The revisions only grow, so their sum moves with every commit, in whatever order they come. Whoever
-- has nothing that waits has no place in line to ask for.
SELECT (SELECT coalesce(sum(revision), 0)::bigint FROM processing_jobs WHERE batch_id = batch.id) AS revision,
       EXISTS (SELECT FROM processing_jobs WHERE user_id = batch.user_id AND status = 'pending') AS waits,
       clock_timestamp() AS read_at
FROM batches AS batch
WHERE batch.id = %(batch_id)s AND batch.user_id = %(user_id)s;
