// Package views keeps the Redis projections of the reference service: the status
// of each notification, the newest notifications of each recipient, and counters
// of what became of those requested on a day.
//
// Each event of a notification carries the whole status (see app.ProjectStatus),
// so whatever a view keeps of a notification is simply the newest event's. It is
// written only over an older version, compared inside Redis; redelivery,
// reordering, replay and cache-aside fills therefore share one rule and cannot
// turn anything back. Counters are the sum of what the newest statuses add to
// them, and follow the same rule.
//
// The key of everything has a generation, so that a view can be built again beside
// the one that answers: see package rebuild and [Views.Rebuildable].
//
// Reference code: no compatibility promise.
package views

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/cache/rebuild"
	"github.com/millrace-go/millrace/adapters/internal/problems"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
)

// Config configures Views. The zero value is usable.
type Config struct {
	// TTL is how long after its event the status of a notification is kept, at least
	// one second; each id gets up to a tenth more, always the same. The list of a
	// recipient is kept as long after its latest event. Default 24 h.
	TTL time.Duration
	// TombstoneTTL is how long a tombstone lives. It must outlive whatever can
	// still be replayed. Default 14 days.
	TombstoneTTL time.Duration
	// CounterDays is how many days after a day its counters are kept, and still
	// follow what happens to its notifications. Default 8.
	CounterDays int
	// LoadTimeout is how long a reader that found no list may take to ask the database
	// and fill it in. Default 5 s.
	LoadTimeout time.Duration
	// Prefix begins every key. Default "view:".
	Prefix string
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	c.TTL = cmp.Or(c.TTL, 24*time.Hour)
	c.TombstoneTTL = cmp.Or(c.TombstoneTTL, 14*24*time.Hour)
	c.CounterDays = cmp.Or(c.CounterDays, 8)
	c.LoadTimeout = cmp.Or(c.LoadTimeout, 5*time.Second)
	c.Prefix = cmp.Or(c.Prefix, "view:")
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Views is the projections. It is safe for concurrent use.
type Views struct {
	rdb      redis.Cmdable
	cfg      Config
	tracker  *rebuild.Tracker
	statuses *cache.Versioned[app.NotificationStatus]
}

var _ app.Views = (*Views)(nil)

// New returns views in rdb. Statuses are entries of store, which is of the same
// Redis; those that it does not have come from reader. Give rdb short timeouts:
// readers fall back to the database when Redis is slow.
func New(rdb redis.Cmdable, store *cache.Store, reader app.Reader, cfg Config) (*Views, error) {
	var wrong problems.List
	problems.NotNil(&wrong, "rdb", rdb != nil)
	problems.NotNil(&wrong, "store", store != nil)
	problems.NotNil(&wrong, "reader", reader != nil)
	cfg = cfg.withDefaults()
	problems.AtLeast(&wrong, "TTL", cfg.TTL, time.Second)
	problems.AtLeast(&wrong, "TombstoneTTL", cfg.TombstoneTTL, time.Second)
	problems.AtLeast(&wrong, "CounterDays", cfg.CounterDays, 1)
	problems.AtLeast(&wrong, "LoadTimeout", cfg.LoadTimeout, time.Millisecond)
	if err := wrong.Err(); err != nil {
		return nil, fmt.Errorf("views: %w", err)
	}
	tracker, err := rebuild.NewTracker(rdb, cfg.Prefix, Names()...)
	if err != nil {
		return nil, fmt.Errorf("views: %w", err)
	}
	v := &Views{rdb: rdb, cfg: cfg, tracker: tracker}
	if v.statuses, err = v.newStatuses(store, reader); err != nil {
		return nil, fmt.Errorf("views: %w", err)
	}
	return v, nil
}

// Applied counts what became of the events given to Apply, as the status of the
// notifications has it.
type Applied struct {
	Stored  int // made an entry newer
	Older   int // an entry of this or a later version was there, or the event is too old to keep
	Ignored int // of no interest to the views
}

// Apply projects events into every view, in one pipeline for each. Order and
// repetition do not matter. After an error some may have been stored: apply all
// again.
func (v *Views) Apply(ctx context.Context, events ...domain.Recorded) (Applied, error) {
	newest, done := fold(events)
	if len(newest) == 0 {
		return done, nil
	}
	var stored int
	err := v.tracker.Write(ctx, func(ctx context.Context, all map[string]cache.Generations) (err error) {
		var b batch
		v.writeLists(&b, all[Recipients], newest)
		v.writeCounters(&b, all[Counters], newest)
		if stored, err = v.writeStatuses(ctx, all[Status], newest); err != nil {
			return err
		}
		return b.run(ctx, v.rdb)
	})
	if err != nil {
		return done, fmt.Errorf("apply events to views: %w", err)
	}
	done.Stored += stored
	done.Older += len(newest) - stored
	return done, nil
}

// write writes newest to the generations g of one view. stored counts, of the
// statuses, those that it made newer.
func (v *Views) write(ctx context.Context, name string, g cache.Generations, newest []app.NotificationStatus) (stored int, err error) {
	var b batch
	switch name {
	case Status:
		return v.writeStatuses(ctx, g, newest)
	case Recipients:
		v.writeLists(&b, g, newest)
	case Counters:
		v.writeCounters(&b, g, newest)
	}
	return 0, b.run(ctx, v.rdb)
}

// fold keeps the newest status of each notification, in the order in which the
// notifications first appear.
func fold(events []domain.Recorded) (newest []app.NotificationStatus, done Applied) {
	at := make(map[string]int, len(events))
	for _, e := range events {
		s, ok := app.ProjectStatus(e)
		if !ok {
			done.Ignored++
			continue
		}
		i, seen := at[e.AggregateID]
		switch {
		case !seen:
			at[e.AggregateID] = len(newest)
			newest = append(newest, s)
		case newest[i].Version < s.Version:
			newest[i] = s
			done.Older++
		default:
			done.Older++
		}
	}
	return newest, done
}
