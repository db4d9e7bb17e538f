-- Helpers behind the public functions. Clients get USAGE on this schema because policies and
-- invoker functions call into it, and EXECUTE on what they need; nothing here reads a table with
-- more rights than the caller has.

-- An unqualified vector must be pgvector's. A type of that name in schema engram would come first,
-- and the library would read its values as vectors.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_type t
             WHERE t.typname = 'vector' AND t.typnamespace = 'engram'::regnamespace
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension e
                               WHERE e.extname = 'vector' AND e.extnamespace = t.typnamespace)) THEN
    RAISE EXCEPTION 'schema engram holds a type "vector" that is not pgvector''s'
      USING ERRCODE = 'insufficient_privilege', HINT = 'Drop or rename that type, then create the extension.';
  END IF;
END
$$;

CREATE SCHEMA engram_internal;
COMMENT ON SCHEMA engram_internal IS 'Helpers of engram. Not for callers, not to be exposed through an API.';

CREATE FUNCTION engram_internal.caller_id() RETURNS uuid
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'caller_id_wrapper';
COMMENT ON FUNCTION engram_internal.caller_id() IS 'The caller''s user id, or NULL. See engram.current_user_id().';

CREATE FUNCTION engram_internal.caller() RETURNS TABLE (user_id uuid, source text, subject text, problem text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'caller_wrapper';
COMMENT ON FUNCTION engram_internal.caller() IS 'The caller, where the identity came from, and what is wrong with it if there is none.';

CREATE FUNCTION engram_internal.uuid_v7() RETURNS uuid
LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'uuid_v7_wrapper';
COMMENT ON FUNCTION engram_internal.uuid_v7() IS 'A new time-ordered UUID (RFC 9562, version 7).';

CREATE FUNCTION engram_internal.store_origin() RETURNS bigint
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'store_origin_wrapper';
COMMENT ON FUNCTION engram_internal.store_origin() IS
'A number for the table of events in this database of this cluster. Events that a dump brought in carry another.';

CREATE FUNCTION engram_internal.is_blank(content text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'is_blank_wrapper';
COMMENT ON FUNCTION engram_internal.is_blank(text) IS 'True when the text has no visible character.';

CREATE FUNCTION engram_internal.normalize_content(content text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'normalize_content_wrapper';
COMMENT ON FUNCTION engram_internal.normalize_content(text) IS
'Lower case, white space folded and trimmed: two contents with the same result are the same memory.';

CREATE FUNCTION engram_internal.indexed_text(content text, speaker text, occurred_at timestamptz, summary text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'indexed_text_wrapper';
COMMENT ON FUNCTION engram_internal.indexed_text(text, text, timestamptz, text) IS
'The text that is indexed and embedded: [8 May 2023] Speaker: content, with the summary on a second line. Dates are in UTC.';

CREATE FUNCTION engram_internal.extra_text(indexed text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'extra_text_wrapper';
COMMENT ON FUNCTION engram_internal.extra_text(text) IS
'Words that a text search configuration does not find in a text: parts of identifiers, dates written in digits, pairs of characters where words are written without spaces. NULL when there are none.';

CREATE FUNCTION engram_internal.parsed_text(indexed text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'parsed_text_wrapper';
COMMENT ON FUNCTION engram_internal.parsed_text(text) IS
'A text as the parser of text search is to read it: where it takes quotes, dashes and other signs beyond ASCII for letters (LC_CTYPE C), with blanks in their place.';

CREATE FUNCTION engram_internal.to_terms(config text, indexed text) RETURNS tsvector
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
  parsed text := engram_internal.parsed_text(indexed);
BEGIN
  IF octet_length(parsed) < 100000 THEN
    RETURN to_tsvector(config::regconfig, parsed);
  END IF;
  BEGIN
    RETURN to_tsvector(config::regconfig, parsed);
  EXCEPTION WHEN program_limit_exceeded THEN
    -- Only text made to have very many distinct compound words comes here; its beginning is found.
    RETURN to_tsvector(config::regconfig, left(parsed, 20000));
  END;
END
$$;
COMMENT ON FUNCTION engram_internal.to_terms(text, text) IS 'The lexemes of an indexed text, without a notice for words that are too long to be indexed.';

CREATE FUNCTION engram_internal.lexemes(terms tsvector) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'lexemes_wrapper';
COMMENT ON FUNCTION engram_internal.lexemes(tsvector) IS 'What tsvectorsend(tsvector) gives a client whose encoding is that of the database: the encoding of the client does not count.';

CREATE FUNCTION engram_internal.text_config(workspace uuid) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- While a dump is loaded there may be no settings yet.
  RETURN coalesce((SELECT coalesce(w.text_config, d.text_config)
          FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = text_config.workspace
          WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000'), 'pg_catalog.english');
END
$$;
COMMENT ON FUNCTION engram_internal.text_config(uuid) IS 'The text search configuration of a workspace.';

CREATE FUNCTION engram_internal.document_entry(id uuid, version bigint, state text, session_id text, at timestamptz,
  content text, speaker text, terms bytea, extra bytea) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'document_entry_wrapper';
COMMENT ON FUNCTION engram_internal.document_entry(uuid, bigint, text, text, timestamptz, text, text, bytea, bytea) IS
'A block of one document. terms and extra are of engram_internal.lexemes(); only terms count for its length. state: plain, replaces (older entries of the memory no longer count), gone (and neither does this).';

CREATE FUNCTION engram_internal.vector_entry(id uuid, version bigint, state text, embedding vector) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'vector_entry_wrapper';
COMMENT ON FUNCTION engram_internal.vector_entry(uuid, bigint, text, vector) IS
'A block of one vector, quantised to 8 bits a dimension. Without a vector, for state gone, it has as many dimensions as its neighbours.';

CREATE FUNCTION engram_internal.merge_blocks(blocks bytea[], resolve boolean)
RETURNS TABLE (is_full boolean, entries integer, block bytea)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'merge_blocks_wrapper';
COMMENT ON FUNCTION engram_internal.merge_blocks(bytea[], boolean) IS
'The entries of many blocks in as few as possible, the newest of each memory only. resolve: no other block holds these memories, so that nothing of what is gone need be kept.';

CREATE FUNCTION engram_internal.block_entries(block bytea)
RETURNS TABLE (id uuid, version bigint, state text, entry bytea)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'block_entries_wrapper';
COMMENT ON FUNCTION engram_internal.block_entries(bytea) IS
'What a block holds. entry is a block of that entry alone, equal for equal content whatever the version.';

CREATE FUNCTION engram_internal.block_holds(block bytea, ids uuid[]) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'block_holds_wrapper';
COMMENT ON FUNCTION engram_internal.block_holds(bytea, uuid[]) IS
'True when a block has an entry of any of the memories. Of the rows of a segment, those with ids can tell; its head says whether any of them may be in it.';

CREATE FUNCTION engram_internal.seal_blocks(blocks bytea[], tag integer)
RETURNS TABLE (level smallint, cluster integer, block_id uuid, entries integer, block bytea)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'seal_blocks_wrapper';
COMMENT ON FUNCTION engram_internal.seal_blocks(bytea[], integer) IS
'The entries of blocks and of whole segments, the newest of each memory, as rows of new segments, numbered from tag on.';

CREATE FUNCTION engram_internal.segment_entries(blocks bytea[])
RETURNS TABLE (id uuid, version bigint, state text, entry bytea)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'segment_entries_wrapper';
COMMENT ON FUNCTION engram_internal.segment_entries(bytea[]) IS
'What counts in the rows of a segment, as block_entries() gives it.';

CREATE FUNCTION engram_internal.bury_entries(old bytea, parts bytea[], ids uuid[], versions bigint[])
RETURNS TABLE (head bytea, dead integer, held uuid[])
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'bury_entries_wrapper';
COMMENT ON FUNCTION engram_internal.bury_entries(bytea, bytea[], uuid[], bigint[]) IS
'The head of a segment with those entries marked dead that are older than these versions of their memories; how many are dead in all; which of the memories are in it, dead or not. parts: its ids and stamps.';

CREATE FUNCTION engram_internal.dead_entries(head bytea, parts bytea[], ids uuid[]) RETURNS integer[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dead_entries_wrapper';
COMMENT ON FUNCTION engram_internal.dead_entries(bytea, bytea[], uuid[]) IS
'Which entries of a segment of vectors are dead and of these memories, by number, ascending; NULL if they cannot be taken out of it without making it anew. parts: its ids.';

CREATE FUNCTION engram_internal.blank_part(block bytea, head bytea, entries integer[]) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'blank_part_wrapper';
COMMENT ON FUNCTION engram_internal.blank_part(bytea, bytea, integer[]) IS
'A part of a segment of vectors without the ids and vectors of these entries, which dead_entries() gave; NULL of one that holds none of them.';

CREATE FUNCTION engram_internal.cells_number(guide bytea, head bytea) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cells_number_wrapper';
COMMENT ON FUNCTION engram_internal.cells_number(bytea, bytea) IS
'The number by which cells name a segment, -1 if its vectors are in none, NULL if that cannot be read.';

CREATE FUNCTION engram_internal.blank_cell(cell bytea, number integer, entries integer[])
RETURNS TABLE (block bytea, vectors integer)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'blank_cell_wrapper';
COMMENT ON FUNCTION engram_internal.blank_cell(bytea, integer, integer[]) IS
'A cell with zeros in place of the vectors of these entries of a segment, and how many vectors are left; no row of one that holds none of them, NULL and 0 of one that cannot be read.';

CREATE FUNCTION engram_internal.segment_rows(head bytea, rows bytea, states bytea)
RETURNS TABLE (block_id uuid, block bytea)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 4 AS 'MODULE_PATHNAME', 'segment_rows_wrapper';
COMMENT ON FUNCTION engram_internal.segment_rows(bytea, bytea, bytea) IS
'The parts of a segment that tell where the rows of its entries, and of their states, are: places in the order of the ids, 6 bytes each as tidsend() gives them, 0 for nowhere.';

CREATE FUNCTION engram_internal.segment_values(workspace uuid, head bytea, ids bytea[]) RETURNS TABLE (block_id uuid, block bytea)
LANGUAGE c STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'segment_values_wrapper';
COMMENT ON FUNCTION engram_internal.segment_values(uuid, bytea, bytea[]) IS
'Parts that hold what filters ask of the memories of a segment, whose parts of ids are given. For who owns the tables.';

CREATE FUNCTION engram_internal.segment_head(head bytea, parts uuid[], places bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'segment_head_wrapper';
COMMENT ON FUNCTION engram_internal.segment_head(bytea, uuid[], bytea) IS
'The head of a segment that tells where its parts are, given by their keys in order.';

CREATE FUNCTION engram_internal.document(id uuid, version bigint, state text, session_id text, at timestamptz,
  config text, content text, speaker text, occurred_at timestamptz, summary text) RETURNS bytea
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  indexed text;
  extra   text;
BEGIN
  IF state <> 'gone' THEN
    indexed := engram_internal.indexed_text(content, speaker, occurred_at, summary);
    extra := engram_internal.extra_text(indexed);
  END IF;
  RETURN engram_internal.document_entry(id, version, state, session_id, at,
    CASE WHEN state <> 'gone' THEN content END, speaker,
    CASE WHEN indexed IS NOT NULL THEN engram_internal.lexemes(engram_internal.to_terms(config, indexed)) END,
    CASE WHEN extra IS NOT NULL THEN engram_internal.lexemes(engram_internal.to_terms(config, extra)) END);
END
$$;
COMMENT ON FUNCTION engram_internal.document(uuid, bigint, text, text, timestamptz, text, text, text, timestamptz, text) IS
'A block of one memory''s words.';

CREATE FUNCTION engram_internal.index_documents(workspace uuid, documents bytea[], state text) RETURNS void
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
COMMENT ON FUNCTION engram_internal.index_documents(uuid, bytea[], text) IS
'Adds documents to what search scans. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.index_vectors(workspace uuid, model text, ids uuid[], embeddings vector[], state text) RETURNS void
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
COMMENT ON FUNCTION engram_internal.index_vectors(uuid, text, uuid[], vector[], text) IS
'Adds vectors to what search scans. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.pack_sometimes(workspace uuid, model text, added integer, state text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- By chance, so that nobody need count: about once for every 24 new entries, or 100 that replace.
  IF state = 'plain' THEN
    IF random() * 24 < added THEN
      PERFORM engram_internal.pack(workspace, model, false, 16);
      PERFORM engram_internal.pack(workspace, model, true, 20);
    END IF;
    IF random() * 128 < added THEN
      PERFORM engram_internal.seal(workspace, model, CASE model WHEN '' THEN 256 ELSE 1024 END, 4096);
    END IF;
  ELSIF random() * 100 < added THEN
    PERFORM engram_internal.pack(workspace, model, true, 50);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.pack_sometimes(uuid, text, integer, text) IS
'Packs after as many new entries as are worth it. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.pack(workspace uuid, model text, replacing boolean, at_least integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- While a dump is loaded, rows that look like a dump's are left out: not these.
SET check_function_bodies = on
AS $$
DECLARE
  packed   integer := 0;
  ids      uuid[];
  versions bigint[];
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  -- One at a time in a workspace, until its end is visible to the next, and under a snapshot taken
  -- afterwards: then every entry of a memory that is being replaced is seen. Nobody waits here.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT engram_internal.try_lock_work(workspace, 'pack') THEN
    RETURN 0;
  END IF;
  IF (SELECT count(*) FROM engram.search_blocks b
      WHERE b.workspace_id = workspace AND b.model = pack.model AND b.level = CASE WHEN replacing THEN 0 ELSE 1 END) < at_least THEN
    RETURN 0;
  END IF;
  -- One statement, hence one snapshot: of a block that waits, committed while this runs, either all
  -- memories are being replaced or none.
  BEGIN
    WITH waiting AS MATERIALIZED (
      SELECT array_agg(e.id) AS ids, array_agg(e.version) AS versions
      FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.block_entries(b.block) e
      WHERE replacing AND b.workspace_id = workspace AND b.model = pack.model AND b.level = 0
    ), old AS (
      DELETE FROM engram.search_blocks b
      WHERE b.workspace_id = workspace AND b.model = pack.model
        AND b.level BETWEEN CASE WHEN replacing THEN 0 ELSE 1 END AND CASE WHEN replacing THEN 2 ELSE 1 END
        AND CASE WHEN replacing THEN engram_internal.block_holds(b.block, (SELECT w.ids FROM waiting w)) ELSE true END
      RETURNING b.block
    ), new AS (
      INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
      SELECT workspace, pack.model, CASE WHEN m.is_full THEN 2 ELSE 1 END, engram_internal.uuid_v7(), m.entries, m.block
      FROM engram_internal.merge_blocks((SELECT array_agg(o.block) FROM old o), replacing) m
      RETURNING 1
    )
    SELECT count(*), (SELECT w.ids FROM waiting w), (SELECT w.versions FROM waiting w) INTO packed, ids, versions FROM new;
    IF ids IS NOT NULL THEN
      packed := packed + engram_internal.bury(workspace, model, ids, versions);
    END IF;
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- A block that cannot be read: reindex() mends it, and until then writing goes on.
    RETURN 0;
  END;
  RETURN packed;
END
$$;
COMMENT ON FUNCTION engram_internal.pack(uuid, text, boolean, integer) IS
'Merges small blocks of a workspace, or (replacing) removes what newer entries have replaced, when there are at least so many. Runs with the rights of the caller, who must own the tables; does nothing while another transaction packs.';

CREATE FUNCTION engram_internal.entry_places(workspace uuid, model text, cluster integer)
RETURNS TABLE (places bytea, states bytea)
LANGUAGE c STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'entry_places_wrapper';
COMMENT ON FUNCTION engram_internal.entry_places(uuid, text, integer) IS
'Where the rows of the entries of a segment are now, in their order, 6 bytes each, zeros for nowhere, and those of their states (model empty). Only the owner of the tables may ask.';

CREATE FUNCTION engram_internal.knows_places(workspace uuid, model text, cluster integer, head bytea) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'knows_places_wrapper';
COMMENT ON FUNCTION engram_internal.knows_places(uuid, text, integer, bytea) IS
'Whether a segment knows where its parts and the rows of its entries are, as far as a sample tells. Only the owner of the tables may ask.';

CREATE FUNCTION engram_internal.arrange_vectors(workspace uuid, model text, by_angle boolean) RETURNS bigint
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'arrange_vectors_wrapper';
COMMENT ON FUNCTION engram_internal.arrange_vectors(uuid, text, boolean) IS
'Writes the cells of the segments of a model of a workspace, which has none. Returns how many vectors are in them; 0 where cells would not help, because vectors have thousands of dimensions, or are of different lengths and not compared by angle. For arrange(), which holds the lock; only the owner of the tables may.';

CREATE FUNCTION engram_internal.knows_cells(workspace uuid, model text) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'knows_cells_wrapper';
COMMENT ON FUNCTION engram_internal.knows_cells(uuid, text) IS
'Whether the cells of a model of a workspace are there, and most of them where their guide says, as far as a sample tells. Only the owner of the tables may ask.';

CREATE FUNCTION engram_internal.arrangement(workspace uuid, model text, OUT enough bigint, OUT sealed bigint, OUT arranged bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  -- Stores of 0.7 have no such setting, and no room for cells.
  SELECT coalesce(to_jsonb(s) ->> 'approximate_from', to_jsonb(d) ->> 'approximate_from') INTO enough
  FROM engram.settings d LEFT JOIN engram.settings s ON s.workspace_id = arrangement.workspace
  WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';
  -- Smaller ones are joined with others before long.
  SELECT coalesce(sum(b.entries), 0) INTO sealed FROM engram.search_blocks b
  WHERE b.workspace_id = workspace AND b.model = arrangement.model AND b.level = 3 AND b.entries > 2048;
  SELECT b.entries INTO arranged FROM engram.search_blocks b
  WHERE b.workspace_id = workspace AND b.model = arrangement.model AND b.level = 5 AND b.cluster = 0
    AND b.block_id = '01000000-0000-0000-0000-000000000000';
END
$$;
COMMENT ON FUNCTION engram_internal.arrangement(uuid, text) IS
'From how many vectors on those of a workspace are arranged in cells (setting approximate_from), how many are in segments that are large enough, and how many of these are in cells, NULL where there are none. As the caller.';

CREATE FUNCTION engram_internal.arrange(workspace uuid, model text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
SET enable_seqscan = off
AS $$
DECLARE
  a        record;
  distance text;
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  -- As in pack().
  IF model = '' OR current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT engram_internal.try_lock_work(workspace, 'pack') THEN
    RETURN 0;
  END IF;
  SELECT * INTO a FROM engram_internal.arrangement(workspace, arrange.model);
  -- Anew when a fifth is not in cells, which is looked through whole meanwhile, or after VACUUM FULL.
  IF a.enough IS NULL OR a.sealed < a.enough AND a.arranged IS NULL
     OR a.sealed >= a.enough AND a.arranged >= a.sealed * 0.8 AND engram_internal.knows_cells(workspace, arrange.model) THEN
    RETURN 0;
  END IF;
  -- Whoever truncates the vectors, or drops the model, waits, and then takes away what is written here.
  LOCK TABLE engram.embeddings IN ACCESS SHARE MODE;
  SELECT m.distance INTO distance FROM engram.embedding_models m WHERE m.name = arrange.model FOR KEY SHARE;
  DELETE FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = arrange.model AND b.level = 5;
  IF a.sealed < a.enough OR distance IS NULL THEN
    RETURN 0;
  END IF;
  BEGIN
    RETURN engram_internal.arrange_vectors(workspace, arrange.model, distance = 'cosine');
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- A segment that cannot be read: reindex() mends it.
    RETURN 0;
  END;
END
$$;
COMMENT ON FUNCTION engram_internal.arrange(uuid, text) IS
'Arranges the vectors of a workspace in cells of those that are alike, if there are enough (setting approximate_from) and a fifth of them is in none, so that a search need not look through all. Returns how many are in cells; 0 when there was nothing to do. Runs with the rights of the caller, who must own the tables; does nothing while another transaction packs.';

CREATE FUNCTION engram_internal.arrangeable()
RETURNS TABLE (workspace_id uuid, model text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT b.workspace_id, b.model::text FROM engram.search_blocks b
  WHERE b.level = 3 AND b.model <> '' AND b.entries > 2048
  GROUP BY b.workspace_id, b.model
  HAVING sum(b.entries) >= (SELECT min((to_jsonb(s) ->> 'approximate_from')::bigint) FROM engram.settings s)
  UNION
  SELECT b.workspace_id, b.model::text FROM engram.search_blocks b
  WHERE b.level = 5 AND b.cluster = 0 AND b.block_id = '01000000-0000-0000-0000-000000000000'
  ORDER BY 1, 2;
END
$$;
COMMENT ON FUNCTION engram_internal.arrangeable() IS
'Workspaces and models whose vectors may have to be arranged, or are. As the caller.';

CREATE FUNCTION engram_internal.place(workspace uuid, model text) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  -- What filters ask of memories may be kept once every change of it makes a new entry. Stores of 0.5 know fewer.
  valued  boolean := place.model = '' AND EXISTS (
    SELECT FROM pg_trigger t WHERE t.tgrelid = 'engram.memories'::regclass AND t.tgname = 'memories_after_update'
      AND pg_get_triggerdef(t.oid) LIKE '%agent_id%');
  h       record;
  places  bytea;
  states  bytea;
  n       integer := 0;
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT engram_internal.try_lock_work(workspace, 'pack') THEN
    RETURN 0;
  END IF;
  -- What only saves asking an index: a place that is not right any more is noticed by who goes there. The newest first,
  -- and few: somebody may wait who only adds.
  FOR h IN SELECT b.cluster, b.entries, b.block FROM engram.search_blocks b
           WHERE b.workspace_id = workspace AND b.model = place.model AND b.level = 3
             AND (NOT engram_internal.knows_places(workspace, place.model, b.cluster, b.block)
                  OR valued AND NOT EXISTS (
                    SELECT FROM engram.search_blocks v
                    WHERE v.workspace_id = place.workspace AND v.model = '' AND v.level = 4 AND v.cluster = b.cluster
                      AND v.block_id >= '0d000000-0000-0000-0000-000000000000'))
           ORDER BY b.cluster DESC LIMIT 2 LOOP
    DELETE FROM engram.search_blocks b
    WHERE b.workspace_id = workspace AND b.model = place.model AND b.level = 4 AND b.cluster = h.cluster
      AND b.block_id >= '0b000000-0000-0000-0000-000000000000';
    SELECT e.places, e.states INTO places, states FROM engram_internal.entry_places(workspace, place.model, h.cluster) e;
    INSERT INTO engram.search_blocks (workspace_id, model, level, cluster, block_id, entries, block)
    SELECT workspace, place.model, 4, h.cluster, r.block_id, 0, r.block
    FROM engram_internal.segment_rows(h.block, places, states) r;
    IF valued THEN
      INSERT INTO engram.search_blocks (workspace_id, model, level, cluster, block_id, entries, block)
      SELECT workspace, '', 4, h.cluster, r.block_id, 0, r.block
      FROM engram_internal.segment_values(workspace, h.block, ARRAY(
        SELECT i.block FROM engram.search_blocks i
        WHERE i.workspace_id = workspace AND i.model = '' AND i.level = 4 AND i.cluster = h.cluster
          AND i.block_id < '02000000-0000-0000-0000-000000000000')) r;
    END IF;
    UPDATE engram.search_blocks b
    SET block = engram_internal.segment_head(b.block, p.keys, p.places)
    FROM (SELECT array_agg(x.block_id ORDER BY x.block_id) AS keys,
                 string_agg(tidsend(x.ctid), '' ORDER BY x.block_id) AS places
          FROM engram.search_blocks x
          WHERE x.workspace_id = workspace AND x.model = place.model AND x.level = 4 AND x.cluster = h.cluster) p
    WHERE b.workspace_id = workspace AND b.model = place.model AND b.level = 3 AND b.cluster = h.cluster;
    n := n + 1;
  END LOOP;
  RETURN n;
END
$$;
COMMENT ON FUNCTION engram_internal.place(uuid, text) IS
'Notes in the newest two segments of a workspace of which it is not known where their parts and the rows of their entries are, or what filters ask of these. Returns in how many, 0 in the end. Runs with the rights of the caller, who must own the tables; does nothing while another transaction packs.';

CREATE FUNCTION engram_internal.blank(workspace uuid, model text, cluster integer, head bytea, entries integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  number integer;
  fewest integer;
BEGIN
  UPDATE engram.search_blocks b SET block = engram_internal.blank_part(b.block, blank.head, blank.entries)
  WHERE b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 4 AND b.cluster = blank.cluster
    AND engram_internal.blank_part(b.block, blank.head, blank.entries) IS NOT NULL;
  UPDATE engram.search_blocks b SET block = blank.head
  WHERE b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 3 AND b.cluster = blank.cluster;
  SELECT engram_internal.cells_number(b.block, blank.head) INTO number FROM engram.search_blocks b
  WHERE b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 5 AND b.cluster = 0
    AND b.block_id = '01000000-0000-0000-0000-000000000000';
  IF number >= 0 THEN
    WITH blanked AS (
      SELECT b.block_id, c.block, c.vectors
      FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.blank_cell(b.block, number, blank.entries) c
      WHERE b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 5 AND b.cluster = 0
        AND b.block_id >= '03000000-0000-0000-0000-000000000000'
    ), changed AS (
      UPDATE engram.search_blocks b SET block = c.block FROM blanked c
      WHERE c.block IS NOT NULL AND b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 5
        AND b.cluster = 0 AND b.block_id = c.block_id
    )
    SELECT min(c.vectors) INTO fewest FROM blanked c;
  END IF;
  -- The direction of a cell is the mean of its vectors, and is to tell of none of them; and what cannot be read may hold
  -- anything.
  IF number IS NULL OR fewest < 8 THEN
    DELETE FROM engram.search_blocks b WHERE b.workspace_id = blank.workspace AND b.model = blank.model AND b.level = 5;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.blank(uuid, text, integer, bytea, integer[]) IS
'Overwrites these entries of a segment of vectors, whose new head is given, and what cells hold of them. For bury(), as its caller.';

CREATE FUNCTION engram_internal.bury(workspace uuid, model text, ids uuid[], versions bigint[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  h      record;
  parts  bytea[];
  buried record;
  erased uuid[];
  gone   integer[];
  other  text;
  n      integer := 0;
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  erased := ARRAY(
    SELECT u.id FROM unnest(ids) AS u (id)
    WHERE (SELECT m.id FROM engram.memories m WHERE m.workspace_id = workspace AND m.id = u.id OFFSET 0) IS NULL);
  IF model = '' AND erased <> '{}' THEN
    -- A vector of an earlier text is dead, and nothing else tells that it must go.
    FOR other IN SELECT m.name FROM engram.embedding_models m WHERE EXISTS (
        SELECT FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = m.name AND b.level = 3) LOOP
      n := n + engram_internal.bury(workspace, other, erased, array_fill(1::bigint << 61, ARRAY[cardinality(erased)]));
    END LOOP;
  END IF;
  FOR h IN SELECT b.cluster, b.entries, b.block FROM engram.search_blocks b
           WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level = 3
             AND engram_internal.block_holds(b.block, ids) LOOP
    -- Ids and stamps come first.
    parts := ARRAY(SELECT b.block FROM engram.search_blocks b
                   WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level = 4 AND b.cluster = h.cluster
                     AND b.block_id < '03000000-0000-0000-0000-000000000000');
    SELECT * INTO buried FROM engram_internal.bury_entries(h.block, parts, ids, versions);
    CONTINUE WHEN buried.held = '{}';
    -- Of a memory that was erased nothing may stay; what else is dead only costs time and room.
    gone := CASE WHEN model <> '' AND buried.dead * 4 <= h.entries AND buried.held && erased
                 THEN engram_internal.dead_entries(buried.head, parts, erased) END;
    IF gone IS NOT NULL THEN
      PERFORM engram_internal.blank(workspace, model, h.cluster, buried.head, gone);
      n := n + 1;
    ELSIF buried.dead * 4 > h.entries OR buried.held && erased THEN
      WITH old AS (
        DELETE FROM engram.search_blocks b
        WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level IN (3, 4) AND b.cluster = h.cluster
        RETURNING CASE WHEN b.level = 3 THEN buried.head ELSE b.block END AS block
      )
      INSERT INTO engram.search_blocks (workspace_id, model, level, cluster, block_id, entries, block)
      SELECT workspace, bury.model, s.level, s.cluster, s.block_id, s.entries, s.block
      FROM engram_internal.seal_blocks((SELECT array_agg(o.block) FROM old o),
        (SELECT max(b.cluster) + 1 FROM engram.search_blocks b
         WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level = 3)) s;
      -- Cells hold a copy, and all that they hold is in segments that stay.
      IF h.entries > 2048 THEN
        DELETE FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level = 5;
      END IF;
      n := n + 1;
    ELSIF buried.head <> h.block THEN
      UPDATE engram.search_blocks b SET block = buried.head
      WHERE b.workspace_id = workspace AND b.model = bury.model AND b.level = 3 AND b.cluster = h.cluster;
      n := n + 1;
    END IF;
  END LOOP;
  IF n > 0 THEN
    PERFORM engram_internal.place(workspace, model);
  END IF;
  RETURN n;
END
$$;
COMMENT ON FUNCTION engram_internal.bury(uuid, text, uuid[], bigint[]) IS
'Marks in the segments of a workspace what these versions of memories replace, and takes out what was erased, and all that is dead where that is much. Returns how many segments changed. For pack(), which holds the lock.';

CREATE FUNCTION engram_internal.seal(workspace uuid, model text, at_least integer, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  full_blocks uuid[];
  h           record;
  tags        integer[] := '{}';
  small       integer[] := '{}';
  next_tag    integer := 1;
  all_of_them integer;
  n           integer;
BEGIN
  IF NOT has_table_privilege('engram.search_blocks', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not change what search scans', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'It follows every change of a memory by itself.';
  END IF;
  -- As in pack().
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT engram_internal.try_lock_work(workspace, 'pack') THEN
    RETURN 0;
  END IF;
  SELECT array_agg(f.block_id), max(f.upto) INTO full_blocks, n
  FROM (SELECT b.block_id, b.entries, sum(b.entries) OVER (ORDER BY b.block_id) AS upto FROM engram.search_blocks b
        WHERE b.workspace_id = workspace AND b.model = seal.model AND b.level = 2) f
  WHERE f.upto <= most OR f.upto = f.entries;
  IF n IS NULL OR n < at_least THEN
    RETURN 0;
  END IF;
  -- The small ones join once they fill a segment, and the smallest before that where there are many: most entries move
  -- three times.
  all_of_them := n;
  FOR h IN SELECT b.cluster, b.entries FROM engram.search_blocks b
           WHERE b.workspace_id = workspace AND b.model = seal.model AND b.level = 3 ORDER BY b.cluster DESC LOOP
    next_tag := greatest(next_tag, h.cluster + 1);
    CONTINUE WHEN h.entries > most / 2 OR all_of_them + h.entries > most;
    tags := tags || h.cluster;
    all_of_them := all_of_them + h.entries;
    IF h.entries < most / 4 THEN
      small := small || h.cluster;
    END IF;
  END LOOP;
  IF all_of_them < most / 4 * 3 THEN
    tags := CASE WHEN cardinality(small) >= 4 THEN small ELSE '{}' END;
  END IF;
  BEGIN
    -- Versions stay what they are, so that it does not matter which later ones are seen.
    WITH loose AS (
      DELETE FROM engram.search_blocks b
      WHERE b.workspace_id = workspace AND b.model = seal.model AND b.level = 2 AND b.block_id = ANY (full_blocks)
      RETURNING b.block
    ), old AS (
      DELETE FROM engram.search_blocks b
      WHERE b.workspace_id = workspace AND b.model = seal.model AND b.level IN (3, 4) AND b.cluster = ANY (tags)
      RETURNING b.block
    ), new AS (
      INSERT INTO engram.search_blocks (workspace_id, model, level, cluster, block_id, entries, block)
      SELECT workspace, seal.model, s.level, s.cluster, s.block_id, s.entries, s.block
      FROM engram_internal.seal_blocks(
        (SELECT array_agg(x.block) FROM (SELECT l.block FROM loose l UNION ALL SELECT o.block FROM old o) x), next_tag) s
      RETURNING 1
    )
    SELECT count(*) INTO n FROM new;
    PERFORM engram_internal.place(workspace, model);
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RETURN 0;
  END;
  RETURN n;
END
$$;
COMMENT ON FUNCTION engram_internal.seal(uuid, text, integer, integer) IS
'Makes a segment of the full blocks of a workspace, when they have at least so many entries, and of its small segments when together they come near to the most that a segment may have. Returns how many rows it has; 0 when there was nothing to do. Runs with the rights of the caller, who must own the tables; does nothing while another transaction packs.';

CREATE FUNCTION engram_internal.held_entries(workspace uuid, model text)
RETURNS TABLE (level smallint, id uuid, version bigint, state text, entry bytea)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT b.level, e.id, e.version, e.state, e.entry
  FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.block_entries(b.block) e
  WHERE b.workspace_id = held_entries.workspace AND b.model = held_entries.model AND b.level < 3
  UNION ALL
  SELECT 3::smallint, e.id, e.version, e.state, e.entry
  FROM (SELECT array_agg(b.block) AS blocks FROM engram.search_blocks b
        WHERE b.workspace_id = held_entries.workspace AND b.model = held_entries.model AND b.level IN (3, 4)
        GROUP BY b.cluster) s CROSS JOIN LATERAL engram_internal.segment_entries(s.blocks) e;
END
$$;
COMMENT ON FUNCTION engram_internal.held_entries(uuid, text) IS
'What the blocks and segments of a workspace hold: the words of its memories (model empty) or the vectors of one model. As the caller.';

-- The next three serve the triggers of tables that 0.1 made, until setup() brings them up to date: a dump
-- of 0.1 can be loaded and stored into.
CREATE FUNCTION engram_internal.to_terms(indexed text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
BEGIN
  RETURN to_tsvector('pg_catalog.english'::regconfig, indexed);
EXCEPTION WHEN program_limit_exceeded THEN
  -- Only text made to have very many distinct compound words comes here; its beginning is found.
  RETURN to_tsvector('pg_catalog.english'::regconfig, left(indexed, 20000));
END
$$;
COMMENT ON FUNCTION engram_internal.to_terms(text) IS 'The lexemes of an indexed text, without a notice for words that are too long to be indexed.';

CREATE FUNCTION engram_internal.term_count(terms bytea) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'term_count_wrapper';
COMMENT ON FUNCTION engram_internal.term_count(bytea) IS 'Number of lexeme occurrences in tsvectorsend(tsvector).';

CREATE FUNCTION engram_internal.term_keys(workspace uuid, terms bytea) RETURNS bigint[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'term_keys_wrapper';
COMMENT ON FUNCTION engram_internal.term_keys(uuid, bytea) IS
'One 64-bit key per distinct lexeme of tsvectorsend(tsvector), salted with the workspace.';

CREATE FUNCTION engram_internal.vector_dims(embedding vector) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'embedding_dims_wrapper';
COMMENT ON FUNCTION engram_internal.vector_dims(vector) IS 'Dimensions of a vector, wherever pgvector is installed.';

CREATE FUNCTION engram_internal.vector_norm(embedding vector) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'embedding_norm_wrapper';
COMMENT ON FUNCTION engram_internal.vector_norm(vector) IS 'Euclidean length of a vector, wherever pgvector is installed.';

CREATE FUNCTION engram_internal.similarity(embedding vector, query real[], distance text) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'similarity_wrapper';
COMMENT ON FUNCTION engram_internal.similarity(vector, real[], text) IS
'How alike two vectors are, larger is more: cosine in -1..1, inner product, or 1/(1 + distance) for l2. NULL when the dimensions differ.';

CREATE FUNCTION engram_internal.compile_filter(filter jsonb) RETURNS TABLE (condition text, params jsonb)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'compile_filter_wrapper';
COMMENT ON FUNCTION engram_internal.compile_filter(jsonb) IS
'A filter as an SQL condition over engram.memories m, in which every value is taken from one bound parameter: write the condition where $1 is params.';

CREATE FUNCTION engram_internal.compile_past_filter(filter jsonb) RETURNS TABLE (condition text, params jsonb)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'compile_past_filter_wrapper';
COMMENT ON FUNCTION engram_internal.compile_past_filter(jsonb) IS
'As compile_filter(), over engram_internal.memories_as_of() m.';

CREATE FUNCTION engram_internal.read_items(items jsonb) RETURNS TABLE (
  "position" integer, error text, content text, type text, importance double precision, embedding real[],
  tags text[], metadata jsonb, occurred_at timestamptz, agent_id text, session_id text, speaker text,
  role text, source text, entities text[], id uuid, expires_at timestamptz, on_duplicate text,
  summary text, valid_from timestamptz, valid_to timestamptz, pinned boolean, model text)
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'read_items_wrapper';
COMMENT ON FUNCTION engram_internal.read_items(jsonb) IS
'The items of add_many() as rows; an item that cannot be read carries its error instead.';

CREATE FUNCTION engram_internal.trusted() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN NOT row_security_active('engram.memories');
END
$$;
COMMENT ON FUNCTION engram_internal.trusted() IS
'True for callers whom row level security does not bind: superusers, BYPASSRLS roles and the owner of the store.';

CREATE FUNCTION engram_internal.may_write(workspace uuid) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN workspace = ANY (engram.writable_workspaces()) OR engram_internal.trusted();
END
$$;
COMMENT ON FUNCTION engram_internal.may_write(uuid) IS 'True when the caller may change memories of the workspace.';

CREATE FUNCTION engram_internal.refuse_workspace(workspace uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF workspace = '00000000-0000-0000-0000-000000000000' AND engram_internal.trusted() THEN
    RAISE EXCEPTION 'workspace "%" is that of the defaults and takes no memories', workspace
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the user''s workspace: workspace => ''<user id>''.';
  END IF;
  IF engram_internal.caller_id() IS NULL THEN
    PERFORM engram_internal.refuse_unidentified(false);
  END IF;
  RAISE EXCEPTION 'workspace "%" is not one of yours', workspace
    USING ERRCODE = 'insufficient_privilege',
          HINT = 'Leave workspace out to use your own. Only roles that bypass row security may name another one.';
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_workspace(uuid) IS 'Raises the error for a workspace that the caller may not use, or where nothing is stored.';

CREATE FUNCTION engram_internal.refuse_unidentified(trusted boolean) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF trusted THEN
    RAISE EXCEPTION 'role "%" has no workspace of its own and the call names none', current_user
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name the user''s workspace: workspace => ''<user id>''.';
  END IF;
  RAISE EXCEPTION 'no user is identified: %',
      coalesce((SELECT c.problem FROM engram_internal.caller() c), 'no identity is set')
    USING ERRCODE = 'insufficient_privilege',
          HINT = 'Call through PostgREST with a user''s token, or run SET LOCAL engram.user_id = ''<user id>'' in this transaction. SELECT * FROM engram.whoami() tells what the server sees.';
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_unidentified(boolean) IS 'Raises the error for a call that nobody can be held to.';

CREATE FUNCTION engram_internal.refuse_model(model text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF model IS NULL THEN
    RAISE EXCEPTION 'no embedding model is registered as the default'
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Have an administrator run: SELECT engram.set_embedding_model(''all-MiniLM-L6-v2'', 384);';
  END IF;
  RAISE EXCEPTION 'embedding model "%" is not registered', model
    USING ERRCODE = 'invalid_parameter_value',
          HINT = format('Registered: %s. An administrator adds one with engram.set_embedding_model(name, dims).',
                        coalesce((SELECT string_agg(m.name, ', ' ORDER BY m.name) FROM engram.embedding_models m), 'none'));
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_model(text) IS 'Raises the error for an embedding model that is not registered.';

CREATE FUNCTION engram_internal.refuse_memory(id uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF id IS NULL THEN
    RAISE EXCEPTION 'id is NULL' USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the id that engram.add() returned.';
  END IF;
  RAISE EXCEPTION 'memory "%" is not in this workspace', id
    USING ERRCODE = 'PT404',
          HINT = 'It was forgotten (engram.restore() brings it back), erased, or never stored here. engram.list() shows what is there; include => ARRAY[''forgotten''] adds forgotten ones.';
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_memory(uuid) IS 'Raises the error for an unknown memory id: SQLSTATE PT404, which PostgREST answers as HTTP 404.';

CREATE FUNCTION engram_internal.require_store() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF to_regclass('engram.memories') IS NULL OR to_regproc('engram.writable_workspaces') IS NULL THEN
    RAISE EXCEPTION 'engram has no tables in database "%" yet', current_database()
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run as its owner: SELECT engram.setup();';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.require_store() IS 'Raises the error for a database in which setup() has not run.';

CREATE FUNCTION engram_internal.require_writable() RETURNS void
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
COMMENT ON FUNCTION engram_internal.require_writable() IS
'Raises the error for a call that writes, by its name, in a transaction that cannot.';

CREATE FUNCTION engram_internal.writes(dry_run boolean) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN NOT (dry_run IS TRUE AND current_setting('transaction_read_only')::boolean);
COMMENT ON FUNCTION engram_internal.writes(boolean) IS
'Whether a call is to be asked what one that writes is asked: not a dry run where nothing can be written.';

CREATE FUNCTION engram_internal.resolve_workspace(workspace uuid, for_write boolean) RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  me uuid;
BEGIN
  PERFORM engram_internal.require_store();
  IF for_write THEN
    PERFORM engram_internal.require_writable();
  END IF;
  me := engram_internal.caller_id();
  IF workspace IS NULL THEN
    IF me IS NULL AND (for_write OR engram_internal.trusted()) THEN
      PERFORM engram_internal.refuse_unidentified(engram_internal.trusted());
    END IF;
    -- Somebody may have replaced these.
    IF me = ANY (CASE WHEN for_write THEN engram.writable_workspaces() ELSE engram.readable_workspaces() END)
       OR engram_internal.trusted() THEN
      RETURN me;
    ELSIF for_write THEN
      PERFORM engram_internal.refuse_workspace(me);
    END IF;
    RETURN NULL;
  END IF;
  IF workspace = ANY (CASE WHEN for_write THEN engram.writable_workspaces() ELSE engram.readable_workspaces() END)
     OR engram_internal.trusted() THEN
    RETURN workspace;
  END IF;
  PERFORM engram_internal.refuse_workspace(workspace);
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION engram_internal.resolve_workspace(uuid, boolean) IS
'The workspace that a call works in: the one named if the caller may use it, else the caller''s own. NULL when a reader is nobody, or may not read it; everything else that is not allowed raises.';

CREATE FUNCTION engram_internal.model_of(dims integer) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN coalesce(
    (SELECT min(e.name) FROM engram.embedding_models e WHERE e.dims = model_of.dims
     HAVING count(*) = 1 AND NOT EXISTS (
       SELECT FROM engram.embedding_models d WHERE d.is_default AND d.dims = model_of.dims)),
    (SELECT e.name FROM engram.embedding_models e WHERE e.is_default));
END
$$;
COMMENT ON FUNCTION engram_internal.model_of(integer) IS
'The model of a vector of this length for which none is named: the default model, unless another one alone has that length. While one model replaces another, callers of both are served.';

CREATE FUNCTION engram_internal.fault(state text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN state ~ '^(25|40|57|55006|55P03)' THEN 'moment' WHEN state ~ '^(53|58)' THEN 'server'
            WHEN state ~ '^XX' THEN 'damage' WHEN state ~ '^42' THEN 'code' ELSE 'data' END;
COMMENT ON FUNCTION engram_internal.fault(text) IS
'Whose fault an error is, by its SQLSTATE. moment: of somebody else''s transaction, of the caller''s own, of a lock or a time limit; the same call may succeed a little later. server: it is short of something, for everybody. damage: what is stored cannot be read. code: names, rights or types in a statement. data: of what was passed or is stored.';

CREATE FUNCTION engram_internal.retry_whole(state text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN engram_internal.fault(state) IN ('moment', 'server', 'damage');
COMMENT ON FUNCTION engram_internal.retry_whole(text) IS
'Whether an error is no fault of the item that met it: the whole call fails with it, so that it is repeated.';

CREATE FUNCTION engram_internal.entity_node(name text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'entity_node_wrapper';
COMMENT ON FUNCTION engram_internal.entity_node(text) IS 'The key under which an entity''s name is stored: case, repeated white space and outer punctuation do not count, but for signs that belong to a name (C++, C#, .NET).';

CREATE FUNCTION engram_internal.check_memory(type text, layer text, role text, importance double precision, tags text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF type NOT IN ('factual', 'episodic', 'relational', 'emotional', 'procedural', 'opinion', 'causal') THEN
    RAISE EXCEPTION 'unknown memory type "%"', type
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Known types: factual, episodic, relational, emotional, procedural, opinion, causal.';
  END IF;
  IF layer NOT IN ('working', 'core', 'archive') THEN
    RAISE EXCEPTION 'unknown layer "%"', layer
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known layers: working, core, archive.';
  END IF;
  IF role NOT IN ('user', 'assistant', 'system', 'tool') THEN
    RAISE EXCEPTION 'unknown role "%"', role
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known roles: user, assistant, system, tool.';
  END IF;
  IF NOT (importance >= 0 AND importance <= 1) THEN
    RAISE EXCEPTION 'importance % is outside 0 to 1', importance
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 0 (trivial) to 1 (vital), or leave it out.';
  END IF;
  IF array_ndims(tags) > 1 OR array_position(tags, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'tags % are not a plain list of words', tags
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give one flat array without NULLs, for example ARRAY[''work'', ''travel''].';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_memory(text, text, text, double precision, text[]) IS
'Raises the error for values that no memory may have; NULLs pass.';

CREATE FUNCTION engram_internal.check_names(agent_id text, session_id text, speaker text, source text, tags text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  n record;
BEGIN
  -- Words of the speaker stand before those of the content, of which only the first 200,000 bytes are indexed.
  SELECT v.* INTO n FROM (
    SELECT * FROM (VALUES ('agent_id', agent_id, 500), ('session_id', session_id, 500), ('speaker', speaker, 500),
                          ('source', source, 2000)) AS o (name, value, most)
    UNION ALL
    SELECT 'a tag', t, 500 FROM unnest(tags) AS t) v
  WHERE char_length(v.value) > v.most LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '% has % characters, the limit is %: "%…"', n.name, char_length(n.value), n.most, left(n.value, 40)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a shorter one; what is long goes into content, summary or metadata.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_names(text, text, text, text, text[]) IS
'Raises the error for a tag, or one of the names that come with a memory, that is too long; NULLs pass.';

CREATE FUNCTION engram_internal.metadata_object(metadata jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  object jsonb := metadata;
BEGIN
  IF jsonb_typeof(metadata) = 'string' THEN
    -- A REST client that stringifies its JSON sends the object as one JSON string.
    BEGIN
      object := (metadata #>> '{}')::jsonb;
    EXCEPTION WHEN invalid_text_representation THEN
      NULL;
    END;
  END IF;
  IF jsonb_typeof(object) <> 'object' THEN
    RAISE EXCEPTION 'metadata is a JSON %, not an object', jsonb_typeof(object)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an object, for example {"project": "apollo"}.';
  END IF;
  -- An export has it inside of other things, and all of it is to be read again.
  IF jsonb_path_exists(object, 'strict $.**{100} ? (@.type() == "object" || @.type() == "array")') THEN
    RAISE EXCEPTION 'metadata is nested deeper than 100 levels'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Flatten it, or store what lies so deep as a string of JSON.';
  END IF;
  RETURN object;
END
$$;
COMMENT ON FUNCTION engram_internal.metadata_object(jsonb) IS 'Metadata as the object that it must be, nested at most 100 levels deep; NULL passes, anything else raises.';

CREATE FUNCTION engram_internal.lock_keys(workspace uuid, keys text[]) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'lock_keys_wrapper';
COMMENT ON FUNCTION engram_internal.lock_keys(uuid, text[]) IS
'Until the end of the transaction nobody else stores what has one of these keys in the workspace. Without keys: nobody says what names mean in it, see lock_names().';

CREATE FUNCTION engram_internal.try_lock_key(workspace uuid, key text) RETURNS boolean
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'try_lock_key_wrapper';
COMMENT ON FUNCTION engram_internal.try_lock_key(uuid, text) IS 'The lock that lock_keys() takes for one key, if it is free; false when it is not.';

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

CREATE FUNCTION engram_internal.lock_workspace(workspace uuid) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'lock_workspace_wrapper';
COMMENT ON FUNCTION engram_internal.lock_workspace(uuid) IS
'Until the end of the transaction nobody else stores anything in the workspace that lock_keys() locks for.';

CREATE FUNCTION engram_internal.try_lock_work(workspace uuid, work text) RETURNS boolean
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'try_lock_work_wrapper';
COMMENT ON FUNCTION engram_internal.try_lock_work(uuid, text) IS
'Until the end of the transaction nobody else does this kind of work in the workspace; false when somebody does.';

CREATE FUNCTION engram_internal.link_entities(workspace uuid, memory uuid, names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  nameless text;
  nodes    text[];
BEGIN
  SELECT coalesce(n, 'NULL') INTO nameless FROM unnest(names) n
  WHERE n IS NULL OR engram_internal.entity_node(n) = '' LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entity "%" has no letter or digit in its name', nameless
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give names, for example ARRAY[''Caroline'', ''New York''].';
  END IF;
  SELECT n INTO nameless FROM unnest(names) n WHERE char_length(n) > 500 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entity "%…" has % characters, the limit is 500', left(nameless, 40), char_length(nameless)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'An entity is a name; what there is to say about it goes into content.';
  END IF;
  IF names IS NULL OR names = '{}' THEN
    RETURN;
  END IF;
  -- No alias is declared between the look-up and the end of the transaction.
  PERFORM engram_internal.lock_keys(workspace, '{}');
  nodes := ARRAY(SELECT engram_internal.entity_node(u.name) FROM unnest(names) WITH ORDINALITY AS u (name, nth) ORDER BY u.nth);
  -- Tables of an older version have no aliases.
  IF to_regclass('engram.entity_aliases') IS NOT NULL THEN
    nodes := ARRAY(SELECT coalesce(a.node, u.node) FROM unnest(nodes) WITH ORDINALITY AS u (node, nth)
                   LEFT JOIN engram.entity_aliases a ON a.workspace_id = link_entities.workspace AND a.alias = u.node
                   ORDER BY u.nth);
  END IF;
  INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label)
  SELECT DISTINCT ON (u.node) workspace, memory, 'mentions', u.node, btrim(u.name)
  FROM unnest(names, nodes) WITH ORDINALITY AS u (name, node, nth)
  ORDER BY u.node, engram_internal.entity_node(u.name) <> u.node, u.nth
  ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION engram_internal.link_entities(uuid, uuid, text[]) IS 'Records, as the caller, that a memory mentions entities, by whichever of their names.';

CREATE FUNCTION engram_internal.links_anew(workspace uuid, memory uuid, names text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF names IS NULL OR names = '{}' THEN
    RETURN false;
  END IF;
  -- No alias is declared between this and link_entities().
  PERFORM engram_internal.lock_keys(workspace, '{}');
  RETURN EXISTS (
    SELECT FROM unnest(names) AS u (name)
    WHERE NOT EXISTS (SELECT FROM engram.graph_links g
                      WHERE g.workspace_id = links_anew.workspace AND g.memory_id = links_anew.memory AND g.relation = 'mentions'
                        AND g.node = engram_internal.entity_key(links_anew.workspace, u.name)));
END
$$;
COMMENT ON FUNCTION engram_internal.links_anew(uuid, uuid, text[]) IS
'Whether link_entities() would record anything that is not there yet. Locks as that does.';

CREATE FUNCTION engram_internal.library_version() RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'library_version_wrapper';
COMMENT ON FUNCTION engram_internal.library_version() IS 'Version of the loaded library.';

CREATE FUNCTION engram_internal.auto_setup() RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS 'MODULE_PATHNAME', 'auto_setup_wrapper';
COMMENT ON FUNCTION engram_internal.auto_setup() IS 'The last step of CREATE EXTENSION: setup(), unless a dump is being restored or engram.auto_setup is off.';
