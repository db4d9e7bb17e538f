\echo Use "ALTER EXTENSION engram UPDATE TO '0.12.0'" to load this file. \quit
COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur and -word must not, but in a sentence (a question mark, or five words beside them) both are words like others; the first and the last 32 different words, 64 phrases and 64 exclusions count. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words, and vectors count whose cosine or inner product with it is above 0, by l2 all. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged, by default now or as_of; later uses count too, as activation() has it, unless as_of is given. as_of: search what was recorded at that moment and is still known: contents, states and filters of then, uses until then; links between memories add nothing, and vectors count where the text is the same today. What was erased since is gone from the past too. diversity: 0 to 1, by default 0: takes that much times its likeness (cosine of the vectors, else words in common) to the most similar memory before it off a score, so that a result repeats itself less. Of memories that say the same in the same words, but for articles, emphasis and punctuation, and have vectors as alike as duplicate_similarity (settings), only the best is returned, and explain names the others under repeats. Nothing that matches gives no rows.';

CREATE FUNCTION engram_internal.forget_faded(workspace uuid, at timestamptz, dry_run boolean, at_most integer, in_turns boolean)
RETURNS TABLE (forgotten bigint, done boolean)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  here text := CASE WHEN forget_faded.workspace IS NULL THEN '' ELSE ' AND m.workspace_id = $1 AND s.workspace_id = $1' END;
BEGIN
  PERFORM engram_internal.require_maintainer();
  forgotten := 0; done := true;
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
      INTO forgotten, done USING forget_faded.workspace, forget_faded.at, dry_run, at_most, in_turns;
  END IF;
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION engram_internal.forget_faded(uuid, timestamptz, boolean, integer, boolean) IS
'Forgets what the settings call faded, of one workspace or of all: how many, and whether those were all. in_turns: memories in other hands count as done. With the rights of the caller.';

