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

CREATE FUNCTION engram.reindex(workspace uuid DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  removed bigint;
  written bigint;
BEGIN
  PERFORM engram_internal.require_store();
  IF NOT has_table_privilege('engram.memory_terms', 'INSERT') OR NOT engram_internal.trusted() THEN
    RAISE EXCEPTION 'role "%" may not rebuild the search index', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Run it as the owner of the tables. The index follows every change by itself.';
  END IF;
  DELETE FROM engram.memory_terms t USING engram.memories m
  WHERE m.workspace_id = t.workspace_id AND m.id = t.memory_id AND m.deleted_at IS NOT NULL
    AND (reindex.workspace IS NULL OR t.workspace_id = reindex.workspace);
  GET DIAGNOSTICS removed = ROW_COUNT;
  INSERT INTO engram.memory_terms AS t (workspace_id, memory_id, length, terms, keys)
  SELECT m.workspace_id, m.id, engram_internal.term_count(tsvectorsend(f.terms)), f.terms,
         engram_internal.term_keys(m.workspace_id, tsvectorsend(f.terms))
  FROM engram.memories m
  CROSS JOIN LATERAL (SELECT engram_internal.to_terms(
    engram_internal.indexed_text(m.content, m.speaker, m.occurred_at, m.summary)) AS terms) f
  WHERE m.deleted_at IS NULL AND (reindex.workspace IS NULL OR m.workspace_id = reindex.workspace)
  ORDER BY m.workspace_id, m.id
  ON CONFLICT (workspace_id, memory_id) DO UPDATE
    SET length = excluded.length, terms = excluded.terms, keys = excluded.keys
    WHERE t.terms <> excluded.terms OR t.keys <> excluded.keys OR t.length <> excluded.length;
  GET DIAGNOSTICS written = ROW_COUNT;
  RETURN removed + written;
END
$$;
COMMENT ON FUNCTION engram.reindex(uuid) IS
'Rebuilds what search by words reads, for one workspace or (NULL) all, and returns how many memories it changed. For the owner of the tables, after a change of PostgreSQL''s major version (stemmers change) or after rows were loaded with triggers disabled.';
