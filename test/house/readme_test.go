package house_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

func TestCustomer_RenamesReachKafka(t *testing.T) {
	db := harness.NewDatabase(t)   // a database of this test's own, migrated
	topic := harness.Topic(t, 4)   // a topic of its own on a real Kafka
	startRelay(t, db.DB)           // your service
	rename(t, db.DB, topic, "c-1") // what is tested

	harness.Await(t, 2*time.Minute, "the rename is published", func(context.Context) error {
		if n := len(harness.ReadTopic(t, harness.Brokers(t), topic)); n != 1 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	})
}

// TestReadme_ShowsCodeThatIsCompiled compares the README's Go blocks with where they
// were copied from: this file, and the program of docs/embedding.md, which a test of
// package pipeline builds and runs.
func TestReadme_ShowsCodeThatIsCompiled(t *testing.T) {
	t.Parallel()
	requireBlocks(t, "../../README.md", 2, "../../docs/embedding.md", "readme_test.go")
}

// requireBlocks checks that page has n blocks of Go code, and that each stands in one
// of files.
func requireBlocks(t *testing.T, page string, n int, files ...string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	var compiled strings.Builder
	for _, file := range files {
		code, err := os.ReadFile(file)
		require.NoError(t, err)
		compiled.Write(code)
	}
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	require.Len(t, blocks, n)
	for _, b := range blocks {
		require.True(t, strings.Contains(compiled.String(), b[1]), "no file has this block of %s:\n%s", page, b[1])
	}
}

// TestOperations_ListsEveryFlagOfTheRelay compares the page's table with the help
// text that package cli's tests pin.
func TestOperations_ListsEveryFlagOfTheRelay(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	help, err := os.ReadFile("../../cmd/millrace/internal/cli/testdata/help/millrace_relay.txt")
	require.NoError(t, err)
	flags := regexp.MustCompile(`(?m)^\s+--([\w-]+).*\[([A-Z_, ]+)\](?: \(default "?([^")]*)"?\))?$`).FindAllStringSubmatch(string(help), -1)
	require.Greater(t, len(flags), 8)
	for _, f := range flags {
		row := regexp.MustCompile("(?m)^\\|.*`--" + f[1] + "`.*$").FindString(string(page))
		require.NotEmpty(t, row, "--%s", f[1])
		for env := range strings.SplitSeq(f[2], ", ") {
			require.Contains(t, row, "`"+env+"`")
		}
		if f[3] != "" {
			require.Contains(t, row, "`"+f[3]+"`")
		}
	}
}
