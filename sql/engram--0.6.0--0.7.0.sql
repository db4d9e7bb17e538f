\echo Use "ALTER EXTENSION engram UPDATE TO '0.7.0'" to load this file. \quit
DO $$
DECLARE
  f text;
  p regprocedure;
BEGIN
  FOREACH f IN ARRAY ARRAY[
    'engram_internal.root_place(text, bytea)',
    'engram_internal.segment_place(bytea)',
    'engram_internal.row_places(uuid, text, integer, integer, integer)',
    'engram_internal.is_placed(uuid, text, integer, bytea, integer)'
  ] LOOP
    BEGIN
      EXECUTE 'DROP FUNCTION ' || f;
    EXCEPTION WHEN dependent_objects_still_exist THEN
      -- Somebody's view needs it: it makes way under another name.
      p := f::regprocedure;
      EXECUTE format('ALTER FUNCTION %s RENAME TO %I', p, (SELECT proname FROM pg_proc WHERE oid = p) || '_before_0_7');
      EXECUTE format('ALTER FUNCTION %s SET SCHEMA engram_internal', p);
    END;
  END LOOP;
END
$$;
CREATE FUNCTION engram_internal.entry_places(workspace uuid, model text, cluster integer)
RETURNS TABLE (places bytea, states bytea)
LANGUAGE c STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'entry_places_wrapper';
COMMENT ON FUNCTION engram_internal.entry_places(uuid, text, integer) IS
'Where the rows of the entries of a segment are now, in their order, 6 bytes each, zeros for nowhere, and those of their states (model empty). Only the owner of the tables may ask.';

CREATE FUNCTION engram_internal.knows_places(workspace uuid, model text, cluster integer, head bytea) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'knows_places_wrapper';
COMMENT ON FUNCTION engram_internal.knows_places(uuid, text, integer, bytea) IS
'Whether a segment knows where its parts and the rows of its entries are, as far as a sample tells. Only the owner of the tables may ask.';

CREATE OR REPLACE FUNCTION engram_internal.place(workspace uuid, model text) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  -- What filters ask of memories may be kept once every change of it makes a new entry. Stores of 0.5 know fewer.
  valued  boolean := place.model = '' AND EXISTS (
    SELECT FROM pg_trigger t WHERE t.tgrelid = 'engram.memories'::regclass AND t.tgname = 'memories_after_update'
      AND pg_get_triggerdef(t.oid) LIKE '%agent_id%');
  h       record;
  places  bytea;
  states  bytea;
  n       integer := 0;
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT engram_internal.try_lock_work(workspace, 'pack') THEN
    RETURN 0;
  END IF;
  -- What only saves asking an index: a place that is not right any more is noticed by who goes there. The newest first,
  -- and few: somebody may wait who only adds.
  FOR h IN SELECT b.cluster, b.entries, b.block FROM engram.search_blocks b
           WHERE b.workspace_id = workspace AND b.model = place.model AND b.level = 3
             AND (NOT engram_internal.knows_places(workspace, place.model, b.cluster, b.block)
                  OR valued AND NOT EXISTS (
                    SELECT FROM engram.search_blocks v
                    WHERE v.workspace_id = place.workspace AND v.model = '' AND v.level = 4 AND v.cluster = b.cluster
                      AND v.block_id >= '0d000000-0000-0000-0000-000000000000'))
           ORDER BY b.cluster DESC LIMIT 2 LOOP
    DELETE FROM engram.search_blocks b
    WHERE b.workspace_id = workspace AND b.model = place.model AND b.level = 4 AND b.cluster = h.cluster
      AND b.block_id >= '0b000000-0000-0000-0000-000000000000';
    SELECT e.places, e.states INTO places, states FROM engram_internal.entry_places(workspace, place.model, h.cluster) e;
    INSERT INTO engram.search_blocks (workspace_id, model, level, cluster, block_id, entries, block)
    SELECT workspace, place.model, 4, h.cluster, r.block_id, 0, r.block
    FROM engram_internal.segment_rows(h.block, places, states) r;
    IF valued THEN
      INSERT INTO engram.search_blocks (workspace_id, model, level, cluster, block_id, entries, block)
      SELECT workspace, '', 4, h.cluster, r.block_id, 0, r.block
      FROM engram_internal.segment_values(workspace, h.block, ARRAY(
        SELECT i.block FROM engram.search_blocks i
        WHERE i.workspace_id = workspace AND i.model = '' AND i.level = 4 AND i.cluster = h.cluster
          AND i.block_id < '02000000-0000-0000-0000-000000000000')) r;
    END IF;
    UPDATE engram.search_blocks b
    SET block = engram_internal.segment_head(b.block, p.keys, p.places)
    FROM (SELECT array_agg(x.block_id ORDER BY x.block_id) AS keys,
                 string_agg(tidsend(x.ctid), '' ORDER BY x.block_id) AS places
          FROM engram.search_blocks x
          WHERE x.workspace_id = workspace AND x.model = place.model AND x.level = 4 AND x.cluster = h.cluster) p
    WHERE b.workspace_id = workspace AND b.model = place.model AND b.level = 3 AND b.cluster = h.cluster;
    n := n + 1;
  END LOOP;
  RETURN n;
