-- Row level security: one policy per table and command, each asking once per statement which
-- workspaces the caller may read or write. A policy that exists is left as it is.
DO $$
DECLARE
  readable constant text := 'workspace_id = ANY ((SELECT engram.readable_workspaces())::uuid[])';
  writable constant text := 'workspace_id = ANY ((SELECT engram.writable_workspaces())::uuid[])';
  mine     constant text := writable || ' AND user_id = (SELECT engram.current_user_id())';
  defaults constant text := 'workspace_id = ''00000000-0000-0000-0000-000000000000'' OR ' || readable;
  p record;
BEGIN
  FOR p IN
    SELECT * FROM (VALUES
      ('memories',             'SELECT', readable, NULL),
      ('memories',             'INSERT', NULL,     mine),
      ('memories',             'UPDATE', writable, writable),
      ('memories',             'DELETE', writable, NULL),
      ('memory_state',         'SELECT', readable, NULL),
      ('memory_state',         'INSERT', NULL,     writable),
      ('memory_state',         'UPDATE', writable, writable),
      ('search_blocks',        'SELECT', readable, NULL),
      ('embeddings',           'SELECT', readable, NULL),
      ('embeddings',           'INSERT', NULL,     writable),
      ('embeddings',           'UPDATE', writable, writable),
      ('embeddings',           'DELETE', writable, NULL),
      ('embedding_claims',     'SELECT', readable, NULL),
      ('embedding_claims',     'INSERT', NULL,     writable),
      ('embedding_claims',     'UPDATE', writable, writable),
      ('embedding_claims',     'DELETE', writable, NULL),
      ('graph_links',          'SELECT', readable, NULL),
      ('graph_links',          'INSERT', NULL,     writable),
      ('graph_links',          'UPDATE', writable, writable),
      ('graph_links',          'DELETE', writable, NULL),
      ('access_queue',         'SELECT', readable, NULL),
      ('access_queue',         'INSERT', NULL,     mine),
      ('recall_credits',       'SELECT', readable, NULL),
      ('recall_credits',       'INSERT', NULL,     writable),
      ('recall_credits',       'UPDATE', writable, writable),
      ('access_log',           'SELECT', readable, NULL),
      ('access_log_default',   'SELECT', readable, NULL),
      ('memory_events',         'SELECT', readable, NULL),
      ('memory_events_default', 'SELECT', readable, NULL),
      ('hebbian_links',        'SELECT', readable, NULL),
      ('maintenance',          'SELECT', readable, NULL),
      ('retention_policies',   'SELECT', readable, NULL),
      ('retention_policies',   'INSERT', NULL,     writable),
      ('retention_policies',   'UPDATE', writable, writable),
      ('retention_policies',   'DELETE', writable, NULL),
      ('entity_aliases',       'SELECT', readable, NULL),
      ('entity_aliases',       'INSERT', NULL,     writable),
      ('entity_aliases',       'UPDATE', writable, writable),
      ('entity_aliases',       'DELETE', writable, NULL),
      ('messages',             'SELECT', readable, NULL),
      ('messages',             'INSERT', NULL,     mine),
      ('messages',             'DELETE', writable, NULL),
      ('messages_default',     'SELECT', readable, NULL),
      ('message_archive',      'SELECT', readable, NULL),
      ('erasures',             'SELECT', readable, NULL),
      ('settings',             'SELECT', defaults, NULL),
      ('memory_type_settings', 'SELECT', defaults, NULL),
      ('settings_history',     'SELECT', defaults, NULL),
      ('embedding_models',     'SELECT', 'true',   NULL)
    ) AS v (tab, cmd, using_expr, check_expr)
  LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_policy
                   WHERE polrelid = format('engram.%I', p.tab)::regclass
                     AND polname = p.tab || '_' || lower(p.cmd)) THEN
      EXECUTE format('CREATE POLICY %I ON engram.%I FOR %s TO public%s%s',
        p.tab || '_' || lower(p.cmd), p.tab, p.cmd,
        ' USING (' || p.using_expr || ')', ' WITH CHECK (' || p.check_expr || ')');
    END IF;
    IF NOT (SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = format('engram.%I', p.tab)::regclass) THEN
      EXECUTE format('ALTER TABLE engram.%I ENABLE ROW LEVEL SECURITY', p.tab);
    END IF;
    EXECUTE format('COMMENT ON POLICY %I ON engram.%I IS %L', p.tab || '_' || lower(p.cmd), p.tab,
      CASE p.cmd WHEN 'SELECT' THEN 'Rows of workspaces that the caller may read.'
                 WHEN 'INSERT' THEN 'New rows only in workspaces that the caller may write.'
                 WHEN 'UPDATE' THEN 'Changes only within workspaces that the caller may write.'
                 ELSE 'Deletes only in workspaces that the caller may write.' END);
  END LOOP;
END
$$;
