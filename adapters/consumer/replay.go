package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox"
)

// maxReplayBatch is the most letters between two commits of progress, and so the
// most that a crash can send twice.
const maxReplayBatch = 500

// Replay sends dead letters back to the topic they came from: to their original
// partition, with their original key, value and headers, without the headers
// that tell of the failure, and marked for the group that failed. Each partition
// goes in its order, up to the end it had when the replay began. What is sent is
// remembered as committed offsets, so a second run does not send it again; a
// crash may repeat the last batch, which handlers tell by the event id.
//
// With an error the result counts what was done before it.
func Replay(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	if err := cfg.Validate(); err != nil {
		return ReplayResult{}, err
	}
	cfg.setDefaults()
	unlock, err := cfg.Lock(ctx)
	if err != nil {
		return ReplayResult{}, fmt.Errorf("replay %s: %w", cfg.Topic, err)
	}
	defer unlock()
	r := &replay{cfg: &cfg, result: ReplayResult{ID: cfg.ID, DryRun: !cfg.Execute}, pace: pacer{rate: cfg.Rate}}
	if err := r.run(ctx); err != nil {
		return r.result, fmt.Errorf("replay %s: %w", cfg.Topic, err)
	}
	return r.result, nil
}

// List calls fn for every letter that cfg.Filter chooses, replayed or not, by
// partition and offset, up to the end the topic had when List began.
func List(ctx context.Context, cfg ReplayConfig, fn func(Letter) error) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg.setDefaults()
	scans, err := plan(ctx, &cfg)
	if err != nil {
		return fmt.Errorf("list %s: %w", cfg.Topic, err)
	}
	for _, s := range scans {
		err := cfg.Reader.Read(ctx, cfg.Topic, s.partition, s.first, s.end, func(rec *outbox.Record, value []byte) error {
			l, _ := ReadLetter(rec, value)
			l.Replayed = s.before.has(rec.Offset)
			if !cfg.Filter.Match(&l) {
				return nil
			}
			return fn(l)
		})
		if err != nil {
			return fmt.Errorf("list %s: %w", cfg.Topic, err)
		}
	}
	return nil
}

// scan is one partition's part of a replay.
type scan struct {
	partition  int32
	first, end int64
	before     progress // of earlier replays
	sent       []int64  // letters passed that are done, now or earlier
	pending    []int64  // letters passed that are not
	pos        int64    // everything below has been passed
	batch      []*message.Message
	offsets    []int64 // of batch
}

// plan fixes the bounds and the earlier progress of every partition.
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
		s := &scan{partition: partition, first: first[partition], end: end[partition]}
		s.before.low = s.first
		// A commit beyond the end belongs to an earlier topic of this name.
		if low, ok := offsets[partition]; ok && low <= s.end {
			if s.before, err = decodeProgress(low, metadata[partition]); err != nil {
				return nil, err
			}
		}
		s.pos = max(s.first, s.before.low)
		scans = append(scans, s)
	}
	return scans, nil
}

type replay struct {
	cfg    *ReplayConfig
	result ReplayResult
	pace   pacer
}

