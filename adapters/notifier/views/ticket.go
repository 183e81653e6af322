package views

import (
	"context"
	"crypto/rand"

	"github.com/millrace-go/millrace/app"
)

// redeem is the part that fillStatus and fillRecipient share: it tells whether
// ticket may fill the entry of this lease. mark stands for what its holder read.
// Whoever read without the ticket leaves a mark of his own on the lease, ticket:mark,
// and answers with what he read: a filling that read otherwise may be older than
// that, and would take his next look back. Then nobody fills.
const redeem = `
local function redeem(lease, ticket, mark)
  local have = redis.call('GET', lease)
  if not have then
    return false
  end
  local holder, seen = string.match(have, '^([^:]*):?(.*)$')
  if seen ~= '' and seen ~= mark then
    redis.call('DEL', lease)
    return false
  end
  if holder == ticket then
    redis.call('DEL', lease)
    return true
  end
  redis.call('SET', lease, holder .. ':' .. mark, 'KEEPTTL')
  return false
end
`

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
