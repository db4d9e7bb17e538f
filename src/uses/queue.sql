-- $1 workspace, $2 id, $3 moment or NULL, $4 kind, $5 gain or NULL, $6 rating, $7 recall, $8 memories; as the caller
INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, recall_id, memory_ids)
VALUES ($1, $2, coalesce($3, pg_catalog.now()), engram.current_user_id(), $4,
  coalesce($5, (SELECT coalesce(w.shown_gain, d.shown_gain) FROM engram.settings d
                LEFT JOIN engram.settings w ON w.workspace_id = $1
                WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000'), 0), $6, $7, $8)
