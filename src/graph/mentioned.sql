-- $1 workspace, $2 memories, $3 relation or NULL, $4 how many of each memory
SELECT u.id, l.node
FROM pg_catalog.unnest($2) AS u (id)
CROSS JOIN LATERAL (
  SELECT DISTINCT g.node FROM engram.graph_links g
  WHERE g.workspace_id = $1 AND g.memory_id = u.id AND g.target_id IS NULL AND ($3 IS NULL OR g.relation = $3)
  ORDER BY g.node LIMIT $4) l
