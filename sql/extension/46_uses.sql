-- Uses of memories: noted in one row where they happen, folded later, counted by every reader meanwhile.

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

CREATE FUNCTION engram_internal.dynamics(workspace uuid) RETURNS double precision[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT ARRAY[coalesce(w.decay, d.decay), coalesce(w.mu1, d.mu1), coalesce(w.mu2, d.mu2), coalesce(w.alpha, d.alpha),
                 coalesce(w.promote, d.promote), coalesce(w.demote, d.demote), coalesce(w.archive, d.archive),
                 coalesce(w.strength_gain, d.strength_gain)]
        || ARRAY(SELECT coalesce(
                   (SELECT t.decay_per_day FROM engram.memory_type_settings t WHERE t.type = k.type AND t.workspace_id = dynamics.workspace),
                   (SELECT t.decay_per_day FROM engram.memory_type_settings t WHERE t.type = k.type
                      AND t.workspace_id = '00000000-0000-0000-0000-000000000000'), 0.1)
                 FROM unnest(ARRAY['factual', 'episodic', 'relational', 'emotional', 'procedural', 'opinion', 'causal'])
                   WITH ORDINALITY AS k (type, nth) ORDER BY k.nth)
    FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = dynamics.workspace
    WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
END
$$;
COMMENT ON FUNCTION engram_internal.dynamics(uuid) IS
'Settings of a workspace as state_at() takes them: decay, mu1, mu2, alpha, promote, demote, archive, strength_gain, then decay_per_day of each type.';

CREATE FUNCTION engram_internal.dynamics_over_time(workspace uuid) RETURNS double precision[]
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
COMMENT ON FUNCTION engram_internal.keep_settings(jsonb, jsonb) IS
'Keeps what uses counted by until now, of a row of settings or memory_type_settings that changes from old to new. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.pending(workspace uuid, ids uuid[])
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
COMMENT ON FUNCTION engram_internal.pending(uuid, uuid[]) IS 'Uses that wait to be folded, of some memories of a workspace, by memory.';

CREATE FUNCTION engram_internal.state_at(
  params double precision[], type text, importance double precision, pinned boolean, inert boolean,
  created_at timestamptz, memory_layer text, access_count bigint, last_accessed_at timestamptz, heat bytea,
  working_strength double precision, core_strength double precision, layer text, stability double precision,
  difficulty double precision, base jsonb, calls uuid[], times timestamptz[], gains double precision[], ratings smallint[],
  known integer, at timestamptz, settle boolean)
RETURNS TABLE (
  layer text, heat bytea, working_strength double precision, core_strength double precision,
  stability double precision, difficulty double precision, access_count bigint, last_accessed_at timestamptz,
  retention double precision, idle_days double precision, late boolean, base jsonb)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'state_at_wrapper';
COMMENT ON FUNCTION engram_internal.state_at(double precision[], text, double precision, boolean, boolean, timestamptz, text, bigint, timestamptz, bytea, double precision, double precision, text, double precision, double precision, jsonb, uuid[], timestamptz[], double precision[], smallint[], integer, timestamptz, boolean) IS
'The state of a memory after some more uses. With a moment, strengths, layer, retention and idle_days (without use or pin) are of that moment. late: a use was older than the state, so that layer, stability and difficulty want a replay. For that, pass the whole log first and its length as known; late then tells that some of it is missing. base: where a replay begins, NULL for when the memory was stored; settle makes it that moment, and whatever waits is known to it from then on.';

CREATE FUNCTION engram_internal.layer_at(
  params double precision[], type text, importance double precision, pinned boolean, inert boolean,
  created_at timestamptz, memory_layer text, heat bytea, working_strength double precision,
  core_strength double precision, layer text, at timestamptz) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'layer_at_wrapper';
COMMENT ON FUNCTION engram_internal.layer_at(double precision[], text, double precision, boolean, boolean, timestamptz, text, bytea, double precision, double precision, text, timestamptz) IS
'The layer of a memory at a moment, by its state.';

CREATE FUNCTION engram_internal.first_base(created_at timestamptz, layer text) RETURNS jsonb
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'first_base_wrapper';
COMMENT ON FUNCTION engram_internal.first_base(timestamptz, text) IS 'Where the replay of a memory begins that was stored in a layer of its own.';

-- What runs as the owner of the tables calls these: another owner, REASSIGN OWNED say, has no rights on the functions
-- of schema engram until setup() runs again.
CREATE FUNCTION engram_internal.first_heat(t timestamptz, gain double precision) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_new_wrapper';
COMMENT ON FUNCTION engram_internal.first_heat(timestamptz, double precision) IS 'heat_new(), for whoever owns the tables.';

CREATE FUNCTION engram_internal.faded(x double precision, dt_s double precision, half_life_s double precision) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_decay_wrapper';
COMMENT ON FUNCTION engram_internal.faded(double precision, double precision, double precision) IS 'link_decay(), for whoever owns the tables.';

CREATE FUNCTION engram_internal.pairs(ids uuid[]) RETURNS TABLE (a uuid, b uuid, direction integer)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'pairs_wrapper';
COMMENT ON FUNCTION engram_internal.pairs(uuid[]) IS
'All pairs of memories that were used in this order, a < b; direction is 1 when a came first and -1 otherwise.';

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

CREATE FUNCTION engram_internal.present(workspace uuid, at timestamptz, ids uuid[], settle boolean DEFAULT false)
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
COMMENT ON FUNCTION engram_internal.present(uuid, timestamptz, uuid[], boolean) IS
'The state of memories at a moment, waiting uses included, of those that the caller may see. settle: as state_at() has it.';

CREATE FUNCTION engram_internal.layers(workspace uuid) RETURNS TABLE (memory_id uuid, layer text)
LANGUAGE c STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'layers_wrapper';
COMMENT ON FUNCTION engram_internal.layers(uuid) IS
'The present layers of all memories of a workspace that are not forgotten, waiting uses included, of those that the caller may see.';

CREATE FUNCTION engram_internal.layer_now(workspace uuid, id uuid) RETURNS text
-- Dearer than any look at the row.
LANGUAGE c STABLE STRICT COST 1000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'layer_now_wrapper';
COMMENT ON FUNCTION engram_internal.layer_now(uuid, uuid) IS 'The present layer of a memory; what a filter by layer compares.';

CREATE FUNCTION engram_internal.fold(workspace uuid, at_most integer) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fold_wrapper';
COMMENT ON FUNCTION engram_internal.fold(uuid, integer) IS
'Folds waiting calls of a workspace that the caller may write; returns how many. What others are working on is left for later.';

CREATE FUNCTION engram_internal.rebase(workspace uuid, id uuid, new_layer text) RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'rebase_wrapper';
COMMENT ON FUNCTION engram_internal.rebase(uuid, uuid, text) IS
'Brings the state of a memory to the present moment before what it depends on changes, and into another layer if one is given. The caller may write the workspace.';

CREATE FUNCTION engram_internal.fold_calls(
  workspace uuid, at_most integer, params double precision[], members integer, half_life_days double precision, prune double precision)
RETURNS TABLE (calls integer, late_links uuid[])
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fold_calls_wrapper';
COMMENT ON FUNCTION engram_internal.fold_calls(uuid, integer, double precision[], integer, double precision, double precision) IS
'The fast half of fold_queue(), which holds the workspace: writes rows without statements. No row where that cannot be done: when the caller does not own the tables, or these have triggers, columns, partitions or indexes of other kinds than setup() makes. late_links: ends of links that a call is older than, or that it began anew at their own moment.';

CREATE FUNCTION engram_internal.try_lock_settings(workspace uuid) RETURNS boolean
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'try_lock_settings_wrapper';
COMMENT ON FUNCTION engram_internal.try_lock_settings(uuid) IS
'Until give_back_settings() nobody changes what uses of a workspace count by, its own settings and the defaults; false where somebody does. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.give_back_settings(workspace uuid) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'give_back_settings_wrapper';
COMMENT ON FUNCTION engram_internal.give_back_settings(uuid) IS
'Lets others change what try_lock_settings() has locked. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.fold_queue(workspace uuid, at_most integer) RETURNS integer
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
COMMENT ON FUNCTION engram_internal.fold_queue(uuid, integer) IS
'What fold() does. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.hold_folds(workspace uuid) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'hold_folds_wrapper';
COMMENT ON FUNCTION engram_internal.hold_folds(uuid) IS
'Until the end of the transaction nobody else folds in a workspace, or in any if it is that of the defaults. Waits for who does. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.rebase_state(workspace uuid, id uuid, new_layer text) RETURNS void
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
COMMENT ON FUNCTION engram_internal.rebase_state(uuid, uuid, text) IS
'What rebase() does. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.touch(
  ids uuid[],
  kind text DEFAULT NULL,
  gain double precision DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  recall_id uuid DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'touch_wrapper';
COMMENT ON FUNCTION engram.touch(uuid[], text, double precision, timestamptz, uuid, uuid) IS
'Notes that memories were used, and returns how many of them are credited. Call it with what went into the answer, not with everything that was shown.

ids: at most 1000, in order of use; unknown and forgotten ones are left out. Those used in one call are linked with each other. kind: used (default) or shown. gain: how much it counts, 0 to 100; by default 1 for used and the workspace''s shown_gain for shown. at: when, by default now; not in the future. recall_id: the recall that they answer, as recall() returns it or any id of yours: each memory is credited once for it as used, once as shown, once by reinforce() and once by rate(), so that a retry changes nothing and feedback may come later than the use. Uses in any order, late or at the same time end in the same state.';

CREATE FUNCTION engram.reinforce(
  ids uuid[],
  value double precision DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  recall_id uuid DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'reinforce_wrapper';
COMMENT ON FUNCTION engram.reinforce(uuid[], double precision, timestamptz, uuid, uuid) IS
'Gives credit to memories that helped, or takes it back from those that misled, and returns how many of them.

value: -1 (wrong) to 1 (vital, the default). Above 0 it counts as a use of that gain, rated 4 from 0.5 on and 3 below; below 0 it weakens the working strength and is rated 1; what that has not got it owes, and shows 0 until later uses have made up for it. at, recall_id: as in touch().';

CREATE FUNCTION engram_internal.rate(id uuid, rating integer, at timestamptz, recall_id uuid, workspace uuid) RETURNS boolean
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'rate_wrapper';
COMMENT ON FUNCTION engram_internal.rate(uuid, integer, timestamptz, uuid, uuid) IS
'What rate() does; NULL for an unknown id.';

CREATE FUNCTION engram.rate(
  id uuid,
  rating integer,
  at timestamptz DEFAULT NULL,
  recall_id uuid DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  counted boolean := engram_internal.rate(rate.id, rate.rating, rate.at, rate.recall_id, rate.workspace);
BEGIN
  -- Not in the library, through which an SQLSTATE of our own does not get.
  IF counted IS NULL THEN
    PERFORM engram_internal.refuse_memory(rate.id);
  END IF;
  RETURN counted;
END
$$;
COMMENT ON FUNCTION engram.rate(uuid, integer, timestamptz, uuid, uuid) IS
'Rates one memory as FSRS does: 1 again (it was wrong or of no use), 2 hard (weakly relevant), 3 good (used), 4 easy (confirmed). True when it is counted. An unknown id raises PT404.

3 and 4 count as a use. at, recall_id: as in touch().';

CREATE FUNCTION engram.recall(
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
  workspace uuid DEFAULT NULL
) RETURNS TABLE (
  id uuid, content text, type text, score double precision, importance double precision, tags text[],
  metadata jsonb, speaker text, role text, session_id text, occurred_at timestamptz,
  created_at timestamptz, matched text[], explain jsonb, recall_id uuid)
LANGUAGE c VOLATILE ROWS 10 COST 10000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'recall_wrapper';
COMMENT ON FUNCTION engram.recall(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid) IS
'A search that is noted: what search() finds, with the recall_id under which touch() credits what was used of it. One row is written, and folded later.

Arguments as in search(). What is returned counts by the workspace''s shown_gain, by default not at all: credit goes to what is used. In a read-only transaction it only searches, and recall_id is NULL.';

CREATE FUNCTION engram_internal.levels(ids uuid[], at timestamptz, workspace uuid)
RETURNS TABLE (id uuid, level double precision)
LANGUAGE c STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'activations_wrapper';
COMMENT ON FUNCTION engram_internal.levels(uuid[], timestamptz, uuid) IS 'What activations() gives; for activation().';

CREATE FUNCTION engram.activation(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS double precision
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN (SELECT l.level FROM engram_internal.levels(ARRAY[activation.id], activation.at, activation.workspace) l);
END
$$;
COMMENT ON FUNCTION engram.activation(uuid, timestamptz, uuid) IS
'Base-level activation of a memory in nats: the log odds, up to a constant, that it is needed, by how often and how lately it was used. NULL when it is not there.

B = ln of the sum over its uses of gain × age^-d, ages in seconds, at least 1; d is the workspace''s setting decay. at: by default now. Uses later than at count too: a moment less than a second after the latest use, or change of what the memory depends on, is taken to be a second after it.';

CREATE FUNCTION engram.activations(ids uuid[] DEFAULT NULL, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (id uuid, activation double precision)
LANGUAGE c STABLE ROWS 200 COST 1000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'activations_wrapper';
COMMENT ON FUNCTION engram.activations(uuid[], timestamptz, uuid) IS
'Base-level activation of many memories, as activation() gives that of one: for a ranking of your own, or to see what is needed most. A row for each different id that is there, in no order; for what search() finds by itself, see there.

ids: which ones; NULL for all of the workspace. Forgotten ones count. at: as in activation().';

CREATE FUNCTION engram.retention(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (
  retrievability double precision, stability double precision, difficulty double precision,
  working_strength double precision, core_strength double precision, strength double precision,
  retention double precision, layer text, access_count bigint, last_accessed_at timestamptz)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(retention.workspace, false);
  moment timestamptz := coalesce(retention.at, now());
BEGIN
  IF NOT isfinite(moment) THEN
    RAISE EXCEPTION 'at is infinite' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a moment in time, or leave it out.';
  END IF;
  RETURN QUERY
  SELECT engram.fsrs_retrievability(p.idle_days, p.stability),
         p.stability, p.difficulty, greatest(p.working_strength, 0), greatest(p.core_strength, 0),
         engram.trace_strength(greatest(p.working_strength, 0), greatest(p.core_strength, 0)), p.retention, p.layer, p.access_count, p.last_accessed_at
  FROM engram_internal.present(ws, moment, ARRAY[retention.id]) p;
END
$$;
COMMENT ON FUNCTION engram.retention(uuid, timestamptz, uuid) IS
'How well a memory is kept at a moment: one row, or none when it is not there.

retrievability: FSRS-6, the probability 0 to 1 that it still holds. stability: days until that falls to 0.9. difficulty: 1 to 10. working_strength, core_strength: r1 and r2 of the two-store model; what uses against the memory have brought below 0 is shown as 0, here and in all that follows from it, but kept: later uses have to make up for it. strength: 1 - e^-(r1 + r2). retention: min(1, r1 + r2) × e^(-t/stability), t days without use: what forgetting asks. Days under a pin do not count. at: by default now; a moment before the latest use, or change of what the memory depends on, is taken to be that of it. Infinite: 22023.';
