-- One wide table, as the guides for vector search in PostgreSQL build it: the row, its words and
-- its vector together, every user's rows kept apart by a policy.
CREATE TABLE docs (
  id         bigint PRIMARY KEY,
  user_id    uuid NOT NULL,
  content    text NOT NULL,
  tags       text[] NOT NULL,
  metadata   jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  fts        tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED,
  embedding  vector(@dims@)
);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
-- The sub-select makes the caller a constant of the plan instead of a call per row.
CREATE POLICY docs_of_the_user ON docs
  USING (user_id = (SELECT nullif(current_setting('engram.user_id', true), '')::uuid))
  WITH CHECK (user_id = (SELECT nullif(current_setting('engram.user_id', true), '')::uuid));
GRANT SELECT, INSERT ON docs TO @role@;
