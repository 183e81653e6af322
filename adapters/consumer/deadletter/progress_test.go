package deadletter

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-go/millrace/outbox/record"
)

// walk adds the dead letters at offsets in order, as an operation does, up to end.
func walk(p *progress, from, end int64, offsets []int64, resolves func(int64) bool) {
	tail, resolved := from, p.has(from-1)
	for _, offset := range offsets {
		if offset < from || offset >= end {
			continue
		}
		it := &item{dead: Message{Record: &record.Record{Offset: offset}}, after: tail}
		resolved = resolves(offset)
		p.addItem(it, resolved)
		tail = offset + 1
	}
	if resolved {
		p.add(tail, end)
	}
}

func TestProgress_RemembersExactlyWhatWasResolved(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const end = 60
		offsets := rapid.SliceOfNDistinct(rapid.Int64Range(0, end-1), 0, end, rapid.ID).Draw(t, "offsets")
		slices.Sort(offsets)
		resolved := map[int64]bool{}
		p := progress{}
		for range rapid.IntRange(1, 5).Draw(t, "operations") {
			from := max(p.low, rapid.Int64Range(0, end).Draw(t, "from"))
			to := rapid.Int64Range(from, end).Draw(t, "to")
			low := p.low
			walk(&p, from, to, offsets, func(offset int64) bool {
				if p.has(offset) || rapid.Bool().Draw(t, "resolve") {
					resolved[offset] = true
				}
				return resolved[offset]
			})
			require.GreaterOrEqual(t, p.low, low)
			encoded, err := p.encode()
			require.NoError(t, err)
			again, err := decodeProgress(p.low, encoded)
			require.NoError(t, err)
			require.True(t, again.equal(&p), "%v, not %v", again, p)
			for i, s := range p.ranges {
				require.Greater(t, s.To, s.From)
				require.Greater(t, s.From, p.low)
				require.True(t, i == 0 || s.From > p.ranges[i-1].To, "%v", p)
			}
			for _, offset := range offsets {
				require.Equal(t, resolved[offset], p.has(offset), "offset %d of %v", offset, p)
			}
		}
	})
}

func TestProgress_IgnoresOffsetsWithoutDeadLetters(t *testing.T) {
	t.Parallel()
	p := progress{}
	walk(&p, 0, 100, []int64{10, 12, 14}, func(int64) bool { return false }) // transaction markers between
	require.Equal(t, int64(10), p.low)
	require.Empty(t, p.ranges)
	walk(&p, 10, 100, []int64{10, 12, 14}, func(int64) bool { return true })
	require.Equal(t, int64(100), p.low)
	require.Empty(t, p.ranges)
}

func TestProgress_JoinsRangesThatTouch(t *testing.T) {
	t.Parallel()
	p := progress{low: 5, ranges: []offsetRange{{8, 10}, {12, 20}}}
	p.add(5, 8)
	require.Equal(t, progress{low: 10, ranges: []offsetRange{{12, 20}}}, p)
	p.add(30, 40)
	p.add(50, 60)
	p.add(19, 51)
	require.Equal(t, progress{low: 10, ranges: []offsetRange{{12, 60}}}, p)
	p.add(3, 11)
	require.Equal(t, progress{low: 11, ranges: []offsetRange{{12, 60}}}, p)
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
	require.Greater(t, len(first.ranges), 1000)
	require.Equal(t, p.ranges[:len(first.ranges)], first.ranges)
}

func TestDecodeProgress_RefusesForeignMetadata(t *testing.T) {
	t.Parallel()
	for _, metadata := range []string{"!", "gA", "AQ", "AQA"} {
		_, err := decodeProgress(1, metadata)
		require.Error(t, err, metadata)
	}
}
