// Command notifier is the reference service: it takes requests to notify people,
// stores each together with its event, relays the events to Kafka and keeps Redis
// views of them, with the outbox and its relay embedded as libraries.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(Run(ctx, os.Args[1:], os.Getenv, os.Stderr))
}
