\echo Use "ALTER EXTENSION engram UPDATE TO '0.5.0'" to load this file. \quit
CREATE FUNCTION engram_internal.segment_rows(head bytea, rows bytea, states bytea)
RETURNS TABLE (block_id uuid, block bytea)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 4 AS 'MODULE_PATHNAME', 'segment_rows_wrapper';
COMMENT ON FUNCTION engram_internal.segment_rows(bytea, bytea, bytea) IS
'The parts of a segment that tell where the rows of its entries, and of their states, are: places in the order of the ids, 6 bytes each as tidsend() gives them, 0 for nowhere.';

CREATE FUNCTION engram_internal.segment_head(head bytea, parts uuid[], places bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'segment_head_wrapper';
COMMENT ON FUNCTION engram_internal.segment_head(bytea, uuid[], bytea) IS
'The head of a segment that tells where its parts are, given by their keys in order.';

CREATE FUNCTION engram_internal.root_place(relation text, place bytea) RETURNS bytea
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'root_place_wrapper';
COMMENT ON FUNCTION engram_internal.root_place(text, bytea) IS
'Where the index says that a row is, whose version is at a place of engram.<relation> as tidsend() gives it; NULL when none is there. For the owner.';

CREATE FUNCTION engram_internal.segment_place(head bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'segment_place_wrapper';
COMMENT ON FUNCTION engram_internal.segment_place(bytea) IS
'Where the first part of a segment is, as its head says; NULL when it does not.';

CREATE FUNCTION engram_internal.row_places(workspace uuid, model text, cluster integer, low integer, high integer)
RETURNS TABLE (nth integer, place bytea, state bytea)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_variable
DECLARE
  -- Ids in a part: 496 of 16 bytes.
  in_part CONSTANT integer := 496;
  relation text := CASE WHEN model = '' THEN 'memories' ELSE 'embeddings' END;
BEGIN
  RETURN QUERY
  SELECT i.nth, engram_internal.root_place(relation, CASE WHEN model = ''
           THEN (SELECT tidsend(m.ctid) FROM engram.memories m
                 WHERE m.workspace_id = workspace AND m.id = i.id OFFSET 0)
           ELSE (SELECT tidsend(v.ctid) FROM engram.embeddings v
                 WHERE v.workspace_id = workspace AND v.memory_id = i.id AND v.model = row_places.model OFFSET 0) END),
         CASE WHEN model = ''
           THEN engram_internal.root_place('memory_state', (SELECT tidsend(s.ctid) FROM engram.memory_state s
                WHERE s.workspace_id = workspace AND s.memory_id = i.id OFFSET 0)) END
  FROM (SELECT g AS nth, encode(substring(p.block FROM 9 + 16 * (g % in_part) FOR 16), 'hex')::uuid AS id
        FROM generate_series(low, high) g
        CROSS JOIN LATERAL (SELECT b.block FROM engram.search_blocks b
          WHERE b.workspace_id = workspace AND b.model = row_places.model AND b.level = 4 AND b.cluster = row_places.cluster
            AND b.block_id = ('01' || lpad(to_hex(g / in_part), 4, '0') || repeat('0', 26))::uuid) p
        OFFSET 0) i;
END
$$;
COMMENT ON FUNCTION engram_internal.row_places(uuid, text, integer, integer, integer) IS
'Where the rows of entries low to high of a segment, from 0, and of their states, are now; NULL for nowhere.';

CREATE FUNCTION engram_internal.is_placed(workspace uuid, model text, cluster integer, head bytea, entries integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  -- Places in a part: 1322 of 6 bytes.
  in_part CONSTANT integer := 1322;
  entry   integer;
BEGIN
  IF engram_internal.segment_place(head) IS DISTINCT FROM (
       SELECT tidsend(p.ctid) FROM engram.search_blocks p
       WHERE p.workspace_id = is_placed.workspace AND p.model = is_placed.model AND p.level = 4 AND p.cluster = is_placed.cluster
       ORDER BY p.block_id LIMIT 1) THEN
    RETURN false;
  END IF;
  -- A few tell whether rows have moved, as they do all together.
  FOR i IN 1..4 LOOP
    entry := floor(random() * entries);
    IF EXISTS (
      SELECT FROM engram_internal.row_places(workspace, model, cluster, entry, entry) r, engram.search_blocks p
      WHERE p.workspace_id = is_placed.workspace AND p.model = is_placed.model AND p.level = 4 AND p.cluster = is_placed.cluster
        AND p.block_id IN (('0b' || lpad(to_hex(entry / in_part), 4, '0') || repeat('0', 26))::uuid,
                           ('0c' || lpad(to_hex(entry / in_part), 4, '0') || repeat('0', 26))::uuid)
        AND CASE WHEN p.block_id < '0c000000-0000-0000-0000-000000000000' THEN r.place ELSE r.state END
            <> substring(p.block FROM 9 + 6 * (entry % in_part) FOR 6)) THEN
      RETURN false;
    END IF;
  END LOOP;
  RETURN true;
END
$$;
COMMENT ON FUNCTION engram_internal.is_placed(uuid, text, integer, bytea, integer) IS
'Whether a segment knows where its parts and the rows of its entries are, as far as a sample tells.';

CREATE FUNCTION engram_internal.place(workspace uuid, model text) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  nowhere CONSTANT bytea := '\x000000000000';
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
  -- What only saves asking an index: a place that is not right any more is noticed by who goes there.
  FOR h IN SELECT b.cluster, b.entries, b.block FROM engram.search_blocks b
           WHERE b.workspace_id = workspace AND b.model = place.model AND b.level = 3
             AND NOT engram_internal.is_placed(workspace, place.model, b.cluster, b.block, b.entries) LOOP
    DELETE FROM engram.search_blocks b
    WHERE b.workspace_id = workspace AND b.model = place.model AND b.level = 4 AND b.cluster = h.cluster
      AND b.block_id >= '0b000000-0000-0000-0000-000000000000';
    SELECT string_agg(coalesce(r.place, nowhere), '' ORDER BY r.nth),
           CASE WHEN place.model = '' THEN string_agg(coalesce(r.state, nowhere), '' ORDER BY r.nth) ELSE '' END
    INTO places, states
    FROM engram_internal.row_places(workspace, place.model, h.cluster, 0, h.entries - 1) r;
    INSERT INTO engram.search_blocks (workspace_id, model, level, cluster, block_id, entries, block)
    SELECT workspace, place.model, 4, h.cluster, r.block_id, 0, r.block
    FROM engram_internal.segment_rows(h.block, places, states) r;
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
COMMENT ON FUNCTION engram_internal.place(uuid, text) IS
'Notes in the segments of a workspace where their parts and the rows of their entries are, unless that is known. Returns in how many. Runs with the rights of the caller, who must own the tables; does nothing while another transaction packs.';

CREATE OR REPLACE FUNCTION engram_internal.bury(workspace uuid, model text, ids uuid[], versions bigint[]) RETURNS integer
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
  IF n > 0 THEN
    PERFORM engram_internal.place(workspace, model);
  END IF;
  RETURN n;
END
$$;

CREATE OR REPLACE FUNCTION engram_internal.seal(workspace uuid, model text, at_least integer, most integer) RETURNS integer
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
    PERFORM engram_internal.place(workspace, model);
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RETURN 0;
  END;
  RETURN n;
END
$$;

CREATE OR REPLACE FUNCTION engram.list(
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
  since     numeric;
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
    IF list.cursor ~ '^-?[0-9]{1,19}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
      -- Microseconds since 1970, which need not fit into a bigint.
      since := split_part(list.cursor, '_', 1)::numeric;
    END IF;
    -- 4714-11-24 BC and the end of the year 294276: what a timestamptz can hold.
    IF since IS NULL OR since NOT BETWEEN -210866803200000000 AND 9224318015999999999 THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.list() returned', list.cursor
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass cursor_next of the last row of the page before, unchanged.';
    END IF;
    -- In days and what is left of one: either is exact as a double.
    last_at := (timestamp '1970-01-01' + div(since, 86400000000)::integer * interval '1 day'
                + mod(since, 86400000000)::double precision * interval '1 microsecond') AT TIME ZONE 'UTC';
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
         (trunc(extract(epoch FROM date_trunc('second', m.created_at))) * 1000000
          + mod(extract(microseconds FROM m.created_at), 1000000)::integer)::text || '_' || m.id
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
       (trunc(extract(epoch FROM date_trunc('second', m.created_at))) * 1000000
        + mod(extract(microseconds FROM m.created_at), 1000000)::integer)::text || '_' || m.id
    FROM page m
    LEFT JOIN engram_internal.present($2, now(), (SELECT array_agg(p.id) FROM page p)) s ON s.memory_id = m.id
    ORDER BY m.created_at DESC, m.id DESC$q$
    USING params, ws, last_at, last_id, wanted, skipped, now();
END
$$;

CREATE FUNCTION engram.activations(ids uuid[] DEFAULT NULL, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (id uuid, activation double precision)
LANGUAGE c STABLE ROWS 200 COST 1000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'activations_wrapper';
COMMENT ON FUNCTION engram.activations(uuid[], timestamptz, uuid) IS
'Base-level activation of many memories, as activation() gives that of one: for a ranking of your own, or to see what is needed most. A row for each different id that is there, in no order; for what search() finds by itself, see there.

ids: which ones; NULL for all of the workspace. Forgotten ones count.';
COMMENT ON FUNCTION engram.reindex(uuid) IS
'Rebuilds what search scans, for one workspace or (NULL) all, and returns how many entries were wrong; what erased memories left there goes too, and is not wrong. For the owner of the tables: after a change of PostgreSQL''s major version (stemmers change) or of text_config in engram.settings, and after rows were loaded with triggers disabled.

Others cannot store memories until its transaction ends.';

CREATE OR REPLACE FUNCTION engram_internal.reindex(workspace uuid, model text) RETURNS bigint
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
      EXIT WHEN engram_internal.seal(workspace, reindex.model, 1024, 4096) = 0;
    END LOOP;
  END IF;
  PERFORM engram_internal.place(workspace, reindex.model);
  RETURN wrong;
END
$$;

CREATE OR REPLACE FUNCTION engram_internal.maintain_task(task text, args jsonb) RETURNS jsonb
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
  unreadable bigint := 0;
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
          IF EXISTS (SELECT FROM engram.search_blocks b WHERE b.workspace_id = c.workspace_id AND b.model = c.model AND b.level = 0) THEN
            -- Somebody else packs, or something cannot be read.
            BEGIN
              PERFORM FROM engram_internal.held_entries(c.workspace_id, c.model);
            EXCEPTION WHEN object_not_in_prerequisite_state THEN
              unreadable := unreadable + 1;
            END;
          END IF;
        END IF;
        n := n + engram_internal.pack(c.workspace_id, c.model, false, 2);
        LOOP
          sealed := engram_internal.seal(c.workspace_id, c.model, 1024, 4096);
          EXIT WHEN sealed = 0;
          n := n + sealed;
        END LOOP;
        -- After VACUUM FULL, and in a dump that was loaded, rows are elsewhere.
        PERFORM engram_internal.place(c.workspace_id, c.model);
        last := c.workspace_id;
        done := false;
      END LOOP;
      counts := jsonb_build_object('blocks', n) || CASE WHEN unreadable > 0 THEN jsonb_build_object('unreadable', unreadable) ELSE '{}' END;
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
COMMENT ON PROCEDURE engram.maintain(text[], jsonb) IS
'Does all that time asks for, of all workspaces, and reports what each phase did: partitions (made ahead), fold (uses that wait), consolidate (layers moved, faded links pruned, memories forgotten by policy), retention (policies applied), purge (what was forgotten or expired for long erased, by purge_after_days), messages (old turns of quiet conversations archived, by archive_messages_days; the last 50 stay), pack (what search scans packed; unreadable: of how many workspaces and models it cannot be, which keeps what was erased until reindex()), drop_partitions (logs older than their settings keep).

Every batch is a transaction of its own, so nobody waits long; cancelled or crashed, it goes on where it was when called again. While another session does a batch, a phase is reported as busy and left to it; a phase that fails reports its error and does not keep the others from running. On a standby it does nothing. For roles that bypass row security; outside a transaction block (else 25001). phases: only these. See also schedule_maintenance().';

CREATE OR REPLACE FUNCTION engram_internal.alerts()
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

  IF (care.report #>> '{phases,pack,unreadable}')::numeric > 0 THEN
    RETURN QUERY SELECT 'warning', 'unreadable', 'search_blocks',
      format('maintain() could not read what search scans of %s workspaces and models: what was erased there stays in it', care.report #>> '{phases,pack,unreadable}'),
      'As the owner of the tables: SELECT engram.reindex(); then CALL engram.maintain();';
  END IF;
  -- The id of a block begins with the milliseconds since 1970.
  FOR t IN SELECT b.workspace_id, min(b.block_id::text) AS first FROM engram.search_blocks b
           WHERE b.level = 0 AND b.block_id < rpad(lpad(to_hex((extract(epoch FROM now() - interval '1 day') * 1000)::bigint), 12, '0'), 32, '0')::uuid
           GROUP BY b.workspace_id ORDER BY 2 LIMIT 3 LOOP
    RETURN QUERY SELECT 'warning', 'erased_waiting', t.workspace_id::text,
      format('what was changed or erased in workspace %s more than a day ago waits to be taken out of what search scans', t.workspace_id),
      format('Search leaves it out already. CALL engram.maintain(); or, as the owner of the tables: SELECT engram.reindex(%L);', t.workspace_id);
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

REVOKE EXECUTE ON FUNCTION engram.activations(uuid[], timestamptz, uuid) FROM PUBLIC;
-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
