-- What holds: memories that take the place of others, and memories that say otherwise than others.

CREATE FUNCTION engram_internal.lock_memories(workspace uuid, ids uuid[], others uuid[], forgotten boolean) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ws   uuid := engram_internal.resolve_workspace(workspace, true);
  held uuid[];
  lost uuid;
BEGIN
  -- Always in the same order: of two callers who want the same rows one waits and none holds what the other lacks. One
  -- look-up each: given the array, all of the workspace might be read.
  held := ARRAY(
    SELECT l.id FROM (SELECT DISTINCT u FROM unnest(ids || others) u ORDER BY u) w
    CROSS JOIN LATERAL (
      SELECT m.id, m.deleted_at FROM engram.memories m
      WHERE m.workspace_id = ws AND m.id = w.u FOR NO KEY UPDATE) l
    WHERE forgotten OR l.deleted_at IS NULL);
  SELECT u.id INTO lost FROM unnest(ids) WITH ORDINALITY AS u (id, nth)
  WHERE u.id IS NULL OR u.id <> ALL (held) ORDER BY u.nth LIMIT 1;
  IF FOUND THEN
    PERFORM engram_internal.refuse_memory(lost);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.lock_memories(uuid, uuid[], uuid[], boolean) IS
'Until the end of the transaction nobody else changes these memories. ids must be there, and not forgotten unless forgotten ones will do (PT404); others may be missing.';

