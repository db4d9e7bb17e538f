-- $1 workspace, $2 model, $3 query vector, $4 distance, $5 memories
SELECT e.memory_id, engram_internal.similarity(e.embedding, $3, $4)
FROM engram.embeddings e
WHERE e.workspace_id = $1 AND e.model = $2 AND e.memory_id = ANY ($5)
