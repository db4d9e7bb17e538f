-- $1 workspace, $2 memories; run as the caller, so that every policy on the table applies
SELECT m.id, m.content, m.type, m.importance, m.tags, m.metadata, m.speaker, m.role,
       m.session_id, m.occurred_at, m.created_at
FROM engram.memories m
WHERE m.workspace_id = $1 AND m.id = ANY ($2)
