-- $1 workspace: whether enough calls wait to be folded
SELECT (SELECT pg_catalog.count(*) FROM (SELECT FROM engram.access_queue q WHERE q.workspace_id = $1 LIMIT t.threshold) q) >= t.threshold
FROM (SELECT coalesce(w.fold_threshold, d.fold_threshold) AS threshold
      FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = $1
      WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000') t
