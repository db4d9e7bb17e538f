-- $1 workspace, $2 names as keys
SELECT DISTINCT g.node, g.memory_id
FROM engram.graph_links g
WHERE g.workspace_id = $1 AND g.node = ANY ($2)
