-- $1 workspace, $2 model or NULL
SELECT c.relowner,
       coalesce(w.candidates, d.candidates),
       coalesce(w.vector_weight, d.vector_weight),
       coalesce(w.bm25_k1, d.bm25_k1),
       coalesce(w.bm25_pivot, d.bm25_pivot),
       m.name, m.dims, m.distance,
       -- Whether a policy of the user's own hides rows of the workspace from the caller. Any doubt is a yes.
       pg_catalog.row_security_active(c.oid) AND coalesce((
         SELECT pg_catalog.count(*) <> 1 OR NOT pg_catalog.bool_and(p.polname = 'memories_select' AND p.polpermissive
           AND pg_catalog.pg_get_expr(p.polqual, p.polrelid) = '(workspace_id = ANY (( SELECT engram.readable_workspaces() AS readable_workspaces)))')
         FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*')), true)
FROM pg_catalog.pg_class c
JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
LEFT JOIN engram.settings w ON w.workspace_id = $1
LEFT JOIN engram.embedding_models m ON CASE WHEN $2 IS NULL THEN m.is_default ELSE m.name = $2 END
WHERE c.oid = 'engram.memories'::pg_catalog.regclass
