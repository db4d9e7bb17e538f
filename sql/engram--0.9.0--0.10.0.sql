\echo Use "ALTER EXTENSION engram UPDATE TO '0.10.0'" to load this file. \quit
-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
