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
// The key of everything has a generation, so that a view can be built anew beside
// the one that answers: see package rebuild and [Views.Rebuildable].
//
// Reference code: no compatibility promise.
package views

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/cache/rebuild"
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
	// LoadTimeout is how long a reader that found nothing may take to ask the
	// database and fill the view. Default 5 s.
	LoadTimeout time.Duration
	// Prefix begins every key. Default "view:".
	Prefix string
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Views is the projections. It is safe for concurrent use.
type Views struct {
	rdb     redis.Cmdable
	cfg     Config
	tracker *rebuild.Tracker
	perCall int // entries that one call of a script writes
}

var _ app.Views = (*Views)(nil)

// New returns views in rdb. Give the client short timeouts: readers fall back to
// the database when Redis is slow.
func New(rdb redis.Cmdable, cfg Config) (*Views, error) {
	var wrong domain.Validation
	wrong.Check(rdb != nil, "rdb", "is nil")
	wrong.Check(cfg.TTL == 0 || cfg.TTL >= time.Second, "TTL", "must be at least 1s")
	wrong.Check(cfg.TombstoneTTL == 0 || cfg.TombstoneTTL >= time.Second, "TombstoneTTL", "must be at least 1s")
	wrong.Check(cfg.CounterDays >= 0, "CounterDays", "must not be negative")
	wrong.Check(cfg.LoadTimeout == 0 || cfg.LoadTimeout >= time.Millisecond, "LoadTimeout", "must be at least 1ms")
	if err := wrong.Err(); err != nil {
		return nil, fmt.Errorf("views: %w", err)
	}
	if cfg.TTL == 0 {
		cfg.TTL = 24 * time.Hour
	}
	if cfg.TombstoneTTL == 0 {
		cfg.TombstoneTTL = 14 * 24 * time.Hour
	}
	if cfg.CounterDays == 0 {
		cfg.CounterDays = 8
	}
	if cfg.LoadTimeout == 0 {
		cfg.LoadTimeout = 5 * time.Second
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "view:"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	tracker, err := rebuild.NewTracker(rdb, cfg.Prefix, Names()...)
	if err != nil {
		return nil, fmt.Errorf("views: %w", err)
	}
	v := &Views{rdb: rdb, cfg: cfg, tracker: tracker, perCall: 50}
	if _, ok := rdb.(*redis.ClusterClient); ok {
		v.perCall = 1
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

// Apply projects events into every view, in one pipeline for all of them. Order
// and repetition do not matter. After an error some may have been stored: apply
// all again.
func (v *Views) Apply(ctx context.Context, events ...domain.Recorded) (Applied, error) {
	newest, done := fold(events)
	if len(newest) == 0 {
		return done, nil
	}
	var stored int
	err := v.tracker.Write(ctx, func(ctx context.Context, all map[string]cache.Generations) error {
		var b batch
		for _, name := range Names() {
			for _, generation := range all[name].Written() {
				v.write(&b, name, generation, newest, generation == all[name].Live)
			}
		}
		err := b.run(ctx, v.rdb)
		stored = b.stored
		return err
	})
	if err != nil {
		return done, fmt.Errorf("apply events to views: %w", err)
	}
	done.Stored += stored
	done.Older += len(newest) - stored
	return done, nil
}

// write adds to b what newest does to one generation of one view. counts says
// that b is to count what is stored.
func (v *Views) write(b *batch, name, generation string, newest []app.NotificationStatus, counts bool) {
	switch name {
	case Status:
		v.writeStatus(b, generation, newest, counts)
	case Recipients:
		v.writeRecipients(b, generation, newest)
	case Counters:
		v.writeCounters(b, generation, newest)
	}
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
