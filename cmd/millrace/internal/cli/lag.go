package cli

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// lagReport is what lag --json prints; its keys are part of the interface.
type lagReport struct {
	Relays []relayLag `json:"relays"`
	Groups []groupLag `json:"groups"`
}

type relayLag struct {
	Relay    string  `json:"relay"`
	Messages int64   `json:"messages"`
	Seconds  float64 `json:"seconds"`
	Gaps     int64   `json:"gaps"`
	Parked   int64   `json:"parked"`
	Position int64   `json:"position"`
	Epoch    int64   `json:"epoch"`
	Owner    string  `json:"owner"`
	Leads    bool    `json:"leads"`
}

type groupLag struct {
	Group    string `json:"group"`
	Topic    string `json:"topic"`
	State    string `json:"state"`
	Members  int    `json:"members"`
	Messages int64  `json:"messages"`
}

func (a *app) lag() *cobra.Command {
	var asJSON bool
	var failAbove time.Duration
	return a.command(spec{
		use: "lag", short: "Show how far relays and consumer groups are behind",
		long: `For each relay: committed messages that the broker has not acknowledged, the age
of the oldest, positions that open transactions may still fill, parked messages.
For each consumer group, if Kafka is configured: records not yet committed.
With --fail-above the exit code is 3 if a relay is further behind.`,
		example: `  millrace lag --postgres postgres://app@localhost/app --kafka localhost:9092
  millrace lag --json --fail-above 60s`,
		settings: config.Use{
			Required: []config.Name{config.Postgres},
			Optional: []config.Name{config.Kafka, config.Groups},
		},
		flags: func(f *pflag.FlagSet) {
			f.BoolVar(&asJSON, "json", false, "print one JSON object")
			f.DurationVar(&failAbove, "fail-above", 0, "exit with 3 if a relay lags by more (default never)")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			r, err := c.measureLag(ctx)
			if err != nil {
				return err
			}
			if err := c.printLag(r, asJSON); err != nil {
				return err
			}
			return r.above(failAbove)
		},
	})
}

func (c *call) measureLag(ctx context.Context) (*lagReport, error) {
	db, err := reachPostgres(ctx, c.cfg.Postgres)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	r := &lagReport{Groups: []groupLag{}}
	if r.Relays, err = relayLags(ctx, db); err != nil {
		return nil, err
	}
	if len(c.cfg.Kafka) > 0 {
		r.Groups, err = groupLags(ctx, c.cfg.Kafka, c.cfg.Groups)
	}
	return r, err
}

func relayLags(ctx context.Context, db *sql.DB) ([]relayLag, error) {
	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		return nil, err
	}
	if err := store.Check(ctx); err != nil {
		return nil, err
	}
	lags, err := store.Lag(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]relayLag, len(lags))
	for i, l := range lags {
		out[i] = relayLag{
			Relay: l.Relay, Messages: l.Messages, Seconds: l.Age.Round(time.Millisecond).Seconds(),
			Gaps: l.Gaps, Parked: l.Parked, Position: l.Position, Epoch: l.Epoch, Owner: l.Owner, Leads: l.Leads,
		}
	}
	return out, nil
}

// above is the verdict of --fail-above.
func (r *lagReport) above(limit time.Duration) error {
	if limit <= 0 {
		return nil
	}
	for _, l := range r.Relays {
		if l.Seconds > limit.Seconds() {
			return unhealthyError{fmt.Sprintf("relay %s lags by %.1f s, more than %s", l.Relay, l.Seconds, limit)}
		}
	}
	return nil
}

func (c *call) printLag(r *lagReport, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, r)
	}
	if len(r.Relays) == 0 {
		fmt.Fprintln(c.Out, "no relay has run on this outbox yet")
	} else {
		rows := [][]string{{"RELAY", "MESSAGES", "OLDEST", "GAPS", "PARKED", "LEADER"}}
		for _, l := range r.Relays {
			leader := "none"
			if l.Leads {
				leader = l.Owner
			}
			rows = append(rows, []string{l.Relay, count(l.Messages), fmt.Sprintf("%.1fs", l.Seconds), count(l.Gaps), count(l.Parked), leader})
		}
		if err := printTable(c.Out, rows); err != nil {
			return err
		}
	}
	if len(r.Groups) == 0 {
		return nil
	}
	rows := [][]string{{"GROUP", "TOPIC", "STATE", "MEMBERS", "MESSAGES"}}
	for _, g := range r.Groups {
		rows = append(rows, []string{g.Group, g.Topic, g.State, strconv.Itoa(g.Members), count(g.Messages)})
	}
	fmt.Fprintln(c.Out)
	return printTable(c.Out, rows)
}

func count(n int64) string { return strconv.FormatInt(n, 10) }
