-- The two roles and the database of i2i. Run once, by the superuser of the server:
--   runuser -u postgres -- psql -v ON_ERROR_STOP=1 -f docs/deploy/roles.sql
-- They have no passwords: on the database's own machine, accounts of these names are let in by themselves
-- ("peer"). From elsewhere they need one each: \password i2i_app

-- Owns every table. Only commands of the operator use it.
CREATE ROLE i2i_migrate LOGIN;

-- Web, worker and all other commands: rows, no tables. What it may do is in grants.sql.
CREATE ROLE i2i_app LOGIN;

CREATE DATABASE i2i OWNER i2i_migrate TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
