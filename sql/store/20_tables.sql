-- The data model. Every key begins with workspace_id; ids are UUIDs; nothing here depends on a
-- function or type of the extension, so the rows stay usable without it.
-- The all-zero workspace holds the defaults of settings and memory_type_settings.

CREATE TABLE IF NOT EXISTS engram.memories (
  workspace_id  uuid NOT NULL,
  id            uuid NOT NULL,
  user_id       uuid NOT NULL,
  agent_id      text,
  session_id    text,
  speaker       text,
  role          text CONSTRAINT memories_role_check CHECK (role IN ('user', 'assistant', 'system', 'tool')),
  content       text NOT NULL CONSTRAINT memories_content_check CHECK (content <> ''),
  summary       text,
  type          text NOT NULL CONSTRAINT memories_type_check CHECK (type IN
                  ('factual', 'episodic', 'relational', 'emotional', 'procedural', 'opinion', 'causal')),
  importance    double precision NOT NULL CONSTRAINT memories_importance_check CHECK (importance >= 0 AND importance <= 1),
  layer         text NOT NULL CONSTRAINT memories_layer_check CHECK (layer IN ('working', 'core', 'archive')),
  pinned        boolean NOT NULL,
  tags          text[] NOT NULL,
  metadata      jsonb NOT NULL CONSTRAINT memories_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
  source        text,
  occurred_at   timestamptz,
  valid_from    timestamptz,
  valid_to      timestamptz,
  superseded_by uuid,
  contradicts   uuid[],
  expires_at    timestamptz,
  deleted_at    timestamptz,
  version       integer NOT NULL CONSTRAINT memories_version_check CHECK (version > 0),
  created_at    timestamptz NOT NULL,
  updated_at    timestamptz NOT NULL,
  content_hash  bytea NOT NULL,
  CONSTRAINT memories_pkey PRIMARY KEY (workspace_id, id),
  CONSTRAINT memories_valid_check CHECK (valid_from <= valid_to)
);
CREATE INDEX IF NOT EXISTS memories_created_idx ON engram.memories (workspace_id, created_at DESC, id DESC);
-- The hash leads: of a workspace that statistics have not seen, every index that begins with
-- workspace_id looks as good as any other, and the wrong one reads all of the workspace.
CREATE INDEX IF NOT EXISTS memories_content_idx ON engram.memories (content_hash, workspace_id);
DROP INDEX IF EXISTS engram.memories_content_hash_idx;

DO $$
BEGIN
  -- Where a memory changes its layer, its pin or its truth, the new version finds a place on its page: of the dozen
  -- that are on it, few change before the old versions of others are cleared away. Earlier versions left more room.
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = 'engram.memories'::regclass
                 AND array_to_string(reloptions, ',') ~ '(^|,)fillfactor=(?!75(,|$))') THEN
    ALTER TABLE engram.memories SET (fillfactor = 85);
  END IF;
END
$$;
DO $$
BEGIN
  -- A look-up by key has the workspace twice among its conditions, its own and the policy's. Taken for independent they
  -- seem to leave next to nothing of any index that begins with the workspace, where statistics know of many, and the
  -- wrong one reads all of it. With so few it is told from the right one in any table of more than some 4,000 rows; with
  -- fewer still, a statement that asks for all that the policy lets through would seem to ask for much of the table.
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'engram.memories'::regclass AND attname = 'workspace_id'
                 AND array_to_string(attoptions, ',') LIKE '%n_distinct=%') THEN
    ALTER TABLE engram.memories ALTER COLUMN workspace_id SET (n_distinct = 50);
  END IF;
END
$$;
ALTER TABLE engram.memories ADD COLUMN IF NOT EXISTS contradicted_by uuid[];
CREATE INDEX IF NOT EXISTS memories_expires_idx ON engram.memories (workspace_id, expires_at) WHERE expires_at IS NOT NULL;
-- The memory leads, as in memories_content_idx and for its reason.
CREATE INDEX IF NOT EXISTS memories_superseded_idx ON engram.memories (superseded_by, workspace_id) WHERE superseded_by IS NOT NULL;
CREATE INDEX IF NOT EXISTS memories_contradicts_idx ON engram.memories (workspace_id) WHERE contradicts IS NOT NULL;
CREATE INDEX IF NOT EXISTS memories_standing_idx ON engram.memories (workspace_id, created_at DESC, id DESC)
  WHERE pinned AND type = 'procedural';

CREATE TABLE IF NOT EXISTS engram.memory_state (
  workspace_id     uuid NOT NULL,
  memory_id        uuid NOT NULL,
  access_count     bigint NOT NULL DEFAULT 1 CONSTRAINT memory_state_access_count_check CHECK (access_count > 0),
  last_accessed_at timestamptz NOT NULL,
  CONSTRAINT memory_state_pkey PRIMARY KEY (workspace_id, memory_id),
  CONSTRAINT memory_state_memory_fkey FOREIGN KEY (workspace_id, memory_id)
    REFERENCES engram.memories (workspace_id, id) ON DELETE CASCADE
) WITH (fillfactor = 50);
DO $$
BEGIN
  -- A row is short until its memory is used. Its first use may move it to another page, for it grows to more than
  -- twice as much; from then on a fold may change all rows of a page at once, and each finds a place there.
  IF EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = 'engram.memory_state'::regclass AND 'fillfactor=75' = ANY (reloptions)) THEN
    ALTER TABLE engram.memory_state SET (fillfactor = 50);
  END IF;
