package apptest_test

import (
	"testing"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain"
)

func TestMemory_PassesTheStorageContract(t *testing.T) {
	t.Parallel()
	apptest.Exercise(t, func(*testing.T) apptest.Backend {
		m := &apptest.Memory{}
		return apptest.Backend{
			UnitOfWork: m, Reader: m,
			Events: func(*testing.T) []domain.Recorded { return m.Events() },
		}
	})
}

func TestMemory_PassesTheAccessContract(t *testing.T) {
	t.Parallel()
	apptest.ExerciseAccess(t, func(*testing.T) apptest.AccessBackend {
		m := &apptest.Memory{}
		return apptest.AccessBackend{
			UnitOfWork: m, Reader: m,
			Events: func(*testing.T) []domain.Recorded { return m.Events() },
		}
	})
}

func TestSessionCache_PassesItsContract(t *testing.T) {
	t.Parallel()
	apptest.ExerciseSessionCache(t, func(_ *testing.T, reader app.AccountReader) app.SessionCache {
		return &apptest.SessionCache{Reader: reader}
	})
}

func TestViews_PassTheContractOfReaders(t *testing.T) {
	t.Parallel()
	apptest.ExerciseViews(t, func(_ *testing.T, database app.Reader) app.Views { return &apptest.Views{Reader: database} })
}
