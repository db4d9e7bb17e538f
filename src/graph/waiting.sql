-- $1 workspace, $2 moment: calls that wait to be folded and link memories
SELECT q.accessed_at, q.gain, q.memory_ids
FROM engram.access_queue q
WHERE q.workspace_id = $1 AND q.accessed_at <= $2 AND q.gain > 0 AND pg_catalog.cardinality(q.memory_ids) > 1
