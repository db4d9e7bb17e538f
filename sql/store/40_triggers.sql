-- What makes a plain INSERT into engram.memories as good as engram.add(). The functions belong to
-- the store: without the extension they fail, so that nothing is written half.

CREATE OR REPLACE FUNCTION engram.memories_before_write() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
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
    ELSIF NOT trusted AND NEW.workspace_id IS DISTINCT FROM me AND NEW.workspace_id <> ALL (engram.writable_workspaces()) THEN
      PERFORM engram_internal.refuse_workspace(NEW.workspace_id);
    ELSIF NEW.workspace_id = '00000000-0000-0000-0000-000000000000' AND current_setting('check_function_bodies') <> 'off' THEN
      -- Settings under it are those of the whole store. A dump may bring what was allowed where it was made.
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
      IF NEW.version > 1000000000 THEN
        -- Every change adds one, and must be able to.
        RAISE EXCEPTION 'version of memory "%" is %', NEW.id, NEW.version
          USING ERRCODE = 'numeric_value_out_of_range', HINT = 'Give a number from 1 to 1000000000.';
      END IF;
      NEW.created_at := coalesce(NEW.created_at, now());
      NEW.updated_at := coalesce(NEW.updated_at, NEW.created_at);
    ELSE
      NEW.version := 1;
      NEW.created_at := now();
      NEW.updated_at := now();
      IF NEW.deleted_at IS NOT NULL THEN
        RAISE EXCEPTION 'a new memory has deleted_at %', NEW.deleted_at
          USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave deleted_at out, and forget the memory once it is stored: engram.forget(id).';
      END IF;
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

  -- What supersede() and contradict() ask. Imports and erasures, which work as the owner, ask it themselves, and a dump
  -- brings what was.
  IF (NEW.superseded_by IS DISTINCT FROM OLD.superseded_by OR NEW.contradicts IS DISTINCT FROM OLD.contradicts
      OR NEW.contradicted_by IS DISTINCT FROM OLD.contradicted_by)
     AND NOT (trusted AND (current_setting('check_function_bodies') = 'off'
                           OR current_user = (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = TG_RELID))) THEN
    IF NEW.superseded_by IS NOT NULL AND NEW.superseded_by IS DISTINCT FROM OLD.superseded_by THEN
      PERFORM engram_internal.check_successor(NEW.workspace_id, NEW.id, NEW.superseded_by);
    END IF;
    PERFORM engram_internal.check_contradictions(NEW.workspace_id, NEW.id, v.named, v.added)
    FROM (VALUES
      ('contradicts', ARRAY(SELECT u FROM unnest(NEW.contradicts) u WHERE (u = ANY (OLD.contradicts)) IS NOT TRUE)),
      ('contradicted_by', ARRAY(SELECT u FROM unnest(NEW.contradicted_by) u WHERE (u = ANY (OLD.contradicted_by)) IS NOT TRUE))
    ) AS v (named, added) WHERE v.added <> '{}';
  END IF;
  PERFORM engram_internal.check_memory(coalesce(NEW.type, 'NULL'), coalesce(NEW.layer, 'NULL'), NEW.role, NEW.importance, NEW.tags);
  IF NEW.importance IS NULL THEN
    NEW.importance := (SELECT s.default_importance FROM engram.memory_type_settings s
                       WHERE s.type = NEW.type
                         AND s.workspace_id IN (NEW.workspace_id, '00000000-0000-0000-0000-000000000000')
                       ORDER BY s.workspace_id = NEW.workspace_id DESC LIMIT 1);
    NEW.importance := coalesce(NEW.importance, 0.5);
  END IF;
  -- Most are far below the limits, and then their lengths in bytes tell.
  IF (greatest(octet_length(NEW.agent_id), octet_length(NEW.session_id), octet_length(NEW.speaker), octet_length(NEW.source)) > 500
      OR pg_column_size(NEW.tags) > 500) AND NOT (trusted AND current_setting('check_function_bodies') = 'off') THEN
    PERFORM engram_internal.check_names(
      CASE WHEN NEW.agent_id IS DISTINCT FROM OLD.agent_id THEN NEW.agent_id END,
      CASE WHEN NEW.session_id IS DISTINCT FROM OLD.session_id THEN NEW.session_id END,
      CASE WHEN NEW.speaker IS DISTINCT FROM OLD.speaker THEN NEW.speaker END,
      CASE WHEN NEW.source IS DISTINCT FROM OLD.source THEN NEW.source END,
      ARRAY(SELECT t FROM unnest(NEW.tags) t WHERE t <> ALL (coalesce(OLD.tags, '{}'))));
  END IF;
  -- Of what is stored already, and of what a dump brings, nothing new is asked.
  IF NEW.metadata IS DISTINCT FROM OLD.metadata AND NOT (trusted AND current_setting('check_function_bodies') = 'off') THEN
    NEW.metadata := engram_internal.metadata_object(NEW.metadata);
  END IF;
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
COMMENT ON FUNCTION engram.memories_before_write() IS
'Trigger: fills defaults of a memory (id, workspace, author, type, importance, hash, version) and refuses values that no memory may have.';

