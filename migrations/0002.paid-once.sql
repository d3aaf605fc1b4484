-- What "paid once, never lost" needs beside the ledger: every transition on record and checked,
-- callbacks from fal, the breaker for a locked account, and pictures that come late or further.
-- depends: 0001.initial-schema

-- Every transition of every job, written by trigger. docs/job-states.md explains each edge.
CREATE TABLE job_events (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT job_events_pkey PRIMARY KEY,
    job_id uuid NOT NULL CONSTRAINT job_events_job_fkey REFERENCES processing_jobs ON DELETE CASCADE,
    from_status text,
    to_status text NOT NULL,
    attention text,
    happened_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX job_events_job_index ON job_events (job_id, id);

CREATE FUNCTION is_legal_transition(from_status text, to_status text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT to_status = ANY (CASE from_status
        WHEN 'held' THEN ARRAY['pending', 'cancelled', 'failed']
        WHEN 'pending' THEN ARRAY['submitting', 'cancelled', 'failed']
        WHEN 'submitting' THEN ARRAY['pending', 'processing', 'unknown', 'failed', 'cancelled']
        WHEN 'unknown' THEN ARRAY['processing', 'pending', 'failed', 'cancelled']
        WHEN 'processing' THEN ARRAY['storing', 'failed', 'cancelled', 'unknown']
        WHEN 'storing' THEN ARRAY['completed', 'failed']
        WHEN 'failed' THEN ARRAY['pending', 'storing']
        WHEN 'cancelled' THEN ARRAY['pending', 'storing']
        WHEN 'completed' THEN ARRAY[]::text[]
        ELSE ARRAY['held', 'pending']
    END);
$$;

CREATE FUNCTION record_transition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before text := CASE WHEN TG_OP = 'UPDATE' THEN OLD.status END;
BEGIN
    IF NOT is_legal_transition(before, NEW.status) THEN
        RAISE EXCEPTION 'a job cannot go from % to %', coalesce(before, 'nothing'), NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'processing_jobs_legal_transition';
    END IF;
    INSERT INTO job_events (job_id, from_status, to_status, attention)
    VALUES (NEW.id, before, NEW.status, NEW.attention);
    RETURN NULL;
END;
$$;
CREATE TRIGGER processing_jobs_created AFTER INSERT ON processing_jobs
    FOR EACH ROW EXECUTE FUNCTION record_transition();
CREATE TRIGGER processing_jobs_transition AFTER UPDATE OF status ON processing_jobs
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION record_transition();
CREATE TRIGGER job_events_append_only BEFORE UPDATE ON job_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
-- A story goes with its job, by the foreign key's own trigger, and in no other way.
CREATE TRIGGER job_events_never_deleted BEFORE DELETE ON job_events
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER job_events_never_truncated BEFORE TRUNCATE ON job_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER submissions_never_truncated BEFORE TRUNCATE ON submissions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_delete();

-- Callbacks from fal whose signature held. One row a delivery; the same body again is the same row.
CREATE TABLE webhook_events (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT webhook_events_pkey PRIMARY KEY,
    token text NOT NULL,
    request_id text NOT NULL,
    body_sha256 text NOT NULL CONSTRAINT webhook_events_body_key UNIQUE,
    received_at timestamptz NOT NULL DEFAULT now(),
    applied_at timestamptz
);
CREATE INDEX webhook_events_open_index ON webhook_events (id) WHERE applied_at IS NULL;

-- Whether sending is paused because the account at fal takes nothing. One row, for ever.
CREATE TABLE breaker (
    id boolean NOT NULL DEFAULT true CONSTRAINT breaker_pkey PRIMARY KEY CONSTRAINT breaker_one_row CHECK (id),
    reason text CONSTRAINT breaker_reason_known CHECK (reason IN ('balance', 'key')),
    opened_at timestamptz,
    checked_at timestamptz,
    next_check_at timestamptz,
    -- How often in a row it opened again soon after it had closed: checks then become rarer.
    closed_at timestamptz,
    trips integer NOT NULL DEFAULT 0,
    CONSTRAINT breaker_open_says_why CHECK (
        (opened_at IS NULL) = (reason IS NULL) AND (opened_at IS NULL) = (next_check_at IS NULL))
);
INSERT INTO breaker DEFAULT VALUES;

-- A settled submission is still looked for while a picture may come: until `look_until`.
ALTER TABLE submissions
    ADD COLUMN look_after timestamptz,
    ADD COLUMN look_until timestamptz,
    ADD CONSTRAINT submissions_look_has_end CHECK ((look_after IS NULL) = (look_until IS NULL)),
    ADD CONSTRAINT submissions_look_only_after_end CHECK (look_until IS NULL OR state = 'settled');
CREATE INDEX submissions_look_index ON submissions (look_after) WHERE look_until IS NOT NULL;

-- What counts against the daily limits is counted while everybody else who asks for pictures waits.
CREATE INDEX submissions_sent_index ON submissions (sent_at);
-- There are few endpoints, so the one by time serves its question as well.
DROP INDEX submissions_endpoint_sent_index;
CREATE INDEX processing_jobs_asked_index ON processing_jobs (user_id)
    WHERE status IN ('held', 'pending', 'submitting');

-- Pictures of a job beside its result: they came when a newer one was there or on its way.
CREATE TABLE further_outputs (
    image_id uuid NOT NULL CONSTRAINT further_outputs_pkey PRIMARY KEY
        CONSTRAINT further_outputs_image_fkey REFERENCES images ON DELETE CASCADE,
    job_id uuid NOT NULL CONSTRAINT further_outputs_job_fkey REFERENCES processing_jobs ON DELETE CASCADE,
    submission_id uuid NOT NULL CONSTRAINT further_outputs_submission_fkey REFERENCES submissions,
    arrived_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX further_outputs_job_index ON further_outputs (job_id, arrived_at);
CREATE INDEX further_outputs_submission_index ON further_outputs (submission_id);

-- Since when fal answers 404 for something that it gave us; null while it does not.
ALTER TABLE processing_jobs ADD COLUMN gone_since timestamptz;

-- What the ledger says of money is a sum over all submissions of a job, not the newest one's word:
-- `charged` is yes, unknown (perhaps) or no; `cost` is what was charged, `perhaps` what may have been.
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
