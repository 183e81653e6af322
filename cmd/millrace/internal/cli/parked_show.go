package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// shownParked is what parked show --json prints.
type shownParked struct {
	pgstore.ParkedMessage
	Gone             bool              `json:"gone"` // retention has dropped the message itself
	CreatedAt        time.Time         `json:"created_at,omitzero"`
	AggregateType    string            `json:"aggregate_type"`
	AggregateID      string            `json:"aggregate_id"`
	AggregateVersion int64             `json:"aggregate_version"`
	Headers          map[string]string `json:"headers"`
	Payload          []byte            `json:"payload"` // base64, whole; null for a null value
}

func (a *app) parkedShow() *cobra.Command {
	var p parkedFlags
	return a.command(spec{
		use: "show", short: "Show one parked message with its headers and payload",
		long: `Shows the message at --position with all its headers, and the first 4 KiB of its
payload as text, if it is, or as bytes in hexadecimal. With --json the payload is whole.`,
		example: `  millrace parked show --position 4711 --postgres postgres://app@localhost/app
  millrace parked show --position 4711 --json | jq -r .payload | base64 -d`,
		settings: parkedUse,
		flags:    p.addPosition,
		run: func(ctx context.Context, c *call, _ []string) error {
			if p.position <= 0 {
				return usageError{errors.New("--position: is missing: give one that parked list prints")}
			}
			store, closeStore, err := c.openParked(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = closeStore() }()
			m, err := c.findParked(ctx, store, p.position)
			if err != nil {
				return err
			}
			shown := shownParked{ParkedMessage: m}
			switch e, err := store.Entry(ctx, p.position); {
			case errors.Is(err, pgstore.ErrNoEntry):
				shown.Gone = true
			case err != nil:
				return err
			default:
				shown.CreatedAt, shown.Headers, shown.Payload = e.CreatedAt.UTC(), e.Headers, e.Payload
				shown.AggregateType, shown.AggregateID, shown.AggregateVersion = e.AggregateType, e.AggregateID, e.AggregateVersion
			}
			if p.asJSON {
				return printJSON(c.Out, shown)
			}
			return c.printShown(&shown)
		},
	})
}

// findParked returns the message at position, whatever became of it.
func (c *call) findParked(ctx context.Context, store *pgstore.Store, position int64) (pgstore.ParkedMessage, error) {
	found, err := store.Parked(ctx, pgstore.ParkedFilter{Relay: c.cfg.RelayName, Position: position, Done: true})
	if err != nil {
		return pgstore.ParkedMessage{}, err
	}
	if len(found) == 0 {
		return pgstore.ParkedMessage{}, fmt.Errorf("relay %q has parked no message at position %d: see millrace parked list --done", c.cfg.RelayName, position)
	}
	return found[0], nil
}

func (c *call) printShown(m *shownParked) error {
	role := "the message that the broker did not take"
	switch {
	case m.Reason == outbox.ReasonBehind:
		role = "waits behind an earlier message of its key"
	case m.State != "parked":
		role = "was parked"
	}
	rows := [][]string{
		{"position", count(m.Position)},
		{"state", m.State + ": " + role},
		{"reason", oneLine(m.Reason)},
		{"attempts", strconv.Itoa(m.Attempts)},
		{"parked", m.FirstAt.UTC().Format(time.RFC3339) + ", last looked at " + m.LastAt.UTC().Format(time.RFC3339)},
		{"topic", m.Topic},
		{"key", strconv.Quote(m.Key)},
	}
	if m.Gone {
		rows = append(rows, []string{"message", "gone: retention has dropped its partition"})
		return printTable(c.Out, rows)
	}
	rows = append(rows,
		[]string{"event id", m.EventID.String()}, []string{"event type", m.EventType})
	if m.AggregateID != "" {
		rows = append(rows, []string{"aggregate", fmt.Sprintf("%s %s version %d", m.AggregateType, m.AggregateID, m.AggregateVersion)})
	}
	rows = append(rows, []string{"written", m.CreatedAt.Format(time.RFC3339Nano)})
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		rows = append(rows, []string{"header " + name, strconv.Quote(m.Headers[name])})
	}
	rows = append(rows, []string{"payload", payloadTitle(m.Payload)})
	if err := printTable(c.Out, rows); err != nil {
		return err
	}
	_, err := fmt.Fprint(c.Out, excerpt(m.Payload))
	return err
}

// excerptBytes is how much of a payload show prints.
const excerptBytes = 4 << 10

func payloadTitle(payload []byte) string {
	switch {
	case payload == nil:
		return "null (a tombstone)"
	case len(payload) > excerptBytes:
		return fmt.Sprintf("%d bytes, the first %d:", len(payload), excerptBytes)
	}
	return fmt.Sprintf("%d bytes", len(payload))
}

// excerpt is the beginning of a payload: as text if all of it can be printed on
// one line or several, else in hexadecimal beside what can.
func excerpt(payload []byte) string {
	cut := payload[:min(len(payload), excerptBytes)]
	text := strings.ToValidUTF8(string(cut), "")
	printable := len(text) >= len(cut)-3 && !strings.ContainsFunc(text, func(r rune) bool {
		return !strconv.IsPrint(r) && r != '\n' && r != '\t'
	})
	switch {
	case len(cut) == 0:
		return ""
	case printable:
		return strings.TrimSuffix(text, "\n") + "\n"
	}
	return hex.Dump(cut)
}
