-- Questions about the database itself, for operators.

-- name: ping :one
-- As little as can be asked: how long it takes is the way there and back.
SELECT 1 AS count;

-- name: describe_database :one
SELECT current_setting('server_version') AS version,
       pg_database_size(current_database()) AS size;
