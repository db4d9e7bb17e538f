-- Storing, reading and changing memories. All of it runs as the caller: the policies on the tables
-- decide, and the functions check the workspace themselves as well.

CREATE FUNCTION engram_internal.said_again(workspace uuid, id uuid, recall_id uuid) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'said_again_wrapper';
COMMENT ON FUNCTION engram_internal.said_again(uuid, uuid, uuid) IS
'Notes that the content of a memory was stored again, which counts as a use and once for each recall_id; how many were credited, 0 or 1.';

CREATE FUNCTION engram_internal.store(
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
  IF cardinality(entities) > 0 THEN
    PERFORM engram_internal.lock_keys(workspace, '{}');
  END IF;
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
COMMENT ON FUNCTION engram_internal.store(uuid, text, text, double precision, real[], text[], jsonb, timestamptz, text, text, text, text, text, text[], timestamptz, text, uuid, text, timestamptz, timestamptz, boolean, text) IS
'What add() and add_many() do with one memory, as the caller, in a workspace that has been resolved. Tells whether it was added, merged, skipped or unchanged.';

CREATE FUNCTION engram_internal.store_new(
  content text, type text, importance double precision, embedding vector, tags text[],
  metadata jsonb, occurred_at timestamptz, agent_id text, session_id text, speaker text, role text,
  source text, entities text[], id uuid, expires_at timestamptz, on_duplicate text, workspace uuid) RETURNS uuid
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'store_new_wrapper';
COMMENT ON FUNCTION engram_internal.store_new(text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], uuid, timestamptz, text, uuid) IS
'What store() does, for a memory that is new beyond doubt, where the tables are as setup() made them: its id. NULL leaves all else to store(), errors too.';

CREATE FUNCTION engram_internal.store_items(items jsonb, workspace uuid, OUT given integer, OUT positions integer[], OUT ids uuid[])
RETURNS SETOF record
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'store_items_wrapper';
COMMENT ON FUNCTION engram_internal.store_items(jsonb, uuid) IS
'store_new() for the items of add_many(): how many there are, and positions and ids of those that were stored. No row when nothing can be stored so.';

