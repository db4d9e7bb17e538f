-- $1 workspace, $2 moment, $3 text search configuration; as the caller. What was otherwise at the moment:
-- memories that have changed or come since, their words of then (NULL: as they are), the keys of their
-- entities of then, and whether their text was another. No words and no keys: not there to be found.
WITH later AS MATERIALIZED (
  SELECT e.memory_id AS id FROM engram.memory_events e WHERE e.workspace_id = $1 AND e.at > $2
  UNION
  SELECT m.id FROM engram.memories m WHERE m.workspace_id = $1 AND m.created_at > $2
)
SELECT l.id,
  CASE WHEN s.there AND s.same AND p.deleted_at IS NULL THEN NULL
       ELSE engram_internal.document(l.id, 4611686018427387903, CASE WHEN s.there THEN 'replaces' ELSE 'gone' END, m.session_id,
              coalesce(m.occurred_at, m.created_at), $3, m.content, m.speaker, m.occurred_at, m.summary) END,
  CASE WHEN s.there THEN ARRAY(
    SELECT engram_internal.entity_key($1, n.label) FROM pg_catalog.unnest(m.entities) AS n (label)) END,
  NOT s.there OR engram_internal.indexed_text(m.content, m.speaker, m.occurred_at, NULL)
    IS DISTINCT FROM engram_internal.indexed_text(p.content, p.speaker, p.occurred_at, NULL)
FROM later l
LEFT JOIN engram_internal.memories_as_of($1, $2, ARRAY(SELECT x.id FROM later x)) m ON m.id = l.id
LEFT JOIN LATERAL (
  SELECT x.* FROM engram.memories x WHERE x.workspace_id = $1 AND x.id = l.id OFFSET 0) p ON true
CROSS JOIN LATERAL (
  SELECT m.id IS NOT NULL AND m.deleted_at IS NULL AS there,
         (m.content, m.summary, m.speaker, m.occurred_at, m.session_id)
         IS NOT DISTINCT FROM (p.content, p.summary, p.speaker, p.occurred_at, p.session_id) AS same) s
