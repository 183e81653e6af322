package harness_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

func TestReadOutbox_TellsWhatIsCommittedInItsOrder(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	require.Empty(t, harness.ReadOutbox(t, db))
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	_, err := db.Exec(`INSERT INTO outbox (event_id, topic, key, payload, event_type, aggregate_type, aggregate_id, aggregate_version, headers)
		VALUES ($1, 't', 'k', $2, 'counted', 'counter', 'c', 3, '{"tenant": "x"}')`, id, make([]byte, 300))
	require.NoError(t, err)
	_, err = db.Exec(`INSERT INTO outbox (topic, key) VALUES ('t', 'bare')`)
	require.NoError(t, err)
	open, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, open.Rollback()) }()
	_, err = open.Exec(`INSERT INTO outbox (topic, key) VALUES ('t', 'open')`)
	require.NoError(t, err)

	rows := harness.ReadOutbox(t, db)
	require.Len(t, rows, 2)
	require.Equal(t, harness.OutboxRow{Topic: "t", Key: "k", Payload: make([]byte, 300), Headers: map[string]string{
		"event-id": id, "event-type": "counted", "aggregate-type": "counter", "aggregate-id": "c", "aggregate-version": "3", "tenant": "x",
	}}, rows[0])
	require.Equal(t, "bare", rows[1].Key)
	require.Nil(t, rows[1].Payload)
	require.Len(t, rows[1].Headers, 1, "the event id: empty columns make no header")
}
