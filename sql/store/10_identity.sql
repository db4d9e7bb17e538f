-- Who is calling, as the policies ask it. These functions belong to the store and not to the
-- extension, so that policies written against them (ours and the user's) outlive
-- DROP EXTENSION engram CASCADE. They bind to the library late and fail closed without it.

CREATE OR REPLACE FUNCTION engram.current_user_id() RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- A function of that name that is not the extension's own could claim to be anybody.
  IF NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'engram'
                 WHERE d.classid = 'pg_proc'::regclass AND d.objid = to_regproc('engram_internal.caller_id')
                   AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') THEN
    RAISE EXCEPTION 'the engram extension is not installed in database "%"', current_database()
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Your memories are still there. Run: CREATE EXTENSION engram CASCADE;';
  END IF;
  RETURN engram_internal.caller_id();
END
$$;
COMMENT ON FUNCTION engram.current_user_id() IS
'The caller''s user id, or NULL when nobody is identified. Read from request.jwt.claims (sub), else from the setting engram.user_id, as engram.identity_source allows. A subject that is no UUID maps to a UUIDv5. In policies write (SELECT engram.current_user_id()).';

CREATE OR REPLACE FUNCTION engram.readable_workspaces() RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  me uuid := engram.current_user_id();
BEGIN
  RETURN CASE WHEN me IS NULL THEN '{}'::uuid[] ELSE ARRAY[me] END;
END
$$;
COMMENT ON FUNCTION engram.readable_workspaces() IS
'The workspaces whose memories the caller may read: the personal workspace, whose id is the caller''s own. Empty without an identity.';

CREATE OR REPLACE FUNCTION engram.writable_workspaces() RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  me uuid := engram.current_user_id();
BEGIN
  RETURN CASE WHEN me IS NULL THEN '{}'::uuid[] ELSE ARRAY[me] END;
END
$$;
COMMENT ON FUNCTION engram.writable_workspaces() IS
'The workspaces whose memories the caller may change: the personal workspace, whose id is the caller''s own. Empty without an identity.';
