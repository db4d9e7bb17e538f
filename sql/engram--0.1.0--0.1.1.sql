\echo Use "ALTER EXTENSION engram UPDATE TO '0.1.1'" to load this file. \quit

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

REVOKE EXECUTE ON FUNCTION engram.reindex(uuid) FROM PUBLIC;

-- The tables follow: new indexes, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
