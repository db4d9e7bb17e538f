-- Export and import: a workspace as lines of JSON, and lines of JSON, ours and others', as a workspace.

CREATE FUNCTION engram_internal.export_start(workspace uuid, include text[], match_count integer, cursor text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known constant text[] := ARRAY['settings', 'memories', 'embeddings', 'uses', 'history', 'links', 'erasures', 'messages'];
  part  integer := -1;
  key   jsonb := '[]';
  valid boolean := true;
BEGIN
  IF NOT include <@ known OR EXISTS (SELECT FROM unnest(include) u WHERE u IS NULL) THEN
    RAISE EXCEPTION 'unknown value in include: %', include
      USING ERRCODE = 'invalid_parameter_value', HINT = format('Known: %s. By default all of them.', array_to_string(known, ', '));
  END IF;
  IF match_count < 1 THEN
    RAISE EXCEPTION 'match_count is %', match_count
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number of lines from 1, or leave it out for all of them.';
  END IF;
  IF cursor IS NOT NULL THEN
    BEGIN
      part := split_part(cursor, ':', 1)::integer;
      key := substr(cursor, position(':' IN cursor) + 1)::jsonb;
      valid := jsonb_typeof(key) = 'array' AND CASE
        WHEN part IN (0, 1) THEN true
        WHEN part IN (2, 3, 4, 13) THEN key ->> 0 IS NOT NULL
        WHEN part IN (5, 9, 10) THEN (key ->> 0)::uuid IS NOT NULL
        WHEN part = 6 THEN (key ->> 0)::uuid IS NOT NULL AND (key ->> 1)::integer IS NOT NULL
        WHEN part = 7 THEN (key ->> 0)::uuid IS NOT NULL AND key ->> 1 IS NOT NULL AND key ->> 2 IS NOT NULL
        WHEN part = 8 THEN (key ->> 0)::uuid IS NOT NULL AND (key ->> 1)::uuid IS NOT NULL
        WHEN part IN (11, 12) THEN key ->> 0 IS NOT NULL AND (key ->> 1)::timestamptz IS NOT NULL AND (key ->> 2)::uuid IS NOT NULL
        ELSE false END;
    EXCEPTION WHEN data_exception THEN
      valid := false;
    END;
    IF valid IS NOT TRUE THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.export() returned', left(cursor, 100)
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the cursor in the last line of the page before, unchanged.';
    END IF;
  END IF;
  RETURN jsonb_build_object('workspace', engram_internal.resolve_workspace(workspace, false), 'part', part, 'key', key);
END
$$;
COMMENT ON FUNCTION engram_internal.export_start(uuid, text[], integer, text) IS
'Which workspace export() reads, and after which part and key it begins; an error for wrong arguments.';

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

-- One statement in SQL, which gives its rows out one by one as it finds them: nothing is collected.
CREATE FUNCTION engram_internal.export_lines(workspace uuid, include text[], match_count integer, part integer, key jsonb)
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
COMMENT ON FUNCTION engram_internal.export_lines(uuid, text[], integer, integer, jsonb) IS
'What export() does, from after the line of a part and a key on. As the caller.';

CREATE FUNCTION engram.export(
  workspace uuid DEFAULT NULL,
  include text[] DEFAULT NULL,
  match_count integer DEFAULT NULL,
  cursor text DEFAULT NULL
) RETURNS SETOF jsonb
LANGUAGE sql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT engram_internal.export_lines((s.start ->> 'workspace')::uuid,
    coalesce($2, '{settings,memories,embeddings,uses,history,links,erasures,messages}'), $3,
    (s.start ->> 'part')::integer, s.start -> 'key')
  FROM (SELECT engram_internal.export_start($1, $2, $3, $4) AS start OFFSET 0) s
$$;
COMMENT ON FUNCTION engram.export(uuid, text[], integer, text) IS
'Everything in a workspace, one JSON object a line, for import() here or elsewhere: first a header with the format, then settings, embedding models, aliases, tombstones, memories (with state, entities, embeddings, uses and history), links, uses that wait, messages, and retention policies. Nothing is changed; an import into an empty workspace is exported as the same lines.

Rows come as they are found: COPY (SELECT engram.export()) TO STDOUT needs little memory, however many there are. include: only some of settings (retention policies too), memories, embeddings, uses, history, links, erasures, messages. match_count: so many lines, then one line {"kind": "cursor", "cursor": "…"} if there are more; pass it as cursor for the next page. All pages of one moment take one transaction that is REPEATABLE READ.';

-- Each of the following writes lines of one kind that have been checked, all or none of them, as the owner.

CREATE FUNCTION engram_internal.import_settings(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
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
COMMENT ON FUNCTION engram_internal.import_settings(uuid, boolean, text, text, jsonb) IS
'Imports settings, type_settings, models, aliases and retention policies. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_log(workspace uuid, lines jsonb[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := import_log.workspace;
  logged  bigint;
  written bigint;
BEGIN
  INSERT INTO engram.access_log (workspace_id, memory_id, accessed_at, id, user_id, kind, gain, rating, recall_id, place, pair_gain)
  SELECT ws, coalesce(l ->> 'id', l ->> 'memory_id')::uuid, u.at, u.id, u.user_id, u.kind, u.gain, u.rating, u.recall_id,
         coalesce(u.place, 1), coalesce(u.pair_gain, 0)
  FROM unnest(import_log.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'uses') AS u (id uuid, at timestamptz, user_id uuid, kind text, gain double precision,
    rating smallint, recall_id uuid, place smallint, pair_gain double precision)
  ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS logged = ROW_COUNT;
  -- What they say of the past must be readable as a memory.
  PERFORM count((jsonb_populate_record(NULL::engram.memories, v.old)).version)
  FROM unnest(import_log.lines) l CROSS JOIN LATERAL jsonb_to_recordset(l -> 'events') AS v (old jsonb) WHERE v.old IS NOT NULL;
  -- Their transactions are none of ours: origin 0 keeps them from those who ask for what is new.
  INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, actor, action, version, old)
  -- What another system did not say of the past was as it is: every memory has a type, an importance and so on.
  SELECT ws, pg_current_xact_id(), v.id, v.at, m.id, 0, v.actor, v.action, v.version, CASE WHEN v.old IS NOT NULL THEN v.old || (
      SELECT coalesce(jsonb_object_agg(k.key, k.value), '{}') FROM engram.memories p
      CROSS JOIN LATERAL jsonb_each(jsonb_build_object('content', p.content, 'type', p.type, 'importance', p.importance, 'layer', p.layer,
        'pinned', p.pinned, 'tags', p.tags, 'metadata', p.metadata, 'created_at', p.created_at, 'updated_at', p.created_at,
        'version', greatest(v.version - 1, 1), 'entities', '[]'::jsonb)) k
      WHERE p.workspace_id = ws AND p.id = m.id AND coalesce(v.old -> k.key, 'null') = 'null') END
  FROM unnest(import_log.lines) l
  CROSS JOIN LATERAL (SELECT coalesce(l ->> 'id', l ->> 'memory_id')::uuid AS id) m
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'events') AS v (id uuid, at timestamptz, actor uuid, action text, version integer, old jsonb)
  -- One look-up an event: as a join it could read everybody's.
  WHERE (SELECT count(*) FROM (SELECT FROM engram.memory_events e
         WHERE (e.workspace_id = ws) IS TRUE AND e.memory_id = m.id AND e.id = v.id LIMIT 1) known) = 0;
  GET DIAGNOSTICS written = ROW_COUNT;
  RETURN logged + written;
