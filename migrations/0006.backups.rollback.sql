-- Takes back 0006.backups.sql. Which backups were verified is forgotten; the backups stay as good as they are.
CREATE OR REPLACE FUNCTION is_legal_transition(from_status text, to_status text) RETURNS boolean
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
DROP TABLE backups;
