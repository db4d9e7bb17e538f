-- pgvector first, where Supabase keeps extensions: engram finds it in whichever schema it is.
CREATE EXTENSION IF NOT EXISTS vector SCHEMA extensions;
CREATE EXTENSION IF NOT EXISTS engram;
