package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// maxReplayBatch is the most letters that are sent in one go.
const maxReplayBatch = 500

// replayDepth is how many batches may wait between reading and sending, and how
// many between sending and remembering. With the one being sent and those being
// remembered it bounds what a crash can send twice: 2,000 letters.
const replayDepth = 1

// Replay sends dead letters back to the topic they came from: to their original
// partition, with their original key, value and headers, without the headers
// that tell of the failure, and marked for the group that failed. Each partition
// goes in its order, up to the end it had when the replay began. What is sent is
// remembered as committed offsets, so a second run does not send it again; a
// crash may repeat up to 2,000 letters, which handlers tell by the event id.
//
// A letter that was replayed MaxReplays times goes to its parking topic instead.
// With an error the result counts what was done before it.
func Replay(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	return work(ctx, cfg, ActionReplay)
}

// Skip marks letters as dealt with by other means: nothing is sent, and they are
// not offered again.
func Skip(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	return work(ctx, cfg, ActionSkip)
}

// Discard marks letters as data given up. It does what Skip does and is told
// apart from it in the Book.
func Discard(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	return work(ctx, cfg, ActionDiscard)
}

// Park moves letters to the parking topic of the topic they came from, with all
// their headers and those that tell who parked them.
func Park(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	return work(ctx, cfg, ActionPark)
}

func work(ctx context.Context, cfg ReplayConfig, action Action) (ReplayResult, error) {
	if err := cfg.validate(action); err != nil {
		return ReplayResult{}, err
	}
	cfg.setDefaults()
	unlock, err := cfg.Lock(ctx)
	if err != nil {
		return ReplayResult{}, fmt.Errorf("%s %s: %w", action, cfg.Topic, err)
	}
	defer unlock()
	r := &replay{cfg: &cfg, action: action, pace: pacer{rate: cfg.Rate}}
	r.result = ReplayResult{ID: cfg.ID, Action: action, DryRun: !cfg.Execute}
	if action == ActionSkip || action == ActionDiscard {
		r.pace.rate = -1 // nothing is sent
	}
	if err := r.recorded(ctx); err != nil {
		return r.counts(), fmt.Errorf("%s %s: %w", action, cfg.Topic, err)
	}
	return r.counts(), nil
}

// replay is one act under way.
type replay struct {
	cfg    *ReplayConfig
	action Action
	page   Page // nil without a book and in a dry run
	pace   pacer
	chosen int // by the reader, which minds Max

	mu         sync.Mutex
	result     ReplayResult
	noParking  map[string]bool // parking topics that are not there; the sender's
	heldKeys   map[string]bool // of the partition under way; the sender's
	stopReason string          // of the partition under way; the sender's
}

func (r *replay) counts() ReplayResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.result
	res.Stopped = slices.Clone(res.Stopped)
	return res
}

func (r *replay) count(f func(*ReplayResult)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.result)
}

// recorded runs the act between two entries of the book.
func (r *replay) recorded(ctx context.Context) (err error) {
	if !r.cfg.Execute || r.cfg.Book == nil {
		return r.run(ctx)
	}
	r.page, err = r.cfg.Book.Open(ctx, Act{
		ID: r.cfg.ID, Action: r.action, Topic: r.cfg.Topic, Actor: r.cfg.Actor, Note: r.cfg.Note, Filter: r.cfg.Filter,
	})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := grace(ctx)
		defer cancel()
		err = errors.Join(err, r.page.Close(closing, r.counts(), err))
	}()
	return r.run(ctx)
}

func (r *replay) run(ctx context.Context) error {
	scans, err := plan(ctx, r.cfg)
	if err != nil {
		return err
	}
	if r.page != nil {
		first := map[int32]int64{}
		for _, s := range scans {
			first[s.partition] = s.first
		}
		if err := r.page.Forget(ctx, first); err != nil {
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

// scan is one partition's part of an act.
type scan struct {
	partition  int32
	first      int64 // that the topic still has
	from, end  int64 // to read
	seen       *recent
	progress   progress
	remembered progress // what was committed last

	// The keeper's: everything below passed is counted, tail follows the last
	// letter, and tailSettled tells of that.
	passed, tail int64
	tailSettled  bool
}

// plan fixes the bounds and the earlier progress of the partitions that the
// filter admits.
func plan(ctx context.Context, cfg *ReplayConfig) ([]*scan, error) {
	first, end, err := cfg.Reader.Bounds(ctx, cfg.Topic)
	if err != nil {
		return nil, err
	}
	offsets, metadata, err := cfg.Reader.Progress(ctx, cfg.Topic, cfg.ProgressGroup)
	if err != nil {
		return nil, err
	}
	var scans []*scan
	for _, partition := range slices.Sorted(maps.Keys(end)) {
		if len(cfg.Filter.Partitions) > 0 && !slices.Contains(cfg.Filter.Partitions, partition) {
			continue
		}
		s := &scan{partition: partition, first: first[partition], end: end[partition], seen: newRecent()}
		s.progress.low = s.first
		// A commit beyond the end belongs to an earlier topic of this name.
		if low, ok := offsets[partition]; ok && low <= s.end {
			if s.progress, err = decodeProgress(low, metadata[partition]); err != nil {
				return nil, err
			}
			s.progress.add(low, max(low, s.first)) // retention has removed what is between
		}
		s.from = max(s.first, s.progress.low, cfg.Filter.FromOffset)
		if to := cfg.Filter.ToOffset; to > 0 {
			s.end = min(s.end, to)
		}
		s.remembered, s.passed, s.tail = s.progress.clone(), s.from, s.from
		s.tailSettled = s.progress.has(s.from - 1)
		scans = append(scans, s)
	}
	return scans, nil
}

// partition reads, sends and remembers the letters of one partition, the three at
// the same time, in the order of the topic. What was sent is remembered also when
// ctx has ended meanwhile or something has failed.
func (r *replay) partition(ctx context.Context, s *scan) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keeping, done := grace(ctx)
	defer done()
	read, sent := make(chan *step, replayDepth), make(chan *step, replayDepth)
	r.heldKeys, r.stopReason = map[string]bool{}, ""

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
	keepErr := r.keepAll(keeping, s, sent)
	if keepErr != nil {
		cancel(keepErr)
		for range sent {
		}
	}
	work.Wait()
	switch {
	case keepErr != nil:
		return keepErr
	case errors.Is(sendErr, errStopped):
		return nil
	case sendErr != nil:
		return sendErr
	}
	return readErr
}

// errStopped ends the work on a partition at a letter that cannot be sent.
var errStopped = errors.New("partition stopped")

// graceTime is how long what was sent may still be remembered when the context
// has ended.
const graceTime = 10 * time.Second

// grace is a context that ends graceTime after ctx, or with cancel.
func grace(ctx context.Context) (context.Context, context.CancelFunc) {
	kept, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(graceTime, cancel)
		context.AfterFunc(kept, func() { timer.Stop() })
	})
	return kept, func() {
		stop()
		cancel()
	}
}
