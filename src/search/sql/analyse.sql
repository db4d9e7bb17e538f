-- $1 free text, $2 phrases that must occur, $3 phrases that must not
SELECT pg_catalog.tsvector_to_array(engram_internal.to_terms($1)),
       ARRAY(SELECT pg_catalog.phraseto_tsquery('pg_catalog.english'::regconfig, p)::text
             FROM pg_catalog.unnest($2) p),
       ARRAY(SELECT pg_catalog.phraseto_tsquery('pg_catalog.english'::regconfig, p)::text
             FROM pg_catalog.unnest($3) p)
