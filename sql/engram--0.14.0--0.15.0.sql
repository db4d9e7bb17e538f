\echo Use "ALTER EXTENSION engram UPDATE TO '0.15.0'" to load this file. \quit

-- The tables follow: new ones, triggers and grants. Whoever owns them was accepted when they were made.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup(jsonb_build_object('owner', (SELECT pg_get_userbyid(c.relowner) FROM pg_class c
                                                      WHERE c.oid = to_regclass('engram.memories'))));
  END IF;
END
$$;
