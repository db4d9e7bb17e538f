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
  nodes    text[];
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
  IF names IS NULL OR names = '{}' THEN
    RETURN;
  END IF;
  -- No alias is declared between the look-up and the end of the transaction.
  PERFORM engram_internal.lock_keys(workspace, '{}');
  nodes := ARRAY(SELECT engram_internal.entity_node(u.name) FROM unnest(names) WITH ORDINALITY AS u (name, nth) ORDER BY u.nth);
  -- Tables of an older version have no aliases.
  IF to_regclass('engram.entity_aliases') IS NOT NULL THEN
    nodes := ARRAY(SELECT coalesce(a.node, u.node) FROM unnest(nodes) WITH ORDINALITY AS u (node, nth)
                   LEFT JOIN engram.entity_aliases a ON a.workspace_id = link_entities.workspace AND a.alias = u.node
                   ORDER BY u.nth);
  END IF;
  INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label)
  SELECT DISTINCT ON (u.node) workspace, memory, 'mentions', u.node, btrim(u.name)
  FROM unnest(names, nodes) WITH ORDINALITY AS u (name, node, nth)
  ORDER BY u.node, engram_internal.entity_node(u.name) <> u.node, u.nth
  ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION engram_internal.link_entities(uuid, uuid, text[]) IS 'Records, as the caller, that a memory mentions entities, by whichever of their names.';

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
        INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, memory_ids)
        VALUES (workspace, engram_internal.uuid_v7(), now(), engram.current_user_id(), 'stored', 1, 3, ARRAY[id]);
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
    $q$WITH page AS MATERIALIZED (SELECT m.* FROM engram.memories m WHERE m.workspace_id = $2 AND $1 IS NOT NULL$q$
    || CASE WHEN list.cursor IS NOT NULL THEN ' AND (m.created_at, m.id) < ($3, $4)' ELSE '' END
    || CASE WHEN 'forgotten' = ANY (list.include) THEN '' ELSE ' AND m.deleted_at IS NULL' END
    || CASE WHEN 'superseded' = ANY (list.include) THEN '' ELSE ' AND m.superseded_by IS NULL' END
    || CASE WHEN 'expired' = ANY (list.include) THEN '' ELSE ' AND (m.expires_at IS NULL OR m.expires_at > now())' END
    || ' AND ' || condition
    || $q$ ORDER BY m.created_at DESC, m.id DESC LIMIT $5 OFFSET $6)
    SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
       m.type, m.importance, s.layer, m.pinned, m.tags, m.metadata, m.source,
       ARRAY(SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = m.workspace_id
             AND g.memory_id = m.id AND g.relation = 'mentions' ORDER BY g.node),
       m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
       m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at,
       (date_part('epoch', date_trunc('second', m.created_at))::bigint * 1000000
        + date_part('microseconds', m.created_at)::bigint % 1000000)::text || '_' || m.id
    FROM page m
    LEFT JOIN engram_internal.present($2, now(), (SELECT array_agg(p.id) FROM page p)) s ON s.memory_id = m.id
    ORDER BY m.created_at DESC, m.id DESC$q$
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
    (SELECT coalesce(jsonb_object_agg(l.layer, l.n), '{}') FROM
      (SELECT p.layer, count(*) AS n FROM engram_internal.present(ws, now(), ARRAY(SELECT a.id FROM alive a)) p GROUP BY p.layer) l),
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
-- The memory models as functions: pure, no table is read. None sets a search path, because each is one
-- computation in C. `heat` is plain bytea, so that a column of it outlives the extension.

-- How much a memory is at hand, from its uses.

