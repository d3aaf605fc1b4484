-- Users: who may sign in. E-mail addresses are compared without case.

-- name: create :one
-- A generated password lives for a day.
INSERT INTO users (email, password_hash, is_whitelisted, role, password_expires_at)
VALUES (%(email)s, %(password_hash)s, %(is_whitelisted)s, %(role)s,
        CASE WHEN %(is_generated)s::boolean THEN now() + interval '24 hours' END)
RETURNING id, email, password_hash, is_whitelisted, role, created_at, updated_at,
    is_whitelisted AS may_sign_in;

-- name: find :optional
SELECT id, email, password_hash, is_whitelisted, role, created_at, updated_at,
       is_whitelisted AND coalesce(password_expires_at > now(), true) AS may_sign_in
FROM users
WHERE id = %(user_id)s;

-- name: find_by_email :optional
SELECT id, email, password_hash, is_whitelisted, role, created_at, updated_at,
       is_whitelisted AND coalesce(password_expires_at > now(), true) AS may_sign_in
FROM users
WHERE lower(email) = lower(%(email)s);

-- name: lock :exec
-- Whoever adds to what a user may have takes turns; released with the transaction.
SELECT FROM users WHERE id = %(user_id)s FOR NO KEY UPDATE;

-- name: lock_password :exec
-- While this is the user's password: whoever changes it ends all sessions, and waits here for one that
-- is about to begin. Found no more when it was changed first.
SELECT FROM users WHERE id = %(user_id)s AND password_hash = %(password_hash)s FOR SHARE;

-- name: list_all :many
SELECT id, email, password_hash, is_whitelisted, role, created_at, updated_at,
       is_whitelisted AND coalesce(password_expires_at > now(), true) AS may_sign_in
FROM users
ORDER BY lower(email);

-- name: statistics :one
-- Storage counts what the user has, trash included; money is what fal is known to have charged.
SELECT
    (SELECT count(*) FROM images WHERE user_id = %(user_id)s AND NOT is_processed AND deleted_at IS NULL) AS uploads,
    (SELECT count(*) FROM processing_jobs
     WHERE user_id = %(user_id)s AND status = 'completed' AND deleted_at IS NULL) AS pictures,
    (SELECT count(*) FROM processing_jobs WHERE user_id = %(user_id)s AND deleted_at IS NULL) AS jobs,
    (SELECT count(*) FROM processing_jobs
     WHERE user_id = %(user_id)s AND status = 'failed' AND deleted_at IS NULL) AS failed,
    (SELECT coalesce(sum(file_size), 0)::bigint FROM images WHERE user_id = %(user_id)s) AS stored_bytes,
    (SELECT coalesce(sum(coalesce(cost, estimate)), 0)::numeric FROM submissions
     WHERE user_id = %(user_id)s AND charged = 'yes') AS charged;

-- name: list_overview :many
-- Everybody, or one user, with what they have and have used, for operators.
SELECT users.id, users.email, users.role, users.is_whitelisted, users.password_expires_at,
       coalesce(users.password_expires_at <= now(), false) AS password_expired,
       users.created_at, users.updated_at,
       signed_in.sessions, signed_in.last_seen_at, photos.uploads, made.pictures, made.jobs,
       made.failed, photos.stored_bytes, spent.charged
FROM users
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE (password_expires_at IS NULL OR password_expires_at > now())
                              AND last_seen_at > now() - interval '24 hours'
                              AND created_at > now() - interval '14 days') AS sessions,
           max(last_seen_at) AS last_seen_at
    FROM sessions WHERE user_id = users.id
) AS signed_in
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE NOT is_processed AND deleted_at IS NULL) AS uploads,
           coalesce(sum(file_size), 0)::bigint AS stored_bytes
    FROM images WHERE user_id = users.id
) AS photos
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs, count(*) FILTER (WHERE status = 'completed') AS pictures,
           count(*) FILTER (WHERE status = 'failed') AS failed
    FROM processing_jobs WHERE user_id = users.id AND deleted_at IS NULL
) AS made
CROSS JOIN LATERAL (
    SELECT coalesce(sum(coalesce(cost, estimate)), 0)::numeric AS charged
    FROM submissions WHERE user_id = users.id AND charged = 'yes'
) AS spent
WHERE %(user_id)s::uuid IS NULL OR users.id = %(user_id)s
ORDER BY lower(users.email);

-- name: set_whitelisted :exec
UPDATE users SET is_whitelisted = %(is_whitelisted)s, updated_at = now() WHERE id = %(user_id)s;

-- name: set_time_zone :exec
-- A browser's guess counts only while the user has chosen none.
UPDATE users SET time_zone = %(time_zone)s, updated_at = now()
WHERE id = %(user_id)s AND (NOT %(is_guess)s::boolean OR time_zone IS NULL);

-- name: set_review_keys :exec
UPDATE users SET review_keys = %(review_keys)s, updated_at = now() WHERE id = %(user_id)s;

-- name: set_password_hash :exec
-- A generated password lives for a day; one's own does not run out.
UPDATE users
SET password_hash = %(password_hash)s, updated_at = now(),
    password_expires_at = CASE WHEN %(is_generated)s::boolean THEN now() + interval '24 hours' END
WHERE id = %(user_id)s;

-- name: set_role :exec
UPDATE users SET role = %(role)s, updated_at = now() WHERE id = %(user_id)s;

-- name: delete :exec
-- Images, batches and jobs go with the user; submissions stay, with the e-mail address in them.
DELETE FROM users WHERE id = %(user_id)s;
