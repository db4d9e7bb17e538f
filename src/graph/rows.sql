-- $1 workspace, $2 memories; as the caller
SELECT m.id, m.content, m.type, m.created_at
FROM pg_catalog.unnest($2) AS u (id)
CROSS JOIN LATERAL (
  SELECT x.id, x.content, x.type, x.created_at FROM engram.memories x
  WHERE x.workspace_id = $1 AND x.id = u.id AND x.deleted_at IS NULL OFFSET 0) m
