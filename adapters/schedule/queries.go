package schedule

// Tables are found through the search_path.
const (
	runColumns = `name, scheduled_at, fence, node, started_at, finished_at, outcome, error, trace_id, attempt, requested_by`

	lastRunSQL = `SELECT max(scheduled_at) FROM job_run WHERE name = $1 AND requested_by = '' AND attempt > 0`

	outcomeSQL = `SELECT outcome FROM job_run WHERE name = $1 AND scheduled_at = $2`

	// $1 job, $2 fence, $3 the slot that is about to begin, which is not touched.
	crashedRunsSQL = `
UPDATE job_run SET outcome = 'crashed', finished_at = clock_timestamp()
 WHERE name = $1 AND outcome = 'running' AND fence < $2 AND scheduled_at <> $3`

	// $1 job, $2 slot, $3 fence, $4 node, $5 trace, $6 rerun, $7 max attempts.
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
)