CREATE OR REPLACE FUNCTION engram.memories_after_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- Without the extension nothing below may be looked up, least of all with the owner's rights: this fails first.
  me uuid := engram.current_user_id();
BEGIN
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
  -- Until it is used, what its readers begin with need not be there.
  INSERT INTO engram.memory_state (workspace_id, memory_id, last_accessed_at, heat, working_strength, core_strength, layer, base)
  SELECT workspace_id, id, created_at, CASE WHEN layer <> 'working' THEN engram_internal.first_heat(created_at, 1) END,
         CASE WHEN layer <> 'working' THEN 1 END, CASE WHEN layer <> 'working' THEN 0 END, layer,
         CASE WHEN layer <> 'working' THEN engram_internal.first_base(created_at, layer) END
  FROM added
  ON CONFLICT DO NOTHING;
  -- A dump brings its own. Anybody may have the setting as a dump has it, but only who could write events may leave them
  -- out: not the role of this function, but the one outside of it.
  IF current_setting('check_function_bodies') = 'on'
     OR NOT has_table_privilege(CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role')::name END,
                                'engram.memory_events', 'INSERT') THEN
    INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, actor, action, version)
    SELECT workspace_id, pg_current_xact_id(), engram_internal.uuid_v7(), clock_timestamp(), id,
           engram_internal.store_origin(), me, 'added', version
    FROM added;
    -- Until embeddings_after_insert() sees a vector.
    INSERT INTO engram.embedding_claims (workspace_id, memory_id, model, claimed_until)
    SELECT a.workspace_id, a.id, m.name, '-infinity'
    FROM added a CROSS JOIN engram.embedding_models m WHERE m.is_default AND a.deleted_at IS NULL
    ON CONFLICT DO NOTHING;
  END IF;
  PERFORM engram_internal.index_documents(a.workspace_id, array_agg(engram_internal.document(a.id, a.version, 'plain',
    a.session_id, coalesce(a.occurred_at, a.created_at), a.config, a.content, a.speaker, a.occurred_at, a.summary)), 'plain')
  FROM (SELECT x.*, engram_internal.text_config(x.workspace_id) AS config,
               (row_number() OVER (PARTITION BY x.workspace_id ORDER BY x.id) - 1) / 1000 AS part
        FROM added x WHERE x.deleted_at IS NULL) a
  GROUP BY a.workspace_id, a.part;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram.memories_after_insert() IS
'Trigger: gives every new memory its state row, makes it searchable by words in the same transaction, and notes that it waits for a vector.';

