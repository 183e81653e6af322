package pgstore_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
)

func TestTogetherCommit_WritesBothOrNothing(t *testing.T) {
	t.Parallel()
	db := newCustomers(t)
	_, err := db.Exec(`ALTER TABLE outbox ADD CONSTRAINT refused CHECK (key <> 'refused')`)
	require.NoError(t, err)
	for _, prepare := range []bool{false, true} {
		w := newTogether(t, db, renameCustomer, prepare)
		was, rows := count(t, db, `SELECT version FROM customer`), count(t, db, `SELECT count(*) FROM outbox`)
		var version int64
		var name string
		require.NoError(t, w.Commit(t.Context(), []any{"a", "new", was}, []any{&version, &name},
			outbox.Message{Topic: "t", Key: "a", Payload: []byte{0, 1}}, outbox.Message{Topic: "t", Key: "a"}))
		require.Equal(t, int64(was+1), version)
		require.NoError(t, w.Commit(t.Context(), []any{"a", "newer", version}, nil, outbox.Message{Topic: "t", Key: "a"}))

		try := func(args []any, msgs ...outbox.Message) error { return w.Commit(t.Context(), args, nil, msgs...) }
		stale := try([]any{"a", "stale", was}, outbox.Message{Topic: "t", Key: "a"})
		require.ErrorIs(t, stale, pgstore.ErrNoEntity)
		refused := try([]any{"a", "x", was + 2}, outbox.Message{Topic: "t", Key: "refused"})
		require.ErrorContains(t, refused, "refused")
		require.ErrorIs(t, try([]any{"a", "x", was + 2}, outbox.Message{Topic: "t"}), outbox.ErrInvalidMessage)
		require.ErrorContains(t, try([]any{"a", "x", was + 2}), "no messages")
		for _, certain := range []error{stale, refused} {
			require.NotErrorIs(t, certain, pgstore.ErrOutcomeUnknown)
		}
		require.Equal(t, was+2, count(t, db, `SELECT version FROM customer WHERE name = 'newer'`))
		require.Equal(t, rows+3, count(t, db, `SELECT count(*) FROM outbox`))
	}
}

func TestTogetherCommit_PositionsOfOneKeyRiseInCommitOrder(t *testing.T) {
	t.Parallel()
	db := newCustomers(t)
	w := newTogether(t, db, hot["upsert"], true)
	var versions [16]map[uuid.UUID]int64
	g, ctx := errgroup.WithContext(t.Context())
	for c := range versions {
		versions[c] = map[uuid.UUID]int64{}
		g.Go(func() error {
			for range 40 {
				var version int64
				id := uuid.New()
				if err := w.Commit(ctx, []any{"a"}, []any{&version}, outbox.Message{ID: id, Topic: "t", Key: "a"}); err != nil {
					return err
				}
				versions[c][id] = version
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	rows, err := db.QueryContext(t.Context(), `SELECT event_id FROM outbox ORDER BY position`)
	require.NoError(t, err)
	defer rows.Close()
	last, seen := int64(0), 0
	for ; rows.Next(); seen++ {
		var id uuid.UUID
		require.NoError(t, rows.Scan(&id))
		for _, own := range versions {
			if v, ok := own[id]; ok {
				require.Greater(t, v, last, "position order is not commit order")
				last = v
			}
		}
	}
	require.NoError(t, rows.Err())
	require.Equal(t, 16*40, seen)
}

func TestTogetherCommit_ALostConnectionNeverRunsItTwice(t *testing.T) {
	t.Parallel()
	server := harness.NewDatabase(t)
	for _, q := range []string{`CREATE TABLE customer (id text PRIMARY KEY, version bigint NOT NULL)`, `INSERT INTO customer VALUES ('a', 1)`} {
		_, err := server.DB.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	u, err := url.Parse(server.DSN)
	require.NoError(t, err)
	middle := newMiddle(t, u.Host)
	u.Host = middle.Addr().String()
	db, err := sql.Open("postgres", u.String())
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	w := newTogether(t, db, `UPDATE customer SET version = version + 1 WHERE id = $1 RETURNING version`, true)

	holder, err := server.DB.BeginTx(t.Context(), nil) // the statement waits at the server for this one
	require.NoError(t, err)
	defer holder.Rollback()
	_, err = holder.Exec(`SELECT FROM customer FOR UPDATE`)
	require.NoError(t, err)
	answer := make(chan error, 1)
	go func() {
		answer <- w.Commit(context.WithoutCancel(t.Context()), []any{"a"}, nil, outbox.Message{Topic: "t", Key: "a"})
	}()
	waiting := `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
	require.Eventually(t, func() bool { return count(t, server.DB, waiting) == 1 }, 2*time.Minute, 5*time.Millisecond)
	middle.hangUp()
	select {
	case err = <-answer:
	case <-time.After(30 * time.Second): // a second attempt would wait for the lock
		err = errors.New("still at work")
	}
	require.NoError(t, holder.Commit())
	require.ErrorIs(t, err, pgstore.ErrOutcomeUnknown)
	require.Eventually(t, func() bool { return count(t, server.DB, `SELECT version FROM customer`) == 2 }, 2*time.Minute, 5*time.Millisecond,
		"the server went on with the first attempt")
	require.Equal(t, 1, count(t, server.DB, `SELECT count(*) FROM outbox`))
}

// middle carries connections to a server and can end those it has towards the
// client in good order, as a pooler that restarts does: lib/pq reads that as a
// connection that database/sql may replace.
type middle struct {
	net.Listener
	mu      sync.Mutex
	clients []net.Conn
}

func newMiddle(t *testing.T, server string) *middle {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := &middle{Listener: l}
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			m.mu.Lock()
			m.clients = append(m.clients, client)
			m.mu.Unlock()
			carrying.Go(func() { _, _ = io.Copy(backend, client); _ = backend.Close() })
			carrying.Go(func() { _, _ = io.Copy(client, backend); _ = client.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); m.hangUp(); carrying.Wait() })
	return m
}

func (m *middle) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.clients {
		_ = c.Close()
	}
	m.clients = nil
}
