-- What memories were before: versions, going back to one of them, and the past as a whole. All of it reads
-- memory_events as the caller, and only of memories whose present row the caller may see.

CREATE FUNCTION engram_internal.versions(workspace uuid, id uuid)
RETURNS TABLE (version integer, action text, actor uuid, at timestamptz, state jsonb)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
-- As the events have it, which are compared with it.
SET extra_float_digits = 1
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
    SELECT x.version, x.action, x.actor, x.at, x.old FROM (
      SELECT e.*, bool_or(e.origin = 0) OVER () AS imported FROM engram.memory_events e
      WHERE (e.workspace_id = versions.workspace) IS TRUE AND e.memory_id = versions.id AND e.action <> 'erased') x
    -- An import writes for devices that it added the memory, beside what it brings.
    WHERE NOT (x.action = 'added' AND x.origin <> 0 AND (x.imported OR x.version > 1))
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
           WHERE k.key NOT IN ('version', 'updated_at', 'layer') AND CASE
             -- Each row has times in the zone of whoever wrote it.
             WHEN k.key IN ('occurred_at', 'valid_from', 'valid_to', 'expires_at', 'deleted_at', 'created_at')
             THEN (k.value #>> '{}')::timestamptz IS DISTINCT FROM (b.state ->> k.key)::timestamptz
             ELSE k.value IS DISTINCT FROM b.state -> k.key END
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
  -- Before the row, for the case that it is linked anew: who says what names mean may want that too.
  PERFORM engram_internal.lock_keys(ws, '{}');
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
  -- The first change after the moment has the row as it was then; what nobody has changed since is as it is. Since when
  -- it is there created_at says, also where an import added it later.
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
    SELECT x.old FROM engram.memory_events x
    WHERE (x.workspace_id = memories_as_of.workspace) IS TRUE AND x.memory_id = u.id AND x.at > memories_as_of.as_of
      AND x.old IS NOT NULL
    ORDER BY x.version LIMIT 1) e ON true
  LEFT JOIN LATERAL jsonb_to_record(e.old) AS o (
    agent_id text, session_id text, speaker text, role text, content text, summary text, type text,
    importance double precision, layer text, pinned boolean, tags text[], metadata jsonb, source text,
    occurred_at timestamptz, valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
    contradicted_by uuid[], expires_at timestamptz, deleted_at timestamptz, version integer, updated_at timestamptz,
    entities text[]) ON true;
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
COMMENT ON FUNCTION engram_internal.state_as_of(uuid, timestamptz, uuid[]) IS
'How memories stood at a moment, by the uses until then that are still in the log.';
