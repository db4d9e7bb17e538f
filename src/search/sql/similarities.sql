-- $1 workspace, $2 model, $3 query vector, $4 distance, $5 memories. One look-up for each: given the
-- array, the index would be read from the first to the last of them.
SELECT u.id, e.similarity
FROM pg_catalog.unnest($5) AS u (id)
CROSS JOIN LATERAL (
  SELECT engram_internal.similarity(x.embedding, $3, $4) AS similarity
  FROM engram.embeddings x WHERE x.workspace_id = $1 AND x.memory_id = u.id AND x.model = $2 OFFSET 0) e
