-- $1 workspace, $2 model or NULL, $3 length of the query vector or NULL
SELECT c.relowner,
       coalesce(w.candidates, d.candidates),
       coalesce(w.vector_weight, d.vector_weight),
       coalesce(w.bm25_k1, d.bm25_k1),
       coalesce(w.bm25_pivot, d.bm25_pivot),
       m.name, m.dims, m.distance,
       coalesce(w.text_config, d.text_config),
       coalesce(w.coverage_weight, d.coverage_weight),
       coalesce(w.context_weight, d.context_weight),
       coalesce(w.lend_weight, d.lend_weight),
       coalesce(w.speaker_weight, d.speaker_weight),
       coalesce(w.date_weight, d.date_weight),
       coalesce(w.question_weight, d.question_weight),
       coalesce(w.length_weight, d.length_weight),
       coalesce(w.activation_weight, d.activation_weight),
       coalesce(w.importance_weight, d.importance_weight),
       coalesce(w.decay, d.decay),
       coalesce(w.contradiction_weight, d.contradiction_weight),
       coalesce(w.link_weight, d.link_weight),
       coalesce(w.duplicate_similarity, d.duplicate_similarity),
       coalesce(w.fuzzy_weight, d.fuzzy_weight)
FROM pg_catalog.pg_class c
JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
LEFT JOIN engram.settings w ON w.workspace_id = $1
-- The model that is named; else the default, unless the query has another length and just one model has
-- that: while one model replaces another, callers of both are served.
LEFT JOIN engram.embedding_models m ON m.name = coalesce($2,
  (SELECT o.name FROM engram.embedding_models o WHERE o.is_default AND o.dims = $3),
  (SELECT pg_catalog.min(o.name) FROM engram.embedding_models o WHERE o.dims = $3 HAVING pg_catalog.count(*) = 1),
  (SELECT o.name FROM engram.embedding_models o WHERE o.is_default))
WHERE c.oid = 'engram.memories'::pg_catalog.regclass
