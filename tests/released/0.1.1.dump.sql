--
-- PostgreSQL database dump
--

\restrict fixture

-- Dumped from database version 16.14
-- Dumped by pg_dump version 16.14

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: engram; Type: SCHEMA; Schema: -; Owner: postgres
--

CREATE SCHEMA engram;


ALTER SCHEMA engram OWNER TO postgres;

--
-- Name: SCHEMA engram; Type: COMMENT; Schema: -; Owner: postgres
--

COMMENT ON SCHEMA engram IS 'Agent memory: store, search, forget. See engram.search() and engram.add().';


--
-- Name: vector; Type: EXTENSION; Schema: -; Owner: -
--

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;


--
-- Name: EXTENSION vector; Type: COMMENT; Schema: -; Owner: 
--

COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';


--
-- Name: engram; Type: EXTENSION; Schema: -; Owner: -
--

CREATE EXTENSION IF NOT EXISTS engram WITH SCHEMA engram;


--
-- Name: EXTENSION engram; Type: COMMENT; Schema: -; Owner: 
--

COMMENT ON EXTENSION engram IS 'agent memory: store, search, forget, with every tenant kept apart';


--
-- Name: current_user_id(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.current_user_id() RETURNS uuid
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  -- A function of that name that is not the extension's own could claim to be anybody.
  IF NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'engram'
                 WHERE d.classid = 'pg_proc'::regclass AND d.objid = to_regproc('engram_internal.caller_id')
                   AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') THEN
    RAISE EXCEPTION 'the engram extension is not installed in database "%"', current_database()
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Your memories are still there. Run: CREATE EXTENSION engram CASCADE;';
  END IF;
  RETURN engram_internal.caller_id();
END
$$;


ALTER FUNCTION engram.current_user_id() OWNER TO postgres;

--
-- Name: FUNCTION current_user_id(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.current_user_id() IS 'The caller''s user id, or NULL when nobody is identified. Read from request.jwt.claims (sub), else from the setting engram.user_id, as engram.identity_source allows. A subject that is no UUID maps to a UUIDv5. In policies write (SELECT engram.current_user_id()).';


--
-- Name: embeddings_before_write(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.embeddings_before_write() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF NOT engram_internal.may_write(NEW.workspace_id) THEN
    PERFORM engram_internal.refuse_workspace(NEW.workspace_id);
  END IF;
  PERFORM engram_internal.check_embedding(NEW.embedding, NEW.model);
  NEW.created_at := coalesce(NEW.created_at, now());
  RETURN NEW;
END
$$;


ALTER FUNCTION engram.embeddings_before_write() OWNER TO postgres;

--
-- Name: FUNCTION embeddings_before_write(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.embeddings_before_write() IS 'Trigger: refuses an embedding whose dimensions differ from its model''s.';


--
-- Name: memories_after_delete(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.memories_after_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  -- Without the extension nothing below may be looked up, least of all with the owner's rights.
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.memories'::regclass THEN
    RAISE EXCEPTION 'engram.memories_after_delete() serves engram.memories, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  INSERT INTO engram.erasures (workspace_id, id, erased_by)
  SELECT workspace_id, id, engram.current_user_id() FROM removed
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.memories_after_delete() OWNER TO postgres;

--
-- Name: FUNCTION memories_after_delete(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.memories_after_delete() IS 'Trigger: leaves a tombstone for every deleted memory, so that a late import or retry cannot bring it back.';


--
-- Name: memories_after_insert(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.memories_after_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  -- Without the extension nothing below may be looked up, least of all with the owner's rights.
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.memories'::regclass THEN
    RAISE EXCEPTION 'engram.memories_after_insert() serves engram.memories, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  INSERT INTO engram.memory_state (workspace_id, memory_id, last_accessed_at)
  SELECT workspace_id, id, created_at FROM added
  ON CONFLICT DO NOTHING;
  INSERT INTO engram.memory_terms (workspace_id, memory_id, length, terms, keys)
  SELECT a.workspace_id, a.id, engram_internal.term_count(tsvectorsend(t.terms)), t.terms,
         engram_internal.term_keys(a.workspace_id, tsvectorsend(t.terms))
  FROM added a
  CROSS JOIN LATERAL (SELECT engram_internal.to_terms(
    engram_internal.indexed_text(a.content, a.speaker, a.occurred_at, a.summary)) AS terms) t
  WHERE a.deleted_at IS NULL
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.memories_after_insert() OWNER TO postgres;

--
-- Name: FUNCTION memories_after_insert(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.memories_after_insert() IS 'Trigger: gives every new memory its state row and makes it searchable by words in the same transaction.';


--
-- Name: memories_after_update(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.memories_after_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  fresh tsvector;
BEGIN
  -- Without the extension nothing below may be looked up, least of all with the owner's rights.
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.memories'::regclass THEN
    RAISE EXCEPTION 'engram.memories_after_update() serves engram.memories, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  IF NEW.deleted_at IS NOT NULL THEN
    DELETE FROM engram.memory_terms t WHERE t.workspace_id = NEW.workspace_id AND t.memory_id = NEW.id;
  ELSE
    fresh := engram_internal.to_terms(
      engram_internal.indexed_text(NEW.content, NEW.speaker, NEW.occurred_at, NEW.summary));
    INSERT INTO engram.memory_terms AS t (workspace_id, memory_id, length, terms, keys)
    VALUES (NEW.workspace_id, NEW.id, engram_internal.term_count(tsvectorsend(fresh)), fresh,
            engram_internal.term_keys(NEW.workspace_id, tsvectorsend(fresh)))
    ON CONFLICT (workspace_id, memory_id) DO UPDATE
      SET length = excluded.length, terms = excluded.terms, keys = excluded.keys;
  END IF;
  IF engram_internal.indexed_text(NEW.content, NEW.speaker, NEW.occurred_at, NULL)
     <> engram_internal.indexed_text(OLD.content, OLD.speaker, OLD.occurred_at, NULL) THEN
    -- The vector speaks of the old text: the memory goes back to the embedders' queue.
    DELETE FROM engram.embeddings e WHERE e.workspace_id = NEW.workspace_id AND e.memory_id = NEW.id;
    DELETE FROM engram.embedding_claims c WHERE c.workspace_id = NEW.workspace_id AND c.memory_id = NEW.id;
  END IF;
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.memories_after_update() OWNER TO postgres;

--
-- Name: FUNCTION memories_after_update(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.memories_after_update() IS 'Trigger: keeps the search index of a changed memory true and drops embeddings of text that is no more.';


--
-- Name: memories_before_write(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.memories_before_write() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  me       uuid    := engram.current_user_id();
  trusted  boolean := NOT row_security_active(TG_RELID);
  longest  integer;
  stepped  boolean;
BEGIN
  IF TG_OP = 'INSERT' THEN
    NEW.workspace_id := coalesce(NEW.workspace_id, me);
    IF NEW.workspace_id IS NULL THEN
      PERFORM engram_internal.refuse_unidentified(trusted);
    ELSIF NOT trusted AND NEW.workspace_id <> ALL (engram.writable_workspaces()) THEN
      PERFORM engram_internal.refuse_workspace(NEW.workspace_id);
    END IF;
    NEW.user_id := coalesce(NEW.user_id, me, NEW.workspace_id);
    IF NOT trusted AND NEW.user_id <> me THEN
      RAISE EXCEPTION 'user_id "%" is not the caller', NEW.user_id
        USING ERRCODE = 'insufficient_privilege', HINT = 'Leave user_id out: it is filled with your own id.';
    END IF;
    IF NEW.id IS NULL THEN
      NEW.id := engram_internal.uuid_v7();
    ELSIF EXISTS (SELECT FROM engram.erasures e WHERE e.workspace_id = NEW.workspace_id AND e.id = NEW.id) THEN
      RAISE EXCEPTION 'memory "%" was erased and cannot be stored again', NEW.id
        USING ERRCODE = 'unique_violation', CONSTRAINT = 'erasures_pkey', TABLE = 'memories', SCHEMA = 'engram',
              HINT = 'Erasure is final for an id. Leave id out to store the content as a new memory.';
    END IF;
    NEW.type := coalesce(NEW.type, 'factual');
    NEW.layer := coalesce(NEW.layer, 'working');
    NEW.pinned := coalesce(NEW.pinned, false);
    NEW.tags := coalesce(NEW.tags, '{}');
    NEW.metadata := coalesce(NEW.metadata, '{}');
    IF trusted THEN
      NEW.version := coalesce(NEW.version, 1);
      NEW.created_at := coalesce(NEW.created_at, now());
      NEW.updated_at := coalesce(NEW.updated_at, NEW.created_at);
    ELSE
      NEW.version := 1;
      NEW.created_at := now();
      NEW.updated_at := now();
      NEW.deleted_at := NULL;
    END IF;
  ELSE
    IF NEW.workspace_id IS DISTINCT FROM OLD.workspace_id OR NEW.id IS DISTINCT FROM OLD.id
       OR NEW.user_id IS DISTINCT FROM OLD.user_id OR NEW.created_at IS DISTINCT FROM OLD.created_at THEN
      RAISE EXCEPTION 'workspace_id, id, user_id and created_at of memory "%" cannot change', OLD.id
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Store a new memory instead; event time goes into occurred_at.';
    END IF;
    -- engram.update() asks for the next version when something beside the row changed.
    stepped := NEW.version = OLD.version + 1;
    NEW.version := OLD.version;
    NEW.updated_at := OLD.updated_at;
    NEW.content_hash := OLD.content_hash;
    IF NEW IS NOT DISTINCT FROM OLD AND stepped IS NOT TRUE THEN
      RETURN NEW;
    END IF;
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
  END IF;

  PERFORM engram_internal.check_memory(coalesce(NEW.type, 'NULL'), coalesce(NEW.layer, 'NULL'), NEW.role, NEW.importance, NEW.tags);
  IF NEW.importance IS NULL THEN
    NEW.importance := (SELECT s.default_importance FROM engram.memory_type_settings s
                       WHERE s.type = NEW.type
                         AND s.workspace_id IN (NEW.workspace_id, '00000000-0000-0000-0000-000000000000')
                       ORDER BY s.workspace_id = NEW.workspace_id DESC LIMIT 1);
    NEW.importance := coalesce(NEW.importance, 0.5);
  END IF;
  NEW.metadata := engram_internal.metadata_object(NEW.metadata);
  IF NOT isfinite(NEW.created_at) THEN
    RAISE EXCEPTION 'created_at is %', NEW.created_at
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave created_at out, or give a moment in time.';
  END IF;
  IF NEW.valid_from > NEW.valid_to THEN
    RAISE EXCEPTION 'valid_from % is after valid_to %', NEW.valid_from, NEW.valid_to
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Swap the two, or leave one of them out.';
  END IF;

  IF TG_OP = 'INSERT' OR NEW.content IS DISTINCT FROM OLD.content THEN
    IF NEW.content IS NULL OR engram_internal.is_blank(NEW.content) THEN
      RAISE EXCEPTION 'content is %', CASE WHEN NEW.content IS NULL THEN 'NULL' ELSE 'empty' END
        USING ERRCODE = 'invalid_parameter_value', HINT = 'A memory needs at least one visible character of content.';
    END IF;
    SELECT coalesce(w.max_content_chars, d.max_content_chars) INTO longest
    FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = NEW.workspace_id
    WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';
    -- A dump holds what was allowed where it was made, and may bring its settings later.
    IF char_length(NEW.content) > longest AND NOT (trusted AND current_setting('check_function_bodies') = 'off') THEN
      RAISE EXCEPTION 'content has % characters, the limit is %', char_length(NEW.content), longest
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Store it in parts, or have an administrator raise max_content_chars in engram.settings.';
    END IF;
    NEW.content_hash := sha256(convert_to(engram_internal.normalize_content(NEW.content), 'UTF8'));
  END IF;
  RETURN NEW;
END
$$;


ALTER FUNCTION engram.memories_before_write() OWNER TO postgres;

--
-- Name: FUNCTION memories_before_write(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.memories_before_write() IS 'Trigger: fills defaults of a memory (id, workspace, author, type, importance, hash, version) and refuses values that no memory may have.';


--
-- Name: readable_workspaces(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.readable_workspaces() RETURNS uuid[]
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  me uuid := engram.current_user_id();
BEGIN
  RETURN CASE WHEN me IS NULL THEN '{}'::uuid[] ELSE ARRAY[me] END;
END
$$;


ALTER FUNCTION engram.readable_workspaces() OWNER TO postgres;

--
-- Name: FUNCTION readable_workspaces(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.readable_workspaces() IS 'The workspaces whose memories the caller may read: the personal workspace, whose id is the caller''s own. Empty without an identity.';


--
-- Name: restore_replaces(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.restore_replaces() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
  keys text;
BEGIN
  SELECT string_agg(format('%1$I = ($1).%1$I', a.attname), ' AND ') INTO STRICT keys
  FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
  WHERE i.indrelid = TG_RELID AND i.indisprimary;
  EXECUTE format('DELETE FROM %s WHERE %s', TG_RELID::regclass, keys) USING NEW;
  RETURN NEW;
END
$_$;


ALTER FUNCTION engram.restore_replaces() OWNER TO postgres;

--
-- Name: FUNCTION restore_replaces(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.restore_replaces() IS 'Trigger: while a dump is loaded, its rows take the place of those that setup() or other triggers already made.';


--
-- Name: writable_workspaces(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.writable_workspaces() RETURNS uuid[]
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  me uuid := engram.current_user_id();
BEGIN
  RETURN CASE WHEN me IS NULL THEN '{}'::uuid[] ELSE ARRAY[me] END;
END
$$;


ALTER FUNCTION engram.writable_workspaces() OWNER TO postgres;

--
-- Name: FUNCTION writable_workspaces(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.writable_workspaces() IS 'The workspaces whose memories the caller may change: the personal workspace, whose id is the caller''s own. Empty without an identity.';


--
-- Name: note(); Type: FUNCTION; Schema: public; Owner: postgres
--

CREATE FUNCTION public.note() RETURNS trigger
    LANGUAGE plpgsql
    AS $$BEGIN RETURN NEW; END$$;


ALTER FUNCTION public.note() OWNER TO postgres;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: embedding_claims; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.embedding_claims (
    workspace_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    model text NOT NULL,
    claimed_until timestamp with time zone NOT NULL
);


ALTER TABLE engram.embedding_claims OWNER TO postgres;

--
-- Name: TABLE embedding_claims; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.embedding_claims IS 'Leases that engram.pending_embeddings() gave to embedders.';


--
-- Name: COLUMN embedding_claims.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embedding_claims.workspace_id IS 'The workspace.';


--
-- Name: COLUMN embedding_claims.memory_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embedding_claims.memory_id IS 'The memory.';


--
-- Name: COLUMN embedding_claims.model; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embedding_claims.model IS 'The model it waits for.';


--
-- Name: COLUMN embedding_claims.claimed_until; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embedding_claims.claimed_until IS 'Until then nobody else is given it.';


--
-- Name: embedding_models; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.embedding_models (
    name text NOT NULL,
    dims integer NOT NULL,
    distance text DEFAULT 'cosine'::text NOT NULL,
    is_default boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT embedding_models_dims_check CHECK (((dims >= 1) AND (dims <= 16000))),
    CONSTRAINT embedding_models_distance_check CHECK ((distance = ANY (ARRAY['cosine'::text, 'inner_product'::text, 'l2'::text]))),
    CONSTRAINT embedding_models_name_check CHECK ((name <> ''::text))
);


ALTER TABLE engram.embedding_models OWNER TO postgres;

--
-- Name: TABLE embedding_models; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.embedding_models IS 'The models whose vectors are stored, for all workspaces. See engram.set_embedding_model().';


--
-- Name: COLUMN embedding_models.name; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embedding_models.name IS 'The name that the embedder goes by.';


--
-- Name: COLUMN embedding_models.dims; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embedding_models.dims IS 'Length of its vectors.';


--
-- Name: COLUMN embedding_models.distance; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embedding_models.distance IS 'cosine, inner_product or l2.';


--
-- Name: COLUMN embedding_models.is_default; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embedding_models.is_default IS 'The model that add() stores for and search() compares with.';


--
-- Name: COLUMN embedding_models.created_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embedding_models.created_at IS 'When it was registered.';


--
-- Name: embeddings; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.embeddings (
    workspace_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    model text NOT NULL,
    embedding public.vector NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (toast_tuple_target='8160');


ALTER TABLE engram.embeddings OWNER TO postgres;

--
-- Name: TABLE embeddings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.embeddings IS 'Vectors of memories, one per model.';


--
-- Name: COLUMN embeddings.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embeddings.workspace_id IS 'The workspace.';


--
-- Name: COLUMN embeddings.memory_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embeddings.memory_id IS 'The memory.';


--
-- Name: COLUMN embeddings.model; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embeddings.model IS 'The model that made the vector.';


--
-- Name: COLUMN embeddings.embedding; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embeddings.embedding IS 'The vector, of the model''s dimensions.';


--
-- Name: COLUMN embeddings.created_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.embeddings.created_at IS 'When it was stored.';


--
-- Name: erasures; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.erasures (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    erased_by uuid,
    erased_at timestamp with time zone DEFAULT now() NOT NULL
);


ALTER TABLE engram.erasures OWNER TO postgres;

--
-- Name: TABLE erasures; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.erasures IS 'Tombstones: ids that were deleted for good and cannot be stored again. Nothing of the content is kept.';


--
-- Name: COLUMN erasures.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.erasures.workspace_id IS 'The workspace.';


--
-- Name: COLUMN erasures.id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.erasures.id IS 'The id that the memory had.';


--
-- Name: COLUMN erasures.erased_by; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.erasures.erased_by IS 'Who deleted it, if identified.';


--
-- Name: COLUMN erasures.erased_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.erasures.erased_at IS 'When.';


--
-- Name: graph_links; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.graph_links (
    workspace_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    relation text NOT NULL,
    node text NOT NULL,
    label text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT graph_links_node_check CHECK ((node <> ''::text)),
    CONSTRAINT graph_links_relation_check CHECK ((relation <> ''::text))
);


ALTER TABLE engram.graph_links OWNER TO postgres;

--
-- Name: TABLE graph_links; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.graph_links IS 'What a memory is linked to: the entities it mentions.';


--
-- Name: COLUMN graph_links.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.workspace_id IS 'The workspace.';


--
-- Name: COLUMN graph_links.memory_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.memory_id IS 'The memory.';


--
-- Name: COLUMN graph_links.relation; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.relation IS 'mentions, for entities.';


--
-- Name: COLUMN graph_links.node; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.node IS 'The name without case and outer punctuation: what it is found by.';


--
-- Name: COLUMN graph_links.label; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.label IS 'The name as it was given.';


--
-- Name: COLUMN graph_links.created_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.created_at IS 'When it was linked.';


--
-- Name: memories; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.memories (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    agent_id text,
    session_id text,
    speaker text,
    role text,
    content text NOT NULL,
    summary text,
    type text NOT NULL,
    importance double precision NOT NULL,
    layer text NOT NULL,
    pinned boolean NOT NULL,
    tags text[] NOT NULL,
    metadata jsonb NOT NULL,
    source text,
    occurred_at timestamp with time zone,
    valid_from timestamp with time zone,
    valid_to timestamp with time zone,
    superseded_by uuid,
    contradicts uuid[],
    expires_at timestamp with time zone,
    deleted_at timestamp with time zone,
    version integer NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    content_hash bytea NOT NULL,
    users_own text DEFAULT 'kept'::text,
    CONSTRAINT memories_content_check CHECK ((content <> ''::text)),
    CONSTRAINT memories_importance_check CHECK (((importance >= (0)::double precision) AND (importance <= (1)::double precision))),
    CONSTRAINT memories_layer_check CHECK ((layer = ANY (ARRAY['working'::text, 'core'::text, 'archive'::text]))),
    CONSTRAINT memories_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT memories_role_check CHECK ((role = ANY (ARRAY['user'::text, 'assistant'::text, 'system'::text, 'tool'::text]))),
    CONSTRAINT memories_type_check CHECK ((type = ANY (ARRAY['factual'::text, 'episodic'::text, 'relational'::text, 'emotional'::text, 'procedural'::text, 'opinion'::text, 'causal'::text]))),
    CONSTRAINT memories_valid_check CHECK ((valid_from <= valid_to)),
    CONSTRAINT memories_version_check CHECK ((version > 0))
);


ALTER TABLE engram.memories OWNER TO postgres;

--
-- Name: TABLE memories; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.memories IS 'What agents remember: one row a memory. Rows belong to a workspace; row level security shows a caller only its own. A plain INSERT with content is enough.';


--
-- Name: COLUMN memories.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.workspace_id IS 'Whose memory this is. A personal workspace has its user''s id. Filled by default; never changes.';


--
-- Name: COLUMN memories.id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.id IS 'Unique in the workspace. A time-ordered UUID by default.';


--
-- Name: COLUMN memories.user_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.user_id IS 'The author.';


--
-- Name: COLUMN memories.agent_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.agent_id IS 'The agent that stored it, as the application names it.';


--
-- Name: COLUMN memories.session_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.session_id IS 'The conversation or run it comes from, as the application names it.';


--
-- Name: COLUMN memories.speaker; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.speaker IS 'Who said it. Part of the indexed text.';


--
-- Name: COLUMN memories.role; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.role IS 'user, assistant, system or tool.';


--
-- Name: COLUMN memories.content; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.content IS 'What is remembered, kept to the byte.';


--
-- Name: COLUMN memories.summary; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.summary IS 'A shorter form. Indexed with the content.';


--
-- Name: COLUMN memories.type; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.type IS 'factual, episodic, relational, emotional, procedural, opinion or causal.';


--
-- Name: COLUMN memories.importance; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.importance IS '0 (trivial) to 1 (vital). By default that of the type.';


--
-- Name: COLUMN memories.layer; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.layer IS 'working, core or archive.';


--
-- Name: COLUMN memories.pinned; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.pinned IS 'Never decays and is never archived.';


--
-- Name: COLUMN memories.tags; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.tags IS 'Words to filter by.';


--
-- Name: COLUMN memories.metadata; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.metadata IS 'A JSON object of the application''s own.';


--
-- Name: COLUMN memories.source; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.source IS 'Where it was learnt, as the application names it.';


--
-- Name: COLUMN memories.occurred_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.occurred_at IS 'When it happened, if known; when it was stored is created_at. Part of the indexed text.';


--
-- Name: COLUMN memories.valid_from; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.valid_from IS 'From when it is true.';


--
-- Name: COLUMN memories.valid_to; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.valid_to IS 'Until when it is true.';


--
-- Name: COLUMN memories.superseded_by; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.superseded_by IS 'The memory that replaces it; then it leaves search and lists.';


--
-- Name: COLUMN memories.contradicts; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.contradicts IS 'Memories that say otherwise.';


--
-- Name: COLUMN memories.expires_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.expires_at IS 'After this it leaves search and lists.';


--
-- Name: COLUMN memories.deleted_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.deleted_at IS 'When it was forgotten; engram.restore() brings it back.';


--
-- Name: COLUMN memories.version; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.version IS 'Counts changes, from 1.';


--
-- Name: COLUMN memories.created_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.created_at IS 'When it was stored.';


--
-- Name: COLUMN memories.updated_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.updated_at IS 'When it was last changed.';


--
-- Name: COLUMN memories.content_hash; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.content_hash IS 'SHA-256 of the content without case and white space, to find duplicates.';


--
-- Name: memory_state; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.memory_state (
    workspace_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    access_count bigint DEFAULT 1 NOT NULL,
    last_accessed_at timestamp with time zone NOT NULL,
    CONSTRAINT memory_state_access_count_check CHECK ((access_count > 0))
)
WITH (fillfactor='75');


ALTER TABLE engram.memory_state OWNER TO postgres;

--
-- Name: TABLE memory_state; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.memory_state IS 'How a memory is used: what changes at every use, apart from memories so that those stay quiet.';


--
-- Name: COLUMN memory_state.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.workspace_id IS 'The workspace.';


--
-- Name: COLUMN memory_state.memory_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.memory_id IS 'The memory.';


--
-- Name: COLUMN memory_state.access_count; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.access_count IS 'Uses so far; storing it is the first.';


--
-- Name: COLUMN memory_state.last_accessed_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.last_accessed_at IS 'The latest use.';


--
-- Name: memory_terms; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.memory_terms (
    workspace_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    length integer NOT NULL,
    terms tsvector NOT NULL,
    keys bigint[] NOT NULL
);


ALTER TABLE engram.memory_terms OWNER TO postgres;

--
-- Name: TABLE memory_terms; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.memory_terms IS 'The words of every memory, for search. Derived from memories by trigger; not for callers.';


--
-- Name: COLUMN memory_terms.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_terms.workspace_id IS 'The workspace.';


--
-- Name: COLUMN memory_terms.memory_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_terms.memory_id IS 'The memory.';


--
-- Name: COLUMN memory_terms.length; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_terms.length IS 'Words in the indexed text, stop words left out.';


--
-- Name: COLUMN memory_terms.terms; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_terms.terms IS 'Lexemes with their positions.';


--
-- Name: COLUMN memory_terms.keys; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_terms.keys IS 'One 64-bit hash of workspace and lexeme per distinct lexeme.';


--
-- Name: memory_type_settings; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.memory_type_settings (
    workspace_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid NOT NULL,
    type text NOT NULL,
    default_importance double precision NOT NULL,
    decay_per_day double precision NOT NULL,
    CONSTRAINT memory_type_settings_decay_check CHECK (((decay_per_day > (0)::double precision) AND (decay_per_day <= (1)::double precision))),
    CONSTRAINT memory_type_settings_importance_check CHECK (((default_importance >= (0)::double precision) AND (default_importance <= (1)::double precision))),
    CONSTRAINT memory_type_settings_type_check CHECK ((type = ANY (ARRAY['factual'::text, 'episodic'::text, 'relational'::text, 'emotional'::text, 'procedural'::text, 'opinion'::text, 'causal'::text])))
);


ALTER TABLE engram.memory_type_settings OWNER TO postgres;

--
-- Name: TABLE memory_type_settings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.memory_type_settings IS 'What differs between types of memory; the all-zero workspace holds the defaults.';


--
-- Name: COLUMN memory_type_settings.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_type_settings.workspace_id IS 'The workspace, or all zeros for the defaults.';


--
-- Name: COLUMN memory_type_settings.type; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_type_settings.type IS 'The type.';


--
-- Name: COLUMN memory_type_settings.default_importance; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_type_settings.default_importance IS 'Importance of a memory that is stored without one, 0 to 1.';


--
-- Name: COLUMN memory_type_settings.decay_per_day; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_type_settings.decay_per_day IS 'How fast a memory of the type fades, above 0, at most 1.';


--
-- Name: settings; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.settings (
    workspace_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid NOT NULL,
    max_content_chars integer,
    near_duplicate_threshold double precision,
    vector_weight double precision,
    bm25_k1 double precision,
    bm25_pivot double precision,
    candidates integer,
    CONSTRAINT settings_bm25_k1_check CHECK (((bm25_k1 >= (0)::double precision) AND (bm25_k1 <= (100)::double precision))),
    CONSTRAINT settings_bm25_pivot_check CHECK (((bm25_pivot > (0)::double precision) AND (bm25_pivot <= (1000000)::double precision))),
    CONSTRAINT settings_candidates_check CHECK (((candidates >= 1) AND (candidates <= 10000))),
    CONSTRAINT settings_defaults_check CHECK (((workspace_id <> '00000000-0000-0000-0000-000000000000'::uuid) OR ((max_content_chars IS NOT NULL) AND (vector_weight IS NOT NULL) AND (bm25_k1 IS NOT NULL) AND (bm25_pivot IS NOT NULL) AND (candidates IS NOT NULL)))),
    CONSTRAINT settings_max_content_chars_check CHECK (((max_content_chars >= 1) AND (max_content_chars <= 10000000))),
    CONSTRAINT settings_near_duplicate_check CHECK (((near_duplicate_threshold > (0)::double precision) AND (near_duplicate_threshold <= (1)::double precision))),
    CONSTRAINT settings_vector_weight_check CHECK (((vector_weight >= (0)::double precision) AND (vector_weight <= (1)::double precision)))
);


ALTER TABLE engram.settings OWNER TO postgres;

--
-- Name: TABLE settings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.settings IS 'Constants of the engine; the all-zero workspace holds the defaults, a NULL in another row inherits them.';


--
-- Name: COLUMN settings.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.workspace_id IS 'The workspace, or all zeros for the defaults.';


--
-- Name: COLUMN settings.max_content_chars; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.max_content_chars IS 'Longest content, in characters.';


--
-- Name: COLUMN settings.near_duplicate_threshold; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.near_duplicate_threshold IS 'Similarity from which a new embedding counts as a duplicate, above 0 to 1; NULL: only equal content does.';


--
-- Name: COLUMN settings.vector_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.vector_weight IS 'Share of the vector lane in a search by text and vector, 0 to 1.';


--
-- Name: COLUMN settings.bm25_k1; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.bm25_k1 IS 'Saturation of term frequency.';


--
-- Name: COLUMN settings.bm25_pivot; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.bm25_pivot IS 'Length in lexemes up to which length does not lower a score.';


--
-- Name: COLUMN settings.candidates; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.candidates IS 'Candidates that each lane of a search contributes; at least twice match_count are taken.';


--
-- Data for Name: embedding_claims; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.embedding_claims (workspace_id, memory_id, model, claimed_until) FROM stdin;
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	01a1fc3c-9a0e-7142-b712-8f30a12b6142	tiny	2026-11-21 03:58:12.467157+00
\.


--
-- Data for Name: embedding_models; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.embedding_models (name, dims, distance, is_default, created_at) FROM stdin;
tiny	3	cosine	t	2026-11-21 03:53:12.383998+00
\.


--
-- Data for Name: embeddings; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.embeddings (workspace_id, memory_id, model, embedding, created_at) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99e9-774d-adf8-09da5d8364b6	tiny	[1,0,0]	2026-11-21 03:53:12.418484+00
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99fb-7108-8458-0b4f862c7651	tiny	[0,1,0]	2026-11-21 03:53:12.439567+00
\.


--
-- Data for Name: erasures; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.erasures (workspace_id, id, erased_by, erased_at) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	018f3a2e-0000-7000-8000-000000000001	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	2026-11-21 03:53:12.45972+00
\.


--
-- Data for Name: graph_links; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.graph_links (workspace_id, memory_id, relation, node, label, created_at) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99e9-774d-adf8-09da5d8364b6	mentions	ann	Ann	2026-11-21 03:53:12.418484+00
\.


--
-- Data for Name: memories; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.memories (workspace_id, id, user_id, agent_id, session_id, speaker, role, content, summary, type, importance, layer, pinned, tags, metadata, source, occurred_at, valid_from, valid_to, superseded_by, contradicts, expires_at, deleted_at, version, created_at, updated_at, content_hash, users_own) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99e9-774d-adf8-09da5d8364b6	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	Ann likes green tea	\N	opinion	0.8	working	f	{drink}	{"project": "x"}	\N	2023-05-08 10:00:00+00	\N	\N	\N	\N	\N	\N	1	2026-11-21 03:53:12.418484+00	2026-11-21 03:53:12.418484+00	\\xa4864622404c508fff75ca98fb4a2cddbe5aac889990320d79cddbe9459a6ed4	kept
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99fb-7108-8458-0b5066162723	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	Quotes ' and 漢字 and 🐈	\N	factual	0.3	working	f	{}	{}	\N	\N	\N	\N	\N	\N	\N	\N	1	2026-11-21 03:53:12.439567+00	2026-11-21 03:53:12.439567+00	\\xe33c8a80ae656c88039af6354569546641521e7c284641e469add8ca1cc60b24	kept
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99fb-7108-8458-0b4f862c7651	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	The cat is called Miso	\N	factual	0.3	working	t	{}	{}	\N	\N	\N	\N	\N	\N	\N	\N	2	2026-11-21 03:53:12.439567+00	2026-11-21 03:53:12.448401+00	\\xa497003476f8add86f842c5fd6401e88b1007310e9182823807c453047bf8396	kept
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99fb-7108-8458-0b4e38b9595d	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	s1	Bob	\N	Bob drives a red car	\N	factual	0.3	working	f	{}	{}	\N	\N	\N	\N	\N	\N	\N	2026-11-21 03:53:12.453858+00	2	2026-11-21 03:53:12.439567+00	2026-11-21 03:53:12.453858+00	\\x9e25f1e436b3b793c05efec7cb08189609e71883464507f3b922b3b8e0348e23	kept
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	01a1fc3c-9a0e-7142-b712-8f30a12b6142	e95cc735-0d91-5e42-b7b7-6f708bea5f3a	\N	\N	\N	\N	Bob keeps this to himself	\N	factual	0.3	working	f	{}	{}	\N	\N	\N	\N	\N	\N	\N	\N	1	2026-11-21 03:53:12.462037+00	2026-11-21 03:53:12.462037+00	\\x38591c4a0af87da7ff87706e4256b08519389d8447addb8996e0efd5a601a5ad	kept
\.


--
-- Data for Name: memory_state; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.memory_state (workspace_id, memory_id, access_count, last_accessed_at) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99e9-774d-adf8-09da5d8364b6	2	2026-11-21 03:53:12.436618+00
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99fb-7108-8458-0b4e38b9595d	1	2026-11-21 03:53:12.439567+00
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99fb-7108-8458-0b4f862c7651	1	2026-11-21 03:53:12.439567+00
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99fb-7108-8458-0b5066162723	1	2026-11-21 03:53:12.439567+00
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	01a1fc3c-9a0e-7142-b712-8f30a12b6142	1	2026-11-21 03:53:12.462037+00
\.


--
-- Data for Name: memory_terms; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.memory_terms (workspace_id, memory_id, length, terms, keys) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99e9-774d-adf8-09da5d8364b6	7	'2023':3 '8':1 'ann':4 'green':6 'like':5 'may':2 'tea':7	{8750159995589017344,2920534173108897841,-8974834481767320798,-3769056730458713890,-510018395844106034,497360417241483475,-847749909297729020}
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99fb-7108-8458-0b4f862c7651	3	'call':4 'cat':2 'miso':5	{-4446587701500261402,2746827030122076313,4400557940224861218}
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fc3c-99fb-7108-8458-0b5066162723	3	'quot':1 '漢字':3 '🐈':5	{8661739698329227175,-7739101549346218964,-314903391169822760}
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	01a1fc3c-9a0e-7142-b712-8f30a12b6142	2	'bob':1 'keep':2	{7840397486351642628,3746407296722544007}
\.


--
-- Data for Name: memory_type_settings; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.memory_type_settings (workspace_id, type, default_importance, decay_per_day) FROM stdin;
00000000-0000-0000-0000-000000000000	factual	0.3	0.03
00000000-0000-0000-0000-000000000000	procedural	0.5	0.01
00000000-0000-0000-0000-000000000000	causal	0.7	0.02
00000000-0000-0000-0000-000000000000	relational	0.6	0.02
00000000-0000-0000-0000-000000000000	episodic	0.4	0.1
00000000-0000-0000-0000-000000000000	emotional	0.9	0.01
00000000-0000-0000-0000-000000000000	opinion	0.3	0.05
\.


--
-- Data for Name: settings; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.settings (workspace_id, max_content_chars, near_duplicate_threshold, vector_weight, bm25_k1, bm25_pivot, candidates) FROM stdin;
00000000-0000-0000-0000-000000000000	200000	\N	0.6	1.2	30	100
\.


--
-- Name: embedding_claims embedding_claims_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.embedding_claims
    ADD CONSTRAINT embedding_claims_pkey PRIMARY KEY (workspace_id, memory_id, model);


--
-- Name: embedding_models embedding_models_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.embedding_models
    ADD CONSTRAINT embedding_models_pkey PRIMARY KEY (name);


--
-- Name: embeddings embeddings_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.embeddings
    ADD CONSTRAINT embeddings_pkey PRIMARY KEY (workspace_id, memory_id, model);


--
-- Name: erasures erasures_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (workspace_id, id);


--
-- Name: graph_links graph_links_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.graph_links
    ADD CONSTRAINT graph_links_pkey PRIMARY KEY (workspace_id, memory_id, relation, node);


--
-- Name: memories memories_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.memories
    ADD CONSTRAINT memories_pkey PRIMARY KEY (workspace_id, id);


--
-- Name: memory_state memory_state_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.memory_state
    ADD CONSTRAINT memory_state_pkey PRIMARY KEY (workspace_id, memory_id);


--
-- Name: memory_terms memory_terms_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.memory_terms
    ADD CONSTRAINT memory_terms_pkey PRIMARY KEY (workspace_id, memory_id);


--
-- Name: memory_type_settings memory_type_settings_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.memory_type_settings
    ADD CONSTRAINT memory_type_settings_pkey PRIMARY KEY (workspace_id, type);


--
-- Name: settings settings_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (workspace_id);


--
-- Name: embedding_claims_model_fkey_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX embedding_claims_model_fkey_idx ON engram.embedding_claims USING btree (model);


--
-- Name: INDEX embedding_claims_model_fkey_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.embedding_claims_model_fkey_idx IS 'Leases of one model.';


--
-- Name: embedding_models_default_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE UNIQUE INDEX embedding_models_default_idx ON engram.embedding_models USING btree (is_default) WHERE is_default;


--
-- Name: INDEX embedding_models_default_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.embedding_models_default_idx IS 'At most one default.';


--
-- Name: embeddings_model_fkey_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX embeddings_model_fkey_idx ON engram.embeddings USING btree (model, workspace_id);


--
-- Name: INDEX embeddings_model_fkey_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.embeddings_model_fkey_idx IS 'Who still uses a model.';


--
-- Name: embeddings_model_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX embeddings_model_idx ON engram.embeddings USING btree (workspace_id, model);


--
-- Name: INDEX embeddings_model_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.embeddings_model_idx IS 'All vectors of one model in a workspace.';


--
-- Name: graph_links_node_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX graph_links_node_idx ON engram.graph_links USING btree (workspace_id, node, memory_id);


--
-- Name: INDEX graph_links_node_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.graph_links_node_idx IS 'Which memories of a workspace mention an entity.';


--
-- Name: memories_content_hash_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX memories_content_hash_idx ON engram.memories USING btree (workspace_id, content_hash);


--
-- Name: INDEX memories_content_hash_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.memories_content_hash_idx IS 'Duplicates.';


--
-- Name: memories_created_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX memories_created_idx ON engram.memories USING btree (workspace_id, created_at DESC, id DESC);


--
-- Name: INDEX memories_created_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.memories_created_idx IS 'Lists, newest first.';


--
-- Name: memories_expires_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX memories_expires_idx ON engram.memories USING btree (workspace_id, expires_at) WHERE (expires_at IS NOT NULL);


--
-- Name: INDEX memories_expires_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.memories_expires_idx IS 'What expires, and when.';


--
-- Name: memory_terms_keys_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX memory_terms_keys_idx ON engram.memory_terms USING gin (keys);


--
-- Name: INDEX memory_terms_keys_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.memory_terms_keys_idx IS 'Which memories of one workspace hold a lexeme.';


--
-- Name: users_own; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX users_own ON engram.memories USING btree (workspace_id, source);


--
-- Name: embeddings embeddings_before_write; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER embeddings_before_write BEFORE INSERT OR UPDATE ON engram.embeddings FOR EACH ROW EXECUTE FUNCTION engram.embeddings_before_write();


--
-- Name: TRIGGER embeddings_before_write ON embeddings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER embeddings_before_write ON engram.embeddings IS 'See engram.embeddings_before_write().';


--
-- Name: memories memories_after_delete; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER memories_after_delete AFTER DELETE ON engram.memories REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_after_delete();


--
-- Name: TRIGGER memories_after_delete ON memories; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER memories_after_delete ON engram.memories IS 'See engram.memories_after_delete().';


--
-- Name: memories memories_after_insert; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER memories_after_insert AFTER INSERT ON engram.memories REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_after_insert();


--
-- Name: TRIGGER memories_after_insert ON memories; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER memories_after_insert ON engram.memories IS 'See engram.memories_after_insert().';


--
-- Name: memories memories_after_update; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER memories_after_update AFTER UPDATE ON engram.memories FOR EACH ROW WHEN (((old.content IS DISTINCT FROM new.content) OR (old.summary IS DISTINCT FROM new.summary) OR (old.speaker IS DISTINCT FROM new.speaker) OR (old.occurred_at IS DISTINCT FROM new.occurred_at) OR ((old.deleted_at IS NULL) <> (new.deleted_at IS NULL)))) EXECUTE FUNCTION engram.memories_after_update();


--
-- Name: TRIGGER memories_after_update ON memories; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER memories_after_update ON engram.memories IS 'See engram.memories_after_update().';


--
-- Name: memories memories_before_write; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER memories_before_write BEFORE INSERT OR UPDATE ON engram.memories FOR EACH ROW EXECUTE FUNCTION engram.memories_before_write();


--
-- Name: TRIGGER memories_before_write ON memories; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER memories_before_write ON engram.memories IS 'See engram.memories_before_write().';


--
-- Name: memory_state memory_state_restore; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER memory_state_restore BEFORE INSERT ON engram.memory_state FOR EACH ROW WHEN ((current_setting('check_function_bodies'::text) = 'off'::text)) EXECUTE FUNCTION engram.restore_replaces();


--
-- Name: TRIGGER memory_state_restore ON memory_state; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER memory_state_restore ON engram.memory_state IS 'See engram.restore_replaces().';


--
-- Name: memory_terms memory_terms_restore; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER memory_terms_restore BEFORE INSERT ON engram.memory_terms FOR EACH ROW WHEN ((current_setting('check_function_bodies'::text) = 'off'::text)) EXECUTE FUNCTION engram.restore_replaces();


--
-- Name: TRIGGER memory_terms_restore ON memory_terms; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER memory_terms_restore ON engram.memory_terms IS 'See engram.restore_replaces().';


--
-- Name: memory_type_settings memory_type_settings_restore; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER memory_type_settings_restore BEFORE INSERT ON engram.memory_type_settings FOR EACH ROW WHEN ((current_setting('check_function_bodies'::text) = 'off'::text)) EXECUTE FUNCTION engram.restore_replaces();


--
-- Name: TRIGGER memory_type_settings_restore ON memory_type_settings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER memory_type_settings_restore ON engram.memory_type_settings IS 'See engram.restore_replaces().';


--
-- Name: settings settings_restore; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER settings_restore BEFORE INSERT ON engram.settings FOR EACH ROW WHEN ((current_setting('check_function_bodies'::text) = 'off'::text)) EXECUTE FUNCTION engram.restore_replaces();


--
-- Name: TRIGGER settings_restore ON settings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER settings_restore ON engram.settings IS 'See engram.restore_replaces().';


--
-- Name: memories users_own; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER users_own AFTER UPDATE ON engram.memories FOR EACH ROW EXECUTE FUNCTION public.note();


--
-- Name: embedding_claims embedding_claims_memory_fkey; Type: FK CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.embedding_claims
    ADD CONSTRAINT embedding_claims_memory_fkey FOREIGN KEY (workspace_id, memory_id) REFERENCES engram.memories(workspace_id, id) ON DELETE CASCADE;


--
-- Name: embedding_claims embedding_claims_model_fkey; Type: FK CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.embedding_claims
    ADD CONSTRAINT embedding_claims_model_fkey FOREIGN KEY (model) REFERENCES engram.embedding_models(name) ON DELETE CASCADE;


--
-- Name: embeddings embeddings_memory_fkey; Type: FK CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.embeddings
    ADD CONSTRAINT embeddings_memory_fkey FOREIGN KEY (workspace_id, memory_id) REFERENCES engram.memories(workspace_id, id) ON DELETE CASCADE;


--
-- Name: embeddings embeddings_model_fkey; Type: FK CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.embeddings
    ADD CONSTRAINT embeddings_model_fkey FOREIGN KEY (model) REFERENCES engram.embedding_models(name);


--
-- Name: graph_links graph_links_memory_fkey; Type: FK CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.graph_links
    ADD CONSTRAINT graph_links_memory_fkey FOREIGN KEY (workspace_id, memory_id) REFERENCES engram.memories(workspace_id, id) ON DELETE CASCADE;


--
-- Name: memory_state memory_state_memory_fkey; Type: FK CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.memory_state
    ADD CONSTRAINT memory_state_memory_fkey FOREIGN KEY (workspace_id, memory_id) REFERENCES engram.memories(workspace_id, id) ON DELETE CASCADE;


--
-- Name: memory_terms memory_terms_memory_fkey; Type: FK CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.memory_terms
    ADD CONSTRAINT memory_terms_memory_fkey FOREIGN KEY (workspace_id, memory_id) REFERENCES engram.memories(workspace_id, id) ON DELETE CASCADE;


--
-- Name: embedding_claims; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.embedding_claims ENABLE ROW LEVEL SECURITY;

--
-- Name: embedding_claims embedding_claims_delete; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY embedding_claims_delete ON engram.embedding_claims FOR DELETE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY embedding_claims_delete ON embedding_claims; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY embedding_claims_delete ON engram.embedding_claims IS 'Deletes only in workspaces that the caller may write.';


--
-- Name: embedding_claims embedding_claims_insert; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY embedding_claims_insert ON engram.embedding_claims FOR INSERT WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY embedding_claims_insert ON embedding_claims; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY embedding_claims_insert ON engram.embedding_claims IS 'New rows only in workspaces that the caller may write.';


--
-- Name: embedding_claims embedding_claims_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY embedding_claims_select ON engram.embedding_claims FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY embedding_claims_select ON embedding_claims; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY embedding_claims_select ON engram.embedding_claims IS 'Rows of workspaces that the caller may read.';


--
-- Name: embedding_claims embedding_claims_update; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY embedding_claims_update ON engram.embedding_claims FOR UPDATE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[]))) WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY embedding_claims_update ON embedding_claims; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY embedding_claims_update ON engram.embedding_claims IS 'Changes only within workspaces that the caller may write.';


--
-- Name: embedding_models; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.embedding_models ENABLE ROW LEVEL SECURITY;

--
-- Name: embedding_models embedding_models_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY embedding_models_select ON engram.embedding_models FOR SELECT USING (true);


--
-- Name: POLICY embedding_models_select ON embedding_models; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY embedding_models_select ON engram.embedding_models IS 'Rows of workspaces that the caller may read.';


--
-- Name: embeddings; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.embeddings ENABLE ROW LEVEL SECURITY;

--
-- Name: embeddings embeddings_delete; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY embeddings_delete ON engram.embeddings FOR DELETE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY embeddings_delete ON embeddings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY embeddings_delete ON engram.embeddings IS 'Deletes only in workspaces that the caller may write.';


--
-- Name: embeddings embeddings_insert; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY embeddings_insert ON engram.embeddings FOR INSERT WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY embeddings_insert ON embeddings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY embeddings_insert ON engram.embeddings IS 'New rows only in workspaces that the caller may write.';


--
-- Name: embeddings embeddings_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY embeddings_select ON engram.embeddings FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY embeddings_select ON embeddings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY embeddings_select ON engram.embeddings IS 'Rows of workspaces that the caller may read.';


--
-- Name: embeddings embeddings_update; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY embeddings_update ON engram.embeddings FOR UPDATE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[]))) WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY embeddings_update ON embeddings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY embeddings_update ON engram.embeddings IS 'Changes only within workspaces that the caller may write.';


--
-- Name: erasures; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.erasures ENABLE ROW LEVEL SECURITY;

--
-- Name: erasures erasures_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY erasures_select ON engram.erasures FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY erasures_select ON erasures; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY erasures_select ON engram.erasures IS 'Rows of workspaces that the caller may read.';


--
-- Name: graph_links; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.graph_links ENABLE ROW LEVEL SECURITY;

--
-- Name: graph_links graph_links_delete; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY graph_links_delete ON engram.graph_links FOR DELETE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY graph_links_delete ON graph_links; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY graph_links_delete ON engram.graph_links IS 'Deletes only in workspaces that the caller may write.';


--
-- Name: graph_links graph_links_insert; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY graph_links_insert ON engram.graph_links FOR INSERT WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY graph_links_insert ON graph_links; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY graph_links_insert ON engram.graph_links IS 'New rows only in workspaces that the caller may write.';


--
-- Name: graph_links graph_links_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY graph_links_select ON engram.graph_links FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY graph_links_select ON graph_links; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY graph_links_select ON engram.graph_links IS 'Rows of workspaces that the caller may read.';


--
-- Name: graph_links graph_links_update; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY graph_links_update ON engram.graph_links FOR UPDATE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[]))) WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY graph_links_update ON graph_links; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY graph_links_update ON engram.graph_links IS 'Changes only within workspaces that the caller may write.';


--
-- Name: memories; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.memories ENABLE ROW LEVEL SECURITY;

--
-- Name: memories memories_delete; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY memories_delete ON engram.memories FOR DELETE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY memories_delete ON memories; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY memories_delete ON engram.memories IS 'Deletes only in workspaces that the caller may write.';


--
-- Name: memories memories_insert; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY memories_insert ON engram.memories FOR INSERT WITH CHECK (((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])) AND (user_id = ( SELECT engram.current_user_id() AS current_user_id))));


--
-- Name: POLICY memories_insert ON memories; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY memories_insert ON engram.memories IS 'New rows only in workspaces that the caller may write.';


--
-- Name: memories memories_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY memories_select ON engram.memories FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY memories_select ON memories; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY memories_select ON engram.memories IS 'Rows of workspaces that the caller may read.';


--
-- Name: memories memories_update; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY memories_update ON engram.memories FOR UPDATE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[]))) WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY memories_update ON memories; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY memories_update ON engram.memories IS 'Changes only within workspaces that the caller may write.';


--
-- Name: memory_state; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.memory_state ENABLE ROW LEVEL SECURITY;

--
-- Name: memory_state memory_state_insert; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY memory_state_insert ON engram.memory_state FOR INSERT WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY memory_state_insert ON memory_state; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY memory_state_insert ON engram.memory_state IS 'New rows only in workspaces that the caller may write.';


--
-- Name: memory_state memory_state_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY memory_state_select ON engram.memory_state FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY memory_state_select ON memory_state; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY memory_state_select ON engram.memory_state IS 'Rows of workspaces that the caller may read.';


--
-- Name: memory_state memory_state_update; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY memory_state_update ON engram.memory_state FOR UPDATE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[]))) WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY memory_state_update ON memory_state; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY memory_state_update ON engram.memory_state IS 'Changes only within workspaces that the caller may write.';


--
-- Name: memory_terms; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.memory_terms ENABLE ROW LEVEL SECURITY;

--
-- Name: memory_terms memory_terms_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY memory_terms_select ON engram.memory_terms FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY memory_terms_select ON memory_terms; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY memory_terms_select ON engram.memory_terms IS 'Rows of workspaces that the caller may read.';


--
-- Name: memory_type_settings; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.memory_type_settings ENABLE ROW LEVEL SECURITY;

--
-- Name: memory_type_settings memory_type_settings_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY memory_type_settings_select ON engram.memory_type_settings FOR SELECT USING (((workspace_id = '00000000-0000-0000-0000-000000000000'::uuid) OR (workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[]))));


--
-- Name: POLICY memory_type_settings_select ON memory_type_settings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY memory_type_settings_select ON engram.memory_type_settings IS 'Rows of workspaces that the caller may read.';


--
-- Name: settings; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.settings ENABLE ROW LEVEL SECURITY;

--
-- Name: settings settings_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY settings_select ON engram.settings FOR SELECT USING (((workspace_id = '00000000-0000-0000-0000-000000000000'::uuid) OR (workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[]))));