END
$$;

CREATE OR REPLACE FUNCTION engram.stats(workspace uuid DEFAULT NULL)
RETURNS TABLE (
  memories bigint, forgotten bigint, superseded bigint, expired bigint, pinned bigint,
  by_type jsonb, by_layer jsonb, embeddings jsonb, pending_embeddings bigint, content_chars bigint,
  oldest timestamptz, newest timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(stats.workspace, false);
BEGIN
  RETURN QUERY
  WITH alive AS MATERIALIZED (
    SELECT m.id, m.type, m.layer, m.pinned, m.content, m.created_at, m.superseded_by, m.expires_at
    FROM engram.memories m WHERE m.workspace_id = ws AND m.deleted_at IS NULL)
  SELECT
    (SELECT count(*) FROM alive),
    (SELECT count(*) FROM engram.memories m WHERE m.workspace_id = ws AND m.deleted_at IS NOT NULL),
    (SELECT count(*) FROM alive a WHERE a.superseded_by IS NOT NULL),
    (SELECT count(*) FROM alive a WHERE a.expires_at <= now()),
    (SELECT count(*) FROM alive a WHERE a.pinned),
    (SELECT coalesce(jsonb_object_agg(t.type, t.n), '{}') FROM (SELECT a.type, count(*) AS n FROM alive a GROUP BY a.type) t),
    (SELECT coalesce(jsonb_object_agg(l.layer, l.n), '{}') FROM
      (SELECT p.layer, count(*) AS n FROM engram_internal.layers(ws) p GROUP BY p.layer) l),
    (SELECT coalesce(jsonb_object_agg(e.model, e.n), '{}') FROM
      (SELECT x.model, count(*) AS n FROM engram.embeddings x WHERE x.workspace_id = ws GROUP BY x.model) e),
    (SELECT count(*) FROM alive a, engram.embedding_models d WHERE d.is_default AND NOT EXISTS
      (SELECT FROM engram.embeddings x WHERE x.workspace_id = ws AND x.memory_id = a.id AND x.model = d.name)),
    (SELECT coalesce(sum(char_length(a.content)), 0)::bigint FROM alive a),
    (SELECT min(a.created_at) FROM alive a),
    (SELECT max(a.created_at) FROM alive a);
END
$$;

CREATE FUNCTION engram_internal.layers(workspace uuid) RETURNS TABLE (memory_id uuid, layer text)
LANGUAGE c STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'layers_wrapper';
COMMENT ON FUNCTION engram_internal.layers(uuid) IS
'The present layers of all memories of a workspace that are not forgotten, waiting uses included, of those that the caller may see.';

CREATE OR REPLACE FUNCTION engram_internal.layer_now(workspace uuid, id uuid) RETURNS text
-- Dearer than any look at the row.
LANGUAGE c STABLE STRICT COST 1000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'layer_now_wrapper';
-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
