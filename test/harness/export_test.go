package harness

import (
	"context"
	"os"
	"time"

	"github.com/millrace-go/millrace/test/internal/fetch"
	"github.com/millrace-go/millrace/test/internal/proc"
)

// EnvIdleTimeout sets idleTimeout of the supervisors that this test binary starts.
// It is read as the package's variables are made, before a supervisor's life begins.
const EnvIdleTimeout = "HARNESS_TEST_IDLE_TIMEOUT"

var _ = func() bool {
	d, err := time.ParseDuration(os.Getenv(EnvIdleTimeout))
	if err == nil {
		idleTimeout = d
	}
	return err == nil
}()

// SharedRedis is what Redis(t) uses, for programs that are not tests.
func SharedRedis(ctx context.Context) (*RedisServer, error) { return shared.Redis(ctx) }

// ScanTopic is how ReadTopic reads.
func ScanTopic(ctx context.Context, brokers []string, topic string, each func(Record) error) error {
	return scanTopic(ctx, brokers, topic, each)
}

// DataDir is the folder of a private server.
func (s *Server) DataDir() string { return s.dir }

// FetchedPostgres starts a server from the programs that the harness fetches.
func FetchedPostgres(ctx context.Context) (*PostgresServer, error) {
	bin, err := fetch.FetchPostgres(ctx)
	if err != nil {
		return nil, err
	}
	who, err := proc.Unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := proc.MakeDir("postgres")
	if err != nil {
		return nil, err
	}
	return launchPostgres(ctx, PostgresConfig{}, bin, who, dir)
}
