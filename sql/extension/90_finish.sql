-- Clients get what setup() grants. The helpers are open to whoever may use the schema: policies,
-- triggers and invoker functions call them in the caller's name, and none of them can do more
-- than the caller.
DO $$
DECLARE
  f regprocedure;
BEGIN
  -- Only the extension's own: the schema may hold functions of the store and of the user.
  FOR f IN
    SELECT p.oid::regprocedure
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'engram'
    WHERE p.pronamespace = 'engram'::regnamespace
  LOOP
    EXECUTE pg_catalog.format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', f);
  END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION engram_internal.auto_setup() FROM PUBLIC;
GRANT USAGE ON SCHEMA engram_internal TO PUBLIC;

SELECT engram_internal.auto_setup();

DO $$
BEGIN
  PERFORM pg_catalog.pg_notify('pgrst', 'reload schema');
END
$$;
