\echo Use "ALTER EXTENSION engram UPDATE TO '0.14.0'" to load this file. \quit
CREATE OR REPLACE FUNCTION engram_internal.dynamics_over_time(workspace uuid) RETURNS double precision[]
LANGUAGE c STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dynamics_over_time_wrapper';
COMMENT ON FUNCTION engram_internal.dynamics_over_time(uuid) IS
'What uses count by, as state_at() takes it: what dynamics() gives, and then for each change, in the order of time: its moment in microseconds since 2000, what dynamics() gave until then, link_members, link_half_life_days and link_prune. Changes that make no difference to the workspace are left out.';

CREATE FUNCTION engram_internal.any_memories(workspace uuid) RETURNS boolean
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'any_memories_wrapper';
COMMENT ON FUNCTION engram_internal.any_memories(uuid) IS
'Whether a workspace has memories by now, or any if it is that of the defaults, those included that others have not yet committed. As the caller, who must own the tables.';

CREATE OR REPLACE FUNCTION engram_internal.keep_settings(old jsonb, new jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  counts constant text[] := '{mu1,mu2,alpha,promote,demote,archive,strength_gain,link_members,link_half_life_days,link_prune,decay_per_day}';
  nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  c record;
BEGIN
  PERFORM engram_internal.require_owner('change the history of settings', 'It follows every change of settings by itself.');
  -- A row that is given another key is two.
  FOR c IN
    SELECT r.*, CASE WHEN old @> r.key THEN old ELSE '{}' END AS was, CASE WHEN new @> r.key THEN new ELSE '{}' END AS becomes
    FROM (SELECT DISTINCT jsonb_build_object('workspace_id', x ->> 'workspace_id')
                 || CASE WHEN x ? 'type' THEN jsonb_build_object('type', x ->> 'type') ELSE '{}' END AS key,
                 (x ->> 'workspace_id')::uuid AS workspace_id, coalesce(x ->> 'type', '') AS type
          FROM unnest(ARRAY[old, new]) x WHERE x IS NOT NULL) r
  LOOP
    CONTINUE WHEN NOT EXISTS (SELECT FROM unnest(counts) k WHERE c.was ->> k IS DISTINCT FROM c.becomes ->> k);
    -- Where there is no memory, nothing has counted by anything.
    CONTINUE WHEN NOT engram_internal.any_memories(c.workspace_id);
    -- What was in force before this transaction. Nobody folds any more, so the clock is past all that was counted by it.
    INSERT INTO engram.settings_history (workspace_id, type, until, xid, mu1, mu2, alpha, promote, demote, archive, strength_gain,
      link_members, link_half_life_days, link_prune, decay_per_day)
    SELECT c.workspace_id, c.type, clock_timestamp(), pg_current_xact_id(), o.*
    FROM jsonb_to_record(c.was) AS o (mu1 double precision, mu2 double precision, alpha double precision, promote double precision,
      demote double precision, archive double precision, strength_gain double precision, link_members integer,
      link_half_life_days double precision, link_prune double precision, decay_per_day double precision)
    WHERE NOT EXISTS (SELECT FROM engram.settings_history h
      WHERE h.workspace_id = c.workspace_id AND h.type = c.type AND h.until >= now() AND h.xid = pg_current_xact_id());
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.try_lock_settings(uuid) IS
'Until give_back_settings() nobody changes what uses of a workspace count by, its own settings and the defaults; false where somebody does. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.give_back_settings(workspace uuid) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'give_back_settings_wrapper';
COMMENT ON FUNCTION engram_internal.give_back_settings(uuid) IS
'Lets others change what try_lock_settings() has locked. As the caller, who must own the tables.';

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
  PERFORM engram_internal.require_owner('fold uses', 'It happens by itself, and when engram.consolidate() runs.');
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
  -- By settings that stay until all is counted: who changes them waits for it, and while somebody does, uses wait.
  IF NOT engram_internal.try_lock_settings(fold_queue.workspace) THEN
    RETURN 0;
  END IF;
  params := engram_internal.dynamics_over_time(fold_queue.workspace);
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
             CASE WHEN t.gain > 0 AND u.place <= n.members AND least(cardinality(t.memory_ids), n.members) > 1
                  THEN t.gain / (least(cardinality(t.memory_ids), n.members) - 1) ELSE 0 END AS pair_gain
      FROM taken t CROSS JOIN LATERAL engram_internal.link_members_at(params, rules.members, t.accessed_at) AS n (members)
      CROSS JOIN LATERAL unnest(t.memory_ids) WITH ORDINALITY AS u (memory_id, place)
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
      CROSS JOIN LATERAL engram_internal.link_over_time(h.forward, h.backward, h.linked_at, h.count, p.times, p.gains, params, rules.half_life, rules.prune) l
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
  CROSS JOIN LATERAL engram_internal.link_over_time(NULL, NULL, NULL, NULL, e.times, e.gains, params, rules.half_life, rules.prune) r
  WHERE h.workspace_id = fold_queue.workspace AND h.a = late_links[i] AND h.b = late_links[i + 1] AND e.calls >= h.count;
  UPDATE engram.maintenance g SET folded_at = now() WHERE g.workspace_id = fold_queue.workspace;
  -- Not at the end of the transaction, which may be long in coming, or fold in more workspaces than the server has locks
  -- for: whoever changes settings from now on does so after all that was counted, committed or not.
  PERFORM engram_internal.give_back_settings(fold_queue.workspace);
  RETURN done;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.import_settings(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := import_settings.workspace;
  kind    text := import_settings.kind;
  replace boolean := import_settings.on_conflict = 'replace';
  -- As configure() has them: those that hold for all workspaces together, and with them those of administrators.
  common  constant text[] := '{partition_interval,partitions_ahead,access_log_days,memory_events_days,messages_days,archive_messages_days,size_limit_bytes}';
  closed  constant text[] := common || '{max_content_chars,candidates,approximate_from,fold_threshold,text_config}'::text[];
  line    jsonb;
  old     jsonb;
  new     jsonb;
  policy  record;
BEGIN
  PERFORM engram_internal.require_owner('write what an import brings', 'Call engram.import().');
  FOR position, line IN SELECT i.p, i.l FROM jsonb_to_recordset(import_settings.items) AS i (p integer, l jsonb) LOOP
    error := NULL;
    old := NULL;
    IF kind = 'header' THEN
      status := 'unchanged';
    ELSIF kind = 'settings' THEN
      new := line -> 'settings';
      IF NOT import_settings.trusted THEN
        error := 'left out, because an administrator sets them: '
          || (SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(new) k WHERE k = ANY (closed));
        new := new - closed;
      ELSIF ws <> '00000000-0000-0000-0000-000000000000' THEN
        error := 'left out, because they are of all workspaces together: '
          || (SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(new) k WHERE k = ANY (common));
        new := new - common;
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
      -- What uses that are here already count by is only changed when that is asked for.
      IF jsonb_typeof(line -> 'past') = 'array' AND (replace OR NOT EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = ws)) THEN
        INSERT INTO engram.settings_history AS h (workspace_id, type, until, xid, mu1, mu2, alpha, promote, demote, archive,
          strength_gain, link_members, link_half_life_days, link_prune, decay_per_day)
        SELECT ws, coalesce(r.type, ''), least(r.until, clock_timestamp()), '0', r.mu1, r.mu2, r.alpha, r.promote, r.demote, r.archive,
          r.strength_gain, r.link_members, r.link_half_life_days, r.link_prune, r.decay_per_day
        FROM jsonb_to_recordset(line -> 'past') AS r (type text, until timestamptz, mu1 double precision, mu2 double precision,
          alpha double precision, promote double precision, demote double precision, archive double precision,
          strength_gain double precision, link_members integer, link_half_life_days double precision, link_prune double precision,
          decay_per_day double precision)
        ON CONFLICT DO NOTHING;
        IF FOUND AND status = 'unchanged' THEN
          status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
        END IF;
      ELSIF status = 'unchanged' AND EXISTS (
          SELECT FROM jsonb_to_recordset(nullif(line -> 'past', 'null')) AS r (type text, until timestamptz)
          WHERE NOT EXISTS (SELECT FROM engram.settings_history h
            WHERE h.workspace_id = ws AND h.type = coalesce(r.type, '') AND h.until = least(r.until, clock_timestamp()))) THEN
        status := 'skipped';
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
    ELSIF kind = 'retention' THEN
      SELECT r.* INTO policy FROM jsonb_to_record(line) AS r (name text, action text, types text[], max_importance double precision,
        max_age interval, max_count integer, created_at timestamptz);
      PERFORM engram_internal.check_retention(policy.name, policy.max_age, policy.max_count, policy.types, policy.max_importance, policy.action);
      SELECT to_jsonb(p) - '{workspace_id,created_at}'::text[] INTO old FROM engram.retention_policies p
      WHERE p.workspace_id = ws AND p.name = policy.name;
      -- As the table has them: an interval can be written in many ways.
      new := to_jsonb(jsonb_populate_record(NULL::engram.retention_policies,
          to_jsonb(policy) || jsonb_build_object('action', coalesce(policy.action, 'forget')))) - '{workspace_id,created_at}'::text[];
      IF old = new THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        INSERT INTO engram.retention_policies AS p (workspace_id, name, action, types, max_importance, max_age, max_count, created_at)
        VALUES (ws, policy.name, coalesce(policy.action, 'forget'), policy.types, policy.max_importance, policy.max_age,
                policy.max_count, coalesce(policy.created_at, now()))
        ON CONFLICT (workspace_id, name) DO UPDATE
        SET action = EXCLUDED.action, types = EXCLUDED.types, max_importance = EXCLUDED.max_importance,
            max_age = EXCLUDED.max_age, max_count = EXCLUDED.max_count;
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
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

-- The tables follow: new ones, triggers and grants. Whoever owns them was accepted when they were made.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup(jsonb_build_object('owner', (SELECT pg_get_userbyid(c.relowner) FROM pg_class c
                                                      WHERE c.oid = to_regclass('engram.memories'))));
  END IF;
END
$$;
