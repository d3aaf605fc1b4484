-- Takes back 0004.security.sql. The record of what was done is lost.
DROP INDEX images_user_upload_index;
ALTER TABLE images DROP COLUMN lost_at, DROP COLUMN upload_began_at, DROP COLUMN sort_name;
DROP FUNCTION name_key(text);
DROP INDEX images_user_index;
DROP TABLE audit_events;
ALTER TABLE users DROP COLUMN password_expires_at;
