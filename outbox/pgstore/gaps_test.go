package pgstore

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

func TestGaps_SurviveEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := cursors().Draw(t, "cursor")
		back, err := decodeGaps(encodeGaps(c.Gaps), c.Position)
		require.NoError(t, err)
		require.Equal(t, c.Gaps, back)
	})
}

func TestGaps_DamagedOnesAreRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		position := rapid.Int64Range(0, 1000).Draw(t, "position")
		gaps, err := decodeGaps(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"), position)
		if err != nil {
			return
		}
		end := int64(0)
		for _, g := range gaps {
			require.Greater(t, g.Lo, end)
			require.LessOrEqual(t, g.Lo, g.Hi)
			end = g.Hi
		}
		require.LessOrEqual(t, end, position)
	})
}
