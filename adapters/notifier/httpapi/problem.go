package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
)

// problem is a problem detail of RFC 9457.
type problem struct {
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail,omitempty"`
	Errors []problemField `json:"errors,omitempty"`
}

type problemField struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

func (a *API) problem(w http.ResponseWriter, r *http.Request, err error) {
	p, challenge, ok := describeAccess(err)
	if !ok {
		p = describe(err)
	}
	if challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	if p.Status >= http.StatusInternalServerError {
		a.cfg.Logger.ErrorContext(r.Context(), "request not served", "method", r.Method, "route", r.Pattern, "error", err)
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, p.Status, "application/problem+json", p)
}

// describe tells a caller what went wrong: all of it if it is theirs to fix,
// nothing of the inside otherwise.
func describe(err error) problem {
	var invalid *domain.ValidationError
	var illegal *domain.IllegalActError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return problem{Title: "Body too large", Status: http.StatusRequestEntityTooLarge}
	case errors.Is(err, errMediaType):
		return problem{Title: "Unsupported media type", Status: http.StatusUnsupportedMediaType, Detail: err.Error()}
	case errors.Is(err, errSyntax):
		return problem{Title: "Malformed body", Status: http.StatusBadRequest, Detail: strings.ReplaceAll(err.Error(), "\n", ": ")}
	case errors.As(err, &invalid):
		p := problem{Title: "Invalid request", Status: http.StatusBadRequest, Detail: invalid.Error()}
		for _, f := range invalid.Fields {
			p.Errors = append(p.Errors, problemField(f))
		}
		return p
	case errors.Is(err, domain.ErrNotFound):
		return problem{Title: "No such notification", Status: http.StatusNotFound}
	case errors.As(err, &illegal):
		return problem{Title: "Not allowed any more", Status: http.StatusConflict, Detail: illegal.Error()}
	case errors.Is(err, domain.ErrVersionConflict):
		return problem{Title: "Changed by someone else in the meantime", Status: http.StatusConflict, Detail: "Look again and repeat the request if it still applies."}
	case errors.Is(err, app.ErrKeyReused):
		return problem{Title: "Idempotency key reused", Status: http.StatusUnprocessableEntity, Detail: app.ErrKeyReused.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return problem{Title: "Took too long", Status: http.StatusServiceUnavailable}
	}
	return problem{Title: "Internal error", Status: http.StatusInternalServerError}
}

func writeJSON(w http.ResponseWriter, status int, mediaType string, v any) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: there is nobody to tell
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}
