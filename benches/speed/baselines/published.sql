-- Supabase's published hybrid search: both legs number their rows with a window function and are
-- cut by that number, which no index can serve; the words of a query are ANDed; ranks are fused
-- with 1 / (50 + rank); at most 30 rows. Not marked STABLE, as published.
CREATE FUNCTION hybrid_search(
  query_text text,
  query_embedding vector(@dims@),
  match_count int,
  full_text_weight float = 1,
  semantic_weight float = 1,
  rrf_k int = 50
) RETURNS SETOF docs
LANGUAGE sql
AS $$
WITH words AS (
  SELECT d.id, row_number() OVER (ORDER BY ts_rank_cd(d.fts, websearch_to_tsquery('english', query_text)) DESC) AS place
  FROM docs d
  WHERE d.fts @@ websearch_to_tsquery('english', query_text)
  ORDER BY place
  LIMIT least(match_count, 30) * 2
),
meaning AS (
  SELECT d.id, row_number() OVER (ORDER BY d.embedding <#> query_embedding) AS place
  FROM docs d
  ORDER BY place
  LIMIT least(match_count, 30) * 2
)
SELECT d.*
FROM words
FULL JOIN meaning ON words.id = meaning.id
JOIN docs d ON d.id = coalesce(words.id, meaning.id)
ORDER BY coalesce(1.0 / (rrf_k + words.place), 0.0) * full_text_weight
       + coalesce(1.0 / (rrf_k + meaning.place), 0.0) * semantic_weight DESC
LIMIT least(match_count, 30)
$$;
