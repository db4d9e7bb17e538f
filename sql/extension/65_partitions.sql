-- The logs by time: access_log, memory_events, messages. Each has a partition for everything before its first
-- month (_old), one for each month (or day, week, quarter, year), and a default one that catches what no month
-- covers yet, so that a missed run loses nothing. Bounds are in UTC. Whoever changes the partitions of a table
-- holds it in SHARE UPDATE EXCLUSIVE mode: nobody reads or writes differently, and only one at a time changes.

CREATE FUNCTION engram_internal.partitioned() RETURNS TABLE (parent text, key text, keep text)
LANGUAGE sql IMMUTABLE ROWS 3
SET search_path = pg_catalog, pg_temp
AS $$
  VALUES ('access_log', 'accessed_at', 'access_log_days'), ('memory_events', 'at', 'memory_events_days'),
         ('messages', 'created_at', 'messages_days')
$$;
COMMENT ON FUNCTION engram_internal.partitioned() IS
'The tables that are partitioned by time, the column that decides, and the setting that says how long they keep their rows.';

CREATE FUNCTION engram_internal.partition_bounds(parent text)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz, is_default boolean)
LANGUAGE plpgsql STABLE ROWS 20
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT c.oid::regclass::text,
         (CASE WHEN b.parts[1] = 'MINVALUE' THEN '-infinity' ELSE trim('''' FROM b.parts[1]) END)::timestamptz,
         (CASE WHEN b.parts[2] = 'MAXVALUE' THEN 'infinity' ELSE trim('''' FROM b.parts[2]) END)::timestamptz,
         b.parts IS NULL
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  CROSS JOIN LATERAL (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM [(](.*)[)] TO [(](.*)[)]$') AS parts) b
  WHERE i.inhparent = to_regclass('engram.' || quote_ident(partition_bounds.parent))
  ORDER BY 2 NULLS LAST;
END
$$;
COMMENT ON FUNCTION engram_internal.partition_bounds(text) IS 'The partitions of a table with their bounds, oldest first; the default one, last, has none.';

CREATE FUNCTION engram_internal.partition_setting(name text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT to_jsonb(d) ->> partition_setting.name FROM engram.settings d
          WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000');
END
$$;
COMMENT ON FUNCTION engram_internal.partition_setting(text) IS 'A setting of the whole store, as text.';

CREATE FUNCTION engram_internal.interval_after(unit text, moment timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  -- In UTC, so that no day is longer than another and every server draws the same borders.
  SELECT (date_trunc(unit, moment AT TIME ZONE 'UTC')
          + CASE unit WHEN 'quarter' THEN interval '3 months' ELSE ('1 ' || unit)::interval END) AT TIME ZONE 'UTC'
$$;
COMMENT ON FUNCTION engram_internal.interval_after(text, timestamptz) IS 'The first border between intervals (day, week, month, quarter, year; UTC) after a moment.';

CREATE FUNCTION engram_internal.make_partition(parent text, suffix text, model text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  name text := parent || '_' || suffix;
  nth  integer := 1;
  i    record;
BEGIN
  -- A table of that name may be one that was detached.
  WHILE to_regclass('engram.' || quote_ident(name)) IS NOT NULL LOOP
    nth := nth + 1;
    name := format('%s_%s_%s', parent, suffix, nth);
  END LOOP;
  EXECUTE format('CREATE TABLE engram.%I (LIKE engram.%I INCLUDING ALL EXCLUDING INDEXES)', name, model);
  FOR i IN
    SELECT name || substr(c.relname, length(model) + 1) AS name, x.indisprimary AS is_key, x.indisunique AS is_unique,
           substring(pg_get_indexdef(x.indexrelid) FROM ' USING .*') AS body,
           (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype = 'p') AS key,
           obj_description(x.indexrelid, 'pg_class') AS comment
    FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
    WHERE x.indrelid = to_regclass('engram.' || quote_ident(model)) ORDER BY c.relname
  LOOP
    IF i.is_key THEN
      EXECUTE format('ALTER TABLE engram.%I ADD CONSTRAINT %I %s', name, i.name, i.key);
    ELSE
      EXECUTE format('CREATE %s INDEX %I ON engram.%I %s', CASE WHEN i.is_unique THEN 'UNIQUE' ELSE '' END, i.name, name, i.body);
    END IF;
    IF i.comment IS NOT NULL THEN
      EXECUTE format('COMMENT ON INDEX engram.%I IS %L', i.name, i.comment);
    END IF;
  END LOOP;
  EXECUTE format('ALTER TABLE engram.%I ENABLE ROW LEVEL SECURITY', name);
  EXECUTE format('CREATE POLICY %I ON engram.%I FOR SELECT TO public USING (workspace_id = ANY ((SELECT engram.readable_workspaces())::uuid[]))',
                 name || '_select', name);
  EXECUTE format('COMMENT ON POLICY %I ON engram.%I IS %L', name || '_select', name, 'Rows of workspaces that the caller may read.');
  RETURN name;
END
$$;
COMMENT ON FUNCTION engram_internal.make_partition(text, text, text) IS
'A table like another partition, with its indexes, not attached yet; returns its name. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.attach_partition(parent text, name text, lower_bound timestamptz, upper_bound timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
BEGIN
  EXECUTE format('ALTER TABLE engram.%I ATTACH PARTITION engram.%I FOR VALUES FROM (%s) TO (%L)', parent, name,
                 CASE WHEN lower_bound = '-infinity' THEN 'MINVALUE' ELSE quote_literal(lower_bound) END, upper_bound);
  EXECUTE format('COMMENT ON TABLE engram.%I IS %L', name,
    CASE WHEN lower_bound = '-infinity' THEN format('Rows of %s from before %s.', parent, upper_bound)
         ELSE format('Rows of %s from %s until %s.', parent, lower_bound, upper_bound) END);
END
$$;
COMMENT ON FUNCTION engram_internal.attach_partition(text, text, timestamptz, timestamptz) IS
'Makes a table a partition for a span of time, -infinity for all before. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.create_partitions_as_owner(parent text, key text, until timestamptz)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql VOLATILE ROWS 5
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
  most_moved constant integer := 10000;
  -- Each takes locks until the transaction ends, and the server has room for some thousands.
  most_made  constant integer := 150;
  n        integer := 0;
  unit     text := coalesce(engram_internal.partition_setting('partition_interval'), 'month');
  spare    text := create_partitions_as_owner.parent || '_default';
  -- Not the time of the transaction: it may have begun in another interval.
  moment   timestamptz := clock_timestamp();
  goal     timestamptz := create_partitions_as_owner.until;
  since    timestamptz;
  border   timestamptz;
  held     bigint;
  made     text;
  gap      record;
  filled   boolean;
BEGIN
  EXECUTE format('LOCK TABLE ONLY engram.%I IN SHARE UPDATE EXCLUSIVE MODE', create_partitions_as_owner.parent);
  IF goal IS NULL THEN
    goal := moment;
    FOR held IN 1 .. coalesce(engram_internal.partition_setting('partitions_ahead')::integer, 2) LOOP
      goal := engram_internal.interval_after(unit, goal);
    END LOOP;
  END IF;
  IF NOT EXISTS (SELECT FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b WHERE b.partition::regclass = to_regclass('engram.' || quote_ident(spare)) AND b.is_default) THEN
    RAISE EXCEPTION 'table engram.% has no default partition', create_partitions_as_owner.parent
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('Somebody dropped or detached it. If it is there: ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT; else, as the owner of the tables: SELECT engram.setup();', create_partitions_as_owner.parent, spare);
  END IF;
  -- Where somebody took one out from between, and rows have come for it since.
  FOR gap IN
    SELECT x.ends, x.begins FROM (
      SELECT b.upper_bound AS ends, lead(b.lower_bound) OVER (ORDER BY b.lower_bound) AS begins
      FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b WHERE NOT b.is_default) x
    WHERE x.ends < x.begins
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM engram.%I WHERE %I >= $1 AND %2$I < $2)', spare, create_partitions_as_owner.key)
      INTO filled USING gap.ends, gap.begins;
    CONTINUE WHEN NOT filled;
    EXECUTE format('LOCK TABLE engram.%I IN ACCESS EXCLUSIVE MODE', spare);
    RETURN QUERY SELECT * FROM engram_internal.fill_partition(create_partitions_as_owner.parent, create_partitions_as_owner.key,
                   'p' || to_char(gap.ends, 'YYYYMMDD'), gap.ends, gap.begins);
  END LOOP;
  since := (SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b);
  IF since > goal AND NOT EXISTS (SELECT FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b WHERE b.lower_bound = '-infinity') THEN
    -- Somebody dropped the one for everything before.
    border := (SELECT min(b.lower_bound) FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b);
    goal := since;
    since := NULL;
  ELSIF since > goal THEN
    RETURN;
  END IF;

  -- What no partition covered so far lies in the default one, and must not when theirs is made. Others
  -- cannot write it meanwhile; that is short, because a few rows are moved, and of many the whole table
  -- becomes the partition that they need.
  -- Rows of a far future stay where they are.
  EXECUTE format('SELECT count(*) FROM (SELECT FROM engram.%I WHERE %I < $1 LIMIT %s) x', spare, create_partitions_as_owner.key, most_moved + 1)
    INTO held USING engram_internal.interval_after(unit, goal);
  IF held > most_moved THEN
    -- The table before its partition, as everybody who reads or writes them.
    EXECUTE format('LOCK TABLE ONLY engram.%I IN ACCESS EXCLUSIVE MODE', create_partitions_as_owner.parent);
  END IF;
  EXECUTE format('LOCK TABLE engram.%I IN ACCESS EXCLUSIVE MODE', spare);
  IF held > most_moved THEN
    lower_bound := coalesce(since, '-infinity');
    upper_bound := engram_internal.interval_after(unit, greatest(moment, since));
    EXECUTE format('ALTER TABLE engram.%I DETACH PARTITION engram.%I', create_partitions_as_owner.parent, spare);
    made := create_partitions_as_owner.parent || CASE WHEN since IS NULL THEN '_old' ELSE '_p' || to_char(since, 'YYYYMMDD') END;
    PERFORM engram_internal.rename_partition(spare, made);
    PERFORM engram_internal.make_partition(create_partitions_as_owner.parent, 'default', made);
    EXECUTE format('ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT', create_partitions_as_owner.parent, spare);
    EXECUTE format('COMMENT ON TABLE engram.%I IS %L', spare, obj_description(to_regclass('engram.' || quote_ident(made)), 'pg_class'));
    EXECUTE format('WITH out AS (DELETE FROM engram.%1$I WHERE %2$I < $1 OR %2$I >= $2 RETURNING *) INSERT INTO engram.%3$I SELECT * FROM out',
                   made, create_partitions_as_owner.key, spare) USING lower_bound, upper_bound;
    PERFORM engram_internal.attach_partition(create_partitions_as_owner.parent, made, lower_bound, upper_bound);
    partition := 'engram.' || quote_ident(made);
    RETURN NEXT;
    since := upper_bound;
  ELSIF since IS NULL THEN
    border := coalesce(border, date_trunc(unit, moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC');
    RETURN QUERY SELECT * FROM engram_internal.fill_partition(create_partitions_as_owner.parent, create_partitions_as_owner.key, 'old', '-infinity', border);
    since := coalesce((SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b), border);
  END IF;
  WHILE since <= goal AND n < most_made LOOP
    n := n + 1;
    border := engram_internal.interval_after(unit, since);
    RETURN QUERY SELECT * FROM engram_internal.fill_partition(create_partitions_as_owner.parent, create_partitions_as_owner.key,
                   'p' || to_char(since, 'YYYYMMDD'), since, border);
    since := border;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.create_partitions_as_owner(text, text, timestamptz) IS
'What create_partitions() does for one table. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.fill_partition(parent text, key text, suffix text, since timestamptz, until timestamptz)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  made text := engram_internal.make_partition(parent, suffix, parent || '_default');
BEGIN
  EXECUTE format('WITH moved AS (DELETE FROM engram.%1$I WHERE %2$I >= $1 AND %2$I < $2 RETURNING *) INSERT INTO engram.%3$I SELECT * FROM moved',
                 parent || '_default', key, made) USING since, until;
  PERFORM engram_internal.attach_partition(parent, made, since, until);
  RETURN QUERY SELECT 'engram.' || quote_ident(made), since, until;
END
$$;
COMMENT ON FUNCTION engram_internal.fill_partition(text, text, text, timestamptz, timestamptz) IS
'A new partition with the rows of its span that lie in the default one, which the caller has locked. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.rename_partition(old text, new text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  i name;
BEGIN
  EXECUTE format('ALTER TABLE engram.%I RENAME TO %I', old, new);
  FOR i IN SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
           WHERE x.indrelid = to_regclass('engram.' || quote_ident(new)) AND starts_with(c.relname::text, old) LOOP
    EXECUTE format('ALTER INDEX engram.%I RENAME TO %I', i, new || substr(i, length(old) + 1));
  END LOOP;
  FOR i IN SELECT p.polname FROM pg_policy p
           WHERE p.polrelid = to_regclass('engram.' || quote_ident(new)) AND starts_with(p.polname::text, old) LOOP
    EXECUTE format('ALTER POLICY %I ON engram.%I RENAME TO %I', i, new, new || substr(i, length(old) + 1));
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.rename_partition(text, text) IS
'Renames a table of schema engram and what is named after it. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.release_partitions_as_owner(
  parent text, key text, before timestamptz, schema_ text, table_ text, dry_run boolean)
RETURNS TABLE (partition text, lower_bound timestamptz, upper_bound timestamptz, bytes bigint, moved_to text)
LANGUAGE plpgsql VOLATILE ROWS 5
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
  p       record;
  newest  xid8;
  name    text;
  wanted  text;
  nth     integer;
  lowest  timestamptz;
  more    boolean;
  filled  boolean;
BEGIN
  IF NOT release_partitions_as_owner.dry_run AND current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'partitions cannot be released in a transaction that is %', current_setting('transaction_isolation')
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'It does not see what others wrote last, which would be lost. Call it in one that is read committed.';
  END IF;
  EXECUTE format('LOCK TABLE ONLY engram.%I IN SHARE UPDATE EXCLUSIVE MODE', release_partitions_as_owner.parent);
  SELECT min(b.lower_bound), coalesce(bool_or(b.upper_bound <= release_partitions_as_owner.before), false) INTO lowest, more
  FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b WHERE b.lower_bound > '-infinity';
  FOR p IN
    SELECT b.* FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b
    WHERE b.upper_bound <= release_partitions_as_owner.before AND NOT b.is_default
    ORDER BY b.upper_bound
  LOOP
    partition := p.partition;
    lower_bound := nullif(p.lower_bound, '-infinity');
    upper_bound := p.upper_bound;
    bytes := pg_total_relation_size(p.partition::regclass);
    moved_to := NULL;
    IF p.lower_bound = '-infinity' AND p.upper_bound = lowest AND NOT more THEN
      -- The one for everything before stays as long as it is empty.
      EXECUTE format('SELECT EXISTS (SELECT FROM %s)', p.partition) INTO filled;
      CONTINUE WHEN NOT filled;
    END IF;
    IF release_partitions_as_owner.dry_run THEN
      moved_to := coalesce(release_partitions_as_owner.table_, release_partitions_as_owner.schema_);
      RETURN NEXT;
      CONTINUE;
    END IF;
    IF release_partitions_as_owner.parent = 'memory_events' THEN
      INSERT INTO engram.maintenance (workspace_id) VALUES ('00000000-0000-0000-0000-000000000000') ON CONFLICT DO NOTHING;
      PERFORM FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000' FOR NO KEY UPDATE;
    END IF;
    -- The table before its partitions, as everybody who reads or writes them. Whoever has written has ended afterwards;
    -- who only began before the end of the partition and writes later finds another.
    EXECUTE format('LOCK TABLE ONLY engram.%I IN ACCESS EXCLUSIVE MODE', release_partitions_as_owner.parent);
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', p.partition);
    IF release_partitions_as_owner.parent = 'memory_events' THEN
      -- A device that has not seen all of it can no longer be told.
      EXECUTE format('SELECT e.xid FROM %s e WHERE e.origin = engram_internal.store_origin() ORDER BY e.xid DESC LIMIT 1', p.partition) INTO newest;
      UPDATE engram.maintenance m
      SET events_dropped_xid = CASE WHEN newest > coalesce(m.events_dropped_xid, '0'::xid8) THEN newest ELSE m.events_dropped_xid END,
          events_dropped_until = greatest(m.events_dropped_until, p.upper_bound)
      WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
    END IF;
    EXECUTE format('ALTER TABLE engram.%I DETACH PARTITION %s', release_partitions_as_owner.parent, p.partition);
    name := (SELECT c.relname FROM pg_class c WHERE c.oid = p.partition::regclass);
    IF release_partitions_as_owner.table_ IS NOT NULL THEN
      -- What a table does with its rows (triggers, rules, checks) it does here with the rights of this role.
      EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', release_partitions_as_owner.table_::regclass);
      IF EXISTS (SELECT FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
                 WHERE c.oid = release_partitions_as_owner.table_::regclass AND r.rolname <> current_user AND NOT r.rolsuper) THEN
        RAISE EXCEPTION 'table "%" does not belong to the owner of the tables of engram', release_partitions_as_owner.table_
          USING ERRCODE = 'insufficient_privilege',
                HINT = format('Its triggers would run with the rights of that role. ALTER TABLE %s OWNER TO %I; or detach into a schema.', release_partitions_as_owner.table_, current_user);
      END IF;
      EXECUTE format('INSERT INTO %s SELECT * FROM %s', release_partitions_as_owner.table_::regclass, p.partition);
      EXECUTE format('DROP TABLE %s', p.partition);
      moved_to := release_partitions_as_owner.table_::regclass::text;
    ELSIF release_partitions_as_owner.schema_ IS NOT NULL THEN
      -- The name of the one for everything before is needed again.
      wanted := CASE WHEN p.lower_bound = '-infinity' THEN format('%s_until_%s', release_partitions_as_owner.parent, to_char(p.upper_bound, 'YYYYMMDD'))
                     ELSE name END;
      nth := 1;
      WHILE wanted <> name AND to_regclass('engram.' || quote_ident(wanted)) IS NOT NULL
            OR release_partitions_as_owner.schema_ <> 'engram'
               AND to_regclass(format('%I.%I', release_partitions_as_owner.schema_, wanted)) IS NOT NULL LOOP
        nth := nth + 1;
        wanted := format('%s_%s', substring(wanted FROM '^(.*?[0-9]{8})'), nth);
      END LOOP;
      IF wanted <> name THEN
        PERFORM engram_internal.rename_partition(name, wanted);
      END IF;
      IF release_partitions_as_owner.schema_ <> 'engram' THEN
        EXECUTE format('ALTER TABLE engram.%I SET SCHEMA %I', wanted, release_partitions_as_owner.schema_);
      END IF;
      moved_to := format('%I.%I', release_partitions_as_owner.schema_, wanted);
    ELSE
      EXECUTE format('DROP TABLE %s', p.partition);
    END IF;
    RETURN NEXT;
  END LOOP;
  IF release_partitions_as_owner.dry_run THEN
    RETURN;
  END IF;
  -- Late rows find a home: the partition for everything before reaches to the oldest that is left.
  lowest := (SELECT min(b.lower_bound) FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b WHERE b.lower_bound > '-infinity');
  IF lowest IS NOT NULL AND NOT EXISTS (SELECT FROM engram_internal.partition_bounds(release_partitions_as_owner.parent) b WHERE b.lower_bound = '-infinity') THEN
    EXECUTE format('LOCK TABLE engram.%I IN ACCESS EXCLUSIVE MODE', release_partitions_as_owner.parent || '_default');
    PERFORM engram_internal.fill_partition(release_partitions_as_owner.parent, release_partitions_as_owner.key, 'old', '-infinity', lowest);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.release_partitions_as_owner(text, text, timestamptz, text, text, boolean) IS
'What drop_partitions() and detach_partitions() do for one table: what ends before a moment is moved to a schema, into a table, or dropped. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.administer(task text, args jsonb) RETURNS jsonb
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'administer_wrapper';
COMMENT ON FUNCTION engram_internal.administer(text, jsonb) IS
'Does a task of the whole store with the rights of its owner, for a caller that bypasses row security; 42501 for all others. task: create_partitions, release_partitions or maintain.';

CREATE FUNCTION engram_internal.observe(task text, args jsonb) RETURNS jsonb
LANGUAGE c STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'observe_wrapper';
COMMENT ON FUNCTION engram_internal.observe(text, jsonb) IS
'As administer(), for tasks that only read: health or metrics.';

CREATE FUNCTION engram_internal.partitions_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- Who waits for a table has everybody else wait behind: better to come again.
SET lock_timeout = '1s'
AS $$
#variable_conflict use_variable
DECLARE
  t      record;
  before timestamptz;
  part   jsonb;
  result jsonb := '[]';
BEGIN
  IF args ->> 'parent' IS NOT NULL AND NOT EXISTS (SELECT FROM engram_internal.partitioned() p WHERE p.parent = args ->> 'parent') THEN
    RAISE EXCEPTION 'table "%" is not one that is partitioned by time', args ->> 'parent'
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Known: ' || (SELECT string_agg(p.parent, ', ') FROM engram_internal.partitioned() p) || '.';
  END IF;
  FOR t IN SELECT p.* FROM engram_internal.partitioned() p
           WHERE to_regclass('engram.' || p.parent) IS NOT NULL AND p.parent = coalesce(args ->> 'parent', p.parent) LOOP
    BEGIN
      IF task = 'create_partitions' THEN
        SELECT coalesce(jsonb_agg(to_jsonb(c) || jsonb_build_object('parent', t.parent)), '[]') INTO part
        FROM engram_internal.create_partitions_as_owner(t.parent, t.key, (args ->> 'until')::timestamptz) c;
      ELSE
        before := engram_internal.earlier(now(), coalesce((args ->> 'older_than')::interval,
                    engram_internal.partition_setting(t.keep)::double precision * interval '1 day'));
        CONTINUE WHEN before IS NULL;
        SELECT coalesce(jsonb_agg(to_jsonb(c) || jsonb_build_object('parent', t.parent)), '[]') INTO part
        FROM engram_internal.release_partitions_as_owner(t.parent, t.key, before, args ->> 'schema', args ->> 'table',
               coalesce((args ->> 'dry_run')::boolean, false)) c;
      END IF;
    EXCEPTION WHEN lock_not_available THEN
      RAISE EXCEPTION 'table engram.% is in use, and whoever waits for it would hold everybody up', t.parent
        USING ERRCODE = 'lock_not_available', HINT = 'Nothing was changed. Call it again; maintain() tries it at every run.';
    END;
    IF part <> '[]' THEN
      -- Holding one table and waiting for another, it might be what somebody waits for who holds that:
      -- only for much less time than PostgreSQL takes to call it a deadlock.
      PERFORM set_config('lock_timeout', '50ms', true);
    END IF;
    result := result || part;
  END LOOP;
  RETURN result;
END
$$;
COMMENT ON FUNCTION engram_internal.partitions_task(text, jsonb) IS
'create_partitions and release_partitions for every table by time. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.create_partitions(until timestamptz DEFAULT NULL)
RETURNS TABLE (parent_table text, partition text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM engram_internal.require_writable();
  IF NOT isfinite(create_partitions.until) OR create_partitions.until > now() + interval '50 years' THEN
    RAISE EXCEPTION 'until is %', create_partitions.until
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a moment within the next 50 years, or leave it out.';
  END IF;
  RETURN QUERY
  SELECT r.parent, r.partition, nullif(r.lower_bound, '-infinity'), r.upper_bound
  FROM jsonb_to_recordset(engram_internal.administer('create_partitions', jsonb_build_object('until', create_partitions.until)))
    AS r (parent text, partition text, lower_bound timestamptz, upper_bound timestamptz);
END
$$;
COMMENT ON FUNCTION engram.create_partitions(timestamptz) IS
'Makes the partitions of access_log, memory_events and messages that are missing, and returns them; lower_bound is NULL for the one that holds everything before the first. For roles that bypass row security; maintain() does it.

until: cover time until then; by default partitions_ahead intervals from now. At most 150 a table and call; what is still missing then the next call makes. Intervals are days, weeks, months (default), quarters or years in UTC: setting partition_interval. Rows that the default partition has caught meanwhile move into theirs. Others read and write on; what cannot be locked at once raises 55P03 and changes nothing.';

CREATE FUNCTION engram.drop_partitions(older_than interval DEFAULT NULL, parent text DEFAULT NULL, dry_run boolean DEFAULT NULL)
RETURNS TABLE (parent_table text, partition text, lower_bound timestamptz, upper_bound timestamptz, bytes bigint)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  -- Who only asks may do so where nothing can be written, but on a standby not even locks can be had.
  PERFORM engram_internal.require_writable() WHERE engram_internal.writes(drop_partitions.dry_run) OR pg_is_in_recovery();
  PERFORM engram_internal.check_age(drop_partitions.older_than);
  RETURN QUERY
  SELECT r.parent, r.partition, r.lower_bound, r.upper_bound, r.bytes
  FROM jsonb_to_recordset(engram_internal.administer('release_partitions', jsonb_build_object(
      'older_than', drop_partitions.older_than, 'parent', drop_partitions.parent, 'dry_run', drop_partitions.dry_run)))
    AS r (parent text, partition text, lower_bound timestamptz, upper_bound timestamptz, bytes bigint);
END
$$;
COMMENT ON FUNCTION engram.drop_partitions(interval, text, boolean) IS
'Drops partitions all of whose time is older, and returns them. No activation, strength or search result changes by it: what counts has been folded. history() and as_of reach no further back then, and devices that have not synchronised since get a new start. For roles that bypass row security.

older_than: by default what the settings access_log_days, memory_events_days and messages_days keep, which is everything unless they are set. parent: only this table. dry_run: only tell which.';

CREATE FUNCTION engram.detach_partitions(
  older_than interval,
  parent text DEFAULT NULL,
  into_schema text DEFAULT NULL,
  into_table text DEFAULT NULL,
  dry_run boolean DEFAULT NULL)
RETURNS TABLE (parent_table text, partition text, lower_bound timestamptz, upper_bound timestamptz, moved_to text)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM engram_internal.require_writable() WHERE engram_internal.writes(detach_partitions.dry_run) OR pg_is_in_recovery();
  IF detach_partitions.older_than IS NULL THEN
    RAISE EXCEPTION 'older_than is NULL'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an interval, for example ''1 year''.';
  END IF;
  PERFORM engram_internal.check_age(detach_partitions.older_than);
  IF detach_partitions.into_table IS NOT NULL AND (detach_partitions.into_schema IS NOT NULL OR detach_partitions.parent IS NULL) THEN
    RAISE EXCEPTION 'into_table "%" goes with a parent and without into_schema', detach_partitions.into_table
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name the table whose rows it takes, for example parent => ''access_log''; or give into_schema alone.';
  END IF;
  IF detach_partitions.into_schema IS NOT NULL AND to_regnamespace(quote_ident(detach_partitions.into_schema)) IS NULL THEN
    RAISE EXCEPTION 'schema "%" does not exist', detach_partitions.into_schema
      USING ERRCODE = 'invalid_schema_name', HINT = format('Create it first: CREATE SCHEMA %I;', detach_partitions.into_schema);
  END IF;
  IF detach_partitions.into_table IS NOT NULL AND to_regclass(detach_partitions.into_table) IS NULL THEN
    RAISE EXCEPTION 'table "%" does not exist', detach_partitions.into_table
      USING ERRCODE = 'undefined_table',
            HINT = format('Create it first: CREATE TABLE %s (LIKE engram.%I);', detach_partitions.into_table, detach_partitions.parent);
  END IF;
  RETURN QUERY
  SELECT r.parent, r.partition, r.lower_bound, r.upper_bound, r.moved_to
  FROM jsonb_to_recordset(engram_internal.administer('release_partitions', jsonb_build_object(
      'older_than', detach_partitions.older_than, 'parent', detach_partitions.parent, 'dry_run', detach_partitions.dry_run,
      'schema', CASE WHEN detach_partitions.into_table IS NULL THEN coalesce(detach_partitions.into_schema, 'engram') END,
      'table', to_regclass(detach_partitions.into_table)::text)))
    AS r (parent text, partition text, lower_bound timestamptz, upper_bound timestamptz, moved_to text);
END
$$;
COMMENT ON FUNCTION engram.detach_partitions(interval, text, text, text, boolean) IS
'As drop_partitions(), but keeps the rows: the partitions become tables of their own, in a schema (into_schema, by default where they are), or their rows go into a table (into_table, with the columns of parent). moved_to tells where. The owner of the tables of engram needs the right to create in that schema; the table must belong to that role or a superuser.';

CREATE FUNCTION engram_internal.earlier(moment timestamptz, age interval) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN moment - age;
EXCEPTION WHEN datetime_field_overflow THEN
  RETURN '-infinity';
END
$$;
COMMENT ON FUNCTION engram_internal.earlier(timestamptz, interval) IS 'A moment less an age of 0 or more; -infinity where no calendar reaches.';

CREATE FUNCTION engram_internal.check_at(at timestamptz) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT isfinite(at) THEN
    RAISE EXCEPTION 'at is %', at
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a moment in time, or leave it out.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_at(timestamptz) IS 'Raises the error for a moment that is infinite.';

CREATE FUNCTION engram_internal.check_age(older_than interval) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF older_than < interval '0' THEN
    RAISE EXCEPTION 'older_than is %', older_than
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an interval of 0 or more, for example ''1 year''.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.check_age(interval) IS 'Raises the error for an age below 0.';
