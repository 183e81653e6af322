package httpapi_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/httpapi"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
)

type list struct {
	Notifications []struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		ReadAt string `json:"read_at"`
	}
	Unread int
}

func (s *server) list(t *testing.T, path string) list {
	t.Helper()
	got := call(t, "GET", s.URL+path, "")
	require.Equal(t, http.StatusOK, got.StatusCode, "%s", got.body)
	var l list
	require.NoError(t, json.Unmarshal(got.body, &l))
	require.NotNil(t, l.Notifications, "an empty list is [], not null: %s", got.body)
	return l
}

func TestRecipients_ListTellsTheNewestAndHowManyAreUnread(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	require.Empty(t, s.list(t, "/v1/recipients/ada%2Fb%40example.org/notifications").Notifications)

	var ids []string
	for range 3 {
		body := `{"recipient":"ada/b@example.com","channel":"email","subject":"Hello","body":"World"}`
		ids = append(ids, call(t, "POST", s.URL+"/v1/notifications", body).field(t, "id").(string))
		require.NoError(t, s.app.MarkSent(t.Context(), ids[len(ids)-1]))
	}
	path := "/v1/recipients/ada%2Fb%40example.com/notifications"
	require.Equal(t, http.StatusNoContent, call(t, "POST", s.URL+"/v1/notifications/"+ids[0]+"/read", "").StatusCode)
	l := s.list(t, path+"?limit=2")
	require.Len(t, l.Notifications, 2)
	require.Equal(t, ids[2], l.Notifications[0].ID)
	require.Equal(t, 2, l.Unread)
}

func TestRead_IsForWhatWasSent(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	id := call(t, "POST", s.URL+"/v1/notifications", valid).field(t, "id").(string)
	url := s.URL + "/v1/notifications/" + id
	require.Equal(t, http.StatusConflict, call(t, "POST", url+"/read", "").StatusCode)
	require.NoError(t, s.app.MarkSent(t.Context(), id))
	for range 2 {
		require.Equal(t, http.StatusNoContent, call(t, "POST", url+"/read", "").StatusCode)
	}
	require.NotEmpty(t, call(t, "GET", url, "").field(t, "read_at"))
	require.Equal(t, http.StatusNotFound, call(t, "POST", s.URL+"/v1/notifications/"+app.NewID()+"/read", "").StatusCode)
}

func TestRecipients_RefuseParametersOfTheWrongForm(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	for _, path := range []string{
		"/v1/recipients/ada/notifications?limit=0", "/v1/recipients/ada/notifications?limit=101", "/v1/recipients/ada/notifications?limit=x",
		"/v1/recipients/ada/notifications?limit=1&limit=2", "/v1/recipients/ada/notifications?lmit=1", "/v1/recipients/%20/notifications",
		"/v1/recipients/%00/notifications", "/v1/counters/tomorrow", "/v1/counters/2026-02-30",
	} {
		got := call(t, "GET", s.URL+path, "")
		require.Equal(t, http.StatusBadRequest, got.StatusCode, "%s: %s", path, got.body)
		require.NotEmpty(t, got.field(t, "errors"), path)
	}
}

func TestCounters_OfADayByChannel(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	s.views.Count(time.Now(), app.DeliveryCounters{notification.SMS: {Requested: 5, Sent: 3, Failed: 4, Abandoned: 1, Read: 2}})
	for _, day := range []string{"today", time.Now().UTC().Format(time.DateOnly)} {
		got := call(t, "GET", s.URL+"/v1/counters/"+day, "")
		require.Equal(t, http.StatusOK, got.StatusCode)
		require.JSONEq(t, `{"sms":{"requested":5,"sent":3,"failed_attempts":4,"abandoned":1,"read":2}}`, string(got.body))
	}
	require.JSONEq(t, `{}`, string(call(t, "GET", s.URL+"/v1/counters/2026-01-31", "").body))

	s.views.Err = errors.New("redis is away")
	got := call(t, "GET", s.URL+"/v1/counters/today", "")
	require.Equal(t, http.StatusServiceUnavailable, got.StatusCode, "%s", got.body)
	require.Equal(t, "1", got.Header.Get("Retry-After"))
	require.NotContains(t, string(got.body), "redis")
}
