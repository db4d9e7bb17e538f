\echo Use "ALTER EXTENSION engram UPDATE TO '0.12.0'" to load this file. \quit
CREATE OR REPLACE FUNCTION engram.update(
  id uuid,
  content text DEFAULT NULL,
  summary text DEFAULT NULL,
  type text DEFAULT NULL,
  importance double precision DEFAULT NULL,
  tags text[] DEFAULT NULL,
  metadata jsonb DEFAULT NULL,
  occurred_at timestamptz DEFAULT NULL,
  agent_id text DEFAULT NULL,
  session_id text DEFAULT NULL,
  speaker text DEFAULT NULL,
  role text DEFAULT NULL,
  source text DEFAULT NULL,
  entities text[] DEFAULT NULL,
  embedding vector DEFAULT NULL,
  valid_from timestamptz DEFAULT NULL,
  valid_to timestamptz DEFAULT NULL,
  expires_at timestamptz DEFAULT NULL,
  clear text[] DEFAULT NULL,
  expected_version integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws  uuid := engram_internal.resolve_workspace(update.workspace, true);
  gone text[] := coalesce(update.clear, '{}');
  both_ text;
  old record;
  now_at integer;
BEGIN
  IF NOT gone <@ ARRAY['summary', 'tags', 'metadata', 'occurred_at', 'agent_id', 'session_id', 'speaker', 'role',
                       'source', 'entities', 'valid_from', 'valid_to', 'expires_at'] THEN
    RAISE EXCEPTION 'clear has a name that cannot be cleared: %', gone
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Known: summary, tags, metadata, occurred_at, agent_id, session_id, speaker, role, source, entities, valid_from, valid_to, expires_at.';
  END IF;
  -- A caller who says both means one of them, and nobody knows which.
  SELECT g.name INTO both_ FROM unnest(gone) AS g (name)
  WHERE CASE g.name
    WHEN 'summary' THEN update.summary IS NOT NULL WHEN 'tags' THEN update.tags IS NOT NULL
    WHEN 'metadata' THEN update.metadata IS NOT NULL WHEN 'occurred_at' THEN update.occurred_at IS NOT NULL
    WHEN 'agent_id' THEN update.agent_id IS NOT NULL WHEN 'session_id' THEN update.session_id IS NOT NULL
    WHEN 'speaker' THEN update.speaker IS NOT NULL WHEN 'role' THEN update.role IS NOT NULL
    WHEN 'source' THEN update.source IS NOT NULL WHEN 'entities' THEN update.entities IS NOT NULL
    WHEN 'valid_from' THEN update.valid_from IS NOT NULL WHEN 'valid_to' THEN update.valid_to IS NOT NULL
    WHEN 'expires_at' THEN update.expires_at IS NOT NULL END
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '% is to be cleared and is given a value', both_
      USING ERRCODE = 'invalid_parameter_value',
            HINT = format('Leave %s out of clear to store the value, or pass only clear to empty it.', both_);
  END IF;
  IF cardinality(update.entities) > 0 THEN
    -- Before the row: who says what names mean may want that too.
    PERFORM engram_internal.lock_keys(ws, '{}');
  END IF;
  SELECT * INTO old FROM engram.memories m WHERE m.workspace_id = ws AND m.id = update.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(update.id);
  END IF;
  IF update.expected_version <> old.version THEN
    RAISE EXCEPTION 'memory "%" is at version %, not %', update.id, old.version, update.expected_version
      USING ERRCODE = 'PT409', HINT = 'Somebody changed it meanwhile. Read it again with engram.get() and repeat your change.';
  END IF;
  UPDATE engram.memories m SET
    content     = coalesce(update.content, m.content),
    summary     = CASE WHEN 'summary' = ANY (gone) THEN NULL ELSE coalesce(update.summary, m.summary) END,
    type        = coalesce(update.type, m.type),
    importance  = coalesce(update.importance, m.importance),
    tags        = CASE WHEN 'tags' = ANY (gone) THEN '{}' ELSE coalesce(update.tags, m.tags) END,
    metadata    = CASE WHEN 'metadata' = ANY (gone) THEN '{}' ELSE coalesce(update.metadata, m.metadata) END,
    occurred_at = CASE WHEN 'occurred_at' = ANY (gone) THEN NULL ELSE coalesce(update.occurred_at, m.occurred_at) END,
    agent_id    = CASE WHEN 'agent_id' = ANY (gone) THEN NULL ELSE coalesce(update.agent_id, m.agent_id) END,
    session_id  = CASE WHEN 'session_id' = ANY (gone) THEN NULL ELSE coalesce(update.session_id, m.session_id) END,
    speaker     = CASE WHEN 'speaker' = ANY (gone) THEN NULL ELSE coalesce(update.speaker, m.speaker) END,
    role        = CASE WHEN 'role' = ANY (gone) THEN NULL ELSE coalesce(update.role, m.role) END,
    source      = CASE WHEN 'source' = ANY (gone) THEN NULL ELSE coalesce(update.source, m.source) END,
    valid_from  = CASE WHEN 'valid_from' = ANY (gone) THEN NULL ELSE coalesce(update.valid_from, m.valid_from) END,
    valid_to    = CASE WHEN 'valid_to' = ANY (gone) THEN NULL ELSE coalesce(update.valid_to, m.valid_to) END,
    version     = m.version + CASE WHEN 'entities' = ANY (gone) OR update.entities IS NOT NULL THEN 1 ELSE 0 END,
    expires_at  = CASE WHEN 'expires_at' = ANY (gone) THEN NULL ELSE coalesce(update.expires_at, m.expires_at) END
  WHERE m.workspace_id = ws AND m.id = update.id
  RETURNING m.version INTO now_at;
  IF 'entities' = ANY (gone) OR update.entities IS NOT NULL THEN
    DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = update.id AND g.relation = 'mentions';
    PERFORM engram_internal.link_entities(ws, update.id, CASE WHEN 'entities' = ANY (gone) THEN NULL ELSE update.entities END);
  END IF;
  IF update.embedding IS NOT NULL THEN
    PERFORM engram.set_embedding(update.id, update.embedding, NULL, NULL, ws);
  END IF;
  RETURN now_at;
END
$$;
COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur and -word must not, but in a sentence (a question mark, or five words beside them) both are words like others; the first and the last 32 different words, 64 phrases and 64 exclusions count. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words, and vectors count whose cosine or inner product with it is above 0, by l2 all. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged, by default now or as_of; later uses count too, as activation() has it, unless as_of is given. as_of: search what was recorded at that moment and is still known: contents, states and filters of then, uses until then; links between memories add nothing, and vectors count where the text is the same today. What was erased since is gone from the past too. diversity: 0 to 1, by default 0: takes that much times its likeness (cosine of the vectors, else words in common) to the most similar memory before it off a score, so that a result repeats itself less. Of memories that say the same in the same words, but for articles, emphasis and punctuation, and have vectors as alike as duplicate_similarity (settings), only the best is returned, and explain names the others under repeats. Nothing that matches gives no rows.';

CREATE FUNCTION engram_internal.hold_folds(workspace uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  ws uuid;
BEGIN
  IF NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not fold uses', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It happens by itself, and when engram.consolidate() runs.';
  END IF;
  -- Under an older snapshot nobody folds.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RETURN;
  END IF;
  FOR ws IN SELECT DISTINCT q.workspace_id FROM engram.access_queue q
            WHERE q.workspace_id = hold_folds.workspace OR hold_folds.workspace = '00000000-0000-0000-0000-000000000000' ORDER BY 1 LOOP
    INSERT INTO engram.maintenance (workspace_id) VALUES (ws) ON CONFLICT DO NOTHING;
    -- Who folds waits for nobody, so this comes to an end.
    PERFORM FROM engram.maintenance g WHERE g.workspace_id = ws FOR UPDATE;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.hold_folds(uuid) IS
'Until the end of the transaction nobody else folds what waits in a workspace, or in all if it is that of the defaults. Waits for who does. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.fold_waiting(workspace uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  ws uuid;
BEGIN
  PERFORM engram_internal.hold_folds(fold_waiting.workspace);
  FOR ws IN SELECT DISTINCT q.workspace_id FROM engram.access_queue q
            WHERE q.workspace_id = fold_waiting.workspace OR fold_waiting.workspace = '00000000-0000-0000-0000-000000000000' ORDER BY 1 LOOP
    BEGIN
      PERFORM engram_internal.fold_queue(ws, 2147483647);
    EXCEPTION WHEN OTHERS THEN
      -- What cannot be folded must not keep settings from being mended; maintain() reports it.
      PERFORM engram_internal.failed(ws, SQLSTATE, SQLERRM);
    END;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.fold_waiting(uuid) IS
'Folds what waits in a workspace, or in all if it is that of the defaults. Waits for who is folding there. As the caller, who must own the tables.';

CREATE OR REPLACE FUNCTION engram_internal.fold_before(workspace uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
BEGIN
  -- First of all that nobody else folds. Then the row that is changed afterwards: who folds holds rows that others wait
  -- for, and must not wait himself.
  PERFORM engram_internal.hold_folds(fold_before.workspace);
  INSERT INTO engram.settings (workspace_id)
  SELECT fold_before.workspace WHERE fold_before.workspace <> '00000000-0000-0000-0000-000000000000' ON CONFLICT DO NOTHING;
  PERFORM FROM engram.settings s WHERE s.workspace_id = fold_before.workspace FOR UPDATE;
  PERFORM engram_internal.fold_waiting(fold_before.workspace);
END
$$;
COMMENT ON FUNCTION engram_internal.fold_before(uuid) IS
'Folds what waits in a workspace, or in all if it is that of the defaults, before its settings change. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.require_settled(workspace uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     AND EXISTS (SELECT FROM engram.access_queue q
                 WHERE (q.workspace_id = require_settled.workspace OR require_settled.workspace = '00000000-0000-0000-0000-000000000000')
                   AND q.accessed_at <= clock_timestamp()) THEN
    RAISE EXCEPTION 'uses wait to be counted by the settings that were in force, which a transaction that is % cannot do',
        upper(current_setting('transaction_isolation'))
      USING ERRCODE = 'active_sql_transaction',
            HINT = 'Change how memories live and are linked in a transaction that is READ COMMITTED, or call engram.consolidate() in one before.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.require_settled(uuid) IS
'Raises the error for a change of what uses count by, in a transaction that cannot fold those that wait.';

COMMENT ON FUNCTION engram.touch(uuid[], text, double precision, timestamptz, uuid, uuid) IS
'Notes that memories were used, and returns how many of them are credited. Call it with what went into the answer, not with everything that was shown.

ids: at most 1000, in order of use; unknown and forgotten ones are left out. Those used in one call are linked with each other. kind: used (default) or shown. gain: how much it counts, 0 to 100; by default 1 for used and the workspace''s shown_gain for shown. at: when, by default now; not in the future. recall_id: the recall that they answer, as recall() returns it or any id of yours: each memory is credited once for it as used, once as shown, once by reinforce() and once by rate(), so that a retry changes nothing and feedback may come later than the use. Uses in any order, late or at the same time end in the same state.';

CREATE OR REPLACE FUNCTION engram.supersede(
  old uuid,
  new uuid DEFAULT NULL,
  content text DEFAULT NULL,
  type text DEFAULT NULL,
  importance double precision DEFAULT NULL,
  embedding vector DEFAULT NULL,
  tags text[] DEFAULT NULL,
  metadata jsonb DEFAULT NULL,
  occurred_at timestamptz DEFAULT NULL,
  agent_id text DEFAULT NULL,
  session_id text DEFAULT NULL,
  speaker text DEFAULT NULL,
  role text DEFAULT NULL,
  source text DEFAULT NULL,
  entities text[] DEFAULT NULL,
  expires_at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(supersede.workspace, true);
  newer uuid := supersede.new;
  hash  bytea;
  was   record;
BEGIN
  IF num_nonnulls(supersede.new, supersede.content) <> 1 THEN
    RAISE EXCEPTION 'supersede() was given %', CASE WHEN supersede.new IS NULL THEN 'neither new nor content' ELSE 'both new and content' END
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Pass new => the id of the memory that takes its place, or content => what holds now.';
  END IF;
  IF supersede.content IS NULL THEN
    IF num_nonnulls(supersede.type, supersede.importance, supersede.embedding, supersede.tags, supersede.metadata,
         supersede.occurred_at, supersede.agent_id, supersede.session_id, supersede.speaker, supersede.role,
         supersede.source, supersede.entities, supersede.expires_at) > 0 THEN
      RAISE EXCEPTION 'supersede() was given values for a memory that is stored already'
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'They go with content. Change the memory with engram.update() instead.';
    END IF;
  ELSE
    -- Names before keys, as everywhere: what is stored below has the entities of the old one.
    PERFORM engram_internal.lock_keys(ws, '{}');
    PERFORM engram_internal.lock_keys(ws, ARRAY['superseded']);
    SELECT * INTO was FROM engram.memories m WHERE m.workspace_id = ws AND m.id = supersede.old AND m.deleted_at IS NULL;
    IF NOT FOUND THEN
      PERFORM engram_internal.refuse_memory(supersede.old);
    END IF;
    hash := sha256(convert_to(engram_internal.normalize_content(supersede.content), 'UTF8'));
    IF was.superseded_by IS NOT NULL THEN
      -- A retry finds what it stored.
      SELECT m.id INTO newer FROM engram.memories m
      WHERE m.workspace_id = ws AND m.id = was.superseded_by AND m.deleted_at IS NULL AND m.content_hash = hash;
      IF NOT FOUND THEN
        PERFORM engram_internal.refuse_superseded(supersede.old, was.superseded_by);
      END IF;
      RETURN newer;
    ELSIF was.content_hash = hash THEN
      RAISE EXCEPTION 'the new content is what memory "%" says already', supersede.old
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Say what holds now, or change what else there is to change with engram.update().';
    END IF;
    -- A correction is close to what it corrects: its vector must not look like a repetition, so it comes later.
    newer := (SELECT s.id FROM engram_internal.store(ws, supersede.content, coalesce(supersede.type, was.type),
      coalesce(supersede.importance, greatest(was.importance, 0.5)), NULL, coalesce(supersede.tags, was.tags),
      coalesce(supersede.metadata, was.metadata), supersede.occurred_at, coalesce(supersede.agent_id, was.agent_id),
      coalesce(supersede.session_id, was.session_id), coalesce(supersede.speaker, was.speaker), coalesce(supersede.role, was.role),
      supersede.source,
      coalesce(supersede.entities, ARRAY(SELECT g.label FROM engram.graph_links g
        WHERE g.workspace_id = ws AND g.memory_id = supersede.old AND g.relation = 'mentions' ORDER BY g.node)),
      supersede.expires_at, 'merge', NULL) s);
    IF supersede.embedding IS NOT NULL THEN
      PERFORM engram.set_embedding(newer, supersede.embedding, NULL, NULL, ws);
    END IF;
    IF was.pinned THEN
      UPDATE engram.memories m SET pinned = true WHERE m.workspace_id = ws AND m.id = newer AND NOT m.pinned;
    END IF;
  END IF;
  PERFORM engram_internal.set_successor(ws, supersede.old, newer);
  RETURN newer;
END
$$;
CREATE OR REPLACE FUNCTION engram.add_entities(id uuid, names text[], workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(add_entities.workspace, true);
  before bigint;
  added  integer;
BEGIN
  -- Before the row: who says what names mean may want that too.
  PERFORM engram_internal.lock_keys(ws, '{}');
  -- Whoever adds to the same memory waits here, so that both count right.
  PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = add_entities.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(add_entities.id);
  END IF;
  -- The new version first, so that the history has the entities of the one before as they were.
  IF engram_internal.links_anew(ws, add_entities.id, add_entities.names) THEN
    UPDATE engram.memories m SET version = m.version + 1 WHERE m.workspace_id = ws AND m.id = add_entities.id;
  END IF;
  SELECT count(*) INTO before FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = add_entities.id AND g.relation = 'mentions';
  PERFORM engram_internal.link_entities(ws, add_entities.id, add_entities.names);
  SELECT count(*) - before INTO added FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = add_entities.id AND g.relation = 'mentions';
  RETURN added;
END
$$;
CREATE OR REPLACE FUNCTION engram.revert(
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
  -- What a fold asks for.
  IF changes ?| '{decay,mu1,mu2,alpha,promote,demote,archive,strength_gain,link_members,link_half_life_days,link_prune}'::text[] THEN
    PERFORM engram_internal.require_settled(change_settings.workspace);
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

changes: an object of names and values, for example {"decay": 0.4, "link_half_life_days": 60}; null goes back to the default. Users set how their memories live and how they are ranked; max_content_chars, candidates, approximate_from, fold_threshold, text_config, partition_interval, partitions_ahead, access_log_days, memory_events_days, messages_days, archive_messages_days and size_limit_bytes take a role that bypasses row security, which may also name the all-zero workspace, that of the defaults; those from partition_interval on are of all workspaces together and are set there alone. A memory lives by them from its latest use on; uses that wait are counted by those before, for which the transaction must be READ COMMITTED (else 25001, where any wait).';

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
        -- As before configure().
        PERFORM engram_internal.fold_waiting(ws);
        PERFORM engram_internal.change_settings(ws, new, line ->> 'preset');
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
      END IF;
    ELSIF kind = 'type_settings' THEN
      SELECT to_jsonb(t) - 'workspace_id' INTO old FROM engram.memory_type_settings t WHERE t.workspace_id = ws AND t.type = line ->> 'type';
      IF old = line THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        PERFORM engram_internal.fold_waiting(ws);
        PERFORM engram_internal.require_settled(ws);
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
CREATE OR REPLACE FUNCTION engram_internal.import_memory(workspace uuid, on_conflict text, line jsonb, INOUT status text, INOUT error text)
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
  IF NOT has_table_privilege('engram.memory_events', 'INSERT') OR NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not write what an import brings', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.import().';
  END IF;
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
    -- For import_settings(), before all that who folds might go on to.
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
