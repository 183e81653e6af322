package house_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// maxColumns of a line of prose. Tables, code and headings may be wider.
const maxColumns = 120

// pages lists the documents of the repository, relative to its root.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob("../../" + pattern)
		require.NoError(t, err)
		for _, f := range found {
			all = append(all, filepath.ToSlash(strings.TrimPrefix(f, "../../")))
		}
	}
	require.Greater(t, len(all), 15, "the documents were not found")
	return all
}

func TestPages_FitTheScreen(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		text, err := os.ReadFile("../../" + page)
		require.NoError(t, err)
		for _, wide := range wideLines(string(text)) {
			t.Errorf("%s:%s", page, wide)
		}
	}
}

func TestPages_WideLinesAreFound(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 25)
	require.Len(t, wideLines("short\n"+long+"\n- "+long), 2)
	require.Empty(t, wideLines("# "+long+"\n| "+long+" |\n```\n"+long+"\n```\n"+strings.Repeat("ü", maxColumns)))
}

// TestPages_AreReachable follows the links from README.md.
func TestPages_AreReachable(t *testing.T) {
	t.Parallel()
	reached, queue := map[string]bool{"README.md": true}, []string{"README.md"}
	for len(queue) > 0 {
		page := queue[0]
		queue = queue[1:]
		text, err := os.ReadFile("../../" + page)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+\.md)(?:#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			target := filepath.ToSlash(filepath.Join(filepath.Dir(page), m[1]))
			if !reached[target] {
				reached[target] = true
				queue = append(queue, target)
			}
		}
	}
	for _, page := range pages(t) {
		require.True(t, reached[page], "no link leads from README.md to %s", page)
	}
}

// wideLines lists the lines of prose that are too wide, each as "line: columns".
func wideLines(text string) (wide []string) {
	code := false
	for n, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
			continue
		}
		if code || strings.HasPrefix(line, "|") || strings.HasPrefix(line, "#") {
			continue
		}
		if columns := utf8.RuneCountInString(line); columns > maxColumns {
			wide = append(wide, fmt.Sprintf("%d: %d columns, more than %d", n+1, columns, maxColumns))
		}
	}
	return wide
}
