\echo Use "ALTER EXTENSION engram UPDATE TO '0.10.0'" to load this file. \quit
DROP FUNCTION engram_internal.parse_items(jsonb);

DROP FUNCTION engram_internal.store(uuid, text, text, double precision, real[], text[], jsonb, timestamptz, text, text, text, text, text, text[], timestamptz, text, uuid);

CREATE FUNCTION engram_internal.read_items(items jsonb) RETURNS TABLE (
  "position" integer, error text, content text, type text, importance double precision, embedding real[],
  tags text[], metadata jsonb, occurred_at timestamptz, agent_id text, session_id text, speaker text,
  role text, source text, entities text[], id uuid, expires_at timestamptz, on_duplicate text,
  summary text, valid_from timestamptz, valid_to timestamptz, pinned boolean, model text)
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'read_items_wrapper';
COMMENT ON FUNCTION engram_internal.read_items(jsonb) IS
'The items of add_many() as rows; an item that cannot be read carries its error instead.';

CREATE FUNCTION engram_internal.require_writable() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  calls  text;
  called text;
BEGIN
  IF current_setting('transaction_read_only')::boolean THEN
    -- The outermost of ours that is being called, as far as PL/pgSQL knows.
    GET DIAGNOSTICS calls = PG_CONTEXT;
    called := (SELECT m[1] FROM regexp_matches(calls, 'function (engram\.\w+)\(', 'g') WITH ORDINALITY AS c (m, nth) ORDER BY nth DESC LIMIT 1);
    RAISE EXCEPTION 'cannot execute % in a read-only transaction', coalesce(called || '()', 'a function that writes')
      USING ERRCODE = 'read_only_sql_transaction',
            HINT = 'It writes. Through PostgREST call it with POST, not GET; on a standby, call it on the primary.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.require_writable() IS
'Raises the error for a call that writes, by its name, in a transaction that cannot.';

CREATE OR REPLACE FUNCTION engram_internal.resolve_workspace(workspace uuid, for_write boolean) RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  me uuid;
BEGIN
  PERFORM engram_internal.require_store();
  IF for_write THEN
    PERFORM engram_internal.require_writable();
  END IF;
  me := engram_internal.caller_id();
  IF workspace IS NULL THEN
    IF me IS NULL AND (for_write OR engram_internal.trusted()) THEN
      PERFORM engram_internal.refuse_unidentified(engram_internal.trusted());
    END IF;
    -- Somebody may have replaced these.
    IF me = ANY (CASE WHEN for_write THEN engram.writable_workspaces() ELSE engram.readable_workspaces() END)
       OR engram_internal.trusted() THEN
      RETURN me;
    ELSIF for_write THEN
      PERFORM engram_internal.refuse_workspace(me);
    END IF;
    RETURN NULL;
  END IF;
  IF workspace = ANY (CASE WHEN for_write THEN engram.writable_workspaces() ELSE engram.readable_workspaces() END)
     OR engram_internal.trusted() THEN
    RETURN workspace;
  END IF;
  PERFORM engram_internal.refuse_workspace(workspace);
  RETURN NULL;
