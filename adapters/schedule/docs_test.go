package schedule_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
