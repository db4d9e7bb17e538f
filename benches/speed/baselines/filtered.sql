-- The repaired function with the tenant as an argument, for a role that policies do not bind: what
-- an application server does that has checked its user itself. Whether HNSW or an exact scan
-- serves the vectors is for the connection's settings to say.
CREATE FUNCTION filtered@suffix@(
  query_text text,
  query_embedding vector,
  match_count int,
  tenant uuid,
  tag text DEFAULT NULL
) RETURNS SETOF docs
LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_variable
BEGIN
  RETURN QUERY
  WITH words AS (
    SELECT w.id, row_number() OVER (ORDER BY w.points DESC) AS place
    FROM (
      SELECT d.id, ts_rank_cd(d.fts, websearch_to_tsquery('english', query_text)) AS points
      FROM docs d
      WHERE d.user_id = tenant AND d.fts @@ websearch_to_tsquery('english', query_text) @tagged@
      ORDER BY points DESC
      LIMIT least(match_count, 30) * 2) w
  ),
  meaning AS (
    SELECT m.id, row_number() OVER (ORDER BY m.distance) AS place
    FROM (
      SELECT d.id, d.embedding <#> query_embedding AS distance
      FROM docs d
      WHERE d.user_id = tenant @tagged@
      ORDER BY d.embedding <#> query_embedding
      LIMIT least(match_count, 30) * 2) m
  )
  SELECT d.*
  FROM words
  FULL JOIN meaning ON words.id = meaning.id
  JOIN docs d ON d.id = coalesce(words.id, meaning.id)
  ORDER BY coalesce(1.0 / (50 + words.place), 0.0) + coalesce(1.0 / (50 + meaning.place), 0.0) DESC
  LIMIT least(match_count, 30);
END
$$;

CREATE FUNCTION filtered_nearest@suffix@(query_embedding vector, match_count int, tenant uuid, tag text DEFAULT NULL)
RETURNS SETOF docs
LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_variable
BEGIN
  RETURN QUERY
  SELECT d.* FROM docs d WHERE d.user_id = tenant @tagged@
  ORDER BY d.embedding <#> query_embedding
  LIMIT match_count;
END
$$;