END
$$;
CREATE FUNCTION engram_internal.retry_whole(state text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN state ~ '^(25|40|53|57|58|XX|55P03)';
COMMENT ON FUNCTION engram_internal.retry_whole(text) IS
'Whether an error is no fault of the item that met it, but of somebody else''s transaction, of the caller''s own, of a time limit or of the server: the whole call fails with it, so that it is repeated.';

COMMENT ON FUNCTION engram_internal.entity_node(text) IS 'The key under which an entity''s name is stored: case, repeated white space and outer punctuation do not count, but for signs that belong to a name (C++, C#, .NET).';

CREATE FUNCTION engram_internal.check_names(agent_id text, session_id text, speaker text, source text, tags text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  n record;
BEGIN
  -- Words of the speaker stand before those of the content, of which only the first 200,000 bytes are indexed.
  SELECT v.* INTO n FROM (
    SELECT * FROM (VALUES ('agent_id', agent_id, 500), ('session_id', session_id, 500), ('speaker', speaker, 500),
                          ('source', source, 2000)) AS o (name, value, most)
    UNION ALL
    SELECT 'a tag', t, 500 FROM unnest(tags) AS t) v
  WHERE char_length(v.value) > v.most LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '% has % characters, the limit is %: "%…"', n.name, char_length(n.value), n.most, left(n.value, 40)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a shorter one; what is long goes into content, summary or metadata.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_names(text, text, text, text, text[]) IS
'Raises the error for a tag, or one of the names that come with a memory, that is too long; NULLs pass.';

CREATE FUNCTION engram_internal.credit(workspace uuid, recall uuid, memory uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO engram.recall_credits (workspace_id, recall_id, memory_ids) VALUES (workspace, recall, ARRAY[memory])
  ON CONFLICT DO NOTHING;
  IF FOUND THEN
    RETURN true;
  END IF;
  -- A user may have written the list by hand, in more than one dimension.
  UPDATE engram.recall_credits c SET memory_ids = ARRAY(SELECT unnest(c.memory_ids)) || memory
  WHERE c.workspace_id = workspace AND c.recall_id = recall AND memory <> ALL (c.memory_ids);
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram_internal.credit(uuid, uuid, uuid) IS
'Whether a memory has not been credited yet under an id; from now on it has. As the caller.';

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
        IF chosen IS NULL OR engram_internal.credit(workspace, chosen, id) THEN
          INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, recall_id, memory_ids)
          VALUES (workspace, engram_internal.uuid_v7(), now(), engram.current_user_id(), 'stored', 1, 3, chosen, ARRAY[id]);
        END IF;
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
COMMENT ON FUNCTION engram_internal.store(uuid, text, text, double precision, real[], text[], jsonb, timestamptz, text, text, text, text, text, text[], timestamptz, text, uuid, text, timestamptz, timestamptz, boolean, text) IS
'What add() and add_many() do with one memory, as the caller, in a workspace that has been resolved. Tells whether it was added, merged, skipped or unchanged.';

COMMENT ON FUNCTION engram.add(text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], uuid, timestamptz, text, uuid) IS
'Stores one memory and returns its id; it can be found at once.

content: what to remember, at most max_content_chars characters (settings). type: factual (default), episodic, relational, emotional, procedural, opinion or causal. importance: 0 to 1, by default the type''s. agent_id, session_id, speaker and each of tags: at most 500 characters; source: at most 2,000. embedding: of the default model, or of the one registered model that has its length. entities: names that the memory is about; a search that names one finds it. id: chosen by the client, makes a retry harmless: the same content is stored once under it, or counted once as a use of the memory that holds it already. on_duplicate, when the workspace holds the same content up to case and white space (or, with near_duplicate_threshold set, a vector as close as that): merge (default: the old memory counts one use more, takes the higher importance, new tags, metadata and entities, and its id is returned; who says it again, when and in which session is not kept), skip, reject, allow. workspace: only for roles that bypass row security.';

CREATE OR REPLACE FUNCTION engram.add_many(items jsonb, workspace uuid DEFAULT NULL)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(add_many.workspace, true);
  done      integer[];
  done_ids  uuid[];
  done_at   integer;
  given     integer;
  item      record;
  help      text;
  usual     text;
BEGIN
  -- The short way, for what is new beyond doubt. If anything in it is refused, nothing of it is stored.
  BEGIN
    SELECT s.given, s.positions, s.ids INTO given, done, done_ids FROM engram_internal.store_items(add_many.items, ws) s;
  EXCEPTION WHEN OTHERS THEN
    IF engram_internal.retry_whole(SQLSTATE) THEN
      RAISE;
    END IF;
    done := NULL;
  END;
  IF cardinality(done) = given THEN
    RETURN QUERY SELECT u.position, u.id, 'added', NULL::text FROM unnest(done, done_ids) AS u (position, id);
    RETURN;
  END IF;

  -- The same with one statement, for tables of which more is to be minded. If anything in it is refused, nothing
  -- of it is stored and every item takes the careful way below.
  IF done IS NULL THEN
    usual := (SELECT m.name FROM engram.embedding_models m WHERE m.is_default);
    PERFORM engram_internal.lock_keys(ws, ARRAY(
      SELECT p.id::text FROM engram_internal.read_items(add_many.items) p WHERE p.id IS NOT NULL
      UNION SELECT encode(sha256(convert_to(engram_internal.normalize_content(p.content), 'UTF8')), 'hex')
      FROM engram_internal.read_items(add_many.items) p
      WHERE p.content IS NOT NULL AND p.on_duplicate IS DISTINCT FROM 'allow'));
    BEGIN
      WITH parsed AS MATERIALIZED (
        SELECT p.*, sha256(convert_to(engram_internal.normalize_content(p.content), 'UTF8')) AS hash
        FROM engram_internal.read_items(add_many.items) p
        WHERE p.error IS NULL AND p.content IS NOT NULL
      ), fresh AS MATERIALIZED (
        SELECT p.*, engram_internal.uuid_v7() AS new_id
        FROM (SELECT q.*, row_number() OVER (PARTITION BY q.hash ORDER BY q.position) AS nth FROM parsed q) p
        WHERE p.id IS NULL AND p.nth = 1 AND p.entities IS NULL
          -- As in store(): defaults of users.
          AND num_nonnulls(p.summary, p.valid_from, p.valid_to, p.pinned) = 0
          AND (p.on_duplicate IS NULL OR p.on_duplicate IN ('merge', 'skip', 'reject', 'allow'))
          AND (p.embedding IS NULL AND p.model IS NULL OR p.embedding IS NOT NULL AND usual IS NOT NULL AND coalesce(p.model, usual) = usual AND NOT EXISTS (
            SELECT FROM engram.settings s WHERE s.near_duplicate_threshold IS NOT NULL
              AND s.workspace_id IN (ws, '00000000-0000-0000-0000-000000000000')))
          -- One look-up an item: as a join it could read everybody's rows.
          AND (SELECT count(*) FROM (SELECT FROM engram.memories m WHERE (m.workspace_id = ws) IS TRUE AND m.content_hash = p.hash LIMIT 1) known) = 0
      ), stored AS (
        INSERT INTO engram.memories (workspace_id, id, content, type, importance, tags, metadata, occurred_at,
          agent_id, session_id, speaker, role, source, expires_at)
        SELECT ws, f.new_id, f.content, f.type, f.importance, f.tags, f.metadata, f.occurred_at,
          f.agent_id, f.session_id, f.speaker, f.role, f.source, f.expires_at
        FROM fresh f ORDER BY f.position
      ), embedded AS (
        INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding)
        SELECT ws, f.new_id, usual, f.embedding FROM fresh f WHERE f.embedding IS NOT NULL ORDER BY f.position
      )
      SELECT coalesce(array_agg(f.position ORDER BY f.position), '{}'),
             coalesce(array_agg(f.new_id ORDER BY f.position), '{}')
      INTO done, done_ids FROM fresh f;
    EXCEPTION WHEN OTHERS THEN
      IF engram_internal.retry_whole(SQLSTATE) THEN
        RAISE;
      END IF;
      done := '{}';
      done_ids := '{}';
    END;
  END IF;

  FOR item IN SELECT p.* FROM engram_internal.read_items(add_many.items) p ORDER BY p.position LOOP
    position := item.position;
    id := NULL;
    error := item.error;
    status := 'error';
    done_at := array_position(done, item.position);
    IF done_at IS NOT NULL THEN
      id := done_ids[done_at];
      status := 'added';
    ELSIF item.error IS NULL THEN
      BEGIN
        SELECT s.id, s.status INTO id, status
        FROM engram_internal.store(ws, item.content, item.type, item.importance, item.embedding, item.tags,
          item.metadata, item.occurred_at, item.agent_id, item.session_id, item.speaker, item.role,
          item.source, item.entities, item.expires_at, item.on_duplicate, item.id, item.summary,
          item.valid_from, item.valid_to, item.pinned, item.model) s;
      EXCEPTION WHEN OTHERS THEN
        IF engram_internal.retry_whole(SQLSTATE) THEN
          RAISE;
        END IF;
        GET STACKED DIAGNOSTICS help = PG_EXCEPTION_HINT;
        id := NULL;
        status := 'error';
        error := SQLERRM || coalesce('. ' || nullif(help, ''), '');
      END;
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram.add_many(jsonb, uuid) IS
'Stores many memories in one transaction; a bad item does not lose the others. What is no item''s fault (a serialization failure, a deadlock, a time limit) is raised and stores nothing: repeat the call.

items: an array of objects with the arguments of add() as keys, and with summary, valid_from, valid_to, pinned, and model, which names the model of the item''s embedding (needed where two have vectors of the same length); at most 10,000. Returns one row per item, by its position from 1, with status added, merged, skipped, unchanged or error, and the error in words.';

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
  ws        uuid := engram_internal.resolve_workspace(erase.workspace, NOT (erase.dry_run IS TRUE AND current_setting('transaction_read_only')::boolean));
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

