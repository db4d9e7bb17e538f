-- Conversations: turns as they were said, kept beside the memories that were made from them.

CREATE FUNCTION engram_internal.parse_messages(items jsonb, session_id text) RETURNS TABLE (
  "position" integer, error text, session_id text, role text, speaker text, content text, metadata jsonb,
  id uuid, created_at timestamptz)
LANGUAGE c STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'parse_messages_wrapper';
COMMENT ON FUNCTION engram_internal.parse_messages(jsonb, text) IS
'The items of append_messages() as rows; an item that cannot be read carries its error instead.';

CREATE FUNCTION engram.append_messages(items jsonb, session_id text DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws       uuid := engram_internal.resolve_workspace(append_messages.workspace, true);
  me       uuid := coalesce(engram.current_user_id(), ws);
  longest  integer;
  here     timestamptz;
  given    timestamptz;
  last_at  timestamptz;
  item     record;
  chats    text[];
BEGIN
  IF ws = '00000000-0000-0000-0000-000000000000' THEN
    PERFORM engram_internal.refuse_workspace(ws);
  END IF;
  SELECT coalesce(w.max_content_chars, d.max_content_chars) INTO longest
  FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = ws
  WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';
  -- One writer at a time in a conversation: so that ids stay unique, and turns in the order of their calls.
  chats := ARRAY(SELECT DISTINCT p.session_id FROM engram_internal.parse_messages(append_messages.items, append_messages.session_id) p
                 WHERE p.error IS NULL);
  PERFORM engram_internal.lock_keys(ws, ARRAY(SELECT 'conversation ' || c FROM unnest(chats) c));
  here := clock_timestamp();
  FOR item IN
    WITH items AS MATERIALIZED (
      SELECT p.*, p.error IS NULL AND char_length(p.content) <= longest AS fine
      FROM engram_internal.parse_messages(append_messages.items, append_messages.session_id) p
    ), ids AS MATERIALIZED (
      SELECT DISTINCT i.id FROM items i WHERE i.id IS NOT NULL
    ), held AS MATERIALIZED (
      -- One look at each conversation, however many are asked about (IS TRUE keeps it from being a join, which could
      -- be a look for each). In one statement: who archives or restores meanwhile only moves them.
      SELECT m.session_id, m.id, m.content FROM engram.messages m
      WHERE m.workspace_id = ws AND m.session_id = ANY (chats) AND EXISTS (SELECT FROM ids) AND (m.id IN (SELECT d.id FROM ids d)) IS TRUE
      UNION ALL
      -- Unpacked once, where there is one of them.
      SELECT a.session_id, u.id, u.content FROM engram.message_archive a
      CROSS JOIN LATERAL (SELECT t.id, t.content FROM engram_internal.archived_turns(a.ids, a.messages) t OFFSET 0) u
      WHERE a.workspace_id = ws AND a.session_id = ANY (chats) AND EXISTS (SELECT FROM ids)
        AND EXISTS (SELECT FROM unnest(a.ids) AS n (id) WHERE (n.id IN (SELECT d.id FROM ids d)) IS TRUE)
        AND (u.id IN (SELECT d.id FROM ids d)) IS TRUE
    )
    SELECT i.*, i.id IS NOT NULL AND (row_number() OVER w > 1 OR (i.session_id, i.id) IN (SELECT h.session_id, h.id FROM held h)) AS known,
           -- The same turn: as it is stored, or else as it was said first in this call.
           CASE WHEN (i.session_id, i.id) IN (SELECT h.session_id, h.id FROM held h)
             THEN (i.session_id, i.id, i.content) IN (SELECT h.session_id, h.id, h.content FROM held h)
             ELSE i.content = first_value(i.content) OVER w END AS same
    FROM items i WINDOW w AS (PARTITION BY i.session_id, i.id, i.fine ORDER BY i.position) ORDER BY i.position
  LOOP
    position := item.position;
    id := item.id;
    error := item.error;
    status := 'error';
    IF error IS NULL AND char_length(item.content) > longest THEN
      error := format('content has %s characters, the limit is %s. Store it in parts, or have an administrator raise max_content_chars.',
                      char_length(item.content), longest);
    END IF;
    IF error IS NULL AND item.known AND NOT item.same THEN
      error := format('another turn with id %s is in the conversation already. Choose another id, or leave it out.', item.id);
    END IF;
    IF error IS NULL THEN
      status := CASE WHEN item.known THEN 'unchanged' ELSE 'added' END;
      -- Of equal times each next one is a microsecond later: the array's order is the order of the turns.
      last_at := CASE WHEN item.created_at = given THEN last_at + interval '1 microsecond'
                      WHEN item.created_at IS NOT NULL THEN item.created_at
                      ELSE greatest(here, last_at + interval '1 microsecond') END;
      given := item.created_at;
      IF NOT item.known THEN
        id := coalesce(id, engram_internal.uuid_v7());
        INSERT INTO engram.messages (workspace_id, session_id, created_at, id, user_id, role, speaker, content, metadata)
        VALUES (ws, item.session_id, last_at, id, me, item.role, item.speaker, item.content, coalesce(item.metadata, '{}'));
      END IF;
    ELSE
      id := NULL;
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram.append_messages(jsonb, text, uuid) IS
'Stores turns of a conversation in the order given; a bad item does not lose the others.

items: an array of objects, at most 10,000: content and role (user, assistant, system, tool; by default user), and if you have them speaker, metadata, id, created_at, session_id. session_id: the conversation of the items that name none. Returns one row per item, by its position from 1, with status added, unchanged or error. id: chosen by the client, unique in the conversation, makes a retry harmless even after the turn was archived; with other content it is an error. created_at: by default now. Of items with equal times each next one is stored a microsecond later.';

CREATE FUNCTION engram_internal.messages(
  conversation text, match_count integer, cursor text, include_archived boolean, workspace uuid)
RETURNS TABLE (
  id uuid, role text, speaker text, content text, metadata jsonb, user_id uuid, created_at timestamptz,
  archived boolean, cursor_next text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(messages.workspace, false);
  wanted  integer := coalesce(messages.match_count, 50);
  until_at timestamptz := 'infinity';
  until_id uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  back_to timestamptz;
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000, and page on with cursor.';
  END IF;
  IF messages.conversation IS NULL THEN
    RAISE EXCEPTION 'session_id is NULL'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the conversation; engram.conversations() lists them.';
  END IF;
  IF messages.cursor IS NOT NULL THEN
    IF messages.cursor !~ '^-?[0-9]{1,18}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
       OR split_part(messages.cursor, '_', 1)::bigint < engram_internal.to_micros('4714-11-24 00:00:00+00 BC') THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.messages() returned', messages.cursor
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass cursor_next of the page before, unchanged.';
    END IF;
    until_at := engram_internal.from_micros(split_part(messages.cursor, '_', 1)::bigint);
    until_id := split_part(messages.cursor, '_', 2)::uuid;
  END IF;
  IF messages.include_archived THEN
    -- Chunks that lie wholly before the cursor and hold enough, from the newest: nothing older need be unpacked.
    back_to := (SELECT c.first_at FROM (
      SELECT a.first_at, sum(a.turns) OVER (ORDER BY a.first_at DESC, a.id DESC) AS total
      FROM engram.message_archive a WHERE a.workspace_id = ws AND a.session_id = messages.conversation AND a.last_at < until_at) c
      WHERE c.total > wanted ORDER BY c.total LIMIT 1);
  END IF;
  RETURN QUERY
  WITH found AS MATERIALIZED (
    SELECT p.*, row_number() OVER (ORDER BY p.created_at DESC, p.id DESC) AS nth FROM (
      (SELECT m.id, m.role, m.speaker, m.content, m.metadata, m.user_id, m.created_at, false AS archived
       FROM engram.messages m
       WHERE m.workspace_id = ws AND m.session_id = messages.conversation AND (m.created_at, m.id) < (until_at, until_id)
       ORDER BY m.created_at DESC, m.id DESC LIMIT wanted + 1)
      UNION ALL
      (SELECT t.id, t.role, t.speaker, t.content, t.metadata, t.user_id, t.created_at, true
       FROM engram.message_archive a CROSS JOIN LATERAL engram_internal.archived_turns(a.ids, a.messages) t
       WHERE messages.include_archived AND a.workspace_id = ws AND a.session_id = messages.conversation
         AND a.first_at <= until_at AND a.last_at >= coalesce(back_to, '-infinity')
         AND (t.created_at, t.id) < (until_at, until_id)
       ORDER BY t.created_at DESC, t.id DESC LIMIT wanted + 1)
    ) p ORDER BY p.created_at DESC, p.id DESC LIMIT wanted + 1)
  SELECT f.id, f.role, f.speaker, f.content, f.metadata, f.user_id, f.created_at, f.archived,
    (SELECT engram_internal.to_micros(o.created_at) || '_' || o.id FROM found o
     WHERE o.nth = wanted AND EXISTS (SELECT FROM found x WHERE x.nth = wanted + 1))
  FROM found f WHERE f.nth <= wanted ORDER BY f.created_at, f.id;
END
$$;
COMMENT ON FUNCTION engram_internal.messages(text, integer, text, boolean, uuid) IS 'What messages() does.';

CREATE FUNCTION engram_internal.to_micros(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT (extract(epoch FROM $1) * 1000000)::bigint
$$;
COMMENT ON FUNCTION engram_internal.to_micros(timestamptz) IS 'A moment in whole microseconds since 1970, for cursors.';

CREATE FUNCTION engram_internal.from_micros(micros bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT timestamptz 'epoch' + $1 / 3600000000 * interval '1 hour' + $1 % 3600000000 * interval '1 microsecond'
$$;
COMMENT ON FUNCTION engram_internal.from_micros(bigint) IS 'The moment so many microseconds after 1970.';

CREATE FUNCTION engram_internal.archived_turns(ids uuid[], messages jsonb)
RETURNS TABLE (id uuid, user_id uuid, role text, speaker text, content text, metadata jsonb, created_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT $1[t.nth], (t.turn ->> 'user_id')::uuid, t.turn ->> 'role', t.turn ->> 'speaker', t.turn ->> 'content',
         coalesce(t.turn -> 'metadata', '{}'), (t.turn ->> 'created_at')::timestamptz
  FROM jsonb_array_elements($2) WITH ORDINALITY AS t (turn, nth)
$$;
COMMENT ON FUNCTION engram_internal.archived_turns(uuid[], jsonb) IS 'The turns of one row of message_archive.';

-- A function of its own, because PL/pgSQL cannot have an argument and a table of the same name.
CREATE FUNCTION engram.messages(
  session_id text,
  match_count integer DEFAULT NULL,
  cursor text DEFAULT NULL,
  include_archived boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (
  id uuid, role text, speaker text, content text, metadata jsonb, user_id uuid, created_at timestamptz,
  archived boolean, cursor_next text)
LANGUAGE sql STABLE ROWS 50
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT m.* FROM engram_internal.messages($1, $2, $3, $4, $5) m
$$;
COMMENT ON FUNCTION engram.messages(text, integer, text, boolean, uuid) IS
'The newest turns of a conversation, in the order in which they were said.

match_count: 1 to 1000, by default 50. cursor: cursor_next, which is the same in all rows of a page, leads to the turns before; it is NULL when there are none. include_archived: archived turns as well.';

CREATE FUNCTION engram.conversations(
  match_count integer DEFAULT NULL,
  cursor text DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (
  session_id text, turns bigint, archived bigint, first_at timestamptz, last_at timestamptz,
  first_message text, last_message text, cursor_next text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(conversations.workspace, false);
  wanted    integer := coalesce(conversations.match_count, 50);
  before    timestamptz := 'infinity';
  before_id text := '';
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000, and page on with cursor.';
  END IF;
  IF conversations.cursor IS NOT NULL THEN
    IF conversations.cursor !~ '^-?[0-9]{1,18}_.'
       OR split_part(conversations.cursor, '_', 1)::bigint < engram_internal.to_micros('4714-11-24 00:00:00+00 BC') THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.conversations() returned', conversations.cursor
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass cursor_next of the last row of the page before, unchanged.';
    END IF;
    before := engram_internal.from_micros(split_part(conversations.cursor, '_', 1)::bigint);
    before_id := substr(conversations.cursor, position('_' IN conversations.cursor) + 1);
  END IF;
  RETURN QUERY
  -- One look into the index for each conversation, not a look at each turn.
  WITH RECURSIVE hot AS (
    (SELECT m.session_id FROM engram.messages m WHERE m.workspace_id = ws ORDER BY m.session_id LIMIT 1)
    UNION ALL
    SELECT n.session_id FROM hot h CROSS JOIN LATERAL (
      SELECT m.session_id FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id > h.session_id ORDER BY m.session_id LIMIT 1) n
  ), named AS (
    SELECT h.session_id FROM hot h
    UNION SELECT a.session_id FROM engram.message_archive a WHERE a.workspace_id = ws
  ), page AS MATERIALIZED (
    SELECT n.session_id, l.last_at FROM named n CROSS JOIN LATERAL (SELECT greatest(
      (SELECT m.created_at FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = n.session_id ORDER BY m.created_at DESC LIMIT 1),
      (SELECT max(a.last_at) FROM engram.message_archive a WHERE a.workspace_id = ws AND a.session_id = n.session_id)) AS last_at) l
    WHERE l.last_at < before OR l.last_at = before AND n.session_id > before_id
    ORDER BY l.last_at DESC, n.session_id LIMIT wanted)
  SELECT p.session_id, c.turns, o.turns, least(f.created_at, o.first_at), p.last_at,
    left(CASE WHEN f.created_at IS NULL OR o.first_at < f.created_at THEN
      (SELECT t.content FROM engram.message_archive a CROSS JOIN LATERAL engram_internal.archived_turns(a.ids, a.messages) t
       WHERE a.workspace_id = ws AND a.session_id = p.session_id AND a.first_at = o.first_at ORDER BY t.created_at, t.id LIMIT 1)
      ELSE f.content END, 200),
    left(CASE WHEN z.created_at IS NULL OR o.last_at > z.created_at THEN
      (SELECT t.content FROM engram.message_archive a CROSS JOIN LATERAL engram_internal.archived_turns(a.ids, a.messages) t
       WHERE a.workspace_id = ws AND a.session_id = p.session_id AND a.last_at = o.last_at ORDER BY t.created_at DESC, t.id DESC LIMIT 1)
      ELSE z.content END, 200),
    engram_internal.to_micros(p.last_at) || '_' || p.session_id
  FROM page p
  CROSS JOIN LATERAL (SELECT count(*) AS turns FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = p.session_id) c
  CROSS JOIN LATERAL (SELECT coalesce(sum(a.turns), 0)::bigint AS turns, min(a.first_at) AS first_at, max(a.last_at) AS last_at
                      FROM engram.message_archive a WHERE a.workspace_id = ws AND a.session_id = p.session_id) o
  LEFT JOIN LATERAL (SELECT m.created_at, m.content FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = p.session_id
                     ORDER BY m.created_at, m.id LIMIT 1) f ON true
  LEFT JOIN LATERAL (SELECT m.created_at, m.content FROM engram.messages m WHERE m.workspace_id = ws AND m.session_id = p.session_id
                     ORDER BY m.created_at DESC, m.id DESC LIMIT 1) z ON true
  ORDER BY p.last_at DESC, p.session_id;
END
$$;
COMMENT ON FUNCTION engram.conversations(integer, text, uuid) IS
'Conversations, the one with the latest turn first: how many turns are at hand and how many archived, when the first and the last was said, and how they begin (200 characters).

match_count: 1 to 1000, by default 50. cursor: cursor_next of the last row of the page before.';

CREATE FUNCTION engram_internal.archive_messages_as_owner(
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
COMMENT ON FUNCTION engram_internal.archive_messages_as_owner(uuid, interval, integer, boolean, integer) IS
'What archive_messages() does; without a workspace, for all. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.archived_turn(
  user_id uuid, role text, speaker text, content text, metadata jsonb, created_at timestamptz) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
AS $$
  SELECT jsonb_build_object('user_id', $1, 'role', $2, 'content', $4, 'created_at', $6)
    || CASE WHEN $3 IS NULL THEN '{}' ELSE jsonb_build_object('speaker', $3) END
    || CASE WHEN $5 = '{}' THEN '{}' ELSE jsonb_build_object('metadata', $5) END
$$;
COMMENT ON FUNCTION engram_internal.archived_turn(uuid, text, text, text, jsonb, timestamptz) IS 'A turn as message_archive holds it.';

CREATE FUNCTION engram.archive_messages(
  inactive_for interval DEFAULT NULL,
  keep integer DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  batch_size integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (conversations bigint, archived bigint, skipped bigint, done boolean)
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'archive_messages_wrapper';
COMMENT ON FUNCTION engram.archive_messages(interval, integer, boolean, integer, uuid) IS
'Moves the old turns of conversations in which nothing was said for a while into message_archive, where they take less room, and reports it in one row. Nothing is lost: messages(include_archived => true) reads them, restore_messages() brings them back.

inactive_for: how long nothing was said, by default 30 days. keep: so many of the last turns stay, by default 50. dry_run: only report what would be moved. batch_size: at most so many conversations in this call, 1 to 1000, by default 100, of which one transaction moves 64; done tells whether those were all. skipped: conversations that somebody else was writing to; they come next time. workspace: by default the caller''s own; for a role that bypasses row security and is nobody, all of them.';

CREATE FUNCTION engram_internal.restore_messages_as_owner(workspace uuid, session_id text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  moved bigint;
BEGIN
  IF NOT has_table_privilege('engram.message_archive', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not take messages out of the archive', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.restore_messages().';
  END IF;
  PERFORM engram_internal.lock_keys(restore_messages_as_owner.workspace, ARRAY['conversation ' || restore_messages_as_owner.session_id]);
  WITH back AS (
    DELETE FROM engram.message_archive a
    WHERE a.workspace_id = restore_messages_as_owner.workspace AND a.session_id = restore_messages_as_owner.session_id
    RETURNING a.ids, a.messages
  ), put AS (
    INSERT INTO engram.messages (workspace_id, session_id, created_at, id, user_id, role, speaker, content, metadata)
    SELECT restore_messages_as_owner.workspace, restore_messages_as_owner.session_id, t.created_at, t.id, t.user_id, t.role,
           t.speaker, t.content, t.metadata
    FROM back b CROSS JOIN LATERAL engram_internal.archived_turns(b.ids, b.messages) t
    ON CONFLICT DO NOTHING
    RETURNING 1
  )
  SELECT count(*) INTO moved FROM put;
  RETURN moved;
END
$$;
COMMENT ON FUNCTION engram_internal.restore_messages_as_owner(uuid, text) IS
'What restore_messages() does. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.restore_messages(session_id text, workspace uuid DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'restore_messages_wrapper';
COMMENT ON FUNCTION engram.restore_messages(text, uuid) IS
'Brings the archived turns of a conversation back to their places among the others, and returns how many. While nothing new is said in it, the next archive_messages() takes them away again.';

CREATE FUNCTION engram_internal.erase_archived(workspace uuid, session_id text, ids uuid[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  gone  bigint := 0;
  chunk record;
BEGIN
  IF NOT has_table_privilege('engram.message_archive', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not erase archived messages', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.erase_messages().';
  END IF;
  FOR chunk IN
    DELETE FROM engram.message_archive a
    WHERE a.workspace_id = erase_archived.workspace
      AND (erase_archived.session_id IS NULL OR a.session_id = erase_archived.session_id)
      AND (erase_archived.ids IS NULL OR a.ids && erase_archived.ids)
    RETURNING a.*
  LOOP
    gone := gone + CASE WHEN erase_archived.ids IS NULL THEN chunk.turns
                        ELSE (SELECT count(*) FROM unnest(chunk.ids) u WHERE u = ANY (erase_archived.ids)) END;
    -- What of it stays is packed again.
    INSERT INTO engram.message_archive (workspace_id, session_id, first_at, id, last_at, turns, ids, messages)
    SELECT chunk.workspace_id, chunk.session_id, min((t.turn ->> 'created_at')::timestamptz), chunk.id,
           max((t.turn ->> 'created_at')::timestamptz), count(*), array_agg(chunk.ids[t.nth] ORDER BY t.nth), jsonb_agg(t.turn ORDER BY t.nth)
    FROM jsonb_array_elements(chunk.messages) WITH ORDINALITY AS t (turn, nth)
    WHERE chunk.ids[t.nth] <> ALL (erase_archived.ids)
    HAVING count(*) > 0;
  END LOOP;
  RETURN gone;
END
$$;
COMMENT ON FUNCTION engram_internal.erase_archived(uuid, text, uuid[]) IS
'What erase_messages() does in the archive. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.erase_archived_messages(workspace uuid, session_id text, ids uuid[]) RETURNS bigint
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'erase_archived_messages_wrapper';
COMMENT ON FUNCTION engram_internal.erase_archived_messages(uuid, text, uuid[]) IS
'erase_archived() for a caller who may write the workspace.';

CREATE FUNCTION engram.erase_messages(
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
COMMENT ON FUNCTION engram.erase_messages(text, uuid[], boolean, uuid) IS
'Deletes turns for good, from the conversation and from the archive, and tells how many from each. Memories that were made from them stay.

session_id: the conversation; alone, all of it. ids: only these turns; without session_id, of whatever conversation. dry_run: only count.';

CREATE FUNCTION engram.should_extract(
  message_id uuid,
  content text,
  turns integer,
  min_chars integer DEFAULT NULL,
  min_turns integer DEFAULT NULL,
  base_rate double precision DEFAULT NULL,
  full_rate double precision DEFAULT NULL,
  mature_turns integer DEFAULT NULL,
  role text DEFAULT NULL
) RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'should_extract_wrapper';
COMMENT ON FUNCTION engram.should_extract(uuid, text, integer, integer, integer, double precision, double precision, integer, text) IS
'Whether a turn is worth sending to an extractor of facts, which costs money: a rule to sample by. It reads nothing, and says the same for the same arguments.

False when content has less than min_chars characters (20; outer white space does not count), when the conversation has less than min_turns turns so far (2), or when role is system or tool. Else true with a probability that rises with turns in a straight line from base_rate (0.25) to full_rate (1) at mature_turns (20), by a hash of message_id: a higher probability never makes false of true. Rates from 0 to 1, base_rate at most full_rate; counts of 0 or more. What is out of range, and NULL for one of the first three, is an error (22023).';
