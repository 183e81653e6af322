package pgstore_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// subject is a Store with transactions for the conformance suite.
type subject struct {
	*pgstore.Store
	db     *sql.DB
	writer *outbox.Writer
}

type subjectTx struct {
	*sql.Tx
	writer *outbox.Writer
}

func (s subject) Begin(ctx context.Context) (outboxtest.Tx, error) {
	tx, err := s.db.BeginTx(ctx, nil)
	return subjectTx{tx, s.writer}, err
}

func (t subjectTx) Append(ctx context.Context, msgs ...outbox.Message) error {
	return t.writer.Append(ctx, t.Tx, msgs...)
}

func newSubject(t *testing.T, prepare bool) subject {
	db := harness.NewDatabase(t).DB
	store, err := pgstore.New(db, pgstore.Config{})
	require.NoError(t, err)
	if prepare {
		require.NoError(t, store.Prepare(t.Context()))
		t.Cleanup(func() { require.NoError(t, store.Close()) })
	}
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	require.NoError(t, err)
	return subject{store, db, writer}
}

func TestStore(t *testing.T) {
	t.Parallel()
	outboxtest.Exercise(t, func(t *testing.T) outboxtest.Subject { return newSubject(t, false) })
}

func TestStore_Prepared(t *testing.T) {
	t.Parallel()
	outboxtest.Exercise(t, func(t *testing.T) outboxtest.Subject { return newSubject(t, true) })
}
