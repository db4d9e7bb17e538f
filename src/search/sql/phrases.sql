-- $1 workspace, $2 memories, $3 what they must satisfy
SELECT t.memory_id FROM engram.memory_terms t
WHERE t.workspace_id = $1 AND t.memory_id = ANY ($2) AND t.terms OPERATOR(pg_catalog.@@) $3::pg_catalog.tsquery
