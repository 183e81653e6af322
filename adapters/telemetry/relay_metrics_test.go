package telemetry_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// watched is a relay on a MemoryLog with its metrics.
type watched struct {
	t       *testing.T
	log     *outboxtest.MemoryLog
	broker  *broker
	reg     *prometheus.Registry
	metrics *telemetry.RelayMetrics
	relay   *outbox.Relay
	stop    func()
}

func watch(t *testing.T, cfg outbox.RelayConfig, wrap func(outbox.Log) outbox.Log) *watched {
	t.Helper()
	w := &watched{t: t, log: outboxtest.NewMemoryLog(nil), broker: &broker{refuse: map[string]bool{}}, reg: prometheus.NewRegistry()}
	var err error
	w.metrics, err = telemetry.NewRelayMetrics(w.reg, "r")
	require.NoError(t, err)
	cfg.Hooks = w.metrics.Hooks(cfg.Hooks)
	var log outbox.Log = w.log
	if wrap != nil {
		log = wrap(log)
	}
	w.relay, w.stop = start(t, log, w.broker, cfg)
	w.metrics.Follow(w.relay.Status)
	return w
}

// value is the value of the series with these label values, or the number of
// observations of a histogram, and the sum of these.
func (w *watched) value(name string, labels ...string) (value, sum float64) {
	w.t.Helper()
	families, err := w.reg.Gather()
	require.NoError(w.t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			text := ""
			for _, l := range m.GetLabel() {
				text += l.GetName() + "=" + l.GetValue() + " "
			}
			require.Contains(w.t, text, "relay=r ")
			if len(labels) > 0 && !strings.Contains(text, labels[0]+" ") {
				continue
			}
			switch {
			case m.GetCounter() != nil:
				return m.GetCounter().GetValue(), 0
			case m.GetGauge() != nil:
				return m.GetGauge().GetValue(), 0
			}
			return float64(m.GetHistogram().GetSampleCount()), m.GetHistogram().GetSampleSum()
		}
	}
	require.Failf(w.t, "missing", "%s %v", name, labels)
	return 0, 0
}

func (w *watched) equal(want float64, name string, labels ...string) {
	w.t.Helper()
	got, _ := w.value(name, labels...)
	require.Equal(w.t, want, got, name)
}

func TestRelayMetrics_CountWhatTheRelayDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, outbox.RelayConfig{}, nil)
		time.Sleep(time.Second)
		w.broker.refuse["too large"] = true
		hold := make(chan struct{})
		w.broker.mu.Lock()
		w.broker.hold = hold
		w.broker.mu.Unlock()
		require.NoError(t, memoryStore{w.log}.Append(t.Context(), nil, []outbox.Message{
			{Topic: "orders", Key: "a", Payload: []byte("12345")},
			{Topic: "parked-only", Key: "b", Payload: []byte("too large")},
			{Topic: "bills", Key: "a", Payload: []byte("12345")},
			{Topic: "bills", Key: "b", Payload: []byte("12345")},
			{Topic: "orders", Key: "c", Payload: []byte("12345")},
			{Topic: "parked-only", Key: "b", Payload: []byte("12345")},
		}))
		time.Sleep(20 * time.Second)
		w.equal(6, "relay_in_flight_messages")
		stalled, _ := w.value("relay_stalled_seconds")
		require.InDelta(t, 20, stalled, 0.1)
		before := time.Now()
		close(hold)
		time.Sleep(time.Second)

		w.equal(2, "relay_messages_published_total", "topic=orders")
		w.equal(2, "relay_messages_published_total", "topic=bills")
		require.Equal(t, 2, testutil.CollectAndCount(w.reg, "relay_messages_published_total"), "nothing of the parked topic was published")
		w.equal(2, "relay_messages_parked_total")
		w.equal(34, "relay_payload_bytes_total")
		n, sum := w.value("relay_batch_size")
		require.Equal(t, []float64{1, 6}, []float64{n, sum})
		n, sum = w.value("relay_end_to_end_latency_seconds", "topic=bills")
		require.Equal(t, 2.0, n)
		require.InDelta(t, 40, sum, 0.2, "two messages waited 20 s")
		n, sum = w.value("relay_publish_duration_seconds")
		require.Equal(t, 1.0, n)
		require.InDelta(t, 20, sum, 0.1)
		w.equal(1, "relay_read_duration_seconds")
		w.equal(1, "relay_save_duration_seconds")
		last, _ := w.value("relay_last_publish_timestamp_seconds")
		require.InDelta(t, float64(before.UnixMilli())/1000, last, 0.1)
		w.equal(1, "relay_leader")
		w.equal(1, "relay_epoch")
		w.equal(6, "relay_position")
		w.equal(0, "relay_in_flight_messages")
		w.equal(0, "relay_stalled_seconds")
		w.stop()
		w.equal(0, "relay_leader")
	})
}

