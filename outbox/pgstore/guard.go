package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"

	"github.com/millrace-go/millrace/outbox"
)

// querier is a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// relations are the OIDs that name the sequence's lock in pg_locks.
type relations struct{ database, sequence int64 }

var foreignEngine = regexp.MustCompile(`(?i)cockroach|yugabyte|-yb-|greenplum|redshift`)

// guard checks that the log can be read without loss from position on. What it
// finds wrong is an *outbox.UnsafeError that lists everything at once.
func guard(ctx context.Context, q querier, position int64) (relations, error) {
	var migrated, standby bool
	var version string
	if err := q.QueryRowContext(ctx, guardSQL).Scan(&migrated, &standby, &version); err != nil {
		return relations{}, fmt.Errorf("check the outbox: %w", err)
	}
	var problems []string
	if standby {
		problems = append(problems, "the server is a standby (pg_is_in_recovery): connect to the primary, e.g. with target_session_attrs=read-write")
	}
	if foreignEngine.MatchString(version) {
		problems = append(problems, "the server is no PostgreSQL ("+version+"): its locks and sequences differ")
	}
	if !migrated {
		problems = append(problems, "the outbox tables are missing in the search_path: run `millrace migrate up`, or check the database's name")
		return relations{}, &outbox.UnsafeError{Problems: problems}
	}
	rel, more, err := guardTable(ctx, q, position)
	if err != nil {
		return relations{}, err
	}
	if problems = append(problems, more...); len(problems) > 0 {
		return relations{}, &outbox.UnsafeError{Problems: problems}
	}
	return rel, nil
}

func guardTable(ctx context.Context, q querier, position int64) (rel relations, problems []string, err error) {
	var cache, increment int64
	var unlogged, secured, subscribed int
	var cycle, maySelect, maySequence, mayCursor bool
	err = q.QueryRowContext(ctx, guardTableSQL).Scan(&rel.sequence, &rel.database, &cache, &increment, &cycle,
		&unlogged, &secured, &subscribed, &maySelect, &maySequence, &mayCursor)
	if errors.Is(err, sql.ErrNoRows) {
		return rel, []string{"outbox.position has no identity sequence: the table was not made by `millrace migrate up`"}, nil
	}
	if err != nil {
		return rel, nil, fmt.Errorf("check the outbox: %w", err)
	}
	need := func(ok bool, problem string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Sprintf(problem, args...))
		}
	}
	need(cache == 1, "the sequence of outbox.position has CACHE %d: run ALTER SEQUENCE outbox_position_seq CACHE 1 and restart the writers", cache)
	need(increment == 1, "the sequence of outbox.position has INCREMENT %d: it must be 1", increment)
	need(!cycle, "the sequence of outbox.position has CYCLE: run ALTER SEQUENCE outbox_position_seq NO CYCLE")
	need(unlogged == 0, "%d of the outbox's tables are not permanent: a crash resets the sequence; run ALTER TABLE … SET LOGGED", unlogged)
	need(secured == 0, "row security hides outbox rows from this role: give it BYPASSRLS or disable row security on outbox")
	need(subscribed == 0, "a logical subscription writes to the outbox: its positions come from elsewhere; leave outbox out of the publication")
	need(maySelect && maySequence, "this role may not read the outbox: run GRANT SELECT ON outbox, outbox_position_seq TO …")
	need(mayCursor, "this role may not keep the cursor: run GRANT SELECT, INSERT, UPDATE ON outbox_cursor, outbox_parked TO …")
	if !maySequence {
		return rel, problems, nil
	}
	behind, err := sequenceBehind(ctx, q, position)
	need(behind == "", "%s", behind)
	return rel, problems, err
}

// sequenceBehind returns a problem if the sequence would issue positions again
// that the cursor has passed.
func sequenceBehind(ctx context.Context, q querier, position int64) (string, error) {
	var last int64
	var called bool
	if err := q.QueryRowContext(ctx, sequenceSQL).Scan(&last, &called); err != nil {
		return "", fmt.Errorf("check the outbox: %w", err)
	}
	if !called {
		last--
	}
	if last >= position {
		return "", nil
	}
	return behindProblem(last, position), nil
}

func behindProblem(last, position int64) string {
	return fmt.Sprintf("the sequence stands at %d, behind the cursor's position %d: it was set back or restored from an older copy; "+
		"run SELECT setval('outbox_position_seq', %d) before anything is written", last, position, position)
}
