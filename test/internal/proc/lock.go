package proc

import (
	"context"
	"os"
	"time"
)

// Acquire takes the lock file exclusively, waiting for it. Closing it, or the
// end of this process however it comes, frees the lock.
func Acquire(ctx context.Context, path string) (*os.File, error) {
	for {
		f, ok, err := TryLock(path, true)
		if ok || err != nil {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TryLock takes the lock file if that needs no waiting.
func TryLock(path string, exclusive bool) (*os.File, bool, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, false, err
	}
	ok, err := flock(f, exclusive, false)
	if !ok || err != nil {
		_ = f.Close()
		return nil, false, err
	}
	return f, true, nil
}
