-- Audit: who did what, from where, to what. Rows are only ever added.

-- name: record :exec
INSERT INTO audit_events (action, outcome, actor_id, actor, ip_address, target, detail, request_id)
VALUES (%(action)s, %(outcome)s, %(actor_id)s, %(actor)s, %(ip_address)s, %(target)s, %(detail)s,
        %(request_id)s);

-- name: list_newest :many
-- An action's first word finds all that begin with it, as in "session".
SELECT id, created_at, action, outcome, actor, ip_address, target, detail, request_id
FROM audit_events
WHERE created_at >= coalesce(%(since)s::timestamptz, '-infinity')
  AND (%(action)s::text IS NULL OR action = %(action)s OR starts_with(action, %(action)s || '.'))
  AND (created_at, id) < (coalesce(%(before)s::timestamptz, 'infinity'),
                          coalesce(%(before_id)s::bigint, 9223372036854775807))
ORDER BY created_at DESC, id DESC
LIMIT %(page_size)s;

-- name: list_of_actor :many
SELECT id, created_at, action, outcome, actor, ip_address, target, detail, request_id
FROM audit_events
WHERE lower(actor) = lower(%(actor)s)
  AND created_at >= coalesce(%(since)s::timestamptz, '-infinity')
  AND (%(action)s::text IS NULL OR action = %(action)s OR starts_with(action, %(action)s || '.'))
  AND (created_at, id) < (coalesce(%(before)s::timestamptz, 'infinity'),
                          coalesce(%(before_id)s::bigint, 9223372036854775807))
ORDER BY created_at DESC, id DESC
LIMIT %(page_size)s;

-- name: find_foreign :optional
-- Whatever has this id, if it is not this user's.
SELECT thing.noun, users.email
FROM (
    SELECT 'photo' AS noun, user_id FROM images WHERE id = %(thing_id)s AND NOT is_processed
    UNION ALL SELECT 'picture', user_id FROM images WHERE id = %(thing_id)s AND is_processed
    UNION ALL SELECT 'batch', user_id FROM batches WHERE id = %(thing_id)s
    UNION ALL SELECT 'job', user_id FROM processing_jobs WHERE id = %(thing_id)s
    UNION ALL SELECT 'preset', user_id FROM presets WHERE id = %(thing_id)s
    UNION ALL SELECT 'session', user_id FROM sessions WHERE id = %(thing_id)s
) AS thing
JOIN users ON users.id = thing.user_id
WHERE thing.user_id <> %(user_id)s;
