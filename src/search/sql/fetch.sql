-- $1 workspace, $2 memories, $3 moment, $4 superseded ones too, $5 expired ones too; run as the
-- caller, so that every policy on the table applies
SELECT m.id, m.content, m.type, m.importance, m.tags, m.metadata, m.speaker, m.role,
       m.session_id, m.occurred_at, m.created_at
FROM engram.memories m
WHERE m.workspace_id = $1 AND m.id = ANY ($2) AND m.deleted_at IS NULL
  AND ($4 OR m.superseded_by IS NULL) AND ($5 OR m.expires_at IS NULL OR m.expires_at > $3)
