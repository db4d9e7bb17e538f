\echo Use "ALTER EXTENSION engram UPDATE TO '0.13.0'" to load this file. \quit
DROP FUNCTION engram_internal.link_after(double precision, double precision, timestamptz, integer, timestamptz[], double precision[], double precision, double precision);

DROP FUNCTION engram_internal.fold_before(uuid);

DROP FUNCTION engram_internal.fold_waiting(uuid);

DROP FUNCTION engram_internal.require_settled(uuid);

CREATE FUNCTION engram_internal.require_owner(doing text, help text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not %', current_user, doing USING ERRCODE = 'insufficient_privilege', HINT = help;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.require_owner(text, text) IS
'Raises the error for a caller who does not own the tables, for what is done as their owner.';

CREATE FUNCTION engram_internal.dynamics_over_time(workspace uuid) RETURNS double precision[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  params double precision[] := engram_internal.dynamics(dynamics_over_time.workspace);
  types  constant text[] := '{factual,episodic,relational,emotional,procedural,opinion,causal}';
  nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  past   double precision[] := '{}';
  o record;
  d record;
  w record;
  h record;
  -- decay_per_day of each type, the workspace's own and the defaults.
  own    double precision[];
  common double precision[];
BEGIN
  -- A store that setup() has not brought up to date, or nothing has ever changed.
  IF to_regclass('engram.settings_history') IS NULL THEN
    RETURN params;
  END IF;
  IF NOT EXISTS (SELECT FROM engram.settings_history h WHERE h.workspace_id IN (dynamics_over_time.workspace, nobody)) THEN
    RETURN params;
  END IF;
  SELECT s.mu1, s.mu2, s.alpha, s.promote, s.demote, s.archive, s.strength_gain, s.link_members, s.link_half_life_days, s.link_prune
  INTO o FROM engram.settings s WHERE s.workspace_id = nobody;
  d := o;
  SELECT s.mu1, s.mu2, s.alpha, s.promote, s.demote, s.archive, s.strength_gain, s.link_members, s.link_half_life_days, s.link_prune
  INTO w FROM engram.settings s WHERE s.workspace_id = dynamics_over_time.workspace;
  SELECT array_agg(a.decay_per_day ORDER BY k.nth), array_agg(b.decay_per_day ORDER BY k.nth) INTO own, common
  FROM unnest(types) WITH ORDINALITY AS k (type, nth)
  LEFT JOIN engram.memory_type_settings a ON a.workspace_id = dynamics_over_time.workspace AND a.type = k.type
  LEFT JOIN engram.memory_type_settings b ON b.workspace_id = nobody AND b.type = k.type;
  -- Back from now, change by change.
  FOR h IN SELECT x.*, ((extract(epoch FROM x.until) - 946684800) * 1000000)::double precision AS moment
           FROM engram.settings_history x WHERE x.workspace_id IN (dynamics_over_time.workspace, nobody) ORDER BY x.until DESC LOOP
    IF h.type <> '' AND h.workspace_id = dynamics_over_time.workspace THEN
      own[array_position(types, h.type)] := h.decay_per_day;
    END IF;
    IF h.type <> '' AND h.workspace_id = nobody THEN
      common[array_position(types, h.type)] := h.decay_per_day;
    END IF;
    IF h.type = '' AND h.workspace_id = dynamics_over_time.workspace THEN
      SELECT h.mu1, h.mu2, h.alpha, h.promote, h.demote, h.archive, h.strength_gain, h.link_members, h.link_half_life_days, h.link_prune INTO w;
    END IF;
    IF h.type = '' AND h.workspace_id = nobody THEN
      SELECT h.mu1, h.mu2, h.alpha, h.promote, h.demote, h.archive, h.strength_gain, h.link_members, h.link_half_life_days, h.link_prune INTO d;
    END IF;
    past := ARRAY[h.moment, params[1], coalesce(w.mu1, d.mu1, o.mu1), coalesce(w.mu2, d.mu2, o.mu2), coalesce(w.alpha, d.alpha, o.alpha),
        coalesce(w.promote, d.promote, o.promote), coalesce(w.demote, d.demote, o.demote), coalesce(w.archive, d.archive, o.archive),
        coalesce(w.strength_gain, d.strength_gain, o.strength_gain),
        coalesce(own[1], common[1], 0.1), coalesce(own[2], common[2], 0.1), coalesce(own[3], common[3], 0.1),
        coalesce(own[4], common[4], 0.1), coalesce(own[5], common[5], 0.1), coalesce(own[6], common[6], 0.1),
        coalesce(own[7], common[7], 0.1), coalesce(w.link_members, d.link_members, o.link_members),
        coalesce(w.link_half_life_days, d.link_half_life_days, o.link_half_life_days), coalesce(w.link_prune, d.link_prune, o.link_prune)]
      || past;
  END LOOP;
  RETURN params || past;
END
$$;
COMMENT ON FUNCTION engram_internal.dynamics_over_time(uuid) IS
'What uses count by, as state_at() takes it: what dynamics() gives, and then for each change, in the order of time: its moment in microseconds since 2000, what dynamics() gave until then, link_members, link_half_life_days and link_prune.';

CREATE FUNCTION engram_internal.keep_settings(old jsonb, new jsonb) RETURNS void
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
    -- Where there is no memory, nothing has counted by anything. An older snapshot would not tell.
    CONTINUE WHEN current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')
      AND NOT EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = c.workspace_id OR c.workspace_id = nobody);
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
COMMENT ON FUNCTION engram_internal.keep_settings(jsonb, jsonb) IS
'Keeps what uses counted by until now, of a row of settings or memory_type_settings that changes from old to new. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.link_over_time(
  forward double precision, backward double precision, linked_at timestamptz, count integer,
  times timestamptz[], gains double precision[], params double precision[], half_life_days double precision, prune double precision)
