package inbox_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/lab"
)

// behindProxy opens the database of s through a proxy that can spoil COMMITs.
func behindProxy(t *testing.T, s *store) (*lab.CommitProxy, *sql.DB) {
	t.Helper()
	p, dsn := lab.NewCommitProxy(t, s.dsn)
	db, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return p, db
}
