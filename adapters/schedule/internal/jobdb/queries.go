package jobdb

// A lock that is kept elsewhere: its highest fence so far, in two steps, so that
// the parallel transactions of one holder do not wait for each other. Both return
// a row if the fence is good, and bound the time that tx may be idle.
const (
	// $1 name, $2 owner, $3 fence, $4 milliseconds.
	guardKnownSQL = `
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

	auditSQL = `INSERT INTO job_audit (actor, action, name, detail, note) VALUES ($1, $2, $3, $4, $5)`

	lockTimeoutSQL = `SELECT set_config('lock_timeout', '1s', true)`
)
