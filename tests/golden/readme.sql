-- The examples of README, as an ordinary role.
SET ROLE app;
SET engram.user_id = 'alice';
SELECT engram.add('Alice is allergic to peanuts', importance => 0.9, tags => ARRAY['health']) IS NOT NULL AS stored;
SELECT engram.add('The offsite in Lisbon moved to June', type => 'episodic', speaker => 'Bob',
                  occurred_at => '2025-03-04', metadata => '{"project": "offsite"}') IS NOT NULL AS stored;
SELECT engram.add('Alice prefers window seats', type => 'opinion') IS NOT NULL AS stored;
INSERT INTO engram.memories (content) VALUES ('The cat is called Miso');
SELECT content, round(score::numeric, 2) AS score, matched FROM engram.search('which food is Alice allergic to?');
SELECT content, round(score::numeric, 2) AS score FROM engram.search('alice', filter => '{"importance": {"gte": 0.5}}');
SELECT content, round(score::numeric, 2) AS score FROM engram.search('what happened to the offsite in March?', types => ARRAY['episodic']);
SELECT content FROM engram.search('quantum chromodynamics');
SELECT content, jsonb_pretty(explain) AS explain FROM engram.search('lisbon offsite', explain => true);
SELECT "position", status, error FROM engram.add_many('[
  {"content": "Alice runs on Sundays", "tags": ["sport"]},
  {"content": "alice is allergic to PEANUTS"},
  {"content": "Miso is three", "importance": 3}]');
SELECT content, access_count FROM engram.list('{"tags": "health"}');
SET engram.user_id = 'bob';
SELECT count(*) FROM engram.search('peanuts');
SELECT count(*) FROM engram.memories;
SELECT engram.add('not mine', workspace => '018f3a2e-0000-7000-8000-000000000000');
RESET engram.user_id;
SELECT engram.add('whose?');
SELECT source, problem FROM engram.whoami();
SET engram.user_id = 'alice';
SELECT content, recall_id IS NOT NULL AS noted FROM engram.recall('window seats', match_count => 1);
SELECT engram.touch(ARRAY(SELECT id FROM engram.list('{"content": {"icontains": "miso"}}')
                          UNION ALL SELECT id FROM engram.list('{"tags": "sport"}')))
FROM generate_series(1, 3);
SELECT content, round(score::numeric, 2) AS score, matched FROM engram.search('cat');
SELECT content, layer, access_count, round(strength::numeric, 2) AS strength
FROM engram.memory_overview WHERE access_count > 1 ORDER BY access_count DESC, content;
SELECT engram.supersede((SELECT id FROM engram.search('window seats', match_count => 1)),
                        content => 'Alice prefers aisle seats') IS NOT NULL AS corrected;
SELECT content FROM engram.search('which seats does Alice prefer?', match_count => 1);
SELECT engram.context('seats for the flight', max_tokens => 40) ->> 'text' AS prompt;
SELECT promoted, archived, forgotten FROM engram.consolidate(dry_run => true, at => now() + interval '60 days');
SELECT engram.apply_preset('personal_assistant') ->> 'mu2' AS core_decline_per_day;
SELECT engram.apply_preset('butler');
SELECT clock_timestamp() AS then \gset
SELECT engram.update(id, content => 'The cat is called Mochi', importance => 0.6) AS version FROM engram.search('cat', match_count => 1);
SELECT version, action, content, importance, changed FROM engram.history((SELECT id FROM engram.search('cat', match_count => 1)));
SELECT content FROM engram.search('cat', match_count => 1, as_of => :'then');
SELECT count(*) FROM engram.list(as_of => :'then');
SELECT engram.revert(id, 1) AS version FROM engram.search('cat', match_count => 1);
SELECT op, version, memory ->> 'content' AS content FROM engram.changes();
SELECT cursor_next AS cursor FROM engram.changes() WHERE op = 'end' \gset
SELECT engram.forget(id) FROM engram.search('Sundays', match_count => 1);
SELECT engram.add('Miso is afraid of vacuum cleaners') IS NOT NULL AS stored;
SELECT op, version, memory ->> 'content' AS content FROM engram.changes(:'cursor');
SELECT engram.changes('yesterday');
SELECT "position", status FROM engram.append_messages('[
  {"role": "user", "content": "Can you book the flight to Lisbon?", "created_at": "2025-03-01T09:00:00Z"},
  {"role": "assistant", "content": "Window or aisle?", "created_at": "2025-03-01T09:00:05Z"},
  {"role": "user", "content": "Aisle, please.", "created_at": "2025-03-01T09:01:00Z"}]', session_id => 'travel');
SELECT role, content FROM engram.messages('travel', match_count => 2);
SELECT * FROM engram.archive_messages(inactive_for => '30 days', keep => 1);
SELECT session_id, turns, archived, first_message, last_message FROM engram.conversations();
SELECT role, content, archived FROM engram.messages('travel', include_archived => true);
SELECT engram.should_extract('018f3a2e-0000-7000-8000-000000000001', 'I would like an aisle seat on every flight.', turns => 20) AS worth_it;
SELECT line ->> 'kind' AS kind, count(*) FROM engram.export() AS line GROUP BY 1 ORDER BY 1;
SET engram.user_id = 'carol';
SELECT kind, status, error FROM engram.import('{"type": "entity", "name": "Ines", "entityType": "person", "observations": ["Speaks Portuguese"]}');
SELECT content, matched FROM engram.search('what does Ines speak?');
