package httpapi

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

type listBody struct {
	Notifications []statusBody `json:"notifications"`
	Unread        int          `json:"unread"`
}

type countBody struct {
	Requested int64 `json:"requested"`
	Sent      int64 `json:"sent"`
	Failed    int64 `json:"failed_attempts"`
	Abandoned int64 `json:"abandoned"`
	Read      int64 `json:"read"`
}

// recipientList answers with the newest notifications of a recipient.
func (a *API) recipientList(w http.ResponseWriter, r *http.Request) {
	limit, err := limitParameter(r.URL.Query())
	var list app.RecipientList
	if err == nil {
		list, err = a.app.ListRecipientNotifications(r.Context(), r.PathValue("id"), limit)
	}
	if err != nil {
		a.problem(w, r, err)
		return
	}
	body := listBody{Notifications: make([]statusBody, len(list.Notifications)), Unread: list.Unread}
	for i, s := range list.Notifications {
		body.Notifications[i] = statusBody(s)
	}
	writeJSON(w, http.StatusOK, "application/json", body)
}

// limitParameter refuses parameters that there are not, since they are most likely
// misspelt.
func limitParameter(query url.Values) (limit int, err error) {
	var v domain.Validation
	for name, values := range query {
		if name != "limit" {
			v.Check(false, name, "is not a parameter: there is limit")
			continue
		}
		limit, err = strconv.Atoi(values[0])
		v.Check(err == nil && limit > 0 && len(values) == 1, name, "must be one number, 1 to "+strconv.Itoa(app.RecipientWindow))
	}
	return limit, v.Err()
}

// read notes that a notification was read.
func (a *API) read(w http.ResponseWriter, r *http.Request) {
	if err := a.app.MarkRead(r.Context(), r.PathValue("id")); err != nil {
		a.problem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// counters answers with the counters of a day; "today" is the present one.
func (a *API) counters(w http.ResponseWriter, r *http.Request) {
	day := r.PathValue("day")
	if day == "today" {
		day = ""
	}
	counters, err := a.app.DeliveryCounters(r.Context(), day)
	if err != nil {
		a.problem(w, r, err)
		return
	}
	body := map[notification.Channel]countBody{}
	for channel, c := range counters {
		body[channel] = countBody(c)
	}
	writeJSON(w, http.StatusOK, "application/json", body)
}
