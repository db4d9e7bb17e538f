-- Forgetting for real, and all care in one procedure.

CREATE FUNCTION engram_internal.check_retention(
  name text, max_age interval, max_count integer, types text[], max_importance double precision, action text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF coalesce(name, '') = '' THEN
    RAISE EXCEPTION 'name is %', CASE WHEN name IS NULL THEN 'NULL' ELSE 'empty' END
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the policy, so that it can be changed and dropped.';
  END IF;
  IF max_age IS NULL AND max_count IS NULL THEN
    RAISE EXCEPTION 'retention policy "%" has neither max_age nor max_count', name
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Say what it limits, for example max_age => ''90 days''.';
  END IF;
  IF max_age < interval '0' OR max_count < 0 THEN
    RAISE EXCEPTION 'max_age % or max_count % is below 0', max_age, max_count
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 0 or more; 0 takes all that the policy is about.';
  END IF;
  IF coalesce(action, 'forget') NOT IN ('forget', 'erase') THEN
    RAISE EXCEPTION 'unknown action "%"', action
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: forget (default), which restore() takes back, and erase.';
  END IF;
  PERFORM engram_internal.check_memory(coalesce(t, 'NULL'), NULL, NULL, NULL, NULL) FROM unnest(types) AS t;
  IF NOT max_importance BETWEEN 0 AND 1 THEN
    RAISE EXCEPTION 'max_importance % is outside 0 to 1', max_importance
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 0 (trivial) to 1 (vital), or leave it out.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_retention(text, interval, integer, text[], double precision, text) IS
'Raises the error for a retention policy that cannot be.';

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
  PERFORM engram_internal.check_retention(set_retention.name, set_retention.max_age, set_retention.max_count,
    set_retention.types, set_retention.max_importance, set_retention.action);
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
  ws uuid := engram_internal.resolve_workspace(apply_retention.workspace, engram_internal.writes(apply_retention.dry_run));
BEGIN
  PERFORM engram_internal.check_at(apply_retention.at);
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
       )$q$
    -- Who only asks may do so where nothing can be written or locked.
    || CASE WHEN purge.dry_run THEN $q$
       SELECT * FROM doomed ORDER BY 1, 2$q$ ELSE $q$, held AS MATERIALIZED (
         SELECT d.* FROM doomed d CROSS JOIN LATERAL (
           SELECT x.ctid FROM engram.memories x
           WHERE x.workspace_id = d.workspace_id AND x.id = d.id
             AND coalesce(x.deleted_at, x.expires_at) = d.gone_at FOR UPDATE SKIP LOCKED) there
       ), erased AS (
         DELETE FROM engram.memories m USING held h WHERE m.workspace_id = h.workspace_id AND m.id = h.id
         RETURNING h.workspace_id, h.id, h.reason, h.gone_at
       )
       SELECT * FROM erased ORDER BY 1, 2$q$ END
    USING purge.workspace, coalesce(engram_internal.earlier(moment, purge.older_than), moment), coalesce(purge.batch_size, 2147483647);
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
  ws uuid := engram_internal.resolve_workspace(purge.workspace, engram_internal.writes(purge.dry_run));
BEGIN
  PERFORM engram_internal.check_age(purge.older_than);
  PERFORM engram_internal.check_at(purge.at);
  RETURN QUERY SELECT p.id, p.reason, p.gone_at
               FROM engram_internal.purge(ws, coalesce(purge.older_than, interval '30 days'), purge.at, purge.dry_run, NULL) p;
END
$$;
COMMENT ON FUNCTION engram.purge(interval, boolean, timestamptz, uuid) IS
'Erases memories of a workspace that were forgotten, or expired, longer ago than older_than, and returns them. reason: forgotten or expired; gone_at: since when. maintain() does it after purge_after_days (settings). A pin does not protect what somebody forgot or let expire.

dry_run: only tell which. at: the moment by which ages are judged, by default now.';

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
  -- Of resources that are short, all others would be short too. What comes of the moment, the next run makes up for.
  IF engram_internal.fault(state) = 'server' THEN
    RAISE EXCEPTION '%', message USING ERRCODE = state, HINT = 'See the log of the server.';
  END IF;
  RETURN jsonb_build_object('error', format('workspace %s: %s', workspace, message));
END
$$;
COMMENT ON FUNCTION engram_internal.failed(uuid, text, text) IS
'What maintain() reports of a workspace that cannot be cared for, so that the others are; an error where that is nothing of its own.';

CREATE FUNCTION engram_internal.require_maintainer() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_owner('maintain the store', 'CALL engram.maintain(); as a role that bypasses row security.');
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

CREATE FUNCTION engram_internal.maintain_task(task text, args jsonb) RETURNS jsonb
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
COMMENT ON FUNCTION engram_internal.maintain_task(text, jsonb) IS
'A batch of a phase of maintain(): counts, whether the phase is done, and otherwise where to go on. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.phases() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY['partitions', 'fold', 'consolidate', 'retention', 'purge', 'messages', 'pack', 'drop_partitions', 'arrange']
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
  -- Whatever the session's default is: under an older snapshot nothing is folded or packed. Each COMMIT begins with the
  -- default anew.
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  FOREACH phase IN ARRAY coalesce(maintain.phases, engram_internal.phases()) LOOP
    step := NULL;
    began := pg_catalog.clock_timestamp();
    LOOP
      step := engram_internal.maintain_step(phase, step OPERATOR(pg_catalog.->>) 'after', step);
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
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
'Does all that time asks for, of all workspaces, and reports what each phase did: partitions (made ahead), fold (uses that wait), consolidate (layers moved, faded links pruned, memories forgotten by policy), retention (policies applied), purge (what was forgotten or expired for long erased, by purge_after_days), messages (old turns of quiet conversations archived, by archive_messages_days; the last 50 stay), pack (what search scans packed; unreadable: of how many workspaces and models it cannot be, which keeps what was erased until reindex()), drop_partitions (logs older than their settings keep), arrange (vectors of large workspaces put together with those that are alike; approximate_from in engram.settings).

Every batch is a transaction of its own, so nobody waits long (while the vectors of one workspace are arranged, a second for 100,000, what it adds is not packed); cancelled or crashed, it goes on where it was when called again. While another session does a batch, a phase is reported as busy and left to it; a phase that fails reports its error and does not keep the others from running. On a standby it does nothing. For roles that bypass row security; outside a transaction block (else 25001). phases: only these. See also schedule_maintenance().';

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
