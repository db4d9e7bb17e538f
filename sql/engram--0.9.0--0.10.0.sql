\echo Use "ALTER EXTENSION engram UPDATE TO '0.10.0'" to load this file. \quit
COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur, -word must not; the first 64 different words, 64 phrases and 64 exclusions count. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged, by default now or as_of; later uses count too, as activation() has it, unless as_of is given. as_of: search what was recorded at that moment and is still known: contents, states and filters of then, uses until then; links between memories add nothing, and vectors count where the text is the same today. What was erased since is gone from the past too. diversity: 0 to 1, by default 0: takes that much times its likeness (cosine of the vectors, else words in common) to the most similar memory before it off a score, so that a result repeats itself less. Of memories that say the same in the same words, but for articles, emphasis and punctuation, and have vectors as alike as duplicate_similarity (settings), only the best is returned, and explain names the others under repeats. Nothing that matches gives no rows.';

COMMENT ON FUNCTION engram_internal.base_level_step(double precision, timestamptz, timestamptz, double precision) IS
'Adds one use to the state of engram.base_level_agg(), the sum of age^-d, or its logarithm where that is below -598.';

COMMENT ON FUNCTION engram.heat_touch(bytea, timestamptz, double precision) IS
'The heat with one more use at t, which may be earlier than others: the order of touches does not matter.

gain: weight of the use. 0 counts none; a negative one takes back a use that was counted with that weight at that time. Counters have 24 bits: beside a gain ten million times as large a use is lost when that is taken back. More than there is to take back, as far as the counters tell when uses were, an infinite t or gain, and bytes that are no heat raise 22023.';

COMMENT ON AGGREGATE engram.heat_agg(timestamptz, double precision) IS
'The heat of a row per use, in any order: what heat_touch() would have given, rounded once. NULL without rows.

accessed_at: when it was used; NULL counts for nothing. gain: as heat_touch() has it; NULL for 1. Infinite values, and more taken back than there was, raise 22023.';

COMMENT ON FUNCTION engram.touch(uuid[], text, double precision, timestamptz, uuid, uuid) IS
'Notes that memories were used, and returns how many of them are credited. Call it with what went into the answer, not with everything that was shown.

ids: at most 1000, in order of use; unknown and forgotten ones are left out. Those used in one call are linked with each other. kind: used (default) or shown. gain: how much it counts, 0 to 100; by default 1 for used and the workspace''s shown_gain for shown. at: when, by default now; not in the future. recall_id: the recall that they answer, as recall() returns it or any id of yours: each memory is credited once for it by touch(), once by reinforce() and once by rate(), so that a retry changes nothing and feedback may come later than the use. Uses in any order, late or at the same time end in the same state.';

COMMENT ON FUNCTION engram.reinforce(uuid[], double precision, timestamptz, uuid, uuid) IS
'Gives credit to memories that helped, or takes it back from those that misled, and returns how many of them.

value: -1 (wrong) to 1 (vital, the default). Above 0 it counts as a use of that gain, rated 4 from 0.5 on and 3 below; below 0 it weakens the working strength and is rated 1; what that has not got it owes, and shows 0 until later uses have made up for it. at, recall_id: as in touch().';

COMMENT ON FUNCTION engram.activation(uuid, timestamptz, uuid) IS
'Base-level activation of a memory in nats: the log odds, up to a constant, that it is needed, by how often and how lately it was used. NULL when it is not there.

B = ln of the sum over its uses of gain × age^-d, ages in seconds, at least 1; d is the workspace''s setting decay. at: by default now. Uses later than at count too: a moment less than a second after the latest use, or change of what the memory depends on, is taken to be a second after it.';

COMMENT ON FUNCTION engram.activations(uuid[], timestamptz, uuid) IS
'Base-level activation of many memories, as activation() gives that of one: for a ranking of your own, or to see what is needed most. A row for each different id that is there, in no order; for what search() finds by itself, see there.

ids: which ones; NULL for all of the workspace. Forgotten ones count. at: as in activation().';

CREATE OR REPLACE FUNCTION engram.retention(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
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

CREATE OR REPLACE FUNCTION engram_internal.export_lines(workspace uuid, include text[], match_count integer, part integer, key jsonb)
RETURNS SETOF jsonb
LANGUAGE sql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
-- What is written must read the same everywhere, to the last bit.
SET TimeZone = 'UTC'
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
        'settings', jsonb_strip_nulls(to_jsonb(s)) - '{workspace_id,preset}'::text[], 'preset', s.preset)
      FROM engram.settings s
      WHERE 'settings' = ANY ($2) AND $4 < 1 AND s.workspace_id = $1
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
    ) l
    LIMIT $3::bigint + 1
  ) p
$$;
CREATE OR REPLACE FUNCTION engram_internal.import_links(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
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
                (line ->> 'gain')::double precision, (line ->> 'rating')::smallint, (line ->> 'recall_id')::uuid, here);
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

-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
