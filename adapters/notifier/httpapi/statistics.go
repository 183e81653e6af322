package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
)

// Reports is what the API needs to serve reports; *app.Reports is one.
type Reports interface {
	DeliveryStatistics(ctx context.Context, q app.StatisticsQuery) (app.DeliveryStatistics, error)
}

type statisticsBody struct {
	Recipients []recipientBody `json:"recipients"`
	Next       string          `json:"next,omitempty"`
	AsOf       time.Time       `json:"as_of"`
}

type recipientBody struct {
	Recipient string    `json:"recipient"`
	Total     int64     `json:"total"`
	Sent      int64     `json:"sent"`
	Abandoned int64     `json:"abandoned"`
	Open      int64     `json:"open"`
	Attempts  int64     `json:"attempts"`
	LastAt    time.Time `json:"last_at"`
}

func (a *API) statistics(w http.ResponseWriter, r *http.Request) {
	var page app.DeliveryStatistics
	q, err := statisticsQuery(r)
	if err == nil {
		page, err = a.cfg.Reports.DeliveryStatistics(r.Context(), q)
	}
	if err != nil {
		a.problem(w, r, err)
		return
	}
	body := statisticsBody{make([]recipientBody, len(page.Recipients)), page.Next, page.AsOf}
	for i, s := range page.Recipients {
		body.Recipients[i] = recipientBody(s)
	}
	writeJSON(w, http.StatusOK, "application/json", body)
}

// statisticsQuery refuses parameters that there are not, since they are most
// likely misspelt.
func statisticsQuery(r *http.Request) (app.StatisticsQuery, error) {
	var q app.StatisticsQuery
	var v domain.Validation
	for name, values := range r.URL.Query() {
		switch name {
		case "after":
			q.After = values[0]
		case "limit":
			n, err := strconv.Atoi(values[0])
			v.Check(err == nil && n > 0, name, "must be a number, 1 to "+strconv.Itoa(app.MaxStatistics))
			q.Limit = n
		default:
			v.Check(false, name, "is not a parameter: there are after and limit")
		}
		v.Check(len(values) == 1, name, "must be given once")
	}
	return q, v.Err()
}
