-- Tokens: with one a script does what its user may do, without a browser.

-- name: create :one
INSERT INTO tokens (user_id, name, token_hash, expires_at)
VALUES (%(user_id)s, %(name)s, %(token_hash)s, now() + make_interval(days => %(days)s::integer))
RETURNING id, expires_at;

-- name: current :optional
-- The user behind a token that is good; also whoever may not sign in with a password any more has
-- lost it. There is no session: the token's id stands in its place.
SELECT token.id AS session_id, users.id, users.email, users.role, users.time_zone,
       users.review_keys, users.password_expires_at,
       token.last_used_at IS NULL OR token.last_used_at < now() - interval '1 minute' AS unseen
FROM tokens AS token
JOIN users ON users.id = token.user_id
WHERE token.token_hash = %(token_hash)s
  AND users.is_whitelisted
  AND (users.password_expires_at IS NULL OR users.password_expires_at > now())
  AND token.revoked_at IS NULL
  AND (token.expires_at IS NULL OR token.expires_at > now());

-- name: list_all :many
-- The newest first, also those that are good no more.
SELECT token.id, users.email, token.name, token.created_at, token.expires_at, token.last_used_at,
       token.revoked_at
FROM tokens AS token
JOIN users ON users.id = token.user_id
WHERE %(user_id)s::uuid IS NULL OR token.user_id = %(user_id)s
ORDER BY token.created_at DESC, token.id;

-- name: touch :exec
-- At most one write a minute and token.
UPDATE tokens SET last_used_at = now()
WHERE id = %(token_id)s AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute');

-- name: revoke :exec
UPDATE tokens SET revoked_at = now() WHERE id = %(token_id)s AND revoked_at IS NULL;
