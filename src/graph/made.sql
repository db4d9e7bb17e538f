-- $1 workspace, $2 memories, $3 relation or NULL, $4 how many of each memory
SELECT u.id, l.other, l.outward, l.relation, l.weight, l.created_at
FROM pg_catalog.unnest($2) AS u (id)
CROSS JOIN LATERAL (
  SELECT s.*
  FROM (
    (SELECT g.target_id AS other, true AS outward, g.relation, g.weight, g.created_at
     FROM engram.graph_links g
     -- Entities are left out below: asked for here, every link of the workspace would be read by graph_links_target_idx.
     WHERE g.workspace_id = $1 AND g.memory_id = u.id AND ($3 IS NULL OR g.relation = $3) OFFSET 0)
    UNION ALL
    (SELECT g.memory_id, false, g.relation, g.weight, g.created_at
     FROM engram.graph_links g
     -- As no index sees it: see hebbian_links_reverse_idx.
     WHERE (g.workspace_id = $1) IS TRUE AND g.target_id = u.id AND ($3 IS NULL OR g.relation = $3) OFFSET 0)
  ) s
  WHERE s.other <> u.id
  ORDER BY s.weight DESC, s.other, s.relation, s.outward LIMIT $4) l
