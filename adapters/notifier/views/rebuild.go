package views

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/outbox"
)

var (
	// ErrRebuilding means that somebody else is rebuilding the view, or has taken the
	// rebuild over.
	ErrRebuilding = errors.New("the view is being rebuilt by another process")
	// ErrTrimmed means that the log has lost events which the view would still show.
	ErrTrimmed = errors.New("the log no longer has all that the view shows")
	// ErrResumes means that an unfinished generation was begun with another first
	// position.
	ErrResumes = errors.New("an unfinished generation began elsewhere")
)

// RebuildConfig configures a Rebuilder. The zero value rebuilds all of the view
// from all of the log.
type RebuildConfig struct {
	// From is the first position to read. Default 0: the first that the log has, and
	// ErrTrimmed if the view would lack something then.
	From int64
	// To is the last position to read. If the log goes on behind it, the generation
	// stays unfinished and does not answer. Default 0: the end of the log.
	To int64
	// Floor is the position from which on nothing has been dropped from the log.
	// Default 0: nothing ever was.
	Floor int64
	// Topic is the topic of the view's events. Default codec.TopicNotification.
	Topic string
	// Decode makes an event of a record. Default that of a codec.Codec.
	Decode func(headers map[string]string, payload []byte) (domain.Recorded, error)
	// Batch is how many entries of the log go into one pipeline, at least one.
	// Default 2,000.
	Batch int
	// Lease is how long the rebuild is closed to others after its process was killed,
	// at least one second. Default 15 s.
	Lease time.Duration
	// OnProgress is called after each batch, and while the former generation is
	// removed. It must not block. Default none.
	OnProgress func(RebuildResult)
}

func (c *RebuildConfig) complete() error {
	var wrong domain.Validation
	wrong.Check(c.From >= 0, "From", "must not be negative")
	wrong.Check(c.To >= 0, "To", "must not be negative")
	wrong.Check(c.To == 0 || c.From <= c.To, "To", "must not be before From")
	wrong.Check(c.Floor >= 0, "Floor", "must not be negative")
	wrong.Check(c.Batch >= 0, "Batch", "must not be negative")
	wrong.Check(c.Lease == 0 || c.Lease >= time.Second, "Lease", "must be at least 1s")
	if c.Topic == "" {
		c.Topic = codec.TopicNotification
	}
	if c.Decode == nil {
		c.Decode = codec.New(codec.Config{}).Decode
	}
	if c.Batch == 0 {
		c.Batch = 2000
	}
	if c.Lease == 0 {
		c.Lease = 15 * time.Second
	}
	if c.OnProgress == nil {
		c.OnProgress = func(RebuildResult) {}
	}
	return wrong.Err()
}

// RebuildResult tells what a rebuild did, or in a plan would do.
type RebuildResult struct {
	View        string  `json:"view"`
	Generation  string  `json:"generation"` // the new one; empty in a plan that would begin one
	Resumed     bool    `json:"resumed"`    // it went on where an earlier one stopped
	From        int64   `json:"from"`       // first position of the generation
	To          int64   `json:"to"`         // last position that was or is to be read
	Next        int64   `json:"next"`       // position to go on from; past To if all were read
	Events      int64   `json:"events"`     // of this run, folded
	Ignored     int64   `json:"ignored"`    // entries of other topics, or of no interest to the view
	Undecodable int64   `json:"undecodable"`
	Example     int64   `json:"undecodable_example,omitempty"` // position of the first of them
	Seconds     float64 `json:"seconds"`                       // spent reading and folding
	PerSecond   float64 `json:"events_per_s"`
	Flipped     bool    `json:"flipped"`           // the generation answers
	Removed     string  `json:"removed,omitempty"` // the one that answered before
}

// Rebuilder builds one view anew from the log, beside the generation that answers,
// and then lets the new one answer. Processes that apply events may go on.
type Rebuilder struct {
	p     Projection
	log   outbox.History
	cfg   RebuildConfig
	owner string
}

