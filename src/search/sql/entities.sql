-- $1 workspace, $2 names as keys
SELECT DISTINCT n.node, g.memory_id
FROM pg_catalog.unnest($2) AS n (node)
CROSS JOIN LATERAL (
  SELECT x.memory_id FROM engram.graph_links x WHERE x.workspace_id = $1 AND x.node = n.node OFFSET 0) g
