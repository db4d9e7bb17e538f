-- $1 workspace
SELECT pg_catalog.count(*) FROM engram.memory_terms t WHERE t.workspace_id = $1
