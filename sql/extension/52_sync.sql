-- What has changed since a device last asked.

CREATE FUNCTION engram_internal.sync_point(since text)
RETURNS TABLE (lost text, ready boolean, still boolean, keep boolean, durable boolean, seen text, upto text, after_xid text,
  after_id uuid, head text, next text)
LANGUAGE c STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sync_point_wrapper';
COMMENT ON FUNCTION engram_internal.sync_point(text) IS
'What a cursor of changes() says, and whether this server can lead on from there. lost: why not. ready: false where the server, or the transaction, is behind the cursor. Events are sent of transactions in upto that are not in seen, after (after_xid, after_id); without seen, memories after after_id. still: nothing has been committed since; keep: if there is nothing to send, the cursor is as good as the next; durable: next outlives a crash as it is. head and the last that is sent make a cursor within the round, next is the one after it.';

CREATE FUNCTION engram_internal.flush_log() RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'flush_log_wrapper';
COMMENT ON FUNCTION engram_internal.flush_log() IS
'Waits until everything that is visible outlives a crash, also with synchronous_commit off. Does nothing on a standby.';

CREATE FUNCTION engram.changes(
  since text DEFAULT NULL,
  match_count integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (id uuid, op text, version integer, changed_at timestamptz, memory jsonb, cursor_next text)
LANGUAGE plpgsql STABLE ROWS 500
SET search_path = pg_catalog, pg_temp
-- Pages are read in the order of the primary keys. To a workspace that statistics have not seen, reading all of it
-- and sorting would look as good.
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
-- Before PostgreSQL 18 a sort that cannot be avoided then looks so expensive that it would be compiled.
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(changes.workspace, false);
  wanted integer := coalesce(changes.match_count, 500);
  here   bigint := engram_internal.store_origin();
  mine   xid8 := pg_current_xact_id_if_assigned();
  p      record;
  seen   pg_snapshot;
  upto   pg_snapshot;
  -- Computed beforehand: row security lets only plain comparisons come down to the index.
  after  xid8;
  beyond xid8;
  last   uuid;
  sent   bigint := 0;
BEGIN
  IF wanted NOT BETWEEN 1 AND 10000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 10000, and page on with since.';
  END IF;
  SELECT s.* INTO p FROM engram_internal.sync_point(changes.since) s;
  IF p.lost IS NOT NULL THEN
    RAISE EXCEPTION 'the cursor leads nowhere: %', p.lost
      USING ERRCODE = 'PT410',
            HINT = 'Begin anew: call engram.changes() without since, and at its end drop from the device what was not sent again.';
  END IF;
  IF mine IS NOT NULL AND EXISTS (SELECT FROM engram.memory_events e WHERE e.workspace_id = ws AND e.xid = mine) THEN
    RAISE EXCEPTION 'this transaction has changed memories itself'
      USING ERRCODE = 'invalid_transaction_state',
            HINT = 'Commit first: what it has done may still be undone, and a device that was sent it would never know.';
  END IF;
  IF ws IS NULL OR NOT p.ready THEN
    RETURN QUERY SELECT NULL::uuid, 'end', NULL::integer, NULL::timestamptz, NULL::jsonb, changes.since;
    RETURN;
  END IF;
  last := coalesce(p.after_id, '00000000-0000-0000-0000-000000000000');
  IF p.still THEN
    NULL;
  ELSIF p.seen IS NULL THEN
    RETURN QUERY
    SELECT m.id, 'upsert', m.version, m.updated_at,
           to_jsonb(m) - '{workspace_id,content_hash,layer}'::text[] || jsonb_build_object('entities', ARRAY(
             SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = m.id
               AND g.relation = 'mentions' ORDER BY g.node)),
           p.head || '.' || m.id
    FROM engram.memories m
    WHERE m.workspace_id = ws AND m.deleted_at IS NULL
      AND m.id >= last AND m.id IS DISTINCT FROM p.after_id
    ORDER BY m.id LIMIT wanted;
    GET DIAGNOSTICS sent = ROW_COUNT;
  ELSE
    seen := p.seen;
    upto := p.upto;
    after := p.after_xid;
    beyond := pg_snapshot_xmax(upto);
    FOR id, op, version, changed_at, memory, cursor_next, sent IN
      WITH page AS MATERIALIZED (
        SELECT e.xid, e.id, e.memory_id, e.at, e.version
        FROM engram.memory_events e
        WHERE e.workspace_id = ws AND e.xid < beyond AND (e.xid, e.id) > (after, last)
          AND e.origin = here AND pg_visible_in_snapshot(e.xid, upto) AND NOT pg_visible_in_snapshot(e.xid, seen)
        ORDER BY e.xid, e.id LIMIT wanted
      ), latest AS (
        SELECT DISTINCT ON (g.memory_id) g.* FROM page g ORDER BY g.memory_id, g.xid DESC, g.id DESC
      )
      SELECT l.memory_id, CASE WHEN m.id IS NULL THEN 'delete' ELSE 'upsert' END, coalesce(m.version, l.version), l.at,
             m.memory, p.head || l.xid || '.' || l.id, (SELECT count(*) FROM page)
      FROM latest l
      LEFT JOIN LATERAL (
        SELECT x.id, x.version,
               to_jsonb(x) - '{workspace_id,content_hash,layer}'::text[] || jsonb_build_object('entities', ARRAY(
                 SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = x.id
                   AND g.relation = 'mentions' ORDER BY g.node)) AS memory
        FROM engram.memories x
        WHERE x.workspace_id = ws AND x.id = l.memory_id AND x.deleted_at IS NULL OFFSET 0) m ON true
      ORDER BY l.xid, l.id
    LOOP
      RETURN NEXT;
    END LOOP;
    -- Without a row the loop leaves NULL.
    sent := coalesce(sent, 0);
  END IF;
  IF sent = 0 AND p.keep THEN
    -- Not worth waiting for the disk.
    RETURN QUERY SELECT NULL::uuid, 'end', NULL::integer, NULL::timestamptz, NULL::jsonb, changes.since;
    RETURN;
  END IF;
  IF NOT p.durable THEN
    PERFORM engram_internal.flush_log();
  END IF;
  IF sent < wanted THEN
    RETURN QUERY SELECT NULL::uuid, 'end', NULL::integer, NULL::timestamptz, NULL::jsonb, p.next;
  END IF;
END
$$;
COMMENT ON FUNCTION engram.changes(text, integer, uuid) IS
'What a device that keeps a copy of the memories has to do to be up to date, a page at a time.

Call it without since, apply the rows in order, keep cursor_next of the last row, and call again with since => that, until a call ends with a row whose op is end: then the device has everything that was committed when the round began. From then on call whenever you like, with the last cursor; every call that reaches the present ends with end, at least.

op: upsert (memory is the row as it is now, with entities, without workspace_id, content_hash and layer), delete (forgotten, erased, or no longer for the caller to see) or end (nothing more; id is NULL). A memory may come more than once; the last one counts. version and changed_at: of the memory. match_count: most rows beside end, 1 to 10000, by default 500.

Nothing is missed and nobody is waited for, however long transactions take and in whatever order they commit. Reads only, on standbys too; cursors outlive a failover. SQLSTATE PT410 (HTTP 410): the cursor leads nowhere (restored or upgraded database, lost writes after a failover, changes no longer kept): begin anew without since, and drop at the end what was not sent again.';
