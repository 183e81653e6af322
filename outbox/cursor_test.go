package outbox_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-go/millrace/outbox"
)

func TestCursor_WithoutAddsExactlyTheGivenPositions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := outbox.Cursor{Position: 60}
		missing := map[int64]bool{}
		lo := int64(1)
		for range rapid.IntRange(0, 5).Draw(t, "gaps") {
			lo += rapid.Int64Range(1, 5).Draw(t, "skip")
			hi := lo + rapid.Int64Range(0, 4).Draw(t, "length")
			if hi > 60 {
				break
			}
			c.Gaps = append(c.Gaps, outbox.Range{Lo: lo, Hi: hi})
			for p := lo; p <= hi; p++ {
				missing[p] = true
			}
			lo = hi + 1
		}
		var positions []int64
		for p := int64(1); p <= 60; p++ {
			if !missing[p] && rapid.Bool().Draw(t, "undelivered") {
				positions = append(positions, p)
				missing[p] = true
			}
		}
		got := map[int64]bool{}
		end := int64(0)
		without := c.Without(positions)
		for _, g := range without.Gaps {
			require.Greater(t, g.Lo, end, "disjoint and rising")
			for p := g.Lo; p <= g.Hi; p++ {
				got[p] = true
			}
			end = g.Hi
		}
		require.Equal(t, missing, got)
		require.Equal(t, int64(len(missing)), without.Missing())
	})
}
