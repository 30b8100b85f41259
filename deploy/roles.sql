-- The two roles of the service's database. A superuser runs this with psql, connected to that
-- database, before the first migration; to run it again changes the passwords.
--
-- The passwords are those of the URIs in the files that OWNER_URL_FILE and SERVICE_URL_FILE name:
-- letters and digits, since they are not decoded.
\set ON_ERROR_STOP on
\set owner_password `url=$(cat "$OWNER_URL_FILE"); url=${url#*//*:}; printf %s "${url%%@*}"`
\set service_password `url=$(cat "$SERVICE_URL_FILE"); url=${url#*//*:}; printf %s "${url%%@*}"`

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['cms_owner', 'cms_service']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

-- Migrates, and is what the operator's commands connect as.
ALTER ROLE cms_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
    PASSWORD :'owner_password';
-- Serves; what it may do is in grants.sql.
ALTER ROLE cms_service LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
    PASSWORD :'service_password';

ALTER DATABASE :"DBNAME" OWNER TO cms_owner;
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO cms_service;