END
$$;
-- What a use changes, as of the moment that heat carries; every reader computes from there. Only the key
-- is indexed, so that every change is a heap-only update. All NULL: stored and never used.
ALTER TABLE engram.memory_state
  ADD COLUMN IF NOT EXISTS heat bytea CONSTRAINT memory_state_heat_check CHECK (octet_length(heat) = 80),
  ADD COLUMN IF NOT EXISTS working_strength double precision,
  ADD COLUMN IF NOT EXISTS core_strength double precision,
  ADD COLUMN IF NOT EXISTS layer text CONSTRAINT memory_state_layer_check CHECK (layer IN ('working', 'core', 'archive')),
  ADD COLUMN IF NOT EXISTS stability double precision,
  ADD COLUMN IF NOT EXISTS difficulty double precision,
  -- The state at the last change of what it depends on (importance, type, pin, truth): late uses replay from here.
  ADD COLUMN IF NOT EXISTS base jsonb;
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = 'engram.memory_state'::regclass
                 AND array_to_string(reloptions, ',') LIKE '%autovacuum_vacuum_scale_factor%') THEN
    ALTER TABLE engram.memory_state SET (autovacuum_vacuum_scale_factor = 0.05);
  END IF;
END
$$;

-- Uses that have happened and are not yet folded into memory_state, access_log and hebbian_links. One
-- row a call, nothing else is written where a memory is used. Readers count these in.
CREATE TABLE IF NOT EXISTS engram.access_queue (
  workspace_id uuid NOT NULL,
  id           uuid NOT NULL,
  accessed_at  timestamptz NOT NULL CONSTRAINT access_queue_accessed_at_check CHECK (isfinite(accessed_at)),
  user_id      uuid,
  kind         text NOT NULL CONSTRAINT access_queue_kind_check CHECK (kind IN ('shown', 'used', 'rated', 'reinforced', 'stored')),
  gain         double precision NOT NULL CONSTRAINT access_queue_gain_check CHECK (gain >= -1 AND gain <= 100),
  rating       smallint CONSTRAINT access_queue_rating_check CHECK (rating BETWEEN 1 AND 4),
  recall_id    uuid,
  memory_ids   uuid[] NOT NULL CONSTRAINT access_queue_memory_ids_check
               CHECK (array_ndims(memory_ids) = 1 AND cardinality(memory_ids) <= 1000 AND array_position(memory_ids, NULL) IS NULL),
  CONSTRAINT access_queue_pkey PRIMARY KEY (workspace_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Which memories of a recall have been credited, by kind of credit: a call that is repeated changes nothing.
CREATE TABLE IF NOT EXISTS engram.recall_credits (
  workspace_id uuid NOT NULL,
  recall_id    uuid NOT NULL,
  memory_ids   uuid[] NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT recall_credits_pkey PRIMARY KEY (workspace_id, recall_id)
);
-- NULL in rows of older versions, which told no kinds apart: memory_ids stands for all of them there.
ALTER TABLE engram.recall_credits
  ADD COLUMN IF NOT EXISTS reinforced_ids uuid[],
  ADD COLUMN IF NOT EXISTS rated_ids uuid[];

-- Every use, for audit and for rebuilding: what is read at run time is memory_state. No foreign key,
-- because a check for each row would cost more than the row: a trigger on memories takes what hangs on
-- a deleted memory with it.
CREATE TABLE IF NOT EXISTS engram.access_log (
  workspace_id uuid NOT NULL,
  memory_id    uuid NOT NULL,
  accessed_at  timestamptz NOT NULL,
  id           uuid NOT NULL,
  user_id      uuid,
  kind         text NOT NULL,
  gain         double precision NOT NULL,
  rating       smallint,
  recall_id    uuid,
  -- Place among the memories of the same call, and the mass that each pair of them got.
  place        smallint NOT NULL DEFAULT 1,
  pair_gain    double precision NOT NULL DEFAULT 0
) PARTITION BY RANGE (accessed_at);
-- Each partition has its own primary key: pg_restore --clean cannot drop one that it inherits.
CREATE TABLE IF NOT EXISTS engram.access_log_default PARTITION OF engram.access_log (
  CONSTRAINT access_log_default_pkey PRIMARY KEY (workspace_id, memory_id, accessed_at, id)
) DEFAULT;

-- Every change of a memory, whoever made it and through which door: history, synchronisation and audit
-- read it. Rows are only ever added, by triggers on memories; erasing a memory leaves nothing of it here
-- but the fact. xid and origin tell what a device that synchronises has not seen; of a row that a dump
-- brought in, origin is another and its xid means nothing.
CREATE TABLE IF NOT EXISTS engram.memory_events (
  workspace_id uuid NOT NULL,
  xid          xid8 NOT NULL,
  id           uuid NOT NULL,
  at           timestamptz NOT NULL,
  memory_id    uuid NOT NULL,
  origin       bigint NOT NULL,
  actor        uuid,
  action       text NOT NULL CONSTRAINT memory_events_action_check CHECK (action IN
                 ('added', 'updated', 'forgotten', 'restored', 'superseded', 'unsuperseded', 'pinned', 'unpinned', 'erased')),
  version      integer NOT NULL,
  old          jsonb
) PARTITION BY RANGE (at);
-- As in access_log, each partition has its own key and index. The memory leads the index, as in
-- memories_content_idx and for its reason.
CREATE TABLE IF NOT EXISTS engram.memory_events_default PARTITION OF engram.memory_events (
  CONSTRAINT memory_events_default_pkey PRIMARY KEY (workspace_id, xid, id, at)
) DEFAULT;
CREATE INDEX IF NOT EXISTS memory_events_default_memory_idx ON engram.memory_events_default (memory_id, workspace_id, at);

-- Co-activation: one row for a pair of memories that were used together, a < b. The masses are as of
-- linked_at and halve every link_half_life_days; forward is that of a used before b.
CREATE TABLE IF NOT EXISTS engram.hebbian_links (
  workspace_id uuid NOT NULL,
  a            uuid NOT NULL,
  b            uuid NOT NULL,
  forward      double precision NOT NULL,
  backward     double precision NOT NULL,
  linked_at    timestamptz NOT NULL,
  count        integer NOT NULL,
  CONSTRAINT hebbian_links_pkey PRIMARY KEY (workspace_id, a, b),
  CONSTRAINT hebbian_links_order_check CHECK (a < b),
  CONSTRAINT hebbian_links_mass_check CHECK (forward >= 0 AND backward >= 0 AND count > 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
DO $$
BEGIN
  -- As memory_state: a fold may change all rows of a page at once. Earlier versions left less room.
  IF EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = 'engram.hebbian_links'::regclass AND reloptions && '{fillfactor=80,fillfactor=60}') THEN
    ALTER TABLE engram.hebbian_links SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
  END IF;
END
$$;
-- The memory leads, as in memories_content_idx and for its reason.
CREATE INDEX IF NOT EXISTS hebbian_links_reverse_idx ON engram.hebbian_links (b, workspace_id, a);

-- When a workspace was last cared for. Whoever folds holds its row.
CREATE TABLE IF NOT EXISTS engram.maintenance (
  workspace_id    uuid NOT NULL,
  folded_at       timestamptz,
  consolidated_at timestamptz,
  CONSTRAINT maintenance_pkey PRIMARY KEY (workspace_id)
);

-- The row of the all-zero workspace is that of the whole store.
ALTER TABLE engram.maintenance
  ADD COLUMN IF NOT EXISTS maintained_at timestamptz,
  ADD COLUMN IF NOT EXISTS report jsonb,
  ADD COLUMN IF NOT EXISTS events_dropped_xid xid8,
  ADD COLUMN IF NOT EXISTS events_dropped_until timestamptz;

-- What may be kept for how long, by workspace; a memory that is pinned is never taken.
CREATE TABLE IF NOT EXISTS engram.retention_policies (
  workspace_id   uuid NOT NULL,
  name           text NOT NULL CONSTRAINT retention_policies_name_check CHECK (name <> ''),
  action         text NOT NULL DEFAULT 'forget' CONSTRAINT retention_policies_action_check CHECK (action IN ('forget', 'erase')),
  types          text[] CONSTRAINT retention_policies_types_check CHECK (types <@ ARRAY
                   ['factual', 'episodic', 'relational', 'emotional', 'procedural', 'opinion', 'causal']),
  max_importance double precision CONSTRAINT retention_policies_max_importance_check CHECK (max_importance >= 0 AND max_importance <= 1),
  max_age        interval CONSTRAINT retention_policies_max_age_check CHECK (max_age >= interval '0'),
  max_count      integer CONSTRAINT retention_policies_max_count_check CHECK (max_count >= 0),
  created_at     timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT retention_policies_pkey PRIMARY KEY (workspace_id, name),
  CONSTRAINT retention_policies_limit_check CHECK (max_age IS NOT NULL OR max_count IS NOT NULL)
);

-- What search scans: words and quantised vectors of many memories in one row, derived from memories
-- and embeddings by trigger. The format of block is the library's (src/blocks). Writers only insert;
-- whoever holds the packing lock of the workspace merges, so writers never wait for each other here.
-- Levels: 0 entries that replace older ones, 1 a few entries, 2 full blocks, 3 heads of segments, 4 the
-- parts of segments, whose number is in cluster, 5 the cells of large workspaces, copies of what is in segments.
CREATE TABLE IF NOT EXISTS engram.search_blocks (
  workspace_id uuid NOT NULL,
  model        text COLLATE "C" NOT NULL,
  level        smallint NOT NULL CONSTRAINT search_blocks_level_check CHECK (level BETWEEN 0 AND 5),
  cluster      integer NOT NULL DEFAULT 0,
  block_id     uuid NOT NULL,
  entries      integer NOT NULL,
  block        bytea NOT NULL,
  CONSTRAINT search_blocks_pkey PRIMARY KEY (workspace_id, model, level, cluster, block_id)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);
DO $$
BEGIN
  -- Inline while it fits into the page, and not compressed: codes and hashes hardly shrink.
  IF EXISTS (SELECT FROM pg_catalog.pg_attribute
             WHERE attrelid = 'engram.search_blocks'::regclass AND attname = 'block' AND attstorage <> 'e') THEN
    ALTER TABLE engram.search_blocks ALTER COLUMN block SET STORAGE EXTERNAL;
  END IF;
  -- Until 0.7 there were no cells.
  IF EXISTS (SELECT FROM pg_catalog.pg_constraint
             WHERE conrelid = 'engram.search_blocks'::regclass AND conname = 'search_blocks_level_check'
               AND pg_catalog.pg_get_constraintdef(oid) LIKE '%<= 4%') THEN
    ALTER TABLE engram.search_blocks DROP CONSTRAINT search_blocks_level_check,
      ADD CONSTRAINT search_blocks_level_check CHECK (level BETWEEN 0 AND 5);
  END IF;
  -- Its predecessor, a row and an index entry for every word.
  IF to_regclass('engram.memory_terms') IS NOT NULL THEN
    BEGIN
      DROP TABLE engram.memory_terms;
    EXCEPTION WHEN dependent_objects_still_exist THEN
      -- Somebody's view needs it; empty it stays.
      TRUNCATE engram.memory_terms;
    END;
  END IF;
END
$$;

CREATE TABLE IF NOT EXISTS engram.embedding_models (
  name       text NOT NULL CONSTRAINT embedding_models_name_check CHECK (name <> ''),
  dims       integer NOT NULL CONSTRAINT embedding_models_dims_check CHECK (dims BETWEEN 1 AND 16000),
  distance   text NOT NULL DEFAULT 'cosine'
             CONSTRAINT embedding_models_distance_check CHECK (distance IN ('cosine', 'inner_product', 'l2')),
  is_default boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT embedding_models_pkey PRIMARY KEY (name)
);
CREATE UNIQUE INDEX IF NOT EXISTS embedding_models_default_idx ON engram.embedding_models (is_default) WHERE is_default;

-- Vectors stay out of memories (Realtime decodes every column of a published table) and inline in
-- their own narrow row up to about 2,000 dimensions.
CREATE TABLE IF NOT EXISTS engram.embeddings (
  workspace_id uuid NOT NULL,
  memory_id    uuid NOT NULL,
  model        text NOT NULL,
  embedding    @vector@ NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT embeddings_pkey PRIMARY KEY (workspace_id, memory_id, model),
  CONSTRAINT embeddings_memory_fkey FOREIGN KEY (workspace_id, memory_id)
    REFERENCES engram.memories (workspace_id, id) ON DELETE CASCADE,
  CONSTRAINT embeddings_model_fkey FOREIGN KEY (model) REFERENCES engram.embedding_models (name)
) WITH (toast_tuple_target = 8160);
-- DROP EXTENSION vector CASCADE takes the column with it, and with it the sense of the rows.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute
                 WHERE attrelid = 'engram.embeddings'::regclass AND attname = 'embedding' AND NOT attisdropped) THEN
    DELETE FROM engram.embeddings WHERE true;
    DELETE FROM engram.search_blocks WHERE model <> '';
    ALTER TABLE engram.embeddings ADD COLUMN embedding @vector@ NOT NULL;
  END IF;
END
$$;
CREATE INDEX IF NOT EXISTS embeddings_by_model_idx ON engram.embeddings (model);
DROP INDEX IF EXISTS engram.embeddings_model_idx, engram.embeddings_model_fkey_idx;

-- The queue of the external embedders: what waits for a vector of the default model, or is worked on, until when. What
-- has waited longer, or waits for another model, need not be here.
CREATE TABLE IF NOT EXISTS engram.embedding_claims (
  workspace_id  uuid NOT NULL,
  memory_id     uuid NOT NULL,
  model         text NOT NULL,
  claimed_until timestamptz NOT NULL,
  CONSTRAINT embedding_claims_pkey PRIMARY KEY (workspace_id, memory_id, model),
  CONSTRAINT embedding_claims_memory_fkey FOREIGN KEY (workspace_id, memory_id)
    REFERENCES engram.memories (workspace_id, id) ON DELETE CASCADE
);
DO $$
BEGIN
  -- A memory that is stored would lock the row of the model. Claims go with their model by a trigger, or with the purge.
  IF EXISTS (SELECT FROM pg_catalog.pg_constraint
             WHERE conrelid = 'engram.embedding_claims'::regclass AND conname = 'embedding_claims_model_fkey') THEN
    ALTER TABLE engram.embedding_claims DROP CONSTRAINT embedding_claims_model_fkey;
  END IF;
END
$$;
CREATE INDEX IF NOT EXISTS embedding_claims_model_fkey_idx ON engram.embedding_claims (model);

CREATE TABLE IF NOT EXISTS engram.graph_links (
  workspace_id uuid NOT NULL,
  memory_id    uuid NOT NULL,
  relation     text NOT NULL CONSTRAINT graph_links_relation_check CHECK (relation <> ''),
  node         text NOT NULL CONSTRAINT graph_links_node_check CHECK (node <> ''),
  label        text NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT graph_links_pkey PRIMARY KEY (workspace_id, memory_id, relation, node),
  CONSTRAINT graph_links_memory_fkey FOREIGN KEY (workspace_id, memory_id)
    REFERENCES engram.memories (workspace_id, id) ON DELETE CASCADE
);
-- A link to a memory has that memory's id as its node.
ALTER TABLE engram.graph_links
  ADD COLUMN IF NOT EXISTS target_id uuid,
  ADD COLUMN IF NOT EXISTS weight double precision NOT NULL DEFAULT 1
    CONSTRAINT graph_links_weight_check CHECK (weight > 0 AND weight <= 1);
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint
                 WHERE conrelid = 'engram.graph_links'::regclass AND conname = 'graph_links_target_fkey') THEN
    ALTER TABLE engram.graph_links ADD CONSTRAINT graph_links_target_fkey FOREIGN KEY (workspace_id, target_id)
      REFERENCES engram.memories (workspace_id, id) ON DELETE CASCADE;
  END IF;
END
$$;
-- The entity leads, as in memories_content_idx and for its reason: else what one memory is linked to would be looked
-- for among all links of the workspace.
CREATE INDEX IF NOT EXISTS graph_links_entity_idx ON engram.graph_links (node, workspace_id, memory_id);
DROP INDEX IF EXISTS engram.graph_links_node_idx;
CREATE INDEX IF NOT EXISTS graph_links_target_idx ON engram.graph_links (target_id, workspace_id) WHERE target_id IS NOT NULL;

-- Other names of entities: who stores or asks for the alias means the node.
CREATE TABLE IF NOT EXISTS engram.entity_aliases (
  workspace_id uuid NOT NULL,
  alias        text NOT NULL CONSTRAINT entity_aliases_alias_check CHECK (alias <> ''),
  node         text NOT NULL CONSTRAINT entity_aliases_node_check CHECK (node <> '' AND node <> alias),
  label        text NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT entity_aliases_pkey PRIMARY KEY (workspace_id, alias)
);
-- Versions before 0.10 took the signs of a name (C++, C#, .NET) for punctuation around it.
DO $$
DECLARE
  moved record;
BEGIN
  FOR moved IN
    WITH old AS (
      DELETE FROM engram.graph_links g
      WHERE g.relation = 'mentions' AND g.target_id IS NULL AND g.label ~ '[[:alnum:]][+#]|\.[[:alnum:]]'
        AND g.node <> engram_internal.entity_node(g.label)
        AND g.node = btrim(engram_internal.entity_node(g.label), '.+#')
      RETURNING *
    ), renamed AS (
      INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label, created_at, weight)
      SELECT o.workspace_id, o.memory_id, o.relation, engram_internal.entity_node(o.label), o.label, o.created_at, o.weight FROM old o
      ON CONFLICT DO NOTHING
    )
    SELECT o.workspace_id, o.node, min(engram_internal.entity_node(o.label)) AS now FROM old o GROUP BY 1, 2
  LOOP
    -- Its other names go with it, unless the plain name is an entity too.
    UPDATE engram.entity_aliases a SET node = moved.now
    WHERE a.workspace_id = moved.workspace_id AND a.node = moved.node AND a.alias <> moved.now
      AND NOT EXISTS (SELECT FROM engram.graph_links g WHERE g.workspace_id = a.workspace_id AND g.node = moved.node);
  END LOOP;
END
$$;

-- Turns of conversations as they were said. No foreign key: a conversation is its session_id and nothing
-- more, and memories made from it live on without it. Partitions as in access_log.
CREATE TABLE IF NOT EXISTS engram.messages (
  workspace_id uuid NOT NULL,
  session_id   text NOT NULL CONSTRAINT messages_session_id_check CHECK (session_id <> ''),
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp() CONSTRAINT messages_created_at_check
               CHECK (created_at > '-infinity' AND created_at < '10000-01-01 00:00:00+00'),
  id           uuid NOT NULL DEFAULT gen_random_uuid(),
  user_id      uuid NOT NULL,
  role         text NOT NULL CONSTRAINT messages_role_check CHECK (role IN ('user', 'assistant', 'system', 'tool')),
  speaker      text,
  content      text NOT NULL,
  metadata     jsonb NOT NULL DEFAULT '{}' CONSTRAINT messages_metadata_check CHECK (jsonb_typeof(metadata) = 'object')
) PARTITION BY RANGE (created_at);
CREATE TABLE IF NOT EXISTS engram.messages_default PARTITION OF engram.messages (
  CONSTRAINT messages_default_pkey PRIMARY KEY (workspace_id, session_id, created_at, id)
) DEFAULT;

-- Old turns, many to a row: messages holds them without their ids, which are in ids in the same order, so
-- that a retry is recognised without unpacking them. Only the owner writes here: authors stay who they were.
CREATE TABLE IF NOT EXISTS engram.message_archive (
  workspace_id uuid NOT NULL,
  session_id   text NOT NULL,
  first_at     timestamptz NOT NULL,
  id           uuid NOT NULL,
  last_at      timestamptz NOT NULL,
  turns        integer NOT NULL,
  ids          uuid[] NOT NULL,
  messages     jsonb NOT NULL,
  CONSTRAINT message_archive_pkey PRIMARY KEY (workspace_id, session_id, first_at, id),
  CONSTRAINT message_archive_turns_check CHECK (turns > 0 AND cardinality(ids) = turns AND jsonb_typeof(messages) = 'array')
);

CREATE TABLE IF NOT EXISTS engram.erasures (
  workspace_id uuid NOT NULL,
  id           uuid NOT NULL,
  erased_by    uuid,
  erased_at    timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT erasures_pkey PRIMARY KEY (workspace_id, id)
);

CREATE TABLE IF NOT EXISTS engram.memory_type_settings (
  workspace_id       uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  type               text NOT NULL,
  default_importance double precision NOT NULL
                     CONSTRAINT memory_type_settings_importance_check CHECK (default_importance >= 0 AND default_importance <= 1),
  decay_per_day      double precision NOT NULL
                     CONSTRAINT memory_type_settings_decay_check CHECK (decay_per_day > 0 AND decay_per_day <= 1),
  CONSTRAINT memory_type_settings_pkey PRIMARY KEY (workspace_id, type),
  CONSTRAINT memory_type_settings_type_check CHECK (type IN
    ('factual', 'episodic', 'relational', 'emotional', 'procedural', 'opinion', 'causal'))
);

-- One row of defaults, one row per workspace that differs; NULL inherits.
CREATE TABLE IF NOT EXISTS engram.settings (
  workspace_id             uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  max_content_chars        integer CONSTRAINT settings_max_content_chars_check CHECK (max_content_chars BETWEEN 1 AND 10000000),
  near_duplicate_threshold double precision CONSTRAINT settings_near_duplicate_check CHECK (near_duplicate_threshold > 0 AND near_duplicate_threshold <= 1),
  vector_weight            double precision CONSTRAINT settings_vector_weight_check CHECK (vector_weight >= 0 AND vector_weight <= 1),
  bm25_k1                  double precision CONSTRAINT settings_bm25_k1_check CHECK (bm25_k1 >= 0 AND bm25_k1 <= 100),
  bm25_pivot               double precision CONSTRAINT settings_bm25_pivot_check CHECK (bm25_pivot > 0 AND bm25_pivot <= 1000000),
  candidates               integer CONSTRAINT settings_candidates_check CHECK (candidates BETWEEN 1 AND 10000),
  CONSTRAINT settings_pkey PRIMARY KEY (workspace_id),
  CONSTRAINT settings_defaults_check CHECK (
    workspace_id <> '00000000-0000-0000-0000-000000000000'
    OR (max_content_chars IS NOT NULL AND vector_weight IS NOT NULL AND bm25_k1 IS NOT NULL
        AND bm25_pivot IS NOT NULL AND candidates IS NOT NULL))
);

ALTER TABLE engram.settings ADD COLUMN IF NOT EXISTS text_config text
  CONSTRAINT settings_text_config_check CHECK (text_config IS NULL OR text_config::regconfig IS NOT NULL);
ALTER TABLE engram.settings
  ADD COLUMN IF NOT EXISTS coverage_weight double precision CONSTRAINT settings_coverage_weight_check CHECK (coverage_weight >= 0 AND coverage_weight <= 1),
  ADD COLUMN IF NOT EXISTS context_weight double precision CONSTRAINT settings_context_weight_check CHECK (context_weight >= 0 AND context_weight <= 1),
  ADD COLUMN IF NOT EXISTS lend_weight double precision CONSTRAINT settings_lend_weight_check CHECK (lend_weight >= 0 AND lend_weight <= 1),
  ADD COLUMN IF NOT EXISTS speaker_weight double precision CONSTRAINT settings_speaker_weight_check CHECK (speaker_weight >= 0 AND speaker_weight <= 1),
  ADD COLUMN IF NOT EXISTS date_weight double precision CONSTRAINT settings_date_weight_check CHECK (date_weight >= 0 AND date_weight <= 1),
  ADD COLUMN IF NOT EXISTS question_weight double precision CONSTRAINT settings_question_weight_check CHECK (question_weight >= 0 AND question_weight <= 1),
  ADD COLUMN IF NOT EXISTS length_weight double precision CONSTRAINT settings_length_weight_check CHECK (length_weight >= 0 AND length_weight <= 1),
  ADD COLUMN IF NOT EXISTS activation_weight double precision CONSTRAINT settings_activation_weight_check CHECK (activation_weight >= 0 AND activation_weight <= 1),
  ADD COLUMN IF NOT EXISTS importance_weight double precision CONSTRAINT settings_importance_weight_check CHECK (importance_weight >= 0 AND importance_weight <= 1);

-- The dynamics of memory. Rates are per day.
ALTER TABLE engram.settings
  ADD COLUMN IF NOT EXISTS preset text,
  ADD COLUMN IF NOT EXISTS decay double precision CONSTRAINT settings_decay_check CHECK (decay >= 0.1 AND decay <= 0.95),
  ADD COLUMN IF NOT EXISTS mu1 double precision CONSTRAINT settings_mu1_check CHECK (mu1 > 0 AND mu1 <= 100),
  ADD COLUMN IF NOT EXISTS mu2 double precision CONSTRAINT settings_mu2_check CHECK (mu2 > 0 AND mu2 <= 100),
  ADD COLUMN IF NOT EXISTS alpha double precision CONSTRAINT settings_alpha_check CHECK (alpha >= 0 AND alpha <= 100),
  ADD COLUMN IF NOT EXISTS promote double precision CONSTRAINT settings_promote_check CHECK (promote > 0 AND promote <= 100),
  ADD COLUMN IF NOT EXISTS demote double precision CONSTRAINT settings_demote_check CHECK (demote > 0 AND demote <= 100),
  ADD COLUMN IF NOT EXISTS archive double precision CONSTRAINT settings_archive_check CHECK (archive > 0 AND archive <= 100),
  ADD COLUMN IF NOT EXISTS strength_gain double precision CONSTRAINT settings_strength_gain_check CHECK (strength_gain >= 0 AND strength_gain <= 10),
  ADD COLUMN IF NOT EXISTS shown_gain double precision CONSTRAINT settings_shown_gain_check CHECK (shown_gain >= 0 AND shown_gain <= 1),
  ADD COLUMN IF NOT EXISTS fold_threshold integer CONSTRAINT settings_fold_threshold_check CHECK (fold_threshold BETWEEN 1 AND 100000),
  ADD COLUMN IF NOT EXISTS forgetting boolean,
  ADD COLUMN IF NOT EXISTS forget_threshold double precision CONSTRAINT settings_forget_threshold_check CHECK (forget_threshold >= 0 AND forget_threshold <= 1),
  ADD COLUMN IF NOT EXISTS forget_after_days double precision CONSTRAINT settings_forget_after_days_check CHECK (forget_after_days >= 0 AND forget_after_days <= 100000),
  ADD COLUMN IF NOT EXISTS link_half_life_days double precision CONSTRAINT settings_link_half_life_check CHECK (link_half_life_days > 0 AND link_half_life_days <= 100000),
  ADD COLUMN IF NOT EXISTS link_members integer CONSTRAINT settings_link_members_check CHECK (link_members BETWEEN 0 AND 50),
  ADD COLUMN IF NOT EXISTS link_threshold integer CONSTRAINT settings_link_threshold_check CHECK (link_threshold BETWEEN 1 AND 1000000),
  ADD COLUMN IF NOT EXISTS link_prune double precision CONSTRAINT settings_link_prune_check CHECK (link_prune >= 0 AND link_prune <= 1),
  ADD COLUMN IF NOT EXISTS link_limit integer CONSTRAINT settings_link_limit_check CHECK (link_limit BETWEEN 1 AND 1000),
  ADD COLUMN IF NOT EXISTS link_weight double precision CONSTRAINT settings_link_weight_check CHECK (link_weight >= 0 AND link_weight <= 1),
  ADD COLUMN IF NOT EXISTS contradiction_weight double precision CONSTRAINT settings_contradiction_weight_check CHECK (contradiction_weight >= 0 AND contradiction_weight <= 1);
-- What search leaves out of its results, and how words that nobody wrote are read.
ALTER TABLE engram.settings
  ADD COLUMN IF NOT EXISTS duplicate_similarity double precision CONSTRAINT settings_duplicate_similarity_check CHECK (duplicate_similarity > 0 AND duplicate_similarity <= 1),
  ADD COLUMN IF NOT EXISTS context_diversity double precision CONSTRAINT settings_context_diversity_check CHECK (context_diversity >= 0 AND context_diversity <= 1),
  ADD COLUMN IF NOT EXISTS fuzzy_weight double precision CONSTRAINT settings_fuzzy_weight_check CHECK (fuzzy_weight >= 0 AND fuzzy_weight <= 1),
  ADD COLUMN IF NOT EXISTS min_similarity double precision CONSTRAINT settings_min_similarity_check CHECK (min_similarity >= -1 AND min_similarity < 'Infinity'),
  ADD COLUMN IF NOT EXISTS min_coverage double precision CONSTRAINT settings_min_coverage_check CHECK (min_coverage >= 0 AND min_coverage <= 1);
-- How many vectors are looked through whole.
ALTER TABLE engram.settings
  ADD COLUMN IF NOT EXISTS approximate_from integer CONSTRAINT settings_approximate_from_check CHECK (approximate_from >= 1000);
-- Years of data. NULL keeps for ever. Those of the logs are read from the defaults alone.
ALTER TABLE engram.settings
  ADD COLUMN IF NOT EXISTS purge_after_days double precision CONSTRAINT settings_purge_after_days_check CHECK (purge_after_days >= 0 AND purge_after_days <= 100000),
  ADD COLUMN IF NOT EXISTS partition_interval text CONSTRAINT settings_partition_interval_check CHECK (partition_interval IN ('day', 'week', 'month', 'quarter', 'year')),
  ADD COLUMN IF NOT EXISTS partitions_ahead integer CONSTRAINT settings_partitions_ahead_check CHECK (partitions_ahead BETWEEN 1 AND 100),
  ADD COLUMN IF NOT EXISTS access_log_days double precision CONSTRAINT settings_access_log_days_check CHECK (access_log_days >= 1 AND access_log_days <= 100000),
  ADD COLUMN IF NOT EXISTS memory_events_days double precision CONSTRAINT settings_memory_events_days_check CHECK (memory_events_days >= 1 AND memory_events_days <= 100000),
  ADD COLUMN IF NOT EXISTS messages_days double precision CONSTRAINT settings_messages_days_check CHECK (messages_days >= 1 AND messages_days <= 100000),
  ADD COLUMN IF NOT EXISTS archive_messages_days double precision CONSTRAINT settings_archive_messages_days_check CHECK (archive_messages_days >= 0 AND archive_messages_days <= 100000),
  ADD COLUMN IF NOT EXISTS size_limit_bytes bigint CONSTRAINT settings_size_limit_bytes_check CHECK (size_limit_bytes > 0);
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint
                 WHERE conrelid = 'engram.settings'::regclass AND conname = 'settings_layers_check') THEN
    ALTER TABLE engram.settings ADD CONSTRAINT settings_layers_check CHECK (promote >= demote AND promote >= archive);
  END IF;
