package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

type requestBody struct {
	Recipient string `json:"recipient"`
	Channel   string `json:"channel"`
	Subject   string `json:"subject"`
	Body      string `json:"body"`
}

type statusBody struct {
	ID          notification.ID      `json:"id"`
	Version     int64                `json:"version"`
	Recipient   string               `json:"recipient"`
	Channel     notification.Channel `json:"channel"`
	Subject     string               `json:"subject"`
	Status      notification.Status  `json:"status"`
	Attempts    int                  `json:"attempts"`
	Reason      string               `json:"reason,omitempty"`
	RequestedAt time.Time            `json:"requested_at"`
	ChangedAt   time.Time            `json:"changed_at"`
	ReadAt      time.Time            `json:"read_at,omitzero"`
}

func (a *API) request(w http.ResponseWriter, r *http.Request) {
	var body requestBody
	key, err := idempotencyKey(r)
	if err == nil {
		err = readJSON(r, &body)
	}
	if err != nil {
		a.problem(w, r, err)
		return
	}
	got, err := a.app.RequestNotification(r.Context(), app.RequestNotification{
		Content: notification.Content{
			Recipient: body.Recipient, Channel: notification.Channel(body.Channel), Subject: body.Subject, Body: body.Body,
		},
		IdempotencyKey: key,
	})
	if err != nil {
		a.problem(w, r, err)
		return
	}
	w.Header().Set("Location", "/v1/notifications/"+string(got.ID))
	status := http.StatusCreated
	if got.Repeated {
		status = http.StatusOK
	}
	writeJSON(w, status, "application/json", map[string]string{"id": string(got.ID)})
}

func (a *API) get(w http.ResponseWriter, r *http.Request) {
	s, err := a.app.GetNotification(r.Context(), r.PathValue("id"))
	if err != nil {
		a.problem(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", statusBody(s))
}

func (a *API) abandon(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Reason string `json:"reason"`
	}
	err := readJSON(r, &body)
	if err == nil {
		err = a.app.AbandonNotification(r.Context(), r.PathValue("id"), body.Reason)
	}
	if err != nil {
		a.problem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func idempotencyKey(r *http.Request) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	var v domain.Validation
	v.Check(len(values) == 1 && visible(values[0], 255), "Idempotency-Key", "must be one value of 1 to 255 visible ASCII characters")
	return values[0], v.Err()
}

// errMediaType and errSyntax are answers to bodies that are no JSON objects of
// the expected form.
var (
	errMediaType = errors.New("the body must be application/json")
	errSyntax    = errors.New("the body is not the JSON object expected")
)

// readJSON decodes the one JSON value of the body into v; fields that v does not
// have are refused, since they are most likely misspelt.
func readJSON(r *http.Request, v any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return errMediaType
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.Join(errSyntax, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.Join(errSyntax, errors.New("there is something after it"))
	}
	return nil
}
