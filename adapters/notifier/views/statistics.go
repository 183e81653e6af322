package views

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/app"
)

// Statistics answers reports from Redis for a while, and otherwise from where
// they come from. Notifications that change do not end a page: it is as old as
// its AsOf says. It is safe for concurrent use.
type Statistics struct {
	pages *cache.Query[app.StatisticsQuery, app.DeliveryStatistics]
}

var _ app.Statistics = (*Statistics)(nil)

// NewStatistics returns the pages of source, kept in store for ttl, which is at
// least one second; 0 means one minute. It asks nothing.
func NewStatistics(store *cache.Store, source app.Statistics, ttl time.Duration) (*Statistics, error) {
	if source == nil {
		return nil, errors.New("statistics cache: source: is nil")
	}
	if ttl == 0 {
		ttl = time.Minute
	}
	pages, err := cache.NewQuery(store, "delivery-statistics", source.DeliveryStatistics, cache.QueryConfig[app.DeliveryStatistics]{TTL: ttl})
	if err != nil {
		return nil, fmt.Errorf("statistics cache: %w", err)
	}
	return &Statistics{pages}, nil
}

// DeliveryStatistics implements app.Statistics.
func (s *Statistics) DeliveryStatistics(ctx context.Context, q app.StatisticsQuery) (app.DeliveryStatistics, error) {
	page, err := s.pages.Get(ctx, q)
	if err != nil {
		return app.DeliveryStatistics{}, fmt.Errorf("statistics: %w", appError(err))
	}
	return page, nil
}
