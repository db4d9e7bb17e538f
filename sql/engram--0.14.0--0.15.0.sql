\echo Use "ALTER EXTENSION engram UPDATE TO '0.15.0'" to load this file. \quit
CREATE OR REPLACE FUNCTION engram_internal.document(id uuid, version bigint, state text, session_id text, at timestamptz,
  config text, content text, speaker text, occurred_at timestamptz, summary text) RETURNS bytea
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  indexed text;
  extra   text;
BEGIN
  IF state <> 'gone' THEN
    indexed := engram_internal.indexed_text(content, speaker, occurred_at, summary);
    extra := engram_internal.extra_text(indexed);
  END IF;
  RETURN engram_internal.document_entry(id, version, state, session_id, at,
    CASE WHEN state <> 'gone' THEN content END, speaker,
    CASE WHEN indexed IS NOT NULL THEN engram_internal.lexemes(engram_internal.to_terms(config, indexed)) END,
    CASE WHEN extra IS NOT NULL THEN engram_internal.lexemes(engram_internal.to_terms(config, extra)) END);
END
$$;
COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur and -word must not, but in a sentence (a question mark, or five words beside them) both are words like others; the first and the last 32 different words, 64 phrases and 64 exclusions count. A day, week or month that they name (8 May, yesterday, last week) finds what happened then. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words, and vectors count whose cosine or inner product with it is above 0, by l2 all. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged, and from which "yesterday" in the text counts, by default now or as_of; later uses count too, as activation() has it, unless as_of is given. as_of: search what was recorded at that moment and is still known: contents, states and filters of then, uses until then; links between memories add nothing, and vectors count where the text is the same today. What was erased since is gone from the past too. diversity: 0 to 1, by default 0: takes that much times its likeness (cosine of the vectors, else words in common) to the most similar memory before it off a score, so that a result repeats itself less. Of memories that say the same in the same words, but for articles, emphasis and punctuation, and have vectors as alike as duplicate_similarity (settings), only the best is returned, and explain names the others under repeats. Nothing that matches gives no rows.';

CREATE OR REPLACE FUNCTION engram_internal.change_settings(workspace uuid, changes jsonb, preset text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET check_function_bodies = on
AS $$
#variable_conflict use_column
DECLARE
  key   text;
  value jsonb;
  kind  text;
  hint  text;
  wrong text;
  row_  jsonb;
  in_force jsonb;
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
      -- A number passes for an oid, of which there need be none.
      IF key = 'text_config' AND value <> 'null' AND NOT EXISTS (
           SELECT FROM pg_ts_config c WHERE c.oid = (value #>> '{}')::regconfig) THEN
        RAISE undefined_object;
      END IF;
    EXCEPTION
      WHEN check_violation OR invalid_text_representation OR numeric_value_out_of_range OR undefined_object THEN
        GET STACKED DIAGNOSTICS wrong = CONSTRAINT_NAME;
        -- A constraint looks at the whole row.
        IF key <> 'text_config' AND SQLSTATE = '42704' THEN
          RAISE EXCEPTION 'no setting can be changed: %', SQLERRM
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('It was dropped after text_config named it. Have an administrator run: SELECT engram.configure(''{"text_config": "pg_catalog.english"}'', %1$L); and SELECT engram.reindex(%1$L);',
                    change_settings.workspace);
        END IF;
        -- The three thresholds of layers depend on each other; those are judged at the end.
        IF wrong <> 'settings_layers_check' THEN
          RAISE EXCEPTION 'setting % cannot be %', key, value
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = hint || CASE key WHEN 'text_config' THEN ' \dF in psql lists those there are.' ELSE '' END;
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
    SELECT jsonb_build_object('promote', coalesce((row_ ->> 'promote')::double precision, d.promote),
      'demote', coalesce((row_ ->> 'demote')::double precision, d.demote), 'archive', coalesce((row_ ->> 'archive')::double precision, d.archive))
    INTO in_force FROM engram.settings d WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000';
    IF (in_force ->> 'promote')::double precision
       < greatest((in_force ->> 'demote')::double precision, (in_force ->> 'archive')::double precision) THEN
      RAISE EXCEPTION 'promote would be less than demote or archive: %', in_force
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
CREATE OR REPLACE FUNCTION engram_internal.alerts()
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

-- The tables follow: new ones, triggers and grants. Whoever owns them was accepted when they were made.
DO $$
BEGIN
  IF to_regclass('engram.memories') IS NOT NULL THEN
    PERFORM engram.setup(jsonb_build_object('owner', (SELECT pg_get_userbyid(c.relowner) FROM pg_class c
                                                      WHERE c.oid = to_regclass('engram.memories'))));
  END IF;
END
$$;
