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

CREATE FUNCTION engram.pending_embeddings(
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
