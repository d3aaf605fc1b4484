-- Takes back 0004.security.sql. The record of what was done is lost.
DROP INDEX images_user_index;
DROP TABLE audit_events;
ALTER TABLE users DROP COLUMN password_expires_at;
