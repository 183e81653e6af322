package house_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestConsumersPage_ShowsCodeThatIsCompiled compares the Go blocks of
// docs/consumers.md with the examples they were copied from. The first one is a
// whole handler, and short.
func TestConsumersPage_ShowsCodeThatIsCompiled(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/consumers.md")
	require.NoError(t, err)
	var compiled strings.Builder
	for _, pattern := range []string{"../../adapters/consumer/*_test.go", "../../adapters/consumer/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			compiled.Write(text)
		}
	}
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		require.True(t, strings.Contains(compiled.String(), b[1]), "no test file has this block:\n%s", b[1])
	}
	require.LessOrEqual(t, strings.Count(blocks[0][1], "\n"), 25)
}