CREATE FUNCTION engram_internal.successors(workspace uuid, id uuid) RETURNS uuid[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  chain uuid[] := '{}';
  here  uuid := successors.id;
  next  uuid;
BEGIN
  -- Rows that somebody wrote by hand may form a circle.
  WHILE here <> ALL (chain) LOOP
    SELECT m.superseded_by INTO next FROM engram.memories m WHERE m.workspace_id = successors.workspace AND m.id = here;
    EXIT WHEN NOT FOUND;
    chain := chain || here;
    here := next;
  END LOOP;
  RETURN chain;
END
$$;
COMMENT ON FUNCTION engram_internal.successors(uuid, uuid) IS
'A memory and what supersedes it, from itself to the newest, forgotten ones included; empty when it is not there.';

CREATE FUNCTION engram_internal.refuse_superseded(id uuid, successor uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION 'memory "%" is superseded by "%" already', id, successor
    USING ERRCODE = 'PT409',
          HINT = format('Supersede "%s" instead, or the newest of them, engram.latest(''%s''); engram.unsupersede(''%2$s'') undoes it.', successor, id);
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_superseded(uuid, uuid) IS
'Raises the error for a memory that another one has superseded: SQLSTATE PT409, which PostgREST answers as HTTP 409.';

CREATE FUNCTION engram_internal.set_successor(workspace uuid, old uuid, new uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(set_successor.workspace, true);
  chain     uuid[];
  successor uuid;
BEGIN
  -- One at a time in a workspace: sessions that have no row in common could close a circle together.
  PERFORM engram_internal.lock_keys(ws, ARRAY['superseded']);
  chain := engram_internal.successors(ws, set_successor.new);
  -- The last of the chain as well: for who works with an older snapshot it is where others were.
  PERFORM engram_internal.lock_memories(ws, ARRAY[set_successor.old, set_successor.new], chain[cardinality(chain):], false);
  SELECT m.superseded_by INTO successor FROM engram.memories m WHERE m.workspace_id = ws AND m.id = set_successor.old;
  IF successor = set_successor.new THEN
    RETURN false;
  ELSIF successor IS NOT NULL THEN
    PERFORM engram_internal.refuse_superseded(set_successor.old, successor);
  END IF;
  -- The trigger asks it of everybody but the owner of the tables.
  PERFORM engram_internal.check_successor(ws, set_successor.old, set_successor.new);
  UPDATE engram.memories m SET superseded_by = set_successor.new WHERE m.workspace_id = ws AND m.id = set_successor.old;
  RETURN true;
END
$$;
COMMENT ON FUNCTION engram_internal.set_successor(uuid, uuid, uuid) IS
'What supersede() does with two memories that are stored. False when it was so already.';

CREATE FUNCTION engram_internal.check_successor(workspace uuid, id uuid, successor uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  chain uuid[];
BEGIN
  IF successor = id THEN
    RAISE EXCEPTION 'memory "%" cannot supersede itself', id
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the memory that takes its place, engram.supersede(old, new), or pass content to store it; engram.update() changes one in place.';
  END IF;
  -- As in set_successor(). Who already holds the row of the older one may come in the way of a call of supersede();
  -- PostgreSQL then tells one of the two to try again.
  PERFORM engram_internal.lock_keys(workspace, ARRAY['superseded']);
  chain := engram_internal.successors(workspace, successor);
  IF chain = '{}' THEN
    RAISE EXCEPTION 'superseded_by of memory "%" is "%", which is not in this workspace', id, successor
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name a memory that is stored: engram.supersede(old, new), or engram.supersede(old, content => ''…'') to store it.';
  ELSIF id = ANY (chain) THEN
    RAISE EXCEPTION 'memory "%" cannot be superseded by "%", which it supersedes itself', id, successor
      USING ERRCODE = 'invalid_parameter_value',
            HINT = format('SELECT * FROM engram.superseded(''%s'') shows the chain; engram.unsupersede() takes a memory out of it.', successor);
  END IF;
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    -- The last one has changed if others have lengthened the chain since the snapshot: 40001.
    PERFORM engram_internal.lock_memories(workspace, '{}', chain[cardinality(chain):], true);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_successor(uuid, uuid, uuid) IS
'Raises the error for a memory that a statement lets be superseded by itself, by one that is not there, or in a circle; until the end of the transaction nobody else of the workspace supersedes.';

CREATE FUNCTION engram_internal.check_contradictions(workspace uuid, id uuid, named text, ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  other uuid;
BEGIN
  FOREACH other IN ARRAY ids LOOP
    -- One look-up each, of one that others may change but not take away.
    PERFORM FROM engram.memories m WHERE m.workspace_id = check_contradictions.workspace AND m.id = other FOR KEY SHARE;
    IF NOT FOUND OR other = id THEN
      RAISE EXCEPTION '% of memory "%" has "%", which %', named, id, coalesce(other::text, 'NULL'),
          CASE WHEN other = id THEN 'is itself' ELSE 'is not in this workspace' END
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Name two memories that are stored: engram.contradict(a, b) writes both rows.';
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.check_contradictions(uuid, uuid, text, uuid[]) IS
'Raises the error for a memory that a statement lets contradict itself, or one that is not there.';

CREATE FUNCTION engram.supersede(
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
COMMENT ON FUNCTION engram.supersede(uuid, uuid, text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], timestamptz, uuid) IS
'A newer memory takes the place of an old one, which leaves search and lists but stays to be read; returns the id of the newer one.

new: the newer memory, if it is stored; or content: what holds now, stored in the same transaction. It has the type, tags, metadata, agent_id, session_id, speaker, role, entities and pin of the old one, and its importance or 0.5, the higher of the two; arguments as in add() say otherwise. Content that the workspace holds already is not stored twice. Both are in one workspace, and no memory comes to supersede itself by way of others. A memory that another one has superseded is refused (PT409), and so are unknown and forgotten ids (PT404); to repeat a call changes nothing.

Forgetting the newer one does not bring the old one back; unsupersede() does. Erasing it lets its own successor take over, or else makes the old one current again: as if the erased one had never been. If it had been forgotten or had expired by then, the old one is forgotten as well.';

CREATE FUNCTION engram.unsupersede(id uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(unsupersede.workspace, true);
BEGIN
  PERFORM engram_internal.lock_memories(ws, ARRAY[unsupersede.id], NULL, false);
  UPDATE engram.memories m SET superseded_by = NULL
  WHERE m.workspace_id = ws AND m.id = unsupersede.id AND m.superseded_by IS NOT NULL;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram.unsupersede(uuid, uuid) IS
'Brings back a memory that supersede() or resolve() replaced; the newer one stays too. True when it was superseded. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.latest(id uuid, workspace uuid DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(latest.workspace, false);
  chain uuid[] := engram_internal.successors(ws, latest.id);
BEGIN
  IF NOT EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = latest.id AND m.deleted_at IS NULL) THEN
    PERFORM engram_internal.refuse_memory(latest.id);
  END IF;
  RETURN chain[cardinality(chain)];
END
$$;
COMMENT ON FUNCTION engram.latest(uuid, uuid) IS
'The newest of the memories that took the place of this one, one after the other; itself when nothing did. That one may be forgotten or expired. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram_internal.superseded(wanted uuid, workspace uuid)
RETURNS TABLE (step integer, id uuid, content text, created_at timestamptz, superseded_by uuid)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(superseded.workspace, false);
  newest uuid := engram.latest(superseded.wanted, superseded.workspace);
BEGIN
  RETURN QUERY
  WITH RECURSIVE chain AS (
    SELECT newest AS id, 0 AS back
    UNION ALL
    SELECT o.id, c.back + 1
    FROM chain c CROSS JOIN LATERAL (
      -- As no index but that of superseded_by sees it.
      SELECT x.id FROM engram.memories x WHERE (x.workspace_id = ws) IS TRUE AND x.superseded_by = c.id OFFSET 0) o
  ) CYCLE id SET again USING path
  SELECT (row_number() OVER (ORDER BY c.back DESC, m.created_at, m.id))::integer, m.id, m.content, m.created_at, m.superseded_by
  FROM chain c CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = ws AND x.id = c.id OFFSET 0) m
  WHERE NOT c.again AND m.deleted_at IS NULL
  ORDER BY 1;
END
$$;
COMMENT ON FUNCTION engram_internal.superseded(uuid, uuid) IS 'What superseded() does.';

-- A function of its own, because PL/pgSQL cannot have an argument and a column of the same name.
CREATE FUNCTION engram.superseded(id uuid, workspace uuid DEFAULT NULL)
RETURNS TABLE (step integer, id uuid, content text, created_at timestamptz, superseded_by uuid)
LANGUAGE sql STABLE ROWS 5
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT s.* FROM engram_internal.superseded($1, $2) s
$$;
COMMENT ON FUNCTION engram.superseded(uuid, uuid) IS
'What a memory has superseded and what superseded it: all that led to the newest one, oldest first, step from 1. Forgotten ones are left out. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.contradict(a uuid, b uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(contradict.workspace, true);
  changed boolean;
BEGIN
  IF contradict.a = contradict.b THEN
    RAISE EXCEPTION 'memory "%" cannot contradict itself', contradict.a
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name two memories: contradict(a, b) says that a denies b.';
  END IF;
  PERFORM engram_internal.lock_memories(ws, ARRAY[contradict.a, contradict.b], NULL, false);
  UPDATE engram.memories m
  SET contradicts = ARRAY(SELECT DISTINCT u FROM unnest(m.contradicts || contradict.b) u ORDER BY u)
  WHERE m.workspace_id = ws AND m.id = contradict.a AND contradict.b <> ALL (coalesce(m.contradicts, '{}'));
  changed := FOUND;
  UPDATE engram.memories m
  SET contradicted_by = ARRAY(SELECT DISTINCT u FROM unnest(m.contradicted_by || contradict.a) u ORDER BY u)
  WHERE m.workspace_id = ws AND m.id = contradict.b AND contradict.a <> ALL (coalesce(m.contradicted_by, '{}'));
  RETURN changed OR FOUND;
END
$$;
COMMENT ON FUNCTION engram.contradict(uuid, uuid, uuid) IS
'Records that a says otherwise than b. True when that is new.

Both stay. As long as a stands (not forgotten, expired or superseded), b loses contradiction_weight (settings) of its score and never comes before a in a search that finds both; b does not consolidate until uncontradict() or resolve(). Unknown and forgotten ids raise PT404.';

CREATE FUNCTION engram.uncontradict(a uuid, b uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(uncontradict.workspace, true);
  changed boolean;
BEGIN
  PERFORM engram_internal.lock_memories(ws, ARRAY[uncontradict.a, uncontradict.b], NULL, true);
  UPDATE engram.memories m SET contradicts = nullif(array_remove(m.contradicts, uncontradict.b), '{}')
  WHERE m.workspace_id = ws AND m.id = uncontradict.a AND uncontradict.b = ANY (m.contradicts);
  changed := FOUND;
  UPDATE engram.memories m SET contradicted_by = nullif(array_remove(m.contradicted_by, uncontradict.a), '{}')
  WHERE m.workspace_id = ws AND m.id = uncontradict.b AND uncontradict.a = ANY (m.contradicted_by);
  RETURN changed OR FOUND;
END
$$;
COMMENT ON FUNCTION engram.uncontradict(uuid, uuid, uuid) IS
'Takes back that a says otherwise than b; both stay, and so does it if b says otherwise than a. True when it was recorded. Forgotten memories will do; an unknown id raises PT404.';

CREATE FUNCTION engram.conflicts(match_count integer DEFAULT NULL, skip integer DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (
  claim uuid, claim_content text, against uuid, against_content text,
  claim_created_at timestamptz, against_created_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(conflicts.workspace, false);
  wanted  integer := coalesce(conflicts.match_count, 50);
  skipped integer := coalesce(conflicts.skip, 0);
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000, and page on with skip.';
  END IF;
  IF skipped < 0 THEN
    RAISE EXCEPTION 'skip is %', skipped
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 0 or more.';
  END IF;
  RETURN QUERY
  SELECT a.id, a.content, b.id, b.content, a.created_at, b.created_at
  FROM engram.memories a CROSS JOIN LATERAL unnest(a.contradicts) AS u (id)
  CROSS JOIN LATERAL (
    SELECT x.* FROM engram.memories x
    WHERE x.workspace_id = ws AND x.id = u.id AND x.deleted_at IS NULL AND x.superseded_by IS NULL
      AND (x.expires_at IS NULL OR x.expires_at > now()) OFFSET 0) b
  WHERE a.workspace_id = ws AND a.contradicts IS NOT NULL AND a.deleted_at IS NULL AND a.superseded_by IS NULL
    AND (a.expires_at IS NULL OR a.expires_at > now())
  ORDER BY a.created_at DESC, a.id DESC, b.created_at DESC, b.id DESC
  LIMIT wanted OFFSET skipped;
END
$$;
COMMENT ON FUNCTION engram.conflicts(integer, integer, uuid) IS
'Contradictions that wait to be resolved, the newest claim first: claim says otherwise than against, and both stand (not forgotten, expired or superseded).

match_count: 1 to 1000, by default 50. skip: rows to leave out first.';

CREATE FUNCTION engram.resolve(keep uuid, drop uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(resolve.workspace, true);
  changed boolean := engram_internal.set_successor(ws, resolve.drop, resolve.keep);
BEGIN
  UPDATE engram.memories m
  SET contradicts = nullif(array_remove(m.contradicts, p.other), '{}'),
      contradicted_by = nullif(array_remove(m.contradicted_by, p.other), '{}')
  FROM (VALUES (resolve.keep, resolve.drop), (resolve.drop, resolve.keep)) AS p (id, other)
  WHERE m.workspace_id = ws AND m.id = p.id AND (p.other = ANY (m.contradicts) OR p.other = ANY (m.contradicted_by));
  IF changed AND NOT FOUND THEN
    RAISE EXCEPTION 'memories "%" and "%" do not contradict each other', resolve.keep, resolve.drop
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'engram.conflicts() lists what does. To replace one memory by another: engram.supersede(old, new).';
  END IF;
  RETURN changed OR FOUND;
END
$$;
COMMENT ON FUNCTION engram.resolve(uuid, uuid, uuid) IS
'Decides a contradiction: drop is superseded by keep, and neither contradicts the other any more. False when that was done before.

Raises what supersede(drop, keep) raises, and 22023 for two memories that do not contradict each other.';
