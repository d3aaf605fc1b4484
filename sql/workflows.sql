-- Workflows: the current values in workflow_configs; triggers number and copy every saved state
-- into workflow_versions, where jobs point.

-- name: save :exec
-- Create or replace one. An unchanged definition makes no new version (the trigger compares).
INSERT INTO workflow_configs (
    id, name, description, fal_endpoint, parameter_schema, default_parameters, request_template,
    unit_price, price_unit, currency, max_side, formats, max_references,
    deadline_seconds, usual_seconds, is_active, seed_digest)
VALUES (
    %(workflow_id)s, %(name)s, %(description)s, %(fal_endpoint)s, %(parameter_schema)s,
    %(default_parameters)s, %(request_template)s, %(unit_price)s, %(price_unit)s, %(currency)s,
    %(max_side)s, %(formats)s, %(max_references)s,
    %(deadline_seconds)s, %(usual_seconds)s, %(is_active)s, %(seed_digest)s)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name,
    description = excluded.description,
    fal_endpoint = excluded.fal_endpoint,
    parameter_schema = excluded.parameter_schema,
    default_parameters = excluded.default_parameters,
    request_template = excluded.request_template,
    unit_price = excluded.unit_price,
    price_unit = excluded.price_unit,
    currency = excluded.currency,
    max_side = excluded.max_side,
    formats = excluded.formats,
    max_references = excluded.max_references,
    deadline_seconds = excluded.deadline_seconds,
    usual_seconds = excluded.usual_seconds,
    is_active = excluded.is_active,
    seed_digest = excluded.seed_digest;

-- name: find :optional
-- A sample is one only as long as both of its pictures can be shown.
SELECT workflow.id, workflow.is_active, workflow.version, version.id AS version_id,
       version.definition, workflow.seed_digest, workflow.created_at, workflow.updated_at,
       (SELECT sample.id
        FROM processing_jobs AS sample
        JOIN images AS original ON original.id = sample.original_image_id
        JOIN images AS result ON result.id = sample.result_image_id
        WHERE sample.id = workflow.sample_job_id AND sample.deleted_at IS NULL
          AND original.has_preview AND original.deleted_at IS NULL
          AND result.has_preview AND result.deleted_at IS NULL) AS sample_job_id
FROM workflow_configs AS workflow
JOIN workflow_versions AS version
  ON version.workflow_name = workflow.id AND version.version = workflow.version
WHERE workflow.id = %(workflow_id)s;

-- name: list_pairs :many
-- The admin's own finished pictures that may stand for the workflow, newest first; none rejected.
SELECT job.id, original.id AS original_image_id, result.id AS result_image_id,
       original.original_filename
FROM processing_jobs AS job
JOIN images AS original ON original.id = job.original_image_id
JOIN images AS result ON result.id = job.result_image_id
WHERE job.user_id = %(user_id)s AND job.workflow_name = %(workflow_id)s
  AND job.status = 'completed' AND job.deleted_at IS NULL
  AND job.verdict IS DISTINCT FROM 'rejected'
  AND original.has_preview AND original.deleted_at IS NULL
  AND result.has_preview AND result.deleted_at IS NULL
ORDER BY job.created_at DESC, job.id DESC
LIMIT %(page_size)s;

-- name: list_all :many
SELECT workflow.id, workflow.is_active, workflow.version, version.id AS version_id,
       version.definition, workflow.seed_digest, workflow.created_at, workflow.updated_at,
       (SELECT sample.id
        FROM processing_jobs AS sample
        JOIN images AS original ON original.id = sample.original_image_id
        JOIN images AS result ON result.id = sample.result_image_id
        WHERE sample.id = workflow.sample_job_id AND sample.deleted_at IS NULL
          AND original.has_preview AND original.deleted_at IS NULL
          AND result.has_preview AND result.deleted_at IS NULL) AS sample_job_id
FROM workflow_configs AS workflow
JOIN workflow_versions AS version
  ON version.workflow_name = workflow.id AND version.version = workflow.version
WHERE workflow.is_active OR NOT %(only_active)s::boolean
ORDER BY workflow.id;

-- name: list_overview :many
-- For operators: each with how often it was used.
SELECT workflow.id, workflow.name, workflow.is_active, workflow.version, workflow.unit_price,
       workflow.price_unit, workflow.updated_at, used.jobs, used.waiting
FROM workflow_configs AS workflow
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs, count(*) FILTER (WHERE status IN ('held', 'pending')) AS waiting
    FROM processing_jobs WHERE workflow_name = workflow.id
) AS used
ORDER BY workflow.id;

-- name: list_versions :many
-- Newest first.
SELECT version, definition, created_at
FROM workflow_versions
WHERE workflow_name = %(workflow_id)s
ORDER BY version DESC;

-- name: set_active :exec
UPDATE workflow_configs SET is_active = %(is_active)s WHERE id = %(workflow_id)s;

-- name: set_sample :exec
-- A finished picture of this workflow and of the admin who chooses it.
UPDATE workflow_configs SET sample_job_id = job.id
FROM processing_jobs AS job
WHERE workflow_configs.id = %(workflow_id)s AND job.id = %(job_id)s
  AND job.user_id = %(user_id)s AND job.workflow_name = workflow_configs.id
  AND job.status = 'completed' AND job.deleted_at IS NULL;

-- name: remove_sample :exec
UPDATE workflow_configs SET sample_job_id = NULL WHERE id = %(workflow_id)s;

-- name: delete :exec
-- Its versions go too; refused by processing_jobs_workflow_fkey while jobs name it.
DELETE FROM workflow_configs WHERE id = %(workflow_id)s;
