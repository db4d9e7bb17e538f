\echo Use "ALTER EXTENSION engram UPDATE TO '0.4.0'" to load this file. \quit
DO $$
DECLARE
  f text;
  p regprocedure;
BEGIN
  FOREACH f IN ARRAY ARRAY[
    'engram_internal.take_lock()',
    'engram_internal.get(uuid, uuid)',
    'engram.get(uuid, uuid)',
    'engram.list(jsonb, integer, integer, text, text[], uuid)',
    'engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid)',
    'engram.erase(uuid[], jsonb, boolean, uuid)'
  ] LOOP
    BEGIN
      EXECUTE 'DROP FUNCTION ' || f;
    EXCEPTION WHEN dependent_objects_still_exist THEN
      -- Somebody's view needs it: it stays as it was, out of the way of its successor.
      p := f::regprocedure;
      EXECUTE format('ALTER FUNCTION %s RENAME TO %I', p, (SELECT proname FROM pg_proc WHERE oid = p) || '_before_0_4');
      EXECUTE format('ALTER FUNCTION %s SET SCHEMA engram_internal', p);
    END;
  END LOOP;
END
$$;
CREATE FUNCTION engram_internal.store_origin() RETURNS bigint
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'store_origin_wrapper';
COMMENT ON FUNCTION engram_internal.store_origin() IS
'A number for the table of events in this database of this cluster. Events that a dump brought in carry another.';
COMMENT ON FUNCTION engram_internal.block_holds(bytea, uuid[]) IS
'True when a block has an entry of any of the memories. Of the rows of a segment, those with ids can tell; its head says whether any of them may be in it.';

CREATE FUNCTION engram_internal.seal_blocks(blocks bytea[], tag integer)
RETURNS TABLE (level smallint, cluster integer, block_id uuid, entries integer, block bytea)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'seal_blocks_wrapper';
COMMENT ON FUNCTION engram_internal.seal_blocks(bytea[], integer) IS
'The entries of blocks and of whole segments, the newest of each memory, as rows of new segments, numbered from tag on.';

CREATE FUNCTION engram_internal.segment_entries(blocks bytea[])
RETURNS TABLE (id uuid, version bigint, state text, entry bytea)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'segment_entries_wrapper';
COMMENT ON FUNCTION engram_internal.segment_entries(bytea[]) IS
'What counts in the rows of a segment, as block_entries() gives it.';

CREATE FUNCTION engram_internal.bury_entries(old bytea, parts bytea[], ids uuid[], versions bigint[])
RETURNS TABLE (head bytea, dead integer, held uuid[])
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'bury_entries_wrapper';
COMMENT ON FUNCTION engram_internal.bury_entries(bytea, bytea[], uuid[], bigint[]) IS
'The head of a segment with those entries marked dead that are older than these versions of their memories; how many are dead in all; which of the memories are in it, dead or not. parts: its ids and stamps.';

