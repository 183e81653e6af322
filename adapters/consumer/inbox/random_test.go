package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/test/lab"
)

// world delivers the same events again and again, from several consumers at
// once, while effects fail, connections die, answers to COMMIT are lost and
// pruning folds what was done. The table of effects is the judge: SQL counts in
// it, and shares nothing with the inbox.
type world struct {
	t      *testing.T
	s      *store
	mu     sync.Mutex
	rnd    *rand.Rand
	events []event
}

func (w *world) intN(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

// effect fails now and then, before or after it has written, in several ways.
func (w *world) effect(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
	switch w.intN(60) {
	case 0:
		return errPoison
	case 1:
		_ = effect(ctx, tx, msg)
		return errPoison
	case 2:
		_ = effect(ctx, tx, msg)
		panic("boom")
	case 3:
		_, err := tx.ExecContext(ctx, `SELECT 1/0`)
		return err
	case 4:
		_, err := tx.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	}
	return effect(ctx, tx, msg)
}

// some are random events in the order of their offsets, a few of them twice, as
// the relay may send them.
func (w *world) some() (of []event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := w.rnd.IntN(len(w.events))
	for _, e := range w.events[from:min(from+1+w.rnd.IntN(40), len(w.events))] {
		of = append(of, e)
		if w.rnd.IntN(10) == 0 {
			if e.version > 0 { // then a new place does not hide what it is
				e.offset += 1_000_000
			}
			of = append(of, e)
		}
	}
	return of
}

// deliver gives a batch to a consumer and checks that what it calls done is done.
func (w *world) deliver(ctx context.Context, one message.NoPublishHandlerFunc, many consumer.BatchFunc) {
	of := w.some()
	var done []string
	if w.intN(3) == 0 {
		if err := one(of[0].deliver(ctx)); err == nil {
			done = append(done, of[0].payload)
		}
	} else {
		err := many(batchOf(ctx, of...))
		left, partly := errors.AsType[*consumer.BatchError](err)
		for i, e := range of {
			if err == nil {
				done = append(done, e.payload)
			} else if partly {
				if _, out := left.Failed[i]; !out {
					done = append(done, e.payload)
				}
			}
		}
	}
	missing := w.s.count(`SELECT count(*) FROM unnest($1::text[]) d WHERE NOT EXISTS (SELECT FROM effect WHERE event = d)`, pq.Array(done))
	if missing > 0 {
		w.t.Errorf("%d of %v were called done and are not", missing, done)
	}
}

func TestInbox_RandomTroubleLeavesEveryEffectOnce(t *testing.T) {
	t.Parallel()
	for range 4 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			runWorld(t, seed)
		})
	}
}

func runWorld(t *testing.T, seed uint64) {
	const events, consumers, rounds = 300, 4, 40
	w := &world{t: t, s: newStore(t), rnd: rand.New(rand.NewPCG(seed, 7))}
	for n := range int64(events) {
		key := fmt.Sprintf("k%d", w.rnd.IntN(20))
		e := newEvent(key, n, fmt.Sprint(n))
		if w.rnd.IntN(2) == 0 {
			e.at = time.Now().Add(-2 * month)
		}
		if w.rnd.IntN(2) == 0 {
			e.version = n + 1
		}
		w.events = append(w.events, e)
	}
	w.s.exec(`CREATE TABLE old_event (id uuid PRIMARY KEY)`)
	for _, e := range w.events {
		if time.Since(e.at) > month {
			w.s.exec(`INSERT INTO old_event VALUES ($1)`, e.id)
		}
	}
	ctx := t.Context()
	var all sync.WaitGroup
	for c := range consumers {
		p, db := behindProxy(t, w.s)
		i := newInbox(t, db, inbox.Config{Retries: []int{-1, 0, 0, 0}[c], RetryWait: time.Millisecond})
		all.Go(func() {
			one, many := i.Handler(w.effect), i.Batch(w.effect)
			for range rounds {
				p.BreakNext([]lab.CommitFault{lab.PassOn, lab.PassOn, lab.PassOn, lab.LoseReply, lab.LoseCommit}[w.intN(5)])
				w.deliver(ctx, one, many)
				if w.intN(8) == 0 { // a long time passes: only events that look old may be folded
					w.s.exec(`UPDATE consumer_inbox b SET applied_at = applied_at - interval '40 days' FROM old_event o WHERE o.id = b.event_id`)
					if _, err := i.Prune(ctx); err != nil {
						p.BreakNext(lab.PassOn) // its own commit may be lost
					}
				}
			}
		})
	}
	all.Wait()
	i := newInbox(t, w.s.db, inbox.Config{})
	for _, e := range w.events {
		require.NoError(t, i.Handler(effect)(e.deliver(ctx)))
	}
	require.Equal(t, events, w.s.count(`SELECT count(DISTINCT event) FROM effect`), "nothing is lost")
	require.Equal(t, events, w.s.count(`SELECT count(*) FROM effect`), "nothing is there twice")
}
