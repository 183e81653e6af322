package house_test

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	testName  = regexp.MustCompile("`((?:Test|Example|Benchmark)[A-Z]\\w*)`")
	fileNames = regexp.MustCompile("`([\\w.-]+/[\\w./-]+\\.(?:go|sql))`((?:,? `\\w+`)*)")
	folder    = regexp.MustCompile("`((?:domain|app|outbox|adapters|cmd|sql|test|docs)(?:/[\\w-]+)*)/?`")
	link      = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	word      = regexp.MustCompile("`(\\w+)`")
)

// TestDocs_PointAtWhatExists checks that every file, function, test and folder
// that the documents name is in the tree.
func TestDocs_PointAtWhatExists(t *testing.T) {
	t.Parallel()
	tr, err := load("../..")
	require.NoError(t, err)
	for _, page := range pages(t) {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile("../../" + page)
			require.NoError(t, err)
			for _, broken := range tr.brokenPointers(path.Dir(page), string(text)) {
				t.Errorf("%s names %s, which is not in the tree", page, broken)
			}
		})
	}
}

func TestDocs_BrokenPointersAreFound(t *testing.T) {
	t.Parallel()
	tr, err := load("../..")
	require.NoError(t, err)
	good := "`outbox/relay.go` `Run`, `Wake` `TestHouse_KeepsItsRules` `outbox/pgstore` [x](contract.md#the-order-rule) `sql/outbox/00001_outbox.sql`"
	require.Empty(t, tr.brokenPointers("docs", good))
	bad := "`outbox/relais.go` and `outbox/relay.go` `Run`, `Fly`; `TestHouse_IsBuiltOnSand` `outbox/redis` [x](treaty.md)"
	require.Equal(t, []string{"outbox/relais.go", "outbox/relay.go Fly", "TestHouse_IsBuiltOnSand", "outbox/redis", "treaty.md"}, tr.brokenPointers("docs", bad))
}

// brokenPointers lists what text, a page in folder dir, names and t has not.
func (t *tree) brokenPointers(dir, text string) (broken []string) {
	declared := map[string][]string{}
	for _, s := range t.sources {
		declared[s.file] = s.declared()
	}
	for _, m := range fileNames.FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat("../../" + m[1]); err != nil {
			broken = append(broken, m[1])
			continue
		}
		for _, name := range word.FindAllStringSubmatch(m[2], -1) {
			if !testName.MatchString(name[0]) && !slices.Contains(declared[m[1]], name[1]) {
				broken = append(broken, m[1]+" "+name[1])
			}
		}
	}
	for _, m := range testName.FindAllStringSubmatch(text, -1) {
		if !slices.ContainsFunc(t.sources, func(s source) bool { return s.test && slices.Contains(declared[s.file], m[1]) }) {
			broken = append(broken, m[1])
		}
	}
	for _, m := range folder.FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat("../../" + m[1]); err != nil {
			broken = append(broken, m[1])
		}
	}
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat("../../" + path.Join(dir, m[1])); err != nil && !strings.HasPrefix(m[1], "http") {
			broken = append(broken, m[1])
		}
	}
	return broken
}
