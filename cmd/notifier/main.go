// Command notifier is the reference service: it takes requests to notify people,
// stores each together with its event, relays the events to Kafka and keeps Redis
// views of them, with the outbox and its relay embedded as libraries. Its command
// rebuild builds one of the views again from the outbox's log.
//
// Reference code: no compatibility promise.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		cancel(Interrupted{(<-signals).(syscall.Signal)})
		os.Exit(128 + int((<-signals).(syscall.Signal))) // a second signal ends the process at once
	}()
	os.Exit(Run(ctx, os.Args[1:], Process{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}))
}
