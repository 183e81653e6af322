package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox"
)

// DeadLetterReader reads dead-letter topics and remembers what was replayed;
// package kafka has one.
type DeadLetterReader interface {
	// Bounds returns, for each partition of topic, the first offset and the
	// offset after the last record that readers may see.
	Bounds(ctx context.Context, topic string) (first, end map[int32]int64, err error)
	// Read calls fn, in order, for every record of the partition with an offset
	// from from up to, but not including, to. It returns nil once it is certain
	// that there are no more, and stops with fn's error.
	Read(ctx context.Context, topic string, partition int32, from, to int64, fn func(rec *outbox.Record, value []byte) error) error
	// Progress returns the committed offsets of group, and their metadata, for
	// the partitions of topic that have one.
	Progress(ctx context.Context, topic, group string) (offsets map[int32]int64, metadata map[int32]string, err error)
	// Commit stores an offset of group and its metadata, at most 4 KiB of text.
	Commit(ctx context.Context, topic, group string, partition int32, offset int64, metadata string) error
}

// ReplayConfig configures Replay and List. Topic, Reader and, to replay,
// Publisher are required.
type ReplayConfig struct {
	// Topic is the dead-letter topic.
	Topic  string
	Reader DeadLetterReader
	// Publisher sends the letters back. Publish must keep the order of its
	// messages, return only once the broker has them, and honour the
	// outbox.Record in their contexts. It is not closed.
	Publisher message.Publisher
	// Source is the topic that letters go back to. Letters that name another
	// origin are refused. Default Topic without DeadLetterSuffix.
	Source string
	// Filter chooses the letters. Default all.
	Filter Filter
	// Execute sends; without it the replay only counts what it would do.
	Execute bool
	// AllGroups lets every consumer group handle the letters again. Default:
	// only the group that failed.
	AllGroups bool
	// Rate is the number of letters per second; -1 is no limit. Default 50.
	Rate int
	// Max is the most letters to send; 0 is no limit.
	Max int
	// MaxReplays is how often one message may be replayed; letters that reached
	// it stay where they are. Default 3.
	MaxReplays int
	// ProgressGroup is the consumer group whose committed offsets tell what was
	// replayed. Default ReplayGroup(Topic).
	ProgressGroup string
	// ID is written to dlt-replay-id. Default a random UUID.
	ID string
	// Lock keeps other replays of the topic away until unlock is called, or
	// returns an error while one runs. Default none: two replays at once may send
	// a letter twice.
	Lock func(ctx context.Context) (unlock func(), err error)
	// OnProgress is called after each batch with the counts so far.
	OnProgress func(ReplayResult)
}

// ReplayGroup is the consumer group that remembers the replays of a dead-letter
// topic.
func ReplayGroup(topic string) string { return "millrace-dlt-" + topic }

// Validate names every field that is missing or out of range.
func (c *ReplayConfig) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("replay: "+format, args...))
		}
	}
	check(topicName.MatchString(c.Topic), "topic %q is not a topic name", c.Topic)
	check(c.Source != "" || len(c.Topic) > len(DeadLetterSuffix) && strings.HasSuffix(c.Topic, DeadLetterSuffix),
		"source is missing, and topic %q does not end in %s", c.Topic, DeadLetterSuffix)
	check(c.Source == "" || topicName.MatchString(c.Source), "source %q is not a topic name", c.Source)
	check(c.Source == "" || c.Source != c.Topic, "source is the dead-letter topic itself")
	check(c.Reader != nil, "reader is missing")
	check(c.Publisher != nil || !c.Execute, "publisher is missing")
	check(c.Rate >= -1, "rate must be positive or -1, is %d", c.Rate)
	check(c.Max >= 0, "max must not be negative, is %d", c.Max)
	check(c.MaxReplays >= 0, "max replays must not be negative, is %d", c.MaxReplays)
	return errors.Join(errs...)
}

func (c *ReplayConfig) setDefaults() {
	if c.Source == "" {
		c.Source = strings.TrimSuffix(c.Topic, DeadLetterSuffix)
	}
	if c.Rate == 0 {
		c.Rate = 50
	}
	if c.MaxReplays == 0 {
		c.MaxReplays = 3
	}
	if c.ProgressGroup == "" {
		c.ProgressGroup = ReplayGroup(c.Topic)
	}
	if c.ID == "" {
		c.ID = uuid.NewString()
	}
	if c.Lock == nil {
		c.Lock = func(context.Context) (func(), error) { return func() {}, nil }
	}
	if c.OnProgress == nil {
		c.OnProgress = func(ReplayResult) {}
	}
}

// ReplayResult counts letters. Those that are not counted as replayed, now or
// earlier, stay and can be replayed later.
type ReplayResult struct {
	ID       string
	DryRun   bool
	Total    int64 // offsets from the start of the scan to its end
	Scanned  int64 // offsets passed so far
	Letters  int   // letters that were not yet replayed
	Replayed int   // sent, or would be sent in a dry run
	Filtered int   // not chosen by the filter, or beyond Max
	Capped   int   // replayed MaxReplays times before
	Refused  int   // from another topic, of no known group, without its value, or not taken by the broker
}
