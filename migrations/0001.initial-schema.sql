-- The tables of i2i: who may sign in, their pictures, the workflows, and the jobs with their ledger.
-- States are text with a CHECK, because a value can be added to a CHECK and taken out again.
-- Every constraint and index has a name: Python turns some of them into sentences.

-- Who may sign in.
CREATE TABLE users (
    id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT users_pkey PRIMARY KEY,
    email text NOT NULL CONSTRAINT users_email_shape CHECK (email ~ '^[^@\s]+@[^@\s]+$' AND length(email) <= 254),
    password_hash text NOT NULL,
    is_whitelisted boolean NOT NULL DEFAULT true,
    role text NOT NULL DEFAULT 'user' CONSTRAINT users_role_known CHECK (role IN ('user', 'admin')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

-- Signed-in browsers. Only the SHA-256 of a token is kept, so a copy of this table signs nobody in.
CREATE TABLE sessions (
    id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT sessions_pkey PRIMARY KEY,
    token_hash bytea NOT NULL CONSTRAINT sessions_token_hash_key UNIQUE,
    user_id uuid NOT NULL CONSTRAINT sessions_user_fkey REFERENCES users ON DELETE CASCADE,
    user_agent text NOT NULL,
    ip_address text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sessions_token_hash_length CHECK (length(token_hash) = 32)
);
CREATE INDEX sessions_user_index ON sessions (user_id);

-- Tries at signing in: one row a bucket, and the one instant at which it is full again.
CREATE TABLE rate_limits (
    bucket text NOT NULL CONSTRAINT rate_limits_pkey PRIMARY KEY,
    full_at timestamptz NOT NULL
);

-- Uploads and results. The bytes lie in the blob store under blob_url; a row is written after them.
CREATE TABLE images (
    id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT images_pkey PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT images_user_fkey REFERENCES users ON DELETE CASCADE,
    filename text NOT NULL,
    original_filename text NOT NULL,
    blob_url text NOT NULL CONSTRAINT images_blob_url_key UNIQUE,
    sha256 text NOT NULL CONSTRAINT images_sha256_shape CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    file_size bigint NOT NULL CONSTRAINT images_file_size_positive CHECK (file_size > 0),
    mime_type text NOT NULL,
    -- As displayed, after EXIF orientation. Null only for a paid result that cannot be decoded.
    width integer CONSTRAINT images_width_positive CHECK (width > 0),
    height integer CONSTRAINT images_height_positive CHECK (height > 0),
    is_processed boolean NOT NULL DEFAULT false,
    status text NOT NULL DEFAULT 'preparing'
        CONSTRAINT images_status_known CHECK (status IN ('preparing', 'ready', 'rejected')),
    rejection text,
    has_preview boolean NOT NULL DEFAULT false,
    run_after timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    fence integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT images_rejection_explained CHECK ((status = 'rejected') = (rejection IS NOT NULL)),
    CONSTRAINT images_preview_needs_ready CHECK (NOT has_preview OR status = 'ready'),
    CONSTRAINT images_lease_only_while_preparing CHECK (lease_until IS NULL OR status = 'preparing'),
    CONSTRAINT images_size_known CHECK (is_processed OR (width IS NOT NULL AND height IS NOT NULL))
);
-- The same bytes again by the same user are the same image.
CREATE UNIQUE INDEX images_upload_key ON images (user_id, sha256) WHERE NOT is_processed;
CREATE INDEX images_user_newest_index ON images (user_id, created_at DESC, id DESC) WHERE NOT is_processed;
CREATE INDEX images_preparing_index ON images (run_after) WHERE status = 'preparing';

-- Workflows: the current values, one column for each key of a definition (docs/reference.md).
CREATE TABLE workflow_configs (
    id text NOT NULL CONSTRAINT workflow_configs_pkey PRIMARY KEY
        CONSTRAINT workflow_configs_id_shape CHECK (id ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
    name text NOT NULL,
    description text NOT NULL,
    fal_endpoint text NOT NULL,
    parameter_schema jsonb NOT NULL,
    default_parameters jsonb NOT NULL,
    request_template jsonb NOT NULL,
    -- Null: the price is unknown, and pages say so.
    unit_price numeric(12, 4) CONSTRAINT workflow_configs_unit_price_positive CHECK (unit_price >= 0),
    price_unit text NOT NULL
        CONSTRAINT workflow_configs_price_unit_known CHECK (price_unit IN ('image', 'megapixel')),
    currency text NOT NULL,
    max_side integer NOT NULL CONSTRAINT workflow_configs_max_side_range CHECK (max_side BETWEEN 64 AND 16384),
    formats text[] NOT NULL,
    max_references integer NOT NULL
        CONSTRAINT workflow_configs_max_references_range CHECK (max_references BETWEEN 0 AND 3),
    deadline_seconds integer NOT NULL
        CONSTRAINT workflow_configs_deadline_positive CHECK (deadline_seconds > 0),
    usual_seconds integer CONSTRAINT workflow_configs_usual_positive CHECK (usual_seconds > 0),
    is_active boolean NOT NULL DEFAULT true,
    version integer NOT NULL DEFAULT 1,
    -- Digest of the shipped definition that seeded this row; null once an operator wrote it.
    seed_digest text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE workflow_versions (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT workflow_versions_pkey PRIMARY KEY,
    workflow_name text NOT NULL
        CONSTRAINT workflow_versions_workflow_fkey REFERENCES workflow_configs ON DELETE CASCADE,
    version integer NOT NULL,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_versions_number_key UNIQUE (workflow_name, version)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END;
$$;
CREATE TRIGGER workflow_versions_append_only BEFORE UPDATE ON workflow_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- What a workflow does, apart from being switched on and the bookkeeping.
CREATE FUNCTION workflow_definition(workflow workflow_configs) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(workflow)
        - ARRAY['is_active', 'version', 'seed_digest', 'created_at', 'updated_at'];
$$;

-- Every way of writing a workflow, psql included, numbers the state and keeps a copy of it.
CREATE FUNCTION number_workflow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    NEW.version := OLD.version;
    IF workflow_definition(NEW) IS DISTINCT FROM workflow_definition(OLD) THEN
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
END;
$$;
CREATE TRIGGER workflow_configs_number BEFORE UPDATE ON workflow_configs
    FOR EACH ROW EXECUTE FUNCTION number_workflow();

CREATE FUNCTION keep_workflow_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO workflow_versions (workflow_name, version, definition)
    VALUES (NEW.id, NEW.version, workflow_definition(NEW))
    ON CONFLICT ON CONSTRAINT workflow_versions_number_key DO NOTHING;
    RETURN NULL;
END;
$$;
CREATE TRIGGER workflow_configs_keep_version AFTER INSERT OR UPDATE ON workflow_configs
    FOR EACH ROW EXECUTE FUNCTION keep_workflow_version();

-- One click on "Make 24 pictures".
CREATE TABLE batches (
    id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT batches_pkey PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT batches_user_fkey REFERENCES users ON DELETE CASCADE,
    parent_id uuid CONSTRAINT batches_parent_fkey REFERENCES batches ON DELETE SET NULL,
    workflow_version_id bigint NOT NULL
        CONSTRAINT batches_workflow_version_fkey REFERENCES workflow_versions,
    parameters jsonb NOT NULL,
    variations integer NOT NULL CONSTRAINT batches_variations_range CHECK (variations BETWEEN 1 AND 4),
    pilot integer NOT NULL CONSTRAINT batches_pilot_positive CHECK (pilot >= 0),
    estimate numeric(12, 4),
    -- The browser's key for this click, and a digest of what was asked: a resend finds the same batch.
    client_key text NOT NULL CONSTRAINT batches_client_key_length CHECK (length(client_key) BETWEEN 8 AND 100),
    content_digest text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT batches_client_key_key UNIQUE (user_id, client_key)
);
CREATE INDEX batches_user_newest_index ON batches (user_id, created_at DESC, id DESC);

CREATE TABLE batch_references (
    batch_id uuid NOT NULL CONSTRAINT batch_references_batch_fkey REFERENCES batches ON DELETE CASCADE,
    position integer NOT NULL CONSTRAINT batch_references_position_range CHECK (position BETWEEN 1 AND 3),
    image_id uuid NOT NULL CONSTRAINT batch_references_image_fkey REFERENCES images ON DELETE CASCADE,
    CONSTRAINT batch_references_pkey PRIMARY KEY (batch_id, position)
);
CREATE INDEX batch_references_image_index ON batch_references (image_id);

-- One picture to make. The legal transitions are in docs/job-states.md.
CREATE TABLE processing_jobs (
    id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT processing_jobs_pkey PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT processing_jobs_user_fkey REFERENCES users ON DELETE CASCADE,
    batch_id uuid NOT NULL CONSTRAINT processing_jobs_batch_fkey REFERENCES batches ON DELETE CASCADE,
    position integer NOT NULL,
    variation integer NOT NULL,
    original_image_id uuid NOT NULL
        CONSTRAINT processing_jobs_original_image_fkey REFERENCES images ON DELETE CASCADE,
    result_image_id uuid
        CONSTRAINT processing_jobs_result_image_fkey REFERENCES images ON DELETE SET NULL,
    workflow_name text NOT NULL
        CONSTRAINT processing_jobs_workflow_fkey REFERENCES workflow_configs,
    workflow_version_id bigint NOT NULL
        CONSTRAINT processing_jobs_workflow_version_fkey REFERENCES workflow_versions,
    parameters jsonb NOT NULL,
    fal_job_id text,
    status text NOT NULL CONSTRAINT processing_jobs_status_known CHECK (status IN (
        'held', 'pending', 'submitting', 'processing', 'storing', 'unknown',
        'completed', 'failed', 'cancelled')),
    attention text,
    cancel_requested_at timestamptz,
    error_code text,
    error_message text,
    queue_position integer CONSTRAINT processing_jobs_queue_position_positive CHECK (queue_position >= 0),
    processing_time_ms integer CONSTRAINT processing_jobs_time_positive CHECK (processing_time_ms >= 0),
    run_after timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    -- Bumped by every claim; a step's last UPDATE names the number it got, so a late one changes nothing.
    fence integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    -- Bumped by trigger with every change; the sum over a batch is the version of its live page.
    revision bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    completed_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT processing_jobs_place_key UNIQUE (batch_id, position),
    CONSTRAINT processing_jobs_finished_when_terminal CHECK (
        (status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)),
    CONSTRAINT processing_jobs_failed_says_why CHECK (
        (status = 'failed') = (error_message IS NOT NULL) AND (error_code IS NULL OR status = 'failed')),
    CONSTRAINT processing_jobs_at_fal_has_id CHECK (
        status NOT IN ('processing', 'storing') OR fal_job_id IS NOT NULL),
    CONSTRAINT processing_jobs_waiting_is_unknown_to_fal CHECK (
        status NOT IN ('held', 'pending', 'submitting') OR fal_job_id IS NULL),
    CONSTRAINT processing_jobs_result_only_when_completed CHECK (
        result_image_id IS NULL OR status = 'completed'),
    CONSTRAINT processing_jobs_lease_only_in_motion CHECK (
        lease_until IS NULL OR status IN ('submitting', 'processing', 'storing', 'unknown')),
    CONSTRAINT processing_jobs_submitting_is_leased CHECK (
        status <> 'submitting' OR lease_until IS NOT NULL)
);
CREATE INDEX processing_jobs_pending_index ON processing_jobs (user_id, created_at, position)
    WHERE status = 'pending';
CREATE INDEX processing_jobs_moving_index ON processing_jobs (status, run_after)
    WHERE status IN ('submitting', 'processing', 'storing', 'unknown');
CREATE INDEX processing_jobs_user_newest_index ON processing_jobs (user_id, created_at DESC, id DESC);
CREATE INDEX processing_jobs_workflow_finished_index ON processing_jobs (workflow_name, completed_at DESC)
    WHERE status = 'completed';
CREATE INDEX processing_jobs_original_image_index ON processing_jobs (original_image_id);
CREATE INDEX processing_jobs_result_image_index ON processing_jobs (result_image_id);
CREATE INDEX processing_jobs_fal_job_index ON processing_jobs (fal_job_id) WHERE fal_job_id IS NOT NULL;

CREATE FUNCTION bump_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END;
$$;
-- Claims and renewed leases change nothing that a page shows, so they do not count.
CREATE TRIGGER processing_jobs_revision BEFORE UPDATE ON processing_jobs
    FOR EACH ROW WHEN (
        (OLD.status, OLD.attention, OLD.cancel_requested_at, OLD.queue_position, OLD.result_image_id,
         OLD.error_message, OLD.started_at, OLD.deleted_at)
        IS DISTINCT FROM
        (NEW.status, NEW.attention, NEW.cancel_requested_at, NEW.queue_position, NEW.result_image_id,
         NEW.error_message, NEW.started_at, NEW.deleted_at))
    EXECUTE FUNCTION bump_revision();

-- The ledger: one row = one request that may cost money. Never deleted.
CREATE TABLE submissions (
    id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT submissions_pkey PRIMARY KEY,
    job_id uuid CONSTRAINT submissions_job_fkey REFERENCES processing_jobs ON DELETE SET NULL,
    user_id uuid CONSTRAINT submissions_user_fkey REFERENCES users ON DELETE SET NULL,
    user_email text NOT NULL,
    workflow_name text NOT NULL,
    workflow_version integer NOT NULL,
    endpoint text NOT NULL,
    -- Names this request in the inputs' file names, so that fal's request list can be searched for it.
    token text NOT NULL CONSTRAINT submissions_token_key UNIQUE
        CONSTRAINT submissions_token_shape CHECK (token ~ '^[0-9a-f]{32}$'),
    state text NOT NULL DEFAULT 'intent' CONSTRAINT submissions_state_known CHECK (state IN (
        'intent', 'sent', 'accepted', 'settled', 'rejected', 'abandoned', 'unknown')),
    arguments jsonb,
    request_id text CONSTRAINT submissions_request_key UNIQUE,
    status_url text,
    response_url text,
    cancel_url text,
    output_urls text[],
    outcome text CONSTRAINT submissions_outcome_known CHECK (outcome IN ('picture', 'error', 'cancelled', 'expired')),
    charged text CONSTRAINT submissions_charged_known CHECK (charged IN ('yes', 'no', 'unknown')),
    estimate numeric(12, 4),
    cost numeric(12, 4),
    currency text NOT NULL DEFAULT 'USD',
    http_status integer,
    error_type text,
    -- The provider's words for operators; never shown on a user's page.
    detail text,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    accepted_at timestamptz,
    ended_at timestamptz,
    CONSTRAINT submissions_sent_has_arguments CHECK (
        sent_at IS NULL OR arguments IS NOT NULL),
    CONSTRAINT submissions_sent_has_time CHECK (
        state NOT IN ('sent', 'accepted', 'settled', 'unknown') OR sent_at IS NOT NULL),
    CONSTRAINT submissions_intent_is_unsent CHECK (state <> 'intent' OR sent_at IS NULL),
    CONSTRAINT submissions_accepted_has_request CHECK (
        state NOT IN ('accepted') OR (request_id IS NOT NULL AND status_url IS NOT NULL
            AND response_url IS NOT NULL AND cancel_url IS NOT NULL AND accepted_at IS NOT NULL)),
    CONSTRAINT submissions_settled_has_outcome CHECK (
        (state = 'settled') = (outcome IS NOT NULL) AND (outcome IS NULL) = (charged IS NULL)),
    CONSTRAINT submissions_ended_when_over CHECK (
        (state IN ('settled', 'rejected', 'abandoned')) = (ended_at IS NOT NULL))
);
-- At most one request that may be running and paid for, whatever the code above believes.
CREATE UNIQUE INDEX submissions_one_live_key ON submissions (job_id)
    WHERE state IN ('intent', 'sent', 'accepted', 'unknown');
CREATE INDEX submissions_job_index ON submissions (job_id, created_at);
CREATE INDEX submissions_user_sent_index ON submissions (user_id, sent_at);
CREATE INDEX submissions_endpoint_sent_index ON submissions (endpoint, sent_at);

CREATE FUNCTION refuse_ledger_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger keeps every submission' USING ERRCODE = 'restrict_violation';
END;
$$;
CREATE TRIGGER submissions_never_deleted BEFORE DELETE ON submissions
    FOR EACH ROW EXECUTE FUNCTION refuse_ledger_delete();

-- One picture as a page shows it, with what the ledger says of money: the newest submission that
-- left tells how it stands, and the sum is over all that were charged.
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
