\echo Use "ALTER EXTENSION engram UPDATE TO '0.9.0'" to load this file. \quit
CREATE FUNCTION engram_internal.parsed_text(indexed text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'parsed_text_wrapper';
COMMENT ON FUNCTION engram_internal.parsed_text(text) IS
'A text as the parser of text search is to read it: where it takes quotes, dashes and other signs beyond ASCII for letters (LC_CTYPE C), with blanks in their place.';

CREATE OR REPLACE FUNCTION engram_internal.to_terms(config text, indexed text) RETURNS tsvector
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
  parsed text := engram_internal.parsed_text(indexed);
BEGIN
  IF octet_length(parsed) < 100000 THEN
    RETURN to_tsvector(config::regconfig, parsed);
  END IF;
  BEGIN
    RETURN to_tsvector(config::regconfig, parsed);
  EXCEPTION WHEN program_limit_exceeded THEN
    -- Only text made to have very many distinct compound words comes here; its beginning is found.
    RETURN to_tsvector(config::regconfig, left(parsed, 20000));
  END;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.refuse_workspace(workspace uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF workspace = '00000000-0000-0000-0000-000000000000' AND engram_internal.trusted() THEN
    RAISE EXCEPTION 'workspace "%" is that of the defaults and takes no memories', workspace
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the user''s workspace: workspace => ''<user id>''.';
  END IF;
  IF engram_internal.caller_id() IS NULL THEN
    PERFORM engram_internal.refuse_unidentified(false);
  END IF;
  RAISE EXCEPTION 'workspace "%" is not one of yours', workspace
    USING ERRCODE = 'insufficient_privilege',
          HINT = 'Leave workspace out to use your own. Only roles that bypass row security may name another one.';
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_workspace(uuid) IS 'Raises the error for a workspace that the caller may not use, or where nothing is stored.';

CREATE OR REPLACE FUNCTION engram_internal.resolve_workspace(workspace uuid, for_write boolean) RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  me uuid;
BEGIN
  PERFORM engram_internal.require_store();
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
COMMENT ON FUNCTION engram_internal.resolve_workspace(uuid, boolean) IS
'The workspace that a call works in: the one named if the caller may use it, else the caller''s own. NULL when a reader is nobody, or may not read it; everything else that is not allowed raises.';

CREATE FUNCTION engram_internal.model_of(dims integer) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN coalesce(
    (SELECT min(e.name) FROM engram.embedding_models e WHERE e.dims = model_of.dims
     HAVING count(*) = 1 AND NOT EXISTS (
       SELECT FROM engram.embedding_models d WHERE d.is_default AND d.dims = model_of.dims)),
    (SELECT e.name FROM engram.embedding_models e WHERE e.is_default));
END
$$;
COMMENT ON FUNCTION engram_internal.model_of(integer) IS
'The model of a vector of this length for which none is named: the default model, unless another one alone has that length. While one model replaces another, callers of both are served.';

CREATE OR REPLACE FUNCTION engram_internal.metadata_object(metadata jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  object jsonb := metadata;
BEGIN
  IF jsonb_typeof(metadata) = 'string' THEN
    -- A REST client that stringifies its JSON sends the object as one JSON string.
    BEGIN
      object := (metadata #>> '{}')::jsonb;
    EXCEPTION WHEN invalid_text_representation THEN
      NULL;
    END;
  END IF;
  IF jsonb_typeof(object) <> 'object' THEN
    RAISE EXCEPTION 'metadata is a JSON %, not an object', jsonb_typeof(object)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an object, for example {"project": "apollo"}.';
  END IF;
  -- An export has it inside of other things, and all of it is to be read again.
  IF jsonb_path_exists(object, 'strict $.**{100} ? (@.type() == "object" || @.type() == "array")') THEN
    RAISE EXCEPTION 'metadata is nested deeper than 100 levels'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Flatten it, or store what lies so deep as a string of JSON.';
  END IF;
  RETURN object;
END
$$;
COMMENT ON FUNCTION engram_internal.metadata_object(jsonb) IS 'Metadata as the object that it must be, nested at most 100 levels deep; NULL passes, anything else raises.';

CREATE OR REPLACE FUNCTION engram_internal.store(
  workspace uuid, content text, type text, importance double precision, embedding real[], tags text[],
  metadata jsonb, occurred_at timestamptz, agent_id text, session_id text, speaker text, role text,
  source text, entities text[], expires_at timestamptz, on_duplicate text,
  INOUT id uuid, OUT status text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  strategy  text := coalesce(on_duplicate, 'merge');
  -- Not the tables' row types: those would not be there before setup().
  model     record;
  hash      bytea;
  twin      record;
  threshold double precision;
  anew      boolean;
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
  IF embedding IS NOT NULL THEN
    SELECT * INTO model FROM engram.embedding_models e WHERE e.name = engram_internal.model_of(cardinality(embedding));
    IF NOT FOUND THEN
      PERFORM engram_internal.refuse_model(NULL);
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
        WHERE e.workspace_id = workspace AND e.model = model.name AND m.deleted_at IS NULL
          AND m.superseded_by IS NULL AND (m.expires_at IS NULL OR m.expires_at > now())
          AND engram_internal.similarity(e.embedding, embedding, model.distance) >= threshold
        ORDER BY engram_internal.similarity(e.embedding, embedding, model.distance) DESC, m.id LIMIT 1
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
        -- Said again: it counts as one more use, and nothing that came with it is lost.
        INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, memory_ids)
        VALUES (workspace, engram_internal.uuid_v7(), now(), engram.current_user_id(), 'stored', 1, 3, ARRAY[id]);
        anew := engram_internal.links_anew(workspace, id, entities);
        UPDATE engram.memories m
        SET version = m.version + CASE WHEN anew THEN 1 ELSE 0 END,
            importance = greatest(m.importance, importance),
            tags = m.tags || ARRAY(SELECT t FROM unnest(tags) t WHERE t <> ALL (m.tags)),
            metadata = m.metadata || coalesce(metadata, '{}'),
            expires_at = CASE WHEN m.expires_at < expires_at THEN expires_at
                              WHEN expires_at IS NOT NULL THEN m.expires_at END
        WHERE m.workspace_id = workspace AND m.id = id
          AND (anew OR importance > m.importance OR NOT coalesce(tags, '{}') <@ m.tags
               OR NOT m.metadata @> coalesce(metadata, '{}') OR m.expires_at < coalesce(expires_at, 'infinity'));
        IF embedding IS NOT NULL THEN
          INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding)
          VALUES (workspace, id, model.name, embedding) ON CONFLICT DO NOTHING;
        END IF;
        PERFORM engram_internal.link_entities(workspace, id, entities);
      END IF;
      RETURN;
    END IF;
  END IF;

  id := coalesce(id, engram_internal.uuid_v7());
  status := 'added';
  INSERT INTO engram.memories (workspace_id, id, content, type, importance, tags, metadata, occurred_at,
    agent_id, session_id, speaker, role, source, expires_at)
  VALUES (workspace, id, content, type, importance, tags, metadata, occurred_at,
    agent_id, session_id, speaker, role, source, expires_at);
  IF embedding IS NOT NULL THEN
    INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding)
    VALUES (workspace, id, model.name, embedding);
  END IF;
  IF entities IS NOT NULL THEN
    PERFORM engram_internal.link_entities(workspace, id, entities);
  END IF;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.check_embedding(embedding vector, model text) RETURNS void
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
COMMENT ON FUNCTION engram.add(text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], uuid, timestamptz, text, uuid) IS
'Stores one memory and returns its id; it can be found at once.

content: what to remember, at most max_content_chars characters (settings). type: factual (default), episodic, relational, emotional, procedural, opinion or causal. importance: 0 to 1, by default the type''s. embedding: of the default model, or of the one registered model that has its length. entities: names that the memory is about; a search that names one finds it. id: chosen by the client, makes a retry harmless. on_duplicate, when the workspace holds the same content up to case and white space (or, with near_duplicate_threshold set, a vector as close as that): merge (default: the old memory counts one use more, takes the higher importance, new tags, metadata and entities, and its id is returned; who says it again, when and in which session is not kept), skip, reject, allow. workspace: only for roles that bypass row security.';

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
       WHERE x.workspace_id = ws AND EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = x.memory_id)
       GROUP BY x.model) e),
    (SELECT count(*) FROM alive a, engram.embedding_models d WHERE d.is_default AND NOT EXISTS
      (SELECT FROM engram.embeddings x WHERE x.workspace_id = ws AND x.memory_id = a.id AND x.model = d.name)),
    (SELECT coalesce(sum(char_length(a.content)), 0)::bigint FROM alive a),
    (SELECT min(a.created_at) FROM alive a),
    (SELECT max(a.created_at) FROM alive a);