CREATE OR REPLACE FUNCTION engram.pending_embeddings(
  model text DEFAULT NULL,
  match_count integer DEFAULT NULL,
  lease_seconds integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (workspace_id uuid, id uuid, text text, model_name text, dims integer, version integer)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid;
  every  boolean;
  wanted integer := coalesce(pending_embeddings.match_count, 100);
  lease  integer := coalesce(pending_embeddings.lease_seconds, 300);
  m      record;
  moment timestamptz;
  n      integer;
  -- Memories that are looked at together, and how long nobody looks at all of them again.
  batch  CONSTANT integer := 10000;
  pause  CONSTANT interval := '10 minutes';
  swept   jsonb := '{}';
  low     uuid := '00000000-0000-0000-0000-000000000000';
  high    uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  last_ws uuid := '00000000-0000-0000-0000-000000000000';
  last_id uuid := '00000000-0000-0000-0000-000000000000';
  part    record;
  done    boolean := false;
BEGIN
  PERFORM engram_internal.require_store();
  PERFORM engram_internal.require_writable();
  every := pending_embeddings.workspace IS NULL AND engram_internal.trusted();
  IF NOT every THEN
    ws := engram_internal.resolve_workspace(pending_embeddings.workspace, true);
    low := ws;
    high := ws;
    last_ws := ws;
  END IF;
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000.';
  END IF;
  IF lease NOT BETWEEN 1 AND 86400 THEN
    RAISE EXCEPTION 'lease_seconds is %', lease
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 1 to 86400 seconds: how long this batch may take to embed.';
  END IF;
  SELECT * INTO m FROM engram.embedding_models e
  WHERE CASE WHEN pending_embeddings.model IS NULL THEN e.is_default ELSE e.name = pending_embeddings.model END;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_model(pending_embeddings.model);
  END IF;
  moment := clock_timestamp();
  -- What is known to wait: new memories, new texts, leases that ran out. Whoever changes a memory locks it before its
  -- claim, and so does this.
  RETURN QUERY
  WITH waiting AS MATERIALIZED (
    SELECT c.workspace_id, c.memory_id FROM engram.embedding_claims c
    CROSS JOIN LATERAL (
      SELECT 1 FROM engram.memories x
      WHERE x.workspace_id = c.workspace_id AND x.id = c.memory_id AND x.deleted_at IS NULL
      FOR NO KEY UPDATE SKIP LOCKED) there
    WHERE c.model = m.name AND c.claimed_until <= moment AND c.workspace_id BETWEEN low AND high
      AND (SELECT e.memory_id FROM engram.embeddings e
           WHERE e.workspace_id = c.workspace_id AND e.memory_id = c.memory_id AND e.model = m.name OFFSET 0) IS NULL
    LIMIT wanted
    FOR UPDATE OF c SKIP LOCKED
  ), claimed AS (
    UPDATE engram.embedding_claims c SET claimed_until = moment + make_interval(secs => lease)
    FROM waiting w WHERE c.workspace_id = w.workspace_id AND c.memory_id = w.memory_id AND (c.model = m.name) IS TRUE
    RETURNING c.workspace_id, c.memory_id
  )
  SELECT x.workspace_id, x.id, engram_internal.indexed_text(x.content, x.speaker, x.occurred_at, NULL),
         m.name, m.dims, x.version
  FROM claimed k CROSS JOIN LATERAL (
    SELECT y.* FROM engram.memories y WHERE y.workspace_id = k.workspace_id AND y.id = k.memory_id OFFSET 0) x;
  GET DIAGNOSTICS n = ROW_COUNT;
  wanted := wanted - n;

  -- What nobody noted, as when a model is new: all memories in the order of their key. Who asks for all workspaces goes
  -- on where this session stopped. Of the default model, of which nearly all is noted, it begins anew after a while only.
  IF every THEN
    BEGIN
      swept := coalesce(nullif(current_setting('engram_internal.swept', true), ''), '{}')::jsonb;
      IF (swept #>> ARRAY[m.name, 'made'])::timestamptz = m.created_at THEN
        IF m.is_default AND moment < (swept #>> ARRAY[m.name, 'until'])::timestamptz THEN
          RETURN;
        END IF;
        last_ws := coalesce((swept #>> ARRAY[m.name, 'workspace_id'])::uuid, last_ws);
        last_id := coalesce((swept #>> ARRAY[m.name, 'id'])::uuid, last_id);
      END IF;
    EXCEPTION WHEN data_exception THEN
      -- Somebody else's.
      swept := '{}';
    END;
  END IF;
  WHILE wanted > 0 LOOP
    WITH part AS MATERIALIZED (
      SELECT x.workspace_id, x.id, x.deleted_at FROM engram.memories x
      WHERE (x.workspace_id, x.id) > (last_ws, last_id) AND x.workspace_id <= high
      ORDER BY x.workspace_id, x.id LIMIT batch
    ), missing AS MATERIALIZED (
      SELECT p.workspace_id, p.id FROM part p
      WHERE p.deleted_at IS NULL
        AND (SELECT e.memory_id FROM engram.embeddings e
             WHERE e.workspace_id = p.workspace_id AND e.memory_id = p.id AND e.model = m.name OFFSET 0) IS NULL
        AND (SELECT c.memory_id FROM engram.embedding_claims c
             WHERE c.workspace_id = p.workspace_id AND c.memory_id = p.id AND c.model = m.name OFFSET 0) IS NULL
      ORDER BY p.workspace_id, p.id LIMIT wanted
    )
    SELECT count(*) AS looked, array_agg(p.workspace_id ORDER BY p.workspace_id, p.id) AS workspaces,
           array_agg(p.id ORDER BY p.workspace_id, p.id) AS ids,
           ARRAY(SELECT x.workspace_id FROM missing x ORDER BY x.workspace_id, x.id) AS missing_workspaces,
           ARRAY(SELECT x.id FROM missing x ORDER BY x.workspace_id, x.id) AS missing_ids
    INTO part FROM part p;
    n := cardinality(part.missing_ids);
    IF n = wanted THEN
      last_ws := part.missing_workspaces[n];
      last_id := part.missing_ids[n];
    ELSIF part.looked > 0 THEN
      last_ws := part.workspaces[part.looked];
      last_id := part.ids[part.looked];
    END IF;
    done := n < wanted AND part.looked < batch;
    RETURN QUERY
    WITH waiting AS MATERIALIZED (
      SELECT x.workspace_id, x.id FROM unnest(part.missing_workspaces, part.missing_ids) AS u (workspace_id, id)
      CROSS JOIN LATERAL (
        SELECT y.workspace_id, y.id FROM engram.memories y
        WHERE y.workspace_id = u.workspace_id AND y.id = u.id AND y.deleted_at IS NULL
        FOR NO KEY UPDATE OF y SKIP LOCKED) x
      WHERE (SELECT e.memory_id FROM engram.embeddings e
             WHERE e.workspace_id = x.workspace_id AND e.memory_id = x.id AND e.model = m.name OFFSET 0) IS NULL
    ), claimed AS (
      INSERT INTO engram.embedding_claims AS c (workspace_id, memory_id, model, claimed_until)
      SELECT w.workspace_id, w.id, m.name, moment + make_interval(secs => lease)
      FROM waiting w ORDER BY w.workspace_id, w.id
      ON CONFLICT ON CONSTRAINT embedding_claims_pkey DO UPDATE SET claimed_until = excluded.claimed_until
        WHERE c.claimed_until <= moment
      RETURNING c.workspace_id, c.memory_id
    )
    SELECT x.workspace_id, x.id, engram_internal.indexed_text(x.content, x.speaker, x.occurred_at, NULL),
           m.name, m.dims, x.version
    FROM claimed k CROSS JOIN LATERAL (
      SELECT y.* FROM engram.memories y WHERE y.workspace_id = k.workspace_id AND y.id = k.memory_id OFFSET 0) x;
    GET DIAGNOSTICS n = ROW_COUNT;
    wanted := wanted - n;
    EXIT WHEN done;
  END LOOP;
  IF every THEN
    swept := swept || jsonb_build_object(m.name, jsonb_build_object('made', m.created_at)
      || CASE WHEN done THEN jsonb_build_object('until', moment + pause)
              ELSE jsonb_build_object('workspace_id', last_ws, 'id', last_id) END);
    PERFORM set_config('engram_internal.swept', swept::text, false);
  END IF;
END
$$;
COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur, but in a sentence (a question mark, or five words beside the quotes) quoted words are words like others; -word must not occur; the first and the last 32 different words, 64 phrases and 64 exclusions count. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged, by default now or as_of; later uses count too, as activation() has it, unless as_of is given. as_of: search what was recorded at that moment and is still known: contents, states and filters of then, uses until then; links between memories add nothing, and vectors count where the text is the same today. What was erased since is gone from the past too. diversity: 0 to 1, by default 0: takes that much times its likeness (cosine of the vectors, else words in common) to the most similar memory before it off a score, so that a result repeats itself less. Of memories that say the same in the same words, but for articles, emphasis and punctuation, and have vectors as alike as duplicate_similarity (settings), only the best is returned, and explain names the others under repeats. Nothing that matches gives no rows.';

COMMENT ON FUNCTION engram_internal.base_level_step(double precision, timestamptz, timestamptz, double precision) IS
'Adds one use to the state of engram.base_level_agg(), the sum of age^-d, or its logarithm where that is below -598.';

COMMENT ON FUNCTION engram.heat_touch(bytea, timestamptz, double precision) IS
'The heat with one more use at t, which may be earlier than others: the order of touches does not matter.

gain: weight of the use. 0 counts none; a negative one takes back a use that was counted with that weight at that time. Counters have 24 bits: beside a gain ten million times as large a use is lost when that is taken back. More than there is to take back, as far as the counters tell when uses were, an infinite t or gain, and bytes that are no heat raise 22023.';

COMMENT ON AGGREGATE engram.heat_agg(timestamptz, double precision) IS
'The heat of a row per use, in any order: what heat_touch() would have given, rounded once. NULL without rows.

accessed_at: when it was used; NULL counts for nothing. gain: as heat_touch() has it; NULL for 1. Infinite values, and more taken back than there was, raise 22023.';

CREATE FUNCTION engram_internal.first_heat(t timestamptz, gain double precision) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_new_wrapper';
COMMENT ON FUNCTION engram_internal.first_heat(timestamptz, double precision) IS 'heat_new(), for whoever owns the tables.';

CREATE FUNCTION engram_internal.faded(x double precision, dt_s double precision, half_life_s double precision) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_decay_wrapper';
COMMENT ON FUNCTION engram_internal.faded(double precision, double precision, double precision) IS 'link_decay(), for whoever owns the tables.';

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

CREATE FUNCTION engram_internal.check_successor(workspace uuid, id uuid, successor uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  chain uuid[];
BEGIN
  IF successor = id THEN
    RAISE EXCEPTION 'memory "%" cannot supersede itself', id
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the memory that takes its place: engram.supersede(old, new).';
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
            HINT = format('SELECT * FROM engram.superseded(''%s'') shows the chain that engram.supersede() made; engram.unsupersede() takes a memory out of it.', successor);
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

COMMENT ON FUNCTION engram.add_entities(uuid, text[], uuid) IS
'Records that a memory mentions entities, and returns how many it did not mention before.

names: case, repeated white space and outer punctuation do not count, but for signs that belong to a name (C++, C#, .NET); an alias means its entity. The memory gets a new version when something was added. An unknown or forgotten id raises PT404.';

CREATE OR REPLACE FUNCTION engram.entities(query text DEFAULT NULL, match_count integer DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (name text, node text, aliases text[], memories bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(entities.workspace, false);
  wanted integer := coalesce(entities.match_count, 50);
  part   text := engram_internal.entity_node(entities.query);
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000.';
  END IF;
  RETURN QUERY
  WITH mentions AS (
    SELECT g.node, g.label, g.memory_id
    FROM engram.graph_links g
    WHERE g.workspace_id = ws AND g.target_id IS NULL AND EXISTS (
      SELECT FROM engram.memories m
      WHERE m.workspace_id = ws AND m.id = g.memory_id AND m.deleted_at IS NULL AND m.superseded_by IS NULL
        AND (m.expires_at IS NULL OR m.expires_at > now()))
  ), named AS (
    -- The name as most memories give it; what an alias gave counts only where there is nothing else.
    SELECT DISTINCT ON (c.node) c.node, c.label
    FROM (SELECT n.node, n.label, count(*) AS times FROM mentions n GROUP BY n.node, n.label) c
    ORDER BY c.node, engram_internal.entity_node(c.label) = c.node DESC, c.times DESC, c.label
  ), found AS (
    SELECT n.node, count(DISTINCT n.memory_id) AS times FROM mentions n GROUP BY n.node
    UNION ALL
    SELECT a.node, 0 FROM engram.entity_aliases a WHERE a.workspace_id = ws GROUP BY a.node
  ), listed AS (
    SELECT f.node, max(f.times)::bigint AS times,
           ARRAY(SELECT a.label FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.node = f.node ORDER BY a.alias) AS aliases
    FROM found f GROUP BY f.node
  )
  SELECT coalesce((SELECT d.label FROM named d WHERE d.node = l.node AND engram_internal.entity_node(d.label) = l.node), l.node),
         l.node, l.aliases, l.times
  FROM listed l
  WHERE coalesce(btrim(entities.query), '') = ''
     -- Signs alone are in no name.
     OR part <> '' AND (strpos(l.node, part) > 0
       OR EXISTS (SELECT FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.node = l.node AND strpos(a.alias, part) > 0))
  ORDER BY l.times DESC, l.node LIMIT wanted;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.versions()
RETURNS TABLE (engram text, library text, vector text, postgres text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram'), engram_internal.library_version(),
         (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'vector'), current_setting('server_version');
END
$$;
COMMENT ON FUNCTION engram_internal.versions() IS 'version(), for whoever owns the tables.';

CREATE OR REPLACE FUNCTION engram.version()
RETURNS TABLE (engram text, library text, vector text, postgres text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY SELECT * FROM engram_internal.versions();
END
$$;
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
  here   text := CASE WHEN consolidate_as_owner.workspace IS NULL THEN '' ELSE ' AND m.workspace_id = $1 AND s.workspace_id = $1' END;
  ws     uuid;
  last   uuid := '00000000-0000-0000-0000-000000000000';
  help   text;
  n      integer;
  young  integer;
  moves  record;
  c      record;
  free   uuid[];
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

  -- Forgetting, where somebody has asked for it.
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
      INTO forgotten, done USING consolidate_as_owner.workspace, moment, dry, most, coalesce(consolidate_as_owner.in_turns, false);
  END IF;

  -- Links. Who folds writes them, so a workspace that is being folded is left alone.
  IF consolidate_as_owner.workspace IS NOT NULL THEN
    INSERT INTO engram.maintenance (workspace_id) VALUES (consolidate_as_owner.workspace) ON CONFLICT DO NOTHING;
  END IF;
  free := ARRAY(SELECT g.workspace_id FROM engram.maintenance g
                WHERE consolidate_as_owner.workspace IS NULL OR g.workspace_id = consolidate_as_owner.workspace
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
    WHERE h.linked_at < moment - interval '30 days'
      AND engram_internal.faded(h.forward + h.backward, greatest(date_part('epoch', moment - interval '30 days' - h.linked_at), 0), f.half_life) < f.prune
    -- Who erases a memory deletes its links too, and waits for this transaction elsewhere.
    FOR UPDATE OF h SKIP LOCKED
  ), old AS (
    DELETE FROM engram.hebbian_links h USING faded f
    WHERE h.workspace_id = f.workspace_id AND h.a = f.a AND h.b = f.b
    RETURNING 1)
  SELECT count(*) INTO links_pruned FROM old;
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
    SELECT links_pruned + count(*) INTO links_pruned FROM old;
  END LOOP;
  DELETE FROM engram.recall_credits c USING unnest(free) AS f (workspace_id)
  WHERE c.workspace_id = f.workspace_id AND c.created_at < now() - interval '90 days';
  UPDATE engram.maintenance g SET consolidated_at = now() WHERE g.workspace_id = ANY (free);
  RETURN NEXT;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.change_settings(workspace uuid, changes jsonb, preset text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
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
CREATE FUNCTION engram_internal.check_retention(
  name text, max_age interval, max_count integer, types text[], max_importance double precision, action text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF coalesce(name, '') = '' THEN
    RAISE EXCEPTION 'name is %', CASE WHEN name IS NULL THEN 'NULL' ELSE 'empty' END
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the policy, so that it can be changed and dropped.';
  END IF;
  IF max_age IS NULL AND max_count IS NULL THEN
    RAISE EXCEPTION 'retention policy "%" has neither max_age nor max_count', name
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Say what it limits, for example max_age => ''90 days''.';
  END IF;
  IF max_age < interval '0' OR max_count < 0 THEN
    RAISE EXCEPTION 'max_age % or max_count % is below 0', max_age, max_count
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 0 or more; 0 takes all that the policy is about.';
  END IF;
  IF coalesce(action, 'forget') NOT IN ('forget', 'erase') THEN
    RAISE EXCEPTION 'unknown action "%"', action
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: forget (default), which restore() takes back, and erase.';
  END IF;
  PERFORM engram_internal.check_memory(coalesce(t, 'NULL'), NULL, NULL, NULL, NULL) FROM unnest(types) AS t;
  IF NOT max_importance BETWEEN 0 AND 1 THEN
    RAISE EXCEPTION 'max_importance % is outside 0 to 1', max_importance
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 0 (trivial) to 1 (vital), or leave it out.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_retention(text, interval, integer, text[], double precision, text) IS
'Raises the error for a retention policy that cannot be.';

CREATE OR REPLACE FUNCTION engram.set_retention(
  name text,
  max_age interval DEFAULT NULL,
  max_count integer DEFAULT NULL,
  types text[] DEFAULT NULL,
  max_importance double precision DEFAULT NULL,
  action text DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(set_retention.workspace, true);
BEGIN
  PERFORM engram_internal.check_retention(set_retention.name, set_retention.max_age, set_retention.max_count,
    set_retention.types, set_retention.max_importance, set_retention.action);
  INSERT INTO engram.retention_policies AS p (workspace_id, name, action, types, max_importance, max_age, max_count)
  VALUES (ws, set_retention.name, coalesce(set_retention.action, 'forget'), set_retention.types, set_retention.max_importance,
          set_retention.max_age, set_retention.max_count)
  ON CONFLICT (workspace_id, name) DO UPDATE
  SET action = EXCLUDED.action, types = EXCLUDED.types, max_importance = EXCLUDED.max_importance,
      max_age = EXCLUDED.max_age, max_count = EXCLUDED.max_count;
END
$$;
CREATE OR REPLACE FUNCTION engram.apply_retention(dry_run boolean DEFAULT NULL, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (policy text, action text, memories bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(apply_retention.workspace, NOT (apply_retention.dry_run IS TRUE AND current_setting('transaction_read_only')::boolean));
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
  ws uuid := engram_internal.resolve_workspace(purge.workspace, NOT (purge.dry_run IS TRUE AND current_setting('transaction_read_only')::boolean));
BEGIN
  PERFORM engram_internal.check_age(purge.older_than);
  PERFORM engram_internal.check_at(purge.at);
  RETURN QUERY SELECT p.id, p.reason, p.gone_at
               FROM engram_internal.purge(ws, coalesce(purge.older_than, interval '30 days'), purge.at, purge.dry_run, NULL) p;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.alerts()
RETURNS TABLE (level text, code text, subject text, message text, hint text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
  care   record;
  t      record;
  filled boolean;
  size   bigint := pg_database_size(current_database());
  limit_ bigint := engram_internal.partition_setting('size_limit_bytes')::bigint;
  unit   text := coalesce(engram_internal.partition_setting('partition_interval'), 'month');
  latest timestamptz;
  n      bigint;
  names  text;
BEGIN
  IF size >= 0.75 * limit_ THEN
    RETURN QUERY SELECT CASE WHEN size >= 0.9 * limit_ THEN 'critical' ELSE 'warning' END, 'database_size', current_database()::text,
      format('the database has %s, %s %% of its limit of %s', pg_size_pretty(size), round(100.0 * size / limit_), pg_size_pretty(limit_)),
      'Drop old partitions, purge what is forgotten, set retention policies; or raise size_limit_bytes in engram.settings.';
  END IF;

  SELECT m.maintained_at, m.report INTO care FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
  IF care.maintained_at IS NULL OR care.maintained_at < now() - interval '1 day' THEN
    RETURN QUERY SELECT CASE WHEN care.maintained_at < now() - interval '7 days' THEN 'critical' ELSE 'warning' END,
      'maintenance_overdue', NULL::text,
      CASE WHEN care.maintained_at IS NULL THEN 'maintain() has never come to its end' ELSE format('maintain() last ran at %s', care.maintained_at) END,
      'CALL engram.maintain(); and have it called every ten minutes or so: engram.schedule_maintenance(), engram.worker_databases, or any scheduler.';
  END IF;
  FOR t IN SELECT e.key, e.value FROM jsonb_each(care.report -> 'phases') e WHERE e.value ? 'error' LOOP
    RETURN QUERY SELECT 'warning', 'maintenance_failed', t.key, format('phase %s of maintain() failed: %s', t.key, t.value ->> 'error'),
      'Mend the cause and CALL engram.maintain(); again.';
  END LOOP;
  FOR t IN SELECT e.key AS name, e.value::numeric AS was, coalesce((SELECT sum(pg_total_relation_size(s.relid)) FROM engram_internal.store_tables() s WHERE s.parent = e.key), 0) AS is_now,
                  greatest(date_part('epoch', now() - (care.report -> 'before' ->> 'at')::timestamptz) / 86400, 1) AS days
           FROM jsonb_each_text(care.report -> 'before' -> 'tables') e LOOP
    IF t.is_now - t.was > 1e9 * t.days AND t.is_now > 1.25 * t.was THEN
      RETURN QUERY SELECT 'warning', 'table_growth', t.name,
        format('table engram.%s grew from %s to %s since %s', t.name, pg_size_pretty(t.was), pg_size_pretty(t.is_now), care.report -> 'before' ->> 'at'),
        'See who writes: engram.stats() of the workspaces; set retention policies or drop old partitions.';
    END IF;
  END LOOP;

  FOR t IN SELECT p.parent, p.key FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL LOOP
    latest := (SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(t.parent) b);
    IF latest IS NULL OR latest <= engram_internal.interval_after(unit, now()) THEN
      RETURN QUERY SELECT CASE WHEN latest > now() THEN 'warning' ELSE 'critical' END, 'partitions_missing', t.parent,
        format('table engram.%s has no partition for the time from %s', t.parent, coalesce(latest::text, 'now')),
        'SELECT engram.create_partitions(); or CALL engram.maintain(); regularly. Until then its default partition takes the rows.';
    END IF;
    filled := false;
    IF NOT EXISTS (SELECT FROM engram_internal.partition_bounds(t.parent) b WHERE b.is_default) THEN
      RETURN QUERY SELECT 'critical', 'default_partition_missing', t.parent, format('table engram.%s has no default partition', t.parent),
        'Rows of times that no partition covers would be refused. '
        || CASE WHEN to_regclass('engram.' || quote_ident(t.parent || '_default')) IS NULL THEN 'Run as the owner of the tables: SELECT engram.setup();'
                ELSE format('ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT;', t.parent, t.parent || '_default') END;
    ELSE
      EXECUTE format('SELECT EXISTS (SELECT FROM engram.%I WHERE %I < $1)', t.parent || '_default', t.key) INTO filled USING greatest(latest, now());
      IF NOT filled THEN
        -- What is dated later than all partitions may wait there: any user's message may be.
        EXECUTE format('SELECT max(%I) FROM engram.%I', t.key, t.parent || '_default') INTO latest;
        IF latest IS NOT NULL THEN
          RETURN QUERY SELECT 'info', 'default_partition_not_empty', t.parent, format('table engram.%s_default has rows of the future, until %s', t.parent, latest),
            'They wait there until their time comes.'
            || CASE WHEN latest < now() + interval '50 years' THEN format(' SELECT engram.create_partitions(%L); moves them at once.', latest) ELSE '' END;
        END IF;
      END IF;
    END IF;
    IF filled THEN
      RETURN QUERY SELECT 'warning', 'default_partition_not_empty', t.parent, format('table engram.%s_default has rows', t.parent),
        'SELECT engram.create_partitions(); moves them where they belong.';
    END IF;
  END LOOP;

  n := (SELECT count(*) FROM (SELECT FROM engram.access_queue LIMIT 100001) q);
  IF n > 100000 THEN
    RETURN QUERY SELECT 'warning', 'uses_waiting', 'access_queue', 'more than 100000 calls wait to be folded', 'CALL engram.maintain();';
  END IF;
  FOR t IN SELECT b.workspace_id, count(*) AS n FROM engram.search_blocks b WHERE b.level <= 1
           GROUP BY b.workspace_id HAVING count(*) > 500 ORDER BY 2 DESC LIMIT 3 LOOP
    RETURN QUERY SELECT 'warning', 'unpacked', t.workspace_id::text, format('search reads %s unpacked blocks in workspace %s', t.n, t.workspace_id), 'CALL engram.maintain();';
  END LOOP;

  IF (care.report #>> '{phases,pack,unreadable}')::numeric > 0 THEN
    RETURN QUERY SELECT 'warning', 'unreadable', 'search_blocks',
      format('maintain() could not read what search scans of %s workspaces and models: what was erased there stays in it', care.report #>> '{phases,pack,unreadable}'),
      'As the owner of the tables: SELECT engram.reindex(); then CALL engram.maintain();';
  END IF;
  -- The id of a block begins with the milliseconds since 1970.
  FOR t IN SELECT b.workspace_id, min(b.block_id::text) AS first FROM engram.search_blocks b
           WHERE b.level = 0 AND b.block_id < rpad(lpad(to_hex((extract(epoch FROM now() - interval '1 day') * 1000)::bigint), 12, '0'), 32, '0')::uuid
           GROUP BY b.workspace_id ORDER BY 2 LIMIT 3 LOOP
    RETURN QUERY SELECT 'warning', 'erased_waiting', t.workspace_id::text,
      format('what was changed or erased in workspace %s more than a day ago waits to be taken out of what search scans', t.workspace_id),
      format('Search leaves it out already. CALL engram.maintain(); or, as the owner of the tables: SELECT engram.reindex(%L);', t.workspace_id);
  END LOOP;

  FOR t IN SELECT s.relid, s.name, x.n_dead_tup AS dead, x.n_live_tup AS live FROM engram_internal.store_tables() s
           JOIN pg_stat_user_tables x ON x.relid = s.relid WHERE x.n_dead_tup > 100000 AND x.n_dead_tup > 0.5 * x.n_live_tup LOOP
    RETURN QUERY SELECT 'warning', 'dead_rows', t.name, format('table engram.%s has %s dead rows beside %s', t.name, t.dead, t.live),
      format('Autovacuum is behind or held up by a long transaction. VACUUM engram.%I;', t.name);
  END LOOP;
  FOR t IN SELECT i.indexrelid::regclass AS idx, s.name FROM engram_internal.store_tables() s JOIN pg_index i ON i.indrelid = s.relid
           WHERE NOT i.indisvalid OR NOT i.indisready LOOP
    RETURN QUERY SELECT 'warning', 'index_invalid', t.idx::text, format('index %s of table engram.%s is not valid', t.idx, t.name),
      format('REINDEX INDEX CONCURRENTLY %s; or drop it.', t.idx);
  END LOOP;
  FOR t IN SELECT i.indexrelid::regclass AS idx, s.name, pg_relation_size(i.indexrelid) AS bytes
           FROM engram_internal.store_tables() s JOIN pg_index i ON i.indrelid = s.relid
           JOIN pg_stat_user_indexes x ON x.indexrelid = i.indexrelid
           WHERE NOT i.indisunique AND x.idx_scan = 0 AND pg_relation_size(i.indexrelid) > 100000000 LOOP
    RETURN QUERY SELECT 'info', 'index_unused', t.idx::text,
      format('index %s of table engram.%s (%s) has not been used since statistics were reset', t.idx, t.name, pg_size_pretty(t.bytes)),
      'If it is your own, drop it; those of engram serve rare calls too.';
  END LOOP;

  n := (SELECT greatest((SELECT c.reltuples FROM pg_class c WHERE c.oid = 'engram.memories'::regclass), 0)
             - greatest((SELECT c.reltuples FROM pg_class c WHERE c.oid = 'engram.embeddings'::regclass), 0))::bigint;
  IF n > 10000 AND EXISTS (SELECT FROM engram.embedding_models d WHERE d.is_default) THEN
    RETURN QUERY SELECT 'warning', 'embeddings_pending', 'embeddings', format('about %s memories have no embedding', n),
      'They are found by their words alone. See that the embedder runs: engram.pending_embeddings(), engram.embedding_progress().';
  END IF;

  FOR t IN SELECT s.name FROM engram_internal.store_tables() s JOIN pg_class c ON c.oid = s.relid WHERE NOT c.relrowsecurity LOOP
    RETURN QUERY SELECT 'critical', 'row_security_off', t.name, format('row level security is off on table engram.%s', t.name),
      format('ALTER TABLE engram.%I ENABLE ROW LEVEL SECURITY;', t.name);
  END LOOP;
  FOR t IN SELECT s.name FROM engram_internal.store_tables() s
           WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = s.relid) LOOP
    RETURN QUERY SELECT 'warning', 'no_policy', t.name, format('table engram.%s has no policy: nobody but its owner sees its rows', t.name), 'SELECT engram.setup();';
  END LOOP;
  FOR t IN SELECT s.name, string_agg(g.tgname, ', ' ORDER BY g.tgname) AS off FROM engram_internal.store_tables() s
           JOIN pg_trigger g ON g.tgrelid = s.relid JOIN pg_proc f ON f.oid = g.tgfoid
           WHERE g.tgenabled IN ('D', 'R') AND f.pronamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace) GROUP BY s.name LOOP
    RETURN QUERY SELECT 'critical', 'triggers_off', t.name, format('triggers of table engram.%s are disabled: %s', t.name, t.off),
      format('ALTER TABLE engram.%I ENABLE TRIGGER USER; then, for what was written meanwhile: SELECT engram.reindex();', t.name);
  END LOOP;
  SELECT r.rolname INTO names FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
  WHERE c.oid = 'engram.memories'::regclass AND NOT has_function_privilege(r.oid, 'engram.setup(jsonb)', 'EXECUTE');
  IF FOUND THEN
    RETURN QUERY SELECT 'warning', 'owner_without_rights', names, format('role "%s" owns the tables and may not call the functions of engram', names),
      format('As the owner of the extension: SELECT engram.setup(%L);', jsonb_build_object('owner', names));
  END IF;
  FOR t IN SELECT s.name, string_agg(DISTINCT a.privilege_type, ', ') AS rights FROM engram_internal.store_tables() s JOIN pg_class c ON c.oid = s.relid
           CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE a.grantee = 0 GROUP BY s.name LOOP
    RETURN QUERY SELECT 'warning', 'open_to_all', t.name, format('every role has %s on table engram.%s', t.rights, t.name),
      format('REVOKE ALL ON engram.%I FROM PUBLIC; and grant to the roles that need it: SELECT engram.setup(''{"grant_to": ["app"]}'');', t.name);
  END LOOP;
  names := (SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname) FROM pg_roles r
            WHERE r.rolcanlogin AND NOT r.rolsuper AND has_schema_privilege(r.oid, 'engram', 'USAGE')
              AND (r.rolbypassrls OR pg_has_role(r.oid, (SELECT c.relowner FROM pg_class c WHERE c.oid = 'engram.memories'::regclass), 'USAGE')));
  IF names IS NOT NULL THEN
    RETURN QUERY SELECT 'info', 'roles_bypass', names, format('these login roles see the memories of all users: %s', names),
      'See that only servers use them, never what speaks for a user.';
  END IF;
  IF (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram') <> engram_internal.library_version() THEN
    RETURN QUERY SELECT 'warning', 'version', NULL::text, format('the library is of version %s, the functions of %s', engram_internal.library_version(),
      (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram')), 'ALTER EXTENSION engram UPDATE;';
  END IF;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.health_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found jsonb;
  care  record;
BEGIN
  SELECT coalesce(jsonb_agg(jsonb_build_object('level', a.level, 'code', a.code, 'subject', a.subject, 'message', a.message, 'hint', a.hint)
           ORDER BY array_position(ARRAY['critical', 'warning', 'info'], a.level), a.code, a.subject), '[]') INTO found
  FROM engram_internal.alerts() a;
  SELECT m.maintained_at, m.report INTO care FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
  IF task = 'metrics' THEN
    RETURN (
      SELECT jsonb_agg(jsonb_build_array(x.metric, x.subject, x.value)) FROM (
        SELECT 'table_bytes' AS metric, t.parent AS subject, sum(pg_total_relation_size(t.relid)) AS value FROM engram_internal.store_tables() t GROUP BY t.parent
        UNION ALL SELECT 'table_rows', t.parent, sum(greatest(c.reltuples, 0)) FROM engram_internal.store_tables() t JOIN pg_class c ON c.oid = t.relid
                  WHERE c.relkind = 'r' GROUP BY t.parent
        UNION ALL SELECT 'table_dead_rows', t.parent, sum(s.n_dead_tup) FROM engram_internal.store_tables() t JOIN pg_stat_user_tables s ON s.relid = t.relid GROUP BY t.parent
        UNION ALL SELECT 'database_bytes', current_database(), pg_database_size(current_database())
        UNION ALL SELECT 'uses_waiting', '', (SELECT count(*) FROM engram.access_queue)
        UNION ALL SELECT 'partitions_ahead', p.parent, (SELECT count(*) FROM engram_internal.partition_bounds(p.parent) b WHERE b.lower_bound > now())
                  FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL
        UNION ALL SELECT 'seconds_since_maintenance', '', date_part('epoch', now() - care.maintained_at)
        UNION ALL SELECT 'alerts', l.level, (SELECT count(*) FROM jsonb_array_elements(found) f WHERE f ->> 'level' = l.level)
                  FROM unnest(ARRAY['critical', 'warning', 'info']) AS l (level)
      ) x WHERE x.value IS NOT NULL);
  END IF;
  RETURN jsonb_build_object(
    'status', CASE WHEN found @> '[{"level": "critical"}]' THEN 'critical' WHEN found @> '[{"level": "warning"}]' THEN 'warning' ELSE 'ok' END,
    'checked_at', now(), 'alerts', found, 'maintained_at', care.maintained_at, 'maintenance', care.report -> 'phases',
    'sizes', engram_internal.sizes(),
    'partitions', (SELECT jsonb_object_agg(p.parent, (SELECT jsonb_build_object('count', count(*), 'oldest', nullif(min(b.lower_bound), '-infinity'), 'until', max(b.upper_bound))
                                                      FROM engram_internal.partition_bounds(p.parent) b))
                   FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL),
    'versions', (SELECT to_jsonb(v) FROM engram_internal.versions() v));
END
$$;
CREATE OR REPLACE FUNCTION engram.enable_realtime(mode text DEFAULT 'changes') RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_administrator();
  IF coalesce(mode, 'changes') = 'changes' THEN
    IF NOT EXISTS (SELECT FROM pg_publication p WHERE p.pubname = 'supabase_realtime') THEN
      RAISE EXCEPTION 'there is no publication supabase_realtime in database "%"', current_database()
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'On Supabase it is there; elsewhere: CREATE PUBLICATION supabase_realtime;';
    END IF;
    IF EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = 'supabase_realtime' AND p.schemaname = 'engram' AND p.tablename = 'memories') THEN
      RETURN 'unchanged';
    END IF;
    ALTER PUBLICATION supabase_realtime ADD TABLE ONLY engram.memories;
    RETURN 'enabled';
  ELSIF mode = 'broadcast' THEN
    IF to_regprocedure('realtime.send(jsonb, text, text, boolean)') IS NULL THEN
      RAISE EXCEPTION 'function realtime.send() is not in database "%"', current_database()
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Broadcast from the database needs Supabase Realtime 2.34 or later.';
    END IF;
    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'engram.memories'::regclass AND t.tgname = 'memories_broadcast_insert') THEN
      RETURN 'unchanged';
    END IF;
    CREATE TRIGGER memories_broadcast_insert AFTER INSERT ON engram.memories
      REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    CREATE TRIGGER memories_broadcast_update AFTER UPDATE ON engram.memories
      REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    CREATE TRIGGER memories_broadcast_delete AFTER DELETE ON engram.memories
      REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    COMMENT ON TRIGGER memories_broadcast_insert ON engram.memories IS 'See engram.enable_realtime().';
    COMMENT ON TRIGGER memories_broadcast_update ON engram.memories IS 'See engram.enable_realtime().';
    COMMENT ON TRIGGER memories_broadcast_delete ON engram.memories IS 'See engram.enable_realtime().';
    -- Who may listen is asked once, when a client joins.
    IF to_regclass('realtime.messages') IS NOT NULL AND to_regprocedure('realtime.topic()') IS NOT NULL
       AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = to_regclass('realtime.messages') AND p.polname = 'engram_broadcast') THEN
      EXECUTE $q$CREATE POLICY engram_broadcast ON realtime.messages FOR SELECT TO public
        USING (extension = 'broadcast' AND (SELECT realtime.topic()) = 'engram:' || (SELECT engram.current_user_id())::text)$q$;
    END IF;
    RETURN 'enabled';
  END IF;
  RAISE EXCEPTION 'unknown mode "%"', mode
    USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: changes (rows, by Supabase''s publication), broadcast (ids, one message a statement).';
END
$$;
CREATE OR REPLACE FUNCTION engram.disable_realtime(mode text DEFAULT 'changes') RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_administrator();
  IF coalesce(mode, 'changes') = 'changes' THEN
    IF NOT EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = 'supabase_realtime' AND p.schemaname = 'engram' AND p.tablename = 'memories') THEN
      RETURN false;
    END IF;
    ALTER PUBLICATION supabase_realtime DROP TABLE ONLY engram.memories;
    RETURN true;
  ELSIF mode = 'broadcast' THEN
    IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'engram.memories'::regclass AND t.tgname = 'memories_broadcast_insert') THEN
      RETURN false;
    END IF;
    DROP TRIGGER IF EXISTS memories_broadcast_insert ON engram.memories;
    DROP TRIGGER IF EXISTS memories_broadcast_update ON engram.memories;
    DROP TRIGGER IF EXISTS memories_broadcast_delete ON engram.memories;
    IF to_regclass('realtime.messages') IS NOT NULL THEN
      DROP POLICY IF EXISTS engram_broadcast ON realtime.messages;
    END IF;
    RETURN true;
  END IF;
  RAISE EXCEPTION 'unknown mode "%"', mode
    USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: changes, broadcast.';
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
  ws uuid := engram_internal.resolve_workspace(erase_messages.workspace, NOT (erase_messages.dry_run IS TRUE AND current_setting('transaction_read_only')::boolean));
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
CREATE OR REPLACE FUNCTION engram_internal.export_start(workspace uuid, include text[], match_count integer, cursor text) RETURNS jsonb
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
COMMENT ON FUNCTION engram.export(uuid, text[], integer, text) IS
'Everything in a workspace, one JSON object a line, for import() here or elsewhere: first a header with the format, then settings, embedding models, aliases, tombstones, memories (with state, entities, embeddings, uses and history), links, uses that wait, messages, and retention policies. Nothing is changed; an import into an empty workspace is exported as the same lines.

Rows come as they are found: COPY (SELECT engram.export()) TO STDOUT needs little memory, however many there are. include: only some of settings (retention policies too), memories, embeddings, uses, history, links, erasures, messages. match_count: so many lines, then one line {"kind": "cursor", "cursor": "…"} if there are more; pass it as cursor for the next page. All pages of one moment take one transaction that is REPEATABLE READ.';

CREATE OR REPLACE FUNCTION engram_internal.import_settings(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
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
  -- The whole workspace: who stores the same ids waits.
  PERFORM engram_internal.lock_keys(import_as_owner.workspace, ARRAY(SELECT n::text FROM generate_series(1, 65) n));
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
      -- What somebody else's transaction brought about, or the server's state, is no fault of a line.
      IF SQLSTATE ~ '^(40|53|55|57|58|XX)' THEN
        RAISE;
      END IF;
      -- One of them is wrong: each by itself, so that the others are not lost.
      FOR item IN SELECT * FROM jsonb_array_elements(lines -> step) LOOP
        BEGIN
          RETURN QUERY EXECUTE command USING import_as_owner.workspace, import_as_owner.trusted, import_as_owner.on_conflict, jsonb_build_array(item);
        EXCEPTION WHEN OTHERS THEN
          IF SQLSTATE ~ '^(40|53|55|57|58|XX)' THEN
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
