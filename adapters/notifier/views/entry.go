package views

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
)

// state is one character that tells what an entry stands for.
type state byte

const (
	stateOK   state = 'o' // the payload is the value
	stateNone state = 'n' // there is no such thing: a tombstone
)

// entry is one Redis string of fixed fields, so that a script can compare the
// first as text (numbers in Lua are doubles and confuse large ones):
//
//	version  20 digits, zero-padded
//	state     1 character
//	expiry   13 digits, Unix milliseconds after which the entry counts for nothing
//	delta     8 digits, milliseconds it took to make; 0 for projections
//	payload  JSON of the status; empty unless the state is ok
type entry struct {
	version int64
	state   state
	expiry  time.Time
	status  app.NotificationStatus
}

const header = 20 + 1 + 13 + 8

// payload is the stored form of a status. Its field names are part of the format.
type payload struct {
	ID          notification.ID      `json:"id"`
	Recipient   string               `json:"recipient"`
	Channel     notification.Channel `json:"channel"`
	Subject     string               `json:"subject"`
	Status      notification.Status  `json:"status"`
	Attempts    int                  `json:"attempts"`
	Reason      string               `json:"reason,omitempty"`
	RequestedAt time.Time            `json:"requested_at"`
	ChangedAt   time.Time            `json:"changed_at"`
	ReadAt      time.Time            `json:"read_at,omitzero"`
}

// String is what Redis stores.
func (e entry) String() string {
	head := fmt.Sprintf("%020d%c%013d%08d", e.version, e.state, e.expiry.UnixMilli(), 0)
	if e.state != stateOK {
		return head
	}
	s := e.status
	body, _ := json.Marshal(payload{ // strings, numbers and times always have a JSON form
		s.ID, s.Recipient, s.Channel, s.Subject, s.Status, s.Attempts, s.Reason, s.RequestedAt, s.ChangedAt, s.ReadAt,
	})
	return head + string(body)
}

func parseEntry(raw string) (entry, error) {
	if len(raw) < header {
		return entry{}, errors.New("entry is too short")
	}
	version, err := strconv.ParseInt(raw[:20], 10, 64)
	if err != nil {
		return entry{}, fmt.Errorf("entry version: %w", err)
	}
	expiry, err := strconv.ParseInt(raw[21:34], 10, 64)
	if err != nil {
		return entry{}, fmt.Errorf("entry expiry: %w", err)
	}
	e := entry{version: version, state: state(raw[20]), expiry: time.UnixMilli(expiry)}
	if e.state != stateOK {
		return e, nil
	}
	var p payload
	if err := json.Unmarshal([]byte(raw[header:]), &p); err != nil {
		return entry{}, fmt.Errorf("entry payload: %w", err)
	}
	e.status = app.NotificationStatus{
		ID: p.ID, Version: version, Recipient: p.Recipient, Channel: p.Channel, Subject: p.Subject,
		Status: p.Status, Attempts: p.Attempts, Reason: p.Reason, RequestedAt: p.RequestedAt, ChangedAt: p.ChangedAt, ReadAt: p.ReadAt,
	}
	return e, nil
}
