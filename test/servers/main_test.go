package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestParse_NamesAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := parse([]string{"--kafka-port", "70000", "--topic", "orders", "--topic", ":3", "--topic", "fine:2", "/tmp/pid"}, &bytes.Buffer{})
	require.EqualError(t, err, `no arguments besides flags, got ["/tmp/pid"]; the file for the process id is --pid-file now
--kafka-port: must be 1 to 65535, or 0 for a free one, is 70000
--topic: must be name:partitions with at least 1 partition, is "orders"
--topic: must be name:partitions with at least 1 partition, is ":3"`)
}

func TestParse_HelpTellsWhatTheFlagsDo(t *testing.T) {
	t.Parallel()
	var help bytes.Buffer
	_, err := parse([]string{"-h"}, &help)
	require.ErrorIs(t, err, pflag.ErrHelp)
	require.Contains(t, help.String(), "--topic stringArray")
	require.Contains(t, help.String(), "--pid-file")
}

func TestServe_MakesTopicsAndPrintsAddressesUntilItIsStopped(t *testing.T) {
	t.Parallel()
	pg, kafka := harness.PrivatePostgres(t, harness.PostgresConfig{}), harness.PrivateKafka(t, harness.KafkaConfig{Twin: true})
	r := harness.PrivateRedis(t, harness.RedisConfig{Twin: true})
	c, err := parse([]string{"--topic", "orders:2"}, &bytes.Buffer{})
	require.NoError(t, err)
	require.Equal(t, []topic{{"orders", 2}}, c.topics)

	var out, log bytes.Buffer
	pidFile := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	c.pidFile = pidFile
	c.options.Postgres.URL, c.options.Kafka.Brokers, c.options.Redis.URL = pg.DSN(), kafka.Brokers(), r.URL()
	go func() { done <- serve(ctx, c, &out, &log) }()
	harness.Await(t, 2*time.Minute, "the process id is written", func(context.Context) error {
		if text, err := os.ReadFile(pidFile); err != nil || string(text) != strconv.Itoa(os.Getpid())+"\n" {
			return errors.Join(err, errors.New(string(text)))
		}
		return nil
	})
	require.Empty(t, harness.ReadTopic(t, kafka.Brokers(), "orders"))
	cancel()
	require.NoError(t, <-done)
	require.Contains(t, out.String(), "export MILLRACE_POSTGRES_URL='"+pg.DSN()+"'\n")
	require.Contains(t, out.String(), "export MILLRACE_REDIS='"+r.URL()+"'\n")
	require.NoFileExists(t, pidFile)
}
