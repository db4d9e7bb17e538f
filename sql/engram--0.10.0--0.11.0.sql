\echo Use "ALTER EXTENSION engram UPDATE TO '0.11.0'" to load this file. \quit
DROP FUNCTION engram_internal.credit(uuid, uuid, uuid);

CREATE OR REPLACE FUNCTION engram_internal.index_documents(workspace uuid, documents bytea[], state text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
BEGIN
  INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
  SELECT workspace, '', CASE WHEN state <> 'plain' THEN 0 WHEN b.is_full THEN 2 ELSE 1 END,
         engram_internal.uuid_v7(), b.entries, b.block
  FROM engram_internal.merge_blocks(documents, false) b;
  PERFORM engram_internal.pack_sometimes(workspace, '', cardinality(documents), state);
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.index_vectors(workspace uuid, model text, ids uuid[], embeddings vector[], state text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
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
CREATE OR REPLACE FUNCTION engram_internal.require_writable() RETURNS void
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
    called := (SELECT m[1] FROM regexp_matches(calls, 'function (engram[.][a-z_]+)[(]', 'g') WITH ORDINALITY AS c (m, nth) ORDER BY nth DESC LIMIT 1);
    RAISE EXCEPTION 'cannot execute % in a read-only transaction', coalesce(called || '()', 'a function that writes')
      USING ERRCODE = 'read_only_sql_transaction',
            HINT = 'It writes. Through PostgREST call it with POST, not GET; on a standby, call it on the primary.';
  END IF;
END
$$;
CREATE FUNCTION engram_internal.writes(dry_run boolean) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN NOT (dry_run IS TRUE AND current_setting('transaction_read_only')::boolean);
COMMENT ON FUNCTION engram_internal.writes(boolean) IS
'Whether a call is to be asked what one that writes is asked: not a dry run where nothing can be written.';

CREATE FUNCTION engram_internal.fault(state text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN state ~ '^(25|40|57|55006|55P03)' THEN 'moment' WHEN state ~ '^(53|58)' THEN 'server'
            WHEN state ~ '^XX' THEN 'damage' WHEN state ~ '^42' THEN 'code' ELSE 'data' END;
COMMENT ON FUNCTION engram_internal.fault(text) IS
'Whose fault an error is, by its SQLSTATE. moment: of somebody else''s transaction, of the caller''s own, of a lock or a time limit; the same call may succeed a little later. server: it is short of something, for everybody. damage: what is stored cannot be read. code: names, rights or types in a statement. data: of what was passed or is stored.';

CREATE OR REPLACE FUNCTION engram_internal.retry_whole(state text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN engram_internal.fault(state) IN ('moment', 'server', 'damage');
COMMENT ON FUNCTION engram_internal.retry_whole(text) IS
'Whether an error is no fault of the item that met it: the whole call fails with it, so that it is repeated.';

COMMENT ON FUNCTION engram_internal.lock_keys(uuid, text[]) IS
'Until the end of the transaction nobody else stores what has one of these keys in the workspace. Without keys: nobody says what names mean in it, see lock_names().';

CREATE FUNCTION engram_internal.may_lock_key() RETURNS boolean
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'may_lock_key_wrapper';
COMMENT ON FUNCTION engram_internal.may_lock_key() IS
'Whether this transaction may lock one more key by itself. Past its 64 it keeps others from storing anything in the workspace.';

CREATE FUNCTION engram_internal.lock_names(workspace uuid) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'lock_names_wrapper';
COMMENT ON FUNCTION engram_internal.lock_names(uuid) IS
'Until the end of the transaction nobody else says, or has asked, what names mean in the workspace. To be taken before keys.';

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
CREATE OR REPLACE FUNCTION engram.set_embedding_model(
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
  PERFORM engram_internal.require_writable();
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
CREATE OR REPLACE FUNCTION engram.drop_embedding_model(name text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  known   record;
  removed bigint;
BEGIN
  PERFORM engram_internal.require_store();
  PERFORM engram_internal.require_writable();
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
CREATE FUNCTION engram_internal.sweep(model text, made timestamptz)
RETURNS TABLE (until timestamptz, workspace_id uuid, id uuid)
LANGUAGE c VOLATILE STRICT ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sweep_wrapper';
COMMENT ON FUNCTION engram_internal.sweep(text, timestamptz) IS
'How far this backend has looked for memories without a vector of the model, made at that time: the last one that was looked at, or, where all were, until when that is good. No row where nothing is known, or for a caller whom row security binds.';

CREATE FUNCTION engram_internal.note_sweep(model text, made timestamptz, until timestamptz, workspace_id uuid, id uuid) RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'note_sweep_wrapper';
COMMENT ON FUNCTION engram_internal.note_sweep(text, timestamptz, timestamptz, uuid, uuid) IS
'Remembers that, until the transaction is rolled back or the backend ends. 42501 for callers whom row security binds.';

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
  swept   record;
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
  -- on where this backend stopped. Of the default model, of which nearly all is noted, it begins anew after a while only.
  IF every THEN
    SELECT * INTO swept FROM engram_internal.sweep(m.name, m.created_at);
    IF m.is_default AND moment < swept.until THEN
      RETURN;
    END IF;
    last_ws := coalesce(swept.workspace_id, last_ws);
    last_id := coalesce(swept.id, last_id);
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
    PERFORM engram_internal.note_sweep(m.name, m.created_at, CASE WHEN done THEN moment + pause END,
      CASE WHEN NOT done THEN last_ws END, CASE WHEN NOT done THEN last_id END);
  END IF;
END
$$;
COMMENT ON FUNCTION engram.pending_embeddings(text, integer, integer, uuid) IS
'Hands out memories that have no vector of the model yet, and leases them to the caller: nobody else gets them for lease_seconds (default 300) unless set_embedding() comes first.

text is what to embed: the content with its speaker and date. What waits for the default model since it was stored or changed, and leases that ran out, come first and at once; what nobody noted, as when a model is new, comes in the order of ids, and is looked for by each backend that serves all workspaces every ten minutes at most. A role that bypasses row security gets those of all workspaces and passes workspace_id on to set_embedding(); others get their own.';

COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur, but in a sentence (a question mark, or five words beside the quotes) quoted words are words like others; -word must not occur; the first and the last 32 different words, 64 phrases and 64 exclusions count. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words, and vectors count whose cosine or inner product with it is above 0, by l2 all. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged, by default now or as_of; later uses count too, as activation() has it, unless as_of is given. as_of: search what was recorded at that moment and is still known: contents, states and filters of then, uses until then; links between memories add nothing, and vectors count where the text is the same today. What was erased since is gone from the past too. diversity: 0 to 1, by default 0: takes that much times its likeness (cosine of the vectors, else words in common) to the most similar memory before it off a score, so that a result repeats itself less. Of memories that say the same in the same words, but for articles, emphasis and punctuation, and have vectors as alike as duplicate_similarity (settings), only the best is returned, and explain names the others under repeats. Nothing that matches gives no rows.';

CREATE OR REPLACE FUNCTION engram_internal.fold_before(workspace uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  ws uuid;
BEGIN
  -- The row first that is changed afterwards: who folds holds rows that others wait for, and must not wait himself.
  INSERT INTO engram.settings (workspace_id)
  SELECT fold_before.workspace WHERE fold_before.workspace <> '00000000-0000-0000-0000-000000000000' ON CONFLICT DO NOTHING;
  PERFORM FROM engram.settings s WHERE s.workspace_id = fold_before.workspace FOR UPDATE;
  FOR ws IN SELECT DISTINCT q.workspace_id FROM engram.access_queue q
            WHERE q.workspace_id = fold_before.workspace OR fold_before.workspace = '00000000-0000-0000-0000-000000000000' ORDER BY 1 LOOP
    BEGIN
      PERFORM engram_internal.fold_queue(ws, 2147483647);
    EXCEPTION WHEN OTHERS THEN
      -- What cannot be folded must not keep settings from being mended; maintain() reports it.
      PERFORM engram_internal.failed(ws, SQLSTATE, SQLERRM);
    END;
  END LOOP;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.lock_memories(workspace uuid, ids uuid[], others uuid[], forgotten boolean) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ws   uuid := engram_internal.resolve_workspace(workspace, true);
  held uuid[];
  lost uuid;
BEGIN
  -- Always in the same order: of two callers who want the same rows one waits and none holds what the other lacks. One
  -- look-up each: given the array, all of the workspace might be read.
  held := ARRAY(
    SELECT l.id FROM (SELECT DISTINCT u FROM unnest(ids || others) u ORDER BY u) w
    CROSS JOIN LATERAL (
      SELECT m.id, m.deleted_at FROM engram.memories m
      WHERE m.workspace_id = ws AND m.id = w.u FOR NO KEY UPDATE) l
    WHERE forgotten OR l.deleted_at IS NULL);
  SELECT u.id INTO lost FROM unnest(ids) WITH ORDINALITY AS u (id, nth)
  WHERE u.id IS NULL OR u.id <> ALL (held) ORDER BY u.nth LIMIT 1;
  IF FOUND THEN
    PERFORM engram_internal.refuse_memory(lost);
  END IF;
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
CREATE OR REPLACE FUNCTION engram.contradict(a uuid, b uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(contradict.workspace, true);
  changed boolean;
BEGIN
  IF contradict.a = contradict.b THEN
    RAISE EXCEPTION 'memory "%" cannot contradict itself', contradict.a
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name two memories: contradict(a, b) says that a denies b.';
  END IF;
  PERFORM engram_internal.lock_memories(ws, ARRAY[contradict.a, contradict.b], NULL, false);
  UPDATE engram.memories m
  SET contradicts = ARRAY(SELECT DISTINCT u FROM unnest(m.contradicts || contradict.b) u ORDER BY u)
  WHERE m.workspace_id = ws AND m.id = contradict.a AND contradict.b <> ALL (coalesce(m.contradicts, '{}'));
  changed := FOUND;
  UPDATE engram.memories m
  SET contradicted_by = ARRAY(SELECT DISTINCT u FROM unnest(m.contradicted_by || contradict.a) u ORDER BY u)
  WHERE m.workspace_id = ws AND m.id = contradict.b AND contradict.a <> ALL (coalesce(m.contradicted_by, '{}'));
  RETURN changed OR FOUND;
END
$$;
CREATE OR REPLACE FUNCTION engram.uncontradict(a uuid, b uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(uncontradict.workspace, true);
  changed boolean;
BEGIN
  PERFORM engram_internal.lock_memories(ws, ARRAY[uncontradict.a, uncontradict.b], NULL, true);
  UPDATE engram.memories m SET contradicts = nullif(array_remove(m.contradicts, uncontradict.b), '{}')
  WHERE m.workspace_id = ws AND m.id = uncontradict.a AND uncontradict.b = ANY (m.contradicts);
  changed := FOUND;
  UPDATE engram.memories m SET contradicted_by = nullif(array_remove(m.contradicted_by, uncontradict.a), '{}')
  WHERE m.workspace_id = ws AND m.id = uncontradict.b AND uncontradict.a = ANY (m.contradicted_by);
  RETURN changed OR FOUND;
END
$$;
CREATE OR REPLACE FUNCTION engram.add_alias(entity text, alias text, workspace uuid DEFAULT NULL) RETURNS boolean
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
  -- Who stores a name just now is waited for: nobody resolves the alias before it is there and links it afterwards,
  -- and no two aliases make a circle.
  PERFORM engram_internal.lock_names(ws);
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
  PERFORM engram_internal.require_writable();
  IF NOT has_table_privilege('engram.search_blocks', 'INSERT') OR NOT engram_internal.trusted() THEN
    RAISE EXCEPTION 'role "%" may not rebuild the search index', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Run it as the owner of the tables. The index follows every change by itself.';
  END IF;
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'reindex() cannot run in a transaction that is %', current_setting('transaction_isolation')
      USING ERRCODE = 'active_sql_transaction', HINT = 'Run it by itself, or BEGIN ISOLATION LEVEL READ COMMITTED.';
  END IF;
  -- Nobody stores or packs meanwhile, or what they store would be in it twice or not at all.
  LOCK TABLE engram.memories, engram.embeddings, engram.search_blocks IN SHARE ROW EXCLUSIVE MODE;
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
CREATE OR REPLACE FUNCTION engram.history(id uuid, workspace uuid DEFAULT NULL)
RETURNS TABLE (
  version integer, action text, actor uuid, at timestamptz, content text, summary text, type text,
  importance double precision, pinned boolean, tags text[], metadata jsonb, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, expires_at timestamptz, deleted_at timestamptz,
  speaker text, role text, session_id text, agent_id text, source text, changed text[])
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(history.workspace, false);
BEGIN
  RETURN QUERY
  SELECT v.version, v.action, v.actor, v.at, s.content, s.summary, s.type, s.importance, s.pinned, s.tags, s.metadata,
         s.entities, s.occurred_at, s.valid_from, s.valid_to, s.superseded_by, s.expires_at, s.deleted_at,
         s.speaker, s.role, s.session_id, s.agent_id, s.source,
         CASE WHEN b.state IS NOT NULL THEN ARRAY(
           SELECT k.key FROM jsonb_each(v.state) k
           WHERE k.key NOT IN ('version', 'updated_at', 'layer') AND CASE
             -- Each row has times in the zone of whoever wrote it.
             WHEN k.key IN ('occurred_at', 'valid_from', 'valid_to', 'expires_at', 'deleted_at', 'created_at')
             THEN (k.value #>> '{}')::timestamptz IS DISTINCT FROM (b.state ->> k.key)::timestamptz
             ELSE k.value IS DISTINCT FROM b.state -> k.key END
           ORDER BY k.key) END
  FROM engram_internal.versions(ws, history.id) v
  LEFT JOIN engram_internal.versions(ws, history.id) b ON b.version = v.version - 1
  CROSS JOIN LATERAL jsonb_to_record(coalesce(v.state, '{}')) AS s (
    content text, summary text, type text, importance double precision, pinned boolean, tags text[], metadata jsonb,
    entities text[], occurred_at timestamptz, valid_from timestamptz, valid_to timestamptz, superseded_by uuid,
    expires_at timestamptz, deleted_at timestamptz, speaker text, role text, session_id text, agent_id text, source text)
  ORDER BY v.version DESC;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.left_out(workspace uuid, state text, message text, help text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Only what is damaged is so in one workspace, and a statement that is wrong is so in all of them.
  IF engram_internal.fault(state) IN ('moment', 'server', 'code') THEN
    RETURN false;
  END IF;
  IF workspace IS NOT NULL THEN
    RAISE WARNING 'workspace "%" is left out: %', workspace, message
      USING HINT = concat_ws(' ', nullif(help, ''), format('Then: SELECT * FROM engram.consolidate(%L);', workspace));
  END IF;
  RETURN true;
END
$$;
CREATE OR REPLACE PROCEDURE engram.consolidate_in_batches(batch_size integer DEFAULT 1000, at timestamptz DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  ws   pg_catalog.uuid;
  help pg_catalog.text;
  done pg_catalog.bool;
BEGIN
  PERFORM engram_internal.require_writable();
  PERFORM engram_internal.outside_transaction('consolidate_in_batches()');
  -- Whatever the session's default is: under an older snapshot nothing is folded. Each COMMIT begins with the default anew.
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
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
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      EXIT WHEN done;
    END LOOP;
  END LOOP;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.change_settings(workspace uuid, changes jsonb, preset text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
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
CREATE OR REPLACE FUNCTION engram_internal.partition_bounds(parent text)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz, is_default boolean)
LANGUAGE plpgsql STABLE ROWS 20
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT c.oid::regclass::text,
         (CASE WHEN b.parts[1] = 'MINVALUE' THEN '-infinity' ELSE trim('''' FROM b.parts[1]) END)::timestamptz,
         (CASE WHEN b.parts[2] = 'MAXVALUE' THEN 'infinity' ELSE trim('''' FROM b.parts[2]) END)::timestamptz,
         b.parts IS NULL
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  CROSS JOIN LATERAL (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM [(](.*)[)] TO [(](.*)[)]$') AS parts) b
  WHERE i.inhparent = to_regclass('engram.' || quote_ident(partition_bounds.parent))
  ORDER BY 2 NULLS LAST;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.create_partitions_as_owner(parent text, key text, until timestamptz)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql VOLATILE ROWS 5
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
  most_moved constant integer := 10000;
  -- Each takes locks until the transaction ends, and the server has room for some thousands.
  most_made  constant integer := 150;
  n        integer := 0;
  unit     text := coalesce(engram_internal.partition_setting('partition_interval'), 'month');
  spare    text := create_partitions_as_owner.parent || '_default';
  -- Not the time of the transaction: it may have begun in another interval.
  moment   timestamptz := clock_timestamp();
  goal     timestamptz := create_partitions_as_owner.until;
  since    timestamptz;
  border   timestamptz;
  held     bigint;
  made     text;
  gap      record;
  filled   boolean;
BEGIN
  EXECUTE format('LOCK TABLE ONLY engram.%I IN SHARE UPDATE EXCLUSIVE MODE', create_partitions_as_owner.parent);
  IF goal IS NULL THEN
    goal := moment;
    FOR held IN 1 .. coalesce(engram_internal.partition_setting('partitions_ahead')::integer, 2) LOOP
      goal := engram_internal.interval_after(unit, goal);
    END LOOP;
  END IF;
  IF NOT EXISTS (SELECT FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b WHERE b.partition::regclass = to_regclass('engram.' || quote_ident(spare)) AND b.is_default) THEN
    RAISE EXCEPTION 'table engram.% has no default partition', create_partitions_as_owner.parent
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('Somebody dropped or detached it. If it is there: ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT; else, as the owner of the tables: SELECT engram.setup();', create_partitions_as_owner.parent, spare);
  END IF;
  -- Where somebody took one out from between, and rows have come for it since.
  FOR gap IN
    SELECT x.ends, x.begins FROM (
      SELECT b.upper_bound AS ends, lead(b.lower_bound) OVER (ORDER BY b.lower_bound) AS begins
      FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b WHERE NOT b.is_default) x
    WHERE x.ends < x.begins
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM engram.%I WHERE %I >= $1 AND %2$I < $2)', spare, create_partitions_as_owner.key)
      INTO filled USING gap.ends, gap.begins;
    CONTINUE WHEN NOT filled;
    EXECUTE format('LOCK TABLE engram.%I IN ACCESS EXCLUSIVE MODE', spare);
    RETURN QUERY SELECT * FROM engram_internal.fill_partition(create_partitions_as_owner.parent, create_partitions_as_owner.key,
                   'p' || to_char(gap.ends, 'YYYYMMDD'), gap.ends, gap.begins);
  END LOOP;
  since := (SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b);
  IF since > goal AND NOT EXISTS (SELECT FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b WHERE b.lower_bound = '-infinity') THEN
    -- Somebody dropped the one for everything before.
    border := (SELECT min(b.lower_bound) FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b);
    goal := since;
    since := NULL;
  ELSIF since > goal THEN
    RETURN;
  END IF;

  -- What no partition covered so far lies in the default one, and must not when theirs is made. Others
  -- cannot write it meanwhile; that is short, because a few rows are moved, and of many the whole table
  -- becomes the partition that they need.
  -- Rows of a far future stay where they are.
  EXECUTE format('SELECT count(*) FROM (SELECT FROM engram.%I WHERE %I < $1 LIMIT %s) x', spare, create_partitions_as_owner.key, most_moved + 1)
    INTO held USING engram_internal.interval_after(unit, goal);
  IF held > most_moved THEN
    -- The table before its partition, as everybody who reads or writes them.
    EXECUTE format('LOCK TABLE ONLY engram.%I IN ACCESS EXCLUSIVE MODE', create_partitions_as_owner.parent);
  END IF;
  EXECUTE format('LOCK TABLE engram.%I IN ACCESS EXCLUSIVE MODE', spare);
  IF held > most_moved THEN
    lower_bound := coalesce(since, '-infinity');
    upper_bound := engram_internal.interval_after(unit, greatest(moment, since));
    EXECUTE format('ALTER TABLE engram.%I DETACH PARTITION engram.%I', create_partitions_as_owner.parent, spare);
    made := create_partitions_as_owner.parent || CASE WHEN since IS NULL THEN '_old' ELSE '_p' || to_char(since, 'YYYYMMDD') END;
    PERFORM engram_internal.rename_partition(spare, made);
    PERFORM engram_internal.make_partition(create_partitions_as_owner.parent, 'default', made);
    EXECUTE format('ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT', create_partitions_as_owner.parent, spare);
    EXECUTE format('COMMENT ON TABLE engram.%I IS %L', spare, obj_description(to_regclass('engram.' || quote_ident(made)), 'pg_class'));
    EXECUTE format('WITH out AS (DELETE FROM engram.%1$I WHERE %2$I < $1 OR %2$I >= $2 RETURNING *) INSERT INTO engram.%3$I SELECT * FROM out',
                   made, create_partitions_as_owner.key, spare) USING lower_bound, upper_bound;
    PERFORM engram_internal.attach_partition(create_partitions_as_owner.parent, made, lower_bound, upper_bound);
    partition := 'engram.' || quote_ident(made);
    RETURN NEXT;
    since := upper_bound;
  ELSIF since IS NULL THEN
    border := coalesce(border, date_trunc(unit, moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC');
    RETURN QUERY SELECT * FROM engram_internal.fill_partition(create_partitions_as_owner.parent, create_partitions_as_owner.key, 'old', '-infinity', border);
    since := coalesce((SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b), border);
  END IF;
  WHILE since <= goal AND n < most_made LOOP
    n := n + 1;
    border := engram_internal.interval_after(unit, since);
    RETURN QUERY SELECT * FROM engram_internal.fill_partition(create_partitions_as_owner.parent, create_partitions_as_owner.key,
                   'p' || to_char(since, 'YYYYMMDD'), since, border);
    since := border;
  END LOOP;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.release_partitions_as_owner(
  parent text, key text, before timestamptz, schema_ text, table_ text, dry_run boolean)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz, bytes bigint, moved_to text)
LANGUAGE plpgsql VOLATILE ROWS 5
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
  p       record;
  newest  xid8;
  name    text;
  wanted  text;
  nth     integer;
  lowest  timestamptz;
  more    boolean;
  filled  boolean;
BEGIN
  IF NOT release_partitions_as_owner.dry_run AND current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'partitions cannot be released in a transaction that is %', current_setting('transaction_isolation')
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'It does not see what others wrote last, which would be lost. Call it in one that is read committed.';
  END IF;
  EXECUTE format('LOCK TABLE ONLY engram.%I IN SHARE UPDATE EXCLUSIVE MODE', release_partitions_as_owner.parent);
  SELECT min(b.lower_bound), coalesce(bool_or(b.upper_bound <= release_partitions_as_owner.before), false) INTO lowest, more
  FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b WHERE b.lower_bound > '-infinity';
  FOR p IN
    SELECT b.* FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b
    WHERE b.upper_bound <= release_partitions_as_owner.before AND NOT b.is_default
    ORDER BY b.upper_bound
  LOOP
    partition := p.partition;
    lower_bound := nullif(p.lower_bound, '-infinity');
    upper_bound := p.upper_bound;
    bytes := pg_total_relation_size(p.partition::regclass);
    moved_to := NULL;
    IF p.lower_bound = '-infinity' AND p.upper_bound = lowest AND NOT more THEN
      -- The one for everything before stays as long as it is empty.
      EXECUTE format('SELECT EXISTS (SELECT FROM %s)', p.partition) INTO filled;
      CONTINUE WHEN NOT filled;
    END IF;
    IF release_partitions_as_owner.dry_run THEN
      moved_to := coalesce(release_partitions_as_owner.table_, release_partitions_as_owner.schema_);
      RETURN NEXT;
      CONTINUE;
    END IF;
    IF release_partitions_as_owner.parent = 'memory_events' THEN
      INSERT INTO engram.maintenance (workspace_id) VALUES ('00000000-0000-0000-0000-000000000000') ON CONFLICT DO NOTHING;
      PERFORM FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000' FOR NO KEY UPDATE;
    END IF;
    -- The table before its partitions, as everybody who reads or writes them. Whoever has written has ended afterwards;
    -- who only began before the end of the partition and writes later finds another.
    EXECUTE format('LOCK TABLE ONLY engram.%I IN ACCESS EXCLUSIVE MODE', release_partitions_as_owner.parent);
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', p.partition);
    IF release_partitions_as_owner.parent = 'memory_events' THEN
      -- A device that has not seen all of it can no longer be told.
      EXECUTE format('SELECT e.xid FROM %s e WHERE e.origin = engram_internal.store_origin() ORDER BY e.xid DESC LIMIT 1', p.partition) INTO newest;
      UPDATE engram.maintenance m
      SET events_dropped_xid = CASE WHEN newest > coalesce(m.events_dropped_xid, '0'::xid8) THEN newest ELSE m.events_dropped_xid END,
          events_dropped_until = greatest(m.events_dropped_until, p.upper_bound)
      WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
    END IF;
    EXECUTE format('ALTER TABLE engram.%I DETACH PARTITION %s', release_partitions_as_owner.parent, p.partition);
    name := (SELECT c.relname FROM pg_class c WHERE c.oid = p.partition::regclass);
    IF release_partitions_as_owner.table_ IS NOT NULL THEN
      -- What a table does with its rows (triggers, rules, checks) it does here with the rights of this role.
      EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', release_partitions_as_owner.table_::regclass);
      IF EXISTS (SELECT FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
                 WHERE c.oid = release_partitions_as_owner.table_::regclass AND r.rolname <> current_user AND NOT r.rolsuper) THEN
        RAISE EXCEPTION 'table "%" does not belong to the owner of the tables of engram', release_partitions_as_owner.table_
          USING ERRCODE = 'insufficient_privilege',
                HINT = format('Its triggers would run with the rights of that role. ALTER TABLE %s OWNER TO %I; or detach into a schema.', release_partitions_as_owner.table_, current_user);
      END IF;
      EXECUTE format('INSERT INTO %s SELECT * FROM %s', release_partitions_as_owner.table_::regclass, p.partition);
      EXECUTE format('DROP TABLE %s', p.partition);
      moved_to := release_partitions_as_owner.table_::regclass::text;
    ELSIF release_partitions_as_owner.schema_ IS NOT NULL THEN
      -- The name of the one for everything before is needed again.
      wanted := CASE WHEN p.lower_bound = '-infinity' THEN format('%s_until_%s', release_partitions_as_owner.parent, to_char(p.upper_bound, 'YYYYMMDD'))
                     ELSE name END;
      nth := 1;
      WHILE wanted <> name AND to_regclass('engram.' || quote_ident(wanted)) IS NOT NULL
            OR release_partitions_as_owner.schema_ <> 'engram'
               AND to_regclass(format('%I.%I', release_partitions_as_owner.schema_, wanted)) IS NOT NULL LOOP
        nth := nth + 1;
        wanted := format('%s_%s', substring(wanted FROM '^(.*?[0-9]{8})'), nth);
      END LOOP;
      IF wanted <> name THEN
        PERFORM engram_internal.rename_partition(name, wanted);
      END IF;
      IF release_partitions_as_owner.schema_ <> 'engram' THEN
        EXECUTE format('ALTER TABLE engram.%I SET SCHEMA %I', wanted, release_partitions_as_owner.schema_);
      END IF;
      moved_to := format('%I.%I', release_partitions_as_owner.schema_, wanted);
    ELSE
      EXECUTE format('DROP TABLE %s', p.partition);
    END IF;
    RETURN NEXT;
  END LOOP;
  IF release_partitions_as_owner.dry_run THEN
    RETURN;
  END IF;
  -- Late rows find a home: the partition for everything before reaches to the oldest that is left.
  lowest := (SELECT min(b.lower_bound) FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b WHERE b.lower_bound > '-infinity');
  IF lowest IS NOT NULL AND NOT EXISTS (SELECT FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b WHERE b.lower_bound = '-infinity') THEN
    EXECUTE format('LOCK TABLE engram.%I IN ACCESS EXCLUSIVE MODE', release_partitions_as_owner.parent || '_default');
    PERFORM engram_internal.fill_partition(release_partitions_as_owner.parent, release_partitions_as_owner.key, 'old', '-infinity', lowest);
  END IF;
END
$$;
CREATE OR REPLACE FUNCTION engram.create_partitions(until timestamptz DEFAULT NULL)
RETURNS TABLE (parent_table text, partition text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM engram_internal.require_writable();
  IF NOT isfinite(create_partitions.until) OR create_partitions.until > now() + interval '50 years' THEN
    RAISE EXCEPTION 'until is %', create_partitions.until
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a moment within the next 50 years, or leave it out.';
  END IF;
  RETURN QUERY
  SELECT r.parent, r.partition, nullif(r.lower_bound, '-infinity'), r.upper_bound
  FROM jsonb_to_recordset(engram_internal.administer('create_partitions', jsonb_build_object('until', create_partitions.until)))
    AS r (parent text, partition text, lower_bound timestamptz, upper_bound timestamptz);
END
$$;
CREATE OR REPLACE FUNCTION engram.drop_partitions(older_than interval DEFAULT NULL, parent text DEFAULT NULL, dry_run boolean DEFAULT NULL)
RETURNS TABLE (parent_table text, partition text, lower_bound timestamptz, upper_bound timestamptz, bytes bigint)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  -- Who only asks may do so where nothing can be written, but on a standby not even locks can be had.
  PERFORM engram_internal.require_writable() WHERE engram_internal.writes(drop_partitions.dry_run) OR pg_is_in_recovery();
  PERFORM engram_internal.check_age(drop_partitions.older_than);
  RETURN QUERY
  SELECT r.parent, r.partition, r.lower_bound, r.upper_bound, r.bytes
  FROM jsonb_to_recordset(engram_internal.administer('release_partitions', jsonb_build_object(
      'older_than', drop_partitions.older_than, 'parent', drop_partitions.parent, 'dry_run', drop_partitions.dry_run)))
    AS r (parent text, partition text, lower_bound timestamptz, upper_bound timestamptz, bytes bigint);
END
$$;
CREATE OR REPLACE FUNCTION engram.detach_partitions(
  older_than interval,
  parent text DEFAULT NULL,
  into_schema text DEFAULT NULL,
  into_table text DEFAULT NULL,
  dry_run boolean DEFAULT NULL)
RETURNS TABLE (parent_table text, partition text, lower_bound timestamptz, upper_bound timestamptz, moved_to text)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM engram_internal.require_writable() WHERE engram_internal.writes(detach_partitions.dry_run) OR pg_is_in_recovery();
  IF detach_partitions.older_than IS NULL THEN
    RAISE EXCEPTION 'older_than is NULL'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an interval, for example ''1 year''.';
  END IF;
  PERFORM engram_internal.check_age(detach_partitions.older_than);
  IF detach_partitions.into_table IS NOT NULL AND (detach_partitions.into_schema IS NOT NULL OR detach_partitions.parent IS NULL) THEN
    RAISE EXCEPTION 'into_table "%" goes with a parent and without into_schema', detach_partitions.into_table
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name the table whose rows it takes, for example parent => ''access_log''; or give into_schema alone.';
  END IF;
  IF detach_partitions.into_schema IS NOT NULL AND to_regnamespace(quote_ident(detach_partitions.into_schema)) IS NULL THEN
    RAISE EXCEPTION 'schema "%" does not exist', detach_partitions.into_schema
      USING ERRCODE = 'invalid_schema_name', HINT = format('Create it first: CREATE SCHEMA %I;', detach_partitions.into_schema);
  END IF;
  IF detach_partitions.into_table IS NOT NULL AND to_regclass(detach_partitions.into_table) IS NULL THEN
    RAISE EXCEPTION 'table "%" does not exist', detach_partitions.into_table
      USING ERRCODE = 'undefined_table',
            HINT = format('Create it first: CREATE TABLE %s (LIKE engram.%I);', detach_partitions.into_table, detach_partitions.parent);
  END IF;
  RETURN QUERY
  SELECT r.parent, r.partition, r.lower_bound, r.upper_bound, r.moved_to
  FROM jsonb_to_recordset(engram_internal.administer('release_partitions', jsonb_build_object(
      'older_than', detach_partitions.older_than, 'parent', detach_partitions.parent, 'dry_run', detach_partitions.dry_run,
      'schema', CASE WHEN detach_partitions.into_table IS NULL THEN coalesce(detach_partitions.into_schema, 'engram') END,
      'table', to_regclass(detach_partitions.into_table)::text)))
    AS r (parent text, partition text, lower_bound timestamptz, upper_bound timestamptz, moved_to text);
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
CREATE OR REPLACE FUNCTION engram_internal.failed(workspace uuid, state text, message text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Of resources that are short, all others would be short too. What comes of the moment, the next run makes up for.
  IF engram_internal.fault(state) = 'server' THEN
    RAISE EXCEPTION '%', message USING ERRCODE = state, HINT = 'See the log of the server.';
  END IF;
  RETURN jsonb_build_object('error', format('workspace %s: %s', workspace, message));
END
$$;
CREATE OR REPLACE PROCEDURE engram.maintain(phases text[] DEFAULT NULL, INOUT report jsonb DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  phase  pg_catalog.text;
  step   pg_catalog.jsonb;
  result pg_catalog.jsonb := '{}';
  began  pg_catalog.timestamptz;
BEGIN
  IF pg_catalog.pg_is_in_recovery() THEN
    report := '{"skipped": "this is a standby: its primary is maintained"}';
    RETURN;
  END IF;
  PERFORM engram_internal.require_administrator();
  PERFORM engram_internal.outside_transaction('maintain()');
  -- Whatever the session's default is: under an older snapshot nothing is folded or packed. Each COMMIT begins with the
  -- default anew.
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  FOREACH phase IN ARRAY coalesce(maintain.phases, engram_internal.phases()) LOOP
    step := NULL;
    began := pg_catalog.clock_timestamp();
    LOOP
      step := engram_internal.maintain_step(phase, step OPERATOR(pg_catalog.->>) 'after', step);
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      EXIT WHEN (step OPERATOR(pg_catalog.->>) 'done')::pg_catalog.bool;
    END LOOP;
    result := result OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(phase, (step OPERATOR(pg_catalog.-) 'done'::pg_catalog.text)
      OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('seconds',
        pg_catalog.round(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began)::pg_catalog.numeric, 3)));
  END LOOP;
  PERFORM engram_internal.administer('maintain', pg_catalog.jsonb_build_object('phase', 'finish', 'report', result));
  COMMIT;
  report := result;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.archive_messages_as_owner(
  workspace uuid, inactive_for interval, keep integer, dry_run boolean, batch_size integer)
RETURNS TABLE (conversations bigint, archived bigint, skipped bigint, done boolean)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  cutoff   timestamptz := engram_internal.earlier(now(), archive_messages_as_owner.inactive_for);
  ws       uuid := archive_messages_as_owner.workspace;
  chat     text;
  newest   timestamptz;
  edge     record;
  moved    bigint;
BEGIN
  IF NOT has_table_privilege('engram.message_archive', 'INSERT') THEN
    RAISE EXCEPTION 'role "%" may not archive messages', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.archive_messages().';
  END IF;
  conversations := 0; archived := 0; skipped := 0; done := true;
  IF ws IS NULL THEN
    SELECT m.workspace_id INTO ws FROM engram.messages m ORDER BY m.workspace_id LIMIT 1;
  END IF;
  <<everything>>
  WHILE ws IS NOT NULL LOOP
    chat := '';
    LOOP
      SELECT m.session_id INTO chat FROM engram.messages m
      WHERE m.workspace_id = ws AND m.session_id > chat ORDER BY m.session_id LIMIT 1;
      EXIT WHEN NOT FOUND;
      SELECT m.created_at INTO newest FROM engram.messages m
      WHERE m.workspace_id = ws AND m.session_id = chat ORDER BY m.created_at DESC LIMIT 1;
      CONTINUE WHEN newest >= cutoff;
      -- The oldest that stays; without one everything goes.
      edge := (timestamptz 'infinity', uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff');
      IF archive_messages_as_owner.keep > 0 THEN
        SELECT m.created_at AS f1, m.id AS f2 INTO edge FROM engram.messages m
        WHERE m.workspace_id = ws AND m.session_id = chat
        ORDER BY m.created_at DESC, m.id DESC OFFSET archive_messages_as_owner.keep - 1 LIMIT 1;
        CONTINUE WHEN NOT FOUND;
      END IF;
      CONTINUE WHEN NOT EXISTS (SELECT FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = chat
                                AND (m.created_at, m.id) < (edge.f1, edge.f2));
      -- Each is locked until the transaction ends, and it has so many locks. One is moved past them, so that who calls
      -- until all is done comes to an end.
      IF conversations = archive_messages_as_owner.batch_size
         OR NOT archive_messages_as_owner.dry_run AND conversations > 0 AND NOT engram_internal.may_lock_key() THEN
        done := false;
        EXIT everything;
      END IF;
      IF archive_messages_as_owner.dry_run THEN
        SELECT count(*) INTO moved FROM engram.messages m
        WHERE m.workspace_id = ws AND m.session_id = chat AND (m.created_at, m.id) < (edge.f1, edge.f2);
      ELSE
        -- Somebody writes in it, or restores or erases it: another time.
        IF NOT engram_internal.try_lock_key(ws, 'conversation ' || chat) THEN
          skipped := skipped + 1;
          CONTINUE;
        END IF;
        WITH gone AS (
          DELETE FROM engram.messages m
          WHERE m.workspace_id = ws AND m.session_id = chat AND (m.created_at, m.id) < (edge.f1, edge.f2)
            -- What was said since the look above is not for now.
            AND NOT EXISTS (SELECT FROM engram.messages n WHERE n.workspace_id = ws AND n.session_id = chat AND n.created_at >= cutoff)
          RETURNING m.*
        ), parts AS (
          SELECT g.*, (row_number() OVER w - 1) / 100 AS part,
                 sum(octet_length(g.content) + pg_column_size(g.metadata)) OVER w / 1000000 AS megabyte
          FROM gone g WINDOW w AS (ORDER BY g.created_at, g.id)
        ), kept AS (
          INSERT INTO engram.message_archive (workspace_id, session_id, first_at, id, last_at, turns, ids, messages)
          SELECT ws, chat, min(p.created_at), engram_internal.uuid_v7(), max(p.created_at), count(*), array_agg(p.id ORDER BY p.created_at, p.id),
                 jsonb_agg(engram_internal.archived_turn(p.user_id, p.role, p.speaker, p.content, p.metadata, p.created_at)
                           ORDER BY p.created_at, p.id)
          FROM parts p GROUP BY p.part, p.megabyte
          RETURNING turns
        )
        SELECT coalesce(sum(k.turns), 0) INTO moved FROM kept k;
      END IF;
      IF moved > 0 THEN
        conversations := conversations + 1;
        archived := archived + moved;
      END IF;
    END LOOP;
    EXIT WHEN archive_messages_as_owner.workspace IS NOT NULL;
    SELECT m.workspace_id INTO ws FROM engram.messages m WHERE m.workspace_id > ws ORDER BY m.workspace_id LIMIT 1;
  END LOOP;
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION engram.archive_messages(interval, integer, boolean, integer, uuid) IS
'Moves the old turns of conversations in which nothing was said for a while into message_archive, where they take less room, and reports it in one row. Nothing is lost: messages(include_archived => true) reads them, restore_messages() brings them back.

inactive_for: how long nothing was said, by default 30 days. keep: so many of the last turns stay, by default 50. dry_run: only report what would be moved. batch_size: at most so many conversations in this call, 1 to 1000, by default 100, of which one transaction moves 64; done tells whether those were all. skipped: conversations that somebody else was writing to; they come next time. workspace: by default the caller''s own; for a role that bypasses row security and is nobody, all of them.';

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
  IF erase_messages.session_id IS NULL THEN
    PERFORM engram_internal.lock_workspace(ws);
  ELSE
    PERFORM engram_internal.lock_keys(ws, ARRAY['conversation ' || erase_messages.session_id]);
  END IF;
  DELETE FROM engram.messages m WHERE m.workspace_id = ws
    AND (erase_messages.session_id IS NULL OR m.session_id = erase_messages.session_id)
    AND (erase_messages.ids IS NULL OR m.id = ANY (erase_messages.ids));
  GET DIAGNOSTICS messages = ROW_COUNT;
  archived := engram_internal.erase_archived_messages(ws, erase_messages.session_id, erase_messages.ids);
  RETURN NEXT;
END
$$;
CREATE OR REPLACE FUNCTION engram_internal.import_settings(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
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
      RAISE EXCEPTION 'session_id is empty'
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the conversation that the turn belongs to.';
    ELSIF import_messages.kind = 'message' AND char_length(line ->> 'content') > longest
       OR import_messages.kind = 'archive' AND EXISTS (SELECT FROM jsonb_array_elements(line -> 'turns') t WHERE char_length(t ->> 'content') > longest) THEN
      RAISE EXCEPTION 'content has more than % characters', longest
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Split the turn, or have an administrator raise max_content_chars with engram.configure().';
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
  IF lines ? 'alias' THEN
    PERFORM engram_internal.lock_names(import_as_owner.workspace);
  ELSE
    PERFORM engram_internal.lock_keys(import_as_owner.workspace, '{}');
  END IF;
  -- Who stores the same waits, and so does another import: some of what lines say has no key.
  PERFORM engram_internal.lock_keys(import_as_owner.workspace, ARRAY(
    SELECT 'import' UNION SELECT 'superseded'
    UNION SELECT coalesce(i.l ->> 'id', i.l ->> 'memory_id')::uuid::text
    FROM unnest('{erasure,memory,more}'::text[]) k CROSS JOIN LATERAL jsonb_to_recordset(lines -> k) AS i (l jsonb)
    UNION SELECT encode(sha256(convert_to(engram_internal.normalize_content(i.l ->> 'content'), 'UTF8')), 'hex')
    FROM jsonb_to_recordset(lines -> 'memory') AS i (l jsonb)
    UNION SELECT 'conversation ' || (i.l ->> 'session_id')
    FROM unnest('{message,archive}'::text[]) k CROSS JOIN LATERAL jsonb_to_recordset(lines -> k) AS i (l jsonb)));
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
      IF engram_internal.retry_whole(SQLSTATE) THEN
        RAISE;
      END IF;
      -- One of them is wrong: each by itself, so that the others are not lost.
      FOR item IN SELECT * FROM jsonb_array_elements(lines -> step) LOOP
        BEGIN
          RETURN QUERY EXECUTE command USING import_as_owner.workspace, import_as_owner.trusted, import_as_owner.on_conflict, jsonb_build_array(item);
        EXCEPTION WHEN OTHERS THEN
          IF engram_internal.retry_whole(SQLSTATE) THEN
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

Times, versions, states, uses and history come as they were: history() and as_of show what they showed there, and a memory that comes without a history was there, as it is, since its created_at. For callers whom row security binds everybody named in the data becomes the caller. Vectors need their model to be registered here; a role that bypasses row security registers it with the import. Others who import, or who store the same, wait until the transaction ends; where it brings more than a few memories, all who store in the workspace.';

-- The tables follow: new ones, triggers and grants. Whoever owns them was accepted when they were made.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup(jsonb_build_object('owner', (SELECT pg_get_userbyid(c.relowner) FROM pg_class c
                                                      WHERE c.oid = to_regclass('engram.memories'))));
  END IF;
END
$$;
