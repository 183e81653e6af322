package doctor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	migrations "github.com/millrace-go/millrace/sql"
)

const (
	oldestPostgres = 130000 // server_version_num
	longHolder     = time.Minute
)

// Postgres checks the database of an outbox. It stops at the first finding that
// makes the later checks meaningless.
func Postgres(ctx context.Context, db *sql.DB) []Check {
	r := &report{}
	if !r.reach(ctx, db) || !r.schema(ctx, db) {
		return r.checks
	}
	r.guard(ctx, db)
	r.partitions(ctx, db)
	r.holder(ctx, db)
	r.parked(ctx, db)
	return r.checks
}

func (r *report) reach(ctx context.Context, db *sql.DB) bool {
	var version string
	var number int
	var standby bool
	err := db.QueryRowContext(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int, pg_is_in_recovery()`).
		Scan(&version, &number, &standby)
	if err != nil {
		what, fix := Unreachable(err)
		r.add(Fail, "postgres", fix, "%s: %v", what, err)
		return false
	}
	r.when(number < oldestPostgres, Fail, "postgres version", "upgrade to Postgres 13 or later", "%s", version)
	r.when(standby, Fail, "postgres primary", "point --postgres at the primary", "%s",
		map[bool]string{true: "is a standby", false: "is the primary"}[standby])
	return true
}

func (r *report) schema(ctx context.Context, db *sql.DB) bool {
	var exists bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('outbox') IS NOT NULL AND to_regclass('outbox_cursor') IS NOT NULL`).Scan(&exists); err != nil {
		r.add(Fail, "migrations", "see the error", "cannot tell: %v", err)
		return false
	}
	const fix = "run millrace migrate up"
	if !exists {
		r.add(Fail, "migrations", fix, "there is no outbox in the schema that the connection sees")
		return false
	}
	all, err := migrations.Status(ctx, db, migrations.Outbox)
	if err != nil {
		r.add(Warn, "migrations", "grant SELECT on the migration table", "cannot tell: %v", err)
		return true
	}
	pending := 0
	for _, m := range all {
		if !m.Applied {
			pending++
		}
	}
	r.when(pending > 0, Fail, "migrations", fix, "%d applied, %d pending", len(all)-pending, pending)
	return true
}

// guard asks what the relay asks before it starts, one finding a problem.
func (r *report) guard(ctx context.Context, db *sql.DB) {
	const name = "outbox guard"
	store, err := pgstore.New(db, pgstore.Config{})
	if err == nil {
		err = store.Check(ctx)
	}
	var unsafe *outbox.UnsafeError
	switch {
	case err == nil:
		r.ok(name, "the log can be read without loss")
	case errors.As(err, &unsafe):
		for _, p := range unsafe.Problems {
			what, fix, _ := strings.Cut(p, ": ")
			r.add(Fail, name, fix, "%s", what)
		}
	default:
		r.add(Fail, name, "let the role read the outbox, its sequence and outbox_cursor", "cannot tell: %v", err)
	}
}

func (r *report) partitions(ctx context.Context, db *sql.DB) {
	var last, end int64
	var strays bool
	err := db.QueryRowContext(ctx, `
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'position')::regclass), 0),
       coalesce(max(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''(\d+)''\)')::bigint), 0),
       EXISTS (SELECT FROM outbox_default)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'outbox'::regclass`).Scan(&last, &end, &strays)
	if err != nil {
		r.add(Warn, "partitions", "let the role read the outbox", "cannot tell: %v", err)
		return
	}
	const fix = "run SELECT outbox_make_partitions(); a running relay does it by itself"
	r.when(end <= last || strays, Warn, "partitions", fix,
		"made up to position %d, the log ends at %d, rows in the default partition: %t", end, last, strays)
}

// holder finds the transaction that has held the sequence's lock for longest:
// the one whose own events, and nobody else's, wait for its commit.
func (r *report) holder(ctx context.Context, db *sql.DB) {
	var pid sql.NullInt64
	var age float64
	err := db.QueryRowContext(ctx, `
SELECT l.pid, coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation = pg_get_serial_sequence('outbox', 'position')::regclass
ORDER BY a.xact_start NULLS FIRST LIMIT 1`).Scan(&pid, &age)
	const name = "oldest open writer"
	switch {
	case errors.Is(err, sql.ErrNoRows):
		r.ok(name, "none")
	case err != nil:
		r.add(Warn, name, "let the role read pg_locks and pg_stat_activity", "cannot tell: %v", err)
	case !pid.Valid:
		r.add(Warn, name, "see pg_prepared_xacts: commit or roll back what was forgotten", "a prepared transaction")
	default:
		d := time.Duration(age * float64(time.Second)).Round(time.Millisecond)
		r.when(d > longHolder, Warn, name,
			fmt.Sprintf("end the transaction of process %d; only its own events wait", pid.Int64), "process %d since %s", pid.Int64, d)
	}
}

func (r *report) parked(ctx context.Context, db *sql.DB) {
	var n int64
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM outbox_parked WHERE state IN ('parked', 'redrive', 'skip', 'discard')`).Scan(&n); err != nil {
		r.add(Warn, "parked messages", "let the role read outbox_parked", "cannot tell: %v", err)
		return
	}
	r.when(n > 0, Warn, "parked messages", "see millrace parked list for the reasons; remove them and redrive", "%d", n)
}

// Topics lists the topics of the newest rows of the outbox; none if they cannot
// be read, which Postgres reports.
func Topics(ctx context.Context, db *sql.DB) []string {
	rows, err := db.QueryContext(ctx, `SELECT DISTINCT topic FROM (SELECT topic FROM outbox ORDER BY position DESC LIMIT 10000) newest ORDER BY topic`)
	if err != nil {
		return nil
	}
	defer rows.Close()
	var topics []string
	for rows.Next() {
		var t string
		if rows.Scan(&t) == nil {
			topics = append(topics, t)
		}
	}
	if rows.Err() != nil {
		return nil
	}
	return topics
}
