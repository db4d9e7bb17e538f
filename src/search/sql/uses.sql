-- $1 workspace, $2 memories, $3 moment
SELECT s.memory_id, s.access_count - 1, pg_catalog.date_part('epoch', $3 - s.last_accessed_at)
FROM engram.memory_state s
WHERE s.workspace_id = $1 AND s.memory_id = ANY ($2) AND s.access_count > 1