CREATE OR REPLACE FUNCTION engram.memories_after_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- For a vector, since this change.
  waits boolean := OLD.deleted_at IS NOT NULL;
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
    waits := true;
  END IF;
  IF waits AND NEW.deleted_at IS NULL THEN
    -- Where a claim is seen nothing waits for who leases it.
    INSERT INTO engram.embedding_claims (workspace_id, memory_id, model, claimed_until)
    SELECT NEW.workspace_id, NEW.id, m.name, '-infinity' FROM engram.embedding_models m
    WHERE m.is_default
      AND (SELECT e.memory_id FROM engram.embeddings e
           WHERE e.workspace_id = NEW.workspace_id AND e.memory_id = NEW.id AND e.model = m.name OFFSET 0) IS NULL
      AND (SELECT c.memory_id FROM engram.embedding_claims c
           WHERE c.workspace_id = NEW.workspace_id AND c.memory_id = NEW.id AND c.model = m.name OFFSET 0) IS NULL
    ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram.memories_after_update() IS
'Trigger: keeps the search index of a changed memory true and drops embeddings of text that is no more, for which it waits anew.';

CREATE OR REPLACE FUNCTION engram.memories_after_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- What is written must read the same later, to the last bit, however few digits the session shows.
SET extra_float_digits = 1
AS $$
DECLARE
  -- As in memories_after_insert().
  me uuid := engram.current_user_id();
BEGIN
  IF TG_RELID <> 'engram.memories'::regclass THEN
    RAISE EXCEPTION 'engram.memories_after_change() serves engram.memories, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, actor, action, version, old)
  VALUES (NEW.workspace_id, pg_current_xact_id(), engram_internal.uuid_v7(), clock_timestamp(), NEW.id,
    engram_internal.store_origin(), me,
    CASE WHEN OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL THEN 'forgotten'
         WHEN OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL THEN 'restored'
         WHEN NEW.superseded_by IS NOT NULL AND NEW.superseded_by IS DISTINCT FROM OLD.superseded_by THEN 'superseded'
         WHEN OLD.superseded_by IS NOT NULL AND NEW.superseded_by IS NULL THEN 'unsuperseded'
         WHEN NEW.pinned AND NOT OLD.pinned THEN 'pinned'
         WHEN OLD.pinned AND NOT NEW.pinned THEN 'unpinned'
         ELSE 'updated' END,
    NEW.version,
    to_jsonb(OLD) - '{workspace_id,id,content_hash}'::text[] || jsonb_build_object('entities', ARRAY(
      SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = NEW.workspace_id
        AND g.memory_id = NEW.id AND g.relation = 'mentions' ORDER BY g.node)));
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram.memories_after_change() IS
'Trigger: writes every new version of a memory into memory_events, with the row as it was before.';

CREATE OR REPLACE FUNCTION engram.memories_after_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- As in memories_after_insert().
  me   uuid := engram.current_user_id();
  heir record;
  bond record;