END
$$;
COMMENT ON FUNCTION engram_internal.import_log(uuid, jsonb[]) IS
'Writes uses and events of memories that an import brings, those that are not there yet, and counts them. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_attached(workspace uuid, lines jsonb[]) RETURNS TABLE (memory uuid, left_out text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := import_attached.workspace;
BEGIN
  INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label, weight, created_at)
  SELECT ws, (l ->> 'id')::uuid, coalesce(nullif(e.relation, ''), 'mentions'), k.node, btrim(e.name), coalesce(e.weight, 1), coalesce(e.created_at, now())
  FROM unnest(import_attached.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'entities') AS e (name text, node text, relation text, weight double precision, created_at timestamptz)
  CROSS JOIN LATERAL (SELECT coalesce(e.node, engram_internal.entity_key(ws, e.name)) AS node) k
  WHERE k.node <> ''
  ON CONFLICT DO NOTHING;
  INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding, created_at)
  SELECT ws, (l ->> 'id')::uuid, m.name, v.embedding, coalesce(e.created_at, now())
  FROM unnest(import_attached.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'embeddings') AS e (model text, embedding text, created_at timestamptz)
  CROSS JOIN LATERAL (SELECT translate(e.embedding, '[]', '{}')::real[] AS embedding OFFSET 0) v
  JOIN engram.embedding_models m ON m.name = e.model AND m.dims = cardinality(v.embedding)
  ON CONFLICT DO NOTHING;
  RETURN QUERY
  SELECT (l ->> 'id')::uuid, 'without its vectors, for which no model of their name and length is registered: ' || string_agg(DISTINCT e.model, ', ')
  FROM unnest(import_attached.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'embeddings') AS e (model text, embedding text)
  WHERE NOT EXISTS (SELECT FROM engram.embedding_models m WHERE m.name = e.model
                    AND m.dims = cardinality(translate(e.embedding, '[]', '{}')::real[]))
  GROUP BY 1;
