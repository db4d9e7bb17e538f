-- Clients get what setup() grants. The helpers are open to whoever may use the schema: policies,
-- triggers and invoker functions call them in the caller's name, and none of them can do more
-- than the caller.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA engram FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram_internal.auto_setup() FROM PUBLIC;
GRANT USAGE ON SCHEMA engram_internal TO PUBLIC;

SELECT engram_internal.auto_setup();

DO $$
BEGIN
  PERFORM pg_catalog.pg_notify('pgrst', 'reload schema');
END
$$;
