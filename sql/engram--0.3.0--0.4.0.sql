\echo Use "ALTER EXTENSION engram UPDATE TO '0.4.0'" to load this file. \quit
CREATE FUNCTION engram_internal.store_origin() RETURNS bigint
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'store_origin_wrapper';
COMMENT ON FUNCTION engram_internal.store_origin() IS
'A number for the table of events in this database of this cluster. Events that a dump brought in carry another.';
-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
