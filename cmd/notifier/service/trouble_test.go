package service_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/notifier/service"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// nowhere is an address at which nothing listens.
func nowhere(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func TestRun_AnswersFromPostgresWhileRedisIsAwayAndCatchesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy := harness.NewProxy(t, w.redis.Options().Addr)
	w.cfg.RedisURL = fmt.Sprintf("redis://%s/%d", proxy.Addr(), w.redis.Options().DB)
	proxy.Cut()
	s := start(t, w.cfg)
	s.awaitReady(t)
	path := s.request(t)
	code, body, _ := call(t.Context(), "GET", s.url+path, "")
	require.Equal(t, http.StatusOK, code, "%s", body)

	require.NoError(t, proxy.Heal())
	w.awaitView(t, path, 1, "requested")
	s.end(t)
	require.Empty(t, harness.ReadTopic(t, w.cfg.Brokers, w.cfg.Topic+".dlt"), "a server that is away makes no dead letters")
}

func TestRun_WaitsForPostgresAndSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dsn, err := url.Parse(w.cfg.DatabaseURL)
	require.NoError(t, err)
	proxy := harness.NewProxy(t, dsn.Host)
	dsn.Host = proxy.Addr()
	w.cfg.DatabaseURL = dsn.String()
	proxy.Cut()

	s := start(t, w.cfg)
	harness.Await(t, within, "it tells what it waits for", func(ctx context.Context) error {
		code, body, _ := call(ctx, "GET", s.url+"/readyz", "")
		if code != http.StatusServiceUnavailable || !contains(body, "postgres at "+proxy.Addr()+" does not answer") {
			return fmt.Errorf("%d: %s", code, body)
		}
		return nil
	})
	code, _, _ := call(t.Context(), "GET", s.url+"/livez", "")
	require.Equal(t, http.StatusOK, code)

	require.NoError(t, proxy.Heal())
	s.awaitReady(t)
	w.awaitView(t, s.request(t), 1, "requested")
	s.end(t)
}

func TestRun_StopsAtOnceWhileItWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.Brokers = []string{nowhere(t)}
	s := start(t, w.cfg)
	harness.Await(t, within, "it waits for Kafka", func(ctx context.Context) error {
		_, body, _ := call(ctx, "GET", s.url+"/readyz", "")
		if !contains(body, "kafka at "+w.cfg.Brokers[0]) {
			return errors.New(string(body))
		}
		return nil
	})
	s.end(t)
}

func TestRun_RefusesADatabaseWithoutMigrationsUnlessItMayApplyThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	empty := harness.EmptyDatabase(t)
	w.cfg.DatabaseURL = empty.DSN
	s := start(t, w.cfg)
	select {
	case err := <-s.done:
		require.ErrorIs(t, err, outbox.ErrUnsafeLog)
		require.ErrorContains(t, err, "migrate")
	case <-time.After(within):
		t.Fatal("the service went on")
	}

	w.cfg.Migrate = true
	s = start(t, w.cfg)
	s.awaitReady(t)
	w.awaitView(t, s.request(t), 1, "requested")
	s.end(t)
}

func TestRun_ReportsEverythingThatIsWrongWithItsConfig(t *testing.T) {
	t.Parallel()
	err := service.Run(t.Context(), service.Config{
		DatabaseURL: "postgres://user:hunter2@host:none/db", RedisURL: "http://:hunter2@x", Addr: "8080", Partitions: -2, DrainTimeout: -1,
	})
	var refused *service.ConfigError
	require.ErrorAs(t, err, &refused)
	for _, field := range []string{"postgres", "redis", "kafka", "addr", "partitions", "drain timeout"} {
		require.ErrorContains(t, err, field+":")
	}
	require.NotContains(t, err.Error(), "hunter2")
}

func contains(body []byte, part string) bool { return strings.Contains(string(body), part) }
