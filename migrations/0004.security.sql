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
