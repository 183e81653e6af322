package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
)

// memoryAppender keeps what passed validation.
type memoryAppender struct{ got []outbox.Message }

func (a *memoryAppender) Append(_ context.Context, _ *sql.Tx, msgs []outbox.Message) error {
	a.got = append(a.got, msgs...)
	return nil
}

func TestWriter_RefusesBadMessagesNamingTheField(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range outbox.MaxHeaders + 1 {
		many[fmt.Sprint("h", i)] = "v"
	}
	for field, spoil := range map[string]func(m *outbox.Message){
		"topic is empty":                     func(m *outbox.Message) { m.Topic = "" },
		"topic has 250 bytes":                func(m *outbox.Message) { m.Topic = strings.Repeat("t", 250) },
		"topic has ' '":                      func(m *outbox.Message) { m.Topic = "a b" },
		"topic may not be":                   func(m *outbox.Message) { m.Topic = ".." },
		"key is empty":                       func(m *outbox.Message) { m.Key = "" },
		"key has 1025 bytes":                 func(m *outbox.Message) { m.Key = strings.Repeat("k", 1025) },
		"key contains a NUL":                 func(m *outbox.Message) { m.Key = "a\x00b" },
		"key is not valid UTF-8":             func(m *outbox.Message) { m.Key = "a\xff" },
		"type has 256 bytes":                 func(m *outbox.Message) { m.Type = strings.Repeat("t", 256) },
		"aggregate type contains a NUL":      func(m *outbox.Message) { m.AggregateType = "\x00" },
		"aggregate id is not valid UTF-8":    func(m *outbox.Message) { m.AggregateID = "\xc3" },
		"aggregate version is -1":            func(m *outbox.Message) { m.AggregateVersion = -1 },
		"payload has 1000001 bytes":          func(m *outbox.Message) { m.Payload = make([]byte, 1_000_001) },
		"headers are 65":                     func(m *outbox.Message) { m.Headers = many },
		`headers[""] is empty`:               func(m *outbox.Message) { m.Headers = map[string]string{"": "v"} },
		`headers["event-id"] is reserved`:    func(m *outbox.Message) { m.Headers = map[string]string{"event-id": "v"} },
		`headers["kafka_dlt-x"] is reserved`: func(m *outbox.Message) { m.Headers = map[string]string{"kafka_dlt-x": "v"} },
		`headers["a\nb"] contains a line`:    func(m *outbox.Message) { m.Headers = map[string]string{"a\nb": "v"} },
		`headers["x"] contains a NUL`:        func(m *outbox.Message) { m.Headers = map[string]string{"x": "\x00"} },
		`headers["x"] contains a line break`: func(m *outbox.Message) { m.Headers = map[string]string{"x": "a\r\nb"} },
		`headers["x"] has 8193 bytes`:        func(m *outbox.Message) { m.Headers = map[string]string{"x": strings.Repeat("v", 8193)} },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			store := &memoryAppender{}
			w, err := outbox.NewWriter(store, outbox.WriterConfig{})
			require.NoError(t, err)
			good := outbox.Message{Topic: "t", Key: "k"}
			bad := good
			spoil(&bad)
			err = w.Append(t.Context(), nil, good, bad)
			require.ErrorIs(t, err, outbox.ErrInvalidMessage)
			require.ErrorContains(t, err, "message 1: "+field)
			var typed *outbox.MessageError
			require.ErrorAs(t, err, &typed)
			require.Equal(t, 1, typed.Index)
			require.Empty(t, store.got, "nothing of the call was stored")
		})
	}
}

func TestWriter_ReportsAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	w, err := outbox.NewWriter(&memoryAppender{}, outbox.WriterConfig{})
	require.NoError(t, err)
	err = w.Append(t.Context(), nil, outbox.Message{}, outbox.Message{Topic: "t", Key: "\x00", AggregateVersion: -1})
	for _, problem := range []string{"message 0: topic", "message 0: key", "message 1: key", "message 1: aggregate version"} {
		require.ErrorContains(t, err, problem)
	}
}

func TestWriter_DrawsMissingIDsAndLeavesTheCallersMessagesAlone(t *testing.T) {
	t.Parallel()
	store := &memoryAppender{}
	w, err := outbox.NewWriter(store, outbox.WriterConfig{})
	require.NoError(t, err)
	own := uuid.New()
	msgs := []outbox.Message{{Topic: "t", Key: "k"}, {ID: own, Topic: "t", Key: "k"}, {Topic: "t", Key: "k"}}
	require.NoError(t, w.Append(t.Context(), nil, msgs...))
	require.Equal(t, uuid.Nil, msgs[0].ID)
	require.Equal(t, own, store.got[1].ID)
	require.NotEqual(t, uuid.Nil, store.got[0].ID)
	require.NotEqual(t, store.got[0].ID, store.got[2].ID)
}

func TestNewWriter_NamesEveryBadField(t *testing.T) {
	t.Parallel()
	_, err := outbox.NewWriter(nil, outbox.WriterConfig{MaxPayloadBytes: -1})
	require.ErrorContains(t, err, "store: must not be nil")
	require.ErrorContains(t, err, "MaxPayloadBytes: must be positive")
}

func TestUnpublishableError_MatchesItsSentinelAndCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("10 MB")
	err := fmt.Errorf("send: %w", outbox.Unpublishable("message too large", cause))
	require.ErrorIs(t, err, outbox.ErrUnpublishable)
	require.ErrorIs(t, err, cause)
	require.NotErrorIs(t, outbox.Unpublishable("x", nil), cause)
	require.Equal(t, "send: message too large: 10 MB", err.Error())
}
