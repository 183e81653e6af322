package pgstore

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
)

// turn is one poll: what (a) and (b) answer, and what must come of it.
type turn struct {
	holders []holder
	guarded bool
	found   []int64
	cut     bool

	probed  []outbox.Range // nil: not checked
	skipped []string       // xids of the suspects of gaps that are left out
	high    int64
	gaps    []outbox.Range
}

func gaps(ends ...int64) []outbox.Range {
	var all []outbox.Range
	for i := 0; i < len(ends); i += 2 {
		all = append(all, outbox.Range{Lo: ends[i], Hi: ends[i+1]})
	}
	return all
}

func holds(names ...string) []holder {
	var all []holder
	for _, n := range names {
		all = append(all, holder{virtual: n, xid: "1" + n[:1]})
	}
	return all
}

func TestLedger_Rules(t *testing.T) {
	t.Parallel()
	late := holder{virtual: "3/9"} // holds the lock, has no xid yet
	for name, tc := range map[string]struct {
		start outbox.Cursor
		turns []turn
	}{
		"rows without a gap move the high mark": {turns: []turn{
			{found: []int64{1, 2, 3}, high: 3},
		}},
		"a missing position is a gap from the start on": {turns: []turn{
			{found: []int64{3, 4, 7}, high: 7, gaps: gaps(1, 2, 5, 6)},
		}},
		"a gap without holders closes at the next poll, if that does not show it": {turns: []turn{
			{found: []int64{1, 3}, high: 3, gaps: gaps(2, 2)},
			{probed: gaps(2, 2), high: 3},
		}},
		"a gap without holders is filled at the next poll, if that shows it": {turns: []turn{
			{found: []int64{1, 4}, high: 4, gaps: gaps(2, 3)},
			{found: []int64{3, 5}, high: 5},
		}},
		"a gap stays while a suspect holds the lock": {turns: []turn{
			{found: []int64{2}, high: 2, gaps: gaps(1, 1)},
			{holders: holds("1/1"), high: 2, gaps: gaps(1, 1)},
			{holders: holds("1/1"), high: 2, gaps: gaps(1, 1)},
			{found: []int64{1}, high: 2},
		}},
		"holders that came after the suspects were named do not matter": {turns: []turn{
			{found: []int64{2}, high: 2, gaps: gaps(1, 1)},
			{holders: holds("1/1"), high: 2, gaps: gaps(1, 1)},
			{holders: holds("2/2"), high: 2},
		}},
		"suspects are named at the first look after the poll that found the gap": {turns: []turn{
			{holders: holds("1/1"), found: []int64{2}, high: 2, gaps: gaps(1, 1)},
			{holders: holds("2/2"), high: 2, gaps: gaps(1, 1)},
			{holders: holds("1/1"), high: 2},
		}},
		"each poll's gaps have suspects of their own": {turns: []turn{
			{found: []int64{2}, high: 2, gaps: gaps(1, 1)},
			{holders: holds("1/1"), found: []int64{4}, high: 4, gaps: gaps(1, 1, 3, 3)},
			{holders: holds("1/1", "2/2"), high: 4, gaps: gaps(1, 1, 3, 3)},
			{holders: holds("2/2"), high: 4, gaps: gaps(3, 3)},
			{high: 4},
		}},
		"a range is split by what fills it": {turns: []turn{
			{found: []int64{9}, high: 9, gaps: gaps(1, 8)},
			{holders: holds("1/1"), found: []int64{3, 4, 8}, high: 9, gaps: gaps(1, 2, 5, 7)},
			{holders: holds("1/1"), found: []int64{1, 6}, high: 9, gaps: gaps(2, 2, 5, 5, 7, 7)},
			{found: []int64{5}, high: 9},
		}},
		"a read cut inside the gaps closes what it covered and moves no high mark": {turns: []turn{
			{found: []int64{10}, high: 10, gaps: gaps(1, 9)},
			{found: []int64{2, 4}, cut: true, high: 10, gaps: gaps(5, 9)},
			{found: []int64{7, 10 + 1}, cut: true, high: 11},
		}},
		"a read cut at the end of the gaps closes them": {turns: []turn{
			{found: []int64{3}, high: 3, gaps: gaps(1, 2)},
			{found: []int64{2}, cut: true, high: 3},
		}},
		"a read cut in the tail closes all final gaps": {turns: []turn{
			{found: []int64{3}, high: 3, gaps: gaps(1, 2)},
			{found: []int64{5}, cut: true, high: 5, gaps: gaps(4, 4)},
		}},
		"a cut read closes no gap whose suspects run": {turns: []turn{
			{found: []int64{5}, high: 5, gaps: gaps(1, 4)},
			{holders: holds("1/1"), found: []int64{3, 7}, cut: true, high: 7, gaps: gaps(1, 2, 4, 4, 6, 6)},
		}},
		"an orphan suspects every gap, also one whose suspects have gone": {turns: []turn{
			{found: []int64{2}, high: 2, gaps: gaps(1, 1)},
			{holders: holds("3/7"), high: 2, gaps: gaps(1, 1)},
			{holders: holds("-1/900"), guarded: true, probed: gaps(1, 1), high: 2, gaps: gaps(1, 1)},
			{holders: holds("-1/900"), guarded: true, probed: gaps(1, 1), high: 2, gaps: gaps(1, 1)},
			{found: []int64{1}, high: 2},
		}},
		"gaps of a saved cursor have the holders of the first look as suspects": {
			start: outbox.Cursor{Position: 9, Gaps: gaps(2, 3, 6, 6)},
			turns: []turn{
				{holders: holds("1/1"), found: []int64{6}, high: 9, gaps: gaps(2, 3)},
				{found: []int64{3}, high: 9},
			},
		},
		"guarded: gaps whose suspects all run are left out once they were probed": {turns: []turn{
			{found: []int64{2}, high: 2, gaps: gaps(1, 1)},
			{holders: holds("1/1", "2/2"), guarded: true, probed: gaps(1, 1), high: 2, gaps: gaps(1, 1)},
			{holders: holds("1/1", "2/2", "3/3"), guarded: true, probed: gaps(), skipped: []string{"11", "12"}, high: 2, gaps: gaps(1, 1)},
			{holders: holds("1/1", "3/3"), guarded: true, probed: gaps(1, 1), high: 2, gaps: gaps(1, 1)},
			{holders: holds("1/1", "3/3"), guarded: true, probed: gaps(), skipped: []string{"11"}, high: 2, gaps: gaps(1, 1)},
			{holders: holds("3/3"), guarded: true, probed: gaps(1, 1), high: 2},
		}},
		"guarded: only the cohorts that need it are probed": {turns: []turn{
			{found: []int64{2}, high: 2, gaps: gaps(1, 1)},
			{holders: holds("1/1"), guarded: true, found: []int64{4}, high: 4, gaps: gaps(1, 1, 3, 3)},
			{holders: holds("1/1", "2/2"), guarded: true, probed: gaps(3, 3), skipped: []string{"11"}, high: 4, gaps: gaps(1, 1, 3, 3)},
			{holders: holds("2/2"), guarded: true, probed: gaps(1, 1, 3, 3), high: 4, gaps: gaps(3, 3)},
		}},
		"guarded: a suspect without an xid is probed": {turns: []turn{
			{found: []int64{2}, high: 2, gaps: gaps(1, 1)},
			{holders: []holder{late}, guarded: true, probed: gaps(1, 1), high: 2, gaps: gaps(1, 1)},
			{holders: []holder{late}, guarded: true, probed: gaps(1, 1), high: 2, gaps: gaps(1, 1)},
			{holders: []holder{{"3/9", "77"}}, guarded: true, probed: gaps(), skipped: []string{"77"}, high: 2, gaps: gaps(1, 1)},
		}},
		"guarded: a cut read leaves the cohort to be probed again": {turns: []turn{
			{found: []int64{9}, high: 9, gaps: gaps(1, 8)},
			{holders: holds("1/1", "2/2"), guarded: true, high: 9, gaps: gaps(1, 8)},
			{holders: holds("1/1"), guarded: true, probed: gaps(1, 8), found: []int64{3}, cut: true, high: 9, gaps: gaps(1, 2, 4, 8)},
			{holders: holds("1/1"), guarded: true, probed: gaps(1, 2, 4, 8), found: []int64{5}, high: 9, gaps: gaps(1, 2, 4, 4, 6, 8)},
			{holders: holds("1/1"), guarded: true, probed: gaps(), skipped: []string{"11"}, high: 9, gaps: gaps(1, 2, 4, 4, 6, 8)},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(tc.start)
			for i, turn := range tc.turns {
				before := l.cursor()
				copied := slices.Clone(before.Gaps)
				var p probe
				if len(l.ranges) > 0 {
					p = l.observe(turn.holders, turn.guarded)
				}
				if turn.probed != nil {
					require.ElementsMatch(t, turn.probed, p.ranges, "turn %d: probed", i)
				}
				require.ElementsMatch(t, turn.skipped, p.skipped, "turn %d: skipped", i)
				moved := l.apply(turn.found, turn.cut)
				after := l.cursor()
				require.Equal(t, turn.high, after.Position, "turn %d: high mark", i)
				require.ElementsMatch(t, turn.gaps, after.Gaps, "turn %d: gaps", i)
				require.Equal(t, before.Position != after.Position || !slices.Equal(copied, after.Gaps), moved, "turn %d: moved", i)
				require.Equal(t, copied, slices.Clone(before.Gaps), "turn %d: the cursor before has changed", i)
			}
		})
	}
}

func TestFullXid_WidensAroundTheNextOne(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		xid, xmax string
		want      uint64
	}{
		"same epoch":              {"900", "1000", 900},
		"slightly ahead":          {"1002", "1000", 1002},
		"before the wraparound":   {"4294967290", "4294967300", 4294967290},
		"ahead across it":         {"3", "4294967290", 4294967299},
		"in the sixth epoch":      {"5", "21474836490", 21474836485},
		"of the epoch before it":  {"4294967295", "21474836485", 21474836479},
		"two thousand million on": {"1", "2147483600", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := fullXid(tc.xid, tc.xmax)
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
	for _, bad := range [][2]string{{"x", "1"}, {"1", "x"}, {"4294967296", "1"}} {
		_, err := fullXid(bad[0], bad[1])
		require.Error(t, err)
	}
}
