-- $1 workspace; run as the caller
SELECT pg_catalog.count(*) FROM engram.memories m WHERE m.workspace_id = $1 AND m.deleted_at IS NULL
