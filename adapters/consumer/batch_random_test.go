package consumer_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/outbox/record"
)

// fate is what a message does to anyone who handles it.
type fate int

const (
	fine       fate = iota
	flaky           // fails so many times as its message says
	exhausting      // fails forever
	deadly          // fails forever and says so
	panicking       // panics forever
)

// batchWorld is a transactional batch function over messages with fates, and a
// ledger of what it did that shares nothing with the router.
type batchWorld struct {
	t       *testing.T
	mu      sync.Mutex
	rnd     *rand.Rand
	fates   map[string]fate
	left    map[string]int // failures of flaky messages still to come
	applied []string       // in order
}

func (w *batchWorld) draw(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

// attempt is what a message does once; applied counts only when it is committed.
func (w *batchWorld) attempt(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.fates[id] {
	case flaky:
		if w.left[id] > 0 {
			w.left[id]--
			return errDown
		}
	case exhausting:
		return errDown
	case deadly:
		return consumer.Fatal(errDown)
	case panicking:
		return errors.New("panic")
	}
	return nil
}

func (w *batchWorld) commit(ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.applied = append(w.applied, ids...)
}

// handle fails in one of the ways that a batch function may.
func (w *batchWorld) handle(b *record.Batch) error {
	style := w.draw(4)
	failed := map[int]error{}
	behind := map[string]bool{}
	var done []string
	for i, m := range b.Messages {
		key, keyed := records.Key(m)
		if keyed && behind[key] {
			failed[i] = nil
			continue
		}
		err := w.attempt(m.UUID)
		if err == nil {
			done = append(done, m.UUID)
			continue
		}
		if err.Error() == "panic" && (style == 0 || len(b.Messages) == 1) {
			panic("boom")
		}
		if style == 1 || style == 0 {
			return err // nothing is committed, nobody is named
		}
		failed[i] = err
		behind[key] = keyed
	}
	w.commit(done)
	if len(failed) > 0 {
		return &consumer.BatchError{Failed: failed}
	}
	return nil
}

func TestHandleBatch_RandomFailuresKeepOrderAndApplyOnce(t *testing.T) {
	t.Parallel()
	for range 60 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			runBatchWorld(t, seed)
		})
	}
}

func runBatchWorld(t *testing.T, seed uint64) {
	w := &batchWorld{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), fates: map[string]fate{}, left: map[string]int{}}
	dead, done := &broker{}, make(deliveries, 1000)
	opts := []consumer.Option{consumer.WithParallel(1 + w.rnd.IntN(8))}
	switch w.rnd.IntN(3) {
	case 0:
		opts = append(opts, consumer.WithAround(turnstile()))
	case 1:
		opts = append(opts, consumer.WithAround(passOn), consumer.WithInside(passOn))
	}
	f, stop := batchRouter(t, dead, done, w.handle, opts...)
	var given []string
	for range 3 {
		var texts []string
		for range 1 + w.rnd.IntN(25) {
			id := fmt.Sprintf("k%d:%d", w.rnd.IntN(6), len(given))
			if w.rnd.IntN(12) == 0 {
				id = fmt.Sprintf(":%d", len(given))
			}
			w.fates[id] = []fate{fine, fine, fine, fine, fine, flaky, flaky, exhausting, deadly, panicking}[w.rnd.IntN(10)]
			if w.fates[id] == flaky {
				w.left[id] = 1 + w.rnd.IntN(3)
			}
			given, texts = append(given, id), append(texts, id)
		}
		batch := f.give(texts...)
		done.outcomes(t, len(texts))
		require.ElementsMatch(t, texts, batch.acked())
	}
	require.NoError(t, stop())
	w.judge(given, dead.All())
}

// judge compares what was applied, and what became a dead letter, with the fates.
func (w *batchWorld) judge(given []string, deadLetters []sent) {
	var live, lost []string
	for _, id := range given {
		if f := w.fates[id]; f == fine || f == flaky {
			live = append(live, id)
		} else {
			lost = append(lost, id)
		}
	}
	require.ElementsMatch(w.t, live, w.applied, "once each")
	var dead []string
	for _, l := range deadLetters {
		dead = append(dead, string(l.Key)+":"+string(l.Value))
	}
	require.ElementsMatch(w.t, lost, dead)
	for k := range 6 {
		key := fmt.Sprintf("k%d:", k)
		ofKey := func(ids []string) (of []string) {
			for _, id := range ids {
				if len(id) > len(key) && id[:len(key)] == key {
					of = append(of, id)
				}
			}
			return of
		}
		require.Equal(w.t, ofKey(live), ofKey(w.applied), "in order within the key")
		require.Equal(w.t, ofKey(lost), ofKey(dead), "dead letters too")
	}
}

func passOn(next message.HandlerFunc) message.HandlerFunc { return next }
