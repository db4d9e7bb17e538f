-- $1 workspace, $2 memories in order; as the caller
SELECT u.id FROM pg_catalog.unnest($2) WITH ORDINALITY AS u (id, nth)
CROSS JOIN LATERAL (
  SELECT 1 FROM engram.memories m WHERE m.workspace_id = $1 AND m.id = u.id AND m.deleted_at IS NULL OFFSET 0) there
ORDER BY u.nth
