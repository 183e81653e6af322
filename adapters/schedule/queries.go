package schedule

// All SQL of the jobs, fixed texts with parameters. Tables are found through the
// search_path. shedlock holds UTC in timestamps without a zone, as ShedLock does.
const (
	now   = `timezone('utc', clock_timestamp())`
	micro = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`

	// patience bounds the wait for a row lock, which a guarded transaction of the
	// holder may have; in an autocommit statement it ends with the statement.
	patience = `patience AS MATERIALIZED (SELECT set_config('lock_timeout', '1s', true))`
)

// $1 name, $2 owner, $3 milliseconds. The owner's own row is a success again. The
// look beforehand spares those who come in vain the row lock and the write.
const acquireSQL = `
WITH ` + patience + `
INSERT INTO shedlock AS l (name, lock_until, locked_at, locked_by, fence)
SELECT $1::varchar, ` + now + ` + $3 * interval '1 millisecond', ` + now + `, $2::varchar, ` + micro + `
  FROM patience
 WHERE NOT EXISTS (SELECT FROM shedlock h WHERE h.name = $1 AND h.lock_until > ` + now + ` AND h.locked_by <> $2)
ON CONFLICT (name) DO UPDATE
   SET lock_until = greatest(EXCLUDED.lock_until, CASE WHEN l.locked_by = $2 THEN l.lock_until ELSE ` + now + ` + $3 * interval '1 millisecond' END),
       locked_at = CASE WHEN l.locked_by = $2 THEN l.locked_at ELSE ` + now + ` END,
       locked_by = $2,
       fence = CASE WHEN l.locked_by = $2 THEN l.fence ELSE greatest(l.fence + 1, ` + micro + `) END
 WHERE l.lock_until <= ` + now + ` OR l.locked_by = $2
RETURNING fence`

// $1 name, $2 owner, $3 milliseconds.
const renewSQL = `
WITH ` + patience + `
UPDATE shedlock SET lock_until = greatest(lock_until, ` + now + ` + $3 * interval '1 millisecond')
  FROM patience
 WHERE name = $1 AND locked_by = $2 AND lock_until > ` + now

// $1 name, $2 owner, $3 milliseconds since the acquisition that it is kept for.
// Not waiting for the disk is safe: what a crash of the server could lose is that
// the lock was freed, and then it lapses by itself.
const releaseSQL = `
WITH ` + patience + `, haste AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE shedlock SET lock_until = greatest(` + now + `, locked_at + $3 * interval '1 millisecond')
  FROM patience, haste
 WHERE name = $1 AND locked_by = $2 AND lock_until > ` + now

// $1 name, $2 owner, $3 fence, $4 milliseconds. SHARE keeps takers out until the transaction ends;
// KEY SHARE would not. A holder frozen in the middle of it is thrown out.
const guardSQL = `
SELECT set_config('idle_in_transaction_session_timeout', $4, true) FROM shedlock
 WHERE name = $1 AND locked_by = $2 AND fence = $3 AND lock_until > ` + now + `
   FOR SHARE`

// A lock that is kept elsewhere: its highest fence so far, in two steps, so that
// the parallel transactions of one holder do not queue. As in guardSQL.
const (
	guardSeenSQL = `
SELECT set_config('idle_in_transaction_session_timeout', $4, true) FROM job_fence
 WHERE name = $1 AND owner = $2 AND fence = $3
   FOR SHARE`

	guardRaiseSQL = `
INSERT INTO job_fence AS f (name, owner, fence) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET owner = $2, fence = $3 WHERE f.fence < $3 OR f.fence = $3 AND f.owner = $2
RETURNING set_config('idle_in_transaction_session_timeout', $4, true)`

	// $1 name, $2 who took the lock away, $3 the fence of its holder.
	refuseFenceSQL = `
INSERT INTO job_fence AS f (name, owner, fence) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET owner = $2, fence = $3 WHERE f.fence <= $3`
)

// The types that shedlock's columns must have.
const checkLocksSQL = `
SELECT a.attname, format_type(a.atttypid, NULL)
  FROM pg_attribute a
 WHERE a.attrelid = to_regclass('shedlock') AND a.attnum > 0 AND NOT a.attisdropped`

// The history.
const (
	runColumns = `name, scheduled_at, fence, node, started_at, finished_at, outcome, error, trace_id, attempt, requested_by`

	lastRunSQL = `SELECT max(scheduled_at) FROM job_run WHERE name = $1 AND requested_by = '' AND attempt > 0`

	lookRunSQL = `SELECT outcome FROM job_run WHERE name = $1 AND scheduled_at = $2`

	// $1 job, $2 fence, $3 the slot that is about to begin, which is not touched.
	crashedRunsSQL = `
UPDATE job_run SET outcome = 'crashed', finished_at = clock_timestamp()
 WHERE name = $1 AND outcome = 'running' AND fence < $2 AND scheduled_at <> $3`

	// $1 job, $2 slot, $3 fence, $4 node, $5 trace, $6 rerun, $7 most attempts.
	beginRunSQL = `
INSERT INTO job_run AS r (name, scheduled_at, fence, node, trace_id, started_at, outcome, attempt)
VALUES ($1, $2, $3, $4, $5, clock_timestamp(), 'running', 1)
ON CONFLICT (name, scheduled_at) DO UPDATE
   SET fence = $3, node = $4, trace_id = $5, started_at = clock_timestamp(), finished_at = NULL, outcome = 'running', error = '', attempt = r.attempt + 1
 WHERE r.outcome = 'requested'
    OR $6 AND r.outcome IN ('running', 'lost', 'stopped', 'crashed') AND r.fence < $3 AND r.attempt < $7
RETURNING attempt`

	// $1 job, $2 slot, $3 fence, $4 outcome, $5 error.
	finishRunSQL = `
UPDATE job_run SET outcome = $4, error = $5, finished_at = clock_timestamp()
 WHERE name = $1 AND scheduled_at = $2 AND fence = $3 AND outcome = 'running'`

	openRunsSQL = `
SELECT ` + runColumns + ` FROM job_run
 WHERE name = ANY ($1) AND scheduled_at > $2 AND outcome IN ('requested', 'running', 'lost', 'stopped', 'crashed')
 ORDER BY scheduled_at LIMIT 1000`

	forgetRunsSQL = `DELETE FROM job_run WHERE name = ANY ($1) AND scheduled_at < $2`

	// $4 and $5 milliseconds.
	defineSQL = `
INSERT INTO job_definition (name, schedule, zone, at_most, at_least, missed, crashed, node)
VALUES ($1, $2, $3, $4 * interval '1 millisecond', $5 * interval '1 millisecond', $6, $7, $8)
ON CONFLICT (name) DO UPDATE
   SET schedule = $2, zone = $3, at_most = EXCLUDED.at_most, at_least = EXCLUDED.at_least, missed = $6, crashed = $7, node = $8, seen_at = clock_timestamp()`
)

// For operators.
const (
	locksSQL = `
SELECT name, locked_by, locked_at AT TIME ZONE 'utc', lock_until AT TIME ZONE 'utc',
       (extract(epoch FROM lock_until - ` + now + `) * 1000000)::bigint, fence
  FROM shedlock ORDER BY name`

	// The latest begun or requested run of each job, by index for each name.
	lastRunsSQL = `
WITH RECURSIVE names AS (
  (SELECT name FROM job_run ORDER BY name LIMIT 1)
  UNION ALL
  SELECT (SELECT r.name FROM job_run r WHERE r.name > names.name ORDER BY r.name LIMIT 1) FROM names WHERE names.name IS NOT NULL)
SELECT r.* FROM names CROSS JOIN LATERAL
  (SELECT ` + runColumns + ` FROM job_run WHERE name = names.name ORDER BY scheduled_at DESC LIMIT 1) r`

	definitionsSQL = `
SELECT name, schedule, zone, (extract(epoch FROM at_most) * 1000)::bigint, (extract(epoch FROM at_least) * 1000)::bigint, missed, crashed, node, seen_at
  FROM job_definition ORDER BY name`

	runsSQL = `
SELECT ` + runColumns + ` FROM job_run
 WHERE ($1 = '' OR name = $1) AND ($2 = '' OR outcome = $2) AND ($3::timestamptz IS NULL OR scheduled_at >= $3)
 ORDER BY scheduled_at DESC, name LIMIT $4`

	requestableSQL = `
SELECT EXISTS (SELECT FROM job_definition WHERE name = $1),
       EXISTS (SELECT FROM job_run WHERE name = $1 AND outcome = 'requested' AND scheduled_at > clock_timestamp() - interval '10 minutes')`

	requestSQL = `
INSERT INTO job_run (name, scheduled_at, outcome, requested_by) VALUES ($1, date_trunc('milliseconds', clock_timestamp()), 'requested', $2)
RETURNING scheduled_at`

	auditSQL = `INSERT INTO job_audit (actor, action, name, detail, note) VALUES ($1, $2, $3, $4, $5)`

	patienceSQL = `SELECT set_config('lock_timeout', '1s', true)`

	heldLockSQL = `
SELECT name, locked_by, locked_at AT TIME ZONE 'utc', lock_until AT TIME ZONE 'utc', fence
  FROM shedlock WHERE name = $1 AND lock_until > ` + now + ` FOR UPDATE`

	unlockSQL = `
UPDATE shedlock SET lock_until = ` + now + `, locked_at = ` + now + `, locked_by = $2, fence = greatest(fence + 1, ` + micro + `)
 WHERE name = $1`
)
