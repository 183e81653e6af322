package harness

import (
	"context"
	"os"
	"time"
)

// EnvLinger sets the linger of the supervisors that this test binary starts. It
// is read as the package's variables are made, before a supervisor's life begins.
const EnvLinger = "HARNESS_TEST_LINGER"

var _ = func() bool {
	d, err := time.ParseDuration(os.Getenv(EnvLinger))
	if err == nil {
		linger = d
	}
	return err == nil
}()

// SharedRedis is what Redis(t) uses, for programs that are no tests.
func SharedRedis(ctx context.Context) (*RedisServer, error) { return shared.Redis(ctx) }

// DataDir is the folder of a private server.
func (s *server) DataDir() string { return s.dir }

// Alive reports whether a process exists.
func Alive(pid int) bool { return alive(pid) }

// FreezeTree pauses a process and its descendants.
func FreezeTree(pid int) error { return freezeTree(pid) }

// FetchedPostgres starts a server from the programs that the harness fetches.
func FetchedPostgres(ctx context.Context) (*PostgresServer, error) {
	bin, err := fetchPostgres(ctx)
	if err != nil {
		return nil, err
	}
	who, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := makeDir("postgres")
	if err != nil {
		return nil, err
	}
	return launchPostgres(ctx, PostgresConfig{}, bin, who, dir)
}
