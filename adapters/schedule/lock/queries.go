package lock

// Tables are found through the search_path. shedlock holds UTC in timestamps
// without a zone, as ShedLock does.
const (
	now   = `timezone('utc', clock_timestamp())`
	micro = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`

	// rowWait bounds the wait for a row lock, which a guarded transaction of the
	// holder may have; in an autocommit statement it ends with the statement.
	rowWait = `row_wait AS MATERIALIZED (SELECT set_config('lock_timeout', '1s', true))`
)

// $1 name, $2 owner, $3 milliseconds. The owner's own row is a success again. The
// question beforehand spares those who come in vain the row lock and the write.
const acquireSQL = `
WITH ` + rowWait + `
INSERT INTO shedlock AS l (name, lock_until, locked_at, locked_by, fence)
SELECT $1::varchar, ` + now + ` + $3 * interval '1 millisecond', ` + now + `, $2::varchar, ` + micro + `
  FROM row_wait
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
WITH ` + rowWait + `
UPDATE shedlock SET lock_until = greatest(lock_until, ` + now + ` + $3 * interval '1 millisecond')
  FROM row_wait
 WHERE name = $1 AND locked_by = $2 AND lock_until > ` + now

// $1 name, $2 owner, $3 milliseconds since the acquisition that it is kept for.
// Not waiting for the disk is safe: what a crash of the server could lose is that
// the lock was freed, and then it lapses by itself.
const releaseSQL = `
WITH ` + rowWait + `, no_disk_wait AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE shedlock SET lock_until = greatest(` + now + `, locked_at + $3 * interval '1 millisecond')
  FROM row_wait, no_disk_wait
 WHERE name = $1 AND locked_by = $2 AND lock_until > ` + now

// $1 name, $2 owner, $3 fence, $4 milliseconds. SHARE keeps takers out until the transaction ends;
// KEY SHARE would not. The database ends the transaction of a holder frozen in the middle of it.
const guardSQL = `
SELECT set_config('idle_in_transaction_session_timeout', $4, true) FROM shedlock
 WHERE name = $1 AND locked_by = $2 AND fence = $3 AND lock_until > ` + now + `
   FOR SHARE`

// The types that shedlock's columns must have.
const checkSQL = `
SELECT a.attname, format_type(a.atttypid, NULL)
  FROM pg_attribute a
 WHERE a.attrelid = to_regclass('shedlock') AND a.attnum > 0 AND NOT a.attisdropped`

// For operators.
const (
	listSQL = `
SELECT name, locked_by, locked_at AT TIME ZONE 'utc', lock_until AT TIME ZONE 'utc',
       (extract(epoch FROM lock_until - ` + now + `) * 1000000)::bigint, fence
  FROM shedlock ORDER BY name`

	heldSQL = `
SELECT name, locked_by, locked_at AT TIME ZONE 'utc', lock_until AT TIME ZONE 'utc', fence
  FROM shedlock WHERE name = $1 AND lock_until > ` + now + ` FOR UPDATE`

	unlockSQL = `
UPDATE shedlock SET lock_until = ` + now + `, locked_at = ` + now + `, locked_by = $2, fence = greatest(fence + 1, ` + micro + `)
 WHERE name = $1`
)
