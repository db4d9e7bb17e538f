-- $1 workspace, $2 memories, $3 moment, $4 decay per second, $5 least count, $6 least weight, $7 how many of
-- each memory. The weight is the logarithm of the mass at the moment, but for a term that all links share.
SELECT u.id, l.a, l.b, l.forward, l.backward, l.linked_at, l.count
FROM pg_catalog.unnest($2) AS u (id)
CROSS JOIN LATERAL (
  SELECT s.*
  FROM (
    (SELECT h.a, h.b, h.b AS other, h.forward, h.backward, h.linked_at, h.count,
            pg_catalog.ln(greatest(h.forward + h.backward, 1e-300)) + pg_catalog.date_part('epoch', least(h.linked_at, $3)) * $4 AS weight
     FROM engram.hebbian_links h
     WHERE h.workspace_id = $1 AND h.a = u.id AND h.count >= $5 OFFSET 0)
    UNION ALL
    (SELECT h.a, h.b, h.a, h.forward, h.backward, h.linked_at, h.count,
            pg_catalog.ln(greatest(h.forward + h.backward, 1e-300)) + pg_catalog.date_part('epoch', least(h.linked_at, $3)) * $4
     FROM engram.hebbian_links h
     -- As no index sees it: see hebbian_links_reverse_idx.
     WHERE (h.workspace_id = $1) IS TRUE AND h.b = u.id AND h.count >= $5 OFFSET 0)
  ) s
  WHERE s.weight >= $6
  ORDER BY s.weight DESC, s.other LIMIT $7) l
