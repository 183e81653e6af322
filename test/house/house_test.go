// Package house_test keeps the house as DESIGN.md draws it: the direction of
// imports, where Watermill and SQL may appear, names, lengths and comments.
package house_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHouse_KeepsItsRules(t *testing.T) {
	t.Parallel()
	tr, err := load("../..")
	require.NoError(t, err)
	require.Greater(t, len(tr.sources), 30, "go list found almost nothing: the rules would hold of an empty tree")
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			for _, f := range r.check(tr) {
				t.Errorf("%s\n\trule: %s", f, r.about)
			}
		})
	}
}

func TestHouse_EveryListedSkipExists(t *testing.T) {
	t.Parallel()
	tr, err := load("../..")
	require.NoError(t, err)
	for name, reason := range skips {
		require.NotEmpty(t, reason, name)
		used := false
		for _, s := range tr.sources {
			for _, d := range s.declared() {
				used = used || s.file+": "+d == name
			}
		}
		require.True(t, used, "skips lists %q, which is not in the tree", name)
	}
}
