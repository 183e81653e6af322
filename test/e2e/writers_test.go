package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// eventWriters write to a log with a retention and remember what was committed. Unlike
// a load it takes no refusal: the first error of a writer is the test's failure.
type eventWriters struct {
	p       *pipe
	stop    chan struct{}
	once    sync.Once
	running sync.WaitGroup

	mu      sync.Mutex
	events  []written
	failure error
	slowest time.Duration // from BEGIN until COMMIT, less the time a writer held it open
}

// written is a committed event.
type written struct {
	id       string
	position int64
}

// eventWriters starts no writer yet. The end of the test stops them at the latest.
func (p *pipe) eventWriters(t *testing.T) *eventWriters {
	s := &eventWriters{p: p, stop: make(chan struct{})}
	t.Cleanup(s.end)
	return s
}

// eventWriter is one of them: after each pause a transaction with an event for
// each of its keys, which stays open for hold. Every rollbackEvery-th transaction
// is rolled back (0: none). Events of the versions in large have 100,000 bytes.
type eventWriter struct {
	name          string
	keys          int
	pause, hold   time.Duration
	rollbackEvery int
	large         []int
}

func (s *eventWriters) start(h eventWriter) {
	s.running.Go(func() {
		for n, version := 1, 1; ; n++ {
			undo := h.rollbackEvery > 0 && n%h.rollbackEvery == 0
			if err := s.write(h, version, undo); err != nil {
				s.fail(err)
				return
			}
			if !undo {
				version++
			}
			select {
			case <-s.stop:
				return
			case <-time.After(h.pause):
			}
		}
	})
}

func (s *eventWriters) write(h eventWriter, version int, undo bool) error {
	began, bytes := time.Now(), 300
	if slices.Contains(h.large, version) {
		bytes = 100_000
	}
	tx, err := s.p.db.DB.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	events, err := insert(tx, `
		INSERT INTO outbox (topic, key, aggregate_version, payload)
		SELECT $1, $2 || k, $3, convert_to(repeat('x', $5), 'UTF8') FROM generate_series(1, $4) k
		RETURNING event_id::text, position`, s.p.topic, h.name, version, h.keys, bytes)
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if h.hold > 0 {
		select {
		case <-s.stop:
		case <-time.After(h.hold):
		}
	}
	if undo {
		return tx.Rollback()
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, events...)
	s.slowest = max(s.slowest, time.Since(began)-h.hold)
	return nil
}

// note remembers events that somebody else has committed.
func (s *eventWriters) add(events []written) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, events...)
}

type querier interface {
	Query(query string, args ...any) (*sql.Rows, error)
}

// insert runs a statement that returns ids and positions.
func insert(q querier, query string, args ...any) (events []written, err error) {
	rows, err := q.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var w written
		if err := rows.Scan(&w.id, &w.position); err != nil {
			return nil, err
		}
		events = append(events, w)
	}
	return events, rows.Err()
}

func (s *eventWriters) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = errors.Join(s.failure, fmt.Errorf("a writer was refused: %w", err))
}

// beyond lists the events committed so far at positions after from.
func (s *eventWriters) beyond(from int64) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.events {
		if w.position > from {
			ids = append(ids, w.id)
		}
	}
	return ids
}

// await waits until n more events are committed.
func (s *eventWriters) await(t *testing.T, n int) {
	t.Helper()
	from := len(s.beyond(0))
	require.Eventually(t, func() bool { return len(s.beyond(0)) >= from+n || s.err() != nil }, liveness, 5*time.Millisecond)
	require.NoError(t, s.err())
}

func (s *eventWriters) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// end stops the writers after their transactions at work.
func (s *eventWriters) end() {
	s.once.Do(func() { close(s.stop) })
	s.running.Wait()
}