CREATE FUNCTION engram_internal.prune_links(workspace uuid, at timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  pruned bigint;
  free   uuid[];
  ws     uuid;
  n      integer;
  young  integer;
BEGIN
  PERFORM engram_internal.require_maintainer();
  -- Who folds writes links, so a workspace that is being folded is left alone.
  IF prune_links.workspace IS NOT NULL THEN
    INSERT INTO engram.maintenance (workspace_id) VALUES (prune_links.workspace) ON CONFLICT DO NOTHING;
  END IF;
  free := ARRAY(SELECT g.workspace_id FROM engram.maintenance g
                WHERE prune_links.workspace IS NULL OR g.workspace_id = prune_links.workspace
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
    WHERE h.linked_at < prune_links.at - interval '30 days'
      AND engram_internal.faded(h.forward + h.backward, greatest(date_part('epoch', prune_links.at - interval '30 days' - h.linked_at), 0), f.half_life) < f.prune
    -- Who erases a memory deletes its links too, and waits for this transaction elsewhere.
    FOR UPDATE OF h SKIP LOCKED
  ), old AS (
    DELETE FROM engram.hebbian_links h USING faded f
    WHERE h.workspace_id = f.workspace_id AND h.a = f.a AND h.b = f.b
    RETURNING 1)
  SELECT count(*) INTO pruned FROM old;
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
    SELECT pruned + count(*) INTO pruned FROM old;
  END LOOP;
  DELETE FROM engram.recall_credits c USING unnest(free) AS f (workspace_id)
  WHERE c.workspace_id = f.workspace_id AND c.created_at < now() - interval '90 days';
  UPDATE engram.maintenance g SET consolidated_at = now() WHERE g.workspace_id = ANY (free);
  RETURN pruned;
END
$$;
COMMENT ON FUNCTION engram_internal.prune_links(uuid, timestamptz) IS
'Deletes links that have faded or are beyond the strongest of both their ends, and old credits, of one workspace or of all, which are then consolidated: how many links. With the rights of the caller.';

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
  ws     uuid;
  last   uuid := '00000000-0000-0000-0000-000000000000';
  help   text;
  n      integer;
  moves  record;
  c      record;
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

  IF consolidate_as_owner.workspace IS NULL AND NOT consolidate_as_owner.in_turns THEN
    -- One look at everything is the cheapest. What one workspace holds must not keep the others from being cared for:
    -- if it fails, each by itself.
    BEGIN
      RETURN QUERY SELECT o.* FROM engram_internal.consolidate_as_owner(NULL, moment, consolidate_as_owner.dry_run, most, NULL) o;
      RETURN;
    EXCEPTION WHEN OTHERS THEN
      IF NOT engram_internal.left_out(NULL, SQLSTATE, SQLERRM, NULL) THEN
        RAISE;
      END IF;
    END;
    <<everybody>>
    LOOP
      n := 0;
      FOR ws IN SELECT w FROM engram_internal.workspaces_after(last) w LOOP
        last := ws;
        n := n + 1;
        IF promoted + demoted + archived + forgotten >= most THEN
          done := false;
          EXIT everybody;
        END IF;
        BEGIN
          SELECT * INTO c FROM engram_internal.consolidate_as_owner(
            ws, moment, consolidate_as_owner.dry_run, (most - promoted - demoted - archived - forgotten)::integer) o;
          folded := folded + c.folded; promoted := promoted + c.promoted; demoted := demoted + c.demoted;
          archived := archived + c.archived; forgotten := forgotten + c.forgotten;
          links_pruned := links_pruned + c.links_pruned; skipped := skipped + c.skipped; done := done AND c.done;
        EXCEPTION WHEN OTHERS THEN
          GET STACKED DIAGNOSTICS help = PG_EXCEPTION_HINT;
          IF NOT engram_internal.left_out(ws, SQLSTATE, SQLERRM, help) THEN
            RAISE;
          END IF;
        END;
      END LOOP;
      EXIT WHEN n = 0;
    END LOOP;
    RETURN NEXT;
    RETURN;
  END IF;

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
    coalesce(consolidate_as_owner.in_turns, false), consolidate_as_owner.anew) v;
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

  -- Where somebody has asked for it.
  SELECT f.forgotten, f.done INTO forgotten, done
  FROM engram_internal.forget_faded(consolidate_as_owner.workspace, moment, dry, most, coalesce(consolidate_as_owner.in_turns, false)) f;
  links_pruned := engram_internal.prune_links(consolidate_as_owner.workspace, moment);
  RETURN NEXT;
END
$$;
CREATE FUNCTION engram_internal.require_maintainer() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not maintain the store', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'CALL engram.maintain(); as a role that bypasses row security.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.require_maintainer() IS 'Raises the error for a caller who does not own the tables: what maintain() does, it does as their owner.';

