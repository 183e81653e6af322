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

	"github.com/millrace-go/millrace/test/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. Given a file name it writes its process id there
// once all servers answer, and removes the file at the end.
func run(ctx context.Context, args []string, out, log io.Writer) (err error) {
	if len(args) > 1 {
		return errors.New("usage: servers [pid-file]")
	}
	opt := harness.OptionsFromEnv()
	opt.Real = true
	servers, err := harness.Start(ctx, opt, log)
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, servers.Stop(stopping))
	}()
	for _, v := range [][2]string{
		{"MILLRACE_POSTGRES", servers.Postgres.DSN()}, {harness.EnvPostgres, servers.Postgres.DSN()},
		{"MILLRACE_KAFKA", strings.Join(servers.Kafka.Brokers(), ",")}, {harness.EnvKafka, strings.Join(servers.Kafka.Brokers(), ",")},
		{"MILLRACE_REDIS", servers.Redis.URL()}, {harness.EnvRedis, servers.Redis.URL()},
	} {
		fmt.Fprintf(out, "export %s='%s'\n", v[0], v[1])
	}
	if len(args) == 1 {
		if err := os.WriteFile(args[0], []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
			return err
		}
		defer os.Remove(args[0])
	}
	<-ctx.Done()
	return nil
}
