-- $1 workspace, $2 model, $3 query vector, $4 distance, $5 how many
SELECT e.memory_id, engram_internal.similarity(e.embedding, $3, $4) AS similarity
FROM engram.embeddings e
WHERE e.workspace_id = $1 AND e.model = $2
ORDER BY similarity DESC NULLS LAST, e.memory_id DESC
LIMIT $5
