package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/adapters/internal/problems"
	"github.com/millrace-go/millrace/outbox"
)

var (
	// ErrBusy means that another process is rebuilding the view, or has taken the
	// rebuild over.
	ErrBusy = errors.New("the view is being rebuilt by another process")
	// ErrTrimmed means that the log has lost entries that the view would still show.
	ErrTrimmed = errors.New("the log no longer has all that the view shows")
	// ErrResumes means that an unfinished generation was begun with another first
	// position.
	ErrResumes = errors.New("an unfinished generation began elsewhere")
)

// View is what a Builder needs to know of a view.
type View struct {
	// Name is the view's name, as the Tracker has it.
	Name string
	// Life is how long after it was written an entry of the log can still matter to
	// the view.
	Life time.Duration
	// Fold writes what entries of the log come to into one generation, and only
	// there. It stores only what is newer than what is there: several calls run at
	// the same time, an entry can come more than once, and after an error the entries
	// come again. It skips, and counts, entries that are not for the view or cannot be
	// decoded.
	Fold func(ctx context.Context, generation string, entries []outbox.Entry) (Folded, error)
	// Finish, if not nil, completes a generation that has all of the log, right
	// before it answers.
	Finish func(ctx context.Context, g Finished) error
}

// Folded counts what a Fold did with its entries.
type Folded struct {
	Events      int64 // folded into the view
	Ignored     int64 // of other topics, or of no interest to the view
	Undecodable int64
	Example     int64 // position of the first that could not be decoded; 0 if all could
}

// Finished is a generation that has all of the log.
type Finished struct {
	Generation string
	// Begun is when the generation was begun.
	Begun time.Time
	// Whole: the fold began with the first entry that there ever was, and Redis has
	// evicted nothing since the generation was begun.
	Whole bool
}

// Config configures a Builder. The zero value rebuilds the view from all of the log.
type Config struct {
	// From is the first position to read. Default 0: the first that the log has, and
	// ErrTrimmed if the view would then lack something.
	From int64
	// To is the last position to read. If the log goes on after it, the generation
	// stays unfinished and does not answer. Default 0: the end of the log.
	To int64
	// Floor is the position from which on nothing was dropped from the log.
	// Default 0: nothing ever was.
	Floor int64
	// Batch is how many entries of the log one Fold gets, at least one. Default 2,000.
	Batch int
	// Lease is how long a rebuild whose process was killed keeps others out, at least
	// one second. Default 15 s.
	Lease time.Duration
	// Now is the clock that tells which entries still matter. Default time.Now.
	Now func() time.Time
	// OnProgress is called after each batch and after the flip. It must not block.
	// Default: nobody is told.
	OnProgress func(Result)
}

