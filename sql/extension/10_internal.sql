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
