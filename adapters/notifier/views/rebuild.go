package views

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/cache/rebuild"
	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/outbox"
)

// Names of the views.
const (
	Status     = "notification" // status by notification
	Recipients = "recipient"    // newest notifications by recipient
	Counters   = "counters"     // counters by day
)

// Names lists the views.
func Names() []string { return []string{Status, Recipients, Counters} }

// Tracker knows the generations of the views.
func (v *Views) Tracker() *rebuild.Tracker { return v.tracker }

// Rebuildable is the view of that name as a rebuild.Builder needs it. topic is
// where the events of notifications are; empty means codec.TopicNotification.
func (v *Views) Rebuildable(name, topic string) (rebuild.View, error) {
	if !slices.Contains(Names(), name) {
		return rebuild.View{}, fmt.Errorf("there is no view %q: the views are %s", name, strings.Join(Names(), ", "))
	}
	if topic == "" {
		topic = codec.TopicNotification
	}
	f := folder{views: v, name: name, topic: topic, codec: codec.New(codec.Config{})}
	view := rebuild.View{Name: name, Life: v.cfg.TTL + v.cfg.TTL/10, Fold: f.fold}
	switch name {
	case Counters:
		view.Life = time.Duration(v.cfg.CounterDays+1) * 24 * time.Hour
	case Recipients:
		view.Finish = v.finishLists
	}
	return view, nil
}

// folder folds entries of the log into one view.
type folder struct {
	views *Views
	name  string
	topic string
	codec *codec.Codec
}

// fold is a rebuild.View's Fold. What cannot be decoded is a dead letter to those
// who keep the view, and is not in it either.
func (f *folder) fold(ctx context.Context, generation string, entries []outbox.Entry) (done rebuild.Folded, err error) {
	events := make([]domain.Recorded, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		if e.Topic != f.topic {
			done.Ignored++
			continue
		}
		event, err := f.codec.Decode(headersOf(e), e.Payload)
		if err != nil {
			if done.Undecodable++; done.Example == 0 {
				done.Example = e.Position
			}
			continue
		}
		events = append(events, event)
	}
	ignored, err := f.views.Fold(ctx, f.name, generation, events...)
	done.Ignored += int64(ignored)
	done.Events = int64(len(events) - ignored)
	return done, err
}

// headersOf are the headers that the record of e has.
func headersOf(e *outbox.Entry) map[string]string {
	headers := make(map[string]string, len(e.Headers)+6)
	for name, value := range outbox.RecordHeaders(e) {
		headers[name] = value
	}
	return headers
}

// Fold applies events to one generation of one view, and returns how many of them
// are of no interest to it. Order and repetition do not matter.
func (v *Views) Fold(ctx context.Context, name, generation string, events ...domain.Recorded) (ignored int, err error) {
	newest, done := fold(events)
	if len(newest) == 0 {
		return done.Ignored, nil
	}
	if _, err := v.write(ctx, name, cache.Generations{Live: generation}, newest); err != nil {
		return done.Ignored, fmt.Errorf("fold events into %s: %w", name, err)
	}
	return done.Ignored, nil
}

// completeScript has KEYS: hash. It says that the list has all of its window, if
// there is a list.
var completeScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'complete', '1')
end
return 1
`)

// finishLists marks the lists of recipients as complete, if they lack nothing: the
// log goes back to its first event, and no list was evicted or has expired since
// they were begun. Otherwise readers fill them from the database.
func (v *Views) finishLists(ctx context.Context, g rebuild.Finished) error {
	if !g.Whole || time.Since(g.Begun) >= v.cfg.TTL {
		return nil
	}
	return v.tracker.ScanKeys(ctx, Recipients, g.Generation, func(keys []string) error {
		var b batch
		for _, key := range keys {
			if strings.HasSuffix(key, "}") {
				b.add(completeScript, []string{key})
			}
		}
		if len(b.calls) == 0 {
			return nil
		}
		return b.run(ctx, v.rdb)
	})
}
