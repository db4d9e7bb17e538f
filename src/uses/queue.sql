-- $1 workspace, $2 id, $3 moment or NULL, $4 user, $5 kind, $6 rating, $7 recall, $8 memories, $9 gain
INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, recall_id, memory_ids)
VALUES ($1, $2, coalesce($3, pg_catalog.now()), $4, $5, $9, $6, $7, $8)
