-- $1 configuration, $2 phrases. Of one without words nothing, and no notice either.
SELECT CASE WHEN pg_catalog.length(t.terms) OPERATOR(pg_catalog.>) 0
            THEN pg_catalog.phraseto_tsquery($1::pg_catalog.regconfig, p.phrase)::text ELSE '' END,
       pg_catalog.array_to_string(pg_catalog.tsvector_to_array(t.terms), pg_catalog.chr(1)),
       -- "Step by step" is more than its one word.
       pg_catalog.cardinality(pg_catalog.tsvector_to_array(t.terms)) OPERATOR(pg_catalog.=) 1
         AND pg_catalog.numnode(pg_catalog.phraseto_tsquery($1::pg_catalog.regconfig, p.phrase)) OPERATOR(pg_catalog.=) 1
FROM pg_catalog.unnest($2) WITH ORDINALITY AS p (phrase, nth)
CROSS JOIN LATERAL (SELECT engram_internal.to_terms($1, p.phrase) OFFSET 0) AS t (terms)
ORDER BY p.nth
