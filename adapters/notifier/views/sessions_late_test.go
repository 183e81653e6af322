package views_test

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
	"github.com/millrace-go/millrace/outbox"
)

// lateReader keeps what it has read to itself until it is released: what it read
// of sessions or what it read of accounts.
type lateReader struct {
	app.AccountReader
	ofAccounts bool

	hold    atomic.Bool
	read    chan struct{}
	release chan struct{}
	once    sync.Once
}

func newLateReader(ofAccounts bool) *lateReader {
	return &lateReader{ofAccounts: ofAccounts, read: make(chan struct{}, 1000), release: make(chan struct{})}
}

// free lets everybody go on, and nobody wait any more.
func (r *lateReader) free() {
	r.once.Do(func() {
		r.hold.Store(false)
		close(r.release)
	})
}

func (r *lateReader) wait(ofAccount bool) {
	if ofAccount == r.ofAccounts && r.hold.Load() {
		r.read <- struct{}{}
		<-r.release
	}
}

func (r *lateReader) SessionView(ctx context.Context, id account.SessionID) (app.SessionView, error) {
	v, err := r.AccountReader.SessionView(ctx, id)
	r.wait(false)
	return v, err
}

func (r *lateReader) AccountView(ctx context.Context, id account.ID) (app.AccountView, error) {
	v, err := r.AccountReader.AccountView(ctx, id)
	r.wait(true)
	return v, err
}

// recordedSessions is what the outbox holds, as a consumer would get it.
func recordedSessions(t *testing.T, n *node) []domain.Recorded {
	t.Helper()
	rows, err := n.db.QueryContext(t.Context(), `SELECT headers, payload, event_id, event_type,
		aggregate_type, aggregate_id, aggregate_version FROM outbox ORDER BY position`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	var out []domain.Recorded
	for rows.Next() {
		var text, payload []byte
		var id, kind, aggregate, aggregateID string
		var version int64
		require.NoError(t, rows.Scan(&text, &payload, &id, &kind, &aggregate, &aggregateID, &version))
		headers := map[string]string{}
		require.NoError(t, json.Unmarshal(text, &headers))
		headers[outbox.HeaderEventID], headers[outbox.HeaderEventType] = id, kind
		headers[outbox.HeaderAggregateType], headers[outbox.HeaderAggregateID] = aggregate, aggregateID
		headers[outbox.HeaderAggregateVersion] = strconv.FormatInt(version, 10)
		e, err := codec.New(codec.Config{}).Decode(headers, payload)
		require.NoError(t, err)
		out = append(out, e)
	}
	require.NoError(t, rows.Err())
	return out
}

func reversed(events []domain.Recorded) []domain.Recorded {
	out := slices.Clone(events)
	slices.Reverse(out)
	return out
}
