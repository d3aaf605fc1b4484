-- Forgets the stories of jobs, callbacks and which further pictures belong to which job.
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
    newest.sent_at, newest.charged, newest.estimate, ledger.cost
FROM processing_jobs AS job
JOIN workflow_versions AS version ON version.id = job.workflow_version_id
JOIN images AS original ON original.id = job.original_image_id
LEFT JOIN images AS result ON result.id = job.result_image_id
LEFT JOIN LATERAL (
    SELECT sent_at, estimate,
           CASE WHEN state IN ('rejected', 'abandoned', 'intent') THEN 'no'
                ELSE coalesce(charged, 'unknown') END AS charged
    FROM submissions WHERE job_id = job.id
    ORDER BY created_at DESC, id DESC
    LIMIT 1
) AS newest ON true
LEFT JOIN LATERAL (
    SELECT sum(coalesce(submissions.cost, submissions.estimate)) AS cost
    FROM submissions WHERE job_id = job.id AND submissions.charged = 'yes'
) AS ledger ON true;

ALTER TABLE processing_jobs DROP COLUMN gone_since;
DROP INDEX processing_jobs_asked_index;
CREATE INDEX submissions_endpoint_sent_index ON submissions (endpoint, sent_at);
DROP INDEX submissions_sent_index;
DROP TABLE further_outputs;
ALTER TABLE submissions
    DROP CONSTRAINT submissions_look_only_after_end,
    DROP CONSTRAINT submissions_look_has_end,
    DROP COLUMN look_until,
    DROP COLUMN look_after;
DROP TABLE breaker;
DROP TABLE webhook_events;
DROP TRIGGER submissions_never_truncated ON submissions;
DROP TRIGGER processing_jobs_transition ON processing_jobs;
DROP TRIGGER processing_jobs_created ON processing_jobs;
DROP TABLE job_events;
DROP FUNCTION record_transition();
DROP FUNCTION is_legal_transition(text, text);
