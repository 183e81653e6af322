package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox/record"
)

// DeadLetterReader reads dead-letter topics and remembers what was dealt with;
// package kafka has one.
type DeadLetterReader interface {
	// Bounds returns, for each partition of topic, the first offset and the
	// offset after the last record that readers may see.
	Bounds(ctx context.Context, topic string) (first, end map[int32]int64, err error)
	// Read calls fn, in order, for every record of the partition with an offset
	// from from up to, but not including, to. It returns nil once it is certain
	// that there are no more, and stops with fn's error. fn may call Read.
	Read(ctx context.Context, topic string, partition int32, from, to int64, fn func(rec *record.Record, value []byte) error) error
	// Progress returns the committed offsets of group, and their metadata, for
	// the partitions of topic that have one.
	Progress(ctx context.Context, topic, group string) (offsets map[int32]int64, metadata map[int32]string, err error)
	// Commit stores an offset of group and its metadata, at most 4 KiB of text.
	Commit(ctx context.Context, topic, group string, partition int32, offset int64, metadata string) error
}

// ReplayConfig configures Replay and the other work on dead letters. Topic,
// Reader and, to replay or park, Publisher are required.
type ReplayConfig struct {
	// Topic is the dead-letter topic.
	Topic  string
	Reader DeadLetterReader
	// Publisher sends the letters back. Publish must keep the order of its
	// messages, return only once the broker has them, and honour the
	// record.Record in their contexts. It is not closed.
	Publisher message.Publisher
	// Source is the topic that letters go back to. Default Topic without
	// record.DeadLetterSuffix, or without "-dlt" or ".DLT" as Spring Kafka names it.
	Source string
	// Targets are the topics that letters may go back to, each to the one that
	// it names as its origin; letters of other origins are refused. Default
	// Source alone.
	Targets []string
	// Parking names the topic that takes letters that are parked. Default the
	// topic that the letter came from with ParkingSuffix.
	Parking func(source string) string
	// Filter chooses the letters. Default all.
	Filter Filter
	// Execute does it; without it the counts tell what would be done.
	Execute bool
	// AllGroups lets every consumer group handle the letters again. Default:
	// only the group that failed.
	AllGroups bool
	// ByKey makes a letter that cannot be sent hold back the later letters of
	// its key alone. Default: one that the broker does not take stops its
	// partition, so that letters leave in the order in which they came.
	ByKey bool
	// Rate is the number of letters per second; -1 is no limit. Default 50.
	Rate int
	// Max is the most letters to deal with; 0 is no limit.
	Max int
	// MaxReplays is how often one message may be replayed; letters that reached
	// it are parked instead, and stay where they are if there is no such topic.
	// Default 3.
	MaxReplays int
	// ProgressGroup is the consumer group whose committed offsets tell what was
	// dealt with. Default ReplayGroup(Topic).
	ProgressGroup string
	// ID is written to dlt-replay-id and to the Book. Default a random UUID.
	ID string
	// Book records the act, and keeps others away while it runs. Default none:
	// two replays at once may send a letter twice.
	Book Book
	// Actor is who acts and Note why, for the Book.
	Actor, Note string
	// Quarantine is told of each letter that is skipped, discarded or parked, so
	// that it lets go of what waits behind. Default none.
	Quarantine Quarantine
	// Lock keeps other replays of the topic away until unlock is called, or
	// returns an error while one runs. Default none; a Book needs none.
	Lock func(ctx context.Context) (unlock func(), err error)
	// OnProgress is called after each batch with the counts so far.
	OnProgress func(ReplayResult)
}

// ParkingSuffix is what follows the source topic in a parking topic's name.
const ParkingSuffix = ".parking"

// ParkingTopic is the topic of the parked letters of topic.
func ParkingTopic(topic string) string { return topic + ParkingSuffix }

// ReplayGroup is the consumer group that remembers what was done with the letters
// of a dead-letter topic.
func ReplayGroup(topic string) string { return "millrace-dlt-" + topic }

// deadLetterSuffixes are ours and those of Spring Kafka, today's and the older.
var deadLetterSuffixes = []string{record.DeadLetterSuffix, "-dlt", ".DLT"}

// sourceOf is the topic of a dead-letter topic, "" if its name does not tell.
func sourceOf(topic string) string {
	for _, suffix := range deadLetterSuffixes {
		if source, ok := strings.CutSuffix(topic, suffix); ok {
			return source
		}
	}
	return ""
}

// Validate names every field that is missing or out of range.
func (c *ReplayConfig) Validate() error { return c.validate(ActionReplay) }

func (c *ReplayConfig) validate(action Action) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("replay: "+format, args...))
		}
	}
	sends := action == ActionReplay || action == ActionPark
	check(topicName.MatchString(c.Topic), "topic %q is not a topic name", c.Topic)
	check(c.Source != "" || sourceOf(c.Topic) != "", "source is missing, and topic %q ends in none of %q", c.Topic, deadLetterSuffixes)
	for _, target := range append([]string{c.Source}, c.Targets...) {
		check(target == "" || topicName.MatchString(target), "source %q is not a topic name", target)
		check(target == "" || target != c.Topic, "source is the dead-letter topic itself")
	}
	check(c.Reader != nil, "reader is missing")
	check(c.Publisher != nil || !c.Execute || !sends, "publisher is missing")
	check(c.Rate >= -1, "rate must be positive or -1, is %d", c.Rate)
	check(c.Max >= 0, "max must not be negative, is %d", c.Max)
	check(c.MaxReplays >= 0, "max replays must not be negative, is %d", c.MaxReplays)
	check(c.Actor != "" || c.Book == nil || !c.Execute, "actor is missing: the book records who acts")
	check(len(c.Filter.States) == 0 || slices.Equal(c.Filter.States, []State{StateOpen}) || action == "",
		"filter: only open letters can be worked on")
	return errors.Join(errs...)
}

func (c *ReplayConfig) setDefaults() {
	if c.Source == "" {
		c.Source = sourceOf(c.Topic)
	}
	if len(c.Targets) == 0 {
		c.Targets = []string{c.Source}
	}
	if c.Parking == nil {
		c.Parking = ParkingTopic
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

// ReplayResult counts letters. Those that are not counted as dealt with, now or
// earlier, stay open and can be worked on later.
type ReplayResult struct {
	ID      string
	Action  Action
	DryRun  bool
	Total   int64 // offsets from the start of the scan to its end
	Scanned int64 // offsets passed so far
	Letters int   // open letters that were met

	// Dealt with, or would be in a dry run.
	Replayed   int
	Skipped    int
	Discarded  int
	Parked     int // asked for, or replayed MaxReplays times before
	Duplicates int // of a letter that was met before: settled with it

	// Left open.
	Filtered int // not chosen by the filter, or beyond Max
	Capped   int // replayed MaxReplays times before, and there is no topic to park them
	Refused  int // of a foreign origin, of no known group, without its value, or not taken by the broker
	Held     int // behind a refused letter of their partition, or of their key with ByKey

	// Stopped are the partitions that were given up at a letter.
	Stopped []Stop
}

// Stop is the letter at which a replay gave its partition up.
type Stop struct {
	Partition int32
	Offset    int64
	Reason    string
}

// Done is how many letters were dealt with, or would be in a dry run.
func (r *ReplayResult) Done() int {
	return r.Replayed + r.Skipped + r.Discarded + r.Parked + r.Duplicates
}
