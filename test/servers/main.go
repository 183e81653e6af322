// Command servers starts Postgres, Kafka and Redis for work on a service, prints
// their addresses as environment variables that millrace and the tests read, and
// stops them when it is interrupted. They keep nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace-go/millrace/test/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case errors.Is(err, pflag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

const usage = `Starts Postgres, Kafka and Redis, prints their addresses as "export NAME='VALUE'"
lines on standard output, and stops them on Ctrl-C or SIGTERM. They keep nothing.

A server that MILLRACE_POSTGRES_URL, MILLRACE_KAFKA_BROKERS or MILLRACE_REDIS_URL
names is used instead of a new one, and left running. Postgres is downloaded if it
is not installed; Kafka needs Java 17, and Redis must be installed.

  go run ./test/servers --topic orders:6 --topic orders.dlt:6

Flags:
`

// config is what the flags say.
type config struct {
	options harness.Options
	pidFile string
	topics  []topic
}

type topic struct {
	name       string
	partitions int
}

// parse reads the flags and names all their problems at once.
func parse(args []string, help io.Writer) (config, error) {
	c := config{options: harness.OptionsFromEnv()}
	c.options.Real = true
	flags := pflag.NewFlagSet("servers", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.IntVar(&c.options.Postgres.Port, "postgres-port", 0, "port of Postgres (default a free one below 32768)")
	flags.IntVar(&c.options.Kafka.Port, "kafka-port", 0, "port of Kafka (default a free one below 32768)")
	flags.IntVar(&c.options.Redis.Port, "redis-port", 0, "port of Redis (default a free one below 32768)")
	topics := flags.StringArray("topic", nil, "topic to create, as name:partitions; may be repeated")
	flags.StringVar(&c.pidFile, "pid-file", "", "file for the process id, written when all servers answer and removed at the end")
	flags.Usage = func() { fmt.Fprint(help, usage, flags.FlagUsages()) }
	if err := flags.Parse(args); err != nil {
		return config{}, err
	}
	var problems []error
	if flags.NArg() > 0 {
		problems = append(problems, fmt.Errorf("no arguments besides flags, got %q; the file for the process id is --pid-file now", flags.Args()))
	}
	for _, p := range []struct {
		flag string
		port int
	}{{"postgres-port", c.options.Postgres.Port}, {"kafka-port", c.options.Kafka.Port}, {"redis-port", c.options.Redis.Port}} {
		if p.port < 0 || p.port > 65535 {
			problems = append(problems, fmt.Errorf("--%s: must be 1 to 65535, or 0 for a free one, is %d", p.flag, p.port))
		}
	}
	for _, t := range *topics {
		name, count, _ := strings.Cut(t, ":")
		n, err := strconv.Atoi(count)
		if name == "" || err != nil || n < 1 {
			problems = append(problems, fmt.Errorf("--topic: must be name:partitions with at least 1 partition, is %q", t))
		}
		c.topics = append(c.topics, topic{name, n})
	}
	return c, errors.Join(problems...)
}

func run(ctx context.Context, args []string, out, log io.Writer) error {
	c, err := parse(args, out)
	if err != nil {
		return err
	}
	return serve(ctx, c, out, log)
}

// serve starts the servers, prints their addresses and stops them when ctx ends.
func serve(ctx context.Context, c config, out, log io.Writer) (err error) {
	servers, err := harness.Start(ctx, c.options, log)
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, servers.Stop(stopping))
	}()
	for _, t := range c.topics {
		err := harness.CreateTopic(ctx, servers.Kafka.Brokers(), t.name, t.partitions)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return err
		}
	}
	printAddresses(out, servers)
	if c.pidFile != "" {
		if err := os.WriteFile(c.pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
			return err
		}
		defer os.Remove(c.pidFile)
	}
	<-ctx.Done()
	return nil
}

// printAddresses writes each address under the name that the programs read and
// the name that the tests read.
func printAddresses(out io.Writer, s *harness.Servers) {
	brokers := strings.Join(s.Kafka.Brokers(), ",")
	for _, v := range [][2]string{
		{"MILLRACE_POSTGRES", s.Postgres.DSN()}, {harness.EnvPostgres, s.Postgres.DSN()},
		{"MILLRACE_KAFKA", brokers}, {harness.EnvKafka, brokers},
		{"MILLRACE_REDIS", s.Redis.URL()}, {harness.EnvRedis, s.Redis.URL()},
	} {
		fmt.Fprintf(out, "export %s='%s'\n", v[0], v[1])
	}
}
