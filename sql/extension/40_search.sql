CREATE FUNCTION engram.search(
  query_text text DEFAULT NULL,
  query_embedding vector DEFAULT NULL,
  match_count integer DEFAULT NULL,
  filter jsonb DEFAULT NULL,
  types text[] DEFAULT NULL,
  min_score double precision DEFAULT NULL,
  explain boolean DEFAULT NULL,
  include text[] DEFAULT NULL,
  model text DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL,
  as_of timestamptz DEFAULT NULL,
  diversity double precision DEFAULT 0
) RETURNS TABLE (
  id uuid, content text, type text, score double precision, importance double precision, tags text[],
  metadata jsonb, speaker text, role text, session_id text, occurred_at timestamptz,
  created_at timestamptz, matched text[], explain jsonb)
LANGUAGE c STABLE ROWS 10 COST 10000
SET search_path = pg_catalog, pg_temp
-- Its queries look rows up by key. One plan for all workspaces, and never a scan of everybody's rows,
-- not even in a session that first planned them while the tables were small.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
-- Before PostgreSQL 18 a scan that cannot be avoided then looks so expensive that it would be compiled.
SET jit = off
AS 'MODULE_PATHNAME', 'search_as_of_wrapper';
COMMENT ON FUNCTION engram.search(text, vector, integer, jsonb, text[], double precision, boolean, text[], text, timestamptz, uuid, timestamptz, double precision) IS
'The memories that the caller most likely needs, best first. Searching does not count as a use and runs in read-only transactions.

query_text: free words, any of which may match; "a phrase" must occur and -word must not, but in a sentence (a question mark, or five words beside them) both are words like others; the first and the last 32 different words, 64 phrases and 64 exclusions count. A day, week or month that they name (8 May, yesterday, last week) finds what happened then. query_embedding: of the default model, of model, or of the one registered model that has its length; memories without a vector of that model are found by their words, and vectors count whose cosine or inner product with it is above 0, by l2 all. Text, vector or both; with neither, what is most needed now by frequency and recency of use. match_count: 1 to 1000, by default 10. filter: see README, "Filters". types: only these. min_score: leave out what scores less; score is relative to the candidates of this search: 0 to 1 for words and vector, and bonuses that explain names. explain: fill the column explain with the parts of the score. include: superseded, expired, which are left out otherwise. at: the moment for which expiry and recency are judged, and from which "yesterday" in the text counts, by default now or as_of; later uses count too, as activation() has it, unless as_of is given. as_of: search what was recorded at that moment and is still known: contents, states and filters of then, uses until then; links between memories add nothing, and vectors count where the text is the same today. What was erased since is gone from the past too. diversity: 0 to 1, by default 0: takes that much times its likeness (cosine of the vectors, else words in common) to the most similar memory before it off a score, so that a result repeats itself less. Of memories that say the same in the same words, but for articles, emphasis and punctuation, and have vectors as alike as duplicate_similarity (settings), only the best is returned, and explain names the others under repeats. Nothing that matches gives no rows.';
