COMMENT ON SCHEMA engram IS 'Agent memory: store, search, forget. See engram.search() and engram.add().';
COMMENT ON TABLE engram.memories IS 'What agents remember: one row a memory. Rows belong to a workspace; row level security shows a caller only its own. A plain INSERT with content is enough.';
COMMENT ON COLUMN engram.memories.workspace_id IS 'Whose memory this is. A personal workspace has its user''s id. Filled by default; never changes.';
COMMENT ON COLUMN engram.memories.id IS 'Unique in the workspace. A time-ordered UUID by default.';
COMMENT ON COLUMN engram.memories.user_id IS 'The author.';
COMMENT ON COLUMN engram.memories.agent_id IS 'The agent that stored it, as the application names it.';
COMMENT ON COLUMN engram.memories.session_id IS 'The conversation or run it comes from, as the application names it.';
COMMENT ON COLUMN engram.memories.speaker IS 'Who said it. Part of the indexed text.';
COMMENT ON COLUMN engram.memories.role IS 'user, assistant, system or tool.';
COMMENT ON COLUMN engram.memories.content IS 'What is remembered, kept to the byte.';
COMMENT ON COLUMN engram.memories.summary IS 'A shorter form. Indexed with the content.';
COMMENT ON COLUMN engram.memories.type IS 'factual, episodic, relational, emotional, procedural, opinion or causal.';
COMMENT ON COLUMN engram.memories.importance IS '0 (trivial) to 1 (vital). By default that of the type.';
COMMENT ON COLUMN engram.memories.layer IS 'working, core or archive.';
COMMENT ON COLUMN engram.memories.pinned IS 'Never decays and is never archived.';
COMMENT ON COLUMN engram.memories.tags IS 'Words to filter by.';
COMMENT ON COLUMN engram.memories.metadata IS 'A JSON object of the application''s own.';
COMMENT ON COLUMN engram.memories.source IS 'Where it was learnt, as the application names it.';
COMMENT ON COLUMN engram.memories.occurred_at IS 'When it happened, if known; when it was stored is created_at. Part of the indexed text.';
COMMENT ON COLUMN engram.memories.valid_from IS 'From when it is true.';
COMMENT ON COLUMN engram.memories.valid_to IS 'Until when it is true.';
COMMENT ON COLUMN engram.memories.superseded_by IS 'The memory that replaces it; then it leaves search and lists.';
COMMENT ON COLUMN engram.memories.contradicts IS 'Memories that say otherwise.';
COMMENT ON COLUMN engram.memories.expires_at IS 'After this it leaves search and lists.';
COMMENT ON COLUMN engram.memories.deleted_at IS 'When it was forgotten; engram.restore() brings it back.';
COMMENT ON COLUMN engram.memories.version IS 'Counts changes, from 1.';
COMMENT ON COLUMN engram.memories.created_at IS 'When it was stored.';
COMMENT ON COLUMN engram.memories.updated_at IS 'When it was last changed.';
COMMENT ON COLUMN engram.memories.content_hash IS 'SHA-256 of the content without case and white space, to find duplicates.';
COMMENT ON INDEX engram.memories_created_idx IS 'Lists, newest first.';
COMMENT ON INDEX engram.memories_content_hash_idx IS 'Duplicates.';

COMMENT ON TABLE engram.memory_state IS 'How a memory is used: what changes at every use, apart from memories so that those stay quiet.';
COMMENT ON COLUMN engram.memory_state.workspace_id IS 'The workspace.';
COMMENT ON COLUMN engram.memory_state.memory_id IS 'The memory.';
COMMENT ON COLUMN engram.memory_state.access_count IS 'Uses so far; storing it is the first.';
COMMENT ON COLUMN engram.memory_state.last_accessed_at IS 'The latest use.';

COMMENT ON TABLE engram.memory_terms IS 'The words of every memory, for search. Derived from memories by trigger; not for callers.';
COMMENT ON COLUMN engram.memory_terms.workspace_id IS 'The workspace.';
COMMENT ON COLUMN engram.memory_terms.memory_id IS 'The memory.';
COMMENT ON COLUMN engram.memory_terms.length IS 'Words in the indexed text, stop words left out.';
COMMENT ON COLUMN engram.memory_terms.terms IS 'Lexemes with their positions.';
COMMENT ON COLUMN engram.memory_terms.keys IS 'One 64-bit hash of workspace and lexeme per distinct lexeme.';
COMMENT ON INDEX engram.memory_terms_keys_idx IS 'Which memories of one workspace hold a lexeme.';

