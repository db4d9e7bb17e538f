\echo Use "ALTER EXTENSION engram UPDATE TO '0.6.0'" to load this file. \quit
DO $$
DECLARE
  f text;
  p regprocedure;
BEGIN
  FOREACH f IN ARRAY ARRAY[
    'engram_internal.moved(uuid, timestamptz, integer)',
    'engram_internal.consolidate_as_owner(uuid, timestamptz, boolean, integer)'
  ] LOOP
    BEGIN
      EXECUTE 'DROP FUNCTION ' || f;
    EXCEPTION WHEN dependent_objects_still_exist THEN
      -- Somebody's view needs it: it stays as it was, out of the way of its successor.
      p := f::regprocedure;
      EXECUTE format('ALTER FUNCTION %s RENAME TO %I', p, (SELECT proname FROM pg_proc WHERE oid = p) || '_before_0_6');
      EXECUTE format('ALTER FUNCTION %s SET SCHEMA engram_internal', p);
    END;
  END LOOP;
END
$$;
CREATE FUNCTION engram_internal.lexemes(terms tsvector) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'lexemes_wrapper';
COMMENT ON FUNCTION engram_internal.lexemes(tsvector) IS 'What tsvectorsend(tsvector) gives a client whose encoding is that of the database: the encoding of the client does not count.';
COMMENT ON FUNCTION engram_internal.document_entry(uuid, bigint, text, text, timestamptz, text, text, bytea, bytea) IS
'A block of one document. terms and extra are of engram_internal.lexemes(); only terms count for its length. state: plain, replaces (older entries of the memory no longer count), gone (and neither does this).';

CREATE FUNCTION engram_internal.segment_values(workspace uuid, head bytea, ids bytea[]) RETURNS TABLE (block_id uuid, block bytea)
LANGUAGE c STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'segment_values_wrapper';
COMMENT ON FUNCTION engram_internal.segment_values(uuid, bytea, bytea[]) IS
'Parts that hold what filters ask of the memories of a segment, whose parts of ids are given. For who owns the tables.';

CREATE OR REPLACE FUNCTION engram_internal.document(id uuid, version bigint, state text, session_id text, at timestamptz,
  config text, content text, speaker text, occurred_at timestamptz, summary text) RETURNS bytea
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  indexed text;
  extra   text;
BEGIN
  IF state <> 'gone' THEN
    indexed := engram_internal.indexed_text(content, speaker, occurred_at, summary);
    extra := engram_internal.extra_text(indexed);
  END IF;
  RETURN engram_internal.document_entry(id, version, state, session_id, at,
    CASE WHEN state <> 'gone' THEN content END, speaker,
    engram_internal.lexemes(engram_internal.to_terms(config, indexed)),
    CASE WHEN extra IS NOT NULL THEN engram_internal.lexemes(engram_internal.to_terms(config, extra)) END);
END
$$;

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
      PERFORM engram_internal.seal(workspace, model, CASE model WHEN '' THEN 256 ELSE 1024 END, 4096);
    END IF;
  ELSIF random() * 100 < added THEN
    PERFORM engram_internal.pack(workspace, model, true, 50);
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION engram_internal.place(workspace uuid, model text) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  nowhere CONSTANT bytea := '\x000000000000';
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
             AND (NOT engram_internal.is_placed(workspace, place.model, b.cluster, b.block, b.entries)
                  OR valued AND NOT EXISTS (
                    SELECT FROM engram.search_blocks v
                    WHERE v.workspace_id = place.workspace AND v.model = '' AND v.level = 4 AND v.cluster = b.cluster
                      AND v.block_id >= '0d000000-0000-0000-0000-000000000000'))
           ORDER BY b.cluster DESC LIMIT 2 LOOP
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
COMMENT ON FUNCTION engram_internal.place(uuid, text) IS
'Notes in the newest two segments of a workspace of which it is not known where their parts and the rows of their entries are, or what filters ask of these. Returns in how many, 0 in the end. Runs with the rights of the caller, who must own the tables; does nothing while another transaction packs.';

