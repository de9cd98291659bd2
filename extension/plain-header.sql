-- eram without access to the server's files: the objects of CREATE EXTENSION, made by plain SQL.
-- They go into the current schema:  PGOPTIONS='-c search_path=jobs' psql -f eram.plain.sql
\set ON_ERROR_STOP on
begin;
