-- $1 workspace, $2 entities, $3 relation or NULL, $4 how many of each entity, the newest
SELECT u.node, l.memory_id, l.relation
FROM pg_catalog.unnest($2) AS u (node)
CROSS JOIN LATERAL (
  SELECT g.memory_id, g.relation FROM engram.graph_links g
  WHERE g.workspace_id = $1 AND g.node = u.node AND g.target_id IS NULL AND ($3 IS NULL OR g.relation = $3)
  ORDER BY g.memory_id DESC LIMIT $4) l