CREATE FUNCTION engram.base_level(ages_s double precision[], d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_wrapper';
COMMENT ON FUNCTION engram.base_level(double precision[], double precision) IS
'Base-level activation in nats, exactly: ln of the sum of age^-d over all uses (Anderson & Schooler 1991). -Infinity without uses.

ages_s: ages of the uses in seconds, 0 or more; below 1 they count as 1. d: decay, 0 or more. Other ages, and NULL among them, raise 22023. For a row per use: base_level_agg(); in 80 bytes whatever the number of uses: heat_level().';

CREATE FUNCTION engram_internal.base_level_step(state double precision, accessed_at timestamptz, now timestamptz, d double precision)
RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_step_wrapper';
COMMENT ON FUNCTION engram_internal.base_level_step(double precision, timestamptz, timestamptz, double precision) IS
'Adds one use to the state of engram.base_level_agg(), the sum of age^-d.';

CREATE FUNCTION engram_internal.base_level_combine(a double precision, b double precision) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_combine_wrapper';
COMMENT ON FUNCTION engram_internal.base_level_combine(double precision, double precision) IS
'Adds two states of engram.base_level_agg().';

CREATE FUNCTION engram_internal.base_level_final(state double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_final_wrapper';
COMMENT ON FUNCTION engram_internal.base_level_final(double precision) IS
'What the state of engram.base_level_agg() says: its logarithm, -Infinity for 0.';

CREATE AGGREGATE engram.base_level_agg(accessed_at timestamptz, now timestamptz, d double precision) (
  SFUNC = engram_internal.base_level_step, STYPE = double precision, INITCOND = '0',
  COMBINEFUNC = engram_internal.base_level_combine, FINALFUNC = engram_internal.base_level_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE engram.base_level_agg(timestamptz, timestamptz, double precision) IS
'Base-level activation in nats at now, exactly, from a row per use. -Infinity without rows.

accessed_at: when it was used; NULL counts for nothing, and uses less than a second ago or after now as a second old. d: decay, 0 or more; NULL for 0.5. Infinite times raise 22023.';

CREATE FUNCTION engram.base_level_optimized(n bigint, age_s double precision, d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_optimized_wrapper';
COMMENT ON FUNCTION engram.base_level_optimized(bigint, double precision, double precision) IS
'Base-level activation in nats as if n uses were spread evenly over age_s seconds: ln(n / (1 - d)) - d ln(age_s) (Anderson & Lebiere 1998). It ignores how recent the uses are and may be off by several nats; for comparison with other systems.

n: 0 or more (0 gives -Infinity). age_s: 0 or more, below 1 counts as 1. d: 0 to less than 1. Anything else raises 22023.';

CREATE FUNCTION engram.base_level_petrov(recent_ages_s double precision[], n bigint, age_created_s double precision,
  d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_petrov_wrapper';
COMMENT ON FUNCTION engram.base_level_petrov(double precision[], bigint, double precision, double precision) IS
'Base-level activation in nats from the latest uses and the number of all (Petrov 2006). Exact when recent_ages_s has all uses; otherwise it takes the older ones to be spread evenly, and may be off by nats after bursts.

recent_ages_s: ages of the latest uses in seconds, in any order. n: all uses, not less than those. age_created_s: age of the first. d: 0 to less than 1. Anything else raises 22023.';

CREATE FUNCTION engram.retrieval_probability(a double precision, tau double precision, s double precision DEFAULT 0.4) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'retrieval_probability_wrapper';
COMMENT ON FUNCTION engram.retrieval_probability(double precision, double precision, double precision) IS
'Probability, 0 to 1, that a memory of activation a is retrieved: 1 / (1 + exp((tau - a) / s)) (Anderson et al. 2004).

a, tau: activation and threshold in nats; a memory used once is even odds at age T with tau = -d ln(T). s: noise, above 0. Other values raise 22023.';

CREATE FUNCTION engram.retrieval_latency(a double precision, f double precision DEFAULT 1, lf double precision DEFAULT 1) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'retrieval_latency_wrapper';
COMMENT ON FUNCTION engram.retrieval_latency(double precision, double precision, double precision) IS
'Seconds that retrieving a memory of activation a takes: lf exp(-f a) (Anderson et al. 2004). A failure takes as long as a memory at the threshold.

f: latency exponent, lf: latency factor in seconds, both above 0. Other values raise 22023.';

CREATE FUNCTION engram.activation_01(a double precision, center double precision DEFAULT -5.5, scale double precision DEFAULT 1.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'activation_01_wrapper';
COMMENT ON FUNCTION engram.activation_01(double precision, double precision, double precision) IS
'An activation as a number from 0 to 1, to be shown: 1 / (1 + exp(-(a - center) / scale)). One use an hour ago is 0.72, a month ago 0.22. Rank by the activation itself.

center: finite. scale: above 0. Other values raise 22023.';

-- The same in constant space.

CREATE FUNCTION engram.heat_new(t timestamptz, gain double precision DEFAULT 1) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_new_wrapper';
COMMENT ON FUNCTION engram.heat_new(timestamptz, double precision) IS
'The heat of a memory that was used once, at t: 80 bytes which any number of uses is added to and from which heat_level() reads the activation for any decay. Keep it in a bytea column, STORAGE PLAIN, without an index.

gain: weight of the use, 0 or more; with 0 the heat is empty. An infinite t and other gains raise 22023.

Sixteen sums of exponentially fading uses, time constants from 0.7 s to 23 years (Beylkin & Monzon 2010).';

CREATE FUNCTION engram.heat_touch(heat bytea, t timestamptz, gain double precision DEFAULT 1) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_touch_wrapper';
COMMENT ON FUNCTION engram.heat_touch(bytea, timestamptz, double precision) IS
'The heat with one more use at t, which may be earlier than others: the order of touches does not matter.

gain: weight of the use. 0 counts none; a negative one takes back a use that was counted with that weight at that time. More than there is to take back, an infinite t or gain, and bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_merge(a bytea, b bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_merge_wrapper';
COMMENT ON FUNCTION engram.heat_merge(bytea, bytea) IS
'The heat of the uses of both. Bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_level(heat bytea, now timestamptz, d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_level_wrapper';
COMMENT ON FUNCTION engram.heat_level(bytea, timestamptz, double precision) IS
'Base-level activation in nats at now: ln of the sum of gain * age^-d over all uses. -Infinity without any. Never read less than a second after the latest use: an earlier now is taken to be then.

d: 0.1 to 0.95; below 0.2 use 0.1, 0.15 or 0.2. For uses of 1 second to 5 years ago it differs from base_level() by less than 0.0013, 0.0025, 0.0057 for d = 0.3, 0.5, 0.8. Another d, an infinite now and bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_mass(heat bytea, m integer, now timestamptz) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_mass_wrapper';
COMMENT ON FUNCTION engram.heat_mass(bytea, integer, timestamptz) IS
'One of the counters of a heat at now: the gains of all uses, each faded by exp(-age / T) with T = 4^m / 1.5 seconds. 11 has T = 32.4 days (a half-life of 22.4), the mass of a memory for link_ppmi().

m: 0 to 15. Another m, an infinite now and bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_count(heat bytea) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_count_wrapper';
COMMENT ON FUNCTION engram.heat_count(bytea) IS
'How many uses a heat counts, up to 4294967295; those of gain 0 are none. Bytes that are no heat raise 22023.';

CREATE FUNCTION engram_internal.heat_step(state bytea, accessed_at timestamptz, gain double precision) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_step_wrapper';
COMMENT ON FUNCTION engram_internal.heat_step(bytea, timestamptz, double precision) IS
'Adds one use to the state of engram.heat_agg(), a heat in double precision.';

CREATE FUNCTION engram_internal.heat_merge_step(state bytea, heat bytea) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_merge_step_wrapper';
COMMENT ON FUNCTION engram_internal.heat_merge_step(bytea, bytea) IS
'Adds one heat to the state of engram.heat_merge_agg().';

CREATE FUNCTION engram_internal.heat_combine(a bytea, b bytea) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_combine_wrapper';
COMMENT ON FUNCTION engram_internal.heat_combine(bytea, bytea) IS
'Adds two states of the aggregates of heat.';

CREATE FUNCTION engram_internal.heat_final(state bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_final_wrapper';
COMMENT ON FUNCTION engram_internal.heat_final(bytea) IS
'The heat that the state of an aggregate of heat holds.';

CREATE AGGREGATE engram.heat_agg(accessed_at timestamptz, gain double precision) (
  SFUNC = engram_internal.heat_step, STYPE = bytea,
  COMBINEFUNC = engram_internal.heat_combine, FINALFUNC = engram_internal.heat_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE engram.heat_agg(timestamptz, double precision) IS
'The heat of a row per use, in any order: what heat_touch() would have given, with less rounding. NULL without rows.

accessed_at: when it was used; NULL counts for nothing. gain: as heat_touch() has it; NULL for 1. Infinite values, and more taken back than there was, raise 22023.';

CREATE AGGREGATE engram.heat_merge_agg(heat bytea) (
  SFUNC = engram_internal.heat_merge_step, STYPE = bytea,
  COMBINEFUNC = engram_internal.heat_combine, FINALFUNC = engram_internal.heat_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE engram.heat_merge_agg(bytea) IS
'The heat of the uses of all, in any order; NULL counts for nothing. NULL without rows. Bytes that are no heat raise 22023.';

-- Consolidation.

CREATE FUNCTION engram.trace_evolve(r1 double precision, r2 double precision, dt_days double precision, alpha double precision,
  mu1 double precision, mu2 double precision, input double precision DEFAULT 0)
RETURNS TABLE (r1 double precision, r2 double precision)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'trace_evolve_wrapper';
COMMENT ON FUNCTION engram.trace_evolve(double precision, double precision, double precision, double precision, double precision, double precision, double precision) IS
'The two traces of a memory dt_days later, one row: r1 fades and feeds r2, r1'' = -mu1 r1, r2'' = alpha r1 - mu2 r2 + input (Murre, Chessa & Meeter 2013). In closed form: two steps are as good as one.

Rates are per day, 0 or more, like all arguments; others raise 22023. Usual: mu1 0.15, mu2 0.005, alpha from consolidation_alpha(). A use adds its gain to r1.';

CREATE FUNCTION engram.trace_strength(r1 double precision, r2 double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'trace_strength_wrapper';
COMMENT ON FUNCTION engram.trace_strength(double precision, double precision) IS
'Probability of recall, 0 to 1, by the two traces: 1 - exp(-(r1 + r2)) (Murre, Chessa & Meeter 2013). Traces are finite and 0 or more, others raise 22023.';

CREATE FUNCTION engram.consolidation_alpha(importance double precision, alpha double precision DEFAULT 0.08) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'consolidation_alpha_wrapper';
COMMENT ON FUNCTION engram.consolidation_alpha(double precision, double precision) IS
'Rate per day at which a memory of this importance (0 to 1) consolidates: alpha * (0.2 + importance^2). Other importances and a negative alpha raise 22023.';

CREATE FUNCTION engram.layer_tick(layer text, r1 double precision, r2 double precision, dt_days double precision,
  alpha double precision, mu1 double precision, mu2 double precision,
  promote double precision DEFAULT 0.25, demote double precision DEFAULT 0.05, archive double precision DEFAULT 0.15) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'layer_tick_wrapper';
COMMENT ON FUNCTION engram.layer_tick(text, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision) IS
'The layer (working, core, archive) of a memory dt_days after it was in that layer with traces r1 and r2, none of them used meanwhile. To core when r2 reaches promote, from core to archive when r1 + r2 falls below demote, from working to archive when both are below archive; whatever happens within the interval counts, so it does not matter how often this is asked.

Traces and rates as in trace_evolve(). promote >= demote > 0 and promote >= archive > 0. Other values and unknown layers raise 22023.';

-- Forgetting.

CREATE FUNCTION engram.fsrs_retrievability(elapsed_days double precision, stability double precision,
  decay double precision DEFAULT 0.1542) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'fsrs_retrievability_wrapper';
COMMENT ON FUNCTION engram.fsrs_retrievability(double precision, double precision, double precision) IS
'Probability of recall, 0 to 1, elapsed_days after the last review: (1 + F t/S)^-decay with F = 0.9^(-1/decay) - 1, which is 0.9 after stability days (FSRS-6; Ye, Su & Cao 2022).

elapsed_days: 0 or more. stability: above 0. decay: 0.01 to 10. Other values raise 22023.';

CREATE FUNCTION engram.fsrs_step(stability double precision, difficulty double precision, elapsed_days double precision,
  rating integer, w double precision[] DEFAULT NULL)
RETURNS TABLE (stability double precision, difficulty double precision, r double precision)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'fsrs_step_wrapper';
COMMENT ON FUNCTION engram.fsrs_step(double precision, double precision, double precision, integer, double precision[]) IS
'Stability (days) and difficulty (1 to 10) after a review, and the retrievability r just before it; one row. By FSRS-6, with fractions of days; within a day its short-term formula.

stability: NULL before the first review, which ignores difficulty and elapsed_days and has no r. elapsed_days: since the last review. rating: 1 again (rejected), 2 hard (hardly relevant), 3 good (used), 4 easy (confirmed). w: the 21 parameters, by default those of FSRS-6. Values out of range raise 22023.';

CREATE FUNCTION engram.fsrs_interval(stability double precision, retention double precision DEFAULT 0.9) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'fsrs_interval_wrapper';
COMMENT ON FUNCTION engram.fsrs_interval(double precision, double precision) IS
'Days after a review until the retrievability has fallen to retention: when a memory is worth confirming again (FSRS-6). stability: days, above 0. retention: above 0, up to 1. Other values raise 22023.';

CREATE FUNCTION engram.exp_retrievability(t_days double precision, s_days double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'exp_retrievability_wrapper';
COMMENT ON FUNCTION engram.exp_retrievability(double precision, double precision) IS
'exp(-t_days / s_days), the exponential forgetting curve (Wozniak, Gorzelanczyk & Murakowski 1995); for comparison with other systems. t_days: 0 or more; s_days: above 0. Other values raise 22023.';

CREATE FUNCTION engram.stability_upstream(type text, n bigint, importance double precision, consolidation_count integer) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stability_upstream_wrapper';
COMMENT ON FUNCTION engram.stability_upstream(text, bigint, double precision, integer) IS
'Stability in days as engramai computes it from memory type, number n of uses, importance (0 to 1) and number of consolidations, for comparison. It grows with how often a job ran; nothing in engram depends on it. Unknown types and negative numbers raise 22023.';

-- Links and spreading.

CREATE FUNCTION engram.link_decay(x double precision, dt_s double precision, half_life_s double precision DEFAULT 2592000) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_decay_wrapper';
COMMENT ON FUNCTION engram.link_decay(double precision, double precision, double precision) IS
'The mass x of a link dt_s seconds later: x 2^(-dt_s / half_life_s). Also what an event of gain x that comes to light dt_s late adds, so the order of events does not matter. x and dt_s: 0 or more; half_life_s: above 0. Other values raise 22023.';

CREATE FUNCTION engram.link_strength(x double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_strength_wrapper';
COMMENT ON FUNCTION engram.link_strength(double precision) IS
'Strength, 0 to 1, of a link of mass x: 1 - exp(-x), the soft-bounded rule of Hebb. x: 0 or more; other values raise 22023.';

CREATE FUNCTION engram.link_direction(xf double precision, xb double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_direction_wrapper';
COMMENT ON FUNCTION engram.link_direction(double precision, double precision) IS
'Direction of a link, -1 to 1, from its masses forward and backward: (xf - xb) / (xf + xb + 1). Masses are 0 or more, others raise 22023.';

CREATE FUNCTION engram.link_ppmi(xij double precision, xi double precision, xj double precision, total double precision,
  kappa double precision DEFAULT 1) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_ppmi_wrapper';
COMMENT ON FUNCTION engram.link_ppmi(double precision, double precision, double precision, double precision, double precision) IS
'Association of two memories in nats, 0 or more: max(0, ln((xij + kappa) / (xi xj / total + kappa))), positive mutual information (Levy & Goldberg 2014), shrunk by kappa where there is little evidence.

xij: mass of the link; xi, xj: of its ends, by heat_mass(heat, 11, now); total: of all recalls. Masses are 0 or more, total and kappa above 0; other values raise 22023.';

CREATE FUNCTION engram.spread_fan(s double precision, fan double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'spread_fan_wrapper';
COMMENT ON FUNCTION engram.spread_fan(double precision, double precision) IS
'Activation in nats that a source with fan associations, itself counted, spreads to each: s - ln(fan), at least 0 (Anderson 1974). s: usually 1.5 to 2. fan: 1 or more. Other values raise 22023.';

-- All of it together.

CREATE FUNCTION engram.need_score(base_level double precision, text_llr double precision, cos_centered double precision,
  lift double precision, importance double precision, contradicted boolean, betas double precision[] DEFAULT NULL) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'need_score_wrapper';
COMMENT ON FUNCTION engram.need_score(double precision, double precision, double precision, double precision, double precision, boolean, double precision[]) IS
'Log-odds in nats, up to a constant, that a memory is needed: a weighted sum of its base level and of what the cues say for it (Anderson & Milson 1989).

base_level: nats, -Infinity when it was never used. text_llr: score of its words, such as BM25. cos_centered: cosine minus the mean of the candidates. lift: by spreading, nats. importance: 0 to 1. The terms of text_llr, cos_centered and lift are clipped to 6 nats either way. betas: weights of these five and what a contradiction costs, by default {0.5,0.6,15,1,2,3}. A memory that a cue did not find has the least value that any candidate has, not 0; NULL gives NULL. Other values raise 22023.';

CREATE FUNCTION engram.need_probability(score double precision, b0 double precision DEFAULT 0) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'need_probability_wrapper';
COMMENT ON FUNCTION engram.need_probability(double precision, double precision) IS
'Probability, 0 to 1, by a need_score(): 1 / (1 + exp(-(score + b0))). It is one only when b0 was fitted to what was used (Platt 1999). A score of NaN or Infinity and a b0 that is not finite raise 22023.';
-- Uses of memories: noted in one row where they happen, folded later, counted by every reader meanwhile.

CREATE FUNCTION engram_internal.dynamics(workspace uuid) RETURNS double precision[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT ARRAY[coalesce(w.decay, d.decay), coalesce(w.mu1, d.mu1), coalesce(w.mu2, d.mu2), coalesce(w.alpha, d.alpha),
                 coalesce(w.promote, d.promote), coalesce(w.demote, d.demote), coalesce(w.archive, d.archive),
                 coalesce(w.strength_gain, d.strength_gain)]
        || ARRAY(SELECT coalesce(
                   (SELECT t.decay_per_day FROM engram.memory_type_settings t WHERE t.type = k.type AND t.workspace_id = dynamics.workspace),
                   (SELECT t.decay_per_day FROM engram.memory_type_settings t WHERE t.type = k.type
                      AND t.workspace_id = '00000000-0000-0000-0000-000000000000'), 0.1)
                 FROM unnest(ARRAY['factual', 'episodic', 'relational', 'emotional', 'procedural', 'opinion', 'causal'])
                   WITH ORDINALITY AS k (type, nth) ORDER BY k.nth)
    FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = dynamics.workspace
    WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
END
$$;
COMMENT ON FUNCTION engram_internal.dynamics(uuid) IS
'Settings of a workspace as state_at() takes them: decay, mu1, mu2, alpha, promote, demote, archive, strength_gain, then decay_per_day of each type.';

CREATE FUNCTION engram_internal.pending(workspace uuid, ids uuid[])
RETURNS TABLE (memory_id uuid, calls uuid[], times timestamptz[], gains double precision[], ratings smallint[])
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT u.id, array_agg(q.id), array_agg(q.accessed_at), array_agg(q.gain), array_agg(q.rating)
  FROM engram.access_queue q CROSS JOIN LATERAL (SELECT DISTINCT x.id FROM unnest(q.memory_ids) AS x (id)) u
  -- What a fold would take, whatever moment is asked about.
  WHERE q.workspace_id = pending.workspace AND q.accessed_at <= clock_timestamp() AND (q.gain <> 0 OR q.rating IS NOT NULL)
    AND (cardinality(pending.ids) > 20 OR q.memory_ids && pending.ids) AND u.id = ANY (pending.ids)
  GROUP BY u.id;
END
$$;
COMMENT ON FUNCTION engram_internal.pending(uuid, uuid[]) IS 'Uses that wait to be folded, of some memories of a workspace, by memory.';

CREATE FUNCTION engram_internal.state_at(
  params double precision[], type text, importance double precision, pinned boolean, inert boolean,
  created_at timestamptz, memory_layer text, access_count bigint, last_accessed_at timestamptz, heat bytea,
  working_strength double precision, core_strength double precision, layer text, stability double precision,
  difficulty double precision, base jsonb, calls uuid[], times timestamptz[], gains double precision[], ratings smallint[],
  known integer, at timestamptz, settle boolean)
RETURNS TABLE (
  layer text, heat bytea, working_strength double precision, core_strength double precision,
  stability double precision, difficulty double precision, access_count bigint, last_accessed_at timestamptz,
  retention double precision, idle_days double precision, late boolean, base jsonb)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'state_at_wrapper';
COMMENT ON FUNCTION engram_internal.state_at(double precision[], text, double precision, boolean, boolean, timestamptz, text, bigint, timestamptz, bytea, double precision, double precision, text, double precision, double precision, jsonb, uuid[], timestamptz[], double precision[], smallint[], integer, timestamptz, boolean) IS
'The state of a memory after some more uses. With a moment, strengths, layer, retention and idle_days (without use or pin) are of that moment. late: a use was older than the state, so that layer, stability and difficulty want a replay. For that, pass the whole log first and its length as known; late then tells that some of it is missing. base: where a replay begins, NULL for when the memory was stored; settle makes it that moment, and whatever waits is known to it from then on.';

CREATE FUNCTION engram_internal.layer_at(
  params double precision[], type text, importance double precision, pinned boolean, inert boolean,
  created_at timestamptz, memory_layer text, heat bytea, working_strength double precision,
  core_strength double precision, layer text, at timestamptz) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'layer_at_wrapper';
COMMENT ON FUNCTION engram_internal.layer_at(double precision[], text, double precision, boolean, boolean, timestamptz, text, bytea, double precision, double precision, text, timestamptz) IS
'The layer of a memory at a moment, by its state.';

CREATE FUNCTION engram_internal.first_base(created_at timestamptz, layer text) RETURNS jsonb
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'first_base_wrapper';
COMMENT ON FUNCTION engram_internal.first_base(timestamptz, text) IS 'Where the replay of a memory begins that was stored in a layer of its own.';

CREATE FUNCTION engram_internal.pairs(ids uuid[]) RETURNS TABLE (a uuid, b uuid, direction integer)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'pairs_wrapper';
COMMENT ON FUNCTION engram_internal.pairs(uuid[]) IS
'All pairs of memories that were used in this order, a < b; direction is 1 when a came first and -1 otherwise.';

CREATE FUNCTION engram_internal.link_after(
  forward double precision, backward double precision, linked_at timestamptz, count integer,
  times timestamptz[], gains double precision[], half_life_days double precision, prune double precision)
RETURNS TABLE (forward double precision, backward double precision, linked_at timestamptz, count integer, late boolean)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'link_after_wrapper';
COMMENT ON FUNCTION engram_internal.link_after(double precision, double precision, timestamptz, integer, timestamptz[], double precision[], double precision, double precision) IS
'A link after some more calls; gains below 0 are of calls that used b first. A link whose mass has fallen below prune begins anew. late: a call was older than the link.';

CREATE FUNCTION engram_internal.present(workspace uuid, at timestamptz, ids uuid[], settle boolean DEFAULT false)
RETURNS TABLE (
  memory_id uuid, layer text, heat bytea, working_strength double precision, core_strength double precision,
  stability double precision, difficulty double precision, access_count bigint, last_accessed_at timestamptz,
  retention double precision, idle_days double precision, base jsonb, decay double precision)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  params double precision[] := engram_internal.dynamics(present.workspace);
BEGIN
  RETURN QUERY
  SELECT m.id, s.layer, s.heat, s.working_strength, s.core_strength, s.stability, s.difficulty,
         s.access_count, s.last_accessed_at, s.retention, s.idle_days, s.base, params[1]
  FROM unnest(present.ids) AS u (id)
  CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = present.workspace AND x.id = u.id OFFSET 0) m
  LEFT JOIN LATERAL (SELECT x.* FROM engram.memory_state x WHERE x.workspace_id = present.workspace AND x.memory_id = u.id OFFSET 0) o ON true
  LEFT JOIN engram_internal.pending(present.workspace, present.ids) p ON p.memory_id = u.id
  CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
    m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, o.access_count,
    o.last_accessed_at, o.heat, o.working_strength, o.core_strength, o.layer, o.stability, o.difficulty,
    o.base, p.calls, p.times, p.gains, p.ratings, NULL, present.at, present.settle) f
  CROSS JOIN LATERAL (
    SELECT f.* WHERE NOT f.late
    UNION ALL
    SELECT z.* FROM (
      SELECT array_agg(l.id) AS calls, array_agg(l.accessed_at) AS times, array_agg(l.gain) AS gains, array_agg(l.rating) AS ratings
      FROM engram.access_log l
      WHERE l.workspace_id = present.workspace AND l.memory_id = u.id AND (l.gain <> 0 OR l.rating IS NOT NULL)
      HAVING f.late) h
    CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
      m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, o.access_count,
      o.last_accessed_at, o.heat, o.working_strength, o.core_strength, o.layer, o.stability, o.difficulty,
      o.base, h.calls || p.calls, h.times || p.times, h.gains || p.gains, h.ratings || p.ratings,
      coalesce(cardinality(h.calls), 0), present.at, present.settle) z) s;
END
$$;
COMMENT ON FUNCTION engram_internal.present(uuid, timestamptz, uuid[], boolean) IS
'The state of memories at a moment, waiting uses included, of those that the caller may see. settle: as state_at() has it.';

CREATE FUNCTION engram_internal.layer_now(workspace uuid, id uuid) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT p.layer FROM engram_internal.present(layer_now.workspace, now(), ARRAY[layer_now.id]) p);
END
$$;
COMMENT ON FUNCTION engram_internal.layer_now(uuid, uuid) IS 'The present layer of a memory; what a filter by layer compares.';

CREATE FUNCTION engram_internal.fold(workspace uuid, at_most integer) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fold_wrapper';
COMMENT ON FUNCTION engram_internal.fold(uuid, integer) IS
'Folds waiting calls of a workspace that the caller may write; returns how many. What others are working on is left for later.';

CREATE FUNCTION engram_internal.rebase(workspace uuid, id uuid, new_layer text) RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'rebase_wrapper';
COMMENT ON FUNCTION engram_internal.rebase(uuid, uuid, text) IS
'Brings the state of a memory to the present moment before what it depends on changes, and into another layer if one is given. The caller may write the workspace.';

CREATE FUNCTION engram_internal.fold_queue(workspace uuid, at_most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- Not the triggers that serve the loading of a dump.
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  rules   record;
  params  double precision[];
  waiting uuid[];
  wanted  uuid[];
  locked  uuid[];
  busy    uuid[] := '{}';
  gone    uuid[] := '{}';
  late_links uuid[];
  done    integer;
BEGIN
  IF NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not fold uses', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It happens by itself, and when engram.consolidate() runs.';
  END IF;
  -- Under an older snapshot a row that somebody changed meanwhile would be an error.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT EXISTS (SELECT FROM engram.access_queue q WHERE q.workspace_id = fold_queue.workspace) THEN
    RETURN 0;
  END IF;
  -- One at a time in a workspace. Nobody who folds waits for anybody, here or below, and others only until
  -- it commits: hence no deadlock.
  IF NOT EXISTS (SELECT FROM engram.maintenance g WHERE g.workspace_id = fold_queue.workspace) THEN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('engram fold ' || fold_queue.workspace, 0)) THEN
      RETURN 0;
    END IF;
    INSERT INTO engram.maintenance (workspace_id) VALUES (fold_queue.workspace) ON CONFLICT DO NOTHING;
  END IF;
  PERFORM FROM engram.maintenance g WHERE g.workspace_id = fold_queue.workspace FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  waiting := ARRAY(SELECT q.id FROM engram.access_queue q
                   WHERE q.workspace_id = fold_queue.workspace AND q.accessed_at <= clock_timestamp()
                   ORDER BY q.id LIMIT fold_queue.at_most);
  wanted := ARRAY(SELECT DISTINCT u FROM engram.access_queue q CROSS JOIN LATERAL unnest(q.memory_ids) u
                  WHERE q.workspace_id = fold_queue.workspace AND q.id = ANY (waiting) ORDER BY u);
  -- Look-ups by key one after the other, here and below: as joins they might read all of the workspace.
  locked := ARRAY(SELECT s.memory_id FROM unnest(wanted) u CROSS JOIN LATERAL (
    SELECT x.memory_id FROM engram.memory_state x WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = u
    FOR NO KEY UPDATE SKIP LOCKED) s);
  IF cardinality(locked) < cardinality(wanted) THEN
    wanted := ARRAY(SELECT unnest(wanted) EXCEPT SELECT unnest(locked));
    -- Somebody changes or deletes these just now; calls that used them wait.
    busy := ARRAY(SELECT s.memory_id FROM unnest(wanted) u CROSS JOIN LATERAL (
      SELECT x.memory_id FROM engram.memory_state x WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = u OFFSET 0) s);
    -- States that a partial restore has left out.
    WITH added AS (
      INSERT INTO engram.memory_state (workspace_id, memory_id, last_accessed_at, layer)
      SELECT m.workspace_id, m.id, m.created_at, m.layer
      FROM unnest(wanted) u
      CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = fold_queue.workspace AND x.id = u AND u <> ALL (busy)
                          FOR KEY SHARE SKIP LOCKED) m
      ON CONFLICT DO NOTHING RETURNING memory_id)
    SELECT locked || array_agg(a.memory_id) INTO locked FROM added a;
    gone := ARRAY(SELECT unnest(wanted) EXCEPT SELECT unnest(locked) EXCEPT SELECT unnest(busy));
  END IF;
  params := engram_internal.dynamics(fold_queue.workspace);
  SELECT coalesce(w.link_members, d.link_members) AS members, coalesce(w.link_half_life_days, d.link_half_life_days) AS half_life,
         coalesce(w.link_prune, d.link_prune) AS prune INTO STRICT rules
  FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = fold_queue.workspace
  WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';

  WITH taken AS (
    DELETE FROM engram.access_queue q
    WHERE q.workspace_id = fold_queue.workspace AND q.id = ANY (waiting) AND NOT q.memory_ids && busy
    RETURNING q.*
  ), uses AS MATERIALIZED (
    SELECT t.id, t.accessed_at, t.user_id, t.kind, t.gain, t.rating, t.recall_id, u.memory_id, u.place,
           CASE WHEN t.gain > 0 AND u.place <= rules.members AND least(cardinality(t.memory_ids), rules.members) > 1
                THEN t.gain / (least(cardinality(t.memory_ids), rules.members) - 1) ELSE 0 END AS pair_gain
    FROM taken t CROSS JOIN LATERAL unnest(t.memory_ids) WITH ORDINALITY AS u (memory_id, place)
    WHERE u.memory_id <> ALL (gone) AND array_position(t.memory_ids, u.memory_id) - array_lower(t.memory_ids, 1) + 1 = u.place
  ), logged AS (
    INSERT INTO engram.access_log (workspace_id, memory_id, accessed_at, id, user_id, kind, gain, rating, recall_id, place, pair_gain)
    SELECT fold_queue.workspace, u.memory_id, u.accessed_at, u.id, u.user_id, u.kind, u.gain, u.rating, u.recall_id, u.place, u.pair_gain
    FROM uses u ORDER BY u.memory_id, u.accessed_at
    ON CONFLICT DO NOTHING
  ), after AS MATERIALIZED (
    SELECT e.memory_id, s.ctid AS row_at, a.*
    FROM (SELECT u.memory_id, array_agg(u.id) AS calls, array_agg(u.accessed_at) AS times, array_agg(u.gain) AS gains, array_agg(u.rating) AS ratings
          FROM uses u WHERE u.gain <> 0 OR u.rating IS NOT NULL GROUP BY u.memory_id) e
    CROSS JOIN LATERAL (SELECT x.ctid, x.* FROM engram.memory_state x WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = e.memory_id OFFSET 0) s
    CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = fold_queue.workspace AND x.id = e.memory_id OFFSET 0) m
    CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
      m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, s.access_count,
      s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer, s.stability, s.difficulty,
      s.base, e.calls, e.times, e.gains, e.ratings, NULL, NULL, false) f
    -- What is a matter of order, from the whole history. Here and not afterwards: a second change of a row
    -- in one transaction has the foreign key checked again, and that would wait for who changes the memory.
    CROSS JOIN LATERAL (
      SELECT f.* WHERE NOT f.late
      UNION ALL
      SELECT z.* FROM (
        SELECT array_agg(l.id) AS calls, array_agg(l.accessed_at) AS times, array_agg(l.gain) AS gains, array_agg(l.rating) AS ratings
        FROM engram.access_log l
        WHERE l.workspace_id = fold_queue.workspace AND l.memory_id = e.memory_id AND (l.gain <> 0 OR l.rating IS NOT NULL)
        HAVING f.late) h
      CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
        m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, s.access_count,
        s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer, s.stability, s.difficulty,
        s.base, h.calls || e.calls, h.times || e.times, h.gains || e.gains, h.ratings || e.ratings,
        coalesce(cardinality(h.calls), 0), NULL, false) z) a
  ), changed AS (
    UPDATE engram.memory_state s
    SET heat = a.heat, working_strength = a.working_strength, core_strength = a.core_strength, layer = a.layer,
        stability = a.stability, difficulty = a.difficulty, access_count = a.access_count, last_accessed_at = a.last_accessed_at,
        base = a.base
    FROM after a WHERE s.ctid = a.row_at AND s.workspace_id = fold_queue.workspace AND s.memory_id = a.memory_id
  ), pairs AS MATERIALIZED (
    SELECT p.a, p.b, l.*
    FROM (SELECT x.a, x.b, array_agg(c.accessed_at) AS times, array_agg(c.gain * x.direction) AS gains
          FROM (SELECT u.id, u.accessed_at, u.pair_gain AS gain, array_agg(u.memory_id ORDER BY u.place) AS ids
                FROM uses u WHERE u.pair_gain > 0 GROUP BY u.id, u.accessed_at, u.pair_gain HAVING count(*) > 1) c
          CROSS JOIN LATERAL engram_internal.pairs(c.ids) x
          GROUP BY x.a, x.b) p
    LEFT JOIN LATERAL (SELECT x.* FROM engram.hebbian_links x WHERE x.workspace_id = fold_queue.workspace AND x.a = p.a AND x.b = p.b OFFSET 0) h ON true
    CROSS JOIN LATERAL engram_internal.link_after(h.forward, h.backward, h.linked_at, h.count, p.times, p.gains, rules.half_life, rules.prune) l
  ), linked AS (
    INSERT INTO engram.hebbian_links AS h (workspace_id, a, b, forward, backward, linked_at, count)
    SELECT fold_queue.workspace, p.a, p.b, p.forward, p.backward, p.linked_at, p.count FROM pairs p ORDER BY p.a, p.b
    ON CONFLICT (workspace_id, a, b) DO UPDATE
    SET forward = EXCLUDED.forward, backward = EXCLUDED.backward, linked_at = EXCLUDED.linked_at, count = EXCLUDED.count
  )
  SELECT (SELECT count(*) FROM taken),
         ARRAY(SELECT x FROM pairs p CROSS JOIN LATERAL unnest(ARRAY[p.a, p.b]) WITH ORDINALITY AS z (x, nth) WHERE p.late ORDER BY p.a, p.b, z.nth)
  INTO done, late_links;

  -- A link that a call is older than, from all calls in order.
  UPDATE engram.hebbian_links h
  SET forward = r.forward, backward = r.backward, linked_at = r.linked_at, count = r.count
  FROM generate_series(1, cardinality(late_links), 2) i
  CROSS JOIN LATERAL (
    SELECT array_agg(x.accessed_at) AS times, count(*) AS calls,
           array_agg(CASE WHEN x.place < y.place THEN x.pair_gain ELSE -x.pair_gain END) AS gains
    FROM engram.access_log x
    CROSS JOIN LATERAL (SELECT z.place FROM engram.access_log z
      WHERE z.workspace_id = fold_queue.workspace AND z.memory_id = late_links[i + 1] AND z.accessed_at = x.accessed_at
        AND z.id = x.id AND z.pair_gain > 0 OFFSET 0) y
    WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = late_links[i] AND x.pair_gain > 0) e
  CROSS JOIN LATERAL engram_internal.link_after(NULL, NULL, NULL, NULL, e.times, e.gains, rules.half_life, rules.prune) r
  WHERE h.workspace_id = fold_queue.workspace AND h.a = late_links[i] AND h.b = late_links[i + 1] AND e.calls >= h.count;
  UPDATE engram.maintenance g SET folded_at = now() WHERE g.workspace_id = fold_queue.workspace;
  RETURN done;
END
$$;
COMMENT ON FUNCTION engram_internal.fold_queue(uuid, integer) IS
'What fold() does. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.rebase_state(workspace uuid, id uuid, new_layer text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  IF NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change the state of memories', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  -- Who changes a memory holds its row, and folds only hold this one while they commit.
  PERFORM FROM engram.memory_state s WHERE s.workspace_id = rebase_state.workspace AND s.memory_id = rebase_state.id FOR NO KEY UPDATE;
  UPDATE engram.memory_state s
  SET heat = a.heat, working_strength = a.working_strength, core_strength = a.core_strength,
      layer = coalesce(rebase_state.new_layer, a.layer), stability = a.stability, difficulty = a.difficulty,
      access_count = a.access_count, last_accessed_at = a.last_accessed_at,
      base = a.base || jsonb_build_object('layer', coalesce(rebase_state.new_layer, a.layer))
  FROM engram_internal.present(rebase_state.workspace, now(), ARRAY[rebase_state.id], true) a
  WHERE s.workspace_id = rebase_state.workspace AND s.memory_id = rebase_state.id;
END
$$;
COMMENT ON FUNCTION engram_internal.rebase_state(uuid, uuid, text) IS
'What rebase() does. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.touch(
  ids uuid[],
  kind text DEFAULT NULL,
  gain double precision DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  recall_id uuid DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'touch_wrapper';
COMMENT ON FUNCTION engram.touch(uuid[], text, double precision, timestamptz, uuid, uuid) IS
'Notes that memories were used, and returns how many of them are credited. Call it with what went into the answer, not with everything that was shown.

ids: at most 1000, in order of use; unknown and forgotten ones are left out. Those used in one call are linked with each other. kind: used (default) or shown. gain: how much it counts, 0 to 100; by default 1 for used and the workspace''s shown_gain for shown. at: when, by default now; not in the future. recall_id: the recall that they answer, as recall() returns it or any id of yours: each memory is credited once for it, so that a retry changes nothing. Uses in any order, late or at the same time end in the same state.';

CREATE FUNCTION engram.reinforce(
  ids uuid[],
  value double precision DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  recall_id uuid DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'reinforce_wrapper';
COMMENT ON FUNCTION engram.reinforce(uuid[], double precision, timestamptz, uuid, uuid) IS
'Gives credit to memories that helped, or takes it back from those that misled, and returns how many of them.

value: -1 (wrong) to 1 (vital, the default). Above 0 it counts as a use of that gain, rated 4 from 0.5 on and 3 below; below 0 it weakens the working strength and is rated 1. at, recall_id: as in touch().';

CREATE FUNCTION engram_internal.rate(id uuid, rating integer, at timestamptz, recall_id uuid, workspace uuid) RETURNS boolean
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'rate_wrapper';
COMMENT ON FUNCTION engram_internal.rate(uuid, integer, timestamptz, uuid, uuid) IS
'What rate() does; NULL for an unknown id.';

CREATE FUNCTION engram.rate(
  id uuid,
  rating integer,
  at timestamptz DEFAULT NULL,
  recall_id uuid DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  counted boolean := engram_internal.rate(rate.id, rate.rating, rate.at, rate.recall_id, rate.workspace);
BEGIN
  -- Not in the library, through which an SQLSTATE of our own does not get.
  IF counted IS NULL THEN
    PERFORM engram_internal.refuse_memory(rate.id);
  END IF;
  RETURN counted;
END
$$;
COMMENT ON FUNCTION engram.rate(uuid, integer, timestamptz, uuid, uuid) IS
'Rates one memory as FSRS does: 1 again (it was wrong or of no use), 2 hard (weakly relevant), 3 good (used), 4 easy (confirmed). True when it is counted. An unknown id raises PT404.

3 and 4 count as a use. at, recall_id: as in touch().';

CREATE FUNCTION engram.recall(
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
  created_at timestamptz, matched text[], explain jsonb, recall_id uuid)
LANGUAGE c VOLATILE ROWS 10 COST 10000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'recall_wrapper';
COMMENT ON FUNCTION engram.recall(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid) IS
'A search that is noted: what search() finds, with the recall_id under which touch() credits what was used of it. One row is written, and folded later.

Arguments as in search(). What is returned counts by the workspace''s shown_gain, by default not at all: credit goes to what is used. In a read-only transaction it only searches, and recall_id is NULL.';

CREATE FUNCTION engram.activation(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS double precision
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(activation.workspace, false);
  moment timestamptz := coalesce(activation.at, now());
BEGIN
  RETURN (SELECT engram.heat_level(p.heat, moment, p.decay)
          FROM engram_internal.present(ws, moment, ARRAY[activation.id]) p);
END
$$;
COMMENT ON FUNCTION engram.activation(uuid, timestamptz, uuid) IS
'Base-level activation of a memory in nats: the log odds, up to a constant, that it is needed, by how often and how lately it was used. NULL when it is not there.

B = ln of the sum over its uses of gain × age^-d, ages in seconds, at least 1; d is the workspace''s setting decay.';

CREATE FUNCTION engram.retention(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
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
  RETURN QUERY
  SELECT engram.fsrs_retrievability(p.idle_days, p.stability),
         p.stability, p.difficulty, p.working_strength, p.core_strength,
         engram.trace_strength(greatest(p.working_strength, 0), greatest(p.core_strength, 0)), p.retention, p.layer, p.access_count, p.last_accessed_at
  FROM engram_internal.present(ws, moment, ARRAY[retention.id]) p;
END
$$;
COMMENT ON FUNCTION engram.retention(uuid, timestamptz, uuid) IS
'How well a memory is kept at a moment: one row, or none when it is not there.

retrievability: FSRS-6, the probability 0 to 1 that it still holds. stability: days until that falls to 0.9. difficulty: 1 to 10. working_strength, core_strength: r1 and r2 of the two-store model; strength: 1 - e^-(r1 + r2). retention: min(1, r1 + r2) × e^(-t/stability), t days without use: what forgetting asks. Days under a pin do not count.';
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
  -- Always in the same order: of two callers who want the same rows one waits and none holds what the other lacks.
  held := ARRAY(
    SELECT l.id FROM (
      SELECT m.id, m.deleted_at FROM engram.memories m
      WHERE m.workspace_id = ws AND m.id = ANY (ids || others) ORDER BY m.id FOR NO KEY UPDATE) l
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
  IF set_successor.old = set_successor.new THEN
    RAISE EXCEPTION 'memory "%" cannot supersede itself', set_successor.old
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name two memories, or pass content to store the newer one; engram.update() changes one in place.';
  END IF;
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
  IF set_successor.old = ANY (engram_internal.successors(ws, set_successor.new)) THEN
    RAISE EXCEPTION 'memory "%" cannot be superseded by "%", which it supersedes itself', set_successor.old, set_successor.new
      USING ERRCODE = 'invalid_parameter_value',
            HINT = format('SELECT * FROM engram.superseded(''%s'') shows the chain; engram.unsupersede() takes a memory out of it.', set_successor.new);
  END IF;
  UPDATE engram.memories m SET superseded_by = set_successor.new WHERE m.workspace_id = ws AND m.id = set_successor.old;
  RETURN true;
END
$$;
COMMENT ON FUNCTION engram_internal.set_successor(uuid, uuid, uuid) IS
'What supersede() does with two memories that are stored. False when it was so already.';

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
    RAISE EXCEPTION 'supersede() was given % new and content', CASE WHEN supersede.new IS NULL THEN 'neither' ELSE 'both' END
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
  ws uuid := engram_internal.resolve_workspace(contradict.workspace, true);
BEGIN
  IF contradict.a = contradict.b THEN
    RAISE EXCEPTION 'memory "%" cannot contradict itself', contradict.a
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name two memories: contradict(a, b) says that a denies b.';
  END IF;
  PERFORM engram_internal.lock_memories(ws, ARRAY[contradict.a, contradict.b], NULL, false);
  UPDATE engram.memories m
  SET contradicts = CASE WHEN m.id = contradict.a
        THEN ARRAY(SELECT DISTINCT u FROM unnest(m.contradicts || contradict.b) u ORDER BY u) ELSE m.contradicts END,
      contradicted_by = CASE WHEN m.id = contradict.b
        THEN ARRAY(SELECT DISTINCT u FROM unnest(m.contradicted_by || contradict.a) u ORDER BY u) ELSE m.contradicted_by END
  WHERE m.workspace_id = ws
    AND (m.id = contradict.a AND contradict.b <> ALL (coalesce(m.contradicts, '{}'))
         OR m.id = contradict.b AND contradict.a <> ALL (coalesce(m.contradicted_by, '{}')));
  RETURN FOUND;
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
  ws uuid := engram_internal.resolve_workspace(uncontradict.workspace, true);
BEGIN
  PERFORM engram_internal.lock_memories(ws, ARRAY[uncontradict.a, uncontradict.b], NULL, true);
  UPDATE engram.memories m
  SET contradicts = CASE WHEN m.id = uncontradict.a
        THEN nullif(array_remove(m.contradicts, uncontradict.b), '{}') ELSE m.contradicts END,
      contradicted_by = CASE WHEN m.id = uncontradict.b
        THEN nullif(array_remove(m.contradicted_by, uncontradict.a), '{}') ELSE m.contradicted_by END
  WHERE m.workspace_id = ws
    AND (m.id = uncontradict.a AND uncontradict.b = ANY (m.contradicts)
         OR m.id = uncontradict.b AND uncontradict.a = ANY (m.contradicted_by));
  RETURN FOUND;
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
-- Links between memories, entities and their other names, and ways from memory to memory.

CREATE FUNCTION engram_internal.linkable(workspace uuid, id uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM engram.memories m
                 WHERE m.workspace_id = linkable.workspace AND m.id = linkable.id AND m.deleted_at IS NULL) THEN
    PERFORM engram_internal.refuse_memory(linkable.id);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.linkable(uuid, uuid) IS 'Raises the error for a memory that is not there, or forgotten.';

CREATE FUNCTION engram_internal.known_memory(workspace uuid, id uuid, required boolean)
RETURNS TABLE (in_workspace uuid, known uuid)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  in_workspace := engram_internal.resolve_workspace(known_memory.workspace, false);
  known := known_memory.id;
  IF in_workspace IS NOT NULL THEN
    IF required OR known IS NOT NULL THEN
      PERFORM engram_internal.linkable(in_workspace, known);
    END IF;
    RETURN NEXT;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.known_memory(uuid, uuid, boolean) IS
'The workspace that a reader works in and a memory in it, which must not be forgotten. No row for a reader who is nobody. In SQL, because an error of the library cannot have SQLSTATE PT404.';

CREATE FUNCTION engram.link(
  source uuid,
  target uuid,
  relation text DEFAULT NULL,
  weight double precision DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(link.workspace, true);
  named  text := coalesce(btrim(link.relation), 'related');
  heavy  double precision := coalesce(link.weight, 1);
  is_new boolean;
BEGIN
  IF named = '' OR char_length(named) > 100 THEN
    RAISE EXCEPTION 'relation "%" has % characters', left(named, 40), char_length(named)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the relation in 1 to 100 characters, for example causes or part of.';
  END IF;
  IF named IN ('mentions', 'used_with') THEN
    RAISE EXCEPTION 'relation "%" is not for links that somebody makes', named
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'mentions comes with entities (engram.add_entities()), used_with with use (engram.touch()). Choose another name.';
  END IF;
  IF NOT (heavy > 0 AND heavy <= 1) THEN
    RAISE EXCEPTION 'weight is %', heavy
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number above 0, at most 1. To take the link away call engram.unlink().';
  END IF;
  PERFORM engram_internal.linkable(ws, link.source);
  PERFORM engram_internal.linkable(ws, link.target);
  IF link.source = link.target THEN
    RAISE EXCEPTION 'memory "%" cannot be linked to itself', link.source
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give two different memories.';
  END IF;
  INSERT INTO engram.graph_links AS g (workspace_id, memory_id, relation, node, label, target_id, weight)
  VALUES (ws, link.source, named, link.target::text, link.target::text, link.target, heavy)
  ON CONFLICT (workspace_id, memory_id, relation, node) DO UPDATE SET weight = EXCLUDED.weight, target_id = EXCLUDED.target_id
  RETURNING g.xmax = 0 INTO is_new;
  RETURN is_new;
END
$$;
COMMENT ON FUNCTION engram.link(uuid, uuid, text, double precision, uuid) IS
'Links one memory to another. True when the link is new; the same link again takes the new weight.

relation: what the source is to the target, in 1 to 100 characters, by default related; mentions and used_with are taken. weight: how strong it is, above 0, at most 1 (the default). Both memories are in the same workspace and not forgotten, else PT404. related(), path() and spread() follow links in both directions.';

CREATE FUNCTION engram.unlink(source uuid, target uuid, relation text DEFAULT NULL, workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws   uuid := engram_internal.resolve_workspace(unlink.workspace, true);
  gone integer;
BEGIN
  DELETE FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = unlink.source AND g.target_id = unlink.target
    AND (unlink.relation IS NULL OR g.relation = btrim(unlink.relation));
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END
$$;
COMMENT ON FUNCTION engram.unlink(uuid, uuid, text, uuid) IS
'Takes links from one memory to another away, and returns how many. relation: only that; by default all. Links by use fade by themselves.';

CREATE FUNCTION engram_internal.entity_key(workspace uuid, name text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  given text := engram_internal.entity_node(name);
BEGIN
  RETURN coalesce((SELECT a.node FROM engram.entity_aliases a
                   WHERE a.workspace_id = entity_key.workspace AND a.alias = given), given);
END
$$;
COMMENT ON FUNCTION engram_internal.entity_key(uuid, text) IS 'The key of an entity by one of its names in a workspace.';

CREATE FUNCTION engram.add_entities(id uuid, names text[], workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(add_entities.workspace, true);
  before bigint;
  added  integer;
BEGIN
  -- Whoever adds to the same memory waits here, so that both count right.
  PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = add_entities.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(add_entities.id);
  END IF;
  SELECT count(*) INTO before FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = add_entities.id AND g.relation = 'mentions';
  PERFORM engram_internal.link_entities(ws, add_entities.id, add_entities.names);
  SELECT count(*) - before INTO added FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = add_entities.id AND g.relation = 'mentions';
  IF added > 0 THEN
    UPDATE engram.memories m SET version = m.version + 1 WHERE m.workspace_id = ws AND m.id = add_entities.id;
  END IF;
  RETURN added;
END
$$;
COMMENT ON FUNCTION engram.add_entities(uuid, text[], uuid) IS
'Records that a memory mentions entities, and returns how many it did not mention before.

names: case, white space and outer punctuation do not count, and an alias means its entity. The memory gets a new version when something was added. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.remove_entities(id uuid, names text[], workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws   uuid := engram_internal.resolve_workspace(remove_entities.workspace, true);
  gone integer;
BEGIN
  PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = remove_entities.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(remove_entities.id);
  END IF;
  DELETE FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = remove_entities.id AND g.relation = 'mentions'
    AND g.node = ANY (ARRAY(SELECT engram_internal.entity_key(ws, n) FROM unnest(remove_entities.names) n));
  GET DIAGNOSTICS gone = ROW_COUNT;
  IF gone > 0 THEN
    UPDATE engram.memories m SET version = m.version + 1 WHERE m.workspace_id = ws AND m.id = remove_entities.id;
  END IF;
  RETURN gone;
END
$$;
COMMENT ON FUNCTION engram.remove_entities(uuid, text[], uuid) IS
'Takes back that a memory mentions entities, and returns how many it did. Names as in add_entities(). An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.add_alias(entity text, alias text, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(add_alias.workspace, true);
  other text := engram_internal.entity_node(add_alias.alias);
  meant text;
  known text;
BEGIN
  IF coalesce(engram_internal.entity_node(add_alias.entity), '') = '' OR coalesce(other, '') = '' THEN
    RAISE EXCEPTION 'entity "%" or alias "%" has no letter or digit in its name',
        left(coalesce(add_alias.entity, 'NULL'), 40), left(coalesce(add_alias.alias, 'NULL'), 40)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give two names, for example add_alias(''New York'', ''NYC'').';
  END IF;
  IF greatest(char_length(add_alias.entity), char_length(add_alias.alias)) > 500 THEN
    RAISE EXCEPTION 'a name has % characters, the limit is 500', greatest(char_length(add_alias.entity), char_length(add_alias.alias))
      USING ERRCODE = 'invalid_parameter_value', HINT = 'An entity is a name; what there is to say about it goes into content.';
  END IF;
  -- Who stores a name just now holds this lock shared, see lock_keys(): nobody resolves the alias before it is
  -- there and links it afterwards, and no two aliases make a circle.
  PERFORM pg_advisory_xact_lock(hashtextextended('engram workspace ' || ws, 0));
  meant := engram_internal.entity_key(ws, add_alias.entity);
  IF meant = other THEN
    RAISE EXCEPTION 'alias "%" is the entity that "%" stands for', add_alias.alias, add_alias.entity
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Give a name that is not yet its own. To turn an alias round, call engram.remove_alias() first.';
  END IF;
  SELECT a.node INTO known FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.alias = other;
  IF known = meant THEN
    RETURN false;
  ELSIF known IS NOT NULL THEN
    RAISE EXCEPTION 'alias "%" already stands for entity "%"', add_alias.alias, known
      USING ERRCODE = 'unique_violation', SCHEMA = 'engram', TABLE = 'entity_aliases', CONSTRAINT = 'entity_aliases_pkey',
            HINT = 'Take it away first: SELECT engram.remove_alias(alias);';
  END IF;
  INSERT INTO engram.entity_aliases (workspace_id, alias, node, label) VALUES (ws, other, meant, btrim(add_alias.alias));
  -- What was an entity of its own until now: its aliases and its memories become the other's.
  UPDATE engram.entity_aliases a SET node = meant WHERE a.workspace_id = ws AND a.node = other;
  INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label, created_at, weight)
  SELECT g.workspace_id, g.memory_id, g.relation, meant, g.label, g.created_at, g.weight
  FROM engram.graph_links g WHERE g.workspace_id = ws AND g.node = other AND g.target_id IS NULL
  ON CONFLICT DO NOTHING;
  DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.node = other AND g.target_id IS NULL;
  RETURN true;
END
$$;
COMMENT ON FUNCTION engram.add_alias(text, text, uuid) IS
'Declares another name of an entity: who stores it or asks for it means the entity, and memories that mention it already now mention the entity. True when it is new.

An entity that is itself an alias stands for its entity. A name that already stands for another entity is refused (23505), and so is a circle (22023).';

CREATE FUNCTION engram.remove_alias(alias text, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(remove_alias.workspace, true);
BEGIN
  DELETE FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.alias = engram_internal.entity_node(remove_alias.alias);
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram.remove_alias(text, uuid) IS
'Makes an alias a name of its own again. True when it was an alias. Memories that mention the entity go on mentioning it, whatever they called it.';

CREATE FUNCTION engram.entities(query text DEFAULT NULL, match_count integer DEFAULT NULL, workspace uuid DEFAULT NULL)
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
  WHERE coalesce(part, '') = '' OR strpos(l.node, part) > 0
     OR EXISTS (SELECT FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.node = l.node AND strpos(a.alias, part) > 0)
  ORDER BY l.times DESC, l.node LIMIT wanted;
END
$$;
COMMENT ON FUNCTION engram.entities(text, integer, uuid) IS
'Entities of a workspace, the most mentioned first: their name, the key under which they are found, their aliases, and how many memories mention them that search can find.

query: part of a name or of an alias. match_count: 1 to 1000, by default 50.';

CREATE FUNCTION engram_internal.related(workspace uuid, id uuid, entity text, relation text, hops integer, match_count integer, at timestamptz)
RETURNS TABLE (
  id uuid, content text, type text, score double precision, hops integer, via text, relations text[], created_at timestamptz)
LANGUAGE c STABLE ROWS 10 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'related_wrapper';
COMMENT ON FUNCTION engram_internal.related(uuid, uuid, text, text, integer, integer, timestamptz) IS 'What related() does; no row for a memory that is not there.';

CREATE FUNCTION engram.related(
  id uuid DEFAULT NULL,
  entity text DEFAULT NULL,
  relation text DEFAULT NULL,
  hops integer DEFAULT NULL,
  match_count integer DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
)
RETURNS TABLE (
  id uuid, content text, type text, score double precision, hops integer, via text, relations text[], created_at timestamptz)
LANGUAGE sql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT r.* FROM engram_internal.known_memory($7, $1, false) k
  CROSS JOIN LATERAL engram_internal.related(k.in_workspace, k.known, $2, $3, $4, $5, $6) r
$$;
COMMENT ON FUNCTION engram.related(uuid, text, text, integer, integer, timestamptz, uuid) IS
'What is linked to a memory or to an entity, best first: by use in the same calls (used_with), by link(), and by entities in common (mentions).

id or entity: where to begin; an alias means its entity. An unknown or forgotten id raises PT404. relation: only links of that name are followed. hops: how many links away, 1 to 5, by default 1. match_count: 1 to 1000, by default 10. at: the moment at which links by use are weighed, by default now.
score: 0 to 1, the product of the strengths along the best way. A link by use has strength 1 - e^-mass, and counts from link_threshold calls on; one of link() has its weight; an entity that n memories mention has 1 / (1 + ln n), n counted among the newest 100. Links that lead the same way add up to 1 - product of (1 - strength). hops: how long that way is. via: the entity that leads to the memory, or the id of the memory before it. relations: all that links it to that, strongest first. At most 2000 links are read.';

CREATE FUNCTION engram_internal.path(workspace uuid, source uuid, target uuid, max_hops integer)
RETURNS TABLE (step integer, id uuid, content text, via text, relation text)
LANGUAGE c STABLE ROWS 5 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'path_wrapper';
COMMENT ON FUNCTION engram_internal.path(uuid, uuid, uuid, integer) IS 'What path() does; no row for a memory that is not there.';

CREATE FUNCTION engram.path(source uuid, target uuid, max_hops integer DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (step integer, id uuid, content text, via text, relation text)
LANGUAGE sql STABLE ROWS 5
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT p.* FROM engram_internal.known_memory($4, $1, true) a
  CROSS JOIN LATERAL engram_internal.known_memory(a.in_workspace, $2, true) b
  CROSS JOIN LATERAL engram_internal.path(a.in_workspace, a.known, b.known, $3) p
$$;
COMMENT ON FUNCTION engram.path(uuid, uuid, integer, uuid) IS
'The shortest way from one memory to another, and of equally long ones the strongest: one row for each memory on it, the source at step 0. No row when there is none.

Links are those of related(), followed in both directions. max_hops: 1 to 6, by default 4. via: the entity that leads from the memory before, NULL for a direct link. relation: the strongest link from there. An unknown or forgotten id raises PT404. At most 10,000 links are read.';

CREATE FUNCTION engram.spread(
  workspace uuid,
  seeds uuid[],
  weights double precision[] DEFAULT NULL,
  alpha double precision DEFAULT NULL,
  max_hops integer DEFAULT NULL,
  eps double precision DEFAULT NULL,
  max_edges integer DEFAULT NULL,
  at timestamptz DEFAULT NULL
) RETURNS TABLE (memory_id uuid, mass double precision, lift double precision)
LANGUAGE c STABLE ROWS 100 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'spread_from_wrapper';
COMMENT ON FUNCTION engram.spread(uuid, uuid[], double precision[], double precision, integer, double precision, integer, timestamptz) IS
'Spreads activation from memories along links by use and links of link(): a random walk that starts at the seeds, goes on with probability alpha, and back to the seeds where there is no link (personalised PageRank, Haveliwala 2002). Seeds are among the rows; most mass first.

workspace: NULL for your own. seeds: up to 1000; those that you cannot see, and that search would not find, are left out. weights: one for each, from 0, by default 1. alpha: 0 to less than 1, by default 0.5. max_hops: 0 to 10, by default 3. eps: a memory on which less of the walk is left is not gone on from, by default 0.001. max_edges: most links that are followed, up to 10,000, by default 2000. at: the moment, by default now.
mass: the share of the walk that ends there, in sum at most 1. lift: ln(1 + mass / the share of its links in those of all memories reached), in nats: how much more the seeds lead there than chance would.';

CREATE FUNCTION engram_internal.links(workspace uuid, id uuid, at timestamptz)
RETURNS TABLE (
  other uuid, kind text, relation text, strength double precision, direction double precision, causal boolean,
  count integer, linked_at timestamptz)
LANGUAGE c STABLE ROWS 10 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'links_of_wrapper';
COMMENT ON FUNCTION engram_internal.links(uuid, uuid, timestamptz) IS 'What links() does; no row for a memory that is not there.';

CREATE FUNCTION engram.links(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (
  other uuid, kind text, relation text, strength double precision, direction double precision, causal boolean,
  count integer, linked_at timestamptz)
LANGUAGE sql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT l.* FROM engram_internal.known_memory($3, $1, true) k
  CROSS JOIN LATERAL engram_internal.links(k.in_workspace, k.known, $2) l
$$;
COMMENT ON FUNCTION engram.links(uuid, timestamptz, uuid) IS
'The links of one memory, strongest first, those included that are too young for related(); at most 1000 of each kind. An unknown or forgotten id raises PT404.

kind: hebbian, by use in the same calls, or graph, by link(). strength: at the moment at, by default now, 0 to 1: 1 - e^-mass, or the weight. direction: -1 to 1, above 0 when this memory is used before the other, or is the source. causal: in at least 3 calls, and twice as much one way as the other. count: calls, of hebbian ones. linked_at: the latest of them, or when it was linked.';
-- Memories as a block of text for a prompt.

CREATE FUNCTION engram_internal.prompt_line(content text, speaker text, occurred_at timestamptz) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'prompt_line_wrapper';
COMMENT ON FUNCTION engram_internal.prompt_line(text, text, timestamptz) IS
'A memory as one line of a prompt: - [8 May 2023] Speaker: content. Dates are in UTC; line breaks become blanks.';

CREATE FUNCTION engram_internal.tokens(content text) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokens_wrapper';
COMMENT ON FUNCTION engram_internal.tokens(text) IS
'About how many tokens of a language model a text takes: a quarter of its characters, rounded up, and one for each character of scripts without spaces.';

CREATE FUNCTION engram.context(
  query_text text DEFAULT NULL,
  query_embedding vector DEFAULT NULL,
  max_tokens integer DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  match_count integer DEFAULT NULL,
  types text[] DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(context.workspace, false);
  moment    timestamptz := coalesce(context.at, now());
  budget    integer := coalesce(context.max_tokens, 1000);
  condition text;
  params    jsonb;
  m         record;
  line      text;
  plain     text;
  cost      integer;
  spent     integer := 0;
  lines     text[] := '{}';
  ids       uuid[] := '{}';
  said      text[] := '{}';
  memories  jsonb[] := '{}';
BEGIN
  IF budget NOT BETWEEN 1 AND 1000000 THEN
    RAISE EXCEPTION 'max_tokens is %', budget
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000000.';
  END IF;
  SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_filter(context.filter) f;
  FOR m IN EXECUTE
    $q$SELECT true AS standing, row_number() OVER (ORDER BY m.created_at DESC, m.id DESC) AS place,
              m.id, m.content, m.type, NULL::double precision AS score, m.speaker, m.occurred_at, m.created_at
    FROM (
      SELECT m.* FROM engram.memories m
      WHERE m.workspace_id = $2 AND $1 IS NOT NULL AND m.pinned AND m.type = 'procedural' AND m.deleted_at IS NULL
        AND m.superseded_by IS NULL AND (m.expires_at IS NULL OR m.expires_at > $3) AND $q$ || condition || $q$
      ORDER BY m.created_at DESC, m.id DESC LIMIT 1000) m
    UNION ALL
    SELECT false, s.place, s.id, s.content, s.type, s.score, s.speaker, s.occurred_at, s.created_at
    FROM engram.search($4, $5, $6, $7, $8, at => $9, workspace => $10) WITH ORDINALITY AS s (
      id, content, type, score, importance, tags, metadata, speaker, role, session_id, occurred_at, created_at, matched, explain, place)
    ORDER BY standing DESC, place$q$
    USING params, ws, moment, context.query_text, context.query_embedding, coalesce(context.match_count, 50),
          context.filter, context.types, context.at, context.workspace
  LOOP
    plain := engram_internal.normalize_content(m.content);
    CONTINUE WHEN plain = ANY (said);
    line := engram_internal.prompt_line(m.content, m.speaker, m.occurred_at);
    cost := engram_internal.tokens(line || E'\n');
    -- A later one may be shorter.
    CONTINUE WHEN spent + cost > CASE WHEN m.standing THEN budget / 4 ELSE budget END;
    spent := spent + cost;
    said := said || plain;
    lines := lines || line;
    ids := ids || m.id;
    memories := memories || jsonb_build_object('id', m.id, 'content', m.content, 'type', m.type, 'score', m.score,
      'speaker', m.speaker, 'occurred_at', m.occurred_at, 'created_at', m.created_at, 'standing', m.standing, 'tokens', cost);
  END LOOP;
  RETURN jsonb_build_object('text', array_to_string(lines, E'\n'), 'ids', ids, 'tokens', spent, 'memories', memories);
END
$$;
COMMENT ON FUNCTION engram.context(text, vector, integer, jsonb, integer, text[], timestamptz, uuid) IS
'The best memories within a budget of tokens, as a block of text to put into a prompt: {"text", "ids", "tokens", "memories": [{"id", "content", "type", "score", "speaker", "occurred_at", "created_at", "standing", "tokens"}]}. Reading does not count as a use: pass the ids that were of use to touch().

text: a line a memory, - [8 May 2023] Speaker: content, without what is not known; dates in UTC, line breaks as blanks. First standing instructions (pinned procedural memories), newest first, in at most a quarter of the budget, whatever is asked; they have no score. Then what search() finds, best first, or with nothing asked what is most needed now, in all that is left. A memory that does not fit is left out whole and shorter ones may follow; the same content comes once.

max_tokens: 1 to 1000000, by default 1000. A token is taken as four characters of a line with its end, or one character of a script without spaces (Han, Kana, Hangul, Thai); models differ, so leave some room. match_count: how many memories search() may give, 1 to 1000, by default 50. filter: as in search(), for standing instructions too. types: only these, beside standing instructions. query_text, query_embedding, at: as in search().';
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
-- Caring for memories: layers as time has moved them, links that have faded, forgetting by policy; and the
-- settings that all of it follows.

CREATE FUNCTION engram_internal.consolidate_as_owner(workspace uuid, at timestamptz, dry_run boolean, batch_size integer)
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
  n      integer;
  young  integer;
  moves  record;
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

  -- Uses that wait come first: they have happened.
  FOR ws IN SELECT DISTINCT q.workspace_id FROM engram.access_queue q
            WHERE consolidate_as_owner.workspace IS NULL OR q.workspace_id = consolidate_as_owner.workspace LOOP
    LOOP
      n := engram_internal.fold_queue(ws, 10000);
      folded := folded + n;
      EXIT WHEN n = 0;
    END LOOP;
  END LOOP;

  -- Layers. What still waits is in somebody else's hands and comes next time.
  EXECUTE
    $q$WITH rules AS MATERIALIZED (
         SELECT w.workspace_id, engram_internal.dynamics(w.workspace_id) AS params
         FROM (SELECT t.workspace_id FROM engram.settings t UNION SELECT t.workspace_id FROM engram.memory_type_settings t) w),
       moved AS (
         SELECT m.workspace_id, m.id, m.layer AS old, engram_internal.layer_at(
           coalesce(r.params, $2), m.type, m.importance, m.pinned,
           m.superseded_by IS NOT NULL OR m.contradicted_by <> '{}', m.created_at, m.layer,
           s.heat, s.working_strength, s.core_strength, s.layer, $3) AS new
         FROM engram.memories m
         JOIN engram.memory_state s ON s.workspace_id = m.workspace_id AND s.memory_id = m.id
         LEFT JOIN rules r ON r.workspace_id = m.workspace_id
         WHERE m.deleted_at IS NULL$q$ || here || $q$)
       SELECT coalesce(array_agg(v.workspace_id), '{}') AS workspaces, coalesce(array_agg(v.id), '{}') AS ids,
              coalesce(array_agg(v.old), '{}') AS olds, coalesce(array_agg(v.new), '{}') AS news
       FROM (SELECT * FROM moved v WHERE v.new <> v.old ORDER BY v.workspace_id, v.id LIMIT $4) v$q$
    INTO moves
    USING consolidate_as_owner.workspace, engram_internal.dynamics('00000000-0000-0000-0000-000000000000'), moment, most;
  done := cardinality(moves.ids) < most;
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
             AND s.last_accessed_at <= $2 - coalesce(w.forget_after_days, d.forget_after_days) * interval '1 day'
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
                (SELECT count(*) FROM doomed) < $4$q$
      INTO forgotten, done USING consolidate_as_owner.workspace, moment, dry, most;
  END IF;

  -- Links. Who folds writes them, so a workspace that is being folded is left alone.
  IF consolidate_as_owner.workspace IS NOT NULL THEN
    INSERT INTO engram.maintenance (workspace_id) VALUES (consolidate_as_owner.workspace) ON CONFLICT DO NOTHING;
  END IF;
  free := ARRAY(SELECT g.workspace_id FROM engram.maintenance g
                WHERE consolidate_as_owner.workspace IS NULL OR g.workspace_id = consolidate_as_owner.workspace
                ORDER BY g.workspace_id FOR UPDATE SKIP LOCKED);
  WITH old AS (
    DELETE FROM engram.hebbian_links h USING unnest(free) AS f (workspace_id)
    WHERE h.workspace_id = f.workspace_id
      -- Not before a call that comes to light a month late could have kept it; until then nobody sees it.
      AND engram.link_decay(h.forward + h.backward, greatest(date_part('epoch', moment - interval '30 days' - h.linked_at), 0),
            (SELECT coalesce(w.link_half_life_days, d.link_half_life_days) * 86400 FROM engram.settings d
             LEFT JOIN engram.settings w ON w.workspace_id = f.workspace_id
             WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000'))
          < (SELECT coalesce(w.link_prune, d.link_prune) FROM engram.settings d
             LEFT JOIN engram.settings w ON w.workspace_id = f.workspace_id
             WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000')
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
    ), old AS (
      DELETE FROM engram.hebbian_links h USING weak k WHERE h.workspace_id = ws AND h.a = k.a AND h.b = k.b RETURNING 1
    )
    SELECT links_pruned + count(*) INTO links_pruned FROM old;
  END LOOP;
  DELETE FROM engram.recall_credits c USING unnest(free) AS f (workspace_id)
  WHERE c.workspace_id = f.workspace_id AND c.created_at < now() - interval '90 days';
  UPDATE engram.maintenance g SET consolidated_at = now() WHERE g.workspace_id = ANY (free);
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION engram_internal.consolidate_as_owner(uuid, timestamptz, boolean, integer) IS
'What consolidate() does; without a workspace, for all. With dry_run NULL memories stay as they are and all else is done: half of a dry run. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.consolidate(
  workspace uuid DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  batch_size integer DEFAULT NULL
) RETURNS TABLE (
  folded bigint, promoted bigint, demoted bigint, archived bigint, forgotten bigint, links_pruned bigint,
  skipped bigint, done boolean)
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'consolidate_wrapper';
COMMENT ON FUNCTION engram.consolidate(uuid, timestamptz, boolean, integer) IS
'Does what time has brought about and reports it in one row: folds uses that wait, shows in memories.layer which memories have moved, forgets by policy, deletes links that faded a month ago. How often it runs changes nothing of what search, recall and every other reader see; but links that are beyond the link_limit strongest of both their ends are deleted too, and if they are used again begin anew.

workspace: by default the caller''s own; for a role that bypasses row security and is nobody, all of them. at: the moment that is judged by, by default now. dry_run: only report what this call would do. batch_size: move and forget at most so many memories in this call; done tells whether that was all. skipped: memories that somebody else was changing; they come next time. See also the procedure consolidate_in_batches().';

CREATE FUNCTION engram_internal.consolidated_workspaces() RETURNS SETOF uuid
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'consolidated_workspaces_wrapper';
COMMENT ON FUNCTION engram_internal.consolidated_workspaces() IS
'The workspaces that consolidate_in_batches() goes through: for roles that bypass row security all, else the caller''s own.';

-- A procedure that commits cannot pin its search path; every name in it is qualified instead.
CREATE PROCEDURE engram.consolidate_in_batches(batch_size integer DEFAULT 1000, at timestamptz DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  ws   pg_catalog.uuid;
  done pg_catalog.bool;
BEGIN
  FOR ws IN SELECT w FROM engram_internal.consolidated_workspaces() AS w LOOP
    LOOP
      SELECT c.done INTO done FROM engram.consolidate(ws, consolidate_in_batches.at, false, consolidate_in_batches.batch_size) AS c;
      COMMIT;
      EXIT WHEN done;
    END LOOP;
  END LOOP;
END
$$;
COMMENT ON PROCEDURE engram.consolidate_in_batches(integer, timestamptz) IS
'consolidate() for every workspace that the caller may care for, with a COMMIT after each batch, so that nobody waits long for it. After a crash, call it again: what was done stays done.

batch_size: memories that one transaction moves. Call it outside a transaction block.';

CREATE FUNCTION engram_internal.change_settings(workspace uuid, changes jsonb, preset text) RETURNS jsonb
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
    IF value = 'null' AND change_settings.workspace = '00000000-0000-0000-0000-000000000000' AND key <> 'near_duplicate_threshold' THEN
      RAISE EXCEPTION 'the default of setting % cannot be null', key
        USING ERRCODE = 'invalid_parameter_value', HINT = hint;
    END IF;
    BEGIN
      EXECUTE format('UPDATE engram.settings SET %I = $1::%s WHERE workspace_id = $2', key, kind)
        USING value #>> '{}', change_settings.workspace;
    EXCEPTION
      WHEN check_violation OR invalid_text_representation OR numeric_value_out_of_range OR undefined_object THEN
        GET STACKED DIAGNOSTICS wrong = CONSTRAINT_NAME;
        -- The three thresholds of layers depend on each other; those are judged at the end.
        IF wrong <> 'settings_layers_check' THEN
          RAISE EXCEPTION 'setting % cannot be %', key, value
            USING ERRCODE = 'invalid_parameter_value', HINT = hint;
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
COMMENT ON FUNCTION engram_internal.change_settings(uuid, jsonb, text) IS
'Changes settings of a workspace and returns those in force. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.effective_settings(workspace uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT to_jsonb(d) - 'workspace_id' || coalesce(jsonb_strip_nulls(to_jsonb(w)), '{}') - 'workspace_id'
          FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = effective_settings.workspace
          WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
END
$$;
COMMENT ON FUNCTION engram_internal.effective_settings(uuid) IS 'The settings in force in a workspace.';

CREATE FUNCTION engram.configuration(workspace uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.effective_settings(engram_internal.resolve_workspace(workspace, false));
END
$$;
COMMENT ON FUNCTION engram.configuration(uuid) IS 'The settings in force in a workspace, its own before the defaults. Comments on the columns of engram.settings say what they mean.';

CREATE FUNCTION engram.configure(changes jsonb, workspace uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'configure_wrapper';
COMMENT ON FUNCTION engram.configure(jsonb, uuid) IS
'Changes settings of a workspace and returns those in force.

changes: an object of names and values, for example {"decay": 0.4, "link_half_life_days": 60}; null goes back to the default. Users set how their memories live and how they are ranked; max_content_chars, candidates, fold_threshold and text_config take a role that bypasses row security, which may also name the all-zero workspace, that of the defaults. A memory lives by them from its latest use on.';

CREATE FUNCTION engram.apply_preset(name text, workspace uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'apply_preset_wrapper';
COMMENT ON FUNCTION engram.apply_preset(text, uuid) IS
'Sets how memories of a workspace fade and consolidate for a kind of agent, and returns the settings in force.

name: default, chatbot (fades slowly, consolidates readily), task_agent (fades fast, keeps what is used), personal_assistant (keeps for very long), researcher (keeps nearly everything). It sets decay, mu1, mu2, alpha, promote, demote, archive, strength_gain, forget_threshold and importance_weight; configure() changes single ones afterwards.';
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
    EXECUTE pg_catalog.format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', f);
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