RETURNS TABLE (forward double precision, backward double precision, linked_at timestamptz, count integer, late boolean)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'link_over_time_wrapper';
COMMENT ON FUNCTION engram_internal.link_over_time(double precision, double precision, timestamptz, integer, timestamptz[], double precision[], double precision[], double precision, double precision) IS
'A link after some more calls; gains below 0 are of calls that used b first. A link whose mass has fallen below prune begins anew. params: as dynamics_over_time() has them, for calls of before the settings changed. late: a call was older than the link, or began it anew at the same moment.';

CREATE FUNCTION engram_internal.link_members_at(params double precision[], members integer, at timestamptz) RETURNS integer
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_members_at_wrapper';
COMMENT ON FUNCTION engram_internal.link_members_at(double precision[], integer, timestamptz) IS
'How many members of a call are linked with each other: members, or as dynamics_over_time() has it for a call of before.';

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
  params double precision[] := engram_internal.dynamics_over_time(present.workspace);
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
CREATE FUNCTION engram_internal.try_lock_settings(workspace uuid) RETURNS boolean
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'try_lock_settings_wrapper';
COMMENT ON FUNCTION engram_internal.try_lock_settings(uuid) IS
'Until the end of the transaction nobody changes what uses of a workspace count by, its own settings and the defaults; false where somebody does. As the caller, who must own the tables.';

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
  -- By settings that stay until it commits: who changes them waits for it, and while somebody does, uses wait.
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
  RETURN done;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.hold_folds(workspace uuid) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'hold_folds_wrapper';
COMMENT ON FUNCTION engram_internal.hold_folds(uuid) IS
'Until the end of the transaction nobody else folds in a workspace, or in any if it is that of the defaults. Waits for who does. As the caller, who must own the tables.';

