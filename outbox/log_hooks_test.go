package outbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
)

// plainLog logs into b without times.
func plainLog(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestLogHooks_LogsLossAndReturnOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		h := outbox.LogHooks(plainLog(&out))
		gone := errors.New("connection refused")
		h.Leading(7)
		for range 3 {
			h.Retrying(gone, time.Second)
			time.Sleep(25 * time.Second)
		}
		h.Retrying(errors.New("no such host"), time.Second)
		h.Waiting()
		h.Waiting()
		refused := fmt.Errorf("%w: broker is away", outbox.ErrPublish)
		h.Stopped(7, refused)
		h.Retrying(refused, time.Second)
		h.Leading(8) // the log answers, the broker does not yet
		time.Sleep(time.Second)
		h.Delivered(1, time.Second)
		h.Parked(outbox.Parked{Position: 4, ParkedKey: outbox.ParkedKey{Topic: "orders", Key: "o-1"}, Reason: "message too large"})
		h.Unsaved(12)
		h.HandingOver(outbox.Member{ID: "b", Leads: 1})
		h.Stopped(8, nil)
		require.Equal(t, `level=INFO msg="relay leads" epoch=7
level=WARN msg="relay will retry" error="connection refused" in=1s
level=WARN msg="relay will retry" error="no such host" in=1s
level=INFO msg="relay works again" after=1m15s
level=WARN msg="relay lost its leadership" epoch=7 error="publish: broker is away"
level=WARN msg="relay will retry" error="publish: broker is away" in=1s
level=INFO msg="relay leads" epoch=8
level=INFO msg="relay works again" after=1s
level=WARN msg="message parked" position=4 topic=orders key=o-1 reason="message too large"
level=WARN msg="leadership broke off: rows may be delivered twice" at_most=12
level=INFO msg="handing the outbox over" to=b leads=1
level=INFO msg="relay stopped leading" epoch=8
`, out.String())
	})
}

func TestLogHooks_RepeatsAFailureThatLastsOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		h := outbox.LogHooks(plainLog(&out))
		for range 180 {
			h.Retrying(errors.New("connection refused"), time.Second)
			time.Sleep(time.Second)
		}
		require.Equal(t, 3, bytes.Count(out.Bytes(), []byte("relay will retry")))
	})
}

func TestHooks_TeeCallsBoth(t *testing.T) {
	t.Parallel()
	var calls []string
	first := outbox.Hooks{
		Leading: func(int64) { calls = append(calls, "first leads") },
		Waiting: func() { calls = append(calls, "first waits") },
	}
	both := first.Tee(outbox.Hooks{
		Leading: func(int64) { calls = append(calls, "second leads") },
		Saved:   func(outbox.Cursor, time.Duration) { calls = append(calls, "second saved") },
	})
	both.Leading(1)
	both.Waiting()
	both.Saved(outbox.Cursor{}, 0)
	require.Equal(t, []string{"first leads", "second leads", "first waits", "second saved"}, calls)
	require.Nil(t, both.Parked)
}
