-- Caring for memories: layers as time has moved them, links that have faded, forgetting by policy; and the
-- settings that all of it follows.

CREATE FUNCTION engram_internal.moves(workspace uuid, at timestamptz, at_most integer, in_turns boolean, anew boolean)
RETURNS TABLE (workspaces uuid[], ids uuid[], olds text[], news text[], complete boolean)
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'moves_wrapper';
COMMENT ON FUNCTION engram_internal.moves(uuid, timestamptz, integer, boolean, boolean) IS
'Memories that are in another layer at a moment than is shown: of a workspace, or of all, at most so many; complete tells whether that was all. in_turns: for transactions that follow one another in this session, from the first (anew) to the one that is complete: where many rows of the same pages move, or more than fit, each takes only some of a page. Who calls it must own the tables.';

CREATE FUNCTION engram_internal.left_out(workspace uuid, state text, message text, help text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Only what is damaged is so in one workspace, and a statement that is wrong is so in all of them.
  IF engram_internal.fault(state) IN ('moment', 'server', 'code') THEN
    RETURN false;
  END IF;
  IF workspace IS NOT NULL THEN
    RAISE WARNING 'workspace "%" is left out: %', workspace, message
      USING HINT = concat_ws(' ', nullif(help, ''), format('Then: SELECT * FROM engram.consolidate(%L);', workspace));
  END IF;
  RETURN true;
END
$$;
COMMENT ON FUNCTION engram_internal.left_out(uuid, text, text, text) IS
'Whether an error is of what a workspace holds, so that the others are consolidated without it; if one is named, with a warning.';

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
           CROSS JOIN LATERAL engram_internal.state_at(engram_internal.dynamics_over_time(m.workspace_id), m.type, m.importance, m.pinned,
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
  -- As long as uses are known, so is for which recalls they were: a call that is repeated changes nothing, however late.
  DELETE FROM engram.recall_credits c USING unnest(free) AS f (workspace_id)
  WHERE c.workspace_id = f.workspace_id AND c.created_at < (
    SELECT engram_internal.earlier(now(), greatest(d.access_log_days, 90) * interval '1 day') FROM engram.settings d
    WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000' AND d.access_log_days IS NOT NULL);
  UPDATE engram.maintenance g SET consolidated_at = now() WHERE g.workspace_id = ANY (free);
  RETURN pruned;
END
$$;
COMMENT ON FUNCTION engram_internal.prune_links(uuid, timestamptz) IS
'Deletes links that have faded or are beyond the strongest of both their ends, and old credits, of one workspace or of all, which are then consolidated: how many links. With the rights of the caller.';

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
  ws     uuid;
  last   uuid := '00000000-0000-0000-0000-000000000000';
  help   text;
  n      integer;
  moves  record;
  c      record;
BEGIN
  PERFORM engram_internal.require_owner('care for other workspaces', 'Call engram.consolidate().');
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
COMMENT ON FUNCTION engram_internal.consolidate_as_owner(uuid, timestamptz, boolean, integer, boolean, boolean) IS
'What consolidate() does; without a workspace, for all. With dry_run NULL memories stay as they are and all else is done: half of a dry run. in_turns, anew: as moves() has it; with in_turns NULL, and in turns, the first error ends it, else a workspace that cannot be consolidated is left out of all with a warning. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.consolidate(
  workspace uuid DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  batch_size integer DEFAULT NULL
) RETURNS TABLE (
  folded bigint, promoted bigint, demoted bigint, archived bigint, forgotten bigint, links_pruned bigint,
  skipped bigint, done boolean)
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'consolidate_wrapper';
COMMENT ON FUNCTION engram.consolidate(uuid, timestamptz, boolean, integer) IS
'Does what time has brought about and reports it in one row: folds uses that wait, shows in memories.layer which memories have moved, forgets by policy, deletes links that faded a month ago. How often it runs changes nothing of what search, recall and every other reader see; but links that are beyond the link_limit strongest of both their ends are deleted too, and if they are used again, or a call from before comes in late, a link that was deleted begins anew.

workspace: by default the caller''s own; for a role that bypasses row security and is nobody, all of them. at: the moment that is judged by, by default now. dry_run: only report what this call would do. batch_size: move and forget at most so many memories in this call; done tells whether that was all. skipped: memories that somebody else was changing; they come next time. Of all workspaces, one that cannot be consolidated is left out with a warning that names it. See also the procedure consolidate_in_batches().';

CREATE FUNCTION engram_internal.consolidated_workspaces() RETURNS SETOF uuid
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'consolidated_workspaces_wrapper';
COMMENT ON FUNCTION engram_internal.consolidated_workspaces() IS
'The workspaces that consolidate_in_batches() goes through: for roles that bypass row security all, else the caller''s own.';

CREATE FUNCTION engram_internal.outside_transaction(name text) RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'outside_transaction_wrapper';
COMMENT ON FUNCTION engram_internal.outside_transaction(text) IS
'Raises the error of a procedure that commits and was called inside a transaction block.';

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
CREATE PROCEDURE engram.consolidate_in_batches(batch_size integer DEFAULT 1000, at timestamptz DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  ws   pg_catalog.uuid;
  help pg_catalog.text;
  done pg_catalog.bool;
BEGIN
  PERFORM engram_internal.require_writable();
  PERFORM engram_internal.outside_transaction('consolidate_in_batches()');
  -- Whatever the session's default is: under an older snapshot nothing is folded. Each COMMIT begins with the default anew.
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  FOR ws IN SELECT w FROM engram_internal.consolidated_workspaces() AS w LOOP
    done := NULL;
    LOOP
      BEGIN
        SELECT c.done INTO done
        FROM engram_internal.consolidate_batch(ws, consolidate_in_batches.at, consolidate_in_batches.batch_size, done IS NULL) AS c;
      EXCEPTION WHEN OTHERS THEN
        -- As consolidate() does: what one workspace holds must not keep the others from being cared for. An argument is
        -- wrong for all of them.
        GET STACKED DIAGNOSTICS help = PG_EXCEPTION_HINT;
        IF NOT engram_internal.trusted() OR SQLSTATE OPERATOR(pg_catalog.=) '22023'
           OR NOT engram_internal.left_out(ws, SQLSTATE, SQLERRM, help) THEN
          RAISE;
        END IF;
        done := true;
      END;
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      EXIT WHEN done;
    END LOOP;
  END LOOP;
END
$$;
COMMENT ON PROCEDURE engram.consolidate_in_batches(integer, timestamptz) IS
'consolidate() for every workspace that the caller may care for, with a COMMIT after each batch, so that nobody waits long for it. After a crash, call it again: what was done stays done.

batch_size: memories that one transaction moves at most; where much moves, only a few of each page of the table, so that new versions of rows stay there. What somebody else holds comes next time; a workspace among others that cannot be consolidated is left out with a warning. Call it outside a transaction block.';

CREATE FUNCTION engram_internal.change_settings(workspace uuid, changes jsonb, preset text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  key   text;
  value jsonb;
  kind  text;
  hint  text;
  wrong text;
  row_  jsonb;
  in_force jsonb;
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
      -- A number passes for an oid, of which there need be none.
      IF key = 'text_config' AND value <> 'null' AND NOT EXISTS (
           SELECT FROM pg_ts_config c WHERE c.oid = (value #>> '{}')::regconfig) THEN
        RAISE undefined_object;
      END IF;
    EXCEPTION
      WHEN check_violation OR invalid_text_representation OR numeric_value_out_of_range OR undefined_object THEN
        GET STACKED DIAGNOSTICS wrong = CONSTRAINT_NAME;
        -- A constraint looks at the whole row.
        IF key <> 'text_config' AND SQLSTATE = '42704' THEN
          RAISE EXCEPTION 'no setting can be changed: %', SQLERRM
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('It was dropped after text_config named it. Have an administrator run: SELECT engram.configure(''{"text_config": "pg_catalog.english"}'', %1$L); and SELECT engram.reindex(%1$L);',
                    change_settings.workspace);
        END IF;
        -- The three thresholds of layers depend on each other; those are judged at the end.
        IF wrong <> 'settings_layers_check' THEN
          RAISE EXCEPTION 'setting % cannot be %', key, value
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = hint || CASE key WHEN 'text_config' THEN ' \dF in psql lists those there are.' ELSE '' END;
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
    SELECT jsonb_build_object('promote', coalesce((row_ ->> 'promote')::double precision, d.promote),
      'demote', coalesce((row_ ->> 'demote')::double precision, d.demote), 'archive', coalesce((row_ ->> 'archive')::double precision, d.archive))
    INTO in_force FROM engram.settings d WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';
    IF (in_force ->> 'promote')::double precision
       < greatest((in_force ->> 'demote')::double precision, (in_force ->> 'archive')::double precision) THEN
      RAISE EXCEPTION 'promote would be less than demote or archive: %', in_force
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
COMMENT ON FUNCTION engram_internal.change_settings(uuid, jsonb, text) IS
'Changes settings of a workspace and returns those in force. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.effective_settings(workspace uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT to_jsonb(d) - 'workspace_id' || coalesce(jsonb_strip_nulls(to_jsonb(w)), '{}') - 'workspace_id'
          FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = effective_settings.workspace
          WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
END
$$;
COMMENT ON FUNCTION engram_internal.effective_settings(uuid) IS 'The settings in force in a workspace.';

CREATE FUNCTION engram.configuration(workspace uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.effective_settings(engram_internal.resolve_workspace(workspace, false));
END
$$;
COMMENT ON FUNCTION engram.configuration(uuid) IS 'The settings in force in a workspace, its own before the defaults. Comments on the columns of engram.settings say what they mean.';

CREATE FUNCTION engram.configure(changes jsonb, workspace uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'configure_wrapper';
COMMENT ON FUNCTION engram.configure(jsonb, uuid) IS
'Changes settings of a workspace and returns those in force.

changes: an object of names and values, for example {"decay": 0.4, "link_half_life_days": 60}; null goes back to the default. Users set how their memories live and how they are ranked; max_content_chars, candidates, approximate_from, fold_threshold, text_config, partition_interval, partitions_ahead, access_log_days, memory_events_days, messages_days, archive_messages_days and size_limit_bytes take a role that bypasses row security, which may also name the all-zero workspace, that of the defaults; those from partition_interval on are of all workspaces together and are set there alone. Every use counts by the settings of its time, those that come late included, and uses of the same transaction by those before; from its latest use on a memory lives by the settings of now.';

CREATE FUNCTION engram.apply_preset(name text, workspace uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'apply_preset_wrapper';
COMMENT ON FUNCTION engram.apply_preset(text, uuid) IS
'Sets how memories of a workspace fade and consolidate for a kind of agent, and returns the settings in force.

name: default, chatbot (fades slowly, consolidates readily), task_agent (fades fast, keeps what is used), personal_assistant (keeps for very long), researcher (keeps nearly everything). It sets decay, mu1, mu2, alpha, promote, demote, archive, strength_gain, forget_threshold and importance_weight; configure() changes single ones afterwards.';
