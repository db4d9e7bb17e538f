-- $1 workspace, $2 memories, $3 moment, $4 half-life in seconds, $5 least count, $6 logarithm of the least
-- mass, $7 how many of each memory. By the logarithm, which cannot underflow.
SELECT u.id, l.a, l.b, l.forward, l.backward, l.linked_at, l.count
FROM pg_catalog.unnest($2) AS u (id)
CROSS JOIN LATERAL (
  SELECT s.*
  FROM (
    (SELECT h.a, h.b, h.b AS other, h.forward, h.backward, h.linked_at, h.count
     FROM engram.hebbian_links h
     WHERE h.workspace_id = $1 AND h.a = u.id AND h.count >= $5 OFFSET 0)
    UNION ALL
    (SELECT h.a, h.b, h.a, h.forward, h.backward, h.linked_at, h.count
     FROM engram.hebbian_links h
     -- As no index sees it: see hebbian_links_reverse_idx.
     WHERE (h.workspace_id = $1) IS TRUE AND h.b = u.id AND h.count >= $5 OFFSET 0)
  ) s
  CROSS JOIN LATERAL (
    SELECT pg_catalog.ln(greatest(s.forward + s.backward, 1e-300))
           - 0.6931471805599453 * greatest(pg_catalog.date_part('epoch', $3) - pg_catalog.date_part('epoch', s.linked_at), 0) / $4 AS log_mass
  ) m
  WHERE m.log_mass >= $6
  ORDER BY m.log_mass DESC, s.other LIMIT $7) l
