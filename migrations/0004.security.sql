-- What keeps a hostile world out: passwords that die, and a record that nobody can rewrite.
-- depends: 0003.studio

-- When a generated password stops working. Null: the user chose it. With a time: it opens nothing
-- but the page where another is chosen.
ALTER TABLE users ADD COLUMN password_expires_at timestamptz;

-- Who did what, from where, to what: sign-ins, refusals, what admins and operators did. It names
-- people and things as text, because it outlives them. Never changed, never deleted.
CREATE TABLE audit_events (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT audit_events_pkey PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    action text NOT NULL CONSTRAINT audit_events_action_shape CHECK (action ~ '^[a-z]+(\.[a-z_]+)+$'),
    outcome text NOT NULL CONSTRAINT audit_events_outcome_known CHECK (outcome IN ('done', 'refused')),
    actor_id uuid,
    actor text NOT NULL CONSTRAINT audit_events_actor_length CHECK (length(actor) <= 254),
    ip_address text,
    target text NOT NULL DEFAULT '' CONSTRAINT audit_events_target_length CHECK (length(target) <= 500),
    detail text NOT NULL DEFAULT '' CONSTRAINT audit_events_detail_length CHECK (length(detail) <= 1000),
    request_id text
);
CREATE INDEX audit_events_newest_index ON audit_events (created_at DESC, id DESC);
CREATE INDEX audit_events_actor_index ON audit_events (lower(actor), created_at DESC, id DESC);
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_events_never_emptied BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What a user's pictures take, uploads and results together: asked at every upload and on every page
-- of the history.
CREATE INDEX images_user_index ON images (user_id) INCLUDE (file_size);

-- Names as people count and read them: IMG_2 before IMG_10, a before B, é beside e, the ending apart.
-- A function and no collation, because not every PostgreSQL is built with ICU. The length is what an
-- index takes, whatever somebody names a file.
CREATE FUNCTION name_key(name text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT left(regexp_replace(regexp_replace(regexp_replace(
        lower(normalize(regexp_replace(name, '\.[^.]*$', ''), NFD)),
        '[\u0300-\u036F]', '', 'g'),
        '([0-9]+)', '00000000000000000000\1', 'g'),
        '[0-9]*([0-9]{20})', '\1', 'g'), 500)
    $$;
ALTER TABLE images
    ADD COLUMN sort_name text COLLATE "C" NOT NULL GENERATED ALWAYS AS (name_key(original_filename)) STORED,
    -- When the first photo came that was uploaded together with this one.
    ADD COLUMN upload_began_at timestamptz NOT NULL DEFAULT now();
UPDATE images SET upload_began_at = upload.began_at
FROM (
    SELECT id, min(created_at) OVER (PARTITION BY user_id, number) AS began_at
    FROM (
        SELECT id, user_id, created_at, count(*) FILTER (WHERE apart) OVER upload AS number
        FROM (
            SELECT id, user_id, created_at,
                   created_at - lag(created_at) OVER (PARTITION BY user_id ORDER BY created_at, id)
                       > interval '10 minutes' AS apart
            FROM images
            WHERE NOT is_processed
        ) AS photo
        WINDOW upload AS (PARTITION BY user_id ORDER BY created_at, id)
    ) AS numbered
) AS upload
WHERE upload.id = images.id;
-- When `flask storage check --repair` found an original gone or changed.
ALTER TABLE images
    ADD COLUMN lost_at timestamptz,
    ADD CONSTRAINT images_lost_is_rejected CHECK (lost_at IS NULL OR status = 'rejected');
CREATE INDEX images_user_upload_index ON images (user_id, upload_began_at DESC, sort_name, id)
    WHERE NOT is_processed AND deleted_at IS NULL;
