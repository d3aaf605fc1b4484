-- Presets: settings of a workflow under a name of the user's own.

-- name: create :optional
-- No row comes back when the user has one of that name for this workflow.
INSERT INTO presets (user_id, workflow_name, name, parameters)
VALUES (%(user_id)s, %(workflow_name)s, %(name)s, %(parameters)s)
ON CONFLICT (user_id, workflow_name, lower(name)) DO NOTHING
RETURNING id;

-- name: replace :one
-- The same, but what had the name gets these settings.
INSERT INTO presets (user_id, workflow_name, name, parameters)
VALUES (%(user_id)s, %(workflow_name)s, %(name)s, %(parameters)s)
ON CONFLICT (user_id, workflow_name, lower(name)) DO UPDATE
SET name = excluded.name, parameters = excluded.parameters, updated_at = now()
RETURNING id;

-- name: find_by_name :optional
SELECT preset.id, preset.workflow_name, workflow.name AS workflow_title, preset.name,
       preset.parameters, preset.created_at, preset.updated_at
FROM presets AS preset
JOIN workflow_configs AS workflow ON workflow.id = preset.workflow_name
WHERE preset.user_id = %(user_id)s AND preset.workflow_name = %(workflow_name)s
  AND lower(preset.name) = lower(%(name)s);

-- name: list_of_user :many
-- All of them, or those of one workflow.
SELECT preset.id, preset.workflow_name, workflow.name AS workflow_title, preset.name,
       preset.parameters, preset.created_at, preset.updated_at
FROM presets AS preset
JOIN workflow_configs AS workflow ON workflow.id = preset.workflow_name
WHERE preset.user_id = %(user_id)s
  AND (%(workflow_name)s::text IS NULL OR preset.workflow_name = %(workflow_name)s)
ORDER BY preset.workflow_name, lower(preset.name), preset.id;

-- name: rename :exec
UPDATE presets SET name = %(name)s, updated_at = now()
WHERE id = %(preset_id)s AND user_id = %(user_id)s;

-- name: delete :exec
DELETE FROM presets WHERE id = %(preset_id)s AND user_id = %(user_id)s;
