package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
)

// Header names of the interface.
const (
	headerKey         = "Idempotency-Key"
	headerReplayed    = "Idempotent-Replayed"
	headerTraceparent = "Traceparent"
)

// body is the JSON form of a delivery. Its field names are the interface.
type body struct {
	NotificationID notification.ID      `json:"notification_id"`
	Attempt        int                  `json:"attempt"`
	Recipient      string               `json:"recipient"`
	Channel        notification.Channel `json:"channel"`
	Subject        string               `json:"subject"`
	Body           string               `json:"body"`
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

func (g *Gateway) post(ctx context.Context, d app.Delivery) error {
	payload, err := json.Marshal(body{d.NotificationID, d.Attempt, d.Recipient, d.Channel, d.Subject, d.Body})
	if err != nil {
		return fmt.Errorf("%w: %w", app.ErrRejected, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url, bytes.NewReader(payload))
	if err != nil {
		return fmt.Errorf("%w: %w", app.ErrUnavailable, err)
	}
	req.Header.Set("Content-Type", "application/json")
	// Under its canonical name, net/http would take the key for leave to repeat a
	// request whose answer was lost, as often as it likes. To servers, case is all one.
	req.Header[strings.ToLower(headerKey)] = []string{d.IdempotencyKey}
	if parent := g.cfg.Traceparent(ctx); parent != "" {
		req.Header.Set(headerTraceparent, parent)
	}
	if g.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+g.cfg.Token)
	}
	res, err := g.client.Do(req)
	if err != nil {
		return unanswered(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, readErr := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil // what it says beyond that is of no interest
	}
	e := answer(res, text)
	if readErr != nil && e.Reason == "" {
		e.Reason = "the rest of the answer was lost"
	}
	return e
}

// answer reads what a status other than 2xx says.
func answer(res *http.Response, text []byte) *Error {
	var said struct {
		Error, Detail, Title string
	}
	reason := string(text)
	if json.Unmarshal(text, &said) == nil {
		for _, s := range []string{said.Error, said.Detail, said.Title} {
			if s != "" {
				reason = s
				break
			}
		}
	}
	return &Error{
		Status: res.StatusCode, Reason: oneLine(reason), After: retryAfter(res.Header.Get("Retry-After"), time.Now()),
		verdict: verdictOn(res.StatusCode, res.Header.Get(headerReplayed) == "true"),
	}
}

// unanswered tells a connection that could not be made, over which nothing was
// sent, from a request of which nobody knows what became. The address stays out
// of the text: it may carry a secret.
func unanswered(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		return cause
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Errorf("%w: %w", app.ErrUnavailable, op.Err)
	}
	var inner interface{ Unwrap() error } // *url.Error
	if errors.As(err, &inner) && inner.Unwrap() != nil {
		err = inner.Unwrap()
	}
	return fmt.Errorf("no answer: %w", err)
}
