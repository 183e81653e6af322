package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
)

// The page is read in the order of the index notification_statistics, which has
// all columns asked for: the groups come out sorted, and the LIMIT ends the scan
// after the rows of its recipients, however large the table is.
const selectStatistics = `
SELECT recipient, count(*), count(*) FILTER (WHERE status = 'sent'), count(*) FILTER (WHERE status = 'abandoned'),
       sum(attempts), max(changed_at)
FROM notification WHERE recipient > $1
GROUP BY recipient ORDER BY recipient LIMIT $2`

// Statistics answers reports from the database. It never writes. It is safe for
// concurrent use.
type Statistics struct{ db *sql.DB }

var _ app.Statistics = (*Statistics)(nil)

// NewStatistics returns the reports of db.
func NewStatistics(db *sql.DB) *Statistics { return &Statistics{db: db} }

// DeliveryStatistics implements app.Statistics. It reads one recipient more than
// asked for, to know whether there is a next page.
func (s *Statistics) DeliveryStatistics(ctx context.Context, q app.StatisticsQuery) (app.DeliveryStatistics, error) {
	page := app.DeliveryStatistics{AsOf: domain.Time(time.Now())}
	rows, err := s.db.QueryContext(ctx, selectStatistics, q.After, q.Limit+1)
	if err != nil {
		return app.DeliveryStatistics{}, fmt.Errorf("read statistics: %w", dberror.Map(err))
	}
	defer func() { _ = rows.Close() }() // read to its end, or given up
	for rows.Next() {
		var r app.RecipientStatistics
		if err := rows.Scan(&r.Recipient, &r.Total, &r.Sent, &r.Abandoned, &r.Attempts, &r.LastAt); err != nil {
			return app.DeliveryStatistics{}, fmt.Errorf("read statistics: %w", err)
		}
		r.Open, r.LastAt = r.Total-r.Sent-r.Abandoned, domain.Time(r.LastAt)
		page.Recipients = append(page.Recipients, r)
	}
	if err := rows.Err(); err != nil {
		return app.DeliveryStatistics{}, fmt.Errorf("read statistics: %w", dberror.Map(err))
	}
	if len(page.Recipients) > q.Limit {
		page.Recipients = page.Recipients[:q.Limit]
		page.Next = page.Recipients[q.Limit-1].Recipient
	}
	return page, nil
}
