package pgstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// A rename with a version check: entity and event take one round trip, and a
// rename that came too late publishes nothing.
func ExampleEntityWriter() {
	rename := func(ctx context.Context, db *sql.DB, w *pgstore.EntityWriter, id, name string, version int64) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		err = w.Append(ctx, tx, []any{id, name, version}, nil, outbox.Message{
			Topic: "account.v1", Key: id, Type: "account.renamed",
			AggregateType: "account", AggregateID: id, AggregateVersion: version + 1, Payload: []byte(name),
		})
		if errors.Is(err, pgstore.ErrNoEntity) {
			return fmt.Errorf("account %s is not in version %d any more", id, version)
		}
		if err != nil {
			return err
		}
		return tx.Commit()
	}
	atStart := func(ctx context.Context, db *sql.DB) (*pgstore.EntityWriter, error) {
		w, err := pgstore.NewEntityWriter(db, `UPDATE account SET name = $2, version = version + 1 WHERE id = $1 AND version = $3 RETURNING 1`, pgstore.EntityWriterConfig{})
		if err != nil {
			return nil, err
		}
		return w, w.Prepare(ctx)
	}
	_, _ = rename, atStart
}
