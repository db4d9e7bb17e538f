-- $1 workspace; run as the caller
SELECT m.id FROM engram.memories m WHERE m.workspace_id = $1
