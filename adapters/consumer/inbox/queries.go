package inbox

// All SQL of the inbox, fixed texts with parameters. The tables are found through
// the search_path.

// addSource, then findSource: two statements, because one that does both does not
// see a row that somebody else adds in the same moment.
const (
	addSource  = `INSERT INTO consumer_inbox_source (consumer_group, topic) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	findSource = `SELECT id FROM consumer_inbox_source WHERE consumer_group = $1 AND topic = $2`
)

// The insert that reserves events waits for transactions that have reserved the same
// ones; the order by id keeps two of them from waiting for each other. It also
// bounds, for this transaction, how long it may idle.
const (
	insertInto = `INSERT INTO consumer_inbox (source, event_id, source_partition, source_offset, aggregate, version)
SELECT $1::integer, e, nullif(p, -1), nullif(o, -1), nullif(a, '00000000-0000-0000-0000-000000000000'), nullif(v, 0)`

	reserveMany = insertInto + `
  FROM unnest($3::uuid[], $4::integer[], $5::bigint[], $6::uuid[], $7::bigint[]) AS m(e, p, o, a, v)
 WHERE (SELECT set_config('idle_in_transaction_session_timeout', coalesce($2::text, current_setting('idle_in_transaction_session_timeout')), true)) IS NOT NULL
 ORDER BY e
    ON CONFLICT DO NOTHING
RETURNING event_id`

	reserveOne = insertInto + `
  FROM (VALUES ($3::uuid, $4::integer, $5::bigint, $6::uuid, $7::bigint)) AS m(e, p, o, a, v)
 WHERE (SELECT set_config('idle_in_transaction_session_timeout', coalesce($2::text, current_setting('idle_in_transaction_session_timeout')), true)) IS NOT NULL
    ON CONFLICT DO NOTHING
RETURNING event_id`
)

// folded returns which of the events were done so long ago that pruning has folded
// them. It must be a statement of its own after the reservation: if a row was pruned
// just before the reservation looked for it, only a younger snapshot shows what it was
// folded into.
const folded = `
SELECT e FROM unnest($2::uuid[], $3::integer[], $4::bigint[], $5::uuid[], $6::bigint[]) AS m(e, p, o, a, v)
 WHERE (SELECT r.next FROM consumer_inbox_offsets r
         WHERE r.source = $1 AND r.source_partition = m.p AND r.first <= m.o ORDER BY r.first DESC LIMIT 1) > m.o
    OR m.v > 0 AND
       (SELECT r.next FROM consumer_inbox_versions r
         WHERE r.source = $1 AND r.aggregate = m.a AND r.first <= m.v ORDER BY r.first DESC LIMIT 1) > m.v`

// unreserve gives up events that were reserved in this transaction.
const unreserve = `DELETE FROM consumer_inbox WHERE source = $1 AND event_id = ANY($2::uuid[])`

const (
	savepoint     = `SAVEPOINT inbox_chunk`
	nextSavepoint = `RELEASE SAVEPOINT inbox_chunk; SAVEPOINT inbox_chunk`
	toSavepoint   = `ROLLBACK TO SAVEPOINT inbox_chunk`
)

// Pruning. One at a time for each source; who comes second has nothing to do.
const (
	sourcesOf = `SELECT id FROM consumer_inbox_source WHERE consumer_group = $1 ORDER BY id`

	pruneAlone = `SELECT pg_try_advisory_xact_lock(hashtextextended('consumer_inbox_prune', 'consumer_inbox'::regclass::oid::bigint # $1::bigint))`

	takeOld = `
DELETE FROM consumer_inbox d USING (
       SELECT source, event_id FROM consumer_inbox
        WHERE source = $1 AND applied_at < clock_timestamp() - $2 * interval '1 microsecond'
        ORDER BY applied_at LIMIT $3) AS old
 WHERE d.source = old.source AND d.event_id = old.event_id
RETURNING coalesce(d.source_partition, -1), coalesce(d.source_offset, -1),
          coalesce(d.aggregate, '00000000-0000-0000-0000-000000000000'), coalesce(d.version, 0)`

	// The ranges that given ones overlap or touch.
	nearOffsets = `
SELECT DISTINCT m.k, r.first, r.next FROM unnest($2::integer[], $3::bigint[], $4::bigint[]) AS m(k, first, next) CROSS JOIN LATERAL (
       (SELECT x.first, x.next FROM consumer_inbox_offsets x
         WHERE x.source = $1 AND x.source_partition = m.k AND x.first <= m.first ORDER BY x.first DESC LIMIT 1)
       UNION ALL
       SELECT x.first, x.next FROM consumer_inbox_offsets x
        WHERE x.source = $1 AND x.source_partition = m.k AND x.first > m.first AND x.first <= m.next) AS r
 WHERE r.next >= m.first`
	dropOffsets = `
DELETE FROM consumer_inbox_offsets x USING unnest($2::integer[], $3::bigint[]) AS m(k, first)
 WHERE x.source = $1 AND x.source_partition = m.k AND x.first = m.first`
	addOffsets = `
INSERT INTO consumer_inbox_offsets (source, source_partition, first, next)
SELECT $1::integer, k, first, next FROM unnest($2::integer[], $3::bigint[], $4::bigint[]) AS m(k, first, next)`

	nearVersions = `
SELECT DISTINCT m.k, r.first, r.next FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS m(k, first, next) CROSS JOIN LATERAL (
       (SELECT x.first, x.next FROM consumer_inbox_versions x
         WHERE x.source = $1 AND x.aggregate = m.k AND x.first <= m.first ORDER BY x.first DESC LIMIT 1)
       UNION ALL
       SELECT x.first, x.next FROM consumer_inbox_versions x
        WHERE x.source = $1 AND x.aggregate = m.k AND x.first > m.first AND x.first <= m.next) AS r
 WHERE r.next >= m.first`
	dropVersions = `
DELETE FROM consumer_inbox_versions x USING unnest($2::uuid[], $3::bigint[]) AS m(k, first)
 WHERE x.source = $1 AND x.aggregate = m.k AND x.first = m.first`
	addVersions = `
INSERT INTO consumer_inbox_versions (source, aggregate, first, next)
SELECT $1::integer, k, first, next FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS m(k, first, next)`
)
