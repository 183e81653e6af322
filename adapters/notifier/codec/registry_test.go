package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

const sentInVersionOne = `{"notification_id":"n","to":"ada","channel":"sms","subject":"s","requested_at":"2026-03-01T12:00:00Z","tries":"2"}`

// A later form of an event: version 2 renamed a field, version 3 changed a type.
func withHistory(t *testing.T) *Codec {
	t.Helper()
	c := New(Config{})
	s, ok := c.schemas.named(NotificationSent)
	require.True(t, ok)
	s.version = 3
	s.upcast = map[int]upcaster{
		1: func(p json.RawMessage) (json.RawMessage, error) {
			return bytes.ReplaceAll(p, []byte(`"to"`), []byte(`"recipient"`)), nil
		},
		2: func(p json.RawMessage) (json.RawMessage, error) {
			if !bytes.Contains(p, []byte(`"tries"`)) {
				return nil, errors.New("tries: is missing")
			}
			return []byte(strings.Replace(string(p), `"tries":"2"`, `"attempts":2`, 1)), nil
		},
	}
	return c
}

func headers(version string) map[string]string {
	return map[string]string{
		"event-type": NotificationSent, "schema-version": version, "event-id": "01890a5d-ac96-774b-bcce-b302099a8057",
		"aggregate-id": "n", "aggregate-version": "2", "occurred-at": "2026-03-01T12:00:01Z",
	}
}

func TestDecode_BringsOldSchemasUpStepByStep(t *testing.T) {
	t.Parallel()
	r, err := withHistory(t).Decode(headers("1"), []byte(sentInVersionOne))
	require.NoError(t, err)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	require.Equal(t, domain.Event(notification.Sent{
		About: notification.About{Recipient: "ada", Channel: "sms", Subject: "s", RequestedAt: at}, At: at.Add(time.Second), Attempts: 2,
	}), r.Event)
}

func TestDecode_ReportsWhichStepFailed(t *testing.T) {
	t.Parallel()
	c := withHistory(t)
	_, err := c.Decode(headers("1"), []byte(`{"to":"ada"}`))
	require.ErrorIs(t, err, ErrPayload)
	require.ErrorContains(t, err, "upcast from schema version 2: tries: is missing")

	s, _ := c.schemas.named(NotificationSent)
	delete(s.upcast, 1)
	_, err = c.Decode(headers("1"), []byte(sentInVersionOne))
	require.ErrorIs(t, err, ErrPayload)
	require.ErrorContains(t, err, "no way from schema version 1 to 2")
}
