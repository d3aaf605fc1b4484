-- What scripts need: tokens that stand in for a sign-in.
-- depends: 0004.security

-- Only the SHA-256 of a token is kept, so a copy of this table lets nobody in. A revoked one stays, so
-- that what it did can still be told.
CREATE TABLE tokens (
    id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT tokens_pkey PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT tokens_user_fkey REFERENCES users ON DELETE CASCADE,
    name text NOT NULL CONSTRAINT tokens_name_length CHECK (length(name) BETWEEN 1 AND 100),
    token_hash bytea NOT NULL CONSTRAINT tokens_token_hash_key UNIQUE
        CONSTRAINT tokens_token_hash_length CHECK (length(token_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX tokens_user_index ON tokens (user_id);