END
$$;
COMMENT ON FUNCTION engram_internal.import_attached(uuid, jsonb[]) IS
'Writes entities and vectors of memories that an import brings, and tells what is left out. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_states(workspace uuid, lines jsonb[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  -- By the place of the row: as a join it might read all of the workspace.
  UPDATE engram.memory_state s
  SET access_count = t.access_count, last_accessed_at = t.last_accessed_at, heat = decode(t.heat, 'base64'),
      working_strength = t.working_strength, core_strength = t.core_strength, layer = t.layer, stability = t.stability,
      difficulty = t.difficulty, base = t.base
  FROM unnest(import_states.lines) l
  CROSS JOIN LATERAL jsonb_to_record(l -> 'state') AS t (access_count bigint, last_accessed_at timestamptz, heat text,
    working_strength double precision, core_strength double precision, layer text, stability double precision,
    difficulty double precision, base jsonb)
  CROSS JOIN LATERAL (SELECT x.ctid FROM engram.memory_state x
    WHERE x.workspace_id = import_states.workspace AND x.memory_id = (l ->> 'id')::uuid OFFSET 0) x
  WHERE l ? 'state' AND s.ctid = x.ctid AND s.workspace_id = import_states.workspace;
END
$$;
COMMENT ON FUNCTION engram_internal.import_states(uuid, jsonb[]) IS
'Gives memories the states that an import brings. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_memory(workspace uuid, on_conflict text, line jsonb, INOUT status text, INOUT error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := import_memory.workspace;
  this  uuid := (line ->> 'id')::uuid;
  -- What an import does not decide of a memory that is here.
  fixed constant text[] := '{workspace_id,id,user_id,version,created_at,updated_at,content_hash,layer}';
  held  jsonb;
  given jsonb;
  n     record;
BEGIN
  IF EXISTS (SELECT FROM engram.erasures e WHERE e.workspace_id = ws AND e.id = this) THEN
    status := 'erased';
    error := 'it was erased here, and an id that was erased does not come back';
    RETURN;
  END IF;
  -- What is to be replaced import_as_owner() has locked.
  SELECT to_jsonb(m) INTO held FROM engram.memories m WHERE m.workspace_id = ws AND m.id = this;
  -- What the line does not say is empty, but for what every memory has.
  given := jsonb_strip_nulls(jsonb_build_object('type', held -> 'type', 'importance', held -> 'importance', 'pinned', held -> 'pinned',
      'layer', held -> 'layer', 'tags', held -> 'tags')) || jsonb_build_object('metadata', held -> 'metadata')
    || (line - '{state,entities,embeddings,uses,events}'::text[]);
  SELECT r.* INTO n FROM jsonb_populate_record(NULL::engram.memories, given) r;
  IF to_jsonb(n) - fixed = held - fixed
     AND (on_conflict <> 'replace' OR NOT line ? 'state' OR EXISTS (
       SELECT FROM engram.memory_state s CROSS JOIN jsonb_to_record(line -> 'state') AS t (access_count bigint, last_accessed_at timestamptz, heat text)
       WHERE s.workspace_id = ws AND s.memory_id = this AND s.access_count = t.access_count
         AND s.last_accessed_at = t.last_accessed_at AND s.heat IS NOT DISTINCT FROM decode(t.heat, 'base64'))) THEN
    status := 'unchanged';
    RETURN;
  ELSIF on_conflict = 'skip' THEN
    status := 'skipped';
    RETURN;
  ELSIF on_conflict = 'reject' THEN
    status := 'error';
    error := 'a memory with this id is here already, and is another';
    RETURN;
  END IF;
  UPDATE engram.memories m SET
    agent_id = n.agent_id, session_id = n.session_id, speaker = n.speaker, role = n.role, content = n.content, summary = n.summary,
    type = n.type, importance = n.importance, layer = n.layer, pinned = n.pinned, tags = n.tags, metadata = n.metadata,
    source = n.source, occurred_at = n.occurred_at, valid_from = n.valid_from, valid_to = n.valid_to,
    superseded_by = n.superseded_by, contradicts = n.contradicts, contradicted_by = n.contradicted_by,
    expires_at = n.expires_at, deleted_at = n.deleted_at
  WHERE m.workspace_id = ws AND m.id = this;
  IF line ? 'state' THEN
    PERFORM engram_internal.import_states(ws, ARRAY[line]);
    -- The log is what the state is made of.
    DELETE FROM engram.access_log l WHERE l.workspace_id = ws AND l.memory_id = this;
    PERFORM engram_internal.import_log(ws, ARRAY[line - 'events']);
  END IF;
  IF line ? 'entities' THEN
    DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = this AND g.target_id IS NULL;
  END IF;
  IF line ? 'embeddings' THEN
    DELETE FROM engram.embeddings e WHERE e.workspace_id = ws AND e.memory_id = this;
  END IF;
  error := (SELECT a.left_out FROM engram_internal.import_attached(ws, ARRAY[line]) a);
  status := 'replaced';
