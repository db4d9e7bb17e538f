-- $1 configuration, $2 free text, $3 its words that the configuration does not find
SELECT u.lexeme FROM (
  SELECT 1 AS source, lexeme, positions FROM pg_catalog.unnest(engram_internal.to_terms($1, $2))
  UNION ALL
  SELECT 2, lexeme, positions FROM pg_catalog.unnest(engram_internal.to_terms($1, $3)) WHERE $3 IS NOT NULL
) u ORDER BY u.source, u.positions[1]
