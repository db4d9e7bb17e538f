\echo Use "ALTER EXTENSION engram UPDATE TO '0.4.0'" to load this file. \quit
DROP FUNCTION engram.erase(uuid[], jsonb, boolean, uuid);

CREATE FUNCTION engram_internal.store_origin() RETURNS bigint
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'store_origin_wrapper';
COMMENT ON FUNCTION engram_internal.store_origin() IS
'A number for the table of events in this database of this cluster. Events that a dump brought in carry another.';

CREATE FUNCTION engram_internal.traces(workspace uuid, id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object(
    'embeddings', (SELECT count(*) FROM engram.embeddings e WHERE e.workspace_id = traces.workspace AND e.memory_id = traces.id),
    'state', (SELECT count(*) FROM engram.memory_state s WHERE s.workspace_id = traces.workspace AND s.memory_id = traces.id),
    'links', (SELECT count(*) FROM engram.hebbian_links l WHERE l.workspace_id = traces.workspace AND l.a = traces.id)
           + (SELECT count(*) FROM engram.hebbian_links l WHERE (l.workspace_id = traces.workspace) IS TRUE AND l.b = traces.id),
    'typed_links', (SELECT count(*) FROM engram.graph_links g WHERE g.workspace_id = traces.workspace AND g.memory_id = traces.id)
                 + (SELECT count(*) FROM engram.graph_links g WHERE (g.workspace_id = traces.workspace) IS TRUE AND g.target_id = traces.id),
    'uses', (SELECT count(*) FROM engram.access_log l WHERE l.workspace_id = traces.workspace AND l.memory_id = traces.id)
          + (SELECT count(*) FROM engram.access_queue q WHERE q.workspace_id = traces.workspace AND traces.id = ANY (q.memory_ids)),
    'events', (SELECT count(*) FROM engram.memory_events e WHERE (e.workspace_id = traces.workspace) IS TRUE AND e.memory_id = traces.id));
END
$$;
COMMENT ON FUNCTION engram_internal.traces(uuid, uuid) IS 'How many rows of each kind hang on a memory, as the caller sees them.';

CREATE FUNCTION engram.erase(
  ids uuid[] DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  dry_run boolean DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (id uuid, erased_at timestamptz, removed jsonb)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws        uuid := engram_internal.resolve_workspace(erase.workspace, true);
  condition text;
  params    jsonb;
  doomed    uuid[];
  traces    jsonb;
BEGIN
  SELECT f.condition, f.params INTO condition, params FROM engram_internal.compile_filter(erase.filter) f;
  IF erase.ids IS NULL AND params = '[]' THEN
    RAISE EXCEPTION 'erase() was given neither ids nor a filter with a condition'
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Pass ids => ARRAY[…] or a filter such as {"session_id": "…"}. To erase everything say so: {"created_at": {"exists": true}}.';
  END IF;
  EXECUTE 'SELECT coalesce(array_agg(d.id ORDER BY d.id), ''{}'') FROM (SELECT m.id FROM engram.memories m
           WHERE m.workspace_id = $2 AND ($3 IS NULL OR m.id = ANY ($3)) AND $1 IS NOT NULL AND ' || condition ||
          ' ORDER BY m.id' || CASE WHEN erase.dry_run THEN ')' ELSE ' FOR UPDATE)' END || ' d'
    INTO doomed USING params, ws, erase.ids;
  SELECT jsonb_object_agg(d, engram_internal.traces(ws, d)) INTO traces FROM unnest(doomed) d;
  IF erase.dry_run THEN
    RETURN QUERY SELECT d, NULL::timestamptz, traces -> d::text FROM unnest(doomed) d;
    RETURN;
  END IF;
  RETURN QUERY DELETE FROM engram.memories m WHERE m.workspace_id = ws AND m.id = ANY (doomed) RETURNING m.id, now(), traces -> m.id::text;
END
$$;
COMMENT ON FUNCTION engram.erase(uuid[], jsonb, boolean, uuid) IS
'Deletes memories for good, with everything that hangs on them, and returns a receipt: the ids, when, and how many rows of each kind went with them (embeddings, state, links, typed_links, uses, events). Each id leaves a tombstone, so that a late import or retry cannot bring it back, and the bare fact in memory_events.

ids and filter: which ones, forgotten ones included; with both, those that match both. dry_run: only tell which, erased_at then is NULL.';

CREATE OR REPLACE FUNCTION engram_internal.change_settings(workspace uuid, changes jsonb, preset text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  key   text;
  value jsonb;
  kind  text;
  hint  text;
  wrong text;
  row_  jsonb;
BEGIN
  IF NOT has_table_privilege('engram.settings', 'UPDATE') THEN
    RAISE EXCEPTION 'role "%" may not change settings', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call engram.configure() or engram.apply_preset().';
  END IF;
  IF NOT EXISTS (SELECT FROM engram.settings s WHERE s.workspace_id = change_settings.workspace) THEN
    INSERT INTO engram.settings (workspace_id) VALUES (change_settings.workspace) ON CONFLICT DO NOTHING;
  END IF;
  FOR key, value IN SELECT * FROM jsonb_each(changes) ORDER BY 1 LOOP
    SELECT format_type(a.atttypid, a.atttypmod), col_description(a.attrelid, a.attnum) INTO kind, hint
    FROM pg_attribute a
    WHERE a.attrelid = 'engram.settings'::regclass AND a.attname = key AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname NOT IN ('workspace_id', 'preset');
    IF NOT FOUND THEN
      RAISE EXCEPTION 'unknown setting "%"', key
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Known: ' || (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_attribute a
                WHERE a.attrelid = 'engram.settings'::regclass AND a.attnum > 0 AND NOT a.attisdropped
                  AND a.attname NOT IN ('workspace_id', 'preset')) || '.';
    END IF;
    IF value = 'null' AND change_settings.workspace = '00000000-0000-0000-0000-000000000000' 
       AND key NOT IN ('near_duplicate_threshold', 'purge_after_days', 'access_log_days', 'memory_events_days', 'messages_days', 'archive_messages_days', 'size_limit_bytes') THEN
      RAISE EXCEPTION 'the default of setting % cannot be null', key
        USING ERRCODE = 'invalid_parameter_value', HINT = hint;
    END IF;
    BEGIN
      EXECUTE format('UPDATE engram.settings SET %I = $1::%s WHERE workspace_id = $2', key, kind)
        USING value #>> '{}', change_settings.workspace;
    EXCEPTION
      WHEN check_violation OR invalid_text_representation OR numeric_value_out_of_range OR undefined_object THEN
        GET STACKED DIAGNOSTICS wrong = CONSTRAINT_NAME;
        -- The three thresholds of layers depend on each other; those are judged at the end.
        IF wrong <> 'settings_layers_check' THEN
          RAISE EXCEPTION 'setting % cannot be %', key, value
            USING ERRCODE = 'invalid_parameter_value', HINT = hint;
        END IF;
    END;
  END LOOP;
  -- Once more together, now that each is known to be right alone.
  IF changes ?| ARRAY['promote', 'demote', 'archive'] THEN
    SELECT jsonb_build_object(
      'promote', CASE WHEN changes ? 'promote' THEN changes -> 'promote' ELSE to_jsonb(s.promote) END,
      'demote', CASE WHEN changes ? 'demote' THEN changes -> 'demote' ELSE to_jsonb(s.demote) END,
      'archive', CASE WHEN changes ? 'archive' THEN changes -> 'archive' ELSE to_jsonb(s.archive) END)
    INTO row_ FROM engram.settings s WHERE s.workspace_id = change_settings.workspace;
    IF EXISTS (SELECT FROM engram.settings d WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000'
               AND coalesce((row_ ->> 'promote')::double precision, d.promote)
                 < greatest(coalesce((row_ ->> 'demote')::double precision, d.demote), coalesce((row_ ->> 'archive')::double precision, d.archive))) THEN
      RAISE EXCEPTION 'promote would be less than demote or archive: %', row_
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'A memory that is promoted must not be demoted or archived at the same strength. Change them together.';
    END IF;
    UPDATE engram.settings s SET promote = (row_ ->> 'promote')::double precision, demote = (row_ ->> 'demote')::double precision,
      archive = (row_ ->> 'archive')::double precision
    WHERE s.workspace_id = change_settings.workspace;
  END IF;
  UPDATE engram.settings s SET preset = change_settings.preset WHERE s.workspace_id = change_settings.workspace AND change_settings.preset IS NOT NULL;
  RETURN engram_internal.effective_settings(change_settings.workspace);
END
$$;
COMMENT ON FUNCTION engram.configure(jsonb, uuid) IS
'Changes settings of a workspace and returns those in force.

changes: an object of names and values, for example {"decay": 0.4, "link_half_life_days": 60}; null goes back to the default. Users set how their memories live and how they are ranked; max_content_chars, candidates, fold_threshold, text_config, partition_interval, partitions_ahead, access_log_days, memory_events_days, messages_days and size_limit_bytes take a role that bypasses row security, which may also name the all-zero workspace, that of the defaults. A memory lives by them from its latest use on.';

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
  CROSS JOIN LATERAL (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \((.*)\) TO \((.*)\)$') AS parts) b
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
  unit     text := coalesce(engram_internal.partition_setting('partition_interval'), 'month');
  spare    text := create_partitions_as_owner.parent || '_default';
  -- Not the time of the transaction: it may have begun in another interval.
  moment   timestamptz := clock_timestamp();
  goal     timestamptz := create_partitions_as_owner.until;
  since    timestamptz;
  border   timestamptz;
  held     bigint;
  made     text;
BEGIN
  EXECUTE format('LOCK TABLE ONLY engram.%I IN SHARE UPDATE EXCLUSIVE MODE', create_partitions_as_owner.parent);
  IF goal IS NULL THEN
    goal := moment;
    FOR held IN 1 .. coalesce(engram_internal.partition_setting('partitions_ahead')::integer, 2) LOOP
      goal := engram_internal.interval_after(unit, goal);
    END LOOP;
  END IF;
  IF NOT EXISTS (SELECT FROM engram_internal.partition_bounds(create_partitions_as_owner.parent) b WHERE b.partition = 'engram.' || quote_ident(spare) AND b.is_default) THEN
    RAISE EXCEPTION 'table engram.% has no default partition', create_partitions_as_owner.parent
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('Somebody dropped or detached it. If it is there: ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT; else, as the owner of the tables: SELECT engram.setup();', create_partitions_as_owner.parent, spare);
  END IF;
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
  EXECUTE format('SELECT count(*) FROM (SELECT FROM engram.%I LIMIT %s) x', spare, most_moved + 1) INTO held;
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
  WHILE since <= goal LOOP
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
  lowest  timestamptz;
  more    boolean;
  filled  boolean;
BEGIN
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
      -- A device that has not seen all of it can no longer be told. Nobody writes a time that is over,
      -- but for who began before its end.
      IF EXISTS (SELECT FROM pg_stat_activity a WHERE a.xact_start < p.upper_bound AND a.backend_xid IS NOT NULL) THEN
        RAISE EXCEPTION 'a transaction that began before % is still open', p.upper_bound
          USING ERRCODE = 'lock_not_available', HINT = 'End it: SELECT * FROM pg_stat_activity ORDER BY xact_start;';
      END IF;
      EXECUTE format('SELECT e.xid FROM %s e WHERE e.origin = engram_internal.store_origin() ORDER BY e.xid DESC LIMIT 1', p.partition) INTO newest;
      INSERT INTO engram.maintenance (workspace_id) VALUES ('00000000-0000-0000-0000-000000000000') ON CONFLICT DO NOTHING;
      UPDATE engram.maintenance m
      SET events_dropped_xid = CASE WHEN newest > coalesce(m.events_dropped_xid, '0'::xid8) THEN newest ELSE m.events_dropped_xid END,
          events_dropped_until = greatest(m.events_dropped_until, p.upper_bound)
      WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
    END IF;
    -- The table before its partitions, as everybody who reads or writes them.
    EXECUTE format('LOCK TABLE ONLY engram.%I IN ACCESS EXCLUSIVE MODE', release_partitions_as_owner.parent);
    EXECUTE format('ALTER TABLE engram.%I DETACH PARTITION %s', release_partitions_as_owner.parent, p.partition);
    name := (SELECT c.relname FROM pg_class c WHERE c.oid = p.partition::regclass);
    IF release_partitions_as_owner.table_ IS NOT NULL THEN
      EXECUTE format('INSERT INTO %s SELECT * FROM %s', release_partitions_as_owner.table_::regclass, p.partition);
      EXECUTE format('DROP TABLE %s', p.partition);
      moved_to := release_partitions_as_owner.table_::regclass::text;
    ELSIF release_partitions_as_owner.schema_ = 'engram' THEN
      -- Not its name, which the next partition for everything before will need.
      IF p.lower_bound = '-infinity' THEN
        PERFORM engram_internal.rename_partition(name, format('%s_until_%s', release_partitions_as_owner.parent, to_char(p.upper_bound, 'YYYYMMDD')));
        name := format('%s_until_%s', release_partitions_as_owner.parent, to_char(p.upper_bound, 'YYYYMMDD'));
      END IF;
      moved_to := format('engram.%I', name);
    ELSIF release_partitions_as_owner.schema_ IS NOT NULL THEN
      EXECUTE format('ALTER TABLE %s SET SCHEMA %I', p.partition, release_partitions_as_owner.schema_);
      IF p.lower_bound = '-infinity' THEN
        EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', release_partitions_as_owner.schema_, name,
          format('%s_until_%s', release_partitions_as_owner.parent, to_char(p.upper_bound, 'YYYYMMDD')));
        name := format('%s_until_%s', release_partitions_as_owner.parent, to_char(p.upper_bound, 'YYYYMMDD'));
      END IF;
      moved_to := format('%I.%I', release_partitions_as_owner.schema_, name);
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
        before := now() - coalesce((args ->> 'older_than')::interval,
                                   engram_internal.partition_setting(t.keep)::double precision * interval '1 day');
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

until: cover time until then; by default partitions_ahead intervals from now. Intervals are days, weeks, months (default), quarters or years in UTC: setting partition_interval. Rows that the default partition has caught meanwhile move into theirs. Others read and write on; what cannot be locked at once raises 55P03 and changes nothing.';

CREATE FUNCTION engram.drop_partitions(older_than interval DEFAULT NULL, parent text DEFAULT NULL, dry_run boolean DEFAULT NULL)
RETURNS TABLE (parent_table text, partition text, lower_bound timestamptz, upper_bound timestamptz, bytes bigint)
LANGUAGE plpgsql VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
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
'As drop_partitions(), but keeps the rows: the partitions become tables of their own, in a schema (into_schema, by default where they are), or their rows go into a table (into_table, with the columns of parent). moved_to tells where. The owner of the tables of engram needs the right to create in that schema, or to insert into that table.';

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

-- Forgetting for real, and all care in one procedure.
CREATE FUNCTION engram.set_retention(
  name text,
  max_age interval DEFAULT NULL,
  max_count integer DEFAULT NULL,
  types text[] DEFAULT NULL,
  max_importance double precision DEFAULT NULL,
  action text DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(set_retention.workspace, true);
BEGIN
  IF coalesce(set_retention.name, '') = '' THEN
    RAISE EXCEPTION 'name is %', CASE WHEN set_retention.name IS NULL THEN 'NULL' ELSE 'empty' END
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the policy, so that it can be changed and dropped.';
  END IF;
  IF set_retention.max_age IS NULL AND set_retention.max_count IS NULL THEN
    RAISE EXCEPTION 'retention policy "%" has neither max_age nor max_count', set_retention.name
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Say what it limits, for example max_age => ''90 days''.';
  END IF;
  IF set_retention.max_age < interval '0' OR set_retention.max_count < 0 THEN
    RAISE EXCEPTION 'max_age % or max_count % is below 0', set_retention.max_age, set_retention.max_count
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give 0 or more; 0 takes all that the policy is about.';
  END IF;
  IF coalesce(set_retention.action, 'forget') NOT IN ('forget', 'erase') THEN
    RAISE EXCEPTION 'unknown action "%"', set_retention.action
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: forget (default), which restore() takes back, and erase.';
  END IF;
  PERFORM engram_internal.check_memory(t, NULL, NULL, set_retention.max_importance, NULL)
  FROM unnest(coalesce(set_retention.types, ARRAY[NULL])) AS t;
  INSERT INTO engram.retention_policies AS p (workspace_id, name, action, types, max_importance, max_age, max_count)
  VALUES (ws, set_retention.name, coalesce(set_retention.action, 'forget'), set_retention.types, set_retention.max_importance,
          set_retention.max_age, set_retention.max_count)
  ON CONFLICT (workspace_id, name) DO UPDATE
  SET action = EXCLUDED.action, types = EXCLUDED.types, max_importance = EXCLUDED.max_importance,
      max_age = EXCLUDED.max_age, max_count = EXCLUDED.max_count;
END
$$;
COMMENT ON FUNCTION engram.set_retention(text, interval, integer, text[], double precision, text, uuid) IS
'Sets, or replaces, a retention policy of a workspace. maintain() and apply_retention() follow it.

It takes memories stored longer than max_age ago, and those beyond the newest max_count; only of these types, and of at most this importance (0 to 1), if given. Pinned memories are never taken, nor counted. action: forget (default; restore() takes it back) or erase (final). engram.retention_policies lists them.';

CREATE FUNCTION engram.drop_retention(name text, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ws uuid := engram_internal.resolve_workspace(drop_retention.workspace, true);
BEGIN
  DELETE FROM engram.retention_policies p WHERE p.workspace_id = ws AND p.name = drop_retention.name;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram.drop_retention(text, uuid) IS 'Drops a retention policy. True when it was there.';

CREATE FUNCTION engram_internal.apply_retention(workspace uuid, at timestamptz, dry_run boolean, batch_size integer)
RETURNS TABLE (workspace_id uuid, policy text, action text, memories bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  p      record;
  ids    uuid[];
  moment timestamptz := coalesce(apply_retention.at, now());
BEGIN
  FOR p IN SELECT r.* FROM engram.retention_policies r
           WHERE apply_retention.workspace IS NULL OR r.workspace_id = apply_retention.workspace
           ORDER BY r.workspace_id, r.name LOOP
    ids := ARRAY(
      SELECT x.id FROM (
        SELECT m.id, m.created_at, row_number() OVER (ORDER BY m.created_at DESC, m.id DESC) AS place
        FROM engram.memories m
        WHERE m.workspace_id = p.workspace_id AND NOT m.pinned
          AND (m.deleted_at IS NULL OR p.action = 'erase')
          AND (p.types IS NULL OR m.type = ANY (p.types))
          AND (p.max_importance IS NULL OR m.importance <= p.max_importance)) x
      WHERE x.created_at < moment - p.max_age OR x.place > p.max_count
      ORDER BY x.id LIMIT apply_retention.batch_size);
    workspace_id := p.workspace_id;
    policy := p.name;
    action := p.action;
    memories := cardinality(ids);
    IF NOT coalesce(apply_retention.dry_run, false) AND memories > 0 THEN
      -- Who is at work on one of them keeps it until the next time.
      ids := ARRAY(SELECT m.id FROM engram.memories m
                   WHERE m.workspace_id = p.workspace_id AND m.id = ANY (ids) AND NOT m.pinned ORDER BY m.id FOR UPDATE SKIP LOCKED);
      IF p.action = 'erase' THEN
        DELETE FROM engram.memories m WHERE m.workspace_id = p.workspace_id AND m.id = ANY (ids);
      ELSE
        UPDATE engram.memories m SET deleted_at = moment WHERE m.workspace_id = p.workspace_id AND m.id = ANY (ids) AND m.deleted_at IS NULL;
      END IF;
      GET DIAGNOSTICS memories = ROW_COUNT;
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION engram_internal.apply_retention(uuid, timestamptz, boolean, integer) IS
'What apply_retention() does, for one workspace or all, at most so many memories a policy. As the caller.';

CREATE FUNCTION engram.apply_retention(dry_run boolean DEFAULT NULL, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (policy text, action text, memories bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(apply_retention.workspace, true);
BEGIN
  RETURN QUERY SELECT r.policy, r.action, r.memories
               FROM engram_internal.apply_retention(ws, apply_retention.at, apply_retention.dry_run, NULL) r;
END
$$;
COMMENT ON FUNCTION engram.apply_retention(boolean, timestamptz, uuid) IS
'Applies the retention policies of a workspace now, in the order of their names, and tells how many memories each took. maintain() does it.

dry_run: only tell how many each policy by itself would take. at: the moment by which ages are judged, by default now.';

CREATE FUNCTION engram_internal.purge(workspace uuid, older_than interval, at timestamptz, dry_run boolean, batch_size integer)
RETURNS TABLE (workspace_id uuid, id uuid, reason text, gone_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  moment timestamptz := coalesce(purge.at, now());
BEGIN
  RETURN QUERY EXECUTE
    $q$WITH doomed AS MATERIALIZED (
         SELECT m.workspace_id, m.id, CASE WHEN m.deleted_at IS NOT NULL THEN 'forgotten' ELSE 'expired' END AS reason,
                coalesce(m.deleted_at, m.expires_at) AS gone_at
         FROM engram.memories m$q$
    || CASE WHEN purge.older_than IS NULL THEN $q$
         JOIN engram.settings d ON d.workspace_id = '00000000-0000-0000-0000-000000000000'
         LEFT JOIN engram.settings w ON w.workspace_id = m.workspace_id$q$ ELSE '' END
    || $q$ WHERE (m.deleted_at IS NOT NULL OR m.expires_at IS NOT NULL)
             AND coalesce(m.deleted_at, m.expires_at) <= $2 - $q$
    || CASE WHEN purge.older_than IS NULL THEN $q$coalesce(w.purge_after_days, d.purge_after_days) * interval '1 day'$q$ ELSE '$3' END
    || CASE WHEN purge.workspace IS NULL THEN '' ELSE ' AND m.workspace_id = $1' END
    || $q$ ORDER BY m.workspace_id, m.id LIMIT $4
       ), held AS MATERIALIZED (
         SELECT d.* FROM doomed d CROSS JOIN LATERAL (
           SELECT x.ctid FROM engram.memories x
           WHERE NOT $5 AND x.workspace_id = d.workspace_id AND x.id = d.id
             AND coalesce(x.deleted_at, x.expires_at) = d.gone_at FOR UPDATE SKIP LOCKED) there
       ), erased AS (
         DELETE FROM engram.memories m USING held h WHERE m.workspace_id = h.workspace_id AND m.id = h.id
         RETURNING h.workspace_id, h.id, h.reason, h.gone_at
       )
       SELECT * FROM erased UNION ALL SELECT * FROM doomed WHERE $5 ORDER BY 1, 2$q$
    USING purge.workspace, moment, purge.older_than, coalesce(purge.batch_size, 2147483647), coalesce(purge.dry_run, false);
END
$$;
COMMENT ON FUNCTION engram_internal.purge(uuid, interval, timestamptz, boolean, integer) IS
'What purge() does, for one workspace or all; without an age by the settings of each. As the caller.';

CREATE FUNCTION engram.purge(
  older_than interval DEFAULT '30 days',
  dry_run boolean DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS TABLE (id uuid, reason text, gone_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(purge.workspace, true);
BEGIN
  PERFORM engram_internal.check_age(purge.older_than);
  RETURN QUERY SELECT p.id, p.reason, p.gone_at
               FROM engram_internal.purge(ws, coalesce(purge.older_than, interval '30 days'), purge.at, purge.dry_run, NULL) p;
END
$$;
COMMENT ON FUNCTION engram.purge(interval, boolean, timestamptz, uuid) IS
'Erases memories of a workspace that were forgotten, or expired, longer ago than older_than, and returns them. reason: forgotten or expired; gone_at: since when. maintain() does it after purge_after_days (settings).

dry_run: only tell which. at: the moment by which ages are judged, by default now.';

CREATE FUNCTION engram_internal.maintain_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_variable
DECLARE
  batch  constant integer := 1000;
  phase  text := args ->> 'phase';
  last   text := args ->> 'after';
  counts jsonb := '{}';
  done   boolean := true;
  n      bigint := 0;
  c      record;
BEGIN
  IF NOT has_table_privilege('engram.access_queue', 'DELETE') THEN
    RAISE EXCEPTION 'role "%" may not maintain the store', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'CALL engram.maintain(); as a role that bypasses row security.';
  END IF;
  IF phase = 'finish' THEN
    INSERT INTO engram.maintenance (workspace_id) VALUES ('00000000-0000-0000-0000-000000000000') ON CONFLICT DO NOTHING;
    -- Sizes of a day or more ago stay beside the present ones, to see what grows.
    UPDATE engram.maintenance m
    SET maintained_at = clock_timestamp(),
        report = jsonb_build_object('phases', args -> 'report', 'sizes', now_.sizes,
          'before', CASE WHEN (m.report -> 'before' ->> 'at')::timestamptz > clock_timestamp() - interval '1 day' THEN m.report -> 'before'
                         ELSE coalesce(m.report -> 'sizes', now_.sizes) END)
    FROM (SELECT engram_internal.sizes() AS sizes) now_
    WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
    RETURN '{"done": true}';
  END IF;
  -- Two that maintain at once do different phases; none waits, and no lock outlives its transaction.
  IF NOT pg_try_advisory_xact_lock(hashtextextended('engram maintain ' || phase, 0)) THEN
    RETURN '{"done": true, "busy": true}';
  END IF;
  IF phase IN ('partitions', 'drop_partitions') THEN
    -- A table at a time, so that none is held while another one is waited for.
    SELECT min(p.parent) INTO last FROM engram_internal.partitioned() p
    WHERE to_regclass('engram.' || p.parent) IS NOT NULL AND p.parent > coalesce(last, '');
    IF last IS NOT NULL THEN
      counts := jsonb_build_object('done', false, 'after', last);
      BEGIN
        RETURN counts || jsonb_build_object(CASE phase WHEN 'partitions' THEN 'created' ELSE 'dropped' END,
          jsonb_array_length(engram_internal.partitions_task(
            CASE phase WHEN 'partitions' THEN 'create_partitions' ELSE 'release_partitions' END, jsonb_build_object('parent', last))));
      EXCEPTION WHEN lock_not_available THEN
        -- The next run comes soon; the other tables need not wait for it.
        RETURN counts || jsonb_build_object('in_use', last);
      END;
    END IF;
  END IF;
  CASE phase
    WHEN 'partitions' THEN
      counts := '{"created": 0}';
    WHEN 'consolidate' THEN
      SELECT * INTO c FROM engram_internal.consolidate_as_owner(NULL, NULL, false, 20000);
      counts := to_jsonb(c) - 'done';
      done := c.done;
    WHEN 'retention' THEN
      FOR c IN SELECT r.action, r.memories FROM engram_internal.apply_retention(NULL, NULL, false, batch) r LOOP
        counts := counts || CASE c.action
          WHEN 'erase' THEN jsonb_build_object('erased', coalesce((counts ->> 'erased')::bigint, 0) + c.memories)
          ELSE jsonb_build_object('forgotten', coalesce((counts ->> 'forgotten')::bigint, 0) + c.memories) END;
        done := done AND c.memories < batch;
      END LOOP;
    WHEN 'purge' THEN
      SELECT count(*) FILTER (WHERE p.reason = 'forgotten') AS forgotten, count(*) FILTER (WHERE p.reason = 'expired') AS expired INTO c
      FROM engram_internal.purge(NULL, NULL, NULL, false, batch) p;
      done := c.forgotten + c.expired < batch;
      counts := to_jsonb(c);
      DELETE FROM engram.embedding_claims e WHERE e.claimed_until < now();
      GET DIAGNOSTICS n = ROW_COUNT;
      counts := counts || jsonb_build_object('claims', n);
    WHEN 'pack' THEN
      FOR c IN
        SELECT b.workspace_id, b.model, bool_or(b.level = 0) AS replacing FROM engram.search_blocks b
        WHERE b.level <= 1 AND b.workspace_id IN (
          SELECT x.workspace_id FROM engram.search_blocks x
          WHERE x.level <= 1 AND (last IS NULL OR x.workspace_id > last::uuid) GROUP BY x.workspace_id ORDER BY x.workspace_id LIMIT 100)
        GROUP BY b.workspace_id, b.model ORDER BY b.workspace_id
      LOOP
        IF c.replacing THEN
          n := n + engram_internal.pack(c.workspace_id, c.model, true, 1);
        END IF;
        n := n + engram_internal.pack(c.workspace_id, c.model, false, 2);
        last := c.workspace_id;
        done := false;
      END LOOP;
      counts := jsonb_build_object('blocks', n);
    WHEN 'drop_partitions' THEN
      counts := '{"dropped": 0}';
    ELSE
      RAISE EXCEPTION 'unknown phase "%"', phase
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Known: ' || array_to_string(engram_internal.phases(), ', ') || '.';
  END CASE;
  RETURN counts || jsonb_build_object('done', done) || CASE WHEN done OR last IS NULL THEN '{}' ELSE jsonb_build_object('after', last) END;
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_task(text, jsonb) IS
'A batch of a phase of maintain(): counts, whether the phase is done, and otherwise where to go on. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.phases() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY['partitions', 'consolidate', 'retention', 'purge', 'pack', 'drop_partitions']
$$;
COMMENT ON FUNCTION engram_internal.phases() IS 'What maintain() does, in order.';

CREATE FUNCTION engram_internal.maintain_step(phase text, after text, so_far jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  step   jsonb;
  result jsonb := coalesce(so_far, '{}');
BEGIN
  BEGIN
    step := engram_internal.administer('maintain', jsonb_build_object('phase', phase, 'after', after));
  EXCEPTION
    WHEN insufficient_privilege OR invalid_parameter_value OR object_not_in_prerequisite_state THEN
      RAISE;
    WHEN OTHERS THEN
      -- One phase that fails must not keep the others from being done.
      step := jsonb_build_object('done', true, 'error', SQLERRM);
  END;
  SELECT result || coalesce(jsonb_object_agg(e.key, CASE WHEN jsonb_typeof(e.value) = 'number'
           THEN to_jsonb(coalesce((result ->> e.key)::numeric, 0) + (e.value #>> '{}')::numeric) ELSE e.value END), '{}')
  INTO result FROM jsonb_each(step - 'after') e;
  IF step ? 'after' THEN
    result := result || jsonb_build_object('after', step -> 'after');
  ELSE
    result := result - 'after';
  END IF;
  RETURN result;
END
$$;
COMMENT ON FUNCTION engram_internal.maintain_step(text, text, jsonb) IS
'Does one batch of a phase and adds its counts to those so far.';

-- A procedure that commits cannot pin its search path; every name in it is qualified instead.
CREATE PROCEDURE engram.maintain(phases text[] DEFAULT NULL, INOUT report jsonb DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  phase  pg_catalog.text;
  step   pg_catalog.jsonb;
  result pg_catalog.jsonb := '{}';
  began  pg_catalog.timestamptz;
BEGIN
  IF pg_catalog.pg_is_in_recovery() THEN
    report := '{"skipped": "this is a standby: its primary is maintained"}';
    RETURN;
  END IF;
  FOREACH phase IN ARRAY coalesce(maintain.phases, engram_internal.phases()) LOOP
    step := NULL;
    began := pg_catalog.clock_timestamp();
    LOOP
      step := engram_internal.maintain_step(phase, step OPERATOR(pg_catalog.->>) 'after', step);
      COMMIT;
      EXIT WHEN (step OPERATOR(pg_catalog.->>) 'done')::pg_catalog.bool;
    END LOOP;
    result := result OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(phase, (step OPERATOR(pg_catalog.-) 'done'::pg_catalog.text)
      OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('seconds',
        pg_catalog.round(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began)::pg_catalog.numeric, 3)));
  END LOOP;
  PERFORM engram_internal.administer('maintain', pg_catalog.jsonb_build_object('phase', 'finish', 'report', result));
  COMMIT;
  report := result;
END
$$;
COMMENT ON PROCEDURE engram.maintain(text[], jsonb) IS
'Does all that time asks for, of all workspaces, and reports what each phase did: partitions (made ahead), consolidate (uses folded, layers moved, faded links pruned), retention (policies applied), purge (what was forgotten or expired for long erased, by purge_after_days), pack (what search scans packed), drop_partitions (logs older than their settings keep).

Every batch is a transaction of its own, so nobody waits long; cancelled or crashed, it goes on where it was when called again. What another session is doing just now is reported as busy and left to it; a phase that fails reports its error and does not keep the others from running. On a standby it does nothing. For roles that bypass row security; outside a transaction block. phases: only these. See also schedule_maintenance().';

CREATE FUNCTION engram_internal.require_administrator() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_store();
  IF NOT engram_internal.trusted() THEN
    RAISE EXCEPTION 'role "%" may not do this: it concerns the memories of all users', current_user
      USING ERRCODE = 'insufficient_privilege', HINT = 'Call it as a role that bypasses row security, such as the owner of the tables.';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.require_administrator() IS 'Raises the error for a caller whom row level security binds.';

CREATE FUNCTION engram.schedule_maintenance(schedule text DEFAULT '*/10 * * * *') RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  job bigint;
BEGIN
  PERFORM engram_internal.require_administrator();
  IF to_regprocedure('cron.schedule(text, text, text)') IS NULL THEN
    RAISE EXCEPTION 'pg_cron is not in database "%"', current_database()
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'CREATE EXTENSION pg_cron, if the server has it for this database; or have any scheduler run CALL engram.maintain(), or set engram.worker_databases.';
  END IF;
  EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job USING 'engram-maintain', coalesce(schedule, '*/10 * * * *'), 'CALL engram.maintain()';
  RETURN job;
END
$$;
COMMENT ON FUNCTION engram.schedule_maintenance(text) IS
'Has pg_cron call maintain() as the role that calls this, under the job name engram-maintain, and returns the job''s number. Calling it again changes the schedule.

schedule: as cron writes it, by default every ten minutes. unschedule_maintenance() ends it.';

CREATE FUNCTION engram.unschedule_maintenance() RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  there boolean;
BEGIN
  PERFORM engram_internal.require_administrator();
  IF to_regprocedure('cron.unschedule(text)') IS NULL THEN
    RETURN false;
  END IF;
  EXECUTE 'SELECT EXISTS (SELECT FROM cron.job WHERE jobname = $1 AND username = current_user)' INTO there USING 'engram-maintain';
  IF there THEN
    EXECUTE 'SELECT cron.unschedule($1)' USING 'engram-maintain';
  END IF;
  RETURN there;
END
$$;
COMMENT ON FUNCTION engram.unschedule_maintenance() IS 'Ends what schedule_maintenance() began. True when there was a job of the caller''s.';

-- How the store is: for people, for alarms, for Prometheus.
CREATE FUNCTION engram_internal.store_tables() RETURNS TABLE (relid regclass, name text, parent text)
LANGUAGE plpgsql STABLE ROWS 30
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Partitions that were detached are nobody's concern any more; so are tables that the user has added.
  RETURN QUERY
  SELECT c.oid::regclass, c.relname::text, coalesce((SELECT p.relname::text FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
                                                     WHERE i.inhrelid = c.oid), c.relname::text)
  FROM pg_class c
  WHERE c.relnamespace = 'engram'::regnamespace AND c.relkind IN ('r', 'p')
    AND (c.relispartition OR c.relname = ANY (engram_internal.store_table_names()))
  ORDER BY c.relname;
END
$$;
COMMENT ON FUNCTION engram_internal.store_tables() IS 'The tables of the store and their partitions.';

CREATE FUNCTION engram_internal.store_table_names() RETURNS text[]
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'store_table_names_wrapper';
COMMENT ON FUNCTION engram_internal.store_table_names() IS 'The names of the tables that setup() makes.';

CREATE FUNCTION engram_internal.sizes() RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object('at', clock_timestamp(), 'database', pg_database_size(current_database()),
    'tables', (SELECT jsonb_object_agg(x.parent, x.bytes)
               FROM (SELECT t.parent, sum(pg_total_relation_size(t.relid)) AS bytes FROM engram_internal.store_tables() t GROUP BY t.parent) x));
END
$$;
COMMENT ON FUNCTION engram_internal.sizes() IS 'Bytes of the database and of each table of the store with its partitions and indexes.';

CREATE FUNCTION engram_internal.alerts()
RETURNS TABLE (level text, code text, subject text, message text, hint text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
  care   record;
  t      record;
  filled boolean;
  size   bigint := pg_database_size(current_database());
  limit_ bigint := engram_internal.partition_setting('size_limit_bytes')::bigint;
  unit   text := coalesce(engram_internal.partition_setting('partition_interval'), 'month');
  latest timestamptz;
  n      bigint;
  names  text;
BEGIN
  IF size >= 0.75 * limit_ THEN
    RETURN QUERY SELECT CASE WHEN size >= 0.9 * limit_ THEN 'critical' ELSE 'warning' END, 'database_size', current_database()::text,
      format('the database has %s, %s %% of its limit of %s', pg_size_pretty(size), round(100.0 * size / limit_), pg_size_pretty(limit_)),
      'Drop old partitions, purge what is forgotten, set retention policies; or raise size_limit_bytes in engram.settings.';
  END IF;

  SELECT m.maintained_at, m.report INTO care FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
  IF care.maintained_at IS NULL OR care.maintained_at < now() - interval '1 day' THEN
    RETURN QUERY SELECT CASE WHEN care.maintained_at < now() - interval '7 days' THEN 'critical' ELSE 'warning' END,
      'maintenance_overdue', NULL::text,
      CASE WHEN care.maintained_at IS NULL THEN 'maintain() has never come to its end' ELSE format('maintain() last ran at %s', care.maintained_at) END,
      'CALL engram.maintain(); and have it called every ten minutes or so: engram.schedule_maintenance(), engram.worker_databases, or any scheduler.';
  END IF;
  FOR t IN SELECT e.key, e.value FROM jsonb_each(care.report -> 'phases') e WHERE e.value ? 'error' LOOP
    RETURN QUERY SELECT 'warning', 'maintenance_failed', t.key, format('phase %s of maintain() failed: %s', t.key, t.value ->> 'error'),
      'Mend the cause and CALL engram.maintain(); again.';
  END LOOP;
  FOR t IN SELECT e.key AS name, e.value::numeric AS was, coalesce((SELECT sum(pg_total_relation_size(s.relid)) FROM engram_internal.store_tables() s WHERE s.parent = e.key), 0) AS is_now,
                  greatest(date_part('epoch', now() - (care.report -> 'before' ->> 'at')::timestamptz) / 86400, 1) AS days
           FROM jsonb_each_text(care.report -> 'before' -> 'tables') e LOOP
    IF t.is_now - t.was > 1e9 * t.days AND t.is_now > 1.25 * t.was THEN
      RETURN QUERY SELECT 'warning', 'table_growth', t.name,
        format('table engram.%s grew from %s to %s since %s', t.name, pg_size_pretty(t.was), pg_size_pretty(t.is_now), care.report -> 'before' ->> 'at'),
        'See who writes: engram.stats() of the workspaces; set retention policies or drop old partitions.';
    END IF;
  END LOOP;

  FOR t IN SELECT p.parent FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL LOOP
    latest := (SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(t.parent) b);
    IF latest IS NULL OR latest <= engram_internal.interval_after(unit, now()) THEN
      RETURN QUERY SELECT CASE WHEN latest > now() THEN 'warning' ELSE 'critical' END, 'partitions_missing', t.parent,
        format('table engram.%s has no partition for the time from %s', t.parent, coalesce(latest::text, 'now')),
        'SELECT engram.create_partitions(); or CALL engram.maintain(); regularly. Until then its default partition takes the rows.';
    END IF;
    filled := false;
    IF NOT EXISTS (SELECT FROM engram_internal.partition_bounds(t.parent) b WHERE b.is_default) THEN
      RETURN QUERY SELECT 'critical', 'default_partition_missing', t.parent, format('table engram.%s has no default partition', t.parent),
        'Rows of times that no partition covers would be refused. Run as the owner of the tables: SELECT engram.setup();';
    ELSE
      EXECUTE format('SELECT EXISTS (SELECT FROM engram.%I)', t.parent || '_default') INTO filled;
    END IF;
    IF filled THEN
      RETURN QUERY SELECT 'warning', 'default_partition_not_empty', t.parent, format('table engram.%s_default has rows', t.parent),
        'SELECT engram.create_partitions(); moves them where they belong.';
    END IF;
  END LOOP;

  n := (SELECT count(*) FROM (SELECT FROM engram.access_queue LIMIT 100001) q);
  IF n > 100000 THEN
    RETURN QUERY SELECT 'warning', 'uses_waiting', 'access_queue', 'more than 100000 calls wait to be folded', 'CALL engram.maintain();';
  END IF;
  FOR t IN SELECT b.workspace_id, count(*) AS n FROM engram.search_blocks b WHERE b.level <= 1
           GROUP BY b.workspace_id HAVING count(*) > 500 ORDER BY 2 DESC LIMIT 3 LOOP
    RETURN QUERY SELECT 'warning', 'unpacked', t.workspace_id::text, format('search reads %s unpacked blocks in workspace %s', t.n, t.workspace_id), 'CALL engram.maintain();';
  END LOOP;

  FOR t IN SELECT s.relid, s.name, x.n_dead_tup AS dead, x.n_live_tup AS live FROM engram_internal.store_tables() s
           JOIN pg_stat_user_tables x ON x.relid = s.relid WHERE x.n_dead_tup > 100000 AND x.n_dead_tup > 0.5 * x.n_live_tup LOOP
    RETURN QUERY SELECT 'warning', 'dead_rows', t.name, format('table engram.%s has %s dead rows beside %s', t.name, t.dead, t.live),
      format('Autovacuum is behind or held up by a long transaction. VACUUM engram.%I;', t.name);
  END LOOP;
  FOR t IN SELECT i.indexrelid::regclass AS idx, s.name FROM engram_internal.store_tables() s JOIN pg_index i ON i.indrelid = s.relid
           WHERE NOT i.indisvalid OR NOT i.indisready LOOP
    RETURN QUERY SELECT 'warning', 'index_invalid', t.idx::text, format('index %s of table engram.%s is not valid', t.idx, t.name),
      format('REINDEX INDEX CONCURRENTLY %s; or drop it.', t.idx);
  END LOOP;
  FOR t IN SELECT i.indexrelid::regclass AS idx, s.name, pg_relation_size(i.indexrelid) AS bytes
           FROM engram_internal.store_tables() s JOIN pg_index i ON i.indrelid = s.relid
           JOIN pg_stat_user_indexes x ON x.indexrelid = i.indexrelid
           WHERE NOT i.indisunique AND x.idx_scan = 0 AND pg_relation_size(i.indexrelid) > 100000000 LOOP
    RETURN QUERY SELECT 'info', 'index_unused', t.idx::text,
      format('index %s of table engram.%s (%s) has not been used since statistics were reset', t.idx, t.name, pg_size_pretty(t.bytes)),
      'If it is your own, drop it; those of engram serve rare calls too.';
  END LOOP;

  n := (SELECT greatest((SELECT c.reltuples FROM pg_class c WHERE c.oid = 'engram.memories'::regclass), 0)
             - greatest((SELECT c.reltuples FROM pg_class c WHERE c.oid = 'engram.embeddings'::regclass), 0))::bigint;
  IF n > 10000 AND EXISTS (SELECT FROM engram.embedding_models d WHERE d.is_default) THEN
    RETURN QUERY SELECT 'warning', 'embeddings_pending', 'embeddings', format('about %s memories have no embedding', n),
      'They are found by their words alone. See that the embedder runs: engram.pending_embeddings(), engram.embedding_progress().';
  END IF;

  FOR t IN SELECT s.name FROM engram_internal.store_tables() s JOIN pg_class c ON c.oid = s.relid WHERE NOT c.relrowsecurity LOOP
    RETURN QUERY SELECT 'critical', 'row_security_off', t.name, format('row level security is off on table engram.%s', t.name),
      format('ALTER TABLE engram.%I ENABLE ROW LEVEL SECURITY;', t.name);
  END LOOP;
  FOR t IN SELECT s.name FROM engram_internal.store_tables() s
           WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = s.relid) LOOP
    RETURN QUERY SELECT 'warning', 'no_policy', t.name, format('table engram.%s has no policy: nobody but its owner sees its rows', t.name), 'SELECT engram.setup();';
  END LOOP;
  FOR t IN SELECT s.name, string_agg(DISTINCT a.privilege_type, ', ') AS rights FROM engram_internal.store_tables() s JOIN pg_class c ON c.oid = s.relid
           CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE a.grantee = 0 GROUP BY s.name LOOP
    RETURN QUERY SELECT 'warning', 'open_to_all', t.name, format('every role has %s on table engram.%s', t.rights, t.name),
      format('REVOKE ALL ON engram.%I FROM PUBLIC; and grant to the roles that need it: SELECT engram.setup(''{"grant_to": ["app"]}'');', t.name);
  END LOOP;
  names := (SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname) FROM pg_roles r
            WHERE r.rolcanlogin AND NOT r.rolsuper AND has_schema_privilege(r.oid, 'engram', 'USAGE')
              AND (r.rolbypassrls OR pg_has_role(r.oid, (SELECT c.relowner FROM pg_class c WHERE c.oid = 'engram.memories'::regclass), 'USAGE')));
  IF names IS NOT NULL THEN
    RETURN QUERY SELECT 'info', 'roles_bypass', names, format('these login roles see the memories of all users: %s', names),
      'See that only servers use them, never what speaks for a user.';
  END IF;
  IF (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram') <> engram_internal.library_version() THEN
    RETURN QUERY SELECT 'warning', 'version', NULL::text, format('the library is of version %s, the functions of %s', engram_internal.library_version(),
      (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'engram')), 'ALTER EXTENSION engram UPDATE;';
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.alerts() IS 'What health() warns of. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram_internal.health_task(task text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found jsonb;
  care  record;
BEGIN
  SELECT coalesce(jsonb_agg(jsonb_build_object('level', a.level, 'code', a.code, 'subject', a.subject, 'message', a.message, 'hint', a.hint)
           ORDER BY array_position(ARRAY['critical', 'warning', 'info'], a.level), a.code, a.subject), '[]') INTO found
  FROM engram_internal.alerts() a;
  SELECT m.maintained_at, m.report INTO care FROM engram.maintenance m WHERE m.workspace_id = '00000000-0000-0000-0000-000000000000';
  IF task = 'metrics' THEN
    RETURN (
      SELECT jsonb_agg(jsonb_build_array(x.metric, x.subject, x.value)) FROM (
        SELECT 'table_bytes' AS metric, t.parent AS subject, sum(pg_total_relation_size(t.relid)) AS value FROM engram_internal.store_tables() t GROUP BY t.parent
        UNION ALL SELECT 'table_rows', t.parent, sum(greatest(c.reltuples, 0)) FROM engram_internal.store_tables() t JOIN pg_class c ON c.oid = t.relid
                  WHERE c.relkind = 'r' GROUP BY t.parent
        UNION ALL SELECT 'table_dead_rows', t.parent, sum(s.n_dead_tup) FROM engram_internal.store_tables() t JOIN pg_stat_user_tables s ON s.relid = t.relid GROUP BY t.parent
        UNION ALL SELECT 'database_bytes', current_database(), pg_database_size(current_database())
        UNION ALL SELECT 'uses_waiting', '', (SELECT count(*) FROM engram.access_queue)
        UNION ALL SELECT 'partitions_ahead', p.parent, (SELECT count(*) FROM engram_internal.partition_bounds(p.parent) b WHERE b.lower_bound > now())
                  FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL
        UNION ALL SELECT 'seconds_since_maintenance', '', date_part('epoch', now() - care.maintained_at)
        UNION ALL SELECT 'alerts', l.level, (SELECT count(*) FROM jsonb_array_elements(found) f WHERE f ->> 'level' = l.level)
                  FROM unnest(ARRAY['critical', 'warning', 'info']) AS l (level)
      ) x WHERE x.value IS NOT NULL);
  END IF;
  RETURN jsonb_build_object(
    'status', CASE WHEN found @> '[{"level": "critical"}]' THEN 'critical' WHEN found @> '[{"level": "warning"}]' THEN 'warning' ELSE 'ok' END,
    'checked_at', now(), 'alerts', found, 'maintained_at', care.maintained_at, 'maintenance', care.report -> 'phases',
    'sizes', engram_internal.sizes(),
    'partitions', (SELECT jsonb_object_agg(p.parent, (SELECT jsonb_build_object('count', count(*), 'oldest', nullif(min(b.lower_bound), '-infinity'), 'until', max(b.upper_bound))
                                                      FROM engram_internal.partition_bounds(p.parent) b))
                   FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL),
    'versions', (SELECT to_jsonb(v) FROM engram.version() v));
END
$$;
COMMENT ON FUNCTION engram_internal.health_task(text, jsonb) IS
'What health() and the view metrics show. Runs with the rights of the caller, who must own the tables.';

CREATE FUNCTION engram.health() RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN engram_internal.observe('health', '{}');
END
$$;
COMMENT ON FUNCTION engram.health() IS
'How the store is, as JSON: status (ok, warning, critical: the worst alert), alerts (each with level, code, subject, message and a hint what to do; level info does not count), when maintain() last ran and what it did, sizes in bytes, partitions, versions. For roles that bypass row security and members of pg_monitor; works on standbys.';

-- Supabase Realtime, when the user wants it. Never vectors, never what changes at every use.
CREATE FUNCTION engram.enable_realtime(mode text DEFAULT 'changes') RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_administrator();
  IF mode = 'changes' THEN
    IF NOT EXISTS (SELECT FROM pg_publication p WHERE p.pubname = 'supabase_realtime') THEN
      RAISE EXCEPTION 'there is no publication supabase_realtime in database "%"', current_database()
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'On Supabase it is there; elsewhere: CREATE PUBLICATION supabase_realtime;';
    END IF;
    IF EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = 'supabase_realtime' AND p.schemaname = 'engram' AND p.tablename = 'memories') THEN
      RETURN 'unchanged';
    END IF;
    ALTER PUBLICATION supabase_realtime ADD TABLE ONLY engram.memories;
    RETURN 'enabled';
  ELSIF mode = 'broadcast' THEN
    IF to_regprocedure('realtime.send(jsonb, text, text, boolean)') IS NULL THEN
      RAISE EXCEPTION 'function realtime.send() is not in database "%"', current_database()
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Broadcast from the database needs Supabase Realtime 2.34 or later.';
    END IF;
    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'engram.memories'::regclass AND t.tgname = 'memories_broadcast_insert') THEN
      RETURN 'unchanged';
    END IF;
    CREATE TRIGGER memories_broadcast_insert AFTER INSERT ON engram.memories
      REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    CREATE TRIGGER memories_broadcast_update AFTER UPDATE ON engram.memories
      REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    CREATE TRIGGER memories_broadcast_delete AFTER DELETE ON engram.memories
      REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION engram.memories_broadcast();
    COMMENT ON TRIGGER memories_broadcast_insert ON engram.memories IS 'See engram.enable_realtime().';
    COMMENT ON TRIGGER memories_broadcast_update ON engram.memories IS 'See engram.enable_realtime().';
    COMMENT ON TRIGGER memories_broadcast_delete ON engram.memories IS 'See engram.enable_realtime().';
    -- Who may listen is asked once, when a client joins.
    IF to_regclass('realtime.messages') IS NOT NULL AND to_regprocedure('realtime.topic()') IS NOT NULL
       AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = to_regclass('realtime.messages') AND p.polname = 'engram_broadcast') THEN
      EXECUTE $q$CREATE POLICY engram_broadcast ON realtime.messages FOR SELECT TO public
        USING (extension = 'broadcast' AND (SELECT realtime.topic()) = 'engram:' || (SELECT engram.current_user_id())::text)$q$;
    END IF;
    RETURN 'enabled';
  END IF;
  RAISE EXCEPTION 'unknown mode "%"', coalesce(mode, 'NULL')
    USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: changes (rows, by Supabase''s publication), broadcast (ids, one message a statement).';
END
$$;
COMMENT ON FUNCTION engram.enable_realtime(text) IS
'Lets clients hear of changes of memories through Supabase Realtime; enabled or unchanged. For the owner of the tables or a superuser.

mode: changes (default) adds engram.memories to the publication supabase_realtime: clients get the rows that row level security shows them, and of deleted ones the key. broadcast has every statement that changes memories send one message for each workspace it touches to the private topic engram:<workspace>, event memories, with {"op": "INSERT", "ids": […]}: much cheaper for many listeners, who fetch what they want with get() or changes(). Only the listener whose own id the topic names may join. Vectors, uses and moves between layers are never sent.';

CREATE FUNCTION engram.disable_realtime(mode text DEFAULT 'changes') RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM engram_internal.require_administrator();
  IF mode = 'changes' THEN
    IF NOT EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = 'supabase_realtime' AND p.schemaname = 'engram' AND p.tablename = 'memories') THEN
      RETURN false;
    END IF;
    ALTER PUBLICATION supabase_realtime DROP TABLE ONLY engram.memories;
    RETURN true;
  ELSIF mode = 'broadcast' THEN
    IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'engram.memories'::regclass AND t.tgname = 'memories_broadcast_insert') THEN
      RETURN false;
    END IF;
    DROP TRIGGER IF EXISTS memories_broadcast_insert ON engram.memories;
    DROP TRIGGER IF EXISTS memories_broadcast_update ON engram.memories;
    DROP TRIGGER IF EXISTS memories_broadcast_delete ON engram.memories;
    IF to_regclass('realtime.messages') IS NOT NULL THEN
      DROP POLICY IF EXISTS engram_broadcast ON realtime.messages;
    END IF;
    RETURN true;
  END IF;
  RAISE EXCEPTION 'unknown mode "%"', coalesce(mode, 'NULL')
    USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: changes, broadcast.';
END
$$;
COMMENT ON FUNCTION engram.disable_realtime(text) IS 'Takes back what enable_realtime() did. True when it was enabled.';

REVOKE EXECUTE ON FUNCTION engram.erase(uuid[], jsonb, boolean, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.create_partitions(timestamptz) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.drop_partitions(interval, text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.detach_partitions(interval, text, text, text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.set_retention(text, interval, integer, text[], double precision, text, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.drop_retention(text, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.apply_retention(boolean, timestamptz, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.purge(interval, boolean, timestamptz, uuid) FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE engram.maintain(text[], jsonb) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.schedule_maintenance(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.unschedule_maintenance() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.health() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.enable_realtime(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION engram.disable_realtime(text) FROM PUBLIC;
-- The tables follow: new ones, triggers and grants.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup();
  END IF;
END
$$;
