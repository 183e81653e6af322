package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

const topicRelay = "bench.millrace"

// relay is what `millrace relay` runs, under a name of its own each round, so
// that it starts at the first row.
func (a *drainBench) relay(ctx context.Context, round int) error {
	db, err := pgstore.Open(a.set.Postgres, pgstore.OpenConfig{})
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		return err
	}
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: a.set.Kafka})
	if err != nil {
		return err
	}
	r, err := outbox.NewRelay(store, pub, outbox.RelayConfig{Name: fmt.Sprintf("bench-%d", round)})
	if err != nil {
		return errors.Join(err, pub.Close())
	}
	err = r.Run(ctx)
	return errors.Join(err, pub.Close())
}
