-- What i2i_app may do: read and write rows, and only add to what is a record. Run by i2i_migrate after every
-- `flask db setup`, because a new release may bring new tables. It may be run again at any time.
BEGIN;

-- Nobody else connects, and nobody but the owner makes tables, not even temporary ones.
DO $$ BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO i2i_app', current_database());
END $$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO i2i_app;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM i2i_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO i2i_app;
-- A table that a later migration makes is usable even before this file has been run again.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO i2i_app;

-- Records. What goes with its owner (a job's events, a workflow's versions) is deleted by the foreign key, which needs no right.
REVOKE UPDATE, DELETE ON audit_events, job_events, workflow_versions FROM i2i_app;
REVOKE DELETE ON submissions FROM i2i_app;

-- One row for ever; a view; and yoyo's tables, which the programs read.
REVOKE INSERT, DELETE ON breaker FROM i2i_app;
REVOKE INSERT, UPDATE, DELETE ON job_cards FROM i2i_app;
REVOKE ALL ON _yoyo_log, _yoyo_migration, _yoyo_version, yoyo_lock FROM i2i_app;
GRANT SELECT ON _yoyo_log, _yoyo_migration, _yoyo_version, yoyo_lock TO i2i_app;

-- A backup reads everything.
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO i2i_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON SEQUENCES TO i2i_app;

COMMIT;
