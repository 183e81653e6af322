package inbox_test

import (
	"os"
	"testing"

	"github.com/millrace-go/millrace/test/harness"
)

// TestMain is also a consumer process, if it is started as one: see startChild.
func TestMain(m *testing.M) {
	if os.Getenv(childTopic) != "" {
		os.Exit(childMain())
	}
	harness.Main(m)
}
