-- Takes back 0005.scripts.sql. Scripts are let in no more, and after going forward again need new tokens.
DROP TABLE tokens;
