package postgres_test

import (
	"testing"

	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

func TestSQLStorage_PassesTheAccessContract(t *testing.T) {
	t.Parallel()
	apptest.ExerciseAccess(t, func(t *testing.T) apptest.AccessBackend {
		db := harness.NewDatabase(t, migrations.Lines()...).DB
		return apptest.AccessBackend{
			UnitOfWork: open(t, db, postgres.Config{}).UnitOfWork,
			Reader:     postgres.NewAccountReader(db),
			Events:     func(t *testing.T) []domain.Recorded { return recorded(t, db) },
		}
	})
}
