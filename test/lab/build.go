package lab

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/millrace-go/millrace/test/internal/proc"
)

var built sync.Map // package -> func() (string, error), once per process

// Build compiles the main package pkg, an import path, once for all tests of
// this run, and returns the program's path. The program has the race detector if
// the test has.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	once, _ := built.LoadOrStore(pkg, sync.OnceValues(func() (string, error) {
		return build(context.Background(), pkg)
	}))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatalf("lab: build %s: %v", pkg, err)
	}
	return path
}

func build(ctx context.Context, pkg string) (string, error) {
	dir, err := proc.RunFolder()
	if err != nil {
		return "", err
	}
	wd, err := os.Getwd() // trees in other places have other programs
	if err != nil {
		return "", err
	}
	args := []string{"build"}
	if raceEnabled {
		args = append(args, "-race")
	}
	sum := sha256.Sum256(fmt.Append(nil, moduleOf(ctx, wd), args))
	bin := filepath.Join(dir, fmt.Sprintf("bin-%x", sum[:4]))
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(bin, filepath.Base(pkg))
	lock, err := proc.Acquire(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(path); err == nil && os.Getenv(proc.EnvRunDir) != "" {
		return path, nil // the sources do not change within a run
	}
	return path, goBuild(ctx, path, append(args, "-o", path+".new", pkg))
}

// goBuild builds beside the program and puts it in place in one step: another
// process may be running the old one.
func goBuild(ctx context.Context, path string, args []string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return os.Rename(path+".new", path)
}

// moduleOf is the go.mod that rules dir.
func moduleOf(ctx context.Context, dir string) string {
	cmd := exec.CommandContext(ctx, "go", "env", "GOMOD")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return dir
	}
	return string(out)
}