func (c Config) withDefaults() Config {
	c.Batch = cmp.Or(c.Batch, 2000)
	c.Lease = cmp.Or(c.Lease, 15*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OnProgress == nil {
		c.OnProgress = func(Result) {}
	}
	return c
}

// check collects what is wrong with a Config that has its defaults.
func (c Config) check(wrong *problems.List) {
	problems.AtLeast(wrong, "From", c.From, 0)
	problems.AtLeast(wrong, "To", c.To, 0)
	wrong.Unless(c.To == 0 || c.From <= c.To, "To", "must be at least From %d, is %d", c.From, c.To)
	problems.AtLeast(wrong, "Floor", c.Floor, 0)
	problems.AtLeast(wrong, "Batch", c.Batch, 1)
	problems.AtLeast(wrong, "Lease", c.Lease, time.Second)
}

// Result tells what a rebuild did, or in a plan would do.
type Result struct {
	View        string  `json:"view"`
	Generation  string  `json:"generation"` // the new one; empty in a plan that would begin one
	Resumed     bool    `json:"resumed"`    // it went on where an earlier run stopped
	From        int64   `json:"from"`       // first position of the generation
	To          int64   `json:"to"`         // last position that was or is to be read
	Next        int64   `json:"next"`       // position to go on from; after To if all were read
	Events      int64   `json:"events"`     // folded by this run
	Ignored     int64   `json:"ignored"`    // entries of other topics, or of no interest to the view
	Undecodable int64   `json:"undecodable"`
	Example     int64   `json:"undecodable_example,omitempty"` // position of the first of them
	Seconds     float64 `json:"seconds"`                       // spent reading and folding
	PerSecond   float64 `json:"events_per_s"`
	Flipped     bool    `json:"flipped"`           // the generation answers
	Removed     string  `json:"removed,omitempty"` // the generation that answered before
}

// Builder builds one view again from the log, beside the generation that answers,
// and then lets the new one answer. Processes that keep the view go on meanwhile.
type Builder struct {
	tracker *Tracker
	view    View
	log     outbox.History
	cfg     Config
	owner   string
}

// NewBuilder returns a Builder of a view of t from log. It does no I/O.
func NewBuilder(t *Tracker, view View, log outbox.History, cfg Config) (*Builder, error) {
	cfg = cfg.withDefaults()
	var wrong problems.List
	cfg.check(&wrong)
	problems.NotNil(&wrong, "tracker", t != nil)
	problems.NotNil(&wrong, "log", log != nil)
	problems.NotNil(&wrong, "view.Fold", view.Fold != nil)
	wrong.Unless(view.Name != "", "view.Name", "must not be empty")
	if err := wrong.Err(); err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	host, _ := os.Hostname() // informational
	owner := fmt.Sprintf("%s:%d:%s", host, os.Getpid(), uuid.NewString()[:8])
	return &Builder{tracker: t, view: view, log: log, cfg: cfg, owner: owner}, nil
}

// Plan tells what Run would do, and changes nothing.
func (b *Builder) Plan(ctx context.Context) (Result, error) {
	res := Result{View: b.view.Name}
	found, err := b.read(ctx)
	if err == nil {
		_, err = b.place(ctx, found, &res)
	}
	if err == nil {
		res.To, err = b.end(ctx)
		res.To = b.upTo(res.To)
	}
	if err != nil {
		return res, fmt.Errorf("rebuild %s: %w", b.view.Name, err)
	}
	return res, nil
}

// Run rebuilds the view. If it fails, or ctx ends, the generation stays, and
// another Run goes on with it. It is ErrBusy while another Run is under way.
func (b *Builder) Run(ctx context.Context) (Result, error) {
	r := &run{Builder: b, res: Result{View: b.view.Name}}
	if err := b.locked(ctx, r.all); err != nil {
		return r.res, fmt.Errorf("rebuild %s: %w", b.view.Name, err)
	}
	return r.res, nil
}

// place decides where the generation begins and where to go on, and reports
// whether the rebuild goes on with an unfinished one.
func (b *Builder) place(ctx context.Context, found state, res *Result) (resumes bool, err error) {
	if found.resumable() {
		if b.cfg.From > 0 && b.cfg.From != found.from {
			return false, fmt.Errorf("%w: %s at position %d: leave out the first position, or abort it first", ErrResumes, found.Next, found.from)
		}
		if found.position < b.cfg.Floor {
			return false, fmt.Errorf("%w: it begins at position %d, and generation %s goes on at %d: abort it first", ErrTrimmed, b.cfg.Floor, found.Next, found.position)
		}
		res.Generation, res.Resumed, res.From, res.Next = found.Next, true, found.from, found.position
		return true, nil
	}
	if res.From = b.cfg.From; res.From == 0 {
		res.From = max(b.cfg.Floor, 1)
		if err := b.untrimmed(ctx); err != nil {
			return false, err
		}
	}
	res.Next = res.From
	return false, nil
}

// untrimmed is ErrTrimmed if entries were dropped that the view would still show.
func (b *Builder) untrimmed(ctx context.Context) error {
	if b.cfg.Floor <= 1 {
		return nil
	}
	end, err := b.end(ctx)
	if err != nil {
		return err
	}
	for e, err := range b.log.Range(ctx, outbox.Range{Lo: b.cfg.Floor, Hi: end}) {
		if err != nil {
			return err
		}
		shows := b.cfg.Now().Add(-b.view.Life)
		if e.CreatedAt.After(shows) {
			return fmt.Errorf("%w: it begins at position %d of %s, the view shows events since %s: give %d as first position to do without the rest",
				ErrTrimmed, e.Position, e.CreatedAt.UTC().Format(time.RFC3339), shows.UTC().Format(time.RFC3339), e.Position)
		}
		return nil
	}
	return nil
}

// end is the last position of the log among what is committed by now. What commits
// later is applied later, to the new generation too.
func (b *Builder) end(ctx context.Context) (int64, error) {
	span, err := b.log.Between(ctx, time.Time{}, time.Time{})
	return span.Hi, err
}

// upTo is how far to read of a log that ends at end.
func (b *Builder) upTo(end int64) int64 {
	if b.cfg.To > 0 {
		return min(b.cfg.To, end)
	}
	return end
}
