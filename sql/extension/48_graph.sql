-- Links between memories, entities and their other names, and ways from memory to memory.

CREATE FUNCTION engram_internal.linkable(workspace uuid, id uuid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM engram.memories m
                 WHERE m.workspace_id = linkable.workspace AND m.id = linkable.id AND m.deleted_at IS NULL) THEN
    PERFORM engram_internal.refuse_memory(linkable.id);
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.linkable(uuid, uuid) IS 'Raises the error for a memory that is not there, or forgotten.';

CREATE FUNCTION engram_internal.known_memory(workspace uuid, id uuid, required boolean)
RETURNS TABLE (in_workspace uuid, known uuid)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  in_workspace := engram_internal.resolve_workspace(known_memory.workspace, false);
  known := known_memory.id;
  IF in_workspace IS NOT NULL THEN
    IF required OR known IS NOT NULL THEN
      PERFORM engram_internal.linkable(in_workspace, known);
    END IF;
    RETURN NEXT;
  END IF;
END
$$;
COMMENT ON FUNCTION engram_internal.known_memory(uuid, uuid, boolean) IS
'The workspace that a reader works in and a memory in it, which must not be forgotten. No row for a reader who is nobody. In SQL, because an error of the library cannot have SQLSTATE PT404.';

CREATE FUNCTION engram.link(
  source uuid,
  target uuid,
  relation text DEFAULT NULL,
  weight double precision DEFAULT NULL,
  workspace uuid DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(link.workspace, true);
  named  text := coalesce(btrim(link.relation), 'related');
  heavy  double precision := coalesce(link.weight, 1);
  is_new boolean;
BEGIN
  IF named = '' OR char_length(named) > 100 THEN
    RAISE EXCEPTION 'relation "%" has % characters', left(named, 40), char_length(named)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the relation in 1 to 100 characters, for example causes or part of.';
  END IF;
  IF named IN ('mentions', 'used_with') THEN
    RAISE EXCEPTION 'relation "%" is not for links that somebody makes', named
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'mentions comes with entities (engram.add_entities()), used_with with use (engram.touch()). Choose another name.';
  END IF;
  IF NOT (heavy > 0 AND heavy <= 1) THEN
    RAISE EXCEPTION 'weight is %', heavy
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number above 0, at most 1. To take the link away call engram.unlink().';
  END IF;
  PERFORM engram_internal.linkable(ws, link.source);
  PERFORM engram_internal.linkable(ws, link.target);
  IF link.source = link.target THEN
    RAISE EXCEPTION 'memory "%" cannot be linked to itself', link.source
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give two different memories.';
  END IF;
  INSERT INTO engram.graph_links AS g (workspace_id, memory_id, relation, node, label, target_id, weight)
  VALUES (ws, link.source, named, link.target::text, link.target::text, link.target, heavy)
  ON CONFLICT (workspace_id, memory_id, relation, node) DO UPDATE SET weight = EXCLUDED.weight, target_id = EXCLUDED.target_id
  RETURNING g.xmax = 0 INTO is_new;
  RETURN is_new;
END
$$;
COMMENT ON FUNCTION engram.link(uuid, uuid, text, double precision, uuid) IS
'Links one memory to another. True when the link is new; the same link again takes the new weight.

relation: what the source is to the target, in 1 to 100 characters, by default related; mentions and used_with are taken. weight: how strong it is, above 0, at most 1 (the default). Both memories are in the same workspace and not forgotten, else PT404. related(), path() and spread() follow links in both directions.';

CREATE FUNCTION engram.unlink(source uuid, target uuid, relation text DEFAULT NULL, workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws   uuid := engram_internal.resolve_workspace(unlink.workspace, true);
  gone integer;
BEGIN
  DELETE FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = unlink.source AND g.target_id = unlink.target
    AND (unlink.relation IS NULL OR g.relation = btrim(unlink.relation));
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END
$$;
COMMENT ON FUNCTION engram.unlink(uuid, uuid, text, uuid) IS
'Takes links from one memory to another away, and returns how many. relation: only that; by default all. Links by use fade by themselves.';

CREATE FUNCTION engram_internal.entity_key(workspace uuid, name text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  given text := engram_internal.entity_node(name);
BEGIN
  RETURN coalesce((SELECT a.node FROM engram.entity_aliases a
                   WHERE a.workspace_id = entity_key.workspace AND a.alias = given), given);
END
$$;
COMMENT ON FUNCTION engram_internal.entity_key(uuid, text) IS 'The key of an entity by one of its names in a workspace.';

CREATE FUNCTION engram.add_entities(id uuid, names text[], workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(add_entities.workspace, true);
  before bigint;
  added  integer;
BEGIN
  -- Before the row: who says what names mean may want that too.
  PERFORM engram_internal.lock_keys(ws, '{}');
  -- Whoever adds to the same memory waits here, so that both count right.
  PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = add_entities.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(add_entities.id);
  END IF;
  -- The new version first, so that the history has the entities of the one before as they were.
  IF engram_internal.links_anew(ws, add_entities.id, add_entities.names) THEN
    UPDATE engram.memories m SET version = m.version + 1 WHERE m.workspace_id = ws AND m.id = add_entities.id;
  END IF;
  SELECT count(*) INTO before FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = add_entities.id AND g.relation = 'mentions';
  PERFORM engram_internal.link_entities(ws, add_entities.id, add_entities.names);
  SELECT count(*) - before INTO added FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = add_entities.id AND g.relation = 'mentions';
  RETURN added;
END
$$;
COMMENT ON FUNCTION engram.add_entities(uuid, text[], uuid) IS
'Records that a memory mentions entities, and returns how many it did not mention before.

names: case, repeated white space and outer punctuation do not count, but for signs that belong to a name (C++, C#, .NET); an alias means its entity. The memory gets a new version when something was added. An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.remove_entities(id uuid, names text[], workspace uuid DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(remove_entities.workspace, true);
  nodes text[];
  gone  integer;
BEGIN
  PERFORM FROM engram.memories m WHERE m.workspace_id = ws AND m.id = remove_entities.id AND m.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM engram_internal.refuse_memory(remove_entities.id);
  END IF;
  nodes := ARRAY(SELECT engram_internal.entity_key(ws, n) FROM unnest(remove_entities.names) n);
  -- The new version first, as in add_entities().
  UPDATE engram.memories m SET version = m.version + 1 WHERE m.workspace_id = ws AND m.id = remove_entities.id
    AND EXISTS (SELECT FROM engram.graph_links g WHERE g.workspace_id = ws AND g.memory_id = remove_entities.id
                AND g.relation = 'mentions' AND g.node = ANY (nodes));
  DELETE FROM engram.graph_links g
  WHERE g.workspace_id = ws AND g.memory_id = remove_entities.id AND g.relation = 'mentions' AND g.node = ANY (nodes);
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END
$$;
COMMENT ON FUNCTION engram.remove_entities(uuid, text[], uuid) IS
'Takes back that a memory mentions entities, and returns how many it did. Names as in add_entities(). An unknown or forgotten id raises PT404.';

CREATE FUNCTION engram.add_alias(entity text, alias text, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws    uuid := engram_internal.resolve_workspace(add_alias.workspace, true);
  other text := engram_internal.entity_node(add_alias.alias);
  meant text;
  known text;
BEGIN
  IF coalesce(engram_internal.entity_node(add_alias.entity), '') = '' OR coalesce(other, '') = '' THEN
    RAISE EXCEPTION 'entity "%" or alias "%" has no letter or digit in its name',
        left(coalesce(add_alias.entity, 'NULL'), 40), left(coalesce(add_alias.alias, 'NULL'), 40)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give two names, for example add_alias(''New York'', ''NYC'').';
  END IF;
  IF greatest(char_length(add_alias.entity), char_length(add_alias.alias)) > 500 THEN
    RAISE EXCEPTION 'a name has % characters, the limit is 500', greatest(char_length(add_alias.entity), char_length(add_alias.alias))
      USING ERRCODE = 'invalid_parameter_value', HINT = 'An entity is a name; what there is to say about it goes into content.';
  END IF;
  -- Who stores a name just now is waited for: nobody resolves the alias before it is there and links it afterwards,
  -- and no two aliases make a circle.
  PERFORM engram_internal.lock_names(ws);
  meant := engram_internal.entity_key(ws, add_alias.entity);
  IF meant = other THEN
    RAISE EXCEPTION 'alias "%" is the entity that "%" stands for', add_alias.alias, add_alias.entity
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Give a name that is not yet its own. To turn an alias round, call engram.remove_alias() first.';
  END IF;
  SELECT a.node INTO known FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.alias = other;
  IF known = meant THEN
    RETURN false;
  ELSIF known IS NOT NULL THEN
    RAISE EXCEPTION 'alias "%" already stands for entity "%"', add_alias.alias, known
      USING ERRCODE = 'unique_violation', SCHEMA = 'engram', TABLE = 'entity_aliases', CONSTRAINT = 'entity_aliases_pkey',
            HINT = 'Take it away first: SELECT engram.remove_alias(alias);';
  END IF;
  INSERT INTO engram.entity_aliases (workspace_id, alias, node, label) VALUES (ws, other, meant, btrim(add_alias.alias));
  -- What was an entity of its own until now: its aliases and its memories become the other's.
  UPDATE engram.entity_aliases a SET node = meant WHERE a.workspace_id = ws AND a.node = other;
  INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label, created_at, weight)
  SELECT g.workspace_id, g.memory_id, g.relation, meant, g.label, g.created_at, g.weight
  FROM engram.graph_links g WHERE g.workspace_id = ws AND g.node = other AND g.target_id IS NULL
  ON CONFLICT DO NOTHING;
  DELETE FROM engram.graph_links g WHERE g.workspace_id = ws AND g.node = other AND g.target_id IS NULL;
  RETURN true;
END
$$;
COMMENT ON FUNCTION engram.add_alias(text, text, uuid) IS
'Declares another name of an entity: who stores it or asks for it means the entity, and memories that mention it already now mention the entity. True when it is new.

An entity that is itself an alias stands for its entity. A name that already stands for another entity is refused (23505), and so is a circle (22023).';

CREATE FUNCTION engram.remove_alias(alias text, workspace uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws uuid := engram_internal.resolve_workspace(remove_alias.workspace, true);
BEGIN
  DELETE FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.alias = engram_internal.entity_node(remove_alias.alias);
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION engram.remove_alias(text, uuid) IS
'Makes an alias a name of its own again. True when it was an alias. Memories that mention the entity go on mentioning it, whatever they called it.';

CREATE FUNCTION engram.entities(query text DEFAULT NULL, match_count integer DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (name text, node text, aliases text[], memories bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ws     uuid := engram_internal.resolve_workspace(entities.workspace, false);
  wanted integer := coalesce(entities.match_count, 50);
  part   text := engram_internal.entity_node(entities.query);
BEGIN
  IF wanted NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'match_count is %', wanted
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 1 to 1000.';
  END IF;
  RETURN QUERY
  WITH mentions AS (
    SELECT g.node, g.label, g.memory_id
    FROM engram.graph_links g
    WHERE g.workspace_id = ws AND g.target_id IS NULL AND EXISTS (
      SELECT FROM engram.memories m
      WHERE m.workspace_id = ws AND m.id = g.memory_id AND m.deleted_at IS NULL AND m.superseded_by IS NULL
        AND (m.expires_at IS NULL OR m.expires_at > now()))
  ), named AS (
    -- The name as most memories give it; what an alias gave counts only where there is nothing else.
    SELECT DISTINCT ON (c.node) c.node, c.label
    FROM (SELECT n.node, n.label, count(*) AS times FROM mentions n GROUP BY n.node, n.label) c
    ORDER BY c.node, engram_internal.entity_node(c.label) = c.node DESC, c.times DESC, c.label
  ), found AS (
    SELECT n.node, count(DISTINCT n.memory_id) AS times FROM mentions n GROUP BY n.node
    UNION ALL
    SELECT a.node, 0 FROM engram.entity_aliases a WHERE a.workspace_id = ws GROUP BY a.node
  ), listed AS (
    SELECT f.node, max(f.times)::bigint AS times,
           ARRAY(SELECT a.label FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.node = f.node ORDER BY a.alias) AS aliases
    FROM found f GROUP BY f.node
  )
  SELECT coalesce((SELECT d.label FROM named d WHERE d.node = l.node AND engram_internal.entity_node(d.label) = l.node), l.node),
         l.node, l.aliases, l.times
  FROM listed l
  WHERE coalesce(btrim(entities.query), '') = ''
     -- Signs alone are in no name.
     OR part <> '' AND (strpos(l.node, part) > 0
       OR EXISTS (SELECT FROM engram.entity_aliases a WHERE a.workspace_id = ws AND a.node = l.node AND strpos(a.alias, part) > 0))
  ORDER BY l.times DESC, l.node LIMIT wanted;
END
$$;
COMMENT ON FUNCTION engram.entities(text, integer, uuid) IS
'Entities of a workspace, the most mentioned first: their name, the key under which they are found, their aliases, and how many memories mention them that search can find.

query: part of a name or of an alias. match_count: 1 to 1000, by default 50.';

CREATE FUNCTION engram_internal.related(workspace uuid, id uuid, entity text, relation text, hops integer, match_count integer, at timestamptz)
RETURNS TABLE (
  id uuid, content text, type text, score double precision, hops integer, via text, relations text[], created_at timestamptz)
LANGUAGE c STABLE ROWS 10 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'related_wrapper';
COMMENT ON FUNCTION engram_internal.related(uuid, uuid, text, text, integer, integer, timestamptz) IS 'What related() does; no row for a memory that is not there.';

CREATE FUNCTION engram.related(
  id uuid DEFAULT NULL,
  entity text DEFAULT NULL,
  relation text DEFAULT NULL,
  hops integer DEFAULT NULL,
  match_count integer DEFAULT NULL,
  at timestamptz DEFAULT NULL,
  workspace uuid DEFAULT NULL
)
RETURNS TABLE (
  id uuid, content text, type text, score double precision, hops integer, via text, relations text[], created_at timestamptz)
LANGUAGE sql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT r.* FROM engram_internal.known_memory($7, $1, false) k
  CROSS JOIN LATERAL engram_internal.related(k.in_workspace, k.known, $2, $3, $4, $5, $6) r
$$;
COMMENT ON FUNCTION engram.related(uuid, text, text, integer, integer, timestamptz, uuid) IS
'What is linked to a memory or to an entity, best first: by use in the same calls (used_with), by link(), and by entities in common (mentions).

id or entity: where to begin; an alias means its entity. An unknown or forgotten id raises PT404. relation: only links of that name are followed. hops: how many links away, 1 to 5, by default 1. match_count: 1 to 1000, by default 10. at: the moment at which links by use are weighed, by default now.
score: 0 to 1, the product of the strengths along the best way. A link by use has strength 1 - e^-mass, and counts from link_threshold calls on; one of link() has its weight; an entity that n memories mention has 1 / (1 + ln n), n counted among the newest 100. Links that lead the same way add up to 1 - product of (1 - strength). hops: how long that way is. via: the entity that leads to the memory, or the id of the memory before it. relations: all that links it to that, strongest first. At most 2000 links are read.';

CREATE FUNCTION engram_internal.path(workspace uuid, source uuid, target uuid, max_hops integer)
RETURNS TABLE (step integer, id uuid, content text, via text, relation text)
LANGUAGE c STABLE ROWS 5 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'path_wrapper';
COMMENT ON FUNCTION engram_internal.path(uuid, uuid, uuid, integer) IS 'What path() does; no row for a memory that is not there.';

CREATE FUNCTION engram.path(source uuid, target uuid, max_hops integer DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (step integer, id uuid, content text, via text, relation text)
LANGUAGE sql STABLE ROWS 5
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT p.* FROM engram_internal.known_memory($4, $1, true) a
  CROSS JOIN LATERAL engram_internal.known_memory(a.in_workspace, $2, true) b
  CROSS JOIN LATERAL engram_internal.path(a.in_workspace, a.known, b.known, $3) p
$$;
COMMENT ON FUNCTION engram.path(uuid, uuid, integer, uuid) IS
'The shortest way from one memory to another, and of equally long ones the strongest: one row for each memory on it, the source at step 0. No row when there is none.

Links are those of related(), followed in both directions. max_hops: 1 to 6, by default 4. via: the entity that leads from the memory before, NULL for a direct link. relation: the strongest link from there. An unknown or forgotten id raises PT404. At most 10,000 links are read.';

CREATE FUNCTION engram.spread(
  workspace uuid,
  seeds uuid[],
  weights double precision[] DEFAULT NULL,
  alpha double precision DEFAULT NULL,
  max_hops integer DEFAULT NULL,
  eps double precision DEFAULT NULL,
  max_edges integer DEFAULT NULL,
  at timestamptz DEFAULT NULL
) RETURNS TABLE (memory_id uuid, mass double precision, lift double precision)
LANGUAGE c STABLE ROWS 100 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'spread_from_wrapper';
COMMENT ON FUNCTION engram.spread(uuid, uuid[], double precision[], double precision, integer, double precision, integer, timestamptz) IS
'Spreads activation from memories along links by use and links of link(): a random walk that starts at the seeds, goes on with probability alpha, and back to the seeds where there is no link (personalised PageRank, Haveliwala 2002). Seeds are among the rows; most mass first.

workspace: NULL for your own. seeds: up to 1000; those that you cannot see, and that search would not find, are left out. weights: one for each, from 0, by default 1. alpha: 0 to less than 1, by default 0.5. max_hops: 0 to 1000, by default 3. eps: a memory on which less of the walk is left is not gone on from, by default 0.001. max_edges: most links that are followed, up to 10,000, by default 2000. at: the moment, by default now.
mass: the share of the walk that ends there, in sum at most 1. lift: ln(1 + mass / the share of its links in those of all memories reached), in nats: how much more the seeds lead there than chance would.';

CREATE FUNCTION engram_internal.links(workspace uuid, id uuid, at timestamptz)
RETURNS TABLE (
  other uuid, kind text, relation text, strength double precision, direction double precision, causal boolean,
  count integer, linked_at timestamptz)
LANGUAGE c STABLE ROWS 10 COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'links_of_wrapper';
COMMENT ON FUNCTION engram_internal.links(uuid, uuid, timestamptz) IS 'What links() does; no row for a memory that is not there.';

CREATE FUNCTION engram.links(id uuid, at timestamptz DEFAULT NULL, workspace uuid DEFAULT NULL)
RETURNS TABLE (
  other uuid, kind text, relation text, strength double precision, direction double precision, causal boolean,
  count integer, linked_at timestamptz)
LANGUAGE sql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT l.* FROM engram_internal.known_memory($3, $1, true) k
  CROSS JOIN LATERAL engram_internal.links(k.in_workspace, k.known, $2) l
$$;
COMMENT ON FUNCTION engram.links(uuid, timestamptz, uuid) IS
'The links of one memory, strongest first, those included that are too young for related(); at most 1000 of each kind. An unknown or forgotten id raises PT404.

kind: hebbian, by use in the same calls, or graph, by link(). strength: at the moment at, by default now, 0 to 1: 1 - e^-mass, or the weight. direction: -1 to 1, above 0 when this memory is used before the other, or is the source. causal: in at least 3 calls, and one way now weighs twice what the other does, and at least what one call just now does: it fades with the link. count: calls, of hebbian ones. linked_at: the latest of them, or when it was linked.';
