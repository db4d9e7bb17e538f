-- $1 workspace, $2 names as keys; an alias names its entity. As no index sees the workspace: see
-- graph_links_entity_idx.
SELECT DISTINCT g.node, g.memory_id
FROM engram.graph_links g
WHERE (g.workspace_id = $1) IS TRUE AND g.target_id IS NULL AND g.node = ANY ($2 || ARRAY(
  SELECT a.node FROM engram.entity_aliases a WHERE a.workspace_id = $1 AND a.alias = ANY ($2)))
