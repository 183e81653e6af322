package bench

import (
	"context"
	"fmt"
	"strings"

	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	migrations "github.com/millrace-go/millrace/sql"
)

// rowsPerTx is how many rows one transaction of the backlog wrote.
const rowsPerTx = 10

// fill makes the rows once, in a table that nobody measures, and writes them in
// transactions of ten into the outbox and into the stock forwarder's table.
func (a *drainBench) fill(ctx context.Context) error {
	if _, err := migrations.Up(ctx, a.db, migrations.Outbox); err != nil {
		return err
	}
	a.line.Say("writing %d rows of %d bytes over %d keys", a.cfg.Rows, a.cfg.Payload, a.cfg.Keys)
	statements := []string{
		`CREATE TABLE bench_rows (n bigint PRIMARY KEY, event_id uuid NOT NULL, key text NOT NULL, version bigint NOT NULL, payload text NOT NULL)`,
		fmt.Sprintf(`INSERT INTO bench_rows
SELECT n, gen_random_uuid(), 'key-' || (n - 1) %% %[2]d, (n - 1) / %[2]d + 1,
       rpad('{"n":' || n || ',"pad":"', %[3]d - 2, md5(n::text)) || '"}'
FROM generate_series(1, %[1]d) n`, a.cfg.Rows, a.cfg.Keys, a.cfg.Payload),
		`ANALYZE bench_rows`,
		a.inTransactions(`INSERT INTO outbox (event_id, topic, key, aggregate_type, aggregate_id, aggregate_version, event_type, payload)
SELECT event_id, '` + topicRelay + `', key, 'bench', key, version, 'bench.row', convert_to(payload, 'UTF8')`),
	}
	statements = append(statements, `VACUUM ANALYZE outbox`)
	if a.cfg.Alone {
		return a.exec(ctx, statements)
	}
	for _, q := range (watermillsql.DefaultPostgreSQLSchema{}).SchemaInitializingQueries(forwarderTable) {
		statements = append(statements, q.Query)
	}
	statements = append(statements, a.inTransactions(`INSERT INTO watermill_`+forwarderTable+` (uuid, payload, metadata, transaction_id)
SELECT event_id, json_build_object('destination_topic', '`+topicForwarder+`', 'uuid', event_id,
         'payload', replace(encode(convert_to(payload, 'UTF8'), 'base64'), chr(10), ''),
         'metadata', json_build_object('key', key, 'event-type', 'bench.row', 'aggregate-type', 'bench', 'aggregate-id', key, 'aggregate-version', version::text)),
       '{}', pg_current_xact_id()`),
		`VACUUM ANALYZE watermill_`+forwarderTable)
	return a.exec(ctx, statements)
}

// exec runs statements on one connection that does not wait for the disk: only
// what is measured has to.
func (a *drainBench) exec(ctx context.Context, statements []string) error {
	conn, err := a.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SET synchronous_commit = off"); err != nil {
		return err
	}
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(strings.Fields(s)[:3], " "), err)
		}
	}
	if _, err := conn.ExecContext(ctx, "RESET synchronous_commit"); err != nil {
		return err
	}
	return a.readTruth(ctx)
}

// inTransactions is a statement that runs insertSelect over bench_rows, in order
// and in transactions of ten rows.
func (a *drainBench) inTransactions(insertSelect string) string {
	return fmt.Sprintf(`DO $fill$ BEGIN
  FOR lo IN 0 .. %d LOOP
    %s FROM bench_rows WHERE n > lo * %[3]d AND n <= (lo + 1) * %[3]d ORDER BY n;
    COMMIT;
  END LOOP;
END $fill$`, (a.cfg.Rows-1)/rowsPerTx, insertSelect, rowsPerTx)
}

func (a *drainBench) readTruth(ctx context.Context) error {
	rows, err := a.db.QueryContext(ctx, `SELECT event_id, key, version FROM bench_rows`)
	if err != nil {
		return err
	}
	defer rows.Close()
	a.truth = make([]check.Event, 0, a.cfg.Rows)
	for rows.Next() {
		var e check.Event
		if err := rows.Scan(&e.ID, &e.Key, &e.Version); err != nil {
			return err
		}
		e.Aggregate = e.Key
		a.truth = append(a.truth, e)
	}
	return rows.Err()
}
