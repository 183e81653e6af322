package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/outbox/record"
)

// progressRetention is how long brokers keep what DeadLetters commits. By default
// they forget the offsets of a group without members after 7 days, and dead letters
// are kept longer than that.
const progressRetention = 10 * 365 * 24 * time.Hour

// ErrNoTopic means that there is no such topic.
var ErrNoTopic = errors.New("topic does not exist")

// DeadLetters reads dead-letter topics, and stores which dead letters were replayed
// as the committed offsets of a consumer group. It connects when it is first used.
// It is safe for concurrent use.
//
// A user only constructs and closes it: the other methods are what package
// adapters/consumer/deadletter calls.
type DeadLetters struct {
	cfg  Config
	sc   *sarama.Config
	link *link
}

// NewDeadLetters returns a reader, or everything that is wrong with cfg.
func NewDeadLetters(cfg Config) (*DeadLetters, error) {
	sc, err := cfg.saramaConfig()
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &DeadLetters{cfg: cfg, sc: sc, link: newLink(cfg, sc)}, nil
}

// Close ends the calls that are running, except Read, and the connection. It returns
// nil.
func (d *DeadLetters) Close() error {
	d.link.close()
	return nil
}

// Bounds returns, for each partition of topic, the first offset and the offset
// after the last record whose transaction, if any, has ended.
func (d *DeadLetters) Bounds(ctx context.Context, topic string) (first, end map[int32]int64, err error) {
	first, end = map[int32]int64{}, map[int32]int64{}
	err = d.link.do(ctx, func(client sarama.Client, _ sarama.ClusterAdmin) error {
		partitions, err := client.Partitions(topic)
		if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return fmt.Errorf("topic %s: %w: give the source topic of dead letters that were written", topic, ErrNoTopic)
		}
		if err != nil {
			return fmt.Errorf("partitions of %s: %w", topic, err)
		}
		for _, p := range partitions {
			if first[p], err = offsetAt(client, topic, p, sarama.OffsetOldest); err != nil {
				return fmt.Errorf("first offset of %s/%d: %w", topic, p, err)
			}
			if end[p], err = offsetAt(client, topic, p, sarama.OffsetNewest); err != nil {
				return fmt.Errorf("end of %s/%d: %w", topic, p, err)
			}
		}
		return nil
	})
	return first, end, err
}

// offsetAt is client.GetOffset for readers of committed records: it does not count
// what open transactions have written.
func offsetAt(client sarama.Client, topic string, partition int32, at int64) (int64, error) {
	leader, err := client.Leader(topic, partition)
	if err != nil {
		return 0, err
	}
	req := sarama.NewOffsetRequest(client.Config().Version)
	req.IsolationLevel = sarama.ReadCommitted
	req.AddBlock(topic, partition, at, 1)
	res, err := leader.GetAvailableOffsets(req)
	if err != nil {
		return 0, err
	}
	block := res.GetBlock(topic, partition)
	switch {
	case block == nil:
		return 0, sarama.ErrIncompleteResponse
	case block.Err != sarama.ErrNoError:
		if refresh := client.RefreshMetadata(topic); refresh != nil {
			return 0, refresh
		}
		return 0, block.Err
	}
	return block.Offset, nil
}

// Progress returns the committed offsets of group in topic, and their metadata,
// for the partitions that have one.
func (d *DeadLetters) Progress(ctx context.Context, topic, group string) (offsets map[int32]int64, metadata map[int32]string, err error) {
	offsets, metadata = map[int32]int64{}, map[int32]string{}
	err = d.link.do(ctx, func(client sarama.Client, admin sarama.ClusterAdmin) error {
		partitions, err := client.Partitions(topic)
		if err != nil {
			return fmt.Errorf("partitions of %s: %w", topic, err)
		}
		return d.withCoordinator(ctx, client, group, func() error {
			return progressOf(admin, topic, group, partitions, offsets, metadata)
		})
	})
	return offsets, metadata, err
}

// progressOf reads the committed offsets into the two maps.
func progressOf(admin sarama.ClusterAdmin, topic, group string, partitions []int32, offsets map[int32]int64, metadata map[int32]string) error {
	res, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: partitions})
	if errors.Is(err, sarama.ErrGroupIDNotFound) {
		return nil // nobody has committed
	}
	if err != nil {
		return fmt.Errorf("offsets of group %s: %w", group, err)
	}
	for _, p := range partitions {
		block := res.GetBlock(topic, p)
		if block == nil || block.Err == sarama.ErrNoError && block.Offset < 0 || block.Err == sarama.ErrGroupIDNotFound {
			continue
		}
		if block.Err != sarama.ErrNoError {
			return fmt.Errorf("offset of group %s in %s/%d: %w", group, topic, p, block.Err)
		}
		offsets[p], metadata[p] = block.Offset, block.Metadata
	}
	return nil
}

