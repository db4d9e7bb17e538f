-- $1 workspace, $2 memories, $3 moment; as the caller: those that may be shown
SELECT u.id
FROM pg_catalog.unnest($2) AS u (id)
CROSS JOIN LATERAL (
  SELECT 1 FROM engram.memories m
  WHERE m.workspace_id = $1 AND m.id = u.id AND m.deleted_at IS NULL AND m.superseded_by IS NULL
    AND (m.expires_at IS NULL OR m.expires_at > $3) OFFSET 0) there
