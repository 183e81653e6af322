package harness

import (
	"context"
	"testing"
	"time"
)

// PrivatePostgres is StartPostgres for a test that breaks its server: it is
// stopped at the end of the test, and a start that fails is the test's failure.
func PrivatePostgres(t testing.TB, cfg PostgresConfig) *PostgresServer {
	t.Helper()
	p, err := StartPostgres(t.Context(), cfg)
	if err != nil {
		t.Fatal("harness:", err)
	}
	own(t, p.Server)
	return p
}

// PrivateKafka is StartKafka for a test that breaks its broker.
func PrivateKafka(t testing.TB, cfg KafkaConfig) *KafkaServer {
	t.Helper()
	k, err := StartKafka(t.Context(), cfg)
	if err != nil {
		t.Fatal("harness:", err)
	}
	own(t, k.Server)
	return k
}

// PrivateRedis is StartRedis for a test that breaks its server.
func PrivateRedis(t testing.TB, cfg RedisConfig) *RedisServer {
	t.Helper()
	r, err := StartRedis(t.Context(), cfg)
	if err != nil {
		t.Fatal("harness:", err)
	}
	own(t, r.Server)
	return r
}

func own(t testing.TB, s *Server) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error("harness:", err)
		}
	})
}
