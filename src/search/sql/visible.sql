-- $1 workspace, $2 memories; run as the caller
SELECT m.id FROM engram.memories m WHERE m.workspace_id = $1 AND m.id = ANY ($2)
