-- $1 workspace, $2 memories
SELECT u.id, s.access_count, s.last_accessed_at, s.heat
FROM pg_catalog.unnest($2) AS u (id)
CROSS JOIN LATERAL (
  SELECT x.access_count, x.last_accessed_at, x.heat
  FROM engram.memory_state x WHERE x.workspace_id = $1 AND x.memory_id = u.id OFFSET 0) s
