package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/httpapi"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain/account"
)

const credentials = `{"email":"Ada@example.org","password":"correct horse"}`

func startAccess(t *testing.T) *server {
	t.Helper()
	memory := &apptest.Memory{}
	access, err := app.NewAccess(memory, memory, &apptest.SessionCache{Reader: memory}, &apptest.Passwords{}, app.AccessConfig{})
	require.NoError(t, err)
	return start(t, httpapi.Config{Access: access})
}

func TestSessions_LogInAndOut(t *testing.T) {
	t.Parallel()
	s := startAccess(t)
	created := call(t, "POST", s.URL+"/v1/accounts", credentials)
	require.Equal(t, http.StatusCreated, created.StatusCode, "%s", created.body)
	login := call(t, "POST", s.URL+"/v1/sessions", credentials)
	require.Equal(t, http.StatusCreated, login.StatusCode, "%s", login.body)
	require.Equal(t, "no-store", login.Header.Get("Cache-Control"))
	require.Equal(t, "Bearer", login.field(t, "token_type"))
	require.Equal(t, created.field(t, "id"), login.field(t, "account"))
	bearer := "Bearer " + login.field(t, "token").(string)

	me := call(t, "GET", s.URL+"/v1/me", "", "Authorization", bearer)
	require.Equal(t, http.StatusOK, me.StatusCode)
	require.Equal(t, created.field(t, "id"), me.field(t, "id"))
	require.Equal(t, "ada@example.org", me.field(t, "email"))
	require.NotContains(t, string(me.body), "hash of")
	require.Equal(t, http.StatusOK, call(t, "GET", s.URL+"/v1/me", "", "Authorization", "bearer "+login.field(t, "token").(string)).StatusCode)

	other := "Bearer " + call(t, "POST", s.URL+"/v1/sessions", credentials).field(t, "token").(string)
	require.Equal(t, http.StatusNoContent, call(t, "DELETE", s.URL+"/v1/sessions/current", "", "Authorization", bearer).StatusCode)
	require.Equal(t, http.StatusUnauthorized, call(t, "GET", s.URL+"/v1/me", "", "Authorization", bearer).StatusCode)
	require.Equal(t, http.StatusNoContent, call(t, "DELETE", s.URL+"/v1/sessions", "", "Authorization", other).StatusCode)
	require.Equal(t, http.StatusUnauthorized, call(t, "GET", s.URL+"/v1/me", "", "Authorization", other).StatusCode)
}

func TestAccounts_RefuseWhatIsWrongOrTaken(t *testing.T) {
	t.Parallel()
	s := startAccess(t)
	bad := call(t, "POST", s.URL+"/v1/accounts", `{"email":"ada","password":"short"}`)
	require.Equal(t, http.StatusBadRequest, bad.StatusCode)
	require.Contains(t, string(bad.body), `"field":"email"`)
	require.Contains(t, string(bad.body), `"field":"password"`)
	require.Equal(t, http.StatusCreated, call(t, "POST", s.URL+"/v1/accounts", credentials).StatusCode)
	require.Equal(t, http.StatusConflict, call(t, "POST", s.URL+"/v1/accounts", credentials).StatusCode)
}

func TestSessions_TellAnIntruderNothing(t *testing.T) {
	t.Parallel()
	s := startAccess(t)
	require.Equal(t, http.StatusCreated, call(t, "POST", s.URL+"/v1/accounts", credentials).StatusCode)
	wrong := call(t, "POST", s.URL+"/v1/sessions", `{"email":"ada@example.org","password":"wrong horse"}`)
	nobody := call(t, "POST", s.URL+"/v1/sessions", `{"email":"eve@example.org","password":"wrong horse"}`)
	require.Equal(t, http.StatusUnauthorized, wrong.StatusCode)
	require.Equal(t, http.StatusUnauthorized, nobody.StatusCode)
	require.Equal(t, string(wrong.body), string(nobody.body))

	unknown := account.NewToken().Reveal()
	for header, challenge := range map[string]string{
		"":                               "Bearer",
		"Bearer":                         `Bearer error="invalid_token"`,
		"Bearer " + unknown:              `Bearer error="invalid_token"`,
		"Bearer " + unknown + unknown:    `Bearer error="invalid_token"`,
		"Basic YWRhOmNvcnJlY3QgaG9yc2U=": `Bearer error="invalid_token"`,
		unknown:                          `Bearer error="invalid_token"`,
	} {
		for _, try := range [][2]string{{"GET", "/v1/me"}, {"DELETE", "/v1/sessions/current"}, {"DELETE", "/v1/sessions"}} {
			var with []string
			if header != "" {
				with = []string{"Authorization", header}
			}
			got := call(t, try[0], s.URL+try[1], "", with...)
			require.Equal(t, http.StatusUnauthorized, got.StatusCode, "%s %q", try, header)
			require.Equal(t, challenge, got.Header.Get("WWW-Authenticate"))
			require.Equal(t, "application/problem+json", got.Header.Get("Content-Type"))
		}
	}
}

// away is an Access whose parts do not answer.
type away struct{ err error }

func (a away) SignUp(context.Context, string, string) (account.ID, error) { return "", a.wrapped() }
func (a away) LogIn(context.Context, string, string) (app.LoggedIn, error) {
	return app.LoggedIn{}, a.wrapped()
}
func (a away) Authenticate(context.Context, string) (app.Principal, error) {
	return app.Principal{}, a.wrapped()
}
func (a away) LogOut(context.Context, string) error           { return a.wrapped() }
func (a away) LogOutEverywhere(context.Context, string) error { return a.wrapped() }
func (a away) wrapped() error                                 { return fmt.Errorf("access: %w", a.err) }

func TestSessions_OutagesAreNoVerdict(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want int
	}{{app.ErrOverloaded, 503}, {context.DeadlineExceeded, 503}, {errors.New("redis: secret of the inside"), 500}} {
		s := start(t, httpapi.Config{Access: away{test.err}})
		for _, try := range [][3]string{
			{"GET", "/v1/me"}, {"DELETE", "/v1/sessions/current"}, {"DELETE", "/v1/sessions"},
			{"POST", "/v1/sessions", credentials}, {"POST", "/v1/accounts", credentials},
		} {
			got := call(t, try[0], s.URL+try[1], try[2], "Authorization", "Bearer x")
			require.Equal(t, test.want, got.StatusCode, "%s", try)
			if test.want == 503 {
				require.Equal(t, "1", got.Header.Get("Retry-After"))
			}
			require.Empty(t, got.Header.Get("WWW-Authenticate"))
			require.NotContains(t, string(got.body), "secret")
		}
	}
}

func TestAccess_IsServedOnlyWhereItIsSet(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	for _, path := range []string{"/v1/me", "/v1/statistics"} {
		require.Equal(t, http.StatusNotFound, call(t, "GET", s.URL+path, "").StatusCode)
	}
}
