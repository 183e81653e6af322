package pgstore

import "fmt"

// All SQL of the outbox, fixed texts with parameters. Tables are found through
// the search_path, so that one database can hold several outboxes.

// One message, and many: a VALUES row takes the server a fifth less time than an
// unnest of arrays with one element.
const (
	insertInto = "\nINSERT INTO outbox (event_id, topic, key, aggregate_type, aggregate_id, aggregate_version, event_type, headers, payload)\n"

	appendOneSQL = insertInto + `VALUES ($1::uuid, $2, $3, $4, $5, nullif($6::bigint, 0), $7, $8::jsonb, $9::bytea)`

	appendManySQL = insertInto + `SELECT e, t, k, at, ai, nullif(av, 0), et, h, p
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[], $9::bytea[])
       AS m(e, t, k, at, ai, av, et, h, p)`
)

// columns are what scan reads, in this order.
const columns = `position, event_id, topic, key, aggregate_type, aggregate_id, coalesce(aggregate_version, 0) AS aggregate_version,
 event_type, headers, payload, round(date_part('epoch', created_at) * 1e6)::bigint AS created_us`

// (a): who can still fill a missing position. $1 database, $2 sequence.
const holdersSQL = `
SELECT DISTINCT virtualtransaction, '' FROM pg_locks
 WHERE locktype = 'relation' AND database = $1 AND relation = $2 AND mode = 'RowExclusiveLock' AND granted`

// (a) with the holders' transaction ids, one row an id: a transaction with
// subtransactions holds several, the oldest is the top one.
const holdersXidSQL = `
SELECT virtualtransaction, coalesce(transactionid::text, ''),
       locktype = 'relation' AND database = $1 AND relation = $2 AND mode = 'RowExclusiveLock' AND granted,
       pg_snapshot_xmax(pg_current_snapshot())::text
  FROM pg_locks
 WHERE locktype = 'relation' AND database = $1 AND relation = $2
    OR locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted`

// (b) without gaps. $1 high mark, $2 limit.
const readTailSQL = `SELECT ` + columns + ` FROM outbox WHERE position > $1 ORDER BY position LIMIT $2`

// (b) with gaps: one snapshot shows the gaps and the tail, merged by position.
// $1 high mark, $2 and $3 the gaps' ends, $4 limit.
const readGapsSQL = `
SELECT * FROM (
 (SELECT o.* FROM unnest($2::bigint[], $3::bigint[]) AS g(lo, hi) CROSS JOIN LATERAL
   (SELECT ` + columns + ` FROM outbox x WHERE x.position BETWEEN g.lo AND g.hi ORDER BY x.position LIMIT $4) o
  ORDER BY o.position LIMIT $4)
 UNION ALL
 (SELECT ` + columns + ` FROM outbox WHERE position > $1 ORDER BY position LIMIT $4)
) u ORDER BY position LIMIT $4`

// (b) guarded: as readGapsSQL, but if one of the transactions $5 has ended in
// this snapshot it returns a single row with position 0 and nothing else.
const readGuardedSQL = `
WITH guard AS MATERIALIZED (
 SELECT EXISTS (SELECT FROM unnest($5::text[]) AS x WHERE pg_visible_in_snapshot(x::xid8, pg_current_snapshot())) AS hit)
SELECT * FROM (
 (SELECT 0::bigint AS position, '00000000-0000-0000-0000-000000000000'::uuid, '', '', '', '', 0::bigint, '', '{}'::jsonb, NULL::bytea, 0::bigint
    FROM guard WHERE hit)
 UNION ALL
 (SELECT o.* FROM unnest($2::bigint[], $3::bigint[]) AS g(lo, hi) CROSS JOIN LATERAL
   (SELECT ` + columns + ` FROM outbox x WHERE x.position BETWEEN g.lo AND g.hi ORDER BY x.position LIMIT $4) o
  WHERE NOT (SELECT hit FROM guard) ORDER BY o.position LIMIT $4)
 UNION ALL
 (SELECT ` + columns + ` FROM outbox WHERE position > $1 AND NOT (SELECT hit FROM guard) ORDER BY position LIMIT $4)
) u ORDER BY position LIMIT $4`

// The planner must use the index, even if its statistics say that the table is empty,
// and must plan once.
var sessionSettings = []string{
	`SET enable_seqscan = off`, `SET enable_bitmapscan = off`, `SET jit = off`, `SET plan_cache_mode = force_generic_plan`,
}

const leaseHeldSQL = `SELECT EXISTS (SELECT FROM outbox_cursor WHERE relay = $1 AND owner <> $2 AND lease_until > clock_timestamp())`

