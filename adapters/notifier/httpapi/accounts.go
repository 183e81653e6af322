package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// Access is what the API needs to serve accounts and sessions; *app.Access is one.
type Access interface {
	SignUp(ctx context.Context, email, password string) (account.ID, error)
	LogIn(ctx context.Context, email, password string) (app.LoggedIn, error)
	Authenticate(ctx context.Context, token string) (app.Principal, error)
	LogOut(ctx context.Context, token string) error
	LogOutEverywhere(ctx context.Context, token string) error
}

type credentialsBody struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

type sessionBody struct {
	Token     string     `json:"token"`
	TokenType string     `json:"token_type"` // as in OAuth: how to send it
	Account   account.ID `json:"account"`
	ExpiresAt time.Time  `json:"expires_at"`
}

type meBody struct {
	ID           account.ID    `json:"id"`
	Email        string        `json:"email"`
	RegisteredAt time.Time     `json:"registered_at"`
	Session      meSessionBody `json:"session"`
}

type meSessionBody struct {
	OpenedAt  time.Time `json:"opened_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (a *API) accessRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/accounts", a.signUp)
	mux.HandleFunc("POST /v1/sessions", a.logIn)
	mux.HandleFunc("GET /v1/me", a.me)
	mux.HandleFunc("DELETE /v1/sessions/current", a.logOut(a.cfg.Access.LogOut))
	mux.HandleFunc("DELETE /v1/sessions", a.logOut(a.cfg.Access.LogOutEverywhere))
}

func (a *API) signUp(w http.ResponseWriter, r *http.Request) {
	var body credentialsBody
	var id account.ID
	err := readJSON(r, &body)
	if err == nil {
		id, err = a.cfg.Access.SignUp(r.Context(), body.Email, body.Password)
	}
	if err != nil {
		a.problem(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, "application/json", map[string]account.ID{"id": id})
}

func (a *API) logIn(w http.ResponseWriter, r *http.Request) {
	var body credentialsBody
	var got app.LoggedIn
	err := readJSON(r, &body)
	if err == nil {
		got, err = a.cfg.Access.LogIn(r.Context(), body.Email, body.Password)
	}
	if err != nil {
		a.problem(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, "application/json", sessionBody{got.Token.Reveal(), "Bearer", got.Account, got.ExpiresAt})
}

func (a *API) me(w http.ResponseWriter, r *http.Request) {
	var who app.Principal
	token, err := bearer(r)
	if err == nil {
		who, err = a.cfg.Access.Authenticate(r.Context(), token)
	}
	if err != nil {
		a.problem(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", meBody{who.Account, who.Email, who.RegisteredAt, meSessionBody{who.OpenedAt, who.ExpiresAt}})
}

func (a *API) logOut(end func(ctx context.Context, token string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, err := bearer(r)
		if err == nil {
			err = end(r.Context(), token)
		}
		if err != nil {
			a.problem(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// errNoToken means that the request shows no token at all.
var errNoToken = errors.New("no token")

// bearer returns the token of the Authorization header. Whether it is one is not
// its business.
func bearer(r *http.Request) (string, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return "", errNoToken
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return "", account.ErrInvalidToken
	}
	return strings.TrimSpace(token), nil
}

// describeAccess tells what went wrong with an account or a session; false if it
// was something else. A server that has too much to do, or whose parts are away,
// says nothing about a token: that is never 401.
func describeAccess(err error) (p problem, challenge string, ok bool) {
	switch {
	case errors.Is(err, errNoToken):
		return problem{Title: "Login required", Status: http.StatusUnauthorized, Detail: "Send the token of a session as Authorization: Bearer."}, "Bearer", true
	case errors.Is(err, account.ErrInvalidToken):
		return problem{Title: "Token not valid", Status: http.StatusUnauthorized, Detail: "It is none, or its session is over: log in again."}, `Bearer error="invalid_token"`, true
	case errors.Is(err, account.ErrWrongCredentials):
		return problem{Title: "Email or password is wrong", Status: http.StatusUnauthorized}, "Bearer", true
	case errors.Is(err, app.ErrOverloaded):
		return problem{Title: "Too much to do", Status: http.StatusServiceUnavailable, Detail: "Nothing was done. Try again in a second."}, "", true
	case errors.Is(err, domain.ErrDuplicate):
		return problem{Title: "Already taken", Status: http.StatusConflict, Detail: "There is an account with this email."}, "", true
	}
	return problem{}, "", false
}
