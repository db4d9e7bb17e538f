\echo Use "CREATE EXTENSION engram CASCADE" to load this file. \quit
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
    engram_internal.lexemes(engram_internal.to_terms(config, indexed)),
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
-- Storing, reading and changing memories. All of it runs as the caller: the policies on the tables
-- decide, and the functions check the workspace themselves as well.

CREATE FUNCTION engram_internal.said_again(workspace uuid, id uuid, recall_id uuid) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'said_again_wrapper';
COMMENT ON FUNCTION engram_internal.said_again(uuid, uuid, uuid) IS
'Notes that the content of a memory was stored again, which counts as a use and once for each recall_id; how many were credited, 0 or 1.';

CREATE FUNCTION engram_internal.store(
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
COMMENT ON FUNCTION engram_internal.store(uuid, text, text, double precision, real[], text[], jsonb, timestamptz, text, text, text, text, text, text[], timestamptz, text, uuid, text, timestamptz, timestamptz, boolean, text) IS
'What add() and add_many() do with one memory, as the caller, in a workspace that has been resolved. Tells whether it was added, merged, skipped or unchanged.';

CREATE FUNCTION engram_internal.store_new(
  content text, type text, importance double precision, embedding vector, tags text[],
  metadata jsonb, occurred_at timestamptz, agent_id text, session_id text, speaker text, role text,
  source text, entities text[], id uuid, expires_at timestamptz, on_duplicate text, workspace uuid) RETURNS uuid
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'store_new_wrapper';
COMMENT ON FUNCTION engram_internal.store_new(text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], uuid, timestamptz, text, uuid) IS
'What store() does, for a memory that is new beyond doubt, where the tables are as setup() made them: its id. NULL leaves all else to store(), errors too.';

CREATE FUNCTION engram_internal.store_items(items jsonb, workspace uuid, OUT given integer, OUT positions integer[], OUT ids uuid[])
RETURNS SETOF record
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'store_items_wrapper';
COMMENT ON FUNCTION engram_internal.store_items(jsonb, uuid) IS
'store_new() for the items of add_many(): how many there are, and positions and ids of those that were stored. No row when nothing can be stored so.';

