-- $1 configuration, $2 words
SELECT w.word, u.lexeme FROM pg_catalog.unnest($2) AS w (word)
CROSS JOIN LATERAL pg_catalog.unnest(engram_internal.to_terms($1, w.word)) u
