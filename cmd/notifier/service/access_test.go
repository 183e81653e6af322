package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/test/harness"
)

const credentials = `{"email":"Ada@example.org","password":"correct horse"}`

// answer is what a client of the API sees.
type answer struct {
	code   int
	header http.Header
	body   map[string]any
}

// ask is curl -X method -H "Authorization: Bearer token" -d body.
func ask(t *testing.T, method, url, token, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	got := answer{code: res.StatusCode, header: res.Header}
	if len(text) > 0 {
		require.NoError(t, json.Unmarshal(text, &got.body), "%s", text)
	}
	return got
}

func (r *running) logIn(t *testing.T) string {
	t.Helper()
	got := ask(t, "POST", r.url+"/v1/sessions", "", credentials)
	require.Equal(t, http.StatusCreated, got.code, "%v", got.body)
	token, _ := got.body["token"].(string)
	require.Len(t, token, 43)
	return token
}

func (r *running) me(t *testing.T, token string) int {
	t.Helper()
	return ask(t, "GET", r.url+"/v1/me", token, "").code
}

// What the README shows, on both repositories.
func TestAccess_FromSignUpToLogoutEverywhere(t *testing.T) {
	t.Parallel()
	for _, repository := range []string{"sql", "orm"} {
		t.Run(repository, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cfg.Repository = repository
			log := &lines{}
			w.cfg.Logger = slog.New(telemetry.NewHandler(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			s := start(t, w.cfg)
			s.awaitReady(t)

			created := ask(t, "POST", s.url+"/v1/accounts", "", credentials)
			require.Equal(t, http.StatusCreated, created.code, "%v", created.body)
			require.Equal(t, http.StatusConflict, ask(t, "POST", s.url+"/v1/accounts", "", credentials).code)
			phone, laptop := s.logIn(t), s.logIn(t)

			me := ask(t, "GET", s.url+"/v1/me", phone, "")
			require.Equal(t, http.StatusOK, me.code)
			require.Equal(t, created.body["id"], me.body["id"])
			require.Equal(t, "ada@example.org", me.body["email"])
			require.Equal(t, "no-store", me.header.Get("Cache-Control"))

			require.Equal(t, http.StatusNoContent, ask(t, "DELETE", s.url+"/v1/sessions/current", phone, "").code)
			refused := ask(t, "GET", s.url+"/v1/me", phone, "")
			require.Equal(t, http.StatusUnauthorized, refused.code)
			require.Equal(t, `Bearer error="invalid_token"`, refused.header.Get("WWW-Authenticate"))
			require.Equal(t, "application/problem+json", refused.header.Get("Content-Type"))
			require.Equal(t, http.StatusOK, s.me(t, laptop))

			require.Equal(t, http.StatusNoContent, ask(t, "DELETE", s.url+"/v1/sessions", laptop, "").code)
			require.Equal(t, http.StatusUnauthorized, s.me(t, laptop))
			require.Equal(t, http.StatusOK, s.me(t, s.logIn(t)))
			s.end(t)
			require.NotEmpty(t, log.String())
			for _, secret := range []string{phone, laptop, "correct horse", "argon2id"} {
				require.NotContains(t, log.String(), secret)
			}

			var types []string
			for _, r := range harness.ReadTopic(t, w.cfg.Brokers, w.cfg.AccountTopic) {
				require.Equal(t, created.body["id"], string(r.Key))
				types = append(types, r.Header("event-type"))
			}
			require.Equal(t, []string{
				"account.registered", "session.opened", "session.opened", "session.revoked", "account.sessions-revoked", "session.opened",
			}, types)
		})
	}
}

// A valid token needs Redis only: Postgres is away, and /v1/me answers. With
// Redis away as well the answer is an error, and never that the token is bad.
func TestAccess_ValidTokensNeedNoPostgresAndOutagesAreNever401(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dsn, err := url.Parse(w.cfg.DatabaseURL)
	require.NoError(t, err)
	postgres := harness.NewProxy(t, dsn.Host)
	dsn.Host = postgres.Addr()
	w.cfg.DatabaseURL = dsn.String()
	redis := harness.NewProxy(t, w.redis.Options().Addr)
	w.cfg.RedisURL = fmt.Sprintf("redis://%s/%d", redis.Addr(), w.redis.Options().DB)
	s := start(t, w.cfg)
	s.awaitReady(t)
	require.Equal(t, http.StatusCreated, ask(t, "POST", s.url+"/v1/accounts", "", credentials).code)
	token := s.logIn(t)

	postgres.Cut()
	for range 20 {
		require.Equal(t, http.StatusOK, s.me(t, token))
	}
	redis.Cut()
	for range 3 {
		require.GreaterOrEqual(t, s.me(t, token), 500)
	}
	require.NoError(t, postgres.Heal())
	harness.Await(t, within, "postgres answers alone", func(context.Context) error {
		if code := s.me(t, token); code != http.StatusOK {
			return fmt.Errorf("%d", code)
		}
		return nil
	})
	require.Equal(t, http.StatusNoContent, ask(t, "DELETE", s.url+"/v1/sessions/current", token, "").code)
	require.Equal(t, http.StatusUnauthorized, s.me(t, token))
	require.NoError(t, redis.Heal())
	key := "auth:tok:*"
	harness.Await(t, within, "the event has brought Redis the tombstone", func(ctx context.Context) error {
		keys, err := w.redis.Keys(ctx, key).Result()
		if err != nil || len(keys) != 1 {
			return fmt.Errorf("%v %w", keys, err)
		}
		text, err := w.redis.Get(ctx, keys[0]).Result()
		if err == nil && !strings.HasPrefix(text, fmt.Sprintf("%020dr", 2)) {
			err = errors.New(text)
		}
		return err
	})
	require.Equal(t, http.StatusUnauthorized, s.me(t, token))
	s.end(t)
}

func TestStatistics_TellWhatBecameOfTheNotifications(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := start(t, w.cfg)
	s.awaitReady(t)
	for _, recipient := range []string{"ada", "ada", "bob"} {
		code, body, _ := call(t.Context(), "POST", s.url+"/v1/notifications", strings.Replace(valid, "ada", recipient, 1))
		require.Equal(t, http.StatusCreated, code, "%s", body)
	}
	page := ask(t, "GET", s.url+"/v1/statistics?limit=1", "", "")
	require.Equal(t, http.StatusOK, page.code, "%v", page.body)
	require.Equal(t, "ada", page.body["next"])
	first, _ := page.body["recipients"].([]any)
	require.Len(t, first, 1)
	ada, _ := first[0].(map[string]any)
	require.EqualValues(t, 2, ada["total"])

	s.request(t)
	again := ask(t, "GET", s.url+"/v1/statistics?limit=1", "", "")
	require.Equal(t, page.body, again.body, "the page is from the cache")
	rest := ask(t, "GET", s.url+"/v1/statistics?limit=1&after=ada", "", "")
	require.NotContains(t, rest.body, "next")
	for _, bad := range []string{"limit=0", "limit=501", "limit=x", "limit=1&limit=2", "befor=x", "after=%00", "after=%ff"} {
		require.Equal(t, http.StatusBadRequest, ask(t, "GET", s.url+"/v1/statistics?"+bad, "", "").code, bad)
	}
	require.Equal(t, http.StatusBadRequest, ask(t, "GET", s.url+"/v1/statistics?after="+strings.Repeat("x", 257), "", "").code)
	s.end(t)
}

func TestAccess_ReportsWhatIsWrongWithItsConfig(t *testing.T) {
	t.Parallel()
	cfg := newWorld(t).cfg
	cfg.Repository, cfg.AccountTopic, cfg.SessionLife, cfg.SessionGroup = "gorm", cfg.Topic, time.Millisecond, cfg.Group
	err := cfg.Validate()
	for _, field := range []string{"repository", "account topic", "session life", "session group"} {
		require.ErrorContains(t, err, field+":")
	}
}
