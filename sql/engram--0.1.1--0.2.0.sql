\echo Use "ALTER EXTENSION engram UPDATE TO '0.2.0'" to load this file. \quit



CREATE FUNCTION engram_internal.extra_text(indexed text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'extra_text_wrapper';
COMMENT ON FUNCTION engram_internal.extra_text(text) IS
'Words that a text search configuration does not find in a text: parts of identifiers, dates written in digits, pairs of characters where words are written without spaces. NULL when there are none.';

CREATE FUNCTION engram_internal.to_terms(config text, indexed text) RETURNS tsvector
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
BEGIN
  IF octet_length(indexed) < 100000 THEN
    RETURN to_tsvector(config::regconfig, indexed);
  END IF;
  BEGIN
    RETURN to_tsvector(config::regconfig, indexed);
  EXCEPTION WHEN program_limit_exceeded THEN
    -- Only text made to have very many distinct compound words comes here; its beginning is found.
    RETURN to_tsvector(config::regconfig, left(indexed, 20000));
  END;
END
$$;
COMMENT ON FUNCTION engram_internal.to_terms(text, text) IS 'The lexemes of an indexed text, without a notice for words that are too long to be indexed.';

CREATE FUNCTION engram_internal.text_config(workspace uuid) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- While a dump is loaded there may be no settings yet.
  RETURN coalesce((SELECT coalesce(w.text_config, d.text_config)
          FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = text_config.workspace
          WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000'), 'pg_catalog.english');
END
$$;
COMMENT ON FUNCTION engram_internal.text_config(uuid) IS 'The text search configuration of a workspace.';

CREATE FUNCTION engram_internal.document_entry(id uuid, version bigint, state text, session_id text, at timestamptz,
  content text, speaker text, terms bytea, extra bytea) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'document_entry_wrapper';
COMMENT ON FUNCTION engram_internal.document_entry(uuid, bigint, text, text, timestamptz, text, text, bytea, bytea) IS
'A block of one document. terms and extra are tsvectorsend(tsvector); only terms count for its length. state: plain, replaces (older entries of the memory no longer count), gone (and neither does this).';

CREATE FUNCTION engram_internal.vector_entry(id uuid, version bigint, state text, embedding vector) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'vector_entry_wrapper';
COMMENT ON FUNCTION engram_internal.vector_entry(uuid, bigint, text, vector) IS
'A block of one vector, quantised to 8 bits a dimension. Without a vector, for state gone, it has as many dimensions as its neighbours.';

CREATE FUNCTION engram_internal.merge_blocks(blocks bytea[], resolve boolean)
RETURNS TABLE (is_full boolean, entries integer, block bytea)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'merge_blocks_wrapper';
COMMENT ON FUNCTION engram_internal.merge_blocks(bytea[], boolean) IS
'The entries of many blocks in as few as possible, the newest of each memory only. resolve: no other block holds these memories, so that nothing of what is gone need be kept.';

CREATE FUNCTION engram_internal.block_entries(block bytea)
RETURNS TABLE (id uuid, version bigint, state text, entry bytea)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'block_entries_wrapper';
COMMENT ON FUNCTION engram_internal.block_entries(bytea) IS
'What a block holds. entry is a block of that entry alone, equal for equal content whatever the version.';

CREATE FUNCTION engram_internal.block_holds(block bytea, ids uuid[]) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'block_holds_wrapper';
COMMENT ON FUNCTION engram_internal.block_holds(bytea, uuid[]) IS 'True when a block has an entry of any of the memories.';

CREATE FUNCTION engram_internal.document(id uuid, version bigint, state text, session_id text, at timestamptz,
  config text, content text, speaker text, occurred_at timestamptz, summary text) RETURNS bytea
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  indexed text;
  extra   text;
BEGIN
  IF state <> 'gone' THEN
    indexed := engram_internal.indexed_text(content, speaker, occurred_at, summary);
    extra := engram_internal.extra_text(indexed);
  END IF;
  RETURN engram_internal.document_entry(id, version, state, session_id, at,
    CASE WHEN state <> 'gone' THEN content END, speaker,
    tsvectorsend(engram_internal.to_terms(config, indexed)),
    CASE WHEN extra IS NOT NULL THEN tsvectorsend(engram_internal.to_terms(config, extra)) END);
END
$$;
COMMENT ON FUNCTION engram_internal.document(uuid, bigint, text, text, timestamptz, text, text, text, timestamptz, text) IS
'A block of one memory''s words.';

CREATE FUNCTION engram_internal.index_documents(workspace uuid, documents bytea[], state text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
  SELECT workspace, '', CASE WHEN state <> 'plain' THEN 0 WHEN b.is_full THEN 2 ELSE 1 END,
         engram_internal.uuid_v7(), b.entries, b.block
  FROM engram_internal.merge_blocks(documents, false) b;
  PERFORM engram_internal.pack_sometimes(workspace, '', cardinality(documents), state);
END
$$;
COMMENT ON FUNCTION engram_internal.index_documents(uuid, bytea[], text) IS
'Adds documents to what search scans. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.index_vectors(workspace uuid, model text, ids uuid[], embeddings vector[], state text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  waiting boolean := EXISTS (SELECT FROM engram.search_blocks b
    WHERE b.workspace_id = workspace AND b.model = index_vectors.model AND b.level = 0);
  -- What others did since the snapshot was taken is not seen here.
  stale boolean := current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted');
BEGIN
  -- The first entry of a vector has version 1. Later ones, and those that cannot know whether they
  -- are the first, have the time, which is later than what others wrote before they let go of the row.
  IF state = 'plain' AND NOT waiting AND NOT stale THEN
    INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
    SELECT workspace, index_vectors.model, CASE WHEN b.is_full THEN 2 ELSE 1 END, engram_internal.uuid_v7(), b.entries, b.block
    FROM engram_internal.merge_blocks(
      ARRAY(SELECT engram_internal.vector_entry(v.id, 1, 'plain', v.embedding) FROM unnest(ids, embeddings) AS v (id, embedding)), false) b;
    PERFORM engram_internal.pack_sometimes(workspace, index_vectors.model, cardinality(ids), state);
    RETURN;
  END IF;
  INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
  SELECT workspace, index_vectors.model, CASE WHEN n.replaces THEN 0 WHEN b.is_full THEN 2 ELSE 1 END,
         engram_internal.uuid_v7(), b.entries, b.block
  FROM (
    SELECT s.replaces, array_agg(engram_internal.vector_entry(s.id, s.version,
             CASE WHEN s.replaces AND state = 'plain' THEN 'replaces' ELSE state END, s.embedding)) AS entries
    FROM (
      SELECT v.id, v.embedding, state <> 'plain' OR w.id IS NOT NULL AS replaces,
             CASE WHEN state = 'plain' AND w.id IS NULL AND NOT stale THEN 1
                  ELSE greatest(coalesce(w.version, 1) + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) END AS version
      FROM unnest(ids, embeddings) AS v (id, embedding)
      LEFT JOIN (
        SELECT e.id, max(e.version) AS version
        FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.block_entries(b.block) e
        WHERE waiting AND b.workspace_id = workspace AND b.model = index_vectors.model AND b.level = 0 AND e.id = ANY (ids)
        GROUP BY e.id
      ) w ON w.id = v.id
    ) s GROUP BY s.replaces
  ) n CROSS JOIN LATERAL engram_internal.merge_blocks(n.entries, false) b;
  PERFORM engram_internal.pack_sometimes(workspace, index_vectors.model, cardinality(ids), state);
END
$$;
COMMENT ON FUNCTION engram_internal.index_vectors(uuid, text, uuid[], vector[], text) IS
'Adds vectors to what search scans. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.pack_sometimes(workspace uuid, model text, added integer, state text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- By chance, so that nobody need count: about once for every 24 new entries, or 100 that replace.
  IF state = 'plain' THEN
    IF random() * 24 < added THEN
      PERFORM engram_internal.pack(workspace, model, false, 16);
      PERFORM engram_internal.pack(workspace, model, true, 20);
    END IF;
  ELSIF random() * 100 < added THEN
    PERFORM engram_internal.pack(workspace, model, true, 50);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.pack_sometimes(uuid, text, integer, text) IS
'Packs after as many new entries as are worth it. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.pack(workspace uuid, model text, replacing boolean, at_least integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- While a dump is loaded, rows that look like a dump's are left out: not these.
SET check_function_bodies = on
AS $$
DECLARE
  packed integer := 0;
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  -- One at a time in a workspace, until its end is visible to the next, and under a snapshot taken
  -- afterwards: then every entry of a memory that is being replaced is seen. Nobody waits here.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT pg_try_advisory_xact_lock(hashtextextended('engram pack ' || workspace, 0)) THEN
    RETURN 0;
  END IF;
  IF (SELECT count(*) FROM engram.search_blocks b
      WHERE b.workspace_id = workspace AND b.model = pack.model AND b.level = CASE WHEN replacing THEN 0 ELSE 1 END) < at_least THEN
    RETURN 0;
  END IF;
  -- One statement, hence one snapshot: of a block that waits, committed while this runs, either all
  -- memories are being replaced or none.
  BEGIN
    WITH waiting AS MATERIALIZED (
      SELECT array_agg(e.id) AS ids
      FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.block_entries(b.block) e
      WHERE replacing AND b.workspace_id = workspace AND b.model = pack.model AND b.level = 0
    ), old AS (
      DELETE FROM engram.search_blocks b
      WHERE b.workspace_id = workspace AND b.model = pack.model
        AND CASE WHEN replacing THEN b.level < 4 AND engram_internal.block_holds(b.block, (SELECT w.ids FROM waiting w))
                 ELSE b.level = 1 END
      RETURNING b.block
    ), new AS (
      INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
      SELECT workspace, pack.model, CASE WHEN m.is_full THEN 2 ELSE 1 END, engram_internal.uuid_v7(), m.entries, m.block
      FROM engram_internal.merge_blocks((SELECT array_agg(o.block) FROM old o), replacing) m
      RETURNING 1
    )
    SELECT count(*) INTO packed FROM new;
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- A block that cannot be read: reindex() mends it, and until then writing goes on.
    RETURN 0;
  END;
  RETURN packed;
END
$$;
COMMENT ON FUNCTION engram_internal.pack(uuid, text, boolean, integer) IS
'Merges small blocks of a workspace, or (replacing) removes what newer entries have replaced, when there are at least so many. Runs with the rights of the caller, who must own the tables; does nothing while another transaction packs.';

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
    SELECT * INTO model FROM engram.embedding_models e WHERE e.is_default;
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
        UPDATE engram.memory_state s
        SET access_count = s.access_count + 1, last_accessed_at = greatest(s.last_accessed_at, now())
        WHERE s.workspace_id = workspace AND s.memory_id = id;
        UPDATE engram.memories m
        SET importance = greatest(m.importance, importance),
            tags = m.tags || ARRAY(SELECT t FROM unnest(tags) t WHERE t <> ALL (m.tags)),
            metadata = m.metadata || coalesce(metadata, '{}'),
            expires_at = CASE WHEN m.expires_at < expires_at THEN expires_at
                              WHEN expires_at IS NOT NULL THEN m.expires_at END
        WHERE m.workspace_id = workspace AND m.id = id
          AND (importance > m.importance OR NOT coalesce(tags, '{}') <@ m.tags
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
COMMENT ON FUNCTION engram_internal.store(uuid, text, text, double precision, real[], text[], jsonb, timestamptz, text, text, text, text, text, text[], timestamptz, text, uuid) IS
'What add() and add_many() do with one memory, as the caller, in a workspace that has been resolved. Tells whether it was added, merged, skipped or unchanged.';

CREATE OR REPLACE FUNCTION engram.add_many(items jsonb, workspace uuid DEFAULT NULL)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(add_many.workspace, true);
  done      integer[] := '{}';
  done_ids  uuid[] := '{}';
  done_at   integer;
  item      record;
  help      text;
  model     text;
BEGIN
  model := (SELECT m.name FROM engram.embedding_models m WHERE m.is_default);
  PERFORM engram_internal.lock_keys(ws, ARRAY(
    SELECT p.id::text FROM engram_internal.parse_items(add_many.items) p WHERE p.id IS NOT NULL
    UNION SELECT encode(sha256(convert_to(engram_internal.normalize_content(p.content), 'UTF8')), 'hex')
    FROM engram_internal.parse_items(add_many.items) p
    WHERE p.content IS NOT NULL AND p.on_duplicate IS DISTINCT FROM 'allow'));

  -- What is new beyond doubt goes in with one statement. If anything in it is refused, nothing of
  -- it is stored and every item takes the careful way below.
  BEGIN
    WITH parsed AS MATERIALIZED (
      SELECT p.*, sha256(convert_to(engram_internal.normalize_content(p.content), 'UTF8')) AS hash
      FROM engram_internal.parse_items(add_many.items) p
      WHERE p.error IS NULL AND p.content IS NOT NULL
    ), fresh AS MATERIALIZED (
      SELECT p.*, engram_internal.uuid_v7() AS new_id
      FROM (SELECT q.*, row_number() OVER (PARTITION BY q.hash ORDER BY q.position) AS nth FROM parsed q) p
      WHERE p.id IS NULL AND p.nth = 1 AND p.entities IS NULL
        AND (p.on_duplicate IS NULL OR p.on_duplicate IN ('merge', 'skip', 'reject', 'allow'))
        AND (p.embedding IS NULL OR model IS NOT NULL AND NOT EXISTS (
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
      SELECT ws, f.new_id, model, f.embedding FROM fresh f WHERE f.embedding IS NOT NULL ORDER BY f.position
    )
    SELECT coalesce(array_agg(f.position ORDER BY f.position), '{}'),
           coalesce(array_agg(f.new_id ORDER BY f.position), '{}')
    INTO done, done_ids FROM fresh f;
  EXCEPTION WHEN OTHERS THEN
    done := '{}';
    done_ids := '{}';
  END;

  FOR item IN SELECT p.* FROM engram_internal.parse_items(add_many.items) p ORDER BY p.position LOOP
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
          item.source, item.entities, item.expires_at, item.on_duplicate, item.id) s;
      EXCEPTION WHEN OTHERS THEN
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
'Stores many memories in one transaction; a bad item does not lose the others.

items: an array of objects with the arguments of add() as keys, at most 10,000. Returns one row per item, by its position from 1, with status added, merged, skipped, unchanged or error, and the error in words.';

CREATE FUNCTION engram.drop_embedding_model(name text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  known   record;
  removed bigint;
BEGIN
  PERFORM engram_internal.require_store();
  IF NOT has_table_privilege('engram.embedding_models', 'DELETE') OR NOT engram_internal.trusted() THEN
    RAISE EXCEPTION 'role "%" may not drop embedding models', current_user
      USING ERRCODE = 'insufficient_privilege',
            HINT = 'Models are shared by all workspaces: run this as the owner of the tables, or as a role that bypasses row security.';
  END IF;
  SELECT * INTO known FROM engram.embedding_models m WHERE m.name = drop_embedding_model.name FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_model(coalesce(drop_embedding_model.name, 'NULL'));
  END IF;
  IF known.is_default THEN
    RAISE EXCEPTION 'model "%" is the default', known.name
      USING ERRCODE = 'object_in_use',
            HINT = 'Make another one the default first: SELECT engram.set_embedding_model(name, dims, make_default => true);';
  END IF;
  DELETE FROM engram.embeddings e WHERE e.model = known.name;
  GET DIAGNOSTICS removed = ROW_COUNT;
  DELETE FROM engram.embedding_models m WHERE m.name = known.name;
  RETURN removed;
END
$$;
COMMENT ON FUNCTION engram.drop_embedding_model(text) IS
'Removes an embedding model and all its vectors, and returns how many they were: the last step of a change of model, when engram.embedding_progress() shows that its successor has caught up. The default model is refused.';

CREATE FUNCTION engram.embedding_progress(workspace uuid DEFAULT NULL)
RETURNS TABLE (model text, dims integer, is_default boolean, embedded bigint, pending bigint, progress double precision)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid;
  every boolean;
BEGIN
  PERFORM engram_internal.require_store();
  every := embedding_progress.workspace IS NULL AND engram_internal.trusted();
  IF NOT every THEN
    ws := engram_internal.resolve_workspace(embedding_progress.workspace, false);
  END IF;
  RETURN QUERY
  WITH alive AS (
    SELECT count(*) AS n FROM engram.memories m
    WHERE (every OR m.workspace_id = ws) AND m.deleted_at IS NULL
  ), done AS (
    SELECT e.model, count(*) AS n
    FROM engram.embeddings e JOIN engram.memories m ON m.workspace_id = e.workspace_id AND m.id = e.memory_id
    WHERE (every OR e.workspace_id = ws) AND m.deleted_at IS NULL
    GROUP BY e.model
  )
  SELECT k.name, k.dims, k.is_default, coalesce(d.n, 0), a.n - coalesce(d.n, 0),
         CASE WHEN a.n = 0 THEN 1 ELSE coalesce(d.n, 0)::double precision / a.n END
  FROM engram.embedding_models k CROSS JOIN alive a LEFT JOIN done d ON d.model = k.name
  WHERE every OR ws IS NOT NULL
  ORDER BY k.is_default DESC, k.name;
END
$$;
COMMENT ON FUNCTION engram.embedding_progress(uuid) IS
'How far each embedding model has come: memories that have a vector of it, memories that wait for one, and the share of the former, 0 to 1. One''s own workspace; a role that bypasses row security sees all of them together.';

CREATE OR REPLACE FUNCTION engram.search(
  query_text text DEFAULT NULL,
  query_embedding vector DEFAULT NULL,
  match_count integer DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  types text[] DEFAULT NULL,
  min_score double precision DEFAULT NULL,
  explain boolean DEFAULT NULL,
  include text[] DEFAULT NULL,
  model text DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (
  id uuid, content text, type text, score double precision, importance double precision, tags text[],
  metadata jsonb, speaker text, role text, session_id text, occurred_at timestamptz,
  created_at timestamptz, matched text[], explain jsonb)
LANGUAGE c STABLE ROWS 10 COST 10000
SET search_path = pg_catalog, pg_temp
-- Its queries look rows up by key. One plan for all workspaces, and never a scan of everybody's rows,
-- not even in a session that first planned them while the tables were small.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
-- Before PostgreSQL 18 a scan that cannot be avoided then looks so expensive that it would be compiled.
SET jit = off
AS 'MODULE_PATHNAME', 'search_wrapper';
COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur, -word must not; the first 64 different words count. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged. Nothing that matches gives no rows.';

CREATE OR REPLACE FUNCTION engram.reindex(workspace uuid DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid;
  model   text;
  wrong   bigint;
  changed bigint := 0;
BEGIN
  PERFORM engram_internal.require_store();
  IF NOT has_table_privilege('engram.search_blocks', 'INSERT') OR NOT engram_internal.trusted() THEN
    RAISE EXCEPTION 'role "%" may not rebuild the search index', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Run it as the owner of the tables. The index follows every change by itself.';
  END IF;
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'reindex() cannot run in a transaction that is %', current_setting('transaction_isolation')
      USING ERRCODE = 'active_sql_transaction', HINT = 'Run it by itself, or BEGIN ISOLATION LEVEL READ COMMITTED.';
  END IF;
  -- Nobody stores meanwhile, or what they store would be in it twice or not at all.
  LOCK TABLE engram.memories, engram.embeddings IN SHARE ROW EXCLUSIVE MODE;
  FOR ws, model IN
    SELECT m.workspace_id, '' FROM engram.memories m
    WHERE reindex.workspace IS NULL OR m.workspace_id = reindex.workspace
    UNION SELECT e.workspace_id, e.model FROM engram.embeddings e
    WHERE reindex.workspace IS NULL OR e.workspace_id = reindex.workspace
    UNION SELECT b.workspace_id, b.model FROM engram.search_blocks b
    WHERE reindex.workspace IS NULL OR b.workspace_id = reindex.workspace
  LOOP
    wrong := engram_internal.reindex(ws, model);
    changed := changed + wrong;
  END LOOP;
  RETURN changed;
END
$$;
COMMENT ON FUNCTION engram.reindex(uuid) IS
'Rebuilds what search scans, for one workspace or (NULL) all, and returns how many entries were wrong. For the owner of the tables: after a change of PostgreSQL''s major version (stemmers change) or of text_config in engram.settings, and after rows were loaded with triggers disabled.

Others cannot store memories until its transaction ends.';

CREATE FUNCTION engram_internal.fresh_entries(workspace uuid, model text) RETURNS TABLE (id uuid, entry bytea)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  IF fresh_entries.model = '' THEN
    RETURN QUERY
    SELECT m.id, engram_internal.document(m.id, 0, 'plain', m.session_id, coalesce(m.occurred_at, m.created_at),
             c.config, m.content, m.speaker, m.occurred_at, m.summary)
    FROM engram.memories m, (SELECT engram_internal.text_config(fresh_entries.workspace) AS config) c
    WHERE m.workspace_id = fresh_entries.workspace AND m.deleted_at IS NULL;
  ELSE
    RETURN QUERY
    SELECT e.memory_id, engram_internal.vector_entry(e.memory_id, 0, 'plain', e.embedding)
    FROM engram.embeddings e
    WHERE e.workspace_id = fresh_entries.workspace AND e.model = fresh_entries.model;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.fresh_entries(uuid, text) IS
'What the blocks of a workspace should hold: the words of its memories (model empty) or the vectors of one model. As the caller.';

CREATE FUNCTION engram_internal.reindex(workspace uuid, model text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- While a dump is loaded or the extension updated, rows that look like a dump's are left out.
SET check_function_bodies = on
AS $$
DECLARE
  wrong bigint;
BEGIN
  BEGIN
    WITH held AS (
      SELECT e.id, e.state, e.entry, row_number() OVER (PARTITION BY e.id ORDER BY e.version DESC) AS nth,
             max(e.version) FILTER (WHERE e.state <> 'plain') OVER (PARTITION BY e.id) AS replaced
      FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.block_entries(b.block) e
      WHERE b.workspace_id = workspace AND b.model = reindex.model AND b.level < 4
    ), doubled AS (
      -- More than one entry of a memory that none of them replaces.
      SELECT count(*) AS n FROM held h WHERE h.nth > 1 AND h.replaced IS NULL
    )
    SELECT count(*) + (SELECT d.n FROM doubled d) INTO wrong
    FROM (SELECT h.id, h.entry FROM held h WHERE h.nth = 1 AND h.state <> 'gone') h
    FULL JOIN engram_internal.fresh_entries(workspace, reindex.model) r ON r.id = h.id
    WHERE h.entry IS DISTINCT FROM r.entry;
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- A block that cannot be read.
    wrong := 1;
  END;
  IF wrong > 0 THEN
    DELETE FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = reindex.model;
    INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
    SELECT workspace, reindex.model, CASE WHEN m.is_full THEN 2 ELSE 1 END, engram_internal.uuid_v7(), m.entries, m.block
    FROM (
      SELECT array_agg(f.entry ORDER BY f.id) AS entries
      FROM (SELECT r.id, r.entry, (row_number() OVER (ORDER BY r.id) - 1) / 1000 AS part
            FROM engram_internal.fresh_entries(workspace, reindex.model) r) f
      GROUP BY f.part
    ) p CROSS JOIN LATERAL engram_internal.merge_blocks(p.entries, true) m;
  END IF;
  RETURN wrong;
END
$$;
COMMENT ON FUNCTION engram_internal.reindex(uuid, text) IS
'What engram.reindex() does for the words (model empty) or the vectors of one model of one workspace.';

REVOKE EXECUTE ON FUNCTION engram.drop_embedding_model(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.embedding_progress(uuid) FROM PUBLIC;

-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