CREATE OR REPLACE FUNCTION engram_internal.pack_sometimes(workspace uuid, model text, added integer, state text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- By chance, so that nobody need count: about once for every 24 new entries, or 100 that replace.
  IF state = 'plain' THEN
    IF random() * 24 < added THEN
      PERFORM engram_internal.pack(workspace, model, false, 16);
      PERFORM engram_internal.pack(workspace, model, true, 20);
    END IF;
    IF random() * 128 < added THEN
      PERFORM engram_internal.seal(workspace, model, 1024, 4096);
    END IF;
  ELSIF random() * 100 < added THEN
    PERFORM engram_internal.pack(workspace, model, true, 50);
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION engram_internal.pack(workspace uuid, model text, replacing boolean, at_least integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- While a dump is loaded, rows that look like a dump's are left out: not these.
SET check_function_bodies = on
AS $$
DECLARE
  packed   integer := 0;
  ids      uuid[];
  versions bigint[];
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  -- One at a time in a workspace, until its end is visible to the next, and under a snapshot taken
  -- afterwards: then every entry of a memory that is being replaced is seen. Nobody waits here.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT engram_internal.try_lock_work(workspace, 'pack') THEN
    RETURN 0;
  END IF;
  IF (SELECT count(*) FROM engram.search_blocks b
      WHERE b.workspace_id = workspace AND b.model = pack.model AND b.level = CASE WHEN replacing THEN 0 ELSE 1 END) < at_least THEN
    RETURN 0;
  END IF;
  -- One statement, hence one snapshot: of a block that waits, committed while this runs, either all
  -- memories are being replaced or none.
  BEGIN
    WITH waiting AS MATERIALIZED (
      SELECT array_agg(e.id) AS ids, array_agg(e.version) AS versions
      FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.block_entries(b.block) e
      WHERE replacing AND b.workspace_id = workspace AND b.model = pack.model AND b.level = 0
    ), old AS (
      DELETE FROM engram.search_blocks b
      WHERE b.workspace_id = workspace AND b.model = pack.model
        AND b.level BETWEEN CASE WHEN replacing THEN 0 ELSE 1 END AND CASE WHEN replacing THEN 2 ELSE 1 END
        AND CASE WHEN replacing THEN engram_internal.block_holds(b.block, (SELECT w.ids FROM waiting w)) ELSE true END
      RETURNING b.block
    ), new AS (
      INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
      SELECT workspace, pack.model, CASE WHEN m.is_full THEN 2 ELSE 1 END, engram_internal.uuid_v7(), m.entries, m.block
      FROM engram_internal.merge_blocks((SELECT array_agg(o.block) FROM old o), replacing) m
      RETURNING 1
    )
    SELECT count(*), (SELECT w.ids FROM waiting w), (SELECT w.versions FROM waiting w) INTO packed, ids, versions FROM new;
    IF ids IS NOT NULL THEN
      packed := packed + engram_internal.bury(workspace, model, ids, versions);
    END IF;
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- A block that cannot be read: reindex() mends it, and until then writing goes on.
    RETURN 0;
  END;
  RETURN packed;
END
$$;

CREATE FUNCTION engram_internal.bury(workspace uuid, model text, ids uuid[], versions bigint[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  h      record;
  parts  bytea[];
  buried record;
  erased uuid[];
  other  text;
  n      integer := 0;
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  erased := ARRAY(
    SELECT u.id FROM unnest(ids) AS u (id)
    WHERE (SELECT m.id FROM engram.memories m WHERE m.workspace_id = workspace AND m.id = u.id OFFSET 0) IS NULL);
  IF model = '' AND erased <> '{}' THEN
    -- A vector of an earlier text is dead, and nothing else tells that it must go.
    FOR other IN SELECT m.name FROM engram.embedding_models m WHERE EXISTS (
        SELECT FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = m.name AND b.level = 3) LOOP
      n := n + engram_internal.bury(workspace, other, erased, array_fill(1::bigint << 61, ARRAY[cardinality(erased)]));
    END LOOP;
  END IF;
  FOR h IN SELECT b.cluster, b.entries, b.block FROM engram.search_blocks b
           WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level = 3
             AND engram_internal.block_holds(b.block, ids) LOOP
    -- Ids and stamps come first.
    parts := ARRAY(SELECT b.block FROM engram.search_blocks b
                   WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level = 4 AND b.cluster = h.cluster
                     AND b.block_id < '03000000-0000-0000-0000-000000000000');
    SELECT * INTO buried FROM engram_internal.bury_entries(h.block, parts, ids, versions);
    CONTINUE WHEN buried.held = '{}';
    -- Of a memory that was erased nothing may stay; what else is dead only costs time and room.
    IF buried.dead * 4 > h.entries OR buried.held && erased THEN
      WITH old AS (
        DELETE FROM engram.search_blocks b
        WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level IN (3, 4) AND b.cluster = h.cluster
        RETURNING CASE WHEN b.level = 3 THEN buried.head ELSE b.block END AS block
      )
      INSERT INTO engram.search_blocks (workspace_id, model, level, cluster, block_id, entries, block)
      SELECT workspace, bury.model, s.level, s.cluster, s.block_id, s.entries, s.block
      FROM engram_internal.seal_blocks((SELECT array_agg(o.block) FROM old o),
        (SELECT max(b.cluster) + 1 FROM engram.search_blocks b
         WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level = 3)) s;
      n := n + 1;
    ELSIF buried.head <> h.block THEN
      UPDATE engram.search_blocks b SET block = buried.head
      WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level = 3 AND b.cluster = h.cluster;
      n := n + 1;
    END IF;
  END LOOP;
  RETURN n;
END
$$;
COMMENT ON FUNCTION engram_internal.bury(uuid, text, uuid[], bigint[]) IS
'Marks in the segments of a workspace what these versions of memories replace, and takes out what was erased, and all that is dead where that is much. Returns how many segments changed. For pack(), which holds the lock.';

CREATE FUNCTION engram_internal.seal(workspace uuid, model text, at_least integer, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  full_blocks uuid[];
  h           record;
  tags        integer[] := '{}';
  next_tag    integer := 1;
  all_of_them integer;
  n           integer;
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  -- As in pack().
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT engram_internal.try_lock_work(workspace, 'pack') THEN
    RETURN 0;
  END IF;
  SELECT array_agg(f.block_id), max(f.upto) INTO full_blocks, n
  FROM (SELECT b.block_id, b.entries, sum(b.entries) OVER (ORDER BY b.block_id) AS upto FROM engram.search_blocks b
        WHERE b.workspace_id = workspace AND b.model = seal.model AND b.level = 2) f
  WHERE f.upto <= most OR f.upto = f.entries;
  IF n IS NULL OR n < at_least THEN
    RETURN 0;
  END IF;
  -- The small ones join once they fill a segment: every entry moves twice.
  all_of_them := n;
  FOR h IN SELECT b.cluster, b.entries FROM engram.search_blocks b
           WHERE b.workspace_id = workspace AND b.model = seal.model AND b.level = 3 ORDER BY b.cluster DESC LOOP
    next_tag := greatest(next_tag, h.cluster + 1);
    CONTINUE WHEN h.entries > most / 2 OR all_of_them + h.entries > most;
    tags := tags || h.cluster;
    all_of_them := all_of_them + h.entries;
  END LOOP;
  IF all_of_them < most / 4 * 3 THEN
    tags := '{}';
  END IF;
  BEGIN
    -- Versions stay what they are, so that it does not matter which later ones are seen.
    WITH loose AS (
      DELETE FROM engram.search_blocks b
      WHERE b.workspace_id = workspace AND b.model = seal.model AND b.level = 2 AND b.block_id = ANY (full_blocks)
      RETURNING b.block
    ), old AS (
      DELETE FROM engram.search_blocks b
      WHERE b.workspace_id = workspace AND b.model = seal.model AND b.level IN (3, 4) AND b.cluster = ANY (tags)
      RETURNING b.block
    ), new AS (
      INSERT INTO engram.search_blocks (workspace_id, model, level, cluster, block_id, entries, block)
      SELECT workspace, seal.model, s.level, s.cluster, s.block_id, s.entries, s.block
      FROM engram_internal.seal_blocks(
        (SELECT array_agg(x.block) FROM (SELECT l.block FROM loose l UNION ALL SELECT o.block FROM old o) x), next_tag) s
      RETURNING 1
    )
    SELECT count(*) INTO n FROM new;
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RETURN 0;
  END;
  RETURN n;
END
$$;
COMMENT ON FUNCTION engram_internal.seal(uuid, text, integer, integer) IS
'Makes a segment of the full blocks of a workspace, when they have at least so many entries, and of its small segments when together they come near to the most that a segment may have. Returns how many rows it has; 0 when there was nothing to do. Runs with the rights of the caller, who must own the tables; does nothing while another transaction packs.';

CREATE FUNCTION engram_internal.held_entries(workspace uuid, model text)
RETURNS TABLE (level smallint, id uuid, version bigint, state text, entry bytea)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT b.level, e.id, e.version, e.state, e.entry
  FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.block_entries(b.block) e
  WHERE b.workspace_id = held_entries.workspace AND b.model = held_entries.model AND b.level < 3
  UNION ALL
  SELECT 3::smallint, e.id, e.version, e.state, e.entry
  FROM (SELECT array_agg(b.block) AS blocks FROM engram.search_blocks b
        WHERE b.workspace_id = held_entries.workspace AND b.model = held_entries.model AND b.level > 2
        GROUP BY b.cluster) s CROSS JOIN LATERAL engram_internal.segment_entries(s.blocks) e;
END
$$;
COMMENT ON FUNCTION engram_internal.held_entries(uuid, text) IS
'What the blocks and segments of a workspace hold: the words of its memories (model empty) or the vectors of one model. As the caller.';

CREATE FUNCTION engram_internal.compile_past_filter(filter jsonb) RETURNS TABLE (condition text, params jsonb)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'compile_past_filter_wrapper';
COMMENT ON FUNCTION engram_internal.compile_past_filter(jsonb) IS
'As compile_filter(), over engram_internal.memories_as_of() m.';

CREATE OR REPLACE FUNCTION engram_internal.lock_keys(workspace uuid, keys text[]) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'lock_keys_wrapper';

CREATE FUNCTION engram_internal.try_lock_key(workspace uuid, key text) RETURNS boolean
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'try_lock_key_wrapper';
COMMENT ON FUNCTION engram_internal.try_lock_key(uuid, text) IS 'The lock that lock_keys() takes for one key, if it is free; false when it is not.';

CREATE FUNCTION engram_internal.lock_workspace(workspace uuid) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'lock_workspace_wrapper';
COMMENT ON FUNCTION engram_internal.lock_workspace(uuid) IS
'Until the end of the transaction nobody else stores anything in the workspace that lock_keys() locks for.';

CREATE FUNCTION engram_internal.try_lock_work(workspace uuid, work text) RETURNS boolean
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'try_lock_work_wrapper';
COMMENT ON FUNCTION engram_internal.try_lock_work(uuid, text) IS
'Until the end of the transaction nobody else does this kind of work in the workspace; false when somebody does.';

CREATE FUNCTION engram_internal.links_anew(workspace uuid, memory uuid, names text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF names IS NULL OR names = '{}' THEN
    RETURN false;
  END IF;
  -- No alias is declared between this and link_entities().
  PERFORM engram_internal.lock_keys(workspace, '{}');
  RETURN EXISTS (
    SELECT FROM unnest(names) AS u (name)
    WHERE NOT EXISTS (SELECT FROM engram.graph_links g
                      WHERE g.workspace_id = links_anew.workspace AND g.memory_id = links_anew.memory AND g.relation = 'mentions'
                        AND g.node = engram_internal.entity_key(links_anew.workspace, u.name)));
END
$$;
COMMENT ON FUNCTION engram_internal.links_anew(uuid, uuid, text[]) IS
'Whether link_entities() would record anything that is not there yet. Locks as that does.';

-- Storing, reading and changing memories. All of it runs as the caller: the policies on the tables
-- decide, and the functions check the workspace themselves as well.
CREATE OR REPLACE FUNCTION engram_internal.store(
  workspace uuid, content text, type text, importance double precision, embedding real[], tags text[],
  metadata jsonb, occurred_at timestamptz, agent_id text, session_id text, speaker text, role text,
  source text, entities text[], expires_at timestamptz, on_duplicate text,
  INOUT id uuid, OUT status text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  strategy  text := coalesce(on_duplicate, 'merge');
  -- Not the tables' row types: those would not be there before setup().
  model     record;
  hash      bytea;
  twin      record;
  threshold double precision;
  anew      boolean;
BEGIN
  IF strategy NOT IN ('merge', 'skip', 'reject', 'allow') THEN
    RAISE EXCEPTION 'unknown on_duplicate "%"', strategy
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: merge (default), skip, reject, allow.';
  END IF;
  IF content IS NULL OR engram_internal.is_blank(content) THEN
    RAISE EXCEPTION 'content is %', CASE WHEN content IS NULL THEN 'NULL' ELSE 'empty' END
      USING ERRCODE = 'invalid_parameter_value', HINT = 'A memory needs at least one visible character of content.';
  END IF;
  PERFORM engram_internal.check_memory(type, NULL, role, importance, tags);
  IF embedding IS NOT NULL THEN
    SELECT * INTO model FROM engram.embedding_models e WHERE e.is_default;
    IF NOT FOUND THEN
      PERFORM engram_internal.refuse_model(NULL);
    END IF;
  END IF;
  metadata := engram_internal.metadata_object(metadata);
  hash := sha256(convert_to(engram_internal.normalize_content(content), 'UTF8'));

  -- Whoever stores the same id or the same content at the same moment waits here, so that the
  -- look-ups see what the other one wrote. The twin's row is locked, so that it is not erased,
  -- forgotten or changed under a caller who is told that it holds the content.
  PERFORM engram_internal.lock_keys(workspace, array_remove(ARRAY[
    id::text, CASE WHEN strategy <> 'allow' THEN encode(hash, 'hex') END], NULL));
  IF id IS NOT NULL THEN
    SELECT * INTO twin FROM engram.memories m WHERE m.workspace_id = workspace AND m.id = id FOR NO KEY UPDATE;
    IF FOUND THEN
      IF twin.content_hash = hash AND twin.deleted_at IS NULL THEN
        status := 'unchanged';
        RETURN;
      END IF;
      RAISE EXCEPTION 'memory "%" exists already with %', id,
          CASE WHEN twin.deleted_at IS NULL THEN 'other content' ELSE 'a forgotten content' END
        USING ERRCODE = 'unique_violation', SCHEMA = 'engram', TABLE = 'memories', CONSTRAINT = 'memories_pkey',
              HINT = 'Change it with engram.update(), bring it back with engram.restore(), or choose another id.';
    END IF;
  END IF;
  IF strategy <> 'allow' THEN
    SELECT * INTO twin FROM engram.memories m
    -- As no index sees it: the hash alone finds them, see memories_content_idx.
    WHERE (m.workspace_id = workspace) IS TRUE AND m.content_hash = hash AND m.deleted_at IS NULL
      AND m.superseded_by IS NULL AND (m.expires_at IS NULL OR m.expires_at > now())
    ORDER BY m.created_at, m.id LIMIT 1 FOR NO KEY UPDATE;
    IF NOT FOUND AND embedding IS NOT NULL THEN
      threshold := (SELECT coalesce(w.near_duplicate_threshold, d.near_duplicate_threshold)
        FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = workspace
        WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
      IF threshold IS NOT NULL THEN
        SELECT m.* INTO twin
        FROM engram.embeddings e
        JOIN engram.memories m ON m.workspace_id = workspace AND m.id = e.memory_id
        WHERE e.workspace_id = workspace AND e.model = model.name AND m.deleted_at IS NULL
          AND m.superseded_by IS NULL AND (m.expires_at IS NULL OR m.expires_at > now())
          AND engram_internal.similarity(e.embedding, embedding, model.distance) >= threshold
        ORDER BY engram_internal.similarity(e.embedding, embedding, model.distance) DESC, m.id LIMIT 1
        FOR NO KEY UPDATE OF m;
      END IF;
    END IF;
    IF FOUND THEN
      IF strategy = 'reject' THEN
        RAISE EXCEPTION 'the content is already stored as memory "%"', twin.id
          USING ERRCODE = 'unique_violation', SCHEMA = 'engram', TABLE = 'memories',
                HINT = 'Use on_duplicate => ''merge'' to reinforce it, or ''allow'' to store it twice.';
      END IF;
      id := twin.id;
      status := 'skipped';
      IF strategy = 'merge' THEN
        status := 'merged';
        -- Said again: it counts as one more use, and nothing that came with it is lost.
        INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, memory_ids)
        VALUES (workspace, engram_internal.uuid_v7(), now(), engram.current_user_id(), 'stored', 1, 3, ARRAY[id]);
        anew := engram_internal.links_anew(workspace, id, entities);
        UPDATE engram.memories m
        SET version = m.version + CASE WHEN anew THEN 1 ELSE 0 END,
            importance = greatest(m.importance, importance),
            tags = m.tags || ARRAY(SELECT t FROM unnest(tags) t WHERE t <> ALL (m.tags)),
            metadata = m.metadata || coalesce(metadata, '{}'),
            expires_at = CASE WHEN m.expires_at < expires_at THEN expires_at
                              WHEN expires_at IS NOT NULL THEN m.expires_at END
        WHERE m.workspace_id = workspace AND m.id = id
          AND (anew OR importance > m.importance OR NOT coalesce(tags, '{}') <@ m.tags
               OR NOT m.metadata @> coalesce(metadata, '{}') OR m.expires_at < coalesce(expires_at, 'infinity'));
        IF embedding IS NOT NULL THEN
          INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding)
          VALUES (workspace, id, model.name, embedding) ON CONFLICT DO NOTHING;
        END IF;
        PERFORM engram_internal.link_entities(workspace, id, entities);
      END IF;
      RETURN;
    END IF;
  END IF;

  id := coalesce(id, engram_internal.uuid_v7());
  status := 'added';
  INSERT INTO engram.memories (workspace_id, id, content, type, importance, tags, metadata, occurred_at,
    agent_id, session_id, speaker, role, source, expires_at)
  VALUES (workspace, id, content, type, importance, tags, metadata, occurred_at,
    agent_id, session_id, speaker, role, source, expires_at);
  IF embedding IS NOT NULL THEN
    INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding)
    VALUES (workspace, id, model.name, embedding);
  END IF;
  IF entities IS NOT NULL THEN
    PERFORM engram_internal.link_entities(workspace, id, entities);
  END IF;
END
$$;

CREATE FUNCTION engram_internal.store_new(
  content text, type text, importance double precision, embedding vector, tags text[],
  metadata jsonb, occurred_at timestamptz, agent_id text, session_id text, speaker text, role text,
  source text, entities text[], id uuid, expires_at timestamptz, on_duplicate text, workspace uuid) RETURNS uuid
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'store_new_wrapper';
COMMENT ON FUNCTION engram_internal.store_new(text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], uuid, timestamptz, text, uuid) IS
'What store() does, for a memory that is new beyond doubt, where the tables are as setup() made them: its id. NULL leaves all else to store(), errors too.';

CREATE FUNCTION engram_internal.store_items(items jsonb, workspace uuid, OUT given integer, OUT positions integer[], OUT ids uuid[])
RETURNS SETOF record
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'store_items_wrapper';
COMMENT ON FUNCTION engram_internal.store_items(jsonb, uuid) IS
'store_new() for the items of add_many(): how many there are, and positions and ids of those that were stored. No row when nothing can be stored so.';

CREATE OR REPLACE FUNCTION engram.add(
  content text,
  type text DEFAULT NULL,
  importance double precision DEFAULT NULL,
  embedding vector DEFAULT NULL,
  tags text[] DEFAULT NULL,
  metadata jsonb DEFAULT NULL,
  occurred_at timestamptz DEFAULT NULL,
  agent_id text DEFAULT NULL,
  session_id text DEFAULT NULL,
  speaker text DEFAULT NULL,
  role text DEFAULT NULL,
  source text DEFAULT NULL,
  entities text[] DEFAULT NULL,
  id uuid DEFAULT NULL,
  expires_at timestamptz DEFAULT NULL,
  on_duplicate text DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  stored uuid := engram_internal.store_new(content, type, importance, embedding, tags, metadata, occurred_at, agent_id,
    session_id, speaker, role, source, entities, id, expires_at, on_duplicate, workspace);
BEGIN
  IF stored IS NOT NULL THEN
    RETURN stored;
  END IF;
  RETURN (SELECT s.id FROM engram_internal.store(engram_internal.resolve_workspace(workspace, true),
    content, type, importance, embedding, tags, metadata, occurred_at, agent_id, session_id, speaker, role,
    source, entities, expires_at, on_duplicate, id) s);
END
$$;

CREATE OR REPLACE FUNCTION engram.add_many(items jsonb, workspace uuid DEFAULT NULL)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(add_many.workspace, true);
  done      integer[];
  done_ids  uuid[];
  done_at   integer;
  given     integer;
  item      record;
  help      text;
  model     text;
BEGIN
  -- The short way, for what is new beyond doubt. If anything in it is refused, nothing of it is stored.
  BEGIN
    SELECT s.given, s.positions, s.ids INTO given, done, done_ids FROM engram_internal.store_items(add_many.items, ws) s;
  EXCEPTION WHEN OTHERS THEN
    -- Who was waited for in vain, or a server in trouble, is not the items' fault.
    IF SQLSTATE ~ '^(40|53|57|58|XX|55P03)' THEN
      RAISE;
    END IF;
    done := NULL;
  END;
  IF cardinality(done) = given THEN
    RETURN QUERY SELECT u.position, u.id, 'added', NULL::text FROM unnest(done, done_ids) AS u (position, id);
    RETURN;
  END IF;

  -- The same with one statement, for tables of which more is to be minded. If anything in it is refused, nothing
  -- of it is stored and every item takes the careful way below.
  IF done IS NULL THEN
    model := (SELECT m.name FROM engram.embedding_models m WHERE m.is_default);
    PERFORM engram_internal.lock_keys(ws, ARRAY(
      SELECT p.id::text FROM engram_internal.parse_items(add_many.items) p WHERE p.id IS NOT NULL
      UNION SELECT encode(sha256(convert_to(engram_internal.normalize_content(p.content), 'UTF8')), 'hex')
      FROM engram_internal.parse_items(add_many.items) p
      WHERE p.content IS NOT NULL AND p.on_duplicate IS DISTINCT FROM 'allow'));
    BEGIN
      WITH parsed AS MATERIALIZED (
        SELECT p.*, sha256(convert_to(engram_internal.normalize_content(p.content), 'UTF8')) AS hash
        FROM engram_internal.parse_items(add_many.items) p
        WHERE p.error IS NULL AND p.content IS NOT NULL
      ), fresh AS MATERIALIZED (
        SELECT p.*, engram_internal.uuid_v7() AS new_id
        FROM (SELECT q.*, row_number() OVER (PARTITION BY q.hash ORDER BY q.position) AS nth FROM parsed q) p
        WHERE p.id IS NULL AND p.nth = 1 AND p.entities IS NULL
          AND (p.on_duplicate IS NULL OR p.on_duplicate IN ('merge', 'skip', 'reject', 'allow'))
          AND (p.embedding IS NULL OR model IS NOT NULL AND NOT EXISTS (
            SELECT FROM engram.settings s WHERE s.near_duplicate_threshold IS NOT NULL
              AND s.workspace_id IN (ws, '00000000-0000-0000-0000-000000000000')))
          -- One look-up an item: as a join it could read everybody's rows.
          AND (SELECT count(*) FROM (SELECT FROM engram.memories m WHERE (m.workspace_id = ws) IS TRUE AND m.content_hash = p.hash LIMIT 1) known) = 0
      ), stored AS (
        INSERT INTO engram.memories (workspace_id, id, content, type, importance, tags, metadata, occurred_at,
          agent_id, session_id, speaker, role, source, expires_at)
        SELECT ws, f.new_id, f.content, f.type, f.importance, f.tags, f.metadata, f.occurred_at,
          f.agent_id, f.session_id, f.speaker, f.role, f.source, f.expires_at
        FROM fresh f ORDER BY f.position
      ), embedded AS (
        INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding)
        SELECT ws, f.new_id, model, f.embedding FROM fresh f WHERE f.embedding IS NOT NULL ORDER BY f.position
      )
      SELECT coalesce(array_agg(f.position ORDER BY f.position), '{}'),
             coalesce(array_agg(f.new_id ORDER BY f.position), '{}')
      INTO done, done_ids FROM fresh f;
    EXCEPTION WHEN OTHERS THEN
      done := '{}';
      done_ids := '{}';
    END;
  END IF;

  FOR item IN SELECT p.* FROM engram_internal.parse_items(add_many.items) p ORDER BY p.position LOOP
    position := item.position;
    id := NULL;
    error := item.error;
    status := 'error';
    done_at := array_position(done, item.position);
    IF done_at IS NOT NULL THEN
      id := done_ids[done_at];
      status := 'added';
    ELSIF item.error IS NULL THEN
      BEGIN
        SELECT s.id, s.status INTO id, status
        FROM engram_internal.store(ws, item.content, item.type, item.importance, item.embedding, item.tags,
          item.metadata, item.occurred_at, item.agent_id, item.session_id, item.speaker, item.role,
          item.source, item.entities, item.expires_at, item.on_duplicate, item.id) s;
      EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS help = PG_EXCEPTION_HINT;
        id := NULL;
        status := 'error';
        error := SQLERRM || coalesce('. ' || nullif(help, ''), '');
      END;
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;

CREATE FUNCTION engram_internal.get(wanted uuid, workspace uuid, as_of timestamptz)
RETURNS TABLE (
  id uuid, workspace_id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text,
  content text, summary text, type text, importance double precision, layer text, pinned boolean,
  tags text[], metadata jsonb, source text, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
  expires_at timestamptz, deleted_at timestamptz, version integer, created_at timestamptz,
  updated_at timestamptz, access_count bigint, last_accessed_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(get.workspace, false);
BEGIN
  IF get.as_of IS NOT NULL THEN
    PERFORM engram_internal.check_as_of(get.as_of);
    RETURN QUERY
    SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
         m.type, m.importance, s.layer, m.pinned, m.tags, m.metadata, m.source, m.entities,
         m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
         m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at
    FROM engram_internal.memories_as_of(ws, get.as_of, ARRAY[get.wanted]) m
    CROSS JOIN engram_internal.state_as_of(ws, get.as_of, ARRAY[get.wanted]) s
    WHERE m.deleted_at IS NULL;
    RETURN;
  END IF;
  RETURN QUERY
  SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
       m.type, m.importance, p.layer, m.pinned, m.tags, m.metadata, m.source,
       ARRAY(SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = m.workspace_id
             AND g.memory_id = m.id AND g.relation = 'mentions' ORDER BY g.node),
       m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
       m.version, m.created_at, m.updated_at, p.access_count, p.last_accessed_at
  FROM engram.memories m
  CROSS JOIN LATERAL engram_internal.present(ws, now(), ARRAY[m.id]) p
  WHERE m.workspace_id = ws AND m.id = get.wanted AND m.deleted_at IS NULL;
END
$$;
COMMENT ON FUNCTION engram_internal.get(uuid, uuid, timestamptz) IS 'What get() does.';

-- A function of its own, because PL/pgSQL cannot have an argument and a column of the same name.
CREATE FUNCTION engram.get(id uuid, workspace uuid DEFAULT NULL, as_of timestamptz DEFAULT NULL)
RETURNS TABLE (
  id uuid, workspace_id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text,
  content text, summary text, type text, importance double precision, layer text, pinned boolean,
  tags text[], metadata jsonb, source text, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
  expires_at timestamptz, deleted_at timestamptz, version integer, created_at timestamptz,
  updated_at timestamptz, access_count bigint, last_accessed_at timestamptz)
LANGUAGE sql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT g.* FROM engram_internal.get($1, $2, $3) g
$$;
COMMENT ON FUNCTION engram.get(uuid, uuid, timestamptz) IS
'One memory, or no row when it is not there or forgotten. Reading does not count as a use.

as_of: as it was recorded at that moment, by what is still known of it; no row when it was not stored yet, forgotten then, or erased since.';

CREATE FUNCTION engram.list(
  filter jsonb DEFAULT NULL,
  match_count integer DEFAULT NULL,
  skip integer DEFAULT NULL,
  cursor text DEFAULT NULL,
  include text[] DEFAULT NULL,
  workspace uuid DEFAULT NULL,
  as_of timestamptz DEFAULT NULL
) RETURNS TABLE (
  id uuid, workspace_id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text,
  content text, summary text, type text, importance double precision, layer text, pinned boolean,
  tags text[], metadata jsonb, source text, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
  expires_at timestamptz, deleted_at timestamptz, version integer, created_at timestamptz,
  updated_at timestamptz, access_count bigint, last_accessed_at timestamptz, cursor_next text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(list.workspace, false);
  wanted    integer := coalesce(list.match_count, 50);
  skipped   integer := coalesce(list.skip, 0);
  condition text;
  params    jsonb;
  last_at   timestamptz;
  last_id   uuid;
  states    text;
  batch     uuid[];
  ids       uuid[] := '{}';
  ahead     integer := 100;
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000, and page on with cursor.';
  END IF;
  IF skipped < 0 THEN
    RAISE EXCEPTION 'skip is %', skipped
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 0 or more.';
  END IF;
  IF NOT coalesce(list.include, '{}') <@ ARRAY['forgotten', 'superseded', 'expired'] THEN
    RAISE EXCEPTION 'unknown value in include: %', list.include
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: forgotten, superseded, expired.';
  END IF;
  IF list.cursor IS NOT NULL THEN
    IF list.cursor !~ '^-?[0-9]{1,16}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.list() returned', list.cursor
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass cursor_next of the last row of the page before, unchanged.';
    END IF;
    last_at := timestamptz 'epoch' + split_part(list.cursor, '_', 1)::double precision * interval '1 microsecond';
    last_id := split_part(list.cursor, '_', 2)::uuid;
  END IF;
  states := CASE WHEN 'forgotten' = ANY (list.include) THEN '' ELSE ' AND m.deleted_at IS NULL' END
    || CASE WHEN 'superseded' = ANY (list.include) THEN '' ELSE ' AND m.superseded_by IS NULL' END
    || CASE WHEN 'expired' = ANY (list.include) THEN '' ELSE ' AND (m.expires_at IS NULL OR m.expires_at > $7)' END;
  IF list.as_of IS NOT NULL THEN
    PERFORM engram_internal.check_as_of(list.as_of);
    SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_past_filter(list.filter) f;
    IF last_at IS NULL OR last_at > list.as_of THEN
      last_at := list.as_of;
      last_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    END IF;
    -- By the order of now, which is that of then, until the page is full.
    WHILE cardinality(ids) < skipped + wanted AND last_at IS NOT NULL LOOP
      SELECT o.ids, o.last_at, o.last_id INTO batch, last_at, last_id FROM engram_internal.older(ws, last_at, last_id, ahead) o;
      EXECUTE 'SELECT array_agg(m.id ORDER BY m.created_at DESC, m.id DESC) FROM engram_internal.memories_as_of($2, $7, $3) m
               WHERE $1 IS NOT NULL AND ' || condition || states
        INTO batch USING params, ws, batch, NULL, NULL, NULL, list.as_of;
      ids := ids || batch;
      ahead := least(ahead * 2, 5000);
    END LOOP;
    RETURN QUERY
    SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
         m.type, m.importance, s.layer, m.pinned, m.tags, m.metadata, m.source, m.entities,
         m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
         m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at,
         (date_part('epoch', date_trunc('second', m.created_at))::bigint * 1000000
          + date_part('microseconds', m.created_at)::bigint % 1000000)::text || '_' || m.id
    FROM engram_internal.memories_as_of(ws, list.as_of, ids[skipped + 1 : skipped + wanted]) m
    LEFT JOIN engram_internal.state_as_of(ws, list.as_of, ids[skipped + 1 : skipped + wanted]) s ON s.memory_id = m.id
    ORDER BY m.created_at DESC, m.id DESC;
    RETURN;
  END IF;
  SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_filter(list.filter) f;
  RETURN QUERY EXECUTE
    $q$WITH page AS MATERIALIZED (SELECT m.* FROM engram.memories m WHERE m.workspace_id = $2 AND $1 IS NOT NULL$q$
    || CASE WHEN list.cursor IS NOT NULL THEN ' AND (m.created_at, m.id) < ($3, $4)' ELSE '' END
    || states || ' AND ' || condition
    || $q$ ORDER BY m.created_at DESC, m.id DESC LIMIT $5 OFFSET $6)
    SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
       m.type, m.importance, s.layer, m.pinned, m.tags, m.metadata, m.source,
       ARRAY(SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = m.workspace_id
             AND g.memory_id = m.id AND g.relation = 'mentions' ORDER BY g.node),
       m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
       m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at,
       (date_part('epoch', date_trunc('second', m.created_at))::bigint * 1000000
        + date_part('microseconds', m.created_at)::bigint % 1000000)::text || '_' || m.id
    FROM page m
    LEFT JOIN engram_internal.present($2, now(), (SELECT array_agg(p.id) FROM page p)) s ON s.memory_id = m.id
    ORDER BY m.created_at DESC, m.id DESC$q$
    USING params, ws, last_at, last_id, wanted, skipped, now();
END
$$;
COMMENT ON FUNCTION engram.list(jsonb, integer, integer, text, text[], uuid, timestamptz) IS
'Memories, newest first, a page at a time. Reading does not count as a use.

filter: see README, "Filters"; for example {"type": "factual", "importance": {"gte": 0.5}, "project": "apollo"}. match_count: 1 to 1000, by default 50. cursor: cursor_next of the last row of the page before; pages stay right while memories are added. skip: rows to leave out first. include: any of forgotten, superseded, expired, which are left out otherwise. as_of: what was recorded at that moment and is still known, filters and include judged by the values and the moment of then; what was erased since is gone from the past too.';

CREATE OR REPLACE FUNCTION engram.update(
  id uuid,
  content text DEFAULT NULL,
  summary text DEFAULT NULL,
  type text DEFAULT NULL,
  importance double precision DEFAULT NULL,
  tags text[] DEFAULT NULL,
  metadata jsonb DEFAULT NULL,
  occurred_at timestamptz DEFAULT NULL,
  agent_id text DEFAULT NULL,
  session_id text DEFAULT NULL,
  speaker text DEFAULT NULL,
  role text DEFAULT NULL,
  source text DEFAULT NULL,
  entities text[] DEFAULT NULL,
  embedding vector DEFAULT NULL,
  valid_from timestamptz DEFAULT NULL,
  valid_to timestamptz DEFAULT NULL,
  expires_at timestamptz DEFAULT NULL,
  clear text[] DEFAULT NULL,
  expected_version integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws  uuid := engram_internal.resolve_workspace(update.workspace, true);
  gone text[] := coalesce(update.clear, '{}');
  old record;
  now_at integer;
BEGIN
  IF NOT gone <@ ARRAY['summary', 'tags', 'metadata', 'occurred_at', 'agent_id', 'session_id', 'speaker', 'role',
                       'source', 'entities', 'valid_from', 'valid_to', 'expires_at'] THEN
    RAISE EXCEPTION 'clear has a name that cannot be cleared: %', gone
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Known: summary, tags, metadata, occurred_at, agent_id, session_id, speaker, role, source, entities, valid_from, valid_to, expires_at.';
  END IF;
  SELECT * INTO old FROM engram.memories m WHERE m.workspace_id = ws AND m.id = update.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(update.id);
  END IF;
  IF update.expected_version <> old.version THEN
    RAISE EXCEPTION 'memory "%" is at version %, not %', update.id, old.version, update.expected_version
      USING ERRCODE = 'PT409', HINT = 'Somebody changed it meanwhile. Read it again with engram.get() and repeat your change.';
  END IF;
  UPDATE engram.memories m SET
    content     = coalesce(update.content, m.content),
    summary     = CASE WHEN 'summary' = ANY (gone) THEN NULL ELSE coalesce(update.summary, m.summary) END,
    type        = coalesce(update.type, m.type),
    importance  = coalesce(update.importance, m.importance),
    tags        = CASE WHEN 'tags' = ANY (gone) THEN '{}' ELSE coalesce(update.tags, m.tags) END,
    metadata    = CASE WHEN 'metadata' = ANY (gone) THEN '{}' ELSE coalesce(update.metadata, m.metadata) END,
    occurred_at = CASE WHEN 'occurred_at' = ANY (gone) THEN NULL ELSE coalesce(update.occurred_at, m.occurred_at) END,
    agent_id    = CASE WHEN 'agent_id' = ANY (gone) THEN NULL ELSE coalesce(update.agent_id, m.agent_id) END,
    session_id  = CASE WHEN 'session_id' = ANY (gone) THEN NULL ELSE coalesce(update.session_id, m.session_id) END,
    speaker     = CASE WHEN 'speaker' = ANY (gone) THEN NULL ELSE coalesce(update.speaker, m.speaker) END,
    role        = CASE WHEN 'role' = ANY (gone) THEN NULL ELSE coalesce(update.role, m.role) END,
    source      = CASE WHEN 'source' = ANY (gone) THEN NULL ELSE coalesce(update.source, m.source) END,
    valid_from  = CASE WHEN 'valid_from' = ANY (gone) THEN NULL ELSE coalesce(update.valid_from, m.valid_from) END,
    valid_to    = CASE WHEN 'valid_to' = ANY (gone) THEN NULL ELSE coalesce(update.valid_to, m.valid_to) END,
    version     = m.version + CASE WHEN 'entities' = ANY (gone) OR update.entities IS NOT NULL THEN 1 ELSE 0 END,
    expires_at  = CASE WHEN 'expires_at' = ANY (gone) THEN NULL ELSE coalesce(update.expires_at, m.expires_at) END
  WHERE m.workspace_id = ws AND m.id = update.id
  RETURNING m.version INTO now_at;
  IF 'entities' = ANY (gone) OR update.entities IS NOT NULL THEN
    DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = update.id AND g.relation = 'mentions';
    PERFORM engram_internal.link_entities(ws, update.id, CASE WHEN 'entities' = ANY (gone) THEN NULL ELSE update.entities END);
  END IF;
  IF update.embedding IS NOT NULL THEN
    PERFORM engram.set_embedding(update.id, update.embedding, NULL, NULL, ws);
  END IF;
  RETURN now_at;
END
$$;

CREATE OR REPLACE FUNCTION engram_internal.change(workspace uuid, id uuid, what text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws  uuid := engram_internal.resolve_workspace(change.workspace, true);
  old record;
BEGIN
  SELECT * INTO old FROM engram.memories m WHERE m.workspace_id = ws AND m.id = change.id FOR NO KEY UPDATE;
  IF NOT FOUND OR (old.deleted_at IS NOT NULL AND change.what IN ('pin', 'unpin')) THEN
    PERFORM engram_internal.refuse_memory(change.id);
  END IF;
  IF (CASE change.what
        WHEN 'forget' THEN old.deleted_at IS NOT NULL
        WHEN 'restore' THEN old.deleted_at IS NULL
        WHEN 'pin' THEN old.pinned
        ELSE NOT old.pinned END) THEN
    RETURN false;
  END IF;
  UPDATE engram.memories m SET
    deleted_at = CASE change.what WHEN 'forget' THEN now() WHEN 'restore' THEN NULL ELSE m.deleted_at END,
    pinned     = CASE change.what WHEN 'pin' THEN true WHEN 'unpin' THEN false ELSE m.pinned END
  WHERE m.workspace_id = ws AND m.id = change.id;
  RETURN FOUND;
END
$$;

CREATE FUNCTION engram_internal.traces(workspace uuid, id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object(
    'embeddings', (SELECT count(*) FROM engram.embeddings e WHERE e.workspace_id = traces.workspace AND e.memory_id = traces.id),
    'state', (SELECT count(*) FROM engram.memory_state s WHERE s.workspace_id = traces.workspace AND s.memory_id = traces.id),
    'links', (SELECT count(*) FROM engram.hebbian_links l WHERE l.workspace_id = traces.workspace AND l.a = traces.id)
           + (SELECT count(*) FROM engram.hebbian_links l WHERE (l.workspace_id = traces.workspace) IS TRUE AND l.b = traces.id),
    'typed_links', (SELECT count(*) FROM engram.graph_links g WHERE g.workspace_id = traces.workspace AND g.memory_id = traces.id)
                 + (SELECT count(*) FROM engram.graph_links g WHERE (g.workspace_id = traces.workspace) IS TRUE AND g.target_id = traces.id),
    'uses', (SELECT count(*) FROM engram.access_log l WHERE l.workspace_id = traces.workspace AND l.memory_id = traces.id)
          + (SELECT count(*) FROM engram.access_queue q WHERE q.workspace_id = traces.workspace AND traces.id = ANY (q.memory_ids)),
    'events', (SELECT count(*) FROM engram.memory_events e WHERE (e.workspace_id = traces.workspace) IS TRUE AND e.memory_id = traces.id));
END
$$;
COMMENT ON FUNCTION engram_internal.traces(uuid, uuid) IS 'How many rows of each kind hang on a memory, as the caller sees them.';

CREATE FUNCTION engram.erase(
  ids uuid[] DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (id uuid, erased_at timestamptz, removed jsonb)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(erase.workspace, true);
  condition text;
  params    jsonb;
  doomed    uuid[];
  traces    jsonb;
BEGIN
  SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_filter(erase.filter) f;
  IF erase.ids IS NULL AND params = '[]' THEN
    RAISE EXCEPTION 'erase() was given neither ids nor a filter with a condition'
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Pass ids => ARRAY[…] or a filter such as {"session_id": "…"}. To erase everything say so: {"created_at": {"exists": true}}.';
  END IF;
  EXECUTE 'SELECT coalesce(array_agg(d.id ORDER BY d.id), ''{}'') FROM (SELECT m.id FROM engram.memories m
           WHERE m.workspace_id = $2 AND ($3 IS NULL OR m.id = ANY ($3)) AND $1 IS NOT NULL AND ' || condition ||
          ' ORDER BY m.id' || CASE WHEN erase.dry_run THEN ')' ELSE ' FOR UPDATE)' END || ' d'
    INTO doomed USING params, ws, erase.ids;
  SELECT jsonb_object_agg(d, engram_internal.traces(ws, d)) INTO traces FROM unnest(doomed) d;
  IF erase.dry_run THEN
    RETURN QUERY SELECT d, NULL::timestamptz, traces -> d::text FROM unnest(doomed) d;
    RETURN;
  END IF;
  RETURN QUERY DELETE FROM engram.memories m WHERE m.workspace_id = ws AND m.id = ANY (doomed) RETURNING m.id, now(), traces -> m.id::text;
END
$$;
COMMENT ON FUNCTION engram.erase(uuid[], jsonb, boolean, uuid) IS
'Deletes memories for good, with everything that hangs on them, and returns a receipt: the ids, when, and how many rows of each kind went with them (embeddings, state, links, typed_links, uses, events). Each id leaves a tombstone, so that a late import or retry cannot bring it back, and the bare fact in memory_events.

ids and filter: which ones, forgotten ones included; with both, those that match both. dry_run: only tell which, erased_at then is NULL.';

CREATE FUNCTION engram.search(
  query_text text DEFAULT NULL,
  query_embedding vector DEFAULT NULL,
  match_count integer DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  types text[] DEFAULT NULL,
  min_score double precision DEFAULT NULL,
  explain boolean DEFAULT NULL,
  include text[] DEFAULT NULL,
  model text DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL,
  as_of timestamptz DEFAULT NULL,
  diversity double precision DEFAULT 0
) RETURNS TABLE (
  id uuid, content text, type text, score double precision, importance double precision, tags text[],
  metadata jsonb, speaker text, role text, session_id text, occurred_at timestamptz,
  created_at timestamptz, matched text[], explain jsonb)
LANGUAGE c STABLE ROWS 10 COST 10000
SET search_path = pg_catalog, pg_temp
-- Its queries look rows up by key. One plan for all workspaces, and never a scan of everybody's rows,
-- not even in a session that first planned them while the tables were small.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
-- Before PostgreSQL 18 a scan that cannot be avoided then looks so expensive that it would be compiled.
SET jit = off
AS 'MODULE_PATHNAME', 'search_as_of_wrapper';
COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur, -word must not; the first 64 different words count. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged, by default now or as_of. as_of: search what was recorded at that moment and is still known: contents, states and filters of then, uses until then; links between memories add nothing, and vectors count where the text is the same today. What was erased since is gone from the past too. diversity: 0 to 1, by default 0: takes that much times its likeness (cosine of the vectors, else words in common) to the most similar memory before it off a score, so that a result repeats itself less. Of memories that say the same in the same words, but for articles, emphasis and punctuation, and have vectors as alike as duplicate_similarity (settings), only the best is returned, and explain names the others under repeats. Nothing that matches gives no rows.';

CREATE FUNCTION engram_internal.fold_calls(
  workspace uuid, at_most integer, params double precision[], members integer, half_life_days double precision, prune double precision)
RETURNS TABLE (calls integer, late_links uuid[])
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fold_calls_wrapper';
COMMENT ON FUNCTION engram_internal.fold_calls(uuid, integer, double precision[], integer, double precision, double precision) IS
'The fast half of fold_queue(), which holds the workspace: writes rows without statements. No row where that cannot be done: when the caller does not own the tables, or these have triggers, columns, partitions or indexes of other kinds than setup() makes. late_links: ends of links that a call is older than.';

CREATE OR REPLACE FUNCTION engram_internal.fold_queue(workspace uuid, at_most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- Not the triggers that serve the loading of a dump.
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  rules   record;
  params  double precision[];
  waiting uuid[];
  wanted  uuid[];
  locked  uuid[];
  busy    uuid[] := '{}';
  gone    uuid[] := '{}';
  late_links uuid[];
  done    integer;
BEGIN
  IF NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not fold uses', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It happens by itself, and when engram.consolidate() runs.';
  END IF;
  -- Under an older snapshot a row that somebody changed meanwhile would be an error.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT EXISTS (SELECT FROM engram.access_queue q WHERE q.workspace_id = fold_queue.workspace) THEN
    RETURN 0;
  END IF;
  -- One at a time in a workspace. Nobody who folds waits for anybody, here or below, and others only until
  -- it commits: hence no deadlock.
  IF NOT EXISTS (SELECT FROM engram.maintenance g WHERE g.workspace_id = fold_queue.workspace) THEN
    IF NOT engram_internal.try_lock_work(fold_queue.workspace, 'fold') THEN
      RETURN 0;
    END IF;
    INSERT INTO engram.maintenance (workspace_id) VALUES (fold_queue.workspace) ON CONFLICT DO NOTHING;
  END IF;
  PERFORM FROM engram.maintenance g WHERE g.workspace_id = fold_queue.workspace FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  params := engram_internal.dynamics(fold_queue.workspace);
  SELECT coalesce(w.link_members, d.link_members) AS members, coalesce(w.link_half_life_days, d.link_half_life_days) AS half_life,
         coalesce(w.link_prune, d.link_prune) AS prune INTO STRICT rules
  FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = fold_queue.workspace
  WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';
  BEGIN
    SELECT f.calls, f.late_links INTO done, late_links
    FROM engram_internal.fold_calls(fold_queue.workspace, fold_queue.at_most, params, rules.members, rules.half_life, rules.prune) f;
  EXCEPTION
    -- A use that the log knows already, or a row that somebody changed by hand meanwhile: statements can pass over it.
    WHEN unique_violation OR internal_error THEN
      done := NULL;
  END;
  IF done IS NULL THEN
    waiting := ARRAY(SELECT q.id FROM engram.access_queue q
                     WHERE q.workspace_id = fold_queue.workspace AND q.accessed_at <= clock_timestamp()
                     ORDER BY q.id LIMIT fold_queue.at_most);
    wanted := ARRAY(SELECT DISTINCT u FROM engram.access_queue q CROSS JOIN LATERAL unnest(q.memory_ids) u
                    WHERE q.workspace_id = fold_queue.workspace AND q.id = ANY (waiting) ORDER BY u);
    -- Look-ups by key one after the other, here and below: as joins they might read all of the workspace.
    locked := ARRAY(SELECT s.memory_id FROM unnest(wanted) u CROSS JOIN LATERAL (
      SELECT x.memory_id FROM engram.memory_state x WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = u
      FOR NO KEY UPDATE SKIP LOCKED) s);
    IF cardinality(locked) < cardinality(wanted) THEN
      wanted := ARRAY(SELECT unnest(wanted) EXCEPT SELECT unnest(locked));
      -- Somebody changes or deletes these just now; calls that used them wait.
      busy := ARRAY(SELECT s.memory_id FROM unnest(wanted) u CROSS JOIN LATERAL (
        SELECT x.memory_id FROM engram.memory_state x WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = u OFFSET 0) s);
      -- States that a partial restore has left out.
      WITH added AS (
        INSERT INTO engram.memory_state (workspace_id, memory_id, last_accessed_at, layer)
        SELECT m.workspace_id, m.id, m.created_at, m.layer
        FROM unnest(wanted) u
        CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = fold_queue.workspace AND x.id = u AND u <> ALL (busy)
                            FOR KEY SHARE SKIP LOCKED) m
        ON CONFLICT DO NOTHING RETURNING memory_id)
      SELECT locked || array_agg(a.memory_id) INTO locked FROM added a;
      gone := ARRAY(SELECT unnest(wanted) EXCEPT SELECT unnest(locked) EXCEPT SELECT unnest(busy));
    END IF;
    WITH taken AS (
      DELETE FROM engram.access_queue q
      WHERE q.workspace_id = fold_queue.workspace AND q.id = ANY (waiting) AND NOT q.memory_ids && busy
      RETURNING q.*
    ), uses AS MATERIALIZED (
      SELECT t.id, t.accessed_at, t.user_id, t.kind, t.gain, t.rating, t.recall_id, u.memory_id, u.place,
             CASE WHEN t.gain > 0 AND u.place <= rules.members AND least(cardinality(t.memory_ids), rules.members) > 1
                  THEN t.gain / (least(cardinality(t.memory_ids), rules.members) - 1) ELSE 0 END AS pair_gain
      FROM taken t CROSS JOIN LATERAL unnest(t.memory_ids) WITH ORDINALITY AS u (memory_id, place)
      WHERE u.memory_id <> ALL (gone) AND array_position(t.memory_ids, u.memory_id) - array_lower(t.memory_ids, 1) + 1 = u.place
    ), logged AS (
      INSERT INTO engram.access_log (workspace_id, memory_id, accessed_at, id, user_id, kind, gain, rating, recall_id, place, pair_gain)
      SELECT fold_queue.workspace, u.memory_id, u.accessed_at, u.id, u.user_id, u.kind, u.gain, u.rating, u.recall_id, u.place, u.pair_gain
      FROM uses u ORDER BY u.memory_id, u.accessed_at
      ON CONFLICT DO NOTHING
    ), after AS MATERIALIZED (
      SELECT e.memory_id, s.ctid AS row_at, a.*
      FROM (SELECT u.memory_id, array_agg(u.id) AS calls, array_agg(u.accessed_at) AS times, array_agg(u.gain) AS gains, array_agg(u.rating) AS ratings
            FROM uses u WHERE u.gain <> 0 OR u.rating IS NOT NULL GROUP BY u.memory_id) e
      CROSS JOIN LATERAL (SELECT x.ctid, x.* FROM engram.memory_state x WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = e.memory_id OFFSET 0) s
      CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = fold_queue.workspace AND x.id = e.memory_id OFFSET 0) m
      CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
        m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, s.access_count,
        s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer, s.stability, s.difficulty,
        s.base, e.calls, e.times, e.gains, e.ratings, NULL, NULL, false) f
      -- What is a matter of order, from the whole history. Here and not afterwards: a second change of a row
      -- in one transaction has the foreign key checked again, and that would wait for who changes the memory.
      CROSS JOIN LATERAL (
        SELECT f.* WHERE NOT f.late
        UNION ALL
        SELECT z.* FROM (
          SELECT array_agg(l.id) AS calls, array_agg(l.accessed_at) AS times, array_agg(l.gain) AS gains, array_agg(l.rating) AS ratings
          FROM engram.access_log l
          WHERE l.workspace_id = fold_queue.workspace AND l.memory_id = e.memory_id AND (l.gain <> 0 OR l.rating IS NOT NULL)
          HAVING f.late) h
        CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
          m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, s.access_count,
          s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer, s.stability, s.difficulty,
          s.base, h.calls || e.calls, h.times || e.times, h.gains || e.gains, h.ratings || e.ratings,
          coalesce(cardinality(h.calls), 0), NULL, false) z) a
    ), changed AS (
      UPDATE engram.memory_state s
      SET heat = a.heat, working_strength = a.working_strength, core_strength = a.core_strength, layer = a.layer,
          stability = a.stability, difficulty = a.difficulty, access_count = a.access_count, last_accessed_at = a.last_accessed_at,
          base = a.base
      FROM after a WHERE s.ctid = a.row_at AND s.workspace_id = fold_queue.workspace AND s.memory_id = a.memory_id
    ), pairs AS MATERIALIZED (
      SELECT p.a, p.b, l.*
      FROM (SELECT x.a, x.b, array_agg(c.accessed_at) AS times, array_agg(c.gain * x.direction) AS gains
            FROM (SELECT u.id, u.accessed_at, u.pair_gain AS gain, array_agg(u.memory_id ORDER BY u.place) AS ids
                  FROM uses u WHERE u.pair_gain > 0 GROUP BY u.id, u.accessed_at, u.pair_gain HAVING count(*) > 1) c
            CROSS JOIN LATERAL engram_internal.pairs(c.ids) x
            GROUP BY x.a, x.b) p
      LEFT JOIN LATERAL (SELECT x.* FROM engram.hebbian_links x WHERE x.workspace_id = fold_queue.workspace AND x.a = p.a AND x.b = p.b OFFSET 0) h ON true
      CROSS JOIN LATERAL engram_internal.link_after(h.forward, h.backward, h.linked_at, h.count, p.times, p.gains, rules.half_life, rules.prune) l
    ), linked AS (
      INSERT INTO engram.hebbian_links AS h (workspace_id, a, b, forward, backward, linked_at, count)
      SELECT fold_queue.workspace, p.a, p.b, p.forward, p.backward, p.linked_at, p.count FROM pairs p ORDER BY p.a, p.b
      ON CONFLICT (workspace_id, a, b) DO UPDATE
      SET forward = EXCLUDED.forward, backward = EXCLUDED.backward, linked_at = EXCLUDED.linked_at, count = EXCLUDED.count
    )
    SELECT (SELECT count(*) FROM taken),
           ARRAY(SELECT x FROM pairs p CROSS JOIN LATERAL unnest(ARRAY[p.a, p.b]) WITH ORDINALITY AS z (x, nth) WHERE p.late ORDER BY p.a, p.b, z.nth)
    INTO done, late_links;
  END IF;

  -- A link that a call is older than, from all calls in order.
  UPDATE engram.hebbian_links h
  SET forward = r.forward, backward = r.backward, linked_at = r.linked_at, count = r.count
  FROM generate_series(1, cardinality(late_links), 2) i
  CROSS JOIN LATERAL (
    SELECT array_agg(x.accessed_at) AS times, count(*) AS calls,
           array_agg(CASE WHEN x.place < y.place THEN x.pair_gain ELSE -x.pair_gain END) AS gains
    FROM engram.access_log x
    CROSS JOIN LATERAL (SELECT z.place FROM engram.access_log z
      WHERE z.workspace_id = fold_queue.workspace AND z.memory_id = late_links[i + 1] AND z.accessed_at = x.accessed_at
        AND z.id = x.id AND z.pair_gain > 0 OFFSET 0) y
    WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = late_links[i] AND x.pair_gain > 0) e
  CROSS JOIN LATERAL engram_internal.link_after(NULL, NULL, NULL, NULL, e.times, e.gains, rules.half_life, rules.prune) r
  WHERE h.workspace_id = fold_queue.workspace AND h.a = late_links[i] AND h.b = late_links[i + 1] AND e.calls >= h.count;
  UPDATE engram.maintenance g SET folded_at = now() WHERE g.workspace_id = fold_queue.workspace;
  RETURN done;
END
$$;

CREATE OR REPLACE FUNCTION engram.add_entities(id uuid, names text[], workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(add_entities.workspace, true);
  before bigint;
  added  integer;
BEGIN
  -- Whoever adds to the same memory waits here, so that both count right.
  PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = add_entities.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(add_entities.id);
  END IF;
  -- The new version first, so that the history has the entities of the one before as they were.
  IF engram_internal.links_anew(ws, add_entities.id, add_entities.names) THEN
    UPDATE engram.memories m SET version = m.version + 1 WHERE m.workspace_id = ws AND m.id = add_entities.id;
  END IF;
  SELECT count(*) INTO before FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = add_entities.id AND g.relation = 'mentions';
  PERFORM engram_internal.link_entities(ws, add_entities.id, add_entities.names);
  SELECT count(*) - before INTO added FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = add_entities.id AND g.relation = 'mentions';
  RETURN added;
END
$$;

CREATE OR REPLACE FUNCTION engram.remove_entities(id uuid, names text[], workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(remove_entities.workspace, true);
  nodes text[];
  gone  integer;
BEGIN
  PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = remove_entities.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(remove_entities.id);
  END IF;
  nodes := ARRAY(SELECT engram_internal.entity_key(ws, n) FROM unnest(remove_entities.names) n);
  -- The new version first, as in add_entities().
  UPDATE engram.memories m SET version = m.version + 1 WHERE m.workspace_id = ws AND m.id = remove_entities.id
    AND EXISTS (SELECT FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = remove_entities.id
                AND g.relation = 'mentions' AND g.node = ANY (nodes));
  DELETE FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = remove_entities.id AND g.relation = 'mentions' AND g.node = ANY (nodes);
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END
$$;

CREATE OR REPLACE FUNCTION engram.add_alias(entity text, alias text, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(add_alias.workspace, true);
  other text := engram_internal.entity_node(add_alias.alias);
  meant text;
  known text;
BEGIN
  IF coalesce(engram_internal.entity_node(add_alias.entity), '') = '' OR coalesce(other, '') = '' THEN
    RAISE EXCEPTION 'entity "%" or alias "%" has no letter or digit in its name',
        left(coalesce(add_alias.entity, 'NULL'), 40), left(coalesce(add_alias.alias, 'NULL'), 40)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give two names, for example add_alias(''New York'', ''NYC'').';
  END IF;
  IF greatest(char_length(add_alias.entity), char_length(add_alias.alias)) > 500 THEN
    RAISE EXCEPTION 'a name has % characters, the limit is 500', greatest(char_length(add_alias.entity), char_length(add_alias.alias))
      USING ERRCODE = 'invalid_parameter_value', HINT = 'An entity is a name; what there is to say about it goes into content.';
  END IF;
  -- Who stores a name just now holds this lock shared, see lock_keys(): nobody resolves the alias before it is
  -- there and links it afterwards, and no two aliases make a circle.
  PERFORM engram_internal.lock_workspace(ws);
  meant := engram_internal.entity_key(ws, add_alias.entity);
  IF meant = other THEN
    RAISE EXCEPTION 'alias "%" is the entity that "%" stands for', add_alias.alias, add_alias.entity
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Give a name that is not yet its own. To turn an alias round, call engram.remove_alias() first.';
  END IF;
  SELECT a.node INTO known FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.alias = other;
  IF known = meant THEN
    RETURN false;
  ELSIF known IS NOT NULL THEN
    RAISE EXCEPTION 'alias "%" already stands for entity "%"', add_alias.alias, known
      USING ERRCODE = 'unique_violation', SCHEMA = 'engram', TABLE = 'entity_aliases', CONSTRAINT = 'entity_aliases_pkey',
            HINT = 'Take it away first: SELECT engram.remove_alias(alias);';
  END IF;
  INSERT INTO engram.entity_aliases (workspace_id, alias, node, label) VALUES (ws, other, meant, btrim(add_alias.alias));
  -- What was an entity of its own until now: its aliases and its memories become the other's.
  UPDATE engram.entity_aliases a SET node = meant WHERE a.workspace_id = ws AND a.node = other;
  INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label, created_at, weight)
  SELECT g.workspace_id, g.memory_id, g.relation, meant, g.label, g.created_at, g.weight
  FROM engram.graph_links g WHERE g.workspace_id = ws AND g.node = other AND g.target_id IS NULL
  ON CONFLICT DO NOTHING;
  DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.node = other AND g.target_id IS NULL;
  RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION engram.context(
  query_text text DEFAULT NULL,
  query_embedding vector DEFAULT NULL,
  max_tokens integer DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  match_count integer DEFAULT NULL,
  types text[] DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(context.workspace, false);
  moment    timestamptz := coalesce(context.at, now());
  budget    integer := coalesce(context.max_tokens, 1000);
  condition text;
  params    jsonb;
  m         record;
  line      text;
  plain     text;
  cost      integer;
  spent     integer := 0;
  lines     text[] := '{}';
  ids       uuid[] := '{}';
  said      text[] := '{}';
  memories  jsonb[] := '{}';
BEGIN
  IF budget NOT BETWEEN 1 AND 1000000 THEN
    RAISE EXCEPTION 'max_tokens is %', budget
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000000.';
  END IF;
  SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_filter(context.filter) f;
  FOR m IN EXECUTE
    $q$SELECT true AS standing, row_number() OVER (ORDER BY m.created_at DESC, m.id DESC) AS place,
              m.id, m.content, m.type, NULL::double precision AS score, m.speaker, m.occurred_at, m.created_at
    FROM (
      SELECT m.* FROM engram.memories m
      WHERE m.workspace_id = $2 AND $1 IS NOT NULL AND m.pinned AND m.type = 'procedural' AND m.deleted_at IS NULL
        AND m.superseded_by IS NULL AND (m.expires_at IS NULL OR m.expires_at > $3) AND $q$ || condition || $q$
      ORDER BY m.created_at DESC, m.id DESC LIMIT 1000) m
    UNION ALL
    SELECT false, s.place, s.id, s.content, s.type, s.score, s.speaker, s.occurred_at, s.created_at
    FROM engram.search($4, $5, $6, $7, $8, at => $9, workspace => $10, diversity => $11) WITH ORDINALITY AS s (
      id, content, type, score, importance, tags, metadata, speaker, role, session_id, occurred_at, created_at, matched, explain, place)
    ORDER BY standing DESC, place$q$
    USING params, ws, moment, context.query_text, context.query_embedding, coalesce(context.match_count, 50),
          context.filter, context.types, context.at, context.workspace,
          (SELECT coalesce(w.context_diversity, d.context_diversity) FROM engram.settings d
           LEFT JOIN engram.settings w ON w.workspace_id = ws
           WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000')
  LOOP
    plain := engram_internal.normalize_content(m.content);
    CONTINUE WHEN plain = ANY (said);
    line := engram_internal.prompt_line(m.content, m.speaker, m.occurred_at);
    cost := engram_internal.tokens(line || E'\n');
    -- A later one may be shorter.
    CONTINUE WHEN spent + cost > CASE WHEN m.standing THEN budget / 4 ELSE budget END;
    spent := spent + cost;
    said := said || plain;
    lines := lines || line;
    ids := ids || m.id;
    memories := memories || jsonb_build_object('id', m.id, 'content', m.content, 'type', m.type, 'score', m.score,
      'speaker', m.speaker, 'occurred_at', m.occurred_at, 'created_at', m.created_at, 'standing', m.standing, 'tokens', cost);
  END LOOP;
  RETURN jsonb_build_object('text', array_to_string(lines, E'\n'), 'ids', ids, 'tokens', spent, 'memories', memories);
END
$$;
COMMENT ON FUNCTION engram.context(text, vector, integer, jsonb, integer, text[], timestamptz, uuid) IS
'The best memories within a budget of tokens, as a block of text to put into a prompt: {"text", "ids", "tokens", "memories": [{"id", "content", "type", "score", "speaker", "occurred_at", "created_at", "standing", "tokens"}]}. Reading does not count as a use: pass the ids that were of use to touch().

text: a line a memory, - [8 May 2023] Speaker: content, without what is not known; dates in UTC, line breaks as blanks. First standing instructions (pinned procedural memories), newest first, in at most a quarter of the budget, whatever is asked; they have no score. Then what search() finds with the diversity of the setting context_diversity, best first, or with nothing asked what is most needed now, in all that is left. A memory that does not fit is left out whole and shorter ones may follow; the same content comes once.

max_tokens: 1 to 1000000, by default 1000. A token is taken as four characters of a line with its end, or one character of a script without spaces (Han, Kana, Hangul, Thai); models differ, so leave some room. match_count: how many memories search() may give, 1 to 1000, by default 50. filter: as in search(), for standing instructions too. types: only these, beside standing instructions. query_text, query_embedding, at: as in search().';

CREATE OR REPLACE FUNCTION engram.reindex(workspace uuid DEFAULT NULL) RETURNS bigint
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

CREATE OR REPLACE FUNCTION engram_internal.reindex(workspace uuid, model text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- While a dump is loaded or the extension updated, rows that look like a dump's are left out.
SET check_function_bodies = on
AS $$
DECLARE
  wrong bigint;
BEGIN
  BEGIN
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
  IF wrong > 0 THEN
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
      EXIT WHEN engram_internal.seal(workspace, reindex.model, 1024, 4096) = 0;
    END LOOP;
  END IF;
  RETURN wrong;
END
$$;

-- What memories were before: versions, going back to one of them, and the past as a whole. All of it reads
-- memory_events as the caller, and only of memories whose present row the caller may see.
CREATE FUNCTION engram_internal.versions(workspace uuid, id uuid)
RETURNS TABLE (version integer, action text, actor uuid, at timestamptz, state jsonb)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
-- One plan for all workspaces, those that statistics have not seen included.
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  present jsonb;
BEGIN
  SELECT to_jsonb(m) - '{workspace_id,id,content_hash}'::text[] || jsonb_build_object('entities', ARRAY(
           SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = versions.workspace
             AND g.memory_id = versions.id AND g.relation = 'mentions' ORDER BY g.node))
  INTO present FROM engram.memories m WHERE m.workspace_id = versions.workspace AND m.id = versions.id;
  IF present IS NULL THEN
    -- Erased, or not for the caller to see: of the first the fact is left, of the second nothing is shown.
    RETURN QUERY
    SELECT e.version, e.action, e.actor, e.at, NULL::jsonb FROM engram.memory_events e
    WHERE (e.workspace_id = versions.workspace) IS TRUE AND e.memory_id = versions.id AND e.action = 'erased'
    ORDER BY e.at DESC LIMIT 1;
    RETURN;
  END IF;
  RETURN QUERY
  WITH events AS MATERIALIZED (
    SELECT e.version, e.action, e.actor, e.at, e.old FROM engram.memory_events e
    WHERE (e.workspace_id = versions.workspace) IS TRUE AND e.memory_id = versions.id AND e.action <> 'erased'
  )
  SELECT DISTINCT ON (s.version) s.version, coalesce(e.action, CASE WHEN s.version = 1 THEN 'added' END), e.actor,
         coalesce(e.at, (s.state ->> 'updated_at')::timestamptz), s.state
  FROM (
    SELECT (present ->> 'version')::integer AS version, present AS state
    UNION ALL
    SELECT (o.old ->> 'version')::integer, o.old FROM events o WHERE o.old IS NOT NULL) s
  LEFT JOIN events e ON e.version = s.version
  ORDER BY s.version DESC, e.at DESC;
END
$$;
COMMENT ON FUNCTION engram_internal.versions(uuid, uuid) IS
'The versions of a memory that are known, newest first, with what made each; state is the row as JSON without its keys, with entities.';

CREATE FUNCTION engram.history(id uuid, workspace uuid DEFAULT NULL)
RETURNS TABLE (
  version integer, action text, actor uuid, at timestamptz, content text, summary text, type text,
  importance double precision, pinned boolean, tags text[], metadata jsonb, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, expires_at timestamptz, deleted_at timestamptz,
  speaker text, role text, session_id text, agent_id text, source text, changed text[])
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(history.workspace, false);
BEGIN
  RETURN QUERY
  SELECT v.version, v.action, v.actor, v.at, s.content, s.summary, s.type, s.importance, s.pinned, s.tags, s.metadata,
         s.entities, s.occurred_at, s.valid_from, s.valid_to, s.superseded_by, s.expires_at, s.deleted_at,
         s.speaker, s.role, s.session_id, s.agent_id, s.source,
         CASE WHEN b.state IS NOT NULL THEN ARRAY(
           SELECT k.key FROM jsonb_each(v.state) k
           WHERE k.key NOT IN ('version', 'updated_at', 'layer') AND k.value IS DISTINCT FROM b.state -> k.key
           ORDER BY k.key) END
  FROM engram_internal.versions(ws, history.id) v
  LEFT JOIN engram_internal.versions(ws, history.id) b ON b.version = v.version - 1
  CROSS JOIN LATERAL jsonb_to_record(coalesce(v.state, '{}')) AS s (
    content text, summary text, type text, importance double precision, pinned boolean, tags text[], metadata jsonb,
    entities text[], occurred_at timestamptz, valid_from timestamptz, valid_to timestamptz, superseded_by uuid,
    expires_at timestamptz, deleted_at timestamptz, speaker text, role text, session_id text, agent_id text, source text)
  ORDER BY v.version DESC;
END
$$;
COMMENT ON FUNCTION engram.history(uuid, uuid) IS
'Every version of one memory that is known, newest first, forgotten ones included; an unknown id gives no rows.

action: added, updated, forgotten, restored, superseded, unsuperseded, pinned or unpinned, by whom (actor) and when (at). changed: the columns that differ from the version before, NULL where that is not known. Versions from before the history was kept, or whose events were dropped, are missing; the present one is always there, with action NULL if what made it is not known. Of an erased memory one row is left: that it was erased, and nothing of what it said.';

CREATE FUNCTION engram.revert(
  id uuid,
  version integer,
  expected_version integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws       uuid := engram_internal.resolve_workspace(revert.workspace, true);
  old      record;
  past     record;
  relinked boolean;
  now_at   integer;
BEGIN
  SELECT * INTO old FROM engram.memories m WHERE m.workspace_id = ws AND m.id = revert.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(revert.id);
  END IF;
  IF revert.expected_version <> old.version THEN
    RAISE EXCEPTION 'memory "%" is at version %, not %', revert.id, old.version, revert.expected_version
      USING ERRCODE = 'PT409', HINT = 'Somebody changed it meanwhile. Read it again with engram.get() and repeat your change.';
  END IF;
  SELECT s.* INTO past
  FROM engram_internal.versions(ws, revert.id) v
  CROSS JOIN LATERAL jsonb_to_record(v.state) AS s (
    content text, summary text, type text, importance double precision, pinned boolean, tags text[], metadata jsonb,
    entities text[], occurred_at timestamptz, valid_from timestamptz, valid_to timestamptz, expires_at timestamptz,
    speaker text, role text, session_id text, agent_id text, source text)
  WHERE v.version = revert.version;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'version % of memory "%" is not known', coalesce(revert.version::text, 'NULL'), revert.id
      USING ERRCODE = 'invalid_parameter_value',
            HINT = format('Known: %s. engram.history() shows them.',
              (SELECT string_agg(v.version::text, ', ' ORDER BY v.version) FROM engram_internal.versions(ws, revert.id) v));
  END IF;
  relinked := ARRAY(SELECT u FROM unnest(past.entities) u ORDER BY u) IS DISTINCT FROM ARRAY(
    SELECT g.label FROM engram.graph_links g
    WHERE g.workspace_id = ws AND g.memory_id = revert.id AND g.relation = 'mentions' ORDER BY g.label);
  UPDATE engram.memories m SET
    content = past.content, summary = past.summary, type = past.type, importance = past.importance, pinned = past.pinned,
    tags = past.tags, metadata = past.metadata, occurred_at = past.occurred_at, agent_id = past.agent_id,
    session_id = past.session_id, speaker = past.speaker, role = past.role, source = past.source,
    valid_from = past.valid_from, valid_to = past.valid_to, expires_at = past.expires_at,
    version = m.version + CASE WHEN relinked THEN 1 ELSE 0 END
  WHERE m.workspace_id = ws AND m.id = revert.id
  RETURNING m.version INTO now_at;
  IF relinked THEN
    DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = revert.id AND g.relation = 'mentions';
    PERFORM engram_internal.link_entities(ws, revert.id, past.entities);
  END IF;
  RETURN now_at;
END
$$;
COMMENT ON FUNCTION engram.revert(uuid, integer, integer, uuid) IS
'Makes a new version of one memory that says what an earlier one said, and returns its number; the versions between stay in the history. When nothing differs there is no new version.

Content, summary, type, importance, pin, tags, metadata, entities, times and origin come back as they were. Whether it is forgotten, superseded or contradicted stays as it is: see restore(), unsupersede(), uncontradict(). expected_version: refuse (PT409) unless the memory is still at that version. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram_internal.check_as_of(as_of timestamptz) RETURNS void
LANGUAGE c STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'check_as_of_wrapper';
COMMENT ON FUNCTION engram_internal.check_as_of(timestamptz) IS 'Raises the error for a moment of which nothing is known yet, or any more; NULL passes.';

CREATE FUNCTION engram_internal.memories_as_of(workspace uuid, as_of timestamptz, ids uuid[])
RETURNS TABLE (
  workspace_id uuid, id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text, content text,
  summary text, type text, importance double precision, layer text, pinned boolean, tags text[], metadata jsonb,
  source text, occurred_at timestamptz, valid_from timestamptz, valid_to timestamptz, superseded_by uuid,
  contradicts uuid[], contradicted_by uuid[], expires_at timestamptz, deleted_at timestamptz, version integer,
  created_at timestamptz, updated_at timestamptz, entities text[])
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  -- The first change after the moment has the row as it was then; what nobody has changed since is as it is.
  RETURN QUERY
  SELECT p.workspace_id, p.id, p.user_id,
    CASE WHEN e.old IS NULL THEN p.agent_id ELSE o.agent_id END,
    CASE WHEN e.old IS NULL THEN p.session_id ELSE o.session_id END,
    CASE WHEN e.old IS NULL THEN p.speaker ELSE o.speaker END,
    CASE WHEN e.old IS NULL THEN p.role ELSE o.role END,
    CASE WHEN e.old IS NULL THEN p.content ELSE o.content END,
    CASE WHEN e.old IS NULL THEN p.summary ELSE o.summary END,
    CASE WHEN e.old IS NULL THEN p.type ELSE o.type END,
    CASE WHEN e.old IS NULL THEN p.importance ELSE o.importance END,
    CASE WHEN e.old IS NULL THEN p.layer ELSE o.layer END,
    CASE WHEN e.old IS NULL THEN p.pinned ELSE o.pinned END,
    CASE WHEN e.old IS NULL THEN p.tags ELSE o.tags END,
    CASE WHEN e.old IS NULL THEN p.metadata ELSE o.metadata END,
    CASE WHEN e.old IS NULL THEN p.source ELSE o.source END,
    CASE WHEN e.old IS NULL THEN p.occurred_at ELSE o.occurred_at END,
    CASE WHEN e.old IS NULL THEN p.valid_from ELSE o.valid_from END,
    CASE WHEN e.old IS NULL THEN p.valid_to ELSE o.valid_to END,
    CASE WHEN e.old IS NULL THEN p.superseded_by ELSE o.superseded_by END,
    CASE WHEN e.old IS NULL THEN p.contradicts ELSE o.contradicts END,
    CASE WHEN e.old IS NULL THEN p.contradicted_by ELSE o.contradicted_by END,
    CASE WHEN e.old IS NULL THEN p.expires_at ELSE o.expires_at END,
    CASE WHEN e.old IS NULL THEN p.deleted_at ELSE o.deleted_at END,
    CASE WHEN e.old IS NULL THEN p.version ELSE o.version END,
    p.created_at,
    CASE WHEN e.old IS NULL THEN p.updated_at ELSE o.updated_at END,
    CASE WHEN e.old IS NULL THEN ARRAY(
           SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = memories_as_of.workspace
             AND g.memory_id = u.id AND g.relation = 'mentions' ORDER BY g.node)
         ELSE o.entities END
  FROM unnest(memories_as_of.ids) AS u (id)
  CROSS JOIN LATERAL (
    SELECT x.* FROM engram.memories x
    WHERE x.workspace_id = memories_as_of.workspace AND x.id = u.id AND x.created_at <= memories_as_of.as_of OFFSET 0) p
  LEFT JOIN LATERAL (
    SELECT x.action, x.old FROM engram.memory_events x
    WHERE (x.workspace_id = memories_as_of.workspace) IS TRUE AND x.memory_id = u.id AND x.at > memories_as_of.as_of
    ORDER BY x.version LIMIT 1) e ON true
  LEFT JOIN LATERAL jsonb_to_record(e.old) AS o (
    agent_id text, session_id text, speaker text, role text, content text, summary text, type text,
    importance double precision, layer text, pinned boolean, tags text[], metadata jsonb, source text,
    occurred_at timestamptz, valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
    contradicted_by uuid[], expires_at timestamptz, deleted_at timestamptz, version integer, updated_at timestamptz,
    entities text[]) ON true
  WHERE e.action IS NULL OR e.old IS NOT NULL;
END
$$;
COMMENT ON FUNCTION engram_internal.memories_as_of(uuid, timestamptz, uuid[]) IS
'Memories as they were recorded at a moment, of those that the caller may see now; one that was not stored yet has no row. Forgotten ones are included. layer is the one last shown by a consolidation.';

CREATE FUNCTION engram_internal.older(workspace uuid, before timestamptz, before_id uuid, at_most integer,
  OUT ids uuid[], OUT last_at timestamptz, OUT last_id uuid)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
-- In the order of memories_created_idx. To a workspace that statistics have not seen, reading all of it and
-- sorting would look as good.
SET enable_sort = off
SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
  m record;
BEGIN
  ids := '{}';
  FOR m IN
    SELECT x.id, x.created_at FROM engram.memories x
    WHERE x.workspace_id = workspace AND (x.created_at, x.id) < (before, before_id)
    ORDER BY x.created_at DESC, x.id DESC LIMIT at_most
  LOOP
    ids := ids || m.id;
    last_at := m.created_at;
    last_id := m.id;
  END LOOP;
  IF cardinality(ids) < at_most THEN
    last_at := NULL;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.older(uuid, timestamptz, uuid, integer) IS
'The next memories, newest first, that were stored before one; last_at is NULL when there are no more.';

CREATE FUNCTION engram_internal.state_as_of(workspace uuid, as_of timestamptz, ids uuid[])
RETURNS TABLE (memory_id uuid, layer text, access_count bigint, last_accessed_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  params double precision[] := engram_internal.dynamics(state_as_of.workspace);
BEGIN
  -- State that no later use has changed is still there; else it is made again from the log of uses.
  RETURN QUERY
  SELECT m.id, f.layer, f.access_count, f.last_accessed_at
  FROM engram_internal.memories_as_of(state_as_of.workspace, state_as_of.as_of, state_as_of.ids) m
  LEFT JOIN LATERAL (
    SELECT x.* FROM engram.memory_state x
    WHERE x.workspace_id = state_as_of.workspace AND x.memory_id = m.id AND x.last_accessed_at <= state_as_of.as_of OFFSET 0) s ON true
  CROSS JOIN LATERAL (
    SELECT array_agg(c.id) AS calls, array_agg(c.accessed_at) AS times, array_agg(c.gain) AS gains, array_agg(c.rating) AS ratings
    FROM (
      SELECT l.id, l.accessed_at, l.gain, l.rating FROM engram.access_log l
      WHERE s.memory_id IS NULL AND l.workspace_id = state_as_of.workspace AND l.memory_id = m.id
        AND l.accessed_at <= state_as_of.as_of AND (l.gain <> 0 OR l.rating IS NOT NULL)
      UNION ALL
      SELECT q.id, q.accessed_at, q.gain, q.rating FROM engram.access_queue q
      WHERE q.workspace_id = state_as_of.workspace AND m.id = ANY (q.memory_ids)
        AND q.accessed_at <= state_as_of.as_of AND (q.gain <> 0 OR q.rating IS NOT NULL)) c) u
  CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
    m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, s.access_count,
    s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer, s.stability, s.difficulty,
    s.base, u.calls, u.times, u.gains, u.ratings, NULL, state_as_of.as_of, false) f;
END
$$;
COMMENT ON FUNCTION engram_internal.state_as_of(uuid, timestamptz, uuid[]) IS
'How memories stood at a moment, by the uses until then that are still in the log.';

-- What has changed since a device last asked.
CREATE FUNCTION engram_internal.sync_point(since text)
RETURNS TABLE (lost text, ready boolean, still boolean, keep boolean, durable boolean, seen text, upto text, after_xid text,
  after_id uuid, head text, next text)
LANGUAGE c STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sync_point_wrapper';
COMMENT ON FUNCTION engram_internal.sync_point(text) IS
'What a cursor of changes() says, and whether this server can lead on from there. lost: why not. ready: false where the server, or the transaction, is behind the cursor. Events are sent of transactions in upto that are not in seen, after (after_xid, after_id); without seen, memories after after_id. still: nothing has been committed since; keep: if there is nothing to send, the cursor is as good as the next; durable: next outlives a crash as it is. head and the last that is sent make a cursor within the round, next is the one after it.';

CREATE FUNCTION engram_internal.flush_log() RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'flush_log_wrapper';
COMMENT ON FUNCTION engram_internal.flush_log() IS
'Waits until everything that is visible outlives a crash, also with synchronous_commit off. Does nothing on a standby.';

CREATE FUNCTION engram.changes(
  since text DEFAULT NULL,
  match_count integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (id uuid, op text, version integer, changed_at timestamptz, memory jsonb, cursor_next text)
LANGUAGE plpgsql STABLE ROWS 500
SET search_path = pg_catalog, pg_temp
-- Pages are read in the order of the primary keys. To a workspace that statistics have not seen, reading all of it
-- and sorting would look as good.
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
-- Before PostgreSQL 18 a sort that cannot be avoided then looks so expensive that it would be compiled.
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(changes.workspace, false);
  wanted integer := coalesce(changes.match_count, 500);
  here   bigint := engram_internal.store_origin();
  mine   xid8 := pg_current_xact_id_if_assigned();
  p      record;
  seen   pg_snapshot;
  upto   pg_snapshot;
  -- Computed beforehand: row security lets only plain comparisons come down to the index.
  after  xid8;
  beyond xid8;
  last   uuid;
  sent   bigint := 0;
BEGIN
  IF wanted NOT BETWEEN 1 AND 10000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 10000, and page on with since.';
  END IF;
  SELECT s.* INTO p FROM engram_internal.sync_point(changes.since) s;
  IF p.lost IS NOT NULL THEN
    RAISE EXCEPTION 'the cursor leads nowhere: %', p.lost
      USING ERRCODE = 'PT410',
            HINT = 'Begin anew: call engram.changes() without since, and at its end drop from the device what was not sent again.';
  END IF;
  IF mine IS NOT NULL AND EXISTS (SELECT FROM engram.memory_events e WHERE e.workspace_id = ws AND e.xid = mine) THEN
    RAISE EXCEPTION 'this transaction has changed memories itself'
      USING ERRCODE = 'invalid_transaction_state',
            HINT = 'Commit first: what it has done may still be undone, and a device that was sent it would never know.';
  END IF;
  IF ws IS NULL OR NOT p.ready THEN
    RETURN QUERY SELECT NULL::uuid, 'end', NULL::integer, NULL::timestamptz, NULL::jsonb, changes.since;
    RETURN;
  END IF;
  last := coalesce(p.after_id, '00000000-0000-0000-0000-000000000000');
  IF p.still THEN
    NULL;
  ELSIF p.seen IS NULL THEN
    RETURN QUERY
    SELECT m.id, 'upsert', m.version, m.updated_at,
           to_jsonb(m) - '{workspace_id,content_hash,layer}'::text[] || jsonb_build_object('entities', ARRAY(
             SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = m.id
               AND g.relation = 'mentions' ORDER BY g.node)),
           p.head || '.' || m.id
    FROM engram.memories m
    WHERE m.workspace_id = ws AND m.deleted_at IS NULL
      AND m.id >= last AND m.id IS DISTINCT FROM p.after_id
    ORDER BY m.id LIMIT wanted;
    GET DIAGNOSTICS sent = ROW_COUNT;
  ELSE
    seen := p.seen;
    upto := p.upto;
    after := p.after_xid;
    beyond := pg_snapshot_xmax(upto);
    FOR id, op, version, changed_at, memory, cursor_next, sent IN
      WITH page AS MATERIALIZED (
        SELECT e.xid, e.id, e.memory_id, e.at, e.version
        FROM engram.memory_events e
        WHERE e.workspace_id = ws AND e.xid < beyond AND (e.xid, e.id) > (after, last)
          AND e.origin = here AND pg_visible_in_snapshot(e.xid, upto) AND NOT pg_visible_in_snapshot(e.xid, seen)
        ORDER BY e.xid, e.id LIMIT wanted
      ), latest AS (
        SELECT DISTINCT ON (g.memory_id) g.* FROM page g ORDER BY g.memory_id, g.xid DESC, g.id DESC
      )
      SELECT l.memory_id, CASE WHEN m.id IS NULL THEN 'delete' ELSE 'upsert' END, coalesce(m.version, l.version), l.at,
             m.memory, p.head || l.xid || '.' || l.id, (SELECT count(*) FROM page)
      FROM latest l
      LEFT JOIN LATERAL (
        SELECT x.id, x.version,
               to_jsonb(x) - '{workspace_id,content_hash,layer}'::text[] || jsonb_build_object('entities', ARRAY(
                 SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = x.id
                   AND g.relation = 'mentions' ORDER BY g.node)) AS memory
        FROM engram.memories x
        WHERE x.workspace_id = ws AND x.id = l.memory_id AND x.deleted_at IS NULL OFFSET 0) m ON true
      ORDER BY l.xid, l.id
    LOOP
      RETURN NEXT;
    END LOOP;
    -- Without a row the loop leaves NULL.
    sent := coalesce(sent, 0);
  END IF;
  IF sent = 0 AND p.keep THEN
    -- Not worth waiting for the disk.
    RETURN QUERY SELECT NULL::uuid, 'end', NULL::integer, NULL::timestamptz, NULL::jsonb, changes.since;
    RETURN;
  END IF;
  IF NOT p.durable THEN
    PERFORM engram_internal.flush_log();
  END IF;
  IF sent < wanted THEN
    RETURN QUERY SELECT NULL::uuid, 'end', NULL::integer, NULL::timestamptz, NULL::jsonb, p.next;
  END IF;
END
$$;
COMMENT ON FUNCTION engram.changes(text, integer, uuid) IS
'What a device that keeps a copy of the memories has to do to be up to date, a page at a time.

Call it without since, apply the rows in order, keep cursor_next of the last row, and call again with since => that, until a call ends with a row whose op is end: then the device has everything that was committed when the round began. From then on call whenever you like, with the last cursor; every call that reaches the present ends with end, at least.

op: upsert (memory is the row as it is now, with entities, without workspace_id, content_hash and layer), delete (forgotten, erased, or no longer for the caller to see) or end (nothing more; id is NULL). A memory may come more than once; the last one counts. version and changed_at: of the memory. match_count: most rows beside end, 1 to 10000, by default 500.

Nothing is missed and nobody is waited for, however long transactions take and in whatever order they commit. Reads only, on standbys too; cursors outlive a failover. SQLSTATE PT410 (HTTP 410): the cursor leads nowhere (restored or upgraded database, lost writes after a failover, changes no longer kept): begin anew without since, and drop at the end what was not sent again.';

-- Caring for memories: layers as time has moved them, links that have faded, forgetting by policy; and the
-- settings that all of it follows.
CREATE FUNCTION engram_internal.moved(workspace uuid, at timestamptz, at_most integer)
RETURNS TABLE (workspaces uuid[], ids uuid[], olds text[], news text[])
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'moved_wrapper';
COMMENT ON FUNCTION engram_internal.moved(uuid, timestamptz, integer) IS
'Memories that are in another layer at a moment than is shown, in the order of the key: of a workspace, or of all. Who calls it must own the tables.';

CREATE OR REPLACE FUNCTION engram_internal.consolidate_as_owner(workspace uuid, at timestamptz, dry_run boolean, batch_size integer)
RETURNS TABLE (
  folded bigint, promoted bigint, demoted bigint, archived bigint, forgotten bigint, links_pruned bigint,
  skipped bigint, done boolean)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
-- One pass over many rows at most: joined in memory where it fits.
SET work_mem = '256MB'
AS $$
#variable_conflict use_column
DECLARE
  chunk  constant integer := 5000;
  moment timestamptz := coalesce(consolidate_as_owner.at, now());
  dry    boolean := consolidate_as_owner.dry_run IS NULL;
  most   integer := coalesce(consolidate_as_owner.batch_size, 2147483647);
  here   text := CASE WHEN consolidate_as_owner.workspace IS NULL THEN '' ELSE ' AND m.workspace_id = $1 AND s.workspace_id = $1' END;
  ws     uuid;
  n      integer;
  young  integer;
  moves  record;
  free   uuid[];
BEGIN
  IF NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not care for other workspaces', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.consolidate().';
  END IF;
  IF consolidate_as_owner.dry_run THEN
    -- What becomes of memories depends on uses that wait, and of links on both: done, and taken back.
    BEGIN
      SELECT c.folded, c.promoted, c.demoted, c.archived, c.forgotten, c.links_pruned, c.skipped, c.done
      INTO folded, promoted, demoted, archived, forgotten, links_pruned, skipped, done
      FROM engram_internal.consolidate_as_owner(consolidate_as_owner.workspace, moment, NULL, consolidate_as_owner.batch_size) c;
      RAISE SQLSTATE 'EN001';
    EXCEPTION WHEN SQLSTATE 'EN001' THEN
      NULL;
    END;
    RETURN NEXT;
    RETURN;
  END IF;
  folded := 0; promoted := 0; demoted := 0; archived := 0; forgotten := 0; links_pruned := 0; skipped := 0; done := true;

  -- Uses that wait come first: they have happened.
  FOR ws IN SELECT DISTINCT q.workspace_id FROM engram.access_queue q
            WHERE consolidate_as_owner.workspace IS NULL OR q.workspace_id = consolidate_as_owner.workspace LOOP
    LOOP
      n := engram_internal.fold_queue(ws, 10000);
      folded := folded + n;
      EXIT WHEN n < 10000;
    END LOOP;
  END LOOP;

  -- Layers. What still waits is in somebody else's hands and comes next time.
  SELECT v.* INTO moves FROM engram_internal.moved(consolidate_as_owner.workspace, moment, most) v;
  done := cardinality(moves.ids) < most;
  IF dry THEN
    SELECT count(*) FILTER (WHERE v.new = 'core'), count(*) FILTER (WHERE v.old = 'core'),
           count(*) FILTER (WHERE v.old = 'working' AND v.new = 'archive')
    INTO promoted, demoted, archived FROM unnest(moves.olds, moves.news) AS v (old, new);
  ELSE
    FOR i IN 1 .. cardinality(moves.ids) BY chunk LOOP
      -- Whoever changes one of them just now has the last word.
      WITH t AS MATERIALIZED (
        SELECT * FROM unnest(moves.workspaces[i : i + chunk - 1], moves.ids[i : i + chunk - 1],
                             moves.olds[i : i + chunk - 1], moves.news[i : i + chunk - 1]) AS v (workspace_id, id, old, new)
      ), l AS MATERIALIZED (
        SELECT t.* FROM t CROSS JOIN LATERAL (
          SELECT 1 FROM engram.memories x
          WHERE x.workspace_id = t.workspace_id AND x.id = t.id AND x.deleted_at IS NULL AND x.layer = t.old
            AND (NOT x.pinned OR t.new = 'core')
          FOR NO KEY UPDATE SKIP LOCKED) there
      ), u AS (
        UPDATE engram.memories m SET layer = l.new, updated_at = NULL FROM l
        WHERE m.workspace_id = l.workspace_id AND m.id = l.id
        RETURNING l.old, m.layer AS new
      )
      SELECT promoted + count(*) FILTER (WHERE u.new = 'core'), demoted + count(*) FILTER (WHERE u.old = 'core'),
             archived + count(*) FILTER (WHERE u.old = 'working' AND u.new = 'archive'),
             skipped + (SELECT count(*) FROM t) - count(*)
      INTO promoted, demoted, archived, skipped FROM u;
    END LOOP;
  END IF;
  IF NOT done THEN
    RETURN NEXT;
    RETURN;
  END IF;

  -- Forgetting, where somebody has asked for it.
  IF EXISTS (SELECT FROM engram.settings t WHERE t.forgetting) THEN
    EXECUTE
      $q$WITH doomed AS MATERIALIZED (
           SELECT m.workspace_id, m.id
           FROM engram.memories m
           JOIN engram.memory_state s ON s.workspace_id = m.workspace_id AND s.memory_id = m.id
           JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
           LEFT JOIN engram.settings w ON w.workspace_id = m.workspace_id
           CROSS JOIN LATERAL engram_internal.state_at(engram_internal.dynamics(m.workspace_id), m.type, m.importance, m.pinned,
             m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, s.access_count,
             s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer, s.stability, s.difficulty,
             s.base, NULL, NULL, NULL, NULL, NULL, $2, false) a
           WHERE coalesce(w.forgetting, d.forgetting) AND m.deleted_at IS NULL AND NOT m.pinned
             AND s.last_accessed_at <= $2 - coalesce(w.forget_after_days, d.forget_after_days) * interval '1 day'
             AND a.idle_days >= coalesce(w.forget_after_days, d.forget_after_days)
             AND a.layer = 'archive' AND a.retention < coalesce(w.forget_threshold, d.forget_threshold)
             AND NOT EXISTS (SELECT FROM engram.access_queue q WHERE q.workspace_id = m.workspace_id AND m.id = ANY (q.memory_ids))$q$
         || here || $q$
           ORDER BY m.workspace_id, m.id LIMIT $4
         ), l AS MATERIALIZED (
           SELECT f.* FROM doomed f CROSS JOIN LATERAL (
             SELECT 1 FROM engram.memories x WHERE NOT $3 AND x.workspace_id = f.workspace_id AND x.id = f.id
               AND x.deleted_at IS NULL AND NOT x.pinned
             FOR NO KEY UPDATE SKIP LOCKED) there
         ), u AS (
           UPDATE engram.memories m SET deleted_at = $2 FROM l WHERE m.workspace_id = l.workspace_id AND m.id = l.id RETURNING 1
         )
         SELECT CASE WHEN $3 THEN (SELECT count(*) FROM doomed) ELSE (SELECT count(*) FROM u) END,
                (SELECT count(*) FROM doomed) < $4$q$
      INTO forgotten, done USING consolidate_as_owner.workspace, moment, dry, most;
  END IF;

  -- Links. Who folds writes them, so a workspace that is being folded is left alone.
  IF consolidate_as_owner.workspace IS NOT NULL THEN
    INSERT INTO engram.maintenance (workspace_id) VALUES (consolidate_as_owner.workspace) ON CONFLICT DO NOTHING;
  END IF;
  free := ARRAY(SELECT g.workspace_id FROM engram.maintenance g
                WHERE consolidate_as_owner.workspace IS NULL OR g.workspace_id = consolidate_as_owner.workspace
                ORDER BY g.workspace_id FOR UPDATE SKIP LOCKED);
  WITH rules AS MATERIALIZED (
    SELECT f.workspace_id, coalesce(w.link_half_life_days, d.link_half_life_days) * 86400 AS half_life, coalesce(w.link_prune, d.link_prune) AS prune
    FROM unnest(free) AS f (workspace_id)
    JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
    LEFT JOIN engram.settings w ON w.workspace_id = f.workspace_id
  ), old AS (
    DELETE FROM engram.hebbian_links h USING rules f
    WHERE h.workspace_id = f.workspace_id
      -- Not before a call that comes to light a month late could have kept it; until then nobody sees it.
      AND engram.link_decay(h.forward + h.backward, greatest(date_part('epoch', moment - interval '30 days' - h.linked_at), 0), f.half_life) < f.prune
    RETURNING 1)
  SELECT count(*) INTO links_pruned FROM old;
  -- Beyond the strongest of both its ends, those that are too young to be followed among themselves.
  FOR ws, n, young IN
    SELECT g.workspace_id, coalesce(w.link_limit, d.link_limit), coalesce(w.link_threshold, d.link_threshold) - 1 FROM engram.maintenance g
    JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
    LEFT JOIN engram.settings w ON w.workspace_id = g.workspace_id
    WHERE g.workspace_id = ANY (free) AND (g.consolidated_at IS NULL OR g.folded_at >= g.consolidated_at)
  LOOP
    WITH ends AS (
      SELECT z.node, h.a, h.b, row_number() OVER (PARTITION BY z.node, h.count <= young
        ORDER BY ln(h.forward + h.backward + 1e-300) + date_part('epoch', h.linked_at)
          * ln(2) / (SELECT coalesce(w.link_half_life_days, d.link_half_life_days) * 86400 FROM engram.settings d
                     LEFT JOIN engram.settings w ON w.workspace_id = ws
                     WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000') DESC, h.a, h.b) AS place
      FROM engram.hebbian_links h CROSS JOIN LATERAL (VALUES (h.a), (h.b)) AS z (node)
      WHERE h.workspace_id = ws
    ), weak AS MATERIALIZED (
      SELECT e.a, e.b FROM ends e WHERE e.place > n GROUP BY e.a, e.b HAVING count(*) = 2
    ), old AS (
      DELETE FROM engram.hebbian_links h USING weak k WHERE h.workspace_id = ws AND h.a = k.a AND h.b = k.b RETURNING 1
    )
    SELECT links_pruned + count(*) INTO links_pruned FROM old;
  END LOOP;
  DELETE FROM engram.recall_credits c USING unnest(free) AS f (workspace_id)
  WHERE c.workspace_id = f.workspace_id AND c.created_at < now() - interval '90 days';
  UPDATE engram.maintenance g SET consolidated_at = now() WHERE g.workspace_id = ANY (free);
  RETURN NEXT;
END
$$;

CREATE FUNCTION engram_internal.outside_transaction(name text) RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'outside_transaction_wrapper';
COMMENT ON FUNCTION engram_internal.outside_transaction(text) IS
'Raises the error of a procedure that commits and was called inside a transaction block.';

-- A procedure that commits cannot pin its search path; every name in it is qualified instead.
CREATE OR REPLACE PROCEDURE engram.consolidate_in_batches(batch_size integer DEFAULT 1000, at timestamptz DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  ws   pg_catalog.uuid;
  done pg_catalog.bool;
BEGIN
  PERFORM engram_internal.outside_transaction('consolidate_in_batches()');
  FOR ws IN SELECT w FROM engram_internal.consolidated_workspaces() AS w LOOP
    LOOP
      SELECT c.done INTO done FROM engram.consolidate(ws, consolidate_in_batches.at, false, consolidate_in_batches.batch_size) AS c;
      COMMIT;
      EXIT WHEN done;
    END LOOP;
  END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION engram_internal.change_settings(workspace uuid, changes jsonb, preset text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  key   text;
  value jsonb;
  kind  text;
  hint  text;
  wrong text;
  row_  jsonb;
BEGIN
  IF NOT has_table_privilege('engram.settings', 'UPDATE') THEN
    RAISE EXCEPTION 'role "%" may not change settings', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.configure() or engram.apply_preset().';
  END IF;
  IF NOT EXISTS (SELECT FROM engram.settings s WHERE s.workspace_id = change_settings.workspace) THEN
    INSERT INTO engram.settings (workspace_id) VALUES (change_settings.workspace) ON CONFLICT DO NOTHING;
  END IF;
  FOR key, value IN SELECT * FROM jsonb_each(changes) ORDER BY 1 LOOP
    SELECT format_type(a.atttypid, a.atttypmod), col_description(a.attrelid, a.attnum) INTO kind, hint
    FROM pg_attribute a
    WHERE a.attrelid = 'engram.settings'::regclass AND a.attname = key AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname NOT IN ('workspace_id', 'preset');
    IF NOT FOUND THEN
      RAISE EXCEPTION 'unknown setting "%"', key
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Known: ' || (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_attribute a
                WHERE a.attrelid = 'engram.settings'::regclass AND a.attnum > 0 AND NOT a.attisdropped
                  AND a.attname NOT IN ('workspace_id', 'preset')) || '.';
    END IF;
    IF value = 'null' AND change_settings.workspace = '00000000-0000-0000-0000-000000000000' 
       AND key NOT IN ('near_duplicate_threshold', 'purge_after_days', 'access_log_days', 'memory_events_days', 'messages_days', 'archive_messages_days', 'size_limit_bytes') THEN
      RAISE EXCEPTION 'the default of setting % cannot be null', key
        USING ERRCODE = 'invalid_parameter_value', HINT = hint;
    END IF;
    BEGIN
      EXECUTE format('UPDATE engram.settings SET %I = $1::%s WHERE workspace_id = $2', key, kind)
        USING value #>> '{}', change_settings.workspace;
    EXCEPTION
      WHEN check_violation OR invalid_text_representation OR numeric_value_out_of_range OR undefined_object THEN
        GET STACKED DIAGNOSTICS wrong = CONSTRAINT_NAME;
        -- The three thresholds of layers depend on each other; those are judged at the end.
        IF wrong <> 'settings_layers_check' THEN
          RAISE EXCEPTION 'setting % cannot be %', key, value
            USING ERRCODE = 'invalid_parameter_value', HINT = hint;
        END IF;
    END;
  END LOOP;
  -- Once more together, now that each is known to be right alone.
  IF changes ?| ARRAY['promote', 'demote', 'archive'] THEN
    SELECT jsonb_build_object(
      'promote', CASE WHEN changes ? 'promote' THEN changes -> 'promote' ELSE to_jsonb(s.promote) END,
      'demote', CASE WHEN changes ? 'demote' THEN changes -> 'demote' ELSE to_jsonb(s.demote) END,
      'archive', CASE WHEN changes ? 'archive' THEN changes -> 'archive' ELSE to_jsonb(s.archive) END)
    INTO row_ FROM engram.settings s WHERE s.workspace_id = change_settings.workspace;
    IF EXISTS (SELECT FROM engram.settings d WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000'
               AND coalesce((row_ ->> 'promote')::double precision, d.promote)
                 < greatest(coalesce((row_ ->> 'demote')::double precision, d.demote), coalesce((row_ ->> 'archive')::double precision, d.archive))) THEN
      RAISE EXCEPTION 'promote would be less than demote or archive: %', row_
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'A memory that is promoted must not be demoted or archived at the same strength. Change them together.';
    END IF;
    UPDATE engram.settings s SET promote = (row_ ->> 'promote')::double precision, demote = (row_ ->> 'demote')::double precision,
      archive = (row_ ->> 'archive')::double precision
    WHERE s.workspace_id = change_settings.workspace;
  END IF;
  UPDATE engram.settings s SET preset = change_settings.preset WHERE s.workspace_id = change_settings.workspace AND change_settings.preset IS NOT NULL;
  RETURN engram_internal.effective_settings(change_settings.workspace);
END
$$;
COMMENT ON FUNCTION engram.configure(jsonb, uuid) IS
'Changes settings of a workspace and returns those in force.

changes: an object of names and values, for example {"decay": 0.4, "link_half_life_days": 60}; null goes back to the default. Users set how their memories live and how they are ranked; max_content_chars, candidates, fold_threshold, text_config, partition_interval, partitions_ahead, access_log_days, memory_events_days, messages_days, archive_messages_days and size_limit_bytes take a role that bypasses row security, which may also name the all-zero workspace, that of the defaults. A memory lives by them from its latest use on.';

-- The logs by time: access_log, memory_events, messages. Each has a partition for everything before its first
-- month (_old), one for each month (or day, week, quarter, year), and a default one that catches what no month
-- covers yet, so that a missed run loses nothing. Bounds are in UTC. Whoever changes the partitions of a table
-- holds it in SHARE UPDATE EXCLUSIVE mode: nobody reads or writes differently, and only one at a time changes.
CREATE FUNCTION engram_internal.partitioned() RETURNS TABLE (parent text, key text, keep text)
LANGUAGE sql IMMUTABLE ROWS 3
SET search_path = pg_catalog, pg_temp
AS $$
  VALUES ('access_log', 'accessed_at', 'access_log_days'), ('memory_events', 'at', 'memory_events_days'),
         ('messages', 'created_at', 'messages_days')
$$;
COMMENT ON FUNCTION engram_internal.partitioned() IS
'The tables that are partitioned by time, the column that decides, and the setting that says how long they keep their rows.';

CREATE FUNCTION engram_internal.partition_bounds(parent text)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz, is_default boolean)
LANGUAGE plpgsql STABLE ROWS 20
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT c.oid::regclass::text,
         (CASE WHEN b.parts[1] = 'MINVALUE' THEN '-infinity' ELSE trim('''' FROM b.parts[1]) END)::timestamptz,
         (CASE WHEN b.parts[2] = 'MAXVALUE' THEN 'infinity' ELSE trim('''' FROM b.parts[2]) END)::timestamptz,
         b.parts IS NULL
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  CROSS JOIN LATERAL (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \((.*)\) TO \((.*)\)$') AS parts) b
  WHERE i.inhparent = to_regclass('engram.' || quote_ident(partition_bounds.parent))
  ORDER BY 2 NULLS LAST;
END
$$;
COMMENT ON FUNCTION engram_internal.partition_bounds(text) IS 'The partitions of a table with their bounds, oldest first; the default one, last, has none.';

CREATE FUNCTION engram_internal.partition_setting(name text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT to_jsonb(d) ->> partition_setting.name FROM engram.settings d
          WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
END
$$;
COMMENT ON FUNCTION engram_internal.partition_setting(text) IS 'A setting of the whole store, as text.';

CREATE FUNCTION engram_internal.interval_after(unit text, moment timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  -- In UTC, so that no day is longer than another and every server draws the same borders.
  SELECT (date_trunc(unit, moment AT TIME ZONE 'UTC')
          + CASE unit WHEN 'quarter' THEN interval '3 months' ELSE ('1 ' || unit)::interval END) AT TIME ZONE 'UTC'
$$;
COMMENT ON FUNCTION engram_internal.interval_after(text, timestamptz) IS 'The first border between intervals (day, week, month, quarter, year; UTC) after a moment.';

CREATE FUNCTION engram_internal.make_partition(parent text, suffix text, model text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  name text := parent || '_' || suffix;
  nth  integer := 1;
  i    record;
BEGIN
  -- A table of that name may be one that was detached.
  WHILE to_regclass('engram.' || quote_ident(name)) IS NOT NULL LOOP
    nth := nth + 1;
    name := format('%s_%s_%s', parent, suffix, nth);
  END LOOP;
  EXECUTE format('CREATE TABLE engram.%I (LIKE engram.%I INCLUDING ALL EXCLUDING INDEXES)', name, model);
  FOR i IN
    SELECT name || substr(c.relname, length(model) + 1) AS name, x.indisprimary AS is_key, x.indisunique AS is_unique,
           substring(pg_get_indexdef(x.indexrelid) FROM ' USING .*') AS body,
           (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype = 'p') AS key,
           obj_description(x.indexrelid, 'pg_class') AS comment
    FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
    WHERE x.indrelid = to_regclass('engram.' || quote_ident(model)) ORDER BY c.relname
  LOOP
    IF i.is_key THEN
      EXECUTE format('ALTER TABLE engram.%I ADD CONSTRAINT %I %s', name, i.name, i.key);
    ELSE
      EXECUTE format('CREATE %s INDEX %I ON engram.%I %s', CASE WHEN i.is_unique THEN 'UNIQUE' ELSE '' END, i.name, name, i.body);
    END IF;
    IF i.comment IS NOT NULL THEN
      EXECUTE format('COMMENT ON INDEX engram.%I IS %L', i.name, i.comment);
    END IF;
  END LOOP;
  EXECUTE format('ALTER TABLE engram.%I ENABLE ROW LEVEL SECURITY', name);
  EXECUTE format('CREATE POLICY %I ON engram.%I FOR SELECT TO public USING (workspace_id = ANY ((SELECT engram.readable_workspaces())::uuid[]))',
                 name || '_select', name);
  EXECUTE format('COMMENT ON POLICY %I ON engram.%I IS %L', name || '_select', name, 'Rows of workspaces that the caller may read.');
  RETURN name;
END
$$;
COMMENT ON FUNCTION engram_internal.make_partition(text, text, text) IS
'A table like another partition, with its indexes, not attached yet; returns its name. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.attach_partition(parent text, name text, lower_bound timestamptz, upper_bound timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
BEGIN
  EXECUTE format('ALTER TABLE engram.%I ATTACH PARTITION engram.%I FOR VALUES FROM (%s) TO (%L)', parent, name,
                 CASE WHEN lower_bound = '-infinity' THEN 'MINVALUE' ELSE quote_literal(lower_bound) END, upper_bound);
  EXECUTE format('COMMENT ON TABLE engram.%I IS %L', name,
    CASE WHEN lower_bound = '-infinity' THEN format('Rows of %s from before %s.', parent, upper_bound)
         ELSE format('Rows of %s from %s until %s.', parent, lower_bound, upper_bound) END);
END
$$;
COMMENT ON FUNCTION engram_internal.attach_partition(text, text, timestamptz, timestamptz) IS
'Makes a table a partition for a span of time, -infinity for all before. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.create_partitions_as_owner(parent text, key text, until timestamptz)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql VOLATILE ROWS 5
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
  most_moved constant integer := 10000;
  -- Each takes locks until the transaction ends, and the server has room for some thousands.
  most_made  constant integer := 150;
  n        integer := 0;
  unit     text := coalesce(engram_internal.partition_setting('partition_interval'), 'month');
  spare    text := create_partitions_as_owner.parent || '_default';
  -- Not the time of the transaction: it may have begun in another interval.
  moment   timestamptz := clock_timestamp();
  goal     timestamptz := create_partitions_as_owner.until;
  since    timestamptz;
  border   timestamptz;
  held     bigint;
  made     text;
  gap      record;
  filled   boolean;
BEGIN
  EXECUTE format('LOCK TABLE ONLY engram.%I IN SHARE UPDATE EXCLUSIVE MODE', create_partitions_as_owner.parent);
  IF goal IS NULL THEN
    goal := moment;
    FOR held IN 1 .. coalesce(engram_internal.partition_setting('partitions_ahead')::integer, 2) LOOP
      goal := engram_internal.interval_after(unit, goal);
    END LOOP;
  END IF;
  IF NOT EXISTS (SELECT FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b WHERE b.partition = 'engram.' || quote_ident(spare) AND b.is_default) THEN
    RAISE EXCEPTION 'table engram.% has no default partition', create_partitions_as_owner.parent
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('Somebody dropped or detached it. If it is there: ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT; else, as the owner of the tables: SELECT engram.setup();', create_partitions_as_owner.parent, spare);
  END IF;
  -- Where somebody took one out from between, and rows have come for it since.
  FOR gap IN
    SELECT x.ends, x.begins FROM (
      SELECT b.upper_bound AS ends, lead(b.lower_bound) OVER (ORDER BY b.lower_bound) AS begins
      FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b WHERE NOT b.is_default) x
    WHERE x.ends < x.begins
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM engram.%I WHERE %I >= $1 AND %2$I < $2)', spare, create_partitions_as_owner.key)
      INTO filled USING gap.ends, gap.begins;
    CONTINUE WHEN NOT filled;
    EXECUTE format('LOCK TABLE engram.%I IN ACCESS EXCLUSIVE MODE', spare);
    RETURN QUERY SELECT * FROM engram_internal.fill_partition(create_partitions_as_owner.parent, create_partitions_as_owner.key,
                   'p' || to_char(gap.ends, 'YYYYMMDD'), gap.ends, gap.begins);
  END LOOP;
  since := (SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b);
  IF since > goal AND NOT EXISTS (SELECT FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b WHERE b.lower_bound = '-infinity') THEN
    -- Somebody dropped the one for everything before.
    border := (SELECT min(b.lower_bound) FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b);
    goal := since;
    since := NULL;
  ELSIF since > goal THEN
    RETURN;
  END IF;

  -- What no partition covered so far lies in the default one, and must not when theirs is made. Others
  -- cannot write it meanwhile; that is short, because a few rows are moved, and of many the whole table
  -- becomes the partition that they need.
  -- Rows of a far future stay where they are.
  EXECUTE format('SELECT count(*) FROM (SELECT FROM engram.%I WHERE %I < $1 LIMIT %s) x', spare, create_partitions_as_owner.key, most_moved + 1)
    INTO held USING engram_internal.interval_after(unit, goal);
  IF held > most_moved THEN
    -- The table before its partition, as everybody who reads or writes them.
    EXECUTE format('LOCK TABLE ONLY engram.%I IN ACCESS EXCLUSIVE MODE', create_partitions_as_owner.parent);
  END IF;
  EXECUTE format('LOCK TABLE engram.%I IN ACCESS EXCLUSIVE MODE', spare);
  IF held > most_moved THEN
    lower_bound := coalesce(since, '-infinity');
    upper_bound := engram_internal.interval_after(unit, greatest(moment, since));
    EXECUTE format('ALTER TABLE engram.%I DETACH PARTITION engram.%I', create_partitions_as_owner.parent, spare);
    made := create_partitions_as_owner.parent || CASE WHEN since IS NULL THEN '_old' ELSE '_p' || to_char(since, 'YYYYMMDD') END;
    PERFORM engram_internal.rename_partition(spare, made);
    PERFORM engram_internal.make_partition(create_partitions_as_owner.parent, 'default', made);
    EXECUTE format('ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT', create_partitions_as_owner.parent, spare);
    EXECUTE format('COMMENT ON TABLE engram.%I IS %L', spare, obj_description(to_regclass('engram.' || quote_ident(made)), 'pg_class'));
    EXECUTE format('WITH out AS (DELETE FROM engram.%1$I WHERE %2$I < $1 OR %2$I >= $2 RETURNING *) INSERT INTO engram.%3$I SELECT * FROM out',
                   made, create_partitions_as_owner.key, spare) USING lower_bound, upper_bound;
    PERFORM engram_internal.attach_partition(create_partitions_as_owner.parent, made, lower_bound, upper_bound);
    partition := 'engram.' || quote_ident(made);
    RETURN NEXT;
    since := upper_bound;
  ELSIF since IS NULL THEN
    border := coalesce(border, date_trunc(unit, moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC');
    RETURN QUERY SELECT * FROM engram_internal.fill_partition(create_partitions_as_owner.parent, create_partitions_as_owner.key, 'old', '-infinity', border);
    since := coalesce((SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b), border);
  END IF;
  WHILE since <= goal AND n < most_made LOOP
    n := n + 1;
    border := engram_internal.interval_after(unit, since);
    RETURN QUERY SELECT * FROM engram_internal.fill_partition(create_partitions_as_owner.parent, create_partitions_as_owner.key,
                   'p' || to_char(since, 'YYYYMMDD'), since, border);
    since := border;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.create_partitions_as_owner(text, text, timestamptz) IS
'What create_partitions() does for one table. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.fill_partition(parent text, key text, suffix text, since timestamptz, until timestamptz)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  made text := engram_internal.make_partition(parent, suffix, parent || '_default');
BEGIN
  EXECUTE format('WITH moved AS (DELETE FROM engram.%1$I WHERE %2$I >= $1 AND %2$I < $2 RETURNING *) INSERT INTO engram.%3$I SELECT * FROM moved',
                 parent || '_default', key, made) USING since, until;
  PERFORM engram_internal.attach_partition(parent, made, since, until);
  RETURN QUERY SELECT 'engram.' || quote_ident(made), since, until;
END
$$;
COMMENT ON FUNCTION engram_internal.fill_partition(text, text, text, timestamptz, timestamptz) IS
'A new partition with the rows of its span that lie in the default one, which the caller has locked. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.rename_partition(old text, new text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  i name;
BEGIN
  EXECUTE format('ALTER TABLE engram.%I RENAME TO %I', old, new);
  FOR i IN SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
           WHERE x.indrelid = to_regclass('engram.' || quote_ident(new)) AND starts_with(c.relname::text, old) LOOP
    EXECUTE format('ALTER INDEX engram.%I RENAME TO %I', i, new || substr(i, length(old) + 1));
  END LOOP;
  FOR i IN SELECT p.polname FROM pg_policy p
           WHERE p.polrelid = to_regclass('engram.' || quote_ident(new)) AND starts_with(p.polname::text, old) LOOP
    EXECUTE format('ALTER POLICY %I ON engram.%I RENAME TO %I', i, new, new || substr(i, length(old) + 1));
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.rename_partition(text, text) IS
'Renames a table of schema engram and what is named after it. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.release_partitions_as_owner(
  parent text, key text, before timestamptz, schema_ text, table_ text, dry_run boolean)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz, bytes bigint, moved_to text)
LANGUAGE plpgsql VOLATILE ROWS 5
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
  p       record;
  newest  xid8;
  name    text;
  wanted  text;
  nth     integer;
  lowest  timestamptz;
  more    boolean;
  filled  boolean;
BEGIN
  EXECUTE format('LOCK TABLE ONLY engram.%I IN SHARE UPDATE EXCLUSIVE MODE', release_partitions_as_owner.parent);
  SELECT min(b.lower_bound), coalesce(bool_or(b.upper_bound <= release_partitions_as_owner.before), false) INTO lowest, more
  FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b WHERE b.lower_bound > '-infinity';
  FOR p IN
    SELECT b.* FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b
    WHERE b.upper_bound <= release_partitions_as_owner.before AND NOT b.is_default
    ORDER BY b.upper_bound
  LOOP
    partition := p.partition;
    lower_bound := nullif(p.lower_bound, '-infinity');
    upper_bound := p.upper_bound;
    bytes := pg_total_relation_size(p.partition::regclass);
    moved_to := NULL;
    IF p.lower_bound = '-infinity' AND p.upper_bound = lowest AND NOT more THEN
      -- The one for everything before stays as long as it is empty.
      EXECUTE format('SELECT EXISTS (SELECT FROM %s)', p.partition) INTO filled;
      CONTINUE WHEN NOT filled;
    END IF;
    IF release_partitions_as_owner.dry_run THEN
      moved_to := coalesce(release_partitions_as_owner.table_, release_partitions_as_owner.schema_);
      RETURN NEXT;
      CONTINUE;
    END IF;
    IF release_partitions_as_owner.parent = 'memory_events' THEN
      -- A device that has not seen all of it can no longer be told. Nobody writes a time that is over,
      -- but for who began before its end.
      IF EXISTS (SELECT FROM pg_stat_activity a WHERE a.xact_start < p.upper_bound AND a.backend_xid IS NOT NULL) THEN
        RAISE EXCEPTION 'a transaction that began before % is still open', p.upper_bound
          USING ERRCODE = 'lock_not_available', HINT = 'End it: SELECT * FROM pg_stat_activity ORDER BY xact_start;';
      END IF;
      EXECUTE format('SELECT e.xid FROM %s e WHERE e.origin = engram_internal.store_origin() ORDER BY e.xid DESC LIMIT 1', p.partition) INTO newest;
      INSERT INTO engram.maintenance (workspace_id) VALUES ('00000000-0000-0000-0000-000000000000') ON CONFLICT DO NOTHING;
      UPDATE engram.maintenance m
      SET events_dropped_xid = CASE WHEN newest > coalesce(m.events_dropped_xid, '0'::xid8) THEN newest ELSE m.events_dropped_xid END,
          events_dropped_until = greatest(m.events_dropped_until, p.upper_bound)
      WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
    END IF;
    -- The table before its partitions, as everybody who reads or writes them.
    EXECUTE format('LOCK TABLE ONLY engram.%I IN ACCESS EXCLUSIVE MODE', release_partitions_as_owner.parent);
    EXECUTE format('ALTER TABLE engram.%I DETACH PARTITION %s', release_partitions_as_owner.parent, p.partition);
    name := (SELECT c.relname FROM pg_class c WHERE c.oid = p.partition::regclass);
    IF release_partitions_as_owner.table_ IS NOT NULL THEN
      -- What a table does with its rows (triggers, rules, checks) it does here with the rights of this role.
      EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', release_partitions_as_owner.table_::regclass);
      IF EXISTS (SELECT FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
                 WHERE c.oid = release_partitions_as_owner.table_::regclass AND r.rolname <> current_user AND NOT r.rolsuper) THEN
        RAISE EXCEPTION 'table "%" does not belong to the owner of the tables of engram', release_partitions_as_owner.table_
          USING ERRCODE = 'insufficient_privilege',
                HINT = format('Its triggers would run with the rights of that role. ALTER TABLE %s OWNER TO %I; or detach into a schema.', release_partitions_as_owner.table_, current_user);
      END IF;
      EXECUTE format('INSERT INTO %s SELECT * FROM %s', release_partitions_as_owner.table_::regclass, p.partition);
      EXECUTE format('DROP TABLE %s', p.partition);
      moved_to := release_partitions_as_owner.table_::regclass::text;
    ELSIF release_partitions_as_owner.schema_ IS NOT NULL THEN
      -- The name of the one for everything before is needed again.
      wanted := CASE WHEN p.lower_bound = '-infinity' THEN format('%s_until_%s', release_partitions_as_owner.parent, to_char(p.upper_bound, 'YYYYMMDD'))
                     ELSE name END;
      nth := 1;
      WHILE wanted <> name AND to_regclass('engram.' || quote_ident(wanted)) IS NOT NULL
            OR release_partitions_as_owner.schema_ <> 'engram'
               AND to_regclass(format('%I.%I', release_partitions_as_owner.schema_, wanted)) IS NOT NULL LOOP
        nth := nth + 1;
        wanted := format('%s_%s', substring(wanted FROM '^(.*?[0-9]{8})'), nth);
      END LOOP;
      IF wanted <> name THEN
        PERFORM engram_internal.rename_partition(name, wanted);
      END IF;
      IF release_partitions_as_owner.schema_ <> 'engram' THEN
        EXECUTE format('ALTER TABLE engram.%I SET SCHEMA %I', wanted, release_partitions_as_owner.schema_);
      END IF;
      moved_to := format('%I.%I', release_partitions_as_owner.schema_, wanted);
    ELSE
      EXECUTE format('DROP TABLE %s', p.partition);
    END IF;
    RETURN NEXT;
  END LOOP;
  IF release_partitions_as_owner.dry_run THEN
    RETURN;
  END IF;
  -- Late rows find a home: the partition for everything before reaches to the oldest that is left.
  lowest := (SELECT min(b.lower_bound) FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b WHERE b.lower_bound > '-infinity');
  IF lowest IS NOT NULL AND NOT EXISTS (SELECT FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b WHERE b.lower_bound = '-infinity') THEN
    EXECUTE format('LOCK TABLE engram.%I IN ACCESS EXCLUSIVE MODE', release_partitions_as_owner.parent || '_default');
    PERFORM engram_internal.fill_partition(release_partitions_as_owner.parent, release_partitions_as_owner.key, 'old', '-infinity', lowest);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.release_partitions_as_owner(text, text, timestamptz, text, text, boolean) IS
'What drop_partitions() and detach_partitions() do for one table: what ends before a moment is moved to a schema, into a table, or dropped. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.administer(task text, args jsonb) RETURNS jsonb
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'administer_wrapper';
COMMENT ON FUNCTION engram_internal.administer(text, jsonb) IS
'Does a task of the whole store with the rights of its owner, for a caller that bypasses row security; 42501 for all others. task: create_partitions, release_partitions or maintain.';

CREATE FUNCTION engram_internal.observe(task text, args jsonb) RETURNS jsonb
LANGUAGE c STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'observe_wrapper';
COMMENT ON FUNCTION engram_internal.observe(text, jsonb) IS
'As administer(), for tasks that only read: health or metrics.';

CREATE FUNCTION engram_internal.partitions_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- Who waits for a table has everybody else wait behind: better to come again.
SET lock_timeout = '1s'
AS $$
#variable_conflict use_variable
DECLARE
  t      record;
  before timestamptz;
  part   jsonb;
  result jsonb := '[]';
BEGIN
  IF args ->> 'parent' IS NOT NULL AND NOT EXISTS (SELECT FROM engram_internal.partitioned() p WHERE p.parent = args ->> 'parent') THEN
    RAISE EXCEPTION 'table "%" is not one that is partitioned by time', args ->> 'parent'
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Known: ' || (SELECT string_agg(p.parent, ', ') FROM engram_internal.partitioned() p) || '.';
  END IF;
  FOR t IN SELECT p.* FROM engram_internal.partitioned() p
           WHERE to_regclass('engram.' || p.parent) IS NOT NULL AND p.parent = coalesce(args ->> 'parent', p.parent) LOOP
    BEGIN
      IF task = 'create_partitions' THEN
        SELECT coalesce(jsonb_agg(to_jsonb(c) || jsonb_build_object('parent', t.parent)), '[]') INTO part
        FROM engram_internal.create_partitions_as_owner(t.parent, t.key, (args ->> 'until')::timestamptz) c;
      ELSE
        before := engram_internal.earlier(now(), coalesce((args ->> 'older_than')::interval,
                    engram_internal.partition_setting(t.keep)::double precision * interval '1 day'));
        CONTINUE WHEN before IS NULL;
        SELECT coalesce(jsonb_agg(to_jsonb(c) || jsonb_build_object('parent', t.parent)), '[]') INTO part
        FROM engram_internal.release_partitions_as_owner(t.parent, t.key, before, args ->> 'schema', args ->> 'table',
               coalesce((args ->> 'dry_run')::boolean, false)) c;
      END IF;
    EXCEPTION WHEN lock_not_available THEN
      RAISE EXCEPTION 'table engram.% is in use, and whoever waits for it would hold everybody up', t.parent
        USING ERRCODE = 'lock_not_available', HINT = 'Nothing was changed. Call it again; maintain() tries it at every run.';
    END;
    IF part <> '[]' THEN
      -- Holding one table and waiting for another, it might be what somebody waits for who holds that:
      -- only for much less time than PostgreSQL takes to call it a deadlock.
      PERFORM set_config('lock_timeout', '50ms', true);
    END IF;
    result := result || part;
  END LOOP;
  RETURN result;
END
$$;
COMMENT ON FUNCTION engram_internal.partitions_task(text, jsonb) IS
'create_partitions and release_partitions for every table by time. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.create_partitions(until timestamptz DEFAULT NULL)
RETURNS TABLE (parent_table text, partition text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  IF NOT isfinite(create_partitions.until) OR create_partitions.until > now() + interval '50 years' THEN
    RAISE EXCEPTION 'until is %', create_partitions.until
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a moment within the next 50 years, or leave it out.';
  END IF;
  RETURN QUERY
  SELECT r.parent, r.partition, nullif(r.lower_bound, '-infinity'), r.upper_bound
  FROM jsonb_to_recordset(engram_internal.administer('create_partitions', jsonb_build_object('until', create_partitions.until)))
    AS r (parent text, partition text, lower_bound timestamptz, upper_bound timestamptz);
END
$$;
COMMENT ON FUNCTION engram.create_partitions(timestamptz) IS
'Makes the partitions of access_log, memory_events and messages that are missing, and returns them; lower_bound is NULL for the one that holds everything before the first. For roles that bypass row security; maintain() does it.

until: cover time until then; by default partitions_ahead intervals from now. At most 150 a table and call; what is still missing then the next call makes. Intervals are days, weeks, months (default), quarters or years in UTC: setting partition_interval. Rows that the default partition has caught meanwhile move into theirs. Others read and write on; what cannot be locked at once raises 55P03 and changes nothing.';

CREATE FUNCTION engram.drop_partitions(older_than interval DEFAULT NULL, parent text DEFAULT NULL, dry_run boolean DEFAULT NULL)
RETURNS TABLE (parent_table text, partition text, lower_bound timestamptz, upper_bound timestamptz, bytes bigint)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM engram_internal.check_age(drop_partitions.older_than);
  RETURN QUERY
  SELECT r.parent, r.partition, r.lower_bound, r.upper_bound, r.bytes
  FROM jsonb_to_recordset(engram_internal.administer('release_partitions', jsonb_build_object(
      'older_than', drop_partitions.older_than, 'parent', drop_partitions.parent, 'dry_run', drop_partitions.dry_run)))
    AS r (parent text, partition text, lower_bound timestamptz, upper_bound timestamptz, bytes bigint);
END
$$;
COMMENT ON FUNCTION engram.drop_partitions(interval, text, boolean) IS
'Drops partitions all of whose time is older, and returns them. No activation, strength or search result changes by it: what counts has been folded. history() and as_of reach no further back then, and devices that have not synchronised since get a new start. For roles that bypass row security.

older_than: by default what the settings access_log_days, memory_events_days and messages_days keep, which is everything unless they are set. parent: only this table. dry_run: only tell which.';

CREATE FUNCTION engram.detach_partitions(
  older_than interval,
  parent text DEFAULT NULL,
  into_schema text DEFAULT NULL,
  into_table text DEFAULT NULL,
  dry_run boolean DEFAULT NULL)
RETURNS TABLE (parent_table text, partition text, lower_bound timestamptz, upper_bound timestamptz, moved_to text)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  IF detach_partitions.older_than IS NULL THEN
    RAISE EXCEPTION 'older_than is NULL'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an interval, for example ''1 year''.';
  END IF;
  PERFORM engram_internal.check_age(detach_partitions.older_than);
  IF detach_partitions.into_table IS NOT NULL AND (detach_partitions.into_schema IS NOT NULL OR detach_partitions.parent IS NULL) THEN
    RAISE EXCEPTION 'into_table "%" goes with a parent and without into_schema', detach_partitions.into_table
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name the table whose rows it takes, for example parent => ''access_log''; or give into_schema alone.';
  END IF;
  IF detach_partitions.into_schema IS NOT NULL AND to_regnamespace(quote_ident(detach_partitions.into_schema)) IS NULL THEN
    RAISE EXCEPTION 'schema "%" does not exist', detach_partitions.into_schema
      USING ERRCODE = 'invalid_schema_name', HINT = format('Create it first: CREATE SCHEMA %I;', detach_partitions.into_schema);
  END IF;
  IF detach_partitions.into_table IS NOT NULL AND to_regclass(detach_partitions.into_table) IS NULL THEN
    RAISE EXCEPTION 'table "%" does not exist', detach_partitions.into_table
      USING ERRCODE = 'undefined_table',
            HINT = format('Create it first: CREATE TABLE %s (LIKE engram.%I);', detach_partitions.into_table, detach_partitions.parent);
  END IF;
  RETURN QUERY
  SELECT r.parent, r.partition, r.lower_bound, r.upper_bound, r.moved_to
  FROM jsonb_to_recordset(engram_internal.administer('release_partitions', jsonb_build_object(
      'older_than', detach_partitions.older_than, 'parent', detach_partitions.parent, 'dry_run', detach_partitions.dry_run,
      'schema', CASE WHEN detach_partitions.into_table IS NULL THEN coalesce(detach_partitions.into_schema, 'engram') END,
      'table', to_regclass(detach_partitions.into_table)::text)))
    AS r (parent text, partition text, lower_bound timestamptz, upper_bound timestamptz, moved_to text);
END
$$;
COMMENT ON FUNCTION engram.detach_partitions(interval, text, text, text, boolean) IS
'As drop_partitions(), but keeps the rows: the partitions become tables of their own, in a schema (into_schema, by default where they are), or their rows go into a table (into_table, with the columns of parent). moved_to tells where. The owner of the tables of engram needs the right to create in that schema; the table must belong to that role or a superuser.';

CREATE FUNCTION engram_internal.earlier(moment timestamptz, age interval) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN moment - age;
EXCEPTION WHEN datetime_field_overflow THEN
  RETURN '-infinity';
END
$$;
COMMENT ON FUNCTION engram_internal.earlier(timestamptz, interval) IS 'A moment less an age of 0 or more; -infinity where no calendar reaches.';

CREATE FUNCTION engram_internal.check_age(older_than interval) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF older_than < interval '0' THEN
    RAISE EXCEPTION 'older_than is %', older_than
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an interval of 0 or more, for example ''1 year''.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_age(interval) IS 'Raises the error for an age below 0.';

-- Forgetting for real, and all care in one procedure.
CREATE FUNCTION engram.set_retention(
  name text,
  max_age interval DEFAULT NULL,
  max_count integer DEFAULT NULL,
  types text[] DEFAULT NULL,
  max_importance double precision DEFAULT NULL,
  action text DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(set_retention.workspace, true);
BEGIN
  IF coalesce(set_retention.name, '') = '' THEN
    RAISE EXCEPTION 'name is %', CASE WHEN set_retention.name IS NULL THEN 'NULL' ELSE 'empty' END
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the policy, so that it can be changed and dropped.';
  END IF;
  IF set_retention.max_age IS NULL AND set_retention.max_count IS NULL THEN
    RAISE EXCEPTION 'retention policy "%" has neither max_age nor max_count', set_retention.name
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Say what it limits, for example max_age => ''90 days''.';
  END IF;
  IF set_retention.max_age < interval '0' OR set_retention.max_count < 0 THEN
    RAISE EXCEPTION 'max_age % or max_count % is below 0', set_retention.max_age, set_retention.max_count
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 0 or more; 0 takes all that the policy is about.';
  END IF;
  IF coalesce(set_retention.action, 'forget') NOT IN ('forget', 'erase') THEN
    RAISE EXCEPTION 'unknown action "%"', set_retention.action
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: forget (default), which restore() takes back, and erase.';
  END IF;
  PERFORM engram_internal.check_memory(coalesce(t, 'NULL'), NULL, NULL, NULL, NULL) FROM unnest(set_retention.types) AS t;
  IF NOT set_retention.max_importance BETWEEN 0 AND 1 THEN
    RAISE EXCEPTION 'max_importance % is outside 0 to 1', set_retention.max_importance
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 0 (trivial) to 1 (vital), or leave it out.';
  END IF;
  INSERT INTO engram.retention_policies AS p (workspace_id, name, action, types, max_importance, max_age, max_count)
  VALUES (ws, set_retention.name, coalesce(set_retention.action, 'forget'), set_retention.types, set_retention.max_importance,
          set_retention.max_age, set_retention.max_count)
  ON CONFLICT (workspace_id, name) DO UPDATE
  SET action = EXCLUDED.action, types = EXCLUDED.types, max_importance = EXCLUDED.max_importance,
      max_age = EXCLUDED.max_age, max_count = EXCLUDED.max_count;
END
$$;
COMMENT ON FUNCTION engram.set_retention(text, interval, integer, text[], double precision, text, uuid) IS
'Sets, or replaces, a retention policy of a workspace. maintain() and apply_retention() follow it.

It takes memories stored longer than max_age ago, and those beyond the newest max_count; only of these types, and of at most this importance (0 to 1), if given. Pinned memories are never taken, nor counted; forgotten ones count after all others. action: forget (default; restore() takes it back) or erase (final). engram.retention_policies lists them.';

CREATE FUNCTION engram.drop_retention(name text, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ws uuid := engram_internal.resolve_workspace(drop_retention.workspace, true);
BEGIN
  DELETE FROM engram.retention_policies p WHERE p.workspace_id = ws AND p.name = drop_retention.name;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram.drop_retention(text, uuid) IS 'Drops a retention policy. True when it was there.';

CREATE FUNCTION engram_internal.apply_retention(workspace uuid, at timestamptz, dry_run boolean, batch_size integer)
RETURNS TABLE (workspace_id uuid, policy text, action text, memories bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  p      record;
  ids    uuid[];
  moment timestamptz := coalesce(apply_retention.at, now());
  oldest timestamptz;
BEGIN
  FOR p IN SELECT r.* FROM engram.retention_policies r
           WHERE apply_retention.workspace IS NULL OR r.workspace_id = apply_retention.workspace
           ORDER BY r.workspace_id, r.name LOOP
    oldest := engram_internal.earlier(moment, p.max_age);
    ids := ARRAY(
      SELECT x.id FROM (
        SELECT m.id, m.created_at, row_number() OVER (ORDER BY m.deleted_at IS NOT NULL, m.created_at DESC, m.id DESC) AS place
        FROM engram.memories m
        WHERE m.workspace_id = p.workspace_id AND NOT m.pinned
          AND (m.deleted_at IS NULL OR p.action = 'erase')
          AND (p.types IS NULL OR m.type = ANY (p.types))
          AND (p.max_importance IS NULL OR m.importance <= p.max_importance)) x
      WHERE x.created_at < oldest OR x.place > p.max_count
      ORDER BY x.id LIMIT apply_retention.batch_size);
    workspace_id := p.workspace_id;
    policy := p.name;
    action := p.action;
    memories := cardinality(ids);
    IF NOT coalesce(apply_retention.dry_run, false) AND memories > 0 THEN
      -- Who is at work on one of them keeps it until the next time.
      ids := ARRAY(SELECT m.id FROM engram.memories m
                   WHERE m.workspace_id = p.workspace_id AND m.id = ANY (ids) AND NOT m.pinned ORDER BY m.id FOR UPDATE SKIP LOCKED);
      IF p.action = 'erase' THEN
        DELETE FROM engram.memories m WHERE m.workspace_id = p.workspace_id AND m.id = ANY (ids);
      ELSE
        UPDATE engram.memories m SET deleted_at = moment WHERE m.workspace_id = p.workspace_id AND m.id = ANY (ids) AND m.deleted_at IS NULL;
      END IF;
      GET DIAGNOSTICS memories = ROW_COUNT;
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.apply_retention(uuid, timestamptz, boolean, integer) IS
'What apply_retention() does, for one workspace or all, at most so many memories a policy. As the caller.';

CREATE FUNCTION engram.apply_retention(dry_run boolean DEFAULT NULL, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (policy text, action text, memories bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(apply_retention.workspace, true);
BEGIN
  RETURN QUERY SELECT r.policy, r.action, r.memories
               FROM engram_internal.apply_retention(ws, apply_retention.at, apply_retention.dry_run, NULL) r;
END
$$;
COMMENT ON FUNCTION engram.apply_retention(boolean, timestamptz, uuid) IS
'Applies the retention policies of a workspace now, in the order of their names, and tells how many memories each took. maintain() does it.

dry_run: only tell how many each policy by itself would take. at: the moment by which ages are judged, by default now.';

CREATE FUNCTION engram_internal.purge(workspace uuid, older_than interval, at timestamptz, dry_run boolean, batch_size integer)
RETURNS TABLE (workspace_id uuid, id uuid, reason text, gone_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  moment timestamptz := coalesce(purge.at, now());
BEGIN
  RETURN QUERY EXECUTE
    $q$WITH doomed AS MATERIALIZED (
         SELECT m.workspace_id, m.id, CASE WHEN m.deleted_at IS NOT NULL THEN 'forgotten' ELSE 'expired' END AS reason,
                coalesce(m.deleted_at, m.expires_at) AS gone_at
         FROM engram.memories m$q$
    || CASE WHEN purge.older_than IS NULL THEN $q$
         JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
         LEFT JOIN engram.settings w ON w.workspace_id = m.workspace_id$q$ ELSE '' END
    || $q$ WHERE (m.deleted_at IS NOT NULL OR m.expires_at IS NOT NULL)
             AND coalesce(m.deleted_at, m.expires_at) <= $2$q$
    || CASE WHEN purge.older_than IS NULL THEN $q$ - coalesce(w.purge_after_days, d.purge_after_days) * interval '1 day'$q$ ELSE '' END
    || CASE WHEN purge.workspace IS NULL THEN '' ELSE ' AND m.workspace_id = $1' END
    || $q$ ORDER BY m.workspace_id, m.id LIMIT $3
       ), held AS MATERIALIZED (
         SELECT d.* FROM doomed d CROSS JOIN LATERAL (
           SELECT x.ctid FROM engram.memories x
           WHERE NOT $4 AND x.workspace_id = d.workspace_id AND x.id = d.id
             AND coalesce(x.deleted_at, x.expires_at) = d.gone_at FOR UPDATE SKIP LOCKED) there
       ), erased AS (
         DELETE FROM engram.memories m USING held h WHERE m.workspace_id = h.workspace_id AND m.id = h.id
         RETURNING h.workspace_id, h.id, h.reason, h.gone_at
       )
       SELECT * FROM erased UNION ALL SELECT * FROM doomed WHERE $4 ORDER BY 1, 2$q$
    USING purge.workspace, coalesce(engram_internal.earlier(moment, purge.older_than), moment), coalesce(purge.batch_size, 2147483647), coalesce(purge.dry_run, false);
END
$$;
COMMENT ON FUNCTION engram_internal.purge(uuid, interval, timestamptz, boolean, integer) IS
'What purge() does, for one workspace or all; without an age by the settings of each. As the caller.';

CREATE FUNCTION engram.purge(
  older_than interval DEFAULT '30 days',
  dry_run boolean DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (id uuid, reason text, gone_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(purge.workspace, true);
BEGIN
  PERFORM engram_internal.check_age(purge.older_than);
  RETURN QUERY SELECT p.id, p.reason, p.gone_at
               FROM engram_internal.purge(ws, coalesce(purge.older_than, interval '30 days'), purge.at, purge.dry_run, NULL) p;
END
$$;
COMMENT ON FUNCTION engram.purge(interval, boolean, timestamptz, uuid) IS
'Erases memories of a workspace that were forgotten, or expired, longer ago than older_than, and returns them. reason: forgotten or expired; gone_at: since when. maintain() does it after purge_after_days (settings). A pin does not protect what somebody forgot or let expire.

dry_run: only tell which. at: the moment by which ages are judged, by default now.';

CREATE FUNCTION engram_internal.maintain_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  batch  constant integer := 1000;
  phase  text := args ->> 'phase';
  last   text := args ->> 'after';
  counts jsonb := '{}';
  done   boolean := true;
  n      bigint := 0;
  sealed bigint;
  ws     uuid;
  c      record;
BEGIN
  IF NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not maintain the store', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'CALL engram.maintain(); as a role that bypasses row security.';
  END IF;
  INSERT INTO engram.maintenance (workspace_id) VALUES ('00000000-0000-0000-0000-000000000000') ON CONFLICT DO NOTHING;
  IF phase = 'finish' THEN
    -- What others were busy with they report themselves, and a run of some phases says nothing of the others.
    SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') AS phases,
           coalesce(jsonb_object_agg(e.key, clock_timestamp()), '{}') AS ends INTO c
    FROM jsonb_each(args -> 'report') e WHERE NOT e.value ? 'busy';
    -- Sizes of a day or more ago stay beside the present ones, to see what grows.
    UPDATE engram.maintenance m
    SET maintained_at = (SELECT CASE WHEN bool_and(both_.ends ? p) THEN min((both_.ends ->> p)::timestamptz) END
                         FROM unnest(engram_internal.phases()) p),
        report = jsonb_build_object('phases', coalesce(m.report -> 'phases', '{}') || c.phases, 'ends', both_.ends, 'sizes', now_.sizes,
          'before', CASE WHEN (m.report -> 'before' ->> 'at')::timestamptz > clock_timestamp() - interval '1 day' THEN m.report -> 'before'
                         ELSE coalesce(m.report -> 'sizes', now_.sizes) END)
    FROM (SELECT engram_internal.sizes() AS sizes) now_,
         (SELECT coalesce(o.report -> 'ends', '{}') || c.ends AS ends FROM engram.maintenance o
          WHERE o.workspace_id = '00000000-0000-0000-0000-000000000000') both_
    WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
    RETURN '{"done": true}';
  END IF;
  -- Two that maintain at once take turns by batches; none waits, and no lock outlives its transaction. A row
  -- and no advisory lock: those anybody may take.
  PERFORM FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000' FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN '{"done": true, "busy": true}';
  END IF;
  IF phase IN ('partitions', 'drop_partitions') THEN
    -- A table at a time, so that none is held while another one is waited for.
    SELECT min(p.parent) INTO last FROM engram_internal.partitioned() p
    WHERE to_regclass('engram.' || p.parent) IS NOT NULL AND p.parent > coalesce(last, '');
    IF last IS NOT NULL THEN
      counts := jsonb_build_object('done', false, 'after', last);
      BEGIN
        RETURN counts || jsonb_build_object(CASE phase WHEN 'partitions' THEN 'created' ELSE 'dropped' END,
          jsonb_array_length(engram_internal.partitions_task(
            CASE phase WHEN 'partitions' THEN 'create_partitions' ELSE 'release_partitions' END, jsonb_build_object('parent', last))));
      EXCEPTION WHEN lock_not_available THEN
        -- The next run comes soon; the other tables need not wait for it.
        RETURN counts || jsonb_build_object('in_use', last);
      END;
    END IF;
  END IF;
  CASE phase
    WHEN 'partitions' THEN
      counts := '{"created": 0}';
    WHEN 'fold' THEN
      -- In transactions of their own: who changes a memory waits for whoever has folded its uses.
      FOR ws IN SELECT DISTINCT q.workspace_id FROM engram.access_queue q
                WHERE last IS NULL OR q.workspace_id > last::uuid ORDER BY 1 LIMIT 20 LOOP
        n := n + engram_internal.fold_queue(ws, 10000);
        last := ws;
        done := false;
      END LOOP;
      counts := jsonb_build_object('folded', n);
    WHEN 'consolidate' THEN
      IF last IS NULL THEN
        -- Most often little moves, and one look at everything is the cheapest way to know.
        BEGIN
          SELECT * INTO c FROM engram_internal.consolidate_as_owner(NULL, NULL, false, batch * 20);
          counts := to_jsonb(c) - 'done';
          done := c.done;
        EXCEPTION WHEN OTHERS THEN
          -- What one workspace holds must not keep the others from being cared for: each by itself.
          done := false;
        END;
        last := CASE WHEN NOT done THEN '00000000-0000-0000-0000-000000000000' END;
      ELSE
        -- Much moves: a workspace after the other, each looked at once.
        done := true;
        FOR ws IN
          WITH RECURSIVE w AS (
            (SELECT m.workspace_id FROM engram.memories m WHERE m.workspace_id > last::uuid ORDER BY m.workspace_id LIMIT 1)
            UNION ALL
            SELECT (SELECT m.workspace_id FROM engram.memories m WHERE m.workspace_id > w.workspace_id ORDER BY m.workspace_id LIMIT 1)
            FROM w WHERE w.workspace_id IS NOT NULL)
          SELECT w.workspace_id FROM w WHERE w.workspace_id IS NOT NULL LIMIT 100
        LOOP
          last := ws;
          done := false;
          BEGIN
            SELECT * INTO c FROM engram_internal.consolidate_as_owner(ws, NULL, false, NULL);
            SELECT counts || coalesce(jsonb_object_agg(e.key, coalesce((counts ->> e.key)::bigint, 0) + (e.value #>> '{}')::bigint), '{}') INTO counts
            FROM jsonb_each(to_jsonb(c) - 'done') e;
            n := n + c.promoted + c.demoted + c.archived + c.forgotten;
          EXCEPTION WHEN OTHERS THEN
            IF SQLSTATE ~ '^(53|58)' THEN
              RAISE;
            END IF;
            counts := counts || jsonb_build_object('error', format('workspace %s: %s', ws, SQLERRM));
          END;
          EXIT WHEN n > batch * 20;
        END LOOP;
      END IF;
    WHEN 'retention' THEN
      FOR c IN SELECT r.action, r.memories FROM engram_internal.apply_retention(NULL, NULL, false, batch) r LOOP
        counts := counts || CASE c.action
          WHEN 'erase' THEN jsonb_build_object('erased', coalesce((counts ->> 'erased')::bigint, 0) + c.memories)
          ELSE jsonb_build_object('forgotten', coalesce((counts ->> 'forgotten')::bigint, 0) + c.memories) END;
        done := done AND c.memories < batch;
      END LOOP;
    WHEN 'purge' THEN
      SELECT count(*) FILTER (WHERE p.reason = 'forgotten') AS forgotten, count(*) FILTER (WHERE p.reason = 'expired') AS expired INTO c
      FROM engram_internal.purge(NULL, NULL, NULL, false, batch) p;
      done := c.forgotten + c.expired < batch;
      counts := to_jsonb(c);
      DELETE FROM engram.embedding_claims e WHERE e.claimed_until < now();
      GET DIAGNOSTICS n = ROW_COUNT;
      counts := counts || jsonb_build_object('claims', n);
    WHEN 'messages' THEN
      counts := '{"archived": 0}';
      IF engram_internal.partition_setting('archive_messages_days') IS NOT NULL THEN
        SELECT a.archived, a.skipped, a.done INTO c FROM engram_internal.archive_messages_as_owner(
          NULL, engram_internal.partition_setting('archive_messages_days')::double precision * interval '1 day', 50, false, 100) a;
        counts := jsonb_build_object('archived', c.archived, 'skipped', c.skipped);
        done := c.done;
      END IF;
    WHEN 'pack' THEN
      FOR c IN
        SELECT b.workspace_id, b.model, bool_or(b.level = 0) AS replacing FROM engram.search_blocks b
        WHERE b.level <= 2 AND b.workspace_id IN (
          -- A few full blocks may be enough for a segment.
          SELECT x.workspace_id FROM engram.search_blocks x
          WHERE x.level <= 2 AND (last IS NULL OR x.workspace_id > last::uuid) GROUP BY x.workspace_id
          HAVING bool_or(x.level <= 1) OR count(*) >= 8 ORDER BY x.workspace_id LIMIT 100)
        GROUP BY b.workspace_id, b.model ORDER BY b.workspace_id
      LOOP
        IF c.replacing THEN
          n := n + engram_internal.pack(c.workspace_id, c.model, true, 1);
        END IF;
        n := n + engram_internal.pack(c.workspace_id, c.model, false, 2);
        LOOP
          sealed := engram_internal.seal(c.workspace_id, c.model, 1024, 4096);
          EXIT WHEN sealed = 0;
          n := n + sealed;
        END LOOP;
        last := c.workspace_id;
        done := false;
      END LOOP;
      counts := jsonb_build_object('blocks', n);
    WHEN 'drop_partitions' THEN
      counts := '{"dropped": 0}';
    ELSE
      RAISE EXCEPTION 'unknown phase "%"', phase
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Known: ' || array_to_string(engram_internal.phases(), ', ') || '.';
  END CASE;
  RETURN counts || jsonb_build_object('done', done) || CASE WHEN done OR last IS NULL THEN '{}' ELSE jsonb_build_object('after', last) END;
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_task(text, jsonb) IS
'A batch of a phase of maintain(): counts, whether the phase is done, and otherwise where to go on. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.phases() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY['partitions', 'fold', 'consolidate', 'retention', 'purge', 'messages', 'pack', 'drop_partitions']
$$;
COMMENT ON FUNCTION engram_internal.phases() IS 'What maintain() does, in order.';

CREATE FUNCTION engram_internal.maintain_step(phase text, after text, so_far jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  step   jsonb;
  result jsonb := coalesce(so_far, '{}');
BEGIN
  PERFORM engram_internal.require_administrator();
  IF (phase = ANY (engram_internal.phases())) IS NOT TRUE THEN
    RAISE EXCEPTION 'unknown phase "%"', coalesce(phase, 'NULL')
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: ' || array_to_string(engram_internal.phases(), ', ') || '.';
  END IF;
  BEGIN
    step := engram_internal.administer('maintain', jsonb_build_object('phase', phase, 'after', after));
  EXCEPTION WHEN OTHERS THEN
    -- One phase that fails must not keep the others from being done.
    step := jsonb_build_object('done', true, 'error', SQLERRM);
  END;
  SELECT result || coalesce(jsonb_object_agg(e.key, CASE WHEN jsonb_typeof(e.value) = 'number'
           THEN to_jsonb(coalesce((result ->> e.key)::numeric, 0) + (e.value #>> '{}')::numeric) ELSE e.value END), '{}')
  INTO result FROM jsonb_each(step - 'after') e;
  IF step ? 'after' THEN
    result := result || jsonb_build_object('after', step -> 'after');
  ELSE
    result := result - 'after';
  END IF;
  RETURN result;
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_step(text, text, jsonb) IS
'Does one batch of a phase and adds its counts to those so far.';

-- A procedure that commits cannot pin its search path; every name in it is qualified instead.
CREATE PROCEDURE engram.maintain(phases text[] DEFAULT NULL, INOUT report jsonb DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  phase  pg_catalog.text;
  step   pg_catalog.jsonb;
  result pg_catalog.jsonb := '{}';
  began  pg_catalog.timestamptz;
BEGIN
  IF pg_catalog.pg_is_in_recovery() THEN
    report := '{"skipped": "this is a standby: its primary is maintained"}';
    RETURN;
  END IF;
  PERFORM engram_internal.require_administrator();
  PERFORM engram_internal.outside_transaction('maintain()');
  FOREACH phase IN ARRAY coalesce(maintain.phases, engram_internal.phases()) LOOP
    step := NULL;
    began := pg_catalog.clock_timestamp();
    LOOP
      step := engram_internal.maintain_step(phase, step OPERATOR(pg_catalog.->>) 'after', step);
      COMMIT;
      EXIT WHEN (step OPERATOR(pg_catalog.->>) 'done')::pg_catalog.bool;
    END LOOP;
    result := result OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(phase, (step OPERATOR(pg_catalog.-) 'done'::pg_catalog.text)
      OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('seconds',
        pg_catalog.round(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began)::pg_catalog.numeric, 3)));
  END LOOP;
  PERFORM engram_internal.administer('maintain', pg_catalog.jsonb_build_object('phase', 'finish', 'report', result));
  COMMIT;
  report := result;
END
$$;
COMMENT ON PROCEDURE engram.maintain(text[], jsonb) IS
'Does all that time asks for, of all workspaces, and reports what each phase did: partitions (made ahead), fold (uses that wait), consolidate (layers moved, faded links pruned, memories forgotten by policy), retention (policies applied), purge (what was forgotten or expired for long erased, by purge_after_days), messages (old turns of quiet conversations archived, by archive_messages_days; the last 50 stay), pack (what search scans packed), drop_partitions (logs older than their settings keep).

Every batch is a transaction of its own, so nobody waits long; cancelled or crashed, it goes on where it was when called again. While another session does a batch, a phase is reported as busy and left to it; a phase that fails reports its error and does not keep the others from running. On a standby it does nothing. For roles that bypass row security; outside a transaction block (else 25001). phases: only these. See also schedule_maintenance().';

CREATE FUNCTION engram_internal.require_administrator() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_store();
  IF NOT engram_internal.trusted() THEN
    RAISE EXCEPTION 'role "%" may not do this: it concerns the memories of all users', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call it as a role that bypasses row security, such as the owner of the tables.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.require_administrator() IS 'Raises the error for a caller whom row level security binds.';

CREATE FUNCTION engram.schedule_maintenance(schedule text DEFAULT '*/10 * * * *') RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  job bigint;
BEGIN
  PERFORM engram_internal.require_administrator();
  IF to_regprocedure('cron.schedule(text, text, text)') IS NULL THEN
    RAISE EXCEPTION 'pg_cron is not in database "%"', current_database()
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'CREATE EXTENSION pg_cron, if the server has it for this database; or have any scheduler run CALL engram.maintain(), or set engram.worker_databases.';
  END IF;
  EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job USING 'engram-maintain', coalesce(schedule, '*/10 * * * *'), 'CALL engram.maintain()';
  RETURN job;
END
$$;
COMMENT ON FUNCTION engram.schedule_maintenance(text) IS
'Has pg_cron call maintain() as the role that calls this, under the job name engram-maintain, and returns the job''s number. Calling it again changes the schedule.

schedule: as cron writes it, by default every ten minutes. unschedule_maintenance() ends it.';

CREATE FUNCTION engram.unschedule_maintenance() RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  there boolean;
BEGIN
  PERFORM engram_internal.require_administrator();
  IF to_regprocedure('cron.unschedule(text)') IS NULL THEN
    RETURN false;
  END IF;
  EXECUTE 'SELECT EXISTS (SELECT FROM cron.job WHERE jobname = $1 AND username = current_user)' INTO there USING 'engram-maintain';
  IF there THEN
    EXECUTE 'SELECT cron.unschedule($1)' USING 'engram-maintain';
  END IF;
  RETURN there;
END
$$;
COMMENT ON FUNCTION engram.unschedule_maintenance() IS 'Ends what schedule_maintenance() began. True when there was a job of the caller''s.';

-- How the store is: for people, for alarms, for Prometheus.
CREATE FUNCTION engram_internal.store_tables() RETURNS TABLE (relid regclass, name text, parent text)
LANGUAGE plpgsql STABLE ROWS 30
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Partitions that were detached are nobody's concern any more; so are tables that the user has added.
  RETURN QUERY
  SELECT c.oid::regclass, c.relname::text, coalesce((SELECT p.relname::text FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
                                                     WHERE i.inhrelid = c.oid), c.relname::text)
  FROM pg_class c
  WHERE c.relnamespace = 'engram'::regnamespace AND c.relkind IN ('r', 'p')
    AND (c.relispartition OR c.relname = ANY (engram_internal.store_table_names()))
  ORDER BY c.relname;
END
$$;
COMMENT ON FUNCTION engram_internal.store_tables() IS 'The tables of the store and their partitions.';

CREATE FUNCTION engram_internal.store_table_names() RETURNS text[]
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'store_table_names_wrapper';
COMMENT ON FUNCTION engram_internal.store_table_names() IS 'The names of the tables that setup() makes.';

CREATE FUNCTION engram_internal.sizes() RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object('at', clock_timestamp(), 'database', pg_database_size(current_database()),
    'tables', (SELECT jsonb_object_agg(x.parent, x.bytes)
               FROM (SELECT t.parent, sum(pg_total_relation_size(t.relid)) AS bytes FROM engram_internal.store_tables() t GROUP BY t.parent) x));
END
$$;
COMMENT ON FUNCTION engram_internal.sizes() IS 'Bytes of the database and of each table of the store with its partitions and indexes.';

CREATE FUNCTION engram_internal.alerts()
RETURNS TABLE (level text, code text, subject text, message text, hint text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
  care   record;
  t      record;
  filled boolean;
  size   bigint := pg_database_size(current_database());
  limit_ bigint := engram_internal.partition_setting('size_limit_bytes')::bigint;
  unit   text := coalesce(engram_internal.partition_setting('partition_interval'), 'month');
  latest timestamptz;
  n      bigint;
  names  text;
BEGIN
  IF size >= 0.75 * limit_ THEN
    RETURN QUERY SELECT CASE WHEN size >= 0.9 * limit_ THEN 'critical' ELSE 'warning' END, 'database_size', current_database()::text,
      format('the database has %s, %s %% of its limit of %s', pg_size_pretty(size), round(100.0 * size / limit_), pg_size_pretty(limit_)),
      'Drop old partitions, purge what is forgotten, set retention policies; or raise size_limit_bytes in engram.settings.';
  END IF;

  SELECT m.maintained_at, m.report INTO care FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
  IF care.maintained_at IS NULL OR care.maintained_at < now() - interval '1 day' THEN
    RETURN QUERY SELECT CASE WHEN care.maintained_at < now() - interval '7 days' THEN 'critical' ELSE 'warning' END,
      'maintenance_overdue', NULL::text,
      CASE WHEN care.maintained_at IS NULL THEN 'maintain() has never come to its end' ELSE format('maintain() last ran at %s', care.maintained_at) END,
      'CALL engram.maintain(); and have it called every ten minutes or so: engram.schedule_maintenance(), engram.worker_databases, or any scheduler.';
  END IF;
  FOR t IN SELECT e.key, e.value FROM jsonb_each(care.report -> 'phases') e WHERE e.value ? 'error' LOOP
    RETURN QUERY SELECT 'warning', 'maintenance_failed', t.key, format('phase %s of maintain() failed: %s', t.key, t.value ->> 'error'),
      'Mend the cause and CALL engram.maintain(); again.';
  END LOOP;
  FOR t IN SELECT e.key AS name, e.value::numeric AS was, coalesce((SELECT sum(pg_total_relation_size(s.relid)) FROM engram_internal.store_tables() s WHERE s.parent = e.key), 0) AS is_now,
                  greatest(date_part('epoch', now() - (care.report -> 'before' ->> 'at')::timestamptz) / 86400, 1) AS days
           FROM jsonb_each_text(care.report -> 'before' -> 'tables') e LOOP
    IF t.is_now - t.was > 1e9 * t.days AND t.is_now > 1.25 * t.was THEN
      RETURN QUERY SELECT 'warning', 'table_growth', t.name,
        format('table engram.%s grew from %s to %s since %s', t.name, pg_size_pretty(t.was), pg_size_pretty(t.is_now), care.report -> 'before' ->> 'at'),
        'See who writes: engram.stats() of the workspaces; set retention policies or drop old partitions.';
    END IF;
  END LOOP;

  FOR t IN SELECT p.parent, p.key FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL LOOP
    latest := (SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(t.parent) b);
    IF latest IS NULL OR latest <= engram_internal.interval_after(unit, now()) THEN
      RETURN QUERY SELECT CASE WHEN latest > now() THEN 'warning' ELSE 'critical' END, 'partitions_missing', t.parent,
        format('table engram.%s has no partition for the time from %s', t.parent, coalesce(latest::text, 'now')),
        'SELECT engram.create_partitions(); or CALL engram.maintain(); regularly. Until then its default partition takes the rows.';
    END IF;
    filled := false;
    IF NOT EXISTS (SELECT FROM engram_internal.partition_bounds(t.parent) b WHERE b.is_default) THEN
      RETURN QUERY SELECT 'critical', 'default_partition_missing', t.parent, format('table engram.%s has no default partition', t.parent),
        'Rows of times that no partition covers would be refused. '
        || CASE WHEN to_regclass('engram.' || quote_ident(t.parent || '_default')) IS NULL THEN 'Run as the owner of the tables: SELECT engram.setup();'
                ELSE format('ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT;', t.parent, t.parent || '_default') END;
    ELSE
      EXECUTE format('SELECT EXISTS (SELECT FROM engram.%I WHERE %I < $1)', t.parent || '_default', t.key) INTO filled USING greatest(latest, now());
      IF NOT filled THEN
        -- What is dated later than all partitions may wait there: any user's message may be.
        EXECUTE format('SELECT max(%I) FROM engram.%I', t.key, t.parent || '_default') INTO latest;
        IF latest IS NOT NULL THEN
          RETURN QUERY SELECT 'info', 'default_partition_not_empty', t.parent, format('table engram.%s_default has rows of the future, until %s', t.parent, latest),
            'They wait there until their time comes.'
            || CASE WHEN latest < now() + interval '50 years' THEN format(' SELECT engram.create_partitions(%L); moves them at once.', latest) ELSE '' END;
        END IF;
      END IF;
    END IF;
    IF filled THEN
      RETURN QUERY SELECT 'warning', 'default_partition_not_empty', t.parent, format('table engram.%s_default has rows', t.parent),
        'SELECT engram.create_partitions(); moves them where they belong.';
    END IF;
  END LOOP;

  n := (SELECT count(*) FROM (SELECT FROM engram.access_queue LIMIT 100001) q);
  IF n > 100000 THEN
    RETURN QUERY SELECT 'warning', 'uses_waiting', 'access_queue', 'more than 100000 calls wait to be folded', 'CALL engram.maintain();';
  END IF;
  FOR t IN SELECT b.workspace_id, count(*) AS n FROM engram.search_blocks b WHERE b.level <= 1
           GROUP BY b.workspace_id HAVING count(*) > 500 ORDER BY 2 DESC LIMIT 3 LOOP
    RETURN QUERY SELECT 'warning', 'unpacked', t.workspace_id::text, format('search reads %s unpacked blocks in workspace %s', t.n, t.workspace_id), 'CALL engram.maintain();';
  END LOOP;

  FOR t IN SELECT s.relid, s.name, x.n_dead_tup AS dead, x.n_live_tup AS live FROM engram_internal.store_tables() s
           JOIN pg_stat_user_tables x ON x.relid = s.relid WHERE x.n_dead_tup > 100000 AND x.n_dead_tup > 0.5 * x.n_live_tup LOOP
    RETURN QUERY SELECT 'warning', 'dead_rows', t.name, format('table engram.%s has %s dead rows beside %s', t.name, t.dead, t.live),
      format('Autovacuum is behind or held up by a long transaction. VACUUM engram.%I;', t.name);
  END LOOP;
  FOR t IN SELECT i.indexrelid::regclass AS idx, s.name FROM engram_internal.store_tables() s JOIN pg_index i ON i.indrelid = s.relid
           WHERE NOT i.indisvalid OR NOT i.indisready LOOP
    RETURN QUERY SELECT 'warning', 'index_invalid', t.idx::text, format('index %s of table engram.%s is not valid', t.idx, t.name),
      format('REINDEX INDEX CONCURRENTLY %s; or drop it.', t.idx);
  END LOOP;
  FOR t IN SELECT i.indexrelid::regclass AS idx, s.name, pg_relation_size(i.indexrelid) AS bytes
           FROM engram_internal.store_tables() s JOIN pg_index i ON i.indrelid = s.relid
           JOIN pg_stat_user_indexes x ON x.indexrelid = i.indexrelid
           WHERE NOT i.indisunique AND x.idx_scan = 0 AND pg_relation_size(i.indexrelid) > 100000000 LOOP
    RETURN QUERY SELECT 'info', 'index_unused', t.idx::text,
      format('index %s of table engram.%s (%s) has not been used since statistics were reset', t.idx, t.name, pg_size_pretty(t.bytes)),
      'If it is your own, drop it; those of engram serve rare calls too.';
  END LOOP;

  n := (SELECT greatest((SELECT c.reltuples FROM pg_class c WHERE c.oid = 'engram.memories'::regclass), 0)
             - greatest((SELECT c.reltuples FROM pg_class c WHERE c.oid = 'engram.embeddings'::regclass), 0))::bigint;
  IF n > 10000 AND EXISTS (SELECT FROM engram.embedding_models d WHERE d.is_default) THEN
    RETURN QUERY SELECT 'warning', 'embeddings_pending', 'embeddings', format('about %s memories have no embedding', n),
      'They are found by their words alone. See that the embedder runs: engram.pending_embeddings(), engram.embedding_progress().';
  END IF;

  FOR t IN SELECT s.name FROM engram_internal.store_tables() s JOIN pg_class c ON c.oid = s.relid WHERE NOT c.relrowsecurity LOOP
    RETURN QUERY SELECT 'critical', 'row_security_off', t.name, format('row level security is off on table engram.%s', t.name),
      format('ALTER TABLE engram.%I ENABLE ROW LEVEL SECURITY;', t.name);
  END LOOP;
  FOR t IN SELECT s.name FROM engram_internal.store_tables() s
           WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = s.relid) LOOP
    RETURN QUERY SELECT 'warning', 'no_policy', t.name, format('table engram.%s has no policy: nobody but its owner sees its rows', t.name), 'SELECT engram.setup();';
  END LOOP;
  FOR t IN SELECT s.name, string_agg(DISTINCT a.privilege_type, ', ') AS rights FROM engram_internal.store_tables() s JOIN pg_class c ON c.oid = s.relid
           CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE a.grantee = 0 GROUP BY s.name LOOP
    RETURN QUERY SELECT 'warning', 'open_to_all', t.name, format('every role has %s on table engram.%s', t.rights, t.name),
      format('REVOKE ALL ON engram.%I FROM PUBLIC; and grant to the roles that need it: SELECT engram.setup(''{"grant_to": ["app"]}'');', t.name);
  END LOOP;
  names := (SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname) FROM pg_roles r
            WHERE r.rolcanlogin AND NOT r.rolsuper AND has_schema_privilege(r.oid, 'engram', 'USAGE')
              AND (r.rolbypassrls OR pg_has_role(r.oid, (SELECT c.relowner FROM pg_class c WHERE c.oid = 'engram.memories'::regclass), 'USAGE')));
  IF names IS NOT NULL THEN
    RETURN QUERY SELECT 'info', 'roles_bypass', names, format('these login roles see the memories of all users: %s', names),
      'See that only servers use them, never what speaks for a user.';
  END IF;
  IF (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram') <> engram_internal.library_version() THEN
    RETURN QUERY SELECT 'warning', 'version', NULL::text, format('the library is of version %s, the functions of %s', engram_internal.library_version(),
      (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram')), 'ALTER EXTENSION engram UPDATE;';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.alerts() IS 'What health() warns of. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.health_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found jsonb;
  care  record;
BEGIN
  SELECT coalesce(jsonb_agg(jsonb_build_object('level', a.level, 'code', a.code, 'subject', a.subject, 'message', a.message, 'hint', a.hint)
           ORDER BY array_position(ARRAY['critical', 'warning', 'info'], a.level), a.code, a.subject), '[]') INTO found
  FROM engram_internal.alerts() a;
  SELECT m.maintained_at, m.report INTO care FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
  IF task = 'metrics' THEN
    RETURN (
      SELECT jsonb_agg(jsonb_build_array(x.metric, x.subject, x.value)) FROM (
        SELECT 'table_bytes' AS metric, t.parent AS subject, sum(pg_total_relation_size(t.relid)) AS value FROM engram_internal.store_tables() t GROUP BY t.parent
        UNION ALL SELECT 'table_rows', t.parent, sum(greatest(c.reltuples, 0)) FROM engram_internal.store_tables() t JOIN pg_class c ON c.oid = t.relid
                  WHERE c.relkind = 'r' GROUP BY t.parent
        UNION ALL SELECT 'table_dead_rows', t.parent, sum(s.n_dead_tup) FROM engram_internal.store_tables() t JOIN pg_stat_user_tables s ON s.relid = t.relid GROUP BY t.parent
        UNION ALL SELECT 'database_bytes', current_database(), pg_database_size(current_database())
        UNION ALL SELECT 'uses_waiting', '', (SELECT count(*) FROM engram.access_queue)
        UNION ALL SELECT 'partitions_ahead', p.parent, (SELECT count(*) FROM engram_internal.partition_bounds(p.parent) b WHERE b.lower_bound > now())
                  FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL
        UNION ALL SELECT 'seconds_since_maintenance', '', date_part('epoch', now() - care.maintained_at)
        UNION ALL SELECT 'alerts', l.level, (SELECT count(*) FROM jsonb_array_elements(found) f WHERE f ->> 'level' = l.level)
                  FROM unnest(ARRAY['critical', 'warning', 'info']) AS l (level)
      ) x WHERE x.value IS NOT NULL);
  END IF;
  RETURN jsonb_build_object(
    'status', CASE WHEN found @> '[{"level": "critical"}]' THEN 'critical' WHEN found @> '[{"level": "warning"}]' THEN 'warning' ELSE 'ok' END,
    'checked_at', now(), 'alerts', found, 'maintained_at', care.maintained_at, 'maintenance', care.report -> 'phases',
    'sizes', engram_internal.sizes(),
    'partitions', (SELECT jsonb_object_agg(p.parent, (SELECT jsonb_build_object('count', count(*), 'oldest', nullif(min(b.lower_bound), '-infinity'), 'until', max(b.upper_bound))
                                                      FROM engram_internal.partition_bounds(p.parent) b))
                   FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL),
    'versions', (SELECT to_jsonb(v) FROM engram.version() v));
END
$$;
COMMENT ON FUNCTION engram_internal.health_task(text, jsonb) IS
'What health() and the view metrics show. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.health() RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.observe('health', '{}');
END
$$;
COMMENT ON FUNCTION engram.health() IS
'How the store is, as JSON: status (ok, warning, critical: the worst alert), alerts (each with level, code, subject, message and a hint what to do; level info does not count), when maintain() last ran and what it did, sizes in bytes, partitions, versions. For roles that bypass row security and members of pg_monitor; works on standbys.';

-- Supabase Realtime, when the user wants it. Never vectors, never what changes at every use.
CREATE FUNCTION engram.enable_realtime(mode text DEFAULT 'changes') RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_administrator();
  IF mode = 'changes' THEN
    IF NOT EXISTS (SELECT FROM pg_publication p WHERE p.pubname = 'supabase_realtime') THEN
      RAISE EXCEPTION 'there is no publication supabase_realtime in database "%"', current_database()
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'On Supabase it is there; elsewhere: CREATE PUBLICATION supabase_realtime;';
    END IF;
    IF EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = 'supabase_realtime' AND p.schemaname = 'engram' AND p.tablename = 'memories') THEN
      RETURN 'unchanged';
    END IF;
    ALTER PUBLICATION supabase_realtime ADD TABLE ONLY engram.memories;
    RETURN 'enabled';
  ELSIF mode = 'broadcast' THEN
    IF to_regprocedure('realtime.send(jsonb, text, text, boolean)') IS NULL THEN
      RAISE EXCEPTION 'function realtime.send() is not in database "%"', current_database()
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Broadcast from the database needs Supabase Realtime 2.34 or later.';
    END IF;
    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'engram.memories'::regclass AND t.tgname = 'memories_broadcast_insert') THEN
      RETURN 'unchanged';
    END IF;
    CREATE TRIGGER memories_broadcast_insert AFTER INSERT ON engram.memories
      REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    CREATE TRIGGER memories_broadcast_update AFTER UPDATE ON engram.memories
      REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    CREATE TRIGGER memories_broadcast_delete AFTER DELETE ON engram.memories
      REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    COMMENT ON TRIGGER memories_broadcast_insert ON engram.memories IS 'See engram.enable_realtime().';
    COMMENT ON TRIGGER memories_broadcast_update ON engram.memories IS 'See engram.enable_realtime().';
    COMMENT ON TRIGGER memories_broadcast_delete ON engram.memories IS 'See engram.enable_realtime().';
    -- Who may listen is asked once, when a client joins.
    IF to_regclass('realtime.messages') IS NOT NULL AND to_regprocedure('realtime.topic()') IS NOT NULL
       AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = to_regclass('realtime.messages') AND p.polname = 'engram_broadcast') THEN
      EXECUTE $q$CREATE POLICY engram_broadcast ON realtime.messages FOR SELECT TO public
        USING (extension = 'broadcast' AND (SELECT realtime.topic()) = 'engram:' || (SELECT engram.current_user_id())::text)$q$;
    END IF;
    RETURN 'enabled';
  END IF;
  RAISE EXCEPTION 'unknown mode "%"', coalesce(mode, 'NULL')
    USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: changes (rows, by Supabase''s publication), broadcast (ids, one message a statement).';
END
$$;
COMMENT ON FUNCTION engram.enable_realtime(text) IS
'Lets clients hear of changes of memories through Supabase Realtime; enabled or unchanged. For the owner of the tables or a superuser.

mode: changes (default) adds engram.memories to the publication supabase_realtime: clients get the rows that row level security shows them, and of deleted ones the key. broadcast has every statement that changes memories send one message for each workspace it touches to the private topic engram:<workspace>, event memories, with {"op": "INSERT", "ids": […]}: much cheaper for many listeners, who fetch what they want with get() or changes(). Only the listener whose own id the topic names may join. Vectors, uses and moves between layers are never sent.';

CREATE FUNCTION engram.disable_realtime(mode text DEFAULT 'changes') RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_administrator();
  IF mode = 'changes' THEN
    IF NOT EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = 'supabase_realtime' AND p.schemaname = 'engram' AND p.tablename = 'memories') THEN
      RETURN false;
    END IF;
    ALTER PUBLICATION supabase_realtime DROP TABLE ONLY engram.memories;
    RETURN true;
  ELSIF mode = 'broadcast' THEN
    IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'engram.memories'::regclass AND t.tgname = 'memories_broadcast_insert') THEN
      RETURN false;
    END IF;
    DROP TRIGGER IF EXISTS memories_broadcast_insert ON engram.memories;
    DROP TRIGGER IF EXISTS memories_broadcast_update ON engram.memories;
    DROP TRIGGER IF EXISTS memories_broadcast_delete ON engram.memories;
    IF to_regclass('realtime.messages') IS NOT NULL THEN
      DROP POLICY IF EXISTS engram_broadcast ON realtime.messages;
    END IF;
    RETURN true;
  END IF;
  RAISE EXCEPTION 'unknown mode "%"', coalesce(mode, 'NULL')
    USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: changes, broadcast.';
END
$$;
COMMENT ON FUNCTION engram.disable_realtime(text) IS 'Takes back what enable_realtime() did. True when it was enabled.';

-- Conversations: turns as they were said, kept beside the memories that were made from them.
CREATE FUNCTION engram_internal.parse_messages(items jsonb, session_id text) RETURNS TABLE (
  "position" integer, error text, session_id text, role text, speaker text, content text, metadata jsonb,
  id uuid, created_at timestamptz)
LANGUAGE c STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'parse_messages_wrapper';
COMMENT ON FUNCTION engram_internal.parse_messages(jsonb, text) IS
'The items of append_messages() as rows; an item that cannot be read carries its error instead.';

CREATE FUNCTION engram.append_messages(items jsonb, session_id text DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws       uuid := engram_internal.resolve_workspace(append_messages.workspace, true);
  me       uuid := coalesce(engram.current_user_id(), ws);
  longest  integer;
  here     timestamptz;
  given    timestamptz;
  last_at  timestamptz;
  item     record;
  chats    text[];
BEGIN
  SELECT coalesce(w.max_content_chars, d.max_content_chars) INTO longest
  FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = ws
  WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';
  -- One writer at a time in a conversation: so that ids stay unique, and turns in the order of their calls.
  chats := ARRAY(SELECT DISTINCT p.session_id FROM engram_internal.parse_messages(append_messages.items, append_messages.session_id) p
                 WHERE p.error IS NULL);
  PERFORM engram_internal.lock_keys(ws, ARRAY(SELECT 'conversation ' || c FROM unnest(chats) c));
  here := clock_timestamp();
  FOR item IN
    WITH items AS MATERIALIZED (
      SELECT p.*, p.error IS NULL AND char_length(p.content) <= longest AS fine
      FROM engram_internal.parse_messages(append_messages.items, append_messages.session_id) p
    ), ids AS MATERIALIZED (
      SELECT DISTINCT i.id FROM items i WHERE i.id IS NOT NULL
    ), held AS MATERIALIZED (
      -- One look at each conversation, however many are asked about (IS TRUE keeps it from being a join, which could
      -- be a look for each). In one statement: who archives or restores meanwhile only moves them.
      SELECT m.session_id, m.id FROM engram.messages m
      WHERE m.workspace_id = ws AND m.session_id = ANY (chats) AND EXISTS (SELECT FROM ids) AND (m.id IN (SELECT d.id FROM ids d)) IS TRUE
      UNION ALL
      SELECT a.session_id, u.id FROM engram.message_archive a CROSS JOIN LATERAL unnest(a.ids) AS u (id)
      WHERE a.workspace_id = ws AND a.session_id = ANY (chats) AND EXISTS (SELECT FROM ids) AND (u.id IN (SELECT d.id FROM ids d)) IS TRUE
    )
    SELECT i.*, i.id IS NOT NULL AND (
             row_number() OVER (PARTITION BY i.session_id, i.id, i.fine ORDER BY i.position) > 1
             OR (i.session_id, i.id) IN (SELECT h.session_id, h.id FROM held h)) AS known
    FROM items i ORDER BY i.position
  LOOP
    position := item.position;
    id := item.id;
    error := item.error;
    status := 'error';
    IF error IS NULL AND char_length(item.content) > longest THEN
      error := format('content has %s characters, the limit is %s. Store it in parts, or have an administrator raise max_content_chars.',
                      char_length(item.content), longest);
    END IF;
    IF error IS NULL THEN
      status := CASE WHEN item.known THEN 'unchanged' ELSE 'added' END;
      -- Of equal times each next one is a microsecond later: the array's order is the order of the turns.
      last_at := CASE WHEN item.created_at = given THEN last_at + interval '1 microsecond'
                      WHEN item.created_at IS NOT NULL THEN item.created_at
                      ELSE greatest(here, last_at + interval '1 microsecond') END;
      given := item.created_at;
      IF NOT item.known THEN
        id := coalesce(id, engram_internal.uuid_v7());
        INSERT INTO engram.messages (workspace_id, session_id, created_at, id, user_id, role, speaker, content, metadata)
        VALUES (ws, item.session_id, last_at, id, me, item.role, item.speaker, item.content, coalesce(item.metadata, '{}'));
      END IF;
    ELSE
      id := NULL;
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram.append_messages(jsonb, text, uuid) IS
'Stores turns of a conversation in the order given; a bad item does not lose the others.

items: an array of objects, at most 10,000: content and role (user, assistant, system, tool; by default user), and if you have them speaker, metadata, id, created_at, session_id. session_id: the conversation of the items that name none. Returns one row per item, by its position from 1, with status added, unchanged or error. id: chosen by the client, unique in the conversation, makes a retry harmless even after the turn was archived. created_at: by default now. Of items with equal times each next one is stored a microsecond later.';

CREATE FUNCTION engram_internal.messages(
  conversation text, match_count integer, cursor text, include_archived boolean, workspace uuid)
RETURNS TABLE (
  id uuid, role text, speaker text, content text, metadata jsonb, user_id uuid, created_at timestamptz,
  archived boolean, cursor_next text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(messages.workspace, false);
  wanted  integer := coalesce(messages.match_count, 50);
  until_at timestamptz := 'infinity';
  until_id uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  back_to timestamptz;
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000, and page on with cursor.';
  END IF;
  IF messages.conversation IS NULL THEN
    RAISE EXCEPTION 'session_id is NULL'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the conversation; engram.conversations() lists them.';
  END IF;
  IF messages.cursor IS NOT NULL THEN
    IF messages.cursor !~ '^-?[0-9]{1,18}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
       OR split_part(messages.cursor, '_', 1)::bigint < engram_internal.to_micros('4714-11-24 00:00:00+00 BC') THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.messages() returned', messages.cursor
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass cursor_next of the page before, unchanged.';
    END IF;
    until_at := engram_internal.from_micros(split_part(messages.cursor, '_', 1)::bigint);
    until_id := split_part(messages.cursor, '_', 2)::uuid;
  END IF;
  IF messages.include_archived THEN
    -- Chunks that lie wholly before the cursor and hold enough, from the newest: nothing older need be unpacked.
    back_to := (SELECT c.first_at FROM (
      SELECT a.first_at, sum(a.turns) OVER (ORDER BY a.first_at DESC, a.id DESC) AS total
      FROM engram.message_archive a WHERE a.workspace_id = ws AND a.session_id = messages.conversation AND a.last_at < until_at) c
      WHERE c.total > wanted ORDER BY c.total LIMIT 1);
  END IF;
  RETURN QUERY
  WITH found AS MATERIALIZED (
    SELECT p.*, row_number() OVER (ORDER BY p.created_at DESC, p.id DESC) AS nth FROM (
      (SELECT m.id, m.role, m.speaker, m.content, m.metadata, m.user_id, m.created_at, false AS archived
       FROM engram.messages m
       WHERE m.workspace_id = ws AND m.session_id = messages.conversation AND (m.created_at, m.id) < (until_at, until_id)
       ORDER BY m.created_at DESC, m.id DESC LIMIT wanted + 1)
      UNION ALL
      (SELECT t.id, t.role, t.speaker, t.content, t.metadata, t.user_id, t.created_at, true
       FROM engram.message_archive a CROSS JOIN LATERAL engram_internal.archived_turns(a.ids, a.messages) t
       WHERE messages.include_archived AND a.workspace_id = ws AND a.session_id = messages.conversation
         AND a.first_at <= until_at AND a.last_at >= coalesce(back_to, '-infinity')
         AND (t.created_at, t.id) < (until_at, until_id)
       ORDER BY t.created_at DESC, t.id DESC LIMIT wanted + 1)
    ) p ORDER BY p.created_at DESC, p.id DESC LIMIT wanted + 1)
  SELECT f.id, f.role, f.speaker, f.content, f.metadata, f.user_id, f.created_at, f.archived,
    (SELECT engram_internal.to_micros(o.created_at) || '_' || o.id FROM found o
     WHERE o.nth = wanted AND EXISTS (SELECT FROM found x WHERE x.nth = wanted + 1))
  FROM found f WHERE f.nth <= wanted ORDER BY f.created_at, f.id;
END
$$;
COMMENT ON FUNCTION engram_internal.messages(text, integer, text, boolean, uuid) IS 'What messages() does.';

CREATE FUNCTION engram_internal.to_micros(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT (extract(epoch FROM $1) * 1000000)::bigint
$$;
COMMENT ON FUNCTION engram_internal.to_micros(timestamptz) IS 'A moment in whole microseconds since 1970, for cursors.';

CREATE FUNCTION engram_internal.from_micros(micros bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT timestamptz 'epoch' + $1 / 3600000000 * interval '1 hour' + $1 % 3600000000 * interval '1 microsecond'
$$;
COMMENT ON FUNCTION engram_internal.from_micros(bigint) IS 'The moment so many microseconds after 1970.';

CREATE FUNCTION engram_internal.archived_turns(ids uuid[], messages jsonb)
RETURNS TABLE (id uuid, user_id uuid, role text, speaker text, content text, metadata jsonb, created_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT $1[t.nth], (t.turn ->> 'user_id')::uuid, t.turn ->> 'role', t.turn ->> 'speaker', t.turn ->> 'content',
         coalesce(t.turn -> 'metadata', '{}'), (t.turn ->> 'created_at')::timestamptz
  FROM jsonb_array_elements($2) WITH ORDINALITY AS t (turn, nth)
$$;
COMMENT ON FUNCTION engram_internal.archived_turns(uuid[], jsonb) IS 'The turns of one row of message_archive.';

-- A function of its own, because PL/pgSQL cannot have an argument and a table of the same name.
CREATE FUNCTION engram.messages(
  session_id text,
  match_count integer DEFAULT NULL,
  cursor text DEFAULT NULL,
  include_archived boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (
  id uuid, role text, speaker text, content text, metadata jsonb, user_id uuid, created_at timestamptz,
  archived boolean, cursor_next text)
LANGUAGE sql STABLE ROWS 50
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT m.* FROM engram_internal.messages($1, $2, $3, $4, $5) m
$$;
COMMENT ON FUNCTION engram.messages(text, integer, text, boolean, uuid) IS
'The newest turns of a conversation, in the order in which they were said.

match_count: 1 to 1000, by default 50. cursor: cursor_next, which is the same in all rows of a page, leads to the turns before; it is NULL when there are none. include_archived: archived turns as well.';

CREATE FUNCTION engram.conversations(
  match_count integer DEFAULT NULL,
  cursor text DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (
  session_id text, turns bigint, archived bigint, first_at timestamptz, last_at timestamptz,
  first_message text, last_message text, cursor_next text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(conversations.workspace, false);
  wanted    integer := coalesce(conversations.match_count, 50);
  before    timestamptz := 'infinity';
  before_id text := '';
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000, and page on with cursor.';
  END IF;
  IF conversations.cursor IS NOT NULL THEN
    IF conversations.cursor !~ '^-?[0-9]{1,18}_.'
       OR split_part(conversations.cursor, '_', 1)::bigint < engram_internal.to_micros('4714-11-24 00:00:00+00 BC') THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.conversations() returned', conversations.cursor
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass cursor_next of the last row of the page before, unchanged.';
    END IF;
    before := engram_internal.from_micros(split_part(conversations.cursor, '_', 1)::bigint);
    before_id := substr(conversations.cursor, position('_' IN conversations.cursor) + 1);
  END IF;
  RETURN QUERY
  -- One look into the index for each conversation, not a look at each turn.
  WITH RECURSIVE hot AS (
    (SELECT m.session_id FROM engram.messages m WHERE m.workspace_id = ws ORDER BY m.session_id LIMIT 1)
    UNION ALL
    SELECT n.session_id FROM hot h CROSS JOIN LATERAL (
      SELECT m.session_id FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id > h.session_id ORDER BY m.session_id LIMIT 1) n
  ), named AS (
    SELECT h.session_id FROM hot h
    UNION SELECT a.session_id FROM engram.message_archive a WHERE a.workspace_id = ws
  ), page AS MATERIALIZED (
    SELECT n.session_id, l.last_at FROM named n CROSS JOIN LATERAL (SELECT greatest(
      (SELECT m.created_at FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = n.session_id ORDER BY m.created_at DESC LIMIT 1),
      (SELECT max(a.last_at) FROM engram.message_archive a WHERE a.workspace_id = ws AND a.session_id = n.session_id)) AS last_at) l
    WHERE l.last_at < before OR l.last_at = before AND n.session_id > before_id
    ORDER BY l.last_at DESC, n.session_id LIMIT wanted)
  SELECT p.session_id, c.turns, o.turns, least(f.created_at, o.first_at), p.last_at,
    left(CASE WHEN f.created_at IS NULL OR o.first_at < f.created_at THEN
      (SELECT t.content FROM engram.message_archive a CROSS JOIN LATERAL engram_internal.archived_turns(a.ids, a.messages) t
       WHERE a.workspace_id = ws AND a.session_id = p.session_id AND a.first_at = o.first_at ORDER BY t.created_at, t.id LIMIT 1)
      ELSE f.content END, 200),
    left(CASE WHEN z.created_at IS NULL OR o.last_at > z.created_at THEN
      (SELECT t.content FROM engram.message_archive a CROSS JOIN LATERAL engram_internal.archived_turns(a.ids, a.messages) t
       WHERE a.workspace_id = ws AND a.session_id = p.session_id AND a.last_at = o.last_at ORDER BY t.created_at DESC, t.id DESC LIMIT 1)
      ELSE z.content END, 200),
    engram_internal.to_micros(p.last_at) || '_' || p.session_id
  FROM page p
  CROSS JOIN LATERAL (SELECT count(*) AS turns FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = p.session_id) c
  CROSS JOIN LATERAL (SELECT coalesce(sum(a.turns), 0)::bigint AS turns, min(a.first_at) AS first_at, max(a.last_at) AS last_at
                      FROM engram.message_archive a WHERE a.workspace_id = ws AND a.session_id = p.session_id) o
  LEFT JOIN LATERAL (SELECT m.created_at, m.content FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = p.session_id
                     ORDER BY m.created_at, m.id LIMIT 1) f ON true
  LEFT JOIN LATERAL (SELECT m.created_at, m.content FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = p.session_id
                     ORDER BY m.created_at DESC, m.id DESC LIMIT 1) z ON true
  ORDER BY p.last_at DESC, p.session_id;
END
$$;
COMMENT ON FUNCTION engram.conversations(integer, text, uuid) IS
'Conversations, the one with the latest turn first: how many turns are at hand and how many archived, when the first and the last was said, and how they begin (200 characters).

match_count: 1 to 1000, by default 50. cursor: cursor_next of the last row of the page before.';

CREATE FUNCTION engram_internal.archive_messages_as_owner(
  workspace uuid, inactive_for interval, keep integer, dry_run boolean, batch_size integer)
RETURNS TABLE (conversations bigint, archived bigint, skipped bigint, done boolean)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  cutoff   timestamptz := engram_internal.earlier(now(), archive_messages_as_owner.inactive_for);
  ws       uuid := archive_messages_as_owner.workspace;
  chat     text;
  newest   timestamptz;
  edge     record;
  moved    bigint;
BEGIN
  IF NOT has_table_privilege('engram.message_archive', 'INSERT') THEN
    RAISE EXCEPTION 'role "%" may not archive messages', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.archive_messages().';
  END IF;
  conversations := 0; archived := 0; skipped := 0; done := true;
  IF ws IS NULL THEN
    SELECT m.workspace_id INTO ws FROM engram.messages m ORDER BY m.workspace_id LIMIT 1;
  END IF;
  <<everything>>
  WHILE ws IS NOT NULL LOOP
    chat := '';
    LOOP
      SELECT m.session_id INTO chat FROM engram.messages m
      WHERE m.workspace_id = ws AND m.session_id > chat ORDER BY m.session_id LIMIT 1;
      EXIT WHEN NOT FOUND;
      SELECT m.created_at INTO newest FROM engram.messages m
      WHERE m.workspace_id = ws AND m.session_id = chat ORDER BY m.created_at DESC LIMIT 1;
      CONTINUE WHEN newest >= cutoff;
      -- The oldest that stays; without one everything goes.
      edge := (timestamptz 'infinity', uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff');
      IF archive_messages_as_owner.keep > 0 THEN
        SELECT m.created_at AS f1, m.id AS f2 INTO edge FROM engram.messages m
        WHERE m.workspace_id = ws AND m.session_id = chat
        ORDER BY m.created_at DESC, m.id DESC OFFSET archive_messages_as_owner.keep - 1 LIMIT 1;
        CONTINUE WHEN NOT FOUND;
      END IF;
      CONTINUE WHEN NOT EXISTS (SELECT FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = chat
                                AND (m.created_at, m.id) < (edge.f1, edge.f2));
      IF conversations = archive_messages_as_owner.batch_size THEN
        done := false;
        EXIT everything;
      END IF;
      IF archive_messages_as_owner.dry_run THEN
        SELECT count(*) INTO moved FROM engram.messages m
        WHERE m.workspace_id = ws AND m.session_id = chat AND (m.created_at, m.id) < (edge.f1, edge.f2);
      ELSE
        -- Somebody writes in it, or restores or erases it: another time.
        IF NOT engram_internal.try_lock_key(ws, 'conversation ' || chat) THEN
          skipped := skipped + 1;
          CONTINUE;
        END IF;
        WITH gone AS (
          DELETE FROM engram.messages m
          WHERE m.workspace_id = ws AND m.session_id = chat AND (m.created_at, m.id) < (edge.f1, edge.f2)
            -- What was said since the look above is not for now.
            AND NOT EXISTS (SELECT FROM engram.messages n WHERE n.workspace_id = ws AND n.session_id = chat AND n.created_at >= cutoff)
          RETURNING m.*
        ), parts AS (
          SELECT g.*, (row_number() OVER w - 1) / 100 AS part,
                 sum(octet_length(g.content) + pg_column_size(g.metadata)) OVER w / 1000000 AS megabyte
          FROM gone g WINDOW w AS (ORDER BY g.created_at, g.id)
        ), kept AS (
          INSERT INTO engram.message_archive (workspace_id, session_id, first_at, id, last_at, turns, ids, messages)
          SELECT ws, chat, min(p.created_at), engram_internal.uuid_v7(), max(p.created_at), count(*), array_agg(p.id ORDER BY p.created_at, p.id),
                 jsonb_agg(engram_internal.archived_turn(p.user_id, p.role, p.speaker, p.content, p.metadata, p.created_at)
                           ORDER BY p.created_at, p.id)
          FROM parts p GROUP BY p.part, p.megabyte
          RETURNING turns
        )
        SELECT coalesce(sum(k.turns), 0) INTO moved FROM kept k;
      END IF;
      IF moved > 0 THEN
        conversations := conversations + 1;
        archived := archived + moved;
      END IF;
    END LOOP;
    EXIT WHEN archive_messages_as_owner.workspace IS NOT NULL;
    SELECT m.workspace_id INTO ws FROM engram.messages m WHERE m.workspace_id > ws ORDER BY m.workspace_id LIMIT 1;
  END LOOP;
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION engram_internal.archive_messages_as_owner(uuid, interval, integer, boolean, integer) IS
'What archive_messages() does; without a workspace, for all. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.archived_turn(
  user_id uuid, role text, speaker text, content text, metadata jsonb, created_at timestamptz) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
AS $$
  SELECT jsonb_build_object('user_id', $1, 'role', $2, 'content', $4, 'created_at', $6)
    || CASE WHEN $3 IS NULL THEN '{}' ELSE jsonb_build_object('speaker', $3) END
    || CASE WHEN $5 = '{}' THEN '{}' ELSE jsonb_build_object('metadata', $5) END
$$;
COMMENT ON FUNCTION engram_internal.archived_turn(uuid, text, text, text, jsonb, timestamptz) IS 'A turn as message_archive holds it.';

CREATE FUNCTION engram.archive_messages(
  inactive_for interval DEFAULT NULL,
  keep integer DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  batch_size integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (conversations bigint, archived bigint, skipped bigint, done boolean)
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'archive_messages_wrapper';
COMMENT ON FUNCTION engram.archive_messages(interval, integer, boolean, integer, uuid) IS
'Moves the old turns of conversations in which nothing was said for a while into message_archive, where they take less room, and reports it in one row. Nothing is lost: messages(include_archived => true) reads them, restore_messages() brings them back.

inactive_for: how long nothing was said, by default 30 days. keep: so many of the last turns stay, by default 50. dry_run: only report what would be moved. batch_size: at most so many conversations in this call, 1 to 1000, by default 100; done tells whether those were all. skipped: conversations that somebody else was writing to; they come next time. workspace: by default the caller''s own; for a role that bypasses row security and is nobody, all of them.';

CREATE FUNCTION engram_internal.restore_messages_as_owner(workspace uuid, session_id text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  moved bigint;
BEGIN
  IF NOT has_table_privilege('engram.message_archive', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not take messages out of the archive', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.restore_messages().';
  END IF;
  PERFORM engram_internal.lock_keys(restore_messages_as_owner.workspace, ARRAY['conversation ' || restore_messages_as_owner.session_id]);
  WITH back AS (
    DELETE FROM engram.message_archive a
    WHERE a.workspace_id = restore_messages_as_owner.workspace AND a.session_id = restore_messages_as_owner.session_id
    RETURNING a.ids, a.messages
  ), put AS (
    INSERT INTO engram.messages (workspace_id, session_id, created_at, id, user_id, role, speaker, content, metadata)
    SELECT restore_messages_as_owner.workspace, restore_messages_as_owner.session_id, t.created_at, t.id, t.user_id, t.role,
           t.speaker, t.content, t.metadata
    FROM back b CROSS JOIN LATERAL engram_internal.archived_turns(b.ids, b.messages) t
    ON CONFLICT DO NOTHING
    RETURNING 1
  )
  SELECT count(*) INTO moved FROM put;
  RETURN moved;
END
$$;
COMMENT ON FUNCTION engram_internal.restore_messages_as_owner(uuid, text) IS
'What restore_messages() does. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.restore_messages(session_id text, workspace uuid DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'restore_messages_wrapper';
COMMENT ON FUNCTION engram.restore_messages(text, uuid) IS
'Brings the archived turns of a conversation back to their places among the others, and returns how many. While nothing new is said in it, the next archive_messages() takes them away again.';

CREATE FUNCTION engram_internal.erase_archived(workspace uuid, session_id text, ids uuid[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  gone  bigint := 0;
  chunk record;
BEGIN
  IF NOT has_table_privilege('engram.message_archive', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not erase archived messages', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.erase_messages().';
  END IF;
  FOR chunk IN
    DELETE FROM engram.message_archive a
    WHERE a.workspace_id = erase_archived.workspace
      AND (erase_archived.session_id IS NULL OR a.session_id = erase_archived.session_id)
      AND (erase_archived.ids IS NULL OR a.ids && erase_archived.ids)
    RETURNING a.*
  LOOP
    gone := gone + CASE WHEN erase_archived.ids IS NULL THEN chunk.turns
                        ELSE (SELECT count(*) FROM unnest(chunk.ids) u WHERE u = ANY (erase_archived.ids)) END;
    -- What of it stays is packed again.
    INSERT INTO engram.message_archive (workspace_id, session_id, first_at, id, last_at, turns, ids, messages)
    SELECT chunk.workspace_id, chunk.session_id, min((t.turn ->> 'created_at')::timestamptz), chunk.id,
           max((t.turn ->> 'created_at')::timestamptz), count(*), array_agg(chunk.ids[t.nth] ORDER BY t.nth), jsonb_agg(t.turn ORDER BY t.nth)
    FROM jsonb_array_elements(chunk.messages) WITH ORDINALITY AS t (turn, nth)
    WHERE chunk.ids[t.nth] <> ALL (erase_archived.ids)
    HAVING count(*) > 0;
  END LOOP;
  RETURN gone;
END
$$;
COMMENT ON FUNCTION engram_internal.erase_archived(uuid, text, uuid[]) IS
'What erase_messages() does in the archive. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.erase_archived_messages(workspace uuid, session_id text, ids uuid[]) RETURNS bigint
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'erase_archived_messages_wrapper';
COMMENT ON FUNCTION engram_internal.erase_archived_messages(uuid, text, uuid[]) IS
'erase_archived() for a caller who may write the workspace.';

CREATE FUNCTION engram.erase_messages(
  session_id text DEFAULT NULL,
  ids uuid[] DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (messages bigint, archived bigint)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(erase_messages.workspace, true);
BEGIN
  IF erase_messages.session_id IS NULL AND erase_messages.ids IS NULL THEN
    RAISE EXCEPTION 'erase_messages() was given neither session_id nor ids'
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name a conversation, or pass the ids of turns; engram.conversations() and engram.messages() list them.';
  END IF;
  IF erase_messages.dry_run THEN
    RETURN QUERY SELECT
      (SELECT count(*) FROM engram.messages m WHERE m.workspace_id = ws
         AND (erase_messages.session_id IS NULL OR m.session_id = erase_messages.session_id)
         AND (erase_messages.ids IS NULL OR m.id = ANY (erase_messages.ids))),
      (SELECT count(*) FROM engram.message_archive a CROSS JOIN LATERAL unnest(a.ids) AS u (id) WHERE a.workspace_id = ws
         AND (erase_messages.session_id IS NULL OR a.session_id = erase_messages.session_id)
         AND (erase_messages.ids IS NULL OR u.id = ANY (erase_messages.ids)));
    RETURN;
  END IF;
  -- Who archives or restores meanwhile would move turns from where they are looked for to where they were.
  PERFORM engram_internal.lock_keys(ws, CASE WHEN erase_messages.session_id IS NOT NULL
    THEN ARRAY['conversation ' || erase_messages.session_id]
    -- All of the workspace.
    ELSE ARRAY(SELECT n::text FROM generate_series(1, 65) n) END);
  DELETE FROM engram.messages m WHERE m.workspace_id = ws
    AND (erase_messages.session_id IS NULL OR m.session_id = erase_messages.session_id)
    AND (erase_messages.ids IS NULL OR m.id = ANY (erase_messages.ids));
  GET DIAGNOSTICS messages = ROW_COUNT;
  archived := engram_internal.erase_archived_messages(ws, erase_messages.session_id, erase_messages.ids);
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION engram.erase_messages(text, uuid[], boolean, uuid) IS
'Deletes turns for good, from the conversation and from the archive, and tells how many from each. Memories that were made from them stay.

session_id: the conversation; alone, all of it. ids: only these turns; without session_id, of whatever conversation. dry_run: only count.';

CREATE FUNCTION engram.should_extract(
  message_id uuid,
  content text,
  turns integer,
  min_chars integer DEFAULT NULL,
  min_turns integer DEFAULT NULL,
  base_rate double precision DEFAULT NULL,
  full_rate double precision DEFAULT NULL,
  mature_turns integer DEFAULT NULL,
  role text DEFAULT NULL
) RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'should_extract_wrapper';
COMMENT ON FUNCTION engram.should_extract(uuid, text, integer, integer, integer, double precision, double precision, integer, text) IS
'Whether a turn is worth sending to an extractor of facts, which costs money: a rule to sample by. It reads nothing, and says the same for the same arguments.

False when content has less than min_chars characters (20; outer white space does not count), when the conversation has less than min_turns turns so far (2), or when role is system or tool. Else true with a probability that rises with turns in a straight line from base_rate (0.25) to full_rate (1) at mature_turns (20), by a hash of message_id: a higher probability never makes false of true. Rates from 0 to 1, base_rate at most full_rate; counts of 0 or more. What is out of range, and NULL for one of the first three, is an error (22023).';

-- Export and import: a workspace as lines of JSON, and lines of JSON, ours and others', as a workspace.
CREATE FUNCTION engram_internal.export_start(workspace uuid, include text[], match_count integer, cursor text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known constant text[] := ARRAY['settings', 'memories', 'embeddings', 'uses', 'history', 'links', 'erasures', 'messages'];
  part  integer := -1;
  key   jsonb := '[]';
  valid boolean := true;
BEGIN
  IF NOT include <@ known OR EXISTS (SELECT FROM unnest(include) u WHERE u IS NULL) THEN
    RAISE EXCEPTION 'unknown value in include: %', include
      USING ERRCODE = 'invalid_parameter_value', HINT = format('Known: %s. By default all of them.', array_to_string(known, ', '));
  END IF;
  IF match_count < 1 THEN
    RAISE EXCEPTION 'match_count is %', match_count
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number of lines from 1, or leave it out for all of them.';
  END IF;
  IF cursor IS NOT NULL THEN
    BEGIN
      part := split_part(cursor, ':', 1)::integer;
      key := substr(cursor, position(':' IN cursor) + 1)::jsonb;
      valid := jsonb_typeof(key) = 'array' AND CASE
        WHEN part IN (0, 1) THEN true
        WHEN part IN (2, 3, 4) THEN key ->> 0 IS NOT NULL
        WHEN part IN (5, 9, 10) THEN (key ->> 0)::uuid IS NOT NULL
        WHEN part = 6 THEN (key ->> 0)::uuid IS NOT NULL AND (key ->> 1)::integer IS NOT NULL
        WHEN part = 7 THEN (key ->> 0)::uuid IS NOT NULL AND key ->> 1 IS NOT NULL AND key ->> 2 IS NOT NULL
        WHEN part = 8 THEN (key ->> 0)::uuid IS NOT NULL AND (key ->> 1)::uuid IS NOT NULL
        WHEN part IN (11, 12) THEN key ->> 0 IS NOT NULL AND (key ->> 1)::timestamptz IS NOT NULL AND (key ->> 2)::uuid IS NOT NULL
        ELSE false END;
    EXCEPTION WHEN data_exception THEN
      valid := false;
    END;
    IF valid IS NOT TRUE THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.export() returned', left(cursor, 100)
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the cursor in the last line of the page before, unchanged.';
    END IF;
  END IF;
  RETURN jsonb_build_object('workspace', engram_internal.resolve_workspace(workspace, false), 'part', part, 'key', key);
END
$$;
COMMENT ON FUNCTION engram_internal.export_start(uuid, text[], integer, text) IS
'Which workspace export() reads, and after which part and key it begins; an error for wrong arguments.';

-- One statement in SQL, which gives its rows out one by one as it finds them: nothing is collected.
CREATE FUNCTION engram_internal.export_lines(workspace uuid, include text[], match_count integer, part integer, key jsonb)
RETURNS SETOF jsonb
LANGUAGE sql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
-- What is written must read the same everywhere, to the last bit.
SET TimeZone = 'UTC'
SET extra_float_digits = 1
-- In the order below and by key: so that memories come before what hangs on them, and nothing is sorted first.
SET plan_cache_mode = force_generic_plan
SET max_parallel_workers_per_gather = 0
SET enable_sort = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_seqscan = off
SET jit = off
AS $$
  SELECT CASE WHEN p.nth > $3 THEN jsonb_build_object('kind', 'cursor', 'cursor', p.before) ELSE p.line END
  FROM (
    SELECT l.line, row_number() OVER () AS nth, lag(l.part || ':' || l.key::text) OVER () AS before
    FROM (
      SELECT 0 AS part, '[]'::jsonb AS key, jsonb_build_object('engram', jsonb_build_object('format', 1,
        'version', engram_internal.library_version(), 'exported_at', now())) AS line
      WHERE $4 < 0 AND $1 IS NOT NULL
      UNION ALL
      SELECT 1, '[]', jsonb_build_object('kind', 'settings',
        'settings', jsonb_strip_nulls(to_jsonb(s)) - '{workspace_id,preset}'::text[], 'preset', s.preset)
      FROM engram.settings s
      WHERE 'settings' = ANY ($2) AND $4 < 1 AND s.workspace_id = $1
      UNION ALL
      (SELECT 2, jsonb_build_array(t.type), jsonb_build_object('kind', 'type_settings', 'type', t.type,
        'default_importance', t.default_importance, 'decay_per_day', t.decay_per_day)
      FROM engram.memory_type_settings t
      WHERE 'settings' = ANY ($2) AND $4 <= 2 AND t.workspace_id = $1 AND t.type > CASE WHEN $4 = 2 THEN $5 ->> 0 ELSE '' END
      ORDER BY t.type)
      UNION ALL
      (SELECT 3, jsonb_build_array(o.name), jsonb_build_object('kind', 'model', 'name', o.name, 'dims', o.dims,
        'distance', o.distance, 'is_default', o.is_default)
      FROM engram.embedding_models o
      WHERE 'embeddings' = ANY ($2) AND $4 <= 3 AND o.name > CASE WHEN $4 = 3 THEN $5 ->> 0 ELSE '' END
        AND EXISTS (SELECT FROM engram.embeddings e WHERE e.workspace_id = $1 AND e.model = o.name)
      ORDER BY o.name)
      UNION ALL
      (SELECT 4, jsonb_build_array(a.alias), jsonb_build_object('kind', 'alias', 'alias', a.alias, 'node', a.node,
        'label', a.label, 'created_at', a.created_at)
      FROM engram.entity_aliases a
      WHERE 'links' = ANY ($2) AND $4 <= 4 AND a.workspace_id = $1 AND a.alias > CASE WHEN $4 = 4 THEN $5 ->> 0 ELSE '' END
      ORDER BY a.alias)
      UNION ALL
      (SELECT 5, jsonb_build_array(x.id), jsonb_strip_nulls(jsonb_build_object('kind', 'erasure', 'id', x.id,
        'erased_by', x.erased_by, 'erased_at', x.erased_at, 'events', CASE WHEN 'history' = ANY ($2) THEN (
          SELECT jsonb_agg(jsonb_build_object('id', v.id, 'at', v.at, 'actor', v.actor, 'action', v.action, 'version', v.version)
                           ORDER BY v.at, v.id)
          FROM (SELECT e.*, bool_or(e.origin = 0) OVER () AS imported FROM engram.memory_events e
                WHERE (e.workspace_id = $1) IS TRUE AND e.memory_id = x.id) v
          -- An import writes one of its own beside those that it brings.
          WHERE v.origin = 0 OR NOT v.imported) END))
      FROM engram.erasures x
      WHERE 'erasures' = ANY ($2) AND $4 <= 5 AND x.workspace_id = $1
        AND x.id >= CASE WHEN $4 = 5 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
        AND ($4 < 5 OR x.id <> ($5 ->> 0)::uuid)
      ORDER BY x.id)
      UNION ALL
      (SELECT 6, jsonb_build_array(m.id, n.part), CASE WHEN n.part = 0 THEN
        jsonb_build_object('kind', 'memory') || jsonb_strip_nulls(jsonb_build_object(
          'id', m.id, 'user_id', m.user_id, 'agent_id', m.agent_id, 'session_id', m.session_id, 'speaker', m.speaker,
          'role', m.role, 'content', m.content, 'summary', m.summary, 'type', m.type, 'importance', m.importance,
          'layer', m.layer, 'pinned', m.pinned, 'tags', m.tags, 'source', m.source, 'occurred_at', m.occurred_at,
          'valid_from', m.valid_from, 'valid_to', m.valid_to, 'superseded_by', m.superseded_by, 'contradicts', m.contradicts,
          'contradicted_by', m.contradicted_by, 'expires_at', m.expires_at, 'deleted_at', m.deleted_at,
          'version', m.version, 'created_at', m.created_at, 'updated_at', m.updated_at, 'state', s.state,
          'entities', g.entities, 'embeddings', v.embeddings))
        || jsonb_build_object('metadata', m.metadata)
        ELSE jsonb_build_object('kind', 'more', 'memory_id', m.id, 'version', m.version, 'updated_at', m.updated_at,
          'access_count', s.state -> 'access_count', 'last_accessed_at', s.state -> 'last_accessed_at') END
        || CASE WHEN u.parts[n.part + 1] IS NULL THEN '{}' ELSE jsonb_build_object('uses', u.parts[n.part + 1]) END
        || CASE WHEN e.parts[n.part + 1] IS NULL THEN '{}' ELSE jsonb_build_object('events', e.parts[n.part + 1]) END
      FROM (SELECT m.* FROM engram.memories m
            WHERE 'memories' = ANY ($2) AND $4 <= 6 AND m.workspace_id = $1
              AND m.id >= CASE WHEN $4 = 6 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
            ORDER BY m.id) m
      CROSS JOIN LATERAL (SELECT (SELECT jsonb_strip_nulls(jsonb_build_object('access_count', x.access_count,
          'last_accessed_at', x.last_accessed_at, 'heat', translate(encode(x.heat, 'base64'), E'\n', ''),
          'working_strength', x.working_strength, 'core_strength', x.core_strength, 'layer', x.layer,
          'stability', x.stability, 'difficulty', x.difficulty, 'base', x.base))
        FROM engram.memory_state x WHERE x.workspace_id = $1 AND x.memory_id = m.id OFFSET 0) AS state) s
      CROSS JOIN LATERAL (SELECT (SELECT jsonb_agg(jsonb_build_object('name', x.label, 'node', x.node, 'relation', x.relation,
          'weight', x.weight, 'created_at', x.created_at) ORDER BY x.relation, x.node)
        FROM (SELECT x.* FROM engram.graph_links x
              WHERE x.workspace_id = $1 AND x.memory_id = m.id AND x.target_id IS NULL AND 'links' = ANY ($2) OFFSET 0) x) AS entities) g
      CROSS JOIN LATERAL (SELECT (SELECT jsonb_agg(jsonb_build_object('model', x.model, 'embedding', x.embedding::text,
          'created_at', x.created_at) ORDER BY x.model)
        FROM (SELECT x.* FROM engram.embeddings x
              WHERE x.workspace_id = $1 AND x.memory_id = m.id AND 'embeddings' = ANY ($2) OFFSET 0) x) AS embeddings) v
      -- A thousand to a line, and less when they are large: the rest follows in lines of its own.
      CROSS JOIN LATERAL (SELECT (SELECT array_agg(p.uses ORDER BY p.nth) FROM (
          SELECT x.nth, jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', x.id, 'at', x.accessed_at, 'user_id', x.user_id,
            'kind', x.kind, 'gain', x.gain, 'rating', x.rating, 'recall_id', x.recall_id, 'place', x.place,
            'pair_gain', x.pair_gain)) ORDER BY x.accessed_at, x.id) AS uses
          FROM (SELECT x.*, (row_number() OVER (ORDER BY x.accessed_at, x.id) - 1) / 1000 AS nth FROM engram.access_log x
                WHERE x.workspace_id = $1 AND x.memory_id = m.id AND 'uses' = ANY ($2)) x
          GROUP BY x.nth) p) AS parts) u
      CROSS JOIN LATERAL (SELECT (SELECT array_agg(p.events ORDER BY p.nth) FROM (
          SELECT row_number() OVER (ORDER BY x.nth, x.megabytes) AS nth, jsonb_agg(
            jsonb_strip_nulls(jsonb_build_object('id', x.id, 'at', x.at, 'actor', x.actor, 'action', x.action, 'version', x.version))
            || CASE WHEN x.old IS NULL THEN '{}' ELSE jsonb_build_object('old', x.old) END ORDER BY x.at, x.id) AS events
          FROM (SELECT x.*, (row_number() OVER w - 1) / 1000 AS nth, sum(coalesce(pg_column_size(x.old), 0)) OVER w / 4000000 AS megabytes
                FROM (SELECT x.*, bool_or(x.origin = 0) OVER () AS imported FROM engram.memory_events x
                      WHERE (x.workspace_id = $1) IS TRUE AND x.memory_id = m.id AND 'history' = ANY ($2)) x
                -- An import writes that it added the memory beside what it brings.
                WHERE NOT (x.action = 'added' AND x.origin <> 0 AND (x.imported OR x.version > 1))
                WINDOW w AS (ORDER BY x.at, x.id)) x
          GROUP BY x.nth, x.megabytes) p) AS parts) e
      CROSS JOIN LATERAL generate_series(0, greatest(cardinality(u.parts), cardinality(e.parts), 1) - 1) AS n (part)
      WHERE NOT ($4 = 6 AND m.id = ($5 ->> 0)::uuid AND n.part <= ($5 ->> 1)::integer))
      UNION ALL
      (SELECT 7, jsonb_build_array(g.memory_id, g.relation, g.node), jsonb_build_object('kind', 'link', 'source', g.memory_id,
        'target', g.target_id, 'relation', g.relation, 'weight', g.weight, 'created_at', g.created_at)
      FROM engram.graph_links g
      WHERE 'links' = ANY ($2) AND $4 <= 7 AND g.workspace_id = $1 AND g.target_id IS NOT NULL
        AND g.memory_id >= CASE WHEN $4 = 7 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
        AND ($4 < 7 OR (g.memory_id, g.relation, g.node) > (($5 ->> 0)::uuid, $5 ->> 1, $5 ->> 2))
      ORDER BY g.memory_id, g.relation, g.node)
      UNION ALL
      (SELECT 8, jsonb_build_array(h.a, h.b), jsonb_build_object('kind', 'pair', 'a', h.a, 'b', h.b, 'forward', h.forward,
        'backward', h.backward, 'linked_at', h.linked_at, 'count', h.count)
      FROM engram.hebbian_links h
      WHERE 'links' = ANY ($2) AND $4 <= 8 AND h.workspace_id = $1
        AND h.a >= CASE WHEN $4 = 8 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
        AND ($4 < 8 OR (h.a, h.b) > (($5 ->> 0)::uuid, ($5 ->> 1)::uuid))
      ORDER BY h.a, h.b)
      UNION ALL
      (SELECT 9, jsonb_build_array(q.id), jsonb_strip_nulls(jsonb_build_object('kind', 'call', 'id', q.id, 'at', q.accessed_at,
        'user_id', q.user_id, 'use', q.kind, 'gain', q.gain, 'rating', q.rating, 'recall_id', q.recall_id,
        'memory_ids', q.memory_ids))
      FROM engram.access_queue q
      WHERE 'uses' = ANY ($2) AND $4 <= 9 AND q.workspace_id = $1
        AND q.id >= CASE WHEN $4 = 9 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
        AND ($4 < 9 OR q.id <> ($5 ->> 0)::uuid)
      ORDER BY q.id)
      UNION ALL
      (SELECT 10, jsonb_build_array(c.recall_id), jsonb_build_object('kind', 'credit', 'recall_id', c.recall_id,
        'memory_ids', c.memory_ids, 'created_at', c.created_at)
      FROM engram.recall_credits c
      WHERE 'uses' = ANY ($2) AND $4 <= 10 AND c.workspace_id = $1
        AND c.recall_id >= CASE WHEN $4 = 10 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
        AND ($4 < 10 OR c.recall_id <> ($5 ->> 0)::uuid)
      ORDER BY c.recall_id)
      UNION ALL
      (SELECT 11, jsonb_build_array(t.session_id, t.created_at, t.id), jsonb_strip_nulls(jsonb_build_object('kind', 'message',
        'session_id', t.session_id, 'id', t.id, 'created_at', t.created_at, 'user_id', t.user_id, 'role', t.role,
        'speaker', t.speaker, 'content', t.content)) || jsonb_build_object('metadata', t.metadata)
      FROM engram.messages t
      WHERE 'messages' = ANY ($2) AND $4 <= 11 AND t.workspace_id = $1
        AND t.session_id >= CASE WHEN $4 = 11 THEN $5 ->> 0 ELSE '' END
        AND ($4 < 11 OR (t.session_id, t.created_at, t.id) > ($5 ->> 0, ($5 ->> 1)::timestamptz, ($5 ->> 2)::uuid))
      ORDER BY t.session_id, t.created_at, t.id)
      UNION ALL
      (SELECT 12, jsonb_build_array(a.session_id, a.first_at, a.id), jsonb_build_object('kind', 'archive',
        'session_id', a.session_id, 'id', a.id, 'ids', a.ids, 'turns', a.messages)
      FROM engram.message_archive a
      WHERE 'messages' = ANY ($2) AND $4 <= 12 AND a.workspace_id = $1
        AND a.session_id >= CASE WHEN $4 = 12 THEN $5 ->> 0 ELSE '' END
        AND ($4 < 12 OR (a.session_id, a.first_at, a.id) > ($5 ->> 0, ($5 ->> 1)::timestamptz, ($5 ->> 2)::uuid))
      ORDER BY a.session_id, a.first_at, a.id)
    ) l
    LIMIT $3::bigint + 1
  ) p
$$;
COMMENT ON FUNCTION engram_internal.export_lines(uuid, text[], integer, integer, jsonb) IS
'What export() does, from after the line of a part and a key on. As the caller.';

CREATE FUNCTION engram.export(
  workspace uuid DEFAULT NULL,
  include text[] DEFAULT NULL,
  match_count integer DEFAULT NULL,
  cursor text DEFAULT NULL
) RETURNS SETOF jsonb
LANGUAGE sql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT engram_internal.export_lines((s.start ->> 'workspace')::uuid,
    coalesce($2, '{settings,memories,embeddings,uses,history,links,erasures,messages}'), $3,
    (s.start ->> 'part')::integer, s.start -> 'key')
  FROM (SELECT engram_internal.export_start($1, $2, $3, $4) AS start OFFSET 0) s
$$;
COMMENT ON FUNCTION engram.export(uuid, text[], integer, text) IS
'Everything in a workspace, one JSON object a line, for import() here or elsewhere: first a header with the format, then settings, embedding models, aliases, tombstones, memories (with state, entities, embeddings, uses and history), links, uses that wait, and messages. Nothing is changed; an import into an empty workspace is exported as the same lines.

Rows come as they are found: COPY (SELECT engram.export()) TO STDOUT needs little memory, however many there are. include: only some of settings, memories, embeddings, uses, history, links, erasures, messages. match_count: so many lines, then one line {"kind": "cursor", "cursor": "…"} if there are more; pass it as cursor for the next page. All pages of one moment take one transaction that is REPEATABLE READ.';

-- Each of the following writes lines of one kind that have been checked, all or none of them, as the owner.
CREATE FUNCTION engram_internal.import_settings(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := import_settings.workspace;
  kind    text := import_settings.kind;
  replace boolean := import_settings.on_conflict = 'replace';
  line    jsonb;
  old     jsonb;
  new     jsonb;
  kept    text;
BEGIN
  FOR position, line IN SELECT i.p, i.l FROM jsonb_to_recordset(import_settings.items) AS i (p integer, l jsonb) LOOP
    error := NULL;
    old := NULL;
    IF kind = 'header' THEN
      status := 'unchanged';
    ELSIF kind = 'settings' THEN
      new := line -> 'settings';
      IF NOT import_settings.trusted THEN
        SELECT string_agg(k, ', ' ORDER BY k) INTO kept FROM jsonb_object_keys(new) k
        WHERE k IN ('max_content_chars', 'candidates', 'fold_threshold', 'text_config');
        error := 'left out, because an administrator sets them: ' || kept;
        new := new - '{max_content_chars,candidates,fold_threshold,text_config}'::text[];
      END IF;
      SELECT jsonb_strip_nulls(to_jsonb(s)) - '{workspace_id,preset}'::text[] INTO old FROM engram.settings s WHERE s.workspace_id = ws;
      IF old @> new AND (old IS NOT NULL OR new = '{}') THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        PERFORM engram_internal.change_settings(ws, new, line ->> 'preset');
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
      END IF;
    ELSIF kind = 'type_settings' THEN
      SELECT to_jsonb(t) - 'workspace_id' INTO old FROM engram.memory_type_settings t WHERE t.workspace_id = ws AND t.type = line ->> 'type';
      IF old = line THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        INSERT INTO engram.memory_type_settings AS t (workspace_id, type, default_importance, decay_per_day)
        VALUES (ws, line ->> 'type', (line ->> 'default_importance')::double precision, (line ->> 'decay_per_day')::double precision)
        ON CONFLICT (workspace_id, type) DO UPDATE
        SET default_importance = EXCLUDED.default_importance, decay_per_day = EXCLUDED.decay_per_day;
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
      END IF;
    ELSIF kind = 'model' THEN
      SELECT to_jsonb(m) INTO old FROM engram.embedding_models m WHERE m.name = line ->> 'name';
      IF old IS NULL AND import_settings.trusted THEN
        INSERT INTO engram.embedding_models (name, dims, distance, is_default)
        SELECT line ->> 'name', (line ->> 'dims')::integer, line ->> 'distance',
               coalesce((line ->> 'is_default')::boolean, false) AND NOT EXISTS (SELECT FROM engram.embedding_models m WHERE m.is_default);
        status := 'added';
      ELSIF old IS NULL THEN
        status := 'error';
        error := format('embedding model "%s" is not registered. Have an administrator run engram.set_embedding_model(''%1$s'', %s) first; without it its vectors are left out.',
                        line ->> 'name', line ->> 'dims');
      ELSIF old -> 'dims' <> line -> 'dims' OR old -> 'distance' <> line -> 'distance' THEN
        status := 'error';
        error := format('embedding model "%s" is registered with %s dimensions and distance %s, not %s and %s; its vectors are left out.',
                        line ->> 'name', old ->> 'dims', old ->> 'distance', line ->> 'dims', line ->> 'distance');
      ELSE
        status := 'unchanged';
      END IF;
    ELSE
      SELECT to_jsonb(a) INTO old FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.alias = line ->> 'alias';
      IF old ->> 'node' = line ->> 'node' AND old ->> 'label' = line ->> 'label' THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        INSERT INTO engram.entity_aliases AS a (workspace_id, alias, node, label, created_at)
        VALUES (ws, line ->> 'alias', line ->> 'node', line ->> 'label', coalesce((line ->> 'created_at')::timestamptz, now()))
        ON CONFLICT (workspace_id, alias) DO UPDATE SET node = EXCLUDED.node, label = EXCLUDED.label;
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
      END IF;
    END IF;
    IF status = 'skipped' AND import_settings.on_conflict = 'reject' THEN
      status := 'error';
      error := 'there is another one already';
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.import_settings(uuid, boolean, text, text, jsonb) IS
'Imports settings, type_settings, models and aliases. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_log(workspace uuid, lines jsonb[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := import_log.workspace;
  logged  bigint;
  written bigint;
BEGIN
  INSERT INTO engram.access_log (workspace_id, memory_id, accessed_at, id, user_id, kind, gain, rating, recall_id, place, pair_gain)
  SELECT ws, coalesce(l ->> 'id', l ->> 'memory_id')::uuid, u.at, u.id, u.user_id, u.kind, u.gain, u.rating, u.recall_id,
         coalesce(u.place, 1), coalesce(u.pair_gain, 0)
  FROM unnest(import_log.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'uses') AS u (id uuid, at timestamptz, user_id uuid, kind text, gain double precision,
    rating smallint, recall_id uuid, place smallint, pair_gain double precision)
  ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS logged = ROW_COUNT;
  -- What they say of the past must be readable as a memory.
  PERFORM count((jsonb_populate_record(NULL::engram.memories, v.old)).version)
  FROM unnest(import_log.lines) l CROSS JOIN LATERAL jsonb_to_recordset(l -> 'events') AS v (old jsonb) WHERE v.old IS NOT NULL;
  -- Their transactions are none of ours: origin 0 keeps them from those who ask for what is new.
  INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, actor, action, version, old)
  -- What another system did not say of the past was as it is: every memory has a type, an importance and so on.
  SELECT ws, pg_current_xact_id(), v.id, v.at, m.id, 0, v.actor, v.action, v.version, CASE WHEN v.old IS NOT NULL THEN v.old || (
      SELECT coalesce(jsonb_object_agg(k.key, k.value), '{}') FROM engram.memories p
      CROSS JOIN LATERAL jsonb_each(jsonb_build_object('content', p.content, 'type', p.type, 'importance', p.importance, 'layer', p.layer,
        'pinned', p.pinned, 'tags', p.tags, 'metadata', p.metadata, 'created_at', p.created_at, 'updated_at', p.created_at,
        'version', greatest(v.version - 1, 1), 'entities', '[]'::jsonb)) k
      WHERE p.workspace_id = ws AND p.id = m.id AND coalesce(v.old -> k.key, 'null') = 'null') END
  FROM unnest(import_log.lines) l
  CROSS JOIN LATERAL (SELECT coalesce(l ->> 'id', l ->> 'memory_id')::uuid AS id) m
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'events') AS v (id uuid, at timestamptz, actor uuid, action text, version integer, old jsonb)
  -- One look-up an event: as a join it could read everybody's.
  WHERE (SELECT count(*) FROM (SELECT FROM engram.memory_events e
         WHERE (e.workspace_id = ws) IS TRUE AND e.memory_id = m.id AND e.id = v.id LIMIT 1) known) = 0;
  GET DIAGNOSTICS written = ROW_COUNT;
  RETURN logged + written;
END
$$;
COMMENT ON FUNCTION engram_internal.import_log(uuid, jsonb[]) IS
'Writes uses and events of memories that an import brings, those that are not there yet, and counts them. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_attached(workspace uuid, lines jsonb[]) RETURNS TABLE (memory uuid, left_out text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := import_attached.workspace;
BEGIN
  INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label, weight, created_at)
  SELECT ws, (l ->> 'id')::uuid, coalesce(nullif(e.relation, ''), 'mentions'), k.node, btrim(e.name), coalesce(e.weight, 1), coalesce(e.created_at, now())
  FROM unnest(import_attached.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'entities') AS e (name text, node text, relation text, weight double precision, created_at timestamptz)
  CROSS JOIN LATERAL (SELECT coalesce(e.node, engram_internal.entity_key(ws, e.name)) AS node) k
  WHERE k.node <> ''
  ON CONFLICT DO NOTHING;
  INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding, created_at)
  SELECT ws, (l ->> 'id')::uuid, m.name, v.embedding, coalesce(e.created_at, now())
  FROM unnest(import_attached.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'embeddings') AS e (model text, embedding text, created_at timestamptz)
  CROSS JOIN LATERAL (SELECT translate(e.embedding, '[]', '{}')::real[] AS embedding OFFSET 0) v
  JOIN engram.embedding_models m ON m.name = e.model AND m.dims = cardinality(v.embedding)
  ON CONFLICT DO NOTHING;
  RETURN QUERY
  SELECT (l ->> 'id')::uuid, 'without its vectors, for which no model of their name and length is registered: ' || string_agg(DISTINCT e.model, ', ')
  FROM unnest(import_attached.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'embeddings') AS e (model text, embedding text)
  WHERE NOT EXISTS (SELECT FROM engram.embedding_models m WHERE m.name = e.model
                    AND m.dims = cardinality(translate(e.embedding, '[]', '{}')::real[]))
  GROUP BY 1;
END
$$;
COMMENT ON FUNCTION engram_internal.import_attached(uuid, jsonb[]) IS
'Writes entities and vectors of memories that an import brings, and tells what is left out. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_states(workspace uuid, lines jsonb[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  -- By the place of the row: as a join it might read all of the workspace.
  UPDATE engram.memory_state s
  SET access_count = t.access_count, last_accessed_at = t.last_accessed_at, heat = decode(t.heat, 'base64'),
      working_strength = t.working_strength, core_strength = t.core_strength, layer = t.layer, stability = t.stability,
      difficulty = t.difficulty, base = t.base
  FROM unnest(import_states.lines) l
  CROSS JOIN LATERAL jsonb_to_record(l -> 'state') AS t (access_count bigint, last_accessed_at timestamptz, heat text,
    working_strength double precision, core_strength double precision, layer text, stability double precision,
    difficulty double precision, base jsonb)
  CROSS JOIN LATERAL (SELECT x.ctid FROM engram.memory_state x
    WHERE x.workspace_id = import_states.workspace AND x.memory_id = (l ->> 'id')::uuid OFFSET 0) x
  WHERE l ? 'state' AND s.ctid = x.ctid AND s.workspace_id = import_states.workspace;
END
$$;
COMMENT ON FUNCTION engram_internal.import_states(uuid, jsonb[]) IS
'Gives memories the states that an import brings. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_memory(workspace uuid, on_conflict text, line jsonb, INOUT status text, INOUT error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := import_memory.workspace;
  this  uuid := (line ->> 'id')::uuid;
  -- What an import does not decide of a memory that is here.
  fixed constant text[] := '{workspace_id,id,user_id,version,created_at,updated_at,content_hash,layer}';
  held  jsonb;
  given jsonb;
  n     record;
BEGIN
  IF EXISTS (SELECT FROM engram.erasures e WHERE e.workspace_id = ws AND e.id = this) THEN
    status := 'erased';
    error := 'it was erased here, and an id that was erased does not come back';
    RETURN;
  END IF;
  SELECT to_jsonb(m) INTO held FROM engram.memories m WHERE m.workspace_id = ws AND m.id = this FOR UPDATE;
  -- What the line does not say is empty, but for what every memory has.
  given := jsonb_strip_nulls(jsonb_build_object('type', held -> 'type', 'importance', held -> 'importance', 'pinned', held -> 'pinned',
      'layer', held -> 'layer', 'tags', held -> 'tags')) || jsonb_build_object('metadata', held -> 'metadata')
    || (line - '{state,entities,embeddings,uses,events}'::text[]);
  SELECT r.* INTO n FROM jsonb_populate_record(NULL::engram.memories, given) r;
  IF to_jsonb(n) - fixed = held - fixed
     AND (on_conflict <> 'replace' OR NOT line ? 'state' OR EXISTS (
       SELECT FROM engram.memory_state s CROSS JOIN jsonb_to_record(line -> 'state') AS t (access_count bigint, last_accessed_at timestamptz, heat text)
       WHERE s.workspace_id = ws AND s.memory_id = this AND s.access_count = t.access_count
         AND s.last_accessed_at = t.last_accessed_at AND s.heat IS NOT DISTINCT FROM decode(t.heat, 'base64'))) THEN
    status := 'unchanged';
    RETURN;
  ELSIF on_conflict = 'skip' THEN
    status := 'skipped';
    RETURN;
  ELSIF on_conflict = 'reject' THEN
    status := 'error';
    error := 'a memory with this id is here already, and is another';
    RETURN;
  END IF;
  UPDATE engram.memories m SET
    agent_id = n.agent_id, session_id = n.session_id, speaker = n.speaker, role = n.role, content = n.content, summary = n.summary,
    type = n.type, importance = n.importance, layer = n.layer, pinned = n.pinned, tags = n.tags, metadata = n.metadata,
    source = n.source, occurred_at = n.occurred_at, valid_from = n.valid_from, valid_to = n.valid_to,
    superseded_by = n.superseded_by, contradicts = n.contradicts, contradicted_by = n.contradicted_by,
    expires_at = n.expires_at, deleted_at = n.deleted_at
  WHERE m.workspace_id = ws AND m.id = this;
  IF line ? 'state' THEN
    PERFORM engram_internal.import_states(ws, ARRAY[line]);
    -- The log is what the state is made of.
    DELETE FROM engram.access_log l WHERE l.workspace_id = ws AND l.memory_id = this;
    PERFORM engram_internal.import_log(ws, ARRAY[line - 'events']);
  END IF;
  IF line ? 'entities' THEN
    DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = this AND g.target_id IS NULL;
  END IF;
  IF line ? 'embeddings' THEN
    DELETE FROM engram.embeddings e WHERE e.workspace_id = ws AND e.memory_id = this;
  END IF;
  error := (SELECT a.left_out FROM engram_internal.import_attached(ws, ARRAY[line]) a);
  status := 'replaced';
END
$$;
COMMENT ON FUNCTION engram_internal.import_memory(uuid, text, jsonb, text, text) IS
'Imports a memory whose id the workspace knows. Its history stays, and what is replaced is one change more. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_memories(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws       uuid := import_memories.workspace;
  kind     text := import_memories.kind;
  line     jsonb;
  this     uuid;
  fresh    jsonb[] := '{}';
  fresh_at integer[] := '{}';
  notes    jsonb;
  held     record;
BEGIN
  IF kind = 'memory' THEN
    SELECT coalesce(array_agg(i.l ORDER BY i.l ->> 'id'), '{}'), coalesce(array_agg(i.p), '{}') INTO fresh, fresh_at FROM (
      SELECT t.p, t.l, row_number() OVER (PARTITION BY t.l ->> 'id' ORDER BY t.p) AS nth
      FROM jsonb_to_recordset(import_memories.items) AS t (p integer, l jsonb)) i
    WHERE i.nth = 1
      AND (SELECT count(*) FROM (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = (i.l ->> 'id')::uuid OFFSET 0) m) = 0
      AND (SELECT count(*) FROM (SELECT FROM engram.erasures e WHERE e.workspace_id = ws AND e.id = (i.l ->> 'id')::uuid OFFSET 0) e) = 0;
    -- The triggers make them searchable, and write that they were added, here and now.
    INSERT INTO engram.memories (workspace_id, id, user_id, agent_id, session_id, speaker, role, content, summary, type, importance,
      layer, pinned, tags, metadata, source, occurred_at, valid_from, valid_to, superseded_by, contradicts, contradicted_by,
      expires_at, deleted_at, version, created_at, updated_at)
    SELECT ws, r.id, r.user_id, r.agent_id, r.session_id, r.speaker, r.role, r.content, r.summary, r.type, r.importance,
      r.layer, r.pinned, r.tags, r.metadata, r.source, r.occurred_at, r.valid_from, r.valid_to, r.superseded_by, r.contradicts,
      r.contradicted_by, r.expires_at, r.deleted_at, r.version, r.created_at, r.updated_at
    FROM unnest(fresh) l
    CROSS JOIN LATERAL jsonb_populate_record(NULL::engram.memories, l - '{state,entities,embeddings,uses,events}'::text[]) r;
    PERFORM engram_internal.import_states(ws, fresh);
    PERFORM engram_internal.import_log(ws, fresh);
    notes := (SELECT jsonb_object_agg(a.memory, a.left_out) FROM engram_internal.import_attached(ws, fresh) a);
  END IF;
  FOR position, line IN SELECT t.p, t.l FROM jsonb_to_recordset(import_memories.items) AS t (p integer, l jsonb) ORDER BY t.p LOOP
    error := NULL;
    this := coalesce(line ->> 'id', line ->> 'memory_id')::uuid;
    IF kind = 'memory' AND position = ANY (fresh_at) THEN
      error := notes ->> this::text;
      status := 'added';
    ELSIF kind = 'memory' THEN
      SELECT i.status, i.error INTO status, error FROM engram_internal.import_memory(ws, import_memories.on_conflict, line, NULL, NULL) i;
    ELSIF kind = 'more' THEN
      SELECT m.version = (line ->> 'version')::integer AND m.updated_at = (line ->> 'updated_at')::timestamptz AS told,
             s.access_count = (line ->> 'access_count')::bigint AND s.last_accessed_at = (line ->> 'last_accessed_at')::timestamptz AS used
      INTO held FROM engram.memories m LEFT JOIN engram.memory_state s ON s.workspace_id = ws AND s.memory_id = this
      WHERE m.workspace_id = ws AND m.id = this;
      IF NOT FOUND THEN
        status := 'error';
        error := 'the memory is not in this workspace';
      ELSIF held.told OR held.used THEN
        -- Only to what was imported just before: a memory that has lived on here has a log of its own.
        status := CASE WHEN engram_internal.import_log(ws, ARRAY[line - CASE WHEN NOT coalesce(held.used, false) THEN 'uses'
          WHEN NOT held.told THEN 'events' ELSE '' END]) > 0 THEN 'added' ELSE 'unchanged' END;
      ELSE
        status := 'skipped';
      END IF;
    ELSIF EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = this) THEN
      status := 'skipped';
      error := 'the memory is here, and an import erases nothing';
    ELSIF EXISTS (SELECT FROM engram.erasures e WHERE e.workspace_id = ws AND e.id = this) THEN
      status := 'unchanged';
    ELSE
      INSERT INTO engram.erasures (workspace_id, id, erased_by, erased_at)
      VALUES (ws, this, (line ->> 'erased_by')::uuid, (line ->> 'erased_at')::timestamptz);
      PERFORM engram_internal.import_log(ws, ARRAY[line]);
      INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, actor, action, version)
      VALUES (ws, pg_current_xact_id(), engram_internal.uuid_v7(), clock_timestamp(), this, engram_internal.store_origin(),
              engram.current_user_id(), 'erased', coalesce((line #>> '{events,-1,version}')::integer, 1));
      status := 'added';
    END IF;
    id := this;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.import_memories(uuid, boolean, text, text, jsonb) IS
'Imports memories, the rest of what hangs on large ones, and tombstones. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_links(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := import_links.workspace;
  kind    text := import_links.kind;
  replace boolean := import_links.on_conflict = 'replace';
  line    jsonb;
  ids     uuid[];
  here    uuid[];
  old     jsonb;
  new     jsonb;
BEGIN
  FOR position, line IN SELECT t.p, t.l FROM jsonb_to_recordset(import_links.items) AS t (p integer, l jsonb) ORDER BY t.p LOOP
    error := NULL;
    old := NULL;
    id := coalesce(line ->> 'source', line ->> 'a', line ->> 'id', line ->> 'recall_id')::uuid;
    ids := CASE kind WHEN 'link' THEN ARRAY[line ->> 'source', line ->> 'target']::uuid[]
                     WHEN 'pair' THEN ARRAY[line ->> 'a', line ->> 'b']::uuid[]
                     ELSE ARRAY(SELECT u.x::uuid FROM jsonb_array_elements_text(line -> 'memory_ids') WITH ORDINALITY AS u (x, nth) ORDER BY u.nth) END;
    here := ARRAY(SELECT u.x FROM unnest(ids) WITH ORDINALITY AS u (x, nth)
                  CROSS JOIN LATERAL (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = u.x OFFSET 0) m ORDER BY u.nth);
    IF here = '{}' OR kind IN ('link', 'pair') AND cardinality(here) < 2 THEN
      status := 'error';
      error := format('memory "%s" is not in this workspace', (SELECT u FROM unnest(ids) u WHERE u <> ALL (here) LIMIT 1));
    ELSIF kind = 'link' THEN
      IF line ->> 'relation' IN ('mentions', 'used_with', '') OR line ->> 'source' = line ->> 'target' THEN
        RAISE EXCEPTION 'a link "%" from memory "%" to "%" cannot be', line ->> 'relation', line ->> 'source', line ->> 'target'
          USING ERRCODE = 'invalid_parameter_value', HINT = 'See engram.link().';
      END IF;
      SELECT jsonb_build_object('weight', g.weight) INTO old FROM engram.graph_links g
      WHERE g.workspace_id = ws AND g.memory_id = ids[1] AND g.relation = line ->> 'relation' AND g.node = ids[2]::text;
      IF old -> 'weight' = coalesce(line -> 'weight', '1') THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        INSERT INTO engram.graph_links AS g (workspace_id, memory_id, relation, node, label, target_id, weight, created_at)
        VALUES (ws, ids[1], line ->> 'relation', ids[2]::text, ids[2]::text, ids[2],
                coalesce((line ->> 'weight')::double precision, 1), coalesce((line ->> 'created_at')::timestamptz, now()))
        ON CONFLICT (workspace_id, memory_id, relation, node) DO UPDATE SET weight = EXCLUDED.weight, target_id = EXCLUDED.target_id;
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
      END IF;
    ELSIF kind = 'pair' THEN
      SELECT to_jsonb(h) - 'workspace_id' INTO old FROM engram.hebbian_links h WHERE h.workspace_id = ws AND h.a = ids[1] AND h.b = ids[2];
      SELECT to_jsonb(h) - 'workspace_id' INTO new FROM jsonb_populate_record(NULL::engram.hebbian_links, line) h;
      IF old = new THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        INSERT INTO engram.hebbian_links AS h (workspace_id, a, b, forward, backward, linked_at, count)
        SELECT ws, n.a, n.b, n.forward, n.backward, n.linked_at, n.count FROM jsonb_populate_record(NULL::engram.hebbian_links, line) n
        ON CONFLICT (workspace_id, a, b) DO UPDATE
        SET forward = EXCLUDED.forward, backward = EXCLUDED.backward, linked_at = EXCLUDED.linked_at, count = EXCLUDED.count;
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
      END IF;
    ELSIF kind = 'call' THEN
      IF (line ->> 'at')::timestamptz > clock_timestamp() THEN
        status := 'error';
        error := format('it lies in the future: %s', line ->> 'at');
      ELSIF EXISTS (SELECT FROM engram.access_queue q WHERE q.workspace_id = ws AND q.id = (line ->> 'id')::uuid)
         OR EXISTS (SELECT FROM engram.access_log l WHERE l.workspace_id = ws AND l.memory_id = here[1]
                    AND l.accessed_at = (line ->> 'at')::timestamptz AND l.id = (line ->> 'id')::uuid) THEN
        status := 'unchanged';
      ELSE
        INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, recall_id, memory_ids)
        VALUES (ws, (line ->> 'id')::uuid, (line ->> 'at')::timestamptz, (line ->> 'user_id')::uuid, line ->> 'use',
                (line ->> 'gain')::double precision, (line ->> 'rating')::smallint, (line ->> 'recall_id')::uuid, here);
        status := 'added';
      END IF;
    ELSE
      INSERT INTO engram.recall_credits (workspace_id, recall_id, memory_ids, created_at)
      VALUES (ws, (line ->> 'recall_id')::uuid, here, (line ->> 'created_at')::timestamptz)
      ON CONFLICT DO NOTHING;
      status := CASE WHEN FOUND THEN 'added' ELSE 'unchanged' END;
    END IF;
    IF status = 'added' AND cardinality(here) < cardinality(ids) THEN
      error := format('without %s memories that are not in this workspace', cardinality(ids) - cardinality(here));
    ELSIF status = 'skipped' AND import_links.on_conflict = 'reject' THEN
      status := 'error';
      error := 'there is another one already';
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.import_links(uuid, boolean, text, text, jsonb) IS
'Imports links, pairs, calls that wait and credits. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_messages(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := import_messages.workspace;
  chat    text;
  line    jsonb;
  this    uuid;
  theirs  uuid[];
  known   uuid[];
  held    jsonb;
  longest integer := (SELECT coalesce(w.max_content_chars, d.max_content_chars)
                      FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = import_messages.workspace
                      WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
BEGIN
  FOR position, line IN SELECT t.p, t.l FROM jsonb_to_recordset(import_messages.items) AS t (p integer, l jsonb) ORDER BY t.p LOOP
    error := NULL;
    status := 'added';
    chat := line ->> 'session_id';
    this := (line ->> 'id')::uuid;
    IF chat = '' THEN
      RAISE EXCEPTION 'session_id is empty' USING ERRCODE = 'invalid_parameter_value';
    ELSIF import_messages.kind = 'message' AND char_length(line ->> 'content') > longest
       OR import_messages.kind = 'archive' AND EXISTS (SELECT FROM jsonb_array_elements(line -> 'turns') t WHERE char_length(t ->> 'content') > longest) THEN
      RAISE EXCEPTION 'content has more than % characters', longest USING ERRCODE = 'invalid_parameter_value';
    ELSIF import_messages.kind = 'message' THEN
      SELECT to_jsonb(m) - '{workspace_id,session_id,id,user_id}'::text[] INTO held FROM engram.messages m
      WHERE m.workspace_id = ws AND m.session_id = chat AND m.id = this;
      IF FOUND OR EXISTS (SELECT FROM engram.message_archive a WHERE a.workspace_id = ws AND a.session_id = chat AND this = ANY (a.ids)) THEN
        status := 'unchanged';
        IF held ->> 'content' <> line ->> 'content' THEN
          status := CASE import_messages.on_conflict WHEN 'reject' THEN 'error' WHEN 'skip' THEN 'skipped' ELSE 'replaced' END;
          error := CASE import_messages.on_conflict WHEN 'reject' THEN 'another turn with this id is in the conversation already' END;
        END IF;
      END IF;
      IF status = 'replaced' THEN
        DELETE FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = chat AND m.id = this;
      END IF;
      IF status IN ('added', 'replaced') THEN
        INSERT INTO engram.messages (workspace_id, session_id, created_at, id, user_id, role, speaker, content, metadata)
        SELECT ws, chat, n.created_at, this, n.user_id, n.role, n.speaker, n.content, coalesce(n.metadata, '{}')
        FROM jsonb_populate_record(NULL::engram.messages, line) n;
      END IF;
    ELSE
      theirs := ARRAY(SELECT u::uuid FROM jsonb_array_elements_text(line -> 'ids') WITH ORDINALITY AS x (u, nth) ORDER BY x.nth);
      known := ARRAY(SELECT m.id FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = chat AND m.id = ANY (theirs))
            || ARRAY(SELECT u FROM engram.message_archive a CROSS JOIN LATERAL unnest(a.ids) u
                     WHERE a.workspace_id = ws AND a.session_id = chat AND a.ids && theirs);
      INSERT INTO engram.message_archive (workspace_id, session_id, first_at, id, last_at, turns, ids, messages)
      SELECT ws, chat, min(t.created_at), this, max(t.created_at), count(*), array_agg(t.id ORDER BY t.created_at, t.id),
             jsonb_agg(engram_internal.archived_turn(t.user_id, t.role, t.speaker, t.content, t.metadata, t.created_at) ORDER BY t.created_at, t.id)
      FROM (SELECT DISTINCT ON (x.id) x.* FROM engram_internal.archived_turns(theirs, line -> 'turns') x) t
      WHERE t.id <> ALL (known) HAVING count(*) > 0;
      IF NOT FOUND THEN
        status := 'unchanged';
      ELSIF cardinality(known) > 0 THEN
        error := format('without %s turns that are here already', cardinality(known));
      END IF;
    END IF;
    id := this;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.import_messages(uuid, boolean, text, text, jsonb) IS
'Imports messages and archived ones. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_as_owner(workspace uuid, trusted boolean, on_conflict text, dry_run boolean, lines jsonb)
RETURNS TABLE ("position" integer, kind text, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- Not the triggers that serve the loading of a dump.
SET check_function_bodies = on
-- Statistics know nothing of what an import brings: plans for this workspace, and tables taken for empty, would
-- have all of it read for every look-up.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  step    text;
  writer  text;
  item    jsonb;
  report  jsonb;
  help    text;
  command text;
BEGIN
  IF NOT has_table_privilege('engram.memory_events', 'INSERT') OR NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not write what an import brings', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.import().';
  END IF;
  IF dry_run THEN
    BEGIN
      SELECT jsonb_agg(i) INTO report
      FROM engram_internal.import_as_owner(import_as_owner.workspace, import_as_owner.trusted, import_as_owner.on_conflict, false, import_as_owner.lines) i;
      RAISE SQLSTATE 'EN001';
    EXCEPTION WHEN SQLSTATE 'EN001' THEN
      NULL;
    END;
    RETURN QUERY SELECT r.* FROM jsonb_to_recordset(report) AS r ("position" integer, kind text, id uuid, status text, error text);
    RETURN;
  END IF;
  -- The whole workspace: who stores the same ids waits.
  PERFORM engram_internal.lock_keys(import_as_owner.workspace, ARRAY(SELECT n::text FROM generate_series(1, 65) n));
  -- What others need comes first, in whichever order the lines came.
  FOR step, writer IN SELECT * FROM (VALUES
      ('header', 'settings'), ('settings', 'settings'), ('type_settings', 'settings'), ('model', 'settings'), ('alias', 'settings'),
      ('erasure', 'memories'), ('memory', 'memories'), ('more', 'memories'), ('link', 'links'), ('pair', 'links'),
      ('call', 'links'), ('credit', 'links'), ('message', 'messages'), ('archive', 'messages')) AS v LOOP
    CONTINUE WHEN NOT lines ? step;
    command := format('SELECT i."position", %L, i.id, i.status, i.error FROM engram_internal.import_%s($1, $2, $3, %1$L, $4) i', step, writer);
    BEGIN
      RETURN QUERY EXECUTE command USING import_as_owner.workspace, import_as_owner.trusted, import_as_owner.on_conflict, lines -> step;
    EXCEPTION WHEN OTHERS THEN
      -- What somebody else's transaction brought about, or the server's state, is no fault of a line.
      IF SQLSTATE ~ '^(40|53|55|57|58|XX)' THEN
        RAISE;
      END IF;
      -- One of them is wrong: each by itself, so that the others are not lost.
      FOR item IN SELECT * FROM jsonb_array_elements(lines -> step) LOOP
        BEGIN
          RETURN QUERY EXECUTE command USING import_as_owner.workspace, import_as_owner.trusted, import_as_owner.on_conflict, jsonb_build_array(item);
        EXCEPTION WHEN OTHERS THEN
          IF SQLSTATE ~ '^(40|53|55|57|58|XX)' THEN
            RAISE;
          END IF;
          GET STACKED DIAGNOSTICS help = PG_EXCEPTION_HINT;
          position := (item ->> 'p')::integer;
          kind := step;
          id := NULL;
          status := 'error';
          error := SQLERRM || coalesce('. ' || nullif(help, ''), '');
          RETURN NEXT;
        END;
      END LOOP;
    END;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.import_as_owner(uuid, boolean, text, boolean, jsonb) IS
'Writes what import() has checked. lines: by kind, arrays of {"p": position, "l": line}. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.import(
  data jsonb,
  format text DEFAULT NULL,
  on_conflict text DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE ("position" integer, kind text, id uuid, status text, error text)
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'import_wrapper';
COMMENT ON FUNCTION engram.import(jsonb, text, text, boolean, uuid) IS
'Stores what export() wrote, or what another memory system did, and reports each line: added, replaced, unchanged, skipped, erased (its id was erased here) or error. A bad line does not lose the others, and to repeat an import changes nothing.

data: one line of export(), or an array of them in any order; memories before or together with what hangs on them. At most 100,000 lines a call. format: engram, engramai (tables of its SQLite file as arrays of rows: memories, access_log, hebbian_links, graph_links, entities, memory_entities, memory_embeddings), mem0 (results, memories, history) or mcp (the graph of the MCP memory server, also as the text of its file); by default found by shape. on_conflict, for what is here already and is another: skip (default), replace (its history stays) or reject (an error of that line). dry_run: only report. workspace: only for roles that bypass row security; nothing in the data decides it.

Times, versions, states, uses and history come as they were. For callers whom row security binds everybody named in the data becomes the caller. Vectors need their model to be registered here; a role that bypasses row security registers it with the import. Others who store in the workspace wait until the transaction ends.';

REVOKE EXECUTE ON FUNCTION engram.get(uuid, uuid, timestamptz) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.list(jsonb, integer, integer, text, text[], uuid, timestamptz) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.erase(uuid[], jsonb, boolean, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.history(uuid, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.revert(uuid, integer, integer, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.changes(text, integer, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.create_partitions(timestamptz) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.drop_partitions(interval, text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.detach_partitions(interval, text, text, text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.set_retention(text, interval, integer, text[], double precision, text, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.drop_retention(text, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.apply_retention(boolean, timestamptz, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.purge(interval, boolean, timestamptz, uuid) FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE engram.maintain(text[], jsonb) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.schedule_maintenance(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.unschedule_maintenance() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.health() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.enable_realtime(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.disable_realtime(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.append_messages(jsonb, text, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.messages(text, integer, text, boolean, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.conversations(integer, text, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.archive_messages(interval, integer, boolean, integer, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.restore_messages(text, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.erase_messages(text, uuid[], boolean, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.should_extract(uuid, text, integer, integer, integer, double precision, double precision, integer, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.export(uuid, text[], integer, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.import(jsonb, text, text, boolean, uuid) FROM PUBLIC;
-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
