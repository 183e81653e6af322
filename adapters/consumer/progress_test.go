package consumer

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-go/millrace/outbox/record"
)

// pass walks letters in order through note, as an act does, up to end.
func pass(p *progress, from, end int64, letters []int64, settles func(int64) bool) {
	tail, settled := from, p.has(from-1)
	for _, offset := range letters {
		if offset < from || offset >= end {
			continue
		}
		it := &item{letter: Letter{Record: &record.Record{Offset: offset}}, after: tail}
		settled = settles(offset)
		note(p, it, settled)
		tail = offset + 1
	}
	if settled {
		p.add(tail, end)
	}
}

func TestProgress_RemembersExactlyWhatWasSettled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const end = 60
		letters := rapid.SliceOfNDistinct(rapid.Int64Range(0, end-1), 0, end, rapid.ID).Draw(t, "letters")
		slices.Sort(letters)
		done := map[int64]bool{}
		p := progress{}
		for range rapid.IntRange(1, 5).Draw(t, "acts") {
			from := max(p.low, rapid.Int64Range(0, end).Draw(t, "from"))
			to := rapid.Int64Range(from, end).Draw(t, "to")
			low := p.low
			pass(&p, from, to, letters, func(offset int64) bool {
				if p.has(offset) || rapid.Bool().Draw(t, "settle") {
					done[offset] = true
				}
				return done[offset]
			})
			require.GreaterOrEqual(t, p.low, low)
			encoded, err := p.encode()
			require.NoError(t, err)
			again, err := decodeProgress(p.low, encoded)
			require.NoError(t, err)
			require.True(t, again.equal(&p), "%v, not %v", again, p)
			for i, s := range p.done {
				require.Greater(t, s.To, s.From)
				require.Greater(t, s.From, p.low)
				require.True(t, i == 0 || s.From > p.done[i-1].To, "%v", p)
			}
			for _, offset := range letters {
				require.Equal(t, done[offset], p.has(offset), "offset %d of %v", offset, p)
			}
		}
	})
}

func TestProgress_IgnoresOffsetsWithoutLetters(t *testing.T) {
	t.Parallel()
	p := progress{}
	pass(&p, 0, 100, []int64{10, 12, 14}, func(int64) bool { return false }) // transaction markers between
	require.Equal(t, int64(10), p.low)
	require.Empty(t, p.done)
	pass(&p, 10, 100, []int64{10, 12, 14}, func(int64) bool { return true })
	require.Equal(t, int64(100), p.low)
	require.Empty(t, p.done)
}

func TestProgress_JoinsPiecesThatTouch(t *testing.T) {
	t.Parallel()
	p := progress{low: 5, done: []span{{8, 10}, {12, 20}}}
	p.add(5, 8)
	require.Equal(t, progress{low: 10, done: []span{{12, 20}}}, p)
	p.add(30, 40)
	p.add(50, 60)
	p.add(19, 51)
	require.Equal(t, progress{low: 10, done: []span{{12, 60}}}, p)
	p.add(3, 11)
	require.Equal(t, progress{low: 11, done: []span{{12, 60}}}, p)
}

func TestProgress_RefusesWhatACommitCannotHold(t *testing.T) {
	t.Parallel()
	p := progress{}
	for i := int64(1); i < 10_000; i += 2 {
		p.add(i, i+1)
	}
	_, err := p.encode()
	require.ErrorIs(t, err, ErrScattered)
	encoded := p.encodeFirst()
	require.LessOrEqual(t, len(encoded), maxProgressBytes)
	first, err := decodeProgress(0, encoded)
	require.NoError(t, err)
	require.Greater(t, len(first.done), 1000)
	require.Equal(t, p.done[:len(first.done)], first.done)
}

func TestDecodeProgress_RefusesForeignMetadata(t *testing.T) {
	t.Parallel()
	for _, metadata := range []string{"!", "gA", "AQ", "AQA"} {
		_, err := decodeProgress(1, metadata)
		require.Error(t, err, metadata)
	}
}
