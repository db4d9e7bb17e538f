-- As fetch.sql, of memories as they were recorded at $6
SELECT m.id, m.content, m.type, m.importance, m.tags, m.metadata, m.speaker, m.role,
       m.session_id, m.occurred_at, m.created_at,
       CASE WHEN pg_catalog.cardinality(m.contradicted_by) > 0 THEN ARRAY(
         SELECT c.id FROM engram_internal.memories_as_of($1, $6, m.contradicted_by) c
         WHERE c.deleted_at IS NULL AND c.superseded_by IS NULL AND (c.expires_at IS NULL OR c.expires_at > $3)) END
FROM engram_internal.memories_as_of($1, $6, $2) m
WHERE m.deleted_at IS NULL
  AND ($4 OR m.superseded_by IS NULL) AND ($5 OR m.expires_at IS NULL OR m.expires_at > $3)
