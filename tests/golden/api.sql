-- Names, argument names, defaults and results are API: a change here is a change for every caller.
\pset format unaligned
\pset tuples_only on
SELECT format('%s(%s) %s %s%s', p.proname, pg_get_function_arguments(p.oid),
              CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
              CASE WHEN p.prosecdef THEN 'definer ' ELSE '' END, 'returns ' || pg_get_function_result(p.oid))
FROM pg_proc p
WHERE p.pronamespace = 'engram'::regnamespace AND p.prorettype <> 'trigger'::regtype
ORDER BY p.proname;
SELECT format('%s.%s %s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' not null' ELSE '' END)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'engram'::regnamespace AND c.relkind IN ('r', 'v')
ORDER BY c.relname, a.attnum;
