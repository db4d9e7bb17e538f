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
-- Name: access_queue_after_insert(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.access_queue_after_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  -- Without the extension nothing below may be looked up, least of all with the owner's rights.
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.access_queue'::regclass THEN
    RAISE EXCEPTION 'engram.access_queue_after_insert() serves engram.access_queue, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  -- Not too many, so that the writer who folds is not held up for long.
  IF engram_internal.may_write(NEW.workspace_id)
     AND (SELECT (SELECT count(*) FROM (SELECT FROM engram.access_queue q WHERE q.workspace_id = NEW.workspace_id LIMIT t.threshold) q) >= t.threshold
          FROM (SELECT coalesce(w.fold_threshold, d.fold_threshold) AS threshold
                FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = NEW.workspace_id
                WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000') t) THEN
    PERFORM engram_internal.fold(NEW.workspace_id, 1000);
  END IF;
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.access_queue_after_insert() OWNER TO postgres;

--
-- Name: FUNCTION access_queue_after_insert(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.access_queue_after_insert() IS 'Trigger: folds the uses of a workspace once enough of them wait, when the transaction commits.';


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
-- Name: embedding_models_after_delete(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.embedding_models_after_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.embedding_models'::regclass THEN
    RAISE EXCEPTION 'engram.embedding_models_after_delete() serves engram.embedding_models, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  DELETE FROM engram.search_blocks b WHERE b.model IN (SELECT r.name FROM removed r);
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.embedding_models_after_delete() OWNER TO postgres;

--
-- Name: FUNCTION embedding_models_after_delete(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.embedding_models_after_delete() IS 'Trigger: a model that is dropped takes what search scans of it with it.';


--
-- Name: embeddings_after_delete(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.embeddings_after_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.embeddings'::regclass THEN
    RAISE EXCEPTION 'engram.embeddings_after_delete() serves engram.embeddings, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  PERFORM engram_internal.index_vectors(a.workspace_id, a.model, array_agg(a.memory_id), NULL, 'gone')
  FROM removed a GROUP BY a.workspace_id, a.model;
  -- What is erased leaves the blocks at once, unless somebody else is packing them just now.
  PERFORM engram_internal.pack(b.workspace_id, b.model, true, 1)
  FROM (SELECT DISTINCT a.workspace_id, a.model FROM removed a
        WHERE NOT EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = a.workspace_id AND m.id = a.memory_id)) b;
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.embeddings_after_delete() OWNER TO postgres;

--
-- Name: FUNCTION embeddings_after_delete(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.embeddings_after_delete() IS 'Trigger: takes deleted vectors out of search.';


--
-- Name: embeddings_after_insert(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.embeddings_after_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  -- Without the extension nothing below may be looked up, least of all with the owner's rights.
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.embeddings'::regclass THEN
    RAISE EXCEPTION 'engram.embeddings_after_insert() serves engram.embeddings, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  PERFORM engram_internal.index_vectors(a.workspace_id, a.model, array_agg(a.memory_id), array_agg(a.embedding), 'plain')
  FROM (SELECT x.*, (row_number() OVER (PARTITION BY x.workspace_id, x.model) - 1) / 1000 AS part FROM added x) a
  GROUP BY a.workspace_id, a.model, a.part;
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.embeddings_after_insert() OWNER TO postgres;

--
-- Name: FUNCTION embeddings_after_insert(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.embeddings_after_insert() IS 'Trigger: makes new vectors searchable in the same transaction.';


--
-- Name: embeddings_after_truncate(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.embeddings_after_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.embeddings'::regclass THEN
    RAISE EXCEPTION 'engram.embeddings_after_truncate() serves engram.embeddings, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  DELETE FROM engram.search_blocks WHERE model <> '';
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.embeddings_after_truncate() OWNER TO postgres;

--
-- Name: FUNCTION embeddings_after_truncate(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.embeddings_after_truncate() IS 'Trigger: a table of embeddings that is emptied takes the vectors that search scans with it.';


--
-- Name: embeddings_after_update(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.embeddings_after_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.embeddings'::regclass THEN
    RAISE EXCEPTION 'engram.embeddings_after_update() serves engram.embeddings, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  -- A row that moved to another key leaves the old one.
  PERFORM engram_internal.index_vectors(a.workspace_id, a.model, array_agg(a.memory_id), NULL, 'gone')
  FROM removed a
  WHERE NOT EXISTS (SELECT FROM added n WHERE n.workspace_id = a.workspace_id AND n.memory_id = a.memory_id AND n.model = a.model)
  GROUP BY a.workspace_id, a.model;
  PERFORM engram_internal.index_vectors(a.workspace_id, a.model, array_agg(a.memory_id), array_agg(a.embedding), 'replaces')
  FROM (SELECT x.*, (row_number() OVER (PARTITION BY x.workspace_id, x.model) - 1) / 1000 AS part FROM added x
        WHERE NOT EXISTS (SELECT FROM removed o WHERE o.workspace_id = x.workspace_id AND o.memory_id = x.memory_id
                          AND o.model = x.model AND o.embedding::real[] = x.embedding::real[])) a
  GROUP BY a.workspace_id, a.model, a.part;
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.embeddings_after_update() OWNER TO postgres;

--
-- Name: FUNCTION embeddings_after_update(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.embeddings_after_update() IS 'Trigger: a changed vector takes the place of the old one in search.';


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
DECLARE
  heir record;
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
  -- What is erased leaves the blocks at once, unless somebody else is packing them just now.
  PERFORM engram_internal.index_documents(r.workspace_id, array_agg(engram_internal.document(r.id, r.version + 1, 'gone',
    NULL, NULL, NULL, NULL, NULL, NULL, NULL)), 'replaces')
  FROM removed r GROUP BY r.workspace_id;
  PERFORM engram_internal.pack(b.workspace_id, '', true, 1) FROM (SELECT DISTINCT r.workspace_id FROM removed r) b;
  -- What has no foreign key. Whoever folds uses of a memory holds its state row until this is visible.
  DELETE FROM engram.access_log l USING removed r WHERE l.workspace_id = r.workspace_id AND l.memory_id = r.id;
  DELETE FROM engram.hebbian_links l USING removed r WHERE l.workspace_id = r.workspace_id AND l.a = r.id;
  DELETE FROM engram.hebbian_links l USING removed r WHERE (l.workspace_id = r.workspace_id) IS TRUE AND l.b = r.id;
  UPDATE engram.access_queue q SET memory_ids = ARRAY(
    SELECT u.id FROM unnest(q.memory_ids) WITH ORDINALITY AS u (id, nth) WHERE u.id <> ALL (r.ids) ORDER BY u.nth)
  FROM (SELECT workspace_id, array_agg(id) AS ids FROM removed GROUP BY workspace_id) r
  WHERE q.workspace_id = r.workspace_id AND q.memory_ids && r.ids;
  DELETE FROM engram.access_queue q USING (SELECT DISTINCT workspace_id FROM removed) r
  WHERE q.workspace_id = r.workspace_id AND q.memory_ids = '{}';
  UPDATE engram.recall_credits c SET memory_ids = ARRAY(SELECT u FROM unnest(c.memory_ids) u WHERE u <> ALL (r.ids))
  FROM (SELECT workspace_id, array_agg(id) AS ids FROM removed GROUP BY workspace_id) r
  WHERE c.workspace_id = r.workspace_id AND c.memory_ids && r.ids;
  UPDATE engram.memories m
  SET contradicts = (SELECT array_agg(u ORDER BY u) FROM unnest(m.contradicts) u
                     WHERE NOT EXISTS (SELECT FROM removed r WHERE r.workspace_id = m.workspace_id AND r.id = u)),
      contradicted_by = (SELECT array_agg(u ORDER BY u) FROM unnest(m.contradicted_by) u
                         WHERE NOT EXISTS (SELECT FROM removed r WHERE r.workspace_id = m.workspace_id AND r.id = u))
  FROM (SELECT DISTINCT r.workspace_id, u AS id
        FROM removed r CROSS JOIN LATERAL unnest(coalesce(r.contradicts, '{}') || coalesce(r.contradicted_by, '{}')) u) p
  WHERE m.workspace_id = p.workspace_id AND m.id = p.id;
  -- What the deleted one superseded falls to its successor. Without one it is current again, unless the
  -- deleted one had been forgotten or had expired: then it is forgotten too, and nothing comes back by itself.
  FOR heir IN
    WITH RECURSIVE heirs AS (
      SELECT o.workspace_id, o.id, r.superseded_by,
             coalesce(r.deleted_at, CASE WHEN r.expires_at <= now() THEN r.expires_at END) AS gone_at
      FROM removed r CROSS JOIN LATERAL (
        SELECT m.workspace_id, m.id FROM engram.memories m
        WHERE (m.workspace_id = r.workspace_id) IS TRUE AND m.superseded_by = r.id OFFSET 0) o
      UNION
      SELECT h.workspace_id, h.id, r.superseded_by,
             coalesce(r.deleted_at, CASE WHEN r.expires_at <= now() THEN r.expires_at END)
      FROM heirs h JOIN removed r ON r.workspace_id = h.workspace_id AND r.id = h.superseded_by
    )
    SELECT h.* FROM heirs h
    WHERE NOT EXISTS (SELECT FROM removed r WHERE r.workspace_id = h.workspace_id AND r.id = h.superseded_by)
    ORDER BY h.workspace_id, h.id
  LOOP
    UPDATE engram.memories m
    SET superseded_by = heir.superseded_by,
        deleted_at = coalesce(m.deleted_at, CASE WHEN heir.superseded_by IS NULL THEN heir.gone_at END)
    WHERE m.workspace_id = heir.workspace_id AND m.id = heir.id;
  END LOOP;
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
  -- Who erased the id may have committed after the check before the write, or after the snapshot of
  -- this transaction: then the tombstone, which is not seen, is a conflict that raises 40001.
  IF EXISTS (SELECT FROM added a JOIN engram.erasures e ON e.workspace_id = a.workspace_id AND e.id = a.id) THEN
    RAISE EXCEPTION 'memory "%" was erased and cannot be stored again',
        (SELECT a.id FROM added a JOIN engram.erasures e ON e.workspace_id = a.workspace_id AND e.id = a.id LIMIT 1)
      USING ERRCODE = 'unique_violation', CONSTRAINT = 'erasures_pkey', TABLE = 'memories', SCHEMA = 'engram',
            HINT = 'Erasure is final for an id. Leave id out to store the content as a new memory.';
  END IF;
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    INSERT INTO engram.erasures (workspace_id, id) SELECT workspace_id, id FROM added ON CONFLICT DO NOTHING;
    DELETE FROM engram.erasures e USING added a WHERE e.workspace_id = a.workspace_id AND e.id = a.id;
  END IF;
  -- As long as it will ever be, so that the first use finds room beside it.
  INSERT INTO engram.memory_state (workspace_id, memory_id, last_accessed_at, heat, working_strength, core_strength, layer, base)
  SELECT workspace_id, id, created_at, engram.heat_new(created_at, 1), 1, 0, layer,
         CASE WHEN layer <> 'working' THEN engram_internal.first_base(created_at, layer) END
  FROM added
  ON CONFLICT DO NOTHING;
  PERFORM engram_internal.index_documents(a.workspace_id, array_agg(engram_internal.document(a.id, a.version, 'plain',
    a.session_id, coalesce(a.occurred_at, a.created_at), a.config, a.content, a.speaker, a.occurred_at, a.summary)), 'plain')
  FROM (SELECT x.*, engram_internal.text_config(x.workspace_id) AS config,
               (row_number() OVER (PARTITION BY x.workspace_id ORDER BY x.id) - 1) / 1000 AS part
        FROM added x WHERE x.deleted_at IS NULL) a
  GROUP BY a.workspace_id, a.part;
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.memories_after_insert() OWNER TO postgres;

--
-- Name: FUNCTION memories_after_insert(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.memories_after_insert() IS 'Trigger: gives every new memory its state row and makes it searchable by words in the same transaction.';


--
-- Name: memories_after_truncate(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.memories_after_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.memories'::regclass THEN
    RAISE EXCEPTION 'engram.memories_after_truncate() serves engram.memories, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  TRUNCATE engram.search_blocks, engram.access_log, engram.access_queue, engram.hebbian_links, engram.recall_credits;
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.memories_after_truncate() OWNER TO postgres;

--
-- Name: FUNCTION memories_after_truncate(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.memories_after_truncate() IS 'Trigger: a table of memories that is emptied takes what search scans, the log of uses and the links with it.';


--
-- Name: memories_after_update(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.memories_after_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  -- Without the extension nothing below may be looked up, least of all with the owner's rights.
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.memories'::regclass THEN
    RAISE EXCEPTION 'engram.memories_after_update() serves engram.memories, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  PERFORM engram_internal.index_documents(NEW.workspace_id, ARRAY[engram_internal.document(NEW.id, NEW.version,
    CASE WHEN NEW.deleted_at IS NULL THEN 'replaces' ELSE 'gone' END, NEW.session_id,
    coalesce(NEW.occurred_at, NEW.created_at), engram_internal.text_config(NEW.workspace_id),
    NEW.content, NEW.speaker, NEW.occurred_at, NEW.summary)], 'replaces');
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
  published boolean;
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
    NEW.pinned := coalesce(NEW.pinned, false);
    NEW.layer := CASE WHEN NEW.pinned THEN 'core' ELSE coalesce(NEW.layer, 'working') END;
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
    -- engram.consolidate() shows the layer that time has brought about: nothing was changed.
    published := NEW.updated_at IS NULL;
    NEW.version := OLD.version;
    NEW.updated_at := OLD.updated_at;
    NEW.content_hash := OLD.content_hash;
    IF NEW.pinned THEN
      NEW.layer := 'core';
    END IF;
    IF NEW IS NOT DISTINCT FROM OLD AND stepped IS NOT TRUE THEN
      RETURN NEW;
    END IF;
    IF published THEN
      OLD.layer := NEW.layer;
      IF NEW IS NOT DISTINCT FROM OLD AND stepped IS NOT TRUE THEN
        RETURN NEW;
      END IF;
    END IF;
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    IF NEW.layer <> OLD.layer OR NEW.importance <> OLD.importance OR NEW.type <> OLD.type OR NEW.pinned <> OLD.pinned
       OR (NEW.superseded_by IS NULL) <> (OLD.superseded_by IS NULL)
       OR (coalesce(NEW.contradicted_by, '{}') = '{}') <> (coalesce(OLD.contradicted_by, '{}') = '{}') THEN
      -- Until now the memory lived by the old values.
      PERFORM engram_internal.rebase(OLD.workspace_id, OLD.id, CASE WHEN NEW.layer <> OLD.layer THEN NEW.layer END);
    END IF;
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
-- Name: memory_overview_of(uuid, uuid); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.memory_overview_of(workspace uuid, id uuid) RETURNS TABLE(layer text, activation double precision, retrievability double precision, working_strength double precision, core_strength double precision, strength double precision, stability double precision, difficulty double precision, retention double precision, access_count bigint, last_accessed_at timestamp with time zone)
    LANGUAGE plpgsql STABLE ROWS 1
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT p.layer, engram.heat_level(p.heat, now(), p.decay),
         engram.fsrs_retrievability(p.idle_days, p.stability),
         p.working_strength, p.core_strength,
         engram.trace_strength(greatest(p.working_strength, 0), greatest(p.core_strength, 0)),
         p.stability, p.difficulty, p.retention, p.access_count, p.last_accessed_at
  FROM engram_internal.present(memory_overview_of.workspace, now(), ARRAY[memory_overview_of.id]) p;
END
$$;


ALTER FUNCTION engram.memory_overview_of(workspace uuid, id uuid) OWNER TO postgres;

--
-- Name: FUNCTION memory_overview_of(workspace uuid, id uuid); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.memory_overview_of(workspace uuid, id uuid) IS 'The present state of one memory, as memory_overview shows it.';


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
-- Name: restore_skips(); Type: FUNCTION; Schema: engram; Owner: postgres
--

CREATE FUNCTION engram.restore_skips() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN NULL;
END
$$;


ALTER FUNCTION engram.restore_skips() OWNER TO postgres;

--
-- Name: FUNCTION restore_skips(); Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON FUNCTION engram.restore_skips() IS 'Trigger: while a dump is loaded, leaves out rows that the triggers of other tables have already made anew.';


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

--
-- Name: access_log; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.access_log (
    workspace_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    accessed_at timestamp with time zone NOT NULL,
    id uuid NOT NULL,
    user_id uuid,
    kind text NOT NULL,
    gain double precision NOT NULL,
    rating smallint,
    recall_id uuid,
    place smallint DEFAULT 1 NOT NULL,
    pair_gain double precision DEFAULT 0 NOT NULL
)
PARTITION BY RANGE (accessed_at);


ALTER TABLE engram.access_log OWNER TO postgres;

--
-- Name: TABLE access_log; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.access_log IS 'Every use of every memory, by time. Kept for audit and rebuilding; what has been folded needs it no more.';


--
-- Name: COLUMN access_log.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.workspace_id IS 'The workspace.';


--
-- Name: COLUMN access_log.memory_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.memory_id IS 'The memory.';


--
-- Name: COLUMN access_log.accessed_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.accessed_at IS 'When it was used.';


--
-- Name: COLUMN access_log.id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.id IS 'The call; the same for all memories that were used in it.';


--
-- Name: COLUMN access_log.user_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.user_id IS 'Who used it.';


--
-- Name: COLUMN access_log.kind; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.kind IS 'shown, used, rated, reinforced or stored (said again).';


--
-- Name: COLUMN access_log.gain; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.gain IS 'How much it counts; 1 is one use. Below 0: credit taken back.';


--
-- Name: COLUMN access_log.rating; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.rating IS 'FSRS rating: 1 again, 2 hard, 3 good, 4 easy.';


--
-- Name: COLUMN access_log.recall_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.recall_id IS 'The recall that it answers.';


--
-- Name: COLUMN access_log.place; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.place IS 'Place among the memories of the call, from 1.';


--
-- Name: COLUMN access_log.pair_gain; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_log.pair_gain IS 'What each of its links got by this call; 0 when it made none.';


SET default_table_access_method = heap;

--
-- Name: access_log_default; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.access_log_default (
    workspace_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    accessed_at timestamp with time zone NOT NULL,
    id uuid NOT NULL,
    user_id uuid,
    kind text NOT NULL,
    gain double precision NOT NULL,
    rating smallint,
    recall_id uuid,
    place smallint DEFAULT 1 NOT NULL,
    pair_gain double precision DEFAULT 0 NOT NULL
);


ALTER TABLE engram.access_log_default OWNER TO postgres;

--
-- Name: TABLE access_log_default; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.access_log_default IS 'Uses of times that no other partition covers.';


--
-- Name: access_queue; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.access_queue (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    accessed_at timestamp with time zone NOT NULL,
    user_id uuid,
    kind text NOT NULL,
    gain double precision NOT NULL,
    rating smallint,
    recall_id uuid,
    memory_ids uuid[] NOT NULL,
    CONSTRAINT access_queue_accessed_at_check CHECK (isfinite(accessed_at)),
    CONSTRAINT access_queue_gain_check CHECK (((gain >= ('-1'::integer)::double precision) AND (gain <= (100)::double precision))),
    CONSTRAINT access_queue_kind_check CHECK ((kind = ANY (ARRAY['shown'::text, 'used'::text, 'rated'::text, 'reinforced'::text, 'stored'::text]))),
    CONSTRAINT access_queue_memory_ids_check CHECK (((array_ndims(memory_ids) = 1) AND (cardinality(memory_ids) <= 1000) AND (array_position(memory_ids, NULL::uuid) IS NULL))),
    CONSTRAINT access_queue_rating_check CHECK (((rating >= 1) AND (rating <= 4)))
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');


ALTER TABLE engram.access_queue OWNER TO postgres;

--
-- Name: TABLE access_queue; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.access_queue IS 'Uses that have happened and wait to be folded into memory_state, access_log and hebbian_links; readers count them in.';


--
-- Name: COLUMN access_queue.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_queue.workspace_id IS 'The workspace.';


--
-- Name: COLUMN access_queue.id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_queue.id IS 'A time-ordered UUID.';


--
-- Name: COLUMN access_queue.accessed_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_queue.accessed_at IS 'When they were used.';


--
-- Name: COLUMN access_queue.user_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_queue.user_id IS 'Who used them.';


--
-- Name: COLUMN access_queue.kind; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_queue.kind IS 'shown, used, rated, reinforced or stored (said again).';


--
-- Name: COLUMN access_queue.gain; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_queue.gain IS 'How much it counts; 1 is one use. Below 0: credit taken back.';


--
-- Name: COLUMN access_queue.rating; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_queue.rating IS 'FSRS rating: 1 again, 2 hard, 3 good, 4 easy.';


--
-- Name: COLUMN access_queue.recall_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_queue.recall_id IS 'The recall that they answer.';


--
-- Name: COLUMN access_queue.memory_ids; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.access_queue.memory_ids IS 'The memories, in order of use.';


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
-- Name: entity_aliases; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.entity_aliases (
    workspace_id uuid NOT NULL,
    alias text NOT NULL,
    node text NOT NULL,
    label text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT entity_aliases_alias_check CHECK ((alias <> ''::text)),
    CONSTRAINT entity_aliases_node_check CHECK (((node <> ''::text) AND (node <> alias)))
);


ALTER TABLE engram.entity_aliases OWNER TO postgres;

--
-- Name: TABLE entity_aliases; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.entity_aliases IS 'Other names of entities in a workspace.';


--
-- Name: COLUMN entity_aliases.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.entity_aliases.workspace_id IS 'The workspace.';


--
-- Name: COLUMN entity_aliases.alias; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.entity_aliases.alias IS 'The other name, without case and outer punctuation.';


--
-- Name: COLUMN entity_aliases.node; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.entity_aliases.node IS 'The entity that is meant, as in graph_links.node.';


--
-- Name: COLUMN entity_aliases.label; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.entity_aliases.label IS 'The other name as it was given.';


--
-- Name: COLUMN entity_aliases.created_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.entity_aliases.created_at IS 'When it was declared.';


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
    target_id uuid,
    weight double precision DEFAULT 1 NOT NULL,
    CONSTRAINT graph_links_node_check CHECK ((node <> ''::text)),
    CONSTRAINT graph_links_relation_check CHECK ((relation <> ''::text)),
    CONSTRAINT graph_links_weight_check CHECK (((weight > (0)::double precision) AND (weight <= (1)::double precision)))
);


ALTER TABLE engram.graph_links OWNER TO postgres;

--
-- Name: TABLE graph_links; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.graph_links IS 'What a memory is linked to: the entities it mentions, and other memories.';


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

COMMENT ON COLUMN engram.graph_links.relation IS 'mentions, for entities; else as the application names it.';


--
-- Name: COLUMN graph_links.node; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.node IS 'The name without case and outer punctuation: what it is found by. Of a memory, its id.';


--
-- Name: COLUMN graph_links.label; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.label IS 'The name as it was given.';


--
-- Name: COLUMN graph_links.created_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.created_at IS 'When it was linked.';


--
-- Name: COLUMN graph_links.target_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.target_id IS 'The memory that is linked to; NULL for an entity.';


--
-- Name: COLUMN graph_links.weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.graph_links.weight IS 'How strong the link is, above 0, at most 1.';


--
-- Name: hebbian_links; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.hebbian_links (
    workspace_id uuid NOT NULL,
    a uuid NOT NULL,
    b uuid NOT NULL,
    forward double precision NOT NULL,
    backward double precision NOT NULL,
    linked_at timestamp with time zone NOT NULL,
    count integer NOT NULL,
    CONSTRAINT hebbian_links_mass_check CHECK (((forward >= (0)::double precision) AND (backward >= (0)::double precision) AND (count > 0))),
    CONSTRAINT hebbian_links_order_check CHECK ((a < b))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.05');


ALTER TABLE engram.hebbian_links OWNER TO postgres;

--
-- Name: TABLE hebbian_links; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.hebbian_links IS 'Memories that were used together: one row a pair. See engram.related() and the link_ functions.';


--
-- Name: COLUMN hebbian_links.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.hebbian_links.workspace_id IS 'The workspace.';


--
-- Name: COLUMN hebbian_links.a; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.hebbian_links.a IS 'The memory with the lower id.';


--
-- Name: COLUMN hebbian_links.b; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.hebbian_links.b IS 'The memory with the higher id.';


--
-- Name: COLUMN hebbian_links.forward; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.hebbian_links.forward IS 'Mass of calls that used a before b, as of linked_at.';


--
-- Name: COLUMN hebbian_links.backward; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.hebbian_links.backward IS 'Mass of calls that used b before a, as of linked_at.';


--
-- Name: COLUMN hebbian_links.linked_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.hebbian_links.linked_at IS 'The latest call.';


--
-- Name: COLUMN hebbian_links.count; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.hebbian_links.count IS 'Calls so far.';


--
-- Name: maintenance; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.maintenance (
    workspace_id uuid NOT NULL,
    folded_at timestamp with time zone,
    consolidated_at timestamp with time zone
);


ALTER TABLE engram.maintenance OWNER TO postgres;

--
-- Name: TABLE maintenance; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.maintenance IS 'When a workspace was last folded and consolidated. Whoever folds locks its row.';


--
-- Name: COLUMN maintenance.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.maintenance.workspace_id IS 'The workspace.';


--
-- Name: COLUMN maintenance.folded_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.maintenance.folded_at IS 'When waiting uses were last folded.';


--
-- Name: COLUMN maintenance.consolidated_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.maintenance.consolidated_at IS 'The latest moment that consolidate() was run for.';


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
    contradicted_by uuid[],
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

COMMENT ON COLUMN engram.memories.layer IS 'working, core or archive, as of the last engram.consolidate(); get(), list() and memory_overview compute the present one.';


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
-- Name: COLUMN memories.contradicted_by; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memories.contradicted_by IS 'Memories that claim to contradict it; while there are any it ranks lower and does not consolidate.';


--
-- Name: memory_overview; Type: VIEW; Schema: engram; Owner: postgres
--

CREATE VIEW engram.memory_overview WITH (security_invoker='true') AS
 SELECT m.workspace_id,
    m.id,
    m.content,
    m.summary,
    m.type,
    p.layer,
    m.importance,
    m.pinned,
    m.tags,
    m.source,
    p.activation,
    p.retrievability,
    p.working_strength,
    p.core_strength,
    p.strength,
    p.stability,
    p.difficulty,
    p.retention,
    p.access_count,
    p.last_accessed_at,
    m.superseded_by,
    m.contradicts,
    m.contradicted_by,
    m.created_at,
    m.updated_at
   FROM (engram.memories m
     CROSS JOIN LATERAL engram.memory_overview_of(m.workspace_id, m.id) p(layer, activation, retrievability, working_strength, core_strength, strength, stability, difficulty, retention, access_count, last_accessed_at))
  WHERE (m.deleted_at IS NULL);


ALTER VIEW engram.memory_overview OWNER TO postgres;

--
-- Name: VIEW memory_overview; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON VIEW engram.memory_overview IS 'Every memory that is not forgotten, with its present activation, strengths and retrievability; the caller sees its own.';


--
-- Name: COLUMN memory_overview.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.workspace_id IS 'The workspace.';


--
-- Name: COLUMN memory_overview.id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.id IS 'The memory.';


--
-- Name: COLUMN memory_overview.content; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.content IS 'What is remembered.';


--
-- Name: COLUMN memory_overview.summary; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.summary IS 'A shorter form.';


--
-- Name: COLUMN memory_overview.type; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.type IS 'The type.';


--
-- Name: COLUMN memory_overview.layer; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.layer IS 'The layer at this moment.';


--
-- Name: COLUMN memory_overview.importance; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.importance IS '0 to 1.';


--
-- Name: COLUMN memory_overview.pinned; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.pinned IS 'Never decays and is never archived.';


--
-- Name: COLUMN memory_overview.tags; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.tags IS 'Words to filter by.';


--
-- Name: COLUMN memory_overview.source; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.source IS 'Where it was learnt.';


--
-- Name: COLUMN memory_overview.activation; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.activation IS 'Base-level activation in nats; see engram.activation().';


--
-- Name: COLUMN memory_overview.retrievability; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.retrievability IS 'FSRS-6: probability that it still holds, 0 to 1.';


--
-- Name: COLUMN memory_overview.working_strength; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.working_strength IS 'r1 of the two-store model.';


--
-- Name: COLUMN memory_overview.core_strength; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.core_strength IS 'r2 of the two-store model.';


--
-- Name: COLUMN memory_overview.strength; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.strength IS '1 - e^-(r1 + r2).';


--
-- Name: COLUMN memory_overview.stability; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.stability IS 'Days until retrievability falls to 0.9.';


--
-- Name: COLUMN memory_overview.difficulty; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.difficulty IS '1 to 10.';


--
-- Name: COLUMN memory_overview.retention; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.retention IS 'What forgetting asks; see engram.retention().';


--
-- Name: COLUMN memory_overview.access_count; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.access_count IS 'Uses so far; storing it is the first.';


--
-- Name: COLUMN memory_overview.last_accessed_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.last_accessed_at IS 'The latest use.';


--
-- Name: COLUMN memory_overview.superseded_by; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.superseded_by IS 'The memory that replaces it.';


--
-- Name: COLUMN memory_overview.contradicts; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.contradicts IS 'Memories that it contradicts.';


--
-- Name: COLUMN memory_overview.contradicted_by; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.contradicted_by IS 'Memories that contradict it.';


--
-- Name: COLUMN memory_overview.created_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.created_at IS 'When it was stored.';


--
-- Name: COLUMN memory_overview.updated_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_overview.updated_at IS 'When it was last changed.';


--
-- Name: memory_state; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.memory_state (
    workspace_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    access_count bigint DEFAULT 1 NOT NULL,
    last_accessed_at timestamp with time zone NOT NULL,
    heat bytea,
    working_strength double precision,
    core_strength double precision,
    layer text,
    stability double precision,
    difficulty double precision,
    base jsonb,
    CONSTRAINT memory_state_access_count_check CHECK ((access_count > 0)),
    CONSTRAINT memory_state_heat_check CHECK ((octet_length(heat) = 80)),
    CONSTRAINT memory_state_layer_check CHECK ((layer = ANY (ARRAY['working'::text, 'core'::text, 'archive'::text])))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05');


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
-- Name: COLUMN memory_state.heat; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.heat IS 'Sixteen decayed counters of the uses and the moment all of this is true of; see engram.heat_level(). NULL: one use, at last_accessed_at.';


--
-- Name: COLUMN memory_state.working_strength; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.working_strength IS 'Strength of the working store at the moment in heat. NULL: 1.';


--
-- Name: COLUMN memory_state.core_strength; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.core_strength IS 'Strength of the core store at the moment in heat. NULL: 0.';


--
-- Name: COLUMN memory_state.layer; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.layer IS 'The layer at the moment in heat. NULL: that of the memory.';


--
-- Name: COLUMN memory_state.stability; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.stability IS 'FSRS stability at the latest use, days. NULL: the inverse of the type''s decay_per_day.';


--
-- Name: COLUMN memory_state.difficulty; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.difficulty IS 'FSRS difficulty, 1 to 10. NULL: that of a first rating of 3.';


--
-- Name: COLUMN memory_state.base; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.memory_state.base IS 'The state when importance, type, pin or truth last changed, from which late uses are replayed.';


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
-- Name: recall_credits; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.recall_credits (
    workspace_id uuid NOT NULL,
    recall_id uuid NOT NULL,
    memory_ids uuid[] NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);


ALTER TABLE engram.recall_credits OWNER TO postgres;

--
-- Name: TABLE recall_credits; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.recall_credits IS 'Which memories of a recall were credited, so that a repeated call changes nothing.';


--
-- Name: COLUMN recall_credits.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.recall_credits.workspace_id IS 'The workspace.';


--
-- Name: COLUMN recall_credits.recall_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.recall_credits.recall_id IS 'The recall.';


--
-- Name: COLUMN recall_credits.memory_ids; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.recall_credits.memory_ids IS 'Memories that were credited.';


--
-- Name: COLUMN recall_credits.created_at; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.recall_credits.created_at IS 'When the first was; consolidate() drops the row 90 days later.';


--
-- Name: search_blocks; Type: TABLE; Schema: engram; Owner: postgres
--

CREATE TABLE engram.search_blocks (
    workspace_id uuid NOT NULL,
    model text NOT NULL COLLATE pg_catalog."C",
    level smallint NOT NULL,
    cluster integer DEFAULT 0 NOT NULL,
    block_id uuid NOT NULL,
    entries integer NOT NULL,
    block bytea NOT NULL,
    CONSTRAINT search_blocks_level_check CHECK (((level >= 0) AND (level <= 4)))
)
WITH (toast_tuple_target='8160', autovacuum_vacuum_scale_factor='0.05');
ALTER TABLE ONLY engram.search_blocks ALTER COLUMN block SET STORAGE EXTERNAL;


ALTER TABLE engram.search_blocks OWNER TO postgres;

--
-- Name: TABLE search_blocks; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TABLE engram.search_blocks IS 'Words and quantised vectors of memories, many to a row, as search scans them. Derived by trigger; not for callers. engram.reindex() makes it anew.';


--
-- Name: COLUMN search_blocks.workspace_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.search_blocks.workspace_id IS 'The workspace.';


--
-- Name: COLUMN search_blocks.model; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.search_blocks.model IS 'The embedding model whose vectors it holds; empty for words.';


--
-- Name: COLUMN search_blocks.level; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.search_blocks.level IS '0 entries that replace older ones, 1 a few entries, 2 a full block, 3 a full block of a cluster, 4 centres of clusters.';


--
-- Name: COLUMN search_blocks.cluster; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.search_blocks.cluster IS 'The cluster of a block of level 3, else 0.';


--
-- Name: COLUMN search_blocks.block_id; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.search_blocks.block_id IS 'A time-ordered UUID.';


--
-- Name: COLUMN search_blocks.entries; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.search_blocks.entries IS 'Entries in the block.';


--
-- Name: COLUMN search_blocks.block; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.search_blocks.block IS 'The entries, in the library''s format.';


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
    text_config text,
    coverage_weight double precision,
    context_weight double precision,
    lend_weight double precision,
    speaker_weight double precision,
    date_weight double precision,
    question_weight double precision,
    length_weight double precision,
    activation_weight double precision,
    importance_weight double precision,
    preset text,
    decay double precision,
    mu1 double precision,
    mu2 double precision,
    alpha double precision,
    promote double precision,
    demote double precision,
    archive double precision,
    strength_gain double precision,
    shown_gain double precision,
    fold_threshold integer,
    forgetting boolean,
    forget_threshold double precision,
    forget_after_days double precision,
    link_half_life_days double precision,
    link_members integer,
    link_threshold integer,
    link_prune double precision,
    link_limit integer,
    link_weight double precision,
    contradiction_weight double precision,
    CONSTRAINT settings_activation_weight_check CHECK (((activation_weight >= (0)::double precision) AND (activation_weight <= (1)::double precision))),
    CONSTRAINT settings_alpha_check CHECK (((alpha >= (0)::double precision) AND (alpha <= (100)::double precision))),
    CONSTRAINT settings_archive_check CHECK (((archive > (0)::double precision) AND (archive <= (100)::double precision))),
    CONSTRAINT settings_bm25_k1_check CHECK (((bm25_k1 >= (0)::double precision) AND (bm25_k1 <= (100)::double precision))),
    CONSTRAINT settings_bm25_pivot_check CHECK (((bm25_pivot > (0)::double precision) AND (bm25_pivot <= (1000000)::double precision))),
    CONSTRAINT settings_candidates_check CHECK (((candidates >= 1) AND (candidates <= 10000))),
    CONSTRAINT settings_context_weight_check CHECK (((context_weight >= (0)::double precision) AND (context_weight <= (1)::double precision))),
    CONSTRAINT settings_contradiction_weight_check CHECK (((contradiction_weight >= (0)::double precision) AND (contradiction_weight <= (1)::double precision))),
    CONSTRAINT settings_coverage_weight_check CHECK (((coverage_weight >= (0)::double precision) AND (coverage_weight <= (1)::double precision))),
    CONSTRAINT settings_date_weight_check CHECK (((date_weight >= (0)::double precision) AND (date_weight <= (1)::double precision))),
    CONSTRAINT settings_decay_check CHECK (((decay >= (0.1)::double precision) AND (decay <= (0.95)::double precision))),
    CONSTRAINT settings_defaults_check CHECK (((workspace_id <> '00000000-0000-0000-0000-000000000000'::uuid) OR ((max_content_chars IS NOT NULL) AND (vector_weight IS NOT NULL) AND (bm25_k1 IS NOT NULL) AND (bm25_pivot IS NOT NULL) AND (candidates IS NOT NULL)))),
    CONSTRAINT settings_demote_check CHECK (((demote > (0)::double precision) AND (demote <= (100)::double precision))),
    CONSTRAINT settings_fold_threshold_check CHECK (((fold_threshold >= 1) AND (fold_threshold <= 100000))),
    CONSTRAINT settings_forget_after_days_check CHECK (((forget_after_days >= (0)::double precision) AND (forget_after_days <= (100000)::double precision))),
    CONSTRAINT settings_forget_threshold_check CHECK (((forget_threshold >= (0)::double precision) AND (forget_threshold <= (1)::double precision))),
    CONSTRAINT settings_importance_weight_check CHECK (((importance_weight >= (0)::double precision) AND (importance_weight <= (1)::double precision))),
    CONSTRAINT settings_layers_check CHECK (((promote >= demote) AND (promote >= archive))),
    CONSTRAINT settings_lend_weight_check CHECK (((lend_weight >= (0)::double precision) AND (lend_weight <= (1)::double precision))),
    CONSTRAINT settings_length_weight_check CHECK (((length_weight >= (0)::double precision) AND (length_weight <= (1)::double precision))),
    CONSTRAINT settings_link_half_life_check CHECK (((link_half_life_days > (0)::double precision) AND (link_half_life_days <= (100000)::double precision))),
    CONSTRAINT settings_link_limit_check CHECK (((link_limit >= 1) AND (link_limit <= 1000))),
    CONSTRAINT settings_link_members_check CHECK (((link_members >= 0) AND (link_members <= 50))),
    CONSTRAINT settings_link_prune_check CHECK (((link_prune >= (0)::double precision) AND (link_prune <= (1)::double precision))),
    CONSTRAINT settings_link_threshold_check CHECK (((link_threshold >= 1) AND (link_threshold <= 1000000))),
    CONSTRAINT settings_link_weight_check CHECK (((link_weight >= (0)::double precision) AND (link_weight <= (1)::double precision))),
    CONSTRAINT settings_max_content_chars_check CHECK (((max_content_chars >= 1) AND (max_content_chars <= 10000000))),
    CONSTRAINT settings_mu1_check CHECK (((mu1 > (0)::double precision) AND (mu1 <= (100)::double precision))),
    CONSTRAINT settings_mu2_check CHECK (((mu2 > (0)::double precision) AND (mu2 <= (100)::double precision))),
    CONSTRAINT settings_near_duplicate_check CHECK (((near_duplicate_threshold > (0)::double precision) AND (near_duplicate_threshold <= (1)::double precision))),
    CONSTRAINT settings_promote_check CHECK (((promote > (0)::double precision) AND (promote <= (100)::double precision))),
    CONSTRAINT settings_question_weight_check CHECK (((question_weight >= (0)::double precision) AND (question_weight <= (1)::double precision))),
    CONSTRAINT settings_shown_gain_check CHECK (((shown_gain >= (0)::double precision) AND (shown_gain <= (1)::double precision))),
    CONSTRAINT settings_speaker_weight_check CHECK (((speaker_weight >= (0)::double precision) AND (speaker_weight <= (1)::double precision))),
    CONSTRAINT settings_strength_gain_check CHECK (((strength_gain >= (0)::double precision) AND (strength_gain <= (10)::double precision))),
    CONSTRAINT settings_text_config_check CHECK (((text_config IS NULL) OR ((text_config)::regconfig IS NOT NULL))),
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
-- Name: COLUMN settings.text_config; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.text_config IS 'The text search configuration of the workspace, for example pg_catalog.german, or pg_catalog.simple for code and names. After a change run engram.reindex(workspace).';


--
-- Name: COLUMN settings.coverage_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.coverage_weight IS 'How much of a word score depends on the share of the question that it covers, 0 to 1; by default 0.5.';


--
-- Name: COLUMN settings.context_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.context_weight IS 'Share of its neighbours'' scores in the session that a memory takes, 0 to 1; by default 0.2.';


--
-- Name: COLUMN settings.lend_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.lend_weight IS 'Part of the gap to a better neighbour in the session that is lent, 0 to 1; by default 0.4.';


--
-- Name: COLUMN settings.speaker_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.speaker_weight IS 'Bonus in ranking for memories of the speaker whom the question names, 0 to 1; by default 0.1.';


--
-- Name: COLUMN settings.date_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.date_weight IS 'Bonus in ranking for the date that the question names, 0 to 1; by default 0.2.';


--
-- Name: COLUMN settings.question_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.question_weight IS 'Malus in ranking of memories that are short questions themselves, 0 to 1; by default 0.1.';


--
-- Name: COLUMN settings.length_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.length_weight IS 'Bonus in ranking for length, full from 20 words, 0 to 1; by default 0.1.';


--
-- Name: COLUMN settings.activation_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.activation_weight IS 'Bonus in ranking for memories that were used, by how often and how lately, 0 to 1; by default 0.1.';


--
-- Name: COLUMN settings.importance_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.importance_weight IS 'Weight in ranking of importance, from half of it taken off to half of it added, 0 to 1; by default 0.05.';


--
-- Name: COLUMN settings.preset; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.preset IS 'The preset that apply_preset() applied last.';


--
-- Name: COLUMN settings.decay; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.decay IS 'Decay d of base-level activation, 0.1 to 0.95; by default 0.5.';


--
-- Name: COLUMN settings.mu1; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.mu1 IS 'Decline of the working store per day, of an episodic memory; other types'' are scaled by decay_per_day / 0.1. By default 0.15.';


--
-- Name: COLUMN settings.mu2; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.mu2 IS 'Decline of the core store per day; by default 0.005.';


--
-- Name: COLUMN settings.alpha; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.alpha IS 'Transfer from the working to the core store per day, times (0.2 + importance squared); by default 0.08.';


--
-- Name: COLUMN settings.promote; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.promote IS 'Core strength from which a memory belongs to the core layer; by default 0.25. At least demote and archive.';


--
-- Name: COLUMN settings.demote; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.demote IS 'Sum of the strengths below which a memory leaves the core layer; by default 0.05.';


--
-- Name: COLUMN settings.archive; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.archive IS 'Strength below which, in both stores, a working memory is archived; by default 0.15.';


--
-- Name: COLUMN settings.strength_gain; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.strength_gain IS 'What one use adds to the working strength; by default 0.15.';


--
-- Name: COLUMN settings.shown_gain; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.shown_gain IS 'How much of a use it is to be returned by recall(), 0 to 1; by default 0: only what is used is credited.';


--
-- Name: COLUMN settings.fold_threshold; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.fold_threshold IS 'Waiting calls of a workspace from which one of its writers folds them; by default 128.';


--
-- Name: COLUMN settings.forgetting; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.forgetting IS 'Whether consolidate() forgets; by default false.';


--
-- Name: COLUMN settings.forget_threshold; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.forget_threshold IS 'Retention below which an archived memory may be forgotten, 0 to 1; by default 0.01.';


--
-- Name: COLUMN settings.forget_after_days; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.forget_after_days IS 'Days without use before a memory may be forgotten; by default 30.';


--
-- Name: COLUMN settings.link_half_life_days; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.link_half_life_days IS 'Half-life of links between memories that were used together, days; by default 30.';


--
-- Name: COLUMN settings.link_members; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.link_members IS 'How many of the first memories of a call are linked with each other; by default 6.';


--
-- Name: COLUMN settings.link_threshold; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.link_threshold IS 'Calls that a pair needs before search and related() follow its link; by default 3.';


--
-- Name: COLUMN settings.link_prune; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.link_prune IS 'Mass below which a link is gone, 0 to 1; by default 0.02.';


--
-- Name: COLUMN settings.link_limit; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.link_limit IS 'Links that are kept of one memory, the strongest; by default 32.';


--
-- Name: COLUMN settings.link_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.link_weight IS 'Most that links to the best hits add to a score, 0 to 1; by default 0.2. 0 switches it off.';


--
-- Name: COLUMN settings.contradiction_weight; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON COLUMN engram.settings.contradiction_weight IS 'What a contradicted memory loses in ranking, 0 to 1; by default 0.3.';


--
-- Name: access_log_default; Type: TABLE ATTACH; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.access_log ATTACH PARTITION engram.access_log_default DEFAULT;


--
-- Data for Name: access_log_default; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.access_log_default (workspace_id, memory_id, accessed_at, id, user_id, kind, gain, rating, recall_id, place, pair_gain) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	2026-11-01 17:02:03.355788+00	01a1ff0e-d06d-74af-84f6-440262aba93c	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	1	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	2026-11-06 17:02:03.355788+00	01a1ff0e-d06c-755e-96d9-1d131cb46346	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	1	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	2026-11-11 17:02:03.355788+00	01a1ff0e-d06c-755e-96d9-1d12e3ba5630	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	1	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	2026-11-16 17:02:03.355788+00	01a1ff0e-d06b-70f9-854b-58605867796f	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	1	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	2026-11-21 17:02:03.355788+00	01a1ff0e-d06d-74af-84f6-440339b6e1ec	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	rated	1	4	\N	1	0
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224dc5934edd	2026-11-01 17:02:03.355788+00	01a1ff0e-d06d-74af-84f6-440262aba93c	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	2	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224dc5934edd	2026-11-06 17:02:03.355788+00	01a1ff0e-d06c-755e-96d9-1d131cb46346	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	2	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224dc5934edd	2026-11-11 17:02:03.355788+00	01a1ff0e-d06c-755e-96d9-1d12e3ba5630	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	2	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224dc5934edd	2026-11-16 17:02:03.355788+00	01a1ff0e-d06b-70f9-854b-58605867796f	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	2	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224e484aaa23	2026-11-01 17:02:03.355788+00	01a1ff0e-d06d-74af-84f6-440262aba93c	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	3	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224e484aaa23	2026-11-06 17:02:03.355788+00	01a1ff0e-d06c-755e-96d9-1d131cb46346	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	3	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224e484aaa23	2026-11-11 17:02:03.355788+00	01a1ff0e-d06c-755e-96d9-1d12e3ba5630	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	3	0.5
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224e484aaa23	2026-11-16 17:02:03.355788+00	01a1ff0e-d06b-70f9-854b-58605867796f	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	3	0.5
\.


--
-- Data for Name: access_queue; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, recall_id, memory_ids) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1ff0e-d090-726c-9a90-e4a26ad1a7e9	2026-11-21 17:02:03.405303+00	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	used	1	3	\N	{01a1fe64-f38b-774e-8694-763b4dfec0ef,01a1fe64-f361-71e7-888c-57d9d7d6b4e6}
\.


--
-- Data for Name: embedding_claims; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.embedding_claims (workspace_id, memory_id, model, claimed_until) FROM stdin;
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	01a1fe64-f36a-7632-b5c6-8ce566711262	tiny	2026-11-21 14:01:31.213637+00
\.


--
-- Data for Name: embedding_models; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.embedding_models (name, dims, distance, is_default, created_at) FROM stdin;
tiny	3	cosine	t	2026-11-21 13:56:31.135413+00
wide	4	cosine	f	2026-11-21 13:56:31.13693+00
\.


--
-- Data for Name: embeddings; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.embeddings (workspace_id, memory_id, model, embedding, created_at) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	tiny	[1,0,0]	2026-11-21 13:56:31.14582+00
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224dc5934edd	tiny	[0,1,0]	2026-11-21 13:56:31.167997+00
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f35a-7443-a804-a5a98f05e14b	tiny	[0,0,1]	2026-11-21 13:56:31.193375+00
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f35c-73f2-a3ec-85cdb51a99f1	tiny	[0,0,-1]	2026-11-21 13:56:31.196139+00
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f361-71e7-888c-57d9d7d6b4e6	tiny	[0.8,0,0.6]	2026-11-21 13:56:31.20292+00
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	wide	[1,0,0,0]	2026-11-21 13:56:31.208334+00
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	01a1fe64-f36f-73f6-9dc4-ae38de3ac5f3	tiny	[1,0,0]	2026-11-21 13:56:31.214437+00
\.


--
-- Data for Name: entity_aliases; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.entity_aliases (workspace_id, alias, node, label, created_at) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	bicycle	bike	Bicycle	2026-11-21 17:02:03.355788+00
\.


--
-- Data for Name: erasures; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.erasures (workspace_id, id, erased_by, erased_at) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	018f3a2e-0000-7000-8000-000000000001	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	2026-11-21 13:56:31.188156+00
\.


--
-- Data for Name: graph_links; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.graph_links (workspace_id, memory_id, relation, node, label, created_at, target_id, weight) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	mentions	ann	Ann	2026-11-21 13:56:31.14582+00	\N	1
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f34b-70b8-861b-58360fb67c6a	mentions	hut	Hut	2026-11-21 13:56:31.175221+00	\N	1
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f34b-70b8-861b-58360fb67c6a	mentions	lake	Lake	2026-11-21 13:56:31.175221+00	\N	1
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f35a-7443-a804-a5a98f05e14b	mentions	ann	Ann	2026-11-21 13:56:31.193375+00	\N	1
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f35a-7443-a804-a5a98f05e14b	mentions	oslo	Oslo	2026-11-21 13:56:31.193375+00	\N	1
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f35c-73f2-a3ec-85cdb51a99f1	mentions	ann	Ann	2026-11-21 13:56:31.196139+00	\N	1
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f35c-73f2-a3ec-85cdb51a99f1	mentions	lisbon	Lisbon	2026-11-21 13:56:31.196139+00	\N	1
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f38b-774e-8694-763b4dfec0ef	mentions	bike	Bicycle	2026-11-21 17:02:03.355788+00	\N	1
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f348-76b1-8ef4-bf8cbc3e2f31	answers	01a1fe64-f348-76b1-8ef4-bf8dd1628127	01a1fe64-f348-76b1-8ef4-bf8dd1628127	2026-11-21 17:02:03.355788+00	01a1fe64-f348-76b1-8ef4-bf8dd1628127	0.5
\.


--
-- Data for Name: hebbian_links; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.hebbian_links (workspace_id, a, b, forward, backward, linked_at, count) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	01a1fe64-f342-7773-b2a8-224dc5934edd	1.6958530126554932	0	2026-11-16 17:02:03.355788+00	4
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	01a1fe64-f342-7773-b2a8-224e484aaa23	1.6958530126554932	0	2026-11-16 17:02:03.355788+00	4
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224dc5934edd	01a1fe64-f342-7773-b2a8-224e484aaa23	1.6958530126554932	0	2026-11-16 17:02:03.355788+00	4
\.


--
-- Data for Name: maintenance; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.maintenance (workspace_id, folded_at, consolidated_at) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	2026-11-21 17:02:03.391027+00	2026-11-21 17:02:03.391027+00
\.


--
-- Data for Name: memories; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.memories (workspace_id, id, user_id, agent_id, session_id, speaker, role, content, summary, type, importance, layer, pinned, tags, metadata, source, occurred_at, valid_from, valid_to, superseded_by, contradicts, expires_at, deleted_at, version, created_at, updated_at, content_hash, users_own, contradicted_by) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224e484aaa23	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	Quotes ' and 漢字 and 🐈	\N	factual	0.3	working	f	{}	{}	\N	\N	\N	\N	\N	\N	\N	\N	1	2026-11-21 13:56:31.167997+00	2026-11-21 13:56:31.167997+00	\\xe33c8a80ae656c88039af6354569546641521e7c284641e469add8ca1cc60b24	kept	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f34b-70b8-861b-58360fb67c6a	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	helper	s2	Ann	assistant	In a hut by the lake	\N	factual	0.3	working	f	{}	{}	chat	2023-09-01 09:01:00+00	\N	\N	\N	\N	\N	\N	1	2026-11-21 13:56:31.175221+00	2026-11-21 13:56:31.175221+00	\\x7c932856bd009e53b46123cc5a568f92801611e59621dcf0dc35fa3d13a230d5	kept	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224c272ea553	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	s1	Bob	\N	Bob drives a red car	\N	factual	0.3	working	f	{}	{}	\N	\N	\N	\N	\N	\N	\N	2026-11-21 13:56:31.183599+00	2	2026-11-21 13:56:31.167997+00	2026-11-21 13:56:31.183599+00	\\x9e25f1e436b3b793c05efec7cb08189609e71883464507f3b922b3b8e0348e23	kept	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f35a-7443-a804-a5a98f05e14b	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	Ann lives in Oslo	\N	factual	0.3	archive	f	{}	{}	\N	\N	\N	2024-03-01 00:00:00+00	01a1fe64-f35c-73f2-a3ec-85cdb51a99f1	\N	\N	\N	2	2026-11-21 13:56:31.193375+00	2026-11-21 13:56:31.198519+00	\\x041fbb1a2e40eb54cc11424dbe52acc74b85993c8d9d2c692fdbf8ef1ad46285	kept	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f35c-73f2-a3ec-85cdb51a99f1	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	Ann lives in Lisbon	\N	factual	0.3	core	f	{}	{}	\N	\N	2024-03-01 00:00:00+00	\N	\N	{01a1fe64-f35a-7443-a804-a5a98f05e14b}	\N	\N	2	2026-11-21 13:56:31.196139+00	2026-11-21 13:56:31.199111+00	\\xbf294595ae76aeff5272948db95b37bde511bfee812dcdb45b03a70659ea6abe	kept	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f360-7570-a02e-8f5c09adf9ce	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	The parking permit	\N	factual	0.3	working	f	{}	{}	\N	\N	\N	\N	\N	\N	2024-01-01 00:00:00+00	\N	1	2026-11-21 13:56:31.199715+00	2026-11-21 13:56:31.199715+00	\\x4d7c3360f2ac799bd5002172470600c0862ec79f85a57d58b910ffd095e3ab4e	kept	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f361-71e7-888c-57d9d7d6b4e6	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	Ann runs on Sundays	sport	factual	0.3	working	f	{}	{}	\N	\N	\N	\N	\N	\N	\N	\N	2	2026-11-21 13:56:31.200894+00	2026-11-21 13:56:31.20292+00	\\x1305aba90c896f70e5692cde1610857bf4b22c204e1b2510b6f644c4ebb2bb8a	kept	\N
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	01a1fe64-f36a-7632-b5c6-8ce566711262	e95cc735-0d91-5e42-b7b7-6f708bea5f3a	\N	\N	\N	\N	Bob keeps this to himself	\N	factual	0.45	working	f	{}	{}	\N	\N	\N	\N	\N	\N	\N	\N	1	2026-11-21 13:56:31.21025+00	2026-11-21 13:56:31.21025+00	\\x38591c4a0af87da7ff87706e4256b08519389d8447addb8996e0efd5a601a5ad	kept	\N
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	01a1fe64-f36f-73f6-9dc4-ae38de3ac5f3	e95cc735-0d91-5e42-b7b7-6f708bea5f3a	\N	\N	\N	\N	Die Katzen schlafen auf dem Dach	\N	factual	0.45	working	f	{}	{}	\N	\N	\N	\N	\N	\N	\N	\N	1	2026-11-21 13:56:31.214437+00	2026-11-21 13:56:31.214437+00	\\x1f1825be55a35f1f0538a92b2874e35ca820ffa2389004efa04d33d7ff52d48e	kept	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f38b-774e-8694-763b4dfec0ef	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	The bicycle needs oil	\N	factual	0.3	working	f	{}	{}	\N	\N	\N	\N	\N	\N	\N	\N	2	2026-11-21 13:56:31.236449+00	2026-11-21 17:02:03.355788+00	\\x2c69c65e7ebfae745778ef78677d0c0f652c46b83ebf621349b6afa8b081091b	kept	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f348-76b1-8ef4-bf8dd1628127	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	helper	s2	Bob	user	Where did you spend the summer?	\N	factual	0.3	working	f	{}	{}	\N	2023-09-01 09:00:00+00	\N	\N	\N	\N	\N	\N	2	2026-11-21 13:56:31.175221+00	2026-11-21 17:02:03.355788+00	\\x93958d9b709af8d18f2c3a7d6860497c57b6f45d4805066d647adaef4a216b54	kept	{01a1fe64-f348-76b1-8ef4-bf8cbc3e2f31}
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f348-76b1-8ef4-bf8cbc3e2f31	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	s2	Ann	assistant	It rained all of August	\N	episodic	0.4	working	f	{}	{}	\N	2023-09-01 09:02:00+00	\N	\N	\N	{01a1fe64-f348-76b1-8ef4-bf8dd1628127}	2999-01-01 00:00:00+00	\N	2	2026-11-21 13:56:31.175221+00	2026-11-21 17:02:03.355788+00	\\x8fdb7f9bb8de8f0af617e0b7cb3ed55f727f8be066f9b346594f22d1c205ddad	kept	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	Ann likes green tea	\N	opinion	0.8	core	f	{drink,hot}	{"said": 2, "project": "x"}	\N	2023-05-08 10:00:00+00	\N	\N	\N	\N	\N	\N	2	2026-11-21 13:56:31.14582+00	2026-11-21 13:56:31.165105+00	\\xa4864622404c508fff75ca98fb4a2cddbe5aac889990320d79cddbe9459a6ed4	kept	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224dc5934edd	d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	The cat is called Miso	\N	factual	0.3	core	t	{}	{}	\N	\N	\N	\N	\N	\N	\N	\N	2	2026-11-21 13:56:31.167997+00	2026-11-21 13:56:31.180808+00	\\xa497003476f8add86f842c5fd6401e88b1007310e9182823807c453047bf8396	kept	\N
\.


--
-- Data for Name: memory_state; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.memory_state (workspace_id, memory_id, access_count, last_accessed_at, heat, working_strength, core_strength, layer, stability, difficulty, base) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224c272ea553	1	2026-11-21 13:56:31.167997+00	\N	\N	\N	\N	\N	\N	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f348-76b1-8ef4-bf8cbc3e2f31	1	2026-11-21 13:56:31.175221+00	\N	\N	\N	\N	\N	\N	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f34b-70b8-861b-58360fb67c6a	1	2026-11-21 13:56:31.175221+00	\N	\N	\N	\N	\N	\N	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f35a-7443-a804-a5a98f05e14b	1	2026-11-21 13:56:31.193375+00	\N	\N	\N	\N	\N	\N	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f35c-73f2-a3ec-85cdb51a99f1	1	2026-11-21 13:56:31.196139+00	\N	\N	\N	\N	\N	\N	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f360-7570-a02e-8f5c09adf9ce	1	2026-11-21 13:56:31.199715+00	\N	\N	\N	\N	\N	\N	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f361-71e7-888c-57d9d7d6b4e6	1	2026-11-21 13:56:31.200894+00	\N	\N	\N	\N	\N	\N	\N
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	01a1fe64-f36a-7632-b5c6-8ce566711262	1	2026-11-21 13:56:31.21025+00	\N	\N	\N	\N	\N	\N	\N
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	01a1fe64-f36f-73f6-9dc4-ae38de3ac5f3	2	2026-11-21 13:56:31.217004+00	\N	\N	\N	\N	\N	\N	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f38b-774e-8694-763b4dfec0ef	1	2026-11-21 13:56:31.236449+00	\N	\N	\N	\N	\N	\N	\N
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f348-76b1-8ef4-bf8dd1628127	1	2026-11-21 13:56:31.175221+00	\\x010000008c06a616cb030300010000000000000000000000000000000000000000000000b7ccb133cbf58a3c99c6b83e526b463f9c33703fa0f47b3f9cfb7e3fcebe7f3fb2ef7f3fecfb7f3ffbfe7f3f	0.9942187653139435	0.0029795868697584144	working	33.333333333333336	2.118103970459015	{"at": 848595723355788, "core": 0.0029795868697584144, "uses": 1, "layer": "working", "working": 0.9942187653139435, "last_used": 848584591175221, "stability": 33.333333333333336, "difficulty": 2.118103970459015}
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f332-74f2-ab3d-b537e30627f6	7	2026-11-21 17:02:03.355788+00	\\x010000008c06a616cb030300070000000000803f0000803f0000803f0000803f0000803f0100803fac57843f4263dc3f7b36234070003e40bd3f8140e409b8405943d4403ef0dc40f139df405acedf40	1.3964989491185573	0.3040560676659296	core	29.683433333285016	1	{"at": 848584591165105, "core": 0.29340355779950417, "uses": 6, "layer": "working", "working": 1.2586027044480594, "last_used": 848584591165105, "stability": 20.0, "difficulty": 2.118103970459015}
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224dc5934edd	5	2026-11-21 13:56:31.167997+00	\\x01000000fd511e7fc8030300050000000000803f0000803f0000803f0000803f0000803f0000803f0000803f0000803f2602803ffc938c3fbc9e0540504a71404d71944048fc9c40fc3c9f401ecf9f40	1.5999999999999996	0	core	33.333333333333336	2.118103970459015	{"at": 848584591167997, "core": 0.0, "uses": 5, "layer": "working", "working": 1.5999999999999996, "last_used": 848584591167997, "stability": 33.333333333333336, "difficulty": 2.118103970459015}
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	01a1fe64-f342-7773-b2a8-224e484aaa23	5	2026-11-21 13:56:31.167997+00	\\x01000000fd511e7fc8030300050000000000803f0000803f0000803f0000803f0000803f0000803f0000803f0000803f2602803ffc938c3fbc9e0540504a71404d71944048fc9c40fc3c9f401ecf9f40	1.3548319356307206	0.1214516953631539	working	33.333333333333336	2.118103970459015	{"at": 848584591167997, "core": 0.1214516953631539, "uses": 5, "layer": "working", "working": 1.3548319356307206, "last_used": 848584591167997, "stability": 33.333333333333336, "difficulty": 2.118103970459015}
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
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	factual	0.45	0.2
\.


--
-- Data for Name: recall_credits; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.recall_credits (workspace_id, recall_id, memory_ids, created_at) FROM stdin;
\.


--
-- Data for Name: search_blocks; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.search_blocks (workspace_id, model, level, cluster, block_id, entries, block) FROM stdin;
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	tiny	1	0	01a1fe64-f33b-741a-8210-565d8d1ca1f5	1	\\x020001000300000001a1fe64f33274f2ab3db537e30627f604000000000000000402013c0000803f7f0000
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	tiny	1	0	01a1fe64-f345-72a0-8e53-13d3b796ad87	1	\\x020001000300000001a1fe64f3427773b2a8224dc5934edd04000000000000000402013c0000803f007f00
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	tiny	1	0	01a1fe64-f35b-754a-bcee-eea11dc0cd64	1	\\x020001000300000001a1fe64f35a7443a804a5a98f05e14b04000000000000000402013c0000803f00007f
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	tiny	1	0	01a1fe64-f35d-7334-ba83-44f9e8d8492a	1	\\x020001000300000001a1fe64f35c73f2a3ec85cdb51a99f104000000000000000402013c0000803f000081
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	tiny	1	0	01a1fe64-f362-76d7-831f-b0c309c5ced3	1	\\x020001000300000001a1fe64f36171e7888c57d9d7d6b4e60400000000000000a069ce3b0000803f5f007f
d9013ede-c9a4-53c0-9900-ac3b5e70b08f		0	0	01a1fe64-f364-7405-bec5-6913afa10ff3	1	\\x010001000400000001a1fe64f36171e7888c57d9d7d6b4e609000000000000007ed21e7fc803030000000000000000000400000004000000cfe8a348aa08cf5560d273915c4659fc0109205401012000010020120100c00e
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	tiny	0	0	01a1fe64-f365-7721-afb2-f1eddecd21a9	1	\\x020001000000000001a1fe64f36171e7888c57d9d7d6b4e6e70b5be9268319000000000000000000
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	tiny	0	0	01a1fe64-f367-7785-a78a-a4a8f092cf61	1	\\x020001000300000001a1fe64f36171e7888c57d9d7d6b4e6f5355be926831900a069ce3b0000803f7f005f
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	wide	1	0	01a1fe64-f369-7015-b0c9-a832c17a694c	1	\\x020001000400000001a1fe64f33274f2ab3db537e30627f604000000000000000402013c0000803f7f000000
e95cc735-0d91-5e42-b7b7-6f708bea5f3a		1	0	01a1fe64-f36b-70e8-aedb-02d94ba95993	1	\\x010001000500000001a1fe64f36a7632b5c68ce56671126204000000000000000af71e7fc80303000000000000000000050000000500000055a6811cdee50a7924e80aba3cffa3e58b1438ed01b01904011084040180010c0102400001004008
e95cc735-0d91-5e42-b7b7-6f708bea5f3a		1	0	01a1fe64-f370-71c0-8ac0-f45051336db6	1	\\x010001000300000001a1fe64f36f73f69dc4ae38de3ac5f3040000000000000065071f7fc8030300000000000000000003000000030000007bac8728990b555c697db5da0101044801a50804018d0000
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	tiny	1	0	01a1fe64-f370-71c0-8ac0-f4513741c86b	1	\\x020001000300000001a1fe64f36f73f69dc4ae38de3ac5f304000000000000000402013c0000803f7f0000
d9013ede-c9a4-53c0-9900-ac3b5e70b08f		1	0	01a1fe64-f37e-707f-9c21-d5a018cc7a51	10	\\x01000a002a00000001a1fe64f33274f2ab3db537e30627f601a1fe64f34876b18ef4bf8cbc3e2f3101a1fe64f34876b18ef4bf8dd162812701a1fe64f34b70b8861b58360fb67c6a01a1fe64f3427773b2a8224dc5934edd01a1fe64f3427773b2a8224e484aaa2301a1fe64f35a7443a804a5a98f05e14b01a1fe64f35c73f2a3ec85cdb51a99f101a1fe64f3607570a02e8f5c09adf9ce01a1fe64f36171e7888c57d9d7d6b4e60400000000000000040000000000000004000000000000000400000000000000000000000000000000000000000000000400000000000000040000000000000004000000000000000400000000000000006872782a9e020000529d2e47a702000044762747a7020000cb092b47a70200fd511e7fc8030300fd511e7fc80303001fb51e7fc8030300ebbf1e7fc8030300e3cd1e7fc80303007ed21e7fc8030300000000003283d92c3283d92c3283d92c00000000000000000000000000000000000000000000000000000000aa08cf553cffa3e5aa08cf5500000000000000000000000000000000000000000000000007000000060000000600008006000000030000000300000003000000030000000200000003000000070000000d00000013000000190000001c0000001f0000002200000025000000270000002a0000008b57dd2160f66e4888257e52aa08cf554882887ac0f8f9abaaabd5bcaa08cf551659d67a0bf998a0c0f8f9abc5fc14b64c6259dcb3569f4d1659d67a005d4fa7c0f8f9ab4c6259dc3cffa3e5118b931881866844aa08cf551659d67ac0f8f9ab4c6259dca33a58d47a6338dd095973e960d11432bfbcfd3aeb05add2aa08cf55efc81cd54e4412e296b0154faa08cf554e4412e2fc7000a4113c4ee6638bcf2eaa08cf5560d273910100008001100d000150200201012000010110400100008001110008010120000112900c01012102010000800141001c010000800118a0040112900c011010160100008001000080010240000180001801110c00010120000112900c01000080010000800105000801050800010051040100008001004019010000800101200001004804011009200102690401012000011009200110910a01018402010970400101200001002012
d9013ede-c9a4-53c0-9900-ac3b5e70b08f		1	0	01a1fe64-f390-76fb-a22a-77a07bd21e5d	1	\\x010001000300000001a1fe64f38b774e8694763b4dfec0ef0400000000000000615d1f7fc80303000000000000000000030000000300000030dcce4283197249d4d58ad3011820000106094001004900
\.


--
-- Data for Name: settings; Type: TABLE DATA; Schema: engram; Owner: postgres
--

COPY engram.settings (workspace_id, max_content_chars, near_duplicate_threshold, vector_weight, bm25_k1, bm25_pivot, candidates, text_config, coverage_weight, context_weight, lend_weight, speaker_weight, date_weight, question_weight, length_weight, activation_weight, importance_weight, preset, decay, mu1, mu2, alpha, promote, demote, archive, strength_gain, shown_gain, fold_threshold, forgetting, forget_threshold, forget_after_days, link_half_life_days, link_members, link_threshold, link_prune, link_limit, link_weight, contradiction_weight) FROM stdin;
e95cc735-0d91-5e42-b7b7-6f708bea5f3a	1000	0.95	\N	\N	\N	\N	pg_catalog.german	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N
00000000-0000-0000-0000-000000000000	200000	\N	0.5	1.2	30	100	pg_catalog.english	0.5	0.2	0.3	0.1	0.2	0.1	0.1	0.1	0	\N	0.5	0.15	0.005	0.08	0.25	0.05	0.15	0.15	0	128	f	0.01	30	30	6	3	0.02	32	0.2	0.3
d9013ede-c9a4-53c0-9900-ac3b5e70b08f	\N	\N	\N	\N	\N	\N	\N	\N	0.35	\N	\N	0	\N	\N	\N	\N	\N	0.4	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N
\.


--
-- Name: access_log_default access_log_default_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.access_log_default
    ADD CONSTRAINT access_log_default_pkey PRIMARY KEY (workspace_id, memory_id, accessed_at, id);


--
-- Name: access_queue access_queue_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.access_queue
    ADD CONSTRAINT access_queue_pkey PRIMARY KEY (workspace_id, id);


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
-- Name: entity_aliases entity_aliases_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.entity_aliases
    ADD CONSTRAINT entity_aliases_pkey PRIMARY KEY (workspace_id, alias);


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
-- Name: hebbian_links hebbian_links_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.hebbian_links
    ADD CONSTRAINT hebbian_links_pkey PRIMARY KEY (workspace_id, a, b);


--
-- Name: maintenance maintenance_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.maintenance
    ADD CONSTRAINT maintenance_pkey PRIMARY KEY (workspace_id);


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
-- Name: memory_type_settings memory_type_settings_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.memory_type_settings
    ADD CONSTRAINT memory_type_settings_pkey PRIMARY KEY (workspace_id, type);


--
-- Name: recall_credits recall_credits_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.recall_credits
    ADD CONSTRAINT recall_credits_pkey PRIMARY KEY (workspace_id, recall_id);


--
-- Name: search_blocks search_blocks_pkey; Type: CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.search_blocks
    ADD CONSTRAINT search_blocks_pkey PRIMARY KEY (workspace_id, model, level, cluster, block_id);


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
-- Name: embeddings_by_model_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX embeddings_by_model_idx ON engram.embeddings USING btree (model);


--
-- Name: INDEX embeddings_by_model_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.embeddings_by_model_idx IS 'The vectors of a model that is dropped.';


--
-- Name: graph_links_entity_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX graph_links_entity_idx ON engram.graph_links USING btree (node, workspace_id, memory_id);


--
-- Name: INDEX graph_links_entity_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.graph_links_entity_idx IS 'Which memories of a workspace mention an entity.';


--
-- Name: graph_links_target_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX graph_links_target_idx ON engram.graph_links USING btree (target_id, workspace_id) WHERE (target_id IS NOT NULL);


--
-- Name: INDEX graph_links_target_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.graph_links_target_idx IS 'Links to a memory.';


--
-- Name: hebbian_links_reverse_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX hebbian_links_reverse_idx ON engram.hebbian_links USING btree (b, workspace_id, a);


--
-- Name: INDEX hebbian_links_reverse_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.hebbian_links_reverse_idx IS 'Links from their higher end.';


--
-- Name: memories_content_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX memories_content_idx ON engram.memories USING btree (content_hash, workspace_id);


--
-- Name: INDEX memories_content_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.memories_content_idx IS 'Duplicates.';


--
-- Name: memories_contradicts_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX memories_contradicts_idx ON engram.memories USING btree (workspace_id) WHERE (contradicts IS NOT NULL);


--
-- Name: INDEX memories_contradicts_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.memories_contradicts_idx IS 'Contradictions of a workspace.';


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
-- Name: memories_standing_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX memories_standing_idx ON engram.memories USING btree (workspace_id, created_at DESC, id DESC) WHERE (pinned AND (type = 'procedural'::text));


--
-- Name: INDEX memories_standing_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.memories_standing_idx IS 'Standing instructions of a workspace, newest first.';


--
-- Name: memories_superseded_idx; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX memories_superseded_idx ON engram.memories USING btree (superseded_by, workspace_id) WHERE (superseded_by IS NOT NULL);


--
-- Name: INDEX memories_superseded_idx; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON INDEX engram.memories_superseded_idx IS 'What a memory has superseded.';


--
-- Name: users_own; Type: INDEX; Schema: engram; Owner: postgres
--

CREATE INDEX users_own ON engram.memories USING btree (workspace_id, source);


--
-- Name: access_queue access_queue_after_insert; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE CONSTRAINT TRIGGER access_queue_after_insert AFTER INSERT ON engram.access_queue DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((((get_byte(uuid_send(new.id), 15) % 16) = 0) AND (current_setting('check_function_bodies'::text) = 'on'::text))) EXECUTE FUNCTION engram.access_queue_after_insert();


--
-- Name: TRIGGER access_queue_after_insert ON access_queue; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER access_queue_after_insert ON engram.access_queue IS 'See engram.access_queue_after_insert().';


--
-- Name: embedding_models embedding_models_after_delete; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER embedding_models_after_delete AFTER DELETE ON engram.embedding_models REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION engram.embedding_models_after_delete();


--
-- Name: TRIGGER embedding_models_after_delete ON embedding_models; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER embedding_models_after_delete ON engram.embedding_models IS 'See engram.embedding_models_after_delete().';


--
-- Name: embeddings embeddings_after_delete; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER embeddings_after_delete AFTER DELETE ON engram.embeddings REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION engram.embeddings_after_delete();


--
-- Name: TRIGGER embeddings_after_delete ON embeddings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER embeddings_after_delete ON engram.embeddings IS 'See engram.embeddings_after_delete().';


--
-- Name: embeddings embeddings_after_insert; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER embeddings_after_insert AFTER INSERT ON engram.embeddings REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.embeddings_after_insert();


--
-- Name: TRIGGER embeddings_after_insert ON embeddings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER embeddings_after_insert ON engram.embeddings IS 'See engram.embeddings_after_insert().';


--
-- Name: embeddings embeddings_after_truncate; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER embeddings_after_truncate AFTER TRUNCATE ON engram.embeddings FOR EACH STATEMENT EXECUTE FUNCTION engram.embeddings_after_truncate();


--
-- Name: TRIGGER embeddings_after_truncate ON embeddings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER embeddings_after_truncate ON engram.embeddings IS 'See engram.embeddings_after_truncate().';


--
-- Name: embeddings embeddings_after_update; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER embeddings_after_update AFTER UPDATE ON engram.embeddings REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.embeddings_after_update();


--
-- Name: TRIGGER embeddings_after_update ON embeddings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER embeddings_after_update ON engram.embeddings IS 'See engram.embeddings_after_update().';


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
-- Name: memories memories_after_truncate; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER memories_after_truncate AFTER TRUNCATE ON engram.memories FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_after_truncate();


--
-- Name: TRIGGER memories_after_truncate ON memories; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER memories_after_truncate ON engram.memories IS 'See engram.memories_after_truncate().';


--
-- Name: memories memories_after_update; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER memories_after_update AFTER UPDATE ON engram.memories FOR EACH ROW WHEN (((old.content IS DISTINCT FROM new.content) OR (old.summary IS DISTINCT FROM new.summary) OR (old.speaker IS DISTINCT FROM new.speaker) OR (old.occurred_at IS DISTINCT FROM new.occurred_at) OR (old.session_id IS DISTINCT FROM new.session_id) OR ((old.deleted_at IS NULL) <> (new.deleted_at IS NULL)))) EXECUTE FUNCTION engram.memories_after_update();


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
-- Name: memory_type_settings memory_type_settings_restore; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER memory_type_settings_restore BEFORE INSERT ON engram.memory_type_settings FOR EACH ROW WHEN ((current_setting('check_function_bodies'::text) = 'off'::text)) EXECUTE FUNCTION engram.restore_replaces();


--
-- Name: TRIGGER memory_type_settings_restore ON memory_type_settings; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER memory_type_settings_restore ON engram.memory_type_settings IS 'See engram.restore_replaces().';


--
-- Name: search_blocks search_blocks_restore; Type: TRIGGER; Schema: engram; Owner: postgres
--

CREATE TRIGGER search_blocks_restore BEFORE INSERT ON engram.search_blocks FOR EACH ROW WHEN (((current_setting('check_function_bodies'::text) = 'off'::text) AND (pg_trigger_depth() = 0))) EXECUTE FUNCTION engram.restore_skips();


--
-- Name: TRIGGER search_blocks_restore ON search_blocks; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON TRIGGER search_blocks_restore ON engram.search_blocks IS 'See engram.restore_skips().';


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
-- Name: graph_links graph_links_target_fkey; Type: FK CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.graph_links
    ADD CONSTRAINT graph_links_target_fkey FOREIGN KEY (workspace_id, target_id) REFERENCES engram.memories(workspace_id, id) ON DELETE CASCADE;


--
-- Name: memory_state memory_state_memory_fkey; Type: FK CONSTRAINT; Schema: engram; Owner: postgres
--

ALTER TABLE ONLY engram.memory_state
    ADD CONSTRAINT memory_state_memory_fkey FOREIGN KEY (workspace_id, memory_id) REFERENCES engram.memories(workspace_id, id) ON DELETE CASCADE;


--
-- Name: access_log; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.access_log ENABLE ROW LEVEL SECURITY;

--
-- Name: access_log_default; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.access_log_default ENABLE ROW LEVEL SECURITY;

--
-- Name: access_log_default access_log_default_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY access_log_default_select ON engram.access_log_default FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY access_log_default_select ON access_log_default; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY access_log_default_select ON engram.access_log_default IS 'Rows of workspaces that the caller may read.';


--
-- Name: access_log access_log_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY access_log_select ON engram.access_log FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY access_log_select ON access_log; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY access_log_select ON engram.access_log IS 'Rows of workspaces that the caller may read.';


--
-- Name: access_queue; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.access_queue ENABLE ROW LEVEL SECURITY;

--
-- Name: access_queue access_queue_insert; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY access_queue_insert ON engram.access_queue FOR INSERT WITH CHECK (((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])) AND (user_id = ( SELECT engram.current_user_id() AS current_user_id))));


--
-- Name: POLICY access_queue_insert ON access_queue; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY access_queue_insert ON engram.access_queue IS 'New rows only in workspaces that the caller may write.';


--
-- Name: access_queue access_queue_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY access_queue_select ON engram.access_queue FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY access_queue_select ON access_queue; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY access_queue_select ON engram.access_queue IS 'Rows of workspaces that the caller may read.';


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
-- Name: entity_aliases; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.entity_aliases ENABLE ROW LEVEL SECURITY;

--
-- Name: entity_aliases entity_aliases_delete; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY entity_aliases_delete ON engram.entity_aliases FOR DELETE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY entity_aliases_delete ON entity_aliases; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY entity_aliases_delete ON engram.entity_aliases IS 'Deletes only in workspaces that the caller may write.';


--
-- Name: entity_aliases entity_aliases_insert; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY entity_aliases_insert ON engram.entity_aliases FOR INSERT WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY entity_aliases_insert ON entity_aliases; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY entity_aliases_insert ON engram.entity_aliases IS 'New rows only in workspaces that the caller may write.';


--
-- Name: entity_aliases entity_aliases_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY entity_aliases_select ON engram.entity_aliases FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY entity_aliases_select ON entity_aliases; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY entity_aliases_select ON engram.entity_aliases IS 'Rows of workspaces that the caller may read.';


--
-- Name: entity_aliases entity_aliases_update; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY entity_aliases_update ON engram.entity_aliases FOR UPDATE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[]))) WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY entity_aliases_update ON entity_aliases; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY entity_aliases_update ON engram.entity_aliases IS 'Changes only within workspaces that the caller may write.';


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
-- Name: hebbian_links; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.hebbian_links ENABLE ROW LEVEL SECURITY;

--
-- Name: hebbian_links hebbian_links_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY hebbian_links_select ON engram.hebbian_links FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY hebbian_links_select ON hebbian_links; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY hebbian_links_select ON engram.hebbian_links IS 'Rows of workspaces that the caller may read.';


--
-- Name: maintenance; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.maintenance ENABLE ROW LEVEL SECURITY;

--
-- Name: maintenance maintenance_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY maintenance_select ON engram.maintenance FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY maintenance_select ON maintenance; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY maintenance_select ON engram.maintenance IS 'Rows of workspaces that the caller may read.';


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
-- Name: recall_credits; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.recall_credits ENABLE ROW LEVEL SECURITY;

--
-- Name: recall_credits recall_credits_insert; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY recall_credits_insert ON engram.recall_credits FOR INSERT WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY recall_credits_insert ON recall_credits; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY recall_credits_insert ON engram.recall_credits IS 'New rows only in workspaces that the caller may write.';


--
-- Name: recall_credits recall_credits_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY recall_credits_select ON engram.recall_credits FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY recall_credits_select ON recall_credits; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY recall_credits_select ON engram.recall_credits IS 'Rows of workspaces that the caller may read.';


--
-- Name: recall_credits recall_credits_update; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY recall_credits_update ON engram.recall_credits FOR UPDATE USING ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[]))) WITH CHECK ((workspace_id = ANY (( SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])));


--
-- Name: POLICY recall_credits_update ON recall_credits; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY recall_credits_update ON engram.recall_credits IS 'Changes only within workspaces that the caller may write.';


--
-- Name: search_blocks; Type: ROW SECURITY; Schema: engram; Owner: postgres
--

ALTER TABLE engram.search_blocks ENABLE ROW LEVEL SECURITY;

--
-- Name: search_blocks search_blocks_select; Type: POLICY; Schema: engram; Owner: postgres
--

CREATE POLICY search_blocks_select ON engram.search_blocks FOR SELECT USING ((workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])));


--
-- Name: POLICY search_blocks_select ON search_blocks; Type: COMMENT; Schema: engram; Owner: postgres
--

COMMENT ON POLICY search_blocks_select ON engram.search_blocks IS 'Rows of workspaces that the caller may read.';


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
-- Name: FUNCTION access_queue_after_insert(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.access_queue_after_insert() FROM PUBLIC;


--
-- Name: FUNCTION activation(id uuid, at timestamp with time zone, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.activation(id uuid, at timestamp with time zone, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.activation(id uuid, at timestamp with time zone, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.activation(id uuid, at timestamp with time zone, workspace uuid) TO app;


--
-- Name: FUNCTION activation_01(a double precision, center double precision, scale double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.activation_01(a double precision, center double precision, scale double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.activation_01(a double precision, center double precision, scale double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.activation_01(a double precision, center double precision, scale double precision) TO app;


--
-- Name: FUNCTION add(content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], id uuid, expires_at timestamp with time zone, on_duplicate text, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.add(content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], id uuid, expires_at timestamp with time zone, on_duplicate text, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.add(content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], id uuid, expires_at timestamp with time zone, on_duplicate text, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.add(content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], id uuid, expires_at timestamp with time zone, on_duplicate text, workspace uuid) TO app;


--
-- Name: FUNCTION add_alias(entity text, alias text, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.add_alias(entity text, alias text, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.add_alias(entity text, alias text, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.add_alias(entity text, alias text, workspace uuid) TO app;


--
-- Name: FUNCTION add_entities(id uuid, names text[], workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.add_entities(id uuid, names text[], workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.add_entities(id uuid, names text[], workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.add_entities(id uuid, names text[], workspace uuid) TO app;


--
-- Name: FUNCTION add_many(items jsonb, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.add_many(items jsonb, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.add_many(items jsonb, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.add_many(items jsonb, workspace uuid) TO app;


--
-- Name: FUNCTION apply_preset(name text, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.apply_preset(name text, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.apply_preset(name text, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.apply_preset(name text, workspace uuid) TO app;


--
-- Name: FUNCTION base_level(ages_s double precision[], d double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.base_level(ages_s double precision[], d double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.base_level(ages_s double precision[], d double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.base_level(ages_s double precision[], d double precision) TO app;


--
-- Name: FUNCTION base_level_optimized(n bigint, age_s double precision, d double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.base_level_optimized(n bigint, age_s double precision, d double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.base_level_optimized(n bigint, age_s double precision, d double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.base_level_optimized(n bigint, age_s double precision, d double precision) TO app;


--
-- Name: FUNCTION base_level_petrov(recent_ages_s double precision[], n bigint, age_created_s double precision, d double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.base_level_petrov(recent_ages_s double precision[], n bigint, age_created_s double precision, d double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.base_level_petrov(recent_ages_s double precision[], n bigint, age_created_s double precision, d double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.base_level_petrov(recent_ages_s double precision[], n bigint, age_created_s double precision, d double precision) TO app;


--
-- Name: FUNCTION configuration(workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.configuration(workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.configuration(workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.configuration(workspace uuid) TO app;


--
-- Name: FUNCTION configure(changes jsonb, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.configure(changes jsonb, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.configure(changes jsonb, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.configure(changes jsonb, workspace uuid) TO app;


--
-- Name: FUNCTION conflicts(match_count integer, skip integer, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.conflicts(match_count integer, skip integer, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.conflicts(match_count integer, skip integer, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.conflicts(match_count integer, skip integer, workspace uuid) TO app;


--
-- Name: FUNCTION consolidate(workspace uuid, at timestamp with time zone, dry_run boolean, batch_size integer); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.consolidate(workspace uuid, at timestamp with time zone, dry_run boolean, batch_size integer) FROM postgres;
GRANT ALL ON FUNCTION engram.consolidate(workspace uuid, at timestamp with time zone, dry_run boolean, batch_size integer) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.consolidate(workspace uuid, at timestamp with time zone, dry_run boolean, batch_size integer) TO app;


--
-- Name: PROCEDURE consolidate_in_batches(IN batch_size integer, IN at timestamp with time zone); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON PROCEDURE engram.consolidate_in_batches(IN batch_size integer, IN at timestamp with time zone) FROM postgres;
GRANT ALL ON PROCEDURE engram.consolidate_in_batches(IN batch_size integer, IN at timestamp with time zone) TO postgres WITH GRANT OPTION;
GRANT ALL ON PROCEDURE engram.consolidate_in_batches(IN batch_size integer, IN at timestamp with time zone) TO app;


--
-- Name: FUNCTION consolidation_alpha(importance double precision, alpha double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.consolidation_alpha(importance double precision, alpha double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.consolidation_alpha(importance double precision, alpha double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.consolidation_alpha(importance double precision, alpha double precision) TO app;


--
-- Name: FUNCTION context(query_text text, query_embedding public.vector, max_tokens integer, filter jsonb, match_count integer, types text[], at timestamp with time zone, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.context(query_text text, query_embedding public.vector, max_tokens integer, filter jsonb, match_count integer, types text[], at timestamp with time zone, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.context(query_text text, query_embedding public.vector, max_tokens integer, filter jsonb, match_count integer, types text[], at timestamp with time zone, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.context(query_text text, query_embedding public.vector, max_tokens integer, filter jsonb, match_count integer, types text[], at timestamp with time zone, workspace uuid) TO app;


--
-- Name: FUNCTION contradict(a uuid, b uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.contradict(a uuid, b uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.contradict(a uuid, b uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.contradict(a uuid, b uuid, workspace uuid) TO app;


--
-- Name: FUNCTION drop_embedding_model(name text); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.drop_embedding_model(name text) FROM postgres;
GRANT ALL ON FUNCTION engram.drop_embedding_model(name text) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.drop_embedding_model(name text) TO app;


--
-- Name: FUNCTION embedding_models_after_delete(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.embedding_models_after_delete() FROM PUBLIC;


--
-- Name: FUNCTION embedding_progress(workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.embedding_progress(workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.embedding_progress(workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.embedding_progress(workspace uuid) TO app;


--
-- Name: FUNCTION embeddings_after_delete(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.embeddings_after_delete() FROM PUBLIC;


--
-- Name: FUNCTION embeddings_after_insert(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.embeddings_after_insert() FROM PUBLIC;


--
-- Name: FUNCTION embeddings_after_truncate(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.embeddings_after_truncate() FROM PUBLIC;


--
-- Name: FUNCTION embeddings_after_update(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.embeddings_after_update() FROM PUBLIC;


--
-- Name: FUNCTION embeddings_before_write(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.embeddings_before_write() FROM PUBLIC;


--
-- Name: FUNCTION entities(query text, match_count integer, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.entities(query text, match_count integer, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.entities(query text, match_count integer, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.entities(query text, match_count integer, workspace uuid) TO app;


--
-- Name: FUNCTION erase(ids uuid[], filter jsonb, dry_run boolean, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.erase(ids uuid[], filter jsonb, dry_run boolean, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.erase(ids uuid[], filter jsonb, dry_run boolean, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.erase(ids uuid[], filter jsonb, dry_run boolean, workspace uuid) TO app;


--
-- Name: FUNCTION exp_retrievability(t_days double precision, s_days double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.exp_retrievability(t_days double precision, s_days double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.exp_retrievability(t_days double precision, s_days double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.exp_retrievability(t_days double precision, s_days double precision) TO app;


--
-- Name: FUNCTION forget(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.forget(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.forget(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.forget(id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION fsrs_interval(stability double precision, retention double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.fsrs_interval(stability double precision, retention double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.fsrs_interval(stability double precision, retention double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.fsrs_interval(stability double precision, retention double precision) TO app;


--
-- Name: FUNCTION fsrs_retrievability(elapsed_days double precision, stability double precision, decay double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.fsrs_retrievability(elapsed_days double precision, stability double precision, decay double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.fsrs_retrievability(elapsed_days double precision, stability double precision, decay double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.fsrs_retrievability(elapsed_days double precision, stability double precision, decay double precision) TO app;


--
-- Name: FUNCTION fsrs_step(stability double precision, difficulty double precision, elapsed_days double precision, rating integer, w double precision[]); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.fsrs_step(stability double precision, difficulty double precision, elapsed_days double precision, rating integer, w double precision[]) FROM postgres;
GRANT ALL ON FUNCTION engram.fsrs_step(stability double precision, difficulty double precision, elapsed_days double precision, rating integer, w double precision[]) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.fsrs_step(stability double precision, difficulty double precision, elapsed_days double precision, rating integer, w double precision[]) TO app;


--
-- Name: FUNCTION get(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.get(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.get(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.get(id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION heat_count(heat bytea); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.heat_count(heat bytea) FROM postgres;
GRANT ALL ON FUNCTION engram.heat_count(heat bytea) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.heat_count(heat bytea) TO app;


--
-- Name: FUNCTION heat_level(heat bytea, now timestamp with time zone, d double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.heat_level(heat bytea, now timestamp with time zone, d double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.heat_level(heat bytea, now timestamp with time zone, d double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.heat_level(heat bytea, now timestamp with time zone, d double precision) TO app;


--
-- Name: FUNCTION heat_mass(heat bytea, m integer, now timestamp with time zone); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.heat_mass(heat bytea, m integer, now timestamp with time zone) FROM postgres;
GRANT ALL ON FUNCTION engram.heat_mass(heat bytea, m integer, now timestamp with time zone) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.heat_mass(heat bytea, m integer, now timestamp with time zone) TO app;


--
-- Name: FUNCTION heat_merge(a bytea, b bytea); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.heat_merge(a bytea, b bytea) FROM postgres;
GRANT ALL ON FUNCTION engram.heat_merge(a bytea, b bytea) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.heat_merge(a bytea, b bytea) TO app;


--
-- Name: FUNCTION heat_new(t timestamp with time zone, gain double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.heat_new(t timestamp with time zone, gain double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.heat_new(t timestamp with time zone, gain double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.heat_new(t timestamp with time zone, gain double precision) TO app;


--
-- Name: FUNCTION heat_touch(heat bytea, t timestamp with time zone, gain double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.heat_touch(heat bytea, t timestamp with time zone, gain double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.heat_touch(heat bytea, t timestamp with time zone, gain double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.heat_touch(heat bytea, t timestamp with time zone, gain double precision) TO app;


--
-- Name: FUNCTION latest(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.latest(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.latest(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.latest(id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION layer_tick(layer text, r1 double precision, r2 double precision, dt_days double precision, alpha double precision, mu1 double precision, mu2 double precision, promote double precision, demote double precision, archive double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.layer_tick(layer text, r1 double precision, r2 double precision, dt_days double precision, alpha double precision, mu1 double precision, mu2 double precision, promote double precision, demote double precision, archive double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.layer_tick(layer text, r1 double precision, r2 double precision, dt_days double precision, alpha double precision, mu1 double precision, mu2 double precision, promote double precision, demote double precision, archive double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.layer_tick(layer text, r1 double precision, r2 double precision, dt_days double precision, alpha double precision, mu1 double precision, mu2 double precision, promote double precision, demote double precision, archive double precision) TO app;


--
-- Name: FUNCTION link(source uuid, target uuid, relation text, weight double precision, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.link(source uuid, target uuid, relation text, weight double precision, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.link(source uuid, target uuid, relation text, weight double precision, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.link(source uuid, target uuid, relation text, weight double precision, workspace uuid) TO app;


--
-- Name: FUNCTION link_decay(x double precision, dt_s double precision, half_life_s double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.link_decay(x double precision, dt_s double precision, half_life_s double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.link_decay(x double precision, dt_s double precision, half_life_s double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.link_decay(x double precision, dt_s double precision, half_life_s double precision) TO app;


--
-- Name: FUNCTION link_direction(xf double precision, xb double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.link_direction(xf double precision, xb double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.link_direction(xf double precision, xb double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.link_direction(xf double precision, xb double precision) TO app;


--
-- Name: FUNCTION link_ppmi(xij double precision, xi double precision, xj double precision, total double precision, kappa double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.link_ppmi(xij double precision, xi double precision, xj double precision, total double precision, kappa double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.link_ppmi(xij double precision, xi double precision, xj double precision, total double precision, kappa double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.link_ppmi(xij double precision, xi double precision, xj double precision, total double precision, kappa double precision) TO app;


--
-- Name: FUNCTION link_strength(x double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.link_strength(x double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.link_strength(x double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.link_strength(x double precision) TO app;


--
-- Name: FUNCTION links(id uuid, at timestamp with time zone, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.links(id uuid, at timestamp with time zone, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.links(id uuid, at timestamp with time zone, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.links(id uuid, at timestamp with time zone, workspace uuid) TO app;


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
-- Name: FUNCTION memories_after_truncate(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.memories_after_truncate() FROM PUBLIC;


--
-- Name: FUNCTION memories_after_update(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.memories_after_update() FROM PUBLIC;


--
-- Name: FUNCTION memories_before_write(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.memories_before_write() FROM PUBLIC;


--
-- Name: FUNCTION memory_overview_of(workspace uuid, id uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.memory_overview_of(workspace uuid, id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION engram.memory_overview_of(workspace uuid, id uuid) TO app;


--
-- Name: FUNCTION need_probability(score double precision, b0 double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.need_probability(score double precision, b0 double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.need_probability(score double precision, b0 double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.need_probability(score double precision, b0 double precision) TO app;


--
-- Name: FUNCTION need_score(base_level double precision, text_llr double precision, cos_centered double precision, lift double precision, importance double precision, contradicted boolean, betas double precision[]); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.need_score(base_level double precision, text_llr double precision, cos_centered double precision, lift double precision, importance double precision, contradicted boolean, betas double precision[]) FROM postgres;
GRANT ALL ON FUNCTION engram.need_score(base_level double precision, text_llr double precision, cos_centered double precision, lift double precision, importance double precision, contradicted boolean, betas double precision[]) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.need_score(base_level double precision, text_llr double precision, cos_centered double precision, lift double precision, importance double precision, contradicted boolean, betas double precision[]) TO app;


--
-- Name: FUNCTION path(source uuid, target uuid, max_hops integer, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.path(source uuid, target uuid, max_hops integer, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.path(source uuid, target uuid, max_hops integer, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.path(source uuid, target uuid, max_hops integer, workspace uuid) TO app;


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
-- Name: FUNCTION rate(id uuid, rating integer, at timestamp with time zone, recall_id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.rate(id uuid, rating integer, at timestamp with time zone, recall_id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.rate(id uuid, rating integer, at timestamp with time zone, recall_id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.rate(id uuid, rating integer, at timestamp with time zone, recall_id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION recall(query_text text, query_embedding public.vector, match_count integer, filter jsonb, types text[], min_score double precision, explain boolean, include text[], model text, at timestamp with time zone, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.recall(query_text text, query_embedding public.vector, match_count integer, filter jsonb, types text[], min_score double precision, explain boolean, include text[], model text, at timestamp with time zone, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.recall(query_text text, query_embedding public.vector, match_count integer, filter jsonb, types text[], min_score double precision, explain boolean, include text[], model text, at timestamp with time zone, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.recall(query_text text, query_embedding public.vector, match_count integer, filter jsonb, types text[], min_score double precision, explain boolean, include text[], model text, at timestamp with time zone, workspace uuid) TO app;


--
-- Name: FUNCTION reindex(workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.reindex(workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.reindex(workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.reindex(workspace uuid) TO app;


--
-- Name: FUNCTION reinforce(ids uuid[], value double precision, at timestamp with time zone, recall_id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.reinforce(ids uuid[], value double precision, at timestamp with time zone, recall_id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.reinforce(ids uuid[], value double precision, at timestamp with time zone, recall_id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.reinforce(ids uuid[], value double precision, at timestamp with time zone, recall_id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION related(id uuid, entity text, relation text, hops integer, match_count integer, at timestamp with time zone, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.related(id uuid, entity text, relation text, hops integer, match_count integer, at timestamp with time zone, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.related(id uuid, entity text, relation text, hops integer, match_count integer, at timestamp with time zone, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.related(id uuid, entity text, relation text, hops integer, match_count integer, at timestamp with time zone, workspace uuid) TO app;


--
-- Name: FUNCTION remove_alias(alias text, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.remove_alias(alias text, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.remove_alias(alias text, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.remove_alias(alias text, workspace uuid) TO app;


--
-- Name: FUNCTION remove_entities(id uuid, names text[], workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.remove_entities(id uuid, names text[], workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.remove_entities(id uuid, names text[], workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.remove_entities(id uuid, names text[], workspace uuid) TO app;


--
-- Name: FUNCTION resolve(keep uuid, drop uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.resolve(keep uuid, drop uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.resolve(keep uuid, drop uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.resolve(keep uuid, drop uuid, workspace uuid) TO app;


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
-- Name: FUNCTION restore_skips(); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.restore_skips() FROM PUBLIC;


--
-- Name: FUNCTION retention(id uuid, at timestamp with time zone, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.retention(id uuid, at timestamp with time zone, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.retention(id uuid, at timestamp with time zone, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.retention(id uuid, at timestamp with time zone, workspace uuid) TO app;


--
-- Name: FUNCTION retrieval_latency(a double precision, f double precision, lf double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.retrieval_latency(a double precision, f double precision, lf double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.retrieval_latency(a double precision, f double precision, lf double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.retrieval_latency(a double precision, f double precision, lf double precision) TO app;


--
-- Name: FUNCTION retrieval_probability(a double precision, tau double precision, s double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.retrieval_probability(a double precision, tau double precision, s double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.retrieval_probability(a double precision, tau double precision, s double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.retrieval_probability(a double precision, tau double precision, s double precision) TO app;


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
-- Name: FUNCTION spread(workspace uuid, seeds uuid[], weights double precision[], alpha double precision, max_hops integer, eps double precision, max_edges integer, at timestamp with time zone); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.spread(workspace uuid, seeds uuid[], weights double precision[], alpha double precision, max_hops integer, eps double precision, max_edges integer, at timestamp with time zone) FROM postgres;
GRANT ALL ON FUNCTION engram.spread(workspace uuid, seeds uuid[], weights double precision[], alpha double precision, max_hops integer, eps double precision, max_edges integer, at timestamp with time zone) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.spread(workspace uuid, seeds uuid[], weights double precision[], alpha double precision, max_hops integer, eps double precision, max_edges integer, at timestamp with time zone) TO app;


--
-- Name: FUNCTION spread_fan(s double precision, fan double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.spread_fan(s double precision, fan double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.spread_fan(s double precision, fan double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.spread_fan(s double precision, fan double precision) TO app;


--
-- Name: FUNCTION stability_upstream(type text, n bigint, importance double precision, consolidation_count integer); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.stability_upstream(type text, n bigint, importance double precision, consolidation_count integer) FROM postgres;
GRANT ALL ON FUNCTION engram.stability_upstream(type text, n bigint, importance double precision, consolidation_count integer) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.stability_upstream(type text, n bigint, importance double precision, consolidation_count integer) TO app;


--
-- Name: FUNCTION stats(workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.stats(workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.stats(workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.stats(workspace uuid) TO app;


--
-- Name: FUNCTION supersede(old uuid, new uuid, content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], expires_at timestamp with time zone, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.supersede(old uuid, new uuid, content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], expires_at timestamp with time zone, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.supersede(old uuid, new uuid, content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], expires_at timestamp with time zone, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.supersede(old uuid, new uuid, content text, type text, importance double precision, embedding public.vector, tags text[], metadata jsonb, occurred_at timestamp with time zone, agent_id text, session_id text, speaker text, role text, source text, entities text[], expires_at timestamp with time zone, workspace uuid) TO app;


--
-- Name: FUNCTION superseded(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.superseded(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.superseded(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.superseded(id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION touch(ids uuid[], kind text, gain double precision, at timestamp with time zone, recall_id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.touch(ids uuid[], kind text, gain double precision, at timestamp with time zone, recall_id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.touch(ids uuid[], kind text, gain double precision, at timestamp with time zone, recall_id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.touch(ids uuid[], kind text, gain double precision, at timestamp with time zone, recall_id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION trace_evolve(r1 double precision, r2 double precision, dt_days double precision, alpha double precision, mu1 double precision, mu2 double precision, input double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.trace_evolve(r1 double precision, r2 double precision, dt_days double precision, alpha double precision, mu1 double precision, mu2 double precision, input double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.trace_evolve(r1 double precision, r2 double precision, dt_days double precision, alpha double precision, mu1 double precision, mu2 double precision, input double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.trace_evolve(r1 double precision, r2 double precision, dt_days double precision, alpha double precision, mu1 double precision, mu2 double precision, input double precision) TO app;


--
-- Name: FUNCTION trace_strength(r1 double precision, r2 double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.trace_strength(r1 double precision, r2 double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.trace_strength(r1 double precision, r2 double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.trace_strength(r1 double precision, r2 double precision) TO app;


--
-- Name: FUNCTION uncontradict(a uuid, b uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.uncontradict(a uuid, b uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.uncontradict(a uuid, b uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.uncontradict(a uuid, b uuid, workspace uuid) TO app;


--
-- Name: FUNCTION unlink(source uuid, target uuid, relation text, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.unlink(source uuid, target uuid, relation text, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.unlink(source uuid, target uuid, relation text, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.unlink(source uuid, target uuid, relation text, workspace uuid) TO app;


--
-- Name: FUNCTION unpin(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.unpin(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.unpin(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.unpin(id uuid, workspace uuid) TO app;


--
-- Name: FUNCTION unsupersede(id uuid, workspace uuid); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.unsupersede(id uuid, workspace uuid) FROM postgres;
GRANT ALL ON FUNCTION engram.unsupersede(id uuid, workspace uuid) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.unsupersede(id uuid, workspace uuid) TO app;


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
-- Name: FUNCTION base_level_agg(timestamp with time zone, timestamp with time zone, double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.base_level_agg(timestamp with time zone, timestamp with time zone, double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.base_level_agg(timestamp with time zone, timestamp with time zone, double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.base_level_agg(timestamp with time zone, timestamp with time zone, double precision) TO app;


--
-- Name: FUNCTION heat_agg(timestamp with time zone, double precision); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.heat_agg(timestamp with time zone, double precision) FROM postgres;
GRANT ALL ON FUNCTION engram.heat_agg(timestamp with time zone, double precision) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.heat_agg(timestamp with time zone, double precision) TO app;


--
-- Name: FUNCTION heat_merge_agg(bytea); Type: ACL; Schema: engram; Owner: postgres
--

REVOKE ALL ON FUNCTION engram.heat_merge_agg(bytea) FROM postgres;
GRANT ALL ON FUNCTION engram.heat_merge_agg(bytea) TO postgres WITH GRANT OPTION;
GRANT ALL ON FUNCTION engram.heat_merge_agg(bytea) TO app;


--
-- Name: TABLE access_log; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.access_log TO app;


--
-- Name: TABLE access_queue; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT ON TABLE engram.access_queue TO app;


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
-- Name: TABLE entity_aliases; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE engram.entity_aliases TO app;


--
-- Name: TABLE erasures; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.erasures TO app;


--
-- Name: TABLE graph_links; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE engram.graph_links TO app;


--
-- Name: TABLE hebbian_links; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.hebbian_links TO app;


--
-- Name: TABLE maintenance; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.maintenance TO app;


--
-- Name: TABLE memories; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE engram.memories TO app;


--
-- Name: TABLE memory_overview; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.memory_overview TO app;


--
-- Name: TABLE memory_state; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT,UPDATE ON TABLE engram.memory_state TO app;


--
-- Name: TABLE memory_type_settings; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.memory_type_settings TO app;


--
-- Name: TABLE recall_credits; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT,INSERT,UPDATE ON TABLE engram.recall_credits TO app;


--
-- Name: TABLE settings; Type: ACL; Schema: engram; Owner: postgres
--

GRANT SELECT ON TABLE engram.settings TO app;


--
-- PostgreSQL database dump complete
--

\unrestrict fixture

