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

  FOR t IN SELECT p.parent, p.key FROM engram_internal.partitioned() p WHERE to_regclass('engram.' || p.parent) IS NOT NULL LOOP
    latest := (SELECT max(b.upper_bound) FROM engram_internal.partition_bounds(t.parent) b);
    IF latest IS NULL OR latest <= engram_internal.interval_after(unit, now()) THEN
      RETURN QUERY SELECT CASE WHEN latest > now() THEN 'warning' ELSE 'critical' END, 'partitions_missing', t.parent,
        format('table engram.%s has no partition for the time from %s', t.parent, coalesce(latest::text, 'now')),
        'SELECT engram.create_partitions(); or CALL engram.maintain(); regularly. Until then its default partition takes the rows.';
    END IF;
    filled := false;
    IF NOT EXISTS (SELECT FROM engram_internal.partition_bounds(t.parent) b WHERE b.is_default) THEN
      RETURN QUERY SELECT 'critical', 'default_partition_missing', t.parent, format('table engram.%s has no default partition', t.parent),
        'Rows of times that no partition covers would be refused. '
        || CASE WHEN to_regclass('engram.' || quote_ident(t.parent || '_default')) IS NULL THEN 'Run as the owner of the tables: SELECT engram.setup();'
                ELSE format('ALTER TABLE engram.%I ATTACH PARTITION engram.%I DEFAULT;', t.parent, t.parent || '_default') END;
    ELSE
      EXECUTE format('SELECT EXISTS (SELECT FROM engram.%I WHERE %I < $1)', t.parent || '_default', t.key) INTO filled USING greatest(latest, now());
      IF NOT filled THEN
        -- What is dated later than all partitions may wait there: any user's message may be.
        EXECUTE format('SELECT max(%I) FROM engram.%I', t.key, t.parent || '_default') INTO latest;
        IF latest IS NOT NULL THEN
          RETURN QUERY SELECT 'info', 'default_partition_not_empty', t.parent, format('table engram.%s_default has rows of the future, until %s', t.parent, latest),
            'They wait there until their time comes.'
            || CASE WHEN latest < now() + interval '50 years' THEN format(' SELECT engram.create_partitions(%L); moves them at once.', latest) ELSE '' END;
        END IF;
      END IF;
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

  IF (care.report #>> '{phases,pack,unreadable}')::numeric > 0 THEN
    RETURN QUERY SELECT 'warning', 'unreadable', 'search_blocks',
      format('maintain() could not read what search scans of %s workspaces and models: what was erased there stays in it', care.report #>> '{phases,pack,unreadable}'),
      'As the owner of the tables: SELECT engram.reindex(); then CALL engram.maintain();';
  END IF;
  -- The id of a block begins with the milliseconds since 1970.
  FOR t IN SELECT b.workspace_id, min(b.block_id::text) AS first FROM engram.search_blocks b
           WHERE b.level = 0 AND b.block_id < rpad(lpad(to_hex((extract(epoch FROM now() - interval '1 day') * 1000)::bigint), 12, '0'), 32, '0')::uuid
           GROUP BY b.workspace_id ORDER BY 2 LIMIT 3 LOOP
    RETURN QUERY SELECT 'warning', 'erased_waiting', t.workspace_id::text,
      format('what was changed or erased in workspace %s more than a day ago waits to be taken out of what search scans', t.workspace_id),
      format('Search leaves it out already. CALL engram.maintain(); or, as the owner of the tables: SELECT engram.reindex(%L);', t.workspace_id);
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

  -- As regconfig reads names where nothing but pg_catalog is on the path; a number passes for an oid.
  FOR t IN SELECT s.workspace_id, s.text_config AS name FROM engram.settings s
           WHERE s.text_config ~ '^[[:alpha:]_"]' AND NOT EXISTS (
             SELECT FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace
             WHERE ARRAY[n.nspname, c.cfgname]::text[] = ARRAY(SELECT 'pg_catalog' WHERE cardinality(parse_ident(s.text_config)) = 1) || parse_ident(s.text_config))
           ORDER BY s.workspace_id LIMIT 3 LOOP
    RETURN QUERY SELECT 'critical', 'text_config_missing', t.workspace_id::text,
      format('text_config of workspace %s is %s, which does not exist: nothing is stored there, nor found by words', t.workspace_id, t.name),
      format('Create the text search configuration again, or SELECT engram.configure(''{"text_config": "pg_catalog.english"}'', %1$L); then SELECT engram.reindex(%1$L);', t.workspace_id);
  END LOOP;

  FOR t IN SELECT s.name FROM engram_internal.store_tables() s JOIN pg_class c ON c.oid = s.relid WHERE NOT c.relrowsecurity LOOP
    RETURN QUERY SELECT 'critical', 'row_security_off', t.name, format('row level security is off on table engram.%s', t.name),
      format('ALTER TABLE engram.%I ENABLE ROW LEVEL SECURITY;', t.name);
  END LOOP;
  FOR t IN SELECT s.name FROM engram_internal.store_tables() s
           WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = s.relid) LOOP
    RETURN QUERY SELECT 'warning', 'no_policy', t.name, format('table engram.%s has no policy: nobody but its owner sees its rows', t.name), 'SELECT engram.setup();';
  END LOOP;
  FOR t IN SELECT s.name, string_agg(g.tgname, ', ' ORDER BY g.tgname) AS off FROM engram_internal.store_tables() s
           JOIN pg_trigger g ON g.tgrelid = s.relid JOIN pg_proc f ON f.oid = g.tgfoid
           WHERE g.tgenabled IN ('D', 'R') AND f.pronamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace) GROUP BY s.name LOOP
    RETURN QUERY SELECT 'critical', 'triggers_off', t.name, format('triggers of table engram.%s are disabled: %s', t.name, t.off),
      format('ALTER TABLE engram.%I ENABLE TRIGGER USER; then, for what was written meanwhile: SELECT engram.reindex();', t.name);
  END LOOP;
  SELECT r.rolname INTO names FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
  WHERE c.oid = 'engram.memories'::regclass AND NOT has_function_privilege(r.oid, 'engram.setup(jsonb)', 'EXECUTE');
  IF FOUND THEN
    RETURN QUERY SELECT 'warning', 'owner_without_rights', names, format('role "%s" owns the tables and may not call the functions of engram', names),
      format('As the owner of the extension: SELECT engram.setup(%L);', jsonb_build_object('owner', names));
  END IF;
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
    'versions', (SELECT to_jsonb(v) FROM engram_internal.versions() v));
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