func (r *replay) run(ctx context.Context) error {
	scans, err := plan(ctx, r.cfg)
	if err != nil {
		return err
	}
	for _, s := range scans {
		r.result.Total += s.end - s.pos
	}
	for _, s := range scans {
		if err := r.partition(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) partition(ctx context.Context, s *scan) error {
	if s.pos >= s.end {
		return nil
	}
	err := r.cfg.Reader.Read(ctx, r.cfg.Topic, s.partition, s.pos, s.end, func(rec *outbox.Record, value []byte) error {
		if s.before.has(rec.Offset) {
			s.sent = append(s.sent, rec.Offset)
		} else {
			r.take(s, rec, value)
		}
		r.pass(s, rec.Offset+1)
		if len(s.batch) >= r.batchSize() {
			return r.flush(ctx, s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.pass(s, s.end)
	return r.flush(ctx, s)
}

func (r *replay) pass(s *scan, pos int64) {
	r.result.Scanned += pos - s.pos
	s.pos = pos
}

// take decides on one letter: into the batch, or left where it is.
func (r *replay) take(s *scan, rec *outbox.Record, value []byte) {
	l, _ := ReadLetter(rec, value)
	r.result.Letters++
	switch {
	case !r.cfg.Filter.Match(&l), r.cfg.Max > 0 && r.result.Replayed+len(s.batch) >= r.cfg.Max:
		r.result.Filtered++
	case l.OriginalTopic != "" && l.OriginalTopic != r.cfg.Source, l.Group == "" && !r.cfg.AllGroups, l.ValueOmitted:
		r.result.Refused++
	case l.ReplayCount >= r.cfg.MaxReplays:
		r.result.Capped++
	default:
		s.batch = append(s.batch, r.message(&l))
		s.offsets = append(s.offsets, rec.Offset)
		return
	}
	s.pending = append(s.pending, rec.Offset)
}

// message is the record to send for a letter. Its context is set when it is sent.
func (r *replay) message(l *Letter) *message.Message {
	rec := &outbox.Record{Topic: r.cfg.Source, Partition: l.OriginalPartition, Key: l.Record.Key}
	for _, h := range l.Record.Headers {
		if !isFailureHeader(h.Key) && !isReplayHeader(h.Key) && h.Key != HeaderReplayID {
			rec.Headers = append(rec.Headers, h)
		}
	}
	rec.Headers = append(rec.Headers,
		text(HeaderReplayCount, strconv.Itoa(l.ReplayCount+1)),
		text(HeaderReplayID, r.cfg.ID))
	if !r.cfg.AllGroups {
		rec.Headers = append(rec.Headers, text(HeaderTargetGroup, l.Group))
	}
	id := lastText(l.Record.Headers, outbox.HeaderEventID)
	if id == "" {
		id = uuid.NewString()
	}
	return recordMessage(context.Background(), id, rec, l.Value)
}

// flush sends the batch and then remembers it.
func (r *replay) flush(ctx context.Context, s *scan) error {
	batch, offsets := s.batch, s.offsets
	s.batch, s.offsets = nil, nil
	if !r.cfg.Execute {
		r.result.Replayed += len(batch)
		r.cfg.OnProgress(r.result)
		return ctx.Err()
	}
	ifSent := s.before.after(s.pos, merge(slices.Clone(s.sent), offsets), s.pending)
	if _, err := ifSent.encode(); err != nil {
		return err // what cannot be remembered is not sent
	}
	if err := r.send(ctx, s, batch, offsets); err != nil {
		return err
	}
	next := s.before.after(s.pos, s.sent, s.pending)
	encoded, err := next.encode()
	if err != nil {
		return err
	}
	if err := r.cfg.Reader.Commit(ctx, r.cfg.Topic, r.cfg.ProgressGroup, s.partition, next.low, encoded); err != nil {
		return fmt.Errorf("remember progress: %w", err)
	}
	r.cfg.OnProgress(r.result)
	return nil
}

// send publishes the batch. If the broker will not take one of its letters, that
// one is left and the others are sent.
func (r *replay) send(ctx context.Context, s *scan, batch []*message.Message, offsets []int64) error {
	if len(batch) == 0 {
		return nil
	}
	if err := r.pace.wait(ctx, len(batch)); err != nil {
		return err
	}
	err := r.publish(ctx, batch...)
	if err == nil {
		r.result.Replayed += len(batch)
		s.sent = merge(s.sent, offsets)
		return nil
	}
	if !errors.Is(err, outbox.ErrUnpublishable) {
		return err
	}
	for i, m := range batch {
		switch err := r.publish(ctx, m); {
		case err == nil:
			r.result.Replayed++
			s.sent = merge(s.sent, offsets[i:i+1])
		case errors.Is(err, outbox.ErrUnpublishable):
			r.result.Refused++
			s.pending = merge(s.pending, offsets[i:i+1])
		default:
			return err
		}
	}
	return nil
}

// merge returns the sorted union of a and b, reusing a.
func merge(a, b []int64) []int64 {
	a = append(a, b...)
	slices.Sort(a)
	return a
}

func (r *replay) publish(ctx context.Context, batch ...*message.Message) error {
	for _, m := range batch {
		rec, _ := outbox.RecordFrom(m.Context())
		m.SetContext(outbox.WithRecord(ctx, rec))
	}
	return r.cfg.Publisher.Publish(r.cfg.Source, batch...)
}

// batchSize is a tenth of a second at the given rate.
func (r *replay) batchSize() int {
	if r.cfg.Rate < 0 || !r.cfg.Execute {
		return maxReplayBatch
	}
	return min(max(r.cfg.Rate/10, 1), maxReplayBatch)
}

// pacer spreads letters over time.
type pacer struct {
	rate int // per second, -1 is no limit
	next time.Time
}

// wait returns when n more letters may go.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate < 0 {
		return ctx.Err()
	}
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	pause := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	if !sleep(ctx, pause) {
		return ctx.Err()
	}
	return nil
}
