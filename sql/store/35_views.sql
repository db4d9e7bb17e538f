-- What a person wants to look at. It belongs to the store, so that DROP EXTENSION leaves it alone; without
-- the extension it fails.

CREATE OR REPLACE FUNCTION engram.memory_overview_of(workspace uuid, id uuid)
RETURNS TABLE (
  layer text, activation double precision, retrievability double precision, working_strength double precision,
  core_strength double precision, strength double precision, stability double precision, difficulty double precision,
  retention double precision, access_count bigint, last_accessed_at timestamptz)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT p.layer, engram.heat_level(p.heat, now(), p.decay),
         engram.fsrs_retrievability(p.idle_days, p.stability),
         greatest(p.working_strength, 0), greatest(p.core_strength, 0),
         engram.trace_strength(greatest(p.working_strength, 0), greatest(p.core_strength, 0)),
         p.stability, p.difficulty, p.retention, p.access_count, p.last_accessed_at
  FROM engram_internal.present(memory_overview_of.workspace, now(), ARRAY[memory_overview_of.id]) p;
END
$$;
COMMENT ON FUNCTION engram.memory_overview_of(uuid, uuid) IS 'The present state of one memory, as memory_overview shows it.';

CREATE OR REPLACE VIEW engram.memory_overview WITH (security_invoker = true) AS
SELECT m.workspace_id, m.id, m.content, m.summary, m.type, p.layer, m.importance, m.pinned, m.tags, m.source,
       p.activation, p.retrievability, p.working_strength, p.core_strength, p.strength, p.stability, p.difficulty,
       p.retention, p.access_count, p.last_accessed_at, m.superseded_by, m.contradicts, m.contradicted_by,
       m.created_at, m.updated_at
FROM engram.memories m CROSS JOIN LATERAL engram.memory_overview_of(m.workspace_id, m.id) p
WHERE m.deleted_at IS NULL;

CREATE OR REPLACE FUNCTION engram.metric_rows() RETURNS TABLE (metric text, subject text, value double precision)
LANGUAGE plpgsql STABLE ROWS 60
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY SELECT e ->> 0, e ->> 1, (e ->> 2)::double precision FROM jsonb_array_elements(engram_internal.observe('metrics', '{}')) e;
END
$$;
COMMENT ON FUNCTION engram.metric_rows() IS 'What the view metrics shows.';

CREATE OR REPLACE VIEW engram.metrics WITH (security_invoker = true) AS
SELECT m.metric, m.subject, m.value FROM engram.metric_rows() m;