const acquireSQL = `
INSERT INTO outbox_cursor AS c (relay, epoch, owner, lease_until)
VALUES ($1, 1, $2, clock_timestamp() + $3 * interval '1 millisecond')
ON CONFLICT (relay) DO UPDATE
   SET epoch = c.epoch + 1, owner = excluded.owner, lease_until = excluded.lease_until
 WHERE c.owner = excluded.owner OR c.lease_until <= clock_timestamp()
RETURNING epoch, position, gaps`

// Renewing the lease also reports whether the sequence has fallen behind, and whether
// an operator has decided on parked messages.
const renewSQL = `
UPDATE outbox_cursor SET lease_until = clock_timestamp() + $3 * interval '1 millisecond'
 WHERE relay = $1 AND epoch = $2
RETURNING (SELECT last_value FROM outbox_position_seq),
          EXISTS (SELECT FROM outbox_parked WHERE relay = $1 AND state IN ('redrive', 'skip', 'discard'))`

const releaseSQL = `UPDATE outbox_cursor SET owner = '', lease_until = '-infinity' WHERE relay = $1 AND epoch = $2`

const saveSQL = `
UPDATE outbox_cursor SET position = $3, gaps = $4, updated_at = clock_timestamp() WHERE relay = $1 AND epoch = $2`

const saveParkedSQL = `
WITH moved AS (
 UPDATE outbox_cursor SET position = $3, gaps = $4, updated_at = clock_timestamp() WHERE relay = $1 AND epoch = $2 RETURNING relay),
parked AS (
 INSERT INTO outbox_parked AS p (relay, position, topic, key, reason)
 SELECT moved.relay, m.* FROM moved, unnest($5::bigint[], $6::text[], $7::text[], $8::text[]) AS m
 ON CONFLICT (relay, position) DO UPDATE SET attempts = p.attempts + 1, last_at = clock_timestamp(), reason = excluded.reason, state = 'parked')
SELECT count(*) FROM moved`

const parkedKeysSQL = `SELECT DISTINCT topic, key FROM outbox_parked WHERE relay = $1 AND state = 'parked'`

// Parked messages with what the log holds of them. $1 relay, $2 topic, $3 key
// (empty for any), $4 true for those too that are no longer parked, $5 limit,
// $7 position (0 for any).
const parkedSQL = `
SELECT p.relay, p.position, p.topic, p.key, p.reason, p.attempts, p.first_at, p.last_at, p.state, p.state = 'parked' AND p.reason <> $6,
       coalesce(o.event_id, '00000000-0000-0000-0000-000000000000'), coalesce(o.event_type, ''), coalesce(length(o.payload), 0)
  FROM outbox_parked p LEFT JOIN outbox o USING (position)
 WHERE p.relay = $1 AND ($2 = '' OR p.topic = $2) AND ($3 = '' OR p.key = $3) AND ($4 OR p.state IN ('parked', 'redrive', 'skip', 'discard'))
   AND ($7::bigint = 0 OR p.position = $7)
 ORDER BY p.position LIMIT $5`

// A decision: $1 relay, $2 topic, $3 key, $4 the position decided on (0: the
// whole key), $5 its new state, $6 the new state of the key's other messages
// (the empty string: they keep theirs).
const decideSQL = `
UPDATE outbox_parked SET state = CASE WHEN $4::bigint IN (0::bigint, position) THEN $5 ELSE $6 END
 WHERE relay = $1 AND topic = $2 AND key = $3 AND state = 'parked' AND ($4::bigint IN (0::bigint, position) OR $6 <> '')
RETURNING position`

// The heads of parked keys whose pause is over. $1 relay, $2 ReasonBehind.
const dueSQL = `
SELECT ` + columns + ` FROM outbox WHERE position IN (
 SELECT position FROM (
  SELECT DISTINCT ON (topic, key) position, reason, last_at, attempts FROM outbox_parked
   WHERE relay = $1 AND state = 'parked' ORDER BY topic, key, position) head
  WHERE reason <> $2 AND last_at + least(interval '5 seconds' * power(2, least(attempts, 10) - 1), interval '1 hour') < clock_timestamp()
  ORDER BY last_at LIMIT 100)
 ORDER BY position`

const redriveHeadsSQL = `
UPDATE outbox_parked SET state = 'redrive'
 WHERE relay = $1 AND state = 'parked' AND (topic, key) IN (SELECT * FROM unnest($2::text[], $3::text[]))
RETURNING position`

const refusedAgainSQL = `
UPDATE outbox_parked SET attempts = attempts + 1, last_at = clock_timestamp()
 WHERE relay = $1 AND state = 'parked' AND position = ANY($2)`

const auditSQL = `INSERT INTO outbox_audit (actor, action, relay, positions, note) VALUES ($1, $2, $3, $4, $5)`

const lockCursorSQL = `SELECT position, gaps FROM outbox_cursor WHERE relay = $1 AND epoch = $2 FOR UPDATE`

