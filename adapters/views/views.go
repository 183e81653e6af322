// Package views keeps the Redis projections of the reference service.
//
// Each event of a notification carries the whole status (see app.ProjectStatus),
// so an entry is simply the newest event's. It is written only over an older
// version, compared inside Redis; redelivery, reordering and cache-aside fills
// therefore share one rule and cannot turn an entry back.
package views

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// Config configures Views. The zero value is usable.
type Config struct {
	// TTL is how long after its event an entry lives, at least one second. Each
	// id gets up to a tenth more, always the same. Default 24 h.
	TTL time.Duration
	// TombstoneTTL is how long a tombstone lives. It must outlive whatever can
	// still be replayed. Default 14 days.
	TombstoneTTL time.Duration
	// Prefix begins every key. Default "view:".
	Prefix string
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Views is the projection. It is safe for concurrent use.
type Views struct {
	rdb redis.Cmdable
	cfg Config
}

var _ app.Views = (*Views)(nil)

// New returns views in rdb. Give the client short timeouts: readers fall back to
// the database when Redis is slow.
func New(rdb redis.Cmdable, cfg Config) (*Views, error) {
	var v domain.Validation
	v.Check(rdb != nil, "rdb", "is nil")
	v.Check(cfg.TTL == 0 || cfg.TTL >= time.Second, "TTL", "must be at least 1s")
	v.Check(cfg.TombstoneTTL == 0 || cfg.TombstoneTTL >= time.Second, "TombstoneTTL", "must be at least 1s")
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("views: %w", err)
	}
	if cfg.TTL == 0 {
		cfg.TTL = 24 * time.Hour
	}
	if cfg.TombstoneTTL == 0 {
		cfg.TombstoneTTL = 14 * 24 * time.Hour
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "view:"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Views{rdb: rdb, cfg: cfg}, nil
}

// Applied counts what became of the events given to Apply.
type Applied struct {
	Stored  int // made an entry newer
	Older   int // an entry of this or a later version was there, or the event is too old to keep
	Ignored int // of no interest to the views
}

// Apply projects events, in one pipeline for all of them. Order and repetition
// do not matter. After an error some may have been stored: apply all again.
func (v *Views) Apply(ctx context.Context, events ...domain.Recorded) (Applied, error) {
	var done Applied
	newest := map[notification.ID]app.NotificationStatus{}
	for _, e := range events {
		s, ok := app.ProjectStatus(e)
		switch have, seen := newest[s.ID]; {
		case !ok:
			done.Ignored++
		case seen && have.Version >= s.Version:
			done.Older++
		case seen:
			done.Older++
			newest[s.ID] = s
		default:
			newest[s.ID] = s
		}
	}
	puts := make([]put, 0, len(newest))
	for id, s := range newest {
		puts = append(puts, put{v.key(id), entry{version: s.Version, state: stateOK, expiry: s.ChangedAt.Add(v.ttl(id)), status: s}})
	}
	stored, err := v.putAll(ctx, puts)
	done.Stored = stored
	done.Older += len(puts) - stored
	if err != nil {
		return done, fmt.Errorf("apply events to views: %w", err)
	}
	return done, nil
}

// FillNotificationStatus implements app.Views.
func (v *Views) FillNotificationStatus(ctx context.Context, s app.NotificationStatus) error {
	e := entry{version: s.Version, state: stateOK, expiry: v.cfg.Now().Add(v.ttl(s.ID)), status: s}
	if _, err := v.putAll(ctx, []put{{v.key(s.ID), e}}); err != nil {
		return fmt.Errorf("fill view of notification %s: %w", s.ID, err)
	}
	return nil
}

// Bury replaces the entry of a notification that is gone by a tombstone. version
// is that of the act that removed it; events before it cannot bring it back.
func (v *Views) Bury(ctx context.Context, id notification.ID, version int64) error {
	e := entry{version: version, state: stateNone, expiry: v.cfg.Now().Add(v.cfg.TombstoneTTL)}
	if _, err := v.putAll(ctx, []put{{v.key(id), e}}); err != nil {
		return fmt.Errorf("bury view of notification %s: %w", id, err)
	}
	return nil
}

// NotificationStatus implements app.Views. An entry that cannot be read counts
// as a miss, and anything newer than version zero replaces it.
func (v *Views) NotificationStatus(ctx context.Context, id notification.ID) (app.NotificationStatus, error) {
	raw, err := v.rdb.Get(ctx, v.key(id)).Result()
	if errors.Is(err, redis.Nil) {
		return app.NotificationStatus{}, app.ErrViewMiss
	}
	if err != nil {
		return app.NotificationStatus{}, fmt.Errorf("view of notification %s: %w", id, err)
	}
	e, err := parseEntry(raw)
	if err != nil || !v.cfg.Now().Before(e.expiry) {
		return app.NotificationStatus{}, app.ErrViewMiss
	}
	if e.state != stateOK {
		return app.NotificationStatus{}, domain.ErrNotFound
	}
	return e.status, nil
}

func (v *Views) key(id notification.ID) string { return v.cfg.Prefix + "notification:" + string(id) }

// ttl spreads the expiry of different ids, but is the same for all events of one:
// when the entry of one version ends by its age, every earlier event is past its
// own and is refused, so it cannot come back as if it were news.
func (v *Views) ttl(id notification.ID) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return v.cfg.TTL + v.cfg.TTL/10*time.Duration(h.Sum32()%1000)/1000
}
