-- Memories as a block of text for a prompt.

CREATE FUNCTION engram_internal.prompt_line(content text, speaker text, occurred_at timestamptz) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'prompt_line_wrapper';
COMMENT ON FUNCTION engram_internal.prompt_line(text, text, timestamptz) IS
'A memory as one line of a prompt: - [8 May 2023] Speaker: content. Dates are in UTC; line breaks become blanks.';

CREATE FUNCTION engram_internal.tokens(content text) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tokens_wrapper';
COMMENT ON FUNCTION engram_internal.tokens(text) IS
'About how many tokens of a language model a text takes: a quarter of its characters, rounded up, and one for each character of scripts without spaces.';

CREATE FUNCTION engram.context(
  query_text text DEFAULT NULL,
  query_embedding vector DEFAULT NULL,
  max_tokens integer DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  match_count integer DEFAULT NULL,
  types text[] DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(context.workspace, false);
  moment    timestamptz := coalesce(context.at, now());
  budget    integer := coalesce(context.max_tokens, 1000);
  condition text;
  params    jsonb;
  m         record;
  line      text;
  plain     text;
  cost      integer;
  spent     integer := 0;
  lines     text[] := '{}';
  ids       uuid[] := '{}';
  said      text[] := '{}';
  memories  jsonb[] := '{}';
BEGIN
  IF budget NOT BETWEEN 1 AND 1000000 THEN
    RAISE EXCEPTION 'max_tokens is %', budget
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000000.';
  END IF;
  SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_filter(context.filter) f;
  FOR m IN EXECUTE
    $q$SELECT true AS standing, row_number() OVER (ORDER BY m.created_at DESC, m.id DESC) AS place,
              m.id, m.content, m.type, NULL::double precision AS score, m.speaker, m.occurred_at, m.created_at
    FROM (
      SELECT m.* FROM engram.memories m
      WHERE m.workspace_id = $2 AND $1 IS NOT NULL AND m.pinned AND m.type = 'procedural' AND m.deleted_at IS NULL
        AND m.superseded_by IS NULL AND (m.expires_at IS NULL OR m.expires_at > $3) AND $q$ || condition || $q$
      ORDER BY m.created_at DESC, m.id DESC LIMIT 1000) m
    UNION ALL
    SELECT false, s.place, s.id, s.content, s.type, s.score, s.speaker, s.occurred_at, s.created_at
    FROM engram.search($4, $5, $6, $7, $8, at => $9, workspace => $10, diversity => $11) WITH ORDINALITY AS s (
      id, content, type, score, importance, tags, metadata, speaker, role, session_id, occurred_at, created_at, matched, explain, place)
    ORDER BY standing DESC, place$q$
    USING params, ws, moment, context.query_text, context.query_embedding, coalesce(context.match_count, 50),
          context.filter, context.types, context.at, context.workspace,
          (SELECT coalesce(w.context_diversity, d.context_diversity) FROM engram.settings d
           LEFT JOIN engram.settings w ON w.workspace_id = ws
           WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000')
  LOOP
    plain := engram_internal.normalize_content(m.content);
    CONTINUE WHEN plain = ANY (said);
    line := engram_internal.prompt_line(m.content, m.speaker, m.occurred_at);
    cost := engram_internal.tokens(line || E'\n');
    -- A later one may be shorter.
    CONTINUE WHEN spent + cost > CASE WHEN m.standing THEN budget / 4 ELSE budget END;
    spent := spent + cost;
    said := said || plain;
    lines := lines || line;
    ids := ids || m.id;
    memories := memories || jsonb_build_object('id', m.id, 'content', m.content, 'type', m.type, 'score', m.score,
      'speaker', m.speaker, 'occurred_at', m.occurred_at, 'created_at', m.created_at, 'standing', m.standing, 'tokens', cost);
  END LOOP;
  RETURN jsonb_build_object('text', array_to_string(lines, E'\n'), 'ids', ids, 'tokens', spent, 'memories', memories);
END
$$;
COMMENT ON FUNCTION engram.context(text, vector, integer, jsonb, integer, text[], timestamptz, uuid) IS
'The best memories within a budget of tokens, as a block of text to put into a prompt: {"text", "ids", "tokens", "memories": [{"id", "content", "type", "score", "speaker", "occurred_at", "created_at", "standing", "tokens"}]}. Reading does not count as a use: pass the ids that were of use to touch().

text: a line a memory, - [8 May 2023] Speaker: content, without what is not known; dates in UTC, line breaks as blanks. First standing instructions (pinned procedural memories), newest first, in at most a quarter of the budget, whatever is asked; they have no score. Then what search() finds with the diversity of the setting context_diversity, best first, or with nothing asked what is most needed now, in all that is left. A memory that does not fit is left out whole and shorter ones may follow; the same content comes once.

max_tokens: 1 to 1000000, by default 1000. A token is taken as four characters of a line with its end, or one character of a script without spaces (Han, Kana, Hangul, Thai); models differ, so leave some room. match_count: how many memories search() may give, 1 to 1000, by default 50. filter: as in search(), for standing instructions too. types: only these, beside standing instructions. query_text, query_embedding, at: as in search().';
