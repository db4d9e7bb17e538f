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

CREATE INDEX IF NOT EXISTS memories_expires_idx ON engram.memories (workspace_id, expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS engram.memory_state (
  workspace_id     uuid NOT NULL,
  memory_id        uuid NOT NULL,
  access_count     bigint NOT NULL DEFAULT 1 CONSTRAINT memory_state_access_count_check CHECK (access_count > 0),
  last_accessed_at timestamptz NOT NULL,
  CONSTRAINT memory_state_pkey PRIMARY KEY (workspace_id, memory_id),
  CONSTRAINT memory_state_memory_fkey FOREIGN KEY (workspace_id, memory_id)
    REFERENCES engram.memories (workspace_id, id) ON DELETE CASCADE
) WITH (fillfactor = 75);

-- What search scans: words and quantised vectors of many memories in one row, derived from memories
-- and embeddings by trigger. The format of block is the library's (src/blocks). Writers only insert;
-- whoever holds the packing lock of the workspace merges, so writers never wait for each other here.
-- Levels: 0 entries that replace older ones, 1 a few entries, 2 full blocks, 3 full blocks in
-- clusters, 4 the clusters' centres.
CREATE TABLE IF NOT EXISTS engram.search_blocks (
  workspace_id uuid NOT NULL,
  model        text COLLATE "C" NOT NULL,
  level        smallint NOT NULL CONSTRAINT search_blocks_level_check CHECK (level BETWEEN 0 AND 4),
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

-- Leases of the external embedders: who works on what until when.
CREATE TABLE IF NOT EXISTS engram.embedding_claims (
  workspace_id  uuid NOT NULL,
  memory_id     uuid NOT NULL,
  model         text NOT NULL,
  claimed_until timestamptz NOT NULL,
  CONSTRAINT embedding_claims_pkey PRIMARY KEY (workspace_id, memory_id, model),
  CONSTRAINT embedding_claims_memory_fkey FOREIGN KEY (workspace_id, memory_id)
    REFERENCES engram.memories (workspace_id, id) ON DELETE CASCADE,
  CONSTRAINT embedding_claims_model_fkey FOREIGN KEY (model) REFERENCES engram.embedding_models (name) ON DELETE CASCADE
);
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
CREATE INDEX IF NOT EXISTS graph_links_node_idx ON engram.graph_links (workspace_id, node, memory_id);

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

INSERT INTO engram.memory_type_settings (type, default_importance, decay_per_day)
SELECT v.* FROM (VALUES
  ('factual', 0.3, 0.03), ('episodic', 0.4, 0.10), ('relational', 0.6, 0.02), ('emotional', 0.9, 0.01),
  ('procedural', 0.5, 0.01), ('opinion', 0.3, 0.05), ('causal', 0.7, 0.02)
) AS v (type, default_importance, decay_per_day)
WHERE NOT EXISTS (SELECT FROM engram.memory_type_settings s
                  WHERE s.type = v.type AND s.workspace_id = '00000000-0000-0000-0000-000000000000');
