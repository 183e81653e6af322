package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Replay sends dead letters of topic back to the topic they came from: to their
// original partition, with their original key, value and headers, without the
// headers that describe the failure, and marked for the group that failed. Each
// partition is sent in its order, up to the end it had when the replay began. What
// was sent is stored as committed offsets, so a second run does not send it again;
// a crash may repeat up to 2,000 dead letters, which handlers recognise by their
// event id.
//
// publisher must keep the order of its messages, return only once the broker has
// them, and honour the record.Record in their contexts. It is not closed.
//
// A dead letter that was replayed MaxReplays times goes to its parking topic
// instead. With an error the result counts what was done before it.
func Replay(ctx context.Context, topic string, reader Reader, publisher message.Publisher, cfg Config) (Result, error) {
	return work(ctx, &run{action: ActionReplay, topic: topic, reader: reader, publisher: publisher, cfg: cfg})
}

// Park moves dead letters of topic to the parking topic of the topic they came
// from, with all their headers and those that say who parked them. publisher is as
// for Replay.
func Park(ctx context.Context, topic string, reader Reader, publisher message.Publisher, cfg Config) (Result, error) {
	return work(ctx, &run{action: ActionPark, topic: topic, reader: reader, publisher: publisher, cfg: cfg})
}

// Skip marks dead letters of topic as dealt with by other means: nothing is sent,
// and they are no longer open.
func Skip(ctx context.Context, topic string, reader Reader, cfg Config) (Result, error) {
	return work(ctx, &run{action: ActionSkip, topic: topic, reader: reader, cfg: cfg})
}

// Discard marks dead letters of topic as given up. It differs from Skip only in
// what the AuditLog says.
func Discard(ctx context.Context, topic string, reader Reader, cfg Config) (Result, error) {
	return work(ctx, &run{action: ActionDiscard, topic: topic, reader: reader, cfg: cfg})
}

// Preview counts what an action would do. It changes nothing, sends nothing and
// records nothing.
func Preview(ctx context.Context, action Action, topic string, reader Reader, cfg Config) (Result, error) {
	cfg.Lock = nil
	return work(ctx, &run{action: action, preview: true, topic: topic, reader: reader, cfg: cfg})
}

func work(ctx context.Context, r *run) (Result, error) {
	if err := r.validate(); err != nil {
		return Result{}, fmt.Errorf("deadletter: %w", err)
	}
	r.cfg = r.cfg.withDefaults(r.topic)
	unlock, err := r.cfg.Lock(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("%s %s: %w", r.action, r.topic, err)
	}
	defer unlock()
	r.pace = pacer{rate: r.cfg.Rate}
	if !r.action.sends() {
		r.pace.rate = -1
	}
	r.result = Result{ID: r.cfg.ID, Action: r.action, Preview: r.preview}
	if err := r.audited(ctx); err != nil {
		return r.counts(), fmt.Errorf("%s %s: %w", r.action, r.topic, err)
	}
	return r.counts(), nil
}

// run is one operation that is running, or its preview.
type run struct {
	action    Action
	preview   bool
	topic     string
	reader    Reader
	publisher message.Publisher
	cfg       Config

	entry  Entry // nil without an audit log and in a preview
	pace   pacer
	chosen int // by the reading goroutine, which minds Max

	mu     sync.Mutex
	result Result

	// Of the sending goroutine.
	noParking map[string]bool // parking topics that do not exist
	heldKeys  map[string]bool // of the partition at work
}

func (r *run) validate() error {
	errs := []error{r.cfg.validate(r.topic, r.reader), r.cfg.validateWork()}
	if r.action.state() == StateResolved {
		errs = append(errs, fmt.Errorf("action: must be replay, skip, discard or park, is %q", r.action))
	}
	if r.action.sends() && !r.preview && r.publisher == nil {
		errs = append(errs, errors.New("publisher: must be set, is nil"))
	}
	if r.cfg.AuditLog != nil && !r.preview && r.cfg.Actor == "" {
		errs = append(errs, errors.New("Actor: must be set, as the audit log records who acts"))
	}
	return errors.Join(errs...)
}

func (r *run) counts() Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.result
	res.Stopped = slices.Clone(res.Stopped)
	return res
}

func (r *run) count(f func(*Result)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.result)
}

// audited does the work between the beginning and the end of an audit entry.
func (r *run) audited(ctx context.Context) (err error) {
	if r.preview || r.cfg.AuditLog == nil {
		return r.do(ctx)
	}
	r.entry, err = r.cfg.AuditLog.Open(ctx, Operation{
		ID: r.cfg.ID, Action: r.action, Topic: r.topic, Actor: r.cfg.Actor, Note: r.cfg.Note, Filter: r.cfg.Filter,
	})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := withGrace(ctx)
		defer cancel()
		err = errors.Join(err, r.entry.Close(closing, r.counts(), err))
	}()
	return r.do(ctx)
}

func (r *run) do(ctx context.Context) error {
	scans, err := plan(ctx, r.topic, r.reader, &r.cfg)
	if err != nil {
		return err
	}
	if r.entry != nil {
		first := map[int32]int64{}
		for _, s := range scans {
			first[s.partition] = s.first
		}
		if err := r.entry.Forget(ctx, first); err != nil {
			return err
		}
	}
	for _, s := range scans {
		r.result.Total += max(0, s.end-s.from)
	}
	for _, s := range scans {
		if s.from >= s.end {
			continue
		}
		if err := r.partition(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// stepsAhead is how many steps may wait between reading and sending, and how many
// between sending and recording. With the one being sent and those being recorded
// it bounds what a crash can send twice: 2,000 dead letters.
const stepsAhead = 1

// partition reads, sends and records the dead letters of one partition. The three
// run at the same time, each in the order of the topic. What was sent is recorded
// even if ctx has ended or something has failed.
func (r *run) partition(ctx context.Context, s *scan) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	recording, done := withGrace(ctx)
	defer done()
	read, sent := make(chan *step, stepsAhead), make(chan *step, stepsAhead)
	r.heldKeys = map[string]bool{}

	var readErr, sendErr error
	var work sync.WaitGroup
	work.Go(func() {
		defer close(read)
		if readErr = r.read(ctx, s, read); readErr != nil {
			cancel(readErr)
		}
	})
	work.Go(func() {
		defer close(sent)
		if sendErr = r.sendAll(ctx, s, read, sent); sendErr != nil {
			cancel(sendErr)
		}
		for range read { // the reader may wait to hand one over
		}
	})
	recordErr := r.recordAll(recording, s, sent)
	if recordErr != nil {
		cancel(recordErr)
		for range sent {
		}
	}
	work.Wait()
	switch {
	case recordErr != nil:
		return recordErr
	case errors.Is(sendErr, errStopped):
		return nil
	case sendErr != nil:
		return sendErr
	}
	return readErr
}

// errStopped ends the work on a partition at a dead letter that cannot be sent.
var errStopped = errors.New("partition stopped")

// graceTime is how long what was sent may still be recorded when the context has
// ended.
const graceTime = 10 * time.Second

// withGrace is a context that ends graceTime after ctx, or with cancel.
func withGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	extended, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(graceTime, cancel)
		context.AfterFunc(extended, func() { timer.Stop() })
	})
	return extended, func() {
		stop()
		cancel()
	}
}
