// Package latency records durations and tells their quantiles.
package latency

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets grow by powers of two, each split into 64 equal parts, so that a
// quantile is at most 1/64 too high. They reach from 1 ns to 2^47 ns (39 hours).
const (
	splitBits = 6
	split     = 1 << splitBits
	buckets   = (47 - splitBits + 1) * split
)

// Recorder counts durations. The zero value is ready; it is safe for concurrent
// use and must not be copied.
type Recorder struct {
	counts [buckets]atomic.Int64
	total  atomic.Int64
	max    atomic.Int64
}

// Observe adds d; a negative one counts as zero.
func (r *Recorder) Observe(d time.Duration) {
	n := max(int64(d), 0)
	r.counts[bucket(n)].Add(1)
	r.total.Add(1)
	for {
		old := r.max.Load()
		if n <= old || r.max.CompareAndSwap(old, n) {
			return
		}
	}
}

// Count is how many durations were observed.
func (r *Recorder) Count() int64 { return r.total.Load() }

// Max is the longest duration observed, exactly.
func (r *Recorder) Max() time.Duration { return time.Duration(r.max.Load()) }

// Quantile returns the duration that the fraction q (0 to 1) of those observed
// do not exceed, and 0 if there are none.
func (r *Recorder) Quantile(q float64) time.Duration {
	total := r.total.Load()
	if total == 0 {
		return 0
	}
	rank := min(max(int64(q*float64(total)+0.999999), 1), total)
	var seen int64
	for i := range r.counts {
		seen += r.counts[i].Load()
		if seen >= rank {
			return min(time.Duration(upper(i)), r.Max())
		}
	}
	return r.Max()
}

// Milliseconds is d as a JSON-friendly number with microsecond precision.
func Milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond).Microseconds()) / 1000
}

func bucket(n int64) int {
	shift := bits.Len64(uint64(n)) - splitBits - 1
	if shift <= 0 {
		return int(n)
	}
	return min(shift*split+int(n>>shift), buckets-1)
}

// upper is the largest duration that falls into bucket i.
func upper(i int) int64 {
	if i < 2*split {
		return int64(i)
	}
	shift := i/split - 1
	return (int64(i-shift*split)+1)<<shift - 1
}
