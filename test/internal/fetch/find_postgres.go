package fetch

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Postgres is a folder with Postgres server programs.
type Postgres struct {
	Dir, Version, How string
}

// FindPostgres looks for server programs: where pg_config says, on PATH, in the
// folders of Debian, Red Hat and Homebrew; else it fetches them.
func FindPostgres(ctx context.Context) (Postgres, error) {
	var dirs []string
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	dirs = append(dirs, versioned("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin")...)
	for _, dir := range dirs {
		if version, err := postgresVersion(ctx, dir); err == nil {
			return Postgres{Dir: dir, Version: version, How: "started from " + dir}, nil
		}
	}
	return FetchPostgres(ctx)
}

// versioned lists the folders that match, the highest version first.
func versioned(patterns ...string) []string {
	var all []string
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern)
		slices.SortFunc(found, func(a, b string) int { return number(b) - number(a) })
		all = append(all, found...)
	}
	return all
}

// number reads the digits of a path as one number; 15 of /usr/lib/postgresql/15/bin.
func number(path string) int {
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, path)
	n, _ := strconv.Atoi(digits)
	return n
}

// postgresVersion asks the programs in dir; an error if they are not all there or
// do not run.
func postgresVersion(ctx context.Context, dir string) (string, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", cmd, err, strings.TrimSpace(string(out)))
	}
	_, version, ok := strings.Cut(string(out), "(PostgreSQL) ")
	if !ok {
		return "", fmt.Errorf("%s answers %q", cmd, out)
	}
	version, _, _ = strings.Cut(strings.TrimSpace(version), " ")
	return version, nil
}
