package deadletter

import (
	"context"
	"errors"
	"time"
)

// ErrTopicBusy means that another operation on the dead letters of the topic is
// running.
var ErrTopicBusy = errors.New("another operation is working on these dead letters")

// AuditLog records what was done to dead letters, by whom, and what became of
// each; package audit keeps one in Postgres. It lets only one operation at a time
// work on a topic.
type AuditLog interface {
	// Open records the beginning of an operation. It returns ErrTopicBusy while
	// another one on the topic is running.
	Open(ctx context.Context, op Operation) (Entry, error)
	// Decisions returns what became of dead letters of one partition with an
	// offset of at least from and less than to, by offset.
	Decisions(ctx context.Context, topic string, partition int32, from, to int64) (map[int64]Decision, error)
}

// Entry is the entry of a running operation in an AuditLog. Its methods are called
// by one goroutine at a time.
type Entry interface {
	// Forget removes decisions on dead letters before the given offsets, which are
	// no longer on the topic.
	Forget(ctx context.Context, first map[int32]int64) error
	// Write stores decisions and the counts so far, all or nothing. It fails if
	// another operation has taken the topic over.
	Write(ctx context.Context, decisions []Decision, counts Result) error
	// Close records the end of the operation; cause is nil if it succeeded.
	Close(ctx context.Context, counts Result, cause error) error
}

// Operation is one action of one person on the dead letters of a topic.
type Operation struct {
	ID     string // Config.ID
	Action Action
	Topic  string // the dead-letter topic
	Actor  string // who
	Note   string // why
	Filter Filter
}

// Decision is what became of one dead letter.
type Decision struct {
	Partition int32
	Offset    int64
	// WrittenAt is the timestamp of the dead letter's record. It tells the dead
	// letter from one at the same offset of an earlier topic of the same name.
	WrittenAt time.Time
	State     State
	Group     string // the dead letter's consumer group
	EventID   string // empty if it has none

	// The operation that decided. AuditLog.Decisions sets these fields,
	// Entry.Write ignores them.
	Operation, Actor, Note string
	At                     time.Time
}

// isAbout reports whether the decision was taken on m, not on another dead letter
// at its place.
func (d *Decision) isAbout(m *Message) bool {
	return d.WrittenAt.UnixMilli() == m.Record.Timestamp.UnixMilli()
}

// decisionsAtOnce is how many offsets a stateReader looks up in one call.
const decisionsAtOnce = 10_000

// stateReader finds the states of the dead letters of one partition, from the
// progress that earlier operations committed and from the AuditLog. Ask for dead
// letters in order.
type stateReader struct {
	log       AuditLog // may be nil
	topic     string
	partition int32
	resolved  progress

	from, to  int64 // what decisions covers
	decisions map[int64]Decision
}

// read sets the state of m.
func (r *stateReader) read(ctx context.Context, m *Message) error {
	offset := m.Record.Offset
	if r.resolved.has(offset) {
		m.State = StateResolved
	}
	if r.log == nil {
		return nil
	}
	if offset < r.from || offset >= r.to {
		found, err := r.log.Decisions(ctx, r.topic, r.partition, offset, offset+decisionsAtOnce)
		if err != nil {
			return err
		}
		r.from, r.to, r.decisions = offset, offset+decisionsAtOnce, found
	}
	if d, ok := r.decisions[offset]; ok && d.isAbout(m) {
		m.State, m.Decision = d.State, &d
	}
	return nil
}
