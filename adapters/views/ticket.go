package views

import (
	"context"
	"crypto/rand"

	"github.com/millrace-go/millrace/app"
)

// miss draws the ticket to fill the entry whose lease is at key. Every event that
// is written about the entry takes the lease away: what a reader has from the
// database may then be older, and the entry of that event may have been evicted.
// If Redis cannot be asked now, there is no ticket.
func (v *Views) miss(ctx context.Context, key string) error {
	ticket := rand.Text()
	ok, err := v.rdb.SetNX(ctx, key, ticket, v.cfg.LoadTimeout).Result()
	if err != nil || !ok {
		ticket = ""
	}
	return &app.ViewMissError{Ticket: ticket}
}
