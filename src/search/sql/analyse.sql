-- $1 free text, $2 phrases that must occur, $3 phrases that must not
SELECT ARRAY(SELECT u.lexeme FROM pg_catalog.unnest(engram_internal.to_terms($1)) u ORDER BY u.positions[1]),
       ARRAY(SELECT pg_catalog.phraseto_tsquery('pg_catalog.english'::regconfig, p)::text
             FROM pg_catalog.unnest($2) p),
       ARRAY(SELECT pg_catalog.phraseto_tsquery('pg_catalog.english'::regconfig, p)::text
             FROM pg_catalog.unnest($3) p)
