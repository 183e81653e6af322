package postgres_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

func through(t *testing.T, cfg postgres.Config) (*storage, *lab.CommitProxy, *postgres.Reader) {
	t.Helper()
	direct := harness.NewDatabase(t, migrations.Lines()...)
	p, dsn := lab.NewCommitProxy(t, direct.DSN)
	db, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return open(t, db, cfg), p, postgres.NewReader(direct.DB)
}

func TestDo_KnowsItCommittedWhenTheAnswerIsLost(t *testing.T) {
	t.Parallel()
	s, p, reader := through(t, postgres.Config{})
	p.BreakNext(lab.LoseReply)
	id, err := s.add(t.Context(), t)
	require.NoError(t, err)
	require.EqualValues(t, 1, s.commits.Load())
	status, err := reader.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, notification.StatusRequested, status.Status)
}

func TestDo_KnowsItDidNotCommitWhenTheRequestIsLost(t *testing.T) {
	t.Parallel()
	s, p, reader := through(t, postgres.Config{})
	p.BreakNext(lab.LoseCommit)
	id, err := s.add(t.Context(), t)
	require.ErrorContains(t, err, "rolled back")
	require.NotErrorIs(t, err, postgres.ErrOutcomeUnknown)
	require.Zero(t, s.commits.Load())
	_, err = reader.NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, domain.ErrNotFound)
}

func TestDo_SaysSoWhenTheOutcomeCannotBeKnown(t *testing.T) {
	t.Parallel()
	s, p, _ := through(t, postgres.Config{ResolveWait: 200 * time.Millisecond})
	p.BreakNext(lab.LoseServer)
	_, err := s.add(t.Context(), t)
	require.ErrorIs(t, err, postgres.ErrOutcomeUnknown)
	require.Zero(t, s.commits.Load())
}
