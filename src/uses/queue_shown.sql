-- As queue.sql, with the gain that the workspace gives to what is shown
INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, recall_id, memory_ids)
VALUES ($1, $2, coalesce($3, pg_catalog.now()), $4, $5,
  coalesce((SELECT coalesce(w.shown_gain, d.shown_gain) FROM engram.settings d
            LEFT JOIN engram.settings w ON w.workspace_id = $1
            WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000'), 0), $6, $7, $8)
