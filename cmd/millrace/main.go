// Command millrace runs and looks after a transactional outbox: the relay, its
// schema, its lag and its health; and shows it at work with demo and bench.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9/logging"

	"github.com/millrace-go/millrace/cmd/millrace/internal/cli"
)

func main() {
	logging.Disable() // what the client has to say comes back as errors
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		first := (<-signals).(syscall.Signal)
		cancel(cli.Interrupted{Signal: first})
		second := (<-signals).(syscall.Signal) // the user insists
		os.Exit(128 + int(second))
	}()
	os.Exit(cli.Run(ctx, os.Args[1:], cli.Process{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv,
	}))
}
