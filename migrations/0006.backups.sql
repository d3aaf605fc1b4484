-- What getting everything back needs: which backups were found whole, and a way to hold back, after a
-- restore, what may have been sent and paid for since the backup was taken.
-- depends: 0005.scripts

-- A backup that `flask backup verify` has restored and found whole.
CREATE TABLE backups (
    id uuid NOT NULL CONSTRAINT backups_pkey PRIMARY KEY,
    taken_at timestamptz NOT NULL,
    images integer NOT NULL,
    -- This keeps both from being negative.
    checked integer NOT NULL CONSTRAINT backups_checked_range CHECK (checked BETWEEN 0 AND images),
    verified_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX backups_newest_index ON backups (taken_at DESC);

-- New: pending to held.
CREATE OR REPLACE FUNCTION is_legal_transition(from_status text, to_status text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT to_status = ANY (CASE from_status
        WHEN 'held' THEN ARRAY['pending', 'cancelled', 'failed']
        WHEN 'pending' THEN ARRAY['submitting', 'cancelled', 'failed', 'held']
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