// NewRebuilder returns a Rebuilder of p from log. It does no I/O.
func NewRebuilder(p Projection, log outbox.History, cfg RebuildConfig) (*Rebuilder, error) {
	err := cfg.complete()
	if log == nil {
		err = errors.Join(err, errors.New("log: is nil"))
	}
	if err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	host, _ := os.Hostname() // only tells people who it is
	return &Rebuilder{p: p, log: log, cfg: cfg, owner: fmt.Sprintf("%s:%d:%s", host, os.Getpid(), uuid.NewString()[:8])}, nil
}

// Plan tells what Run would do, and changes nothing.
func (r *Rebuilder) Plan(ctx context.Context) (RebuildResult, error) {
	res := RebuildResult{View: r.p.name}
	found, err := r.look(ctx)
	if err == nil {
		_, err = r.place(ctx, found, &res)
	}
	if err == nil {
		res.To, err = r.end(ctx)
		res.To = r.upTo(res.To)
	}
	if err != nil {
		return res, fmt.Errorf("rebuild %s: %w", r.p.name, err)
	}
	return res, nil
}

// Run rebuilds the view. If it fails, or ctx ends, the generation stays, and
// another Run goes on with it. It is ErrRebuilding while another Run is under way.
func (r *Rebuilder) Run(ctx context.Context) (RebuildResult, error) {
	run := &rebuild{Rebuilder: r, res: RebuildResult{View: r.p.name}}
	err := r.claimed(ctx, run.all)
	if err != nil {
		return run.res, fmt.Errorf("rebuild %s: %w", r.p.name, err)
	}
	return run.res, nil
}

// life is how long after it was written an event can still matter to the view.
func (p Projection) life() time.Duration {
	if p.name == Counters {
		return time.Duration(p.v.cfg.CounterDays+1) * 24 * time.Hour
	}
	return p.v.cfg.TTL + p.v.cfg.TTL/10
}

// place decides where the generation begins and where to go on, and reports
// whether one that is unfinished can be gone on with.
func (r *Rebuilder) place(ctx context.Context, found progress, res *RebuildResult) (resumes bool, err error) {
	if found.resumable() {
		if r.cfg.From > 0 && r.cfg.From != found.from {
			return false, fmt.Errorf("%w: %s at position %d: leave out the first position, or abort it first", ErrResumes, found.Next, found.from)
		}
		if found.position < r.cfg.Floor {
			return false, fmt.Errorf("%w: it begins at position %d, and generation %s goes on at %d: abort it first", ErrTrimmed, r.cfg.Floor, found.Next, found.position)
		}
		res.Generation, res.Resumed, res.From, res.Next = found.Next, true, found.from, found.position
		return true, nil
	}
	if res.From = r.cfg.From; res.From == 0 {
		res.From = max(r.cfg.Floor, 1)
		if err := r.untrimmed(ctx); err != nil {
			return false, err
		}
	}
	res.Next = res.From
	return false, nil
}

// untrimmed is ErrTrimmed if events were dropped which the view would still show.
func (r *Rebuilder) untrimmed(ctx context.Context) error {
	if r.cfg.Floor <= 1 {
		return nil
	}
	end, err := r.end(ctx)
	if err != nil {
		return err
	}
	for e, err := range r.log.Range(ctx, outbox.Range{Lo: r.cfg.Floor, Hi: end}) {
		if err != nil {
			return err
		}
		needs := r.p.v.cfg.Now().Add(-r.p.life())
		if e.CreatedAt.After(needs) {
			return fmt.Errorf("%w: it begins at position %d of %s, the view shows events since %s: give %d as first position to do without the rest",
				ErrTrimmed, e.Position, e.CreatedAt.UTC().Format(time.RFC3339), needs.UTC().Format(time.RFC3339), e.Position)
		}
		return nil
	}
	return nil
}

// end is the last position of the log: of what is committed by now, nothing is behind
// it. What commits later is applied later, to the new generation too.
func (r *Rebuilder) end(ctx context.Context) (int64, error) {
	span, err := r.log.Between(ctx, time.Time{}, time.Time{})
	return span.Hi, err
}

// upTo is how far to read of a log that ends at end.
func (r *Rebuilder) upTo(end int64) int64 {
	if r.cfg.To > 0 {
		return min(r.cfg.To, end)
	}
	return end
}
