package schedule_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/test/harness"
)

// docs/jobs.md shows code that is compiled, and the job fits into fifteen lines.
func TestDocs_JobsShowsCodeThatIsCompiled(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/jobs.md")
	require.NoError(t, err)
	code, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, 2)
	for _, b := range blocks {
		require.Contains(t, string(code), b[1])
	}
	require.LessOrEqual(t, strings.Count(blocks[0][1], "\n"), 15)
}

// The code of the page runs: the scheduler stops without an error, and the task
// writes under its lock and not without one.
func TestDocs_CodeOfJobsRuns(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	_, err := db.ExecContext(t.Context(), `CREATE TABLE invoice (due timestamptz, closed boolean); INSERT INTO invoice VALUES ('2000-01-01', false)`)
	require.NoError(t, err)
	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, runJobs(ended, db))

	require.ErrorIs(t, closeInvoices(t.Context(), db), lock.ErrNotLocked)
	locks, err := lock.NewPostgres(db)
	require.NoError(t, err)
	locker, err := lock.NewLocker(locks, lock.Config{})
	require.NoError(t, err)
	result := locker.Do(t.Context(), lock.Lock{Name: "closeInvoices", AtMostFor: time.Minute}, func(ctx context.Context) error { return closeInvoices(ctx, db) })
	require.NoError(t, result.Err)
	var closed bool
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT closed FROM invoice`).Scan(&closed))
	require.True(t, closed)
}
