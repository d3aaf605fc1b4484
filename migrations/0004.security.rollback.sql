-- Takes back 0004.security.sql. What cannot be had again afterwards: the record of what was done; which
-- passwords were generated, so that those which ran out open their accounts for good (`flask users list`
-- names them while it still can); and which photos are refused because their file was lost.
DROP INDEX images_user_upload_index;
ALTER TABLE images DROP COLUMN lost_at, DROP COLUMN upload_began_at, DROP COLUMN sort_name;
DROP FUNCTION name_key(text);
DROP INDEX images_user_index;
DROP TABLE audit_events;
ALTER TABLE users DROP COLUMN password_expires_at;
