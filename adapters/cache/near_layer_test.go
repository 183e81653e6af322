package cache

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An answer of Redis is on its way, or here, and is overtaken by news.
func TestNear_KeepsNothingThatWasOvertaken(t *testing.T) {
	t.Parallel()
	old := Entry[int]{Version: 1, Expires: time.Now().Add(time.Hour)}
	for name, news := range map[string]func(*near[int]){
		"nothing":          func(*near[int]) {},
		"of another key":   func(n *near[int]) { n.invalidate("b") },
		"what it has":      func(n *near[int]) { n.drop("a", 1) },
		"redis's word":     func(n *near[int]) { n.invalidate("a") },
		"a newer put":      func(n *near[int]) { n.drop("a", 2) },
		"a new connection": func(n *near[int]) { n.reset(2) },
		"silence":          func(n *near[int]) { n.confirm(time.Now().Add(-time.Minute)) },
	} {
		kept := name == "nothing" || name == "of another key" || name == "what it has"
		for _, here := range []bool{false, true} {
			n := newNear[int](NearConfig{Staleness: time.Minute, Entries: 1000}, time.Now)
			n.confirm(time.Now())
			f := n.begin("a")
			if !here {
				news(n)
			}
			n.end(f, "a", old, true, true)
			if here {
				news(n)
			}
			_, ok := n.get("a", 0)
			require.Equal(t, kept, ok, "%s, here: %t", name, here)
		}
	}
}