func TestRelayMetrics_AgeOfGaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, outbox.RelayConfig{}, nil)
		begin := func() outboxtest.Tx {
			tx, err := w.log.Begin(t.Context())
			require.NoError(t, err)
			require.NoError(t, tx.Append(t.Context(), outbox.Message{Topic: "orders", Key: "slow"}))
			return tx
		}
		oldest := func() float64 {
			seconds, _ := w.value("relay_oldest_gap_age_seconds")
			return seconds
		}
		first := begin()
		write(t, w.log, "orders", 1)
		time.Sleep(100 * time.Second)
		w.equal(1, "relay_open_gaps")
		require.InDelta(t, 100, oldest(), 1)

		second := begin()
		write(t, w.log, "orders", 1)
		time.Sleep(30 * time.Second)
		w.equal(2, "relay_open_gaps")
		require.InDelta(t, 130, oldest(), 1)
		require.NoError(t, first.Commit())
		time.Sleep(10 * time.Second)
		w.equal(1, "relay_open_gaps")
		require.InDelta(t, 40, oldest(), 1)
		require.NoError(t, second.Rollback())
		time.Sleep(time.Second)
		w.equal(0, "relay_open_gaps")
		require.Zero(t, oldest())

		begin()
		write(t, w.log, "orders", 1)
		time.Sleep(time.Second)
		w.equal(1, "relay_open_gaps")
		w.stop()
		w.equal(0, "relay_open_gaps")
		require.Zero(t, oldest(), "a standby sees no gaps")
	})
}

func TestRelayMetrics_GapsAreAsOldAsTheLeadershipThatFoundThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		m, err := telemetry.NewRelayMetrics(reg, "")
		require.NoError(t, err)
		m.Follow(func() outbox.Status { return outbox.Status{Leading: true, Gaps: 1} })
		hooks := m.Hooks(outbox.Hooks{})
		oldest := func() float64 {
			families, err := reg.Gather()
			require.NoError(t, err)
			for _, f := range families {
				if f.GetName() == "relay_oldest_gap_age_seconds" {
					return f.GetMetric()[0].GetGauge().GetValue()
				}
			}
			return -1
		}
		hooks.Leading(1)
		time.Sleep(time.Minute)
		require.InDelta(t, 60, oldest(), 0.1, "before the first save")
		hooks.Saved(outbox.Cursor{Position: 20, Gaps: []outbox.Range{{Lo: 5, Hi: 9}}}, 0)
		require.InDelta(t, 60, oldest(), 0.1)
		time.Sleep(time.Minute)
		hooks.Saved(outbox.Cursor{Position: 30, Gaps: []outbox.Range{{Lo: 7, Hi: 7}, {Lo: 9, Hi: 9}, {Lo: 25, Hi: 26}}}, 0)
		require.InDelta(t, 120, oldest(), 0.1, "parts of a gap are as old as the whole")
		hooks.Saved(outbox.Cursor{Position: 30, Gaps: []outbox.Range{{Lo: 25, Hi: 26}}}, 0)
		require.Zero(t, oldest())
		hooks.Leading(2)
		time.Sleep(time.Second)
		require.InDelta(t, 1, oldest(), 0.1)
	})
}