END
$$;
COMMENT ON FUNCTION engram_internal.import_memory(uuid, text, jsonb, text, text) IS
'Imports a memory whose id the workspace knows. Its history stays, and what is replaced is one change more. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_memories(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws       uuid := import_memories.workspace;
  kind     text := import_memories.kind;
  line     jsonb;
  this     uuid;
  fresh    jsonb[] := '{}';
  fresh_at integer[] := '{}';
  replaced uuid[] := '{}';
  notes    jsonb;
  held     record;
BEGIN
  IF kind = 'memory' THEN
    SELECT coalesce(array_agg(i.l ORDER BY i.l ->> 'id'), '{}'), coalesce(array_agg(i.p), '{}') INTO fresh, fresh_at FROM (
      SELECT t.p, t.l, row_number() OVER (PARTITION BY t.l ->> 'id' ORDER BY t.p) AS nth
      FROM jsonb_to_recordset(import_memories.items) AS t (p integer, l jsonb)) i
    WHERE i.nth = 1
      AND (SELECT count(*) FROM (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = (i.l ->> 'id')::uuid OFFSET 0) m) = 0
      AND (SELECT count(*) FROM (SELECT FROM engram.erasures e WHERE e.workspace_id = ws AND e.id = (i.l ->> 'id')::uuid OFFSET 0) e) = 0;
    -- The triggers make them searchable, and write that they were added, here and now.
    INSERT INTO engram.memories (workspace_id, id, user_id, agent_id, session_id, speaker, role, content, summary, type, importance,
      layer, pinned, tags, metadata, source, occurred_at, valid_from, valid_to, superseded_by, contradicts, contradicted_by,
      expires_at, deleted_at, version, created_at, updated_at)
    SELECT ws, r.id, r.user_id, r.agent_id, r.session_id, r.speaker, r.role, r.content, r.summary, r.type, r.importance,
      r.layer, r.pinned, r.tags, r.metadata, r.source, r.occurred_at, r.valid_from, r.valid_to, r.superseded_by, r.contradicts,
      r.contradicted_by, r.expires_at, r.deleted_at, r.version, r.created_at, r.updated_at
    FROM unnest(fresh) l
    CROSS JOIN LATERAL jsonb_populate_record(NULL::engram.memories, l - '{state,entities,embeddings,uses,events}'::text[]) r;
    PERFORM engram_internal.import_states(ws, fresh);
    PERFORM engram_internal.import_log(ws, fresh);
    notes := (SELECT jsonb_object_agg(a.memory, a.left_out) FROM engram_internal.import_attached(ws, fresh) a);
  END IF;
  FOR position, line IN SELECT t.p, t.l FROM jsonb_to_recordset(import_memories.items) AS t (p integer, l jsonb) ORDER BY t.p LOOP
    error := NULL;
    this := coalesce(line ->> 'id', line ->> 'memory_id')::uuid;
    IF kind = 'memory' AND position = ANY (fresh_at) THEN
      error := notes ->> this::text;
      status := 'added';
    ELSIF kind = 'memory' THEN
      SELECT i.status, i.error INTO status, error FROM engram_internal.import_memory(ws, import_memories.on_conflict, line, NULL, NULL) i;
      IF status = 'replaced' THEN
        replaced := replaced || this;
      END IF;
    ELSIF kind = 'more' THEN
      SELECT m.version = (line ->> 'version')::integer AND m.updated_at = (line ->> 'updated_at')::timestamptz AS told,
             s.access_count = (line ->> 'access_count')::bigint AND s.last_accessed_at = (line ->> 'last_accessed_at')::timestamptz AS used
      INTO held FROM engram.memories m LEFT JOIN engram.memory_state s ON s.workspace_id = ws AND s.memory_id = this
      WHERE m.workspace_id = ws AND m.id = this;
      IF NOT FOUND THEN
        status := 'error';
        error := 'the memory is not in this workspace';
      ELSIF held.told OR held.used THEN
        -- Only to what was imported just before: a memory that has lived on here has a log of its own.
        status := CASE WHEN engram_internal.import_log(ws, ARRAY[line - CASE WHEN NOT coalesce(held.used, false) THEN 'uses'
          WHEN NOT held.told THEN 'events' ELSE '' END]) > 0 THEN 'added' ELSE 'unchanged' END;
      ELSE
        status := 'skipped';
      END IF;
    ELSIF EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = this) THEN
      status := 'skipped';
      error := 'the memory is here, and an import erases nothing';
    ELSIF EXISTS (SELECT FROM engram.erasures e WHERE e.workspace_id = ws AND e.id = this) THEN
      status := 'unchanged';
    ELSE
      INSERT INTO engram.erasures (workspace_id, id, erased_by, erased_at)
      VALUES (ws, this, (line ->> 'erased_by')::uuid, (line ->> 'erased_at')::timestamptz);
      PERFORM engram_internal.import_log(ws, ARRAY[line]);
      INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, actor, action, version)
      VALUES (ws, pg_current_xact_id(), engram_internal.uuid_v7(), clock_timestamp(), this, engram_internal.store_origin(),
              engram.current_user_id(), 'erased', coalesce((line #>> '{events,-1,version}')::integer, 1));
      status := 'added';
    END IF;
    id := this;
    RETURN NEXT;
  END LOOP;
  -- There is no circle among the lines, so one that they close leads through what was here: only a memory that takes the
  -- place of such a one, or is such a one, is asked whether it comes back to itself. One look-up each, as above.
  WITH added AS MATERIALIZED (
    SELECT (l ->> 'id')::uuid AS id FROM unnest(fresh) l
  ), asked AS (
    SELECT u AS id, true AS here FROM unnest(replaced) u
    UNION ALL
    SELECT (l ->> 'id')::uuid, false FROM unnest(fresh) l WHERE l ->> 'superseded_by' IS NOT NULL
  )
  SELECT q.id AS old, m.superseded_by AS new INTO held FROM asked q CROSS JOIN LATERAL (
    SELECT m.superseded_by FROM engram.memories m WHERE m.workspace_id = ws AND m.id = q.id OFFSET 0) m
  WHERE CASE WHEN m.superseded_by IS NOT NULL AND EXISTS (
      SELECT FROM engram.memories o WHERE (o.workspace_id = ws) IS TRUE AND o.superseded_by = q.id
        AND (q.here OR o.id NOT IN (SELECT a.id FROM added a)))
    THEN q.id = ANY (engram_internal.successors(ws, m.superseded_by)) END
  ORDER BY q.id LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'memory "%" cannot be superseded by "%", which it supersedes itself', held.old, held.new
      USING ERRCODE = 'invalid_parameter_value',
            HINT = format('SELECT * FROM engram.superseded(''%s'') shows the chain; engram.unsupersede() takes a memory out of it.', held.new);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.import_memories(uuid, boolean, text, text, jsonb) IS
'Imports memories, the rest of what hangs on large ones, and tombstones. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_links(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := import_links.workspace;
  kind    text := import_links.kind;
  replace boolean := import_links.on_conflict = 'replace';
  line    jsonb;
  ids     uuid[];
  here    uuid[];
  old     jsonb;
  new     jsonb;
BEGIN
  FOR position, line IN SELECT t.p, t.l FROM jsonb_to_recordset(import_links.items) AS t (p integer, l jsonb) ORDER BY t.p LOOP
    error := NULL;
    old := NULL;
    id := coalesce(line ->> 'source', line ->> 'a', line ->> 'id', line ->> 'recall_id')::uuid;
    ids := CASE kind WHEN 'link' THEN ARRAY[line ->> 'source', line ->> 'target']::uuid[]
                     WHEN 'pair' THEN ARRAY[line ->> 'a', line ->> 'b']::uuid[]
                     WHEN 'call' THEN ARRAY(SELECT u.x::uuid FROM jsonb_array_elements_text(line -> 'memory_ids') WITH ORDINALITY AS u (x, nth) ORDER BY u.nth)
                     ELSE ARRAY(SELECT DISTINCT u.x::uuid FROM unnest(ARRAY[line -> 'memory_ids', line -> 'reinforced_ids', line -> 'rated_ids']) AS l (list)
                                CROSS JOIN LATERAL jsonb_array_elements_text(l.list) AS u (x)) END;
    here := ARRAY(SELECT u.x FROM unnest(ids) WITH ORDINALITY AS u (x, nth)
                  CROSS JOIN LATERAL (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = u.x OFFSET 0) m ORDER BY u.nth);
    IF here = '{}' OR kind IN ('link', 'pair') AND cardinality(here) < 2 THEN
      status := 'error';
      error := format('memory "%s" is not in this workspace', (SELECT u FROM unnest(ids) u WHERE u <> ALL (here) LIMIT 1));
    ELSIF kind = 'link' THEN
      IF line ->> 'relation' IN ('mentions', 'used_with', '') OR line ->> 'source' = line ->> 'target' THEN
        RAISE EXCEPTION 'a link "%" from memory "%" to "%" cannot be', line ->> 'relation', line ->> 'source', line ->> 'target'
          USING ERRCODE = 'invalid_parameter_value', HINT = 'See engram.link().';
      END IF;
      SELECT jsonb_build_object('weight', g.weight) INTO old FROM engram.graph_links g
      WHERE g.workspace_id = ws AND g.memory_id = ids[1] AND g.relation = line ->> 'relation' AND g.node = ids[2]::text;
      IF old -> 'weight' = coalesce(line -> 'weight', '1') THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        INSERT INTO engram.graph_links AS g (workspace_id, memory_id, relation, node, label, target_id, weight, created_at)
        VALUES (ws, ids[1], line ->> 'relation', ids[2]::text, ids[2]::text, ids[2],
                coalesce((line ->> 'weight')::double precision, 1), coalesce((line ->> 'created_at')::timestamptz, now()))
        ON CONFLICT (workspace_id, memory_id, relation, node) DO UPDATE SET weight = EXCLUDED.weight, target_id = EXCLUDED.target_id;
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
      END IF;
    ELSIF kind = 'pair' THEN
      SELECT to_jsonb(h) - 'workspace_id' INTO old FROM engram.hebbian_links h WHERE h.workspace_id = ws AND h.a = ids[1] AND h.b = ids[2];
      SELECT to_jsonb(h) - 'workspace_id' INTO new FROM jsonb_populate_record(NULL::engram.hebbian_links, line) h;
      IF old = new THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        INSERT INTO engram.hebbian_links AS h (workspace_id, a, b, forward, backward, linked_at, count)
        SELECT ws, n.a, n.b, n.forward, n.backward, n.linked_at, n.count FROM jsonb_populate_record(NULL::engram.hebbian_links, line) n
        ON CONFLICT (workspace_id, a, b) DO UPDATE
        SET forward = EXCLUDED.forward, backward = EXCLUDED.backward, linked_at = EXCLUDED.linked_at, count = EXCLUDED.count;
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
      END IF;
    ELSIF kind = 'call' THEN
      IF (line ->> 'at')::timestamptz > clock_timestamp() THEN
        status := 'error';
        error := format('it lies in the future: %s', line ->> 'at');
      ELSIF EXISTS (SELECT FROM engram.access_queue q WHERE q.workspace_id = ws AND q.id = (line ->> 'id')::uuid)
         OR EXISTS (SELECT FROM engram.access_log l WHERE l.workspace_id = ws AND l.memory_id = here[1]
                    AND l.accessed_at = (line ->> 'at')::timestamptz AND l.id = (line ->> 'id')::uuid) THEN
        status := 'unchanged';
      ELSE
        INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, recall_id, memory_ids)
        VALUES (ws, (line ->> 'id')::uuid, (line ->> 'at')::timestamptz, (line ->> 'user_id')::uuid, line ->> 'use',
                (line ->> 'gain')::double precision, (line ->> 'rating')::smallint, (line ->> 'recall_id')::uuid,
                -- As where memories of a call were erased: the others keep their places.
                ARRAY(SELECT CASE WHEN u.x = ANY (here) THEN u.x ELSE '00000000-0000-0000-0000-000000000000' END
                      FROM unnest(ids) WITH ORDINALITY AS u (x, nth) ORDER BY u.nth));
        status := 'added';
      END IF;
    ELSE
      INSERT INTO engram.recall_credits (workspace_id, recall_id, memory_ids, reinforced_ids, rated_ids, created_at)
      VALUES (ws, (line ->> 'recall_id')::uuid, ARRAY(SELECT u.x::uuid FROM jsonb_array_elements_text(line -> 'memory_ids') WITH ORDINALITY AS u (x, nth)
                                                      WHERE u.x::uuid = ANY (here) ORDER BY u.nth),
              CASE WHEN line ? 'reinforced_ids' THEN ARRAY(SELECT u.x::uuid FROM jsonb_array_elements_text(line -> 'reinforced_ids') WITH ORDINALITY AS u (x, nth)
                                                           WHERE u.x::uuid = ANY (here) ORDER BY u.nth) END,
              CASE WHEN line ? 'rated_ids' THEN ARRAY(SELECT u.x::uuid FROM jsonb_array_elements_text(line -> 'rated_ids') WITH ORDINALITY AS u (x, nth)
                                                      WHERE u.x::uuid = ANY (here) ORDER BY u.nth) END, (line ->> 'created_at')::timestamptz)
      ON CONFLICT DO NOTHING;
      status := CASE WHEN FOUND THEN 'added' ELSE 'unchanged' END;
    END IF;
    ids := array_remove(ids, '00000000-0000-0000-0000-000000000000');
    IF status = 'added' AND cardinality(here) < cardinality(ids) THEN
      error := format('without %s memories that are not in this workspace', cardinality(ids) - cardinality(here));
    ELSIF status = 'skipped' AND import_links.on_conflict = 'reject' THEN
      status := 'error';
      error := 'there is another one already';
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.import_links(uuid, boolean, text, text, jsonb) IS
'Imports links, pairs, calls that wait and credits. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_messages(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := import_messages.workspace;
  chat    text;
  line    jsonb;
  this    uuid;
  theirs  uuid[];
  known   uuid[];
  held    record;
  longest integer := (SELECT coalesce(w.max_content_chars, d.max_content_chars)
                      FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = import_messages.workspace
                      WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
BEGIN
  FOR position, line IN SELECT t.p, t.l FROM jsonb_to_recordset(import_messages.items) AS t (p integer, l jsonb) ORDER BY t.p LOOP
    error := NULL;
    status := 'added';
    chat := line ->> 'session_id';
    this := (line ->> 'id')::uuid;
    IF ws = '00000000-0000-0000-0000-000000000000' THEN
      PERFORM engram_internal.refuse_workspace(ws);
    ELSIF chat = '' THEN
      RAISE EXCEPTION 'session_id is empty'
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the conversation that the turn belongs to.';
    ELSIF import_messages.kind = 'message' AND char_length(line ->> 'content') > longest
       OR import_messages.kind = 'archive' AND EXISTS (SELECT FROM jsonb_array_elements(line -> 'turns') t WHERE char_length(t ->> 'content') > longest) THEN
      RAISE EXCEPTION 'content has more than % characters', longest
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Split the turn, or have an administrator raise max_content_chars with engram.configure().';
    ELSIF import_messages.kind = 'message' THEN
      SELECT m.content, false AS archived INTO held FROM engram.messages m
      WHERE m.workspace_id = ws AND m.session_id = chat AND m.id = this;
      IF NOT FOUND THEN
        SELECT t.content, true AS archived INTO held FROM engram.message_archive a
        CROSS JOIN LATERAL engram_internal.archived_turns(a.ids, a.messages) t
        WHERE a.workspace_id = ws AND a.session_id = chat AND this = ANY (a.ids) AND t.id = this;
      END IF;
      IF FOUND THEN
        status := 'unchanged';
        IF held.content <> line ->> 'content' THEN
          status := CASE WHEN import_messages.on_conflict = 'skip' THEN 'skipped'
                         WHEN import_messages.on_conflict = 'replace' AND NOT held.archived THEN 'replaced' ELSE 'error' END;
          error := CASE status WHEN 'error' THEN 'another turn with this id is in the conversation already' || CASE
            WHEN import_messages.on_conflict = 'replace'
            THEN format(', archived; bring it back first: SELECT engram.restore_messages(%L)', chat) ELSE '' END END;
        END IF;
      END IF;
      IF status = 'replaced' THEN
        DELETE FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = chat AND m.id = this;
      END IF;
      IF status IN ('added', 'replaced') THEN
        INSERT INTO engram.messages (workspace_id, session_id, created_at, id, user_id, role, speaker, content, metadata)
        SELECT ws, chat, n.created_at, this, n.user_id, n.role, n.speaker, n.content, coalesce(n.metadata, '{}')
        FROM jsonb_populate_record(NULL::engram.messages, line) n;
      END IF;
    ELSE
      theirs := ARRAY(SELECT u::uuid FROM jsonb_array_elements_text(line -> 'ids') WITH ORDINALITY AS x (u, nth) ORDER BY x.nth);
      known := ARRAY(SELECT m.id FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = chat AND m.id = ANY (theirs))
            || ARRAY(SELECT u FROM engram.message_archive a CROSS JOIN LATERAL unnest(a.ids) u
                     WHERE a.workspace_id = ws AND a.session_id = chat AND a.ids && theirs);
      INSERT INTO engram.message_archive (workspace_id, session_id, first_at, id, last_at, turns, ids, messages)
      SELECT ws, chat, min(t.created_at), this, max(t.created_at), count(*), array_agg(t.id ORDER BY t.created_at, t.id),
             jsonb_agg(engram_internal.archived_turn(t.user_id, t.role, t.speaker, t.content, t.metadata, t.created_at) ORDER BY t.created_at, t.id)
      FROM (SELECT DISTINCT ON (x.id) x.* FROM engram_internal.archived_turns(theirs, line -> 'turns') x) t
      WHERE t.id <> ALL (known) HAVING count(*) > 0;
      IF NOT FOUND THEN
        status := 'unchanged';
      ELSIF cardinality(known) > 0 THEN
        error := format('without %s turns that are here already', cardinality(known));
      END IF;
    END IF;
    id := this;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.import_messages(uuid, boolean, text, text, jsonb) IS
'Imports messages and archived ones. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.lock_import(workspace uuid, lines jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF lines ? 'alias' THEN
    PERFORM engram_internal.lock_names(lock_import.workspace);
  ELSE
    PERFORM engram_internal.lock_keys(lock_import.workspace, '{}');
  END IF;
  -- Who stores the same waits, and so does another import: some of what lines say has no key.
  PERFORM engram_internal.lock_keys(lock_import.workspace, ARRAY(
    SELECT 'import' UNION SELECT 'superseded'
    UNION SELECT coalesce(i.l ->> 'id', i.l ->> 'memory_id')::uuid::text
    FROM unnest('{erasure,memory,more}'::text[]) k CROSS JOIN LATERAL jsonb_to_recordset(lines -> k) AS i (l jsonb)
    UNION SELECT encode(sha256(convert_to(engram_internal.normalize_content(i.l ->> 'content'), 'UTF8')), 'hex')
    FROM jsonb_to_recordset(lines -> 'memory') AS i (l jsonb)
    UNION SELECT 'conversation ' || (i.l ->> 'session_id')
    FROM unnest('{message,archive}'::text[]) k CROSS JOIN LATERAL jsonb_to_recordset(lines -> k) AS i (l jsonb)));
END
$$;
COMMENT ON FUNCTION engram_internal.lock_import(uuid, jsonb) IS
'Until the end of the transaction nobody else stores what these lines bring, as import_as_owner() has them. To be taken before rows: who stores has his keys first as well.';

CREATE FUNCTION engram_internal.lock_imported(workspace uuid, replaces boolean, lines jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ws      uuid := lock_imported.workspace;
  this    uuid;
  changes boolean;
BEGIN
  -- Always in the same order, as in lock_memories() and erase(), and in whichever order the lines came. What stays as it
  -- is is not locked, and of what is linked only that it stays.
  FOR this, changes IN
    SELECT u.id, bool_or(u.changes) FROM (
      SELECT (i.l ->> 'id')::uuid AS id, true AS changes FROM jsonb_to_recordset(lines -> 'memory') AS i (l jsonb) WHERE replaces
      UNION ALL
      SELECT e::uuid, false FROM jsonb_to_recordset(lines -> 'link') AS i (l jsonb)
      CROSS JOIN LATERAL unnest(ARRAY[i.l ->> 'source', i.l ->> 'target']) e) u
    GROUP BY u.id ORDER BY u.id
  LOOP
    IF changes THEN
      PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = this FOR NO KEY UPDATE;
    ELSE
      PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = this FOR KEY SHARE;
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.lock_imported(uuid, boolean, jsonb) IS
'Until the end of the transaction nobody else changes what these lines replace, nor erases what they link. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_as_owner(workspace uuid, trusted boolean, on_conflict text, dry_run boolean, lines jsonb)
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
COMMENT ON FUNCTION engram_internal.import_as_owner(uuid, boolean, text, boolean, jsonb) IS
'Writes what import() has checked. lines: by kind, arrays of {"p": position, "l": line}. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.import(
  data jsonb,
  format text DEFAULT NULL,
  on_conflict text DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE ("position" integer, kind text, id uuid, status text, error text)
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'import_wrapper';
COMMENT ON FUNCTION engram.import(jsonb, text, text, boolean, uuid) IS
'Stores what export() wrote, or what another memory system did, and reports each line: added, replaced, unchanged, skipped, erased (its id was erased here) or error. A bad line does not lose the others, and to repeat an import changes nothing.

data: one line of export(), or an array of them in any order; memories before or together with what hangs on them. At most 100,000 lines a call. format: engram, engramai (tables of its SQLite file as arrays of rows: memories, access_log, hebbian_links, graph_links, entities, memory_entities, memory_embeddings), mem0 (results, memories, history) or mcp (the graph of the MCP memory server, also as the text of its file); by default found by shape. on_conflict, for what is here already and is another: skip (default), replace (its history stays) or reject (an error of that line). dry_run: only report. workspace: only for roles that bypass row security; nothing in the data decides it.

Times, versions, states, uses and history come as they were: history() and as_of show what they showed there, and a memory that comes without a history was there, as it is, since its created_at. For callers whom row security binds everybody named in the data becomes the caller. Vectors need their model to be registered here; a role that bypasses row security registers it with the import. Others who import, or who store the same, wait until the transaction ends; where it brings more than a few memories, all who store in the workspace.';
