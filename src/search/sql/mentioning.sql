-- $1 workspace, $2 entities by key or alias, $3 how many at most: memories that are about each, and its number. What
-- compares entities in filters means the same. The index begins with the entity: to the planner, which does not know
-- the workspace, one that begins with that looks as good, and may read all of it.
SELECT l.memory_id, u.nth
FROM pg_catalog.unnest($2) WITH ORDINALITY AS u (name, nth)
CROSS JOIN LATERAL (
  SELECT coalesce((SELECT a.node FROM engram.entity_aliases a WHERE a.workspace_id = $1 AND a.alias = u.name), u.name) AS node
  OFFSET 0) n
CROSS JOIN LATERAL (
  SELECT g.memory_id FROM engram.graph_links g
  WHERE (g.workspace_id = $1) IS TRUE AND g.node = n.node AND g.relation = 'mentions' OFFSET 0) l
LIMIT $3
