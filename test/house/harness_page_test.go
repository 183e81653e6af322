package house_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

// TestHarnessPage_ShowsCodeThatIsCompiled compares the Go blocks of
// docs/harness.md with the examples they were copied from.
func TestHarnessPage_ShowsCodeThatIsCompiled(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/harness.md")
	require.NoError(t, err)
	var compiled strings.Builder
	for _, file := range []string{"../harness/example_test.go", "../lab/main_test.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		compiled.Write(text)
	}
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, 4)
	for _, b := range blocks {
		require.True(t, strings.Contains(compiled.String(), b[1]), "no test file has this block:\n%s", b[1])
	}
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
