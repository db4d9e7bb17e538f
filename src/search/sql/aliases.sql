-- $1 workspace, $2 names as keys: the entities that are meant by those that are aliases
SELECT a.node
FROM pg_catalog.unnest($2) AS n (alias)
CROSS JOIN LATERAL (
  SELECT x.node FROM engram.entity_aliases x WHERE x.workspace_id = $1 AND x.alias = n.alias OFFSET 0) a