BEGIN
  IF TG_RELID <> 'engram.memories'::regclass THEN
    RAISE EXCEPTION 'engram.memories_after_delete() serves engram.memories, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  IF NOT EXISTS (SELECT FROM removed) THEN
    RETURN NULL;
  END IF;
  INSERT INTO engram.erasures (workspace_id, id, erased_by)
  SELECT workspace_id, id, me FROM removed
  ON CONFLICT DO NOTHING;
  DELETE FROM engram.memory_events e USING removed r WHERE (e.workspace_id = r.workspace_id) IS TRUE AND e.memory_id = r.id;
  INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, actor, action, version)
  SELECT workspace_id, pg_current_xact_id(), engram_internal.uuid_v7(), clock_timestamp(), id,
         engram_internal.store_origin(), me, 'erased', version + 1
  FROM removed;
  -- What is erased leaves the blocks at once, unless somebody else is packing them just now.
  PERFORM engram_internal.index_documents(r.workspace_id, array_agg(engram_internal.document(r.id, r.version + 1, 'gone',
    NULL, NULL, NULL, NULL, NULL, NULL, NULL)), 'replaces')
  FROM removed r GROUP BY r.workspace_id;
  PERFORM engram_internal.pack(b.workspace_id, '', true, 1) FROM (SELECT DISTINCT r.workspace_id FROM removed r) b;
  -- What has no foreign key. Whoever folds uses of a memory holds its state row until this is visible.
  DELETE FROM engram.access_log l USING removed r WHERE l.workspace_id = r.workspace_id AND l.memory_id = r.id;
  -- One after the other in the order of their key: somebody else may be erasing their other ends.
  FOR bond IN
    SELECT l.workspace_id, l.a, l.b FROM engram.hebbian_links l JOIN removed r ON l.workspace_id = r.workspace_id AND l.a = r.id
    UNION
    SELECT l.workspace_id, l.a, l.b FROM engram.hebbian_links l JOIN removed r ON (l.workspace_id = r.workspace_id) IS TRUE AND l.b = r.id
    ORDER BY 1, 2, 3
  LOOP
    DELETE FROM engram.hebbian_links l WHERE l.workspace_id = bond.workspace_id AND l.a = bond.a AND l.b = bond.b;
  END LOOP;
  -- Its place in a call stays: how much a call links the others with each other hangs on how many it used, whether it
  -- has been folded by now or not.
  UPDATE engram.access_queue q SET memory_ids = ARRAY(
    SELECT CASE WHEN u.id = ANY (r.ids) THEN '00000000-0000-0000-0000-000000000000' ELSE u.id END
    FROM unnest(q.memory_ids) WITH ORDINALITY AS u (id, nth) ORDER BY u.nth)
  FROM (SELECT workspace_id, array_agg(id) AS ids FROM removed GROUP BY workspace_id) r
  WHERE q.workspace_id = r.workspace_id AND q.memory_ids && r.ids;
  DELETE FROM engram.access_queue q USING (SELECT DISTINCT workspace_id FROM removed) r
  WHERE q.workspace_id = r.workspace_id AND q.memory_ids <@ '{00000000-0000-0000-0000-000000000000}';
  UPDATE engram.recall_credits c
  SET memory_ids = ARRAY(SELECT u FROM unnest(c.memory_ids) u WHERE u <> ALL (r.ids)),
      reinforced_ids = CASE WHEN c.reinforced_ids IS NOT NULL THEN ARRAY(SELECT u FROM unnest(c.reinforced_ids) u WHERE u <> ALL (r.ids)) END,
      rated_ids = CASE WHEN c.rated_ids IS NOT NULL THEN ARRAY(SELECT u FROM unnest(c.rated_ids) u WHERE u <> ALL (r.ids)) END
  FROM (SELECT workspace_id, array_agg(id) AS ids FROM removed GROUP BY workspace_id) r
  WHERE c.workspace_id = r.workspace_id AND (c.memory_ids && r.ids OR c.reinforced_ids && r.ids OR c.rated_ids && r.ids);
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
COMMENT ON FUNCTION engram.memories_after_delete() IS
'Trigger: leaves a tombstone for every deleted memory, so that a late import or retry cannot bring it back.';

