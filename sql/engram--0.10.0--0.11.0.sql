\echo Use "ALTER EXTENSION engram UPDATE TO '0.11.0'" to load this file. \quit
DROP FUNCTION engram_internal.credit(uuid, uuid, uuid);

CREATE FUNCTION engram_internal.writes(dry_run boolean) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN NOT (dry_run IS TRUE AND current_setting('transaction_read_only')::boolean);
COMMENT ON FUNCTION engram_internal.writes(boolean) IS
'Whether a call is to be asked what one that writes is asked: not a dry run where nothing can be written.';

CREATE FUNCTION engram_internal.said_again(workspace uuid, id uuid, recall_id uuid) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'said_again_wrapper';
COMMENT ON FUNCTION engram_internal.said_again(uuid, uuid, uuid) IS
'Notes that the content of a memory was stored again, which counts as a use and once for each recall_id; how many were credited, 0 or 1.';

CREATE OR REPLACE FUNCTION engram_internal.store(
  workspace uuid, content text, type text, importance double precision, embedding real[], tags text[],
  metadata jsonb, occurred_at timestamptz, agent_id text, session_id text, speaker text, role text,
  source text, entities text[], expires_at timestamptz, on_duplicate text,
  INOUT id uuid, summary text DEFAULT NULL, valid_from timestamptz DEFAULT NULL, valid_to timestamptz DEFAULT NULL,
  pinned boolean DEFAULT NULL, model text DEFAULT NULL, OUT status text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  strategy  text := coalesce(on_duplicate, 'merge');
  -- Not the tables' row types: those would not be there before setup().
  fits      record;
  hash      bytea;
  twin      record;
  threshold double precision;
  anew      boolean;
  -- What the client chose.
  chosen    uuid := id;
  more      boolean;
  taken     text;
  help      text;
BEGIN
  IF strategy NOT IN ('merge', 'skip', 'reject', 'allow') THEN
    RAISE EXCEPTION 'unknown on_duplicate "%"', strategy
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: merge (default), skip, reject, allow.';
  END IF;
  IF content IS NULL OR engram_internal.is_blank(content) THEN
    RAISE EXCEPTION 'content is %', CASE WHEN content IS NULL THEN 'NULL' ELSE 'empty' END
      USING ERRCODE = 'invalid_parameter_value', HINT = 'A memory needs at least one visible character of content.';
  END IF;
  PERFORM engram_internal.check_memory(type, NULL, role, importance, tags);
  PERFORM engram_internal.check_names(agent_id, session_id, speaker, source, tags);
  IF embedding IS NOT NULL OR model IS NOT NULL THEN
    SELECT * INTO fits FROM engram.embedding_models e WHERE e.name = coalesce(model, engram_internal.model_of(cardinality(embedding)));
    IF NOT FOUND THEN
      PERFORM engram_internal.refuse_model(model);
    END IF;
  END IF;
  metadata := engram_internal.metadata_object(metadata);
  hash := sha256(convert_to(engram_internal.normalize_content(content), 'UTF8'));

  -- Whoever stores the same id or the same content at the same moment waits here, so that the
  -- look-ups see what the other one wrote. The twin's row is locked, so that it is not erased,
  -- forgotten or changed under a caller who is told that it holds the content.
  PERFORM engram_internal.lock_keys(workspace, array_remove(ARRAY[
    id::text, CASE WHEN strategy <> 'allow' THEN encode(hash, 'hex') END], NULL));
  IF id IS NOT NULL THEN
    SELECT * INTO twin FROM engram.memories m WHERE m.workspace_id = workspace AND m.id = id FOR NO KEY UPDATE;
    IF FOUND THEN
      IF twin.content_hash = hash AND twin.deleted_at IS NULL THEN
        status := 'unchanged';
        RETURN;
      END IF;
      RAISE EXCEPTION 'memory "%" exists already with %', id,
          CASE WHEN twin.deleted_at IS NULL THEN 'other content' ELSE 'a forgotten content' END
        USING ERRCODE = 'unique_violation', SCHEMA = 'engram', TABLE = 'memories', CONSTRAINT = 'memories_pkey',
              HINT = 'Change it with engram.update(), bring it back with engram.restore(), or choose another id.';
    END IF;
  END IF;
  IF strategy <> 'allow' THEN
    SELECT * INTO twin FROM engram.memories m
    -- As no index sees it: the hash alone finds them, see memories_content_idx.
    WHERE (m.workspace_id = workspace) IS TRUE AND m.content_hash = hash AND m.deleted_at IS NULL
      AND m.superseded_by IS NULL AND (m.expires_at IS NULL OR m.expires_at > now())
    ORDER BY m.created_at, m.id LIMIT 1 FOR NO KEY UPDATE;
    IF NOT FOUND AND embedding IS NOT NULL THEN
      threshold := (SELECT coalesce(w.near_duplicate_threshold, d.near_duplicate_threshold)
        FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = workspace
        WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
      IF threshold IS NOT NULL THEN
        SELECT m.* INTO twin
        FROM engram.embeddings e
        JOIN engram.memories m ON m.workspace_id = workspace AND m.id = e.memory_id
        WHERE e.workspace_id = workspace AND e.model = fits.name AND m.deleted_at IS NULL
          AND m.superseded_by IS NULL AND (m.expires_at IS NULL OR m.expires_at > now())
          AND engram_internal.similarity(e.embedding, embedding, fits.distance) >= threshold
        ORDER BY engram_internal.similarity(e.embedding, embedding, fits.distance) DESC, m.id LIMIT 1
        FOR NO KEY UPDATE OF m;
      END IF;
    END IF;
    IF FOUND THEN
      IF strategy = 'reject' THEN
        RAISE EXCEPTION 'the content is already stored as memory "%"', twin.id
          USING ERRCODE = 'unique_violation', SCHEMA = 'engram', TABLE = 'memories',
                HINT = 'Use on_duplicate => ''merge'' to reinforce it, or ''allow'' to store it twice.';
      END IF;
      id := twin.id;
      status := 'skipped';
      IF strategy = 'merge' THEN
        status := 'merged';
        -- Said again: it counts as one more use, and nothing that came with it is lost. A retry, which has the same id,
        -- counts no further.
        PERFORM engram_internal.said_again(workspace, id, chosen);
        anew := engram_internal.links_anew(workspace, id, entities);
        UPDATE engram.memories m
        SET version = m.version + CASE WHEN anew THEN 1 ELSE 0 END,
            importance = greatest(m.importance, importance),
            tags = m.tags || ARRAY(SELECT t FROM unnest(tags) t WHERE t <> ALL (m.tags)),
            metadata = m.metadata || coalesce(metadata, '{}'),
            summary = coalesce(m.summary, summary),
            pinned = m.pinned OR coalesce(pinned, false),
            -- Both or neither: half of each would be nobody's statement.
            valid_from = CASE WHEN num_nonnulls(m.valid_from, m.valid_to) = 0 THEN valid_from ELSE m.valid_from END,
            valid_to = CASE WHEN num_nonnulls(m.valid_from, m.valid_to) = 0 THEN valid_to ELSE m.valid_to END,
            expires_at = CASE WHEN m.expires_at < expires_at THEN expires_at
                              WHEN expires_at IS NOT NULL THEN m.expires_at END
        WHERE m.workspace_id = workspace AND m.id = id
          AND (anew OR importance > m.importance OR NOT coalesce(tags, '{}') <@ m.tags
               OR m.summary IS NULL AND summary IS NOT NULL OR pinned AND NOT m.pinned
               OR num_nonnulls(m.valid_from, m.valid_to) = 0 AND num_nonnulls(valid_from, valid_to) > 0
               OR NOT m.metadata @> coalesce(metadata, '{}') OR m.expires_at < coalesce(expires_at, 'infinity'));
        IF embedding IS NOT NULL THEN
          INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding)
          VALUES (workspace, id, fits.name, embedding) ON CONFLICT DO NOTHING;
        END IF;
        PERFORM engram_internal.link_entities(workspace, id, entities);
      END IF;
      RETURN;
    END IF;
  END IF;

  id := coalesce(id, engram_internal.uuid_v7());
  status := 'added';
  -- Columns that few name are left to defaults that users may have given them.
  more := num_nonnulls(summary, valid_from, valid_to, pinned) > 0;
  IF chosen IS NULL AND NOT more THEN
    INSERT INTO engram.memories (workspace_id, id, content, type, importance, tags, metadata, occurred_at,
      agent_id, session_id, speaker, role, source, expires_at)
    VALUES (workspace, id, content, type, importance, tags, metadata, occurred_at,
      agent_id, session_id, speaker, role, source, expires_at);
  ELSE
    -- The same, with the subtransaction that only a chosen id needs.
    BEGIN
      IF more THEN
        INSERT INTO engram.memories (workspace_id, id, content, type, importance, tags, metadata, occurred_at,
          agent_id, session_id, speaker, role, source, expires_at, summary, valid_from, valid_to, pinned)
        VALUES (workspace, id, content, type, importance, tags, metadata, occurred_at,
          agent_id, session_id, speaker, role, source, expires_at, summary, valid_from, valid_to, pinned);
      ELSE
        INSERT INTO engram.memories (workspace_id, id, content, type, importance, tags, metadata, occurred_at,
          agent_id, session_id, speaker, role, source, expires_at)
        VALUES (workspace, id, content, type, importance, tags, metadata, occurred_at,
          agent_id, session_id, speaker, role, source, expires_at);
      END IF;
    EXCEPTION WHEN unique_violation THEN
      GET STACKED DIAGNOSTICS taken = CONSTRAINT_NAME, help = PG_EXCEPTION_HINT;
      IF taken <> 'memories_pkey' OR help <> '' OR chosen IS NULL THEN
        RAISE;
      END IF;
      -- By a memory that a policy keeps from the caller.
      RAISE EXCEPTION 'the id "%" is taken', chosen
        USING ERRCODE = 'unique_violation', SCHEMA = 'engram', TABLE = 'memories', CONSTRAINT = 'memories_pkey',
              HINT = 'Choose another id, or leave id out.';
    END;
  END IF;
  IF embedding IS NOT NULL THEN
    INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding)
    VALUES (workspace, id, fits.name, embedding);
  END IF;
  IF entities IS NOT NULL THEN
    PERFORM engram_internal.link_entities(workspace, id, entities);
  END IF;
