package audit

// All SQL of the audit log, fixed texts with parameters. Tables are found through
// the search_path. The column act has the id of an operation, letters the number of
// open dead letters that it met, and done how many of them it resolved.

// abandonSQL ends an operation whose process is gone. $1: the topic.
const abandonSQL = `
UPDATE dead_letter_audit SET outcome = 'abandoned', ended_at = clock_timestamp()
 WHERE topic = $1 AND ended_at IS NULL AND alive_until < clock_timestamp()`

// openSQL returns no row while another operation on the topic is running. $7: the
// lease, in seconds.
const openSQL = `
INSERT INTO dead_letter_audit (act, actor, action, topic, filter, note, alive_until)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7))
ON CONFLICT (topic) WHERE ended_at IS NULL DO NOTHING
RETURNING id`

const runningSQL = `SELECT actor, action, started_at FROM dead_letter_audit WHERE topic = $1 AND ended_at IS NULL`

// renewSQL returns no row if another process ended the operation. $2: the lease, in
// seconds.
const renewSQL = `
UPDATE dead_letter_audit SET alive_until = clock_timestamp() + make_interval(secs => $2)
 WHERE id = $1 AND ended_at IS NULL RETURNING id`

const countSQL = `
UPDATE dead_letter_audit SET alive_until = clock_timestamp() + make_interval(secs => $2), letters = $3, done = $4, counts = $5
 WHERE id = $1 AND ended_at IS NULL RETURNING id`

const decideSQL = `
INSERT INTO dead_letter_decision (topic, part, at_offset, written_at, state, consumer_group, event_id, audit_id)
SELECT $1, m.part, m.at_offset, m.written_at, m.state, m.consumer_group, m.event_id, $8
  FROM unnest($2::integer[], $3::bigint[], $4::timestamptz[], $5::text[], $6::text[], $7::text[])
       AS m(part, at_offset, written_at, state, consumer_group, event_id)
ON CONFLICT (topic, part, at_offset) DO UPDATE
   SET written_at = excluded.written_at, state = excluded.state, consumer_group = excluded.consumer_group,
       event_id = excluded.event_id, audit_id = excluded.audit_id, decided_at = clock_timestamp()`

const forgetSQL = `
DELETE FROM dead_letter_decision d USING unnest($2::integer[], $3::bigint[]) AS f(part, first)
 WHERE d.topic = $1 AND d.part = f.part AND d.at_offset < f.first`

const closeSQL = `
UPDATE dead_letter_audit
   SET letters = $2, done = $3, counts = $4, outcome = $5, error = $6, ended_at = clock_timestamp()
 WHERE id = $1 AND ended_at IS NULL`

const decisionsSQL = `
SELECT d.at_offset, d.written_at, d.state, d.consumer_group, d.event_id, d.decided_at, a.act, a.actor, a.note
  FROM dead_letter_decision d JOIN dead_letter_audit a ON a.id = d.audit_id
 WHERE d.topic = $1 AND d.part = $2 AND d.at_offset >= $3 AND d.at_offset < $4`

const listSQL = `
SELECT id, act, actor, action, topic, filter, note, letters, done, counts,
       CASE WHEN outcome = 'running' AND alive_until < clock_timestamp() THEN 'abandoned' ELSE outcome END,
       error, started_at, ended_at
  FROM dead_letter_audit WHERE $1 = '' OR topic = $1 ORDER BY id DESC LIMIT $2`

const installedSQL = `SELECT to_regclass('dead_letter_audit') IS NOT NULL AND to_regclass('dead_letter_decision') IS NOT NULL`
