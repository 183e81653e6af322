package consumer

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestProgress_RemembersExactlyWhatWasSent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const end = 60
		letters := rapid.SliceOfNDistinct(rapid.Int64Range(0, end-1), 0, end, rapid.ID).Draw(t, "letters")
		slices.Sort(letters)
		replayed := map[int64]bool{}
		p := progress{}
		for range rapid.IntRange(1, 5).Draw(t, "runs") {
			pos := rapid.Int64Range(p.low, end).Draw(t, "pos")
			var sent, pending []int64
			for _, offset := range letters {
				switch {
				case offset < p.low || offset >= pos:
				case p.has(offset) || rapid.Bool().Draw(t, "send"):
					sent = append(sent, offset)
					replayed[offset] = true
				default:
					pending = append(pending, offset)
				}
			}
			next := p.after(pos, sent, pending)
			require.GreaterOrEqual(t, next.low, p.low)
			encoded, err := next.encode()
			require.NoError(t, err)
			p, err = decodeProgress(next.low, encoded)
			require.NoError(t, err)
			require.Equal(t, next, p)
			for _, offset := range letters {
				require.Equal(t, replayed[offset], p.has(offset), "offset %d of %v", offset, p)
			}
		}
	})
}

func TestProgress_IgnoresOffsetsWithoutLetters(t *testing.T) {
	t.Parallel()
	p := progress{}
	next := p.after(100, nil, []int64{10, 12, 14}) // transaction markers between
	require.Equal(t, progress{low: 10}, next)
}

func TestProgress_JoinsPiecesThatTouch(t *testing.T) {
	t.Parallel()
	p := progress{low: 5, done: []span{{8, 10}, {12, 20}}}
	next := p.after(8, []int64{5, 6, 7}, nil)
	require.Equal(t, progress{low: 10, done: []span{{12, 20}}}, next)
}

func TestProgress_RefusesWhatACommitCannotHold(t *testing.T) {
	t.Parallel()
	var sent, pending []int64
	for i := range int64(10_000) {
		if i%2 == 0 {
			pending = append(pending, i)
		} else {
			sent = append(sent, i)
		}
	}
	p := progress{}
	next := p.after(10_000, sent, pending)
	_, err := next.encode()
	require.ErrorIs(t, err, ErrScattered)
}

func TestDecodeProgress_RefusesForeignMetadata(t *testing.T) {
	t.Parallel()
	for _, metadata := range []string{"!", "gA", "AQ", "AQA"} {
		_, err := decodeProgress(1, metadata)
		require.Error(t, err, metadata)
	}
}