END
$$;

-- What uses counted by until it was changed: a row for each change of a row of settings (type empty) or of
-- memory_type_settings while there were memories that may have been used; NULL inherits, as there. Uses come late, and
-- count by the settings of their time. Rows of the same transaction are one change. No foreign key: what was deleted
-- was in force before.
CREATE TABLE IF NOT EXISTS engram.settings_history (
  workspace_id         uuid NOT NULL,
  type                 text NOT NULL CONSTRAINT settings_history_type_check CHECK (type IN
                         ('', 'factual', 'episodic', 'relational', 'emotional', 'procedural', 'opinion', 'causal')),
  until                timestamptz NOT NULL CONSTRAINT settings_history_until_check CHECK (isfinite(until)),
  xid                  xid8 NOT NULL,
  mu1                  double precision CONSTRAINT settings_history_mu1_check CHECK (mu1 > 0 AND mu1 <= 100),
  mu2                  double precision CONSTRAINT settings_history_mu2_check CHECK (mu2 > 0 AND mu2 <= 100),
  alpha                double precision CONSTRAINT settings_history_alpha_check CHECK (alpha >= 0 AND alpha <= 100),
  promote              double precision CONSTRAINT settings_history_promote_check CHECK (promote > 0 AND promote <= 100),
  demote               double precision CONSTRAINT settings_history_demote_check CHECK (demote > 0 AND demote <= 100),
  archive              double precision CONSTRAINT settings_history_archive_check CHECK (archive > 0 AND archive <= 100),
  strength_gain        double precision CONSTRAINT settings_history_strength_gain_check CHECK (strength_gain >= 0 AND strength_gain <= 10),
  link_members         integer CONSTRAINT settings_history_link_members_check CHECK (link_members BETWEEN 0 AND 50),
  link_half_life_days  double precision CONSTRAINT settings_history_link_half_life_check CHECK (link_half_life_days > 0 AND link_half_life_days <= 100000),
  link_prune           double precision CONSTRAINT settings_history_link_prune_check CHECK (link_prune >= 0 AND link_prune <= 1),
  decay_per_day        double precision CONSTRAINT settings_history_decay_per_day_check CHECK (decay_per_day > 0 AND decay_per_day <= 1),
  CONSTRAINT settings_history_pkey PRIMARY KEY (workspace_id, type, until)
);

