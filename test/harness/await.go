package harness

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// Await calls check until it returns nil. check's error says what is still
// missing. If that takes longer than within, the test fails with what, the time
// and the last error. Call it from the test's own goroutine.
//
//	harness.Await(t, 5*time.Second, "all views are written", func(ctx context.Context) error { … })
func Await(t testing.TB, within time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	if err := Until(t.Context(), within, check); err != nil {
		t.Fatalf("harness: %s: %v", what, err)
	}
}

// Until is Await outside of tests: it returns nil once check does, and an error
// that wraps check's last one when the time is up or ctx ends.
func Until(ctx context.Context, within time.Duration, check func(ctx context.Context) error) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var last error
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
			last = err // what was missing says more than that the time was up
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", time.Since(began).Round(time.Millisecond), last)
		case <-time.After(pause):
		}
	}
}
