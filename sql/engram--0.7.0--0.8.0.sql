\echo Use "ALTER EXTENSION engram UPDATE TO '0.8.0'" to load this file. \quit
CREATE FUNCTION engram_internal.dead_entries(head bytea, parts bytea[], ids uuid[]) RETURNS integer[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dead_entries_wrapper';
COMMENT ON FUNCTION engram_internal.dead_entries(bytea, bytea[], uuid[]) IS
'Which entries of a segment of vectors are dead and of these memories, by number, ascending; NULL if they cannot be taken out of it without making it anew. parts: its ids.';

CREATE FUNCTION engram_internal.blank_part(block bytea, head bytea, entries integer[]) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'blank_part_wrapper';
COMMENT ON FUNCTION engram_internal.blank_part(bytea, bytea, integer[]) IS
'A part of a segment of vectors without the ids and vectors of these entries, which dead_entries() gave; NULL of one that holds none of them.';

CREATE FUNCTION engram_internal.cells_number(guide bytea, head bytea) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cells_number_wrapper';
COMMENT ON FUNCTION engram_internal.cells_number(bytea, bytea) IS
'The number by which cells name a segment, -1 if its vectors are in none, NULL if that cannot be read.';

CREATE FUNCTION engram_internal.blank_cell(cell bytea, number integer, entries integer[])
RETURNS TABLE (block bytea, vectors integer)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'blank_cell_wrapper';
COMMENT ON FUNCTION engram_internal.blank_cell(bytea, integer, integer[]) IS
'A cell with zeros in place of the vectors of these entries of a segment, and how many vectors are left; no row of one that holds none of them, NULL and 0 of one that cannot be read.';

CREATE FUNCTION engram_internal.arrange_vectors(workspace uuid, model text, by_angle boolean) RETURNS bigint
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'arrange_vectors_wrapper';
COMMENT ON FUNCTION engram_internal.arrange_vectors(uuid, text, boolean) IS
'Writes the cells of the segments of a model of a workspace, which has none. Returns how many vectors are in them; 0 where cells would not help, because vectors have thousands of dimensions, or are of different lengths and not compared by angle. For arrange(), which holds the lock; only the owner of the tables may.';

CREATE FUNCTION engram_internal.knows_cells(workspace uuid, model text) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'knows_cells_wrapper';
COMMENT ON FUNCTION engram_internal.knows_cells(uuid, text) IS
'Whether the cells of a model of a workspace are there, and most of them where their guide says, as far as a sample tells. Only the owner of the tables may ask.';

CREATE FUNCTION engram_internal.arrangement(workspace uuid, model text, OUT enough bigint, OUT sealed bigint, OUT arranged bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  -- Stores of 0.7 have no such setting, and no room for cells.
  SELECT coalesce(to_jsonb(s) ->> 'approximate_from', to_jsonb(d) ->> 'approximate_from') INTO enough
  FROM engram.settings d LEFT JOIN engram.settings s ON s.workspace_id = arrangement.workspace
  WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';
  -- Smaller ones are joined with others before long.
  SELECT coalesce(sum(b.entries), 0) INTO sealed FROM engram.search_blocks b
  WHERE b.workspace_id = workspace AND b.model = arrangement.model AND b.level = 3 AND b.entries > 2048;
  SELECT b.entries INTO arranged FROM engram.search_blocks b
  WHERE b.workspace_id = workspace AND b.model = arrangement.model AND b.level = 5 AND b.cluster = 0
    AND b.block_id = '01000000-0000-0000-0000-000000000000';
END
$$;
COMMENT ON FUNCTION engram_internal.arrangement(uuid, text) IS
'From how many vectors on those of a workspace are arranged in cells (setting approximate_from), how many are in segments that are large enough, and how many of these are in cells, NULL where there are none. As the caller.';

CREATE FUNCTION engram_internal.arrange(workspace uuid, model text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
SET enable_seqscan = off
AS $$
DECLARE
  a        record;
  distance text;
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  -- As in pack().
  IF model = '' OR current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT engram_internal.try_lock_work(workspace, 'pack') THEN
    RETURN 0;
  END IF;
  SELECT * INTO a FROM engram_internal.arrangement(workspace, arrange.model);
  -- Anew when a fifth is not in cells, which is looked through whole meanwhile, or after VACUUM FULL.
  IF a.enough IS NULL OR a.sealed < a.enough AND a.arranged IS NULL
     OR a.sealed >= a.enough AND a.arranged >= a.sealed * 0.8 AND engram_internal.knows_cells(workspace, arrange.model) THEN
    RETURN 0;
  END IF;
  -- Whoever truncates the vectors, or drops the model, waits, and then takes away what is written here.
  LOCK TABLE engram.embeddings IN ACCESS SHARE MODE;
  SELECT m.distance INTO distance FROM engram.embedding_models m WHERE m.name = arrange.model FOR KEY SHARE;
  DELETE FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = arrange.model AND b.level = 5;
  IF a.sealed < a.enough OR distance IS NULL THEN
    RETURN 0;
  END IF;
  BEGIN
    RETURN engram_internal.arrange_vectors(workspace, arrange.model, distance = 'cosine');
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- A segment that cannot be read: reindex() mends it.
    RETURN 0;
  END;
END
$$;
COMMENT ON FUNCTION engram_internal.arrange(uuid, text) IS
'Arranges the vectors of a workspace in cells of those that are alike, if there are enough (setting approximate_from) and a fifth of them is in none, so that a search need not look through all. Returns how many are in cells; 0 when there was nothing to do. Runs with the rights of the caller, who must own the tables; does nothing while another transaction packs.';

CREATE FUNCTION engram_internal.arrangeable()
RETURNS TABLE (workspace_id uuid, model text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT b.workspace_id, b.model::text FROM engram.search_blocks b
  WHERE b.level = 3 AND b.model <> '' AND b.entries > 2048
  GROUP BY b.workspace_id, b.model
  HAVING sum(b.entries) >= (SELECT min((to_jsonb(s) ->> 'approximate_from')::bigint) FROM engram.settings s)
  UNION
  SELECT b.workspace_id, b.model::text FROM engram.search_blocks b
  WHERE b.level = 5 AND b.cluster = 0 AND b.block_id = '01000000-0000-0000-0000-000000000000'
  ORDER BY 1, 2;
END
$$;
COMMENT ON FUNCTION engram_internal.arrangeable() IS
'Workspaces and models whose vectors may have to be arranged, or are. As the caller.';

CREATE FUNCTION engram_internal.blank(workspace uuid, model text, cluster integer, head bytea, entries integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  number integer;
  fewest integer;
BEGIN
  UPDATE engram.search_blocks b SET block = engram_internal.blank_part(b.block, blank.head, blank.entries)
  WHERE b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 4 AND b.cluster = blank.cluster
    AND engram_internal.blank_part(b.block, blank.head, blank.entries) IS NOT NULL;
  UPDATE engram.search_blocks b SET block = blank.head
  WHERE b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 3 AND b.cluster = blank.cluster;
  SELECT engram_internal.cells_number(b.block, blank.head) INTO number FROM engram.search_blocks b
  WHERE b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 5 AND b.cluster = 0
    AND b.block_id = '01000000-0000-0000-0000-000000000000';
  IF number >= 0 THEN
    WITH blanked AS (
      SELECT b.block_id, c.block, c.vectors
      FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.blank_cell(b.block, number, blank.entries) c
      WHERE b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 5 AND b.cluster = 0
        AND b.block_id >= '03000000-0000-0000-0000-000000000000'
    ), changed AS (
      UPDATE engram.search_blocks b SET block = c.block FROM blanked c
      WHERE c.block IS NOT NULL AND b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 5
        AND b.cluster = 0 AND b.block_id = c.block_id
    )
    SELECT min(c.vectors) INTO fewest FROM blanked c;
  END IF;
  -- The direction of a cell is the mean of its vectors, and is to tell of none of them; and what cannot be read may hold
  -- anything.
  IF number IS NULL OR fewest < 8 THEN
    DELETE FROM engram.search_blocks b WHERE b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 5;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.blank(uuid, text, integer, bytea, integer[]) IS
'Overwrites these entries of a segment of vectors, whose new head is given, and what cells hold of them. For bury(), as its caller.';

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
  gone   integer[];
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
    gone := CASE WHEN model <> '' AND buried.dead * 4 <= h.entries AND buried.held && erased
                 THEN engram_internal.dead_entries(buried.head, parts, erased) END;
    IF gone IS NOT NULL THEN
      PERFORM engram_internal.blank(workspace, model, h.cluster, buried.head, gone);
      n := n + 1;
    ELSIF buried.dead * 4 > h.entries OR buried.held && erased THEN
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
      -- Cells hold a copy, and all that they hold is in segments that stay.
      IF h.entries > 2048 THEN
        DELETE FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level = 5;
      END IF;
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
CREATE OR REPLACE FUNCTION engram_internal.held_entries(workspace uuid, model text)
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
        WHERE b.workspace_id = held_entries.workspace AND b.model = held_entries.model AND b.level IN (3, 4)
        GROUP BY b.cluster) s CROSS JOIN LATERAL engram_internal.segment_entries(s.blocks) e;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.refuse_memory(id uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF id IS NULL THEN
    RAISE EXCEPTION 'id is NULL' USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the id that engram.add() returned.';
  END IF;
  RAISE EXCEPTION 'memory "%" is not in this workspace', id
    USING ERRCODE = 'PT404',
          HINT = 'It was forgotten (engram.restore() brings it back), erased, or never stored here. engram.list() shows what is there; include => ARRAY[''forgotten''] adds forgotten ones.';
END
$$;
COMMENT ON FUNCTION engram.add(text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], uuid, timestamptz, text, uuid) IS
'Stores one memory and returns its id; it can be found at once.

content: what to remember, at most max_content_chars characters (settings). type: factual (default), episodic, relational, emotional, procedural, opinion or causal. importance: 0 to 1, by default the type''s. embedding: of the default model. entities: names that the memory is about; a search that names one finds it. id: chosen by the client, makes a retry harmless. on_duplicate, when the workspace holds the same content up to case and white space (or, with near_duplicate_threshold set, a vector as close as that): merge (default: the old memory counts one use more, takes the higher importance, new tags, metadata and entities, and its id is returned; who says it again, when and in which session is not kept), skip, reject, allow. workspace: only for roles that bypass row security.';

CREATE FUNCTION engram_internal.fold_before(workspace uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid;
BEGIN
  -- The row first that is changed afterwards: who folds holds rows that others wait for, and must not wait himself.
  INSERT INTO engram.settings (workspace_id)
  SELECT fold_before.workspace WHERE fold_before.workspace <> '00000000-0000-0000-0000-000000000000' ON CONFLICT DO NOTHING;
  PERFORM FROM engram.settings s WHERE s.workspace_id = fold_before.workspace FOR UPDATE;
  FOR ws IN SELECT DISTINCT q.workspace_id FROM engram.access_queue q
            WHERE q.workspace_id = fold_before.workspace OR fold_before.workspace = '00000000-0000-0000-0000-000000000000' ORDER BY 1 LOOP
    BEGIN
      PERFORM engram_internal.fold_queue(ws, 2147483647);
    EXCEPTION WHEN OTHERS THEN
      -- What cannot be folded must not keep settings from being mended; maintain() reports it.
      PERFORM engram_internal.failed(ws, SQLSTATE, SQLERRM);
    END;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.fold_before(uuid) IS
'Folds what waits in a workspace, or in all if it is that of the defaults, before its settings change; what somebody else is folding is left to him. As the caller, who must own the tables.';

COMMENT ON FUNCTION engram.retention(uuid, timestamptz, uuid) IS
'How well a memory is kept at a moment: one row, or none when it is not there.

retrievability: FSRS-6, the probability 0 to 1 that it still holds. stability: days until that falls to 0.9. difficulty: 1 to 10. working_strength, core_strength: r1 and r2 of the two-store model; both below 0 where uses counted against it; strength: 1 - e^-(r1 + r2), what is below 0 taken for 0. retention: min(1, r1 + r2) × e^(-t/stability), t days without use: what forgetting asks. Days under a pin do not count.';

CREATE OR REPLACE FUNCTION engram.supersede(
  old uuid,
  new uuid DEFAULT NULL,
  content text DEFAULT NULL,
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
  expires_at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(supersede.workspace, true);
  newer uuid := supersede.new;
  hash  bytea;
  was   record;
BEGIN
  IF num_nonnulls(supersede.new, supersede.content) <> 1 THEN
    RAISE EXCEPTION 'supersede() was given %', CASE WHEN supersede.new IS NULL THEN 'neither new nor content' ELSE 'both new and content' END
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Pass new => the id of the memory that takes its place, or content => what holds now.';
  END IF;
  IF supersede.content IS NULL THEN
    IF num_nonnulls(supersede.type, supersede.importance, supersede.embedding, supersede.tags, supersede.metadata,
         supersede.occurred_at, supersede.agent_id, supersede.session_id, supersede.speaker, supersede.role,
         supersede.source, supersede.entities, supersede.expires_at) > 0 THEN
      RAISE EXCEPTION 'supersede() was given values for a memory that is stored already'
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'They go with content. Change the memory with engram.update() instead.';
    END IF;
  ELSE
    PERFORM engram_internal.lock_keys(ws, ARRAY['superseded']);
    SELECT * INTO was FROM engram.memories m WHERE m.workspace_id = ws AND m.id = supersede.old AND m.deleted_at IS NULL;
    IF NOT FOUND THEN
      PERFORM engram_internal.refuse_memory(supersede.old);
    END IF;
    hash := sha256(convert_to(engram_internal.normalize_content(supersede.content), 'UTF8'));
    IF was.superseded_by IS NOT NULL THEN
      -- A retry finds what it stored.
      SELECT m.id INTO newer FROM engram.memories m
      WHERE m.workspace_id = ws AND m.id = was.superseded_by AND m.deleted_at IS NULL AND m.content_hash = hash;
      IF NOT FOUND THEN
        PERFORM engram_internal.refuse_superseded(supersede.old, was.superseded_by);
      END IF;
      RETURN newer;
    ELSIF was.content_hash = hash THEN
      RAISE EXCEPTION 'the new content is what memory "%" says already', supersede.old
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Say what holds now, or change what else there is to change with engram.update().';
    END IF;
    -- A correction is close to what it corrects: its vector must not look like a repetition, so it comes later.
    newer := (SELECT s.id FROM engram_internal.store(ws, supersede.content, coalesce(supersede.type, was.type),
      coalesce(supersede.importance, greatest(was.importance, 0.5)), NULL, coalesce(supersede.tags, was.tags),
      coalesce(supersede.metadata, was.metadata), supersede.occurred_at, coalesce(supersede.agent_id, was.agent_id),
      coalesce(supersede.session_id, was.session_id), coalesce(supersede.speaker, was.speaker), coalesce(supersede.role, was.role),
      supersede.source,
      coalesce(supersede.entities, ARRAY(SELECT g.label FROM engram.graph_links g
        WHERE g.workspace_id = ws AND g.memory_id = supersede.old AND g.relation = 'mentions' ORDER BY g.node)),
      supersede.expires_at, 'merge', NULL) s);
    IF supersede.embedding IS NOT NULL THEN
      PERFORM engram.set_embedding(newer, supersede.embedding, NULL, NULL, ws);
    END IF;
    IF was.pinned THEN
      UPDATE engram.memories m SET pinned = true WHERE m.workspace_id = ws AND m.id = newer AND NOT m.pinned;
    END IF;
  END IF;
  PERFORM engram_internal.set_successor(ws, supersede.old, newer);
  RETURN newer;
END
$$;
COMMENT ON FUNCTION engram.spread(uuid, uuid[], double precision[], double precision, integer, double precision, integer, timestamptz) IS
'Spreads activation from memories along links by use and links of link(): a random walk that starts at the seeds, goes on with probability alpha, and back to the seeds where there is no link (personalised PageRank, Haveliwala 2002). Seeds are among the rows; most mass first.

workspace: NULL for your own. seeds: up to 1000; those that you cannot see, and that search would not find, are left out. weights: one for each, from 0, by default 1. alpha: 0 to less than 1, by default 0.5. max_hops: 0 to 1000, by default 3. eps: a memory on which less of the walk is left is not gone on from, by default 0.001. max_edges: most links that are followed, up to 10,000, by default 2000. at: the moment, by default now.
mass: the share of the walk that ends there, in sum at most 1. lift: ln(1 + mass / the share of its links in those of all memories reached), in nats: how much more the seeds lead there than chance would.';

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
  -- Nothing tells whether cells hold what they should.
  DELETE FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = reindex.model AND b.level = 5;
  PERFORM engram_internal.arrange(workspace, reindex.model);
  RETURN wrong;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.consolidate_as_owner(
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
             AND greatest(s.last_accessed_at, m.updated_at) <= $2 - coalesce(w.forget_after_days, d.forget_after_days) * interval '1 day'
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
COMMENT ON FUNCTION engram.consolidate(uuid, timestamptz, boolean, integer) IS
'Does what time has brought about and reports it in one row: folds uses that wait, shows in memories.layer which memories have moved, forgets by policy, deletes links that faded a month ago. How often it runs changes nothing of what search, recall and every other reader see; but links that are beyond the link_limit strongest of both their ends are deleted too, and if they are used again, or a call from before comes in late, a link that was deleted begins anew.

workspace: by default the caller''s own; for a role that bypasses row security and is nobody, all of them. at: the moment that is judged by, by default now. dry_run: only report what this call would do. batch_size: move and forget at most so many memories in this call; done tells whether that was all. skipped: memories that somebody else was changing; they come next time. See also the procedure consolidate_in_batches().';

COMMENT ON FUNCTION engram.configure(jsonb, uuid) IS
'Changes settings of a workspace and returns those in force.

changes: an object of names and values, for example {"decay": 0.4, "link_half_life_days": 60}; null goes back to the default. Users set how their memories live and how they are ranked; max_content_chars, candidates, approximate_from, fold_threshold, text_config, partition_interval, partitions_ahead, access_log_days, memory_events_days, messages_days, archive_messages_days and size_limit_bytes take a role that bypasses row security, which may also name the all-zero workspace, that of the defaults; those from partition_interval on are of all workspaces together and are set there alone. A memory lives by them from its latest use on.';

CREATE FUNCTION engram_internal.check_at(at timestamptz) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT isfinite(at) THEN
    RAISE EXCEPTION 'at is %', at
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a moment in time, or leave it out.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_at(timestamptz) IS 'Raises the error for a moment that is infinite.';

CREATE OR REPLACE FUNCTION engram.apply_retention(dry_run boolean DEFAULT NULL, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (policy text, action text, memories bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(apply_retention.workspace, true);
BEGIN
  PERFORM engram_internal.check_at(apply_retention.at);
  RETURN QUERY SELECT r.policy, r.action, r.memories
               FROM engram_internal.apply_retention(ws, apply_retention.at, apply_retention.dry_run, NULL) r;
END
$$;
CREATE OR REPLACE FUNCTION engram.purge(
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
  PERFORM engram_internal.check_at(purge.at);
  RETURN QUERY SELECT p.id, p.reason, p.gone_at
               FROM engram_internal.purge(ws, coalesce(purge.older_than, interval '30 days'), purge.at, purge.dry_run, NULL) p;
END
$$;
CREATE FUNCTION engram_internal.workspaces_after(workspace uuid) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
    WITH RECURSIVE w AS (
      (SELECT m.workspace_id FROM engram.memories m WHERE m.workspace_id > workspace ORDER BY m.workspace_id LIMIT 1)
      UNION ALL
      SELECT (SELECT m.workspace_id FROM engram.memories m WHERE m.workspace_id > w.workspace_id ORDER BY m.workspace_id LIMIT 1)
      FROM w WHERE w.workspace_id IS NOT NULL)
    SELECT w.workspace_id FROM w WHERE w.workspace_id IS NOT NULL LIMIT 100;
END
$$;
COMMENT ON FUNCTION engram_internal.workspaces_after(uuid) IS 'The next hundred workspaces that have memories, in order. As the caller.';

CREATE FUNCTION engram_internal.counted(counts jsonb, what text, more bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN counts || jsonb_build_object(what, coalesce((counts ->> what)::bigint, 0) + more);
COMMENT ON FUNCTION engram_internal.counted(jsonb, text, bigint) IS 'Counts with more of one kind.';

CREATE FUNCTION engram_internal.failed(workspace uuid, state text, message text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Of resources that are short, all others would be short too.
  IF state ~ '^(53|58)' THEN
    RAISE EXCEPTION '%', message USING ERRCODE = state, HINT = 'See the log of the server.';
  END IF;
  RETURN jsonb_build_object('error', format('workspace %s: %s', workspace, message));
END
$$;
COMMENT ON FUNCTION engram_internal.failed(uuid, text, text) IS
'What maintain() reports of a workspace that cannot be cared for, so that the others are; an error where that is nothing of its own.';

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
  arranged bigint := 0;
  before text;
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
                         FROM unnest(engram_internal.phases()) p WHERE p <> 'arrange'),
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
        last := ws;
        done := false;
        BEGIN
          n := n + engram_internal.fold_queue(ws, 10000);
        EXCEPTION WHEN OTHERS THEN
          counts := engram_internal.failed(ws, SQLSTATE, SQLERRM);
        END;
      END LOOP;
      counts := counts || jsonb_build_object('folded', n);
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
        FOR ws IN SELECT w FROM engram_internal.workspaces_after(last::uuid) w LOOP
          last := ws;
          done := false;
          BEGIN
            SELECT * INTO c FROM engram_internal.consolidate_as_owner(ws, NULL, false, NULL);
            SELECT counts || coalesce(jsonb_object_agg(e.key, coalesce((counts ->> e.key)::bigint, 0) + (e.value #>> '{}')::bigint), '{}') INTO counts
            FROM jsonb_each(to_jsonb(c) - 'done') e;
            n := n + c.promoted + c.demoted + c.archived + c.forgotten;
          EXCEPTION WHEN OTHERS THEN
            counts := counts || engram_internal.failed(ws, SQLSTATE, SQLERRM);
          END;
          EXIT WHEN n > batch * 20;
        END LOOP;
      END IF;
    WHEN 'retention' THEN
      IF last IS NULL THEN
        BEGIN
          FOR c IN SELECT r.action, r.memories FROM engram_internal.apply_retention(NULL, NULL, false, batch) r LOOP
            counts := engram_internal.counted(counts, CASE c.action WHEN 'erase' THEN 'erased' ELSE 'forgotten' END, c.memories);
            done := done AND c.memories < batch;
          END LOOP;
        EXCEPTION WHEN OTHERS THEN
          -- As above: each by itself.
          counts := '{}';
          done := false;
          last := '00000000-0000-0000-0000-000000000000';
        END;
      ELSE
        FOR ws IN SELECT DISTINCT p.workspace_id FROM engram.retention_policies p WHERE p.workspace_id > last::uuid ORDER BY 1 LIMIT 100 LOOP
          before := last;
          last := ws;
          done := false;
          BEGIN
            FOR c IN SELECT r.action, r.memories FROM engram_internal.apply_retention(ws, NULL, false, batch) r LOOP
              counts := engram_internal.counted(counts, CASE c.action WHEN 'erase' THEN 'erased' ELSE 'forgotten' END, c.memories);
              n := n + c.memories;
              IF c.memories >= batch THEN
                -- There is more.
                last := before;
              END IF;
            END LOOP;
          EXCEPTION WHEN OTHERS THEN
            counts := counts || engram_internal.failed(ws, SQLSTATE, SQLERRM);
          END;
          EXIT WHEN n >= batch;
        END LOOP;
      END IF;
    WHEN 'purge' THEN
      counts := '{"forgotten": 0, "expired": 0}';
      IF last IS NULL THEN
        BEGIN
          SELECT count(*) FILTER (WHERE p.reason = 'forgotten') AS forgotten, count(*) FILTER (WHERE p.reason = 'expired') AS expired INTO c
          FROM engram_internal.purge(NULL, NULL, NULL, false, batch) p;
          done := c.forgotten + c.expired < batch;
          counts := to_jsonb(c);
        EXCEPTION WHEN OTHERS THEN
          done := false;
          last := '00000000-0000-0000-0000-000000000000';
        END;
      ELSE
        FOR ws IN SELECT w FROM engram_internal.workspaces_after(last::uuid) w LOOP
          before := last;
          last := ws;
          done := false;
          BEGIN
            FOR c IN SELECT p.reason, count(*) AS memories FROM engram_internal.purge(ws, NULL, NULL, false, batch) p GROUP BY p.reason LOOP
              counts := engram_internal.counted(counts, c.reason, c.memories);
              n := n + c.memories;
            END LOOP;
            IF n >= batch THEN
              last := before;
            END IF;
          EXCEPTION WHEN OTHERS THEN
            counts := counts || engram_internal.failed(ws, SQLSTATE, SQLERRM);
          END;
          EXIT WHEN n >= batch;
        END LOOP;
      END IF;
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
    WHEN 'arrange' THEN
      -- One a transaction, last of all: it takes seconds where there are hundreds of thousands of vectors.
      FOR c IN SELECT x.workspace_id, x.model, x.workspace_id || ' ' || x.model AS name FROM engram_internal.arrangeable() x LOOP
        CONTINUE WHEN c.name <= last COLLATE "C";
        arranged := engram_internal.arrange(c.workspace_id, c.model);
        last := c.name;
        done := arranged = 0;
        EXIT WHEN NOT done;
      END LOOP;
      counts := jsonb_build_object('arranged', arranged);
    ELSE
      RAISE EXCEPTION 'unknown phase "%"', phase
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Known: ' || array_to_string(engram_internal.phases(), ', ') || '.';
  END CASE;
  RETURN counts || jsonb_build_object('done', done) || CASE WHEN done OR last IS NULL THEN '{}' ELSE jsonb_build_object('after', last) END;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.phases() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY['partitions', 'fold', 'consolidate', 'retention', 'purge', 'messages', 'pack', 'drop_partitions', 'arrange']
$$;
COMMENT ON PROCEDURE engram.maintain(text[], jsonb) IS
'Does all that time asks for, of all workspaces, and reports what each phase did: partitions (made ahead), fold (uses that wait), consolidate (layers moved, faded links pruned, memories forgotten by policy), retention (policies applied), purge (what was forgotten or expired for long erased, by purge_after_days), messages (old turns of quiet conversations archived, by archive_messages_days; the last 50 stay), pack (what search scans packed; unreadable: of how many workspaces and models it cannot be, which keeps what was erased until reindex()), drop_partitions (logs older than their settings keep), arrange (vectors of large workspaces put together with those that are alike; approximate_from in engram.settings).

Every batch is a transaction of its own, so nobody waits long (while the vectors of one workspace are arranged, a second for 100,000, what it adds is not packed); cancelled or crashed, it goes on where it was when called again. While another session does a batch, a phase is reported as busy and left to it; a phase that fails reports its error and does not keep the others from running. On a standby it does nothing. For roles that bypass row security; outside a transaction block (else 25001). phases: only these. See also schedule_maintenance().';

CREATE OR REPLACE FUNCTION engram_internal.import_settings(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
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
        WHERE k IN ('max_content_chars', 'candidates', 'approximate_from', 'fold_threshold', 'text_config');
        error := 'left out, because an administrator sets them: ' || kept;
        new := new - '{max_content_chars,candidates,approximate_from,fold_threshold,text_config}'::text[];
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

-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