func TestRelayMetrics_TellWhatWokeTheRelay(t *testing.T) {
	t.Parallel()
	for source, c := range map[outbox.WakeSource]struct {
		cfg  outbox.RelayConfig
		call bool
	}{
		outbox.WakePoll:   {cfg: outbox.RelayConfig{}},
		outbox.WakeCall:   {cfg: outbox.RelayConfig{PollMin: time.Minute, PollMax: time.Minute}, call: true},
		outbox.WakeNotify: {cfg: outbox.RelayConfig{PollIdle: time.Hour, Listener: &bell{}}, call: true},
	} {
		t.Run(string(source), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, c.cfg, nil)
				time.Sleep(10 * time.Second)
				write(t, w.log, "orders", 1)
				if c.call {
					w.relay.Wake()
				}
				time.Sleep(time.Second)
				w.equal(1, "relay_reads_total", "wake="+string(source))
				w.equal(1, "relay_batch_size")
			})
		})
	}
}

func TestRelayMetrics_ReadsOfABacklogDoNotRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, outbox.RelayConfig{BatchRows: 10}, nil)
		time.Sleep(10 * time.Second)
		write(t, w.log, "orders", 50)
		time.Sleep(time.Second)
		w.equal(1, "relay_reads_total", "wake=poll")
		w.equal(4, "relay_reads_total", "wake=none")
		w.equal(5, "relay_batch_size")
	})
}

type bell struct{}

func (*bell) Working() bool                            { return true }
func (*bell) Arm(context.Context, time.Duration) error { return nil }
func (*bell) Disarm(context.Context) error             { return nil }

func TestRelayMetrics_ErrorsByKind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		faults := []error{errors.New("connection refused"), errors.New("connection refused"), outbox.ErrLeaseLost}
		w := watch(t, outbox.RelayConfig{}, func(l outbox.Log) outbox.Log { return &faultyLog{l, &faults} })
		time.Sleep(5 * time.Second)
		w.broker.mu.Lock()
		w.broker.fail = errors.New("broken pipe")
		w.broker.mu.Unlock()
		write(t, w.log, "orders", 1)
		time.Sleep(5 * time.Second)
		w.equal(2, "relay_errors_total", "kind=log")
		w.equal(1, "relay_errors_total", "kind=lease")
		w.equal(1, "relay_errors_total", "kind=publish")
		w.equal(0, "relay_errors_total", "kind=unsafe")
		w.equal(1, "relay_messages_published_total")
		w.metrics.Hooks(outbox.Hooks{}).Retrying(&outbox.UnsafeError{}, 0)
		w.equal(1, "relay_errors_total", "kind=unsafe")
	})
}

// faultyLog answers the first calls of Acquire with errors.
type faultyLog struct {
	outbox.Log
	faults *[]error
}

func (l *faultyLog) Acquire(ctx context.Context, relay, owner string, ttl time.Duration) (outbox.Session, error) {
	if f := *l.faults; len(f) > 0 {
		*l.faults = f[1:]
		return nil, f[0]
	}
	return l.Log.Acquire(ctx, relay, owner, ttl)
}