CREATE OR REPLACE FUNCTION engram_internal.seal(workspace uuid, model text, at_least integer, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  full_blocks uuid[];
  h           record;
  tags        integer[] := '{}';
  small       integer[] := '{}';
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
  -- The small ones join once they fill a segment, and the smallest before that where there are many: most entries move
  -- three times.
  all_of_them := n;
  FOR h IN SELECT b.cluster, b.entries FROM engram.search_blocks b
           WHERE b.workspace_id = workspace AND b.model = seal.model AND b.level = 3 ORDER BY b.cluster DESC LOOP
    next_tag := greatest(next_tag, h.cluster + 1);
    CONTINUE WHEN h.entries > most / 2 OR all_of_them + h.entries > most;
    tags := tags || h.cluster;
    all_of_them := all_of_them + h.entries;
    IF h.entries < most / 4 THEN
      small := small || h.cluster;
    END IF;
  END LOOP;
  IF all_of_them < most / 4 * 3 THEN
    tags := CASE WHEN cardinality(small) >= 4 THEN small ELSE '{}' END;
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

CREATE OR REPLACE FUNCTION engram.pending_embeddings(
  model text DEFAULT NULL,
  match_count integer DEFAULT NULL,
  lease_seconds integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (workspace_id uuid, id uuid, text text, model_name text, dims integer, version integer)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid;
  every  boolean;
  wanted integer := coalesce(pending_embeddings.match_count, 100);
  lease  integer := coalesce(pending_embeddings.lease_seconds, 300);
  m      record;
  moment timestamptz;
  n      integer;
  -- Memories that are looked at together, and how long nobody looks at all of them again.
  batch  CONSTANT integer := 10000;
  pause  CONSTANT interval := '10 minutes';
  swept   jsonb := '{}';
  low     uuid := '00000000-0000-0000-0000-000000000000';
  high    uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  last_ws uuid := '00000000-0000-0000-0000-000000000000';
  last_id uuid := '00000000-0000-0000-0000-000000000000';
  part    record;
  done    boolean := false;
BEGIN
  PERFORM engram_internal.require_store();
  every := pending_embeddings.workspace IS NULL AND engram_internal.trusted();
  IF NOT every THEN
    ws := engram_internal.resolve_workspace(pending_embeddings.workspace, true);
    low := ws;
    high := ws;
    last_ws := ws;
  END IF;
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000.';
  END IF;
  IF lease NOT BETWEEN 1 AND 86400 THEN
    RAISE EXCEPTION 'lease_seconds is %', lease
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 1 to 86400 seconds: how long this batch may take to embed.';
  END IF;
  SELECT * INTO m FROM engram.embedding_models e
  WHERE CASE WHEN pending_embeddings.model IS NULL THEN e.is_default ELSE e.name = pending_embeddings.model END;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_model(pending_embeddings.model);
  END IF;
  moment := clock_timestamp();
  -- What is known to wait: new memories, new texts, leases that ran out. Whoever changes a memory locks it before its
  -- claim, and so does this.
  RETURN QUERY
  WITH waiting AS MATERIALIZED (
    SELECT c.workspace_id, c.memory_id FROM engram.embedding_claims c
    CROSS JOIN LATERAL (
      SELECT 1 FROM engram.memories x
      WHERE x.workspace_id = c.workspace_id AND x.id = c.memory_id AND x.deleted_at IS NULL
      FOR NO KEY UPDATE SKIP LOCKED) there
    WHERE c.model = m.name AND c.claimed_until <= moment AND c.workspace_id BETWEEN low AND high
      AND (SELECT e.memory_id FROM engram.embeddings e
           WHERE e.workspace_id = c.workspace_id AND e.memory_id = c.memory_id AND e.model = m.name OFFSET 0) IS NULL
    LIMIT wanted
    FOR UPDATE OF c SKIP LOCKED
  ), claimed AS (
    UPDATE engram.embedding_claims c SET claimed_until = moment + make_interval(secs => lease)
    FROM waiting w WHERE c.workspace_id = w.workspace_id AND c.memory_id = w.memory_id AND (c.model = m.name) IS TRUE
    RETURNING c.workspace_id, c.memory_id
  )
  SELECT x.workspace_id, x.id, engram_internal.indexed_text(x.content, x.speaker, x.occurred_at, NULL),
         m.name, m.dims, x.version
  FROM claimed k CROSS JOIN LATERAL (
    SELECT y.* FROM engram.memories y WHERE y.workspace_id = k.workspace_id AND y.id = k.memory_id OFFSET 0) x;
  GET DIAGNOSTICS n = ROW_COUNT;
  wanted := wanted - n;

  -- What nobody noted, as when a model is new: all memories in the order of their key. Who asks for all workspaces goes
  -- on where this session stopped. Of the default model, of which nearly all is noted, it begins anew after a while only.
  IF every THEN
    BEGIN
      swept := coalesce(nullif(current_setting('engram_internal.swept', true), ''), '{}')::jsonb;
      IF (swept #>> ARRAY[m.name, 'made'])::timestamptz = m.created_at THEN
        IF m.is_default AND moment < (swept #>> ARRAY[m.name, 'until'])::timestamptz THEN
          RETURN;
        END IF;
        last_ws := coalesce((swept #>> ARRAY[m.name, 'workspace_id'])::uuid, last_ws);
        last_id := coalesce((swept #>> ARRAY[m.name, 'id'])::uuid, last_id);
      END IF;
    EXCEPTION WHEN data_exception THEN
      -- Somebody else's.
      swept := '{}';
    END;
  END IF;
  WHILE wanted > 0 LOOP
    WITH part AS MATERIALIZED (
      SELECT x.workspace_id, x.id, x.deleted_at FROM engram.memories x
      WHERE (x.workspace_id, x.id) > (last_ws, last_id) AND x.workspace_id <= high
      ORDER BY x.workspace_id, x.id LIMIT batch
    ), missing AS MATERIALIZED (
      SELECT p.workspace_id, p.id FROM part p
      WHERE p.deleted_at IS NULL
        AND (SELECT e.memory_id FROM engram.embeddings e
             WHERE e.workspace_id = p.workspace_id AND e.memory_id = p.id AND e.model = m.name OFFSET 0) IS NULL
        AND (SELECT c.memory_id FROM engram.embedding_claims c
             WHERE c.workspace_id = p.workspace_id AND c.memory_id = p.id AND c.model = m.name OFFSET 0) IS NULL
      ORDER BY p.workspace_id, p.id LIMIT wanted
    )
    SELECT count(*) AS looked, array_agg(p.workspace_id ORDER BY p.workspace_id, p.id) AS workspaces,
           array_agg(p.id ORDER BY p.workspace_id, p.id) AS ids,
           ARRAY(SELECT x.workspace_id FROM missing x ORDER BY x.workspace_id, x.id) AS missing_workspaces,
           ARRAY(SELECT x.id FROM missing x ORDER BY x.workspace_id, x.id) AS missing_ids
    INTO part FROM part p;
    n := cardinality(part.missing_ids);
    IF n = wanted THEN
      last_ws := part.missing_workspaces[n];
      last_id := part.missing_ids[n];
    ELSIF part.looked > 0 THEN
      last_ws := part.workspaces[part.looked];
      last_id := part.ids[part.looked];
    END IF;
    done := n < wanted AND part.looked < batch;
    RETURN QUERY
    WITH waiting AS MATERIALIZED (
      SELECT x.workspace_id, x.id FROM unnest(part.missing_workspaces, part.missing_ids) AS u (workspace_id, id)
      CROSS JOIN LATERAL (
        SELECT y.workspace_id, y.id FROM engram.memories y
        WHERE y.workspace_id = u.workspace_id AND y.id = u.id AND y.deleted_at IS NULL
        FOR NO KEY UPDATE OF y SKIP LOCKED) x
      WHERE (SELECT e.memory_id FROM engram.embeddings e
             WHERE e.workspace_id = x.workspace_id AND e.memory_id = x.id AND e.model = m.name OFFSET 0) IS NULL
    ), claimed AS (
      INSERT INTO engram.embedding_claims AS c (workspace_id, memory_id, model, claimed_until)
      SELECT w.workspace_id, w.id, m.name, moment + make_interval(secs => lease)
      FROM waiting w ORDER BY w.workspace_id, w.id
      ON CONFLICT ON CONSTRAINT embedding_claims_pkey DO UPDATE SET claimed_until = excluded.claimed_until
        WHERE c.claimed_until <= moment
      RETURNING c.workspace_id, c.memory_id
    )
    SELECT x.workspace_id, x.id, engram_internal.indexed_text(x.content, x.speaker, x.occurred_at, NULL),
           m.name, m.dims, x.version
    FROM claimed k CROSS JOIN LATERAL (
      SELECT y.* FROM engram.memories y WHERE y.workspace_id = k.workspace_id AND y.id = k.memory_id OFFSET 0) x;
    GET DIAGNOSTICS n = ROW_COUNT;
    wanted := wanted - n;
    EXIT WHEN done;
  END LOOP;
  IF every THEN
    swept := swept || jsonb_build_object(m.name, jsonb_build_object('made', m.created_at)
      || CASE WHEN done THEN jsonb_build_object('until', moment + pause)
              ELSE jsonb_build_object('workspace_id', last_ws, 'id', last_id) END);
    PERFORM set_config('engram_internal.swept', swept::text, false);
  END IF;
END
$$;
COMMENT ON FUNCTION engram.pending_embeddings(text, integer, integer, uuid) IS
'Hands out memories that have no vector of the model yet, and leases them to the caller: nobody else gets them for lease_seconds (default 300) unless set_embedding() comes first.

text is what to embed: the content with its speaker and date. What waits for the default model since it was stored or changed, and leases that ran out, come first and at once; what nobody noted, as when a model is new, comes in the order of ids, and is looked for by a session that serves all workspaces every ten minutes at most. A role that bypasses row security gets those of all workspaces and passes workspace_id on to set_embedding(); others get their own.';

CREATE OR REPLACE FUNCTION engram_internal.pending(workspace uuid, ids uuid[])
RETURNS TABLE (memory_id uuid, calls uuid[], times timestamptz[], gains double precision[], ratings smallint[])
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  IF cardinality(pending.ids) > 20 THEN
    PERFORM set_config('plan_cache_mode', 'force_custom_plan', true);
  END IF;
  RETURN QUERY
  SELECT u.id, array_agg(q.id), array_agg(q.accessed_at), array_agg(q.gain), array_agg(q.rating)
  FROM engram.access_queue q CROSS JOIN LATERAL (SELECT DISTINCT x.id FROM unnest(q.memory_ids) AS x (id)) u
  -- What a fold would take, whatever moment is asked about.
  WHERE q.workspace_id = pending.workspace AND q.accessed_at <= clock_timestamp() AND (q.gain <> 0 OR q.rating IS NOT NULL)
    AND (cardinality(pending.ids) > 20 OR q.memory_ids && pending.ids) AND u.id = ANY (pending.ids)
  GROUP BY u.id;
END
$$;
COMMENT ON FUNCTION engram_internal.link_after(double precision, double precision, timestamptz, integer, timestamptz[], double precision[], double precision, double precision) IS
'A link after some more calls; gains below 0 are of calls that used b first. A link whose mass has fallen below prune begins anew. late: a call was older than the link, or began it anew at the same moment.';

CREATE OR REPLACE FUNCTION engram_internal.present(workspace uuid, at timestamptz, ids uuid[], settle boolean DEFAULT false)
RETURNS TABLE (
  memory_id uuid, layer text, heat bytea, working_strength double precision, core_strength double precision,
  stability double precision, difficulty double precision, access_count bigint, last_accessed_at timestamptz,
  retention double precision, idle_days double precision, base jsonb, decay double precision)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- Planned for each call, which always seems to pay, planning takes longer than all the rest for a few ids.
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  params double precision[] := engram_internal.dynamics(present.workspace);
BEGIN
  IF cardinality(present.ids) > 20 THEN
    PERFORM set_config('plan_cache_mode', 'force_custom_plan', true);
  END IF;
  RETURN QUERY
  SELECT m.id, s.layer, s.heat, s.working_strength, s.core_strength, s.stability, s.difficulty,
         s.access_count, s.last_accessed_at, s.retention, s.idle_days, s.base, params[1]
  FROM unnest(present.ids) AS u (id)
  CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = present.workspace AND x.id = u.id OFFSET 0) m
  LEFT JOIN LATERAL (SELECT x.* FROM engram.memory_state x WHERE x.workspace_id = present.workspace AND x.memory_id = u.id OFFSET 0) o ON true
  LEFT JOIN engram_internal.pending(present.workspace, present.ids) p ON p.memory_id = u.id
  CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
    m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, o.access_count,
    o.last_accessed_at, o.heat, o.working_strength, o.core_strength, o.layer, o.stability, o.difficulty,
    o.base, p.calls, p.times, p.gains, p.ratings, NULL, present.at, present.settle) f
  CROSS JOIN LATERAL (
    SELECT f.* WHERE NOT f.late
    UNION ALL
    SELECT z.* FROM (
      SELECT array_agg(l.id) AS calls, array_agg(l.accessed_at) AS times, array_agg(l.gain) AS gains, array_agg(l.rating) AS ratings
      FROM engram.access_log l
      WHERE l.workspace_id = present.workspace AND l.memory_id = u.id AND (l.gain <> 0 OR l.rating IS NOT NULL)
      HAVING f.late) h
    CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
      m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, o.access_count,
      o.last_accessed_at, o.heat, o.working_strength, o.core_strength, o.layer, o.stability, o.difficulty,
      o.base, h.calls || p.calls, h.times || p.times, h.gains || p.gains, h.ratings || p.ratings,
      coalesce(cardinality(h.calls), 0), present.at, present.settle) z) s;
END
$$;
COMMENT ON FUNCTION engram_internal.fold_calls(uuid, integer, double precision[], integer, double precision, double precision) IS
'The fast half of fold_queue(), which holds the workspace: writes rows without statements. No row where that cannot be done: when the caller does not own the tables, or these have triggers, columns, partitions or indexes of other kinds than setup() makes. late_links: ends of links that a call is older than, or that it began anew at their own moment.';

CREATE FUNCTION engram_internal.levels(ids uuid[], at timestamptz, workspace uuid)
RETURNS TABLE (id uuid, level double precision)
LANGUAGE c STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'activations_wrapper';
COMMENT ON FUNCTION engram_internal.levels(uuid[], timestamptz, uuid) IS 'What activations() gives; for activation().';

CREATE OR REPLACE FUNCTION engram.activation(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS double precision
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN (SELECT l.level FROM engram_internal.levels(ARRAY[activation.id], activation.at, activation.workspace) l);
END
$$;

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
  RETURN wrong;
END
$$;

-- Caring for memories: layers as time has moved them, links that have faded, forgetting by policy; and the
-- settings that all of it follows.
CREATE FUNCTION engram_internal.moves(workspace uuid, at timestamptz, at_most integer, in_turns boolean, anew boolean)
RETURNS TABLE (workspaces uuid[], ids uuid[], olds text[], news text[], complete boolean)
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'moves_wrapper';
COMMENT ON FUNCTION engram_internal.moves(uuid, timestamptz, integer, boolean, boolean) IS
'Memories that are in another layer at a moment than is shown: of a workspace, or of all, at most so many; complete tells whether that was all. in_turns: for transactions that follow one another in this session, from the first (anew) to the one that is complete: where many rows of the same pages move, or more than fit, each takes only some of a page. Who calls it must own the tables.';

CREATE FUNCTION engram_internal.consolidate_as_owner(
  workspace uuid, at timestamptz, dry_run boolean, batch_size integer, in_turns boolean DEFAULT false, anew boolean DEFAULT true)
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
  SELECT v.* INTO moves FROM engram_internal.moves(consolidate_as_owner.workspace, moment, most,
    consolidate_as_owner.in_turns, consolidate_as_owner.anew) v;
  done := moves.complete;
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
    IF consolidate_as_owner.in_turns THEN
      -- The last turn comes back to them.
      skipped := 0;
    END IF;
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
                (SELECT count(*) FROM doomed) < $4 OR $5 AND NOT EXISTS (SELECT FROM u)$q$
      INTO forgotten, done USING consolidate_as_owner.workspace, moment, dry, most, consolidate_as_owner.in_turns;
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
  ), faded AS MATERIALIZED (
    SELECT h.workspace_id, h.a, h.b
    FROM engram.hebbian_links h JOIN rules f ON h.workspace_id = f.workspace_id
    -- Not before a call that comes to light a month late could have kept it; until then nobody sees it.
    WHERE h.linked_at < moment - interval '30 days'
      AND engram.link_decay(h.forward + h.backward, greatest(date_part('epoch', moment - interval '30 days' - h.linked_at), 0), f.half_life) < f.prune
    -- Who erases a memory deletes its links too, and waits for this transaction elsewhere.
    FOR UPDATE OF h SKIP LOCKED
  ), old AS (
    DELETE FROM engram.hebbian_links h USING faded f
    WHERE h.workspace_id = f.workspace_id AND h.a = f.a AND h.b = f.b
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
    ), held AS MATERIALIZED (
      SELECT k.a, k.b FROM weak k CROSS JOIN LATERAL (
        SELECT 1 FROM engram.hebbian_links x WHERE x.workspace_id = ws AND x.a = k.a AND x.b = k.b
        FOR UPDATE SKIP LOCKED) there
    ), old AS (
      DELETE FROM engram.hebbian_links h USING held k WHERE h.workspace_id = ws AND h.a = k.a AND h.b = k.b RETURNING 1
    )
    SELECT links_pruned + count(*) INTO links_pruned FROM old;
  END LOOP;
  DELETE FROM engram.recall_credits c USING unnest(free) AS f (workspace_id)
  WHERE c.workspace_id = f.workspace_id AND c.created_at < now() - interval '90 days';
  UPDATE engram.maintenance g SET consolidated_at = now() WHERE g.workspace_id = ANY (free);
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION engram_internal.consolidate_as_owner(uuid, timestamptz, boolean, integer, boolean, boolean) IS
'What consolidate() does; without a workspace, for all. With dry_run NULL memories stay as they are and all else is done: half of a dry run. in_turns, anew: as moves() has it. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.consolidate_batch(workspace uuid, at timestamptz, batch_size integer, anew boolean)
RETURNS TABLE (
  folded bigint, promoted bigint, demoted bigint, archived bigint, forgotten bigint, links_pruned bigint,
  skipped bigint, done boolean)
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'consolidate_batch_wrapper';
COMMENT ON FUNCTION engram_internal.consolidate_batch(uuid, timestamptz, integer, boolean) IS
'A batch of consolidate_in_batches(), as moves() has it: consolidate() for a workspace that the caller may write.';

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
    done := NULL;
    LOOP
      SELECT c.done INTO done
      FROM engram_internal.consolidate_batch(ws, consolidate_in_batches.at, consolidate_in_batches.batch_size, done IS NULL) AS c;
      COMMIT;
      EXIT WHEN done;
    END LOOP;
  END LOOP;
END
$$;
COMMENT ON PROCEDURE engram.consolidate_in_batches(integer, timestamptz) IS
'consolidate() for every workspace that the caller may care for, with a COMMIT after each batch, so that nobody waits long for it. After a crash, call it again: what was done stays done.

batch_size: memories that one transaction moves at most; where much moves, only a few of each page of the table, so that new versions of rows stay there. What somebody else holds comes next time. Call it outside a transaction block.';

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
      IF last IS NULL OR last = 'turns' THEN
        -- One look at everything is the cheapest way to know; where much moves, the next batch goes on with what it found.
        BEGIN
          SELECT * INTO c FROM engram_internal.consolidate_as_owner(NULL, NULL, false, batch * 20, true, last IS NULL);
          counts := to_jsonb(c) - 'done';
          done := c.done;
          last := 'turns';
        EXCEPTION WHEN OTHERS THEN
          -- What one workspace holds must not keep the others from being cared for: each by itself.
          done := false;
          last := '00000000-0000-0000-0000-000000000000';
        END;
      ELSE
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
      -- What still waits stays.
      DELETE FROM engram.embedding_claims w
      WHERE NOT EXISTS (SELECT FROM engram.embedding_models m WHERE m.name = w.model)
        OR w.claimed_until < now() AND (
          (SELECT e.memory_id FROM engram.embeddings e
           WHERE e.workspace_id = w.workspace_id AND e.memory_id = w.memory_id AND e.model = w.model OFFSET 0) IS NOT NULL
          OR (SELECT m.deleted_at FROM engram.memories m
              WHERE m.workspace_id = w.workspace_id AND m.id = w.memory_id OFFSET 0) IS NOT NULL);
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
        WHERE b.level <= 3 AND b.workspace_id IN (
          -- A few full blocks may be enough for a segment. Where there are segments alone, a look now and then tells
          -- whether rows are elsewhere than they say.
          SELECT x.workspace_id FROM engram.search_blocks x
          WHERE x.level <= 3 AND (last IS NULL OR x.workspace_id > last::uuid) GROUP BY x.workspace_id
          HAVING bool_or(x.level <= 1) OR count(*) FILTER (WHERE x.level = 2) >= 8
            OR random() * 20 < 1
          ORDER BY x.workspace_id LIMIT 100)
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
          -- Fewer than what is sealed while memories are added: nobody waits for it.
          sealed := engram_internal.seal(c.workspace_id, c.model, 256, 4096);
          EXIT WHEN sealed = 0;
          n := n + sealed;
        END LOOP;
        -- After VACUUM FULL, and in a dump that was loaded, rows are elsewhere.
        FOR i IN 1 .. 1000 LOOP
          EXIT WHEN engram_internal.place(c.workspace_id, c.model) = 0;
        END LOOP;
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
-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
