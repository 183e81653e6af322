package cli_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

func TestMigrate_AppliesWhatIsPending(t *testing.T) {
	t.Parallel()
	db := harness.EmptyDatabase(t)
	env := map[string]string{"DATABASE_URL": db.DSN}

	applied := func(args ...string) (names []string, all int) {
		got := run(t, env, append([]string{"migrate"}, args...)...)
		require.Zero(t, got.code, got.stderr)
		var list []struct {
			Line    string
			Applied bool
		}
		require.NoError(t, json.Unmarshal([]byte(got.out), &list))
		for _, m := range list {
			if m.Applied {
				names = append(names, m.Line)
			}
		}
		return names, len(list)
	}
	some, all := applied("status", "--line=all", "--json")
	require.Empty(t, some)
	require.GreaterOrEqual(t, all, 2)

	some, _ = applied("up", "--json")
	require.Contains(t, some, "outbox")
	require.NotContains(t, some, "service")
	some, _ = applied("up", "--line=all", "--json")
	require.Contains(t, some, "service")
	require.NotContains(t, some, "outbox")

	got := run(t, env, "migrate", "up", "--line=all")
	require.Zero(t, got.code)
	require.Equal(t, "nothing to apply\n", got.out)
	some, all = applied("status", "--line=all", "--json")
	require.Len(t, some, all)
}

func TestDoctor_FindsWhatIsWrongWithTheOutbox(t *testing.T) {
	t.Parallel()
	t.Run("all is well", func(t *testing.T) {
		t.Parallel()
		got := run(t, nil, "doctor", "--postgres", harness.NewDatabase(t).DSN, "--json")
		require.Zero(t, got.code, got.out)
		s := statuses(t, got.out)
		for _, name := range []string{"postgres version", "postgres primary", "migrations", "outbox guard", "partitions", "oldest open writer", "parked messages", "listener"} {
			require.Equal(t, "ok", s[name], name)
		}
		require.Equal(t, "skip", s["kafka"])
		require.Equal(t, "skip", s["redis"])
	})
	t.Run("parked messages that still wait", func(t *testing.T) {
		t.Parallel()
		db := harness.NewDatabase(t)
		insert := `INSERT INTO outbox_parked (relay, position, topic, key, reason, state) VALUES ('relay', $1, 't', 'k', 'r', $2)`
		for i, c := range []struct{ state, grade string }{{"redriven", "ok"}, {"parked", "warn"}} {
			_, err := db.DB.Exec(insert, i+1, c.state)
			require.NoError(t, err)
			got := run(t, nil, "doctor", "--postgres", db.DSN, "--json")
			require.Equal(t, c.grade, statuses(t, got.out)["parked messages"], got.out)
		}
	})
	t.Run("a listener that nothing reaches", func(t *testing.T) {
		t.Parallel()
		other := harness.EmptyDatabase(t) // notifications stay within their database
		got := run(t, nil, "doctor", "--postgres", harness.NewDatabase(t).DSN, "--listen-postgres", other.DSN, "--json")
		require.Zero(t, got.code, got.out)
		require.Equal(t, "warn", statuses(t, got.out)["listener"])
	})
	t.Run("no migrations", func(t *testing.T) {
		t.Parallel()
		got := run(t, nil, "doctor", "--postgres", harness.EmptyDatabase(t).DSN)
		require.Equal(t, 3, got.code)
		require.Contains(t, got.out, "run millrace migrate up")
	})
	t.Run("sequence with a cache", func(t *testing.T) {
		t.Parallel()
		db := harness.NewDatabase(t)
		_, err := db.DB.Exec(`ALTER SEQUENCE outbox_position_seq CACHE 20`)
		require.NoError(t, err)
		got := run(t, nil, "doctor", "--postgres", db.DSN)
		require.Equal(t, 3, got.code)
		require.Contains(t, got.out, "CACHE 20")
	})
	t.Run("a forgotten prepared transaction", func(t *testing.T) {
		t.Parallel()
		db := harness.NewDatabase(t)
		tx, err := db.DB.Begin()
		require.NoError(t, err)
		_, err = tx.Exec(`SELECT outbox_append('t', 'k', 'x'::text)`)
		require.NoError(t, err)
		_, err = tx.Exec(`PREPARE TRANSACTION 'forgotten'`)
		require.NoError(t, err)
		_ = tx.Rollback()
		t.Cleanup(func() { _, _ = db.DB.Exec(`ROLLBACK PREPARED 'forgotten'`) })
		got := run(t, nil, "doctor", "--postgres", db.DSN, "--json")
		require.Zero(t, got.code, got.out)
		require.Equal(t, "warn", statuses(t, got.out)["oldest open writer"])
	})
}

