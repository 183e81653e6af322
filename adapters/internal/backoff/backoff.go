// Package backoff has the waits of the adapters: a pause that ends with its
// context, and pauses that double from one failure to the next.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Doubling is a pause that begins with First and doubles with each failure up to
// Max. A Max below First stands for First.
type Doubling struct{ First, Max time.Duration }

// After returns the pause after the given number of failures in a row, 1 for the
// first one. It cannot overflow.
func (b Doubling) After(failures int) time.Duration {
	limit := max(b.First, b.Max)
	d := b.First
	for range failures - 1 {
		if d <= 0 || d > limit/2 {
			return limit
		}
		d *= 2
	}
	return d
}

// Jitter returns a random time in (0, d], so that those who failed together do not
// come back together. d must be positive.
func Jitter(d time.Duration) time.Duration { return rand.N(d) + 1 }

// Sleep waits for d and returns nil, or the error of ctx as soon as that ends.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
