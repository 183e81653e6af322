package apptest_test

import (
	"testing"

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
