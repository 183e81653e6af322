package outboxtest_test

import (
	"testing"

	"github.com/millrace-go/millrace/test/outboxtest"
)

func TestMemoryLog(t *testing.T) {
	t.Parallel()
	outboxtest.Exercise(t, func(*testing.T) outboxtest.Subject { return outboxtest.NewMemoryLog(nil) })
}
