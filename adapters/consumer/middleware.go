package consumer

import (
	"context"
	"time"
)

// SkipDelivery is for middlewares: it notes that the message of ctx needs no handling.
// When the middleware then returns without an error and without calling the next
// one, the message is acknowledged and its outcome is OutcomeSkipped.
func SkipDelivery(ctx context.Context) { deliveryFrom(ctx).Outcome = OutcomeSkipped }

// Sleep is for middlewares: it waits for d and reports true, or false as soon as
// ctx, that of a message, ends. A wait of more than a second also ends when the
// router that delivered the message stops. Return ErrUnfinished then.
func Sleep(ctx context.Context, d time.Duration) bool { return sleep(ctx, d) }