CREATE OR REPLACE FUNCTION engram.memories_broadcast() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Without the extension nothing below may be looked up, least of all with the owner's rights.
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.memories'::regclass THEN
    RAISE EXCEPTION 'engram.memories_broadcast() serves engram.memories, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  -- Named at run time, because Supabase's schema may be gone. Loading a dump, as memories_after_insert() knows one, is no news.
  IF current_setting('check_function_bodies') = 'off'
     AND has_table_privilege(CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role')::name END,
                             'engram.memory_events', 'INSERT')
     OR to_regprocedure('realtime.send(jsonb, text, text, boolean)') IS NULL THEN
    RETURN NULL;
  END IF;
  -- At most so many ids a message: it may have 256 kB.
  IF TG_OP = 'INSERT' THEN
    EXECUTE $q$SELECT realtime.send(jsonb_build_object('op', 'INSERT', 'ids', jsonb_agg(x.id)), 'memories', 'engram:' || x.workspace_id, true)
      FROM (SELECT a.workspace_id, a.id, (row_number() OVER (PARTITION BY a.workspace_id ORDER BY a.id) - 1) / 1000 AS part FROM added a) x
      GROUP BY x.workspace_id, x.part$q$;
  ELSIF TG_OP = 'DELETE' THEN
    EXECUTE $q$SELECT realtime.send(jsonb_build_object('op', 'DELETE', 'ids', jsonb_agg(x.id)), 'memories', 'engram:' || x.workspace_id, true)
      FROM (SELECT r.workspace_id, r.id, (row_number() OVER (PARTITION BY r.workspace_id ORDER BY r.id) - 1) / 1000 AS part FROM removed r) x
      GROUP BY x.workspace_id, x.part$q$;
  ELSE
    -- A memory that moved to another layer has not changed.
    EXECUTE $q$SELECT realtime.send(jsonb_build_object('op', x.op, 'ids', jsonb_agg(x.id)), 'memories', 'engram:' || x.workspace_id, true)
      FROM (SELECT a.workspace_id, a.id, CASE WHEN a.deleted_at IS NOT NULL THEN 'DELETE' WHEN r.deleted_at IS NOT NULL THEN 'INSERT' ELSE 'UPDATE' END AS op,
                   (row_number() OVER (PARTITION BY a.workspace_id ORDER BY a.id) - 1) / 1000 AS part
            FROM added a JOIN removed r ON r.workspace_id = a.workspace_id AND r.id = a.id WHERE a.version <> r.version) x
      GROUP BY x.workspace_id, x.op, x.part$q$;
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram.memories_broadcast() IS
'Trigger: tells listeners of Supabase Realtime which memories changed. See engram.enable_realtime().';

CREATE OR REPLACE FUNCTION engram.embeddings_before_write() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  me uuid := engram.current_user_id();
BEGIN
  -- One's own workspace needs no further question: the policies ask it once a statement.
  IF NEW.workspace_id IS DISTINCT FROM me AND NOT engram_internal.may_write(NEW.workspace_id) THEN
    PERFORM engram_internal.refuse_workspace(NEW.workspace_id);
  END IF;
  -- As set_embedding() has it.
  NEW.model := coalesce(NEW.model, engram_internal.model_of(engram_internal.vector_dims(NEW.embedding)));
  PERFORM engram_internal.check_embedding(NEW.embedding, NEW.model);
  NEW.created_at := coalesce(NEW.created_at, now());
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION engram.embeddings_before_write() IS
'Trigger: refuses an embedding whose dimensions differ from its model''s; one that names no model is of the default one, or of the only one that has its length.';

CREATE OR REPLACE FUNCTION engram.memories_after_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.memories'::regclass THEN
    RAISE EXCEPTION 'engram.memories_after_truncate() serves engram.memories, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  TRUNCATE engram.search_blocks, engram.access_log, engram.access_queue, engram.hebbian_links, engram.recall_credits, engram.memory_events;
  -- No event tells a device that all is gone: it begins anew.
  INSERT INTO engram.maintenance (workspace_id, events_dropped_xid)
  VALUES ('00000000-0000-0000-0000-000000000000', pg_current_xact_id())
  ON CONFLICT (workspace_id) DO UPDATE SET events_dropped_xid = excluded.events_dropped_xid;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram.memories_after_truncate() IS
'Trigger: a table of memories that is emptied takes what search scans, the log of uses and the links with it.';

CREATE OR REPLACE FUNCTION engram.access_queue_after_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
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
COMMENT ON FUNCTION engram.access_queue_after_insert() IS
'Trigger: folds the uses of a workspace once enough of them wait, when the transaction commits.';

CREATE OR REPLACE FUNCTION engram.embeddings_after_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
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
COMMENT ON FUNCTION engram.embeddings_after_truncate() IS
'Trigger: a table of embeddings that is emptied takes the vectors that search scans with it.';

