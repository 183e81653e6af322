package config_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

var relayUse = config.Use{
	Required: []config.Name{config.Postgres, config.Kafka},
	Optional: []config.Name{config.Redis, config.Lease, config.LogFormat, config.LogLevel, config.BatchRows, config.Dev},
}

type sources struct {
	flags []string
	env   map[string]string
	file  string
}

func load(t *testing.T, s sources) (*config.Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(fs, relayUse)
	require.NoError(t, fs.Parse(s.flags))
	path := ""
	if s.file != "" {
		path = write(t, "millrace.yaml", s.file)
	}
	return config.Load(fs, func(k string) string { return s.env[k] }, path, relayUse)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestLoad_TakesTheStrongestSource(t *testing.T) {
	t.Parallel()
	file := "postgres: postgres://file/db\nkafka: [file:1, file:2]\nlease: 4s\n"
	env := map[string]string{
		"MILLRACE_POSTGRES": "postgres://env/db", "DATABASE_URL": "postgres://alias/db",
		"KAFKA_BROKERS": "alias:1", "MILLRACE_LEASE": "5s",
	}
	cases := map[string]struct {
		from     sources
		postgres string
		kafka    []string
		lease    time.Duration
	}{
		"file over default":     {sources{file: file}, "postgres://file/db", []string{"file:1", "file:2"}, 4 * time.Second},
		"environment over file": {sources{file: file, env: env}, "postgres://env/db", []string{"alias:1"}, 5 * time.Second},
		"flag over all": {
			sources{file: file, env: env, flags: []string{"--postgres=postgres://flag/db", "--lease=6s"}},
			"postgres://flag/db", []string{"alias:1"}, 6 * time.Second,
		},
		"default last": {
			sources{flags: []string{"--postgres=postgres://flag/db", "--kafka=a:1"}},
			"postgres://flag/db", []string{"a:1"}, 2 * time.Second,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := load(t, tc.from)
			require.NoError(t, err)
			require.Equal(t, tc.postgres, c.Postgres)
			require.Equal(t, tc.kafka, c.Kafka)
			require.Equal(t, tc.lease, c.Lease)
		})
	}
}

func TestLoad_ReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load(t, sources{
		flags: []string{"--kafka=nohost,b:99999", "--lease=soon"},
		env:   map[string]string{"MILLRACE_LOG_FORMAT": "xml", "REDIS_URL": "ftp://u:hush@h"},
		file:  "batch-rows: 0\nkafak: typo\n\nlog-level:\n  deep: down\n",
	})
	require.Error(t, err)
	for _, want := range []string{
		`postgres: is missing: give --postgres, MILLRACE_POSTGRES or DATABASE_URL`,
		`kafka (flag --kafka): has "nohost", which is not host:port`,
		`has "b:99999", whose port`,
		`lease (flag --lease): is "soon"`,
		`log-format (env MILLRACE_LOG_FORMAT): is "xml": give text or json`,
		`redis (env REDIS_URL): is not a Redis URL`,
		`millrace.yaml:2:1: unknown key "kafak"`,
		`millrace.yaml:4:1: key "log-level" must be a single value`,
		`batch-rows (file `,
	} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "hush")
}

func TestLoad_ReadsSecretsFromFiles(t *testing.T) {
	t.Parallel()
	secret := write(t, "dsn", "postgres://u:pw@h/db\n")
	env := map[string]string{"DATABASE_URL_FILE": secret, "KAFKA_BROKERS": "a:1"}

	c, err := load(t, sources{env: env})
	require.NoError(t, err)
	require.Equal(t, "postgres://u:pw@h/db", c.Postgres)

	env["DATABASE_URL"] = "postgres://other/db"
	_, err = load(t, sources{env: env})
	require.ErrorContains(t, err, "both DATABASE_URL and DATABASE_URL_FILE are set")
}

func TestLoad_NamesAFileThatIsNotThereOrIsNoYAML(t *testing.T) {
	t.Parallel()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	none := func(string) string { return "" }
	_, err := config.Load(fs, none, "/no/such.yaml", config.Use{})
	require.ErrorContains(t, err, "/no/such.yaml")
	require.ErrorIs(t, err, os.ErrNotExist)

	_, err = load(t, sources{file: "kafka: [a:1\npostgres: x"})
	require.ErrorContains(t, err, "--config")
	_, err = load(t, sources{file: "- a\n- b\n"})
	require.ErrorContains(t, err, "must be a mapping")
}

func TestRedact_HidesPasswords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"postgres://u:hush@h:5432/db":          "postgres://u:xxxxx@h:5432/db",
		"postgres://h/db?password=hush&user=u": "postgres://h/db?password=xxxxx&user=u",
		"host=h password=hush dbname=d":        "host=h password=xxxxx dbname=d",
		"host=h password = 'hu sh' dbname=d":   "host=h password=xxxxx dbname=d",
		"redis://:hush@h:6379/0":               "redis://:xxxxx@h:6379/0",
		"postgres://u@h/db":                    "postgres://u@h/db",
		"postgres://u:hu%zzsh@h/db":            "xxxxx",
	} {
		require.Equal(t, want, config.Redact(in))
	}
}