CREATE FUNCTION engram_internal.check_embedding(embedding vector, model text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  m record;
BEGIN
  SELECT * INTO m FROM engram.embedding_models e WHERE e.name = model;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_model(model);
  END IF;
  IF engram_internal.vector_dims(embedding) <> m.dims THEN
    RAISE EXCEPTION 'the embedding has % dimensions, model "%" has %',
        engram_internal.vector_dims(embedding), m.name, m.dims
      USING ERRCODE = 'data_exception',
            HINT = format('Embed with model "%s", or register the one that makes such vectors: SELECT engram.set_embedding_model(name, dims). engram.embedding_models lists those that are.', m.name);
  END IF;
  IF m.distance = 'cosine' AND engram_internal.vector_norm(embedding) = 0 THEN
    RAISE EXCEPTION 'the embedding is all zeros, which has no direction to compare'
      USING ERRCODE = 'data_exception', HINT = 'Leave the embedding out: the memory is then found by its words.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_embedding(vector, text) IS 'Raises the error for a vector that does not fit its model.';


CREATE FUNCTION engram.add(
  content text,
  type text DEFAULT NULL,
  importance double precision DEFAULT NULL,
  embedding vector DEFAULT NULL,
  tags text[] DEFAULT NULL,
  metadata jsonb DEFAULT NULL,
  occurred_at timestamptz DEFAULT NULL,
  agent_id text DEFAULT NULL,
  session_id text DEFAULT NULL,
  speaker text DEFAULT NULL,
  role text DEFAULT NULL,
  source text DEFAULT NULL,
  entities text[] DEFAULT NULL,
  id uuid DEFAULT NULL,
  expires_at timestamptz DEFAULT NULL,
  on_duplicate text DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  stored uuid := engram_internal.store_new(content, type, importance, embedding, tags, metadata, occurred_at, agent_id,
    session_id, speaker, role, source, entities, id, expires_at, on_duplicate, workspace);
BEGIN
  IF stored IS NOT NULL THEN
    RETURN stored;
  END IF;
  RETURN (SELECT s.id FROM engram_internal.store(engram_internal.resolve_workspace(workspace, true),
    content, type, importance, embedding, tags, metadata, occurred_at, agent_id, session_id, speaker, role,
    source, entities, expires_at, on_duplicate, id) s);
END
$$;
COMMENT ON FUNCTION engram.add(text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], uuid, timestamptz, text, uuid) IS
'Stores one memory and returns its id; it can be found at once.

content: what to remember, at most max_content_chars characters (settings). type: factual (default), episodic, relational, emotional, procedural, opinion or causal. importance: 0 to 1, by default the type''s. agent_id, session_id, speaker and each of tags: at most 500 characters; source: at most 2,000. embedding: of the default model, or of the one registered model that has its length. entities: names that the memory is about; a search that names one finds it. id: chosen by the client, makes a retry harmless: the same content is stored once under it, or counted once as a use of the memory that holds it already. on_duplicate, when the workspace holds the same content up to case and white space (or, with near_duplicate_threshold set, a vector as close as that): merge (default: the old memory counts one use more, takes the higher importance, new tags, metadata and entities, and its id is returned; who says it again, when and in which session is not kept), skip, reject, allow. workspace: only for roles that bypass row security.';

CREATE FUNCTION engram.add_many(items jsonb, workspace uuid DEFAULT NULL)
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
COMMENT ON FUNCTION engram.add_many(jsonb, uuid) IS
'Stores many memories in one transaction; a bad item does not lose the others. What is no item''s fault (a serialization failure, a deadlock, a time limit) is raised and stores nothing: repeat the call.

items: an array of objects with the arguments of add() as keys, and with summary, valid_from, valid_to, pinned, and model, which names the model of the item''s embedding (needed where two have vectors of the same length); at most 10,000. Returns one row per item, by its position from 1, with status added, merged, skipped, unchanged or error, and the error in words.';

CREATE FUNCTION engram_internal.get(wanted uuid, workspace uuid, as_of timestamptz)
RETURNS TABLE (
  id uuid, workspace_id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text,
  content text, summary text, type text, importance double precision, layer text, pinned boolean,
  tags text[], metadata jsonb, source text, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
  expires_at timestamptz, deleted_at timestamptz, version integer, created_at timestamptz,
  updated_at timestamptz, access_count bigint, last_accessed_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(get.workspace, false);
BEGIN
  IF get.as_of IS NOT NULL THEN
    PERFORM engram_internal.check_as_of(get.as_of);
    RETURN QUERY
    SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
         m.type, m.importance, s.layer, m.pinned, m.tags, m.metadata, m.source, m.entities,
         m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
         m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at
    FROM engram_internal.memories_as_of(ws, get.as_of, ARRAY[get.wanted]) m
    CROSS JOIN engram_internal.state_as_of(ws, get.as_of, ARRAY[get.wanted]) s
    WHERE m.deleted_at IS NULL;
    RETURN;
  END IF;
  RETURN QUERY
  SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
       m.type, m.importance, p.layer, m.pinned, m.tags, m.metadata, m.source,
       ARRAY(SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = m.workspace_id
             AND g.memory_id = m.id AND g.relation = 'mentions' ORDER BY g.node),
       m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
       m.version, m.created_at, m.updated_at, p.access_count, p.last_accessed_at
  FROM engram.memories m
  CROSS JOIN LATERAL engram_internal.present(ws, now(), ARRAY[m.id]) p
  WHERE m.workspace_id = ws AND m.id = get.wanted AND m.deleted_at IS NULL;
END
$$;
COMMENT ON FUNCTION engram_internal.get(uuid, uuid, timestamptz) IS 'What get() does.';

-- A function of its own, because PL/pgSQL cannot have an argument and a column of the same name.
CREATE FUNCTION engram.get(id uuid, workspace uuid DEFAULT NULL, as_of timestamptz DEFAULT NULL)
RETURNS TABLE (
  id uuid, workspace_id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text,
  content text, summary text, type text, importance double precision, layer text, pinned boolean,
  tags text[], metadata jsonb, source text, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
  expires_at timestamptz, deleted_at timestamptz, version integer, created_at timestamptz,
  updated_at timestamptz, access_count bigint, last_accessed_at timestamptz)
LANGUAGE sql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT g.* FROM engram_internal.get($1, $2, $3) g
$$;
COMMENT ON FUNCTION engram.get(uuid, uuid, timestamptz) IS
'One memory, or no row when it is not there or forgotten. Reading does not count as a use.

as_of: as it was recorded at that moment, by what is still known of it; no row when it was not stored yet, forgotten then, or erased since.';

CREATE FUNCTION engram.list(
  filter jsonb DEFAULT NULL,
  match_count integer DEFAULT NULL,
  skip integer DEFAULT NULL,
  cursor text DEFAULT NULL,
  include text[] DEFAULT NULL,
  workspace uuid DEFAULT NULL,
  as_of timestamptz DEFAULT NULL
) RETURNS TABLE (
  id uuid, workspace_id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text,
  content text, summary text, type text, importance double precision, layer text, pinned boolean,
  tags text[], metadata jsonb, source text, entities text[], occurred_at timestamptz,
  valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
  expires_at timestamptz, deleted_at timestamptz, version integer, created_at timestamptz,
  updated_at timestamptz, access_count bigint, last_accessed_at timestamptz, cursor_next text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(list.workspace, false);
  wanted    integer := coalesce(list.match_count, 50);
  skipped   integer := coalesce(list.skip, 0);
  condition text;
  params    jsonb;
  since     numeric;
  last_at   timestamptz;
  last_id   uuid;
  states    text;
  batch     uuid[];
  ids       uuid[] := '{}';
  ahead     integer := 100;
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000, and page on with cursor.';
  END IF;
  IF skipped < 0 THEN
    RAISE EXCEPTION 'skip is %', skipped
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 0 or more.';
  END IF;
  IF NOT coalesce(list.include, '{}') <@ ARRAY['forgotten', 'superseded', 'expired'] THEN
    RAISE EXCEPTION 'unknown value in include: %', list.include
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: forgotten, superseded, expired.';
  END IF;
  IF list.cursor IS NOT NULL THEN
    IF list.cursor ~ '^-?[0-9]{1,19}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
      -- Microseconds since 1970, which need not fit into a bigint.
      since := split_part(list.cursor, '_', 1)::numeric;
    END IF;
    -- 4714-11-24 BC and the end of the year 294276: what a timestamptz can hold.
    IF since IS NULL OR since NOT BETWEEN -210866803200000000 AND 9224318015999999999 THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.list() returned', list.cursor
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass cursor_next of the last row of the page before, unchanged.';
    END IF;
    -- In days and what is left of one: either is exact as a double.
    last_at := (timestamp '1970-01-01' + div(since, 86400000000)::integer * interval '1 day'
                + mod(since, 86400000000)::double precision * interval '1 microsecond') AT TIME ZONE 'UTC';
    last_id := split_part(list.cursor, '_', 2)::uuid;
  END IF;
  states := CASE WHEN 'forgotten' = ANY (list.include) THEN '' ELSE ' AND m.deleted_at IS NULL' END
    || CASE WHEN 'superseded' = ANY (list.include) THEN '' ELSE ' AND m.superseded_by IS NULL' END
    || CASE WHEN 'expired' = ANY (list.include) THEN '' ELSE ' AND (m.expires_at IS NULL OR m.expires_at > $7)' END;
  IF list.as_of IS NOT NULL THEN
    PERFORM engram_internal.check_as_of(list.as_of);
    SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_past_filter(list.filter) f;
    IF last_at IS NULL OR last_at > list.as_of THEN
      last_at := list.as_of;
      last_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    END IF;
    -- By the order of now, which is that of then, until the page is full.
    WHILE cardinality(ids) < skipped + wanted AND last_at IS NOT NULL LOOP
      SELECT o.ids, o.last_at, o.last_id INTO batch, last_at, last_id FROM engram_internal.older(ws, last_at, last_id, ahead) o;
      EXECUTE 'SELECT array_agg(m.id ORDER BY m.created_at DESC, m.id DESC) FROM engram_internal.memories_as_of($2, $7, $3) m
               WHERE $1 IS NOT NULL AND ' || condition || states
        INTO batch USING params, ws, batch, NULL, NULL, NULL, list.as_of;
      ids := ids || batch;
      ahead := least(ahead * 2, 5000);
    END LOOP;
    RETURN QUERY
    SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
         m.type, m.importance, s.layer, m.pinned, m.tags, m.metadata, m.source, m.entities,
         m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
         m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at,
         (trunc(extract(epoch FROM date_trunc('second', m.created_at))) * 1000000
          + mod(extract(microseconds FROM m.created_at), 1000000)::integer)::text || '_' || m.id
    FROM engram_internal.memories_as_of(ws, list.as_of, ids[skipped + 1 : skipped + wanted]) m
    LEFT JOIN engram_internal.state_as_of(ws, list.as_of, ids[skipped + 1 : skipped + wanted]) s ON s.memory_id = m.id
    ORDER BY m.created_at DESC, m.id DESC;
    RETURN;
  END IF;
  SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_filter(list.filter) f;
  RETURN QUERY EXECUTE
    $q$WITH page AS MATERIALIZED (SELECT m.* FROM engram.memories m WHERE m.workspace_id = $2 AND $1 IS NOT NULL$q$
    || CASE WHEN list.cursor IS NOT NULL THEN ' AND (m.created_at, m.id) < ($3, $4)' ELSE '' END
    || states || ' AND ' || condition
    || $q$ ORDER BY m.created_at DESC, m.id DESC LIMIT $5 OFFSET $6)
    SELECT m.id, m.workspace_id, m.user_id, m.agent_id, m.session_id, m.speaker, m.role, m.content, m.summary,
       m.type, m.importance, s.layer, m.pinned, m.tags, m.metadata, m.source,
       ARRAY(SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = m.workspace_id
             AND g.memory_id = m.id AND g.relation = 'mentions' ORDER BY g.node),
       m.occurred_at, m.valid_from, m.valid_to, m.superseded_by, m.contradicts, m.expires_at, m.deleted_at,
       m.version, m.created_at, m.updated_at, s.access_count, s.last_accessed_at,
       (trunc(extract(epoch FROM date_trunc('second', m.created_at))) * 1000000
        + mod(extract(microseconds FROM m.created_at), 1000000)::integer)::text || '_' || m.id
    FROM page m
    LEFT JOIN engram_internal.present($2, now(), (SELECT array_agg(p.id) FROM page p)) s ON s.memory_id = m.id
    ORDER BY m.created_at DESC, m.id DESC$q$
    USING params, ws, last_at, last_id, wanted, skipped, now();
END
$$;
COMMENT ON FUNCTION engram.list(jsonb, integer, integer, text, text[], uuid, timestamptz) IS
'Memories, newest first, a page at a time. Reading does not count as a use.

filter: see README, "Filters"; for example {"type": "factual", "importance": {"gte": 0.5}, "project": "apollo"}. match_count: 1 to 1000, by default 50. cursor: cursor_next of the last row of the page before; pages stay right while memories are added. skip: rows to leave out first. include: any of forgotten, superseded, expired, which are left out otherwise. as_of: what was recorded at that moment and is still known, filters and include judged by the values and the moment of then; what was erased since is gone from the past too.';

CREATE FUNCTION engram.update(
  id uuid,
  content text DEFAULT NULL,
  summary text DEFAULT NULL,
  type text DEFAULT NULL,
  importance double precision DEFAULT NULL,
  tags text[] DEFAULT NULL,
  metadata jsonb DEFAULT NULL,
  occurred_at timestamptz DEFAULT NULL,
  agent_id text DEFAULT NULL,
  session_id text DEFAULT NULL,
  speaker text DEFAULT NULL,
  role text DEFAULT NULL,
  source text DEFAULT NULL,
  entities text[] DEFAULT NULL,
  embedding vector DEFAULT NULL,
  valid_from timestamptz DEFAULT NULL,
  valid_to timestamptz DEFAULT NULL,
  expires_at timestamptz DEFAULT NULL,
  clear text[] DEFAULT NULL,
  expected_version integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws  uuid := engram_internal.resolve_workspace(update.workspace, true);
  gone text[] := coalesce(update.clear, '{}');
  both_ text;
  old record;
  now_at integer;
BEGIN
  IF NOT gone <@ ARRAY['summary', 'tags', 'metadata', 'occurred_at', 'agent_id', 'session_id', 'speaker', 'role',
                       'source', 'entities', 'valid_from', 'valid_to', 'expires_at'] THEN
    RAISE EXCEPTION 'clear has a name that cannot be cleared: %', gone
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Known: summary, tags, metadata, occurred_at, agent_id, session_id, speaker, role, source, entities, valid_from, valid_to, expires_at.';
  END IF;
  -- A caller who says both means one of them, and nobody knows which.
  SELECT g.name INTO both_ FROM unnest(gone) AS g (name)
  WHERE CASE g.name
    WHEN 'summary' THEN update.summary IS NOT NULL WHEN 'tags' THEN update.tags IS NOT NULL
    WHEN 'metadata' THEN update.metadata IS NOT NULL WHEN 'occurred_at' THEN update.occurred_at IS NOT NULL
    WHEN 'agent_id' THEN update.agent_id IS NOT NULL WHEN 'session_id' THEN update.session_id IS NOT NULL
    WHEN 'speaker' THEN update.speaker IS NOT NULL WHEN 'role' THEN update.role IS NOT NULL
    WHEN 'source' THEN update.source IS NOT NULL WHEN 'entities' THEN update.entities IS NOT NULL
    WHEN 'valid_from' THEN update.valid_from IS NOT NULL WHEN 'valid_to' THEN update.valid_to IS NOT NULL
    WHEN 'expires_at' THEN update.expires_at IS NOT NULL END
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '% is to be cleared and is given a value', both_
      USING ERRCODE = 'invalid_parameter_value',
            HINT = format('Leave %s out of clear to store the value, or pass only clear to empty it.', both_);
  END IF;
  IF cardinality(update.entities) > 0 THEN
    -- Before the row: who says what names mean may want that too.
    PERFORM engram_internal.lock_keys(ws, '{}');
  END IF;
  SELECT * INTO old FROM engram.memories m WHERE m.workspace_id = ws AND m.id = update.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(update.id);
  END IF;
  IF update.expected_version <> old.version THEN
    RAISE EXCEPTION 'memory "%" is at version %, not %', update.id, old.version, update.expected_version
      USING ERRCODE = 'PT409', HINT = 'Somebody changed it meanwhile. Read it again with engram.get() and repeat your change.';
  END IF;
  UPDATE engram.memories m SET
    content     = coalesce(update.content, m.content),
    summary     = CASE WHEN 'summary' = ANY (gone) THEN NULL ELSE coalesce(update.summary, m.summary) END,
    type        = coalesce(update.type, m.type),
    importance  = coalesce(update.importance, m.importance),
    tags        = CASE WHEN 'tags' = ANY (gone) THEN '{}' ELSE coalesce(update.tags, m.tags) END,
    metadata    = CASE WHEN 'metadata' = ANY (gone) THEN '{}' ELSE coalesce(update.metadata, m.metadata) END,
    occurred_at = CASE WHEN 'occurred_at' = ANY (gone) THEN NULL ELSE coalesce(update.occurred_at, m.occurred_at) END,
    agent_id    = CASE WHEN 'agent_id' = ANY (gone) THEN NULL ELSE coalesce(update.agent_id, m.agent_id) END,
    session_id  = CASE WHEN 'session_id' = ANY (gone) THEN NULL ELSE coalesce(update.session_id, m.session_id) END,
    speaker     = CASE WHEN 'speaker' = ANY (gone) THEN NULL ELSE coalesce(update.speaker, m.speaker) END,
    role        = CASE WHEN 'role' = ANY (gone) THEN NULL ELSE coalesce(update.role, m.role) END,
    source      = CASE WHEN 'source' = ANY (gone) THEN NULL ELSE coalesce(update.source, m.source) END,
    valid_from  = CASE WHEN 'valid_from' = ANY (gone) THEN NULL ELSE coalesce(update.valid_from, m.valid_from) END,
    valid_to    = CASE WHEN 'valid_to' = ANY (gone) THEN NULL ELSE coalesce(update.valid_to, m.valid_to) END,
    version     = m.version + CASE WHEN 'entities' = ANY (gone) OR update.entities IS NOT NULL THEN 1 ELSE 0 END,
    expires_at  = CASE WHEN 'expires_at' = ANY (gone) THEN NULL ELSE coalesce(update.expires_at, m.expires_at) END
  WHERE m.workspace_id = ws AND m.id = update.id
  RETURNING m.version INTO now_at;
  IF 'entities' = ANY (gone) OR update.entities IS NOT NULL THEN
    DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = update.id AND g.relation = 'mentions';
    PERFORM engram_internal.link_entities(ws, update.id, CASE WHEN 'entities' = ANY (gone) THEN NULL ELSE update.entities END);
  END IF;
  IF update.embedding IS NOT NULL THEN
    PERFORM engram.set_embedding(update.id, update.embedding, NULL, NULL, ws);
  END IF;
  RETURN now_at;
END
$$;
COMMENT ON FUNCTION engram.update(uuid, text, text, text, double precision, text[], jsonb, timestamptz, text, text, text, text, text, text[], vector, timestamptz, timestamptz, timestamptz, text[], integer, uuid) IS
'Changes what is given of one memory and returns its new version.

NULL leaves a value as it is; clear names those to empty, which then must not be given (22023). tags, metadata and entities are replaced. New content, speaker or occurred_at drop the old embeddings: pass a new one, or let pending_embeddings() hand the memory out again. expected_version: refuse (PT409) unless the memory is still at that version. An unknown id raises PT404.';

CREATE FUNCTION engram_internal.change(workspace uuid, id uuid, what text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws  uuid := engram_internal.resolve_workspace(change.workspace, true);
  old record;
BEGIN
  SELECT * INTO old FROM engram.memories m WHERE m.workspace_id = ws AND m.id = change.id FOR NO KEY UPDATE;
  IF NOT FOUND OR (old.deleted_at IS NOT NULL AND change.what IN ('pin', 'unpin')) THEN
    PERFORM engram_internal.refuse_memory(change.id);
  END IF;
  IF (CASE change.what
        WHEN 'forget' THEN old.deleted_at IS NOT NULL
        WHEN 'restore' THEN old.deleted_at IS NULL
        WHEN 'pin' THEN old.pinned
        ELSE NOT old.pinned END) THEN
    RETURN false;
  END IF;
  UPDATE engram.memories m SET
    deleted_at = CASE change.what WHEN 'forget' THEN now() WHEN 'restore' THEN NULL ELSE m.deleted_at END,
    pinned     = CASE change.what WHEN 'pin' THEN true WHEN 'unpin' THEN false ELSE m.pinned END
  WHERE m.workspace_id = ws AND m.id = change.id;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram_internal.change(uuid, uuid, text) IS 'What forget(), restore(), pin() and unpin() do.';

CREATE FUNCTION engram.forget(id uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.change(forget.workspace, forget.id, 'forget');
END
$$;
COMMENT ON FUNCTION engram.forget(uuid, uuid) IS
'Takes one memory out of search and lists; restore() brings it back. True when it was not forgotten before. An unknown id raises PT404.';

CREATE FUNCTION engram.restore(id uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.change(restore.workspace, restore.id, 'restore');
END
$$;
COMMENT ON FUNCTION engram.restore(uuid, uuid) IS
'Brings back a memory that forget() took away. True when it was forgotten. An erased or unknown id raises PT404.';

CREATE FUNCTION engram.pin(id uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.change(pin.workspace, pin.id, 'pin');
END
$$;
COMMENT ON FUNCTION engram.pin(uuid, uuid) IS
'Marks one memory to be kept: it never decays and is never archived. It gains no rank. True when it was not pinned before. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.unpin(id uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.change(unpin.workspace, unpin.id, 'unpin');
END
$$;
COMMENT ON FUNCTION engram.unpin(uuid, uuid) IS
'Takes the mark of pin() away. True when it was pinned. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram_internal.traces(workspace uuid, id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object(
    'embeddings', (SELECT count(*) FROM engram.embeddings e WHERE e.workspace_id = traces.workspace AND e.memory_id = traces.id),
    'state', (SELECT count(*) FROM engram.memory_state s WHERE s.workspace_id = traces.workspace AND s.memory_id = traces.id),
    'links', (SELECT count(*) FROM engram.hebbian_links l WHERE l.workspace_id = traces.workspace AND l.a = traces.id)
           + (SELECT count(*) FROM engram.hebbian_links l WHERE (l.workspace_id = traces.workspace) IS TRUE AND l.b = traces.id),
    'typed_links', (SELECT count(*) FROM engram.graph_links g WHERE g.workspace_id = traces.workspace AND g.memory_id = traces.id)
                 + (SELECT count(*) FROM engram.graph_links g WHERE (g.workspace_id = traces.workspace) IS TRUE AND g.target_id = traces.id),
    'uses', (SELECT count(*) FROM engram.access_log l WHERE l.workspace_id = traces.workspace AND l.memory_id = traces.id)
          + (SELECT count(*) FROM engram.access_queue q WHERE q.workspace_id = traces.workspace AND traces.id = ANY (q.memory_ids)),
    'events', (SELECT count(*) FROM engram.memory_events e WHERE (e.workspace_id = traces.workspace) IS TRUE AND e.memory_id = traces.id));
END
$$;
COMMENT ON FUNCTION engram_internal.traces(uuid, uuid) IS 'How many rows of each kind hang on a memory, as the caller sees them.';

CREATE FUNCTION engram.erase(
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
COMMENT ON FUNCTION engram.erase(uuid[], jsonb, boolean, uuid) IS
'Deletes memories for good, with everything that hangs on them, and returns a receipt: the ids, when, and how many rows of each kind went with them (embeddings, state, links, typed_links, uses, events). Each id leaves a tombstone, so that a late import or retry cannot bring it back, and the bare fact in memory_events.

ids and filter: which ones, forgotten ones included; with both, those that match both. dry_run: only tell which, erased_at then is NULL.';

CREATE FUNCTION engram.stats(workspace uuid DEFAULT NULL)
RETURNS TABLE (
  memories bigint, forgotten bigint, superseded bigint, expired bigint, pinned bigint,
  by_type jsonb, by_layer jsonb, embeddings jsonb, pending_embeddings bigint, content_chars bigint,
  oldest timestamptz, newest timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(stats.workspace, false);
BEGIN
  RETURN QUERY
  WITH alive AS MATERIALIZED (
    SELECT m.id, m.type, m.layer, m.pinned, m.content, m.created_at, m.superseded_by, m.expires_at
    FROM engram.memories m WHERE m.workspace_id = ws AND m.deleted_at IS NULL)
  SELECT
    (SELECT count(*) FROM alive),
    (SELECT count(*) FROM engram.memories m WHERE m.workspace_id = ws AND m.deleted_at IS NOT NULL),
    (SELECT count(*) FROM alive a WHERE a.superseded_by IS NOT NULL),
    (SELECT count(*) FROM alive a WHERE a.expires_at <= now()),
    (SELECT count(*) FROM alive a WHERE a.pinned),
    (SELECT coalesce(jsonb_object_agg(t.type, t.n), '{}') FROM (SELECT a.type, count(*) AS n FROM alive a GROUP BY a.type) t),
    (SELECT coalesce(jsonb_object_agg(l.layer, l.n), '{}') FROM
      (SELECT p.layer, count(*) AS n FROM engram_internal.layers(ws) p GROUP BY p.layer) l),
    (SELECT coalesce(jsonb_object_agg(e.model, e.n), '{}') FROM
      (SELECT x.model, count(*) AS n FROM engram.embeddings x
       -- Of what a policy hides, nothing is counted.
       WHERE x.workspace_id = ws AND EXISTS (
         SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = x.memory_id AND m.deleted_at IS NULL)
       GROUP BY x.model) e),
    (SELECT count(*) FROM alive a, engram.embedding_models d WHERE d.is_default AND NOT EXISTS
      (SELECT FROM engram.embeddings x WHERE x.workspace_id = ws AND x.memory_id = a.id AND x.model = d.name)),
    (SELECT coalesce(sum(char_length(a.content)), 0)::bigint FROM alive a),
    (SELECT min(a.created_at) FROM alive a),
    (SELECT max(a.created_at) FROM alive a);
END
$$;
COMMENT ON FUNCTION engram.stats(uuid) IS
'Counts of one workspace: one row. memories are those not forgotten; of them, by_type, by_layer and embeddings (by model) are objects of counts; pending_embeddings lack a vector of the default model.';
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
CREATE FUNCTION engram.search(
  query_text text DEFAULT NULL,
  query_embedding vector DEFAULT NULL,
  match_count integer DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  types text[] DEFAULT NULL,
  min_score double precision DEFAULT NULL,
  explain boolean DEFAULT NULL,
  include text[] DEFAULT NULL,
  model text DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL,
  as_of timestamptz DEFAULT NULL,
  diversity double precision DEFAULT 0
) RETURNS TABLE (
  id uuid, content text, type text, score double precision, importance double precision, tags text[],
  metadata jsonb, speaker text, role text, session_id text, occurred_at timestamptz,
  created_at timestamptz, matched text[], explain jsonb)
LANGUAGE c STABLE ROWS 10 COST 10000
SET search_path = pg_catalog, pg_temp
-- Its queries look rows up by key. One plan for all workspaces, and never a scan of everybody's rows,
-- not even in a session that first planned them while the tables were small.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
-- Before PostgreSQL 18 a scan that cannot be avoided then looks so expensive that it would be compiled.
SET jit = off
AS 'MODULE_PATHNAME', 'search_as_of_wrapper';
COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur and -word must not, but in a sentence (a question mark, or five words beside them) both are words like others; the first and the last 32 different words, 64 phrases and 64 exclusions count. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words, and vectors count whose cosine or inner product with it is above 0, by l2 all. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged, by default now or as_of; later uses count too, as activation() has it, unless as_of is given. as_of: search what was recorded at that moment and is still known: contents, states and filters of then, uses until then; links between memories add nothing, and vectors count where the text is the same today. What was erased since is gone from the past too. diversity: 0 to 1, by default 0: takes that much times its likeness (cosine of the vectors, else words in common) to the most similar memory before it off a score, so that a result repeats itself less. Of memories that say the same in the same words, but for articles, emphasis and punctuation, and have vectors as alike as duplicate_similarity (settings), only the best is returned, and explain names the others under repeats. Nothing that matches gives no rows.';
-- The memory models as functions: pure, no table is read. None sets a search path, because each is one
-- computation in C. `heat` is plain bytea, so that a column of it outlives the extension.

-- How much a memory is at hand, from its uses.

CREATE FUNCTION engram.base_level(ages_s double precision[], d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_wrapper';
COMMENT ON FUNCTION engram.base_level(double precision[], double precision) IS
'Base-level activation in nats, exactly: ln of the sum of age^-d over all uses (Anderson & Schooler 1991). -Infinity without uses.

ages_s: ages of the uses in seconds, 0 or more; below 1 they count as 1. d: decay, 0 or more. Other ages, and NULL among them, raise 22023. For a row per use: base_level_agg(); in 80 bytes whatever the number of uses: heat_level().';

CREATE FUNCTION engram_internal.base_level_step(state double precision, accessed_at timestamptz, now timestamptz, d double precision)
RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_step_wrapper';
COMMENT ON FUNCTION engram_internal.base_level_step(double precision, timestamptz, timestamptz, double precision) IS
'Adds one use to the state of engram.base_level_agg(), the sum of age^-d, or its logarithm where that is below -598.';

CREATE FUNCTION engram_internal.base_level_combine(a double precision, b double precision) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_combine_wrapper';
COMMENT ON FUNCTION engram_internal.base_level_combine(double precision, double precision) IS
'Adds two states of engram.base_level_agg().';

CREATE FUNCTION engram_internal.base_level_final(state double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_final_wrapper';
COMMENT ON FUNCTION engram_internal.base_level_final(double precision) IS
'What the state of engram.base_level_agg() says: its logarithm, -Infinity for 0.';

CREATE AGGREGATE engram.base_level_agg(accessed_at timestamptz, now timestamptz, d double precision) (
  SFUNC = engram_internal.base_level_step, STYPE = double precision, INITCOND = '0',
  COMBINEFUNC = engram_internal.base_level_combine, FINALFUNC = engram_internal.base_level_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE engram.base_level_agg(timestamptz, timestamptz, double precision) IS
'Base-level activation in nats at now, exactly, from a row per use. -Infinity without rows.

accessed_at: when it was used; NULL counts for nothing, and uses less than a second ago or after now as a second old. d: decay, 0 or more; NULL for 0.5. Infinite times raise 22023.';

CREATE FUNCTION engram.base_level_optimized(n bigint, age_s double precision, d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_optimized_wrapper';
COMMENT ON FUNCTION engram.base_level_optimized(bigint, double precision, double precision) IS
'Base-level activation in nats as if n uses were spread evenly over age_s seconds: ln(n / (1 - d)) - d ln(age_s) (Anderson & Lebiere 1998). It ignores how recent the uses are and may be off by several nats; for comparison with other systems.

n: 0 or more (0 gives -Infinity). age_s: 0 or more, below 1 counts as 1. d: 0 to less than 1. Anything else raises 22023.';

CREATE FUNCTION engram.base_level_petrov(recent_ages_s double precision[], n bigint, age_created_s double precision,
  d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_petrov_wrapper';
COMMENT ON FUNCTION engram.base_level_petrov(double precision[], bigint, double precision, double precision) IS
'Base-level activation in nats from the latest uses and the number of all (Petrov 2006). Exact when recent_ages_s has all uses; otherwise it takes the older ones to be spread evenly, and may be off by nats after bursts.

recent_ages_s: ages of the latest uses in seconds, in any order. n: all uses, not less than those. age_created_s: age of the first. d: 0 to less than 1. Anything else raises 22023.';

CREATE FUNCTION engram.retrieval_probability(a double precision, tau double precision, s double precision DEFAULT 0.4) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'retrieval_probability_wrapper';
COMMENT ON FUNCTION engram.retrieval_probability(double precision, double precision, double precision) IS
'Probability, 0 to 1, that a memory of activation a is retrieved: 1 / (1 + exp((tau - a) / s)) (Anderson et al. 2004).

a, tau: activation and threshold in nats; a memory used once is even odds at age T with tau = -d ln(T). s: noise, above 0. Other values raise 22023.';

CREATE FUNCTION engram.retrieval_latency(a double precision, f double precision DEFAULT 1, lf double precision DEFAULT 1) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'retrieval_latency_wrapper';
COMMENT ON FUNCTION engram.retrieval_latency(double precision, double precision, double precision) IS
'Seconds that retrieving a memory of activation a takes: lf exp(-f a) (Anderson et al. 2004). A failure takes as long as a memory at the threshold.

f: latency exponent, lf: latency factor in seconds, both above 0. Other values raise 22023.';

CREATE FUNCTION engram.activation_01(a double precision, center double precision DEFAULT -5.5, scale double precision DEFAULT 1.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'activation_01_wrapper';
COMMENT ON FUNCTION engram.activation_01(double precision, double precision, double precision) IS
'An activation as a number from 0 to 1, to be shown: 1 / (1 + exp(-(a - center) / scale)). One use an hour ago is 0.72, a month ago 0.22. Rank by the activation itself.

center: finite. scale: above 0. Other values raise 22023.';

-- The same in constant space.

CREATE FUNCTION engram.heat_new(t timestamptz, gain double precision DEFAULT 1) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_new_wrapper';
COMMENT ON FUNCTION engram.heat_new(timestamptz, double precision) IS
'The heat of a memory that was used once, at t: 80 bytes which any number of uses is added to and from which heat_level() reads the activation for any decay. Keep it in a bytea column, STORAGE PLAIN, without an index.

gain: weight of the use, 0 or more; with 0 the heat is empty. An infinite t and other gains raise 22023.

Sixteen sums of exponentially fading uses, time constants from 0.7 s to 23 years (Beylkin & Monzon 2010).';

CREATE FUNCTION engram.heat_touch(heat bytea, t timestamptz, gain double precision DEFAULT 1) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_touch_wrapper';
COMMENT ON FUNCTION engram.heat_touch(bytea, timestamptz, double precision) IS
'The heat with one more use at t, which may be earlier than others: the order of touches does not matter.

gain: weight of the use. 0 counts none; a negative one takes back a use that was counted with that weight at that time. Counters have 24 bits: beside a gain ten million times as large a use is lost when that is taken back. More than there is to take back, as far as the counters tell when uses were, an infinite t or gain, and bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_merge(a bytea, b bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_merge_wrapper';
COMMENT ON FUNCTION engram.heat_merge(bytea, bytea) IS
'The heat of the uses of both. Bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_level(heat bytea, now timestamptz, d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_level_wrapper';
COMMENT ON FUNCTION engram.heat_level(bytea, timestamptz, double precision) IS
'Base-level activation in nats at now: ln of the sum of gain * age^-d over all uses. -Infinity without any. Never read less than a second after the latest use: an earlier now is taken to be then.

d: 0.1 to 0.95; below 0.2 use 0.1, 0.15 or 0.2. For uses of 1 second to 5 years ago it differs from base_level() by less than 0.0013, 0.0025, 0.0057 for d = 0.3, 0.5, 0.8. Another d, an infinite now and bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_mass(heat bytea, m integer, now timestamptz) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_mass_wrapper';
COMMENT ON FUNCTION engram.heat_mass(bytea, integer, timestamptz) IS
'One of the counters of a heat at now: the gains of all uses, each faded by exp(-age / T) with T = 4^m / 1.5 seconds. 11 has T = 32.4 days (a half-life of 22.4), the mass of a memory for link_ppmi().

m: 0 to 15. Another m, an infinite now and bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_count(heat bytea) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_count_wrapper';
COMMENT ON FUNCTION engram.heat_count(bytea) IS
'How many uses a heat counts, up to 4294967295; those of gain 0 are none. Bytes that are no heat raise 22023.';

CREATE FUNCTION engram_internal.heat_step(state bytea, accessed_at timestamptz, gain double precision) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_step_wrapper';
COMMENT ON FUNCTION engram_internal.heat_step(bytea, timestamptz, double precision) IS
'Adds one use to the state of engram.heat_agg(), a heat in double precision.';

CREATE FUNCTION engram_internal.heat_merge_step(state bytea, heat bytea) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_merge_step_wrapper';
COMMENT ON FUNCTION engram_internal.heat_merge_step(bytea, bytea) IS
'Adds one heat to the state of engram.heat_merge_agg().';

CREATE FUNCTION engram_internal.heat_combine(a bytea, b bytea) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_combine_wrapper';
COMMENT ON FUNCTION engram_internal.heat_combine(bytea, bytea) IS
'Adds two states of the aggregates of heat.';

CREATE FUNCTION engram_internal.heat_final(state bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_final_wrapper';
COMMENT ON FUNCTION engram_internal.heat_final(bytea) IS
'The heat that the state of an aggregate of heat holds.';

CREATE AGGREGATE engram.heat_agg(accessed_at timestamptz, gain double precision) (
  SFUNC = engram_internal.heat_step, STYPE = bytea,
  COMBINEFUNC = engram_internal.heat_combine, FINALFUNC = engram_internal.heat_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE engram.heat_agg(timestamptz, double precision) IS
'The heat of a row per use, in any order: what heat_touch() would have given, rounded once. NULL without rows.

accessed_at: when it was used; NULL counts for nothing. gain: as heat_touch() has it; NULL for 1. Infinite values, and more taken back than there was, raise 22023.';

CREATE AGGREGATE engram.heat_merge_agg(heat bytea) (
  SFUNC = engram_internal.heat_merge_step, STYPE = bytea,
  COMBINEFUNC = engram_internal.heat_combine, FINALFUNC = engram_internal.heat_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE engram.heat_merge_agg(bytea) IS
'The heat of the uses of all, in any order; NULL counts for nothing. NULL without rows. Bytes that are no heat raise 22023.';

-- Consolidation.

CREATE FUNCTION engram.trace_evolve(r1 double precision, r2 double precision, dt_days double precision, alpha double precision,
  mu1 double precision, mu2 double precision, input double precision DEFAULT 0)
RETURNS TABLE (r1 double precision, r2 double precision)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'trace_evolve_wrapper';
COMMENT ON FUNCTION engram.trace_evolve(double precision, double precision, double precision, double precision, double precision, double precision, double precision) IS
'The two traces of a memory dt_days later, one row: r1 fades and feeds r2, r1'' = -mu1 r1, r2'' = alpha r1 - mu2 r2 + input (Murre, Chessa & Meeter 2013). In closed form: two steps are as good as one.

Rates are per day, 0 or more, like all arguments; others raise 22023. Usual: mu1 0.15, mu2 0.005, alpha from consolidation_alpha(). A use adds its gain to r1.';

CREATE FUNCTION engram.trace_strength(r1 double precision, r2 double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'trace_strength_wrapper';
COMMENT ON FUNCTION engram.trace_strength(double precision, double precision) IS
'Probability of recall, 0 to 1, by the two traces: 1 - exp(-(r1 + r2)) (Murre, Chessa & Meeter 2013). Traces are finite and 0 or more, others raise 22023.';

CREATE FUNCTION engram.consolidation_alpha(importance double precision, alpha double precision DEFAULT 0.08) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'consolidation_alpha_wrapper';
COMMENT ON FUNCTION engram.consolidation_alpha(double precision, double precision) IS
'Rate per day at which a memory of this importance (0 to 1) consolidates: alpha * (0.2 + importance^2). Other importances and a negative alpha raise 22023.';

CREATE FUNCTION engram.layer_tick(layer text, r1 double precision, r2 double precision, dt_days double precision,
  alpha double precision, mu1 double precision, mu2 double precision,
  promote double precision DEFAULT 0.25, demote double precision DEFAULT 0.05, archive double precision DEFAULT 0.15) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'layer_tick_wrapper';
COMMENT ON FUNCTION engram.layer_tick(text, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision) IS
'The layer (working, core, archive) of a memory dt_days after it was in that layer with traces r1 and r2, none of them used meanwhile. To core when r2 reaches promote, from core to archive when r1 + r2 falls below demote, from working to archive when both are below archive; whatever happens within the interval counts, so it does not matter how often this is asked.

Traces and rates as in trace_evolve(). promote >= demote > 0 and promote >= archive > 0. Other values and unknown layers raise 22023.';

-- Forgetting.

CREATE FUNCTION engram.fsrs_retrievability(elapsed_days double precision, stability double precision,
  decay double precision DEFAULT 0.1542) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'fsrs_retrievability_wrapper';
COMMENT ON FUNCTION engram.fsrs_retrievability(double precision, double precision, double precision) IS
'Probability of recall, 0 to 1, elapsed_days after the last review: (1 + F t/S)^-decay with F = 0.9^(-1/decay) - 1, which is 0.9 after stability days (FSRS-6; Ye, Su & Cao 2022).

elapsed_days: 0 or more. stability: above 0. decay: 0.01 to 10. Other values raise 22023.';

CREATE FUNCTION engram.fsrs_step(stability double precision, difficulty double precision, elapsed_days double precision,
  rating integer, w double precision[] DEFAULT NULL)
RETURNS TABLE (stability double precision, difficulty double precision, r double precision)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'fsrs_step_wrapper';
COMMENT ON FUNCTION engram.fsrs_step(double precision, double precision, double precision, integer, double precision[]) IS
'Stability (days) and difficulty (1 to 10) after a review, and the retrievability r just before it; one row. By FSRS-6, with fractions of days; within a day its short-term formula.

stability: NULL before the first review, which ignores difficulty and elapsed_days and has no r. elapsed_days: since the last review. rating: 1 again (rejected), 2 hard (hardly relevant), 3 good (used), 4 easy (confirmed). w: the 21 parameters, by default those of FSRS-6. Values out of range raise 22023.';

CREATE FUNCTION engram.fsrs_interval(stability double precision, retention double precision DEFAULT 0.9) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'fsrs_interval_wrapper';
COMMENT ON FUNCTION engram.fsrs_interval(double precision, double precision) IS
'Days after a review until the retrievability has fallen to retention: when a memory is worth confirming again (FSRS-6). stability: days, above 0. retention: above 0, up to 1. Other values raise 22023.';

CREATE FUNCTION engram.exp_retrievability(t_days double precision, s_days double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'exp_retrievability_wrapper';
COMMENT ON FUNCTION engram.exp_retrievability(double precision, double precision) IS
'exp(-t_days / s_days), the exponential forgetting curve (Wozniak, Gorzelanczyk & Murakowski 1995); for comparison with other systems. t_days: 0 or more; s_days: above 0. Other values raise 22023.';

CREATE FUNCTION engram.stability_upstream(type text, n bigint, importance double precision, consolidation_count integer) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stability_upstream_wrapper';
COMMENT ON FUNCTION engram.stability_upstream(text, bigint, double precision, integer) IS
'Stability in days as engramai computes it from memory type, number n of uses, importance (0 to 1) and number of consolidations, for comparison. It grows with how often a job ran; nothing in engram depends on it. Unknown types and negative numbers raise 22023.';

-- Links and spreading.

CREATE FUNCTION engram.link_decay(x double precision, dt_s double precision, half_life_s double precision DEFAULT 2592000) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_decay_wrapper';
COMMENT ON FUNCTION engram.link_decay(double precision, double precision, double precision) IS
'The mass x of a link dt_s seconds later: x 2^(-dt_s / half_life_s). Also what an event of gain x that comes to light dt_s late adds, so the order of events does not matter. x and dt_s: 0 or more; half_life_s: above 0. Other values raise 22023.';

CREATE FUNCTION engram.link_strength(x double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_strength_wrapper';
COMMENT ON FUNCTION engram.link_strength(double precision) IS
'Strength, 0 to 1, of a link of mass x: 1 - exp(-x), the soft-bounded rule of Hebb. x: 0 or more; other values raise 22023.';

CREATE FUNCTION engram.link_direction(xf double precision, xb double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_direction_wrapper';
COMMENT ON FUNCTION engram.link_direction(double precision, double precision) IS
'Direction of a link, -1 to 1, from its masses forward and backward: (xf - xb) / (xf + xb + 1). Masses are 0 or more, others raise 22023.';

CREATE FUNCTION engram.link_ppmi(xij double precision, xi double precision, xj double precision, total double precision,
  kappa double precision DEFAULT 1) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_ppmi_wrapper';
COMMENT ON FUNCTION engram.link_ppmi(double precision, double precision, double precision, double precision, double precision) IS
'Association of two memories in nats, 0 or more: max(0, ln((xij + kappa) / (xi xj / total + kappa))), positive mutual information (Levy & Goldberg 2014), shrunk by kappa where there is little evidence.

xij: mass of the link; xi, xj: of its ends, by heat_mass(heat, 11, now); total: of all recalls. Masses are 0 or more, total and kappa above 0; other values raise 22023.';

CREATE FUNCTION engram.spread_fan(s double precision, fan double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'spread_fan_wrapper';
COMMENT ON FUNCTION engram.spread_fan(double precision, double precision) IS
'Activation in nats that a source with fan associations, itself counted, spreads to each: s - ln(fan), at least 0 (Anderson 1974). s: usually 1.5 to 2. fan: 1 or more. Other values raise 22023.';

-- All of it together.

CREATE FUNCTION engram.need_score(base_level double precision, text_llr double precision, cos_centered double precision,
  lift double precision, importance double precision, contradicted boolean, betas double precision[] DEFAULT NULL) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'need_score_wrapper';
COMMENT ON FUNCTION engram.need_score(double precision, double precision, double precision, double precision, double precision, boolean, double precision[]) IS
'Log-odds in nats, up to a constant, that a memory is needed: a weighted sum of its base level and of what the cues say for it (Anderson & Milson 1989).

base_level: nats, -Infinity when it was never used. text_llr: score of its words, such as BM25. cos_centered: cosine minus the mean of the candidates. lift: by spreading, nats. importance: 0 to 1. The terms of text_llr, cos_centered and lift are clipped to 6 nats either way. betas: weights of these five and what a contradiction costs, by default {0.5,0.6,15,1,2,3}. A memory that a cue did not find has the least value that any candidate has, not 0; NULL gives NULL. Other values raise 22023.';

CREATE FUNCTION engram.need_probability(score double precision, b0 double precision DEFAULT 0) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'need_probability_wrapper';
COMMENT ON FUNCTION engram.need_probability(double precision, double precision) IS
'Probability, 0 to 1, by a need_score(): 1 / (1 + exp(-(score + b0))). It is one only when b0 was fitted to what was used (Platt 1999). A score of NaN or Infinity and a b0 that is not finite raise 22023.';
-- Uses of memories: noted in one row where they happen, folded later, counted by every reader meanwhile.

CREATE FUNCTION engram_internal.require_owner(doing text, help text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not %', current_user, doing USING ERRCODE = 'insufficient_privilege', HINT = help;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.require_owner(text, text) IS
'Raises the error for a caller who does not own the tables, for what is done as their owner.';

CREATE FUNCTION engram_internal.dynamics(workspace uuid) RETURNS double precision[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT ARRAY[coalesce(w.decay, d.decay), coalesce(w.mu1, d.mu1), coalesce(w.mu2, d.mu2), coalesce(w.alpha, d.alpha),
                 coalesce(w.promote, d.promote), coalesce(w.demote, d.demote), coalesce(w.archive, d.archive),
                 coalesce(w.strength_gain, d.strength_gain)]
        || ARRAY(SELECT coalesce(
                   (SELECT t.decay_per_day FROM engram.memory_type_settings t WHERE t.type = k.type AND t.workspace_id = dynamics.workspace),
                   (SELECT t.decay_per_day FROM engram.memory_type_settings t WHERE t.type = k.type
                      AND t.workspace_id = '00000000-0000-0000-0000-000000000000'), 0.1)
                 FROM unnest(ARRAY['factual', 'episodic', 'relational', 'emotional', 'procedural', 'opinion', 'causal'])
                   WITH ORDINALITY AS k (type, nth) ORDER BY k.nth)
    FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = dynamics.workspace
    WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
END
$$;
COMMENT ON FUNCTION engram_internal.dynamics(uuid) IS
'Settings of a workspace as state_at() takes them: decay, mu1, mu2, alpha, promote, demote, archive, strength_gain, then decay_per_day of each type.';

CREATE FUNCTION engram_internal.dynamics_over_time(workspace uuid) RETURNS double precision[]
LANGUAGE c STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dynamics_over_time_wrapper';
COMMENT ON FUNCTION engram_internal.dynamics_over_time(uuid) IS
'What uses count by, as state_at() takes it: what dynamics() gives, and then for each change, in the order of time: its moment in microseconds since 2000, what dynamics() gave until then, link_members, link_half_life_days and link_prune. Changes that make no difference to the workspace are left out.';

CREATE FUNCTION engram_internal.any_memories(workspace uuid) RETURNS boolean
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'any_memories_wrapper';
COMMENT ON FUNCTION engram_internal.any_memories(uuid) IS
'Whether a workspace has memories by now, or any if it is that of the defaults, those included that others have not yet committed. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.keep_settings(old jsonb, new jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  counts constant text[] := '{mu1,mu2,alpha,promote,demote,archive,strength_gain,link_members,link_half_life_days,link_prune,decay_per_day}';
  nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  c record;
BEGIN
  PERFORM engram_internal.require_owner('change the history of settings', 'It follows every change of settings by itself.');
  -- A row that is given another key is two.
  FOR c IN
    SELECT r.*, CASE WHEN old @> r.key THEN old ELSE '{}' END AS was, CASE WHEN new @> r.key THEN new ELSE '{}' END AS becomes
    FROM (SELECT DISTINCT jsonb_build_object('workspace_id', x ->> 'workspace_id')
                 || CASE WHEN x ? 'type' THEN jsonb_build_object('type', x ->> 'type') ELSE '{}' END AS key,
                 (x ->> 'workspace_id')::uuid AS workspace_id, coalesce(x ->> 'type', '') AS type
          FROM unnest(ARRAY[old, new]) x WHERE x IS NOT NULL) r
  LOOP
    CONTINUE WHEN NOT EXISTS (SELECT FROM unnest(counts) k WHERE c.was ->> k IS DISTINCT FROM c.becomes ->> k);
    -- Where there is no memory, nothing has counted by anything.
    CONTINUE WHEN NOT engram_internal.any_memories(c.workspace_id);
    -- What was in force before this transaction. Nobody folds any more, so the clock is past all that was counted by it.
    INSERT INTO engram.settings_history (workspace_id, type, until, xid, mu1, mu2, alpha, promote, demote, archive, strength_gain,
      link_members, link_half_life_days, link_prune, decay_per_day)
    SELECT c.workspace_id, c.type, clock_timestamp(), pg_current_xact_id(), o.*
    FROM jsonb_to_record(c.was) AS o (mu1 double precision, mu2 double precision, alpha double precision, promote double precision,
      demote double precision, archive double precision, strength_gain double precision, link_members integer,
      link_half_life_days double precision, link_prune double precision, decay_per_day double precision)
    WHERE NOT EXISTS (SELECT FROM engram.settings_history h
      WHERE h.workspace_id = c.workspace_id AND h.type = c.type AND h.until >= now() AND h.xid = pg_current_xact_id());
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.keep_settings(jsonb, jsonb) IS
'Keeps what uses counted by until now, of a row of settings or memory_type_settings that changes from old to new. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.pending(workspace uuid, ids uuid[])
RETURNS TABLE (memory_id uuid, calls uuid[], times timestamptz[], gains double precision[], ratings smallint[])
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  IF cardinality(pending.ids) > 20 THEN
    PERFORM set_config('plan_cache_mode', 'force_custom_plan', true);
  END IF;
  RETURN QUERY
  SELECT u.id, array_agg(q.id), array_agg(q.accessed_at), array_agg(q.gain), array_agg(q.rating)
  FROM engram.access_queue q CROSS JOIN LATERAL (SELECT DISTINCT x.id FROM unnest(q.memory_ids) AS x (id)) u
  -- What a fold would take, whatever moment is asked about.
  WHERE q.workspace_id = pending.workspace AND q.accessed_at <= clock_timestamp() AND (q.gain <> 0 OR q.rating IS NOT NULL)
    AND (cardinality(pending.ids) > 20 OR q.memory_ids && pending.ids) AND u.id = ANY (pending.ids)
  GROUP BY u.id;
END
$$;
COMMENT ON FUNCTION engram_internal.pending(uuid, uuid[]) IS 'Uses that wait to be folded, of some memories of a workspace, by memory.';

CREATE FUNCTION engram_internal.state_at(
  params double precision[], type text, importance double precision, pinned boolean, inert boolean,
  created_at timestamptz, memory_layer text, access_count bigint, last_accessed_at timestamptz, heat bytea,
  working_strength double precision, core_strength double precision, layer text, stability double precision,
  difficulty double precision, base jsonb, calls uuid[], times timestamptz[], gains double precision[], ratings smallint[],
  known integer, at timestamptz, settle boolean)
RETURNS TABLE (
  layer text, heat bytea, working_strength double precision, core_strength double precision,
  stability double precision, difficulty double precision, access_count bigint, last_accessed_at timestamptz,
  retention double precision, idle_days double precision, late boolean, base jsonb)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'state_at_wrapper';
COMMENT ON FUNCTION engram_internal.state_at(double precision[], text, double precision, boolean, boolean, timestamptz, text, bigint, timestamptz, bytea, double precision, double precision, text, double precision, double precision, jsonb, uuid[], timestamptz[], double precision[], smallint[], integer, timestamptz, boolean) IS
'The state of a memory after some more uses. With a moment, strengths, layer, retention and idle_days (without use or pin) are of that moment. late: a use was older than the state, so that layer, stability and difficulty want a replay. For that, pass the whole log first and its length as known; late then tells that some of it is missing. base: where a replay begins, NULL for when the memory was stored; settle makes it that moment, and whatever waits is known to it from then on.';

CREATE FUNCTION engram_internal.layer_at(
  params double precision[], type text, importance double precision, pinned boolean, inert boolean,
  created_at timestamptz, memory_layer text, heat bytea, working_strength double precision,
  core_strength double precision, layer text, at timestamptz) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'layer_at_wrapper';
COMMENT ON FUNCTION engram_internal.layer_at(double precision[], text, double precision, boolean, boolean, timestamptz, text, bytea, double precision, double precision, text, timestamptz) IS
'The layer of a memory at a moment, by its state.';

CREATE FUNCTION engram_internal.first_base(created_at timestamptz, layer text) RETURNS jsonb
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'first_base_wrapper';
COMMENT ON FUNCTION engram_internal.first_base(timestamptz, text) IS 'Where the replay of a memory begins that was stored in a layer of its own.';

-- What runs as the owner of the tables calls these: another owner, REASSIGN OWNED say, has no rights on the functions
-- of schema engram until setup() runs again.
CREATE FUNCTION engram_internal.first_heat(t timestamptz, gain double precision) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_new_wrapper';
COMMENT ON FUNCTION engram_internal.first_heat(timestamptz, double precision) IS 'heat_new(), for whoever owns the tables.';

CREATE FUNCTION engram_internal.faded(x double precision, dt_s double precision, half_life_s double precision) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_decay_wrapper';
COMMENT ON FUNCTION engram_internal.faded(double precision, double precision, double precision) IS 'link_decay(), for whoever owns the tables.';

CREATE FUNCTION engram_internal.pairs(ids uuid[]) RETURNS TABLE (a uuid, b uuid, direction integer)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'pairs_wrapper';
COMMENT ON FUNCTION engram_internal.pairs(uuid[]) IS
'All pairs of memories that were used in this order, a < b; direction is 1 when a came first and -1 otherwise.';

CREATE FUNCTION engram_internal.link_over_time(
  forward double precision, backward double precision, linked_at timestamptz, count integer,
  times timestamptz[], gains double precision[], params double precision[], half_life_days double precision, prune double precision)
RETURNS TABLE (forward double precision, backward double precision, linked_at timestamptz, count integer, late boolean)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'link_over_time_wrapper';
COMMENT ON FUNCTION engram_internal.link_over_time(double precision, double precision, timestamptz, integer, timestamptz[], double precision[], double precision[], double precision, double precision) IS
'A link after some more calls; gains below 0 are of calls that used b first. A link whose mass has fallen below prune begins anew. params: as dynamics_over_time() has them, for calls of before the settings changed. late: a call was older than the link, or began it anew at the same moment.';

CREATE FUNCTION engram_internal.link_members_at(params double precision[], members integer, at timestamptz) RETURNS integer
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_members_at_wrapper';
COMMENT ON FUNCTION engram_internal.link_members_at(double precision[], integer, timestamptz) IS
'How many members of a call are linked with each other: members, or as dynamics_over_time() has it for a call of before.';

CREATE FUNCTION engram_internal.present(workspace uuid, at timestamptz, ids uuid[], settle boolean DEFAULT false)
RETURNS TABLE (
  memory_id uuid, layer text, heat bytea, working_strength double precision, core_strength double precision,
  stability double precision, difficulty double precision, access_count bigint, last_accessed_at timestamptz,
  retention double precision, idle_days double precision, base jsonb, decay double precision)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- Planned for each call, which always seems to pay, planning takes longer than all the rest for a few ids.
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  params double precision[] := engram_internal.dynamics_over_time(present.workspace);
BEGIN
  IF cardinality(present.ids) > 20 THEN
    PERFORM set_config('plan_cache_mode', 'force_custom_plan', true);
  END IF;
  RETURN QUERY
  SELECT m.id, s.layer, s.heat, s.working_strength, s.core_strength, s.stability, s.difficulty,
         s.access_count, s.last_accessed_at, s.retention, s.idle_days, s.base, params[1]
  FROM unnest(present.ids) AS u (id)
  CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = present.workspace AND x.id = u.id OFFSET 0) m
  LEFT JOIN LATERAL (SELECT x.* FROM engram.memory_state x WHERE x.workspace_id = present.workspace AND x.memory_id = u.id OFFSET 0) o ON true
  LEFT JOIN engram_internal.pending(present.workspace, present.ids) p ON p.memory_id = u.id
  CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
    m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, o.access_count,
    o.last_accessed_at, o.heat, o.working_strength, o.core_strength, o.layer, o.stability, o.difficulty,
    o.base, p.calls, p.times, p.gains, p.ratings, NULL, present.at, present.settle) f
  CROSS JOIN LATERAL (
    SELECT f.* WHERE NOT f.late
    UNION ALL
    SELECT z.* FROM (
      SELECT array_agg(l.id) AS calls, array_agg(l.accessed_at) AS times, array_agg(l.gain) AS gains, array_agg(l.rating) AS ratings
      FROM engram.access_log l
      WHERE l.workspace_id = present.workspace AND l.memory_id = u.id AND (l.gain <> 0 OR l.rating IS NOT NULL)
      HAVING f.late) h
    CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
      m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, o.access_count,
      o.last_accessed_at, o.heat, o.working_strength, o.core_strength, o.layer, o.stability, o.difficulty,
      o.base, h.calls || p.calls, h.times || p.times, h.gains || p.gains, h.ratings || p.ratings,
      coalesce(cardinality(h.calls), 0), present.at, present.settle) z) s;
END
$$;
COMMENT ON FUNCTION engram_internal.present(uuid, timestamptz, uuid[], boolean) IS
'The state of memories at a moment, waiting uses included, of those that the caller may see. settle: as state_at() has it.';

CREATE FUNCTION engram_internal.layers(workspace uuid) RETURNS TABLE (memory_id uuid, layer text)
LANGUAGE c STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'layers_wrapper';
COMMENT ON FUNCTION engram_internal.layers(uuid) IS
'The present layers of all memories of a workspace that are not forgotten, waiting uses included, of those that the caller may see.';

CREATE FUNCTION engram_internal.layer_now(workspace uuid, id uuid) RETURNS text
-- Dearer than any look at the row.
LANGUAGE c STABLE STRICT COST 1000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'layer_now_wrapper';
COMMENT ON FUNCTION engram_internal.layer_now(uuid, uuid) IS 'The present layer of a memory; what a filter by layer compares.';

CREATE FUNCTION engram_internal.fold(workspace uuid, at_most integer) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fold_wrapper';
COMMENT ON FUNCTION engram_internal.fold(uuid, integer) IS
'Folds waiting calls of a workspace that the caller may write; returns how many. What others are working on is left for later.';

CREATE FUNCTION engram_internal.rebase(workspace uuid, id uuid, new_layer text) RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'rebase_wrapper';
COMMENT ON FUNCTION engram_internal.rebase(uuid, uuid, text) IS
'Brings the state of a memory to the present moment before what it depends on changes, and into another layer if one is given. The caller may write the workspace.';

CREATE FUNCTION engram_internal.fold_calls(
  workspace uuid, at_most integer, params double precision[], members integer, half_life_days double precision, prune double precision)
RETURNS TABLE (calls integer, late_links uuid[])
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'fold_calls_wrapper';
COMMENT ON FUNCTION engram_internal.fold_calls(uuid, integer, double precision[], integer, double precision, double precision) IS
'The fast half of fold_queue(), which holds the workspace: writes rows without statements. No row where that cannot be done: when the caller does not own the tables, or these have triggers, columns, partitions or indexes of other kinds than setup() makes. late_links: ends of links that a call is older than, or that it began anew at their own moment.';

CREATE FUNCTION engram_internal.try_lock_settings(workspace uuid) RETURNS boolean
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'try_lock_settings_wrapper';
COMMENT ON FUNCTION engram_internal.try_lock_settings(uuid) IS
'Until give_back_settings() nobody changes what uses of a workspace count by, its own settings and the defaults; false where somebody does. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.give_back_settings(workspace uuid) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'give_back_settings_wrapper';
COMMENT ON FUNCTION engram_internal.give_back_settings(uuid) IS
'Lets others change what try_lock_settings() has locked. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.fold_queue(workspace uuid, at_most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- Not the triggers that serve the loading of a dump.
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  rules   record;
  params  double precision[];
  waiting uuid[];
  wanted  uuid[];
  locked  uuid[];
  busy    uuid[] := '{}';
  gone    uuid[] := '{}';
  late_links uuid[];
  done    integer;
BEGIN
  PERFORM engram_internal.require_owner('fold uses', 'It happens by itself, and when engram.consolidate() runs.');
  -- Under an older snapshot a row that somebody changed meanwhile would be an error.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
     OR NOT EXISTS (SELECT FROM engram.access_queue q WHERE q.workspace_id = fold_queue.workspace) THEN
    RETURN 0;
  END IF;
  -- One at a time in a workspace. Nobody who folds waits for anybody, here or below, and others only until
  -- it commits: hence no deadlock.
  IF NOT EXISTS (SELECT FROM engram.maintenance g WHERE g.workspace_id = fold_queue.workspace) THEN
    IF NOT engram_internal.try_lock_work(fold_queue.workspace, 'fold') THEN
      RETURN 0;
    END IF;
    INSERT INTO engram.maintenance (workspace_id) VALUES (fold_queue.workspace) ON CONFLICT DO NOTHING;
  END IF;
  PERFORM FROM engram.maintenance g WHERE g.workspace_id = fold_queue.workspace FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  -- By settings that stay until all is counted: who changes them waits for it, and while somebody does, uses wait.
  IF NOT engram_internal.try_lock_settings(fold_queue.workspace) THEN
    RETURN 0;
  END IF;
  params := engram_internal.dynamics_over_time(fold_queue.workspace);
  SELECT coalesce(w.link_members, d.link_members) AS members, coalesce(w.link_half_life_days, d.link_half_life_days) AS half_life,
         coalesce(w.link_prune, d.link_prune) AS prune INTO STRICT rules
  FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = fold_queue.workspace
  WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';
  BEGIN
    SELECT f.calls, f.late_links INTO done, late_links
    FROM engram_internal.fold_calls(fold_queue.workspace, fold_queue.at_most, params, rules.members, rules.half_life, rules.prune) f;
  EXCEPTION
    -- A use that the log knows already, or a row that somebody changed by hand meanwhile: statements can pass over it.
    WHEN unique_violation OR internal_error THEN
      done := NULL;
  END;
  IF done IS NULL THEN
    waiting := ARRAY(SELECT q.id FROM engram.access_queue q
                     WHERE q.workspace_id = fold_queue.workspace AND q.accessed_at <= clock_timestamp()
                     ORDER BY q.id LIMIT fold_queue.at_most);
    wanted := ARRAY(SELECT DISTINCT u FROM engram.access_queue q CROSS JOIN LATERAL unnest(q.memory_ids) u
                    WHERE q.workspace_id = fold_queue.workspace AND q.id = ANY (waiting) ORDER BY u);
    -- Look-ups by key one after the other, here and below: as joins they might read all of the workspace.
    locked := ARRAY(SELECT s.memory_id FROM unnest(wanted) u CROSS JOIN LATERAL (
      SELECT x.memory_id FROM engram.memory_state x WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = u
      FOR NO KEY UPDATE SKIP LOCKED) s);
    IF cardinality(locked) < cardinality(wanted) THEN
      wanted := ARRAY(SELECT unnest(wanted) EXCEPT SELECT unnest(locked));
      -- Somebody changes or deletes these just now; calls that used them wait.
      busy := ARRAY(SELECT s.memory_id FROM unnest(wanted) u CROSS JOIN LATERAL (
        SELECT x.memory_id FROM engram.memory_state x WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = u OFFSET 0) s);
      -- States that a partial restore has left out.
      WITH added AS (
        INSERT INTO engram.memory_state (workspace_id, memory_id, last_accessed_at, layer)
        SELECT m.workspace_id, m.id, m.created_at, m.layer
        FROM unnest(wanted) u
        CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = fold_queue.workspace AND x.id = u AND u <> ALL (busy)
                            FOR KEY SHARE SKIP LOCKED) m
        ON CONFLICT DO NOTHING RETURNING memory_id)
      SELECT locked || array_agg(a.memory_id) INTO locked FROM added a;
      gone := ARRAY(SELECT unnest(wanted) EXCEPT SELECT unnest(locked) EXCEPT SELECT unnest(busy));
    END IF;
    WITH taken AS (
      DELETE FROM engram.access_queue q
      WHERE q.workspace_id = fold_queue.workspace AND q.id = ANY (waiting) AND NOT q.memory_ids && busy
      RETURNING q.*
    ), uses AS MATERIALIZED (
      SELECT t.id, t.accessed_at, t.user_id, t.kind, t.gain, t.rating, t.recall_id, u.memory_id, u.place,
             CASE WHEN t.gain > 0 AND u.place <= n.members AND least(cardinality(t.memory_ids), n.members) > 1
                  THEN t.gain / (least(cardinality(t.memory_ids), n.members) - 1) ELSE 0 END AS pair_gain
      FROM taken t CROSS JOIN LATERAL engram_internal.link_members_at(params, rules.members, t.accessed_at) AS n (members)
      CROSS JOIN LATERAL unnest(t.memory_ids) WITH ORDINALITY AS u (memory_id, place)
      WHERE u.memory_id <> ALL (gone) AND array_position(t.memory_ids, u.memory_id) - array_lower(t.memory_ids, 1) + 1 = u.place
    ), logged AS (
      INSERT INTO engram.access_log (workspace_id, memory_id, accessed_at, id, user_id, kind, gain, rating, recall_id, place, pair_gain)
      SELECT fold_queue.workspace, u.memory_id, u.accessed_at, u.id, u.user_id, u.kind, u.gain, u.rating, u.recall_id, u.place, u.pair_gain
      FROM uses u ORDER BY u.memory_id, u.accessed_at
      ON CONFLICT DO NOTHING
    ), after AS MATERIALIZED (
      SELECT e.memory_id, s.ctid AS row_at, a.*
      FROM (SELECT u.memory_id, array_agg(u.id) AS calls, array_agg(u.accessed_at) AS times, array_agg(u.gain) AS gains, array_agg(u.rating) AS ratings
            FROM uses u WHERE u.gain <> 0 OR u.rating IS NOT NULL GROUP BY u.memory_id) e
      CROSS JOIN LATERAL (SELECT x.ctid, x.* FROM engram.memory_state x WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = e.memory_id OFFSET 0) s
      CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = fold_queue.workspace AND x.id = e.memory_id OFFSET 0) m
      CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
        m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, s.access_count,
        s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer, s.stability, s.difficulty,
        s.base, e.calls, e.times, e.gains, e.ratings, NULL, NULL, false) f
      -- What is a matter of order, from the whole history. Here and not afterwards: a second change of a row
      -- in one transaction has the foreign key checked again, and that would wait for who changes the memory.
      CROSS JOIN LATERAL (
        SELECT f.* WHERE NOT f.late
        UNION ALL
        SELECT z.* FROM (
          SELECT array_agg(l.id) AS calls, array_agg(l.accessed_at) AS times, array_agg(l.gain) AS gains, array_agg(l.rating) AS ratings
          FROM engram.access_log l
          WHERE l.workspace_id = fold_queue.workspace AND l.memory_id = e.memory_id AND (l.gain <> 0 OR l.rating IS NOT NULL)
          HAVING f.late) h
        CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
          m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, s.access_count,
          s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer, s.stability, s.difficulty,
          s.base, h.calls || e.calls, h.times || e.times, h.gains || e.gains, h.ratings || e.ratings,
          coalesce(cardinality(h.calls), 0), NULL, false) z) a
    ), changed AS (
      UPDATE engram.memory_state s
      SET heat = a.heat, working_strength = a.working_strength, core_strength = a.core_strength, layer = a.layer,
          stability = a.stability, difficulty = a.difficulty, access_count = a.access_count, last_accessed_at = a.last_accessed_at,
          base = a.base
      FROM after a WHERE s.ctid = a.row_at AND s.workspace_id = fold_queue.workspace AND s.memory_id = a.memory_id
    ), pairs AS MATERIALIZED (
      SELECT p.a, p.b, l.*
      FROM (SELECT x.a, x.b, array_agg(c.accessed_at) AS times, array_agg(c.gain * x.direction) AS gains
            FROM (SELECT u.id, u.accessed_at, u.pair_gain AS gain, array_agg(u.memory_id ORDER BY u.place) AS ids
                  FROM uses u WHERE u.pair_gain > 0 GROUP BY u.id, u.accessed_at, u.pair_gain HAVING count(*) > 1) c
            CROSS JOIN LATERAL engram_internal.pairs(c.ids) x
            GROUP BY x.a, x.b) p
      LEFT JOIN LATERAL (SELECT x.* FROM engram.hebbian_links x WHERE x.workspace_id = fold_queue.workspace AND x.a = p.a AND x.b = p.b OFFSET 0) h ON true
      CROSS JOIN LATERAL engram_internal.link_over_time(h.forward, h.backward, h.linked_at, h.count, p.times, p.gains, params, rules.half_life, rules.prune) l
    ), linked AS (
      INSERT INTO engram.hebbian_links AS h (workspace_id, a, b, forward, backward, linked_at, count)
      SELECT fold_queue.workspace, p.a, p.b, p.forward, p.backward, p.linked_at, p.count FROM pairs p ORDER BY p.a, p.b
      ON CONFLICT (workspace_id, a, b) DO UPDATE
      SET forward = EXCLUDED.forward, backward = EXCLUDED.backward, linked_at = EXCLUDED.linked_at, count = EXCLUDED.count
    )
    SELECT (SELECT count(*) FROM taken),
           ARRAY(SELECT x FROM pairs p CROSS JOIN LATERAL unnest(ARRAY[p.a, p.b]) WITH ORDINALITY AS z (x, nth) WHERE p.late ORDER BY p.a, p.b, z.nth)
    INTO done, late_links;
  END IF;

  -- A link that a call is older than, from all calls in order.
  UPDATE engram.hebbian_links h
  SET forward = r.forward, backward = r.backward, linked_at = r.linked_at, count = r.count
  FROM generate_series(1, cardinality(late_links), 2) i
  CROSS JOIN LATERAL (
    SELECT array_agg(x.accessed_at) AS times, count(*) AS calls,
           array_agg(CASE WHEN x.place < y.place THEN x.pair_gain ELSE -x.pair_gain END) AS gains
    FROM engram.access_log x
    CROSS JOIN LATERAL (SELECT z.place FROM engram.access_log z
      WHERE z.workspace_id = fold_queue.workspace AND z.memory_id = late_links[i + 1] AND z.accessed_at = x.accessed_at
        AND z.id = x.id AND z.pair_gain > 0 OFFSET 0) y
    WHERE x.workspace_id = fold_queue.workspace AND x.memory_id = late_links[i] AND x.pair_gain > 0) e
  CROSS JOIN LATERAL engram_internal.link_over_time(NULL, NULL, NULL, NULL, e.times, e.gains, params, rules.half_life, rules.prune) r
  WHERE h.workspace_id = fold_queue.workspace AND h.a = late_links[i] AND h.b = late_links[i + 1] AND e.calls >= h.count;
  UPDATE engram.maintenance g SET folded_at = now() WHERE g.workspace_id = fold_queue.workspace;
  -- Not at the end of the transaction, which may be long in coming, or fold in more workspaces than the server has locks
  -- for: whoever changes settings from now on does so after all that was counted, committed or not.
  PERFORM engram_internal.give_back_settings(fold_queue.workspace);
  RETURN done;
END
$$;
COMMENT ON FUNCTION engram_internal.fold_queue(uuid, integer) IS
'What fold() does. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.hold_folds(workspace uuid) RETURNS void
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'hold_folds_wrapper';
COMMENT ON FUNCTION engram_internal.hold_folds(uuid) IS
'Until the end of the transaction nobody else folds in a workspace, or in any if it is that of the defaults. Waits for who does. As the caller, who must own the tables.';

CREATE FUNCTION engram_internal.rebase_state(workspace uuid, id uuid, new_layer text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM engram_internal.require_owner('change the state of memories', 'It follows every change of a memory by itself.');
  -- Who changes a memory holds its row, and folds only hold this one while they commit.
  PERFORM FROM engram.memory_state s WHERE s.workspace_id = rebase_state.workspace AND s.memory_id = rebase_state.id FOR NO KEY UPDATE;
  UPDATE engram.memory_state s
  SET heat = a.heat, working_strength = a.working_strength, core_strength = a.core_strength,
      layer = coalesce(rebase_state.new_layer, a.layer), stability = a.stability, difficulty = a.difficulty,
      access_count = a.access_count, last_accessed_at = a.last_accessed_at,
      base = a.base || jsonb_build_object('layer', coalesce(rebase_state.new_layer, a.layer))
  FROM engram_internal.present(rebase_state.workspace, now(), ARRAY[rebase_state.id], true) a
  WHERE s.workspace_id = rebase_state.workspace AND s.memory_id = rebase_state.id;
END
$$;
COMMENT ON FUNCTION engram_internal.rebase_state(uuid, uuid, text) IS
'What rebase() does. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.touch(
  ids uuid[],
  kind text DEFAULT NULL,
  gain double precision DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  recall_id uuid DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'touch_wrapper';
COMMENT ON FUNCTION engram.touch(uuid[], text, double precision, timestamptz, uuid, uuid) IS
'Notes that memories were used, and returns how many of them are credited. Call it with what went into the answer, not with everything that was shown.

ids: at most 1000, in order of use; unknown and forgotten ones are left out. Those used in one call are linked with each other. kind: used (default) or shown. gain: how much it counts, 0 to 100; by default 1 for used and the workspace''s shown_gain for shown. at: when, by default now; not in the future. recall_id: the recall that they answer, as recall() returns it or any id of yours: each memory is credited once for it as used, once as shown, once by reinforce() and once by rate(), so that a retry changes nothing and feedback may come later than the use. Uses in any order, late or at the same time end in the same state.';

CREATE FUNCTION engram.reinforce(
  ids uuid[],
  value double precision DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  recall_id uuid DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'reinforce_wrapper';
COMMENT ON FUNCTION engram.reinforce(uuid[], double precision, timestamptz, uuid, uuid) IS
'Gives credit to memories that helped, or takes it back from those that misled, and returns how many of them.

value: -1 (wrong) to 1 (vital, the default). Above 0 it counts as a use of that gain, rated 4 from 0.5 on and 3 below; below 0 it weakens the working strength and is rated 1; what that has not got it owes, and shows 0 until later uses have made up for it. at, recall_id: as in touch().';

CREATE FUNCTION engram_internal.rate(id uuid, rating integer, at timestamptz, recall_id uuid, workspace uuid) RETURNS boolean
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'rate_wrapper';
COMMENT ON FUNCTION engram_internal.rate(uuid, integer, timestamptz, uuid, uuid) IS
'What rate() does; NULL for an unknown id.';

CREATE FUNCTION engram.rate(
  id uuid,
  rating integer,
  at timestamptz DEFAULT NULL,
  recall_id uuid DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  counted boolean := engram_internal.rate(rate.id, rate.rating, rate.at, rate.recall_id, rate.workspace);
BEGIN
  -- Not in the library, through which an SQLSTATE of our own does not get.
  IF counted IS NULL THEN
    PERFORM engram_internal.refuse_memory(rate.id);
  END IF;
  RETURN counted;
END
$$;
COMMENT ON FUNCTION engram.rate(uuid, integer, timestamptz, uuid, uuid) IS
'Rates one memory as FSRS does: 1 again (it was wrong or of no use), 2 hard (weakly relevant), 3 good (used), 4 easy (confirmed). True when it is counted. An unknown id raises PT404.

3 and 4 count as a use. at, recall_id: as in touch().';

CREATE FUNCTION engram.recall(
  query_text text DEFAULT NULL,
  query_embedding vector DEFAULT NULL,
  match_count integer DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  types text[] DEFAULT NULL,
  min_score double precision DEFAULT NULL,
  explain boolean DEFAULT NULL,
  include text[] DEFAULT NULL,
  model text DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (
  id uuid, content text, type text, score double precision, importance double precision, tags text[],
  metadata jsonb, speaker text, role text, session_id text, occurred_at timestamptz,
  created_at timestamptz, matched text[], explain jsonb, recall_id uuid)
LANGUAGE c VOLATILE ROWS 10 COST 10000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'recall_wrapper';
COMMENT ON FUNCTION engram.recall(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid) IS
'A search that is noted: what search() finds, with the recall_id under which touch() credits what was used of it. One row is written, and folded later.

Arguments as in search(). What is returned counts by the workspace''s shown_gain, by default not at all: credit goes to what is used. In a read-only transaction it only searches, and recall_id is NULL.';

CREATE FUNCTION engram_internal.levels(ids uuid[], at timestamptz, workspace uuid)
RETURNS TABLE (id uuid, level double precision)
LANGUAGE c STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'activations_wrapper';
COMMENT ON FUNCTION engram_internal.levels(uuid[], timestamptz, uuid) IS 'What activations() gives; for activation().';

CREATE FUNCTION engram.activation(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS double precision
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN (SELECT l.level FROM engram_internal.levels(ARRAY[activation.id], activation.at, activation.workspace) l);
END
$$;
COMMENT ON FUNCTION engram.activation(uuid, timestamptz, uuid) IS
'Base-level activation of a memory in nats: the log odds, up to a constant, that it is needed, by how often and how lately it was used. NULL when it is not there.

B = ln of the sum over its uses of gain × age^-d, ages in seconds, at least 1; d is the workspace''s setting decay. at: by default now. Uses later than at count too: a moment less than a second after the latest use, or change of what the memory depends on, is taken to be a second after it.';

CREATE FUNCTION engram.activations(ids uuid[] DEFAULT NULL, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (id uuid, activation double precision)
LANGUAGE c STABLE ROWS 200 COST 1000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'activations_wrapper';
COMMENT ON FUNCTION engram.activations(uuid[], timestamptz, uuid) IS
'Base-level activation of many memories, as activation() gives that of one: for a ranking of your own, or to see what is needed most. A row for each different id that is there, in no order; for what search() finds by itself, see there.

ids: which ones; NULL for all of the workspace. Forgotten ones count. at: as in activation().';

CREATE FUNCTION engram.retention(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (
  retrievability double precision, stability double precision, difficulty double precision,
  working_strength double precision, core_strength double precision, strength double precision,
  retention double precision, layer text, access_count bigint, last_accessed_at timestamptz)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(retention.workspace, false);
  moment timestamptz := coalesce(retention.at, now());
BEGIN
  IF NOT isfinite(moment) THEN
    RAISE EXCEPTION 'at is infinite' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a moment in time, or leave it out.';
  END IF;
  RETURN QUERY
  SELECT engram.fsrs_retrievability(p.idle_days, p.stability),
         p.stability, p.difficulty, greatest(p.working_strength, 0), greatest(p.core_strength, 0),
         engram.trace_strength(greatest(p.working_strength, 0), greatest(p.core_strength, 0)), p.retention, p.layer, p.access_count, p.last_accessed_at
  FROM engram_internal.present(ws, moment, ARRAY[retention.id]) p;
END
$$;
COMMENT ON FUNCTION engram.retention(uuid, timestamptz, uuid) IS
'How well a memory is kept at a moment: one row, or none when it is not there.

retrievability: FSRS-6, the probability 0 to 1 that it still holds. stability: days until that falls to 0.9. difficulty: 1 to 10. working_strength, core_strength: r1 and r2 of the two-store model; what uses against the memory have brought below 0 is shown as 0, here and in all that follows from it, but kept: later uses have to make up for it. strength: 1 - e^-(r1 + r2). retention: min(1, r1 + r2) × e^(-t/stability), t days without use: what forgetting asks. Days under a pin do not count. at: by default now; a moment before the latest use, or change of what the memory depends on, is taken to be that of it. Infinite: 22023.';
-- What holds: memories that take the place of others, and memories that say otherwise than others.

CREATE FUNCTION engram_internal.lock_memories(workspace uuid, ids uuid[], others uuid[], forgotten boolean) RETURNS void
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
COMMENT ON FUNCTION engram_internal.lock_memories(uuid, uuid[], uuid[], boolean) IS
'Until the end of the transaction nobody else changes these memories. ids must be there, and not forgotten unless forgotten ones will do (PT404); others may be missing.';

CREATE FUNCTION engram_internal.successors(workspace uuid, id uuid) RETURNS uuid[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  chain uuid[] := '{}';
  here  uuid := successors.id;
  next  uuid;
BEGIN
  -- Rows that somebody wrote by hand may form a circle.
  WHILE here <> ALL (chain) LOOP
    SELECT m.superseded_by INTO next FROM engram.memories m WHERE m.workspace_id = successors.workspace AND m.id = here;
    EXIT WHEN NOT FOUND;
    chain := chain || here;
    here := next;
  END LOOP;
  RETURN chain;
END
$$;
COMMENT ON FUNCTION engram_internal.successors(uuid, uuid) IS
'A memory and what supersedes it, from itself to the newest, forgotten ones included; empty when it is not there.';

CREATE FUNCTION engram_internal.refuse_superseded(id uuid, successor uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION 'memory "%" is superseded by "%" already', id, successor
    USING ERRCODE = 'PT409',
          HINT = format('Supersede "%s" instead, or the newest of them, engram.latest(''%s''); engram.unsupersede(''%2$s'') undoes it.', successor, id);
END
$$;
COMMENT ON FUNCTION engram_internal.refuse_superseded(uuid, uuid) IS
'Raises the error for a memory that another one has superseded: SQLSTATE PT409, which PostgREST answers as HTTP 409.';

CREATE FUNCTION engram_internal.set_successor(workspace uuid, old uuid, new uuid) RETURNS boolean
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
COMMENT ON FUNCTION engram_internal.set_successor(uuid, uuid, uuid) IS
'What supersede() does with two memories that are stored. False when it was so already.';

CREATE FUNCTION engram_internal.check_successor(workspace uuid, id uuid, successor uuid) RETURNS void
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
COMMENT ON FUNCTION engram_internal.check_successor(uuid, uuid, uuid) IS
'Raises the error for a memory that a statement lets be superseded by itself, by one that is not there, or in a circle; until the end of the transaction nobody else of the workspace supersedes.';

CREATE FUNCTION engram_internal.check_contradictions(workspace uuid, id uuid, named text, ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  other uuid;
BEGIN
  FOREACH other IN ARRAY ids LOOP
    -- One look-up each, of one that others may change but not take away.
    PERFORM FROM engram.memories m WHERE m.workspace_id = check_contradictions.workspace AND m.id = other FOR KEY SHARE;
    IF NOT FOUND OR other = id THEN
      RAISE EXCEPTION '% of memory "%" has "%", which %', named, id, coalesce(other::text, 'NULL'),
          CASE WHEN other = id THEN 'is itself' ELSE 'is not in this workspace' END
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Name two memories that are stored: engram.contradict(a, b) writes both rows.';
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.check_contradictions(uuid, uuid, text, uuid[]) IS
'Raises the error for a memory that a statement lets contradict itself, or one that is not there.';

CREATE FUNCTION engram.supersede(
  old uuid,
  new uuid DEFAULT NULL,
  content text DEFAULT NULL,
  type text DEFAULT NULL,
  importance double precision DEFAULT NULL,
  embedding vector DEFAULT NULL,
  tags text[] DEFAULT NULL,
  metadata jsonb DEFAULT NULL,
  occurred_at timestamptz DEFAULT NULL,
  agent_id text DEFAULT NULL,
  session_id text DEFAULT NULL,
  speaker text DEFAULT NULL,
  role text DEFAULT NULL,
  source text DEFAULT NULL,
  entities text[] DEFAULT NULL,
  expires_at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(supersede.workspace, true);
  newer uuid := supersede.new;
  hash  bytea;
  was   record;
BEGIN
  IF num_nonnulls(supersede.new, supersede.content) <> 1 THEN
    RAISE EXCEPTION 'supersede() was given %', CASE WHEN supersede.new IS NULL THEN 'neither new nor content' ELSE 'both new and content' END
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Pass new => the id of the memory that takes its place, or content => what holds now.';
  END IF;
  IF supersede.content IS NULL THEN
    IF num_nonnulls(supersede.type, supersede.importance, supersede.embedding, supersede.tags, supersede.metadata,
         supersede.occurred_at, supersede.agent_id, supersede.session_id, supersede.speaker, supersede.role,
         supersede.source, supersede.entities, supersede.expires_at) > 0 THEN
      RAISE EXCEPTION 'supersede() was given values for a memory that is stored already'
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'They go with content. Change the memory with engram.update() instead.';
    END IF;
  ELSE
    -- Names before keys, as everywhere: what is stored below has the entities of the old one.
    PERFORM engram_internal.lock_keys(ws, '{}');
    PERFORM engram_internal.lock_keys(ws, ARRAY['superseded']);
    SELECT * INTO was FROM engram.memories m WHERE m.workspace_id = ws AND m.id = supersede.old AND m.deleted_at IS NULL;
    IF NOT FOUND THEN
      PERFORM engram_internal.refuse_memory(supersede.old);
    END IF;
    hash := sha256(convert_to(engram_internal.normalize_content(supersede.content), 'UTF8'));
    IF was.superseded_by IS NOT NULL THEN
      -- A retry finds what it stored.
      SELECT m.id INTO newer FROM engram.memories m
      WHERE m.workspace_id = ws AND m.id = was.superseded_by AND m.deleted_at IS NULL AND m.content_hash = hash;
      IF NOT FOUND THEN
        PERFORM engram_internal.refuse_superseded(supersede.old, was.superseded_by);
      END IF;
      RETURN newer;
    ELSIF was.content_hash = hash THEN
      RAISE EXCEPTION 'the new content is what memory "%" says already', supersede.old
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Say what holds now, or change what else there is to change with engram.update().';
    END IF;
    -- A correction is close to what it corrects: its vector must not look like a repetition, so it comes later.
    newer := (SELECT s.id FROM engram_internal.store(ws, supersede.content, coalesce(supersede.type, was.type),
      coalesce(supersede.importance, greatest(was.importance, 0.5)), NULL, coalesce(supersede.tags, was.tags),
      coalesce(supersede.metadata, was.metadata), supersede.occurred_at, coalesce(supersede.agent_id, was.agent_id),
      coalesce(supersede.session_id, was.session_id), coalesce(supersede.speaker, was.speaker), coalesce(supersede.role, was.role),
      supersede.source,
      coalesce(supersede.entities, ARRAY(SELECT g.label FROM engram.graph_links g
        WHERE g.workspace_id = ws AND g.memory_id = supersede.old AND g.relation = 'mentions' ORDER BY g.node)),
      supersede.expires_at, 'merge', NULL) s);
    IF supersede.embedding IS NOT NULL THEN
      PERFORM engram.set_embedding(newer, supersede.embedding, NULL, NULL, ws);
    END IF;
    IF was.pinned THEN
      UPDATE engram.memories m SET pinned = true WHERE m.workspace_id = ws AND m.id = newer AND NOT m.pinned;
    END IF;
  END IF;
  PERFORM engram_internal.set_successor(ws, supersede.old, newer);
  RETURN newer;
END
$$;
COMMENT ON FUNCTION engram.supersede(uuid, uuid, text, text, double precision, vector, text[], jsonb, timestamptz, text, text, text, text, text, text[], timestamptz, uuid) IS
'A newer memory takes the place of an old one, which leaves search and lists but stays to be read; returns the id of the newer one.

new: the newer memory, if it is stored; or content: what holds now, stored in the same transaction. It has the type, tags, metadata, agent_id, session_id, speaker, role, entities and pin of the old one, and its importance or 0.5, the higher of the two; arguments as in add() say otherwise. Content that the workspace holds already is not stored twice. Both are in one workspace, and no memory comes to supersede itself by way of others. A memory that another one has superseded is refused (PT409), and so are unknown and forgotten ids (PT404); to repeat a call changes nothing.

Forgetting the newer one does not bring the old one back; unsupersede() does. Erasing it lets its own successor take over, or else makes the old one current again: as if the erased one had never been. If it had been forgotten or had expired by then, the old one is forgotten as well.';

CREATE FUNCTION engram.unsupersede(id uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(unsupersede.workspace, true);
BEGIN
  PERFORM engram_internal.lock_memories(ws, ARRAY[unsupersede.id], NULL, false);
  UPDATE engram.memories m SET superseded_by = NULL
  WHERE m.workspace_id = ws AND m.id = unsupersede.id AND m.superseded_by IS NOT NULL;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram.unsupersede(uuid, uuid) IS
'Brings back a memory that supersede() or resolve() replaced; the newer one stays too. True when it was superseded. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.latest(id uuid, workspace uuid DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(latest.workspace, false);
  chain uuid[] := engram_internal.successors(ws, latest.id);
BEGIN
  IF NOT EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = latest.id AND m.deleted_at IS NULL) THEN
    PERFORM engram_internal.refuse_memory(latest.id);
  END IF;
  RETURN chain[cardinality(chain)];
END
$$;
COMMENT ON FUNCTION engram.latest(uuid, uuid) IS
'The newest of the memories that took the place of this one, one after the other; itself when nothing did. That one may be forgotten or expired. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram_internal.superseded(wanted uuid, workspace uuid)
RETURNS TABLE (step integer, id uuid, content text, created_at timestamptz, superseded_by uuid)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(superseded.workspace, false);
  newest uuid := engram.latest(superseded.wanted, superseded.workspace);
BEGIN
  RETURN QUERY
  WITH RECURSIVE chain AS (
    SELECT newest AS id, 0 AS back
    UNION ALL
    SELECT o.id, c.back + 1
    FROM chain c CROSS JOIN LATERAL (
      -- As no index but that of superseded_by sees it.
      SELECT x.id FROM engram.memories x WHERE (x.workspace_id = ws) IS TRUE AND x.superseded_by = c.id OFFSET 0) o
  ) CYCLE id SET again USING path
  SELECT (row_number() OVER (ORDER BY c.back DESC, m.created_at, m.id))::integer, m.id, m.content, m.created_at, m.superseded_by
  FROM chain c CROSS JOIN LATERAL (SELECT x.* FROM engram.memories x WHERE x.workspace_id = ws AND x.id = c.id OFFSET 0) m
  WHERE NOT c.again AND m.deleted_at IS NULL
  ORDER BY 1;
END
$$;
COMMENT ON FUNCTION engram_internal.superseded(uuid, uuid) IS 'What superseded() does.';

-- A function of its own, because PL/pgSQL cannot have an argument and a column of the same name.
CREATE FUNCTION engram.superseded(id uuid, workspace uuid DEFAULT NULL)
RETURNS TABLE (step integer, id uuid, content text, created_at timestamptz, superseded_by uuid)
LANGUAGE sql STABLE ROWS 5
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT s.* FROM engram_internal.superseded($1, $2) s
$$;
COMMENT ON FUNCTION engram.superseded(uuid, uuid) IS
'What a memory has superseded and what superseded it: all that led to the newest one, oldest first, step from 1. Forgotten ones are left out. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.contradict(a uuid, b uuid, workspace uuid DEFAULT NULL) RETURNS boolean
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
COMMENT ON FUNCTION engram.contradict(uuid, uuid, uuid) IS
'Records that a says otherwise than b. True when that is new.

Both stay. As long as a stands (not forgotten, expired or superseded), b loses contradiction_weight (settings) of its score and never comes before a in a search that finds both; b does not consolidate until uncontradict() or resolve(). Unknown and forgotten ids raise PT404.';

CREATE FUNCTION engram.uncontradict(a uuid, b uuid, workspace uuid DEFAULT NULL) RETURNS boolean
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
COMMENT ON FUNCTION engram.uncontradict(uuid, uuid, uuid) IS
'Takes back that a says otherwise than b; both stay, and so does it if b says otherwise than a. True when it was recorded. Forgotten memories will do; an unknown id raises PT404.';

CREATE FUNCTION engram.conflicts(match_count integer DEFAULT NULL, skip integer DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (
  claim uuid, claim_content text, against uuid, against_content text,
  claim_created_at timestamptz, against_created_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(conflicts.workspace, false);
  wanted  integer := coalesce(conflicts.match_count, 50);
  skipped integer := coalesce(conflicts.skip, 0);
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000, and page on with skip.';
  END IF;
  IF skipped < 0 THEN
    RAISE EXCEPTION 'skip is %', skipped
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 0 or more.';
  END IF;
  RETURN QUERY
  SELECT a.id, a.content, b.id, b.content, a.created_at, b.created_at
  FROM engram.memories a CROSS JOIN LATERAL unnest(a.contradicts) AS u (id)
  CROSS JOIN LATERAL (
    SELECT x.* FROM engram.memories x
    WHERE x.workspace_id = ws AND x.id = u.id AND x.deleted_at IS NULL AND x.superseded_by IS NULL
      AND (x.expires_at IS NULL OR x.expires_at > now()) OFFSET 0) b
  WHERE a.workspace_id = ws AND a.contradicts IS NOT NULL AND a.deleted_at IS NULL AND a.superseded_by IS NULL
    AND (a.expires_at IS NULL OR a.expires_at > now())
  ORDER BY a.created_at DESC, a.id DESC, b.created_at DESC, b.id DESC
  LIMIT wanted OFFSET skipped;
END
$$;
COMMENT ON FUNCTION engram.conflicts(integer, integer, uuid) IS
'Contradictions that wait to be resolved, the newest claim first: claim says otherwise than against, and both stand (not forgotten, expired or superseded).

match_count: 1 to 1000, by default 50. skip: rows to leave out first.';

CREATE FUNCTION engram.resolve(keep uuid, drop uuid, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := engram_internal.resolve_workspace(resolve.workspace, true);
  changed boolean := engram_internal.set_successor(ws, resolve.drop, resolve.keep);
BEGIN
  UPDATE engram.memories m
  SET contradicts = nullif(array_remove(m.contradicts, p.other), '{}'),
      contradicted_by = nullif(array_remove(m.contradicted_by, p.other), '{}')
  FROM (VALUES (resolve.keep, resolve.drop), (resolve.drop, resolve.keep)) AS p (id, other)
  WHERE m.workspace_id = ws AND m.id = p.id AND (p.other = ANY (m.contradicts) OR p.other = ANY (m.contradicted_by));
  IF changed AND NOT FOUND THEN
    RAISE EXCEPTION 'memories "%" and "%" do not contradict each other', resolve.keep, resolve.drop
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'engram.conflicts() lists what does. To replace one memory by another: engram.supersede(old, new).';
  END IF;
  RETURN changed OR FOUND;
END
$$;
COMMENT ON FUNCTION engram.resolve(uuid, uuid, uuid) IS
'Decides a contradiction: drop is superseded by keep, and neither contradicts the other any more. False when that was done before.

Raises what supersede(drop, keep) raises, and 22023 for two memories that do not contradict each other.';
-- Links between memories, entities and their other names, and ways from memory to memory.

CREATE FUNCTION engram_internal.linkable(workspace uuid, id uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM engram.memories m
                 WHERE m.workspace_id = linkable.workspace AND m.id = linkable.id AND m.deleted_at IS NULL) THEN
    PERFORM engram_internal.refuse_memory(linkable.id);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.linkable(uuid, uuid) IS 'Raises the error for a memory that is not there, or forgotten.';

CREATE FUNCTION engram_internal.known_memory(workspace uuid, id uuid, required boolean)
RETURNS TABLE (in_workspace uuid, known uuid)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  in_workspace := engram_internal.resolve_workspace(known_memory.workspace, false);
  known := known_memory.id;
  IF in_workspace IS NOT NULL THEN
    IF required OR known IS NOT NULL THEN
      PERFORM engram_internal.linkable(in_workspace, known);
    END IF;
    RETURN NEXT;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.known_memory(uuid, uuid, boolean) IS
'The workspace that a reader works in and a memory in it, which must not be forgotten. No row for a reader who is nobody. In SQL, because an error of the library cannot have SQLSTATE PT404.';

CREATE FUNCTION engram.link(
  source uuid,
  target uuid,
  relation text DEFAULT NULL,
  weight double precision DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(link.workspace, true);
  named  text := coalesce(btrim(link.relation), 'related');
  heavy  double precision := coalesce(link.weight, 1);
  is_new boolean;
BEGIN
  IF named = '' OR char_length(named) > 100 THEN
    RAISE EXCEPTION 'relation "%" has % characters', left(named, 40), char_length(named)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the relation in 1 to 100 characters, for example causes or part of.';
  END IF;
  IF named IN ('mentions', 'used_with') THEN
    RAISE EXCEPTION 'relation "%" is not for links that somebody makes', named
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'mentions comes with entities (engram.add_entities()), used_with with use (engram.touch()). Choose another name.';
  END IF;
  IF NOT (heavy > 0 AND heavy <= 1) THEN
    RAISE EXCEPTION 'weight is %', heavy
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number above 0, at most 1. To take the link away call engram.unlink().';
  END IF;
  PERFORM engram_internal.linkable(ws, link.source);
  PERFORM engram_internal.linkable(ws, link.target);
  IF link.source = link.target THEN
    RAISE EXCEPTION 'memory "%" cannot be linked to itself', link.source
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give two different memories.';
  END IF;
  INSERT INTO engram.graph_links AS g (workspace_id, memory_id, relation, node, label, target_id, weight)
  VALUES (ws, link.source, named, link.target::text, link.target::text, link.target, heavy)
  ON CONFLICT (workspace_id, memory_id, relation, node) DO UPDATE SET weight = EXCLUDED.weight, target_id = EXCLUDED.target_id
  RETURNING g.xmax = 0 INTO is_new;
  RETURN is_new;
END
$$;
COMMENT ON FUNCTION engram.link(uuid, uuid, text, double precision, uuid) IS
'Links one memory to another. True when the link is new; the same link again takes the new weight.

relation: what the source is to the target, in 1 to 100 characters, by default related; mentions and used_with are taken. weight: how strong it is, above 0, at most 1 (the default). Both memories are in the same workspace and not forgotten, else PT404. related(), path() and spread() follow links in both directions.';

CREATE FUNCTION engram.unlink(source uuid, target uuid, relation text DEFAULT NULL, workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws   uuid := engram_internal.resolve_workspace(unlink.workspace, true);
  gone integer;
BEGIN
  DELETE FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = unlink.source AND g.target_id = unlink.target
    AND (unlink.relation IS NULL OR g.relation = btrim(unlink.relation));
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END
$$;
COMMENT ON FUNCTION engram.unlink(uuid, uuid, text, uuid) IS
'Takes links from one memory to another away, and returns how many. relation: only that; by default all. Links by use fade by themselves.';

CREATE FUNCTION engram_internal.entity_key(workspace uuid, name text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  given text := engram_internal.entity_node(name);
BEGIN
  RETURN coalesce((SELECT a.node FROM engram.entity_aliases a
                   WHERE a.workspace_id = entity_key.workspace AND a.alias = given), given);
END
$$;
COMMENT ON FUNCTION engram_internal.entity_key(uuid, text) IS 'The key of an entity by one of its names in a workspace.';

CREATE FUNCTION engram.add_entities(id uuid, names text[], workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(add_entities.workspace, true);
  before bigint;
  added  integer;
BEGIN
  -- Before the row: who says what names mean may want that too.
  PERFORM engram_internal.lock_keys(ws, '{}');
  -- Whoever adds to the same memory waits here, so that both count right.
  PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = add_entities.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(add_entities.id);
  END IF;
  -- The new version first, so that the history has the entities of the one before as they were.
  IF engram_internal.links_anew(ws, add_entities.id, add_entities.names) THEN
    UPDATE engram.memories m SET version = m.version + 1 WHERE m.workspace_id = ws AND m.id = add_entities.id;
  END IF;
  SELECT count(*) INTO before FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = add_entities.id AND g.relation = 'mentions';
  PERFORM engram_internal.link_entities(ws, add_entities.id, add_entities.names);
  SELECT count(*) - before INTO added FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = add_entities.id AND g.relation = 'mentions';
  RETURN added;
END
$$;
COMMENT ON FUNCTION engram.add_entities(uuid, text[], uuid) IS
'Records that a memory mentions entities, and returns how many it did not mention before.

names: case, repeated white space and outer punctuation do not count, but for signs that belong to a name (C++, C#, .NET); an alias means its entity. The memory gets a new version when something was added. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.remove_entities(id uuid, names text[], workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(remove_entities.workspace, true);
  nodes text[];
  gone  integer;
BEGIN
  PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = remove_entities.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(remove_entities.id);
  END IF;
  nodes := ARRAY(SELECT engram_internal.entity_key(ws, n) FROM unnest(remove_entities.names) n);
  -- The new version first, as in add_entities().
  UPDATE engram.memories m SET version = m.version + 1 WHERE m.workspace_id = ws AND m.id = remove_entities.id
    AND EXISTS (SELECT FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = remove_entities.id
                AND g.relation = 'mentions' AND g.node = ANY (nodes));
  DELETE FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = remove_entities.id AND g.relation = 'mentions' AND g.node = ANY (nodes);
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END
$$;
COMMENT ON FUNCTION engram.remove_entities(uuid, text[], uuid) IS
'Takes back that a memory mentions entities, and returns how many it did. Names as in add_entities(). An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.add_alias(entity text, alias text, workspace uuid DEFAULT NULL) RETURNS boolean
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
COMMENT ON FUNCTION engram.add_alias(text, text, uuid) IS
'Declares another name of an entity: who stores it or asks for it means the entity, and memories that mention it already now mention the entity. True when it is new.

An entity that is itself an alias stands for its entity. A name that already stands for another entity is refused (23505), and so is a circle (22023).';

CREATE FUNCTION engram.remove_alias(alias text, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(remove_alias.workspace, true);
BEGIN
  DELETE FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.alias = engram_internal.entity_node(remove_alias.alias);
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram.remove_alias(text, uuid) IS
'Makes an alias a name of its own again. True when it was an alias. Memories that mention the entity go on mentioning it, whatever they called it.';

CREATE FUNCTION engram.entities(query text DEFAULT NULL, match_count integer DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (name text, node text, aliases text[], memories bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(entities.workspace, false);
  wanted integer := coalesce(entities.match_count, 50);
  part   text := engram_internal.entity_node(entities.query);
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000.';
  END IF;
  RETURN QUERY
  WITH mentions AS (
    SELECT g.node, g.label, g.memory_id
    FROM engram.graph_links g
    WHERE g.workspace_id = ws AND g.target_id IS NULL AND EXISTS (
      SELECT FROM engram.memories m
      WHERE m.workspace_id = ws AND m.id = g.memory_id AND m.deleted_at IS NULL AND m.superseded_by IS NULL
        AND (m.expires_at IS NULL OR m.expires_at > now()))
  ), named AS (
    -- The name as most memories give it; what an alias gave counts only where there is nothing else.
    SELECT DISTINCT ON (c.node) c.node, c.label
    FROM (SELECT n.node, n.label, count(*) AS times FROM mentions n GROUP BY n.node, n.label) c
    ORDER BY c.node, engram_internal.entity_node(c.label) = c.node DESC, c.times DESC, c.label
  ), found AS (
    SELECT n.node, count(DISTINCT n.memory_id) AS times FROM mentions n GROUP BY n.node
    UNION ALL
    SELECT a.node, 0 FROM engram.entity_aliases a WHERE a.workspace_id = ws GROUP BY a.node
  ), listed AS (
    SELECT f.node, max(f.times)::bigint AS times,
           ARRAY(SELECT a.label FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.node = f.node ORDER BY a.alias) AS aliases
    FROM found f GROUP BY f.node
  )
  SELECT coalesce((SELECT d.label FROM named d WHERE d.node = l.node AND engram_internal.entity_node(d.label) = l.node), l.node),
         l.node, l.aliases, l.times
  FROM listed l
  WHERE coalesce(btrim(entities.query), '') = ''
     -- Signs alone are in no name.
     OR part <> '' AND (strpos(l.node, part) > 0
       OR EXISTS (SELECT FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.node = l.node AND strpos(a.alias, part) > 0))
  ORDER BY l.times DESC, l.node LIMIT wanted;
END
$$;
COMMENT ON FUNCTION engram.entities(text, integer, uuid) IS
'Entities of a workspace, the most mentioned first: their name, the key under which they are found, their aliases, and how many memories mention them that search can find.

query: part of a name or of an alias. match_count: 1 to 1000, by default 50.';

CREATE FUNCTION engram_internal.related(workspace uuid, id uuid, entity text, relation text, hops integer, match_count integer, at timestamptz)
RETURNS TABLE (
  id uuid, content text, type text, score double precision, hops integer, via text, relations text[], created_at timestamptz)
LANGUAGE c STABLE ROWS 10 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'related_wrapper';
COMMENT ON FUNCTION engram_internal.related(uuid, uuid, text, text, integer, integer, timestamptz) IS 'What related() does; no row for a memory that is not there.';

CREATE FUNCTION engram.related(
  id uuid DEFAULT NULL,
  entity text DEFAULT NULL,
  relation text DEFAULT NULL,
  hops integer DEFAULT NULL,
  match_count integer DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
)
RETURNS TABLE (
  id uuid, content text, type text, score double precision, hops integer, via text, relations text[], created_at timestamptz)
LANGUAGE sql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT r.* FROM engram_internal.known_memory($7, $1, false) k
  CROSS JOIN LATERAL engram_internal.related(k.in_workspace, k.known, $2, $3, $4, $5, $6) r
$$;
COMMENT ON FUNCTION engram.related(uuid, text, text, integer, integer, timestamptz, uuid) IS
'What is linked to a memory or to an entity, best first: by use in the same calls (used_with), by link(), and by entities in common (mentions).

id or entity: where to begin; an alias means its entity. An unknown or forgotten id raises PT404. relation: only links of that name are followed. hops: how many links away, 1 to 5, by default 1. match_count: 1 to 1000, by default 10. at: the moment at which links by use are weighed, by default now.
score: 0 to 1, the product of the strengths along the best way. A link by use has strength 1 - e^-mass, and counts from link_threshold calls on; one of link() has its weight; an entity that n memories mention has 1 / (1 + ln n), n counted among the newest 100. Links that lead the same way add up to 1 - product of (1 - strength). hops: how long that way is. via: the entity that leads to the memory, or the id of the memory before it. relations: all that links it to that, strongest first. At most 2000 links are read.';

CREATE FUNCTION engram_internal.path(workspace uuid, source uuid, target uuid, max_hops integer)
RETURNS TABLE (step integer, id uuid, content text, via text, relation text)
LANGUAGE c STABLE ROWS 5 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'path_wrapper';
COMMENT ON FUNCTION engram_internal.path(uuid, uuid, uuid, integer) IS 'What path() does; no row for a memory that is not there.';

CREATE FUNCTION engram.path(source uuid, target uuid, max_hops integer DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (step integer, id uuid, content text, via text, relation text)
LANGUAGE sql STABLE ROWS 5
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT p.* FROM engram_internal.known_memory($4, $1, true) a
  CROSS JOIN LATERAL engram_internal.known_memory(a.in_workspace, $2, true) b
  CROSS JOIN LATERAL engram_internal.path(a.in_workspace, a.known, b.known, $3) p
$$;
COMMENT ON FUNCTION engram.path(uuid, uuid, integer, uuid) IS
'The shortest way from one memory to another, and of equally long ones the strongest: one row for each memory on it, the source at step 0. No row when there is none.

Links are those of related(), followed in both directions. max_hops: 1 to 6, by default 4. via: the entity that leads from the memory before, NULL for a direct link. relation: the strongest link from there. An unknown or forgotten id raises PT404. At most 10,000 links are read.';

CREATE FUNCTION engram.spread(
  workspace uuid,
  seeds uuid[],
  weights double precision[] DEFAULT NULL,
  alpha double precision DEFAULT NULL,
  max_hops integer DEFAULT NULL,
  eps double precision DEFAULT NULL,
  max_edges integer DEFAULT NULL,
  at timestamptz DEFAULT NULL
) RETURNS TABLE (memory_id uuid, mass double precision, lift double precision)
LANGUAGE c STABLE ROWS 100 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'spread_from_wrapper';
COMMENT ON FUNCTION engram.spread(uuid, uuid[], double precision[], double precision, integer, double precision, integer, timestamptz) IS
'Spreads activation from memories along links by use and links of link(): a random walk that starts at the seeds, goes on with probability alpha, and back to the seeds where there is no link (personalised PageRank, Haveliwala 2002). Seeds are among the rows; most mass first.

workspace: NULL for your own. seeds: up to 1000; those that you cannot see, and that search would not find, are left out. weights: one for each, from 0, by default 1. alpha: 0 to less than 1, by default 0.5. max_hops: 0 to 1000, by default 3. eps: a memory on which less of the walk is left is not gone on from, by default 0.001. max_edges: most links that are followed, up to 10,000, by default 2000. at: the moment, by default now.
mass: the share of the walk that ends there, in sum at most 1. lift: ln(1 + mass / the share of its links in those of all memories reached), in nats: how much more the seeds lead there than chance would.';

CREATE FUNCTION engram_internal.links(workspace uuid, id uuid, at timestamptz)
RETURNS TABLE (
  other uuid, kind text, relation text, strength double precision, direction double precision, causal boolean,
  count integer, linked_at timestamptz)
LANGUAGE c STABLE ROWS 10 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'links_of_wrapper';
COMMENT ON FUNCTION engram_internal.links(uuid, uuid, timestamptz) IS 'What links() does; no row for a memory that is not there.';

CREATE FUNCTION engram.links(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (
  other uuid, kind text, relation text, strength double precision, direction double precision, causal boolean,
  count integer, linked_at timestamptz)
LANGUAGE sql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT l.* FROM engram_internal.known_memory($3, $1, true) k
  CROSS JOIN LATERAL engram_internal.links(k.in_workspace, k.known, $2) l
$$;
COMMENT ON FUNCTION engram.links(uuid, timestamptz, uuid) IS
'The links of one memory, strongest first, those included that are too young for related(); at most 1000 of each kind. An unknown or forgotten id raises PT404.

kind: hebbian, by use in the same calls, or graph, by link(). strength: at the moment at, by default now, 0 to 1: 1 - e^-mass, or the weight. direction: -1 to 1, above 0 when this memory is used before the other, or is the source. causal: in at least 3 calls, and one way now weighs twice what the other does, and at least what one call just now does: it fades with the link. count: calls, of hebbian ones. linked_at: the latest of them, or when it was linked.';
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
CREATE FUNCTION engram.setup(options jsonb DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS 'MODULE_PATHNAME', 'setup_store_wrapper';
COMMENT ON FUNCTION engram.setup(jsonb) IS
'Creates the tables of engram, or brings them up to date; running it again changes nothing. Returns created or up to date.

options: {"grant_to": ["app"], "owner": "app_owner"}. grant_to lets roles store and search; on Supabase authenticated and service_role get this by themselves. owner: who owns the tables, by default the owner of the database.';

CREATE FUNCTION engram.whoami()
RETURNS TABLE (user_id uuid, source text, subject text, role text, bypasses_rls boolean,
               readable uuid[], writable uuid[], problem text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_store();
  RETURN QUERY
  SELECT c.user_id, c.source, c.subject, current_user::text, engram_internal.trusted(),
         engram.readable_workspaces(), engram.writable_workspaces(), c.problem
  FROM engram_internal.caller() c;
END
$$;
COMMENT ON FUNCTION engram.whoami() IS
'How the server sees the caller: user id, the source (jwt, setting, role) and subject it came from, role, workspaces, and what is wrong when there is no id.';

CREATE FUNCTION engram_internal.versions()
RETURNS TABLE (engram text, library text, vector text, postgres text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram'), engram_internal.library_version(),
         (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'vector'), current_setting('server_version');
END
$$;
COMMENT ON FUNCTION engram_internal.versions() IS 'version(), for whoever owns the tables.';

CREATE FUNCTION engram.version()
RETURNS TABLE (engram text, library text, vector text, postgres text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY SELECT * FROM engram_internal.versions();
END
$$;
COMMENT ON FUNCTION engram.version() IS
'Versions: of the SQL objects, of the loaded library (which may be newer until ALTER EXTENSION engram UPDATE), of pgvector and of PostgreSQL.';

CREATE FUNCTION engram.reindex(workspace uuid DEFAULT NULL) RETURNS bigint
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
COMMENT ON FUNCTION engram.reindex(uuid) IS
'Rebuilds what search scans, for one workspace or (NULL) all, and returns how many entries were wrong; what erased memories left there goes too, and is not wrong. For the owner of the tables: after a change of PostgreSQL''s major version (stemmers change) or of text_config in engram.settings, and after rows were loaded with triggers disabled.

Others cannot store memories until its transaction ends.';

CREATE FUNCTION engram_internal.fresh_entries(workspace uuid, model text) RETURNS TABLE (id uuid, entry bytea)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  IF fresh_entries.model = '' THEN
    RETURN QUERY
    SELECT m.id, engram_internal.document(m.id, 0, 'plain', m.session_id, coalesce(m.occurred_at, m.created_at),
             c.config, m.content, m.speaker, m.occurred_at, m.summary)
    FROM engram.memories m, (SELECT engram_internal.text_config(fresh_entries.workspace) AS config) c
    WHERE m.workspace_id = fresh_entries.workspace AND m.deleted_at IS NULL;
  ELSE
    RETURN QUERY
    SELECT e.memory_id, engram_internal.vector_entry(e.memory_id, 0, 'plain', e.embedding)
    FROM engram.embeddings e
    WHERE e.workspace_id = fresh_entries.workspace AND e.model = fresh_entries.model;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.fresh_entries(uuid, text) IS
'What the blocks of a workspace should hold: the words of its memories (model empty) or the vectors of one model. As the caller.';

CREATE FUNCTION engram_internal.reindex(workspace uuid, model text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- While a dump is loaded or the extension updated, rows that look like a dump's are left out.
SET check_function_bodies = on
AS $$
DECLARE
  wrong  bigint;
  erased uuid[];
BEGIN
  BEGIN
    -- Erased where nothing could be packed: what these said may still lie there, dead, in vectors of other models too.
    erased := ARRAY(
      SELECT DISTINCT e.id FROM engram.search_blocks b CROSS JOIN LATERAL engram_internal.block_entries(b.block) e
      WHERE b.workspace_id = workspace AND b.model = reindex.model AND b.level = 0
        AND NOT EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = workspace AND m.id = e.id));
    IF erased <> '{}' THEN
      PERFORM engram_internal.bury(workspace, reindex.model, erased, array_fill(1::bigint << 61, ARRAY[cardinality(erased)]));
    END IF;
    WITH held AS (
      SELECT e.id, e.state, e.entry, row_number() OVER (PARTITION BY e.id ORDER BY e.version DESC) AS nth,
             max(e.version) FILTER (WHERE e.state <> 'plain') OVER (PARTITION BY e.id) AS replaced
      FROM engram_internal.held_entries(workspace, reindex.model) e
    ), doubled AS (
      -- More than one entry of a memory that none of them replaces.
      SELECT count(*) AS n FROM held h WHERE h.nth > 1 AND h.replaced IS NULL
    )
    SELECT count(*) + (SELECT d.n FROM doubled d) INTO wrong
    FROM (SELECT h.id, h.entry FROM held h WHERE h.nth = 1 AND h.state <> 'gone') h
    FULL JOIN engram_internal.fresh_entries(workspace, reindex.model) r ON r.id = h.id
    WHERE h.entry IS DISTINCT FROM r.entry;
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- A block that cannot be read.
    wrong := 1;
  END;
  IF wrong > 0 OR erased <> '{}' THEN
    DELETE FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = reindex.model;
    INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
    SELECT workspace, reindex.model, CASE WHEN m.is_full THEN 2 ELSE 1 END, engram_internal.uuid_v7(), m.entries, m.block
    FROM (
      SELECT array_agg(f.entry ORDER BY f.id) AS entries
      FROM (SELECT r.id, r.entry, (row_number() OVER (ORDER BY r.id) - 1) / 1000 AS part
            FROM engram_internal.fresh_entries(workspace, reindex.model) r) f
      GROUP BY f.part
    ) p CROSS JOIN LATERAL engram_internal.merge_blocks(p.entries, true) m;
    LOOP
      EXIT WHEN engram_internal.seal(workspace, reindex.model, CASE reindex.model WHEN '' THEN 256 ELSE 1024 END, 4096) = 0;
    END LOOP;
  END IF;
  IF reindex.model = '' THEN
    -- What segments hold for filters, where rows were changed with triggers disabled: place() writes it anew.
    DELETE FROM engram.search_blocks v
    WHERE v.workspace_id = workspace AND v.model = '' AND v.level = 4 AND v.block_id >= '0d000000-0000-0000-0000-000000000000'
      AND v.cluster IN (
        SELECT h.cluster FROM engram.search_blocks h
        WHERE h.workspace_id = workspace AND h.model = '' AND h.level = 3 AND EXISTS (
          SELECT FROM engram_internal.segment_values(workspace, h.block, ARRAY(
            SELECT i.block FROM engram.search_blocks i
            WHERE i.workspace_id = workspace AND i.model = '' AND i.level = 4 AND i.cluster = h.cluster
              AND i.block_id < '02000000-0000-0000-0000-000000000000')) r
          FULL JOIN (
            SELECT x.block_id, x.block FROM engram.search_blocks x
            WHERE x.workspace_id = workspace AND x.model = '' AND x.level = 4 AND x.cluster = h.cluster
              AND x.block_id >= '0d000000-0000-0000-0000-000000000000') x ON x.block_id = r.block_id
          WHERE r.block IS DISTINCT FROM x.block));
  END IF;
  FOR i IN 1 .. 1000 LOOP
    EXIT WHEN engram_internal.place(workspace, reindex.model) = 0;
  END LOOP;
  -- Nothing tells whether cells hold what they should.
  DELETE FROM engram.search_blocks b WHERE b.workspace_id = workspace AND b.model = reindex.model AND b.level = 5;
  PERFORM engram_internal.arrange(workspace, reindex.model);
  RETURN wrong;
END
$$;
COMMENT ON FUNCTION engram_internal.reindex(uuid, text) IS
'What engram.reindex() does for the words (model empty) or the vectors of one model of one workspace.';
-- What memories were before: versions, going back to one of them, and the past as a whole. All of it reads
-- memory_events as the caller, and only of memories whose present row the caller may see.

CREATE FUNCTION engram_internal.versions(workspace uuid, id uuid)
RETURNS TABLE (version integer, action text, actor uuid, at timestamptz, state jsonb)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
-- As the events have it, which are compared with it.
SET extra_float_digits = 1
-- One plan for all workspaces, those that statistics have not seen included.
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  present jsonb;
BEGIN
  SELECT to_jsonb(m) - '{workspace_id,id,content_hash}'::text[] || jsonb_build_object('entities', ARRAY(
           SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = versions.workspace
             AND g.memory_id = versions.id AND g.relation = 'mentions' ORDER BY g.node))
  INTO present FROM engram.memories m WHERE m.workspace_id = versions.workspace AND m.id = versions.id;
  IF present IS NULL THEN
    -- Erased, or not for the caller to see: of the first the fact is left, of the second nothing is shown.
    RETURN QUERY
    SELECT e.version, e.action, e.actor, e.at, NULL::jsonb FROM engram.memory_events e
    WHERE (e.workspace_id = versions.workspace) IS TRUE AND e.memory_id = versions.id AND e.action = 'erased'
    ORDER BY e.at DESC LIMIT 1;
    RETURN;
  END IF;
  RETURN QUERY
  WITH events AS MATERIALIZED (
    SELECT x.version, x.action, x.actor, x.at, x.old FROM (
      SELECT e.*, bool_or(e.origin = 0) OVER () AS imported FROM engram.memory_events e
      WHERE (e.workspace_id = versions.workspace) IS TRUE AND e.memory_id = versions.id AND e.action <> 'erased') x
    -- An import writes for devices that it added the memory, beside what it brings.
    WHERE NOT (x.action = 'added' AND x.origin <> 0 AND (x.imported OR x.version > 1))
  )
  SELECT DISTINCT ON (s.version) s.version, coalesce(e.action, CASE WHEN s.version = 1 THEN 'added' END), e.actor,
         coalesce(e.at, (s.state ->> 'updated_at')::timestamptz), s.state
  FROM (
    SELECT (present ->> 'version')::integer AS version, present AS state
    UNION ALL
    SELECT (o.old ->> 'version')::integer, o.old FROM events o WHERE o.old IS NOT NULL) s
  LEFT JOIN events e ON e.version = s.version
  ORDER BY s.version DESC, e.at DESC;
END
$$;
COMMENT ON FUNCTION engram_internal.versions(uuid, uuid) IS
'The versions of a memory that are known, newest first, with what made each; state is the row as JSON without its keys, with entities.';

CREATE FUNCTION engram.history(id uuid, workspace uuid DEFAULT NULL)
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
COMMENT ON FUNCTION engram.history(uuid, uuid) IS
'Every version of one memory that is known, newest first, forgotten ones included; an unknown id gives no rows.

action: added, updated, forgotten, restored, superseded, unsuperseded, pinned or unpinned, by whom (actor) and when (at). changed: the columns that differ from the version before, NULL where that is not known. Versions from before the history was kept, or whose events were dropped, are missing; the present one is always there, with action NULL if what made it is not known. Of an erased memory one row is left: that it was erased, and nothing of what it said.';

CREATE FUNCTION engram.revert(
  id uuid,
  version integer,
  expected_version integer DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws       uuid := engram_internal.resolve_workspace(revert.workspace, true);
  old      record;
  past     record;
  relinked boolean;
  now_at   integer;
BEGIN
  -- Before the row, for the case that it is linked anew: who says what names mean may want that too.
  PERFORM engram_internal.lock_keys(ws, '{}');
  SELECT * INTO old FROM engram.memories m WHERE m.workspace_id = ws AND m.id = revert.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(revert.id);
  END IF;
  IF revert.expected_version <> old.version THEN
    RAISE EXCEPTION 'memory "%" is at version %, not %', revert.id, old.version, revert.expected_version
      USING ERRCODE = 'PT409', HINT = 'Somebody changed it meanwhile. Read it again with engram.get() and repeat your change.';
  END IF;
  SELECT s.* INTO past
  FROM engram_internal.versions(ws, revert.id) v
  CROSS JOIN LATERAL jsonb_to_record(v.state) AS s (
    content text, summary text, type text, importance double precision, pinned boolean, tags text[], metadata jsonb,
    entities text[], occurred_at timestamptz, valid_from timestamptz, valid_to timestamptz, expires_at timestamptz,
    speaker text, role text, session_id text, agent_id text, source text)
  WHERE v.version = revert.version;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'version % of memory "%" is not known', coalesce(revert.version::text, 'NULL'), revert.id
      USING ERRCODE = 'invalid_parameter_value',
            HINT = format('Known: %s. engram.history() shows them.',
              (SELECT string_agg(v.version::text, ', ' ORDER BY v.version) FROM engram_internal.versions(ws, revert.id) v));
  END IF;
  relinked := ARRAY(SELECT u FROM unnest(past.entities) u ORDER BY u) IS DISTINCT FROM ARRAY(
    SELECT g.label FROM engram.graph_links g
    WHERE g.workspace_id = ws AND g.memory_id = revert.id AND g.relation = 'mentions' ORDER BY g.label);
  UPDATE engram.memories m SET
    content = past.content, summary = past.summary, type = past.type, importance = past.importance, pinned = past.pinned,
    tags = past.tags, metadata = past.metadata, occurred_at = past.occurred_at, agent_id = past.agent_id,
    session_id = past.session_id, speaker = past.speaker, role = past.role, source = past.source,
    valid_from = past.valid_from, valid_to = past.valid_to, expires_at = past.expires_at,
    version = m.version + CASE WHEN relinked THEN 1 ELSE 0 END
  WHERE m.workspace_id = ws AND m.id = revert.id
  RETURNING m.version INTO now_at;
  IF relinked THEN
    DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = revert.id AND g.relation = 'mentions';
    PERFORM engram_internal.link_entities(ws, revert.id, past.entities);
  END IF;
  RETURN now_at;
END
$$;
COMMENT ON FUNCTION engram.revert(uuid, integer, integer, uuid) IS
'Makes a new version of one memory that says what an earlier one said, and returns its number; the versions between stay in the history. When nothing differs there is no new version.

Content, summary, type, importance, pin, tags, metadata, entities, times and origin come back as they were. Whether it is forgotten, superseded or contradicted stays as it is: see restore(), unsupersede(), uncontradict(). expected_version: refuse (PT409) unless the memory is still at that version. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram_internal.check_as_of(as_of timestamptz) RETURNS void
LANGUAGE c STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'check_as_of_wrapper';
COMMENT ON FUNCTION engram_internal.check_as_of(timestamptz) IS 'Raises the error for a moment of which nothing is known yet, or any more; NULL passes.';

CREATE FUNCTION engram_internal.memories_as_of(workspace uuid, as_of timestamptz, ids uuid[])
RETURNS TABLE (
  workspace_id uuid, id uuid, user_id uuid, agent_id text, session_id text, speaker text, role text, content text,
  summary text, type text, importance double precision, layer text, pinned boolean, tags text[], metadata jsonb,
  source text, occurred_at timestamptz, valid_from timestamptz, valid_to timestamptz, superseded_by uuid,
  contradicts uuid[], contradicted_by uuid[], expires_at timestamptz, deleted_at timestamptz, version integer,
  created_at timestamptz, updated_at timestamptz, entities text[])
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  -- The first change after the moment has the row as it was then; what nobody has changed since is as it is. Since when
  -- it is there created_at says, also where an import added it later.
  RETURN QUERY
  SELECT p.workspace_id, p.id, p.user_id,
    CASE WHEN e.old IS NULL THEN p.agent_id ELSE o.agent_id END,
    CASE WHEN e.old IS NULL THEN p.session_id ELSE o.session_id END,
    CASE WHEN e.old IS NULL THEN p.speaker ELSE o.speaker END,
    CASE WHEN e.old IS NULL THEN p.role ELSE o.role END,
    CASE WHEN e.old IS NULL THEN p.content ELSE o.content END,
    CASE WHEN e.old IS NULL THEN p.summary ELSE o.summary END,
    CASE WHEN e.old IS NULL THEN p.type ELSE o.type END,
    CASE WHEN e.old IS NULL THEN p.importance ELSE o.importance END,
    CASE WHEN e.old IS NULL THEN p.layer ELSE o.layer END,
    CASE WHEN e.old IS NULL THEN p.pinned ELSE o.pinned END,
    CASE WHEN e.old IS NULL THEN p.tags ELSE o.tags END,
    CASE WHEN e.old IS NULL THEN p.metadata ELSE o.metadata END,
    CASE WHEN e.old IS NULL THEN p.source ELSE o.source END,
    CASE WHEN e.old IS NULL THEN p.occurred_at ELSE o.occurred_at END,
    CASE WHEN e.old IS NULL THEN p.valid_from ELSE o.valid_from END,
    CASE WHEN e.old IS NULL THEN p.valid_to ELSE o.valid_to END,
    CASE WHEN e.old IS NULL THEN p.superseded_by ELSE o.superseded_by END,
    CASE WHEN e.old IS NULL THEN p.contradicts ELSE o.contradicts END,
    CASE WHEN e.old IS NULL THEN p.contradicted_by ELSE o.contradicted_by END,
    CASE WHEN e.old IS NULL THEN p.expires_at ELSE o.expires_at END,
    CASE WHEN e.old IS NULL THEN p.deleted_at ELSE o.deleted_at END,
    CASE WHEN e.old IS NULL THEN p.version ELSE o.version END,
    p.created_at,
    CASE WHEN e.old IS NULL THEN p.updated_at ELSE o.updated_at END,
    CASE WHEN e.old IS NULL THEN ARRAY(
           SELECT g.label FROM engram.graph_links g WHERE g.workspace_id = memories_as_of.workspace
             AND g.memory_id = u.id AND g.relation = 'mentions' ORDER BY g.node)
         ELSE o.entities END
  FROM unnest(memories_as_of.ids) AS u (id)
  CROSS JOIN LATERAL (
    SELECT x.* FROM engram.memories x
    WHERE x.workspace_id = memories_as_of.workspace AND x.id = u.id AND x.created_at <= memories_as_of.as_of OFFSET 0) p
  LEFT JOIN LATERAL (
    SELECT x.old FROM engram.memory_events x
    WHERE (x.workspace_id = memories_as_of.workspace) IS TRUE AND x.memory_id = u.id AND x.at > memories_as_of.as_of
      AND x.old IS NOT NULL
    ORDER BY x.version LIMIT 1) e ON true
  LEFT JOIN LATERAL jsonb_to_record(e.old) AS o (
    agent_id text, session_id text, speaker text, role text, content text, summary text, type text,
    importance double precision, layer text, pinned boolean, tags text[], metadata jsonb, source text,
    occurred_at timestamptz, valid_from timestamptz, valid_to timestamptz, superseded_by uuid, contradicts uuid[],
    contradicted_by uuid[], expires_at timestamptz, deleted_at timestamptz, version integer, updated_at timestamptz,
    entities text[]) ON true;
END
$$;
COMMENT ON FUNCTION engram_internal.memories_as_of(uuid, timestamptz, uuid[]) IS
'Memories as they were recorded at a moment, of those that the caller may see now; one that was not stored yet has no row. Forgotten ones are included. layer is the one last shown by a consolidation.';

CREATE FUNCTION engram_internal.older(workspace uuid, before timestamptz, before_id uuid, at_most integer,
  OUT ids uuid[], OUT last_at timestamptz, OUT last_id uuid)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
-- In the order of memories_created_idx. To a workspace that statistics have not seen, reading all of it and
-- sorting would look as good.
SET enable_sort = off
SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
  m record;
BEGIN
  ids := '{}';
  FOR m IN
    SELECT x.id, x.created_at FROM engram.memories x
    WHERE x.workspace_id = workspace AND (x.created_at, x.id) < (before, before_id)
    ORDER BY x.created_at DESC, x.id DESC LIMIT at_most
  LOOP
    ids := ids || m.id;
    last_at := m.created_at;
    last_id := m.id;
  END LOOP;
  IF cardinality(ids) < at_most THEN
    last_at := NULL;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.older(uuid, timestamptz, uuid, integer) IS
'The next memories, newest first, that were stored before one; last_at is NULL when there are no more.';

CREATE FUNCTION engram_internal.state_as_of(workspace uuid, as_of timestamptz, ids uuid[])
RETURNS TABLE (memory_id uuid, layer text, access_count bigint, last_accessed_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  params double precision[] := engram_internal.dynamics_over_time(state_as_of.workspace);
BEGIN
  -- State that no later use has changed is still there; else it is made again from the log of uses.
  RETURN QUERY
  SELECT m.id, f.layer, f.access_count, f.last_accessed_at
  FROM engram_internal.memories_as_of(state_as_of.workspace, state_as_of.as_of, state_as_of.ids) m
  LEFT JOIN LATERAL (
    SELECT x.* FROM engram.memory_state x
    WHERE x.workspace_id = state_as_of.workspace AND x.memory_id = m.id AND x.last_accessed_at <= state_as_of.as_of OFFSET 0) s ON true
  CROSS JOIN LATERAL (
    SELECT array_agg(c.id) AS calls, array_agg(c.accessed_at) AS times, array_agg(c.gain) AS gains, array_agg(c.rating) AS ratings
    FROM (
      SELECT l.id, l.accessed_at, l.gain, l.rating FROM engram.access_log l
      WHERE s.memory_id IS NULL AND l.workspace_id = state_as_of.workspace AND l.memory_id = m.id
        AND l.accessed_at <= state_as_of.as_of AND (l.gain <> 0 OR l.rating IS NOT NULL)
      UNION ALL
      SELECT q.id, q.accessed_at, q.gain, q.rating FROM engram.access_queue q
      WHERE q.workspace_id = state_as_of.workspace AND m.id = ANY (q.memory_ids)
        AND q.accessed_at <= state_as_of.as_of AND (q.gain <> 0 OR q.rating IS NOT NULL)) c) u
  CROSS JOIN LATERAL engram_internal.state_at(params, m.type, m.importance, m.pinned,
    m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, s.access_count,
    s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer, s.stability, s.difficulty,
    s.base, u.calls, u.times, u.gains, u.ratings, NULL, state_as_of.as_of, false) f;
END
$$;
COMMENT ON FUNCTION engram_internal.state_as_of(uuid, timestamptz, uuid[]) IS
'How memories stood at a moment, by the uses until then that are still in the log.';
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
-- Caring for memories: layers as time has moved them, links that have faded, forgetting by policy; and the
-- settings that all of it follows.

CREATE FUNCTION engram_internal.moves(workspace uuid, at timestamptz, at_most integer, in_turns boolean, anew boolean)
RETURNS TABLE (workspaces uuid[], ids uuid[], olds text[], news text[], complete boolean)
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'moves_wrapper';
COMMENT ON FUNCTION engram_internal.moves(uuid, timestamptz, integer, boolean, boolean) IS
'Memories that are in another layer at a moment than is shown: of a workspace, or of all, at most so many; complete tells whether that was all. in_turns: for transactions that follow one another in this session, from the first (anew) to the one that is complete: where many rows of the same pages move, or more than fit, each takes only some of a page. Who calls it must own the tables.';

CREATE FUNCTION engram_internal.left_out(workspace uuid, state text, message text, help text) RETURNS boolean
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
COMMENT ON FUNCTION engram_internal.left_out(uuid, text, text, text) IS
'Whether an error is of what a workspace holds, so that the others are consolidated without it; if one is named, with a warning.';

CREATE FUNCTION engram_internal.forget_faded(workspace uuid, at timestamptz, dry_run boolean, at_most integer, in_turns boolean)
RETURNS TABLE (forgotten bigint, done boolean)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  here text := CASE WHEN forget_faded.workspace IS NULL THEN '' ELSE ' AND m.workspace_id = $1 AND s.workspace_id = $1' END;
BEGIN
  PERFORM engram_internal.require_maintainer();
  forgotten := 0; done := true;
  IF EXISTS (SELECT FROM engram.settings t WHERE t.forgetting) THEN
    EXECUTE
      $q$WITH doomed AS MATERIALIZED (
           SELECT m.workspace_id, m.id
           FROM engram.memories m
           JOIN engram.memory_state s ON s.workspace_id = m.workspace_id AND s.memory_id = m.id
           JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
           LEFT JOIN engram.settings w ON w.workspace_id = m.workspace_id
           CROSS JOIN LATERAL engram_internal.state_at(engram_internal.dynamics_over_time(m.workspace_id), m.type, m.importance, m.pinned,
             m.superseded_by IS NOT NULL OR coalesce(m.contradicted_by, '{}') <> '{}', m.created_at, m.layer, s.access_count,
             s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer, s.stability, s.difficulty,
             s.base, NULL, NULL, NULL, NULL, NULL, $2, false) a
           WHERE coalesce(w.forgetting, d.forgetting) AND m.deleted_at IS NULL AND NOT m.pinned
             AND greatest(s.last_accessed_at, m.updated_at) <= $2 - coalesce(w.forget_after_days, d.forget_after_days) * interval '1 day'
             AND a.idle_days >= coalesce(w.forget_after_days, d.forget_after_days)
             AND a.layer = 'archive' AND a.retention < coalesce(w.forget_threshold, d.forget_threshold)
             AND NOT EXISTS (SELECT FROM engram.access_queue q WHERE q.workspace_id = m.workspace_id AND m.id = ANY (q.memory_ids))$q$
         || here || $q$
           ORDER BY m.workspace_id, m.id LIMIT $4
         ), l AS MATERIALIZED (
           SELECT f.* FROM doomed f CROSS JOIN LATERAL (
             SELECT 1 FROM engram.memories x WHERE NOT $3 AND x.workspace_id = f.workspace_id AND x.id = f.id
               AND x.deleted_at IS NULL AND NOT x.pinned
             FOR NO KEY UPDATE SKIP LOCKED) there
         ), u AS (
           UPDATE engram.memories m SET deleted_at = $2 FROM l WHERE m.workspace_id = l.workspace_id AND m.id = l.id RETURNING 1
         )
         SELECT CASE WHEN $3 THEN (SELECT count(*) FROM doomed) ELSE (SELECT count(*) FROM u) END,
                (SELECT count(*) FROM doomed) < $4 OR $5 AND NOT EXISTS (SELECT FROM u)$q$
      INTO forgotten, done USING forget_faded.workspace, forget_faded.at, dry_run, at_most, in_turns;
  END IF;
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION engram_internal.forget_faded(uuid, timestamptz, boolean, integer, boolean) IS
'Forgets what the settings call faded, of one workspace or of all: how many, and whether those were all. in_turns: memories in other hands count as done. With the rights of the caller.';

CREATE FUNCTION engram_internal.prune_links(workspace uuid, at timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  pruned bigint;
  free   uuid[];
  ws     uuid;
  n      integer;
  young  integer;
BEGIN
  PERFORM engram_internal.require_maintainer();
  -- Who folds writes links, so a workspace that is being folded is left alone.
  IF prune_links.workspace IS NOT NULL THEN
    INSERT INTO engram.maintenance (workspace_id) VALUES (prune_links.workspace) ON CONFLICT DO NOTHING;
  END IF;
  free := ARRAY(SELECT g.workspace_id FROM engram.maintenance g
                WHERE prune_links.workspace IS NULL OR g.workspace_id = prune_links.workspace
                ORDER BY g.workspace_id FOR UPDATE SKIP LOCKED);
  WITH rules AS MATERIALIZED (
    SELECT f.workspace_id, coalesce(w.link_half_life_days, d.link_half_life_days) * 86400 AS half_life, coalesce(w.link_prune, d.link_prune) AS prune
    FROM unnest(free) AS f (workspace_id)
    JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
    LEFT JOIN engram.settings w ON w.workspace_id = f.workspace_id
  ), faded AS MATERIALIZED (
    SELECT h.workspace_id, h.a, h.b
    FROM engram.hebbian_links h JOIN rules f ON h.workspace_id = f.workspace_id
    -- Not before a call that comes to light a month late could have kept it; until then nobody sees it.
    WHERE h.linked_at < prune_links.at - interval '30 days'
      AND engram_internal.faded(h.forward + h.backward, greatest(date_part('epoch', prune_links.at - interval '30 days' - h.linked_at), 0), f.half_life) < f.prune
    -- Who erases a memory deletes its links too, and waits for this transaction elsewhere.
    FOR UPDATE OF h SKIP LOCKED
  ), old AS (
    DELETE FROM engram.hebbian_links h USING faded f
    WHERE h.workspace_id = f.workspace_id AND h.a = f.a AND h.b = f.b
    RETURNING 1)
  SELECT count(*) INTO pruned FROM old;
  -- Beyond the strongest of both its ends, those that are too young to be followed among themselves.
  FOR ws, n, young IN
    SELECT g.workspace_id, coalesce(w.link_limit, d.link_limit), coalesce(w.link_threshold, d.link_threshold) - 1 FROM engram.maintenance g
    JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
    LEFT JOIN engram.settings w ON w.workspace_id = g.workspace_id
    WHERE g.workspace_id = ANY (free) AND (g.consolidated_at IS NULL OR g.folded_at >= g.consolidated_at)
  LOOP
    WITH ends AS (
      SELECT z.node, h.a, h.b, row_number() OVER (PARTITION BY z.node, h.count <= young
        ORDER BY ln(h.forward + h.backward + 1e-300) + date_part('epoch', h.linked_at)
          * ln(2) / (SELECT coalesce(w.link_half_life_days, d.link_half_life_days) * 86400 FROM engram.settings d
                     LEFT JOIN engram.settings w ON w.workspace_id = ws
                     WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000') DESC, h.a, h.b) AS place
      FROM engram.hebbian_links h CROSS JOIN LATERAL (VALUES (h.a), (h.b)) AS z (node)
      WHERE h.workspace_id = ws
    ), weak AS MATERIALIZED (
      SELECT e.a, e.b FROM ends e WHERE e.place > n GROUP BY e.a, e.b HAVING count(*) = 2
    ), held AS MATERIALIZED (
      SELECT k.a, k.b FROM weak k CROSS JOIN LATERAL (
        SELECT 1 FROM engram.hebbian_links x WHERE x.workspace_id = ws AND x.a = k.a AND x.b = k.b
        FOR UPDATE SKIP LOCKED) there
    ), old AS (
      DELETE FROM engram.hebbian_links h USING held k WHERE h.workspace_id = ws AND h.a = k.a AND h.b = k.b RETURNING 1
    )
    SELECT pruned + count(*) INTO pruned FROM old;
  END LOOP;
  -- As long as uses are known, so is for which recalls they were: a call that is repeated changes nothing, however late.
  DELETE FROM engram.recall_credits c USING unnest(free) AS f (workspace_id)
  WHERE c.workspace_id = f.workspace_id AND c.created_at < (
    SELECT engram_internal.earlier(now(), greatest(d.access_log_days, 90) * interval '1 day') FROM engram.settings d
    WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000' AND d.access_log_days IS NOT NULL);
  UPDATE engram.maintenance g SET consolidated_at = now() WHERE g.workspace_id = ANY (free);
  RETURN pruned;
END
$$;
COMMENT ON FUNCTION engram_internal.prune_links(uuid, timestamptz) IS
'Deletes links that have faded or are beyond the strongest of both their ends, and old credits, of one workspace or of all, which are then consolidated: how many links. With the rights of the caller.';

CREATE FUNCTION engram_internal.consolidate_as_owner(
  workspace uuid, at timestamptz, dry_run boolean, batch_size integer, in_turns boolean DEFAULT false, anew boolean DEFAULT true)
RETURNS TABLE (
  folded bigint, promoted bigint, demoted bigint, archived bigint, forgotten bigint, links_pruned bigint,
  skipped bigint, done boolean)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
-- One pass over many rows at most: joined in memory where it fits.
SET work_mem = '256MB'
AS $$
#variable_conflict use_column
DECLARE
  chunk  constant integer := 5000;
  moment timestamptz := coalesce(consolidate_as_owner.at, now());
  dry    boolean := consolidate_as_owner.dry_run IS NULL;
  most   integer := coalesce(consolidate_as_owner.batch_size, 2147483647);
  ws     uuid;
  last   uuid := '00000000-0000-0000-0000-000000000000';
  help   text;
  n      integer;
  moves  record;
  c      record;
BEGIN
  PERFORM engram_internal.require_owner('care for other workspaces', 'Call engram.consolidate().');
  IF consolidate_as_owner.dry_run THEN
    -- What becomes of memories depends on uses that wait, and of links on both: done, and taken back.
    BEGIN
      SELECT c.folded, c.promoted, c.demoted, c.archived, c.forgotten, c.links_pruned, c.skipped, c.done
      INTO folded, promoted, demoted, archived, forgotten, links_pruned, skipped, done
      FROM engram_internal.consolidate_as_owner(consolidate_as_owner.workspace, moment, NULL, consolidate_as_owner.batch_size) c;
      RAISE SQLSTATE 'EN001';
    EXCEPTION WHEN SQLSTATE 'EN001' THEN
      NULL;
    END;
    RETURN NEXT;
    RETURN;
  END IF;
  folded := 0; promoted := 0; demoted := 0; archived := 0; forgotten := 0; links_pruned := 0; skipped := 0; done := true;

  IF consolidate_as_owner.workspace IS NULL AND NOT consolidate_as_owner.in_turns THEN
    -- One look at everything is the cheapest. What one workspace holds must not keep the others from being cared for:
    -- if it fails, each by itself.
    BEGIN
      RETURN QUERY SELECT o.* FROM engram_internal.consolidate_as_owner(NULL, moment, consolidate_as_owner.dry_run, most, NULL) o;
      RETURN;
    EXCEPTION WHEN OTHERS THEN
      IF NOT engram_internal.left_out(NULL, SQLSTATE, SQLERRM, NULL) THEN
        RAISE;
      END IF;
    END;
    <<everybody>>
    LOOP
      n := 0;
      FOR ws IN SELECT w FROM engram_internal.workspaces_after(last) w LOOP
        last := ws;
        n := n + 1;
        IF promoted + demoted + archived + forgotten >= most THEN
          done := false;
          EXIT everybody;
        END IF;
        BEGIN
          SELECT * INTO c FROM engram_internal.consolidate_as_owner(
            ws, moment, consolidate_as_owner.dry_run, (most - promoted - demoted - archived - forgotten)::integer) o;
          folded := folded + c.folded; promoted := promoted + c.promoted; demoted := demoted + c.demoted;
          archived := archived + c.archived; forgotten := forgotten + c.forgotten;
          links_pruned := links_pruned + c.links_pruned; skipped := skipped + c.skipped; done := done AND c.done;
        EXCEPTION WHEN OTHERS THEN
          GET STACKED DIAGNOSTICS help = PG_EXCEPTION_HINT;
          IF NOT engram_internal.left_out(ws, SQLSTATE, SQLERRM, help) THEN
            RAISE;
          END IF;
        END;
      END LOOP;
      EXIT WHEN n = 0;
    END LOOP;
    RETURN NEXT;
    RETURN;
  END IF;

  -- Uses that wait come first: they have happened.
  FOR ws IN SELECT DISTINCT q.workspace_id FROM engram.access_queue q
            WHERE consolidate_as_owner.workspace IS NULL OR q.workspace_id = consolidate_as_owner.workspace LOOP
    LOOP
      n := engram_internal.fold_queue(ws, 10000);
      folded := folded + n;
      EXIT WHEN n < 10000;
    END LOOP;
  END LOOP;

  -- Layers. What still waits is in somebody else's hands and comes next time.
  SELECT v.* INTO moves FROM engram_internal.moves(consolidate_as_owner.workspace, moment, most,
    coalesce(consolidate_as_owner.in_turns, false), consolidate_as_owner.anew) v;
  done := moves.complete;
  IF dry THEN
    SELECT count(*) FILTER (WHERE v.new = 'core'), count(*) FILTER (WHERE v.old = 'core'),
           count(*) FILTER (WHERE v.old = 'working' AND v.new = 'archive')
    INTO promoted, demoted, archived FROM unnest(moves.olds, moves.news) AS v (old, new);
  ELSE
    FOR i IN 1 .. cardinality(moves.ids) BY chunk LOOP
      -- Whoever changes one of them just now has the last word.
      WITH t AS MATERIALIZED (
        SELECT * FROM unnest(moves.workspaces[i : i + chunk - 1], moves.ids[i : i + chunk - 1],
                             moves.olds[i : i + chunk - 1], moves.news[i : i + chunk - 1]) AS v (workspace_id, id, old, new)
      ), l AS MATERIALIZED (
        SELECT t.* FROM t CROSS JOIN LATERAL (
          SELECT 1 FROM engram.memories x
          WHERE x.workspace_id = t.workspace_id AND x.id = t.id AND x.deleted_at IS NULL AND x.layer = t.old
            AND (NOT x.pinned OR t.new = 'core')
          FOR NO KEY UPDATE SKIP LOCKED) there
      ), u AS (
        UPDATE engram.memories m SET layer = l.new, updated_at = NULL FROM l
        WHERE m.workspace_id = l.workspace_id AND m.id = l.id
        RETURNING l.old, m.layer AS new
      )
      SELECT promoted + count(*) FILTER (WHERE u.new = 'core'), demoted + count(*) FILTER (WHERE u.old = 'core'),
             archived + count(*) FILTER (WHERE u.old = 'working' AND u.new = 'archive'),
             skipped + (SELECT count(*) FROM t) - count(*)
      INTO promoted, demoted, archived, skipped FROM u;
    END LOOP;
  END IF;
  IF NOT done THEN
    IF consolidate_as_owner.in_turns THEN
      -- The last turn comes back to them.
      skipped := 0;
    END IF;
    RETURN NEXT;
    RETURN;
  END IF;

  -- Where somebody has asked for it.
  SELECT f.forgotten, f.done INTO forgotten, done
  FROM engram_internal.forget_faded(consolidate_as_owner.workspace, moment, dry, most, coalesce(consolidate_as_owner.in_turns, false)) f;
  links_pruned := engram_internal.prune_links(consolidate_as_owner.workspace, moment);
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION engram_internal.consolidate_as_owner(uuid, timestamptz, boolean, integer, boolean, boolean) IS
'What consolidate() does; without a workspace, for all. With dry_run NULL memories stay as they are and all else is done: half of a dry run. in_turns, anew: as moves() has it; with in_turns NULL, and in turns, the first error ends it, else a workspace that cannot be consolidated is left out of all with a warning. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.consolidate(
  workspace uuid DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  batch_size integer DEFAULT NULL
) RETURNS TABLE (
  folded bigint, promoted bigint, demoted bigint, archived bigint, forgotten bigint, links_pruned bigint,
  skipped bigint, done boolean)
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'consolidate_wrapper';
COMMENT ON FUNCTION engram.consolidate(uuid, timestamptz, boolean, integer) IS
'Does what time has brought about and reports it in one row: folds uses that wait, shows in memories.layer which memories have moved, forgets by policy, deletes links that faded a month ago. How often it runs changes nothing of what search, recall and every other reader see; but links that are beyond the link_limit strongest of both their ends are deleted too, and if they are used again, or a call from before comes in late, a link that was deleted begins anew.

workspace: by default the caller''s own; for a role that bypasses row security and is nobody, all of them. at: the moment that is judged by, by default now. dry_run: only report what this call would do. batch_size: move and forget at most so many memories in this call; done tells whether that was all. skipped: memories that somebody else was changing; they come next time. Of all workspaces, one that cannot be consolidated is left out with a warning that names it. See also the procedure consolidate_in_batches().';

CREATE FUNCTION engram_internal.consolidated_workspaces() RETURNS SETOF uuid
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'consolidated_workspaces_wrapper';
COMMENT ON FUNCTION engram_internal.consolidated_workspaces() IS
'The workspaces that consolidate_in_batches() goes through: for roles that bypass row security all, else the caller''s own.';

CREATE FUNCTION engram_internal.outside_transaction(name text) RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'outside_transaction_wrapper';
COMMENT ON FUNCTION engram_internal.outside_transaction(text) IS
'Raises the error of a procedure that commits and was called inside a transaction block.';

CREATE FUNCTION engram_internal.consolidate_batch(workspace uuid, at timestamptz, batch_size integer, anew boolean)
RETURNS TABLE (
  folded bigint, promoted bigint, demoted bigint, archived bigint, forgotten bigint, links_pruned bigint,
  skipped bigint, done boolean)
LANGUAGE c VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'consolidate_batch_wrapper';
COMMENT ON FUNCTION engram_internal.consolidate_batch(uuid, timestamptz, integer, boolean) IS
'A batch of consolidate_in_batches(), as moves() has it: consolidate() for a workspace that the caller may write.';

-- A procedure that commits cannot pin its search path; every name in it is qualified instead.
CREATE PROCEDURE engram.consolidate_in_batches(batch_size integer DEFAULT 1000, at timestamptz DEFAULT NULL)
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
COMMENT ON PROCEDURE engram.consolidate_in_batches(integer, timestamptz) IS
'consolidate() for every workspace that the caller may care for, with a COMMIT after each batch, so that nobody waits long for it. After a crash, call it again: what was done stays done.

batch_size: memories that one transaction moves at most; where much moves, only a few of each page of the table, so that new versions of rows stay there. What somebody else holds comes next time; a workspace among others that cannot be consolidated is left out with a warning. Call it outside a transaction block.';

CREATE FUNCTION engram_internal.change_settings(workspace uuid, changes jsonb, preset text) RETURNS jsonb
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
COMMENT ON FUNCTION engram_internal.change_settings(uuid, jsonb, text) IS
'Changes settings of a workspace and returns those in force. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.effective_settings(workspace uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT to_jsonb(d) - 'workspace_id' || coalesce(jsonb_strip_nulls(to_jsonb(w)), '{}') - 'workspace_id'
          FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = effective_settings.workspace
          WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
END
$$;
COMMENT ON FUNCTION engram_internal.effective_settings(uuid) IS 'The settings in force in a workspace.';

CREATE FUNCTION engram.configuration(workspace uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.effective_settings(engram_internal.resolve_workspace(workspace, false));
END
$$;
COMMENT ON FUNCTION engram.configuration(uuid) IS 'The settings in force in a workspace, its own before the defaults. Comments on the columns of engram.settings say what they mean.';

CREATE FUNCTION engram.configure(changes jsonb, workspace uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'configure_wrapper';
COMMENT ON FUNCTION engram.configure(jsonb, uuid) IS
'Changes settings of a workspace and returns those in force.

changes: an object of names and values, for example {"decay": 0.4, "link_half_life_days": 60}; null goes back to the default. Users set how their memories live and how they are ranked; max_content_chars, candidates, approximate_from, fold_threshold, text_config, partition_interval, partitions_ahead, access_log_days, memory_events_days, messages_days, archive_messages_days and size_limit_bytes take a role that bypasses row security, which may also name the all-zero workspace, that of the defaults; those from partition_interval on are of all workspaces together and are set there alone. Every use counts by the settings of its time, those that come late included, and uses of the same transaction by those before; from its latest use on a memory lives by the settings of now.';

CREATE FUNCTION engram.apply_preset(name text, workspace uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'apply_preset_wrapper';
COMMENT ON FUNCTION engram.apply_preset(text, uuid) IS
'Sets how memories of a workspace fade and consolidate for a kind of agent, and returns the settings in force.

name: default, chatbot (fades slowly, consolidates readily), task_agent (fades fast, keeps what is used), personal_assistant (keeps for very long), researcher (keeps nearly everything). It sets decay, mu1, mu2, alpha, promote, demote, archive, strength_gain, forget_threshold and importance_weight; configure() changes single ones afterwards.';
-- The logs by time: access_log, memory_events, messages. Each has a partition for everything before its first
-- month (_old), one for each month (or day, week, quarter, year), and a default one that catches what no month
-- covers yet, so that a missed run loses nothing. Bounds are in UTC. Whoever changes the partitions of a table
-- holds it in SHARE UPDATE EXCLUSIVE mode: nobody reads or writes differently, and only one at a time changes.

CREATE FUNCTION engram_internal.partitioned() RETURNS TABLE (parent text, key text, keep text)
LANGUAGE sql IMMUTABLE ROWS 3
SET search_path = pg_catalog, pg_temp
AS $$
  VALUES ('access_log', 'accessed_at', 'access_log_days'), ('memory_events', 'at', 'memory_events_days'),
         ('messages', 'created_at', 'messages_days')
$$;
COMMENT ON FUNCTION engram_internal.partitioned() IS
'The tables that are partitioned by time, the column that decides, and the setting that says how long they keep their rows.';

CREATE FUNCTION engram_internal.partition_bounds(parent text)
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
COMMENT ON FUNCTION engram_internal.partition_bounds(text) IS 'The partitions of a table with their bounds, oldest first; the default one, last, has none.';

CREATE FUNCTION engram_internal.partition_setting(name text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT to_jsonb(d) ->> partition_setting.name FROM engram.settings d
          WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
END
$$;
COMMENT ON FUNCTION engram_internal.partition_setting(text) IS 'A setting of the whole store, as text.';

CREATE FUNCTION engram_internal.interval_after(unit text, moment timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  -- In UTC, so that no day is longer than another and every server draws the same borders.
  SELECT (date_trunc(unit, moment AT TIME ZONE 'UTC')
          + CASE unit WHEN 'quarter' THEN interval '3 months' ELSE ('1 ' || unit)::interval END) AT TIME ZONE 'UTC'
$$;
COMMENT ON FUNCTION engram_internal.interval_after(text, timestamptz) IS 'The first border between intervals (day, week, month, quarter, year; UTC) after a moment.';

CREATE FUNCTION engram_internal.make_partition(parent text, suffix text, model text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  name text := parent || '_' || suffix;
  nth  integer := 1;
  i    record;
BEGIN
  -- A table of that name may be one that was detached.
  WHILE to_regclass('engram.' || quote_ident(name)) IS NOT NULL LOOP
    nth := nth + 1;
    name := format('%s_%s_%s', parent, suffix, nth);
  END LOOP;
  EXECUTE format('CREATE TABLE engram.%I (LIKE engram.%I INCLUDING ALL EXCLUDING INDEXES)', name, model);
  FOR i IN
    SELECT name || substr(c.relname, length(model) + 1) AS name, x.indisprimary AS is_key, x.indisunique AS is_unique,
           substring(pg_get_indexdef(x.indexrelid) FROM ' USING .*') AS body,
           (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype = 'p') AS key,
           obj_description(x.indexrelid, 'pg_class') AS comment
    FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
    WHERE x.indrelid = to_regclass('engram.' || quote_ident(model)) ORDER BY c.relname
  LOOP
    IF i.is_key THEN
      EXECUTE format('ALTER TABLE engram.%I ADD CONSTRAINT %I %s', name, i.name, i.key);
    ELSE
      EXECUTE format('CREATE %s INDEX %I ON engram.%I %s', CASE WHEN i.is_unique THEN 'UNIQUE' ELSE '' END, i.name, name, i.body);
    END IF;
    IF i.comment IS NOT NULL THEN
      EXECUTE format('COMMENT ON INDEX engram.%I IS %L', i.name, i.comment);
    END IF;
  END LOOP;
  EXECUTE format('ALTER TABLE engram.%I ENABLE ROW LEVEL SECURITY', name);
  EXECUTE format('CREATE POLICY %I ON engram.%I FOR SELECT TO public USING (workspace_id = ANY ((SELECT engram.readable_workspaces())::uuid[]))',
                 name || '_select', name);
  EXECUTE format('COMMENT ON POLICY %I ON engram.%I IS %L', name || '_select', name, 'Rows of workspaces that the caller may read.');
  RETURN name;
END
$$;
COMMENT ON FUNCTION engram_internal.make_partition(text, text, text) IS
'A table like another partition, with its indexes, not attached yet; returns its name. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.attach_partition(parent text, name text, lower_bound timestamptz, upper_bound timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
BEGIN
  EXECUTE format('ALTER TABLE engram.%I ATTACH PARTITION engram.%I FOR VALUES FROM (%s) TO (%L)', parent, name,
                 CASE WHEN lower_bound = '-infinity' THEN 'MINVALUE' ELSE quote_literal(lower_bound) END, upper_bound);
  EXECUTE format('COMMENT ON TABLE engram.%I IS %L', name,
    CASE WHEN lower_bound = '-infinity' THEN format('Rows of %s from before %s.', parent, upper_bound)
         ELSE format('Rows of %s from %s until %s.', parent, lower_bound, upper_bound) END);
END
$$;
COMMENT ON FUNCTION engram_internal.attach_partition(text, text, timestamptz, timestamptz) IS
'Makes a table a partition for a span of time, -infinity for all before. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.create_partitions_as_owner(parent text, key text, until timestamptz)
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
COMMENT ON FUNCTION engram_internal.create_partitions_as_owner(text, text, timestamptz) IS
'What create_partitions() does for one table. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.fill_partition(parent text, key text, suffix text, since timestamptz, until timestamptz)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  made text := engram_internal.make_partition(parent, suffix, parent || '_default');
BEGIN
  EXECUTE format('WITH moved AS (DELETE FROM engram.%1$I WHERE %2$I >= $1 AND %2$I < $2 RETURNING *) INSERT INTO engram.%3$I SELECT * FROM moved',
                 parent || '_default', key, made) USING since, until;
  PERFORM engram_internal.attach_partition(parent, made, since, until);
  RETURN QUERY SELECT 'engram.' || quote_ident(made), since, until;
END
$$;
COMMENT ON FUNCTION engram_internal.fill_partition(text, text, text, timestamptz, timestamptz) IS
'A new partition with the rows of its span that lie in the default one, which the caller has locked. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.rename_partition(old text, new text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  i name;
BEGIN
  EXECUTE format('ALTER TABLE engram.%I RENAME TO %I', old, new);
  FOR i IN SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
           WHERE x.indrelid = to_regclass('engram.' || quote_ident(new)) AND starts_with(c.relname::text, old) LOOP
    EXECUTE format('ALTER INDEX engram.%I RENAME TO %I', i, new || substr(i, length(old) + 1));
  END LOOP;
  FOR i IN SELECT p.polname FROM pg_policy p
           WHERE p.polrelid = to_regclass('engram.' || quote_ident(new)) AND starts_with(p.polname::text, old) LOOP
    EXECUTE format('ALTER POLICY %I ON engram.%I RENAME TO %I', i, new, new || substr(i, length(old) + 1));
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.rename_partition(text, text) IS
'Renames a table of schema engram and what is named after it. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.release_partitions_as_owner(
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
COMMENT ON FUNCTION engram_internal.release_partitions_as_owner(text, text, timestamptz, text, text, boolean) IS
'What drop_partitions() and detach_partitions() do for one table: what ends before a moment is moved to a schema, into a table, or dropped. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.administer(task text, args jsonb) RETURNS jsonb
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'administer_wrapper';
COMMENT ON FUNCTION engram_internal.administer(text, jsonb) IS
'Does a task of the whole store with the rights of its owner, for a caller that bypasses row security; 42501 for all others. task: create_partitions, release_partitions or maintain.';

CREATE FUNCTION engram_internal.observe(task text, args jsonb) RETURNS jsonb
LANGUAGE c STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'observe_wrapper';
COMMENT ON FUNCTION engram_internal.observe(text, jsonb) IS
'As administer(), for tasks that only read: health or metrics.';

CREATE FUNCTION engram_internal.partitions_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- Who waits for a table has everybody else wait behind: better to come again.
SET lock_timeout = '1s'
AS $$
#variable_conflict use_variable
DECLARE
  t      record;
  before timestamptz;
  part   jsonb;
  result jsonb := '[]';
BEGIN
  IF args ->> 'parent' IS NOT NULL AND NOT EXISTS (SELECT FROM engram_internal.partitioned() p WHERE p.parent = args ->> 'parent') THEN
    RAISE EXCEPTION 'table "%" is not one that is partitioned by time', args ->> 'parent'
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Known: ' || (SELECT string_agg(p.parent, ', ') FROM engram_internal.partitioned() p) || '.';
  END IF;
  FOR t IN SELECT p.* FROM engram_internal.partitioned() p
           WHERE to_regclass('engram.' || p.parent) IS NOT NULL AND p.parent = coalesce(args ->> 'parent', p.parent) LOOP
    BEGIN
      IF task = 'create_partitions' THEN
        SELECT coalesce(jsonb_agg(to_jsonb(c) || jsonb_build_object('parent', t.parent)), '[]') INTO part
        FROM engram_internal.create_partitions_as_owner(t.parent, t.key, (args ->> 'until')::timestamptz) c;
      ELSE
        before := engram_internal.earlier(now(), coalesce((args ->> 'older_than')::interval,
                    engram_internal.partition_setting(t.keep)::double precision * interval '1 day'));
        CONTINUE WHEN before IS NULL;
        SELECT coalesce(jsonb_agg(to_jsonb(c) || jsonb_build_object('parent', t.parent)), '[]') INTO part
        FROM engram_internal.release_partitions_as_owner(t.parent, t.key, before, args ->> 'schema', args ->> 'table',
               coalesce((args ->> 'dry_run')::boolean, false)) c;
      END IF;
    EXCEPTION WHEN lock_not_available THEN
      RAISE EXCEPTION 'table engram.% is in use, and whoever waits for it would hold everybody up', t.parent
        USING ERRCODE = 'lock_not_available', HINT = 'Nothing was changed. Call it again; maintain() tries it at every run.';
    END;
    IF part <> '[]' THEN
      -- Holding one table and waiting for another, it might be what somebody waits for who holds that:
      -- only for much less time than PostgreSQL takes to call it a deadlock.
      PERFORM set_config('lock_timeout', '50ms', true);
    END IF;
    result := result || part;
  END LOOP;
  RETURN result;
END
$$;
COMMENT ON FUNCTION engram_internal.partitions_task(text, jsonb) IS
'create_partitions and release_partitions for every table by time. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.create_partitions(until timestamptz DEFAULT NULL)
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
COMMENT ON FUNCTION engram.create_partitions(timestamptz) IS
'Makes the partitions of access_log, memory_events and messages that are missing, and returns them; lower_bound is NULL for the one that holds everything before the first. For roles that bypass row security; maintain() does it.

until: cover time until then; by default partitions_ahead intervals from now. At most 150 a table and call; what is still missing then the next call makes. Intervals are days, weeks, months (default), quarters or years in UTC: setting partition_interval. Rows that the default partition has caught meanwhile move into theirs. Others read and write on; what cannot be locked at once raises 55P03 and changes nothing.';

CREATE FUNCTION engram.drop_partitions(older_than interval DEFAULT NULL, parent text DEFAULT NULL, dry_run boolean DEFAULT NULL)
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
COMMENT ON FUNCTION engram.drop_partitions(interval, text, boolean) IS
'Drops partitions all of whose time is older, and returns them. No activation, strength or search result changes by it: what counts has been folded. history() and as_of reach no further back then, and devices that have not synchronised since get a new start. For roles that bypass row security.

older_than: by default what the settings access_log_days, memory_events_days and messages_days keep, which is everything unless they are set. parent: only this table. dry_run: only tell which.';

CREATE FUNCTION engram.detach_partitions(
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
COMMENT ON FUNCTION engram.detach_partitions(interval, text, text, text, boolean) IS
'As drop_partitions(), but keeps the rows: the partitions become tables of their own, in a schema (into_schema, by default where they are), or their rows go into a table (into_table, with the columns of parent). moved_to tells where. The owner of the tables of engram needs the right to create in that schema; the table must belong to that role or a superuser.';

CREATE FUNCTION engram_internal.earlier(moment timestamptz, age interval) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN moment - age;
EXCEPTION WHEN datetime_field_overflow THEN
  RETURN '-infinity';
END
$$;
COMMENT ON FUNCTION engram_internal.earlier(timestamptz, interval) IS 'A moment less an age of 0 or more; -infinity where no calendar reaches.';

CREATE FUNCTION engram_internal.check_at(at timestamptz) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT isfinite(at) THEN
    RAISE EXCEPTION 'at is %', at
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a moment in time, or leave it out.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_at(timestamptz) IS 'Raises the error for a moment that is infinite.';

CREATE FUNCTION engram_internal.check_age(older_than interval) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF older_than < interval '0' THEN
    RAISE EXCEPTION 'older_than is %', older_than
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an interval of 0 or more, for example ''1 year''.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_age(interval) IS 'Raises the error for an age below 0.';
-- Forgetting for real, and all care in one procedure.

CREATE FUNCTION engram_internal.check_retention(
  name text, max_age interval, max_count integer, types text[], max_importance double precision, action text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF coalesce(name, '') = '' THEN
    RAISE EXCEPTION 'name is %', CASE WHEN name IS NULL THEN 'NULL' ELSE 'empty' END
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the policy, so that it can be changed and dropped.';
  END IF;
  IF max_age IS NULL AND max_count IS NULL THEN
    RAISE EXCEPTION 'retention policy "%" has neither max_age nor max_count', name
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Say what it limits, for example max_age => ''90 days''.';
  END IF;
  IF max_age < interval '0' OR max_count < 0 THEN
    RAISE EXCEPTION 'max_age % or max_count % is below 0', max_age, max_count
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 0 or more; 0 takes all that the policy is about.';
  END IF;
  IF coalesce(action, 'forget') NOT IN ('forget', 'erase') THEN
    RAISE EXCEPTION 'unknown action "%"', action
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: forget (default), which restore() takes back, and erase.';
  END IF;
  PERFORM engram_internal.check_memory(coalesce(t, 'NULL'), NULL, NULL, NULL, NULL) FROM unnest(types) AS t;
  IF NOT max_importance BETWEEN 0 AND 1 THEN
    RAISE EXCEPTION 'max_importance % is outside 0 to 1', max_importance
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 0 (trivial) to 1 (vital), or leave it out.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_retention(text, interval, integer, text[], double precision, text) IS
'Raises the error for a retention policy that cannot be.';

CREATE FUNCTION engram.set_retention(
  name text,
  max_age interval DEFAULT NULL,
  max_count integer DEFAULT NULL,
  types text[] DEFAULT NULL,
  max_importance double precision DEFAULT NULL,
  action text DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(set_retention.workspace, true);
BEGIN
  PERFORM engram_internal.check_retention(set_retention.name, set_retention.max_age, set_retention.max_count,
    set_retention.types, set_retention.max_importance, set_retention.action);
  INSERT INTO engram.retention_policies AS p (workspace_id, name, action, types, max_importance, max_age, max_count)
  VALUES (ws, set_retention.name, coalesce(set_retention.action, 'forget'), set_retention.types, set_retention.max_importance,
          set_retention.max_age, set_retention.max_count)
  ON CONFLICT (workspace_id, name) DO UPDATE
  SET action = EXCLUDED.action, types = EXCLUDED.types, max_importance = EXCLUDED.max_importance,
      max_age = EXCLUDED.max_age, max_count = EXCLUDED.max_count;
END
$$;
COMMENT ON FUNCTION engram.set_retention(text, interval, integer, text[], double precision, text, uuid) IS
'Sets, or replaces, a retention policy of a workspace. maintain() and apply_retention() follow it.

It takes memories stored longer than max_age ago, and those beyond the newest max_count; only of these types, and of at most this importance (0 to 1), if given. Pinned memories are never taken, nor counted; forgotten ones count after all others. action: forget (default; restore() takes it back) or erase (final). engram.retention_policies lists them.';

CREATE FUNCTION engram.drop_retention(name text, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ws uuid := engram_internal.resolve_workspace(drop_retention.workspace, true);
BEGIN
  DELETE FROM engram.retention_policies p WHERE p.workspace_id = ws AND p.name = drop_retention.name;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram.drop_retention(text, uuid) IS 'Drops a retention policy. True when it was there.';

CREATE FUNCTION engram_internal.apply_retention(workspace uuid, at timestamptz, dry_run boolean, batch_size integer)
RETURNS TABLE (workspace_id uuid, policy text, action text, memories bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  p      record;
  ids    uuid[];
  moment timestamptz := coalesce(apply_retention.at, now());
  oldest timestamptz;
BEGIN
  FOR p IN SELECT r.* FROM engram.retention_policies r
           WHERE apply_retention.workspace IS NULL OR r.workspace_id = apply_retention.workspace
           ORDER BY r.workspace_id, r.name LOOP
    oldest := engram_internal.earlier(moment, p.max_age);
    ids := ARRAY(
      SELECT x.id FROM (
        SELECT m.id, m.created_at, row_number() OVER (ORDER BY m.deleted_at IS NOT NULL, m.created_at DESC, m.id DESC) AS place
        FROM engram.memories m
        WHERE m.workspace_id = p.workspace_id AND NOT m.pinned
          AND (m.deleted_at IS NULL OR p.action = 'erase')
          AND (p.types IS NULL OR m.type = ANY (p.types))
          AND (p.max_importance IS NULL OR m.importance <= p.max_importance)) x
      WHERE x.created_at < oldest OR x.place > p.max_count
      ORDER BY x.id LIMIT apply_retention.batch_size);
    workspace_id := p.workspace_id;
    policy := p.name;
    action := p.action;
    memories := cardinality(ids);
    IF NOT coalesce(apply_retention.dry_run, false) AND memories > 0 THEN
      -- Who is at work on one of them keeps it until the next time.
      ids := ARRAY(SELECT m.id FROM engram.memories m
                   WHERE m.workspace_id = p.workspace_id AND m.id = ANY (ids) AND NOT m.pinned ORDER BY m.id FOR UPDATE SKIP LOCKED);
      IF p.action = 'erase' THEN
        DELETE FROM engram.memories m WHERE m.workspace_id = p.workspace_id AND m.id = ANY (ids);
      ELSE
        UPDATE engram.memories m SET deleted_at = moment WHERE m.workspace_id = p.workspace_id AND m.id = ANY (ids) AND m.deleted_at IS NULL;
      END IF;
      GET DIAGNOSTICS memories = ROW_COUNT;
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.apply_retention(uuid, timestamptz, boolean, integer) IS
'What apply_retention() does, for one workspace or all, at most so many memories a policy. As the caller.';

CREATE FUNCTION engram.apply_retention(dry_run boolean DEFAULT NULL, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
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
COMMENT ON FUNCTION engram.apply_retention(boolean, timestamptz, uuid) IS
'Applies the retention policies of a workspace now, in the order of their names, and tells how many memories each took. maintain() does it.

dry_run: only tell how many each policy by itself would take. at: the moment by which ages are judged, by default now.';

CREATE FUNCTION engram_internal.purge(workspace uuid, older_than interval, at timestamptz, dry_run boolean, batch_size integer)
RETURNS TABLE (workspace_id uuid, id uuid, reason text, gone_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  moment timestamptz := coalesce(purge.at, now());
BEGIN
  RETURN QUERY EXECUTE
    $q$WITH doomed AS MATERIALIZED (
         SELECT m.workspace_id, m.id, CASE WHEN m.deleted_at IS NOT NULL THEN 'forgotten' ELSE 'expired' END AS reason,
                coalesce(m.deleted_at, m.expires_at) AS gone_at
         FROM engram.memories m$q$
    || CASE WHEN purge.older_than IS NULL THEN $q$
         JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
         LEFT JOIN engram.settings w ON w.workspace_id = m.workspace_id$q$ ELSE '' END
    || $q$ WHERE (m.deleted_at IS NOT NULL OR m.expires_at IS NOT NULL)
             AND coalesce(m.deleted_at, m.expires_at) <= $2$q$
    || CASE WHEN purge.older_than IS NULL THEN $q$ - coalesce(w.purge_after_days, d.purge_after_days) * interval '1 day'$q$ ELSE '' END
    || CASE WHEN purge.workspace IS NULL THEN '' ELSE ' AND m.workspace_id = $1' END
    || $q$ ORDER BY m.workspace_id, m.id LIMIT $3
       )$q$
    -- Who only asks may do so where nothing can be written or locked.
    || CASE WHEN purge.dry_run THEN $q$
       SELECT * FROM doomed ORDER BY 1, 2$q$ ELSE $q$, held AS MATERIALIZED (
         SELECT d.* FROM doomed d CROSS JOIN LATERAL (
           SELECT x.ctid FROM engram.memories x
           WHERE x.workspace_id = d.workspace_id AND x.id = d.id
             AND coalesce(x.deleted_at, x.expires_at) = d.gone_at FOR UPDATE SKIP LOCKED) there
       ), erased AS (
         DELETE FROM engram.memories m USING held h WHERE m.workspace_id = h.workspace_id AND m.id = h.id
         RETURNING h.workspace_id, h.id, h.reason, h.gone_at
       )
       SELECT * FROM erased ORDER BY 1, 2$q$ END
    USING purge.workspace, coalesce(engram_internal.earlier(moment, purge.older_than), moment), coalesce(purge.batch_size, 2147483647);
END
$$;
COMMENT ON FUNCTION engram_internal.purge(uuid, interval, timestamptz, boolean, integer) IS
'What purge() does, for one workspace or all; without an age by the settings of each. As the caller.';

CREATE FUNCTION engram.purge(
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
COMMENT ON FUNCTION engram.purge(interval, boolean, timestamptz, uuid) IS
'Erases memories of a workspace that were forgotten, or expired, longer ago than older_than, and returns them. reason: forgotten or expired; gone_at: since when. maintain() does it after purge_after_days (settings). A pin does not protect what somebody forgot or let expire.

dry_run: only tell which. at: the moment by which ages are judged, by default now.';

CREATE FUNCTION engram_internal.workspaces_after(workspace uuid) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
    WITH RECURSIVE w AS (
      (SELECT m.workspace_id FROM engram.memories m WHERE m.workspace_id > workspace ORDER BY m.workspace_id LIMIT 1)
      UNION ALL
      SELECT (SELECT m.workspace_id FROM engram.memories m WHERE m.workspace_id > w.workspace_id ORDER BY m.workspace_id LIMIT 1)
      FROM w WHERE w.workspace_id IS NOT NULL)
    SELECT w.workspace_id FROM w WHERE w.workspace_id IS NOT NULL LIMIT 100;
END
$$;
COMMENT ON FUNCTION engram_internal.workspaces_after(uuid) IS 'The next hundred workspaces that have memories, in order. As the caller.';

CREATE FUNCTION engram_internal.counted(counts jsonb, what text, more bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN counts || jsonb_build_object(what, coalesce((counts ->> what)::bigint, 0) + more);
COMMENT ON FUNCTION engram_internal.counted(jsonb, text, bigint) IS 'Counts with more of one kind.';

CREATE FUNCTION engram_internal.failed(workspace uuid, state text, message text) RETURNS jsonb
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
COMMENT ON FUNCTION engram_internal.failed(uuid, text, text) IS
'What maintain() reports of a workspace that cannot be cared for, so that the others are; an error where that is nothing of its own.';

CREATE FUNCTION engram_internal.require_maintainer() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_owner('maintain the store', 'CALL engram.maintain(); as a role that bypasses row security.');
END
$$;
COMMENT ON FUNCTION engram_internal.require_maintainer() IS 'Raises the error for a caller who does not own the tables: what maintain() does, it does as their owner.';

CREATE FUNCTION engram_internal.maintain_result(counts jsonb, done boolean, after text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN counts || jsonb_build_object('done', done) || CASE WHEN done OR after IS NULL THEN '{}' ELSE jsonb_build_object('after', after) END;
COMMENT ON FUNCTION engram_internal.maintain_result(jsonb, boolean, text) IS 'What a batch of a phase reports: counts, whether the phase is done, and otherwise where to go on.';

CREATE FUNCTION engram_internal.maintain_finish(report jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  c record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  -- What others were busy with they report themselves, and a run of some phases says nothing of the others.
  SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') AS phases,
         coalesce(jsonb_object_agg(e.key, clock_timestamp()), '{}') AS ends INTO c
  FROM jsonb_each(maintain_finish.report) e WHERE NOT e.value ? 'busy';
  -- Sizes of a day or more ago stay beside the present ones, to see what grows.
  UPDATE engram.maintenance m
  SET maintained_at = (SELECT CASE WHEN bool_and(both_.ends ? p) THEN min((both_.ends ->> p)::timestamptz) END
                       FROM unnest(engram_internal.phases()) p WHERE p <> 'arrange'),
      report = jsonb_build_object('phases', coalesce(m.report -> 'phases', '{}') || c.phases, 'ends', both_.ends, 'sizes', now_.sizes,
        'before', CASE WHEN (m.report -> 'before' ->> 'at')::timestamptz > clock_timestamp() - interval '1 day' THEN m.report -> 'before'
                       ELSE coalesce(m.report -> 'sizes', now_.sizes) END)
  FROM (SELECT engram_internal.sizes() AS sizes) now_,
       (SELECT coalesce(o.report -> 'ends', '{}') || c.ends AS ends FROM engram.maintenance o
        WHERE o.workspace_id = '00000000-0000-0000-0000-000000000000') both_
  WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_finish(jsonb) IS
'Keeps what a run of maintain() did, phase by phase, for health(). With the rights of the caller.';

CREATE FUNCTION engram_internal.maintain_partitions(phase text, last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  what   constant text := CASE phase WHEN 'partitions' THEN 'created' ELSE 'dropped' END;
  counts jsonb;
BEGIN
  PERFORM engram_internal.require_maintainer();
  -- A table at a time, so that none is held while another one is waited for.
  SELECT min(p.parent) INTO last FROM engram_internal.partitioned() p
  WHERE to_regclass('engram.' || p.parent) IS NOT NULL AND p.parent > coalesce(last, '');
  IF last IS NULL THEN
    RETURN engram_internal.maintain_result(jsonb_build_object(what, 0), true, NULL);
  END IF;
  BEGIN
    counts := jsonb_build_object(what, jsonb_array_length(engram_internal.partitions_task(
      CASE phase WHEN 'partitions' THEN 'create_partitions' ELSE 'release_partitions' END, jsonb_build_object('parent', last))));
  EXCEPTION WHEN lock_not_available THEN
    -- The next run comes soon; the other tables need not wait for it.
    counts := jsonb_build_object('in_use', last);
  END;
  RETURN engram_internal.maintain_result(counts, false, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_partitions(text, text) IS
'A table of the phases partitions and drop_partitions of maintain(): the next after this one.';

CREATE FUNCTION engram_internal.maintain_fold(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  counts jsonb := '{}';
  done   boolean := true;
  n      bigint := 0;
  ws     uuid;
BEGIN
  PERFORM engram_internal.require_maintainer();
  -- In transactions of their own: who changes a memory waits for whoever has folded its uses.
  FOR ws IN SELECT DISTINCT q.workspace_id FROM engram.access_queue q
            WHERE last IS NULL OR q.workspace_id > last::uuid ORDER BY 1 LIMIT 20 LOOP
    last := ws;
    done := false;
    BEGIN
      n := n + engram_internal.fold_queue(ws, 10000);
    EXCEPTION WHEN OTHERS THEN
      counts := engram_internal.failed(ws, SQLSTATE, SQLERRM);
    END;
  END LOOP;
  counts := counts || jsonb_build_object('folded', n);
  RETURN engram_internal.maintain_result(counts, done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_fold(text) IS 'Uses that wait, of the next twenty workspaces after this one.';

CREATE FUNCTION engram_internal.maintain_consolidate(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  batch  constant integer := 1000;
  counts jsonb := '{}';
  done   boolean := true;
  n      bigint := 0;
  ws     uuid;
  c      record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  IF last IS NULL OR last = 'turns' THEN
    -- One look at everything is the cheapest way to know; where much moves, the next batch goes on with what it found.
    BEGIN
      SELECT * INTO c FROM engram_internal.consolidate_as_owner(NULL, NULL, false, batch * 20, true, last IS NULL);
      counts := to_jsonb(c) - 'done';
      done := c.done;
      last := 'turns';
    EXCEPTION WHEN OTHERS THEN
      -- What one workspace holds must not keep the others from being cared for: each by itself.
      done := false;
      last := '00000000-0000-0000-0000-000000000000';
    END;
  ELSE
    FOR ws IN SELECT w FROM engram_internal.workspaces_after(last::uuid) w LOOP
      last := ws;
      done := false;
      BEGIN
        SELECT * INTO c FROM engram_internal.consolidate_as_owner(ws, NULL, false, NULL);
        SELECT counts || coalesce(jsonb_object_agg(e.key, coalesce((counts ->> e.key)::bigint, 0) + (e.value #>> '{}')::bigint), '{}') INTO counts
        FROM jsonb_each(to_jsonb(c) - 'done') e;
        n := n + c.promoted + c.demoted + c.archived + c.forgotten;
      EXCEPTION WHEN OTHERS THEN
        counts := counts || engram_internal.failed(ws, SQLSTATE, SQLERRM);
      END;
      EXIT WHEN n > batch * 20;
    END LOOP;
  END IF;
  RETURN engram_internal.maintain_result(counts, done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_consolidate(text) IS
'Layers, links and policies of forgetting: all workspaces at once, or one by one where one of them cannot be cared for.';

CREATE FUNCTION engram_internal.maintain_retention(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  batch  constant integer := 1000;
  counts jsonb := '{}';
  done   boolean := true;
  n      bigint := 0;
  before text;
  ws     uuid;
  c      record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  IF last IS NULL THEN
    BEGIN
      FOR c IN SELECT r.action, r.memories FROM engram_internal.apply_retention(NULL, NULL, false, batch) r LOOP
        counts := engram_internal.counted(counts, CASE c.action WHEN 'erase' THEN 'erased' ELSE 'forgotten' END, c.memories);
        done := done AND c.memories < batch;
      END LOOP;
    EXCEPTION WHEN OTHERS THEN
      -- As in maintain_consolidate(): each by itself.
      counts := '{}';
      done := false;
      last := '00000000-0000-0000-0000-000000000000';
    END;
  ELSE
    FOR ws IN SELECT DISTINCT p.workspace_id FROM engram.retention_policies p WHERE p.workspace_id > last::uuid ORDER BY 1 LIMIT 100 LOOP
      before := last;
      last := ws;
      done := false;
      BEGIN
        FOR c IN SELECT r.action, r.memories FROM engram_internal.apply_retention(ws, NULL, false, batch) r LOOP
          counts := engram_internal.counted(counts, CASE c.action WHEN 'erase' THEN 'erased' ELSE 'forgotten' END, c.memories);
          n := n + c.memories;
          IF c.memories >= batch THEN
            -- There is more.
            last := before;
          END IF;
        END LOOP;
      EXCEPTION WHEN OTHERS THEN
        counts := counts || engram_internal.failed(ws, SQLSTATE, SQLERRM);
      END;
      EXIT WHEN n >= batch;
    END LOOP;
  END IF;
  RETURN engram_internal.maintain_result(counts, done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_retention(text) IS
'Policies of retention: all workspaces at once, or one by one where one of them cannot be cared for.';

CREATE FUNCTION engram_internal.maintain_purge(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  batch  constant integer := 1000;
  counts jsonb := '{"forgotten": 0, "expired": 0}';
  done   boolean := true;
  n      bigint := 0;
  before text;
  ws     uuid;
  c      record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  IF last IS NULL THEN
    BEGIN
      SELECT count(*) FILTER (WHERE p.reason = 'forgotten') AS forgotten, count(*) FILTER (WHERE p.reason = 'expired') AS expired INTO c
      FROM engram_internal.purge(NULL, NULL, NULL, false, batch) p;
      done := c.forgotten + c.expired < batch;
      counts := to_jsonb(c);
    EXCEPTION WHEN OTHERS THEN
      -- As in maintain_consolidate(): each by itself.
      done := false;
      last := '00000000-0000-0000-0000-000000000000';
    END;
  ELSE
    FOR ws IN SELECT w FROM engram_internal.workspaces_after(last::uuid) w LOOP
      before := last;
      last := ws;
      done := false;
      BEGIN
        FOR c IN SELECT p.reason, count(*) AS memories FROM engram_internal.purge(ws, NULL, NULL, false, batch) p GROUP BY p.reason LOOP
          counts := engram_internal.counted(counts, c.reason, c.memories);
          n := n + c.memories;
        END LOOP;
        IF n >= batch THEN
          last := before;
        END IF;
      EXCEPTION WHEN OTHERS THEN
        counts := counts || engram_internal.failed(ws, SQLSTATE, SQLERRM);
      END;
      EXIT WHEN n >= batch;
    END LOOP;
  END IF;
  -- What still waits stays.
  DELETE FROM engram.embedding_claims w
  WHERE NOT EXISTS (SELECT FROM engram.embedding_models m WHERE m.name = w.model)
    OR w.claimed_until < now() AND (
      (SELECT e.memory_id FROM engram.embeddings e
       WHERE e.workspace_id = w.workspace_id AND e.memory_id = w.memory_id AND e.model = w.model OFFSET 0) IS NOT NULL
      OR (SELECT m.deleted_at FROM engram.memories m
          WHERE m.workspace_id = w.workspace_id AND m.id = w.memory_id OFFSET 0) IS NOT NULL);
  GET DIAGNOSTICS n = ROW_COUNT;
  counts := counts || jsonb_build_object('claims', n);
  RETURN engram_internal.maintain_result(counts, done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_purge(text) IS
'What was forgotten or expired for long: all workspaces at once, or one by one where one of them cannot be cared for. And claims of nobody.';

CREATE FUNCTION engram_internal.maintain_pack(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  done       boolean := true;
  n          bigint := 0;
  sealed     bigint;
  unreadable bigint := 0;
  c          record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  FOR c IN
    SELECT b.workspace_id, b.model, bool_or(b.level = 0) AS replacing FROM engram.search_blocks b
    WHERE b.level <= 3 AND b.workspace_id IN (
      -- A few full blocks may be enough for a segment. Where there are segments alone, a look now and then tells
      -- whether rows are elsewhere than they say.
      SELECT x.workspace_id FROM engram.search_blocks x
      WHERE x.level <= 3 AND (last IS NULL OR x.workspace_id > last::uuid) GROUP BY x.workspace_id
      HAVING bool_or(x.level <= 1) OR count(*) FILTER (WHERE x.level = 2) >= 8
        OR random() * 20 < 1
      ORDER BY x.workspace_id LIMIT 100)
    GROUP BY b.workspace_id, b.model ORDER BY b.workspace_id
  LOOP
    IF c.replacing THEN
      n := n + engram_internal.pack(c.workspace_id, c.model, true, 1);
      IF EXISTS (SELECT FROM engram.search_blocks b WHERE b.workspace_id = c.workspace_id AND b.model = c.model AND b.level = 0) THEN
        -- Somebody else packs, or something cannot be read.
        BEGIN
          PERFORM FROM engram_internal.held_entries(c.workspace_id, c.model);
        EXCEPTION WHEN object_not_in_prerequisite_state THEN
          unreadable := unreadable + 1;
        END;
      END IF;
    END IF;
    n := n + engram_internal.pack(c.workspace_id, c.model, false, 2);
    LOOP
      -- Fewer than what is sealed while memories are added: nobody waits for it.
      sealed := engram_internal.seal(c.workspace_id, c.model, 256, 4096);
      EXIT WHEN sealed = 0;
      n := n + sealed;
    END LOOP;
    -- After VACUUM FULL, and in a dump that was loaded, rows are elsewhere.
    FOR i IN 1 .. 1000 LOOP
      EXIT WHEN engram_internal.place(c.workspace_id, c.model) = 0;
    END LOOP;
    last := c.workspace_id;
    done := false;
  END LOOP;
  RETURN engram_internal.maintain_result(
    jsonb_build_object('blocks', n) || CASE WHEN unreadable > 0 THEN jsonb_build_object('unreadable', unreadable) ELSE '{}' END, done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_pack(text) IS 'What search scans, of the next hundred workspaces after this one.';

CREATE FUNCTION engram_internal.maintain_arrange(last text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  done     boolean := true;
  arranged bigint := 0;
  c        record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  -- One a transaction, last of all: it takes seconds where there are hundreds of thousands of vectors.
  FOR c IN SELECT x.workspace_id, x.model, x.workspace_id || ' ' || x.model AS name FROM engram_internal.arrangeable() x LOOP
    CONTINUE WHEN c.name <= last COLLATE "C";
    arranged := engram_internal.arrange(c.workspace_id, c.model);
    last := c.name;
    done := arranged = 0;
    EXIT WHEN NOT done;
  END LOOP;
  RETURN engram_internal.maintain_result(jsonb_build_object('arranged', arranged), done, last);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_arrange(text) IS 'The vectors of the next large workspace that is worth it.';

CREATE FUNCTION engram_internal.maintain_messages() RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  days constant double precision := engram_internal.partition_setting('archive_messages_days');
  c    record;
BEGIN
  PERFORM engram_internal.require_maintainer();
  IF days IS NULL THEN
    RETURN engram_internal.maintain_result('{"archived": 0}', true, NULL);
  END IF;
  SELECT a.archived, a.skipped, a.done INTO c
  FROM engram_internal.archive_messages_as_owner(NULL, days * interval '1 day', 50, false, 100) a;
  RETURN engram_internal.maintain_result(jsonb_build_object('archived', c.archived, 'skipped', c.skipped), c.done, NULL);
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_messages() IS 'Old turns of a hundred quiet conversations, where archive_messages_days is set.';

CREATE FUNCTION engram_internal.maintain_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
DECLARE
  phase constant text := args ->> 'phase';
  last  constant text := args ->> 'after';
BEGIN
  PERFORM engram_internal.require_maintainer();
  INSERT INTO engram.maintenance (workspace_id) VALUES ('00000000-0000-0000-0000-000000000000') ON CONFLICT DO NOTHING;
  IF phase = 'finish' THEN
    PERFORM engram_internal.maintain_finish(args -> 'report');
    RETURN engram_internal.maintain_result('{}', true, NULL);
  END IF;
  -- Two that maintain at once take turns by batches; none waits, and no lock outlives its transaction. A row
  -- and no advisory lock: those anybody may take.
  PERFORM FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000' FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN engram_internal.maintain_result('{"busy": true}', true, NULL);
  END IF;
  CASE phase
    WHEN 'partitions', 'drop_partitions' THEN RETURN engram_internal.maintain_partitions(phase, last);
    WHEN 'fold' THEN RETURN engram_internal.maintain_fold(last);
    WHEN 'consolidate' THEN RETURN engram_internal.maintain_consolidate(last);
    WHEN 'retention' THEN RETURN engram_internal.maintain_retention(last);
    WHEN 'purge' THEN RETURN engram_internal.maintain_purge(last);
    WHEN 'messages' THEN RETURN engram_internal.maintain_messages();
    WHEN 'pack' THEN RETURN engram_internal.maintain_pack(last);
    WHEN 'arrange' THEN RETURN engram_internal.maintain_arrange(last);
    ELSE
      RAISE EXCEPTION 'unknown phase "%"', phase
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Known: ' || array_to_string(engram_internal.phases(), ', ') || '.';
  END CASE;
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_task(text, jsonb) IS
'A batch of a phase of maintain(): counts, whether the phase is done, and otherwise where to go on. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.phases() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY['partitions', 'fold', 'consolidate', 'retention', 'purge', 'messages', 'pack', 'drop_partitions', 'arrange']
$$;
COMMENT ON FUNCTION engram_internal.phases() IS 'What maintain() does, in order.';

CREATE FUNCTION engram_internal.maintain_step(phase text, after text, so_far jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  step   jsonb;
  result jsonb := coalesce(so_far, '{}');
BEGIN
  PERFORM engram_internal.require_administrator();
  IF (phase = ANY (engram_internal.phases())) IS NOT TRUE THEN
    RAISE EXCEPTION 'unknown phase "%"', coalesce(phase, 'NULL')
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: ' || array_to_string(engram_internal.phases(), ', ') || '.';
  END IF;
  BEGIN
    step := engram_internal.administer('maintain', jsonb_build_object('phase', phase, 'after', after));
  EXCEPTION WHEN OTHERS THEN
    -- One phase that fails must not keep the others from being done.
    step := jsonb_build_object('done', true, 'error', SQLERRM);
  END;
  SELECT result || coalesce(jsonb_object_agg(e.key, CASE WHEN jsonb_typeof(e.value) = 'number'
           THEN to_jsonb(coalesce((result ->> e.key)::numeric, 0) + (e.value #>> '{}')::numeric) ELSE e.value END), '{}')
  INTO result FROM jsonb_each(step - 'after') e;
  IF step ? 'after' THEN
    result := result || jsonb_build_object('after', step -> 'after');
  ELSE
    result := result - 'after';
  END IF;
  RETURN result;
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_step(text, text, jsonb) IS
'Does one batch of a phase and adds its counts to those so far.';

-- A procedure that commits cannot pin its search path; every name in it is qualified instead.
CREATE PROCEDURE engram.maintain(phases text[] DEFAULT NULL, INOUT report jsonb DEFAULT NULL)
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
COMMENT ON PROCEDURE engram.maintain(text[], jsonb) IS
'Does all that time asks for, of all workspaces, and reports what each phase did: partitions (made ahead), fold (uses that wait), consolidate (layers moved, faded links pruned, memories forgotten by policy), retention (policies applied), purge (what was forgotten or expired for long erased, by purge_after_days), messages (old turns of quiet conversations archived, by archive_messages_days; the last 50 stay), pack (what search scans packed; unreadable: of how many workspaces and models it cannot be, which keeps what was erased until reindex()), drop_partitions (logs older than their settings keep), arrange (vectors of large workspaces put together with those that are alike; approximate_from in engram.settings).

Every batch is a transaction of its own, so nobody waits long (while the vectors of one workspace are arranged, a second for 100,000, what it adds is not packed); cancelled or crashed, it goes on where it was when called again. While another session does a batch, a phase is reported as busy and left to it; a phase that fails reports its error and does not keep the others from running. On a standby it does nothing. For roles that bypass row security; outside a transaction block (else 25001). phases: only these. See also schedule_maintenance().';

CREATE FUNCTION engram_internal.require_administrator() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_store();
  IF NOT engram_internal.trusted() THEN
    RAISE EXCEPTION 'role "%" may not do this: it concerns the memories of all users', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call it as a role that bypasses row security, such as the owner of the tables.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.require_administrator() IS 'Raises the error for a caller whom row level security binds.';

CREATE FUNCTION engram.schedule_maintenance(schedule text DEFAULT '*/10 * * * *') RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  job bigint;
BEGIN
  PERFORM engram_internal.require_administrator();
  IF to_regprocedure('cron.schedule(text, text, text)') IS NULL THEN
    RAISE EXCEPTION 'pg_cron is not in database "%"', current_database()
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'CREATE EXTENSION pg_cron, if the server has it for this database; or have any scheduler run CALL engram.maintain(), or set engram.worker_databases.';
  END IF;
  EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job USING 'engram-maintain', coalesce(schedule, '*/10 * * * *'), 'CALL engram.maintain()';
  RETURN job;
END
$$;
COMMENT ON FUNCTION engram.schedule_maintenance(text) IS
'Has pg_cron call maintain() as the role that calls this, under the job name engram-maintain, and returns the job''s number. Calling it again changes the schedule.

schedule: as cron writes it, by default every ten minutes. unschedule_maintenance() ends it.';

CREATE FUNCTION engram.unschedule_maintenance() RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  there boolean;
BEGIN
  PERFORM engram_internal.require_administrator();
  IF to_regprocedure('cron.unschedule(text)') IS NULL THEN
    RETURN false;
  END IF;
  EXECUTE 'SELECT EXISTS (SELECT FROM cron.job WHERE jobname = $1 AND username = current_user)' INTO there USING 'engram-maintain';
  IF there THEN
    EXECUTE 'SELECT cron.unschedule($1)' USING 'engram-maintain';
  END IF;
  RETURN there;
END
$$;
COMMENT ON FUNCTION engram.unschedule_maintenance() IS 'Ends what schedule_maintenance() began. True when there was a job of the caller''s.';
-- How the store is: for people, for alarms, for Prometheus.

CREATE FUNCTION engram_internal.store_tables() RETURNS TABLE (relid regclass, name text, parent text)
LANGUAGE plpgsql STABLE ROWS 30
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Partitions that were detached are nobody's concern any more; so are tables that the user has added.
  RETURN QUERY
  SELECT c.oid::regclass, c.relname::text, coalesce((SELECT p.relname::text FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
                                                     WHERE i.inhrelid = c.oid), c.relname::text)
  FROM pg_class c
  WHERE c.relnamespace = 'engram'::regnamespace AND c.relkind IN ('r', 'p')
    AND (c.relispartition OR c.relname = ANY (engram_internal.store_table_names()))
  ORDER BY c.relname;
END
$$;
COMMENT ON FUNCTION engram_internal.store_tables() IS 'The tables of the store and their partitions.';

CREATE FUNCTION engram_internal.store_table_names() RETURNS text[]
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'store_table_names_wrapper';
COMMENT ON FUNCTION engram_internal.store_table_names() IS 'The names of the tables that setup() makes.';

CREATE FUNCTION engram_internal.sizes() RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object('at', clock_timestamp(), 'database', pg_database_size(current_database()),
    'tables', (SELECT jsonb_object_agg(x.parent, x.bytes)
               FROM (SELECT t.parent, sum(pg_total_relation_size(t.relid)) AS bytes FROM engram_internal.store_tables() t GROUP BY t.parent) x));
END
$$;
COMMENT ON FUNCTION engram_internal.sizes() IS 'Bytes of the database and of each table of the store with its partitions and indexes.';

CREATE FUNCTION engram_internal.alerts()
RETURNS TABLE (level text, code text, subject text, message text, hint text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
  care   record;
  t      record;
  filled boolean;
  size   bigint := pg_database_size(current_database());
  limit_ bigint := engram_internal.partition_setting('size_limit_bytes')::bigint;
  unit   text := coalesce(engram_internal.partition_setting('partition_interval'), 'month');
  latest timestamptz;
  n      bigint;
  names  text;
BEGIN
  IF size >= 0.75 * limit_ THEN
    RETURN QUERY SELECT CASE WHEN size >= 0.9 * limit_ THEN 'critical' ELSE 'warning' END, 'database_size', current_database()::text,
      format('the database has %s, %s %% of its limit of %s', pg_size_pretty(size), round(100.0 * size / limit_), pg_size_pretty(limit_)),
      'Drop old partitions, purge what is forgotten, set retention policies; or raise size_limit_bytes in engram.settings.';
  END IF;

  SELECT m.maintained_at, m.report INTO care FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
  IF care.maintained_at IS NULL OR care.maintained_at < now() - interval '1 day' THEN
    RETURN QUERY SELECT CASE WHEN care.maintained_at < now() - interval '7 days' THEN 'critical' ELSE 'warning' END,
      'maintenance_overdue', NULL::text,
      CASE WHEN care.maintained_at IS NULL THEN 'maintain() has never come to its end' ELSE format('maintain() last ran at %s', care.maintained_at) END,
      'CALL engram.maintain(); and have it called every ten minutes or so: engram.schedule_maintenance(), engram.worker_databases, or any scheduler.';
  END IF;
  FOR t IN SELECT e.key, e.value FROM jsonb_each(care.report -> 'phases') e WHERE e.value ? 'error' LOOP
    RETURN QUERY SELECT 'warning', 'maintenance_failed', t.key, format('phase %s of maintain() failed: %s', t.key, t.value ->> 'error'),
      'Mend the cause and CALL engram.maintain(); again.';
  END LOOP;
  FOR t IN SELECT e.key AS name, e.value::numeric AS was, coalesce((SELECT sum(pg_total_relation_size(s.relid)) FROM engram_internal.store_tables() s WHERE s.parent = e.key), 0) AS is_now,
                  greatest(date_part('epoch', now() - (care.report -> 'before' ->> 'at')::timestamptz) / 86400, 1) AS days
           FROM jsonb_each_text(care.report -> 'before' -> 'tables') e LOOP
    IF t.is_now - t.was > 1e9 * t.days AND t.is_now > 1.25 * t.was THEN
      RETURN QUERY SELECT 'warning', 'table_growth', t.name,
        format('table engram.%s grew from %s to %s since %s', t.name, pg_size_pretty(t.was), pg_size_pretty(t.is_now), care.report -> 'before' ->> 'at'),
        'See who writes: engram.stats() of the workspaces; set retention policies or drop old partitions.';
    END IF;
  END LOOP;

  FOR t IN SELECT p.parent, p.key FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL LOOP
    latest := (SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(t.parent) b);
    IF latest IS NULL OR latest <= engram_internal.interval_after(unit, now()) THEN
      RETURN QUERY SELECT CASE WHEN latest > now() THEN 'warning' ELSE 'critical' END, 'partitions_missing', t.parent,
        format('table engram.%s has no partition for the time from %s', t.parent, coalesce(latest::text, 'now')),
        'SELECT engram.create_partitions(); or CALL engram.maintain(); regularly. Until then its default partition takes the rows.';
    END IF;
    filled := false;
    IF NOT EXISTS (SELECT FROM engram_internal.partition_bounds(t.parent) b WHERE b.is_default) THEN
      RETURN QUERY SELECT 'critical', 'default_partition_missing', t.parent, format('table engram.%s has no default partition', t.parent),
        'Rows of times that no partition covers would be refused. '
        || CASE WHEN to_regclass('engram.' || quote_ident(t.parent || '_default')) IS NULL THEN 'Run as the owner of the tables: SELECT engram.setup();'
                ELSE format('ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT;', t.parent, t.parent || '_default') END;
    ELSE
      EXECUTE format('SELECT EXISTS (SELECT FROM engram.%I WHERE %I < $1)', t.parent || '_default', t.key) INTO filled USING greatest(latest, now());
      IF NOT filled THEN
        -- What is dated later than all partitions may wait there: any user's message may be.
        EXECUTE format('SELECT max(%I) FROM engram.%I', t.key, t.parent || '_default') INTO latest;
        IF latest IS NOT NULL THEN
          RETURN QUERY SELECT 'info', 'default_partition_not_empty', t.parent, format('table engram.%s_default has rows of the future, until %s', t.parent, latest),
            'They wait there until their time comes.'
            || CASE WHEN latest < now() + interval '50 years' THEN format(' SELECT engram.create_partitions(%L); moves them at once.', latest) ELSE '' END;
        END IF;
      END IF;
    END IF;
    IF filled THEN
      RETURN QUERY SELECT 'warning', 'default_partition_not_empty', t.parent, format('table engram.%s_default has rows', t.parent),
        'SELECT engram.create_partitions(); moves them where they belong.';
    END IF;
  END LOOP;

  n := (SELECT count(*) FROM (SELECT FROM engram.access_queue LIMIT 100001) q);
  IF n > 100000 THEN
    RETURN QUERY SELECT 'warning', 'uses_waiting', 'access_queue', 'more than 100000 calls wait to be folded', 'CALL engram.maintain();';
  END IF;
  FOR t IN SELECT b.workspace_id, count(*) AS n FROM engram.search_blocks b WHERE b.level <= 1
           GROUP BY b.workspace_id HAVING count(*) > 500 ORDER BY 2 DESC LIMIT 3 LOOP
    RETURN QUERY SELECT 'warning', 'unpacked', t.workspace_id::text, format('search reads %s unpacked blocks in workspace %s', t.n, t.workspace_id), 'CALL engram.maintain();';
  END LOOP;

  IF (care.report #>> '{phases,pack,unreadable}')::numeric > 0 THEN
    RETURN QUERY SELECT 'warning', 'unreadable', 'search_blocks',
      format('maintain() could not read what search scans of %s workspaces and models: what was erased there stays in it', care.report #>> '{phases,pack,unreadable}'),
      'As the owner of the tables: SELECT engram.reindex(); then CALL engram.maintain();';
  END IF;
  -- The id of a block begins with the milliseconds since 1970.
  FOR t IN SELECT b.workspace_id, min(b.block_id::text) AS first FROM engram.search_blocks b
           WHERE b.level = 0 AND b.block_id < rpad(lpad(to_hex((extract(epoch FROM now() - interval '1 day') * 1000)::bigint), 12, '0'), 32, '0')::uuid
           GROUP BY b.workspace_id ORDER BY 2 LIMIT 3 LOOP
    RETURN QUERY SELECT 'warning', 'erased_waiting', t.workspace_id::text,
      format('what was changed or erased in workspace %s more than a day ago waits to be taken out of what search scans', t.workspace_id),
      format('Search leaves it out already. CALL engram.maintain(); or, as the owner of the tables: SELECT engram.reindex(%L);', t.workspace_id);
  END LOOP;

  FOR t IN SELECT s.relid, s.name, x.n_dead_tup AS dead, x.n_live_tup AS live FROM engram_internal.store_tables() s
           JOIN pg_stat_user_tables x ON x.relid = s.relid WHERE x.n_dead_tup > 100000 AND x.n_dead_tup > 0.5 * x.n_live_tup LOOP
    RETURN QUERY SELECT 'warning', 'dead_rows', t.name, format('table engram.%s has %s dead rows beside %s', t.name, t.dead, t.live),
      format('Autovacuum is behind or held up by a long transaction. VACUUM engram.%I;', t.name);
  END LOOP;
  FOR t IN SELECT i.indexrelid::regclass AS idx, s.name FROM engram_internal.store_tables() s JOIN pg_index i ON i.indrelid = s.relid
           WHERE NOT i.indisvalid OR NOT i.indisready LOOP
    RETURN QUERY SELECT 'warning', 'index_invalid', t.idx::text, format('index %s of table engram.%s is not valid', t.idx, t.name),
      format('REINDEX INDEX CONCURRENTLY %s; or drop it.', t.idx);
  END LOOP;
  FOR t IN SELECT i.indexrelid::regclass AS idx, s.name, pg_relation_size(i.indexrelid) AS bytes
           FROM engram_internal.store_tables() s JOIN pg_index i ON i.indrelid = s.relid
           JOIN pg_stat_user_indexes x ON x.indexrelid = i.indexrelid
           WHERE NOT i.indisunique AND x.idx_scan = 0 AND pg_relation_size(i.indexrelid) > 100000000 LOOP
    RETURN QUERY SELECT 'info', 'index_unused', t.idx::text,
      format('index %s of table engram.%s (%s) has not been used since statistics were reset', t.idx, t.name, pg_size_pretty(t.bytes)),
      'If it is your own, drop it; those of engram serve rare calls too.';
  END LOOP;

  n := (SELECT greatest((SELECT c.reltuples FROM pg_class c WHERE c.oid = 'engram.memories'::regclass), 0)
             - greatest((SELECT c.reltuples FROM pg_class c WHERE c.oid = 'engram.embeddings'::regclass), 0))::bigint;
  IF n > 10000 AND EXISTS (SELECT FROM engram.embedding_models d WHERE d.is_default) THEN
    RETURN QUERY SELECT 'warning', 'embeddings_pending', 'embeddings', format('about %s memories have no embedding', n),
      'They are found by their words alone. See that the embedder runs: engram.pending_embeddings(), engram.embedding_progress().';
  END IF;

  FOR t IN SELECT s.name FROM engram_internal.store_tables() s JOIN pg_class c ON c.oid = s.relid WHERE NOT c.relrowsecurity LOOP
    RETURN QUERY SELECT 'critical', 'row_security_off', t.name, format('row level security is off on table engram.%s', t.name),
      format('ALTER TABLE engram.%I ENABLE ROW LEVEL SECURITY;', t.name);
  END LOOP;
  FOR t IN SELECT s.name FROM engram_internal.store_tables() s
           WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = s.relid) LOOP
    RETURN QUERY SELECT 'warning', 'no_policy', t.name, format('table engram.%s has no policy: nobody but its owner sees its rows', t.name), 'SELECT engram.setup();';
  END LOOP;
  FOR t IN SELECT s.name, string_agg(g.tgname, ', ' ORDER BY g.tgname) AS off FROM engram_internal.store_tables() s
           JOIN pg_trigger g ON g.tgrelid = s.relid JOIN pg_proc f ON f.oid = g.tgfoid
           WHERE g.tgenabled IN ('D', 'R') AND f.pronamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace) GROUP BY s.name LOOP
    RETURN QUERY SELECT 'critical', 'triggers_off', t.name, format('triggers of table engram.%s are disabled: %s', t.name, t.off),
      format('ALTER TABLE engram.%I ENABLE TRIGGER USER; then, for what was written meanwhile: SELECT engram.reindex();', t.name);
  END LOOP;
  SELECT r.rolname INTO names FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
  WHERE c.oid = 'engram.memories'::regclass AND NOT has_function_privilege(r.oid, 'engram.setup(jsonb)', 'EXECUTE');
  IF FOUND THEN
    RETURN QUERY SELECT 'warning', 'owner_without_rights', names, format('role "%s" owns the tables and may not call the functions of engram', names),
      format('As the owner of the extension: SELECT engram.setup(%L);', jsonb_build_object('owner', names));
  END IF;
  FOR t IN SELECT s.name, string_agg(DISTINCT a.privilege_type, ', ') AS rights FROM engram_internal.store_tables() s JOIN pg_class c ON c.oid = s.relid
           CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE a.grantee = 0 GROUP BY s.name LOOP
    RETURN QUERY SELECT 'warning', 'open_to_all', t.name, format('every role has %s on table engram.%s', t.rights, t.name),
      format('REVOKE ALL ON engram.%I FROM PUBLIC; and grant to the roles that need it: SELECT engram.setup(''{"grant_to": ["app"]}'');', t.name);
  END LOOP;
  names := (SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname) FROM pg_roles r
            WHERE r.rolcanlogin AND NOT r.rolsuper AND has_schema_privilege(r.oid, 'engram', 'USAGE')
              AND (r.rolbypassrls OR pg_has_role(r.oid, (SELECT c.relowner FROM pg_class c WHERE c.oid = 'engram.memories'::regclass), 'USAGE')));
  IF names IS NOT NULL THEN
    RETURN QUERY SELECT 'info', 'roles_bypass', names, format('these login roles see the memories of all users: %s', names),
      'See that only servers use them, never what speaks for a user.';
  END IF;
  IF (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram') <> engram_internal.library_version() THEN
    RETURN QUERY SELECT 'warning', 'version', NULL::text, format('the library is of version %s, the functions of %s', engram_internal.library_version(),
      (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram')), 'ALTER EXTENSION engram UPDATE;';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.alerts() IS 'What health() warns of. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.health_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found jsonb;
  care  record;
BEGIN
  SELECT coalesce(jsonb_agg(jsonb_build_object('level', a.level, 'code', a.code, 'subject', a.subject, 'message', a.message, 'hint', a.hint)
           ORDER BY array_position(ARRAY['critical', 'warning', 'info'], a.level), a.code, a.subject), '[]') INTO found
  FROM engram_internal.alerts() a;
  SELECT m.maintained_at, m.report INTO care FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
  IF task = 'metrics' THEN
    RETURN (
      SELECT jsonb_agg(jsonb_build_array(x.metric, x.subject, x.value)) FROM (
        SELECT 'table_bytes' AS metric, t.parent AS subject, sum(pg_total_relation_size(t.relid)) AS value FROM engram_internal.store_tables() t GROUP BY t.parent
        UNION ALL SELECT 'table_rows', t.parent, sum(greatest(c.reltuples, 0)) FROM engram_internal.store_tables() t JOIN pg_class c ON c.oid = t.relid
                  WHERE c.relkind = 'r' GROUP BY t.parent
        UNION ALL SELECT 'table_dead_rows', t.parent, sum(s.n_dead_tup) FROM engram_internal.store_tables() t JOIN pg_stat_user_tables s ON s.relid = t.relid GROUP BY t.parent
        UNION ALL SELECT 'database_bytes', current_database(), pg_database_size(current_database())
        UNION ALL SELECT 'uses_waiting', '', (SELECT count(*) FROM engram.access_queue)
        UNION ALL SELECT 'partitions_ahead', p.parent, (SELECT count(*) FROM engram_internal.partition_bounds(p.parent) b WHERE b.lower_bound > now())
                  FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL
        UNION ALL SELECT 'seconds_since_maintenance', '', date_part('epoch', now() - care.maintained_at)
        UNION ALL SELECT 'alerts', l.level, (SELECT count(*) FROM jsonb_array_elements(found) f WHERE f ->> 'level' = l.level)
                  FROM unnest(ARRAY['critical', 'warning', 'info']) AS l (level)
      ) x WHERE x.value IS NOT NULL);
  END IF;
  RETURN jsonb_build_object(
    'status', CASE WHEN found @> '[{"level": "critical"}]' THEN 'critical' WHEN found @> '[{"level": "warning"}]' THEN 'warning' ELSE 'ok' END,
    'checked_at', now(), 'alerts', found, 'maintained_at', care.maintained_at, 'maintenance', care.report -> 'phases',
    'sizes', engram_internal.sizes(),
    'partitions', (SELECT jsonb_object_agg(p.parent, (SELECT jsonb_build_object('count', count(*), 'oldest', nullif(min(b.lower_bound), '-infinity'), 'until', max(b.upper_bound))
                                                      FROM engram_internal.partition_bounds(p.parent) b))
                   FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL),
    'versions', (SELECT to_jsonb(v) FROM engram_internal.versions() v));
END
$$;
COMMENT ON FUNCTION engram_internal.health_task(text, jsonb) IS
'What health() and the view metrics show. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.health() RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.observe('health', '{}');
END
$$;
COMMENT ON FUNCTION engram.health() IS
'How the store is, as JSON: status (ok, warning, critical: the worst alert), alerts (each with level, code, subject, message and a hint what to do; level info does not count), when maintain() last ran and what it did, sizes in bytes, partitions, versions. For roles that bypass row security and members of pg_monitor; works on standbys.';
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
-- Export and import: a workspace as lines of JSON, and lines of JSON, ours and others', as a workspace.

CREATE FUNCTION engram_internal.export_start(workspace uuid, include text[], match_count integer, cursor text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known constant text[] := ARRAY['settings', 'memories', 'embeddings', 'uses', 'history', 'links', 'erasures', 'messages'];
  part  integer := -1;
  key   jsonb := '[]';
  valid boolean := true;
BEGIN
  IF NOT include <@ known OR EXISTS (SELECT FROM unnest(include) u WHERE u IS NULL) THEN
    RAISE EXCEPTION 'unknown value in include: %', include
      USING ERRCODE = 'invalid_parameter_value', HINT = format('Known: %s. By default all of them.', array_to_string(known, ', '));
  END IF;
  IF match_count < 1 THEN
    RAISE EXCEPTION 'match_count is %', match_count
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number of lines from 1, or leave it out for all of them.';
  END IF;
  IF cursor IS NOT NULL THEN
    BEGIN
      part := split_part(cursor, ':', 1)::integer;
      key := substr(cursor, position(':' IN cursor) + 1)::jsonb;
      valid := jsonb_typeof(key) = 'array' AND CASE
        WHEN part IN (0, 1) THEN true
        WHEN part IN (2, 3, 4, 13) THEN key ->> 0 IS NOT NULL
        WHEN part IN (5, 9, 10) THEN (key ->> 0)::uuid IS NOT NULL
        WHEN part = 6 THEN (key ->> 0)::uuid IS NOT NULL AND (key ->> 1)::integer IS NOT NULL
        WHEN part = 7 THEN (key ->> 0)::uuid IS NOT NULL AND key ->> 1 IS NOT NULL AND key ->> 2 IS NOT NULL
        WHEN part = 8 THEN (key ->> 0)::uuid IS NOT NULL AND (key ->> 1)::uuid IS NOT NULL
        WHEN part IN (11, 12) THEN key ->> 0 IS NOT NULL AND (key ->> 1)::timestamptz IS NOT NULL AND (key ->> 2)::uuid IS NOT NULL
        ELSE false END;
    EXCEPTION WHEN data_exception THEN
      valid := false;
    END;
    IF valid IS NOT TRUE THEN
      RAISE EXCEPTION 'cursor "%" is not one that engram.export() returned', left(cursor, 100)
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the cursor in the last line of the page before, unchanged.';
    END IF;
  END IF;
  RETURN jsonb_build_object('workspace', engram_internal.resolve_workspace(workspace, false), 'part', part, 'key', key);
END
$$;
COMMENT ON FUNCTION engram_internal.export_start(uuid, text[], integer, text) IS
'Which workspace export() reads, and after which part and key it begins; an error for wrong arguments.';

CREATE FUNCTION engram_internal.past_settings(workspace uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- A store that setup() has not brought up to date.
  IF to_regclass('engram.settings_history') IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN (SELECT jsonb_agg(jsonb_strip_nulls(to_jsonb(h)) - '{workspace_id,xid}'::text[]
                           - CASE h.type WHEN '' THEN '{type}' ELSE '{}' END::text[] ORDER BY h.until, h.type)
          FROM engram.settings_history h WHERE h.workspace_id = past_settings.workspace);
END
$$;
COMMENT ON FUNCTION engram_internal.past_settings(uuid) IS
'What uses of a workspace counted by until its settings were changed, as export() has it; NULL where they never were.';

-- One statement in SQL, which gives its rows out one by one as it finds them: nothing is collected.
CREATE FUNCTION engram_internal.export_lines(workspace uuid, include text[], match_count integer, part integer, key jsonb)
RETURNS SETOF jsonb
LANGUAGE sql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
-- What is written must read the same everywhere, to the last bit.
SET TimeZone = 'UTC'
SET IntervalStyle = 'iso_8601'
SET extra_float_digits = 1
-- In the order below and by key: so that memories come before what hangs on them, and nothing is sorted first.
SET plan_cache_mode = force_generic_plan
SET max_parallel_workers_per_gather = 0
SET enable_sort = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_seqscan = off
SET jit = off
AS $$
  SELECT CASE WHEN p.nth > $3 THEN jsonb_build_object('kind', 'cursor', 'cursor', p.before) ELSE p.line END
  FROM (
    SELECT l.line, row_number() OVER () AS nth, lag(l.part || ':' || l.key::text) OVER () AS before
    FROM (
      SELECT 0 AS part, '[]'::jsonb AS key, jsonb_build_object('engram', jsonb_build_object('format', 1,
        'version', engram_internal.library_version(), 'exported_at', now())) AS line
      WHERE $4 < 0 AND $1 IS NOT NULL
      UNION ALL
      SELECT 1, '[]', jsonb_build_object('kind', 'settings',
        'settings', coalesce(jsonb_strip_nulls(to_jsonb(s)) - '{workspace_id,preset}'::text[], '{}'), 'preset', s.preset)
        || CASE WHEN h.past IS NULL THEN '{}' ELSE jsonb_build_object('past', h.past) END
      FROM (SELECT engram_internal.past_settings($1) AS past OFFSET 0) h LEFT JOIN engram.settings s ON s.workspace_id = $1
      WHERE 'settings' = ANY ($2) AND $4 < 1 AND (s.workspace_id IS NOT NULL OR h.past IS NOT NULL)
      UNION ALL
      (SELECT 2, jsonb_build_array(t.type), jsonb_build_object('kind', 'type_settings', 'type', t.type,
        'default_importance', t.default_importance, 'decay_per_day', t.decay_per_day)
      FROM engram.memory_type_settings t
      WHERE 'settings' = ANY ($2) AND $4 <= 2 AND t.workspace_id = $1 AND t.type > CASE WHEN $4 = 2 THEN $5 ->> 0 ELSE '' END
      ORDER BY t.type)
      UNION ALL
      (SELECT 3, jsonb_build_array(o.name), jsonb_build_object('kind', 'model', 'name', o.name, 'dims', o.dims,
        'distance', o.distance, 'is_default', o.is_default)
      FROM engram.embedding_models o
      WHERE 'embeddings' = ANY ($2) AND $4 <= 3 AND o.name > CASE WHEN $4 = 3 THEN $5 ->> 0 ELSE '' END
        AND EXISTS (SELECT FROM engram.embeddings e WHERE e.workspace_id = $1 AND e.model = o.name)
      ORDER BY o.name)
      UNION ALL
      (SELECT 4, jsonb_build_array(a.alias), jsonb_build_object('kind', 'alias', 'alias', a.alias, 'node', a.node,
        'label', a.label, 'created_at', a.created_at)
      FROM engram.entity_aliases a
      WHERE 'links' = ANY ($2) AND $4 <= 4 AND a.workspace_id = $1 AND a.alias > CASE WHEN $4 = 4 THEN $5 ->> 0 ELSE '' END
      ORDER BY a.alias)
      UNION ALL
      (SELECT 5, jsonb_build_array(x.id), jsonb_strip_nulls(jsonb_build_object('kind', 'erasure', 'id', x.id,
        'erased_by', x.erased_by, 'erased_at', x.erased_at, 'events', CASE WHEN 'history' = ANY ($2) THEN (
          SELECT jsonb_agg(jsonb_build_object('id', v.id, 'at', v.at, 'actor', v.actor, 'action', v.action, 'version', v.version)
                           ORDER BY v.at, v.id)
          FROM (SELECT e.*, bool_or(e.origin = 0) OVER () AS imported FROM engram.memory_events e
                WHERE (e.workspace_id = $1) IS TRUE AND e.memory_id = x.id) v
          -- An import writes one of its own beside those that it brings.
          WHERE v.origin = 0 OR NOT v.imported) END))
      FROM engram.erasures x
      WHERE 'erasures' = ANY ($2) AND $4 <= 5 AND x.workspace_id = $1
        AND x.id >= CASE WHEN $4 = 5 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
        AND ($4 < 5 OR x.id <> ($5 ->> 0)::uuid)
      ORDER BY x.id)
      UNION ALL
      (SELECT 6, jsonb_build_array(m.id, n.part), CASE WHEN n.part = 0 THEN
        jsonb_build_object('kind', 'memory') || jsonb_strip_nulls(jsonb_build_object(
          'id', m.id, 'user_id', m.user_id, 'agent_id', m.agent_id, 'session_id', m.session_id, 'speaker', m.speaker,
          'role', m.role, 'content', m.content, 'summary', m.summary, 'type', m.type, 'importance', m.importance,
          'layer', m.layer, 'pinned', m.pinned, 'tags', m.tags, 'source', m.source, 'occurred_at', m.occurred_at,
          'valid_from', m.valid_from, 'valid_to', m.valid_to, 'superseded_by', m.superseded_by, 'contradicts', m.contradicts,
          'contradicted_by', m.contradicted_by, 'expires_at', m.expires_at, 'deleted_at', m.deleted_at,
          'version', m.version, 'created_at', m.created_at, 'updated_at', m.updated_at, 'state', s.state,
          'entities', g.entities, 'embeddings', v.embeddings))
        || jsonb_build_object('metadata', m.metadata)
        ELSE jsonb_build_object('kind', 'more', 'memory_id', m.id, 'version', m.version, 'updated_at', m.updated_at,
          'access_count', s.state -> 'access_count', 'last_accessed_at', s.state -> 'last_accessed_at') END
        || CASE WHEN u.parts[n.part + 1] IS NULL THEN '{}' ELSE jsonb_build_object('uses', u.parts[n.part + 1]) END
        || CASE WHEN e.parts[n.part + 1] IS NULL THEN '{}' ELSE jsonb_build_object('events', e.parts[n.part + 1]) END
      FROM (SELECT m.* FROM engram.memories m
            WHERE 'memories' = ANY ($2) AND $4 <= 6 AND m.workspace_id = $1
              AND m.id >= CASE WHEN $4 = 6 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
            ORDER BY m.id) m
      CROSS JOIN LATERAL (SELECT (SELECT jsonb_strip_nulls(jsonb_build_object('access_count', x.access_count,
          'last_accessed_at', x.last_accessed_at, 'heat', translate(encode(x.heat, 'base64'), E'\n', ''),
          'working_strength', x.working_strength, 'core_strength', x.core_strength, 'layer', x.layer,
          'stability', x.stability, 'difficulty', x.difficulty, 'base', x.base))
        FROM engram.memory_state x WHERE x.workspace_id = $1 AND x.memory_id = m.id OFFSET 0) AS state) s
      CROSS JOIN LATERAL (SELECT (SELECT jsonb_agg(jsonb_build_object('name', x.label, 'node', x.node, 'relation', x.relation,
          'weight', x.weight, 'created_at', x.created_at) ORDER BY x.relation, x.node)
        FROM (SELECT x.* FROM engram.graph_links x
              WHERE x.workspace_id = $1 AND x.memory_id = m.id AND x.target_id IS NULL AND 'links' = ANY ($2) OFFSET 0) x) AS entities) g
      CROSS JOIN LATERAL (SELECT (SELECT jsonb_agg(jsonb_build_object('model', x.model, 'embedding', x.embedding::text,
          'created_at', x.created_at) ORDER BY x.model)
        FROM (SELECT x.* FROM engram.embeddings x
              WHERE x.workspace_id = $1 AND x.memory_id = m.id AND 'embeddings' = ANY ($2) OFFSET 0) x) AS embeddings) v
      -- A thousand to a line, and less when they are large: the rest follows in lines of its own.
      CROSS JOIN LATERAL (SELECT (SELECT array_agg(p.uses ORDER BY p.nth) FROM (
          SELECT x.nth, jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', x.id, 'at', x.accessed_at, 'user_id', x.user_id,
            'kind', x.kind, 'gain', x.gain, 'rating', x.rating, 'recall_id', x.recall_id, 'place', x.place,
            'pair_gain', x.pair_gain)) ORDER BY x.accessed_at, x.id) AS uses
          FROM (SELECT x.*, (row_number() OVER (ORDER BY x.accessed_at, x.id) - 1) / 1000 AS nth FROM engram.access_log x
                WHERE x.workspace_id = $1 AND x.memory_id = m.id AND 'uses' = ANY ($2)) x
          GROUP BY x.nth) p) AS parts) u
      CROSS JOIN LATERAL (SELECT (SELECT array_agg(p.events ORDER BY p.nth) FROM (
          SELECT row_number() OVER (ORDER BY x.nth, x.megabytes) AS nth, jsonb_agg(
            jsonb_strip_nulls(jsonb_build_object('id', x.id, 'at', x.at, 'actor', x.actor, 'action', x.action, 'version', x.version))
            || CASE WHEN x.old IS NULL THEN '{}' ELSE jsonb_build_object('old', x.old) END ORDER BY x.at, x.id) AS events
          FROM (SELECT x.*, (row_number() OVER w - 1) / 1000 AS nth, sum(coalesce(pg_column_size(x.old), 0)) OVER w / 4000000 AS megabytes
                FROM (SELECT x.*, bool_or(x.origin = 0) OVER () AS imported FROM engram.memory_events x
                      WHERE (x.workspace_id = $1) IS TRUE AND x.memory_id = m.id AND 'history' = ANY ($2)) x
                -- An import writes that it added the memory beside what it brings.
                WHERE NOT (x.action = 'added' AND x.origin <> 0 AND (x.imported OR x.version > 1))
                WINDOW w AS (ORDER BY x.at, x.id)) x
          GROUP BY x.nth, x.megabytes) p) AS parts) e
      CROSS JOIN LATERAL generate_series(0, greatest(cardinality(u.parts), cardinality(e.parts), 1) - 1) AS n (part)
      WHERE NOT ($4 = 6 AND m.id = ($5 ->> 0)::uuid AND n.part <= ($5 ->> 1)::integer))
      UNION ALL
      (SELECT 7, jsonb_build_array(g.memory_id, g.relation, g.node), jsonb_build_object('kind', 'link', 'source', g.memory_id,
        'target', g.target_id, 'relation', g.relation, 'weight', g.weight, 'created_at', g.created_at)
      FROM engram.graph_links g
      WHERE 'links' = ANY ($2) AND $4 <= 7 AND g.workspace_id = $1 AND g.target_id IS NOT NULL
        AND g.memory_id >= CASE WHEN $4 = 7 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
        AND ($4 < 7 OR (g.memory_id, g.relation, g.node) > (($5 ->> 0)::uuid, $5 ->> 1, $5 ->> 2))
      ORDER BY g.memory_id, g.relation, g.node)
      UNION ALL
      (SELECT 8, jsonb_build_array(h.a, h.b), jsonb_build_object('kind', 'pair', 'a', h.a, 'b', h.b, 'forward', h.forward,
        'backward', h.backward, 'linked_at', h.linked_at, 'count', h.count)
      FROM engram.hebbian_links h
      WHERE 'links' = ANY ($2) AND $4 <= 8 AND h.workspace_id = $1
        AND h.a >= CASE WHEN $4 = 8 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
        AND ($4 < 8 OR (h.a, h.b) > (($5 ->> 0)::uuid, ($5 ->> 1)::uuid))
      ORDER BY h.a, h.b)
      UNION ALL
      (SELECT 9, jsonb_build_array(q.id), jsonb_strip_nulls(jsonb_build_object('kind', 'call', 'id', q.id, 'at', q.accessed_at,
        'user_id', q.user_id, 'use', q.kind, 'gain', q.gain, 'rating', q.rating, 'recall_id', q.recall_id,
        'memory_ids', q.memory_ids))
      FROM engram.access_queue q
      WHERE 'uses' = ANY ($2) AND $4 <= 9 AND q.workspace_id = $1
        AND q.id >= CASE WHEN $4 = 9 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
        AND ($4 < 9 OR q.id <> ($5 ->> 0)::uuid)
      ORDER BY q.id)
      UNION ALL
      (SELECT 10, jsonb_build_array(c.recall_id), jsonb_strip_nulls(jsonb_build_object('kind', 'credit', 'recall_id', c.recall_id,
        'memory_ids', c.memory_ids, 'reinforced_ids', c.reinforced_ids, 'rated_ids', c.rated_ids, 'created_at', c.created_at))
      FROM engram.recall_credits c
      WHERE 'uses' = ANY ($2) AND $4 <= 10 AND c.workspace_id = $1
        AND c.recall_id >= CASE WHEN $4 = 10 THEN ($5 ->> 0)::uuid ELSE '00000000-0000-0000-0000-000000000000' END
        AND ($4 < 10 OR c.recall_id <> ($5 ->> 0)::uuid)
      ORDER BY c.recall_id)
      UNION ALL
      (SELECT 11, jsonb_build_array(t.session_id, t.created_at, t.id), jsonb_strip_nulls(jsonb_build_object('kind', 'message',
        'session_id', t.session_id, 'id', t.id, 'created_at', t.created_at, 'user_id', t.user_id, 'role', t.role,
        'speaker', t.speaker, 'content', t.content)) || jsonb_build_object('metadata', t.metadata)
      FROM engram.messages t
      WHERE 'messages' = ANY ($2) AND $4 <= 11 AND t.workspace_id = $1
        AND t.session_id >= CASE WHEN $4 = 11 THEN $5 ->> 0 ELSE '' END
        AND ($4 < 11 OR (t.session_id, t.created_at, t.id) > ($5 ->> 0, ($5 ->> 1)::timestamptz, ($5 ->> 2)::uuid))
      ORDER BY t.session_id, t.created_at, t.id)
      UNION ALL
      (SELECT 12, jsonb_build_array(a.session_id, a.first_at, a.id), jsonb_build_object('kind', 'archive',
        'session_id', a.session_id, 'id', a.id, 'ids', a.ids, 'turns', a.messages)
      FROM engram.message_archive a
      WHERE 'messages' = ANY ($2) AND $4 <= 12 AND a.workspace_id = $1
        AND a.session_id >= CASE WHEN $4 = 12 THEN $5 ->> 0 ELSE '' END
        AND ($4 < 12 OR (a.session_id, a.first_at, a.id) > ($5 ->> 0, ($5 ->> 1)::timestamptz, ($5 ->> 2)::uuid))
      ORDER BY a.session_id, a.first_at, a.id)
      UNION ALL
      -- Last, so that they find all that they are about.
      (SELECT 13, jsonb_build_array(r.name), jsonb_strip_nulls(jsonb_build_object('kind', 'retention', 'name', r.name,
        'action', r.action, 'types', r.types, 'max_importance', r.max_importance, 'max_age', r.max_age,
        'max_count', r.max_count, 'created_at', r.created_at))
      FROM engram.retention_policies r
      WHERE 'settings' = ANY ($2) AND $4 <= 13 AND r.workspace_id = $1 AND r.name > CASE WHEN $4 = 13 THEN $5 ->> 0 ELSE '' END
      ORDER BY r.name)
    ) l
    LIMIT $3::bigint + 1
  ) p
$$;
COMMENT ON FUNCTION engram_internal.export_lines(uuid, text[], integer, integer, jsonb) IS
'What export() does, from after the line of a part and a key on. As the caller.';

CREATE FUNCTION engram.export(
  workspace uuid DEFAULT NULL,
  include text[] DEFAULT NULL,
  match_count integer DEFAULT NULL,
  cursor text DEFAULT NULL
) RETURNS SETOF jsonb
LANGUAGE sql STABLE ROWS 1000
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT engram_internal.export_lines((s.start ->> 'workspace')::uuid,
    coalesce($2, '{settings,memories,embeddings,uses,history,links,erasures,messages}'), $3,
    (s.start ->> 'part')::integer, s.start -> 'key')
  FROM (SELECT engram_internal.export_start($1, $2, $3, $4) AS start OFFSET 0) s
$$;
COMMENT ON FUNCTION engram.export(uuid, text[], integer, text) IS
'Everything in a workspace, one JSON object a line, for import() here or elsewhere: first a header with the format, then settings, embedding models, aliases, tombstones, memories (with state, entities, embeddings, uses and history), links, uses that wait, messages, and retention policies. Nothing is changed; an import into an empty workspace is exported as the same lines.

Rows come as they are found: COPY (SELECT engram.export()) TO STDOUT needs little memory, however many there are. include: only some of settings (retention policies too), memories, embeddings, uses, history, links, erasures, messages. match_count: so many lines, then one line {"kind": "cursor", "cursor": "…"} if there are more; pass it as cursor for the next page. All pages of one moment take one transaction that is REPEATABLE READ.';

-- Each of the following writes lines of one kind that have been checked, all or none of them, as the owner.

CREATE FUNCTION engram_internal.import_settings(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
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
  PERFORM engram_internal.require_owner('write what an import brings', 'Call engram.import().');
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
      -- What uses that are here already count by is only changed when that is asked for.
      IF jsonb_typeof(line -> 'past') = 'array' AND (replace OR NOT EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = ws)) THEN
        INSERT INTO engram.settings_history AS h (workspace_id, type, until, xid, mu1, mu2, alpha, promote, demote, archive,
          strength_gain, link_members, link_half_life_days, link_prune, decay_per_day)
        SELECT ws, coalesce(r.type, ''), least(r.until, clock_timestamp()), '0', r.mu1, r.mu2, r.alpha, r.promote, r.demote, r.archive,
          r.strength_gain, r.link_members, r.link_half_life_days, r.link_prune, r.decay_per_day
        FROM jsonb_to_recordset(line -> 'past') AS r (type text, until timestamptz, mu1 double precision, mu2 double precision,
          alpha double precision, promote double precision, demote double precision, archive double precision,
          strength_gain double precision, link_members integer, link_half_life_days double precision, link_prune double precision,
          decay_per_day double precision)
        ON CONFLICT DO NOTHING;
        IF FOUND AND status = 'unchanged' THEN
          status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
        END IF;
      ELSIF status = 'unchanged' AND EXISTS (
          SELECT FROM jsonb_to_recordset(nullif(line -> 'past', 'null')) AS r (type text, until timestamptz)
          WHERE NOT EXISTS (SELECT FROM engram.settings_history h
            WHERE h.workspace_id = ws AND h.type = coalesce(r.type, '') AND h.until = least(r.until, clock_timestamp()))) THEN
        status := 'skipped';
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
COMMENT ON FUNCTION engram_internal.import_settings(uuid, boolean, text, text, jsonb) IS
'Imports settings, type_settings, models, aliases and retention policies. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_log(workspace uuid, lines jsonb[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := import_log.workspace;
  logged  bigint;
  written bigint;
BEGIN
  INSERT INTO engram.access_log (workspace_id, memory_id, accessed_at, id, user_id, kind, gain, rating, recall_id, place, pair_gain)
  SELECT ws, coalesce(l ->> 'id', l ->> 'memory_id')::uuid, u.at, u.id, u.user_id, u.kind, u.gain, u.rating, u.recall_id,
         coalesce(u.place, 1), coalesce(u.pair_gain, 0)
  FROM unnest(import_log.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'uses') AS u (id uuid, at timestamptz, user_id uuid, kind text, gain double precision,
    rating smallint, recall_id uuid, place smallint, pair_gain double precision)
  ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS logged = ROW_COUNT;
  -- What they say of the past must be readable as a memory.
  PERFORM count((jsonb_populate_record(NULL::engram.memories, v.old)).version)
  FROM unnest(import_log.lines) l CROSS JOIN LATERAL jsonb_to_recordset(l -> 'events') AS v (old jsonb) WHERE v.old IS NOT NULL;
  -- Their transactions are none of ours: origin 0 keeps them from those who ask for what is new.
  INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, actor, action, version, old)
  -- What another system did not say of the past was as it is: every memory has a type, an importance and so on.
  SELECT ws, pg_current_xact_id(), v.id, v.at, m.id, 0, v.actor, v.action, v.version, CASE WHEN v.old IS NOT NULL THEN v.old || (
      SELECT coalesce(jsonb_object_agg(k.key, k.value), '{}') FROM engram.memories p
      CROSS JOIN LATERAL jsonb_each(jsonb_build_object('content', p.content, 'type', p.type, 'importance', p.importance, 'layer', p.layer,
        'pinned', p.pinned, 'tags', p.tags, 'metadata', p.metadata, 'created_at', p.created_at, 'updated_at', p.created_at,
        'version', greatest(v.version - 1, 1), 'entities', '[]'::jsonb)) k
      WHERE p.workspace_id = ws AND p.id = m.id AND coalesce(v.old -> k.key, 'null') = 'null') END
  FROM unnest(import_log.lines) l
  CROSS JOIN LATERAL (SELECT coalesce(l ->> 'id', l ->> 'memory_id')::uuid AS id) m
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'events') AS v (id uuid, at timestamptz, actor uuid, action text, version integer, old jsonb)
  -- One look-up an event: as a join it could read everybody's.
  WHERE (SELECT count(*) FROM (SELECT FROM engram.memory_events e
         WHERE (e.workspace_id = ws) IS TRUE AND e.memory_id = m.id AND e.id = v.id LIMIT 1) known) = 0;
  GET DIAGNOSTICS written = ROW_COUNT;
  RETURN logged + written;
END
$$;
COMMENT ON FUNCTION engram_internal.import_log(uuid, jsonb[]) IS
'Writes uses and events of memories that an import brings, those that are not there yet, and counts them. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_attached(workspace uuid, lines jsonb[]) RETURNS TABLE (memory uuid, left_out text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := import_attached.workspace;
BEGIN
  INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label, weight, created_at)
  SELECT ws, (l ->> 'id')::uuid, coalesce(nullif(e.relation, ''), 'mentions'), k.node, btrim(e.name), coalesce(e.weight, 1), coalesce(e.created_at, now())
  FROM unnest(import_attached.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'entities') AS e (name text, node text, relation text, weight double precision, created_at timestamptz)
  CROSS JOIN LATERAL (SELECT coalesce(e.node, engram_internal.entity_key(ws, e.name)) AS node) k
  WHERE k.node <> ''
  ON CONFLICT DO NOTHING;
  INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding, created_at)
  SELECT ws, (l ->> 'id')::uuid, m.name, v.embedding, coalesce(e.created_at, now())
  FROM unnest(import_attached.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'embeddings') AS e (model text, embedding text, created_at timestamptz)
  CROSS JOIN LATERAL (SELECT translate(e.embedding, '[]', '{}')::real[] AS embedding OFFSET 0) v
  JOIN engram.embedding_models m ON m.name = e.model AND m.dims = cardinality(v.embedding)
  ON CONFLICT DO NOTHING;
  RETURN QUERY
  SELECT (l ->> 'id')::uuid, 'without its vectors, for which no model of their name and length is registered: ' || string_agg(DISTINCT e.model, ', ')
  FROM unnest(import_attached.lines) l
  CROSS JOIN LATERAL jsonb_to_recordset(l -> 'embeddings') AS e (model text, embedding text)
  WHERE NOT EXISTS (SELECT FROM engram.embedding_models m WHERE m.name = e.model
                    AND m.dims = cardinality(translate(e.embedding, '[]', '{}')::real[]))
  GROUP BY 1;
END
$$;
COMMENT ON FUNCTION engram_internal.import_attached(uuid, jsonb[]) IS
'Writes entities and vectors of memories that an import brings, and tells what is left out. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_states(workspace uuid, lines jsonb[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  -- By the place of the row: as a join it might read all of the workspace.
  UPDATE engram.memory_state s
  SET access_count = t.access_count, last_accessed_at = t.last_accessed_at, heat = decode(t.heat, 'base64'),
      working_strength = t.working_strength, core_strength = t.core_strength, layer = t.layer, stability = t.stability,
      difficulty = t.difficulty, base = t.base
  FROM unnest(import_states.lines) l
  CROSS JOIN LATERAL jsonb_to_record(l -> 'state') AS t (access_count bigint, last_accessed_at timestamptz, heat text,
    working_strength double precision, core_strength double precision, layer text, stability double precision,
    difficulty double precision, base jsonb)
  CROSS JOIN LATERAL (SELECT x.ctid FROM engram.memory_state x
    WHERE x.workspace_id = import_states.workspace AND x.memory_id = (l ->> 'id')::uuid OFFSET 0) x
  WHERE l ? 'state' AND s.ctid = x.ctid AND s.workspace_id = import_states.workspace;
END
$$;
COMMENT ON FUNCTION engram_internal.import_states(uuid, jsonb[]) IS
'Gives memories the states that an import brings. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_memory(workspace uuid, on_conflict text, line jsonb, INOUT status text, INOUT error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := import_memory.workspace;
  this  uuid := (line ->> 'id')::uuid;
  -- What an import does not decide of a memory that is here.
  fixed constant text[] := '{workspace_id,id,user_id,version,created_at,updated_at,content_hash,layer}';
  held  jsonb;
  given jsonb;
  n     record;
BEGIN
  IF EXISTS (SELECT FROM engram.erasures e WHERE e.workspace_id = ws AND e.id = this) THEN
    status := 'erased';
    error := 'it was erased here, and an id that was erased does not come back';
    RETURN;
  END IF;
  -- What is to be replaced import_as_owner() has locked.
  SELECT to_jsonb(m) INTO held FROM engram.memories m WHERE m.workspace_id = ws AND m.id = this;
  -- What the line does not say is empty, but for what every memory has.
  given := jsonb_strip_nulls(jsonb_build_object('type', held -> 'type', 'importance', held -> 'importance', 'pinned', held -> 'pinned',
      'layer', held -> 'layer', 'tags', held -> 'tags')) || jsonb_build_object('metadata', held -> 'metadata')
    || (line - '{state,entities,embeddings,uses,events}'::text[]);
  SELECT r.* INTO n FROM jsonb_populate_record(NULL::engram.memories, given) r;
  IF to_jsonb(n) - fixed = held - fixed
     AND (on_conflict <> 'replace' OR NOT line ? 'state' OR EXISTS (
       SELECT FROM engram.memory_state s CROSS JOIN jsonb_to_record(line -> 'state') AS t (access_count bigint, last_accessed_at timestamptz, heat text)
       WHERE s.workspace_id = ws AND s.memory_id = this AND s.access_count = t.access_count
         AND s.last_accessed_at = t.last_accessed_at AND s.heat IS NOT DISTINCT FROM decode(t.heat, 'base64'))) THEN
    status := 'unchanged';
    RETURN;
  ELSIF on_conflict = 'skip' THEN
    status := 'skipped';
    RETURN;
  ELSIF on_conflict = 'reject' THEN
    status := 'error';
    error := 'a memory with this id is here already, and is another';
    RETURN;
  END IF;
  UPDATE engram.memories m SET
    agent_id = n.agent_id, session_id = n.session_id, speaker = n.speaker, role = n.role, content = n.content, summary = n.summary,
    type = n.type, importance = n.importance, layer = n.layer, pinned = n.pinned, tags = n.tags, metadata = n.metadata,
    source = n.source, occurred_at = n.occurred_at, valid_from = n.valid_from, valid_to = n.valid_to,
    superseded_by = n.superseded_by, contradicts = n.contradicts, contradicted_by = n.contradicted_by,
    expires_at = n.expires_at, deleted_at = n.deleted_at
  WHERE m.workspace_id = ws AND m.id = this;
  IF line ? 'state' THEN
    PERFORM engram_internal.import_states(ws, ARRAY[line]);
    -- The log is what the state is made of.
    DELETE FROM engram.access_log l WHERE l.workspace_id = ws AND l.memory_id = this;
    PERFORM engram_internal.import_log(ws, ARRAY[line - 'events']);
  END IF;
  IF line ? 'entities' THEN
    DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = this AND g.target_id IS NULL;
  END IF;
  IF line ? 'embeddings' THEN
    DELETE FROM engram.embeddings e WHERE e.workspace_id = ws AND e.memory_id = this;
  END IF;
  error := (SELECT a.left_out FROM engram_internal.import_attached(ws, ARRAY[line]) a);
  status := 'replaced';
END
$$;
COMMENT ON FUNCTION engram_internal.import_memory(uuid, text, jsonb, text, text) IS
'Imports a memory whose id the workspace knows. Its history stays, and what is replaced is one change more. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_memories(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws       uuid := import_memories.workspace;
  kind     text := import_memories.kind;
  line     jsonb;
  this     uuid;
  fresh    jsonb[] := '{}';
  fresh_at integer[] := '{}';
  replaced uuid[] := '{}';
  notes    jsonb;
  held     record;
BEGIN
  IF kind = 'memory' THEN
    SELECT coalesce(array_agg(i.l ORDER BY i.l ->> 'id'), '{}'), coalesce(array_agg(i.p), '{}') INTO fresh, fresh_at FROM (
      SELECT t.p, t.l, row_number() OVER (PARTITION BY t.l ->> 'id' ORDER BY t.p) AS nth
      FROM jsonb_to_recordset(import_memories.items) AS t (p integer, l jsonb)) i
    WHERE i.nth = 1
      AND (SELECT count(*) FROM (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = (i.l ->> 'id')::uuid OFFSET 0) m) = 0
      AND (SELECT count(*) FROM (SELECT FROM engram.erasures e WHERE e.workspace_id = ws AND e.id = (i.l ->> 'id')::uuid OFFSET 0) e) = 0;
    -- The triggers make them searchable, and write that they were added, here and now.
    INSERT INTO engram.memories (workspace_id, id, user_id, agent_id, session_id, speaker, role, content, summary, type, importance,
      layer, pinned, tags, metadata, source, occurred_at, valid_from, valid_to, superseded_by, contradicts, contradicted_by,
      expires_at, deleted_at, version, created_at, updated_at)
    SELECT ws, r.id, r.user_id, r.agent_id, r.session_id, r.speaker, r.role, r.content, r.summary, r.type, r.importance,
      r.layer, r.pinned, r.tags, r.metadata, r.source, r.occurred_at, r.valid_from, r.valid_to, r.superseded_by, r.contradicts,
      r.contradicted_by, r.expires_at, r.deleted_at, r.version, r.created_at, r.updated_at
    FROM unnest(fresh) l
    CROSS JOIN LATERAL jsonb_populate_record(NULL::engram.memories, l - '{state,entities,embeddings,uses,events}'::text[]) r;
    PERFORM engram_internal.import_states(ws, fresh);
    PERFORM engram_internal.import_log(ws, fresh);
    notes := (SELECT jsonb_object_agg(a.memory, a.left_out) FROM engram_internal.import_attached(ws, fresh) a);
  END IF;
  FOR position, line IN SELECT t.p, t.l FROM jsonb_to_recordset(import_memories.items) AS t (p integer, l jsonb) ORDER BY t.p LOOP
    error := NULL;
    this := coalesce(line ->> 'id', line ->> 'memory_id')::uuid;
    IF kind = 'memory' AND position = ANY (fresh_at) THEN
      error := notes ->> this::text;
      status := 'added';
    ELSIF kind = 'memory' THEN
      SELECT i.status, i.error INTO status, error FROM engram_internal.import_memory(ws, import_memories.on_conflict, line, NULL, NULL) i;
      IF status = 'replaced' THEN
        replaced := replaced || this;
      END IF;
    ELSIF kind = 'more' THEN
      SELECT m.version = (line ->> 'version')::integer AND m.updated_at = (line ->> 'updated_at')::timestamptz AS told,
             s.access_count = (line ->> 'access_count')::bigint AND s.last_accessed_at = (line ->> 'last_accessed_at')::timestamptz AS used
      INTO held FROM engram.memories m LEFT JOIN engram.memory_state s ON s.workspace_id = ws AND s.memory_id = this
      WHERE m.workspace_id = ws AND m.id = this;
      IF NOT FOUND THEN
        status := 'error';
        error := 'the memory is not in this workspace';
      ELSIF held.told OR held.used THEN
        -- Only to what was imported just before: a memory that has lived on here has a log of its own.
        status := CASE WHEN engram_internal.import_log(ws, ARRAY[line - CASE WHEN NOT coalesce(held.used, false) THEN 'uses'
          WHEN NOT held.told THEN 'events' ELSE '' END]) > 0 THEN 'added' ELSE 'unchanged' END;
      ELSE
        status := 'skipped';
      END IF;
    ELSIF EXISTS (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = this) THEN
      status := 'skipped';
      error := 'the memory is here, and an import erases nothing';
    ELSIF EXISTS (SELECT FROM engram.erasures e WHERE e.workspace_id = ws AND e.id = this) THEN
      status := 'unchanged';
    ELSE
      INSERT INTO engram.erasures (workspace_id, id, erased_by, erased_at)
      VALUES (ws, this, (line ->> 'erased_by')::uuid, (line ->> 'erased_at')::timestamptz);
      PERFORM engram_internal.import_log(ws, ARRAY[line]);
      INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, actor, action, version)
      VALUES (ws, pg_current_xact_id(), engram_internal.uuid_v7(), clock_timestamp(), this, engram_internal.store_origin(),
              engram.current_user_id(), 'erased', coalesce((line #>> '{events,-1,version}')::integer, 1));
      status := 'added';
    END IF;
    id := this;
    RETURN NEXT;
  END LOOP;
  -- There is no circle among the lines, so one that they close leads through what was here: only a memory that takes the
  -- place of such a one, or is such a one, is asked whether it comes back to itself. One look-up each, as above.
  WITH added AS MATERIALIZED (
    SELECT (l ->> 'id')::uuid AS id FROM unnest(fresh) l
  ), asked AS (
    SELECT u AS id, true AS here FROM unnest(replaced) u
    UNION ALL
    SELECT (l ->> 'id')::uuid, false FROM unnest(fresh) l WHERE l ->> 'superseded_by' IS NOT NULL
  )
  SELECT q.id AS old, m.superseded_by AS new INTO held FROM asked q CROSS JOIN LATERAL (
    SELECT m.superseded_by FROM engram.memories m WHERE m.workspace_id = ws AND m.id = q.id OFFSET 0) m
  WHERE CASE WHEN m.superseded_by IS NOT NULL AND EXISTS (
      SELECT FROM engram.memories o WHERE (o.workspace_id = ws) IS TRUE AND o.superseded_by = q.id
        AND (q.here OR o.id NOT IN (SELECT a.id FROM added a)))
    THEN q.id = ANY (engram_internal.successors(ws, m.superseded_by)) END
  ORDER BY q.id LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'memory "%" cannot be superseded by "%", which it supersedes itself', held.old, held.new
      USING ERRCODE = 'invalid_parameter_value',
            HINT = format('SELECT * FROM engram.superseded(''%s'') shows the chain; engram.unsupersede() takes a memory out of it.', held.new);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.import_memories(uuid, boolean, text, text, jsonb) IS
'Imports memories, the rest of what hangs on large ones, and tombstones. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_links(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
RETURNS TABLE ("position" integer, id uuid, status text, error text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws      uuid := import_links.workspace;
  kind    text := import_links.kind;
  replace boolean := import_links.on_conflict = 'replace';
  line    jsonb;
  ids     uuid[];
  here    uuid[];
  old     jsonb;
  new     jsonb;
BEGIN
  FOR position, line IN SELECT t.p, t.l FROM jsonb_to_recordset(import_links.items) AS t (p integer, l jsonb) ORDER BY t.p LOOP
    error := NULL;
    old := NULL;
    id := coalesce(line ->> 'source', line ->> 'a', line ->> 'id', line ->> 'recall_id')::uuid;
    ids := CASE kind WHEN 'link' THEN ARRAY[line ->> 'source', line ->> 'target']::uuid[]
                     WHEN 'pair' THEN ARRAY[line ->> 'a', line ->> 'b']::uuid[]
                     WHEN 'call' THEN ARRAY(SELECT u.x::uuid FROM jsonb_array_elements_text(line -> 'memory_ids') WITH ORDINALITY AS u (x, nth) ORDER BY u.nth)
                     ELSE ARRAY(SELECT DISTINCT u.x::uuid FROM unnest(ARRAY[line -> 'memory_ids', line -> 'reinforced_ids', line -> 'rated_ids']) AS l (list)
                                CROSS JOIN LATERAL jsonb_array_elements_text(l.list) AS u (x)) END;
    here := ARRAY(SELECT u.x FROM unnest(ids) WITH ORDINALITY AS u (x, nth)
                  CROSS JOIN LATERAL (SELECT FROM engram.memories m WHERE m.workspace_id = ws AND m.id = u.x OFFSET 0) m ORDER BY u.nth);
    IF here = '{}' OR kind IN ('link', 'pair') AND cardinality(here) < 2 THEN
      status := 'error';
      error := format('memory "%s" is not in this workspace', (SELECT u FROM unnest(ids) u WHERE u <> ALL (here) LIMIT 1));
    ELSIF kind = 'link' THEN
      IF line ->> 'relation' IN ('mentions', 'used_with', '') OR line ->> 'source' = line ->> 'target' THEN
        RAISE EXCEPTION 'a link "%" from memory "%" to "%" cannot be', line ->> 'relation', line ->> 'source', line ->> 'target'
          USING ERRCODE = 'invalid_parameter_value', HINT = 'See engram.link().';
      END IF;
      SELECT jsonb_build_object('weight', g.weight) INTO old FROM engram.graph_links g
      WHERE g.workspace_id = ws AND g.memory_id = ids[1] AND g.relation = line ->> 'relation' AND g.node = ids[2]::text;
      IF old -> 'weight' = coalesce(line -> 'weight', '1') THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        INSERT INTO engram.graph_links AS g (workspace_id, memory_id, relation, node, label, target_id, weight, created_at)
        VALUES (ws, ids[1], line ->> 'relation', ids[2]::text, ids[2]::text, ids[2],
                coalesce((line ->> 'weight')::double precision, 1), coalesce((line ->> 'created_at')::timestamptz, now()))
        ON CONFLICT (workspace_id, memory_id, relation, node) DO UPDATE SET weight = EXCLUDED.weight, target_id = EXCLUDED.target_id;
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
      END IF;
    ELSIF kind = 'pair' THEN
      SELECT to_jsonb(h) - 'workspace_id' INTO old FROM engram.hebbian_links h WHERE h.workspace_id = ws AND h.a = ids[1] AND h.b = ids[2];
      SELECT to_jsonb(h) - 'workspace_id' INTO new FROM jsonb_populate_record(NULL::engram.hebbian_links, line) h;
      IF old = new THEN
        status := 'unchanged';
      ELSIF old IS NOT NULL AND NOT replace THEN
        status := 'skipped';
      ELSE
        INSERT INTO engram.hebbian_links AS h (workspace_id, a, b, forward, backward, linked_at, count)
        SELECT ws, n.a, n.b, n.forward, n.backward, n.linked_at, n.count FROM jsonb_populate_record(NULL::engram.hebbian_links, line) n
        ON CONFLICT (workspace_id, a, b) DO UPDATE
        SET forward = EXCLUDED.forward, backward = EXCLUDED.backward, linked_at = EXCLUDED.linked_at, count = EXCLUDED.count;
        status := CASE WHEN old IS NULL THEN 'added' ELSE 'replaced' END;
      END IF;
    ELSIF kind = 'call' THEN
      IF (line ->> 'at')::timestamptz > clock_timestamp() THEN
        status := 'error';
        error := format('it lies in the future: %s', line ->> 'at');
      ELSIF EXISTS (SELECT FROM engram.access_queue q WHERE q.workspace_id = ws AND q.id = (line ->> 'id')::uuid)
         OR EXISTS (SELECT FROM engram.access_log l WHERE l.workspace_id = ws AND l.memory_id = here[1]
                    AND l.accessed_at = (line ->> 'at')::timestamptz AND l.id = (line ->> 'id')::uuid) THEN
        status := 'unchanged';
      ELSE
        INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, recall_id, memory_ids)
        VALUES (ws, (line ->> 'id')::uuid, (line ->> 'at')::timestamptz, (line ->> 'user_id')::uuid, line ->> 'use',
                (line ->> 'gain')::double precision, (line ->> 'rating')::smallint, (line ->> 'recall_id')::uuid,
                -- As where memories of a call were erased: the others keep their places.
                ARRAY(SELECT CASE WHEN u.x = ANY (here) THEN u.x ELSE '00000000-0000-0000-0000-000000000000' END
                      FROM unnest(ids) WITH ORDINALITY AS u (x, nth) ORDER BY u.nth));
        status := 'added';
      END IF;
    ELSE
      INSERT INTO engram.recall_credits (workspace_id, recall_id, memory_ids, reinforced_ids, rated_ids, created_at)
      VALUES (ws, (line ->> 'recall_id')::uuid, ARRAY(SELECT u.x::uuid FROM jsonb_array_elements_text(line -> 'memory_ids') WITH ORDINALITY AS u (x, nth)
                                                      WHERE u.x::uuid = ANY (here) ORDER BY u.nth),
              CASE WHEN line ? 'reinforced_ids' THEN ARRAY(SELECT u.x::uuid FROM jsonb_array_elements_text(line -> 'reinforced_ids') WITH ORDINALITY AS u (x, nth)
                                                           WHERE u.x::uuid = ANY (here) ORDER BY u.nth) END,
              CASE WHEN line ? 'rated_ids' THEN ARRAY(SELECT u.x::uuid FROM jsonb_array_elements_text(line -> 'rated_ids') WITH ORDINALITY AS u (x, nth)
                                                      WHERE u.x::uuid = ANY (here) ORDER BY u.nth) END, (line ->> 'created_at')::timestamptz)
      ON CONFLICT DO NOTHING;
      status := CASE WHEN FOUND THEN 'added' ELSE 'unchanged' END;
    END IF;
    ids := array_remove(ids, '00000000-0000-0000-0000-000000000000');
    IF status = 'added' AND cardinality(here) < cardinality(ids) THEN
      error := format('without %s memories that are not in this workspace', cardinality(ids) - cardinality(here));
    ELSIF status = 'skipped' AND import_links.on_conflict = 'reject' THEN
      status := 'error';
      error := 'there is another one already';
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.import_links(uuid, boolean, text, text, jsonb) IS
'Imports links, pairs, calls that wait and credits. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_messages(workspace uuid, trusted boolean, on_conflict text, kind text, items jsonb)
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
COMMENT ON FUNCTION engram_internal.import_messages(uuid, boolean, text, text, jsonb) IS
'Imports messages and archived ones. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.lock_import(workspace uuid, lines jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF lines ? 'alias' THEN
    PERFORM engram_internal.lock_names(lock_import.workspace);
  ELSE
    PERFORM engram_internal.lock_keys(lock_import.workspace, '{}');
  END IF;
  -- Who stores the same waits, and so does another import: some of what lines say has no key.
  PERFORM engram_internal.lock_keys(lock_import.workspace, ARRAY(
    SELECT 'import' UNION SELECT 'superseded'
    UNION SELECT coalesce(i.l ->> 'id', i.l ->> 'memory_id')::uuid::text
    FROM unnest('{erasure,memory,more}'::text[]) k CROSS JOIN LATERAL jsonb_to_recordset(lines -> k) AS i (l jsonb)
    UNION SELECT encode(sha256(convert_to(engram_internal.normalize_content(i.l ->> 'content'), 'UTF8')), 'hex')
    FROM jsonb_to_recordset(lines -> 'memory') AS i (l jsonb)
    UNION SELECT 'conversation ' || (i.l ->> 'session_id')
    FROM unnest('{message,archive}'::text[]) k CROSS JOIN LATERAL jsonb_to_recordset(lines -> k) AS i (l jsonb)));
END
$$;
COMMENT ON FUNCTION engram_internal.lock_import(uuid, jsonb) IS
'Until the end of the transaction nobody else stores what these lines bring, as import_as_owner() has them. To be taken before rows: who stores has his keys first as well.';

CREATE FUNCTION engram_internal.lock_imported(workspace uuid, replaces boolean, lines jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ws      uuid := lock_imported.workspace;
  this    uuid;
  changes boolean;
BEGIN
  -- Always in the same order, as in lock_memories() and erase(), and in whichever order the lines came. What stays as it
  -- is is not locked, and of what is linked only that it stays.
  FOR this, changes IN
    SELECT u.id, bool_or(u.changes) FROM (
      SELECT (i.l ->> 'id')::uuid AS id, true AS changes FROM jsonb_to_recordset(lines -> 'memory') AS i (l jsonb) WHERE replaces
      UNION ALL
      SELECT e::uuid, false FROM jsonb_to_recordset(lines -> 'link') AS i (l jsonb)
      CROSS JOIN LATERAL unnest(ARRAY[i.l ->> 'source', i.l ->> 'target']) e) u
    GROUP BY u.id ORDER BY u.id
  LOOP
    IF changes THEN
      PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = this FOR NO KEY UPDATE;
    ELSE
      PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = this FOR KEY SHARE;
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.lock_imported(uuid, boolean, jsonb) IS
'Until the end of the transaction nobody else changes what these lines replace, nor erases what they link. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.import_as_owner(workspace uuid, trusted boolean, on_conflict text, dry_run boolean, lines jsonb)
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
  PERFORM engram_internal.require_owner('write what an import brings', 'Call engram.import().');
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
  IF lines ?| '{settings,type_settings}'::text[] THEN
    -- For settings that change, before all that who folds might go on to.
    PERFORM engram_internal.hold_folds(import_as_owner.workspace);
  END IF;
  -- What is locked here stays so when a line turns out to be wrong and what was done for it is undone.
  PERFORM engram_internal.lock_import(import_as_owner.workspace, lines);
  PERFORM engram_internal.lock_imported(import_as_owner.workspace, on_conflict = 'replace', lines);
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
COMMENT ON FUNCTION engram_internal.import_as_owner(uuid, boolean, text, boolean, jsonb) IS
'Writes what import() has checked. lines: by kind, arrays of {"p": position, "l": line}. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.import(
  data jsonb,
  format text DEFAULT NULL,
  on_conflict text DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE ("position" integer, kind text, id uuid, status text, error text)
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'import_wrapper';
COMMENT ON FUNCTION engram.import(jsonb, text, text, boolean, uuid) IS
'Stores what export() wrote, or what another memory system did, and reports each line: added, replaced, unchanged, skipped, erased (its id was erased here) or error. A bad line does not lose the others, and to repeat an import changes nothing.

data: one line of export(), or an array of them in any order; memories before or together with what hangs on them. At most 100,000 lines a call. format: engram, engramai (tables of its SQLite file as arrays of rows: memories, access_log, hebbian_links, graph_links, entities, memory_entities, memory_embeddings), mem0 (results, memories, history) or mcp (the graph of the MCP memory server, also as the text of its file); by default found by shape. on_conflict, for what is here already and is another: skip (default), replace (its history stays) or reject (an error of that line). dry_run: only report. workspace: only for roles that bypass row security; nothing in the data decides it.

Times, versions, states, uses and history come as they were: history() and as_of show what they showed there, and a memory that comes without a history was there, as it is, since its created_at. For callers whom row security binds everybody named in the data becomes the caller. Vectors need their model to be registered here; a role that bypasses row security registers it with the import. Others who import, or who store the same, wait until the transaction ends; where it brings more than a few memories, all who store in the workspace.';
-- Clients get what setup() grants. The helpers are open to whoever may use the schema: policies,
-- triggers and invoker functions call them in the caller's name, and none of them can do more
-- than the caller.
DO $$
DECLARE
  f regprocedure;
BEGIN
  -- Only the extension's own: the schema may hold functions of the store and of the user.
  FOR f IN
    SELECT p.oid::regprocedure
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'engram'
    WHERE p.pronamespace = 'engram'::regnamespace
  LOOP
    EXECUTE pg_catalog.format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', f);
  END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION engram_internal.auto_setup() FROM PUBLIC;
GRANT USAGE ON SCHEMA engram_internal TO PUBLIC;

SELECT engram_internal.auto_setup();

DO $$
BEGIN
  PERFORM pg_catalog.pg_notify('pgrst', 'reload schema');
END
$$;
