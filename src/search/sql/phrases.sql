-- $1 configuration, $2 phrases
SELECT p.nth, pg_catalog.phraseto_tsquery($1::pg_catalog.regconfig, p.phrase)::text,
       pg_catalog.array_to_string(pg_catalog.tsvector_to_array(engram_internal.to_terms($1, p.phrase)), pg_catalog.chr(1))
FROM pg_catalog.unnest($2) WITH ORDINALITY AS p (phrase, nth)
