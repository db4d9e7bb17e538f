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
CREATE INDEX IF NOT EXISTS memories_content_hash_idx ON engram.memories (workspace_id, content_hash);

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

-- What the lexical search reads: narrow, one row a memory, derived from memories by trigger.
-- keys holds one 64-bit hash of (workspace, lexeme) per distinct lexeme, so that a lookup in the
-- one GIN index touches only postings of its own workspace.
CREATE TABLE IF NOT EXISTS engram.memory_terms (
  workspace_id uuid NOT NULL,
  memory_id    uuid NOT NULL,
  length       integer NOT NULL,
  terms        tsvector NOT NULL,
  keys         bigint[] NOT NULL,
  CONSTRAINT memory_terms_pkey PRIMARY KEY (workspace_id, memory_id),
  CONSTRAINT memory_terms_memory_fkey FOREIGN KEY (workspace_id, memory_id)
    REFERENCES engram.memories (workspace_id, id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS memory_terms_keys_idx ON engram.memory_terms USING gin (keys);

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
    ALTER TABLE engram.embeddings ADD COLUMN embedding @vector@ NOT NULL;
  END IF;
END
$$;
CREATE INDEX IF NOT EXISTS embeddings_model_idx ON engram.embeddings (workspace_id, model);
CREATE INDEX IF NOT EXISTS embeddings_model_fkey_idx ON engram.embeddings (model, workspace_id);

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

-- Only what is missing is filled in: values that somebody set are never put back.
INSERT INTO engram.settings (max_content_chars, vector_weight, bm25_k1, bm25_pivot, candidates)
SELECT 200000, 0.5, 1.2, 30, 100
WHERE NOT EXISTS (SELECT FROM engram.settings WHERE workspace_id = '00000000-0000-0000-0000-000000000000');

INSERT INTO engram.memory_type_settings (type, default_importance, decay_per_day)
SELECT v.* FROM (VALUES
  ('factual', 0.3, 0.03), ('episodic', 0.4, 0.10), ('relational', 0.6, 0.02), ('emotional', 0.9, 0.01),
  ('procedural', 0.5, 0.01), ('opinion', 0.3, 0.05), ('causal', 0.7, 0.02)
) AS v (type, default_importance, decay_per_day)
WHERE NOT EXISTS (SELECT FROM engram.memory_type_settings s
                  WHERE s.type = v.type AND s.workspace_id = '00000000-0000-0000-0000-000000000000');
