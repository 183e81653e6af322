package views_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// truth is what the database has: the newest event of each notification.
type truth struct {
	app.Reader
	mu     sync.Mutex
	newest map[notification.ID]domain.Recorded
	ids    []notification.ID
}

func (c *truth) add(e domain.Recorded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := notification.ID(e.AggregateID)
	known, seen := c.newest[id]
	if !seen {
		c.ids = append(c.ids, id)
	}
	if known.AggregateVersion < e.AggregateVersion {
		c.newest[id] = e
	}
}

func (c *truth) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ids)
}

// any returns one of the notifications, or "".
func (c *truth) any(rng *rand.Rand) notification.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ids) == 0 {
		return ""
	}
	return c.ids[rng.IntN(len(c.ids))]
}

// NotificationStatus implements app.Reader.
func (c *truth) NotificationStatus(_ context.Context, id notification.ID) (app.NotificationStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, found := c.newest[id]
	if !found {
		return app.NotificationStatus{}, domain.ErrNotFound
	}
	s, _ := app.ProjectStatus(e)
	return s, nil
}

// list is the window of a recipient.
func (c *truth) list(recipient string) (list []app.NotificationStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.newest {
		if s, _ := app.ProjectStatus(e); s.Recipient == recipient {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, inList)
	return list[:min(len(list), app.RecipientWindow)]
}

// inList is the order of a list.
func inList(a, b app.NotificationStatus) int {
	if c := b.RequestedAt.Compare(a.RequestedAt); c != 0 {
		return c
	}
	if a.ID > b.ID {
		return -1
	}
	return 1
}

// reader is one user of a process. It remembers what it saw in the views, and
// says so when it sees less.
type reader struct {
	v        *views.Views
	day      time.Time
	versions map[notification.ID]int64
	list     []app.NotificationStatus
	counts   app.DeliveryCounters
	looks    [3]int // how often each view answered
}

func newReader(v *views.Views) *reader {
	return &reader{v: v, day: time.Now(), versions: map[notification.ID]int64{}}
}

var errWentBack = errors.New("went back")

// look reads a view once, and fills it from the database if it misses.
func (r *reader) look(ctx context.Context, rng *rand.Rand, db *truth, recipient string) error {
	switch rng.IntN(3) {
	case 0:
		return r.lookAtOne(ctx, rng, db)
	case 1:
		return r.lookAtList(ctx, db, recipient)
	default:
		return r.lookAtCounters(ctx)
	}
}

func (r *reader) lookAtOne(ctx context.Context, rng *rand.Rand, db *truth) error {
	id := db.any(rng)
	if id == "" {
		return nil
	}
	s, err := r.v.NotificationStatus(ctx, id)
	if err == nil && s.Version < r.versions[id] {
		return errors.Join(errWentBack, errors.New("the status of "+string(id)))
	}
	r.versions[id] = s.Version
	r.looks[0]++
	return err
}

// lookAtList demands that what was in the list is there still, as new as it was,
// or is pushed out by newer ones.
func (r *reader) lookAtList(ctx context.Context, db *truth, recipient string) error {
	list, err := r.v.RecipientNotifications(ctx, recipient)
	if errors.Is(err, app.ErrViewMiss) {
		miss := err
		list = db.list(recipient)
		err = r.v.FillRecipientNotifications(ctx, recipient, app.TicketOf(miss), list)
	}
	if err != nil {
		return err
	}
	now := map[notification.ID]int64{}
	for _, s := range list {
		now[s.ID] = s.Version
	}
	for _, before := range r.list {
		version, there := now[before.ID]
		pushedOut := len(list) == app.RecipientWindow && inList(list[len(list)-1], before) < 0
		if version < before.Version && (there || !pushedOut) {
			return errors.Join(errWentBack, errors.New("the list at "+string(before.ID)))
		}
	}
	r.list = list
	r.looks[1]++
	return nil
}

func (r *reader) lookAtCounters(ctx context.Context) error {
	counts, err := r.v.DeliveryCounters(ctx, r.day)
	if err != nil {
		return err
	}
	for channel, before := range r.counts {
		if less(counts[channel], before) {
			return errors.Join(errWentBack, errors.New("the counters of "+string(channel)))
		}
	}
	r.counts = counts
	r.looks[2]++
	return nil
}

func less(now, before app.DeliveryCount) bool {
	return now.Requested < before.Requested || now.Sent < before.Sent || now.Failed < before.Failed ||
		now.Abandoned < before.Abandoned || now.Read < before.Read
}
