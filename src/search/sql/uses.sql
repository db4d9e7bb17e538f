-- $1 workspace, $2 memories, $3 moment
SELECT u.id, s.access_count - 1, pg_catalog.date_part('epoch', $3 - s.last_accessed_at)
FROM pg_catalog.unnest($2) AS u (id)
CROSS JOIN LATERAL (
  SELECT x.access_count, x.last_accessed_at
  FROM engram.memory_state x WHERE x.workspace_id = $1 AND x.memory_id = u.id OFFSET 0) s
WHERE s.access_count > 1