func TestDoctor_LooksAtKafkaAndRedis(t *testing.T) {
	t.Parallel()
	db, rdb, topic := harness.NewDatabase(t), harness.Redis(t), harness.Topic(t, 3)
	args := []string{"doctor", "--postgres", db.DSN, "--redis", rdb.Options().Addr, "--kafka", harness.Brokers(t)[0], "--json", "--topics"}
	got := run(t, nil, append(args, topic)...)
	require.Zero(t, got.code, "who only relays needs no dead-letter topic: %s", got.out)
	s := statuses(t, got.out)
	require.Equal(t, "ok", s["kafka"])
	require.Equal(t, "ok", s["redis"])
	require.Equal(t, "warn", s["topic "+topic+".dlt"])

	got = run(t, nil, append(args, topic+".none")...)
	require.Equal(t, 3, got.code)
	require.Equal(t, "fail", statuses(t, got.out)["topic "+topic+".none"])
}

func TestDoctor_WarnsOfPoliciesThatTakeLocks(t *testing.T) {
	t.Parallel()
	db, r := harness.NewDatabase(t), harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	for policy, status := range map[string]string{
		"allkeys-lru": "ok", "allkeys-lfu": "ok", "noeviction": "ok",
		"volatile-lru": "warn", "volatile-ttl": "warn", "allkeys-random": "warn",
	} {
		require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory-policy", policy).Err())
		got := run(t, nil, "doctor", "--postgres", db.DSN, "--redis", r.Addr(), "--json")
		require.Equal(t, status, statuses(t, got.out)["redis eviction policy"], "%s: %s", policy, got.out)
		if status == "warn" {
			require.Contains(t, got.out, "maxmemory-policy allkeys-lru")
		}
	}
}

func TestLag_CountsWhatNoRelayHasDelivered(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	got := run(t, nil, "lag", "--postgres", db.DSN)
	require.Zero(t, got.code, got.stderr)
	require.Contains(t, got.out, "no relay has run")

	for range 3 {
		_, err := db.DB.Exec(`SELECT outbox_append('t', 'k', 'x'::text)`)
		require.NoError(t, err)
	}
	_, err := db.DB.Exec(`INSERT INTO outbox_cursor (relay, position) VALUES ('r', 1)`)
	require.NoError(t, err)
	var report struct {
		Relays []struct {
			Relay          string
			Messages, Gaps int64
			Seconds        float64
			Leads          bool
		}
	}
	require.Eventually(t, func() bool {
		got = run(t, nil, "lag", "--postgres", db.DSN, "--json")
		require.NoError(t, json.Unmarshal([]byte(got.out), &report))
		return len(report.Relays) == 1 && report.Relays[0].Seconds > 0.01
	}, 2*time.Minute, 10*time.Millisecond)
	require.Equal(t, int64(2), report.Relays[0].Messages)
	require.Equal(t, "r", report.Relays[0].Relay)
	require.False(t, report.Relays[0].Leads)

	require.Zero(t, run(t, nil, "lag", "--postgres", db.DSN, "--fail-above", "1h").code)
	got = run(t, nil, "lag", "--postgres", db.DSN, "--fail-above", "1ms")
	require.Equal(t, 3, got.code)
	require.Contains(t, got.stderr, "relay r lags by")
	require.Contains(t, got.out, "RELAY", "the figures are printed all the same")
}
