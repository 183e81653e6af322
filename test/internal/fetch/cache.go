package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// notDownloaded adds why a server that is not installed could not be downloaded
// either.
func notDownloaded(ctx context.Context, missing, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w (tried to download it: %w)", missing, err)
}

// progressOut is where Progress prints, a variable for the tests.
var progressOut io.Writer = os.Stderr

// Progress prints one line about something that takes a while.
func Progress(format string, args ...any) {
	fmt.Fprintf(progressOut, "harness: "+format+"\n", args...)
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

// makeCacheDir makes the folder, for root so that other accounts can read it
// whatever the umask.
func makeCacheDir() error {
	dir := cacheDir()
	if proc.IsDir(dir) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// Cached returns the folder name in the cache, made by fill if it is not there.
// Processes that want it at once wait for the first; a fill that fails leaves
// nothing behind.
func Cached(ctx context.Context, name string, fill func(ctx context.Context, dir string) error) (string, error) {
	dir := filepath.Join(cacheDir(), name)
	if proc.IsDir(dir) {
		return dir, nil
	}
	if err := makeCacheDir(); err != nil {
		return "", fmt.Errorf("make the folder for downloads: %w", err)
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
	if err := os.Chmod(part, 0o755); err != nil { // whatever the umask: see cacheDir
		return "", err
	}
	if err := fill(ctx, part); err != nil {
		return "", errors.Join(err, os.RemoveAll(part))
	}
	return dir, os.Rename(part, dir)
}