-- Only what is missing is filled in: values that somebody set are never put back.
INSERT INTO engram.settings (max_content_chars, vector_weight, bm25_k1, bm25_pivot, candidates)
SELECT 200000, 0.5, 1.2, 30, 100
WHERE NOT EXISTS (SELECT FROM engram.settings WHERE workspace_id = '00000000-0000-0000-0000-000000000000');

UPDATE engram.settings SET
  text_config = coalesce(text_config, 'pg_catalog.english'),
  coverage_weight = coalesce(coverage_weight, 0.5),
  context_weight = coalesce(context_weight, 0.2),
  lend_weight = coalesce(lend_weight, 0.4),
  speaker_weight = coalesce(speaker_weight, 0.1),
  date_weight = coalesce(date_weight, 0.2),
  question_weight = coalesce(question_weight, 0.1),
  length_weight = coalesce(length_weight, 0.1),
  activation_weight = coalesce(activation_weight, 0.1),
  importance_weight = coalesce(importance_weight, 0.05)
WHERE workspace_id = '00000000-0000-0000-0000-000000000000'
  AND num_nulls(text_config, coverage_weight, context_weight, lend_weight, speaker_weight, date_weight, question_weight, length_weight, activation_weight, importance_weight) > 0;

UPDATE engram.settings SET
  decay = coalesce(decay, 0.5), mu1 = coalesce(mu1, 0.15), mu2 = coalesce(mu2, 0.005), alpha = coalesce(alpha, 0.08),
  promote = coalesce(promote, 0.25), demote = coalesce(demote, 0.05), archive = coalesce(archive, 0.15),
  strength_gain = coalesce(strength_gain, 0.15), shown_gain = coalesce(shown_gain, 0), fold_threshold = coalesce(fold_threshold, 128),
  forgetting = coalesce(forgetting, false), forget_threshold = coalesce(forget_threshold, 0.01),
  forget_after_days = coalesce(forget_after_days, 30), link_half_life_days = coalesce(link_half_life_days, 30),
  link_members = coalesce(link_members, 6), link_threshold = coalesce(link_threshold, 3), link_prune = coalesce(link_prune, 0.02),
  link_limit = coalesce(link_limit, 32), link_weight = coalesce(link_weight, 0.2), contradiction_weight = coalesce(contradiction_weight, 0.3)
