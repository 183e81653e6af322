package codec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/outbox"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	requestedAt = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	changedAt   = requestedAt.Add(90 * time.Second)
	about       = notification.About{Recipient: "ada", Channel: notification.Email, Subject: `Grüße "you" <b>`, RequestedAt: requestedAt}
	events      = map[string]domain.Event{
		"notification.requested": notification.Requested{About: about, Body: "line\nline"},
		"notification.sent":      notification.Sent{About: about, At: changedAt, Attempts: 2},
		"notification.failed":    notification.Failed{About: about, At: changedAt, Attempts: 1, Reason: "no route"},
		"notification.abandoned": notification.Abandoned{About: about, At: changedAt, Attempts: 1, Reason: "asked to"},
		"notification.read":      notification.Read{About: about, At: changedAt, Attempts: 2},
	}
)

func recorded(e domain.Event) domain.Recorded {
	return domain.Recorded{
		ID: "01890a5d-ac96-774b-bcce-b302099a8057", AggregateType: "notification",
		AggregateID: "01890a5d-ac96-774b-bcce-b302099a8058", AggregateVersion: 3, OccurredAt: e.OccurredAt(),
		Trace: domain.Trace{Parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", CorrelationID: "corr", CausationID: "cause"},
		Event: e,
	}
}

// wire is what the relay makes of a message: the headers that a consumer sees.
func wire(m outbox.Message) map[string]string {
	h := map[string]string{
		outbox.HeaderEventID: m.ID.String(), outbox.HeaderEventType: m.Type, outbox.HeaderAggregateType: m.AggregateType,
		outbox.HeaderAggregateID: m.AggregateID, outbox.HeaderAggregateVersion: "3",
	}
	for name, value := range m.Headers {
		h[name] = value
	}
	return h
}

// The golden files are what other programs have already stored: if one differs,
// the schema changed and needs a new version with an upcaster.
func requireGolden(t *testing.T, name string, m outbox.Message) {
	t.Helper()
	var got bytes.Buffer
	require.NoError(t, json.Indent(&got, m.Payload, "", "  "))
	headers, err := json.MarshalIndent(wire(m), "", "  ")
	require.NoError(t, err)
	got.WriteString("\n" + string(headers) + "\n")
	file := filepath.Join("testdata", name+".v1.golden")
	if *update {
		require.NoError(t, os.WriteFile(file, got.Bytes(), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String(), name)
}

func TestEncode_KeepsTheWireForm(t *testing.T) {
	t.Parallel()
	for name, e := range events {
		m, err := codec.New(codec.Config{}).Encode(t.Context(), recorded(e))
		require.NoError(t, err)
		require.Equal(t, name, m.Type)
		require.Equal(t, "notification.v1", m.Topic)
		require.Equal(t, "ada", m.Key)
		requireGolden(t, name, m)
	}
}

func TestDecode_IsTheInverseOfEncode(t *testing.T) {
	t.Parallel()
	c := codec.New(codec.Config{})
	for _, e := range events {
		m, err := c.Encode(t.Context(), recorded(e))
		require.NoError(t, err)
		got, err := c.Decode(wire(m), m.Payload)
		require.NoError(t, err)
		require.Equal(t, recorded(e), got)
	}
}

func TestEncode_TakesTheTraceOfTheContextFirst(t *testing.T) {
	t.Parallel()
	const fromContext = "00-11111111111111111111111111111111-2222222222222222-01"
	c := codec.New(codec.Config{Traceparent: func(context.Context) string { return fromContext }})
	m, err := c.Encode(t.Context(), recorded(events["notification.sent"]))
	require.NoError(t, err)
	require.Equal(t, fromContext, m.Headers["traceparent"])

	bare := recorded(events["notification.sent"])
	bare.Trace = domain.Trace{}
	m, err = codec.New(codec.Config{}).Encode(t.Context(), bare)
	require.NoError(t, err)
	require.Len(t, m.Headers, 2, "absent ids make no header: %v", m.Headers)
}

func TestEncode_RenamesTopicsOnDemand(t *testing.T) {
	t.Parallel()
	c := codec.New(codec.Config{Topic: func(name string) string { return "staging." + name }})
	m, err := c.Encode(t.Context(), recorded(events["notification.sent"]))
	require.NoError(t, err)
	require.Equal(t, "staging.notification.v1", m.Topic)
}

func TestEncode_RefusesWhatHasNoWireForm(t *testing.T) {
	t.Parallel()
	_, err := codec.New(codec.Config{}).Encode(t.Context(), recorded(foreign{}))
	require.ErrorIs(t, err, codec.ErrUnknownEvent)

	r := recorded(events["notification.sent"])
	r.ID = "7"
	_, err = codec.New(codec.Config{}).Encode(t.Context(), r)
	require.ErrorContains(t, err, "event id")
}

func TestDecode_TellsUnknownFromUndecodable(t *testing.T) {
	t.Parallel()
	c := codec.New(codec.Config{})
	good, err := c.Encode(t.Context(), recorded(events["notification.failed"]))
	require.NoError(t, err)

	tests := map[string]struct {
		header, value string
		payload       string
		want          error
	}{
		"unknown type":              {header: "event-type", value: "notification.exploded", want: codec.ErrUnknownEvent},
		"no type":                   {header: "event-type", want: codec.ErrUnknownEvent},
		"newer version":             {header: "schema-version", value: "2", want: codec.ErrUnknownEvent},
		"version zero":              {header: "schema-version", value: "0", want: codec.ErrUnknownEvent},
		"no version":                {header: "schema-version", want: codec.ErrUnknownEvent},
		"no event id":               {header: "event-id", want: codec.ErrPayload},
		"no aggregate version":      {header: "aggregate-version", want: codec.ErrPayload},
		"no time":                   {header: "occurred-at", value: "yesterday", want: codec.ErrPayload},
		"another aggregate":         {header: "aggregate-id", value: "someone else", want: codec.ErrPayload},
		"no aggregate":              {header: "aggregate-id", want: codec.ErrPayload},
		"not JSON":                  {payload: "{", want: codec.ErrPayload},
		"another JSON type":         {payload: `["a"]`, want: codec.ErrPayload},
		"an object of other fields": {payload: `{"a":1}`, want: codec.ErrPayload},
	}
	for name, test := range tests {
		headers, payload := wire(good), good.Payload
		if test.header != "" {
			headers[test.header] = test.value
		}
		if test.payload != "" {
			payload = []byte(test.payload)
		}
		_, err := c.Decode(headers, payload)
		require.ErrorIs(t, err, test.want, name)
	}
	_, err = c.Decode(wire(good), nil)
	require.ErrorIs(t, err, codec.ErrPayload, "a tombstone is no event")
}

type foreign struct{}

func (foreign) EventName() string     { return "Foreign" }
func (foreign) OccurredAt() time.Time { return requestedAt }