CREATE FUNCTION engram_internal.check_embedding(embedding vector, model text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  m record;
BEGIN
  SELECT * INTO m FROM engram.embedding_models e WHERE e.name = model;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_model(model);
  END IF;
  IF engram_internal.vector_dims(embedding) <> m.dims THEN
    RAISE EXCEPTION 'the embedding has % dimensions, model "%" has %',
        engram_internal.vector_dims(embedding), m.name, m.dims
      USING ERRCODE = 'data_exception',
            HINT = format('Embed with model "%s", or register the one that makes such vectors: SELECT engram.set_embedding_model(name, dims). engram.embedding_models lists those that are.', m.name);
  END IF;
  IF m.distance = 'cosine' AND engram_internal.vector_norm(embedding) = 0 THEN
    RAISE EXCEPTION 'the embedding is all zeros, which has no direction to compare'
      USING ERRCODE = 'data_exception', HINT = 'Leave the embedding out: the memory is then found by its words.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_embedding(vector, text) IS 'Raises the error for a vector that does not fit its model.';


CREATE FUNCTION engram.add(
  content text,
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
  id uuid DEFAULT NULL,
  expires_at timestamptz DEFAULT NULL,
  on_duplicate text DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  stored uuid := engram_internal.store_new(content, type, importance, embedding, tags, metadata, occurred_at, agent_id,
    session_id, speaker, role, source, entities, id, expires_at, on_duplicate, workspace);
BEGIN
  IF stored IS NOT NULL THEN
    RETURN stored;
  END IF;
  RETURN (SELECT s.id FROM engram_internal.store(engram_internal.resolve_workspace(workspace, true),
    content, type, importance, embedding, tags, metadata, occurred_at, agent_id, session_id, speaker, role,
    source, entities, expires_at, on_duplicate, id) s);
END
$$;
COMMENT ON FUNCTION engram.add(text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], uuid, timestamptz, text, uuid) IS
'Stores one memory and returns its id; it can be found at once.

content: what to remember, at most max_content_chars characters (settings). type: factual (default), episodic, relational, emotional, procedural, opinion or causal. importance: 0 to 1, by default the type''s. agent_id, session_id, speaker and each of tags: at most 500 characters; source: at most 2,000. embedding: of the default model, or of the one registered model that has its length. entities: names that the memory is about; a search that names one finds it. id: chosen by the client, makes a retry harmless: the same content is stored once under it, or counted once as a use of the memory that holds it already. on_duplicate, when the workspace holds the same content up to case and white space (or, with near_duplicate_threshold set, a vector as close as that): merge (default: the old memory counts one use more, takes the higher importance, new tags, metadata and entities, and its id is returned; who says it again, when and in which session is not kept), skip, reject, allow. workspace: only for roles that bypass row security.';

CREATE FUNCTION engram.add_many(items jsonb, workspace uuid DEFAULT NULL)
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
    IF EXISTS (SELECT FROM engram_internal.read_items(add_many.items) p WHERE cardinality(p.entities) > 0) THEN
      PERFORM engram_internal.lock_keys(ws, '{}');
    END IF;
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

CREATE FUNCTION engram_internal.get(wanted uuid, workspace uuid, as_of timestamptz)
RETURNS TABLE (
  id uuid, workspace_id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text,
  content text, summary text, type text, importance double precision, layer text, pinned boolean,
  tags text[], metadata jsonb, source text, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
  expires_at timestamptz, deleted_at timestamptz, version integer, created_at timestamptz,
  updated_at timestamptz, access_count bigint, last_accessed_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(get.workspace, false);
BEGIN
  IF get.as_of IS NOT NULL THEN
    PERFORM engram_internal.check_as_of(get.as_of);
    RETURN QUERY
    SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
         m.type, m.importance, s.layer, m.pinned, m.tags, m.metadata, m.source, m.entities,
         m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
         m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at
    FROM engram_internal.memories_as_of(ws, get.as_of, ARRAY[get.wanted]) m
    CROSS JOIN engram_internal.state_as_of(ws, get.as_of, ARRAY[get.wanted]) s
    WHERE m.deleted_at IS NULL;
    RETURN;
  END IF;
  RETURN QUERY
  SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
       m.type, m.importance, p.layer, m.pinned, m.tags, m.metadata, m.source,
       ARRAY(SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = m.workspace_id
             AND g.memory_id = m.id AND g.relation = 'mentions' ORDER BY g.node),
       m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
       m.version, m.created_at, m.updated_at, p.access_count, p.last_accessed_at
  FROM engram.memories m
  CROSS JOIN LATERAL engram_internal.present(ws, now(), ARRAY[m.id]) p
  WHERE m.workspace_id = ws AND m.id = get.wanted AND m.deleted_at IS NULL;
END
$$;
COMMENT ON FUNCTION engram_internal.get(uuid, uuid, timestamptz) IS 'What get() does.';

-- A function of its own, because PL/pgSQL cannot have an argument and a column of the same name.
CREATE FUNCTION engram.get(id uuid, workspace uuid DEFAULT NULL, as_of timestamptz DEFAULT NULL)
RETURNS TABLE (
  id uuid, workspace_id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text,
  content text, summary text, type text, importance double precision, layer text, pinned boolean,
  tags text[], metadata jsonb, source text, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
  expires_at timestamptz, deleted_at timestamptz, version integer, created_at timestamptz,
  updated_at timestamptz, access_count bigint, last_accessed_at timestamptz)
LANGUAGE sql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT g.* FROM engram_internal.get($1, $2, $3) g
$$;
COMMENT ON FUNCTION engram.get(uuid, uuid, timestamptz) IS
'One memory, or no row when it is not there or forgotten. Reading does not count as a use.

as_of: as it was recorded at that moment, by what is still known of it; no row when it was not stored yet, forgotten then, or erased since.';

CREATE FUNCTION engram.list(
  filter jsonb DEFAULT NULL,
  match_count integer DEFAULT NULL,
  skip integer DEFAULT NULL,
  cursor text DEFAULT NULL,
  include text[] DEFAULT NULL,
  workspace uuid DEFAULT NULL,
  as_of timestamptz DEFAULT NULL
) RETURNS TABLE (
  id uuid, workspace_id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text,
  content text, summary text, type text, importance double precision, layer text, pinned boolean,
  tags text[], metadata jsonb, source text, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
  expires_at timestamptz, deleted_at timestamptz, version integer, created_at timestamptz,
  updated_at timestamptz, access_count bigint, last_accessed_at timestamptz, cursor_next text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(list.workspace, false);
  wanted    integer := coalesce(list.match_count, 50);
  skipped   integer := coalesce(list.skip, 0);
  condition text;
  params    jsonb;
  since     numeric;
  last_at   timestamptz;
  last_id   uuid;
  states    text;
  batch     uuid[];
  ids       uuid[] := '{}';
  ahead     integer := 100;
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000, and page on with cursor.';
  END IF;
  IF skipped < 0 THEN
    RAISE EXCEPTION 'skip is %', skipped
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 0 or more.';
  END IF;
  IF NOT coalesce(list.include, '{}') <@ ARRAY['forgotten', 'superseded', 'expired'] THEN
    RAISE EXCEPTION 'unknown value in include: %', list.include
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: forgotten, superseded, expired.';
  END IF;
  IF list.cursor IS NOT NULL THEN
    IF list.cursor ~ '^-?[0-9]{1,19}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
      -- Microseconds since 1970, which need not fit into a bigint.
      since := split_part(list.cursor, '_', 1)::numeric;
    END IF;
    -- 4714-11-24 BC and the end of the year 294276: what a timestamptz can hold.
    IF since IS NULL OR since NOT BETWEEN -210866803200000000 AND 9224318015999999999 THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.list() returned', list.cursor
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass cursor_next of the last row of the page before, unchanged.';
    END IF;
    -- In days and what is left of one: either is exact as a double.
    last_at := (timestamp '1970-01-01' + div(since, 86400000000)::integer * interval '1 day'
                + mod(since, 86400000000)::double precision * interval '1 microsecond') AT TIME ZONE 'UTC';
    last_id := split_part(list.cursor, '_', 2)::uuid;
  END IF;
  states := CASE WHEN 'forgotten' = ANY (list.include) THEN '' ELSE ' AND m.deleted_at IS NULL' END
    || CASE WHEN 'superseded' = ANY (list.include) THEN '' ELSE ' AND m.superseded_by IS NULL' END
    || CASE WHEN 'expired' = ANY (list.include) THEN '' ELSE ' AND (m.expires_at IS NULL OR m.expires_at > $7)' END;
  IF list.as_of IS NOT NULL THEN
    PERFORM engram_internal.check_as_of(list.as_of);
    SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_past_filter(list.filter) f;
    IF last_at IS NULL OR last_at > list.as_of THEN
      last_at := list.as_of;
      last_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    END IF;
    -- By the order of now, which is that of then, until the page is full.
    WHILE cardinality(ids) < skipped + wanted AND last_at IS NOT NULL LOOP
      SELECT o.ids, o.last_at, o.last_id INTO batch, last_at, last_id FROM engram_internal.older(ws, last_at, last_id, ahead) o;
      EXECUTE 'SELECT array_agg(m.id ORDER BY m.created_at DESC, m.id DESC) FROM engram_internal.memories_as_of($2, $7, $3) m
               WHERE $1 IS NOT NULL AND ' || condition || states
        INTO batch USING params, ws, batch, NULL, NULL, NULL, list.as_of;
      ids := ids || batch;
      ahead := least(ahead * 2, 5000);
    END LOOP;
    RETURN QUERY
    SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
         m.type, m.importance, s.layer, m.pinned, m.tags, m.metadata, m.source, m.entities,
         m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
         m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at,
         (trunc(extract(epoch FROM date_trunc('second', m.created_at))) * 1000000
          + mod(extract(microseconds FROM m.created_at), 1000000)::integer)::text || '_' || m.id
    FROM engram_internal.memories_as_of(ws, list.as_of, ids[skipped + 1 : skipped + wanted]) m
    LEFT JOIN engram_internal.state_as_of(ws, list.as_of, ids[skipped + 1 : skipped + wanted]) s ON s.memory_id = m.id
    ORDER BY m.created_at DESC, m.id DESC;
    RETURN;
  END IF;
  SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_filter(list.filter) f;
  RETURN QUERY EXECUTE
    $q$WITH page AS MATERIALIZED (SELECT m.* FROM engram.memories m WHERE m.workspace_id = $2 AND $1 IS NOT NULL$q$
    || CASE WHEN list.cursor IS NOT NULL THEN ' AND (m.created_at, m.id) < ($3, $4)' ELSE '' END
    || states || ' AND ' || condition
    || $q$ ORDER BY m.created_at DESC, m.id DESC LIMIT $5 OFFSET $6)
    SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
       m.type, m.importance, s.layer, m.pinned, m.tags, m.metadata, m.source,
       ARRAY(SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = m.workspace_id
             AND g.memory_id = m.id AND g.relation = 'mentions' ORDER BY g.node),
       m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
       m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at,
       (trunc(extract(epoch FROM date_trunc('second', m.created_at))) * 1000000
        + mod(extract(microseconds FROM m.created_at), 1000000)::integer)::text || '_' || m.id
    FROM page m
    LEFT JOIN engram_internal.present($2, now(), (SELECT array_agg(p.id) FROM page p)) s ON s.memory_id = m.id
    ORDER BY m.created_at DESC, m.id DESC$q$
    USING params, ws, last_at, last_id, wanted, skipped, now();
END
$$;
COMMENT ON FUNCTION engram.list(jsonb, integer, integer, text, text[], uuid, timestamptz) IS
'Memories, newest first, a page at a time. Reading does not count as a use.

filter: see README, "Filters"; for example {"type": "factual", "importance": {"gte": 0.5}, "project": "apollo"}. match_count: 1 to 1000, by default 50. cursor: cursor_next of the last row of the page before; pages stay right while memories are added. skip: rows to leave out first. include: any of forgotten, superseded, expired, which are left out otherwise. as_of: what was recorded at that moment and is still known, filters and include judged by the values and the moment of then; what was erased since is gone from the past too.';

CREATE FUNCTION engram.update(
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
COMMENT ON FUNCTION engram.update(uuid, text, text, text, double precision, text[], jsonb, timestamptz, text, text, text, text, text, text[], vector, timestamptz, timestamptz, timestamptz, text[], integer, uuid) IS
'Changes what is given of one memory and returns its new version.

NULL leaves a value as it is; clear names those to empty, which then must not be given (22023). tags, metadata and entities are replaced. New content, speaker or occurred_at drop the old embeddings: pass a new one, or let pending_embeddings() hand the memory out again. expected_version: refuse (PT409) unless the memory is still at that version. An unknown id raises PT404.';

CREATE FUNCTION engram_internal.change(workspace uuid, id uuid, what text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws  uuid := engram_internal.resolve_workspace(change.workspace, true);
  old record;
BEGIN
  SELECT * INTO old FROM engram.memories m WHERE m.workspace_id = ws AND m.id = change.id FOR NO KEY UPDATE;
  IF NOT FOUND OR (old.deleted_at IS NOT NULL AND change.what IN ('pin', 'unpin')) THEN
    PERFORM engram_internal.refuse_memory(change.id);
  END IF;
  IF (CASE change.what
        WHEN 'forget' THEN old.deleted_at IS NOT NULL
        WHEN 'restore' THEN old.deleted_at IS NULL
        WHEN 'pin' THEN old.pinned
        ELSE NOT old.pinned END) THEN
    RETURN false;
  END IF;
  UPDATE engram.memories m SET
    deleted_at = CASE change.what WHEN 'forget' THEN now() WHEN 'restore' THEN NULL ELSE m.deleted_at END,
    pinned     = CASE change.what WHEN 'pin' THEN true WHEN 'unpin' THEN false ELSE m.pinned END
  WHERE m.workspace_id = ws AND m.id = change.id;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram_internal.change(uuid, uuid, text) IS 'What forget(), restore(), pin() and unpin() do.';

CREATE FUNCTION engram.forget(id uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.change(forget.workspace, forget.id, 'forget');
END
$$;
COMMENT ON FUNCTION engram.forget(uuid, uuid) IS
'Takes one memory out of search and lists; restore() brings it back. True when it was not forgotten before. An unknown id raises PT404.';

CREATE FUNCTION engram.restore(id uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.change(restore.workspace, restore.id, 'restore');
END
$$;
COMMENT ON FUNCTION engram.restore(uuid, uuid) IS
'Brings back a memory that forget() took away. True when it was forgotten. An erased or unknown id raises PT404.';

CREATE FUNCTION engram.pin(id uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.change(pin.workspace, pin.id, 'pin');
END
$$;
COMMENT ON FUNCTION engram.pin(uuid, uuid) IS
'Marks one memory to be kept: it never decays and is never archived. It gains no rank. True when it was not pinned before. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.unpin(id uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.change(unpin.workspace, unpin.id, 'unpin');
END
$$;
COMMENT ON FUNCTION engram.unpin(uuid, uuid) IS
'Takes the mark of pin() away. True when it was pinned. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram_internal.traces(workspace uuid, id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object(
    'embeddings', (SELECT count(*) FROM engram.embeddings e WHERE e.workspace_id = traces.workspace AND e.memory_id = traces.id),
    'state', (SELECT count(*) FROM engram.memory_state s WHERE s.workspace_id = traces.workspace AND s.memory_id = traces.id),
    'links', (SELECT count(*) FROM engram.hebbian_links l WHERE l.workspace_id = traces.workspace AND l.a = traces.id)
           + (SELECT count(*) FROM engram.hebbian_links l WHERE (l.workspace_id = traces.workspace) IS TRUE AND l.b = traces.id),
    'typed_links', (SELECT count(*) FROM engram.graph_links g WHERE g.workspace_id = traces.workspace AND g.memory_id = traces.id)
                 + (SELECT count(*) FROM engram.graph_links g WHERE (g.workspace_id = traces.workspace) IS TRUE AND g.target_id = traces.id),
    'uses', (SELECT count(*) FROM engram.access_log l WHERE l.workspace_id = traces.workspace AND l.memory_id = traces.id)
          + (SELECT count(*) FROM engram.access_queue q WHERE q.workspace_id = traces.workspace AND traces.id = ANY (q.memory_ids)),
    'events', (SELECT count(*) FROM engram.memory_events e WHERE (e.workspace_id = traces.workspace) IS TRUE AND e.memory_id = traces.id));
END
$$;
COMMENT ON FUNCTION engram_internal.traces(uuid, uuid) IS 'How many rows of each kind hang on a memory, as the caller sees them.';

CREATE FUNCTION engram.erase(
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
COMMENT ON FUNCTION engram.erase(uuid[], jsonb, boolean, uuid) IS
'Deletes memories for good, with everything that hangs on them, and returns a receipt: the ids, when, and how many rows of each kind went with them (embeddings, state, links, typed_links, uses, events). Each id leaves a tombstone, so that a late import or retry cannot bring it back, and the bare fact in memory_events.

ids and filter: which ones, forgotten ones included; with both, those that match both. dry_run: only tell which, erased_at then is NULL.';

CREATE FUNCTION engram.stats(workspace uuid DEFAULT NULL)
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
