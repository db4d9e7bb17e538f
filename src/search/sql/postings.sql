-- $1 workspace, $2 keys of the query's lexemes
SELECT t.memory_id, t.length, pg_catalog.tsvectorsend(t.terms)
FROM engram.memory_terms t
WHERE t.workspace_id = $1 AND t.keys OPERATOR(pg_catalog.&&) $2
