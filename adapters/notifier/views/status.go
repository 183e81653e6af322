package views

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// newStatuses returns the view of the status of each notification: entries of the
// cache library under the generations of the view. A miss asks reader, under the
// library's lease.
func (v *Views) newStatuses(store *cache.Store, reader app.Reader) (*cache.Versioned[app.NotificationStatus], error) {
	load := func(ctx context.Context, id string) (cache.Entry[app.NotificationStatus], error) {
		s, err := reader.NotificationStatus(ctx, notification.ID(id[1:len(id)-1]))
		if errors.Is(err, domain.ErrNotFound) {
			err = cache.ErrNotFound
		}
		return v.entry(s, v.cfg.Now()), err
	}
	return cache.NewVersioned(store, Status, load, cache.VersionedConfig[app.NotificationStatus]{
		TTL:          2 * v.cfg.TTL, // never less than what an entry says of itself
		NegativeTTL:  -1,            // a notification can be requested at any moment
		TombstoneTTL: v.cfg.TombstoneTTL,
		Prefix:       v.cfg.Prefix + Status + ":",
		Generations:  func(ctx context.Context) (cache.Generations, error) { return v.tracker.Of(ctx, Status) },
		Encode:       encodeStatus,
		Decode:       decodeStatus,
	})
}

// statusID is the id of a notification in the cache. In braces it would decide the
// slot in a cluster.
func statusID(id notification.ID) string { return "{" + string(id) + "}" }

// entry is the entry of s, which ends some time after at.
func (v *Views) entry(s app.NotificationStatus, at time.Time) cache.Entry[app.NotificationStatus] {
	return cache.Entry[app.NotificationStatus]{Version: s.Version, Value: s, Expires: at.Add(v.ttl(s.ID))}
}

// writeStatuses writes newest to the generations g, and returns how many of them
// made an entry newer. An entry ends by the age of its event.
func (v *Views) writeStatuses(ctx context.Context, g cache.Generations, newest []app.NotificationStatus) (stored int, err error) {
	puts := make([]cache.Put[app.NotificationStatus], len(newest))
	for i, s := range newest {
		puts[i] = cache.Put[app.NotificationStatus]{ID: statusID(s.ID), Entry: v.entry(s, s.ChangedAt)}
	}
	done, err := v.statuses.In(g).PutAll(ctx, puts...)
	return done.Stored, err
}

// ttl spreads the expiry of different ids, but is the same for all events of one:
// when the entry of one version ends by its age, every earlier event is past its
// own end and is refused, so it cannot come back as if it were new.
func (v *Views) ttl(id notification.ID) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return v.cfg.TTL + v.cfg.TTL/10*time.Duration(h.Sum32()%1000)/1000
}

// Key is where Redis has the status of a notification, in the generation that
// answers: for operators.
func (v *Views) Key(ctx context.Context, id notification.ID) (string, error) {
	return v.statuses.Key(ctx, statusID(id))
}

// NotificationStatus implements app.Views.
func (v *Views) NotificationStatus(ctx context.Context, id notification.ID) (app.NotificationStatus, error) {
	e, err := v.statuses.GetEntry(ctx, statusID(id))
	if err == nil && e.State != cache.Live {
		err = cache.ErrNotFound
	}
	if err != nil {
		return app.NotificationStatus{}, fmt.Errorf("view of notification %s: %w", id, appError(err))
	}
	e.Value.Version = e.Version
	return e.Value, nil
}

// Remove replaces the entry of a notification that is gone by a tombstone. version
// is that of the act that removed it; events before it cannot bring it back.
func (v *Views) Remove(ctx context.Context, id notification.ID, version int64) error {
	err := v.tracker.Write(ctx, func(ctx context.Context, all map[string]cache.Generations) error {
		return v.statuses.In(all[Status]).Remove(ctx, statusID(id), version)
	})
	if err != nil {
		return fmt.Errorf("remove notification %s from the view: %w", id, err)
	}
	return nil
}

// statusPayload is the stored form of a status; its version is the entry's. The
// field names are part of the format.
type statusPayload struct {
	ID          notification.ID      `json:"id"`
	Recipient   string               `json:"recipient"`
	Channel     notification.Channel `json:"channel"`
	Subject     string               `json:"subject"`
	Status      notification.Status  `json:"status"`
	Attempts    int                  `json:"attempts"`
	Reason      string               `json:"reason,omitempty"`
	RequestedAt time.Time            `json:"requested_at"`
	ChangedAt   time.Time            `json:"changed_at"`
	ReadAt      time.Time            `json:"read_at,omitzero"`
}

func encodeStatus(s app.NotificationStatus) ([]byte, error) {
	return json.Marshal(statusPayload{
		s.ID, s.Recipient, s.Channel, s.Subject, s.Status, s.Attempts, s.Reason, s.RequestedAt, s.ChangedAt, s.ReadAt,
	})
}

func decodeStatus(b []byte) (app.NotificationStatus, error) {
	var p statusPayload
	err := json.Unmarshal(b, &p)
	return app.NotificationStatus{
		ID: p.ID, Recipient: p.Recipient, Channel: p.Channel, Subject: p.Subject, Status: p.Status, Attempts: p.Attempts,
		Reason: p.Reason, RequestedAt: p.RequestedAt, ChangedAt: p.ChangedAt, ReadAt: p.ReadAt,
	}, err
}
