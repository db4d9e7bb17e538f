\echo Use "CREATE EXTENSION engram CASCADE" to load this file. \quit
-- Helpers behind the public functions. Clients get USAGE on this schema because policies and
-- invoker functions call into it, and EXECUTE on what they need; nothing here reads a table with
-- more rights than the caller has.

-- An unqualified vector must be pgvector's. A type of that name in schema engram would come first,
-- and the library would read its values as vectors.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_type t
             WHERE t.typname = 'vector' AND t.typnamespace = 'engram'::regnamespace
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension e
                               WHERE e.extname = 'vector' AND e.extnamespace = t.typnamespace)) THEN
    RAISE EXCEPTION 'schema engram holds a type "vector" that is not pgvector''s'
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop or rename that type, then create the extension.';
  END IF;
END
$$;

CREATE SCHEMA engram_internal;
COMMENT ON SCHEMA engram_internal IS 'Helpers of engram. Not for callers, not to be exposed through an API.';

CREATE FUNCTION engram_internal.caller_id() RETURNS uuid
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'caller_id_wrapper';
COMMENT ON FUNCTION engram_internal.caller_id() IS 'The caller''s user id, or NULL. See engram.current_user_id().';

CREATE FUNCTION engram_internal.caller() RETURNS TABLE (user_id uuid, source text, subject text, problem text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'caller_wrapper';
COMMENT ON FUNCTION engram_internal.caller() IS 'The caller, where the identity came from, and what is wrong with it if there is none.';

CREATE FUNCTION engram_internal.uuid_v7() RETURNS uuid
LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'uuid_v7_wrapper';
COMMENT ON FUNCTION engram_internal.uuid_v7() IS 'A new time-ordered UUID (RFC 9562, version 7).';

CREATE FUNCTION engram_internal.is_blank(content text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'is_blank_wrapper';
COMMENT ON FUNCTION engram_internal.is_blank(text) IS 'True when the text has no visible character.';

CREATE FUNCTION engram_internal.normalize_content(content text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'normalize_content_wrapper';
COMMENT ON FUNCTION engram_internal.normalize_content(text) IS
'Lower case, white space folded and trimmed: two contents with the same result are the same memory.';

CREATE FUNCTION engram_internal.indexed_text(content text, speaker text, occurred_at timestamptz, summary text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'indexed_text_wrapper';
COMMENT ON FUNCTION engram_internal.indexed_text(text, text, timestamptz, text) IS
'The text that is indexed and embedded: [8 May 2023] Speaker: content, with the summary on a second line. Dates are in UTC.';

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

-- The next three serve the triggers of tables that 0.1 made, until setup() brings them up to date: a dump
-- of 0.1 can be loaded and stored into.
CREATE FUNCTION engram_internal.to_terms(indexed text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
BEGIN
  RETURN to_tsvector('pg_catalog.english'::regconfig, indexed);
EXCEPTION WHEN program_limit_exceeded THEN
  -- Only text made to have very many distinct compound words comes here; its beginning is found.
  RETURN to_tsvector('pg_catalog.english'::regconfig, left(indexed, 20000));
END
$$;
COMMENT ON FUNCTION engram_internal.to_terms(text) IS 'The lexemes of an indexed text, without a notice for words that are too long to be indexed.';

CREATE FUNCTION engram_internal.term_count(terms bytea) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'term_count_wrapper';
COMMENT ON FUNCTION engram_internal.term_count(bytea) IS 'Number of lexeme occurrences in tsvectorsend(tsvector).';

CREATE FUNCTION engram_internal.term_keys(workspace uuid, terms bytea) RETURNS bigint[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'term_keys_wrapper';
COMMENT ON FUNCTION engram_internal.term_keys(uuid, bytea) IS
'One 64-bit key per distinct lexeme of tsvectorsend(tsvector), salted with the workspace.';

CREATE FUNCTION engram_internal.vector_dims(embedding vector) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'embedding_dims_wrapper';
COMMENT ON FUNCTION engram_internal.vector_dims(vector) IS 'Dimensions of a vector, wherever pgvector is installed.';

CREATE FUNCTION engram_internal.vector_norm(embedding vector) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'embedding_norm_wrapper';
COMMENT ON FUNCTION engram_internal.vector_norm(vector) IS 'Euclidean length of a vector, wherever pgvector is installed.';

CREATE FUNCTION engram_internal.similarity(embedding vector, query real[], distance text) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'similarity_wrapper';
COMMENT ON FUNCTION engram_internal.similarity(vector, real[], text) IS
'How alike two vectors are, larger is more: cosine in -1..1, inner product, or 1/(1 + distance) for l2. NULL when the dimensions differ.';

CREATE FUNCTION engram_internal.compile_filter(filter jsonb) RETURNS TABLE (condition text, params jsonb)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'compile_filter_wrapper';
COMMENT ON FUNCTION engram_internal.compile_filter(jsonb) IS
'A filter as an SQL condition over engram.memories m, in which every value is taken from one bound parameter: write the condition where $1 is params.';

CREATE FUNCTION engram_internal.parse_items(items jsonb) RETURNS TABLE (
  "position" integer, error text, content text, type text, importance double precision, embedding real[],
  tags text[], metadata jsonb, occurred_at timestamptz, agent_id text, session_id text, speaker text,
  role text, source text, entities text[], id uuid, expires_at timestamptz, on_duplicate text)
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'parse_items_wrapper';
COMMENT ON FUNCTION engram_internal.parse_items(jsonb) IS
'The items of add_many() as rows; an item that cannot be read carries its error instead.';

CREATE FUNCTION engram_internal.trusted() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN NOT row_security_active('engram.memories');
END
$$;
COMMENT ON FUNCTION engram_internal.trusted() IS
'True for callers whom row level security does not bind: superusers, BYPASSRLS roles and the owner of the store.';

CREATE FUNCTION engram_internal.may_write(workspace uuid) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN workspace = ANY (engram.writable_workspaces()) OR engram_internal.trusted();
END
$$;
COMMENT ON FUNCTION engram_internal.may_write(uuid) IS 'True when the caller may change memories of the workspace.';

CREATE FUNCTION engram_internal.refuse_workspace(workspace uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF engram_internal.caller_id() IS NULL THEN
    PERFORM engram_internal.refuse_unidentified(false);
  END IF;
  RAISE EXCEPTION 'workspace "%" is not one of yours', workspace
    USING ERRCODE = 'insufficient_privilege',
          HINT = 'Leave workspace out to use your own. Only roles that bypass row security may name another one.';
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_workspace(uuid) IS 'Raises the error for a workspace that the caller may not use.';

CREATE FUNCTION engram_internal.refuse_unidentified(trusted boolean) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF trusted THEN
    RAISE EXCEPTION 'role "%" has no workspace of its own and the call names none', current_user
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name the user''s workspace: workspace => ''<user id>''.';
  END IF;
  RAISE EXCEPTION 'no user is identified: %',
      coalesce((SELECT c.problem FROM engram_internal.caller() c), 'no identity is set')
    USING ERRCODE = 'insufficient_privilege',
          HINT = 'Call through PostgREST with a user''s token, or run SET LOCAL engram.user_id = ''<user id>'' in this transaction. SELECT * FROM engram.whoami() tells what the server sees.';
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_unidentified(boolean) IS 'Raises the error for a call that nobody can be held to.';

CREATE FUNCTION engram_internal.refuse_model(model text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF model IS NULL THEN
    RAISE EXCEPTION 'no embedding model is registered as the default'
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Have an administrator run: SELECT engram.set_embedding_model(''all-MiniLM-L6-v2'', 384);';
  END IF;
  RAISE EXCEPTION 'embedding model "%" is not registered', model
    USING ERRCODE = 'invalid_parameter_value',
          HINT = format('Registered: %s. An administrator adds one with engram.set_embedding_model(name, dims).',
                        coalesce((SELECT string_agg(m.name, ', ' ORDER BY m.name) FROM engram.embedding_models m), 'none'));
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_model(text) IS 'Raises the error for an embedding model that is not registered.';

CREATE FUNCTION engram_internal.refuse_memory(id uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF id IS NULL THEN
    RAISE EXCEPTION 'id is NULL' USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the id that engram.add() returned.';
  END IF;
  RAISE EXCEPTION 'memory "%" is not in this workspace', id
    USING ERRCODE = 'PT404',
          HINT = 'It was erased, or never stored here. engram.list() shows what is there; include => ARRAY[''forgotten''] adds forgotten ones.';
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_memory(uuid) IS 'Raises the error for an unknown memory id: SQLSTATE PT404, which PostgREST answers as HTTP 404.';

CREATE FUNCTION engram_internal.require_store() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF to_regclass('engram.memories') IS NULL OR to_regproc('engram.writable_workspaces') IS NULL THEN
    RAISE EXCEPTION 'engram has no tables in database "%" yet', current_database()
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run as its owner: SELECT engram.setup();';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.require_store() IS 'Raises the error for a database in which setup() has not run.';

CREATE FUNCTION engram_internal.resolve_workspace(workspace uuid, for_write boolean) RETURNS uuid
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
    RETURN me;
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
'The workspace that a call works in: the one named if the caller may use it, else the caller''s own. NULL when a reader is nobody; everything else that is not allowed raises.';

CREATE FUNCTION engram_internal.entity_node(name text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'entity_node_wrapper';
COMMENT ON FUNCTION engram_internal.entity_node(text) IS 'The key under which an entity''s name is stored: case, white space and outer punctuation do not count.';

CREATE FUNCTION engram_internal.check_memory(type text, layer text, role text, importance double precision, tags text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF type NOT IN ('factual', 'episodic', 'relational', 'emotional', 'procedural', 'opinion', 'causal') THEN
    RAISE EXCEPTION 'unknown memory type "%"', type
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Known types: factual, episodic, relational, emotional, procedural, opinion, causal.';
  END IF;
  IF layer NOT IN ('working', 'core', 'archive') THEN
    RAISE EXCEPTION 'unknown layer "%"', layer
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known layers: working, core, archive.';
  END IF;
  IF role NOT IN ('user', 'assistant', 'system', 'tool') THEN
    RAISE EXCEPTION 'unknown role "%"', role
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known roles: user, assistant, system, tool.';
  END IF;
  IF NOT (importance >= 0 AND importance <= 1) THEN
    RAISE EXCEPTION 'importance % is outside 0 to 1', importance
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 0 (trivial) to 1 (vital), or leave it out.';
  END IF;
  IF array_ndims(tags) > 1 OR array_position(tags, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'tags % are not a plain list of words', tags
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give one flat array without NULLs, for example ARRAY[''work'', ''travel''].';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_memory(text, text, text, double precision, text[]) IS
'Raises the error for values that no memory may have; NULLs pass.';

CREATE FUNCTION engram_internal.metadata_object(metadata jsonb) RETURNS jsonb
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
  RETURN object;
END
$$;
COMMENT ON FUNCTION engram_internal.metadata_object(jsonb) IS 'Metadata as the object that it must be; NULL passes, anything else raises.';

CREATE FUNCTION engram_internal.take_lock() RETURNS boolean
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'take_lock_wrapper';
COMMENT ON FUNCTION engram_internal.take_lock() IS 'Counts the locks of this transaction; false when it has taken as many single ones as it may.';

CREATE FUNCTION engram_internal.lock_keys(workspace uuid, keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  k bigint;
  all_of_it bigint := hashtextextended('engram workspace ' || workspace, 0);
BEGIN
  IF NOT engram_internal.may_write(workspace) THEN
    PERFORM engram_internal.refuse_workspace(workspace);
  END IF;
  -- Many single locks would fill the table of locks that all sessions share: a batch, or a
  -- transaction that has taken many, locks the whole workspace instead.
  IF cardinality(keys) <= 64 THEN
    PERFORM pg_advisory_xact_lock_shared(all_of_it);
    -- Always in the same order: who waits for one of them holds none that comes later.
    FOR k IN SELECT DISTINCT hashtextextended('engram ' || workspace || ' ' || u, 0) AS h FROM unnest(keys) u ORDER BY h LOOP
      IF NOT engram_internal.take_lock() THEN
        PERFORM pg_advisory_xact_lock(all_of_it);
        RETURN;
      END IF;
      PERFORM pg_advisory_xact_lock(k);
    END LOOP;
  ELSE
    PERFORM pg_advisory_xact_lock(all_of_it);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.lock_keys(uuid, text[]) IS
'Until the end of the transaction nobody else stores what has one of these keys in the workspace.';

CREATE FUNCTION engram_internal.link_entities(workspace uuid, memory uuid, names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  nameless text;
BEGIN
  SELECT coalesce(n, 'NULL') INTO nameless FROM unnest(names) n
  WHERE n IS NULL OR engram_internal.entity_node(n) = '' LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entity "%" has no letter or digit in its name', nameless
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give names, for example ARRAY[''Caroline'', ''New York''].';
  END IF;
  SELECT n INTO nameless FROM unnest(names) n WHERE char_length(n) > 500 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entity "%…" has % characters, the limit is 500', left(nameless, 40), char_length(nameless)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'An entity is a name; what there is to say about it goes into content.';
  END IF;
  INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label)
  SELECT DISTINCT ON (engram_internal.entity_node(n)) workspace, memory, 'mentions', engram_internal.entity_node(n), btrim(n)
  FROM unnest(names) n
  ORDER BY engram_internal.entity_node(n)
  ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION engram_internal.link_entities(uuid, uuid, text[]) IS 'Records, as the caller, that a memory mentions entities.';

CREATE FUNCTION engram_internal.library_version() RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'library_version_wrapper';
COMMENT ON FUNCTION engram_internal.library_version() IS 'Version of the loaded library.';

CREATE FUNCTION engram_internal.auto_setup() RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS 'MODULE_PATHNAME', 'auto_setup_wrapper';
COMMENT ON FUNCTION engram_internal.auto_setup() IS 'The last step of CREATE EXTENSION: setup(), unless a dump is being restored or engram.auto_setup is off.';
-- Storing, reading and changing memories. All of it runs as the caller: the policies on the tables
-- decide, and the functions check the workspace themselves as well.

CREATE FUNCTION engram_internal.store(
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
            HINT = format('Embed with model "%s", or name the right model; engram.embedding_models lists them.', m.name);
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
BEGIN
  RETURN (SELECT s.id FROM engram_internal.store(engram_internal.resolve_workspace(workspace, true),
    content, type, importance, embedding, tags, metadata, occurred_at, agent_id, session_id, speaker, role,
    source, entities, expires_at, on_duplicate, id) s);
END
$$;
COMMENT ON FUNCTION engram.add(text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], uuid, timestamptz, text, uuid) IS
'Stores one memory and returns its id; it can be found at once.

content: what to remember, at most max_content_chars characters (settings). type: factual (default), episodic, relational, emotional, procedural, opinion or causal. importance: 0 to 1, by default the type''s. embedding: of the default model. entities: names that the memory is about; a search that names one finds it. id: chosen by the client, makes a retry harmless. on_duplicate, when the workspace holds the same content up to case and white space (or, with near_duplicate_threshold set, a vector as close as that): merge (default: the old memory counts one use more, takes the higher importance, new tags, metadata and entities, and its id is returned), skip, reject, allow. workspace: only for roles that bypass row security.';

CREATE FUNCTION engram.add_many(items jsonb, workspace uuid DEFAULT NULL)
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

CREATE FUNCTION engram_internal.get(wanted uuid, workspace uuid)
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
  RETURN QUERY
  SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
       m.type, m.importance, m.layer, m.pinned, m.tags, m.metadata, m.source,
       ARRAY(SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = m.workspace_id
             AND g.memory_id = m.id AND g.relation = 'mentions' ORDER BY g.node),
       m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
       m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at
  FROM engram.memories m
  LEFT JOIN engram.memory_state s ON s.workspace_id = m.workspace_id AND s.memory_id = m.id
  WHERE m.workspace_id = ws AND m.id = get.wanted AND m.deleted_at IS NULL;
END
$$;
COMMENT ON FUNCTION engram_internal.get(uuid, uuid) IS 'What get() does.';

-- A function of its own, because PL/pgSQL cannot have an argument and a column of the same name.
CREATE FUNCTION engram.get(id uuid, workspace uuid DEFAULT NULL)
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
  SELECT g.* FROM engram_internal.get($1, $2) g
$$;
COMMENT ON FUNCTION engram.get(uuid, uuid) IS
'One memory, or no row when it is not there or forgotten. Reading does not count as a use.';

CREATE FUNCTION engram.list(
  filter jsonb DEFAULT NULL,
  match_count integer DEFAULT NULL,
  skip integer DEFAULT NULL,
  cursor text DEFAULT NULL,
  include text[] DEFAULT NULL,
  workspace uuid DEFAULT NULL
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
  last_at   timestamptz;
  last_id   uuid;
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
    IF list.cursor !~ '^-?[0-9]{1,16}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.list() returned', list.cursor
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass cursor_next of the last row of the page before, unchanged.';
    END IF;
    last_at := timestamptz 'epoch' + split_part(list.cursor, '_', 1)::double precision * interval '1 microsecond';
    last_id := split_part(list.cursor, '_', 2)::uuid;
  END IF;
  SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_filter(list.filter) f;
  RETURN QUERY EXECUTE
    $q$SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
       m.type, m.importance, m.layer, m.pinned, m.tags, m.metadata, m.source,
       ARRAY(SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = m.workspace_id
             AND g.memory_id = m.id AND g.relation = 'mentions' ORDER BY g.node),
       m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
       m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at,
       (date_part('epoch', date_trunc('second', m.created_at))::bigint * 1000000
        + date_part('microseconds', m.created_at)::bigint % 1000000)::text || '_' || m.id
    FROM engram.memories m
    LEFT JOIN engram.memory_state s ON s.workspace_id = m.workspace_id AND s.memory_id = m.id
    WHERE m.workspace_id = $2 AND $1 IS NOT NULL$q$
    || CASE WHEN list.cursor IS NOT NULL THEN ' AND (m.created_at, m.id) < ($3, $4)' ELSE '' END
    || CASE WHEN 'forgotten' = ANY (list.include) THEN '' ELSE ' AND m.deleted_at IS NULL' END
    || CASE WHEN 'superseded' = ANY (list.include) THEN '' ELSE ' AND m.superseded_by IS NULL' END
    || CASE WHEN 'expired' = ANY (list.include) THEN '' ELSE ' AND (m.expires_at IS NULL OR m.expires_at > now())' END
    || ' AND ' || condition
    || ' ORDER BY m.created_at DESC, m.id DESC LIMIT $5 OFFSET $6'
    USING params, ws, last_at, last_id, wanted, skipped;
END
$$;
COMMENT ON FUNCTION engram.list(jsonb, integer, integer, text, text[], uuid) IS
'Memories, newest first, a page at a time. Reading does not count as a use.

filter: see README, "Filters"; for example {"type": "factual", "importance": {"gte": 0.5}, "project": "apollo"}. match_count: 1 to 1000, by default 50. cursor: cursor_next of the last row of the page before; pages stay right while memories are added. skip: rows to leave out first. include: any of forgotten, superseded, expired, which are left out otherwise.';

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
  old record;
  now_at integer;
BEGIN
  IF NOT gone <@ ARRAY['summary', 'tags', 'metadata', 'occurred_at', 'agent_id', 'session_id', 'speaker', 'role',
                       'source', 'entities', 'valid_from', 'valid_to', 'expires_at'] THEN
    RAISE EXCEPTION 'clear has a name that cannot be cleared: %', gone
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Known: summary, tags, metadata, occurred_at, agent_id, session_id, speaker, role, source, entities, valid_from, valid_to, expires_at.';
  END IF;
  SELECT * INTO old FROM engram.memories m WHERE m.workspace_id = ws AND m.id = update.id AND m.deleted_at IS NULL FOR UPDATE;
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

NULL leaves a value as it is; clear names those to empty. tags, metadata and entities are replaced. New content, speaker or occurred_at drop the old embeddings: pass a new one, or let pending_embeddings() hand the memory out again. expected_version: refuse (PT409) unless the memory is still at that version. An unknown id raises PT404.';

CREATE FUNCTION engram_internal.change(workspace uuid, id uuid, what text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws  uuid := engram_internal.resolve_workspace(change.workspace, true);
  old record;
BEGIN
  SELECT * INTO old FROM engram.memories m WHERE m.workspace_id = ws AND m.id = change.id FOR UPDATE;
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

CREATE FUNCTION engram.erase(
  ids uuid[] DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (id uuid, erased_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(erase.workspace, true);
  condition text;
  params    jsonb;
  doomed    uuid[];
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
  IF erase.dry_run THEN
    RETURN QUERY SELECT d, NULL::timestamptz FROM unnest(doomed) d;
    RETURN;
  END IF;
  RETURN QUERY DELETE FROM engram.memories m WHERE m.workspace_id = ws AND m.id = ANY (doomed) RETURNING m.id, now();
END
$$;
COMMENT ON FUNCTION engram.erase(uuid[], jsonb, boolean, uuid) IS
'Deletes memories for good, with everything that hangs on them, and returns their ids. Each id leaves a tombstone, so that a late import or retry cannot bring it back.

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
    (SELECT coalesce(jsonb_object_agg(l.layer, l.n), '{}') FROM (SELECT a.layer, count(*) AS n FROM alive a GROUP BY a.layer) l),
    (SELECT coalesce(jsonb_object_agg(e.model, e.n), '{}') FROM
      (SELECT x.model, count(*) AS n FROM engram.embeddings x WHERE x.workspace_id = ws GROUP BY x.model) e),
    (SELECT count(*) FROM alive a, engram.embedding_models d WHERE d.is_default AND NOT EXISTS
      (SELECT FROM engram.embeddings x WHERE x.workspace_id = ws AND x.memory_id = a.id AND x.model = d.name)),
    (SELECT coalesce(sum(char_length(a.content)), 0)::bigint FROM alive a),
    (SELECT min(a.created_at) FROM alive a),
    (SELECT max(a.created_at) FROM alive a);
END
$$;
COMMENT ON FUNCTION engram.stats(uuid) IS
'Counts of one workspace: one row. memories are those not forgotten; by_type, by_layer and embeddings (by model) are objects of counts; pending_embeddings lack a vector of the default model.';
-- Embeddings come from outside: a worker takes what is pending, embeds it, hands the vector in.

CREATE FUNCTION engram.set_embedding_model(
  name text,
  dims integer,
  make_default boolean DEFAULT NULL,
  distance text DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  known record;
  chosen boolean;
BEGIN
  PERFORM engram_internal.require_store();
  IF NOT has_table_privilege('engram.embedding_models', 'INSERT') THEN
    RAISE EXCEPTION 'role "%" may not register embedding models', current_user
      USING ERRCODE = 'insufficient_privilege',
            HINT = 'Models are shared by all workspaces: run this as the owner of the tables, or as a role that bypasses row security.';
  END IF;
  IF set_embedding_model.name IS NULL OR btrim(set_embedding_model.name) = '' THEN
    RAISE EXCEPTION 'the model has no name'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Use the name that the embedder goes by, for example all-MiniLM-L6-v2.';
  END IF;
  IF set_embedding_model.dims IS NULL OR set_embedding_model.dims NOT BETWEEN 1 AND 16000 THEN
    RAISE EXCEPTION 'dims is %', coalesce(set_embedding_model.dims::text, 'NULL')
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the length of the model''s vectors, 1 to 16000.';
  END IF;
  IF coalesce(set_embedding_model.distance, 'cosine') NOT IN ('cosine', 'inner_product', 'l2') THEN
    RAISE EXCEPTION 'unknown distance "%"', set_embedding_model.distance
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: cosine (default), inner_product, l2.';
  END IF;
  LOCK TABLE engram.embedding_models IN SHARE ROW EXCLUSIVE MODE;
  SELECT * INTO known FROM engram.embedding_models m WHERE m.name = set_embedding_model.name;
  IF FOUND AND (known.dims <> set_embedding_model.dims OR known.distance <> coalesce(set_embedding_model.distance, known.distance)) THEN
    RAISE EXCEPTION 'model "%" is registered with % dimensions and distance %', known.name, known.dims, known.distance
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Register the other one under a name of its own; both can be live side by side.';
  END IF;
  chosen := coalesce(set_embedding_model.make_default,
                     known.is_default OR NOT EXISTS (SELECT FROM engram.embedding_models m WHERE m.is_default), false);
  IF chosen THEN
    UPDATE engram.embedding_models m SET is_default = false WHERE m.is_default AND m.name <> set_embedding_model.name;
  END IF;
  INSERT INTO engram.embedding_models AS m (name, dims, distance, is_default)
  VALUES (set_embedding_model.name, set_embedding_model.dims, coalesce(set_embedding_model.distance, 'cosine'), chosen)
  ON CONFLICT ON CONSTRAINT embedding_models_pkey DO UPDATE SET is_default = excluded.is_default;
  RETURN chosen;
END
$$;
COMMENT ON FUNCTION engram.set_embedding_model(text, integer, boolean, text) IS
'Registers an embedding model, for all workspaces. Returns whether it is the default, which add() stores for and search() compares with.

dims: length of its vectors. make_default: NULL makes the first model the default and leaves it at that. distance: cosine (default), inner_product or l2.';

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

CREATE FUNCTION engram.set_embedding(
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
  chosen := coalesce(set_embedding.model, (SELECT m.name FROM engram.embedding_models m WHERE m.is_default));
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

model: by default the default model. expected_version: the version that pending_embeddings() returned; if the memory changed since, the call is refused (PT409) and the memory handed out again. An unknown id raises PT404.';

CREATE FUNCTION engram.pending_embeddings(
  model text DEFAULT NULL,
  match_count integer DEFAULT NULL,
  lease_seconds integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (workspace_id uuid, id uuid, text text, model_name text, dims integer, version integer)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid;
  every  boolean;
  wanted integer := coalesce(pending_embeddings.match_count, 100);
  lease  integer := coalesce(pending_embeddings.lease_seconds, 300);
  m      record;
BEGIN
  PERFORM engram_internal.require_store();
  every := pending_embeddings.workspace IS NULL AND engram_internal.trusted();
  IF NOT every THEN
    ws := engram_internal.resolve_workspace(pending_embeddings.workspace, true);
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
  RETURN QUERY
  WITH waiting AS MATERIALIZED (
    SELECT x.workspace_id, x.id FROM engram.memories x
    WHERE (every OR x.workspace_id = ws) AND x.deleted_at IS NULL
      AND NOT EXISTS (SELECT FROM engram.embeddings e
                      WHERE e.workspace_id = x.workspace_id AND e.memory_id = x.id AND e.model = m.name)
      AND NOT EXISTS (SELECT FROM engram.embedding_claims c
                      WHERE c.workspace_id = x.workspace_id AND c.memory_id = x.id AND c.model = m.name
                        AND c.claimed_until > clock_timestamp())
    LIMIT wanted
    FOR KEY SHARE OF x SKIP LOCKED
  ), claimed AS (
    INSERT INTO engram.embedding_claims AS c (workspace_id, memory_id, model, claimed_until)
    SELECT w.workspace_id, w.id, m.name, clock_timestamp() + make_interval(secs => lease)
    FROM waiting w ORDER BY w.workspace_id, w.id
    ON CONFLICT ON CONSTRAINT embedding_claims_pkey DO UPDATE SET claimed_until = excluded.claimed_until
      WHERE c.claimed_until <= clock_timestamp()
    RETURNING c.workspace_id, c.memory_id
  )
  SELECT x.workspace_id, x.id, engram_internal.indexed_text(x.content, x.speaker, x.occurred_at, NULL),
         m.name, m.dims, x.version
  FROM claimed k JOIN engram.memories x ON x.workspace_id = k.workspace_id AND x.id = k.memory_id;
END
$$;
COMMENT ON FUNCTION engram.pending_embeddings(text, integer, integer, uuid) IS
'Hands out memories that have no vector of the model yet, and leases them to the caller: nobody else gets them for lease_seconds (default 300) unless set_embedding() comes first.

text is what to embed: the content with its speaker and date. A role that bypasses row security gets those of all workspaces and passes workspace_id on to set_embedding(); others get their own.';
CREATE FUNCTION engram.search(
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
CREATE FUNCTION engram.setup(options jsonb DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS 'MODULE_PATHNAME', 'setup_store_wrapper';
COMMENT ON FUNCTION engram.setup(jsonb) IS
'Creates the tables of engram, or brings them up to date; running it again changes nothing. Returns created or up to date.

options: {"grant_to": ["app"], "owner": "app_owner"}. grant_to lets roles store and search; on Supabase authenticated and service_role get this by themselves. owner: who owns the tables, by default the owner of the database.';

CREATE FUNCTION engram.whoami()
RETURNS TABLE (user_id uuid, source text, subject text, role text, bypasses_rls boolean,
               readable uuid[], writable uuid[], problem text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_store();
  RETURN QUERY
  SELECT c.user_id, c.source, c.subject, current_user::text, engram_internal.trusted(),
         engram.readable_workspaces(), engram.writable_workspaces(), c.problem
  FROM engram_internal.caller() c;
END
$$;
COMMENT ON FUNCTION engram.whoami() IS
'How the server sees the caller: user id, the source (jwt, setting, role) and subject it came from, role, workspaces, and what is wrong when there is no id.';

CREATE FUNCTION engram.version()
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
COMMENT ON FUNCTION engram.version() IS
'Versions: of the SQL objects, of the loaded library (which may be newer until ALTER EXTENSION engram UPDATE), of pgvector and of PostgreSQL.';

CREATE FUNCTION engram.reindex(workspace uuid DEFAULT NULL) RETURNS bigint
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
-- Clients get what setup() grants. The helpers are open to whoever may use the schema: policies,
-- triggers and invoker functions call them in the caller's name, and none of them can do more
-- than the caller.
DO $$
DECLARE
  f regprocedure;
BEGIN
  -- Only the extension's own: the schema may hold functions of the store and of the user.
  FOR f IN
    SELECT p.oid::regprocedure
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'engram'
    WHERE p.pronamespace = 'engram'::regnamespace
  LOOP
    EXECUTE pg_catalog.format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
  END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION engram_internal.auto_setup() FROM PUBLIC;
GRANT USAGE ON SCHEMA engram_internal TO PUBLIC;

SELECT engram_internal.auto_setup();

DO $$
BEGIN
  PERFORM pg_catalog.pg_notify('pgrst', 'reload schema');
END
$$;
