-- $1 workspace, $2 memories, $3 moment: the uses until then
SELECT u.id, m.created_at, l.times, l.gains
FROM pg_catalog.unnest($2) AS u (id)
CROSS JOIN LATERAL (
  SELECT x.created_at FROM engram.memories x WHERE x.workspace_id = $1 AND x.id = u.id OFFSET 0) m
CROSS JOIN LATERAL (
  SELECT pg_catalog.array_agg(x.accessed_at ORDER BY x.accessed_at) AS times, pg_catalog.array_agg(x.gain ORDER BY x.accessed_at) AS gains
  FROM engram.access_log x
  WHERE x.workspace_id = $1 AND x.memory_id = u.id AND x.accessed_at <= $3 AND x.gain > 0) l
