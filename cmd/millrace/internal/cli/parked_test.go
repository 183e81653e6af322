package cli_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

// lot is a database with parked messages: key k with 1, 3 and 4, key l with 2,
// binary, and for another relay 1.
func lot(t *testing.T) (db *harness.Database, parked func(args ...string) outcome) {
	db = harness.NewDatabase(t)
	_, err := db.DB.Exec(`
SELECT outbox_append('t', 'k', E'{\n "n": 1 }'::text, 'thing.happened', 'thing', 'k', 7, '{"traceparent": "00-x"}', '0198f6f0-0000-7000-8000-000000000001');
SELECT outbox_append('u', 'l', '\x00ff10'::bytea);
SELECT outbox_append('t', 'k', NULL::bytea);
SELECT outbox_append('t', 'k', repeat('x', 5000)::text);
INSERT INTO outbox_parked (relay, position, topic, key, reason) VALUES
 ('relay', 1, 't', 'k', 'message too large'), ('relay', 2, 'u', 'l', 'unknown topic'), ('other', 1, 't', 'k', 'message too large'),
 ('relay', 3, 't', 'k', 'waits behind a parked message of its key'), ('relay', 4, 't', 'k', 'waits behind a parked message of its key')`)
	require.NoError(t, err)
	return db, func(args ...string) outcome {
		t.Helper()
		return run(t, map[string]string{"DATABASE_URL": db.DSN}, append([]string{"parked"}, args...)...)
	}
}

func states(t *testing.T, db *harness.Database) (list string) {
	t.Helper()
	err := db.DB.QueryRow(`SELECT string_agg(state, ' ' ORDER BY position) FROM outbox_parked WHERE relay = 'relay'`).Scan(&list)
	require.NoError(t, err)
	return list
}

func TestParkedList_ChoosesByRelayTopicKeyAndState(t *testing.T) {
	t.Parallel()
	db, parked := lot(t)
	_, err := db.DB.Exec(`UPDATE outbox_parked SET state = 'skipped' WHERE position = 1 AND relay = 'relay'`)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		args []string
		want []int64
	}{
		"all":             {nil, []int64{2, 3, 4}},
		"topic":           {[]string{"--topic", "t"}, []int64{3, 4}},
		"key":             {[]string{"--key", "l"}, []int64{2}},
		"with those done": {[]string{"--done"}, []int64{1, 2, 3, 4}},
		"limit":           {[]string{"--limit", "1"}, []int64{2}},
		"other relay":     {[]string{"--relay-name", "other"}, []int64{1}},
		"none":            {[]string{"--key", "m"}, []int64{}},
	} {
		got := parked(append([]string{"list", "--json"}, c.args...)...)
		require.Zero(t, got.code, got.stderr)
		var all []struct{ Position int64 }
		require.NoError(t, json.Unmarshal([]byte(got.out), &all))
		positions := []int64{}
		for _, m := range all {
			positions = append(positions, m.Position)
		}
		require.Equal(t, c.want, positions, name)
	}
	got := parked("list")
	require.Regexp(t, `(?m)^2 +parked +\S+Z +1 +u +"l" +3 +unknown topic$`, got.out)
	require.Equal(t, "no parked messages\n", parked("list", "--topic", "none").out)

	_, err = db.DB.Exec(`INSERT INTO outbox_cursor (relay) VALUES ('relay'), ('other')`)
	require.NoError(t, err)
	require.Zero(t, parked("list", "--relay-name", "other").code)
	got = parked("list", "--relay-name", "misspelt")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, `no relay "misspelt" has run on this outbox: give --relay-name, one of other, relay`)
}

func TestParkedShow_PrintsTextBytesAndNull(t *testing.T) {
	t.Parallel()
	db, parked := lot(t)
	text := parked("show", "--position", "1")
	require.Zero(t, text.code, text.stderr)
	for _, part := range []string{
		"message too large", "thing k version 7", "0198f6f0-0000-7000-8000-000000000001", "thing.happened",
		`header traceparent  "00-x"`, "11 bytes\n{\n \"n\": 1 }\n",
	} {
		require.Contains(t, text.out, part)
	}
	require.Contains(t, parked("show", "--position", "2").out, "3 bytes\n00000000  00 ff 10 ")
	null := parked("show", "--position", "3").out
	require.NotContains(t, null, "aggregate", "it is of none")
	require.Contains(t, null, "waits behind an earlier message")
	require.Contains(t, null, "null (a tombstone)")
	long := parked("show", "--position", "4").out
	require.Contains(t, long, "5000 bytes, the first 4096:")
	require.Less(t, len(long), 5000)

	var whole struct {
		Payload []byte
		Headers map[string]string
		Gone    bool
	}
	require.NoError(t, json.Unmarshal([]byte(parked("show", "--position", "4", "--json").out), &whole))
	require.Len(t, whole.Payload, 5000)

	_, err := db.DB.Exec(`INSERT INTO outbox_parked (relay, position, topic, key, reason) VALUES ('relay', 99, 't', 'z', 'r')`)
	require.NoError(t, err)
	require.Contains(t, parked("show", "--position", "99").out, "gone")
	none := parked("show", "--position", "98")
	require.Equal(t, 1, none.code)
	require.Contains(t, none.stderr, "no message at position 98")
}

func TestParkedDecisions_ChangeNothingWithoutYes(t *testing.T) {
	t.Parallel()
	db, parked := lot(t)
	for _, args := range [][]string{{"redrive"}, {"skip", "--position", "1"}, {"discard", "--topic", "t"}} {
		got := parked(args...)
		require.Zero(t, got.code, got.stderr)
		require.Contains(t, got.out, "would ")
		require.Contains(t, got.stderr, "give --yes")
	}
	require.Equal(t, "parked parked parked parked", states(t, db))
	require.Contains(t, parked("redrive").out, "would publish 4 messages of 2 keys again, in order")
	require.Contains(t, parked("skip", "--position", "3").out, "would give position 3 up and publish the other 2 of its key")
}

func TestParkedDecisions_AreRecordedWithActorAndNote(t *testing.T) {
	t.Parallel()
	db, parked := lot(t)
	got := parked("skip", "--position", "1", "--yes", "--note", "test data", "--json")
	require.Zero(t, got.code, got.stderr)
	require.JSONEq(t, `{"dry_run": false, "action": "skip", "relay": "relay", "keys": [
		{"topic": "t", "key": "k", "positions": [1, 3, 4], "skip": 1, "reason": "message too large"}]}`, got.out)
	require.Equal(t, "skip parked redrive redrive", states(t, db))
	var actor, note string
	require.NoError(t, db.DB.QueryRow(`SELECT actor, note FROM outbox_audit WHERE action = 'skip'`).Scan(&actor, &note))
	require.Regexp(t, `^.+@.+$`, actor)
	require.Equal(t, "test data", note)

	require.Equal(t, 1, parked("skip", "--position", "1", "--yes").code, "it is decided already")
	require.Equal(t, 1, parked("discard", "--key", "k", "--yes").code)
	require.Contains(t, parked("redrive", "--yes").out, "the relay will publish 1 message of 1 key again")
	require.Equal(t, "skip redrive redrive redrive", states(t, db))
	require.Equal(t, 1, parked("redrive", "--yes").code)
	require.Zero(t, parked("discard", "--key", "k", "--yes", "--relay-name", "other").code)
}