// Commit stores an offset of group with its metadata, to be kept for ten years.
// The group must have no members.
func (d *DeadLetters) Commit(ctx context.Context, topic, group string, partition int32, offset int64, metadata string) error {
	err := d.link.do(ctx, func(client sarama.Client, _ sarama.ClusterAdmin) error {
		return d.commit(ctx, client, topic, group, partition, offset, metadata)
	})
	if err != nil {
		return fmt.Errorf("commit offset of group %s in %s/%d: %w", group, topic, partition, err)
	}
	return nil
}

func (d *DeadLetters) commit(ctx context.Context, client sarama.Client, topic, group string, partition int32, offset int64, metadata string) error {
	req := &sarama.OffsetCommitRequest{
		Version:                 4, // the last one that takes a retention
		ConsumerGroup:           group,
		ConsumerGroupGeneration: sarama.GroupGenerationUndefined,
		RetentionTime:           progressRetention.Milliseconds(),
	}
	req.AddBlock(topic, partition, offset, 0, metadata)
	for attempt := 1; ; attempt++ {
		err := d.withCoordinator(ctx, client, group, func() error {
			coordinator, err := client.Coordinator(group)
			if err != nil {
				return err
			}
			res, err := coordinator.CommitOffset(req)
			if err != nil {
				return err
			}
			return kerror(res.Errors[topic][partition])
		})
		if err == nil || attempt == readAttempts || isFinal(err) || isCoordinatorError(err) {
			return err
		}
		if err := d.pause(ctx, attempt); err != nil {
			return err
		}
		_ = client.RefreshCoordinator(group) // the next attempt reports what is wrong
	}
}

// coordinatorTimeout bounds how long a call waits for the coordinator of its group.
const coordinatorTimeout = time.Minute

// withCoordinator calls f until the coordinator of group answers it. On a new
// cluster, and after a broker has failed, another broker becomes the coordinator:
// it refuses requests until it has loaded the offsets.
func (d *DeadLetters) withCoordinator(ctx context.Context, client sarama.Client, group string, f func() error) error {
	began := time.Now()
	for attempt := 1; ; attempt++ {
		err := f()
		if !isCoordinatorError(err) || time.Since(began) > coordinatorTimeout {
			return err
		}
		if err := d.pause(ctx, attempt); err != nil {
			return err
		}
		_ = client.RefreshCoordinator(group) // the next attempt reports what is wrong
	}
}

// isCoordinatorError reports that a group's coordinator is not ready, or is another
// broker now.
func isCoordinatorError(err error) bool {
	return errors.Is(err, sarama.ErrOffsetsLoadInProgress) || errors.Is(err, sarama.ErrNotCoordinatorForConsumer) ||
		errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable)
}

// Read calls fn, in order, for every record of the partition from offset from up
// to, but not including, to. It skips records of aborted transactions and those that
// retention has removed meanwhile. It returns nil once the whole range has been
// read, and stops with fn's error.
func (d *DeadLetters) Read(ctx context.Context, topic string, partition int32, from, to int64, fn func(rec *record.Record, value []byte) error) error {
	if from >= to {
		return nil
	}
	l := newLink(d.cfg, d.sc) // its own: fn may call the other methods
	defer l.close()
	return l.do(ctx, func(client sarama.Client, _ sarama.ClusterAdmin) error {
		r := &rangeReader{topic: topic, partition: partition, next: from, end: to, fn: fn, size: fetchSize}
		return d.read(ctx, client, r)
	})
}

// readAttempts bounds the attempts in a row that make no progress.
const readAttempts = 8

func (d *DeadLetters) read(ctx context.Context, client sarama.Client, r *rangeReader) error {
	for attempt := 0; r.next < r.end; {
		block, err := r.fetch(client)
		if err == nil {
			before := r.next
			if err := r.deliver(block); err != nil {
				return err
			}
			if r.next > before {
				attempt = 0
				continue
			}
		}
		if attempt++; attempt == readAttempts {
			if err == nil {
				err = errNoProgress
			}
			return fmt.Errorf("read %s/%d at offset %d: %w", r.topic, r.partition, r.next, err)
		}
		if err := d.pause(ctx, attempt); err != nil {
			return err
		}
		_ = client.RefreshMetadata(r.topic) // the next attempt reports what is wrong
	}
	return nil
}

// pause waits before the next attempt.
func (d *DeadLetters) pause(ctx context.Context, attempt int) error {
	if backoff.Sleep(ctx, d.cfg.backoff(attempt)) != nil {
		return context.Cause(ctx)
	}
	return nil
}

func kerror(code sarama.KError) error {
	if code == sarama.ErrNoError {
		return nil
	}
	return code
}

// isFinal reports that another attempt would get the same answer.
func isFinal(err error) bool {
	var code sarama.KError
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case sarama.ErrOffsetMetadataTooLarge, sarama.ErrTopicAuthorizationFailed, sarama.ErrGroupAuthorizationFailed,
		sarama.ErrUnknownMemberId, sarama.ErrIllegalGeneration, sarama.ErrInvalidGroupId:
		return true
	}
	return false
}
