-- $1 workspace, $2 and $3 the ends of links
SELECT h.a, h.b, h.forward, h.backward, h.linked_at, h.count
FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u (a, b)
CROSS JOIN LATERAL (
  SELECT x.* FROM engram.hebbian_links x WHERE x.workspace_id = $1 AND x.a = u.a AND x.b = u.b OFFSET 0) h
