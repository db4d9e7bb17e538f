-- $1 workspace, $2 memories, $3 moment; as the caller
SELECT m.id, pg_catalog.concat_ws(' ', m.content, m.speaker, m.summary) FROM engram_internal.memories_as_of($1, $3, $2) m
