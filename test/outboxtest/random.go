package outboxtest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
)

// random runs a seeded schedule of transactions over a few keys, each with at
// most one open transaction, and of readers that take over from each other, and
// compares what they read with what was committed.
func random(t *testing.T, s *suite) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	type open struct {
		tx   Tx
		want []string
	}
	var (
		running   = map[int]*open{}
		committed = map[string][]string{}
		read      = map[string][]string{}
		counter   int
		cursor    outbox.Cursor
	)
	session := s.lead("r", "a")
	end := func(key int) {
		o := running[key]
		delete(running, key)
		if rng.IntN(4) == 0 {
			require.NoError(t, o.tx.Rollback())
			return
		}
		require.NoError(t, o.tx.Commit())
		name := fmt.Sprint("k", key)
		committed[name] = append(committed[name], o.want...)
	}
	poll := func(limit int) (n int) {
		b, err := session.Read(t.Context(), limit, 1<<20)
		require.NoError(t, err)
		for _, e := range b.Entries {
			read[e.Key] = append(read[e.Key], string(e.Payload))
		}
		cursor = b.Cursor
		return len(b.Entries)
	}
	for range 400 {
		switch key := rng.IntN(8); {
		case rng.IntN(3) == 0:
			poll(1 + rng.IntN(5))
		case rng.IntN(40) == 0:
			require.NoError(t, session.Save(t.Context(), outbox.Checkpoint{Cursor: cursor}))
			require.NoError(t, session.Release(t.Context()))
			session = s.lead("r", fmt.Sprint("owner", rng.IntN(3)))
		case running[key] != nil && rng.IntN(2) == 0:
			end(key)
		default:
			if running[key] == nil {
				running[key] = &open{tx: s.begin()}
			}
			counter++
			payload := fmt.Sprint(counter)
			require.NoError(t, running[key].tx.Append(t.Context(), message(fmt.Sprint("k", key), payload)))
			running[key].want = append(running[key].want, payload)
		}
	}
	for key := range 8 {
		if running[key] != nil {
			end(key)
		}
	}
	for empty := 0; empty < 3; {
		if poll(7) == 0 {
			empty++
		}
	}
	require.Equal(t, committed, read)
	require.Zero(t, cursor.Missing())
}