--
-- Name: POLICY settings_select ON settings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY settings_select ON engram.settings IS 'Rows of workspaces that the caller may read.';


--
-- Name: memories users_own; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY users_own ON engram.memories AS RESTRICTIVE FOR DELETE USING ((NOT pinned));


--
-- Name: SCHEMA engram; Type: ACL; Schema: -; Owner: postgres
--

GRANT USAGE ON SCHEMA engram TO app;


--
-- Name: FUNCTION add(content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], id uuid, expires_at timestamp with time zone, on_duplicate text, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.add(content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], id uuid, expires_at timestamp with time zone, on_duplicate text, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.add(content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], id uuid, expires_at timestamp with time zone, on_duplicate text, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.add(content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], id uuid, expires_at timestamp with time zone, on_duplicate text, workspace uuid) TO app;


--
-- Name: FUNCTION add_many(items jsonb, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.add_many(items jsonb, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.add_many(items jsonb, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.add_many(items jsonb, workspace uuid) TO app;


--
-- Name: FUNCTION embeddings_before_write(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.embeddings_before_write() FROM PUBLIC;


--
-- Name: FUNCTION erase(ids uuid[], filter jsonb, dry_run boolean, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.erase(ids uuid[], filter jsonb, dry_run boolean, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.erase(ids uuid[], filter jsonb, dry_run boolean, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.erase(ids uuid[], filter jsonb, dry_run boolean, workspace uuid) TO app;


--
-- Name: FUNCTION forget(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.forget(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.forget(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.forget(id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION get(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.get(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.get(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.get(id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION list(filter jsonb, match_count integer, skip integer, cursor text, include text[], workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.list(filter jsonb, match_count integer, skip integer, cursor text, include text[], workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.list(filter jsonb, match_count integer, skip integer, cursor text, include text[], workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.list(filter jsonb, match_count integer, skip integer, cursor text, include text[], workspace uuid) TO app;


--
-- Name: FUNCTION memories_after_delete(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.memories_after_delete() FROM PUBLIC;


--
-- Name: FUNCTION memories_after_insert(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.memories_after_insert() FROM PUBLIC;


--
-- Name: FUNCTION memories_after_update(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.memories_after_update() FROM PUBLIC;


--
-- Name: FUNCTION memories_before_write(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.memories_before_write() FROM PUBLIC;


--
-- Name: FUNCTION pending_embeddings(model text, match_count integer, lease_seconds integer, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.pending_embeddings(model text, match_count integer, lease_seconds integer, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.pending_embeddings(model text, match_count integer, lease_seconds integer, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.pending_embeddings(model text, match_count integer, lease_seconds integer, workspace uuid) TO app;


--
-- Name: FUNCTION pin(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.pin(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.pin(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.pin(id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION reindex(workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.reindex(workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.reindex(workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.reindex(workspace uuid) TO app;


--
-- Name: FUNCTION restore(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.restore(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.restore(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.restore(id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION restore_replaces(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.restore_replaces() FROM PUBLIC;


--
-- Name: FUNCTION search(query_text text, query_embedding public.vector, match_count integer, filter jsonb, types text[], min_score double precision, explain boolean, include text[], model text, at timestamp with time zone, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.search(query_text text, query_embedding public.vector, match_count integer, filter jsonb, types text[], min_score double precision, explain boolean, include text[], model text, at timestamp with time zone, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.search(query_text text, query_embedding public.vector, match_count integer, filter jsonb, types text[], min_score double precision, explain boolean, include text[], model text, at timestamp with time zone, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.search(query_text text, query_embedding public.vector, match_count integer, filter jsonb, types text[], min_score double precision, explain boolean, include text[], model text, at timestamp with time zone, workspace uuid) TO app;


--
-- Name: FUNCTION set_embedding(id uuid, embedding public.vector, model text, expected_version integer, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.set_embedding(id uuid, embedding public.vector, model text, expected_version integer, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.set_embedding(id uuid, embedding public.vector, model text, expected_version integer, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.set_embedding(id uuid, embedding public.vector, model text, expected_version integer, workspace uuid) TO app;


--
-- Name: FUNCTION set_embedding_model(name text, dims integer, make_default boolean, distance text); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.set_embedding_model(name text, dims integer, make_default boolean, distance text) FROM postgres;
GRANT ALL ON FUNCTION engram.set_embedding_model(name text, dims integer, make_default boolean, distance text) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.set_embedding_model(name text, dims integer, make_default boolean, distance text) TO app;


--
-- Name: FUNCTION setup(options jsonb); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.setup(options jsonb) FROM postgres;
GRANT ALL ON FUNCTION engram.setup(options jsonb) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.setup(options jsonb) TO app;


--
-- Name: FUNCTION stats(workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.stats(workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.stats(workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.stats(workspace uuid) TO app;


--
-- Name: FUNCTION unpin(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.unpin(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.unpin(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.unpin(id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION update(id uuid, content text, summary text, type text, importance double precision, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], embedding public.vector, valid_from timestamp with time zone, valid_to timestamp with time zone, expires_at timestamp with time zone, clear text[], expected_version integer, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.update(id uuid, content text, summary text, type text, importance double precision, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], embedding public.vector, valid_from timestamp with time zone, valid_to timestamp with time zone, expires_at timestamp with time zone, clear text[], expected_version integer, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.update(id uuid, content text, summary text, type text, importance double precision, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], embedding public.vector, valid_from timestamp with time zone, valid_to timestamp with time zone, expires_at timestamp with time zone, clear text[], expected_version integer, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.update(id uuid, content text, summary text, type text, importance double precision, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], embedding public.vector, valid_from timestamp with time zone, valid_to timestamp with time zone, expires_at timestamp with time zone, clear text[], expected_version integer, workspace uuid) TO app;


--
-- Name: FUNCTION version(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.version() FROM postgres;
GRANT ALL ON FUNCTION engram.version() TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.version() TO app;


--
-- Name: FUNCTION whoami(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.whoami() FROM postgres;
GRANT ALL ON FUNCTION engram.whoami() TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.whoami() TO app;


--
-- Name: TABLE embedding_claims; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE engram.embedding_claims TO app;


--
-- Name: TABLE embedding_models; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.embedding_models TO app;


--
-- Name: TABLE embeddings; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE engram.embeddings TO app;


--
-- Name: TABLE erasures; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.erasures TO app;


--
-- Name: TABLE graph_links; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE engram.graph_links TO app;


--
-- Name: TABLE memories; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE engram.memories TO app;


--
-- Name: TABLE memory_state; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT,UPDATE ON TABLE engram.memory_state TO app;


--
-- Name: TABLE memory_type_settings; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.memory_type_settings TO app;


--
-- Name: TABLE settings; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.settings TO app;


--
-- PostgreSQL database dump complete
--

\unrestrict fixture

