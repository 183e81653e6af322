package postgres_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

// What the pages say together is what counting the notifications one by one says.
func TestStatistics_PagesAddUpToWhatIsStored(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	s := open(t, db, postgres.Config{})
	want := map[string]app.RecipientStatistics{}
	for range 120 {
		recipient := []string{"ada", "Ada", "bob ✓", "çelik", "z", "'", "a b", `\`}[rng.IntN(8)]
		n := s.addFor(t, rng, recipient)
		w := want[recipient]
		w.Recipient, w.Total, w.Attempts = recipient, w.Total+1, w.Attempts+int64(n.Attempts)
		switch n.Status {
		case notification.StatusSent:
			w.Sent++
		case notification.StatusAbandoned:
			w.Abandoned++
		default:
			w.Open++
		}
		if n.ChangedAt.After(w.LastAt) {
			w.LastAt = n.ChangedAt
		}
		want[recipient] = w
	}
	reports := postgres.NewStatistics(db)
	for limit := 1; limit <= len(want)+1; limit++ {
		got, q := map[string]app.RecipientStatistics{}, app.StatisticsQuery{Limit: limit}
		for pages := 0; ; pages++ {
			require.LessOrEqual(t, pages, len(want))
			page, err := reports.DeliveryStatistics(t.Context(), q)
			require.NoError(t, err)
			require.WithinDuration(t, time.Now(), page.AsOf, time.Minute)
			require.True(t, page.Next == "" || len(page.Recipients) == limit)
			for _, r := range page.Recipients {
				require.NotContains(t, got, r.Recipient, "no recipient is on two pages")
				got[r.Recipient] = r
			}
			if q.After = page.Next; q.After == "" {
				break
			}
		}
		require.Equal(t, want, got, "limit %d", limit)
	}
}

// addFor stores a notification to which something random has happened.
func (s *storage) addFor(t *testing.T, rng *rand.Rand, recipient string) notification.State {
	t.Helper()
	c := content
	c.Recipient = recipient
	n, err := notification.Request(notification.ID(app.NewID()), c, began)
	require.NoError(t, err)
	for range rng.IntN(4) {
		require.NoError(t, n.MarkFailed("no route", began.Add(time.Duration(rng.IntN(1000))*time.Second)))
	}
	switch rng.IntN(3) {
	case 0:
		require.NoError(t, n.MarkSent(began.Add(time.Hour)))
	case 1:
		require.NoError(t, n.Abandon("enough", began.Add(time.Hour)))
	}
	state := n.State()
	require.NoError(t, s.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return tx.Notifications().Add(ctx, n) }))
	return state
}

func TestStatistics_OfNothingIsAnEmptyPage(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	page, err := postgres.NewStatistics(db).DeliveryStatistics(t.Context(), app.StatisticsQuery{Limit: 5})
	require.NoError(t, err)
	require.Empty(t, page.Recipients)
	require.Empty(t, page.Next)
}

// plan is what EXPLAIN says of a node.
type plan struct {
	Kind   string  `json:"Node Type"`
	Index  string  `json:"Index Name"`
	Rows   float64 `json:"Actual Rows"`
	Heap   float64 `json:"Heap Fetches"`
	Plans  []plan  `json:"Plans"`
	Blocks float64 `json:"Shared Hit Blocks"`
	Read   float64 `json:"Shared Read Blocks"`
}

func (p plan) nodes() []plan {
	all := []plan{p}
	for _, child := range p.Plans {
		all = append(all, child.nodes()...)
	}
	return all
}

func explain(t *testing.T, db *sql.DB, query string, args ...any) plan {
	t.Helper()
	var text []byte
	require.NoError(t, db.QueryRowContext(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+query, args...).Scan(&text))
	var out []struct{ Plan plan }
	require.NoError(t, json.Unmarshal(text, &out))
	return out[0].Plan
}

// The tenth page costs what the first does, and neither depends on how many rows
// there are: the index is read in order and alone, and the scan ends with the page.
func TestStatistics_ReadThePagesRecipientsFromTheIndexAlone(t *testing.T) {
	t.Parallel()
	const recipients, each = 1000, 20
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	_, err := db.Exec(`INSERT INTO notification (id, recipient, channel, subject, body, status, attempts, requested_at, changed_at)
		SELECT gen_random_uuid(), 'r' || to_char(n % $1, 'FM0000'), 'sms', 's', repeat('b', 200), 'sent', 1, now(), now()
		FROM generate_series(1, $1::int * $2::int) AS n`, recipients, each)
	require.NoError(t, err)
	_, err = db.Exec(`VACUUM ANALYZE notification`)
	require.NoError(t, err)

	for _, after := range []string{"", "r0500"} {
		p := explain(t, db, postgres.SelectStatistics, after, 51)
		var scan plan
		var kinds []string
		for _, n := range p.nodes() {
			kinds = append(kinds, n.Kind)
			if len(n.Plans) == 0 {
				scan = n
			}
		}
		require.Equal(t, []string{"Limit", "Aggregate", "Index Only Scan"}, kinds, "no sort, no hash over everything")
		require.Equal(t, "notification_statistics", scan.Index)
		require.Zero(t, scan.Heap)
		require.LessOrEqual(t, scan.Rows, float64(52*each), "of %d rows", recipients*each)
		require.Less(t, p.Blocks+p.Read, 60.0)
	}
}
