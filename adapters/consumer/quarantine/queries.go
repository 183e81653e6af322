package quarantine

// All SQL of the quarantine, fixed texts with parameters. Tables are found
// through the search_path. $1 to $3 are always group, topic, partition.

// claimSQL makes the caller the partition's only writer.
const claimSQL = `
INSERT INTO consumer_claim AS c (consumer_group, topic, source_partition, epoch) VALUES ($1, $2, $3, 1)
ON CONFLICT (consumer_group, topic, source_partition) DO UPDATE SET epoch = c.epoch + 1
RETURNING epoch`

// pruneSQL forgets a part of what was resolved $4 seconds ago.
const pruneSQL = `
DELETE FROM consumer_quarantine
 WHERE (consumer_group, topic, source_partition, source_offset) IN (
  SELECT consumer_group, topic, source_partition, source_offset FROM consumer_quarantine
   WHERE consumer_group = $1 AND topic = $2 AND source_partition = $3 AND state <> 'waiting'
     AND settled_at < clock_timestamp() - make_interval(secs => $4)
   LIMIT 10000)`

const waitingKeysSQL = `
SELECT DISTINCT ON (key_hash) key FROM consumer_quarantine
 WHERE consumer_group = $1 AND topic = $2 AND source_partition = $3 AND state = 'waiting'`

// lookUpSQL: what is known of the record at offset $4 with key $5, and the first
// offset of its key that waits, -1 if none does.
const lookUpSQL = `
SELECT coalesce(e.state, ''), coalesce(e.event_id, ''), coalesce(w.source_offset, -1)
  FROM (VALUES (1)) AS one
  LEFT JOIN consumer_quarantine e
    ON e.consumer_group = $1 AND e.topic = $2 AND e.source_partition = $3 AND e.source_offset = $4
  LEFT JOIN LATERAL (
   SELECT source_offset FROM consumer_quarantine
    WHERE consumer_group = $1 AND topic = $2 AND source_partition = $3 AND state = 'waiting' AND key_hash = sha256($5::bytea)
    ORDER BY source_offset LIMIT 1) w ON true`

// enterSQL lets the record at offset $4, key $5, event $6 wait, $7 failures added,
// if the partition's claim is still $8. It answers how many claims matched and
// how many rows were written: none of them if the same event was resolved before.
// A row of another event is of an earlier topic of this name.
const enterSQL = `
WITH mine AS MATERIALIZED (
 SELECT 1 FROM consumer_claim
  WHERE consumer_group = $1 AND topic = $2 AND source_partition = $3 AND epoch = $8 FOR SHARE),
entered AS (
 INSERT INTO consumer_quarantine AS q (consumer_group, topic, source_partition, source_offset, key, event_id, failures)
 SELECT $1, $2, $3, $4, $5, $6, $7 FROM mine
 ON CONFLICT (consumer_group, topic, source_partition, source_offset) DO UPDATE
    SET key = excluded.key, event_id = excluded.event_id, state = 'waiting', settled_at = NULL,
        failures = excluded.failures + CASE WHEN q.event_id = excluded.event_id THEN q.failures ELSE 0 END,
        since = CASE WHEN q.event_id = excluded.event_id AND q.state = 'waiting' THEN q.since ELSE clock_timestamp() END
  WHERE q.state = 'waiting' OR q.event_id = '' OR q.event_id <> excluded.event_id
 RETURNING 1)
SELECT (SELECT count(*) FROM mine), (SELECT count(*) FROM entered)`

// doneSQL marks the record as handled, at offset $4.
const doneSQL = `
UPDATE consumer_quarantine SET state = 'done', settled_at = clock_timestamp()
 WHERE consumer_group = $1 AND topic = $2 AND source_partition = $3 AND source_offset = $4 AND state = 'waiting'`

const waitsSQL = `
SELECT EXISTS (SELECT FROM consumer_quarantine
 WHERE consumer_group = $1 AND topic = $2 AND source_partition = $3 AND state = 'waiting' AND key_hash = sha256($4::bytea))`

// resolveSQL gives up the waiting records at the places of $3 and $4. $1 group, $2 topic.
const resolveSQL = `
UPDATE consumer_quarantine q SET state = 'released', settled_at = clock_timestamp()
  FROM unnest($3::integer[], $4::bigint[]) AS p(source_partition, source_offset)
 WHERE q.consumer_group = $1 AND q.topic = $2 AND q.source_partition = p.source_partition
   AND q.source_offset = p.source_offset AND q.state = 'waiting'`

// releaseSQL gives up waiting records: of the partitions $3, at the offsets $4, of key
// $5, each of which may be empty. $1 group, $2 topic.
const releaseSQL = `
UPDATE consumer_quarantine SET state = 'released', settled_at = clock_timestamp()
 WHERE consumer_group = $1 AND topic = $2 AND state = 'waiting'
   AND (coalesce(cardinality($3::integer[]), 0) = 0 OR source_partition = ANY ($3))
   AND (coalesce(cardinality($4::bigint[]), 0) = 0 OR source_offset = ANY ($4))
   AND ($5::bytea IS NULL OR key_hash = sha256($5::bytea))`

// listSQL: empty texts, no partitions, no offsets and a null key choose all.
const listSQL = `
SELECT consumer_group, topic, source_partition, source_offset, key, event_id, failures, since, state,
       coalesce(settled_at, 'epoch'::timestamptz),
       state = 'waiting' AND NOT EXISTS (SELECT FROM consumer_quarantine b
         WHERE b.consumer_group = q.consumer_group AND b.topic = q.topic AND b.source_partition = q.source_partition
           AND b.key_hash = q.key_hash AND b.state = 'waiting' AND b.source_offset < q.source_offset)
  FROM consumer_quarantine q
 WHERE ($1 = '' OR consumer_group = $1) AND ($2 = '' OR topic = $2) AND (coalesce(cardinality($3::integer[]), 0) = 0 OR source_partition = ANY ($3))
   AND ($4::bytea IS NULL OR key_hash = sha256($4::bytea)) AND ($5 OR state = 'waiting')
   AND (coalesce(cardinality($7::bigint[]), 0) = 0 OR source_offset = ANY ($7))
 ORDER BY consumer_group, topic, source_partition, source_offset LIMIT $6`
