-- Takes back 0007.copies.sql. Whoever makes a copy just now makes it for nothing; the next claim sees to it.
UPDATE images SET lease_until = NULL WHERE status = 'ready';
ALTER TABLE images
    DROP CONSTRAINT images_lease_only_while_decoded,
    ADD CONSTRAINT images_lease_only_while_preparing CHECK (lease_until IS NULL OR status = 'preparing');
