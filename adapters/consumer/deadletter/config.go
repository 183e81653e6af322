package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/outbox/record"
)

// Reader reads dead-letter topics and stores which dead letters are resolved;
// package kafka has one.
type Reader interface {
	// Bounds returns, for each partition of topic, the first offset and the
	// offset after the last record that readers may see.
	Bounds(ctx context.Context, topic string) (first, end map[int32]int64, err error)
	// Read calls fn, in order, forevery record of the partition with an offset of
	// at least from and less than to. It returns nil once it is certain that there
	// are no more, and stops with fn's error. fn may call Read.
	Read(ctx context.Context, topic string, partition int32, from, to int64, fn func(rec *record.Record, value []byte) error) error
	// Progress returns the committed offsets of group, and their metadata, for
	// the partitions of topic that have one.
	Progress(ctx context.Context, topic, group string) (offsets map[int32]int64, metadata map[int32]string, err error)
	// Commit stores an offset of group and its metadata, at most 4 KiB of text.
	Commit(ctx context.Context, topic, group string, partition int32, offset int64, metadata string) error
}

// Config configures the work on dead letters. The zero value replays all open
// dead letters of a topic that is named after its source.
type Config struct {
	// Source is the topic that dead letters are sent back to. Default: the name
	// of the dead-letter topic without ".dlt", or without Spring Kafka's "-dlt" or
	// ".DLT".
	Source string
	// Targets are the topics that dead letters may be sent back to, each to the
	// one that it names as its origin. A dead letter of another origin is refused.
	// Default: Source alone.
	Targets []string
	// Parking names the topic that parked dead letters of a source topic are moved
	// to. Default ParkingTopic.
	Parking func(source string) string
	// Filter chooses the dead letters. Default: all.
	Filter Filter
	// AllGroups lets every consumer group handle replayed messages. Default: only
	// the group that failed.
	AllGroups bool
	// ByKey makes a dead letter that cannot be sent hold back only the later dead
	// letters of its key. Default: one that the broker refuses stops its
	// partition, so that dead letters leave in the order in which they came.
	ByKey bool
	// Rate is the number of dead letters sent per second; -1 is no limit. Default
	// 50.
	Rate int
	// Max is the largest number of dead letters to work on. Default: no limit.
	Max int
	// MaxReplays is how often one message may be replayed. A dead letter that has
	// reached it is parked instead, and stays open if there is no parking topic.
	// Default 3.
	MaxReplays int
	// ProgressGroup is the consumer group whose committed offsets say which dead
	// letters are resolved. Default DefaultProgressGroup of the topic.
	ProgressGroup string
	// ID is written to the header dlt-replay-id and to the audit log. Default: a
	// random UUID.
	ID string
	// AuditLog records the operation, and keeps other operations away from the
	// topic while it runs. Default none: two replays at once may send a dead letter
	// twice.
	AuditLog AuditLog
	// Actor says who acts, and Note why. An audit log needs an Actor. Default: "".
	Actor, Note string
	// Quarantine hears of each dead letter that is skipped, discarded or parked,
	// and releases what waits behind it. Default none.
	Quarantine Quarantine
	// Lock keeps other operations away from the topic until unlock is called, or
	// returns an error while one runs. An AuditLog makes it unnecessary. Default
	// none.
	Lock func(ctx context.Context) (unlock func(), err error)
	// OnProgress is called after each batch with the counts so far. Default none.
	OnProgress func(Result)
}

// Topic is the name of the dead-letter topic of source.
func Topic(source string) string { return source + record.DeadLetterSuffix }

// ParkingSuffix follows the source topic in the name of a parking topic.
const ParkingSuffix = ".parking"

// ParkingTopic is the name of the topic of the parked dead letters of source.
func ParkingTopic(source string) string { return source + ParkingSuffix }

// DefaultProgressGroup is the consumer group that stores which dead letters of a
// dead-letter topic are resolved.
func DefaultProgressGroup(topic string) string { return "millrace-dlt-" + topic }

// suffixes are ours and those of Spring Kafka, the current one and the older one.
var suffixes = []string{record.DeadLetterSuffix, "-dlt", ".DLT"}

// sourceOf is the topic of a dead-letter topic, "" if its name does not say.
func sourceOf(topic string) string {
	for _, suffix := range suffixes {
		if source, ok := strings.CutSuffix(topic, suffix); ok {
			return source
		}
	}
	return ""
}

// validate names every field that is missing or out of range.
func (c Config) validate(topic string, reader Reader) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(records.IsTopic(topic), "topic: must be the name of a topic, is %q", topic)
	check(reader != nil, "reader: must be set, is nil")
	check(c.Source != "" || sourceOf(topic) != "", "Source: must be set, as topic %q ends in none of %q", topic, suffixes)
	for _, target := range append([]string{c.Source}, c.Targets...) {
		check(target == "" || records.IsTopic(target), "Source, Targets: must be names of topics, is %q", target)
		check(target == "" || target != topic, "Source, Targets: must not be the dead-letter topic itself, is %q", target)
	}
	check(c.Rate >= -1, "Rate: must be positive or -1, is %d", c.Rate)
	check(c.Max >= 0, "Max: must not be negative, is %d", c.Max)
	check(c.MaxReplays >= 0, "MaxReplays: must not be negative, is %d", c.MaxReplays)
	return errors.Join(errs...)
}

// validateWork names what else is wrong with an operation.
func (c Config) validateWork() error {
	if len(c.Filter.States) == 0 || slices.Equal(c.Filter.States, []State{StateOpen}) {
		return nil
	}
	return fmt.Errorf("Filter.States: must be %q or empty, as only open dead letters can be worked on, is %q", StateOpen, c.Filter.States)
}

func (c Config) withDefaults(topic string) Config {
	c.Source = cmp.Or(c.Source, sourceOf(topic))
	if len(c.Targets) == 0 {
		c.Targets = []string{c.Source}
	}
	if c.Parking == nil {
		c.Parking = ParkingTopic
	}
	c.Rate = cmp.Or(c.Rate, 50)
	c.MaxReplays = cmp.Or(c.MaxReplays, 3)
	c.ProgressGroup = cmp.Or(c.ProgressGroup, DefaultProgressGroup(topic))
	if c.ID == "" {
		c.ID = uuid.NewString()
	}
	if c.Lock == nil {
		c.Lock = func(context.Context) (func(), error) { return func() {}, nil }
	}
	if c.OnProgress == nil {
		c.OnProgress = func(Result) {}
	}
	return c
}