COMMENT ON TABLE engram.embedding_models IS 'The models whose vectors are stored, for all workspaces. See engram.set_embedding_model().';
COMMENT ON COLUMN engram.embedding_models.name IS 'The name that the embedder goes by.';
COMMENT ON COLUMN engram.embedding_models.dims IS 'Length of its vectors.';
COMMENT ON COLUMN engram.embedding_models.distance IS 'cosine, inner_product or l2.';
COMMENT ON COLUMN engram.embedding_models.is_default IS 'The model that add() stores for and search() compares with.';
COMMENT ON COLUMN engram.embedding_models.created_at IS 'When it was registered.';
COMMENT ON INDEX engram.embedding_models_default_idx IS 'At most one default.';

COMMENT ON TABLE engram.embeddings IS 'Vectors of memories, one per model.';
COMMENT ON COLUMN engram.embeddings.workspace_id IS 'The workspace.';
COMMENT ON COLUMN engram.embeddings.memory_id IS 'The memory.';
COMMENT ON COLUMN engram.embeddings.model IS 'The model that made the vector.';
COMMENT ON COLUMN engram.embeddings.embedding IS 'The vector, of the model''s dimensions.';
COMMENT ON COLUMN engram.embeddings.created_at IS 'When it was stored.';
COMMENT ON INDEX engram.embeddings_model_idx IS 'All vectors of one model in a workspace.';
COMMENT ON INDEX engram.embeddings_model_fkey_idx IS 'Who still uses a model.';

COMMENT ON TABLE engram.embedding_claims IS 'Leases that engram.pending_embeddings() gave to embedders.';
COMMENT ON COLUMN engram.embedding_claims.workspace_id IS 'The workspace.';
COMMENT ON COLUMN engram.embedding_claims.memory_id IS 'The memory.';
COMMENT ON COLUMN engram.embedding_claims.model IS 'The model it waits for.';
COMMENT ON COLUMN engram.embedding_claims.claimed_until IS 'Until then nobody else is given it.';
COMMENT ON INDEX engram.embedding_claims_model_fkey_idx IS 'Leases of one model.';

COMMENT ON TABLE engram.graph_links IS 'What a memory is linked to: the entities it mentions.';
COMMENT ON COLUMN engram.graph_links.workspace_id IS 'The workspace.';
COMMENT ON COLUMN engram.graph_links.memory_id IS 'The memory.';
COMMENT ON COLUMN engram.graph_links.relation IS 'mentions, for entities.';
COMMENT ON COLUMN engram.graph_links.node IS 'The name without case and outer punctuation: what it is found by.';
COMMENT ON COLUMN engram.graph_links.label IS 'The name as it was given.';
COMMENT ON COLUMN engram.graph_links.created_at IS 'When it was linked.';
COMMENT ON INDEX engram.graph_links_node_idx IS 'Which memories of a workspace mention an entity.';

COMMENT ON TABLE engram.erasures IS 'Tombstones: ids that were deleted for good and cannot be stored again. Nothing of the content is kept.';
COMMENT ON COLUMN engram.erasures.workspace_id IS 'The workspace.';
COMMENT ON COLUMN engram.erasures.id IS 'The id that the memory had.';
COMMENT ON COLUMN engram.erasures.erased_by IS 'Who deleted it, if identified.';
COMMENT ON COLUMN engram.erasures.erased_at IS 'When.';

COMMENT ON TABLE engram.memory_type_settings IS 'What differs between types of memory; the all-zero workspace holds the defaults.';
COMMENT ON COLUMN engram.memory_type_settings.workspace_id IS 'The workspace, or all zeros for the defaults.';
COMMENT ON COLUMN engram.memory_type_settings.type IS 'The type.';
COMMENT ON COLUMN engram.memory_type_settings.default_importance IS 'Importance of a memory that is stored without one, 0 to 1.';
COMMENT ON COLUMN engram.memory_type_settings.decay_per_day IS 'How fast a memory of the type fades, above 0, at most 1.';

COMMENT ON TABLE engram.settings IS 'Constants of the engine; the all-zero workspace holds the defaults, a NULL in another row inherits them.';
COMMENT ON COLUMN engram.settings.workspace_id IS 'The workspace, or all zeros for the defaults.';
COMMENT ON COLUMN engram.settings.max_content_chars IS 'Longest content, in characters.';
COMMENT ON COLUMN engram.settings.near_duplicate_threshold IS 'Similarity from which a new embedding counts as a duplicate, above 0 to 1; NULL: only equal content does.';
COMMENT ON COLUMN engram.settings.vector_weight IS 'Share of the vector lane in a search by text and vector, 0 to 1.';
COMMENT ON COLUMN engram.settings.bm25_k1 IS 'Saturation of term frequency.';
COMMENT ON COLUMN engram.settings.bm25_pivot IS 'Length in lexemes up to which length does not lower a score.';
COMMENT ON COLUMN engram.settings.candidates IS 'Candidates that each lane of a search contributes; at least twice match_count are taken.';