CREATE OR REPLACE FUNCTION engram.embeddings_after_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
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
  -- One by one, by the whole key: the plan of a session stays, however many come to wait.
  DELETE FROM engram.embedding_claims c
  WHERE c.ctid = ANY (ARRAY(
    SELECT (SELECT w.ctid FROM engram.embedding_claims w
            WHERE w.workspace_id = a.workspace_id AND w.memory_id = a.memory_id AND w.model = a.model OFFSET 0)
    FROM added a));
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram.embeddings_after_insert() IS
'Trigger: makes new vectors searchable in the same transaction, and their memories wait no longer.';

CREATE OR REPLACE FUNCTION engram.embeddings_after_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
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
COMMENT ON FUNCTION engram.embeddings_after_update() IS
'Trigger: a changed vector takes the place of the old one in search.';

CREATE OR REPLACE FUNCTION engram.embeddings_after_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.embeddings'::regclass THEN
    RAISE EXCEPTION 'engram.embeddings_after_delete() serves engram.embeddings, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  PERFORM engram_internal.index_vectors(a.workspace_id, a.model, array_agg(a.memory_id), NULL, 'gone')
  FROM removed a GROUP BY a.workspace_id, a.model;
  INSERT INTO engram.embedding_claims (workspace_id, memory_id, model, claimed_until)
  SELECT a.workspace_id, a.memory_id, a.model, '-infinity'
  FROM removed a CROSS JOIN LATERAL (
    SELECT FROM engram.memories x WHERE x.workspace_id = a.workspace_id AND x.id = a.memory_id AND x.deleted_at IS NULL
    FOR KEY SHARE SKIP LOCKED) m
  WHERE a.model IN (SELECT d.name FROM engram.embedding_models d WHERE d.is_default)
    AND (SELECT c.memory_id FROM engram.embedding_claims c
         WHERE c.workspace_id = a.workspace_id AND c.memory_id = a.memory_id AND c.model = a.model OFFSET 0) IS NULL
  ON CONFLICT DO NOTHING;
  -- What is erased leaves the blocks at once, unless somebody else is packing them just now.
  PERFORM engram_internal.pack(b.workspace_id, b.model, true, 1)
  FROM (SELECT DISTINCT a.workspace_id, a.model FROM removed a
        WHERE NOT EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = a.workspace_id AND m.id = a.memory_id)) b;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram.embeddings_after_delete() IS
'Trigger: takes deleted vectors out of search; their memories wait for others.';

CREATE OR REPLACE FUNCTION engram.embedding_models_after_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.embedding_models'::regclass THEN
    RAISE EXCEPTION 'engram.embedding_models_after_delete() serves engram.embedding_models, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  DELETE FROM engram.search_blocks b WHERE b.model IN (SELECT r.name FROM removed r);
  DELETE FROM engram.embedding_claims c WHERE c.model IN (SELECT r.name FROM removed r);
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram.embedding_models_after_delete() IS
'Trigger: a model that is dropped takes what search scans of it, and what waits for it, with it.';

CREATE OR REPLACE FUNCTION engram.restore_skips() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram.restore_skips() IS
'Trigger: while a dump is loaded, leaves out rows that the triggers of other tables have already made anew.';

CREATE OR REPLACE FUNCTION engram.restore_replaces() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  keys text;
BEGIN
  SELECT string_agg(format('%1$I = ($1).%1$I', a.attname), ' AND ') INTO STRICT keys
  FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
  WHERE i.indrelid = TG_RELID AND i.indisprimary;
  EXECUTE format('DELETE FROM %s WHERE %s', TG_RELID::regclass, keys) USING NEW;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION engram.restore_replaces() IS
'Trigger: while a dump is loaded, its rows take the place of those that setup() or other triggers already made.';

