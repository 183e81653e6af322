package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
)

// HeaderReplay marks a record that a Replayer sent: its value is the replay's id.
const HeaderReplay = "millrace-replay"

// ReplayConfig configures a Replayer.
type ReplayConfig struct {
	// Select says what to send again. The zero value is the whole log.
	Select Selection
	// ID is the value of HeaderReplay, for a replay that goes on. Default random.
	ID string
	// ToTopic takes the messages instead of their own topics. Default none.
	ToTopic string
	// Execute sends. Default false: the replay only counts.
	Execute bool
	// Rate is the most messages a second. Default 1,000; -1 for no limit.
	Rate int
	// Batch is the most messages of one call of Publish, at least one. What an
	// interruption may repeat is at most one batch. Default 500.
	Batch int
	// OnProgress is called after each batch. It must not block. Default none.
	OnProgress func(ReplayResult)
}

// ReplayResult tells what a replay did, or in a dry run would do.
type ReplayResult struct {
	ID       string `json:"replay_id"`
	DryRun   bool   `json:"dry_run"`
	From     int64  `json:"from"`     // first position looked at
	Stop     int64  `json:"stop"`     // last position that it goes to, set at its start
	Next     int64  `json:"next"`     // position to go on from; past Stop if it is done
	Done     bool   `json:"done"`     // it went to Stop
	Messages int64  `json:"messages"` // acknowledged by the broker; in a dry run, found
	First    int64  `json:"first"`    // position of the first of them, 0 if none
	Last     int64  `json:"last"`     // and of the last
}

// Replayer publishes entries of the log again, in their order, marked with
// HeaderReplay. Delivery is at least once. The relays' cursors do not move, and
// an event keeps its id: consumers that deduplicate by it do nothing for an event
// they have handled, unless they are new or read another topic.
type Replayer struct {
	history History
	pub     message.Publisher
	cfg     ReplayConfig
}

// NewReplayer returns a Replayer from h to pub, which stays the caller's to close
// and may be nil for a dry run. It does no I/O.
func NewReplayer(h History, pub message.Publisher, cfg ReplayConfig) (*Replayer, error) {
	if cfg.ID == "" {
		cfg.ID = uuid.NewString()
	}
	def(&cfg.Rate, 1000)
	def(&cfg.Batch, 500)
	err := cfg.validate()
	if h == nil {
		err = errors.Join(err, errors.New("history: is nil"))
	}
	if pub == nil && cfg.Execute {
		err = errors.Join(err, errors.New("publisher: is nil"))
	}
	if err != nil {
		return nil, fmt.Errorf("outbox replay: %w", err)
	}
	return &Replayer{history: h, pub: pub, cfg: cfg}, nil
}

func (c *ReplayConfig) validate() error {
	errs := []error{c.Select.validate()}
	need := func(ok bool, problem string) {
		if !ok {
			errs = append(errs, errors.New(problem))
		}
	}
	if reason := checkText(c.ID, 1, MaxNameBytes); reason != "" {
		need(false, "ID: "+reason)
	}
	if c.ToTopic != "" {
		if reason := checkTopic(c.ToTopic); reason != "" {
			need(false, "ToTopic: "+reason)
		}
	}
	need(c.Rate > 0 || c.Rate == -1, "Rate: must be positive, or -1 for no limit")
	need(c.Batch > 0, "Batch: must be positive")
	return errors.Join(errs...)
}

// Run replays up to the position that was stable at its start. If it fails, or
// ctx ends, the result still tells what was done, and Next where to go on: set
// Select.From, Select.To and ID to its Next, Stop and ID for the rest.
func (r *Replayer) Run(ctx context.Context) (ReplayResult, error) {
	res := ReplayResult{ID: r.cfg.ID, DryRun: !r.cfg.Execute}
	stop, err := r.history.Stable(ctx)
	if err != nil {
		return res, fmt.Errorf("replay: find where to stop: %w", err)
	}
	span, err := r.cfg.Select.bounds(ctx, r.history, stop)
	if err != nil {
		return res, fmt.Errorf("replay: %w", err)
	}
	res.From, res.Next, res.Stop = span.Lo, span.Lo, span.Hi
	run := &replay{r: r, res: res, began: time.Now()}
	err = run.all(ctx, span)
	return run.res, err
}

// replay is one run of a Replayer.
type replay struct {
	r     *Replayer
	res   ReplayResult
	began time.Time
	batch []Entry
}

func (p *replay) all(ctx context.Context, span Range) error {
	size := p.size()
	for e, err := range p.r.cfg.Select.read(ctx, p.r.history, span) {
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		p.batch = append(p.batch, e)
		if len(p.batch) < size {
			continue
		}
		if err := p.send(ctx); err != nil {
			return err
		}
	}
	if err := p.send(ctx); err != nil {
		return err
	}
	p.res.Next, p.res.Done = max(span.Lo, span.Hi+1), true
	return nil
}

// size bounds a batch to a tenth of a second at the given rate.
func (p *replay) size() int {
	if p.r.cfg.Rate < 0 {
		return p.r.cfg.Batch
	}
	return min(p.r.cfg.Batch, max(1, p.r.cfg.Rate/10))
}

// send publishes the batch, run by run of one topic, and then waits as the rate
// demands.
func (p *replay) send(ctx context.Context) error {
	batch := p.batch
	p.batch = p.batch[:0]
	for len(batch) > 0 {
		if ctx.Err() != nil {
			return fmt.Errorf("replay: %w", context.Cause(ctx))
		}
		topic, n := p.topic(&batch[0]), 1
		for n < len(batch) && p.topic(&batch[n]) == topic {
			n++
		}
		if !p.res.DryRun {
			if err := p.publish(ctx, topic, batch[:n]); err != nil {
				return err
			}
		}
		p.count(batch[:n])
		batch = batch[n:]
	}
	if p.r.cfg.OnProgress != nil {
		p.r.cfg.OnProgress(p.res)
	}
	if p.r.cfg.Rate > 0 && !p.res.DryRun {
		due := time.Duration(float64(p.res.Messages) / float64(p.r.cfg.Rate) * float64(time.Second))
		sleep(ctx, due-time.Since(p.began))
	}
	return nil
}

func (p *replay) count(sent []Entry) {
	if p.res.First == 0 {
		p.res.First = sent[0].Position
	}
	p.res.Last = sent[len(sent)-1].Position
	p.res.Next = p.res.Last + 1
	p.res.Messages += int64(len(sent))
}

func (p *replay) topic(e *Entry) string {
	if p.r.cfg.ToTopic != "" {
		return p.r.cfg.ToTopic
	}
	return e.Topic
}

func (p *replay) publish(ctx context.Context, topic string, entries []Entry) error {
	msgs := make([]*message.Message, len(entries))
	for i := range entries {
		msgs[i] = ToWatermill(ctx, &entries[i])
		msgs[i].Metadata.Set(HeaderReplay, p.r.cfg.ID)
	}
	if err := p.r.pub.Publish(topic, msgs...); err != nil {
		return fmt.Errorf("replay positions %d to %d: %w", entries[0].Position, entries[len(entries)-1].Position, err)
	}
	return nil
}
