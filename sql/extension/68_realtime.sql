-- Supabase Realtime, when the user wants it. Never vectors, never what changes at every use.

CREATE FUNCTION engram.enable_realtime(mode text DEFAULT 'changes') RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_administrator();
  IF coalesce(mode, 'changes') = 'changes' THEN
    IF NOT EXISTS (SELECT FROM pg_publication p WHERE p.pubname = 'supabase_realtime') THEN
      RAISE EXCEPTION 'there is no publication supabase_realtime in database "%"', current_database()
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'On Supabase it is there; elsewhere: CREATE PUBLICATION supabase_realtime;';
    END IF;
    IF EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = 'supabase_realtime' AND p.schemaname = 'engram' AND p.tablename = 'memories') THEN
      RETURN 'unchanged';
    END IF;
    ALTER PUBLICATION supabase_realtime ADD TABLE ONLY engram.memories;
    RETURN 'enabled';
  ELSIF mode = 'broadcast' THEN
    IF to_regprocedure('realtime.send(jsonb, text, text, boolean)') IS NULL THEN
      RAISE EXCEPTION 'function realtime.send() is not in database "%"', current_database()
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Broadcast from the database needs Supabase Realtime 2.34 or later.';
    END IF;
    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'engram.memories'::regclass AND t.tgname = 'memories_broadcast_insert') THEN
      RETURN 'unchanged';
    END IF;
    CREATE TRIGGER memories_broadcast_insert AFTER INSERT ON engram.memories
      REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    CREATE TRIGGER memories_broadcast_update AFTER UPDATE ON engram.memories
      REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    CREATE TRIGGER memories_broadcast_delete AFTER DELETE ON engram.memories
      REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    COMMENT ON TRIGGER memories_broadcast_insert ON engram.memories IS 'See engram.enable_realtime().';
    COMMENT ON TRIGGER memories_broadcast_update ON engram.memories IS 'See engram.enable_realtime().';
    COMMENT ON TRIGGER memories_broadcast_delete ON engram.memories IS 'See engram.enable_realtime().';
    -- Who may listen is asked once, when a client joins.
    IF to_regclass('realtime.messages') IS NOT NULL AND to_regprocedure('realtime.topic()') IS NOT NULL
       AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = to_regclass('realtime.messages') AND p.polname = 'engram_broadcast') THEN
      EXECUTE $q$CREATE POLICY engram_broadcast ON realtime.messages FOR SELECT TO public
        USING (extension = 'broadcast' AND (SELECT realtime.topic()) = 'engram:' || (SELECT engram.current_user_id())::text)$q$;
    END IF;
    RETURN 'enabled';
  END IF;
  RAISE EXCEPTION 'unknown mode "%"', mode
    USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: changes (rows, by Supabase''s publication), broadcast (ids, one message a statement).';
END
$$;
COMMENT ON FUNCTION engram.enable_realtime(text) IS
'Lets clients hear of changes of memories through Supabase Realtime; enabled or unchanged. For the owner of the tables or a superuser.

mode: changes (default) adds engram.memories to the publication supabase_realtime: clients get the rows that row level security shows them, and of deleted ones the key. broadcast has every statement that changes memories send one message for each workspace it touches to the private topic engram:<workspace>, event memories, with {"op": "INSERT", "ids": […]}: much cheaper for many listeners, who fetch what they want with get() or changes(). Only the listener whose own id the topic names may join. Vectors, uses and moves between layers are never sent.';

CREATE FUNCTION engram.disable_realtime(mode text DEFAULT 'changes') RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_administrator();
  IF coalesce(mode, 'changes') = 'changes' THEN
    IF NOT EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = 'supabase_realtime' AND p.schemaname = 'engram' AND p.tablename = 'memories') THEN
      RETURN false;
    END IF;
    ALTER PUBLICATION supabase_realtime DROP TABLE ONLY engram.memories;
    RETURN true;
  ELSIF mode = 'broadcast' THEN
    IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'engram.memories'::regclass AND t.tgname = 'memories_broadcast_insert') THEN
      RETURN false;
    END IF;
    DROP TRIGGER IF EXISTS memories_broadcast_insert ON engram.memories;
    DROP TRIGGER IF EXISTS memories_broadcast_update ON engram.memories;
    DROP TRIGGER IF EXISTS memories_broadcast_delete ON engram.memories;
    IF to_regclass('realtime.messages') IS NOT NULL THEN
      DROP POLICY IF EXISTS engram_broadcast ON realtime.messages;
    END IF;
    RETURN true;
  END IF;
  RAISE EXCEPTION 'unknown mode "%"', mode
    USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: changes, broadcast.';
END
$$;
COMMENT ON FUNCTION engram.disable_realtime(text) IS 'Takes back what enable_realtime() did. True when it was enabled.';
