package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

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

// cached returns the folder name in the cache, made by fill if it is not there.
// Processes that want it at once wait for the first; a fill that fails leaves
// nothing behind.
func cached(ctx context.Context, name string, fill func(ctx context.Context, dir string) error) (string, error) {
	dir := filepath.Join(cacheDir(), name)
	if isDir(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cacheDir(), 0o755); err != nil {
		return "", err
	}
	lock, err := acquire(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if isDir(dir) {
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

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
