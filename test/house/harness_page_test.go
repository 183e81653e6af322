package house_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

// TestHarnessPage_ShowsCodeThatIsCompiled compares the Go blocks of
// docs/harness.md with the examples they were copied from.
func TestHarnessPage_ShowsCodeThatIsCompiled(t *testing.T) {
	t.Parallel()
	requireBlocks(t, "../../docs/harness.md", 5, "../harness/example_test.go", "../lab/main_test.go", "../../adapters/pipeline/service_test.go")
}

func TestHarnessPage_ListsTheEnvironment(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/harness.md")
	require.NoError(t, err)
	for _, name := range []string{
		harness.EnvPostgres, harness.EnvKafka, harness.EnvRedis, harness.EnvRequireReal,
		harness.EnvMavenRepository, harness.EnvKafkaHome, harness.EnvRunDir,
	} {
		require.Contains(t, string(page), "| `"+name+"` |")
	}
}