func TestRelayMetrics_MeasureTheLagAtABoundedCost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, outbox.RelayConfig{}, nil)
		require.Zero(t, testutil.CollectAndCount(w.reg, "outbox_pending_messages"), "unknown is not zero")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var calls atomic.Int64
		var fault atomic.Pointer[error]
		var took atomic.Int64
		began := time.Now()
		go w.metrics.WatchLag(ctx, func(ctx context.Context) (outbox.Lag, error) {
			calls.Add(1)
			select {
			case <-ctx.Done():
				return outbox.Lag{}, ctx.Err()
			case <-time.After(time.Duration(took.Load())):
			}
			if err := fault.Load(); err != nil {
				return outbox.Lag{}, *err
			}
			return outbox.Lag{Messages: 7, Age: 90 * time.Second, Parked: 3}, nil
		}, 0)
		time.Sleep(time.Second)
		w.equal(7, "outbox_pending_messages")
		w.equal(90, "outbox_oldest_pending_age_seconds")
		w.equal(3, "outbox_parked_messages")
		w.equal(float64(began.UnixMilli())/1000, "outbox_lag_timestamp_seconds")
		time.Sleep(time.Minute)
		require.EqualValues(t, 5, calls.Load(), "one every 15 s")

		refused := errors.New("connection refused")
		fault.Store(&refused)
		time.Sleep(15 * time.Second)
		w.equal(1, "relay_errors_total", "kind=lag")
		w.equal(7, "outbox_pending_messages")

		took.Store(int64(time.Minute))
		calls.Store(0)
		time.Sleep(20 * time.Minute)
		require.LessOrEqual(t, calls.Load(), int64(7), "10 s of counting in 200 s")
		require.Greater(t, calls.Load(), int64(5))
	})
}

func TestRelayMetrics_CallTheNextHooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var called []string
		note := func(name string) {
			mu.Lock()
			defer mu.Unlock()
			called = append(called, name)
		}
		w := watch(t, outbox.RelayConfig{Hooks: outbox.Hooks{
			Leading:   func(int64) { note("leading") },
			Stopped:   func(int64, error) { note("stopped") },
			Read:      func(outbox.ReadInfo) { note("read") },
			Acked:     func([]outbox.Entry, []outbox.Parked) { note("acked") },
			Delivered: func(int, time.Duration) { note("delivered") },
			Saved:     func(outbox.Cursor, time.Duration) { note("saved") },
		}}, nil)
		time.Sleep(time.Second)
		write(t, w.log, "orders", 1)
		time.Sleep(time.Second)
		w.stop()
		require.ElementsMatch(t, []string{"leading", "read", "acked", "delivered", "saved", "stopped"}, called)
	})
}

func TestRelayMetrics_TopicsAreBounded(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m, err := telemetry.NewRelayMetrics(reg, "")
	require.NoError(t, err)
	hooks := m.Hooks(outbox.Hooks{})
	for i := range telemetry.MaxTopics + 50 {
		hooks.Acked([]outbox.Entry{{Message: outbox.Message{Topic: strings.Repeat("t", i+1)}}}, nil)
	}
	require.Equal(t, telemetry.MaxTopics+1, testutil.CollectAndCount(reg, "relay_messages_published_total"))
}

func TestNewRelayMetrics_RefusesASecondOfItsName(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	_, err := telemetry.NewRelayMetrics(reg, "a")
	require.NoError(t, err)
	_, err = telemetry.NewRelayMetrics(reg, "b")
	require.NoError(t, err)
	_, err = telemetry.NewRelayMetrics(reg, "a")
	require.ErrorContains(t, err, "relay metrics: ")
	_, err = telemetry.NewRelayMetrics(nil, "a")
	require.Error(t, err)
}

func TestRelayMetrics_PassPrometheusLint(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	m, err := telemetry.NewRelayMetrics(reg, "a")
	require.NoError(t, err)
	m.Follow(func() outbox.Status { return outbox.Status{} })
	m.Hooks(outbox.Hooks{}).Acked([]outbox.Entry{{Message: outbox.Message{Topic: "orders"}}}, nil)
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func BenchmarkRelayMetrics_Batch(b *testing.B) {
	m, err := telemetry.NewRelayMetrics(prometheus.NewRegistry(), "a")
	require.NoError(b, err)
	hooks := m.Hooks(outbox.Hooks{})
	entries := make([]outbox.Entry, 1000)
	for i := range entries {
		entries[i] = outbox.Entry{CreatedAt: time.Now(), Message: outbox.Message{Topic: "orders"}}
	}
	b.ReportAllocs()
	for b.Loop() {
		hooks.Read(outbox.ReadInfo{Rows: 1000})
		hooks.Acked(entries, nil)
		hooks.Delivered(1000, time.Millisecond)
	}
}
