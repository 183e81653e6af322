package views_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/test/harness"
)

// BenchmarkApply projects events into all three views, in batches as a consumer
// gets them: 500 events of 500 notifications for 100 recipients.
func BenchmarkApply(b *testing.B) {
	v := newViews(b, harness.Redis(b), nothing, views.Config{})
	const size = 500
	batch := make([]domain.Recorded, size)
	n := 0
	for b.Loop() {
		b.StopTimer()
		for i := range batch {
			n++
			batch[i] = domain.Recorded{
				ID: app.NewID(), AggregateType: notification.Aggregate, AggregateID: app.NewID(), AggregateVersion: 1, OccurredAt: time.Now(),
				Event: notification.Requested{About: notification.About{
					Recipient: fmt.Sprint("user-", n%100), Channel: notification.Email, Subject: "Hello", RequestedAt: time.Now(),
				}, Body: "World"},
			}
		}
		b.StartTimer()
		if _, err := v.Apply(b.Context(), batch...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds(), "events/s")
}
