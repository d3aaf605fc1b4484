-- A worker that makes the copy of a photo for fal holds the photo meanwhile, as one that prepares it
-- does; before, that happened under the lease of a picture that was already claimed.
-- depends: 0006.backups

ALTER TABLE images
    DROP CONSTRAINT images_lease_only_while_preparing,
    ADD CONSTRAINT images_lease_only_while_decoded CHECK (
        lease_until IS NULL OR status IN ('preparing', 'ready'));
