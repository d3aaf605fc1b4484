-- Takes back 0005.scripts.sql. Scripts are let in no more.
DROP TABLE tokens;