CREATE OR REPLACE FUNCTION engram_internal.rebase_state(workspace uuid, id uuid, new_layer text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM engram_internal.require_owner('change the state of memories', 'It follows every change of a memory by itself.');
  -- Who changes a memory holds its row, and folds only hold this one while they commit.
  PERFORM FROM engram.memory_state s WHERE s.workspace_id = rebase_state.workspace AND s.memory_id = rebase_state.id FOR NO KEY UPDATE;
  UPDATE engram.memory_state s
  SET heat = a.heat, working_strength = a.working_strength, core_strength = a.core_strength,
      layer = coalesce(rebase_state.new_layer, a.layer), stability = a.stability, difficulty = a.difficulty,
      access_count = a.access_count, last_accessed_at = a.last_accessed_at,
      base = a.base || jsonb_build_object('layer', coalesce(rebase_state.new_layer, a.layer))
  FROM engram_internal.present(rebase_state.workspace, now(), ARRAY[rebase_state.id], true) a
  WHERE s.workspace_id = rebase_state.workspace AND s.memory_id = rebase_state.id;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.state_as_of(workspace uuid, as_of timestamptz, ids uuid[])
RETURNS TABLE (memory_id uuid, layer text, access_count bigint, last_accessed_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  params double precision[] := engram_internal.dynamics_over_time(state_as_of.workspace);
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
CREATE OR REPLACE FUNCTION engram_internal.forget_faded(workspace uuid, at timestamptz, dry_run boolean, at_most integer, in_turns boolean)
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
CREATE OR REPLACE FUNCTION engram_internal.change_settings(workspace uuid, changes jsonb, preset text) RETURNS jsonb
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
COMMENT ON FUNCTION engram.configure(jsonb, uuid) IS
'Changes settings of a workspace and returns those in force.

changes: an object of names and values, for example {"decay": 0.4, "link_half_life_days": 60}; null goes back to the default. Users set how their memories live and how they are ranked; max_content_chars, candidates, approximate_from, fold_threshold, text_config, partition_interval, partitions_ahead, access_log_days, memory_events_days, messages_days, archive_messages_days and size_limit_bytes take a role that bypasses row security, which may also name the all-zero workspace, that of the defaults; those from partition_interval on are of all workspaces together and are set there alone. Every use counts by the settings of its time, those that come late included, and uses of the same transaction by those before; from its latest use on a memory lives by the settings of now.';

CREATE OR REPLACE FUNCTION engram_internal.require_maintainer() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_owner('maintain the store', 'CALL engram.maintain(); as a role that bypasses row security.');
END
$$;
CREATE FUNCTION engram_internal.past_settings(workspace uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- A store that setup() has not brought up to date.
  IF to_regclass('engram.settings_history') IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN (SELECT jsonb_agg(jsonb_strip_nulls(to_jsonb(h)) - '{workspace_id,xid}'::text[]
                           - CASE h.type WHEN '' THEN '{type}' ELSE '{}' END::text[] ORDER BY h.until, h.type)
          FROM engram.settings_history h WHERE h.workspace_id = past_settings.workspace);
END
$$;
COMMENT ON FUNCTION engram_internal.past_settings(uuid) IS
'What uses of a workspace counted by until its settings were changed, as export() has it; NULL where they never were.';

CREATE OR REPLACE FUNCTION engram_internal.export_lines(workspace uuid, include text[], match_count integer, part integer, key jsonb)
RETURNS SETOF jsonb
LANGUAGE sql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
-- What is written must read the same everywhere, to the last bit.
SET TimeZone = 'UTC'
SET IntervalStyle = 'iso_8601'
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
        'settings', coalesce(jsonb_strip_nulls(to_jsonb(s)) - '{workspace_id,preset}'::text[], '{}'), 'preset', s.preset)
        || CASE WHEN h.past IS NULL THEN '{}' ELSE jsonb_build_object('past', h.past) END
      FROM (SELECT engram_internal.past_settings($1) AS past OFFSET 0) h LEFT JOIN engram.settings s ON s.workspace_id = $1
      WHERE 'settings' = ANY ($2) AND $4 < 1 AND (s.workspace_id IS NOT NULL OR h.past IS NOT NULL)
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
      (SELECT 10, jsonb_build_array(c.recall_id), jsonb_strip_nulls(jsonb_build_object('kind', 'credit', 'recall_id', c.recall_id,
        'memory_ids', c.memory_ids, 'reinforced_ids', c.reinforced_ids, 'rated_ids', c.rated_ids, 'created_at', c.created_at))
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
      UNION ALL
      -- Last, so that they find all that they are about.
      (SELECT 13, jsonb_build_array(r.name), jsonb_strip_nulls(jsonb_build_object('kind', 'retention', 'name', r.name,
        'action', r.action, 'types', r.types, 'max_importance', r.max_importance, 'max_age', r.max_age,
        'max_count', r.max_count, 'created_at', r.created_at))
      FROM engram.retention_policies r
      WHERE 'settings' = ANY ($2) AND $4 <= 13 AND r.workspace_id = $1 AND r.name > CASE WHEN $4 = 13 THEN $5 ->> 0 ELSE '' END
      ORDER BY r.name)
    ) l
    LIMIT $3::bigint + 1
  ) p
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
      IF line ? 'past' AND (replace OR NOT EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = ws)) THEN
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
          SELECT FROM jsonb_to_recordset(line -> 'past') AS r (type text, until timestamptz)
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
CREATE OR REPLACE FUNCTION engram_internal.import_as_owner(workspace uuid, trusted boolean, on_conflict text, dry_run boolean, lines jsonb)
RETURNS TABLE ("position" integer, kind text, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- Not the triggers that serve the loading of a dump.
SET check_function_bodies = on
-- What is here is compared as JSON, and kept where a line does not speak of it: to the last bit.
SET extra_float_digits = 1
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
  PERFORM engram_internal.require_owner('write what an import brings', 'Call engram.import().');
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
  IF lines ?| '{settings,type_settings}'::text[] THEN
    -- For settings that change, before all that who folds might go on to.
    PERFORM engram_internal.hold_folds(import_as_owner.workspace);
  END IF;
  -- What is locked here stays so when a line turns out to be wrong and what was done for it is undone.
  PERFORM engram_internal.lock_import(import_as_owner.workspace, lines);
  PERFORM engram_internal.lock_imported(import_as_owner.workspace, on_conflict = 'replace', lines);
  -- What others need comes first, in whichever order the lines came.
  FOR step, writer IN SELECT * FROM (VALUES
      ('header', 'settings'), ('settings', 'settings'), ('type_settings', 'settings'), ('model', 'settings'), ('alias', 'settings'),
      ('erasure', 'memories'), ('memory', 'memories'), ('more', 'memories'), ('link', 'links'), ('pair', 'links'),
      ('call', 'links'), ('credit', 'links'), ('message', 'messages'), ('archive', 'messages'),
      ('retention', 'settings')) AS v LOOP
    CONTINUE WHEN NOT lines ? step;
    command := format('SELECT i."position", %L, i.id, i.status, i.error FROM engram_internal.import_%s($1, $2, $3, %1$L, $4) i', step, writer);
    BEGIN
      RETURN QUERY EXECUTE command USING import_as_owner.workspace, import_as_owner.trusted, import_as_owner.on_conflict, lines -> step;
    EXCEPTION WHEN OTHERS THEN
      IF engram_internal.retry_whole(SQLSTATE) THEN
        RAISE;
      END IF;
      -- One of them is wrong: each by itself, so that the others are not lost.
      FOR item IN SELECT * FROM jsonb_array_elements(lines -> step) LOOP
        BEGIN
          RETURN QUERY EXECUTE command USING import_as_owner.workspace, import_as_owner.trusted, import_as_owner.on_conflict, jsonb_build_array(item);
        EXCEPTION WHEN OTHERS THEN
          IF engram_internal.retry_whole(SQLSTATE) THEN
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

-- The tables follow: new ones, triggers and grants. Whoever owns them was accepted when they were made.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup(jsonb_build_object('owner', (SELECT pg_get_userbyid(c.relowner) FROM pg_class c
                                                      WHERE c.oid = to_regclass('engram.memories'))));
  END IF;
END
$$;
