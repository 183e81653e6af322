package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// Statistics answers the report from the database or from what was read a moment
// ago.
type Statistics interface {
	// DeliveryStatistics returns the page that q asks for; q is valid.
	DeliveryStatistics(ctx context.Context, q StatisticsQuery) (DeliveryStatistics, error)
}

// StatisticsQuery asks for one page of the report.
type StatisticsQuery struct {
	// After is the recipient behind which the page begins; empty for the first.
	After string
	// Limit is the most recipients of the page, 1 to MaxStatistics.
	Limit int
}

// Limits of a page.
const (
	DefaultStatistics = 50
	MaxStatistics     = 500
)

// DeliveryStatistics is one page, recipients in the order that the database gives
// text.
type DeliveryStatistics struct {
	Recipients []RecipientStatistics
	// Next is what After of the next page must be; empty on the last page.
	Next string
	// AsOf is when the database was asked.
	AsOf time.Time
}

// RecipientStatistics tells what became of the notifications of one recipient.
type RecipientStatistics struct {
	Recipient string
	Total     int64
	Sent      int64
	Abandoned int64
	Open      int64 // all others: something may still be tried
	Attempts  int64
	LastAt    time.Time // latest event
}

// Reports is the use cases that only ask. It is safe for concurrent use.
type Reports struct{ statistics Statistics }

// NewReports returns the use cases over their port, which is required.
func NewReports(statistics Statistics) (*Reports, error) {
	if statistics == nil {
		return nil, errors.New("reports: statistics: is nil")
	}
	return &Reports{statistics}, nil
}

// DeliveryStatistics returns a page of the report; a limit of 0 is
// DefaultStatistics. A query of the wrong form is a *domain.ValidationError.
func (r *Reports) DeliveryStatistics(ctx context.Context, q StatisticsQuery) (DeliveryStatistics, error) {
	if q.Limit == 0 {
		q.Limit = DefaultStatistics
	}
	var v domain.Validation
	text := len(q.After) <= notification.MaxRecipient && utf8.ValidString(q.After) && !strings.ContainsRune(q.After, 0)
	v.Check(text, "after", fmt.Sprintf("must be UTF-8 text of at most %d bytes without NUL", notification.MaxRecipient))
	v.Check(q.Limit >= 1 && q.Limit <= MaxStatistics, "limit", fmt.Sprintf("must be 1 to %d", MaxStatistics))
	if err := v.Err(); err != nil {
		return DeliveryStatistics{}, fmt.Errorf("delivery statistics: %w", err)
	}
	page, err := r.statistics.DeliveryStatistics(ctx, q)
	if err != nil {
		return DeliveryStatistics{}, fmt.Errorf("delivery statistics: %w", err)
	}
	return page, nil
}