END
$$;
CREATE OR REPLACE FUNCTION engram.set_embedding(
  id uuid,
  embedding vector,
  model text DEFAULT NULL,
  expected_version integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(set_embedding.workspace, true);
  chosen  text;
  current integer;
BEGIN
  SELECT m.version INTO current FROM engram.memories m
  WHERE m.workspace_id = ws AND m.id = set_embedding.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(set_embedding.id);
  END IF;
  IF set_embedding.expected_version <> current THEN
    RAISE EXCEPTION 'memory "%" is at version %, not %', set_embedding.id, current, set_embedding.expected_version
      USING ERRCODE = 'PT409', HINT = 'It changed while you embedded it. It will be handed out again by engram.pending_embeddings().';
  END IF;
  IF set_embedding.embedding IS NULL THEN
    RAISE EXCEPTION 'embedding is NULL'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the vector, for example ''[0.1, 0.2]''. To drop one, DELETE it FROM engram.embeddings.';
  END IF;
  chosen := coalesce(set_embedding.model, engram_internal.model_of(engram_internal.vector_dims(set_embedding.embedding)));
  IF chosen IS NULL THEN
    PERFORM engram_internal.refuse_model(NULL);
  END IF;
  INSERT INTO engram.embeddings AS e (workspace_id, memory_id, model, embedding)
  VALUES (ws, set_embedding.id, chosen, set_embedding.embedding)
  ON CONFLICT ON CONSTRAINT embeddings_pkey DO UPDATE SET embedding = excluded.embedding, created_at = now();
  DELETE FROM engram.embedding_claims c WHERE c.workspace_id = ws AND c.memory_id = set_embedding.id AND c.model = chosen;
  RETURN true;
END
$$;
COMMENT ON FUNCTION engram.set_embedding(uuid, vector, text, integer, uuid) IS
'Stores or replaces the vector of one memory, and ends the lease that pending_embeddings() gave.

model: by default the default model, or the one registered model that has the length of the vector. expected_version: the version that pending_embeddings() returned; if the memory changed since, the call is refused (PT409) and the memory handed out again. An unknown id raises PT404.';

COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur, -word must not; the first 64 different words, 64 phrases and 64 exclusions count. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged, by default now or as_of. as_of: search what was recorded at that moment and is still known: contents, states and filters of then, uses until then; links between memories add nothing, and vectors count where the text is the same today. What was erased since is gone from the past too. diversity: 0 to 1, by default 0: takes that much times its likeness (cosine of the vectors, else words in common) to the most similar memory before it off a score, so that a result repeats itself less. Of memories that say the same in the same words, but for articles, emphasis and punctuation, and have vectors as alike as duplicate_similarity (settings), only the best is returned, and explain names the others under repeats. Nothing that matches gives no rows.';

COMMENT ON FUNCTION engram.links(uuid, timestamptz, uuid) IS
'The links of one memory, strongest first, those included that are too young for related(); at most 1000 of each kind. An unknown or forgotten id raises PT404.

kind: hebbian, by use in the same calls, or graph, by link(). strength: at the moment at, by default now, 0 to 1: 1 - e^-mass, or the weight. direction: -1 to 1, above 0 when this memory is used before the other, or is the source. causal: in at least 3 calls, and one way now weighs twice what the other does, and at least what one call just now does: it fades with the link. count: calls, of hebbian ones. linked_at: the latest of them, or when it was linked.';

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
    SELECT e.version, e.action, e.actor, e.at, e.old FROM engram.memory_events e
    WHERE (e.workspace_id = versions.workspace) IS TRUE AND e.memory_id = versions.id AND e.action <> 'erased'
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
CREATE FUNCTION engram_internal.left_out(workspace uuid, state text, message text, help text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- What somebody else's transaction brought about, the caller's, or the server's state, is no fault of a workspace.
  IF state ~ '^(25|40|42|53|55P03|57|58)' THEN
    RETURN false;
  END IF;
  IF workspace IS NOT NULL THEN
    RAISE WARNING 'workspace "%" is left out: %', workspace, message
      USING HINT = concat_ws(' ', nullif(help, ''), format('Then: SELECT * FROM engram.consolidate(%L);', workspace));
  END IF;
  RETURN true;
END
$$;
COMMENT ON FUNCTION engram_internal.left_out(uuid, text, text, text) IS
'Whether an error is of what a workspace holds, so that the others are consolidated without it; if one is named, with a warning.';

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
      AND engram.link_decay(h.forward + h.backward, greatest(date_part('epoch', moment - interval '30 days' - h.linked_at), 0), f.half_life) < f.prune
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
COMMENT ON FUNCTION engram_internal.consolidate_as_owner(uuid, timestamptz, boolean, integer, boolean, boolean) IS
'What consolidate() does; without a workspace, for all. With dry_run NULL memories stay as they are and all else is done: half of a dry run. in_turns, anew: as moves() has it; with in_turns NULL, and in turns, the first error ends it, else a workspace that cannot be consolidated is left out of all with a warning. Runs with the rights of the caller, who must own the tables.';

COMMENT ON FUNCTION engram.consolidate(uuid, timestamptz, boolean, integer) IS
'Does what time has brought about and reports it in one row: folds uses that wait, shows in memories.layer which memories have moved, forgets by policy, deletes links that faded a month ago. How often it runs changes nothing of what search, recall and every other reader see; but links that are beyond the link_limit strongest of both their ends are deleted too, and if they are used again, or a call from before comes in late, a link that was deleted begins anew.

workspace: by default the caller''s own; for a role that bypasses row security and is nobody, all of them. at: the moment that is judged by, by default now. dry_run: only report what this call would do. batch_size: move and forget at most so many memories in this call; done tells whether that was all. skipped: memories that somebody else was changing; they come next time. Of all workspaces, one that cannot be consolidated is left out with a warning that names it. See also the procedure consolidate_in_batches().';

CREATE OR REPLACE PROCEDURE engram.consolidate_in_batches(batch_size integer DEFAULT 1000, at timestamptz DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  ws   pg_catalog.uuid;
  help pg_catalog.text;
  done pg_catalog.bool;
BEGIN
  PERFORM engram_internal.outside_transaction('consolidate_in_batches()');
  FOR ws IN SELECT w FROM engram_internal.consolidated_workspaces() AS w LOOP
    done := NULL;
    LOOP
      BEGIN
        SELECT c.done INTO done
        FROM engram_internal.consolidate_batch(ws, consolidate_in_batches.at, consolidate_in_batches.batch_size, done IS NULL) AS c;
      EXCEPTION WHEN OTHERS THEN
        -- As consolidate() does: what one workspace holds must not keep the others from being cared for. An argument is
        -- wrong for all of them.
        GET STACKED DIAGNOSTICS help = PG_EXCEPTION_HINT;
        IF NOT engram_internal.trusted() OR SQLSTATE OPERATOR(pg_catalog.=) '22023'
           OR NOT engram_internal.left_out(ws, SQLSTATE, SQLERRM, help) THEN
          RAISE;
        END IF;
        done := true;
      END;
      COMMIT;
      EXIT WHEN done;
    END LOOP;
  END LOOP;
END
$$;
COMMENT ON PROCEDURE engram.consolidate_in_batches(integer, timestamptz) IS
'consolidate() for every workspace that the caller may care for, with a COMMIT after each batch, so that nobody waits long for it. After a crash, call it again: what was done stays done.

batch_size: memories that one transaction moves at most; where much moves, only a few of each page of the table, so that new versions of rows stay there. What somebody else holds comes next time; a workspace among others that cannot be consolidated is left out with a warning. Call it outside a transaction block.';

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
    IF EXISTS (SELECT FROM engram.settings d WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000'
               AND coalesce((row_ ->> 'promote')::double precision, d.promote)
                 < greatest(coalesce((row_ ->> 'demote')::double precision, d.demote), coalesce((row_ ->> 'archive')::double precision, d.archive))) THEN
      RAISE EXCEPTION 'promote would be less than demote or archive: %', row_
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
CREATE OR REPLACE FUNCTION engram_internal.purge(workspace uuid, older_than interval, at timestamptz, dry_run boolean, batch_size integer)
RETURNS TABLE (workspace_id uuid, id uuid, reason text, gone_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  moment timestamptz := coalesce(purge.at, now());
BEGIN
  RETURN QUERY EXECUTE
    $q$WITH doomed AS MATERIALIZED (
         SELECT m.workspace_id, m.id, CASE WHEN m.deleted_at IS NOT NULL THEN 'forgotten' ELSE 'expired' END AS reason,
                coalesce(m.deleted_at, m.expires_at) AS gone_at
         FROM engram.memories m$q$
    || CASE WHEN purge.older_than IS NULL THEN $q$
         JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
         LEFT JOIN engram.settings w ON w.workspace_id = m.workspace_id$q$ ELSE '' END
    || $q$ WHERE (m.deleted_at IS NOT NULL OR m.expires_at IS NOT NULL)
             AND coalesce(m.deleted_at, m.expires_at) <= $2$q$
    || CASE WHEN purge.older_than IS NULL THEN $q$ - coalesce(w.purge_after_days, d.purge_after_days) * interval '1 day'$q$ ELSE '' END
    || CASE WHEN purge.workspace IS NULL THEN '' ELSE ' AND m.workspace_id = $1' END
    || $q$ ORDER BY m.workspace_id, m.id LIMIT $3
       )$q$
    -- Who only asks may do so where nothing can be written or locked.
    || CASE WHEN purge.dry_run THEN $q$
       SELECT * FROM doomed ORDER BY 1, 2$q$ ELSE $q$, held AS MATERIALIZED (
         SELECT d.* FROM doomed d CROSS JOIN LATERAL (
           SELECT x.ctid FROM engram.memories x
           WHERE x.workspace_id = d.workspace_id AND x.id = d.id
             AND coalesce(x.deleted_at, x.expires_at) = d.gone_at FOR UPDATE SKIP LOCKED) there
       ), erased AS (
         DELETE FROM engram.memories m USING held h WHERE m.workspace_id = h.workspace_id AND m.id = h.id
         RETURNING h.workspace_id, h.id, h.reason, h.gone_at
       )
       SELECT * FROM erased ORDER BY 1, 2$q$ END
    USING purge.workspace, coalesce(engram_internal.earlier(moment, purge.older_than), moment), coalesce(purge.batch_size, 2147483647);
END
$$;
CREATE OR REPLACE FUNCTION engram.append_messages(items jsonb, session_id text DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws       uuid := engram_internal.resolve_workspace(append_messages.workspace, true);
  me       uuid := coalesce(engram.current_user_id(), ws);
  longest  integer;
  here     timestamptz;
  given    timestamptz;
  last_at  timestamptz;
  item     record;
  chats    text[];
BEGIN
  IF ws = '00000000-0000-0000-0000-000000000000' THEN
    PERFORM engram_internal.refuse_workspace(ws);
  END IF;
  SELECT coalesce(w.max_content_chars, d.max_content_chars) INTO longest
  FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = ws
  WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';
  -- One writer at a time in a conversation: so that ids stay unique, and turns in the order of their calls.
  chats := ARRAY(SELECT DISTINCT p.session_id FROM engram_internal.parse_messages(append_messages.items, append_messages.session_id) p
                 WHERE p.error IS NULL);
  PERFORM engram_internal.lock_keys(ws, ARRAY(SELECT 'conversation ' || c FROM unnest(chats) c));
  here := clock_timestamp();
  FOR item IN
    WITH items AS MATERIALIZED (
      SELECT p.*, p.error IS NULL AND char_length(p.content) <= longest AS fine
      FROM engram_internal.parse_messages(append_messages.items, append_messages.session_id) p
    ), ids AS MATERIALIZED (
      SELECT DISTINCT i.id FROM items i WHERE i.id IS NOT NULL
    ), held AS MATERIALIZED (
      -- One look at each conversation, however many are asked about (IS TRUE keeps it from being a join, which could
      -- be a look for each). In one statement: who archives or restores meanwhile only moves them.
      SELECT m.session_id, m.id, m.content FROM engram.messages m
      WHERE m.workspace_id = ws AND m.session_id = ANY (chats) AND EXISTS (SELECT FROM ids) AND (m.id IN (SELECT d.id FROM ids d)) IS TRUE
      UNION ALL
      -- Unpacked once, where there is one of them.
      SELECT a.session_id, u.id, u.content FROM engram.message_archive a
      CROSS JOIN LATERAL (SELECT t.id, t.content FROM engram_internal.archived_turns(a.ids, a.messages) t OFFSET 0) u
      WHERE a.workspace_id = ws AND a.session_id = ANY (chats) AND EXISTS (SELECT FROM ids)
        AND EXISTS (SELECT FROM unnest(a.ids) AS n (id) WHERE (n.id IN (SELECT d.id FROM ids d)) IS TRUE)
        AND (u.id IN (SELECT d.id FROM ids d)) IS TRUE
    )
    SELECT i.*, i.id IS NOT NULL AND (row_number() OVER w > 1 OR (i.session_id, i.id) IN (SELECT h.session_id, h.id FROM held h)) AS known,
           -- The same turn: as it is stored, or else as it was said first in this call.
           CASE WHEN (i.session_id, i.id) IN (SELECT h.session_id, h.id FROM held h)
             THEN (i.session_id, i.id, i.content) IN (SELECT h.session_id, h.id, h.content FROM held h)
             ELSE i.content = first_value(i.content) OVER w END AS same
    FROM items i WINDOW w AS (PARTITION BY i.session_id, i.id, i.fine ORDER BY i.position) ORDER BY i.position
  LOOP
    position := item.position;
    id := item.id;
    error := item.error;
    status := 'error';
    IF error IS NULL AND char_length(item.content) > longest THEN
      error := format('content has %s characters, the limit is %s. Store it in parts, or have an administrator raise max_content_chars.',
                      char_length(item.content), longest);
    END IF;
    IF error IS NULL AND item.known AND NOT item.same THEN
      error := format('another turn with id %s is in the conversation already. Choose another id, or leave it out.', item.id);
    END IF;
    IF error IS NULL THEN
      status := CASE WHEN item.known THEN 'unchanged' ELSE 'added' END;
      -- Of equal times each next one is a microsecond later: the array's order is the order of the turns.
      last_at := CASE WHEN item.created_at = given THEN last_at + interval '1 microsecond'
                      WHEN item.created_at IS NOT NULL THEN item.created_at
                      ELSE greatest(here, last_at + interval '1 microsecond') END;
      given := item.created_at;
      IF NOT item.known THEN
        id := coalesce(id, engram_internal.uuid_v7());
        INSERT INTO engram.messages (workspace_id, session_id, created_at, id, user_id, role, speaker, content, metadata)
        VALUES (ws, item.session_id, last_at, id, me, item.role, item.speaker, item.content, coalesce(item.metadata, '{}'));
      END IF;
    ELSE
      id := NULL;
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram.append_messages(jsonb, text, uuid) IS
'Stores turns of a conversation in the order given; a bad item does not lose the others.

items: an array of objects, at most 10,000: content and role (user, assistant, system, tool; by default user), and if you have them speaker, metadata, id, created_at, session_id. session_id: the conversation of the items that name none. Returns one row per item, by its position from 1, with status added, unchanged or error. id: chosen by the client, unique in the conversation, makes a retry harmless even after the turn was archived; with other content it is an error. created_at: by default now. Of items with equal times each next one is stored a microsecond later.';

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
CREATE OR REPLACE FUNCTION engram_internal.import_memories(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
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
CREATE OR REPLACE FUNCTION engram_internal.import_messages(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
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
      RAISE EXCEPTION 'session_id is empty' USING ERRCODE = 'invalid_parameter_value';
    ELSIF import_messages.kind = 'message' AND char_length(line ->> 'content') > longest
       OR import_messages.kind = 'archive' AND EXISTS (SELECT FROM jsonb_array_elements(line -> 'turns') t WHERE char_length(t ->> 'content') > longest) THEN
      RAISE EXCEPTION 'content has more than % characters', longest USING ERRCODE = 'invalid_parameter_value';
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
      ('call', 'links'), ('credit', 'links'), ('message', 'messages'), ('archive', 'messages')) AS v LOOP
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

-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
