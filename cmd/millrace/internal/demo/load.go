package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
)

const (
	writers    = 8
	recipients = 100
	rollbacks  = 0.03 // share of the transactions that are rolled back on purpose
	maxOpen    = 50   // notifications that a writer keeps to act on later
	sendShare  = 0.1  // share of the requests that the service sends itself
	maxSends   = 50   // of them a second, about
)

// load writes notifications: new ones, and acts on earlier ones so that their
// versions rise.
type load struct {
	s         *show
	committed atomic.Int64 // events whose transaction committed
	rolled    atomic.Int64 // events whose transaction did not
	poison    atomic.Int64
	sends     atomic.Int64

	mu      sync.Mutex
	commits map[version]time.Time // committed, not yet seen in Kafka
	early   map[version]struct{}  // seen in Kafka before the commit's answer
}

// version is one event by what both sides know of it.
type version struct {
	aggregate string
	number    int64
}

func newLoad(s *show) *load {
	return &load{s: s, commits: map[version]time.Time{}, early: map[version]struct{}{}}
}

func (l *load) planted() int64 { return l.poison.Load() }

// write runs the writers for the time that was asked for.
func (l *load) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.s.cfg.For)
	defer cancel()
	tickets := make(chan bool, writers) // true asks for poison
	var g errgroup.Group
	g.Go(func() error { defer close(tickets); l.pace(ctx, tickets); return nil })
	for range writers {
		g.Go(func() error {
			w := &writer{load: l}
			for poison := range tickets {
				if err := w.act(context.WithoutCancel(ctx), poison); err != nil {
					cancel()
					for range tickets { // let pace end
					}
					return fmt.Errorf("write: %w", err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// pace hands out as many tickets as the rate allows so far; it catches up after
// a pause, so that the average holds. Poison is spread evenly over the time, and
// all of it is handed out, however slow the writers are.
func (l *load) pace(ctx context.Context, tickets chan<- bool) {
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	given, poisoned := 0, 0
	for ctx.Err() == nil {
		passed := min(time.Since(start).Seconds()/l.s.cfg.For.Seconds(), 1)
		for given < int(passed*float64(l.s.cfg.Rate)*l.s.cfg.For.Seconds()) && ctx.Err() == nil {
			poison := poisoned < min(int(passed*float64(l.s.cfg.Poison+1)), l.s.cfg.Poison)
			if poison {
				poisoned++
			}
			tickets <- poison
			given++
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	for ; poisoned < l.s.cfg.Poison; poisoned++ {
		tickets <- true
	}
}

// note keeps the time of a commit, or counts a delivery that was even earlier.
func (l *load) note(v version) {
	now := time.Now()
	l.committed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, seen := l.early[v]; seen {
		delete(l.early, v)
		l.s.delay.Observe(0)
		return
	}
	l.commits[v] = now
}

// arrived measures the time from commit to consumer.
func (l *load) arrived(v version) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	at, known := l.commits[v]
	if !known {
		l.early[v] = struct{}{}
		return
	}
	delete(l.commits, v)
	l.s.delay.Observe(now.Sub(at))
}

// writer is one client of the service with notifications of its own.
type writer struct {
	load *load
	open []version
	n    int
}

var errChangedMind = errors.New("rolled back on purpose")

// act commits one event, or rolls one back.
func (w *writer) act(ctx context.Context, poison bool) error {
	l := w.load
	switch {
	case poison:
		if err := w.request(ctx, l.s.pipe.poison.subject(), notification.Email); err != nil {
			return err
		}
		l.poison.Add(1)
		return nil
	case rand.Float64() < rollbacks:
		err := l.s.pipe.uow.Do(ctx, func(ctx context.Context, _ app.Tx) error {
			if _, err := l.s.pipe.app.RequestNotification(ctx, w.content("never", sentBy)); err != nil {
				return err
			}
			return errChangedMind
		})
		if !errors.Is(err, errChangedMind) {
			return fmt.Errorf("roll back: %w", err)
		}
		l.rolled.Add(1)
		return w.request(ctx, "after a rollback", notification.Email)
	case len(w.open) > 0 && (rand.IntN(2) == 0 || len(w.open) >= maxOpen):
		return w.advance(ctx)
	}
	share := min(sendShare, maxSends/float64(l.s.cfg.Rate))
	if rand.Float64() < share || l.sends.Load() == 0 {
		l.sends.Add(1)
		return w.request(ctx, "to be sent", sentBy)
	}
	return w.request(ctx, "hello", notification.Email)
}

func (w *writer) request(ctx context.Context, subject string, by notification.Channel) error {
	res, err := w.load.s.pipe.app.RequestNotification(ctx, w.content(subject, by))
	if err != nil {
		return err
	}
	v := version{string(res.ID), 1}
	w.load.note(v)
	if by != sentBy {
		w.open = append(w.open, v)
	}
	return nil
}

// advance lets a notification be sent and then read, or be abandoned.
func (w *writer) advance(ctx context.Context) error {
	i := rand.IntN(len(w.open))
	v := &w.open[i]
	var err error
	over := v.number == 2
	switch {
	case over:
		err = w.load.s.pipe.app.MarkRead(ctx, v.aggregate)
	case rand.IntN(4) == 0:
		over, err = true, w.load.s.pipe.app.AbandonNotification(ctx, v.aggregate, "not wanted any more")
	default:
		err = w.load.s.pipe.app.MarkSent(ctx, v.aggregate)
	}
	if err != nil {
		return err
	}
	v.number++
	w.load.note(*v)
	if over {
		w.open[i] = w.open[len(w.open)-1]
		w.open = w.open[:len(w.open)-1]
	}
	return nil
}

func (w *writer) content(subject string, by notification.Channel) app.RequestNotification {
	w.n++
	return app.RequestNotification{Content: notification.Content{
		Recipient: fmt.Sprintf("user-%d@example.org", rand.IntN(recipients)),
		Channel:   by, Subject: subject, Body: fmt.Sprintf("notification %d of this writer", w.n),
	}}
}
