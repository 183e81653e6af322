package watermillsql_test

import (
	"database/sql"
	"testing"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/watermillsql"
)

func TestSwitch_SendsWritersToTheOutbox(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	i, err := watermillsql.NewImporter(db, table, newWriter(t, db), importing())
	require.NoError(t, err)
	forward(t, db, watermillsql.NewSwitchSchema(watermillsql.SwitchSchemaConfig{}), "t", "a", "1", "2")
	require.Empty(t, moved(t, db))

	done, err := i.Switch(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, done.Moved)
	forward(t, db, watermillsql.NewSwitchSchema(watermillsql.SwitchSchemaConfig{}), "t", "a", "3")
	require.Equal(t, []string{"a=1", "a=2", "a=3"}, moved(t, db))
	require.Contains(t, contents(t, db)[2], `"topic":"t"`, "unwrapped")

	_, err = i.Switch(t.Context())
	require.NoError(t, err, "again it does nothing")
	look, err := i.Preview(t.Context())
	require.NoError(t, err)
	require.Equal(t, watermillsql.Preview{Switched: true}, look)
	require.Len(t, moved(t, db), 3)

	err = forwarderPublisher(t, db, wsql.DefaultPostgreSQLSchema{}).Publish("t", keyed("a", "4"))
	require.ErrorContains(t, err, "go to the outbox now", "a writer that was forgotten is refused, not lost")
}

func TestSwitch_GivesUpOnALongWriterAndChangesNothing(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	cfg := importing()
	cfg.SwitchTimeout, cfg.SwitchAttempts = 50*time.Millisecond, 2
	i, err := watermillsql.NewImporter(db, table, newWriter(t, db), cfg)
	require.NoError(t, err)
	slow, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	forward(t, slow, watermillsql.NewSwitchSchema(watermillsql.SwitchSchemaConfig{}), "t", "a", "1")
	_, err = i.Switch(t.Context())
	require.ErrorIs(t, err, watermillsql.ErrBusy)
	forward(t, slow, watermillsql.NewSwitchSchema(watermillsql.SwitchSchemaConfig{}), "t", "a", "2")
	require.NoError(t, slow.Commit())
	_, err = i.Switch(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"a=1", "a=2"}, moved(t, db))
}

func TestSwitch_MakesOlderSnapshotsTryAgain(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	i, err := watermillsql.NewImporter(db, table, newWriter(t, db), importing())
	require.NoError(t, err)
	old, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	defer func() { _ = old.Rollback() }()
	_, err = old.Exec(`SELECT count(*) FROM outbox`)
	require.NoError(t, err)
	_, err = i.Switch(t.Context())
	require.NoError(t, err)
	err = forwarderPublisher(t, old, watermillsql.NewSwitchSchema(watermillsql.SwitchSchemaConfig{})).Publish("t", keyed("a", "1"))
	var refused *pq.Error
	require.ErrorAs(t, err, &refused)
	require.EqualValues(t, "40001", refused.Code)
}

func TestSwitchSchema_WritesTheStockRowsUntilTheSwitch(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	forward(t, db, watermillsql.NewSwitchSchema(watermillsql.SwitchSchemaConfig{}), "t", "a", "1")
	forward(t, db, wsql.DefaultPostgreSQLSchema{}, "t", "a", "1")
	var kinds int
	require.NoError(t, db.QueryRow(`SELECT count(DISTINCT (payload::jsonb - 'uuid')::text || metadata::text) FROM watermill_events_out`).Scan(&kinds))
	require.Equal(t, 1, kinds)
	require.Error(t, forwarderPublisher(t, db, watermillsql.NewSwitchSchema(watermillsql.SwitchSchemaConfig{})).Publish("t", keyed("", "no key")))
}