END
$$;
CREATE OR REPLACE FUNCTION engram.erase(
  ids uuid[] DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (id uuid, erased_at timestamptz, removed jsonb)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(erase.workspace, engram_internal.writes(erase.dry_run));
  condition text;
  params    jsonb;
  doomed    uuid[];
  traces    jsonb;
BEGIN
  SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_filter(erase.filter) f;
  IF erase.ids IS NULL AND params = '[]' THEN
    RAISE EXCEPTION 'erase() was given neither ids nor a filter with a condition'
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Pass ids => ARRAY[…] or a filter such as {"session_id": "…"}. To erase everything say so: {"created_at": {"exists": true}}.';
  END IF;
  EXECUTE 'SELECT coalesce(array_agg(d.id ORDER BY d.id), ''{}'') FROM (SELECT m.id FROM engram.memories m
           WHERE m.workspace_id = $2 AND ($3 IS NULL OR m.id = ANY ($3)) AND $1 IS NOT NULL AND ' || condition ||
          ' ORDER BY m.id' || CASE WHEN erase.dry_run THEN ')' ELSE ' FOR UPDATE)' END || ' d'
    INTO doomed USING params, ws, erase.ids;
  SELECT jsonb_object_agg(d, engram_internal.traces(ws, d)) INTO traces FROM unnest(doomed) d;
  IF erase.dry_run THEN
    RETURN QUERY SELECT d, NULL::timestamptz, traces -> d::text FROM unnest(doomed) d;
    RETURN;
  END IF;
  RETURN QUERY DELETE FROM engram.memories m WHERE m.workspace_id = ws AND m.id = ANY (doomed) RETURNING m.id, now(), traces -> m.id::text;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.set_successor(workspace uuid, old uuid, new uuid) RETURNS boolean
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
CREATE OR REPLACE FUNCTION engram_internal.check_successor(workspace uuid, id uuid, successor uuid) RETURNS void
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
CREATE OR REPLACE FUNCTION engram.apply_retention(dry_run boolean DEFAULT NULL, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
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
CREATE OR REPLACE FUNCTION engram.purge(
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
CREATE OR REPLACE FUNCTION engram.erase_messages(
  session_id text DEFAULT NULL,
  ids uuid[] DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (messages bigint, archived bigint)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(erase_messages.workspace, engram_internal.writes(erase_messages.dry_run));
BEGIN
  IF erase_messages.session_id IS NULL AND erase_messages.ids IS NULL THEN
    RAISE EXCEPTION 'erase_messages() was given neither session_id nor ids'
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name a conversation, or pass the ids of turns; engram.conversations() and engram.messages() list them.';
  END IF;
  IF erase_messages.dry_run THEN
    RETURN QUERY SELECT
      (SELECT count(*) FROM engram.messages m WHERE m.workspace_id = ws
         AND (erase_messages.session_id IS NULL OR m.session_id = erase_messages.session_id)
         AND (erase_messages.ids IS NULL OR m.id = ANY (erase_messages.ids))),
      (SELECT count(*) FROM engram.message_archive a CROSS JOIN LATERAL unnest(a.ids) AS u (id) WHERE a.workspace_id = ws
         AND (erase_messages.session_id IS NULL OR a.session_id = erase_messages.session_id)
         AND (erase_messages.ids IS NULL OR u.id = ANY (erase_messages.ids)));
    RETURN;
  END IF;
  -- Who archives or restores meanwhile would move turns from where they are looked for to where they were.
  PERFORM engram_internal.lock_keys(ws, CASE WHEN erase_messages.session_id IS NOT NULL
    THEN ARRAY['conversation ' || erase_messages.session_id]
    -- All of the workspace.
    ELSE ARRAY(SELECT n::text FROM generate_series(1, 65) n) END);
  DELETE FROM engram.messages m WHERE m.workspace_id = ws
    AND (erase_messages.session_id IS NULL OR m.session_id = erase_messages.session_id)
    AND (erase_messages.ids IS NULL OR m.id = ANY (erase_messages.ids));
  GET DIAGNOSTICS messages = ROW_COUNT;
  archived := engram_internal.erase_archived_messages(ws, erase_messages.session_id, erase_messages.ids);
  RETURN NEXT;
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
