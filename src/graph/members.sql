-- $1 workspace, $2 memories: those that a fold would find. Nobody's policies on memories hide them here,
-- because they do not in the fold.
SELECT u.id
FROM pg_catalog.unnest($2) AS u (id)
WHERE CASE WHEN (SELECT pg_catalog.count(*) FROM (SELECT FROM engram.memory_state s WHERE s.workspace_id = $1 AND s.memory_id = u.id LIMIT 1) x) > 0
           THEN true
           ELSE (SELECT pg_catalog.count(*) FROM (SELECT FROM engram.memories m WHERE m.workspace_id = $1 AND m.id = u.id LIMIT 1) x) > 0 END
