-- What the studio keeps: verdicts, where a picture comes from, presets, and how a person likes it.
-- depends: 0002.paid-once

-- What a person thinks of a result. A verdict is of a picture, so it needs one.
ALTER TABLE processing_jobs
    ADD COLUMN verdict text
        CONSTRAINT processing_jobs_verdict_known CHECK (verdict IN ('approved', 'rejected')),
    ADD COLUMN verdict_reason text
        CONSTRAINT processing_jobs_verdict_reason_known CHECK (verdict_reason IN (
            'colour', 'logo', 'fit', 'anatomy', 'background', 'other')),
    ADD COLUMN verdict_note text NOT NULL DEFAULT ''
        CONSTRAINT processing_jobs_verdict_note_length CHECK (length(verdict_note) <= 1000),
    ADD COLUMN verdict_at timestamptz,
    -- The job that this one makes again with other settings, in the parent batch.
    ADD COLUMN parent_id uuid
        CONSTRAINT processing_jobs_parent_fkey REFERENCES processing_jobs ON DELETE SET NULL,
    -- Which of its photo's pictures with this workflow it is: the last number of the file's name.
    ADD COLUMN number integer NOT NULL DEFAULT 1
        CONSTRAINT processing_jobs_number_positive CHECK (number > 0),
    ADD CONSTRAINT processing_jobs_verdict_of_a_picture CHECK (verdict IS NULL OR status = 'completed'),
    ADD CONSTRAINT processing_jobs_verdict_has_time CHECK ((verdict IS NULL) = (verdict_at IS NULL)),
    ADD CONSTRAINT processing_jobs_reason_only_when_rejected CHECK (
        verdict_reason IS NULL OR verdict IS NOT DISTINCT FROM 'rejected');
UPDATE processing_jobs AS job SET number = counted.number
FROM (SELECT id, row_number() OVER (
          PARTITION BY original_image_id, workflow_name ORDER BY created_at, position) AS number
      FROM processing_jobs) AS counted
WHERE job.id = counted.id AND counted.number > 1;
CREATE INDEX processing_jobs_parent_index ON processing_jobs (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX batches_parent_index ON batches (parent_id) WHERE parent_id IS NOT NULL;

-- A verdict changes what a page shows, as a state does.
DROP TRIGGER processing_jobs_revision ON processing_jobs;
CREATE TRIGGER processing_jobs_revision BEFORE UPDATE ON processing_jobs
    FOR EACH ROW WHEN (
        (OLD.status, OLD.attention, OLD.cancel_requested_at, OLD.queue_position, OLD.result_image_id,
         OLD.error_message, OLD.started_at, OLD.deleted_at, OLD.verdict, OLD.verdict_reason,
         OLD.verdict_note)
        IS DISTINCT FROM
        (NEW.status, NEW.attention, NEW.cancel_requested_at, NEW.queue_position, NEW.result_image_id,
         NEW.error_message, NEW.started_at, NEW.deleted_at, NEW.verdict, NEW.verdict_reason,
         NEW.verdict_note))
    EXECUTE FUNCTION bump_revision();

-- The queue: what was being sent when its worker crashed goes last.
DROP INDEX processing_jobs_pending_index;
CREATE INDEX processing_jobs_pending_index ON processing_jobs (user_id, crashes, created_at, position)
    WHERE status = 'pending';

-- Filters of the history, newest first; what is in the trash has an index of its own.
CREATE INDEX processing_jobs_user_status_index ON processing_jobs
    (user_id, status, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX processing_jobs_user_workflow_index ON processing_jobs
    (user_id, workflow_name, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX processing_jobs_user_verdict_index ON processing_jobs
    (user_id, (coalesce(verdict, 'none')), created_at DESC, id DESC)
    WHERE deleted_at IS NULL AND status = 'completed';
CREATE INDEX processing_jobs_trash_index ON processing_jobs (user_id, deleted_at DESC, id DESC)
    WHERE deleted_at IS NOT NULL;
CREATE INDEX images_trash_index ON images (user_id, deleted_at DESC, id DESC)
    WHERE deleted_at IS NOT NULL;

-- What failed or needs a person, of all users, for operators.
CREATE INDEX processing_jobs_trouble_index ON processing_jobs (created_at DESC, id DESC)
    WHERE status IN ('failed', 'unknown') OR attention IS NOT NULL;
CREATE INDEX submissions_failed_index ON submissions (sent_at DESC)
    WHERE state IN ('rejected', 'unknown') OR outcome IN ('error', 'expired');

-- Settings under a name of the user's own.
CREATE TABLE presets (
    id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT presets_pkey PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT presets_user_fkey REFERENCES users ON DELETE CASCADE,
    workflow_name text NOT NULL
        CONSTRAINT presets_workflow_fkey REFERENCES workflow_configs ON DELETE CASCADE,
    name text NOT NULL CONSTRAINT presets_name_length CHECK (length(name) BETWEEN 1 AND 60),
    parameters jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX presets_name_key ON presets (user_id, workflow_name, lower(name));

-- How a person likes to work: clocks in their own time (null: not known yet), review by keys.
ALTER TABLE users
    ADD COLUMN time_zone text,
    ADD COLUMN review_keys boolean NOT NULL DEFAULT true;

-- A finished pair that shows what a workflow does; a picture of the admin who chose it. It is no
-- part of the definition, so choosing it makes no new version.
ALTER TABLE workflow_configs ADD COLUMN sample_job_id uuid
    CONSTRAINT workflow_configs_sample_fkey REFERENCES processing_jobs ON DELETE SET NULL;
CREATE INDEX workflow_configs_sample_index ON workflow_configs (sample_job_id)
    WHERE sample_job_id IS NOT NULL;
CREATE OR REPLACE FUNCTION workflow_definition(workflow workflow_configs) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(workflow)
        - ARRAY['is_active', 'version', 'seed_digest', 'created_at', 'updated_at', 'sample_job_id'];
$$;

-- Workers that live: each writes down every few seconds that it does.
CREATE TABLE workers (
    id uuid NOT NULL CONSTRAINT workers_pkey PRIMARY KEY,
    host text NOT NULL,
    process_id integer NOT NULL,
    release text NOT NULL,
    -- Null where it can reach fal; else why it sends nothing, in words.
    trouble text,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- The verdict and where a picture comes from, for every page; new columns stand at the end.
CREATE OR REPLACE VIEW job_cards AS
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
    (SELECT count(*) FROM further_outputs WHERE further_outputs.job_id = job.id) AS further,
    job.verdict, job.verdict_reason, job.verdict_note, job.verdict_at, job.parent_id,
    version.version AS workflow_version
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
