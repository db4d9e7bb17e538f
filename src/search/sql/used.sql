-- $1 workspace
SELECT s.memory_id, s.access_count,
       pg_catalog.date_part('epoch', $2 - s.last_accessed_at),
       pg_catalog.date_part('epoch', $2 - m.created_at)
FROM engram.memory_state s
JOIN engram.memories m ON m.workspace_id = s.workspace_id AND m.id = s.memory_id
WHERE s.workspace_id = $1 AND m.workspace_id = $1
