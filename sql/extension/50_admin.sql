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

CREATE FUNCTION engram_internal.versions()
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
COMMENT ON FUNCTION engram_internal.versions() IS 'version(), for whoever owns the tables.';

CREATE FUNCTION engram.version()
RETURNS TABLE (engram text, library text, vector text, postgres text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY SELECT * FROM engram_internal.versions();
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
  ws      uuid;
  model   text;
  wrong   bigint;
  changed bigint := 0;
BEGIN
  PERFORM engram_internal.require_store();
  PERFORM engram_internal.require_writable();
  IF NOT has_table_privilege('engram.search_blocks', 'INSERT') OR NOT engram_internal.trusted() THEN
    RAISE EXCEPTION 'role "%" may not rebuild the search index', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Run it as the owner of the tables. The index follows every change by itself.';
  END IF;
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'reindex() cannot run in a transaction that is %', current_setting('transaction_isolation')
      USING ERRCODE = 'active_sql_transaction', HINT = 'Run it by itself, or BEGIN ISOLATION LEVEL READ COMMITTED.';
  END IF;
  -- Nobody stores or packs meanwhile, or what they store would be in it twice or not at all.
  LOCK TABLE engram.memories, engram.embeddings, engram.search_blocks IN SHARE ROW EXCLUSIVE MODE;
  FOR ws, model IN
    SELECT m.workspace_id, '' FROM engram.memories m
    WHERE reindex.workspace IS NULL OR m.workspace_id = reindex.workspace
    UNION SELECT e.workspace_id, e.model FROM engram.embeddings e
    WHERE reindex.workspace IS NULL OR e.workspace_id = reindex.workspace
    UNION SELECT b.workspace_id, b.model FROM engram.search_blocks b
    WHERE reindex.workspace IS NULL OR b.workspace_id = reindex.workspace
  LOOP
    wrong := engram_internal.reindex(ws, model);
    changed := changed + wrong;
  END LOOP;
  RETURN changed;
END
$$;
COMMENT ON FUNCTION engram.reindex(uuid) IS
'Rebuilds what search scans, for one workspace or (NULL) all, and returns how many entries were wrong; what erased memories left there goes too, and is not wrong. For the owner of the tables: after a change of PostgreSQL''s major version (stemmers change) or of text_config in engram.settings, and after rows were loaded with triggers disabled.

Others cannot store memories until its transaction ends.';

CREATE FUNCTION engram_internal.fresh_entries(workspace uuid, model text) RETURNS TABLE (id uuid, entry bytea)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  IF fresh_entries.model = '' THEN
    RETURN QUERY
    SELECT m.id, engram_internal.document(m.id, 0, 'plain', m.session_id, coalesce(m.occurred_at, m.created_at),
             c.config, m.content, m.speaker, m.occurred_at, m.summary)
    FROM engram.memories m, (SELECT engram_internal.text_config(fresh_entries.workspace) AS config) c
    WHERE m.workspace_id = fresh_entries.workspace AND m.deleted_at IS NULL;
  ELSE
    RETURN QUERY
    SELECT e.memory_id, engram_internal.vector_entry(e.memory_id, 0, 'plain', e.embedding)
    FROM engram.embeddings e
    WHERE e.workspace_id = fresh_entries.workspace AND e.model = fresh_entries.model;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.fresh_entries(uuid, text) IS
'What the blocks of a workspace should hold: the words of its memories (model empty) or the vectors of one model. As the caller.';

CREATE FUNCTION engram_internal.reindex(workspace uuid, model text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- While a dump is loaded or the extension updated, rows that look like a dump's are left out.
SET check_function_bodies = on
AS $$
DECLARE
  wrong  bigint;
  erased uuid[];
BEGIN
  BEGIN
    -- Erased where nothing could be packed: what these said may still lie there, dead, in vectors of other models too.
    erased := ARRAY(
      SELECT DISTINCT e.id FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.block_entries(b.block) e
      WHERE b.workspace_id = workspace AND b.model = reindex.model AND b.level = 0
        AND NOT EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = workspace AND m.id = e.id));
    IF erased <> '{}' THEN
      PERFORM engram_internal.bury(workspace, reindex.model, erased, array_fill(1::bigint << 61, ARRAY[cardinality(erased)]));
    END IF;
    WITH held AS (
      SELECT e.id, e.state, e.entry, row_number() OVER (PARTITION BY e.id ORDER BY e.version DESC) AS nth,
             max(e.version) FILTER (WHERE e.state <> 'plain') OVER (PARTITION BY e.id) AS replaced
      FROM engram_internal.held_entries(workspace, reindex.model) e
    ), doubled AS (
      -- More than one entry of a memory that none of them replaces.
      SELECT count(*) AS n FROM held h WHERE h.nth > 1 AND h.replaced IS NULL
    )
    SELECT count(*) + (SELECT d.n FROM doubled d) INTO wrong
    FROM (SELECT h.id, h.entry FROM held h WHERE h.nth = 1 AND h.state <> 'gone') h
    FULL JOIN engram_internal.fresh_entries(workspace, reindex.model) r ON r.id = h.id
    WHERE h.entry IS DISTINCT FROM r.entry;
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- A block that cannot be read.
    wrong := 1;
  END;
  IF wrong > 0 OR erased <> '{}' THEN
    DELETE FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = reindex.model;
    INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
    SELECT workspace, reindex.model, CASE WHEN m.is_full THEN 2 ELSE 1 END, engram_internal.uuid_v7(), m.entries, m.block
    FROM (
      SELECT array_agg(f.entry ORDER BY f.id) AS entries
      FROM (SELECT r.id, r.entry, (row_number() OVER (ORDER BY r.id) - 1) / 1000 AS part
            FROM engram_internal.fresh_entries(workspace, reindex.model) r) f
      GROUP BY f.part
    ) p CROSS JOIN LATERAL engram_internal.merge_blocks(p.entries, true) m;
    LOOP
      EXIT WHEN engram_internal.seal(workspace, reindex.model, CASE reindex.model WHEN '' THEN 256 ELSE 1024 END, 4096) = 0;
    END LOOP;
  END IF;
  IF reindex.model = '' THEN
    -- What segments hold for filters, where rows were changed with triggers disabled: place() writes it anew.
    DELETE FROM engram.search_blocks v
    WHERE v.workspace_id = workspace AND v.model = '' AND v.level = 4 AND v.block_id >= '0d000000-0000-0000-0000-000000000000'
      AND v.cluster IN (
        SELECT h.cluster FROM engram.search_blocks h
        WHERE h.workspace_id = workspace AND h.model = '' AND h.level = 3 AND EXISTS (
          SELECT FROM engram_internal.segment_values(workspace, h.block, ARRAY(
            SELECT i.block FROM engram.search_blocks i
            WHERE i.workspace_id = workspace AND i.model = '' AND i.level = 4 AND i.cluster = h.cluster
              AND i.block_id < '02000000-0000-0000-0000-000000000000')) r
          FULL JOIN (
            SELECT x.block_id, x.block FROM engram.search_blocks x
            WHERE x.workspace_id = workspace AND x.model = '' AND x.level = 4 AND x.cluster = h.cluster
              AND x.block_id >= '0d000000-0000-0000-0000-000000000000') x ON x.block_id = r.block_id
          WHERE r.block IS DISTINCT FROM x.block));
  END IF;
  FOR i IN 1 .. 1000 LOOP
    EXIT WHEN engram_internal.place(workspace, reindex.model) = 0;
  END LOOP;
  -- Nothing tells whether cells hold what they should.
  DELETE FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = reindex.model AND b.level = 5;
  PERFORM engram_internal.arrange(workspace, reindex.model);
  RETURN wrong;
END
$$;
COMMENT ON FUNCTION engram_internal.reindex(uuid, text) IS
'What engram.reindex() does for the words (model empty) or the vectors of one model of one workspace.';
