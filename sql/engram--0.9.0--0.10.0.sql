\echo Use "ALTER EXTENSION engram UPDATE TO '0.10.0'" to load this file. \quit
CREATE OR REPLACE FUNCTION engram.stats(workspace uuid DEFAULT NULL)
RETURNS TABLE (
  memories bigint, forgotten bigint, superseded bigint, expired bigint, pinned bigint,
  by_type jsonb, by_layer jsonb, embeddings jsonb, pending_embeddings bigint, content_chars bigint,
  oldest timestamptz, newest timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(stats.workspace, false);
BEGIN
  RETURN QUERY
  WITH alive AS MATERIALIZED (
    SELECT m.id, m.type, m.layer, m.pinned, m.content, m.created_at, m.superseded_by, m.expires_at
    FROM engram.memories m WHERE m.workspace_id = ws AND m.deleted_at IS NULL)
  SELECT
    (SELECT count(*) FROM alive),
    (SELECT count(*) FROM engram.memories m WHERE m.workspace_id = ws AND m.deleted_at IS NOT NULL),
    (SELECT count(*) FROM alive a WHERE a.superseded_by IS NOT NULL),
    (SELECT count(*) FROM alive a WHERE a.expires_at <= now()),
    (SELECT count(*) FROM alive a WHERE a.pinned),
    (SELECT coalesce(jsonb_object_agg(t.type, t.n), '{}') FROM (SELECT a.type, count(*) AS n FROM alive a GROUP BY a.type) t),
    (SELECT coalesce(jsonb_object_agg(l.layer, l.n), '{}') FROM
      (SELECT p.layer, count(*) AS n FROM engram_internal.layers(ws) p GROUP BY p.layer) l),
    (SELECT coalesce(jsonb_object_agg(e.model, e.n), '{}') FROM
      (SELECT x.model, count(*) AS n FROM engram.embeddings x
       -- Of what a policy hides, nothing is counted.
       WHERE x.workspace_id = ws AND EXISTS (
         SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = x.memory_id AND m.deleted_at IS NULL)
       GROUP BY x.model) e),
    (SELECT count(*) FROM alive a, engram.embedding_models d WHERE d.is_default AND NOT EXISTS
      (SELECT FROM engram.embeddings x WHERE x.workspace_id = ws AND x.memory_id = a.id AND x.model = d.name)),
    (SELECT coalesce(sum(char_length(a.content)), 0)::bigint FROM alive a),
    (SELECT min(a.created_at) FROM alive a),
    (SELECT max(a.created_at) FROM alive a);
END
$$;
COMMENT ON FUNCTION engram.stats(uuid) IS
'Counts of one workspace: one row. memories are those not forgotten; of them, by_type, by_layer and embeddings (by model) are objects of counts; pending_embeddings lack a vector of the default model.';

CREATE OR REPLACE FUNCTION engram_internal.versions(workspace uuid, id uuid)
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
CREATE OR REPLACE FUNCTION engram_internal.memories_as_of(workspace uuid, as_of timestamptz, ids uuid[])
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
COMMENT ON FUNCTION engram.import(jsonb, text, text, boolean, uuid) IS
'Stores what export() wrote, or what another memory system did, and reports each line: added, replaced, unchanged, skipped, erased (its id was erased here) or error. A bad line does not lose the others, and to repeat an import changes nothing.

data: one line of export(), or an array of them in any order; memories before or together with what hangs on them. At most 100,000 lines a call. format: engram, engramai (tables of its SQLite file as arrays of rows: memories, access_log, hebbian_links, graph_links, entities, memory_entities, memory_embeddings), mem0 (results, memories, history) or mcp (the graph of the MCP memory server, also as the text of its file); by default found by shape. on_conflict, for what is here already and is another: skip (default), replace (its history stays) or reject (an error of that line). dry_run: only report. workspace: only for roles that bypass row security; nothing in the data decides it.

Times, versions, states, uses and history come as they were: history() and as_of show what they showed there, and a memory that comes without a history was there, as it is, since its created_at. For callers whom row security binds everybody named in the data becomes the caller. Vectors need their model to be registered here; a role that bypasses row security registers it with the import. Others who store in the workspace wait until the transaction ends.';

-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
