package httpapi_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/httpapi"
	"github.com/millrace-go/millrace/app"
)

// pages is a source of statistics that notes what it was asked for.
type pages struct{ asked []app.StatisticsQuery }

func (p *pages) DeliveryStatistics(_ context.Context, q app.StatisticsQuery) (app.DeliveryStatistics, error) {
	p.asked = append(p.asked, q)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return app.DeliveryStatistics{
		Recipients: []app.RecipientStatistics{{Recipient: "bob", Total: 6, Sent: 3, Abandoned: 2, Open: 1, Attempts: 9, LastAt: at}},
		Next:       "bob", AsOf: at.Add(time.Hour),
	}, nil
}

func TestStatistics_PassesThePageOn(t *testing.T) {
	t.Parallel()
	source := &pages{}
	reports, err := app.NewReports(source)
	require.NoError(t, err)
	s := start(t, httpapi.Config{Reports: reports})
	got := call(t, "GET", s.URL+"/v1/statistics", "")
	require.Equal(t, http.StatusOK, got.StatusCode)
	require.JSONEq(t, `{"recipients":[{"recipient":"bob","total":6,"sent":3,"abandoned":2,"open":1,"attempts":9,
		"last_at":"2026-03-01T12:00:00Z"}],"next":"bob","as_of":"2026-03-01T13:00:00Z"}`, string(got.body))
	require.Equal(t, http.StatusOK, call(t, "GET", s.URL+"/v1/statistics?after=a%26b&limit=500", "").StatusCode)
	require.Equal(t, []app.StatisticsQuery{{Limit: app.DefaultStatistics}, {After: "a&b", Limit: 500}}, source.asked)

	for _, bad := range []string{"limit=0", "limit=-1", "limit=501", "limit=", "limit=1&limit=2", "befor=x", "after=%00", "after=%ff"} {
		got := call(t, "GET", s.URL+"/v1/statistics?"+bad, "")
		require.Equal(t, http.StatusBadRequest, got.StatusCode, bad)
	}
	require.Len(t, source.asked, 2, "what is wrong is asked of nobody")
	_, err = app.NewReports(nil)
	require.ErrorContains(t, err, "statistics")
}
