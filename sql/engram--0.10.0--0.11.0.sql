\echo Use "ALTER EXTENSION engram UPDATE TO '0.11.0'" to load this file. \quit
CREATE FUNCTION engram_internal.writes(dry_run boolean) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN NOT (dry_run IS TRUE AND current_setting('transaction_read_only')::boolean);
COMMENT ON FUNCTION engram_internal.writes(boolean) IS
'Whether a call is to be asked what one that writes is asked: not a dry run where nothing can be written.';

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

-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
