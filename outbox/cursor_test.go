package outbox_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-go/millrace/outbox"
)

// cursors draws valid cursors: disjoint rising gaps at or below the position.
func cursors() *rapid.Generator[outbox.Cursor] {
	return rapid.Custom(func(t *rapid.T) outbox.Cursor {
		var c outbox.Cursor
		for range rapid.IntRange(0, 20).Draw(t, "gaps") {
			lo := c.Position + rapid.Int64Range(2, 1<<40).Draw(t, "skip")
			c.Position = lo + rapid.Int64Range(0, 1000).Draw(t, "length")
			c.Gaps = append(c.Gaps, outbox.Range{Lo: lo, Hi: c.Position})
		}
		c.Position += rapid.Int64Range(0, 1<<40).Draw(t, "rest")
		return c
	})
}

func TestCursor_GapsSurviveEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := cursors().Draw(t, "cursor")
		back := outbox.Cursor{Position: c.Position}
		require.NoError(t, back.UnmarshalGaps(c.MarshalGaps()))
		require.Equal(t, c, back)
	})
}

func TestCursor_RefusesDamagedGaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := outbox.Cursor{Position: rapid.Int64Range(0, 1000).Draw(t, "position")}
		if c.UnmarshalGaps(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) != nil {
			return
		}
		end := int64(0)
		for _, g := range c.Gaps {
			require.Greater(t, g.Lo, end)
			require.LessOrEqual(t, g.Lo, g.Hi)
			end = g.Hi
		}
		require.LessOrEqual(t, end, c.Position)
	})
}

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
