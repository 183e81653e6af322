package app

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/domain"
)

// DeliveryCounters returns what became of the notifications that were requested
// on a day of the UTC calendar, written as 2006-01-02; an empty day is today. Any
// other text is a *domain.ValidationError. The counters are kept by the views
// alone: when those cannot be reached, it is ErrOverloaded.
func (a *App) DeliveryCounters(ctx context.Context, day string) (DeliveryCounters, error) {
	at, err := time.Parse(time.DateOnly, day)
	if day == "" {
		at, err = a.cfg.Now().UTC(), nil
	}
	var v domain.Validation
	v.Check(err == nil, "day", "must be a date such as 2026-01-31")
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("delivery counters: %w", err)
	}
	counters, err := a.views.DeliveryCounters(ctx, at)
	if err != nil {
		a.cfg.ViewFailed(ctx, err)
		return nil, fmt.Errorf("delivery counters: %w: %w", ErrOverloaded, err)
	}
	return counters, nil
}
