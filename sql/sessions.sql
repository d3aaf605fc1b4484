-- Sessions: signed-in browsers.

-- name: create :one
INSERT INTO sessions (token_hash, user_id, user_agent, ip_address)
VALUES (%(token_hash)s, %(user_id)s, %(user_agent)s, %(ip_address)s)
RETURNING id;

-- name: current :optional
-- The user behind a token: not idle for a day, not older than two weeks, still whitelisted, and
-- with a password that has not run out.
SELECT session.id AS session_id, users.id, users.email, users.role, users.time_zone,
       users.review_keys, users.password_expires_at,
       session.last_seen_at < now() - interval '1 minute' AS unseen
FROM sessions AS session
JOIN users ON users.id = session.user_id
WHERE session.token_hash = %(token_hash)s
  AND users.is_whitelisted
  AND (users.password_expires_at IS NULL OR users.password_expires_at > now())
  AND session.last_seen_at > now() - interval '24 hours'
  AND session.created_at > now() - interval '14 days';

-- name: list_of_user :many
SELECT session.id, session.user_id, users.email, session.user_agent, session.ip_address,
       session.created_at, session.last_seen_at
FROM sessions AS session
JOIN users ON users.id = session.user_id
WHERE (%(user_id)s::uuid IS NULL OR session.user_id = %(user_id)s)
  AND (users.password_expires_at IS NULL OR users.password_expires_at > now())
  AND session.last_seen_at > now() - interval '24 hours'
  AND session.created_at > now() - interval '14 days'
ORDER BY session.last_seen_at DESC, session.id;

-- name: touch :exec
-- At most one write a minute and session: the idle time-out needs no more.
UPDATE sessions SET last_seen_at = now()
WHERE id = %(session_id)s AND last_seen_at < now() - interval '1 minute';

-- name: set_token :exec
-- The same session under another token: what was copied before is worth nothing.
UPDATE sessions SET token_hash = %(token_hash)s WHERE id = %(session_id)s;

-- name: delete :exec
DELETE FROM sessions WHERE id = %(session_id)s AND user_id = %(user_id)s;

-- name: delete_by_token :exec
DELETE FROM sessions WHERE token_hash = %(token_hash)s;

-- name: delete_of_user :exec
-- All of a user's sessions, or all but the one in use.
DELETE FROM sessions
WHERE user_id = %(user_id)s AND (%(keep)s::uuid IS NULL OR id <> %(keep)s);

-- name: delete_expired :exec
-- Those that another sign-in deletes at this moment are left to it: two would wait for each other.
DELETE FROM sessions WHERE id IN (
    SELECT id FROM sessions
    WHERE last_seen_at <= now() - interval '24 hours' OR created_at <= now() - interval '14 days'
    FOR UPDATE SKIP LOCKED
);
