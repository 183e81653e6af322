package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

const (
	topicCeiling = "bench.ceiling"
	ceilingPage  = 5000
)

// ceiling reads pages with a plain "position > last" and throws them at an
// asynchronous producer. It loses late commits, forgets where it was, does not
// look at acknowledgements and may reorder on a retry; it shows what Postgres,
// Sarama and Kafka can do on this machine when nothing is promised.
func (a *drainBench) ceiling(ctx context.Context, _ int) error {
	sc := sarama.NewConfig()
	sc.Version = sarama.MaxVersion
	sc.Producer.RequiredAcks = sarama.WaitForLocal
	sc.Producer.Compression = sarama.CompressionLZ4
	sc.Producer.Partitioner = sarama.NewMurmur2Partitioner
	sc.Producer.Return.Errors = true
	producer, err := sarama.NewAsyncProducer(a.set.Kafka, sc)
	if err != nil {
		return fmt.Errorf("producer: %w", err)
	}
	var g errgroup.Group
	g.Go(func() error {
		var errs []error
		for e := range producer.Errors() {
			errs = append(errs, e.Err)
		}
		return errors.Join(errs...)
	})
	pages := make(chan []*sarama.ProducerMessage, 4)
	g.Go(func() error {
		defer close(pages)
		return a.readPages(ctx, pages)
	})
	for page := range pages {
		for _, m := range page {
			producer.Input() <- m
		}
	}
	<-ctx.Done()
	producer.AsyncClose()
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (a *drainBench) readPages(ctx context.Context, pages chan<- []*sarama.ProducerMessage) error {
	conn, err := a.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	page, err := conn.PrepareContext(ctx, `SELECT position, event_id, key, aggregate_type, aggregate_id, aggregate_version, event_type, payload, created_at
FROM outbox WHERE position > $1 ORDER BY position LIMIT $2`)
	if err != nil {
		return err
	}
	defer page.Close()
	var last int64
	for {
		rows, err := page.QueryContext(ctx, last, ceilingPage)
		if err != nil {
			return err
		}
		msgs, end, err := scanPage(rows)
		if err != nil {
			return err
		}
		if len(msgs) == 0 {
			return nil
		}
		last = end
		select {
		case pages <- msgs:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func scanPage(rows *sql.Rows) (msgs []*sarama.ProducerMessage, last int64, err error) {
	defer rows.Close()
	msgs = make([]*sarama.ProducerMessage, 0, ceilingPage)
	for rows.Next() {
		var id uuid.UUID
		var key, aggType, aggID, eventType string
		var version int64
		var payload []byte
		var created sql.NullTime
		if err := rows.Scan(&last, &id, &key, &aggType, &aggID, &version, &eventType, &payload, &created); err != nil {
			return nil, 0, err
		}
		msgs = append(msgs, &sarama.ProducerMessage{
			Topic: topicCeiling, Key: sarama.StringEncoder(key), Value: sarama.ByteEncoder(payload),
			Headers: []sarama.RecordHeader{
				{Key: []byte("event-id"), Value: []byte(id.String())},
				{Key: []byte("event-type"), Value: []byte(eventType)},
				{Key: []byte("aggregate-type"), Value: []byte(aggType)},
				{Key: []byte("aggregate-id"), Value: []byte(aggID)},
				{Key: []byte("aggregate-version"), Value: strconv.AppendInt(nil, version, 10)},
				{Key: []byte("occurred-at"), Value: created.Time.UTC().AppendFormat(nil, "2006-01-02T15:04:05.999999999Z07:00")},
			},
		})
	}
	return msgs, last, rows.Err()
}
