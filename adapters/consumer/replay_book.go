package consumer

import (
	"context"
	"errors"
	"time"
)

// ErrTopicBusy means that another act on the dead letters of the topic is under
// way.
var ErrTopicBusy = errors.New("somebody else is working on these dead letters")

// Book records what was done to dead letters, by whom, and what became of each
// letter; package audit keeps one in Postgres. It also keeps two acts on one
// topic apart.
type Book interface {
	// Open records the beginning of an act. It returns ErrTopicBusy while another
	// act on the topic is under way.
	Open(ctx context.Context, act Act) (Page, error)
	// Decisions returns what became of letters of one partition with an offset
	// from from up to, but not including, to, by offset.
	Decisions(ctx context.Context, topic string, partition int32, from, to int64) (map[int64]Decision, error)
}

// Page is the record of an act under way. Its methods are called by one
// goroutine at a time.
type Page interface {
	// Forget drops what is known of letters before the given offsets: they are no
	// longer on the topic.
	Forget(ctx context.Context, first map[int32]int64) error
	// Write stores what became of letters, and the counts so far, at once. It
	// fails if another act has taken the topic over meanwhile.
	Write(ctx context.Context, decisions []Decision, counts ReplayResult) error
	// Close records the end of the act; cause is nil if it came to its end.
	Close(ctx context.Context, counts ReplayResult, cause error) error
}

// Act is one thing that somebody does to the letters of a topic.
type Act struct {
	ID     string // ReplayConfig.ID
	Action Action
	Topic  string // the dead-letter topic
	Actor  string // who
	Note   string // why
	Filter Filter
}

// Decision is what became of one letter.
type Decision struct {
	Partition int32
	Offset    int64
	// WrittenAt is the timestamp of the letter's record. It tells a letter from
	// one that lay at the same offset of an earlier topic of the same name.
	WrittenAt time.Time
	State     State
	Group     string // the letter's consumer group
	EventID   string // empty if it has none

	// The act that decided. Decisions tells them, Write ignores them.
	Act, Actor, Note string
	At               time.Time
}

// of reports whether the decision was taken on l, not on another at its place.
func (d *Decision) of(l *Letter) bool {
	return d.WrittenAt.UnixMilli() == l.Record.Timestamp.UnixMilli()
}

// bookWindow is how many offsets a ledger looks up at once.
const bookWindow = 10_000

// ledger knows what became of the letters of one partition, by the progress that
// earlier acts committed and by the Book. Letters are to be asked for in order.
type ledger struct {
	book      Book // may be nil
	topic     string
	partition int32
	done      progress

	from, to int64 // what decisions covers
	decided  map[int64]Decision
}

// state sets the state of l.
func (g *ledger) state(ctx context.Context, l *Letter) error {
	offset := l.Record.Offset
	if g.done.has(offset) {
		l.State = StateSettled
	}
	if g.book == nil {
		return nil
	}
	if offset < g.from || offset >= g.to {
		decided, err := g.book.Decisions(ctx, g.topic, g.partition, offset, offset+bookWindow)
		if err != nil {
			return err
		}
		g.from, g.to, g.decided = offset, offset+bookWindow, decided
	}
	if d, ok := g.decided[offset]; ok && d.of(l) {
		l.State, l.Decision = d.State, &d
	}
	return nil
}