// Executes the decisions on a relay's parked messages. Other parked messages of such
// a key came after the decision: nothing holds them back any more.
const carryOutSQL = `
UPDATE outbox_parked p SET state = CASE state WHEN 'skip' THEN 'skipped' WHEN 'discard' THEN 'discarded' ELSE 'redriven' END
 WHERE relay = $1 AND state IN ('parked', 'redrive', 'skip', 'discard')
   AND (topic, key) IN (SELECT topic, key FROM outbox_parked WHERE relay = $1 AND state IN ('redrive', 'skip', 'discard'))
RETURNING position, state`

const makePartitionsSQL = `SELECT outbox_make_partitions()`

// $1: the retention in microseconds.
const dropPartitionsSQL = `SELECT outbox_drop_partitions($1 * interval '1 microsecond')`

const cursorsSQL = `SELECT relay, position, gaps FROM outbox_cursor ORDER BY relay`

// The newest row is the one with the highest position: an index lookup. Counts come
// from the statistics.
const partitionsSQL = `
SELECT p.name, coalesce(p.lo, 0), coalesce(p.hi, 0), greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)::bigint,
       pg_total_relation_size(c.oid), newest.created_at, coalesce(newest.position, 0), coalesce(outbox_parked_in(p.lo, p.hi), false)
  FROM outbox_partitions p JOIN pg_class c ON c.oid = p.relid
  LEFT JOIN LATERAL (SELECT o.position, o.created_at FROM outbox o
                      WHERE o.position >= p.lo AND o.position < p.hi ORDER BY o.position DESC LIMIT 1) newest ON true
 WHERE p.lo IS NOT NULL
UNION ALL
SELECT p.name, 0, 0, greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)::bigint,
       pg_total_relation_size(c.oid), newest.created_at, coalesce(newest.position, 0),
       EXISTS (SELECT FROM outbox_default o WHERE outbox_parked_in(o.position, o.position + 1))
  FROM outbox_partitions p JOIN pg_class c ON c.oid = p.relid
  LEFT JOIN LATERAL (SELECT o.position, o.created_at FROM outbox_default o ORDER BY o.position DESC LIMIT 1) newest ON true
 WHERE p.lo IS NULL
 ORDER BY 2, 3`

// What must hold before the log may be read: one row of facts. $1: the cursor's position.
const guardSQL = `
SELECT to_regclass('outbox') IS NOT NULL AND to_regclass('outbox_cursor') IS NOT NULL AND to_regclass('outbox_parked') IS NOT NULL,
       pg_is_in_recovery(), version()`

const guardTableSQL = `
WITH tree AS (SELECT relid AS oid FROM pg_partition_tree('outbox') UNION SELECT 'outbox'::regclass)
SELECT s.seqrelid, (SELECT oid FROM pg_database WHERE datname = current_database()),
       s.seqcache, s.seqincrement, s.seqcycle,
       (SELECT count(*) FROM tree JOIN pg_class c USING (oid) WHERE c.relpersistence <> 'p'),
       (SELECT count(*) FROM tree WHERE row_security_active(tree.oid)),
       (SELECT count(*) FROM tree JOIN pg_subscription_rel r ON r.srrelid = tree.oid),
       has_table_privilege('outbox', 'SELECT'), has_sequence_privilege(s.seqrelid::oid, 'SELECT'),
       (SELECT bool_and(has_table_privilege(t, p))
          FROM unnest(ARRAY['outbox_cursor', 'outbox_parked']) AS t, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS p)
  FROM pg_sequence s WHERE s.seqrelid = pg_get_serial_sequence('outbox', 'position')::regclass`

const furthestSQL = `SELECT coalesce(max(position), 0) FROM outbox_cursor`

const sequenceSQL = `SELECT last_value, is_called FROM outbox_position_seq`

const notifyRelaysSQL = `SELECT outbox_ring()`

const notifySQL = `SELECT pg_notify($1, $2)`

// $2 is for how long to notify, in ms; 0 disarms.
const armSQL = `
INSERT INTO outbox_doorbell (relay, idle_until) VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond')
ON CONFLICT (relay) DO UPDATE SET idle_until = excluded.idle_until`

