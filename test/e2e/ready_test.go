package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// probe asks a relay ten times a second whether it lives, as an impatient
// supervisor does, and remembers every answer that is not 200.
type probe struct {
	port int
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup

	mu    sync.Mutex
	asked int
	dead  []string
}

// probed starts a relay with a health endpoint, and its probe.
func (p *pipe) probed(t *testing.T) (*lab.Program, *probe) {
	t.Helper()
	port, err := lab.FreePort()
	require.NoError(t, err)
	relay := p.relay(t, "--http", fmt.Sprintf("127.0.0.1:%d", port))
	relay.AwaitOutput("health endpoint listens", liveness)
	b := &probe{port: port, stop: make(chan struct{})}
	b.done.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			b.ask()
			select {
			case <-b.stop:
				return
			case <-tick.C:
			}
		}
	})
	t.Cleanup(b.end)
	return relay, b
}

func (b *probe) ask() {
	code, body := b.get("/livez")
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked++; code != http.StatusOK {
		b.dead = append(b.dead, fmt.Sprint(code, " ", body))
	}
}

func (b *probe) end() {
	b.once.Do(func() { close(b.stop) })
	b.done.Wait()
}

// get returns 0 and the error if there is no answer.
func (b *probe) get(path string) (code int, body string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", b.port, path))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}

// metric returns the value of a metric that has one series.
func (b *probe) metric(t *testing.T, name string) float64 {
	t.Helper()
	text := page(t, b.port, "/metrics")
	found := regexp.MustCompile(`(?m)^`+name+`(?:\{[^}]*\})? (\S+)$`).FindAllStringSubmatch(text, -1)
	require.Len(t, found, 1, name)
	value, err := strconv.ParseFloat(found[0][1], 64)
	require.NoError(t, err)
	return value
}

// awaitReady waits for an answer of /readyz, and says after how long it came.
func (b *probe) awaitReady(t *testing.T, code int, body string) time.Duration {
	t.Helper()
	began := time.Now()
	require.Eventually(t, func() bool { c, text := b.get("/readyz"); return c == code && text == body }, liveness, 50*time.Millisecond,
		"/readyz does not become %d %q", code, body)
	return time.Since(began)
}

// alive demands that every answer of /livez was 200.
func (b *probe) alive(t *testing.T) {
	t.Helper()
	b.end()
	require.Empty(t, b.dead, "of %d answers of /livez", b.asked)
	require.Greater(t, b.asked, 20)
}

// TestReady_TellsOfABrokerThatIsStuck freezes Kafka while messages wait: its
// connections stay open and nothing fails. The leader says that it is not ready,
// as long as that lasts; it lives, so nobody has cause to restart it; its standby
// has nothing to do with it. Once Kafka goes on, so does the relay, by itself.
func TestReady_TellsOfABrokerThatIsStuck(t *testing.T) {
	t.Parallel()
	broker := harness.PrivateKafka(t, harness.KafkaConfig{Real: true})
	p := newPipeOn(t, nil, broker, 2)
	leader, leads := p.probed(t)
	leader.AwaitOutput("relay leads", liveness)
	standby, stands := p.probed(t)
	p.fill(t, keys, 0)
	p.awaitPending(t, 0, liveness)
	leads.awaitReady(t, http.StatusOK, "ok: leading")
	stands.awaitReady(t, http.StatusOK, "ok: standing by")

	require.NoError(t, broker.Pause())
	thaw := sync.OnceValue(broker.Resume)
	t.Cleanup(func() { require.NoError(t, thaw()) })
	p.fill(t, keys, 1)
	took := leads.awaitReady(t, http.StatusServiceUnavailable, "not ready: messages wait and none moves")
	t.Logf("not ready %s after messages began to wait", took.Round(time.Millisecond))
	for end := time.Now().Add(outage); time.Now().Before(end); {
		code, body := leads.get("/readyz")
		require.Equal(t, http.StatusServiceUnavailable, code, body)
		code, body = stands.get("/readyz")
		require.Equal(t, http.StatusOK, code, body)
		require.Equal(t, "ok: standing by", body)
	}
	require.GreaterOrEqual(t, leads.metric(t, "relay_stalled_seconds"), 15.0)

	require.NoError(t, thaw())
	took = leads.awaitReady(t, http.StatusOK, "ok: leading")
	t.Logf("ready %s after the broker went on", took.Round(time.Millisecond))
	p.awaitPending(t, 0, liveness)
	harness.Await(t, liveness, "nothing is stalled", func(context.Context) error {
		if stalled := leads.metric(t, "relay_stalled_seconds"); stalled > 0 {
			return fmt.Errorf("for %.1f s", stalled)
		}
		return nil
	})
	leads.alive(t)
	stands.alive(t)
	require.Empty(t, column(t, p.db.DB, `SELECT reason FROM outbox_parked`), "an outage is no reason to park")
	require.Zero(t, standby.Terminate(liveness), standby.Stderr())
	require.Zero(t, leader.Terminate(liveness), leader.Stderr())
	require.LessOrEqual(t, p.verify(t), window)
}
