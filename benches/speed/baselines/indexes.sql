CREATE INDEX docs_user_idx ON docs (user_id);
CREATE INDEX docs_fts_idx ON docs USING gin (fts);
CREATE INDEX docs_embedding_idx ON docs USING hnsw (embedding vector_ip_ops);