WHERE workspace_id = '00000000-0000-0000-0000-000000000000'
  AND num_nulls(decay, mu1, mu2, alpha, promote, demote, archive, strength_gain, shown_gain, fold_threshold, forgetting,
    forget_threshold, forget_after_days, link_half_life_days, link_members, link_threshold, link_prune, link_limit,
    link_weight, contradiction_weight) > 0;

UPDATE engram.settings SET duplicate_similarity = coalesce(duplicate_similarity, 0.95), context_diversity = coalesce(context_diversity, 0.1),
  fuzzy_weight = coalesce(fuzzy_weight, 0.7), min_similarity = coalesce(min_similarity, 0), min_coverage = coalesce(min_coverage, 0)
WHERE workspace_id = '00000000-0000-0000-0000-000000000000'
  AND num_nulls(duplicate_similarity, context_diversity, fuzzy_weight, min_similarity, min_coverage) > 0;

UPDATE engram.settings SET approximate_from = 50000
WHERE workspace_id = '00000000-0000-0000-0000-000000000000' AND approximate_from IS NULL;

UPDATE engram.settings SET partition_interval = coalesce(partition_interval, 'month'), partitions_ahead = coalesce(partitions_ahead, 2)
WHERE workspace_id = '00000000-0000-0000-0000-000000000000' AND num_nulls(partition_interval, partitions_ahead) > 0;

INSERT INTO engram.memory_type_settings (type, default_importance, decay_per_day)
SELECT v.* FROM (VALUES
  ('factual', 0.3, 0.03), ('episodic', 0.4, 0.10), ('relational', 0.6, 0.02), ('emotional', 0.9, 0.01),
  ('procedural', 0.5, 0.01), ('opinion', 0.3, 0.05), ('causal', 0.7, 0.02)
) AS v (type, default_importance, decay_per_day)
WHERE NOT EXISTS (SELECT FROM engram.memory_type_settings s
                  WHERE s.type = v.type AND s.workspace_id = '00000000-0000-0000-0000-000000000000');