CREATE OR REPLACE FUNCTION engram.settings_before_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.settings'::regclass AND TG_RELID <> 'engram.memory_type_settings'::regclass THEN
    RAISE EXCEPTION 'engram.settings_before_change() serves settings, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  IF TG_OP <> 'INSERT' THEN
    PERFORM engram_internal.hold_folds(OLD.workspace_id);
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  PERFORM engram_internal.hold_folds(NEW.workspace_id);
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION engram.settings_before_change() IS
'Trigger: nobody folds by settings that are about to change.';

CREATE OR REPLACE FUNCTION engram.settings_after_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET extra_float_digits = 1
AS $$
BEGIN
  PERFORM engram.current_user_id();
  IF TG_RELID <> 'engram.settings'::regclass AND TG_RELID <> 'engram.memory_type_settings'::regclass THEN
    RAISE EXCEPTION 'engram.settings_after_change() serves settings, not "%"', TG_RELID::regclass
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop the trigger from that table.';
  END IF;
  PERFORM engram_internal.keep_settings(
    CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END, CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END);
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram.settings_after_change() IS
'Trigger: keeps in settings_history what uses counted by until now.';

DO $$
DECLARE
  t record;
BEGIN
  FOR t IN
    SELECT * FROM (VALUES
      ('memories', 'memories_before_write', 'BEFORE INSERT OR UPDATE',
       'FOR EACH ROW', 'memories_before_write()'),
      ('memories', 'memories_after_insert', 'AFTER INSERT',
       'REFERENCING NEW TABLE AS added FOR EACH STATEMENT', 'memories_after_insert()'),
      ('memories', 'memories_after_update', 'AFTER UPDATE',
       'FOR EACH ROW WHEN (OLD.content IS DISTINCT FROM NEW.content OR OLD.summary IS DISTINCT FROM NEW.summary
          OR OLD.speaker IS DISTINCT FROM NEW.speaker OR OLD.occurred_at IS DISTINCT FROM NEW.occurred_at
          OR OLD.session_id IS DISTINCT FROM NEW.session_id
          OR (OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)
          -- What segments hold of it for filters.
          OR OLD.agent_id IS DISTINCT FROM NEW.agent_id OR OLD.role IS DISTINCT FROM NEW.role OR OLD.type <> NEW.type
          OR OLD.importance <> NEW.importance OR OLD.pinned <> NEW.pinned OR OLD.tags <> NEW.tags
          -- 1 and 1.0 are equal, and not the same.
          OR OLD.metadata::text <> NEW.metadata::text OR OLD.source IS DISTINCT FROM NEW.source
          OR OLD.valid_from IS DISTINCT FROM NEW.valid_from OR OLD.valid_to IS DISTINCT FROM NEW.valid_to
          OR OLD.superseded_by IS DISTINCT FROM NEW.superseded_by OR OLD.expires_at IS DISTINCT FROM NEW.expires_at
          -- Only triggers of the user''s own change these.
          OR OLD.user_id <> NEW.user_id OR OLD.created_at <> NEW.created_at)',
       'memories_after_update()'),
      ('memories', 'memories_after_change', 'AFTER UPDATE',
       'FOR EACH ROW WHEN (OLD.version <> NEW.version)', 'memories_after_change()'),
      ('memories', 'memories_after_delete', 'AFTER DELETE',
       'REFERENCING OLD TABLE AS removed FOR EACH STATEMENT', 'memories_after_delete()'),
      ('memories', 'memories_after_truncate', 'AFTER TRUNCATE',
       'FOR EACH STATEMENT', 'memories_after_truncate()'),
      -- One writer in 16 looks; the last byte of the id is as good as a die.
      ('access_queue', 'access_queue_after_insert', 'AFTER INSERT',
       'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
          WHEN (get_byte(uuid_send(NEW.id), 15) % 16 = 0 AND current_setting(''check_function_bodies'') = ''on'')',
       'access_queue_after_insert()'),
      ('embeddings', 'embeddings_after_truncate', 'AFTER TRUNCATE',
       'FOR EACH STATEMENT', 'embeddings_after_truncate()'),
      ('embeddings', 'embeddings_before_write', 'BEFORE INSERT OR UPDATE',
       'FOR EACH ROW', 'embeddings_before_write()'),
      ('embeddings', 'embeddings_after_insert', 'AFTER INSERT',
       'REFERENCING NEW TABLE AS added FOR EACH STATEMENT', 'embeddings_after_insert()'),
      ('embeddings', 'embeddings_after_update', 'AFTER UPDATE',
       'REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT', 'embeddings_after_update()'),
      ('embeddings', 'embeddings_after_delete', 'AFTER DELETE',
       'REFERENCING OLD TABLE AS removed FOR EACH STATEMENT', 'embeddings_after_delete()'),
      ('embedding_models', 'embedding_models_after_delete', 'AFTER DELETE',
       'REFERENCING OLD TABLE AS removed FOR EACH STATEMENT', 'embedding_models_after_delete()'),
      -- check_function_bodies is off in every dump that pg_dump writes and in hardly any other session.
      ('memory_state', 'memory_state_restore', 'BEFORE INSERT',
       'FOR EACH ROW WHEN (current_setting(''check_function_bodies'') = ''off'')', 'restore_replaces()'),
      ('search_blocks', 'search_blocks_restore', 'BEFORE INSERT',
       'FOR EACH ROW WHEN (current_setting(''check_function_bodies'') = ''off'' AND pg_trigger_depth() = 0)', 'restore_skips()'),
      ('settings', 'settings_restore', 'BEFORE INSERT',
       'FOR EACH ROW WHEN (current_setting(''check_function_bodies'') = ''off'')', 'restore_replaces()'),
      ('memory_type_settings', 'memory_type_settings_restore', 'BEFORE INSERT',
       'FOR EACH ROW WHEN (current_setting(''check_function_bodies'') = ''off'')', 'restore_replaces()'),
      -- A dump brings the history of its settings along.
      ('settings', 'settings_before_change', 'BEFORE INSERT OR UPDATE OR DELETE',
       'FOR EACH ROW WHEN (current_setting(''check_function_bodies'') = ''on'')', 'settings_before_change()'),
      ('settings', 'settings_after_change', 'AFTER INSERT OR UPDATE OR DELETE',
       'FOR EACH ROW WHEN (current_setting(''check_function_bodies'') = ''on'')', 'settings_after_change()'),
      ('memory_type_settings', 'memory_type_settings_before_change', 'BEFORE INSERT OR UPDATE OR DELETE',
       'FOR EACH ROW WHEN (current_setting(''check_function_bodies'') = ''on'')', 'settings_before_change()'),
      ('memory_type_settings', 'memory_type_settings_after_change', 'AFTER INSERT OR UPDATE OR DELETE',
       'FOR EACH ROW WHEN (current_setting(''check_function_bodies'') = ''on'')', 'settings_after_change()')
    ) AS v (tab, name, event, scope, func)
  LOOP
    -- Stores of older versions have it with fewer columns.
    IF t.name = 'memories_after_update' AND EXISTS (
         SELECT FROM pg_catalog.pg_trigger
         WHERE tgrelid = 'engram.memories'::regclass AND tgname = t.name
           AND pg_catalog.pg_get_triggerdef(oid) NOT LIKE '%agent_id%') THEN
      DROP TRIGGER memories_after_update ON engram.memories;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger
                   WHERE tgrelid = format('engram.%I', t.tab)::regclass AND tgname = t.name) THEN
      EXECUTE format('CREATE %s %I %s ON engram.%I %s EXECUTE FUNCTION engram.%s',
                     CASE WHEN t.scope LIKE 'DEFERRABLE%' THEN 'CONSTRAINT TRIGGER' ELSE 'TRIGGER' END, t.name, t.event, t.tab, t.scope, t.func);
    END IF;
    EXECUTE format('COMMENT ON TRIGGER %I ON engram.%I IS %L', t.name, t.tab,
                   'See engram.' || t.func || '.');
  END LOOP;
END
$$;
