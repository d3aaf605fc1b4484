-- Drops everything, the ledger too: only for a database whose contents nobody needs.
DROP VIEW job_cards;
DROP TABLE submissions;
DROP TABLE processing_jobs;
DROP TABLE batch_references;
DROP TABLE batches;
DROP TABLE workflow_versions;
DROP FUNCTION workflow_definition(workflow_configs);
DROP TABLE workflow_configs;
DROP FUNCTION keep_workflow_version();
DROP FUNCTION number_workflow();
DROP TABLE images;
DROP TABLE rate_limits;
DROP TABLE sessions;
DROP TABLE users;
DROP FUNCTION refuse_ledger_delete();
DROP FUNCTION bump_revision();
DROP FUNCTION refuse_change();
