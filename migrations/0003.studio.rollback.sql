-- Takes back 0003.studio.sql. Verdicts, presets and links between jobs are lost.
DROP VIEW job_cards;
CREATE VIEW job_cards AS
SELECT
    job.id, job.user_id, job.batch_id, job.position, job.variation, job.status, job.attention,
    job.cancel_requested_at, job.error_code, job.error_message, job.queue_position,
    job.processing_time_ms, job.parameters, job.workflow_name,
    version.definition ->> 'name' AS workflow_title,
    (version.definition ->> 'usual_seconds')::integer AS usual_seconds,
    job.created_at, job.updated_at, job.started_at, job.completed_at, job.deleted_at,
    job.original_image_id, original.original_filename, original.status AS original_status,
    original.width AS original_width, original.height AS original_height,
    job.result_image_id, result.width AS result_width, result.height AS result_height,
    result.file_size AS result_file_size, result.mime_type AS result_mime_type,
    result.has_preview AS result_has_preview,
    ledger.sent_at, ledger.charged, ledger.estimate, ledger.cost,
    ledger.perhaps,
    (SELECT count(*) FROM further_outputs WHERE further_outputs.job_id = job.id) AS further
FROM processing_jobs AS job
JOIN workflow_versions AS version ON version.id = job.workflow_version_id
JOIN images AS original ON original.id = job.original_image_id
LEFT JOIN images AS result ON result.id = job.result_image_id
LEFT JOIN LATERAL (
    SELECT max(submission.sent_at) AS sent_at,
           CASE WHEN bool_or(submission.charged = 'yes') THEN 'yes'
                WHEN bool_or(submission.charged = 'unknown'
                             OR submission.state IN ('sent', 'accepted', 'unknown')) THEN 'unknown'
                ELSE 'no' END AS charged,
           ((array_agg(submission.estimate ORDER BY submission.created_at DESC))[1])::numeric(12, 4)
               AS estimate,
           sum(coalesce(submission.cost, submission.estimate))
               FILTER (WHERE submission.charged = 'yes') AS cost,
           sum(submission.estimate)
               FILTER (WHERE submission.charged = 'unknown' OR submission.state = 'unknown') AS perhaps
    FROM submissions AS submission
    WHERE submission.job_id = job.id
) AS ledger ON true;

DROP TABLE workers;
CREATE OR REPLACE FUNCTION workflow_definition(workflow workflow_configs) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(workflow)
        - ARRAY['is_active', 'version', 'seed_digest', 'created_at', 'updated_at'];
$$;
DROP INDEX workflow_configs_sample_index;
ALTER TABLE workflow_configs DROP COLUMN sample_job_id;
ALTER TABLE users DROP COLUMN review_keys, DROP COLUMN time_zone;
DROP TABLE presets;
DROP INDEX submissions_failed_index;
DROP INDEX processing_jobs_trouble_index;
DROP INDEX images_trash_index;
DROP INDEX processing_jobs_trash_index;
DROP INDEX processing_jobs_user_verdict_index;
DROP INDEX processing_jobs_user_workflow_index;
DROP INDEX processing_jobs_user_status_index;
DROP INDEX processing_jobs_pending_index;
CREATE INDEX processing_jobs_pending_index ON processing_jobs (user_id, created_at, position)
    WHERE status = 'pending';
DROP TRIGGER processing_jobs_revision ON processing_jobs;
CREATE TRIGGER processing_jobs_revision BEFORE UPDATE ON processing_jobs
    FOR EACH ROW WHEN (
        (OLD.status, OLD.attention, OLD.cancel_requested_at, OLD.queue_position, OLD.result_image_id,
         OLD.error_message, OLD.started_at, OLD.deleted_at)
        IS DISTINCT FROM
        (NEW.status, NEW.attention, NEW.cancel_requested_at, NEW.queue_position, NEW.result_image_id,
         NEW.error_message, NEW.started_at, NEW.deleted_at))
    EXECUTE FUNCTION bump_revision();
DROP INDEX batches_parent_index;
DROP INDEX processing_jobs_parent_index;
ALTER TABLE processing_jobs
    DROP CONSTRAINT processing_jobs_reason_only_when_rejected,
    DROP CONSTRAINT processing_jobs_verdict_has_time,
    DROP CONSTRAINT processing_jobs_verdict_of_a_picture,
    DROP COLUMN number,
    DROP COLUMN parent_id,
    DROP COLUMN verdict_at,
    DROP COLUMN verdict_note,
    DROP COLUMN verdict_reason,
    DROP COLUMN verdict;
