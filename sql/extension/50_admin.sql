CREATE FUNCTION engram.setup(options jsonb DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS 'MODULE_PATHNAME', 'setup_store_wrapper';
COMMENT ON FUNCTION engram.setup(jsonb) IS
'Creates the tables of engram, or brings them up to date; running it again changes nothing. Returns created or up to date.

options: {"grant_to": ["app"], "owner": "app_owner"}. grant_to lets roles store and search; on Supabase authenticated and service_role get this by themselves. owner: who owns the tables, by default the owner of the database.';

CREATE FUNCTION engram.whoami()
RETURNS TABLE (user_id uuid, source text, subject text, role text, bypasses_rls boolean,
               readable uuid[], writable uuid[], problem text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_store();
  RETURN QUERY
  SELECT c.user_id, c.source, c.subject, current_user::text, engram_internal.trusted(),
         engram.readable_workspaces(), engram.writable_workspaces(), c.problem
  FROM engram_internal.caller() c;
END
$$;
COMMENT ON FUNCTION engram.whoami() IS
'How the server sees the caller: user id, the source (jwt, setting, role) and subject it came from, role, workspaces, and what is wrong when there is no id.';

CREATE FUNCTION engram.version()
RETURNS TABLE (engram text, library text, vector text, postgres text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram'), engram_internal.library_version(),
         (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'vector'), current_setting('server_version');
END
$$;
COMMENT ON FUNCTION engram.version() IS
'Versions: of the SQL objects, of the loaded library (which may be newer until ALTER EXTENSION engram UPDATE), of pgvector and of PostgreSQL.';