CREATE FUNCTION engram_internal.maintain_result(counts jsonb, done boolean, after text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN counts || jsonb_build_object('done', done) || CASE WHEN done OR after IS NULL THEN '{}' ELSE jsonb_build_object('after', after) END;
COMMENT ON FUNCTION engram_internal.maintain_result(jsonb, boolean, text) IS 'What a batch of a phase reports: counts, whether the phase is done, and otherwise where to go on.';

CREATE FUNCTION engram_internal.maintain_finish(report jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  c record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  -- What others were busy with they report themselves, and a run of some phases says nothing of the others.
  SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') AS phases,
         coalesce(jsonb_object_agg(e.key, clock_timestamp()), '{}') AS ends INTO c
  FROM jsonb_each(maintain_finish.report) e WHERE NOT e.value ? 'busy';
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
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_finish(jsonb) IS
'Keeps what a run of maintain() did, phase by phase, for health(). With the rights of the caller.';

CREATE FUNCTION engram_internal.maintain_partitions(phase text, last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  what   constant text := CASE phase WHEN 'partitions' THEN 'created' ELSE 'dropped' END;
  counts jsonb;
BEGIN
  PERFORM engram_internal.require_maintainer();
  -- A table at a time, so that none is held while another one is waited for.
  SELECT min(p.parent) INTO last FROM engram_internal.partitioned() p
  WHERE to_regclass('engram.' || p.parent) IS NOT NULL AND p.parent > coalesce(last, '');
  IF last IS NULL THEN
    RETURN engram_internal.maintain_result(jsonb_build_object(what, 0), true, NULL);
  END IF;
  BEGIN
    counts := jsonb_build_object(what, jsonb_array_length(engram_internal.partitions_task(
      CASE phase WHEN 'partitions' THEN 'create_partitions' ELSE 'release_partitions' END, jsonb_build_object('parent', last))));
  EXCEPTION WHEN lock_not_available THEN
    -- The next run comes soon; the other tables need not wait for it.
    counts := jsonb_build_object('in_use', last);
  END;
  RETURN engram_internal.maintain_result(counts, false, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_partitions(text, text) IS
'A table of the phases partitions and drop_partitions of maintain(): the next after this one.';

CREATE FUNCTION engram_internal.maintain_fold(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  counts jsonb := '{}';
  done   boolean := true;
  n      bigint := 0;
  ws     uuid;
BEGIN
  PERFORM engram_internal.require_maintainer();
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
  RETURN engram_internal.maintain_result(counts, done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_fold(text) IS 'Uses that wait, of the next twenty workspaces after this one.';

CREATE FUNCTION engram_internal.maintain_consolidate(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  batch  constant integer := 1000;
  counts jsonb := '{}';
  done   boolean := true;
  n      bigint := 0;
  ws     uuid;
  c      record;
BEGIN
  PERFORM engram_internal.require_maintainer();
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
  RETURN engram_internal.maintain_result(counts, done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_consolidate(text) IS
'Layers, links and policies of forgetting: all workspaces at once, or one by one where one of them cannot be cared for.';

CREATE FUNCTION engram_internal.maintain_retention(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  batch  constant integer := 1000;
  counts jsonb := '{}';
  done   boolean := true;
  n      bigint := 0;
  before text;
  ws     uuid;
  c      record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  IF last IS NULL THEN
    BEGIN
      FOR c IN SELECT r.action, r.memories FROM engram_internal.apply_retention(NULL, NULL, false, batch) r LOOP
        counts := engram_internal.counted(counts, CASE c.action WHEN 'erase' THEN 'erased' ELSE 'forgotten' END, c.memories);
        done := done AND c.memories < batch;
      END LOOP;
    EXCEPTION WHEN OTHERS THEN
      -- As in maintain_consolidate(): each by itself.
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
  RETURN engram_internal.maintain_result(counts, done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_retention(text) IS
'Policies of retention: all workspaces at once, or one by one where one of them cannot be cared for.';

CREATE FUNCTION engram_internal.maintain_purge(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  batch  constant integer := 1000;
  counts jsonb := '{"forgotten": 0, "expired": 0}';
  done   boolean := true;
  n      bigint := 0;
  before text;
  ws     uuid;
  c      record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  IF last IS NULL THEN
    BEGIN
      SELECT count(*) FILTER (WHERE p.reason = 'forgotten') AS forgotten, count(*) FILTER (WHERE p.reason = 'expired') AS expired INTO c
      FROM engram_internal.purge(NULL, NULL, NULL, false, batch) p;
      done := c.forgotten + c.expired < batch;
      counts := to_jsonb(c);
    EXCEPTION WHEN OTHERS THEN
      -- As in maintain_consolidate(): each by itself.
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
  RETURN engram_internal.maintain_result(counts, done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_purge(text) IS
'What was forgotten or expired for long: all workspaces at once, or one by one where one of them cannot be cared for. And claims of nobody.';

CREATE FUNCTION engram_internal.maintain_pack(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  done       boolean := true;
  n          bigint := 0;
  sealed     bigint;
  unreadable bigint := 0;
  c          record;
BEGIN
  PERFORM engram_internal.require_maintainer();
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
  RETURN engram_internal.maintain_result(
    jsonb_build_object('blocks', n) || CASE WHEN unreadable > 0 THEN jsonb_build_object('unreadable', unreadable) ELSE '{}' END, done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_pack(text) IS 'What search scans, of the next hundred workspaces after this one.';

CREATE FUNCTION engram_internal.maintain_arrange(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  done     boolean := true;
  arranged bigint := 0;
  c        record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  -- One a transaction, last of all: it takes seconds where there are hundreds of thousands of vectors.
  FOR c IN SELECT x.workspace_id, x.model, x.workspace_id || ' ' || x.model AS name FROM engram_internal.arrangeable() x LOOP
    CONTINUE WHEN c.name <= last COLLATE "C";
    arranged := engram_internal.arrange(c.workspace_id, c.model);
    last := c.name;
    done := arranged = 0;
    EXIT WHEN NOT done;
  END LOOP;
  RETURN engram_internal.maintain_result(jsonb_build_object('arranged', arranged), done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_arrange(text) IS 'The vectors of the next large workspace that is worth it.';

CREATE FUNCTION engram_internal.maintain_messages() RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  days constant double precision := engram_internal.partition_setting('archive_messages_days');
  c    record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  IF days IS NULL THEN
    RETURN engram_internal.maintain_result('{"archived": 0}', true, NULL);
  END IF;
  SELECT a.archived, a.skipped, a.done INTO c
  FROM engram_internal.archive_messages_as_owner(NULL, days * interval '1 day', 50, false, 100) a;
  RETURN engram_internal.maintain_result(jsonb_build_object('archived', c.archived, 'skipped', c.skipped), c.done, NULL);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_messages() IS 'Old turns of a hundred quiet conversations, where archive_messages_days is set.';

CREATE OR REPLACE FUNCTION engram_internal.maintain_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  phase constant text := args ->> 'phase';
  last  constant text := args ->> 'after';
BEGIN
  PERFORM engram_internal.require_maintainer();
  INSERT INTO engram.maintenance (workspace_id) VALUES ('00000000-0000-0000-0000-000000000000') ON CONFLICT DO NOTHING;
  IF phase = 'finish' THEN
    PERFORM engram_internal.maintain_finish(args -> 'report');
    RETURN engram_internal.maintain_result('{}', true, NULL);
  END IF;
  -- Two that maintain at once take turns by batches; none waits, and no lock outlives its transaction. A row
  -- and no advisory lock: those anybody may take.
  PERFORM FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000' FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN engram_internal.maintain_result('{"busy": true}', true, NULL);
  END IF;
  CASE phase
    WHEN 'partitions', 'drop_partitions' THEN RETURN engram_internal.maintain_partitions(phase, last);
    WHEN 'fold' THEN RETURN engram_internal.maintain_fold(last);
    WHEN 'consolidate' THEN RETURN engram_internal.maintain_consolidate(last);
    WHEN 'retention' THEN RETURN engram_internal.maintain_retention(last);
    WHEN 'purge' THEN RETURN engram_internal.maintain_purge(last);
    WHEN 'messages' THEN RETURN engram_internal.maintain_messages();
    WHEN 'pack' THEN RETURN engram_internal.maintain_pack(last);
    WHEN 'arrange' THEN RETURN engram_internal.maintain_arrange(last);
    ELSE
      RAISE EXCEPTION 'unknown phase "%"', phase
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Known: ' || array_to_string(engram_internal.phases(), ', ') || '.';
  END CASE;
END
$$;

-- The tables follow: new ones, triggers and grants. Whoever owns them was accepted when they were made.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup(jsonb_build_object('owner', (SELECT pg_get_userbyid(c.relowner) FROM pg_class c
                                                      WHERE c.oid = to_regclass('engram.memories'))));
  END IF;
END
$$;
