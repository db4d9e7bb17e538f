-- $1 workspace, $2 memories, $3 moment, $4 superseded ones too, $5 expired ones too; run as the
-- caller, so that every policy on the table applies. One look-up for each memory: given the array,
-- the index would be read from the first to the last of them.
SELECT m.id, m.content, m.type, m.importance, m.tags, m.metadata, m.speaker, m.role,
       m.session_id, m.occurred_at, m.created_at,
       -- Only what still stands contradicts.
       CASE WHEN pg_catalog.cardinality(m.contradicted_by) > 0 THEN ARRAY(
         SELECT c.id
         FROM pg_catalog.unnest(m.contradicted_by) AS v (id)
         CROSS JOIN LATERAL (
           SELECT x.id FROM engram.memories x
           WHERE x.workspace_id = $1 AND x.id = v.id AND x.deleted_at IS NULL
             AND x.superseded_by IS NULL AND (x.expires_at IS NULL OR x.expires_at > $3) OFFSET 0) c) END
FROM pg_catalog.unnest($2) AS u (id)
CROSS JOIN LATERAL (
  SELECT x.id, x.content, x.type, x.importance, x.tags, x.metadata, x.speaker, x.role,
         x.session_id, x.occurred_at, x.created_at, x.contradicted_by
  FROM engram.memories x
  WHERE x.workspace_id = $1 AND x.id = u.id AND x.deleted_at IS NULL
    AND ($4 OR x.superseded_by IS NULL) AND ($5 OR x.expires_at IS NULL OR x.expires_at > $3) OFFSET 0) m