// Around an entity statement: its rows, then the messages, in one round trip.
// %[1]d and so on are the numbers of the nine parameters behind the statement's
// own. The count fixes the order: no row of the insert can be formed, and no position
// drawn for it, before the entity statement has returned, and so locked, every row.
// Without the count, Postgres may run the two in any order.
const (
	entityHead = "WITH entity AS (\n"
	entityOne  = "\n), appended AS (" + insertInto + ` SELECT $%[1]d::uuid, $%[2]d::text, $%[3]d::text, $%[4]d::text, $%[5]d::text, nullif($%[6]d::bigint, 0), $%[7]d::text, $%[8]d::jsonb, $%[9]d::bytea
   FROM (SELECT count(*) AS n FROM entity) AS locked
  WHERE locked.n > 0)
SELECT * FROM entity`
	entityMany = "\n), appended AS (" + insertInto + ` SELECT e, t, k, at, ai, nullif(av, 0), et, h, p
   FROM (SELECT count(*) AS n FROM entity) AS locked
  CROSS JOIN unnest($%[1]d::uuid[], $%[2]d::text[], $%[3]d::text[], $%[4]d::text[], $%[5]d::text[], $%[6]d::bigint[], $%[7]d::text[], $%[8]d::jsonb[], $%[9]d::bytea[])
        AS m(e, t, k, at, ai, av, et, h, p)
  WHERE locked.n > 0)
SELECT * FROM entity`
)

// History: $1 the position before the first, $2 the last, $3 limit.
const rangeSQL = `SELECT ` + columns + ` FROM outbox WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3`

const byKeySQL = `SELECT ` + columns + ` FROM outbox
 WHERE topic = $4 AND key = $5 AND position > $1 AND position <= $2 ORDER BY position LIMIT $3`

// The empty id is left out of the index.
const byAggregateSQL = `SELECT ` + columns + ` FROM outbox
 WHERE aggregate_type = $4 AND aggregate_id = $5 AND aggregate_id <> '' AND position > $1 AND position <= $2 ORDER BY position LIMIT $3`

// The index holds the version, too, so that what is too old costs no row.
const byVersionSQL = `SELECT ` + columns + ` FROM outbox
 WHERE aggregate_type = $4 AND aggregate_id = $5 AND aggregate_id <> '' AND outbox.aggregate_version >= $6
   AND position > $1 AND position <= $2 ORDER BY position LIMIT $3`

const firstFromSQL = `SELECT position, created_at FROM outbox WHERE position >= $1 ORDER BY position LIMIT 1`

const endSQL = `SELECT coalesce(max(position), 0) FROM outbox`

// What is left to do for the history's indexes: statements.
const enableHistorySQL = `SELECT outbox_enable_history()`

// Around a statement that must not keep writers waiting.
const (
	impatientSQL = `SET lock_timeout = '50ms'; `
	patientSQL   = `; RESET lock_timeout`
)

// A fleet's member list (table outbox_roster), without the instance that asks.
const (
	membersSQL = `
 (SELECT coalesce(array_agg(instance), '{}') AS instances, coalesce(array_agg(leads), '{}') AS leads
    FROM outbox_roster WHERE relay = $1 AND instance <> %s AND until > clock_timestamp()) AS o`
	enlistSQL = `
 INSERT INTO outbox_roster (relay, instance, leads, until) %s
 ON CONFLICT (relay, instance) DO UPDATE SET leads = excluded.leads, until = excluded.until`
)

// $1 relay, $2 instance, $3 how many it leads, $4 ms. It also deletes entries that
// expired long ago.
var announceSQL = `
WITH gone AS (
 DELETE FROM outbox_roster WHERE until < clock_timestamp() - interval '1 minute' AND NOT (relay = $1 AND instance = $2)),
here AS (` + fmt.Sprintf(enlistSQL, `VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond')`) + `)
SELECT CASE WHEN c.lease_until > clock_timestamp() THEN c.owner ELSE '' END,
       CASE WHEN c.lease_until > clock_timestamp() THEN ceil(extract(epoch FROM c.lease_until - clock_timestamp()) * 1000)::bigint ELSE 0 END,
       o.instances, o.leads
  FROM ` + fmt.Sprintf(membersSQL, "$2") + ` LEFT JOIN outbox_cursor c ON c.relay = $1`

// As renewSQL, with $4 instance and $5 how many it leads.
var renewMemberSQL = `
WITH lease AS (
 UPDATE outbox_cursor SET lease_until = clock_timestamp() + $3 * interval '1 millisecond'
  WHERE relay = $1 AND epoch = $2
 RETURNING owner),
here AS (` + fmt.Sprintf(enlistSQL, `SELECT $1, $4, $5, clock_timestamp() + $3 * interval '1 millisecond' FROM lease`) + `)
SELECT (SELECT last_value FROM outbox_position_seq),
       EXISTS (SELECT FROM outbox_parked WHERE relay = $1 AND state IN ('redrive', 'skip', 'discard')),
       lease.owner, $3::bigint, o.instances, o.leads
  FROM lease, ` + fmt.Sprintf(membersSQL, "$4")

const leaveSQL = `DELETE FROM outbox_roster WHERE relay = $1 AND instance = $2`

// Notifies the relays of this outbox, whether or not one is armed.
const notifyStandbysSQL = `
SELECT pg_notify('outbox_doorbell', '@' || n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'outbox'::regclass`

// The schema that a notification for this outbox names.
const schemaSQL = `SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'outbox'::regclass`
