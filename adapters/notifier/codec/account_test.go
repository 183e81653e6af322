package codec_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
	"github.com/millrace-go/millrace/outbox"
)

const (
	accountID = "01890a5d-ac96-774b-bcce-b302099a8058"
	sessionID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)

var (
	aboutAccount  = account.About{Email: "ada@example.org", Generation: 2, RegisteredAt: requestedAt}
	aboutSession  = account.AboutSession{Account: accountID, Generation: 2, OpenedAt: requestedAt, ExpiresAt: requestedAt.Add(12 * time.Hour)}
	accountEvents = map[string]domain.Recorded{
		"account.registered":       accountRecorded("account", accountID, account.Registered{About: aboutAccount}),
		"account.sessions-revoked": accountRecorded("account", accountID, account.SessionsRevoked{About: aboutAccount, At: changedAt}),
		"session.opened":           accountRecorded("session", sessionID, account.SessionOpened{AboutSession: aboutSession}),
		"session.revoked":          accountRecorded("session", sessionID, account.SessionRevoked{AboutSession: aboutSession, At: changedAt}),
	}
)

func accountRecorded(kind, id string, e domain.Event) domain.Recorded {
	r := recorded(e)
	r.AggregateType, r.AggregateID = kind, id
	return r
}

func TestEncode_KeepsTheWireFormOfAccounts(t *testing.T) {
	t.Parallel()
	for name, r := range accountEvents {
		m, err := codec.New(codec.Config{}).Encode(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, name, m.Type)
		require.Equal(t, "account.v1", m.Topic)
		require.Equal(t, accountID, m.Key, "all events of an account and its sessions are in one order")
		requireGolden(t, name, m)
	}
}

func TestDecode_IsTheInverseOfEncodeForAccounts(t *testing.T) {
	t.Parallel()
	c := codec.New(codec.Config{})
	for name, r := range accountEvents {
		m, err := c.Encode(t.Context(), r)
		require.NoError(t, err)
		got, err := c.Decode(wire(m), m.Payload)
		require.NoError(t, err)
		require.Equal(t, r, got, name)
	}
}

func TestDecode_RefusesAccountEventsThatLackSomething(t *testing.T) {
	t.Parallel()
	c := codec.New(codec.Config{})
	for name, r := range accountEvents {
		m, err := c.Encode(t.Context(), r)
		require.NoError(t, err)
		var fields map[string]any
		require.NoError(t, json.Unmarshal(m.Payload, &fields))
		require.NotContains(t, strings.ToLower(string(m.Payload)), "password")
		for field := range fields {
			value := fields[field]
			delete(fields, field)
			payload, err := json.Marshal(fields)
			require.NoError(t, err)
			_, err = c.Decode(wire(m), payload)
			require.ErrorIs(t, err, codec.ErrPayload, "%s without %s", name, field)
			require.ErrorContains(t, err, field)
			fields[field] = value
		}
		headers := wire(m)
		headers[outbox.HeaderAggregateID] = "someone else"
		_, err = c.Decode(headers, m.Payload)
		require.ErrorIs(t, err, codec.ErrPayload, name)
	}
}
