package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/internal/problems"
)

// Header marks a record that a Replayer sent. Its value is the replay's id.
const Header = "millrace-replay"

// Config configures a Replayer. The zero value replays the whole log.
type Config struct {
	// Select says what to send again. Default: the whole log.
	Select Selection
	// ID is the value of Header. Give the same one to continue a replay.
	// Default random.
	ID string
	// ToTopic takes the messages instead of their own topics. Default: none.
	ToTopic string
	// Rate is the maximum number of messages a second; -1 sets no limit.
	// Default 1,000.
	Rate int
	// Batch is the maximum number of messages of one call of Publish. A replay that
	// is interrupted and continued repeats at most one batch. Default 500.
	Batch int
	// OnProgress is called after each batch. It must not block. Default: none.
	OnProgress func(Result)
}

func (c Config) withDefaults() Config {
	if c.ID == "" {
		c.ID = uuid.NewString()
	}
	c.Rate = cmp.Or(c.Rate, 1000)
	c.Batch = cmp.Or(c.Batch, 500)
	if c.OnProgress == nil {
		c.OnProgress = func(Result) {}
	}
	return c
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

func (c *Config) validate() error {
	var p problems.List
	p.AddAll(c.Select.validate())
	p.Unless(len(c.ID) <= outbox.MaxNameBytes && utf8.ValidString(c.ID) && strings.IndexByte(c.ID, 0) < 0, "ID",
		"must be UTF-8 without NUL and at most %d bytes, is %q", outbox.MaxNameBytes, c.ID)
	p.Unless(c.ToTopic == "" || topicName.MatchString(c.ToTopic) && c.ToTopic != "." && c.ToTopic != "..", "ToTopic", "must be the name of a Kafka topic, is %q", c.ToTopic)
	p.Unless(c.Rate > 0 || c.Rate == -1, "Rate", "must be positive, or -1 for no limit, is %d", c.Rate)
	problems.Positive(&p, "Batch", c.Batch)
	return p.Err()
}

// Result is what a replay did, or what it would do.
type Result struct {
	ID       string `json:"replay_id"`
	DryRun   bool   `json:"dry_run"`  // it comes from Plan: nothing was sent
	From     int64  `json:"from"`     // first position read
	Stop     int64  `json:"stop"`     // last position to read, set at the start
	Next     int64  `json:"next"`     // position to continue from; past Stop if it is done
	Done     bool   `json:"done"`     // it reached Stop
	Messages int64  `json:"messages"` // acknowledged by the broker; for Plan, found
	First    int64  `json:"first"`    // position of the first message, 0 if none
	Last     int64  `json:"last"`     // position of the last message, 0 if none
}

// Replayer publishes entries of the log again, in their order, marked with Header.
// Delivery is at least once. The relays' cursors do not move, and an event keeps its
// id: consumers that deduplicate by it ignore events that they have handled, unless
// they are new or read another topic.
type Replayer struct {
	history outbox.History
	pub     message.Publisher
	cfg     Config
}

// New returns a Replayer from h to pub. It does no I/O. The caller closes pub, which
// may be nil for a Replayer that only plans.
func New(h outbox.History, pub message.Publisher, cfg Config) (*Replayer, error) {
	cfg = cfg.withDefaults()
	var p problems.List
	p.NotNil("history", h != nil)
	p.AddAll(cfg.validate())
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return &Replayer{history: h, pub: pub, cfg: cfg}, nil
}

// Run publishes the selected messages, up to the position that was stable at its
// start. If it fails, or ctx ends, the result still reports what was done: to go on,
// set Select.From, Select.To and ID to its Next, Stop and ID.
func (r *Replayer) Run(ctx context.Context) (Result, error) {
	if r.pub == nil {
		return Result{ID: r.cfg.ID}, errors.New("replay: publisher: must not be nil")
	}
	p := &run{history: r.history, pub: r.pub, cfg: r.cfg, res: Result{ID: r.cfg.ID}, began: time.Now()}
	err := p.all(ctx)
	return p.res, err
}

// Plan counts what Run would publish now, and sends nothing. It calls OnProgress as
// Run does.
func (r *Replayer) Plan(ctx context.Context) (Result, error) {
	p := &run{history: r.history, cfg: r.cfg, res: Result{ID: r.cfg.ID, DryRun: true}, began: time.Now()}
	err := p.all(ctx)
	return p.res, err
}

// run is one pass over the history.
type run struct {
	history outbox.History
	pub     message.Publisher // nil in a plan
	cfg     Config
	res     Result
	began   time.Time
	batch   []outbox.Entry
}

func (p *run) all(ctx context.Context) error {
	stop, err := p.history.Stable(ctx)
	if err != nil {
		return fmt.Errorf("replay: find where to stop: %w", err)
	}
	span, err := p.cfg.Select.bounds(ctx, p.history, stop)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	p.res.From, p.res.Next, p.res.Stop = span.Lo, span.Lo, span.Hi
	size := p.size()
	for e, err := range p.cfg.Select.read(ctx, p.history, span) {
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
func (p *run) size() int {
	if p.cfg.Rate < 0 {
		return p.cfg.Batch
	}
	return min(p.cfg.Batch, max(1, p.cfg.Rate/10))
}

// send publishes the batch, run by run of one topic, and then waits as the rate
// demands.
func (p *run) send(ctx context.Context) error {
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
	p.cfg.OnProgress(p.res)
	if p.cfg.Rate > 0 && !p.res.DryRun {
		due := time.Duration(float64(p.res.Messages) / float64(p.cfg.Rate) * float64(time.Second))
		pause(ctx, due-time.Since(p.began))
	}
	return nil
}

func (p *run) count(sent []outbox.Entry) {
	if p.res.First == 0 {
		p.res.First = sent[0].Position
	}
	p.res.Last = sent[len(sent)-1].Position
	p.res.Next = p.res.Last + 1
	p.res.Messages += int64(len(sent))
}

func (p *run) topic(e *outbox.Entry) string {
	if p.cfg.ToTopic != "" {
		return p.cfg.ToTopic
	}
	return e.Topic
}

func (p *run) publish(ctx context.Context, topic string, entries []outbox.Entry) error {
	msgs := make([]*message.Message, len(entries))
	for i := range entries {
		msgs[i] = outbox.ToWatermill(ctx, &entries[i])
		msgs[i].Metadata.Set(Header, p.cfg.ID)
	}
	if err := p.pub.Publish(topic, msgs...); err != nil {
		return fmt.Errorf("replay positions %d to %d: %w", entries[0].Position, entries[len(entries)-1].Position, err)
	}
	return nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
