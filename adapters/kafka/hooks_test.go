package kafka_test

import (
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
)

// callAll calls every hook that is set, with telling values.
func callAll(h kafka.Hooks) {
	rec := &record.Record{Group: "g", Topic: "orders", Partition: 2, Offset: 7}
	h.State(kafka.State{Err: errors.New("refused")})
	h.State(kafka.State{Reachable: true})
	h.Assigned(kafka.Claim{Group: "g", Topic: "orders", Partition: 2, Next: 5})
	h.Revoked(kafka.Claim{Group: "g", Topic: "orders", Partition: 2, Next: 6})
	h.Nacked(kafka.Nack{Record: rec, Attempt: 3, Again: time.Second})
	h.Abandoned(rec)
	h.Stuck(rec, time.Minute)
	h.Error("orders", errors.New("group g: no broker"))
}

func TestLogHooks_LogsEveryLossWithItsCause(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	callAll(kafka.LogHooks(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level:       slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { return map[bool]slog.Attr{false: a}[a.Key == slog.TimeKey] },
	}))))
	require.Equal(t, `level=WARN msg="kafka cannot be reached" error=refused
level=INFO msg="kafka can be reached again"
level=INFO msg="partition assigned" group=g topic=orders partition=2 offset=5
level=INFO msg="partition revoked" group=g topic=orders partition=2 offset=6
level=DEBUG msg="message refused" group=g topic=orders partition=2 offset=7 attempt=3 again_in=1s
level=WARN msg="message abandoned: its handler did not answer in time" group=g topic=orders partition=2 offset=7
level=WARN msg="handler is stuck" group=g topic=orders partition=2 offset=7 since=1m0s
level=WARN msg="subscriber tries again" topic=orders error="group g: no broker"
`, out.String())
}

func TestHooks_TeeCallsBothAndToleratesNil(t *testing.T) {
	t.Parallel()
	var calls []string
	// every sets each hook to one that notes its name; a hook added later is
	// covered too.
	every := func(mark string) (h kafka.Hooks) {
		v := reflect.ValueOf(&h).Elem()
		for i := range v.NumField() {
			name := mark + v.Type().Field(i).Name
			v.Field(i).Set(reflect.MakeFunc(v.Field(i).Type(), func([]reflect.Value) []reflect.Value {
				calls = append(calls, name)
				return nil
			}))
		}
		return h
	}
	callAll(every("a").Tee(kafka.Hooks{}).Tee(every("b")))
	require.Equal(t, []string{
		"aState", "bState", "aState", "bState", "aAssigned", "bAssigned", "aRevoked", "bRevoked", "aNacked", "bNacked",
		"aAbandoned", "bAbandoned", "aStuck", "bStuck", "aError", "bError",
	}, calls)
	require.Equal(t, len(calls), 2*(reflect.TypeFor[kafka.Hooks]().NumField()+1), "callAll calls every hook")
}
