package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace-go/millrace/test/internal/proc"
)

// ErrNotInstalled is in the error of a start that found nothing to start. The
// error's text says what to install.
var ErrNotInstalled = errors.New("not installed")

// NotInstalled is the error of a program that is missing.
func NotInstalled(what, install string) error {
	return fmt.Errorf("%s is %w; to install it: %s", what, ErrNotInstalled, install)
}

// Progress prints one line about something that takes a while.
func Progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "harness: "+format+"\n", args...)
}

// cacheDir is where downloads are kept between runs. For root it is a folder
// that the accounts of servers can read too.
func cacheDir() string {
	if os.Geteuid() == 0 {
		return "/var/cache/millrace"
	}
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	return filepath.Join(base, "millrace")
}

// Cached returns the folder name in the cache, made by fill if it is not there.
// Processes that want it at once wait for the first; a fill that fails leaves
// nothing behind.
func Cached(ctx context.Context, name string, fill func(ctx context.Context, dir string) error) (string, error) {
	dir := filepath.Join(cacheDir(), name)
	if proc.IsDir(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cacheDir(), 0o755); err != nil {
		return "", err
	}
	lock, err := proc.Acquire(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if proc.IsDir(dir) {
		return dir, nil
	}
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	if err := os.Mkdir(part, 0o755); err != nil {
		return "", err
	}
	if err := fill(ctx, part); err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	return dir, os.Rename(part, dir)
}
