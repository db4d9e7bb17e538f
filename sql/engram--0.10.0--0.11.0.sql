\echo Use "ALTER EXTENSION engram UPDATE TO '0.11.0'" to load this file. \quit
DROP FUNCTION engram_internal.credit(uuid, uuid, uuid);

CREATE FUNCTION engram_internal.writes(dry_run boolean) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN NOT (dry_run IS TRUE AND current_setting('transaction_read_only')::boolean);
COMMENT ON FUNCTION engram_internal.writes(boolean) IS
'Whether a call is to be asked what one that writes is asked: not a dry run where nothing can be written.';

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
  WHERE m.workspace_id = ws AND m.id = ANY (ARRAY[contradict.a, contradict.b])
    AND (m.id = contradict.a AND contradict.b <> ALL (coalesce(m.contradicts, '{}'))
         OR m.id = contradict.b AND contradict.a <> ALL (coalesce(m.contradicted_by, '{}')));
  RETURN FOUND;
END
$$;
CREATE OR REPLACE FUNCTION engram.uncontradict(a uuid, b uuid, workspace uuid DEFAULT NULL) RETURNS boolean
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
  WHERE m.workspace_id = ws AND m.id = ANY (ARRAY[uncontradict.a, uncontradict.b])
    AND (m.id = uncontradict.a AND uncontradict.b = ANY (m.contradicts)
         OR m.id = uncontradict.b AND uncontradict.a = ANY (m.contradicted_by));
  RETURN FOUND;
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
  PERFORM engram_internal.require_writable();
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

-- The tables follow: new ones, triggers and grants. Whoever owns them was accepted when they were made.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup(jsonb_build_object('owner', (SELECT pg_get_userbyid(c.relowner) FROM pg_class c
                                                      WHERE c.oid = to_regclass('engram.memories'))));
  END IF;
END
$$;
