-- What people write by hand: a log of uses, counters, links, and the two ways to keep them.
CREATE SCHEMA plain;

CREATE TABLE plain.access_log (
  user_id     uuid NOT NULL,
  memory_id   uuid NOT NULL,
  accessed_at timestamptz NOT NULL
);
-- Narrower than usual: counters are often columns of the memories themselves.
CREATE TABLE plain.counters (
  user_id          uuid NOT NULL,
  memory_id        uuid NOT NULL,
  access_count     bigint NOT NULL,
  last_accessed_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, memory_id)
);
CREATE TABLE plain.links (
  user_id    uuid NOT NULL,
  a          uuid NOT NULL,
  b          uuid NOT NULL,
  strength   double precision NOT NULL,
  count      integer NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, a, b)
);
-- The floor of everything that notes a use: one row, appended.
CREATE TABLE plain.events (
  user_id uuid NOT NULL,
  id      uuid NOT NULL DEFAULT gen_random_uuid(),
  at      timestamptz NOT NULL DEFAULT now(),
  ids     uuid[] NOT NULL,
  PRIMARY KEY (user_id, id)
);
CREATE TABLE plain.calls (
  nth     integer NOT NULL,
  user_id uuid NOT NULL,
  ids     uuid[] NOT NULL
);

-- As it is commonly written: row by row, pair by pair, in the order in which they come.
CREATE FUNCTION plain.touch_loop(owner uuid, ids uuid[]) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
  id uuid;
BEGIN
  FOREACH id IN ARRAY ids LOOP
    INSERT INTO plain.access_log VALUES (owner, id, now());
    UPDATE plain.counters c SET access_count = c.access_count + 1, last_accessed_at = now()
    WHERE c.user_id = owner AND c.memory_id = id;
  END LOOP;
  FOR i IN 1 .. cardinality(ids) LOOP
    FOR j IN i + 1 .. cardinality(ids) LOOP
      INSERT INTO plain.links AS l VALUES (owner, least(ids[i], ids[j]), greatest(ids[i], ids[j]), 0.1, 1, now())
      ON CONFLICT (user_id, a, b) DO UPDATE
      SET strength = least(1, l.strength + 0.1), count = l.count + 1, updated_at = now();
    END LOOP;
  END LOOP;
  RETURN cardinality(ids);
END
$$;

-- As it is written with care: a statement for each table, locks in one order.
CREATE FUNCTION plain.touch_set(owner uuid, ids uuid[]) RETURNS integer
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO plain.access_log SELECT owner, id, now() FROM unnest(ids) AS id;
  WITH mine AS MATERIALIZED (
    SELECT c.user_id, c.memory_id FROM plain.counters c WHERE c.user_id = owner AND c.memory_id = ANY (ids)
    ORDER BY c.memory_id FOR NO KEY UPDATE
  )
  UPDATE plain.counters c SET access_count = c.access_count + 1, last_accessed_at = now()
  FROM mine m WHERE c.user_id = owner AND m.memory_id = c.memory_id;
  INSERT INTO plain.links AS l
  SELECT owner, x, y, 0.1, 1, now() FROM unnest(ids) AS x JOIN unnest(ids) AS y ON x < y ORDER BY x, y
  ON CONFLICT (user_id, a, b) DO UPDATE
  SET strength = least(1, l.strength + 0.1), count = l.count + 1, updated_at = now();
  RETURN cardinality(ids);
END
$$;

GRANT USAGE ON SCHEMA plain TO @role@;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA plain TO @role@;
