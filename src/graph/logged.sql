-- $1 workspace, $2 and $3 the ends of links: the calls that made them, as a fold replays them
SELECT u.a, u.b, x.accessed_at, CASE WHEN x.place < y.place THEN x.pair_gain ELSE -x.pair_gain END
FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u (a, b)
CROSS JOIN LATERAL (
  SELECT l.accessed_at, l.id, l.place, l.pair_gain FROM engram.access_log l
  WHERE l.workspace_id = $1 AND l.memory_id = u.a AND l.pair_gain > 0 OFFSET 0) x
CROSS JOIN LATERAL (
  SELECT l.place FROM engram.access_log l
  WHERE l.workspace_id = $1 AND l.memory_id = u.b AND l.accessed_at = x.accessed_at AND l.id = x.id AND l.pair_gain > 0 OFFSET 0) y
